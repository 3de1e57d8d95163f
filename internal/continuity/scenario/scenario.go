// Package scenario knows the language in which exercises are written: what is
// set up, what is done to it, what people are told and asked, and what has to
// come of it. It does nothing of that itself.
//
// A scenario has parts for the modes in which it can be run. In a sandbox it
// breaks a throwaway fleet of real processes; at a desktop it walks people
// through what would happen. One file may have both, so that what is talked
// through and what is tried are the same event.
package scenario

import (
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

// Mode is a way to run a scenario.
type Mode string

// Modes of an exercise. Live is a game day on the real fleet: what it may break
// is asked of a person each time.
const (
	Desktop Mode = "desktop"
	Sandbox Mode = "sandbox"
	Live    Mode = "live"
)

// Scenario is an exercise as written.
type Scenario struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Source  []string `json:"source,omitempty"` // where the plan or policy says it: "bcp 4.1"
	Of      string   `json:"of,omitempty"`     // scenario of the plan that it rehearses
	Fleet   *Fleet   `json:"fleet,omitempty"`  // of the sandbox
	Targets []Target `json:"targets,omitempty"`
	Sandbox []Step   `json:"sandbox,omitempty"`
	Desktop []Step   `json:"desktop,omitempty"`
	Live    []Step   `json:"live,omitempty"`

	Path string `json:"-"`
	Text []byte `json:"-"` // as read: what was run is kept with its report
}

// Steps are what is done in a mode.
func (s *Scenario) Steps(m Mode) []Step {
	switch m {
	case Desktop:
		return s.Desktop
	case Sandbox:
		return s.Sandbox
	case Live:
		return s.Live
	}
	return nil
}

// Modes are those that it has steps for.
func (s *Scenario) Modes() (out []Mode) {
	for _, m := range []Mode{Desktop, Sandbox, Live} {
		if len(s.Steps(m)) > 0 {
			out = append(out, m)
		}
	}
	return out
}

// Fleet is what a sandbox sets up before the first step.
type Fleet struct {
	Nodes    []Node   `json:"nodes"`
	Services []string `json:"services,omitempty"` // dns, mail, models, inference
	Data     int64    `json:"data_bytes,omitempty"`
	Database string   `json:"database,omitempty"` // own, patroni
}

// Node finds a node of the fleet.
func (f *Fleet) Node(name string) *Node {
	if f == nil {
		return nil
	}
	for i := range f.Nodes {
		if f.Nodes[i].Name == name {
			return &f.Nodes[i]
		}
	}
	return nil
}

// Node is one node of a sandbox.
type Node struct {
	Name  string     `json:"name"`
	Roles []string   `json:"roles"`
	Place plan.Place `json:"-"`
}

// Target is what has to be reached, and how fast or how much at most.
type Target struct {
	Measure string        `json:"measure"` // one of Measures
	Within  time.Duration `json:"within_ns,omitempty"`
	AtMost  int64         `json:"at_most"` // of what is counted
	Place   plan.Place    `json:"-"`
}

// Step is a part of an exercise with a name of its own in the report.
type Step struct {
	Title string     `json:"title"`
	Do    []Act      `json:"do"`
	Place plan.Place `json:"-"`
}

// Act is one line: a verb and what it is about.
type Act struct {
	Verb   string            `json:"verb"`
	Args   map[string]string `json:"args,omitempty"`
	Until  []Condition       `json:"until,omitempty"`     // of wait and expect: all of them
	Within time.Duration     `json:"within_ns,omitempty"` // of wait, ask, decide
	At     time.Duration     `json:"at_ns,omitempty"`     // of inject: on the exercise's clock
	Says   string            `json:"says"`                // the line as written
	Place  plan.Place        `json:"-"`
}

// Condition is something that is so or is not.
type Condition struct {
	Form string            `json:"form"` // one of Conditions
	Args map[string]string `json:"args,omitempty"`
	Not  bool              `json:"not,omitempty"`
	Says string            `json:"says"`
}
