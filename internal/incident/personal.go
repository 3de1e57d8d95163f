package incident

import (
	"fmt"
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/incident/clock"
)

// Assessment says what an incident means for personal data (GDPR articles 33
// and 34). It starts the regulator's clock from when it was known, not from
// when it was assessed; and it is kept whatever it says (article 33(5)).
type Assessment struct {
	Personal   bool         `json:"personal_data"`
	Controller bool         `json:"controller,omitempty"` // we decide about some of the data
	Processor  bool         `json:"processor,omitempty"`  // we hold some for clients
	Risk       RiskLevel    `json:"risk"`
	Regimes    []string     `json:"regimes,omitempty"` // UK, EU
	Aware      time.Time    `json:"aware_at,omitzero"` // since when we know, with reasonable certainty
	Categories string       `json:"categories,omitempty"`
	Subjects   string       `json:"subjects,omitempty"` // about how many people
	Words      string       `json:"words"`              // why
	Rules      []clock.Rule `json:"rules,omitempty"`    // the clocks that this sets going
}

// RiskLevel is how likely harm to people is.
type RiskLevel string

// Levels of risk. One that is not known counts as a risk.
const (
	RiskUnknown  RiskLevel = "unknown"
	RiskUnlikely RiskLevel = "unlikely" // article 33(1): nobody need be told but those for whom the data is held
	RiskLikely   RiskLevel = "risk"
	RiskHigh     RiskLevel = "high-risk" // article 34: those whose data it is are told too
)

// Assessed is an assessment and its entry.
type Assessed struct {
	Assessment
	Entry int       `json:"entry"`
	By    string    `json:"by"`
	At    time.Time `json:"at"`
}

func (*Assessment) kind() Kind { return KindAssessment }

func (b *Assessment) check(s *State, _ string, at time.Time) error {
	if err := said("words", b.Words); err != nil {
		return err
	}
	if !b.Personal {
		if b.Controller || b.Processor || b.Risk != RiskUnlikely {
			return invalid("risk", "Without personal data there is no controller, no processor and no risk to people.", "Set the risk to unlikely, or say that there are personal data.")
		}
		return nil
	}
	if !b.Controller && !b.Processor {
		return invalid("controller", "Whose data are they?", "Say controller for what we decide about, processor for what we hold for clients, or both.")
	}
	if !slices.Contains([]RiskLevel{RiskUnknown, RiskUnlikely, RiskLikely, RiskHigh}, b.Risk) {
		return invalid("risk", fmt.Sprintf("There is no risk %q.", b.Risk), "Use unknown, unlikely, risk or high-risk.")
	}
	for _, r := range b.Regimes {
		if r != "UK" && r != "EU" {
			return invalid("regimes", fmt.Sprintf("There is no regime %q.", r), "Use UK, EU or both.")
		}
	}
	if err := notAhead("aware_at", b.Aware, at); err != nil {
		return err
	}
	if since := s.Known(clock.Aware, ""); since != nil && b.Aware.After(earliest(s.Facts, clock.Aware)) {
		return refuse("incident-aware-later", "It was known before that, as an earlier entry says: the clock of the regulator does not start later than it did.", "Give that time, or an earlier one.")
	}
	return nil
}

func earliest(facts []clock.Fact, name string) (out time.Time) {
	for i := range facts {
		if f := &facts[i]; f.Name == name && (out.IsZero() || f.At.Before(out)) {
			out = f.At
		}
	}
	return out
}

func (b *Assessment) apply(s *State, e *Entry) {
	s.Assessed = append(s.Assessed, Assessed{*b, e.N, e.By, e.At})
	s.Rules = clock.Stricter(s.Rules, b.Rules)
	if b.Personal {
		s.fact(e, clock.Aware, "", b.Aware)
	}
	if b.Risk == RiskUnlikely {
		s.fact(e, clock.NoRisk, "", e.At, entryRef(e))
	} else {
		s.fact(e, clock.Risk, "", e.At)
	}
}

// Assessment is the one that holds; nil: none was made.
func (s *State) Assessment() *Assessed {
	if len(s.Assessed) == 0 {
		return nil
	}
	return &s.Assessed[len(s.Assessed)-1]
}
