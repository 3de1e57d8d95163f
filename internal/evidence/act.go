package evidence

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Job is a run that somebody asked for, while it lasts and a while after.
type Job struct {
	ID       uuid.UUID         `json:"id"`
	Controls []string          `json:"controls"`
	Progress map[string]string `json:"progress"` // by control; "done" when it has ended
	Started  time.Time         `json:"started_at"`
	Ended    *time.Time        `json:"ended_at,omitempty"`
	Error    string            `json:"error,omitempty"`
}

// maxJobs is how many are remembered; older ones are in the evidence.
const maxJobs = 32

// Start authorises and audits a run of controls and lets it go on in the
// background, for as long as life lasts. background starts a goroutine that the
// process waits for when it stops. Without ids it runs every control that a
// machine checks.
func (r *Runner) Start(ctx, life context.Context, g *access.Guard, p principal.Principal, ids []string, background func(func())) (Job, error) {
	if err := g.Authorise(ctx, p, "controls.run", policy.Resource{}); err != nil {
		return Job{}, err
	}
	chosen, err := r.choose(ids)
	if err != nil {
		return Job{}, err
	}
	if err := r.auditRun(ctx, p, chosen); err != nil {
		return Job{}, err
	}
	j := &Job{ID: uuid.New(), Started: micro(r.Clock()), Progress: map[string]string{}}
	for _, c := range chosen {
		j.Controls = append(j.Controls, c.ID)
		j.Progress[c.ID] = "waiting"
	}
	r.mu.Lock()
	if r.jobs = append(r.jobs, j); len(r.jobs) > maxJobs {
		r.jobs = r.jobs[1:]
	}
	r.mu.Unlock()
	background(func() {
		err := r.runAll(life, p, chosen, len(ids) == 0, true, func(control, text string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			j.Progress[control] = text
		})
		r.mu.Lock()
		defer r.mu.Unlock()
		ended := micro(r.Clock())
		j.Ended = &ended
		if err != nil {
			j.Error = sentence(err)
		}
	})
	return r.Job(j.ID)
}

// Job says how far a run has come.
func (r *Runner) Job(id uuid.UUID) (Job, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.jobs, func(j *Job) bool { return j.ID == id })
	if i < 0 {
		return Job{}, problem.New(problem.NotFound, "run-unknown", "This node knows of no such run.").WithField("id").WithMend("What runs have found is in `foundry controls show`.")
	}
	j := *r.jobs[i]
	j.Progress = maps.Clone(j.Progress)
	return j, nil
}

// AttestAs authorises, records and audits an attestation.
func (r *Runner) AttestAs(ctx context.Context, g *access.Guard, p principal.Principal, a Attestation) (o Observation, err error) {
	if err := g.Authorise(ctx, p, "controls.attest", policy.Resource{ID: a.Control}); err != nil {
		return o, err
	}
	err = r.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if o, err = r.Attest(ctx, tx, p, a); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, uuid.Nil, "controls.attest", o.Control, map[string]any{"observation": o.ID, "owner": o.Owner, "expires_at": o.Expires})
	})
	return o, err
}

// RetireAs authorises and audits that a node is gone for good.
func (r *Runner) RetireAs(ctx context.Context, g *access.Guard, p principal.Principal, scope string) error {
	if err := g.Authorise(ctx, p, "controls.retire", policy.Resource{ID: scope}); err != nil {
		return err
	}
	err := r.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := Retire(ctx, tx, scope); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, uuid.Nil, "controls.retire", scope, nil)
	})
	r.forget()
	return err
}

// choose finds the controls to run.
func (r *Runner) choose(ids []string) (chosen []*Control, err error) {
	for i := range r.Controls {
		if c := &r.Controls[i]; len(ids) == 0 && !c.Attested() {
			chosen = append(chosen, c)
		}
	}
	for _, id := range ids {
		c, err := r.Control(id)
		if err != nil {
			return nil, err
		}
		if c.Attested() {
			return nil, problem.New(problem.Unsupported, "control-attested", "No machine can check "+c.ID+": a person answers for it.").WithField("control").
				WithMend("Use `foundry controls attest " + c.ID + "`.")
		}
		if !slices.Contains(chosen, c) {
			chosen = append(chosen, c)
		}
	}
	return chosen, nil
}

func (r *Runner) auditRun(ctx context.Context, p principal.Principal, chosen []*Control) error {
	var names []string
	for _, c := range chosen {
		names = append(names, c.ID)
	}
	return r.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		return audit.Append(ctx, tx, p, uuid.Nil, "controls.run", "", map[string]any{"controls": names})
	})
}

// ignorable reports whether a run of everything may pass over an error of one
// control: another node is running it, and its evidence comes all the same.
func ignorable(err error, all bool) bool {
	return all && (errors.Is(err, errBusy) || errors.Is(err, errLeaseLost))
}
