// Package verdict knows what follows from what everybody sees: which node or
// function is fine, which is lost, and when that cannot be known.
//
// It is pure: no clock, no I/O. The same scene gives the same verdicts on every
// node, in whatever order its observations come.
//
// What it guards against is the false accusation. A loss needs a quorum of
// observers and two independent kinds of signal, all of them standing for a
// while; one observer alone, broken or lying, can neither cause a loss nor
// prevent one in a fleet of three or more; a node that cannot hear a majority
// accuses nobody, for it may be the one that is cut off. The reasons for each
// rule are in docs/decisions.
package verdict

import (
	"strings"
	"time"
)

// State is how a subject stands.
type State string

const (
	Fine      State = "fine"
	Slow      State = "slow"      // answers, but late: alive
	Flapping  State = "flapping"  // comes and goes
	Wrong     State = "wrong"     // works, but a condition is not met: disk, age of a backup, a connection that must not be
	Suspected State = "suspected" // not reached just now: traffic goes around it, nothing else follows
	Lost      State = "lost"      // confirmed
	OneWay    State = "one-way"   // it reaches others who do not reach it, or the reverse
	CutOff    State = "cut-off"   // the speaker itself: it does not hear a majority
	Unknown   State = "unknown"   // cannot be known from here
	Disputed  State = "disputed"  // an observer whose reports contradict all the others
	Clock     State = "clock"     // its clock is off; its times are not used, its sight is
	Drained   State = "drained"   // away because somebody wants it so
)

// States lists every state, the worst last.
var States = []State{Fine, Drained, Slow, Wrong, Clock, Flapping, Disputed, OneWay, Suspected, Unknown, CutOff, Lost}

// Node, Function and Fleet make the names of subjects: a node and a function
// of a plan may have one name.
func Node(name string) string     { return "node/" + name }
func Function(name string) string { return "function/" + name }

// Outside makes the name of another fleet that this one looks at from outside.
// Nothing about it speaks on a node or a function of this fleet.
func Outside(name string) string { return outside + name }

const outside = "outside/"

// IsOutside reports whether a subject is another fleet, and gives its name.
func IsOutside(subject string) (name string, ok bool) { return strings.CutPrefix(subject, outside) }

// Fleet is the subject that stands for the whole of it.
const Fleet = "fleet"

// Name is what a subject is called in the plan.
func Name(subject string) string {
	_, name, ok := strings.Cut(subject, "/")
	if !ok {
		return subject
	}
	return name
}

// Observation is what one observer sees of one subject by one signal.
type Observation struct {
	Observer string        `json:"observer"` // name of a member
	Subject  string        `json:"subject"`
	Signal   string        `json:"signal"`          // https, ssh, lease, …: the kind of the probe
	Probe    string        `json:"probe,omitempty"` // its name, where an observer has several of one signal
	Ends     string        `json:"ends,omitempty"`  // where it connects to, host and port: two signals that end there are one kind
	OK       bool          `json:"ok"`
	Code     string        `json:"code,omitempty"`    // why not: timeout, refused, status, …
	Since    time.Time     `json:"since"`             // since when it is so, by the observer's clock
	At       time.Time     `json:"at"`                // when it last looked, by its clock
	Heard    time.Time     `json:"heard,omitzero"`    // when the speaker first heard that it is so, by the speaker's clock
	Watched  bool          `json:"-"`                 // the speaker heard it change, rather than finding it so when it began to listen
	Took     time.Duration `json:"took,omitzero"`     // how long the answer took
	Changes  int           `json:"changes,omitempty"` // how often it changed in the last Rules.FlapWindow
}

// Member is somebody who observes.
type Member struct {
	Name       string
	Votes      bool          // counts for the majority of the fleet's store
	Heard      time.Time     // when its last heartbeat came through the store, by the speaker's clock; zero: never
	LeaseEnded time.Time     // by the speaker's clock; zero while it holds
	Offset     time.Duration // its clock against the speaker's, as far as measured; positive: ahead
	Drained    bool          // an operator takes it away
	Bare       bool          // it runs nothing but its Foundry: what ends that ends all of it
}

// Subject is what a verdict is given on beside the members themselves.
type Subject struct {
	Name    string        // made by Node or Function
	Hosts   []string      // nodes that a function runs on, each able to carry it alone
	From    []string      // members that look at it; all when empty
	Confirm time.Duration // instead of Rules.Confirm, where the plan is stricter
}

// Scene is everything a verdict follows from.
type Scene struct {
	Now          time.Time
	Speaker      string // who judges: its own sight suffices for a suspicion; empty: nobody's does
	Epoch        int64  // under which it is written; 0: a view of one node
	Members      []Member
	Subjects     []Subject // members need not be listed
	Observations []Observation
	Before       map[string]Verdict // what was held until now: losses end slowly, disputes too
	Rules        Rules
}

// Rules are the times of the judge. A zero field means its default.
type Rules struct {
	Suspect    time.Duration // a failure that stands so long is a suspicion: 1 s, which is two failed heartbeats
	Confirm    time.Duration // and a loss: 30 s
	Recover    time.Duration // an answer that stands so long ends a loss: 30 s
	Stale      time.Duration // who was not heard for so long has no voice: 5 s
	Slow       time.Duration // an answer that takes longer is slow: 2 s
	Clock      time.Duration // a clock that is further off is not believed: 2 s
	FlapWindow time.Duration // 5 min
	Flaps      int           // so many changes in the window are flapping: 6
}

// Default are the rules where the plan states none.
func Default() Rules {
	return Rules{Suspect: time.Second, Confirm: 30 * time.Second, Recover: 30 * time.Second, Stale: 5 * time.Second,
		Slow: 2 * time.Second, Clock: 2 * time.Second, FlapWindow: 5 * time.Minute, Flaps: 6}
}

// Verdict is what is held of a subject, and why.
type Verdict struct {
	Subject string        `json:"subject"`
	State   State         `json:"state"`
	Also    []State       `json:"also,omitempty"`  // what holds beside it
	Since   time.Time     `json:"since"`           // since when it is so
	Decided time.Time     `json:"decided"`         // when this was first held
	Back    time.Time     `json:"back,omitzero"`   // of a loss: since when it answers again, not yet believed
	Words   string        `json:"words"`           // one sentence, without the name of the subject
	Quorum  int           `json:"quorum,omitzero"` // how many voices a loss of it needs
	For     []Observation `json:"for,omitempty"`   // what speaks for the state, when it is not fine
	Against []Observation `json:"against,omitempty"`
	Own     bool          `json:"own,omitempty"` // the speaker itself does not reach it
	Epoch   int64         `json:"epoch,omitempty"`
}

// Avoid reports whether traffic goes around it: it is lost or suspected, or
// the speaker does not reach it, whatever the others see.
func (v Verdict) Avoid() bool {
	return v.Own || v.State == Lost || v.State == Suspected || v.State == Drained
}
