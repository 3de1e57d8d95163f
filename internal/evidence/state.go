package evidence

import (
	"fmt"
	"slices"
	"time"
)

// clockError is how far in the future an observation may be because two clocks
// differ. Beyond it, a clock is wrong and nothing it dates can be trusted.
const clockError = 5 * time.Minute

// Standing is how a control stands, and why.
type Standing struct {
	State  State     `json:"state"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"observed_at,omitzero"`   // of the observation that decides
	Until  time.Time `json:"fresh_until,omitzero"`   // when it stops counting
	Scope  string    `json:"scope,omitempty"`        // which node decides, if one does
	Latest int       `json:"observations,omitempty"` // of the latest runs
}

// worse orders states.
func worse(a, b State) bool { return slices.Index(States, a) > slices.Index(States, b) }

// Stand judges one scope of a control by the observations of two of its runs:
// the latest, and the latest that decided something, because it found a
// failure or because all of it passed. They may be the same.
//
// A pass counts only while all of the latest run is fresh and passing. A
// failure stands, however old, until a newer run has passed: neither waiting
// nor breaking the collector clears it.
func Stand(latest, decisive []Observation, now time.Time) Standing {
	if len(latest) == 0 {
		return Standing{State: Overdue, Reason: "Nothing was observed yet."}
	}
	s := Standing{State: Passing, Latest: len(latest), Until: latest[0].Expires}
	for _, o := range latest {
		if o.Expires.Before(s.Until) {
			s.Until = o.Expires
		}
		st, reason := judge(o, now)
		if s.Reason == "" || worse(st, s.State) {
			s.State, s.Reason, s.Since = st, reason, o.Observed
		}
	}
	if s.State == Passing || s.State == Failing {
		return s
	}
	for _, o := range decisive {
		if o.Result == Fail {
			s.State, s.Since = Failing, o.Observed
			s.Reason = fmt.Sprintf("%s It failed at %s, and nothing has shown since that it is mended. Now: %s", o.Reason, o.Observed.UTC().Format(time.RFC3339), s.Reason)
			return s
		}
	}
	return s
}

// judge says what one observation is worth now.
func judge(o Observation, now time.Time) (State, string) {
	switch {
	case o.Observed.After(now.Add(clockError)):
		return Unclear, fmt.Sprintf("The observation is dated %s, in the future: a clock is wrong.", o.Observed.UTC().Format(time.RFC3339))
	case o.Result == Fail:
		return Failing, o.Reason
	case !now.Before(o.Expires):
		return Overdue, fmt.Sprintf("The last observation (%s) stopped counting at %s. It said: %s", o.Result, o.Expires.UTC().Format(time.RFC3339), o.Reason)
	case o.Result == Pass:
		return Passing, o.Reason
	}
	return Unclear, o.Reason
}

// Worst joins the standings of all scopes of a control. Without any, it is
// overdue.
func Worst(all []Standing) Standing {
	if len(all) == 0 {
		return Standing{State: Overdue, Reason: "Nothing was observed yet."}
	}
	out := all[0]
	for _, s := range all[1:] {
		if worse(s.State, out.State) {
			s.Latest += out.Latest
			out = s
			continue
		}
		out.Latest += s.Latest
	}
	return out
}
