package evidence

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/prometheus/client_golang/prometheus"
)

// picture is what the database said last.
type picture struct {
	latest, decisive []Observation
	schedules        []schedule
	signers          map[string]ed25519.PublicKey
}

// Status is a control with how it stands.
type Status struct {
	ID        string        `json:"id"`
	Title     string        `json:"title"`
	Source    string        `json:"source"`
	Checks    string        `json:"checks"`
	Kind      string        `json:"kind"` // check or attestation
	Collector string        `json:"collector"`
	Version   string        `json:"collector_version"`
	Every     time.Duration `json:"every_ns,omitempty"`
	Fresh     time.Duration `json:"fresh_ns"`
	PerNode   bool          `json:"per_node"`

	Standing
	Scopes   []Standing    `json:"scopes,omitempty"` // of each node, where every node looks for itself
	Next     time.Time     `json:"next_run_at,omitzero"`
	Running  bool          `json:"running"`
	Progress string        `json:"progress,omitempty"` // of a run on this node
	Evidence []Observation `json:"evidence,omitempty"` // of the latest runs
}

// Board says how every control stands, in the order of the catalogue. While
// the database is away it judges by what it read last, so that controls become
// overdue by themselves.
func (r *Runner) Board(ctx context.Context) ([]Status, error) {
	p, err := r.picture(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Status, 0, len(r.Controls))
	for i := range r.Controls {
		out = append(out, r.status(&r.Controls[i], p, r.Clock()))
	}
	return out, nil
}

// Show says how one control stands.
func (r *Runner) Show(ctx context.Context, id string) (Status, error) {
	c, err := r.Control(id)
	if err != nil {
		return Status{}, err
	}
	p, err := r.picture(ctx)
	if err != nil {
		return Status{}, err
	}
	return r.status(c, p, r.Clock()), nil
}

func (r *Runner) status(c *Control, p picture, now time.Time) Status {
	s := Status{ID: c.ID, Title: c.Title, Source: c.Source, Checks: c.Checks, Kind: "check", Collector: c.Collector, Version: c.Version, Every: c.Every, Fresh: c.Fresh, PerNode: c.PerNode}
	if c.Attested() {
		s.Kind, s.Collector = attestation, attestation
	}
	scopes := []string{}
	for _, sc := range p.schedules {
		if sc.Control != c.ID {
			continue
		}
		scopes = append(scopes, sc.Scope)
		s.Running = s.Running || sc.Running
		if s.Next.IsZero() || sc.Next.Before(s.Next) {
			s.Next = sc.Next
		}
	}
	if len(scopes) == 0 {
		scopes = []string{r.scope(c)}
	}
	slices.Sort(scopes)
	var all []Standing
	for _, scope := range scopes {
		mine := func(from []Observation) (out []Observation) {
			for _, o := range from {
				if o.Control == c.ID && o.Scope == scope {
					out = append(out, o)
				}
			}
			return out
		}
		latest := mine(p.latest)
		st := Stand(r.verified(latest, p), mine(p.decisive), now)
		if c.Attested() && len(latest) == 0 {
			st.Reason = "No machine can check this, and nobody has answered for it yet."
		}
		st.Scope = scope
		all = append(all, st)
		s.Evidence = append(s.Evidence, latest...)
	}
	s.Standing = Worst(all)
	if c.PerNode {
		s.Scopes = all
	}
	r.mu.Lock()
	s.Progress = r.progress[c.ID]
	r.mu.Unlock()
	return s
}

// verified makes an observation whose signature does not hold a failure: it
// was changed in the database.
func (r *Runner) verified(all []Observation, p picture) []Observation {
	out := slices.Clone(all)
	for i := range out {
		if err := out[i].Verify(p.signers[out[i].Signer]); err != nil {
			out[i].Result, out[i].Reason = Fail, sentence(err)
		}
	}
	return out
}

// picture reads the database, at most every few seconds.
func (r *Runner) picture(ctx context.Context) (picture, error) {
	r.mu.Lock()
	p, age := r.read, r.Clock().Sub(r.readAt)
	known := !r.readAt.IsZero()
	r.mu.Unlock()
	if known && age >= 0 && age < pageAge {
		return p, nil
	}
	var err error
	if p.latest, p.decisive, err = readLatest(ctx, r.DB); err == nil {
		if p.schedules, err = schedules(ctx, r.DB); err == nil {
			p.signers, err = Signers(ctx, r.DB)
		}
	}
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if known {
			return r.read, nil
		}
		return picture{}, fmt.Errorf("reading how the controls stand: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read, r.readAt = p, r.Clock()
	return p, nil
}

// forget makes the next Board read the database.
func (r *Runner) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readAt = time.Time{}
}

// tellChange calls Changed when a run has changed how a control stands.
func (r *Runner) tellChange(ctx context.Context, c *Control) {
	if r.Changed == nil {
		return
	}
	s, err := r.Show(context.WithoutCancel(ctx), c.ID)
	if err != nil {
		return
	}
	r.mu.Lock()
	was, known := r.last[c.ID]
	r.last[c.ID] = s.State
	r.mu.Unlock()
	if !known {
		was = Overdue
	}
	if was != s.State {
		r.Changed(c, was, s.State)
	}
}

// Attestation is what a person answers for.
type Attestation struct {
	Control   string
	Owner     string // a role or an account's id, not a name
	Statement string
	Expires   time.Time // zero: as late as the control allows
}

var ownerRule = regexp.MustCompile(`^[a-z0-9][a-z0-9:._-]{0,99}$`)

// Attest records that somebody answers for a control that no machine can
// check, in the caller's transaction, scoped to the nil organisation. The
// caller has authorised it.
func (r *Runner) Attest(ctx context.Context, tx pgx.Tx, p principal.Principal, a Attestation) (Observation, error) {
	c, err := r.Control(a.Control)
	if err != nil {
		return Observation{}, err
	}
	now := micro(r.Clock())
	latest := now.Add(c.Fresh)
	if a.Expires.IsZero() {
		a.Expires = latest
	}
	switch {
	case !c.Attested():
		return Observation{}, problem.New(problem.Denied, "control-checked", c.ID+" is checked by a machine: nobody's word stands in for that.").WithField("control").
			WithMend("Run it: `foundry controls run " + c.ID + "`.")
	case !ownerRule.MatchString(a.Owner):
		return Observation{}, problem.New(problem.Invalid, "attestation-owner", "The owner must be a role or an account's id: evidence is kept for ever and holds no names.").WithField("owner").
			WithMend("For example platform-security.")
	case strings.TrimSpace(a.Statement) == "" || len(a.Statement) > maxReason:
		return Observation{}, problem.New(problem.Invalid, "attestation-statement", fmt.Sprintf("An attestation needs a statement of 1 to %d bytes.", maxReason)).WithField("statement")
	case !a.Expires.After(now) || a.Expires.After(latest):
		return Observation{}, problem.New(problem.Invalid, "attestation-expiry", fmt.Sprintf("The attestation must expire after now and by %s.", latest.Format(time.DateOnly))).WithField("expires")
	}
	if err := registerIn(ctx, tx, r.Signer, r.Node); err != nil {
		return Observation{}, err
	}
	o := Observation{ID: uuid.Must(uuid.NewV7()), Run: uuid.Must(uuid.NewV7()), Control: c.ID, Scope: "", Subject: c.ID, Result: Pass, Reason: bounded(a.Statement),
		Covered: []string{"what the owner states, on the owner's word"}, NotCovered: []string{"whether it is so: no machine looked"},
		Observed: now, Effective: now, Expires: micro(a.Expires), Collector: attestation, Version: "1", Mode: r.Mode, Owner: a.Owner, RawHash: rawHash(nil)}
	r.Signer.sign(&o)
	if err := insert(ctx, tx, p, []Observation{o}); err != nil {
		return Observation{}, err
	}
	r.forget()
	return o, nil
}

var (
	stateDesc = prometheus.NewDesc("foundry_control_state", "1 for the state that the control is in.", []string{"control", "state"}, nil)
	ageDesc   = prometheus.NewDesc("foundry_control_evidence_age_seconds", "Age of the observation that decides.", []string{"control"}, nil)
	untilDesc = prometheus.NewDesc("foundry_control_fresh_seconds", "Seconds until the evidence stops counting; negative: it has.", []string{"control"}, nil)
)

// Describe implements prometheus.Collector.
func (r *Runner) Describe(ch chan<- *prometheus.Desc) {
	ch <- stateDesc
	ch <- ageDesc
	ch <- untilDesc
}

// Collect implements prometheus.Collector.
func (r *Runner) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	board, err := r.Board(ctx)
	if err != nil {
		return // nothing was ever read: no metric is better than a green one
	}
	now := r.Clock()
	for _, s := range board {
		for _, st := range States {
			v := 0.0
			if st == s.State {
				v = 1
			}
			ch <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, v, s.ID, string(st))
		}
		if !s.Since.IsZero() {
			ch <- prometheus.MustNewConstMetric(ageDesc, prometheus.GaugeValue, now.Sub(s.Since).Seconds(), s.ID)
			ch <- prometheus.MustNewConstMetric(untilDesc, prometheus.GaugeValue, s.Until.Sub(now).Seconds(), s.ID)
		}
	}
}
