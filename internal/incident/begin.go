package incident

import (
	"fmt"
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/incident/clock"
)

// Opened is the first entry.
type Opened struct {
	Title     string       `json:"title"`
	Category  Category     `json:"category"`
	Mode      Mode         `json:"mode"`
	Scenario  string       `json:"scenario,omitempty"`
	Plan      string       `json:"plan,omitempty"`      // hash of the revision in force
	Approvals int          `json:"approvals,omitempty"` // how many people the plan asks for; 0: one
	Started   time.Time    `json:"started_at"`          // when it began, as far as is known
	Detected  time.Time    `json:"detected_at"`
	Scope     Scope        `json:"scope"`
	Rules     []clock.Rule `json:"rules"` // the clocks that this sets going
	Words     string       `json:"words,omitempty"`
	Follows   string       `json:"follows,omitempty"` // an incident that this one goes on from
}

// Scope is what an incident has reached. Names are those of the plan.
type Scope struct {
	Nodes     []string     `json:"nodes,omitempty"`
	Functions []string     `json:"functions,omitempty"`
	Clients   []string     `json:"clients,omitempty"`
	Plan      string       `json:"plan,omitempty"`  // hash of the revision that the rules are from
	Rules     []clock.Rule `json:"rules,omitempty"` // clocks that it adds; none goes
	Since     time.Time    `json:"since,omitzero"`  // when they were reached; zero: from the start
	Words     string       `json:"words,omitempty"`
}

func (*Opened) kind() Kind { return KindOpened }

func (b *Opened) check(_ *State, _ string, at time.Time) error {
	if err := said("title", b.Title); err != nil {
		return err
	}
	if !slices.Contains([]Category{Outage, Security, Personal, SupplierLoss, PersonAway}, b.Category) {
		return invalid("category", fmt.Sprintf("There is no category %q.", b.Category), "Use outage, security-incident, personal-data-breach, supplier-loss or person-away.")
	}
	if !slices.Contains([]Mode{Real, Desktop, Sandbox, Live}, b.Mode) {
		return invalid("mode", fmt.Sprintf("There is no mode %q.", b.Mode), "Use real, desktop, sandbox or live.")
	}
	if err := notAhead("started_at", b.Started, at); err != nil {
		return err
	}
	if err := notAhead("detected_at", b.Detected, at); err != nil {
		return err
	}
	if b.Detected.Before(b.Started) {
		return invalid("detected_at", "It was noticed before it began.", "Set when it began to that time, or earlier.")
	}
	return nil
}

func (b *Opened) apply(s *State, e *Entry) {
	s.ID, s.Title, s.Category, s.Mode, s.Scenario, s.Plan = e.Incident, b.Title, b.Category, b.Mode, b.Scenario, b.Plan
	s.OpenedAt, s.OpenedBy, s.Since = e.At, e.By, e.At
	s.Approvals = max(1, b.Approvals)
	s.fact(e, clock.Start, "", b.Started)
	s.fact(e, clock.Detected, "", b.Detected, entryRef(e))
	for _, name := range b.Scope.Functions {
		s.fact(e, clock.Lost, name, b.Started)
	}
	if b.Category == Personal {
		s.fact(e, clock.Aware, "", b.Detected)
	}
	s.Scope, s.Rules = b.Scope, b.Rules
	s.Scope.Rules = nil
}

// entryRef is how evidence names an entry of the same timeline.
func entryRef(e *Entry) string { return fmt.Sprintf("entry:%d", e.N) }

func (*Scope) kind() Kind { return KindScope }

func (b *Scope) check(_ *State, _ string, at time.Time) error {
	if !b.Since.IsZero() {
		if err := notAhead("since", b.Since, at); err != nil {
			return err
		}
	}
	if len(b.Nodes)+len(b.Functions)+len(b.Clients)+len(b.Rules) == 0 {
		return invalid("scope", "It adds nothing.", "Name nodes, functions or clients that the incident has reached.")
	}
	return nil
}

// apply widens: what an incident has reached stays reached.
func (b *Scope) apply(s *State, e *Entry) {
	since := b.Since
	if since.IsZero() {
		since = earliest(s.Facts, clock.Start) // nobody knows better: as long as can be
	}
	for _, name := range b.Functions {
		if !slices.Contains(s.Scope.Functions, name) {
			s.fact(e, clock.Lost, name, since)
		}
	}
	s.Scope.Nodes, s.Scope.Functions, s.Scope.Clients = joined(s.Scope.Nodes, b.Nodes), joined(s.Scope.Functions, b.Functions), joined(s.Scope.Clients, b.Clients)
	s.Rules = clock.Stricter(s.Rules, b.Rules)
}

func joined(a, b []string) []string {
	out := slices.Clone(a)
	for _, x := range b {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

// Assignment gives somebody a role.
type Assignment struct {
	Role  Role   `json:"role"`
	Who   string `json:"who"` // a principal, or a person of the plan; "": nobody any more
	Words string `json:"words,omitempty"`
}

func (*Assignment) kind() Kind { return KindRole }

func (b *Assignment) check(s *State, _ string, _ time.Time) error {
	if !slices.Contains(Roles, b.Role) {
		return invalid("role", fmt.Sprintf("There is no role %q.", b.Role), "Use lead, deputy, scribe or communications.")
	}
	if b.Role == Lead && b.Who == "" {
		return refuse("incident-lead-missing", "An incident is not left without a lead.", "Name who takes over.")
	}
	if other := map[Role]Role{Lead: Deputy, Deputy: Lead}[b.Role]; other != "" && b.Who != "" && s.Roles[other] == b.Who {
		return refuse("incident-lead-deputy", "Lead and deputy are two people: the deputy is there for when the lead is not.", "Name another person for one of them.")
	}
	return nil
}

func (b *Assignment) apply(s *State, _ *Entry) {
	if b.Who == "" {
		delete(s.Roles, b.Role)
		return
	}
	s.Roles[b.Role] = b.Who
}
