package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// State is what has become of a function.
type State string

// States of a function after a loss.
const (
	Up        State = "up"
	Carried   State = "carried"   // a fallback serves it
	Degraded  State = "degraded"  // a fallback serves a part of it, or without its data
	Down      State = "down"      // nothing serves it until it is recovered
	Unstaffed State = "unstaffed" // it runs, and nobody is left who could recover it
	Unplaced  State = "unplaced"  // the plan does not say where it runs
)

// Outcome is what a loss does.
type Outcome struct {
	Lost      []Thing           `json:"lost"`
	Also      []Thing           `json:"also,omitempty"` // what goes with it
	Functions []FunctionOutcome `json:"functions"`      // those that are not simply up, the tightest first
	Notices   []Due             `json:"notices,omitempty"`
	Runbooks  []string          `json:"runbooks_lost,omitempty"` // that nobody can read now
	Backups   []string          `json:"backups_lost,omitempty"`
	Uncovered []string          `json:"uncovered,omitempty"` // what nobody covers, in sentences
}

// FunctionOutcome is what has become of one function.
type FunctionOutcome struct {
	Name     string    `json:"name"`
	State    State     `json:"state"`
	Because  []string  `json:"because,omitempty"`
	MTD      Span      `json:"mtd,omitzero"`
	RTO      Span      `json:"rto,omitzero"`
	RPO      Span      `json:"rpo,omitzero"`
	By       string    `json:"by,omitempty"`      // the fallback that carries it
	Refused  []string  `json:"refused,omitempty"` // fallbacks that cannot, and why
	Loss     *Estimate `json:"loss,omitempty"`    // of data, at worst; nil where it has none or nothing can be said
	LossSays string    `json:"loss_says,omitempty"`
	Plan     string    `json:"recovery,omitempty"` // recovery plan that brings it back
	Blocked  []string  `json:"blocked,omitempty"`  // recovery plans that cannot run now, and why
	Recovery *Estimate `json:"recovery_time,omitempty"`
	OverRTO  bool      `json:"over_rto,omitempty"`
	OverMTD  bool      `json:"over_mtd,omitempty"`
}

// Due is a notice that has to be sent.
type Due struct {
	Notice string `json:"notice"`
	To     string `json:"to"`
	Within Span   `json:"within,omitzero"`
	From   string `json:"from,omitempty"`
	Lost   bool   `json:"no_channel,omitempty"` // every channel it has is lost too
}

// Falls says what happens when things are lost together: which functions
// stop, what carries them, which clocks run, what data may be gone and what
// nobody covers.
func (p *Plan) Falls(m Measured, lost ...Thing) Outcome {
	w := &loss{p: p, m: m, gone: map[Thing]bool{}, states: map[string]*FunctionOutcome{}}
	for _, t := range lost {
		w.gone[t] = true
	}
	out := Outcome{Lost: lost, Functions: []FunctionOutcome{}}
	out.Also = w.spread()
	w.settle()
	for i := range p.Backups {
		if b := &p.Backups[i]; len(b.To) > 0 && !w.survives(b) {
			out.Backups = append(out.Backups, b.Name)
		}
	}
	for i := range p.Functions {
		o := w.states[p.Functions[i].Name]
		if o.State == Up {
			continue
		}
		w.recovery(&p.Functions[i], o)
		out.Functions = append(out.Functions, *o)
	}
	slices.SortStableFunc(out.Functions, func(a, b FunctionOutcome) int {
		if c := tightness(a) - tightness(b); c != 0 {
			return int(max(-1, min(1, c)))
		}
		return strings.Compare(a.Name, b.Name)
	})
	out.Runbooks = w.runbooks()
	if len(out.Functions) > 0 {
		out.Notices = w.notices()
	}
	out.Uncovered = w.uncovered(&out)
	return out
}

// tightness orders functions by the clock that ends first.
func tightness(f FunctionOutcome) time.Duration {
	for _, s := range []Span{f.RTO, f.MTD} {
		if s.Known() {
			return s.Longest()
		}
	}
	return 100 * year
}

type loss struct {
	p      *Plan
	m      Measured
	gone   map[Thing]bool
	states map[string]*FunctionOutcome
}

// spread adds what is lost with a supplier or site: its sites and nodes.
func (w *loss) spread() (also []Thing) {
	add := func(t Thing) {
		if !w.gone[t] {
			w.gone[t] = true
			also = append(also, t)
		}
	}
	for i := range w.p.Sites {
		if s := &w.p.Sites[i]; s.Supplier != "" && w.gone[Thing{KindSupplier, s.Supplier}] {
			add(Thing{KindSite, s.Name})
		}
	}
	for i := range w.p.Nodes {
		n := &w.p.Nodes[i]
		if n.Supplier != "" && w.gone[Thing{KindSupplier, n.Supplier}] || n.Site != "" && w.gone[Thing{KindSite, n.Site}] {
			add(Thing{KindNode, n.Name})
		}
	}
	slices.SortFunc(also, compareThings)
	return also
}

// settle finds the state of every function: what is lost directly first, then
// what needs something that is down, until nothing changes.
func (w *loss) settle() {
	for i := range w.p.Functions {
		f := &w.p.Functions[i]
		w.states[f.Name] = w.direct(f)
	}
	for changed := true; changed; {
		changed = false
		for i := range w.p.Functions {
			f := &w.p.Functions[i]
			o := w.states[f.Name]
			if o.State == Down {
				continue
			}
			for _, need := range f.Needs {
				other := w.states[need]
				if other == nil || other.State != Down && other.State != Degraded {
					continue
				}
				because := fmt.Sprintf("it needs %s, which is %s", need, other.State)
				if slices.Contains(o.Because, because) {
					continue
				}
				o.Because = append(o.Because, because)
				changed = true
				if other.State == Down {
					o.State, o.By = Down, ""
				} else if o.State != Unplaced {
					o.State = Degraded
				}
			}
		}
	}
}

// direct is the state of a function by its own hosts, suppliers and people.
func (w *loss) direct(f *Function) *FunctionOutcome {
	o := &FunctionOutcome{Name: f.Name, State: Up, MTD: f.MTD, RTO: f.RTO, RPO: f.RPO}
	if w.gone[Thing{KindFunction, f.Name}] {
		o.Because = append(o.Because, "it is lost")
	}
	var lostHosts []string
	for _, host := range f.Host {
		if w.gone[Thing{KindNode, host}] {
			lostHosts = append(lostHosts, host)
		}
	}
	if len(f.Host) > 0 && len(lostHosts) == len(f.Host) {
		o.Because = append(o.Because, "it runs on "+strings.Join(lostHosts, ", "))
	}
	for _, name := range f.Suppliers {
		if w.gone[Thing{KindSupplier, name}] {
			o.Because = append(o.Because, "it depends on supplier "+name)
		}
	}
	switch {
	case len(o.Because) > 0:
		o.State = Down
		w.carry(f, o)
	case len(f.Host) == 0 && len(f.Suppliers) == 0:
		o.State, o.Because = Unplaced, []string{"the plan does not say where it runs"}
	case w.nobody(f):
		o.State, o.Because = Unstaffed, []string{"nobody is left who could recover it: " + strings.Join(w.p.OperatorsOf(f), ", ")}
	}
	return o
}

// nobody reports whether everyone who recovers a function is lost, deputies too.
func (w *loss) nobody(f *Function) bool {
	operators := w.p.OperatorsOf(f)
	for _, name := range operators {
		if w.present(name, nil) {
			return false
		}
	}
	return len(operators) > 0
}

func (w *loss) present(name string, above []string) bool {
	if slices.Contains(above, name) {
		return false
	}
	if !w.gone[Thing{KindPerson, name}] {
		return true
	}
	person := w.p.Person(name)
	return person != nil && slices.ContainsFunc(person.Deputies, func(d string) bool { return w.present(d, append(above, name)) })
}

// carry looks for the first fallback that can serve the function now.
func (w *loss) carry(f *Function, o *FunctionOutcome) {
	for i := range f.Fallbacks {
		fb := &f.Fallbacks[i]
		name := fb.Node
		if name == "" {
			name = fb.Supplier
		}
		if why := w.unfit(f, fb); why != "" {
			o.Refused = append(o.Refused, name+": "+why)
			continue
		}
		o.State, o.By = Carried, name
		if fb.Serves == "non-critical" || fb.Data == "none" && w.p.keeps(f) {
			o.State = Degraded
		}
		if fb.Data == "replica" {
			o.Loss = &Estimate{}
			if fb.Lag.Known() {
				o.Loss.add(Part{Name: "replica behind", Takes: fb.Lag.Longest(), From: "plan", Says: "how far the replica may be behind"})
			} else {
				o.Loss.add(Part{Name: "replica behind", Takes: time.Minute, From: "assumed", Says: "nothing says how far the replica may be behind"})
			}
		}
		return
	}
}

// unfit is why a fallback cannot carry a function now, or "".
func (w *loss) unfit(f *Function, fb *Fallback) string {
	switch {
	case fb.Node != "" && w.gone[Thing{KindNode, fb.Node}]:
		return "it is lost too"
	case fb.Supplier != "" && w.gone[Thing{KindSupplier, fb.Supplier}]:
		return "it is lost too"
	case fb.State == "cold":
		return "it must be built first"
	case fb.Data == "backup":
		return "its data must be restored first"
	}
	if n := w.p.Node(fb.Node); n != nil && n.Isolated && !slices.ContainsFunc(f.Host, func(host string) bool { return w.p.together(n, host) }) {
		return "it is isolated from the others"
	}
	return ""
}

// together reports whether a node is a host, or isolated with it as one: nodes
// that are isolated and have one control plane.
func (p *Plan) together(n *Node, host string) bool {
	h := p.Node(host)
	return n.Name == host || h != nil && h.Isolated && n.Control != "" && h.Control == n.Control
}

// survives reports whether at least one copy of a backup is left.
func (w *loss) survives(b *Backup) bool {
	return slices.ContainsFunc(b.To, func(t BackupTarget) bool {
		return !(t.Node != "" && w.gone[Thing{KindNode, t.Node}] || t.Site != "" && w.gone[Thing{KindSite, t.Site}] || t.Supplier != "" && w.gone[Thing{KindSupplier, t.Supplier}])
	})
}

// recovery fills in what data may be lost, and what brings the function back
// by when.
func (w *loss) recovery(f *Function, o *FunctionOutcome) {
	if o.State != Down && o.State != Degraded && o.State != Carried {
		return
	}
	if o.Loss == nil && w.p.keeps(f) {
		o.Loss, o.LossSays = w.worstLoss(f)
	}
	for i := range w.p.Recovery {
		r := &w.p.Recovery[i]
		if !slices.Contains(r.Functions, f.Name) || !w.applies(r) {
			continue
		}
		if why := w.blocked(r); why != "" {
			o.Blocked = append(o.Blocked, fmt.Sprintf("%s: %s", r.Name, why))
			continue
		}
		e := w.p.RecoveryTime(r, f, w.m)
		if o.Recovery == nil || e.Total < o.Recovery.Total {
			o.Plan, o.Recovery = r.Name, &e
			o.OverRTO = f.RTO.Known() && e.Total-w.p.BeforeClock(r, e) > f.RTO.Longest()
			o.OverMTD = f.MTD.Known() && e.Total > f.MTD.Longest()
		}
	}
}

// applies reports whether a recovery plan is for this loss: a scenario that
// uses it loses something that is gone, or no scenario says what it loses.
func (w *loss) applies(r *RecoveryPlan) bool {
	named := false
	for _, node := range r.Onto {
		if w.gone[Thing{KindNode, node}] {
			return false
		}
	}
	for i := range w.p.Scenarios {
		s := &w.p.Scenarios[i]
		if !slices.Contains(s.Recovery, r.Name) {
			continue
		}
		for _, name := range s.Loses {
			named = true
			for _, kind := range []string{KindNode, KindSite, KindSupplier, KindPerson, KindFunction} {
				if w.gone[Thing{kind, name}] {
					return true
				}
			}
		}
	}
	return !named
}

// blocked is why a recovery plan cannot run now, or "": a step needs what is
// lost, and the plan itself does not bring it back before.
func (w *loss) blocked(r *RecoveryPlan) string {
	for i := range r.Steps {
		s := &r.Steps[i]
		switch {
		case s.Supplier != "" && w.gone[Thing{KindSupplier, s.Supplier}]:
			return fmt.Sprintf("its step %s needs supplier %s", s.Name, s.Supplier)
		case s.Node != "" && w.gone[Thing{KindNode, s.Node}] && s.Kind != "fence" && s.Kind != "isolate" && s.Kind != "capture" && s.Kind != "wipe" && s.Kind != "failback":
			return fmt.Sprintf("its step %s needs node %s", s.Name, s.Node)
		case len(s.By) > 0 && !slices.ContainsFunc(s.By, func(name string) bool { return w.present(name, nil) }):
			return fmt.Sprintf("its step %s needs %s", s.Name, strings.Join(s.By, " or "))
		case len(s.Approve) > 0 && !slices.ContainsFunc(s.Approve, func(name string) bool { return w.present(name, nil) }):
			return fmt.Sprintf("its step %s needs the approval of %s", s.Name, strings.Join(s.Approve, " or "))
		}
		for _, name := range s.Uses {
			if o := w.states[name]; o != nil && o.State == Down && !slices.Contains(r.Functions, name) {
				return fmt.Sprintf("its step %s uses %s, which is down", s.Name, name)
			}
		}
	}
	return ""
}

// keeps reports whether a function has data that cannot be made again.
func (p *Plan) keeps(f *Function) bool {
	return slices.ContainsFunc(f.Data, func(name string) bool { d := p.DataClass(name); return d == nil || d.Rebuilt == "" })
}

// worstLoss is the least that can be lost with the backups that are left.
func (w *loss) worstLoss(f *Function) (*Estimate, string) {
	var best *Estimate
	backups := w.p.BackupsOf(f)
	for _, b := range backups {
		if e := b.WorstLoss(w.m); w.survives(b) && (best == nil || e.Total < best.Total) {
			best = &e
		}
	}
	switch {
	case best != nil:
		return best, ""
	case len(backups) == 0:
		return nil, "all of it: it has no backup"
	default:
		return nil, "all of it: its backups are lost too, or the plan does not say where they lie"
	}
}

// runbooks lists those that nobody can read: stored only in functions that
// are down, and not printed.
func (w *loss) runbooks() (out []string) {
	for i := range w.p.Runbooks {
		b := &w.p.Runbooks[i]
		if b.Printed || len(b.StoredIn) == 0 {
			continue
		}
		if !slices.ContainsFunc(b.StoredIn, func(name string) bool { o := w.states[name]; return o == nil || o.State != Down }) {
			out = append(out, b.Name)
		}
	}
	return out
}

// notices lists what has to be sent, the most urgent first.
func (w *loss) notices() (out []Due) {
	event := "outage"
	for t := range w.gone {
		switch t.Kind {
		case KindPerson:
			event = "person-away"
		case KindSupplier:
			event = "supplier-loss"
		}
	}
	for i := range w.p.Notices {
		n := &w.p.Notices[i]
		if n.Event != event && n.Event != "outage" {
			continue
		}
		lost := len(n.Channels) > 0 && !slices.ContainsFunc(n.Channels, func(c Channel) bool {
			o := w.states[c.Function]
			return (o == nil || o.State != Down) && !(c.Supplier != "" && w.gone[Thing{KindSupplier, c.Supplier}])
		})
		out = append(out, Due{Notice: n.Name, To: n.To, Within: n.Within, From: n.From, Lost: lost})
	}
	slices.SortStableFunc(out, func(a, b Due) int {
		if a.Within.Known() != b.Within.Known() {
			if a.Within.Known() {
				return -1
			}
			return 1
		}
		return int(max(-1, min(1, a.Within.Longest()-b.Within.Longest())))
	})
	return out
}

// uncovered says in sentences what nobody covers.
func (w *loss) uncovered(o *Outcome) (out []string) {
	for _, f := range o.Functions {
		switch {
		case f.State == Down && f.Plan == "" && len(f.Blocked) > 0:
			out = append(out, fmt.Sprintf("%s is down, and what would bring it back cannot run: %s.", f.Name, strings.Join(f.Blocked, "; ")))
		case f.State == Down && f.Plan == "":
			out = append(out, fmt.Sprintf("%s is down: no fallback carries it and no recovery plan brings it back.", f.Name))
		case f.State == Down && f.OverMTD:
			out = append(out, fmt.Sprintf("%s comes back after about %s; more than %s cannot be tolerated.", f.Name, FormatDuration(f.Recovery.Total), f.MTD))
		case f.State == Down && f.OverRTO:
			out = append(out, fmt.Sprintf("%s comes back after about %s; its objective is %s.", f.Name, FormatDuration(f.Recovery.Total), f.RTO))
		case f.State == Unstaffed:
			out = append(out, fmt.Sprintf("%s runs on, and nobody is left who could recover it.", f.Name))
		}
		if f.LossSays != "" {
			out = append(out, fmt.Sprintf("The data of %s: %s.", f.Name, f.LossSays))
		} else if f.Loss != nil && f.RPO.Known() && f.Loss.Total > f.RPO.Longest() {
			out = append(out, fmt.Sprintf("%s can lose %s of data; its objective is %s.", f.Name, FormatDuration(f.Loss.Total), f.RPO))
		}
	}
	for _, n := range o.Notices {
		if n.Lost {
			out = append(out, fmt.Sprintf("The notice %s has no channel left.", n.Notice))
		}
	}
	for _, name := range o.Runbooks {
		out = append(out, fmt.Sprintf("The runbook %s is stored where nobody can read it now.", name))
	}
	return out
}

func (p *Plan) unknownThing(name string, all []Thing) error {
	var names []string
	for _, t := range all {
		names = append(names, t.Name)
	}
	mend := "Name a node, site, supplier, person or function of the plan."
	if near := config.Nearest(name, names); near != "" {
		mend = fmt.Sprintf("Did you mean %q?", near)
	}
	return problemOf("plan-unknown-name", fmt.Sprintf("The plan has nothing named %q.", name), mend)
}

func problemOf(code, detail, mend string) error {
	return problem.New(problem.Invalid, code, detail).WithMend(mend)
}
