package exercise

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/continuity/scenario"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// ArchiveOptions are what exercises are remembered with.
type ArchiveOptions struct {
	DB    *db.DB
	Guard *access.Guard
	Vault *keys.Vault
	// Plan is the plan in force (nil: none), and the hash of the one that was at a
	// time; (*governance.Plans).When.
	Plan func(ctx context.Context, at time.Time) (hash string, now *plan.Plan, err error)
	// Held notes in the transaction, in the duties of the plan, that an exercise
	// was held; (*governance.Plans).Held.
	Held func(ctx context.Context, tx pgx.Tx, p principal.Principal, now *plan.Plan, e governance.Exercise) error
	// Changed is told, after the transaction, that there is another exercise, or
	// that an action is done; may be nil.
	Changed func()
	Clock   func() time.Time
	Log     *slog.Logger
}

// Archive is what the installation remembers of its exercises. What is in it
// was verified when it was handed in, and is kept as it was.
type Archive struct{ o ArchiveOptions }

// NewArchive makes the archive.
func NewArchive(o ArchiveOptions) *Archive {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Archive{o}
}

// SealedColumns lists the columns of this package that hold sealed values.
func SealedColumns() []keys.Column {
	return []keys.Column{
		{Table: "exercises", Column: "summary", Keys: []string{"id"}, Installation: true},
		{Table: "exercises", Column: "bundle", Keys: []string{"id"}, Installation: true},
	}
}

// Handed is an exercise as it is handed in.
type Handed struct {
	Bundle []byte `json:"bundle" doc:"The record and its timelines, as the command packs them."`
	Of     string `json:"of,omitempty" doc:"Scenario of the plan that was rehearsed. Default: what the exercise's own scenario says."`
	Owner  string `json:"owner,omitempty" doc:"Who owns what was missing and has no owner, by a name of the plan. Default: the owner of the duty, or of the plan."`
}

// Held is an exercise that was handed in.
type Held struct {
	ID        string        `json:"id"`
	Scenario  string        `json:"scenario"`
	Of        string        `json:"of,omitempty"` // scenario of the plan
	Mode      scenario.Mode `json:"mode"`
	Outcome   Outcome       `json:"outcome"`
	Plan      string        `json:"plan,omitempty"` // hash of the plan in force when it began
	Head      string        `json:"head"`           // of its own timeline
	Began     time.Time     `json:"began_at"`
	Ended     time.Time     `json:"ended_at"`
	By        string        `json:"submitted_by"`
	Submitted time.Time     `json:"submitted_at"`
	Brief
	Actions []Action `json:"actions"`
}

// Brief is what a list shows of an exercise. It is kept sealed.
type Brief struct {
	Title   string            `json:"title"`
	Words   string            `json:"words"`
	Program string            `json:"program"`
	Event   time.Time         `json:"event_at,omitzero"`
	Bound   bool              `json:"bound"`                     // the timeline holds the digest of the record
	Kept    []string          `json:"targets_kept,omitempty"`    // by measure
	Missed  []string          `json:"targets_missed,omitempty"`  // likewise
	Unknown []string          `json:"targets_unknown,omitempty"` // likewise: not measured
	Failed  []string          `json:"failed_lines,omitempty"`    // what had to be so and was not
	ToDo    map[string]string `json:"-"`                         // titles of the actions, by id
}

// Shown is an exercise with everything that is known of it.
type Shown struct {
	Held
	Record *Record `json:"record"`
}

// Submit verifies what an exercise left, and takes it into the memory of the
// installation: whatever came of it, a failed one too.
func (a *Archive) Submit(ctx context.Context, p principal.Principal, h Handed) (Held, error) {
	if err := a.o.Guard.Authorise(ctx, p, "exercise.run", policy.Resource{}); err != nil {
		return Held{}, err
	}
	b, err := Unpack(h.Bundle)
	if err != nil {
		return Held{}, err
	}
	r, timelines, err := b.Verify()
	if err != nil {
		return Held{}, err
	}
	now := a.o.Clock()
	if r.Ended.After(now.Add(clockError)) || r.Ended.Before(r.Began) {
		return Held{}, problem.New(problem.Invalid, "exercise-time", fmt.Sprintf("The exercise ended at %s, which is not a time that has been.", r.Ended.UTC().Format(time.RFC3339))).WithMend("Set the clock of the machine that it ran on, and run it again.")
	}
	hash, inForce, err := a.o.Plan(ctx, r.Began)
	if err != nil {
		return Held{}, err
	}
	e := Held{ID: r.ID, Scenario: r.Scenario, Mode: r.Mode, Outcome: r.Outcome, Plan: hash, Head: timelines[r.ID].State.Head.Hash.String(), Began: r.Began, Ended: r.Ended, By: p.String(), Submitted: now, Brief: briefOf(r, timelines)}
	if e.Of, err = rehearses(r, h.Of, inForce); err != nil {
		return Held{}, err
	}
	if e.Actions, err = leaves(r, &e, h.Owner, inForce); err != nil {
		return Held{}, err
	}
	if err := a.keep(ctx, p, &e, h.Bundle, inForce); err != nil {
		return Held{}, err
	}
	if a.o.Changed != nil {
		a.o.Changed()
	}
	return a.held(ctx, r.ID)
}

// clockError is how far the clocks of two machines may lie apart.
const clockError = 5 * time.Minute

// keep stores an exercise, with what follows from it, in one transaction.
func (a *Archive) keep(ctx context.Context, p principal.Principal, e *Held, bundle []byte, inForce *plan.Plan) error {
	brief, err := json.Marshal(sealedBrief{e.Brief, e.ToDo})
	if err != nil {
		return fmt.Errorf("writing what is shown of an exercise: %w", err)
	}
	seal := func(column string, plain []byte) ([]byte, error) {
		return a.o.Vault.Seal(ctx, uuid.Nil, keys.Place{Table: "exercises", Column: column, Row: e.ID}, plain)
	}
	sealedSummary, err := seal("summary", brief)
	if err != nil {
		return fmt.Errorf("sealing an exercise: %w", err)
	}
	sealedBundle, err := seal("bundle", bundle)
	if err != nil {
		return fmt.Errorf("sealing an exercise: %w", err)
	}
	return a.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := insertExercise(ctx, tx, e, sealedSummary, sealedBundle); err != nil {
			return err
		}
		for i := range e.Actions {
			if err := insertAction(ctx, tx, e.ID, &e.Actions[i]); err != nil {
				return err
			}
		}
		if err := a.o.Held(ctx, tx, p, inForce, e.governed()); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, uuid.Nil, "exercise.run", e.ID, map[string]any{"scenario": e.Scenario, "of": e.Of, "mode": string(e.Mode), "outcome": string(e.Outcome), "plan": e.Plan, "head": e.Head, "actions": len(e.Actions)})
	})
}

// sealedBrief is what is sealed of a brief: the titles of actions too, which
// are shown with the actions.
type sealedBrief struct {
	Brief
	ToDo map[string]string `json:"to_do,omitempty"`
}

// governed is the exercise as the plan's controls see it.
func (e *Held) governed() governance.Exercise {
	open := 0
	for _, x := range e.Actions {
		if x.Done.IsZero() {
			open++
		}
	}
	return governance.Exercise{ID: e.ID, Scenario: e.Of, Mode: string(e.Mode), Outcome: string(e.Outcome), At: e.Began, Open: open}
}

func briefOf(r *Record, timelines map[string]*timeline) Brief {
	b := Brief{Title: r.Title, Words: r.Words, Program: r.Program, Event: r.Event, Bound: bound(r, timelines)}
	for i := range r.Measures {
		switch m := &r.Measures[i]; {
		case !m.Aimed:
		case !m.Known:
			b.Unknown = append(b.Unknown, m.Name)
		case m.Kept():
			b.Kept = append(b.Kept, m.Name)
		default:
			b.Missed = append(b.Missed, m.Name)
		}
	}
	if r.Mode != scenario.Desktop { // at a desktop each is a gap
		for _, s := range r.Steps {
			for _, l := range s.Lines {
				if !l.OK {
					b.Failed = append(b.Failed, l.Says)
				}
			}
		}
	}
	return b
}

// rehearses finds the scenario of the plan that an exercise rehearsed.
func rehearses(r *Record, of string, inForce *plan.Plan) (string, error) {
	if of == "" {
		s, err := scenario.Parse(r.Scenario, []byte(r.Text))
		if err != nil {
			return "", err // Verify has read it
		}
		return s.Of, nil
	}
	var names []string
	if inForce != nil {
		for i := range inForce.Scenarios {
			names = append(names, inForce.Scenarios[i].Name)
		}
	}
	if !slices.Contains(names, of) {
		return "", problem.New(problem.Invalid, "exercise-of", fmt.Sprintf("The plan in force has no scenario %q.", of)).WithField("of").WithMend("Name one of: " + strings.Join(names, ", ") + ".")
	}
	return of, nil
}

// List lists the exercises that were handed in, the newest first.
func (a *Archive) List(ctx context.Context, p principal.Principal) ([]Held, error) {
	if err := a.o.Guard.Authorise(ctx, p, "exercise.read", policy.Resource{}); err != nil {
		return nil, err
	}
	return a.all(ctx)
}

// Standing says of every scenario of the plan in force when it was last
// exercised, and when it is due.
func (a *Archive) Standing(ctx context.Context, p principal.Principal) ([]governance.Rehearsal, error) {
	if err := a.o.Guard.Authorise(ctx, p, "exercise.read", policy.Resource{}); err != nil {
		return nil, err
	}
	_, inForce, err := a.o.Plan(ctx, a.o.Clock())
	if err != nil || inForce == nil {
		return []governance.Rehearsal{}, err
	}
	all, err := a.Exercises(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Concat([]governance.Rehearsal{}, governance.Rehearsals(inForce, all, a.o.Clock())), nil
}

// Exercises are those that were handed in, for the plan's controls.
func (a *Archive) Exercises(ctx context.Context) (out []governance.Exercise, err error) {
	all, err := a.all(ctx)
	for i := range all {
		out = append(out, all[i].governed())
	}
	return out, err
}

// Get shows an exercise.
func (a *Archive) Get(ctx context.Context, p principal.Principal, id string) (Shown, error) {
	if err := a.o.Guard.Authorise(ctx, p, "exercise.read", policy.Resource{ID: id}); err != nil {
		return Shown{}, err
	}
	h, err := a.held(ctx, id)
	if err != nil {
		return Shown{}, err
	}
	r, _, err := a.bundle(ctx, id)
	return Shown{h, r}, err
}

// Report makes the report of an exercise from its record and timelines: what
// somebody handed in as a page is never shown.
func (a *Archive) Report(ctx context.Context, p principal.Principal, id string) ([]byte, error) {
	if err := a.o.Guard.Authorise(ctx, p, "exercise.read", policy.Resource{ID: id}); err != nil {
		return nil, err
	}
	r, timelines, err := a.bundle(ctx, id)
	if err != nil {
		return nil, err
	}
	return page(r, timelines)
}

// bundle opens what was handed in, and verifies it again.
func (a *Archive) bundle(ctx context.Context, id string) (*Record, map[string]*timeline, error) {
	var sealed []byte
	err := a.o.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		sealed, err = selectBundle(ctx, tx, id)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	packed, err := a.o.Vault.Open(ctx, uuid.Nil, keys.Place{Table: "exercises", Column: "bundle", Row: id}, sealed)
	if err != nil {
		return nil, nil, fmt.Errorf("opening an exercise: %w", err)
	}
	b, err := Unpack(packed)
	if err != nil {
		return nil, nil, err
	}
	return b.Verify()
}

// all reads every exercise with its actions, the newest first.
func (a *Archive) all(ctx context.Context) ([]Held, error) {
	var rows []stored
	var actions map[string][]Action
	err := a.o.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		if rows, err = selectExercises(ctx, tx); err != nil {
			return err
		}
		actions, err = selectActions(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := []Held{}
	for i := range rows {
		h, err := a.open(ctx, &rows[i], actions[rows[i].ID])
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}

func (a *Archive) held(ctx context.Context, id string) (Held, error) {
	all, err := a.all(ctx)
	if err != nil {
		return Held{}, err
	}
	i := slices.IndexFunc(all, func(h Held) bool { return h.ID == id })
	if i < 0 {
		return Held{}, errUnknown
	}
	return all[i], nil
}

// open opens what is sealed of an exercise in a list.
func (a *Archive) open(ctx context.Context, s *stored, actions []Action) (Held, error) {
	text, err := a.o.Vault.Open(ctx, uuid.Nil, keys.Place{Table: "exercises", Column: "summary", Row: s.ID}, s.Summary)
	if err != nil {
		return Held{}, fmt.Errorf("opening an exercise: %w", err)
	}
	var b sealedBrief
	if err := json.Unmarshal(text, &b); err != nil {
		return Held{}, fmt.Errorf("reading an exercise: %w", err)
	}
	h := s.Held
	h.Brief, h.Actions = b.Brief, []Action{}
	for _, x := range actions {
		x.Title = b.ToDo[x.ID]
		h.Actions = append(h.Actions, x)
	}
	return h, nil
}

var errUnknown = problem.New(problem.NotFound, "exercise-unknown", "No such exercise was handed in.").WithMend("`foundry exercise list` shows those that were; `foundry exercise submit` hands one in.")
