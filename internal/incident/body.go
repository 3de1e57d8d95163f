package incident

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Body is what an entry says. check refuses it where the incident, as it
// stands, does not allow it; apply changes what is reckoned from it, and
// refuses nothing: a newer member may allow more.
type Body interface {
	kind() Kind
	check(s *State, by string, at time.Time) error
	apply(s *State, e *Entry)
}

// bodyOf is an empty body of a kind, or nil for one that this binary does not know.
func bodyOf(k Kind) Body {
	switch k {
	case KindOpened:
		return &Opened{}
	case KindSignal:
		return &Signal{}
	case KindAct:
		return &Act{}
	case KindNote:
		return &Note{}
	case KindFact:
		return &Fact{}
	case KindPhase:
		return &PhaseChange{}
	case KindRole:
		return &Assignment{}
	case KindScope:
		return &Scope{}
	case KindDecision:
		return &Decision{}
	case KindApproval:
		return &Approval{}
	case KindAssessment:
		return &Assessment{}
	case KindQuarantine:
		return &Quarantine{}
	case KindEvidence:
		return &Evidence{}
	case KindHold:
		return &Hold{}
	case KindNotice:
		return &Notice{}
	case KindClock:
		return &ClockEvent{}
	case KindAction:
		return &Action{}
	case KindReview:
		return &Review{}
	case KindRevision:
		return &PlanRevision{}
	case KindAnchor:
		return &Anchor{}
	case KindClosed:
		return &Closing{}
	}
	return nil
}

// Read reads what an entry says; nil for a kind, or a way of writing one, that
// this binary does not know.
func (e *Entry) Read() Body {
	b := bodyOf(e.Kind)
	if b == nil || json.Unmarshal(e.Body, b) != nil {
		return nil
	}
	return b
}

// maxText is how long a text in an entry may be, in bytes.
const maxText = 16 << 10

// said refuses a text that is missing, too long or unreadable.
func said(field, text string) error {
	switch {
	case strings.TrimSpace(text) == "":
		return invalid(field, "It says nothing.", fmt.Sprintf("Write %s in a sentence or two.", field))
	case len(text) > maxText:
		return invalid(field, "It is too long.", fmt.Sprintf("Write at most %d characters, and put the rest into the evidence.", maxText))
	}
	return readable(field, text)
}

func readable(field, text string) error {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return invalid(field, "It holds characters that cannot be shown.", "Write plain text in UTF-8.")
	}
	return nil
}

// notAhead refuses an instant after the moment of writing: nothing is recorded
// before it was so. A minute is left for clocks of nodes that differ.
func notAhead(field string, at, now time.Time) error {
	if at.IsZero() {
		return invalid(field, "The time is missing.", "Say when it was so.")
	}
	if at.After(now.Add(time.Minute)) {
		return invalid(field, "The time lies ahead: what was not yet so cannot be recorded.", "Write it when it has happened, or check this node's clock.")
	}
	return nil
}

// Signal is an observation: a verdict of the fleet, an alarm, a report.
type Signal struct {
	Source  string    `json:"source"` // what kind of observation: https, ssh, peer, status-page, report, …
	From    string    `json:"from"`   // who saw it: a node, a supplier, a person of the plan
	Subject string    `json:"subject,omitempty"`
	At      time.Time `json:"seen_at"`
	OK      bool      `json:"ok,omitempty"` // it speaks against a loss
	Words   string    `json:"words"`
}

func (*Signal) kind() Kind { return KindSignal }

func (b *Signal) check(_ *State, _ string, at time.Time) error {
	if b.Source == "" || b.From == "" {
		return invalid("source", "A signal names what kind of observation it is and who made it.", "Give both.")
	}
	if err := notAhead("seen_at", b.At, at); err != nil {
		return err
	}
	return said("words", b.Words)
}

func (b *Signal) apply(s *State, e *Entry) { s.Signals = append(s.Signals, SignalSeen{*b, e.N}) }

// Act is something that was done, by a person or by the executor.
type Act struct {
	Act     string            `json:"act"`
	Target  string            `json:"target,omitempty"`
	Step    string            `json:"step,omitempty"` // of a recovery: plan/step
	Outcome string            `json:"outcome,omitempty"`
	Words   string            `json:"words,omitempty"`
	Facts   map[string]string `json:"facts,omitempty"`
	Once    string            `json:"once,omitempty"` // what is written under one name is written once, whoever tries again
}

func (*Act) kind() Kind { return KindAct }

func (b *Act) check(s *State, _ string, _ time.Time) error {
	if b.Act == "" {
		return invalid("act", "An act has a name.", "Say what was done, such as service.stop.")
	}
	if b.Once != "" && s.Once[b.Once] != 0 {
		return refuse("incident-act-again", "This is in the timeline already.", "Nothing has to be written.")
	}
	if Destructive(b.Act) {
		return s.MayDestroy(b.Target)
	}
	return nil
}

func (b *Act) apply(s *State, e *Entry) {
	if b.Once != "" {
		s.Once[b.Once] = e.N
	}
}

// Note is what somebody wants to be remembered.
type Note struct {
	Words string `json:"words"`
	About int    `json:"about,omitempty"` // an entry that it is about: how one is set right
}

func (*Note) kind() Kind { return KindNote }

func (b *Note) check(s *State, _ string, _ time.Time) error {
	if b.About < 0 || b.About > s.Head.N {
		return invalid("about", fmt.Sprintf("There is no entry %d.", b.About), "Name an entry of this incident.")
	}
	return said("words", b.Words)
}

func (*Note) apply(*State, *Entry) {}
