package scratch

import (
	"fmt"
	"strings"
	"time"
)

// Outcome is what a check, or all of them, came to.
type Outcome string

const (
	Pass         Outcome = "pass"
	Fail         Outcome = "fail"
	Inconclusive Outcome = "inconclusive" // it could not be proven: never green
)

func (o Outcome) rank() int {
	switch o {
	case Pass:
		return 0
	case Fail:
		return 2
	}
	return 1 // whatever else it says, it is not a pass
}

// Check is one thing that was looked at in a restored copy.
type Check struct {
	Name    string  `json:"name"` // e.g. "sentinels"
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason"`
	Seconds float64 `json:"seconds"`
}

// Names of the checks of this package. All of them have to be in a proof.
const (
	CheckSentinels = "sentinels"
	CheckReplay    = "replay"
	CheckLog       = "write-ahead log"
	CheckPages     = "page checksums"
	CheckRows      = "row counts"
)

// Proof is what a restored copy proved.
type Proof struct {
	Outcome   Outcome   `json:"outcome"`
	Reason    string    `json:"reason"` // the worst check's, or what was proven
	Checks    []Check   `json:"checks"`
	Recovered time.Time `json:"recovered_at,omitzero"` // of the newest row that is known to be there
	Rows      int64     `json:"rows"`
	Tables    int       `json:"tables"`
	Seconds   float64   `json:"seconds"`
}

// Settle gives a proof the worst outcome of its checks. required names checks
// that must be among them: what was not looked at is not proven.
func (p *Proof) Settle(required ...string) {
	for _, name := range required {
		found := false
		for _, c := range p.Checks {
			found = found || c.Name == name
		}
		if !found {
			p.Checks = append(p.Checks, Check{Name: name, Outcome: Inconclusive, Reason: "It was not looked at."})
		}
	}
	if len(p.Checks) == 0 {
		p.Outcome, p.Reason = Inconclusive, "Nothing was looked at."
		return
	}
	p.Outcome = Pass
	var bad, good []string
	for i := range p.Checks {
		c := &p.Checks[i]
		if c.Reason == "" && c.Outcome == Pass {
			c.Outcome, c.Reason = Inconclusive, "The check does not say what it saw."
		}
		if c.Outcome != Pass && c.Outcome != Fail {
			c.Outcome = Inconclusive
		}
		if c.Outcome.rank() > p.Outcome.rank() {
			p.Outcome, bad = c.Outcome, nil
		}
		if c.Outcome == p.Outcome && c.Outcome != Pass {
			bad = append(bad, c.Name+": "+c.Reason)
		}
		good = append(good, c.Name)
	}
	if p.Outcome == Pass {
		p.Reason = "Proven by " + strings.Join(good, ", ") + "."
		return
	}
	p.Reason = strings.Join(bad, " ")
}

func pass(name, format string, args ...any) Check {
	return Check{Name: name, Outcome: Pass, Reason: fmt.Sprintf(format, args...)}
}

func fail(name, format string, args ...any) Check {
	return Check{Name: name, Outcome: Fail, Reason: fmt.Sprintf(format, args...)}
}

func unclear(name, format string, args ...any) Check {
	return Check{Name: name, Outcome: Inconclusive, Reason: fmt.Sprintf(format, args...)}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
