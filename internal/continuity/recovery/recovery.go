// Package recovery knows how a recovery plan is carried out: step by step, by
// whoever leads the fleet, so that a leader that dies at any point is followed
// by another that does nothing twice and leaves nothing out.
//
// What is done next is decided by pure functions ([Next], [Gate]); the executor
// writes each change into the incident's timeline first, then into the run.
package recovery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/plan"
)

// State is how a step stands.
type State string

// States of a step.
const (
	Waiting       State = "waiting"       // what comes before it has not ended
	Ready         State = "ready"         // it could begin, and a gate holds it
	Running       State = "running"       // somebody is at it
	NeedsPerson   State = "needs-person"  // it goes on when somebody has said or done something
	Done          State = "done"          // its receipt says so
	Failed        State = "failed"        // nothing goes on behind it
	Skipped       State = "skipped"       // somebody has decided to go on without
	Indeterminate State = "indeterminate" // whether it took effect nobody knows; a person says
)

// Over says whether what comes after may begin.
func (s State) Over() bool { return s == Done || s == Skipped }

// Run is one execution of a recovery plan. It lies at recoveries/<id>.
type Run struct {
	ID       string        `json:"id"`
	Name     string        `json:"plan_name"`
	Title    string        `json:"title,omitempty"`
	Plan     string        `json:"plan"` // hash of the plan that it goes by, whatever comes into force meanwhile
	Incident string        `json:"incident"`
	Scenario string        `json:"scenario,omitempty"`
	Mode     incident.Mode `json:"mode"`
	Lost     []string      `json:"lost,omitempty"` // nodes; each has to be fenced before anything writes elsewhere
	Onto     []string      `json:"onto,omitempty"` // nodes
	Starter  string        `json:"started_by"`     // a principal
	Started  time.Time     `json:"started_at"`
	Reign    []Reign       `json:"leaders,omitempty"` // who led it, in their order
	Steps    []StepState   `json:"steps"`
	Serial   int64         `json:"serial"`             // rises with everything that begins or ends
	Restored []string      `json:"restored,omitempty"` // functions that are back
	Newer    string        `json:"newer_plan,omitempty"`
	Trouble  string        `json:"trouble,omitempty"` // why nothing can be done at all
	Abandon  *Saying       `json:"abandon,omitempty"` // somebody wants it to end
	Ended    time.Time     `json:"ended_at,omitzero"`
	Outcome  string        `json:"outcome,omitempty"` // done or abandoned, once it has ended
}

// Reign is the time of one leader.
type Reign struct {
	Epoch int64     `json:"epoch"`
	Node  string    `json:"node"`
	Since time.Time `json:"since"`
}

// StepState is one step of a run.
type StepState struct {
	Name     string          `json:"name"`
	Kind     string          `json:"kind"`
	After    []string        `json:"after,omitempty"` // steps that have to end before
	State    State           `json:"state"`
	Words    string          `json:"words,omitempty"`
	Attempt  int             `json:"attempt,omitempty"` // the latest; from 1
	Round    int             `json:"round,omitempty"`   // rises when it is tried again: what was approved before counts no more
	Epoch    int64           `json:"epoch,omitempty"`   // under which it began
	Began    time.Time       `json:"began_at,omitzero"`
	Ended    time.Time       `json:"ended_at,omitzero"`
	From     int64           `json:"from,omitempty"` // serial of its beginning
	To       int64           `json:"to,omitempty"`   // serial of its end
	Receipt  *Receipt        `json:"receipt,omitempty"`
	Earlier  []Receipt       `json:"earlier,omitempty"` // of attempts before
	Need     *Need           `json:"need,omitempty"`
	Said     []Saying        `json:"said,omitempty"`
	Heard    int             `json:"heard,omitempty"` // how many of Said are answered
	Entry    int             `json:"entry,omitempty"` // of the timeline, that says how it ended
	Progress *order.Progress `json:"progress,omitempty"`
}

// Receipt is what shows that a step was done, or how it ended.
type Receipt struct {
	Step    string            `json:"step"`
	Attempt int               `json:"attempt"`
	Epoch   int64             `json:"epoch"`
	Outcome State             `json:"outcome"` // done, failed or indeterminate
	Words   string            `json:"words,omitempty"`
	Code    string            `json:"code,omitempty"`
	Facts   map[string]string `json:"facts,omitempty"`
	Fences  []Fence           `json:"fences,omitempty"` // of a fence: every node that can write no more
	By      string            `json:"by"`               // a node, or a principal
	Began   time.Time         `json:"began_at,omitzero"`
	Ended   time.Time         `json:"ended_at,omitzero"`
}

// Hash names the receipt in the timeline.
func (r *Receipt) Hash() string {
	body, _ := json.Marshal(r) // of strings, numbers and times
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Ways in which a node was fenced.
const (
	FencedByPower   = "power-off"   // switched off, and read back as off
	FencedByLease   = "lease-ended" // its lease on the database has ended, and its margin has passed
	FencedByPatroni = "patroni"     // the leader's key of Patroni is another's
	FencedByItself  = "stopped"     // the node itself has answered that it has stopped
)

// Fence says that a node writes no more, and how that is known.
type Fence struct {
	Node  string            `json:"node"`
	By    string            `json:"by"`
	Facts map[string]string `json:"facts,omitempty"` // e.g. state: off, as it was read back
}

// holds says whether the fence is one: a server that was told to switch off
// is off only when it was read back as off.
func (f Fence) holds() bool {
	switch f.By {
	case FencedByPower:
		return f.Facts["state"] == "off"
	case FencedByLease, FencedByPatroni, FencedByItself:
		return true
	}
	return false
}

// What a person has to do.
const (
	NeedSay     = "say"     // do it, and say that it is done and what shows it
	NeedApprove = "approve" // approve
	NeedDecide  = "decide"  // decide
	NeedHelp    = "help"    // it failed, or nobody knows: retry it, or say what is so
	NeedRecord  = "record"  // record something in the incident; the step sees it by itself
)

// Need is what a step waits for.
type Need struct {
	What   string   `json:"what"`
	Words  string   `json:"words"`
	Who    []string `json:"who,omitempty"`    // people of the plan
	Count  int      `json:"count,omitempty"`  // how many different ones
	Guide  []string `json:"guide,omitempty"`  // what is to be done, a line each
	Verify []string `json:"verify,omitempty"` // how it is seen that it worked
	Code   string   `json:"code,omitempty"`
}

// What people say.
const (
	SaidApprove = "approve"
	SaidReject  = "reject"
	SaidDecided = "decided"
	SaidDone    = "done"
	SaidFailed  = "failed"
	SaidRetry   = "retry"
	SaidSkip    = "skip"
	SaidAbandon = "abandon"
)

// Saying is what somebody said of a step, or of the run.
type Saying struct {
	What     string            `json:"what"`
	By       string            `json:"by"`               // a principal
	Person   string            `json:"person,omitempty"` // of the plan, where that is known
	At       time.Time         `json:"at"`
	Attempt  int               `json:"attempt"` // of the step, when it was said
	Round    int               `json:"round,omitempty"`
	Entry    int               `json:"entry"` // of the timeline
	Words    string            `json:"words,omitempty"`
	Evidence []string          `json:"evidence,omitempty"`
	Facts    map[string]string `json:"facts,omitempty"`
}

// Task is one attempt at one step.
type Task struct {
	Run       Run
	Step      plan.Step
	Plan      *plan.Plan // that the run goes by; not changed
	Attempt   int
	Epoch     int64
	Began     time.Time // of the attempt, by the clock of the leader that began it
	Functions []string  // that the step is about
	Term      *member.Term

	// Progress shows how far it is; Ask shows what somebody has to do while it
	// goes on, and nil that this is over. Neither blocks.
	Progress func(order.Progress)
	Ask      func(*Need)
	// Incident is how the incident stands now.
	Incident func(ctx context.Context) (*incident.State, error)
	// Record writes something into the incident's timeline.
	Record func(ctx context.Context, b incident.Body) (*incident.Entry, error)
}

// ID names the attempt.
func (t *Task) ID() string { return t.Run.ID + "/" + t.Step.Name }

// Order is an order of this attempt to a node.
func (t *Task) Order(node, kind string, args map[string]string) order.Order {
	o := order.New(t.Run.ID, t.Step.Name, node, kind, t.Attempt)
	o.Epoch, o.Plan, o.Args = t.Epoch, t.Run.Plan, args
	return o
}

// Node is where the step is done: where it says, or else the first node that
// the run recovers onto; empty: the plan names none.
func (t *Task) Node() string {
	switch {
	case t.Step.Node != "":
		return t.Step.Node
	case len(t.Run.Onto) > 0:
		return t.Run.Onto[0]
	}
	return ""
}

// Fenced says whether a node was fenced in this run, and by what.
func (t *Task) Fenced(node string) (Fence, bool) { return t.Run.fenced(node) }

// fenced finds the fence of a node.
func (r *Run) fenced(node string) (Fence, bool) {
	for i := range r.Steps {
		s := &r.Steps[i]
		if s.Kind != "fence" || s.State != Done || s.Receipt == nil {
			continue
		}
		if k := slices.IndexFunc(s.Receipt.Fences, func(f Fence) bool { return f.Node == node && f.holds() }); k >= 0 {
			return s.Receipt.Fences[k], true
		}
	}
	return Fence{}, false
}

// Doer does the steps of one kind. Its functions are called by one leader at a
// time, as far as leaders know; what must hold beyond that is checked where
// the effect is, by the task's epoch.
type Doer struct {
	// Look says whether an attempt that another leader began has ended, and how.
	// It changes nothing. known is false where that cannot be told. Nil: it
	// never can.
	Look func(ctx context.Context, t Task) (r Receipt, known bool, err error)

	// Do does it. The receipt needs Words, Facts and Fences only; an error means
	// that it failed, unless it is [ErrIndeterminate] or [ByHand].
	Do func(ctx context.Context, t Task) (Receipt, error)

	// Says is what Do would do, in a sentence.
	Says func(t Task) string

	// Destroys says whether Do would destroy data that are there; then a person
	// has to agree, whatever the plan says of how it starts. Nil: what the kind
	// of the step says.
	Destroys func(ctx context.Context, t Task) (bool, string, error)

	// Again says that an attempt which another leader began may be done again
	// without a look: its effect is the same as of once. What is done by an
	// order is.
	Again bool

	// Patient says that Do waits for people, for as long as it takes them.
	Patient bool
}
