package incident

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/incident/clock"
)

// Evidence is something that was captured: small things whole, large ones by
// their hash and where they lie.
type Evidence struct {
	Name    string    `json:"name"`
	Target  string    `json:"target,omitempty"` // the node that it is a capture of
	Capture Capture   `json:"capture"`
	Hash    string    `json:"sha256"`
	Size    int64     `json:"size"`
	Place   string    `json:"place,omitempty"` // where the bytes are; empty: in Bytes
	Bytes   []byte    `json:"bytes,omitempty"` // at most MaxInline
	Taken   time.Time `json:"taken_at"`
	How     string    `json:"how,omitempty"`     // the program and its version, the person
	Checked bool      `json:"checked,omitempty"` // the bytes at Place were read again and hashed
}

// Capture is how much of a node was captured.
type Capture string

// Kinds of captures. The memory goes with the power: where it is to be had at
// all it comes first; the disk is what a wipe waits for.
const (
	CaptureOther  Capture = "other"
	CaptureMemory Capture = "memory"
	CaptureDisk   Capture = "disk"
	CaptureLogs   Capture = "logs"
)

// MaxInline is how many bytes of evidence an entry holds itself.
const MaxInline = 64 << 10

// Held is evidence and its entry.
type Held struct {
	Evidence
	Entry int    `json:"entry"`
	By    string `json:"by"`
}

func (*Evidence) kind() Kind { return KindEvidence }

func (b *Evidence) check(_ *State, _ string, at time.Time) error {
	if err := said("name", b.Name); err != nil {
		return err
	}
	if sum, err := hex.DecodeString(b.Hash); err != nil || len(sum) != sha256.Size {
		return invalid("sha256", "Evidence is named by its SHA-256.", "Give 64 hexadecimal digits, as sha256sum prints them.")
	}
	if !slices.Contains([]Capture{CaptureOther, CaptureMemory, CaptureDisk, CaptureLogs}, b.Capture) {
		return invalid("capture", fmt.Sprintf("There is no capture %q.", b.Capture), "Use memory, disk, logs or other.")
	}
	switch {
	case len(b.Bytes) > MaxInline:
		return invalid("bytes", "It is too large to be kept here.", "Say where it lies instead.")
	case b.Place == "" && b.Size != int64(len(b.Bytes)), b.Size <= 0:
		return invalid("size", "Nothing was captured, or not all of it is here.", "Give the bytes, or say where they lie and how many there are.")
	case b.Place == "" && hashOf(b.Bytes) != b.Hash:
		return invalid("sha256", "The hash is not that of the bytes.", "Hash them again.")
	}
	return notAhead("taken_at", b.Taken, at)
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (b *Evidence) apply(s *State, e *Entry) {
	h := Held{*b, e.N, e.By}
	h.Bytes = nil // it stays in the entry
	s.Evidence = append(s.Evidence, h)
}

// refers refuses evidence that points at nothing in this incident. What lies
// outside of it, a receipt or a signed observation, is named and not resolved.
func (s *State) refers(evidence []string) error {
	for _, ref := range evidence {
		kind, name, ok := strings.Cut(ref, ":")
		switch {
		case !ok || name == "":
			return invalid("evidence", fmt.Sprintf("%q names nothing.", ref), "Write entry:7, vault:<sha256>, observation:<id> or receipt:<id>.")
		case kind == "entry":
			if n, err := strconv.Atoi(name); err != nil || n < 1 || n > s.Head.N {
				return invalid("evidence", fmt.Sprintf("There is no entry %s.", name), "`foundry incident show` lists them.")
			}
		case kind == "vault":
			if !slices.ContainsFunc(s.Evidence, func(h Held) bool { return h.Hash == name }) {
				return invalid("evidence", "There is no such evidence.", "Add it first: `foundry incident note --file`.")
			}
		case kind != "observation" && kind != "receipt":
			return invalid("evidence", fmt.Sprintf("%q is no kind of evidence.", kind), "Write entry:7, vault:<sha256>, observation:<id> or receipt:<id>.")
		}
	}
	return nil
}

// Quarantine is a node cut off, or on its way to being.
type Quarantine struct {
	Node  string    `json:"node"`
	Step  string    `json:"step"` // asked, done, lifted
	At    time.Time `json:"at"`
	Until time.Time `json:"until,omitzero"` // after which somebody looks at it again
	How   string    `json:"how,omitempty"`
}

func (*Quarantine) kind() Kind { return KindQuarantine }

func (b *Quarantine) check(s *State, _ string, at time.Time) error {
	if b.Node == "" {
		return invalid("node", "Which node?", "Name one of the plan.")
	}
	if err := notAhead("at", b.At, at); err != nil {
		return err
	}
	switch b.Step {
	case "asked":
	case "done":
		if b.How == "" {
			return invalid("how", "What was done to cut it off, and how is that known?", "Name the rule, the switch port or the receipt.")
		}
		if b.Until.IsZero() || !b.Until.After(at) {
			return refuse("incident-quarantine-unbounded", "A quarantine has an end at which somebody looks at it again: what is cut off for good is forgotten.", "Say until when.")
		}
	case "lifted":
		if s.secure() && s.MayDestroy(b.Node) != nil && s.Known(clock.Contained, "") == nil {
			return refuse("incident-quarantine-early", "It is neither captured nor contained: what is in there could go on.", "Capture it, or record the containment and what shows it.")
		}
		for _, q := range s.Isolated { // one that was cut off by hand is opened by hand, and decided about all the same
			if q.Node == b.Node && q.Step == "done" && !s.approvedSince(liftQuarantine, b.Node, q.At) {
				return refuse("incident-quarantine-undecided", b.Node+" is cut off, and nobody has decided since that it may be opened again.",
					"Decide about "+liftQuarantine+" with --target "+b.Node+", and have that approved as the plan asks.")
			}
		}
	default:
		return invalid("step", fmt.Sprintf("There is no step %q.", b.Step), "Use asked, done or lifted.")
	}
	return nil
}

func (b *Quarantine) apply(s *State, e *Entry) {
	s.Isolated = slices.DeleteFunc(s.Isolated, func(q Quarantine) bool { return q.Node == b.Node })
	s.Isolated = append(s.Isolated, *b)
	if b.Step == "done" {
		s.fact(e, clock.Isolated, b.Node, b.At, entryRef(e))
	}
}

// unisolated lists the nodes that have to be quarantined and are not: those
// of a security incident, and those that were asked for.
func (s *State) unisolated() (out []string) {
	for _, node := range s.Scope.Nodes {
		if s.secure() && s.Known(clock.Isolated, node) == nil && !s.Approved("no-isolation", node) {
			out = append(out, node)
		}
	}
	for _, q := range s.Isolated {
		if q.Step == "asked" && !slices.Contains(out, q.Node) && !s.Approved("no-isolation", q.Node) {
			out = append(out, q.Node)
		}
	}
	return out
}

// Hold keeps everything about the incident from being destroyed (O-27).
type Hold struct {
	On    bool   `json:"on"`
	Words string `json:"words"` // who asked for it, and why
}

func (*Hold) kind() Kind { return KindHold }

func (b *Hold) check(s *State, _ string, _ time.Time) error {
	if !b.On && !s.OnHold {
		return refuse("incident-no-hold", "There is no legal hold.", "Nothing has to be done.")
	}
	if !b.On && !s.Approved("lift-hold", "") {
		return refuse("incident-hold-unapproved", "A legal hold is lifted when that was decided and approved.", "Record a decision about \"lift-hold\" and have it approved.")
	}
	return said("words", b.Words)
}

func (b *Hold) apply(s *State, e *Entry) {
	s.OnHold = b.On
	if b.On { // what was approved for the hold before is not approved for this one
		for i := range s.Decisions {
			if d := &s.Decisions[i]; d.About == "lift-hold" && d.Entry < e.N {
				d.Approved = false
			}
		}
	}
}

// destructive are the acts after which what was there is gone. The last
// element of an act's name counts: node.wipe, disk.reinstall.
var destructive = []string{"wipe", "reinstall", "rebuild", "reset", "delete", "destroy", "reimage", "restore-over", "power-cycle-memory"}

// Destructive says whether an act destroys what is on its target.
func Destructive(act string) bool {
	return slices.Contains(destructive, act[strings.LastIndexByte(act, '.')+1:])
}

// MayDestroy refuses to destroy what is on a node before it was captured, and
// while a legal hold is on (O-62: no wipe before forensic capture).
func (s *State) MayDestroy(target string) error {
	if s.OnHold && !s.Approved("wipe", target) {
		return refuse("incident-held", "A legal hold is on: nothing of this incident is destroyed.", fmt.Sprintf("Lift the hold, or record a decision about \"wipe\" of %s and have it approved.", named(target)))
	}
	if !s.secure() || !s.touched(target) {
		return nil
	}
	if !slices.ContainsFunc(s.Evidence, func(h Held) bool {
		return h.Target == target && h.Capture == CaptureDisk && (h.Checked || h.Place == "")
	}) {
		return refuse("incident-not-captured", fmt.Sprintf("Of %s there is no capture of the disk that was read again: what is wiped now is no evidence any more.", named(target)),
			fmt.Sprintf("Capture it, hash it, read it again, and record it: `foundry incident evidence %s --target %s --capture disk`.", s.ID, target))
	}
	return nil
}

func named(target string) string {
	if target == "" {
		return "the whole"
	}
	return target
}

// touched says whether an incident has to do with a node; one whose nodes are
// not known has to do with all.
func (s *State) touched(node string) bool {
	return node == "" || len(s.Scope.Nodes) == 0 || slices.Contains(s.Scope.Nodes, node) ||
		slices.ContainsFunc(s.Isolated, func(q Quarantine) bool { return q.Node == node })
}

// MayRestore refuses to restore after a break-in before its cause is known,
// to a point at which somebody may already have been inside, and without
// approval (O-66).
func (s *State) MayRestore(target string, point time.Time) error {
	if !s.secure() {
		return nil
	}
	since := s.Known(clock.Compromised, "")
	switch {
	case s.Known(clock.Contained, "") == nil:
		return refuse("incident-restore-uncontained", "It is not contained: what is restored now may be broken into again.", "Record the containment and what shows it.")
	case s.Known(clock.RootCause, "") == nil:
		return refuse("incident-restore-uncaused", "The cause is not known.", "Record the root cause and what shows it.")
	case since == nil:
		return refuse("incident-restore-undated", "It is not known since when nothing can be trusted.", "Record the fact \"compromise\" with the earliest time that the investigation gives.")
	case !point.Before(earliest(s.Facts, clock.Compromised)):
		return refuse("incident-restore-unclean", "The point to restore is not older than the break-in.", "Choose a point before "+earliest(s.Facts, clock.Compromised).UTC().Format(time.RFC3339)+".")
	case !s.Approved("restore", target):
		return refuse("incident-restore-unapproved", "The restore is not signed off.", fmt.Sprintf("Record a decision about \"restore\" of %s and have it approved.", named(target)))
	}
	return nil
}

// Interlock asks every open incident whether a node may be destroyed.
func Interlock(open []*State, node string) error {
	for _, s := range open {
		if s.ClosedAt.IsZero() || s.OnHold {
			if err := s.MayDestroy(node); err != nil {
				return err
			}
		}
	}
	return nil
}
