package incident

import (
	"time"

	"github.com/missionopsai/foundry/internal/incident/clock"
)

// ClockEvent is what the clocks have led to.
type ClockEvent struct {
	Event string   `json:"event"` // told, passed: an escalation; jump: a node's own clock was set
	Clock string   `json:"clock,omitempty"`
	Round int      `json:"round,omitempty"`
	Share float64  `json:"share,omitempty"`
	Who   []string `json:"who,omitempty"`
	Words string   `json:"words,omitempty"`
}

func (*ClockEvent) kind() Kind { return KindClock }

func (b *ClockEvent) check(s *State, _ string, _ time.Time) error {
	switch b.Event {
	case "told", "passed":
		if s.Told[clock.Key{Clock: b.Clock, Round: b.Round, Share: b.Share}] {
			return refuse("incident-escalated", "That was told already.", "Nothing has to be done.")
		}
	case "jump":
		return said("words", b.Words)
	default:
		return invalid("event", "There is no such event of a clock.", "Facts end clocks: record what has happened.")
	}
	return nil
}

func (b *ClockEvent) apply(s *State, _ *Entry) {
	if b.Clock != "" {
		s.Told[clock.Key{Clock: b.Clock, Round: b.Round, Share: b.Share}] = true
	}
}
