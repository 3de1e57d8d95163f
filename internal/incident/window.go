package incident

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Window is where people work on incidents. It asks whether they may, fills in
// what the plan says, and needs no database.
type Window struct {
	Book   *Book
	Plan   func() *plan.Plan // in force; nil: none
	Signer *evidence.Signer  // of exports
	Large  *Keep             // of evidence; nil: only small things are kept
}

// ErrNone says that this node keeps no incidents.
var ErrNone = problem.New(problem.Unavailable, "incident-off", "This node belongs to no fleet, and incidents lie in the fleet's store.").WithMend("Remove fleet.off from its configuration, or ask a node that belongs to one.")

func (w *Window) there() error {
	if w == nil || w.Book == nil {
		return ErrNone
	}
	return nil
}

func (w *Window) plan() *plan.Plan {
	if w.Plan == nil {
		return nil
	}
	return w.Plan()
}

// List gives every incident in a line, the newest first. One whose timeline
// cannot be believed is there too, and says so.
func (w *Window) List(ctx context.Context, p principal.Principal) ([]Summary, error) {
	if err := w.there(); err != nil {
		return nil, err
	}
	all, bad, err := w.Book.List(ctx, p)
	if err != nil {
		return nil, err
	}
	out := []Summary{}
	for id, why := range bad {
		out = append(out, Summary{ID: id, Broken: problem.From(why).Detail, Down: []Down{}})
	}
	slices.SortFunc(out, func(a, b Summary) int { return strings.Compare(a.ID, b.ID) })
	for _, t := range all {
		out = append(out, t.Summary(w.Book.Clock()))
	}
	return out, nil
}

// Show is one incident as it is needed at three in the morning. "latest" is
// the newest that is open.
func (w *Window) Show(ctx context.Context, p principal.Principal, id string) (Brief, error) {
	t, err := w.Timeline(ctx, p, id)
	if err != nil {
		return Brief{}, err
	}
	return t.Brief(w.Book.Clock()), nil
}

// Latest stands for the newest incident that is open.
const Latest = "latest"

// Timeline is one incident with all its entries.
func (w *Window) Timeline(ctx context.Context, p principal.Principal, id string) (*Timeline, error) {
	if err := w.there(); err != nil {
		return nil, err
	}
	if id != Latest {
		return w.Book.Read(ctx, p, id)
	}
	all, _, err := w.Book.List(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		if t.State.ClosedAt.IsZero() {
			return t, nil
		}
	}
	return nil, problem.New(problem.NotFound, "incident-none", "No incident is open.").WithMend("`foundry incident open` begins one; `foundry incident list` shows those of the past.")
}

// Begin is what somebody says who opens an incident. Lost names things of the
// plan: what is down with them follows from it.
type Begin struct {
	Title     string    `json:"title"`
	Category  Category  `json:"category,omitempty"` // default: by the scenario, or outage
	Mode      Mode      `json:"mode,omitempty"`
	Scenario  string    `json:"scenario,omitempty"`
	Lost      []string  `json:"lost,omitempty"`
	Nodes     []string  `json:"nodes,omitempty"`
	Functions []string  `json:"functions,omitempty"`
	Clients   []string  `json:"clients,omitempty"`
	Started   time.Time `json:"started_at,omitzero"`
	Detected  time.Time `json:"detected_at,omitzero"`
	Words     string    `json:"words,omitempty"`
	Follows   string    `json:"follows,omitempty"`
}

// Open begins an incident by hand.
func (w *Window) Open(ctx context.Context, p principal.Principal, in Begin) (Brief, error) {
	if err := w.there(); err != nil {
		return Brief{}, err
	}
	if err := w.Book.may(ctx, p, "incident.open", ""); err != nil {
		return Brief{}, err
	}
	o, err := w.opening(in)
	if err != nil {
		return Brief{}, err
	}
	t, err := w.Book.Open(ctx, p, o)
	if err != nil {
		return Brief{}, err
	}
	return t.Brief(w.Book.Clock()), nil
}

func (w *Window) opening(in Begin) (Opened, error) {
	pl, now := w.plan(), w.Book.Clock()
	var lost []plan.Thing
	for _, name := range in.Lost {
		if pl == nil {
			return Opened{}, invalid("lost", "No plan is in force: it is not known what is lost with "+name+".", "Name the nodes, functions and clients themselves.")
		}
		t, err := pl.Thing(name)
		if err != nil {
			return Opened{}, err
		}
		lost = append(lost, t)
	}
	var sc *plan.Scenario
	if pl != nil && in.Scenario != "" {
		for i := range pl.Scenarios {
			if pl.Scenarios[i].Name == in.Scenario {
				sc = &pl.Scenarios[i]
			}
		}
		if sc == nil {
			return Opened{}, invalid("scenario", fmt.Sprintf("The plan has no scenario %q.", in.Scenario), "Use one of the plan's, or leave it out.")
		}
		if len(lost) == 0 {
			for _, name := range sc.Loses {
				if t, err := pl.Thing(name); err == nil {
					lost = append(lost, t)
				}
			}
		}
	} else if sc = ScenarioOf(pl, lost...); sc != nil {
		in.Scenario = sc.Name
	}
	scope := Reached(pl, lost...)
	scope.Nodes, scope.Functions, scope.Clients = joined(scope.Nodes, in.Nodes), joined(scope.Functions, in.Functions), joined(scope.Clients, in.Clients)
	o := Opened{Title: in.Title, Category: in.Category, Mode: in.Mode, Scenario: in.Scenario, Started: in.Started, Detected: in.Detected, Scope: scope, Words: in.Words, Follows: in.Follows}
	if o.Category == "" {
		o.Category = CategoryOf(sc)
	}
	if o.Detected.IsZero() {
		o.Detected = now
	}
	if o.Started.IsZero() {
		o.Started = o.Detected
	}
	return plannedOpening(pl, o), nil
}

// Write adds one entry, as JSON of its kind; instants that are left out are
// now. Clocks follow from the plan: those that somebody sends are not taken.
func (w *Window) Write(ctx context.Context, p principal.Principal, id string, kind Kind, body json.RawMessage) (Brief, *Entry, error) {
	if err := w.there(); err != nil {
		return Brief{}, nil, err
	}
	b := bodyOf(kind)
	switch kind {
	case KindOpened, KindAnchor, KindClock:
		b = nil
	}
	if b == nil {
		return Brief{}, nil, invalid("kind", fmt.Sprintf("Nobody writes entries of the kind %q.", kind), "Use note, signal, fact, phase, role, scope, decision, approval, assessment, quarantine, evidence, hold, communication, action, review, plan-revision, act or closed.")
	}
	act := actOf(kind)
	if err := w.Book.may(ctx, p, act, id); err != nil { // before anything is said about what was sent
		return Brief{}, nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(b); err != nil {
		return Brief{}, nil, invalid("body", "It is no "+string(kind)+": "+err.Error()+".", "`foundry incident --help` lists what there is.")
	}
	if id == Latest {
		t, err := w.Timeline(ctx, p, id)
		if err != nil {
			return Brief{}, nil, err
		}
		id = t.State.ID
	}
	t, err := w.Book.load(ctx, id)
	if err != nil {
		return Brief{}, nil, err
	}
	if err := w.complete(t.State, b); err != nil {
		return Brief{}, nil, err
	}
	e, t, err := w.Book.Append(ctx, p, id, b)
	if err != nil {
		return Brief{}, nil, w.refused(ctx, p, id, b, err)
	}
	return t.Brief(w.Book.Clock()), e, nil
}

func actOf(kind Kind) policy.Action {
	if act, ok := acts[kind]; ok {
		return act
	}
	return "incident.append"
}

// refused leaves in the timeline that somebody tried to approve who may not:
// who looks later has to see it.
func (w *Window) refused(ctx context.Context, p principal.Principal, id string, b Body, err error) error {
	if a, ok := b.(*Approval); ok && (codeIs(err, "incident-approved-twice") || codeIs(err, "incident-approver-unknown")) {
		_, _, _ = w.Book.append(ctx, p, id, &Act{Act: "incident.approval-refused", Target: fmt.Sprintf("entry %d", a.Of), Outcome: "refused", Words: problem.From(err).Detail})
	}
	return err
}

// complete fills in what was left out.
func (w *Window) complete(s *State, b Body) error {
	now := w.Book.Clock()
	set := func(t *time.Time) {
		if t.IsZero() {
			*t = now
		}
	}
	switch b := b.(type) {
	case *Signal:
		set(&b.At)
	case *Fact:
		set(&b.At)
	case *Quarantine:
		set(&b.At)
	case *Evidence:
		set(&b.Taken)
	case *Review:
		set(&b.Held)
	case *Notice:
		if b.Step == Accepted {
			set(&b.At)
		}
		return w.compose(s, b)
	case *Scope:
		b.Rules, b.Plan = nil, ""
		if p := w.plan(); p != nil {
			b.Plan, b.Rules = p.Hash(), clock.Rules(p, w.scopeOf(s, b))
		}
	case *Assessment:
		if b.Personal {
			set(&b.Aware)
			if since := s.Known(clock.Aware, ""); since != nil && b.Aware.Equal(now) {
				b.Aware = earliest(s.Facts, clock.Aware)
			}
		}
		b.Rules = w.assessed(s, b)
	}
	return nil
}

func (w *Window) scopeOf(s *State, more *Scope) clock.Scope {
	out := clock.Scope{Events: []string{string(s.Category)}, Scenario: s.Scenario, Functions: joined(s.Scope.Functions, more.Functions), Clients: joined(s.Scope.Clients, more.Clients),
		Isolate: isolated(s.Category, joined(s.Scope.Nodes, more.Nodes))}
	if a := s.Assessment(); a != nil && a.Personal {
		out.Personal = clock.Personal{Controller: a.Controller, Processor: a.Processor, High: a.Risk == RiskHigh, Regimes: a.Regimes}
	}
	return out
}

// assessed are the clocks that an assessment sets going: those of the law, with
// or without a plan.
func (w *Window) assessed(s *State, b *Assessment) []clock.Rule {
	if !b.Personal {
		return nil
	}
	sc := clock.Scope{Events: []string{string(Personal)}, Scenario: s.Scenario, Functions: s.Scope.Functions, Clients: s.Scope.Clients,
		Personal: clock.Personal{Controller: b.Controller, Processor: b.Processor, High: b.Risk == RiskHigh, Regimes: b.Regimes}}
	return slices.DeleteFunc(clock.Rules(w.plan(), sc), func(r clock.Rule) bool {
		return !slices.Contains([]clock.Kind{clock.Regulator, clock.Controller, clock.Subjects, clock.Notice}, r.Kind) || r.Kind == clock.Notice && w.plan() == nil
	})
}

// compose writes a draft's text, and takes over what the plan's rule wants said.
func (w *Window) compose(s *State, n *Notice) error {
	if n.Step != Drafted {
		return nil
	}
	if p := w.plan(); p != nil {
		for i := range p.Notices {
			r := &p.Notices[i]
			if r.Event == string(s.Category) && (r.To == n.To || r.To == "clients" && n.Audience == ToClient || r.To == "regulator" && n.Audience == ToRegulator) {
				n.States = joined(n.States, r.States)
			}
		}
	}
	if n.Text != "" {
		return nil
	}
	if _, ok := required[n.Audience]; !ok {
		return nil // check says what is wrong
	}
	text, err := s.Compose(n)
	n.Text = text
	return err
}

// File is an export.
type File struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Bytes []byte `json:"bytes"`
}

// Formats of exports.
var Formats = []string{"archive", "html", "pdf"}

// Export writes an incident as a file: the signed archive that proves, or a
// page to read. That it was taken along is in the timeline's next anchor only:
// an export changes nothing.
func (w *Window) Export(ctx context.Context, p principal.Principal, id, format string, zone *time.Location) (File, error) {
	t, err := w.Timeline(ctx, p, id)
	if err != nil {
		return File{}, err
	}
	var out bytes.Buffer
	now := w.Book.Clock()
	f := File{Name: t.State.ID}
	switch format {
	case "archive":
		if w.Signer == nil {
			return File{}, problem.New(problem.Unavailable, "incident-unsigned", "This node has no key to sign with.").WithMend("Ask another node.")
		}
		f.Name, f.Type = f.Name+".incident", "text/plain; charset=utf-8"
		err = Export(&out, t, w.Signer, p.String(), now)
	case "html":
		f.Name, f.Type = f.Name+".html", "text/html; charset=utf-8"
		err = HTML(&out, t, zone, now)
	case "pdf":
		f.Name, f.Type = f.Name+".pdf", "application/pdf"
		err = PDF(&out, t, zone, now)
	default:
		return File{}, invalid("format", fmt.Sprintf("There is no format %q.", format), "Use "+strings.Join(Formats, ", ")+".")
	}
	f.Bytes = out.Bytes()
	return f, err
}
