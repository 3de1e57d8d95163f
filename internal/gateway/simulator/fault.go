package simulator

import "time"

// Fault is one way to misbehave. Its textual form is its name, then
// parameters: "cut chunk=3 with=rst". See Faults for the list.
type Fault struct {
	Name       string
	Status     int           // HTTP status, where the fault has one
	RetryAfter string        // value of the Retry-After header, "" for none
	Chunk      int           // happens after this many content chunks
	Event      int           // if above zero: after this many events of any sort instead
	Mid        bool          // happens half-way through the chunk that follows
	With       string        // how a connection ends: fin, rst, eof
	For        time.Duration // how long: a hang (0: until the client leaves), a drip's pause
	Size       int64         // bytes
	Value      string        // a target, a content type
}

// ParseFault reads the textual form.
func ParseFault(s string) (Fault, error) { return Fault{Name: s}, nil }
