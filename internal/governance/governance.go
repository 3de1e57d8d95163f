// Package governance knows which continuity plan is in force, who approved
// and read it, what lapses when, and how far the organisation is from breaking
// what the plan promises.
//
// A plan is handed in as a revision, judged by the linter, approved by as many
// different people as it asks for, and read by those it names. Nothing is ever
// changed or taken back: a newer revision supersedes.
package governance

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/lint"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Options are what plans are kept with.
type Options struct {
	DB    *db.DB
	Guard *access.Guard
	Vault *keys.Vault
	// Measured is what the platform knows of the rates, times and backups of a
	// plan; may be nil.
	Measured func(ctx context.Context, p *plan.Plan) (plan.Measured, error)
	// Alarm tells the platform's operators, in the transaction that notes that
	// they were told; may be nil. Facts go into the audit log: a plan's names of
	// people are there to be roles.
	Alarm func(ctx context.Context, tx pgx.Tx, code string, critical bool, facts map[string]string) error
	// Accounts finds the principals behind the accounts that a plan gives its
	// people; what nobody active has is left out. May be nil: then nobody is the
	// person whom a plan names, and a plan that names approvers with accounts
	// cannot be approved.
	Accounts func(ctx context.Context, accounts []string) (map[string]string, error)
	// Here is what this node knows of itself, for controls; may be nil.
	Here func() Here
	// Reviewed is when a review of access was last completed (nil: never), and
	// since when there is somebody whose access could be reviewed; may be nil.
	Reviewed func(ctx context.Context) (last *time.Time, began time.Time, err error)
	// Exercises are those that were handed in; may be nil: then nothing is known
	// of any.
	Exercises func(ctx context.Context) ([]Exercise, error)
	// Actions are what exercises and incidents left to be done and is not done.
	// With an error it gives what it knows; may be nil.
	Actions func(ctx context.Context) ([]Action, error)
	// InForce is told, after the transaction, that another plan is in force; may
	// be nil.
	InForce func()
	// Copy is the path of the sealed copy of the plan in force; empty: none is
	// kept, and without the database there is no plan. Seal and Open seal it.
	Copy  string
	Seal  func(plaintext, label []byte) ([]byte, error)
	Open  func(sealed, label []byte) ([]byte, error)
	Clock func() time.Time
	Log   *slog.Logger
}

// Plans keeps the revisions of the continuity plan. Safe for concurrent use.
type Plans struct {
	o Options

	mu     sync.Mutex
	parsed map[uuid.UUID]*plan.Plan // revisions never change
	told   map[string]int           // function → how near to breaking its objectives it was last said to be

	copying  sync.Mutex
	copyAt   time.Time // of the copy on disk
	copyBody string
}

// New makes the keeper of plans.
func New(o Options) *Plans {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Plans{o: o, parsed: map[uuid.UUID]*plan.Plan{}, told: map[string]int{}}
}

// SealedColumns lists the columns of this package that hold sealed values.
func SealedColumns() []keys.Column {
	return []keys.Column{{Table: "plan_revisions", Column: "sealed", Keys: []string{"id"}, Installation: true}}
}

// States of a revision.
const (
	Waiting    = "waiting"    // for approvals
	Rejected   = "rejected"   // by somebody
	InForce    = "in-force"   // this is the plan
	Superseded = "superseded" // by a newer one
)

// MaxText bounds what is handed in, in bytes: the fleet file and its runbooks.
const MaxText = 768 << 10

// Revision is a plan that was handed in.
type Revision struct {
	ID        uuid.UUID  `json:"id"`
	Hash      string     `json:"hash"`
	Note      string     `json:"note"`
	By        string     `json:"by"`
	Submitted time.Time  `json:"submitted_at"`
	Needs     int        `json:"needs"` // approvals, by different people
	Errors    int        `json:"errors"`
	Warnings  int        `json:"warnings"`
	Notes     int        `json:"notes"`
	State     string     `json:"state"`
	Since     *time.Time `json:"in_force_since,omitempty"`
	Decisions []Decision `json:"decisions"`
	Copied    *time.Time `json:"copied_at,omitempty"` // only while the database is away: of when this node's copy is

	// Only when one revision is shown:
	Text     string            `json:"text,omitempty"`
	Books    map[string]string `json:"runbooks,omitempty"` // name → Markdown
	Findings []lint.Finding    `json:"findings,omitempty"`
	Changes  []plan.Change     `json:"changes,omitempty"` // since the one in force, or the one before it
	Read     []Acknowledgement `json:"acknowledged,omitempty"`
}

// Decision is one voice on a revision.
type Decision struct {
	By       string    `json:"by"`
	As       string    `json:"as,omitempty"` // whom the plan names; empty where no plan named anybody with an account
	Approved bool      `json:"approved"`
	Reason   string    `json:"reason,omitempty"`
	At       time.Time `json:"at"`
}

// Acknowledgement says that somebody has read a plan.
type Acknowledgement struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
}

// NewRevision is a plan to hand in.
type NewRevision struct {
	Text  string            `json:"text" doc:"The fleet file."`
	Books map[string]string `json:"runbooks,omitempty" doc:"Markdown of the runbooks it names, by name."`
	Note  string            `json:"note" doc:"What changed, and why."`
}

// content is what is sealed of a revision.
type content struct {
	Text  string            `json:"text"`
	Books map[string]string `json:"runbooks,omitempty"`
}

// Submit hands in a plan. One that is the same as the plan in force, or as one
// that waits, is refused; one with findings is not: they are shown to those
// who approve it.
func (g *Plans) Submit(ctx context.Context, p principal.Principal, n NewRevision) (Revision, error) {
	if err := g.o.Guard.Authorise(ctx, p, "plan.submit", policy.Resource{}); err != nil {
		return Revision{}, err
	}
	read, err := n.parse()
	if err != nil {
		return Revision{}, err
	}
	report := lint.Check(read, lint.Options{Now: g.o.Clock(), Measured: g.measured(ctx, read)})
	_, inForce, err := g.stored(ctx)
	if err != nil && !isNone(err) {
		return Revision{}, err
	}
	r := Revision{ID: uuid.Must(uuid.NewV7()), Hash: read.Hash(), Note: n.Note, By: p.String(), Needs: needs(inForce, read)}
	for _, f := range report.Findings {
		switch f.Severity {
		case lint.Error:
			r.Errors++
		case lint.Warning:
			r.Warnings++
		default:
			r.Notes++
		}
	}
	plain, err := json.Marshal(content{n.Text, n.Books})
	if err != nil {
		return Revision{}, fmt.Errorf("writing a plan: %w", err)
	}
	sealed, err := g.o.Vault.Seal(ctx, uuid.Nil, place(r.ID), plain)
	if err != nil {
		return Revision{}, fmt.Errorf("sealing a plan: %w", err)
	}
	err = g.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := lockPlans(ctx, tx); err != nil {
			return err
		}
		all, err := selectRevisions(ctx, tx)
		if err != nil {
			return err
		}
		for _, other := range all {
			if other.Hash == r.Hash && (other.State == InForce || other.State == Waiting) {
				return problem.New(problem.Conflict, "plan-same", fmt.Sprintf("The same plan is %s already: revision %s.", other.State, other.ID)).WithField("text").WithMend("Approve that one, or hand in one that differs.")
			}
		}
		if err := insertRevision(ctx, tx, &r, sealed); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, uuid.Nil, "plan.submit", r.ID.String(), map[string]any{"hash": r.Hash, "needs": r.Needs, "errors": r.Errors, "warnings": r.Warnings})
	})
	if err != nil {
		return Revision{}, err
	}
	return g.find(ctx, r.ID)
}

func (n *NewRevision) parse() (*plan.Plan, error) {
	size := len(n.Text)
	for _, book := range n.Books {
		size += len(book)
	}
	switch {
	case size > MaxText:
		return nil, problem.New(problem.TooLarge, "plan-size", fmt.Sprintf("The plan and its runbooks have %d bytes; %d are the most.", size, MaxText)).WithField("text").WithMend("Shorten the runbooks, or keep pictures elsewhere.")
	case len(n.Note) == 0 || len(n.Note) > 1000:
		return nil, problem.New(problem.Invalid, "plan-note", "It is not said what changed.").WithField("note").WithMend("Say in 1 to 1000 characters what changed, and why.")
	}
	read, err := plan.Parse("fleet.yaml", []byte(n.Text))
	if err != nil {
		return nil, err
	}
	books := map[string][]byte{}
	for name, text := range n.Books {
		if b := read.Runbook(name); b == nil || b.File == "" {
			return nil, problem.New(problem.Invalid, "plan-runbook", fmt.Sprintf("The plan names no file for a runbook %q.", name)).WithField("runbooks").WithMend("Hand in the runbooks that the plan names, each by its name.")
		}
		books[name] = []byte(text)
	}
	return read, read.SetBooks(books)
}

func place(id uuid.UUID) keys.Place {
	return keys.Place{Table: "plan_revisions", Column: "sealed", Row: id.String()}
}

func (g *Plans) measured(ctx context.Context, p *plan.Plan) plan.Measured {
	if g.o.Measured == nil {
		return plan.Measured{}
	}
	m, err := g.o.Measured(ctx, p)
	if err != nil {
		g.o.Log.Warn("what was measured is not known; the plan is judged by assumptions", "error", err)
		return plan.Measured{}
	}
	return m
}

// Acknowledge says that the caller has read the plan that is in force.
func (g *Plans) Acknowledge(ctx context.Context, p principal.Principal, hash string) (Revision, error) {
	if err := g.o.Guard.Authorise(ctx, p, "plan.acknowledge", policy.Resource{}); err != nil {
		return Revision{}, err
	}
	r, _, err := g.stored(ctx)
	if err != nil {
		return Revision{}, err
	}
	if hash != r.Hash {
		return Revision{}, problem.New(problem.Conflict, "plan-hash", "That is not the plan in force.").WithField("hash").WithMend("Read the plan again: its hash begins with " + r.Hash[:12] + ".")
	}
	err = g.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if again, err := insertAcknowledgement(ctx, tx, hash, p.String()); err != nil || again {
			return err
		}
		return audit.Append(ctx, tx, p, uuid.Nil, "plan.acknowledge", r.ID.String(), map[string]any{"hash": hash})
	})
	if err != nil {
		return Revision{}, err
	}
	return g.find(ctx, r.ID)
}
