package incident

import (
	"fmt"
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/problem"
)

// Brief is an incident as somebody needs it at three in the morning: what is
// down and since when, how long is left on each clock, and what needs them.
type Brief struct {
	Now       time.Time       `json:"now"`
	Stale     bool            `json:"stale,omitempty"` // as this node has it: most of the fleet does not answer
	State     *State          `json:"state"`
	Down      []Down          `json:"down"`
	Clocks    []clock.Reading `json:"clocks"` // the most urgent first
	Unclocked bool            `json:"no_plan,omitempty"`
	Needs     []Need          `json:"needs"`
	Closable  bool            `json:"closable"` // nothing keeps it from being closed
}

// Down is a function that does not work.
type Down struct {
	Function string        `json:"function"`
	Since    time.Time     `json:"since"`
	For      time.Duration `json:"for"`
}

// Need is something that somebody has to do.
type Need struct {
	Code string `json:"code"`
	What string `json:"what"`
	How  string `json:"how"`
}

// Brief reckons it at an instant.
func (t *Timeline) Brief(now time.Time) Brief {
	s := t.State
	b := Brief{Now: now.UTC(), Stale: t.Stale, State: s, Down: s.Down(now), Clocks: s.Clocks(now), Unclocked: len(s.Rules) == 0, Needs: s.Needs(now)}
	if b.Clocks == nil {
		b.Clocks = []clock.Reading{}
	}
	b.Closable = s.ClosedAt.IsZero() && len(s.Missing(now)) == 0
	return b
}

// Down lists what does not work, the longest first.
func (s *State) Down(now time.Time) []Down {
	out := []Down{}
	for _, name := range s.Scope.Functions {
		if s.up(name) {
			continue
		}
		since := s.Known(clock.Lost, name).At
		out = append(out, Down{name, since, now.Sub(since)})
	}
	slices.SortStableFunc(out, func(a, b Down) int { return a.Since.Compare(b.Since) })
	return out
}

// Needs lists what waits for somebody, the most pressing first.
func (s *State) Needs(now time.Time) []Need {
	out := []Need{}
	if !s.ClosedAt.IsZero() {
		for _, a := range s.Late(now) {
			out = append(out, Need{"incident-action-late", fmt.Sprintf("Action %s of %s was due on %s.", a.ID, a.Owner, a.Due.UTC().Format(time.DateOnly)), "Do it, or put it off and say why: `foundry incident action " + s.ID + " " + a.ID + "`."})
		}
		return out
	}
	for _, r := range s.Clocks(now) {
		if r.State == clock.Expired {
			out = append(out, Need{"incident-clock-expired", fmt.Sprintf("The clock %s has run out: %s.", r.ID, r.Title), "Do what ends it, and record that with what shows it."})
		}
	}
	for i := range s.Notices {
		n := &s.Notices[i]
		switch {
		case n.Unclear:
			out = append(out, Need{"incident-notice-indeterminate", fmt.Sprintf("Whether notice %s to %s arrived is not known.", n.ID, n.To), "Ask them, and record it: `foundry incident notice record " + s.ID + " " + n.ID + " accepted`."})
		case n.Step == Failed && !n.Released:
			out = append(out, Need{"incident-notice-failed", fmt.Sprintf("Notice %s to %s did not arrive: %s", n.ID, n.To, n.Words), "Tell them by another way, and record it: `foundry incident notice record " + s.ID + " " + n.ID + " accepted`."})
		case n.Step == Drafted:
			out = append(out, Need{"incident-notice-drafted", fmt.Sprintf("Notice %s to %s is written and not sent.", n.ID, n.To), "`foundry incident notice send " + s.ID + " " + n.ID + "`."})
		}
	}
	for _, d := range s.Decisions {
		if d.Needs > 0 && !d.Approved && len(d.Against) == 0 {
			out = append(out, Need{"incident-decision-waits", fmt.Sprintf("Entry %d, a decision about %s, waits for %d of %d approvals: %s", d.Entry, d.About, d.Needs-len(d.For), d.Needs, d.Words),
				fmt.Sprintf("`foundry incident approve %s %d`.", s.ID, d.Entry)})
		}
	}
	if s.Phase == InReview {
		for _, err := range s.Missing(now) {
			out = append(out, needOf(err))
		}
	} else if err := s.leave(); err != nil {
		out = append(out, needOf(err))
	} else {
		next := Phases[slices.Index(Phases, s.Phase)+1]
		out = append(out, Need{"incident-phase-done", fmt.Sprintf("The phase %s can end.", s.Phase), fmt.Sprintf("`foundry incident phase %s %s`.", s.ID, next)})
	}
	for _, a := range s.Late(now) {
		out = append(out, Need{"incident-action-late", fmt.Sprintf("Action %s of %s was due on %s.", a.ID, a.Owner, a.Due.UTC().Format(time.DateOnly)), "Do it, or put it off and say why."})
	}
	return out
}

func needOf(err error) Need {
	p := problem.From(err)
	return Need{p.Code, p.Detail, p.Mend}
}

// Summary is an incident in a line.
type Summary struct {
	ID       string         `json:"id"`
	Title    string         `json:"title"`
	Category Category       `json:"category"`
	Mode     Mode           `json:"mode"`
	Phase    Phase          `json:"phase"`
	OpenedAt time.Time      `json:"opened_at"`
	Lead     string         `json:"lead,omitempty"`
	Down     []Down         `json:"down"`
	Urgent   *clock.Reading `json:"urgent,omitempty"` // the clock that ends first of those that run
	Needs    int            `json:"needs"`
	Held     bool           `json:"legal_hold,omitempty"`
	Stale    bool           `json:"stale,omitempty"`
	Broken   string         `json:"broken,omitempty"` // why the timeline cannot be believed
}

// Summary reckons it at an instant.
func (t *Timeline) Summary(now time.Time) Summary {
	s := t.State
	out := Summary{ID: s.ID, Title: s.Title, Category: s.Category, Mode: s.Mode, Phase: s.Phase, OpenedAt: s.OpenedAt, Lead: s.Roles[Lead], Down: s.Down(now), Needs: len(s.Needs(now)), Held: s.OnHold, Stale: t.Stale}
	for _, r := range s.Clocks(now) {
		if r.State == clock.Running || r.State == clock.Expired {
			out.Urgent = &r
			break
		}
	}
	return out
}
