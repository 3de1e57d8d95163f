// Package order knows how the leader has something done on a node, and how the
// node answers, over the fleet's store.
//
// An order is done at most once for its id and attempt. The node's own process
// carries it out: nobody reaches into another machine. A node takes no order of
// an epoch below the highest that it has seen, none of another plan than the
// run was started with, and none of a kind that it was not set up for.
package order

import (
	"context"
	"maps"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// Order is one thing to be done on one node.
type Order struct {
	ID      string            `json:"id"` // run/step: the same through all attempts
	Run     string            `json:"run"`
	Step    string            `json:"step"`
	Node    string            `json:"node"`
	Kind    string            `json:"kind"` // which Carry does it
	Epoch   int64             `json:"epoch"`
	Attempt int               `json:"attempt"` // from 1; another attempt is done anew
	Plan    string            `json:"plan"`    // hash of the plan that the run goes by
	Args    map[string]string `json:"args,omitempty"`
	Until   time.Time         `json:"until,omitzero"` // it is not begun after this, by the node's clock; zero: no end
}

// New makes an order with its id.
func New(run, step, node, kind string, attempt int) Order {
	return Order{ID: run + "/" + step, Run: run, Step: step, Node: node, Kind: kind, Attempt: attempt}
}

// States of an answer.
const (
	Accepted = "accepted" // the node has taken it and begins
	Running  = "running"  // it says how far it is
	Done     = "done"
	Failed   = "failed"
	Refused  = "refused" // nothing was done
	Unclear  = "unclear" // the node stopped while it was at it: whether it took effect, it cannot say
)

// Answer is what a node says of an order.
type Answer struct {
	ID      string            `json:"id"`
	Attempt int               `json:"attempt"`
	Epoch   int64             `json:"epoch"` // of the order that was taken
	State   string            `json:"state"`
	Words   string            `json:"words,omitempty"`
	Code    string            `json:"code,omitempty"` // of a failure or refusal: stable
	Facts   map[string]string `json:"facts,omitempty"`
	Began   time.Time         `json:"began_at,omitzero"`
	Ended   time.Time         `json:"ended_at,omitzero"`

	Progress *Progress `json:"progress,omitempty"`
}

// Over says whether nothing more comes.
func (a Answer) Over() bool {
	switch a.State {
	case Done, Failed, Refused, Unclear:
		return true
	}
	return false
}

// Err is the answer as an error; nil: it was done, or is not over.
func (a Answer) Err() error {
	if !a.Over() || a.State == Done {
		return nil
	}
	code := a.Code
	if code == "" {
		code = "order-" + a.State
	}
	err := problem.New(problem.Conflict, code, a.Words)
	switch a.State {
	case Refused:
		err = err.Wrap(ErrRefused)
	case Unclear:
		err = err.Wrap(ErrUnclear)
	}
	return err
}

// Progress is how far something is.
type Progress struct {
	Words string `json:"words,omitempty"`
	Done  int64  `json:"done,omitempty"`  // of Total; in Unit
	Total int64  `json:"total,omitempty"` // 0: not known
	Unit  string `json:"unit,omitempty"`  // bytes, steps, …
}

// Sentinels of the package. Each is a *problem.Error.
var (
	ErrRefused  = problem.New(problem.Conflict, "order-refused", "The node refused the order: nothing was done.")
	ErrUnclear  = problem.New(problem.Conflict, "order-unclear", "The node stopped while it was carrying the order out: whether it took effect, it cannot say.").WithMend("Look at the node, and say what is so.")
	ErrUnheard  = problem.New(problem.Unavailable, "order-unheard", "The node did not take the order in time: nothing was done.").WithMend("See whether the node is there with `foundry node status`.")
	ErrUnending = problem.New(problem.Unavailable, "order-unending", "The node took the order and has not said in time that it is done.").WithMend("Look at the node, and say what is so.")
)

// Carry does what an order says, on this node. It may be called again for the
// same attempt only where the agent's Again names its kind. progress may be
// called at any time and does not block.
type Carry func(ctx context.Context, o Order, progress func(Progress)) (facts map[string]string, words string, err error)

// same says whether two orders ask for the same thing; who leads may differ.
func same(a, b Order) bool {
	return a.ID == b.ID && a.Attempt == b.Attempt && a.Node == b.Node && a.Kind == b.Kind && a.Plan == b.Plan && maps.Equal(a.Args, b.Args)
}

func orderPath(node, id string) string  { return "orders/" + node + "/" + id }
func answerPath(node, id string) string { return "answers/" + node + "/" + id }
