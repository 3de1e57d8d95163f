package probe

// Target is a target that was read.
type Target struct {
	Kind Signal
	Text string
}

// Parse reads a target of a kind. Its errors are problems that say how to
// write it.
func Parse(kind Signal, text string) (Target, error) { return Target{Kind: kind, Text: text}, nil }
