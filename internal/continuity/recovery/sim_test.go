package recovery

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/plan"
	"pgregory.net/rapid"
)

// The simulation has leaders that die between any two of their writes, doers
// that fail, hang, do not know, answer late or twice, and people who approve,
// reject, retry, skip and say things, the wrong ones too. It uses the very
// functions that the executor decides by, in the executor's order.
type sim struct {
	t    *rapid.T
	p    *plan.Plan
	run  Run // as the store has it
	rev  int
	now  time.Time
	log  map[string]bool // the timeline: what was written once
	hash map[string]bool // receipts in the timeline

	epoch   int64
	lead    *leader
	can     map[string]bool // kinds that have a doer
	again   map[string]bool // kinds that may be done again
	looks   map[string]bool // kinds that can be looked at
	inForce string

	did      []effect
	fenced   map[string]bool   // nodes that were really fenced
	valid    map[string]string // what the last validation really said, by step
	retried  map[string]int
	resolved bool // people do what they are asked, doers succeed
}

// effect is a call of a doer.
type effect struct {
	step    string
	attempt int
	epoch   int64
	done    bool // it took effect
}

// leader is one process while it leads.
type leader struct {
	epoch  int64
	mine   map[string]*flight
	over   []flight
	passed map[string]passing
	begun  map[string]int

	r     *Run // what it is about to write
	rev   int
	a     action
	w     *World
	phase int // 0: nothing, 1: decided, 2: entered
}

// flight is an attempt that a leader is at.
type flight struct {
	step    string
	attempt int
	receipt Receipt
	hand    bool
	again   bool
}

var simKinds = []string{"fence", "promote", "restore", "start", "validate", "dns", "notify", "decide", "approve", "confirm", "failback", "wipe", "reconcile", "review"}

// simPlan draws a recovery plan.
func simPlan(t *rapid.T) *plan.Plan {
	var b strings.Builder
	b.WriteString("version: 1\norganisation: {name: Sim, approvals: " + fmt.Sprint(rapid.IntRange(1, 2).Draw(t, "approvals")) + ", approvers: [ann, bob, cid]}\npeople: [{name: ann}, {name: bob}, {name: cid}]\n")
	b.WriteString("nodes: [{name: n1}, {name: n2}]\nfunctions: [{name: f1, host: [n1]}, {name: f2, host: [n1]}]\nrecovery:\n  - name: back\n    functions: [f1, f2]\n    onto: [n2]\n    starts: " + rapid.SampledFrom([]string{"person", "automatic"}).Draw(t, "starts") + "\n    steps:\n")
	n := rapid.IntRange(1, 7).Draw(t, "steps")
	for i := range n {
		kind := rapid.SampledFrom(simKinds).Draw(t, "kind")
		if i == 0 && rapid.Bool().Draw(t, "fence first") {
			kind = "fence"
		}
		fmt.Fprintf(&b, "      - {name: s%d, kind: %s, takes: 1 min", i, kind)
		if i > 0 && rapid.Bool().Draw(t, "after") {
			fmt.Fprintf(&b, ", after: [s%d]", rapid.IntRange(0, i-1).Draw(t, "which"))
		}
		if rapid.IntRange(0, 4).Draw(t, "some functions") == 0 {
			fmt.Fprintf(&b, ", functions: [f%d]", rapid.IntRange(1, 2).Draw(t, "function"))
		}
		if rapid.IntRange(0, 5).Draw(t, "approved") == 0 {
			b.WriteString(", approved_by: [ann, bob]")
		}
		if kind == "fence" {
			b.WriteString(", node: n1")
		}
		b.WriteString("}\n")
	}
	p, err := plan.Parse("fleet.yaml", []byte(b.String()))
	if err != nil {
		t.Fatalf("the plan that was drawn is none: %v\n%s", err, b.String())
	}
	return p
}

func newSim(t *rapid.T) *sim {
	p := simPlan(t)
	s := &sim{t: t, p: p, now: time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC), log: map[string]bool{}, hash: map[string]bool{}, can: map[string]bool{}, again: map[string]bool{}, looks: map[string]bool{},
		fenced: map[string]bool{}, valid: map[string]string{}, retried: map[string]int{}, inForce: p.Hash()}
	for _, kind := range simKinds {
		if spoken[kind] == "" {
			s.can[kind] = rapid.IntRange(0, 3).Draw(t, "doer "+kind) > 0
			s.again[kind], s.looks[kind] = rapid.Bool().Draw(t, "again "+kind), rapid.Bool().Draw(t, "look "+kind)
		}
	}
	s.run = fresh(p, p.RecoveryPlan("back"), Start{Incident: "inc-1"}, "person:starter", s.now)
	s.run.ID, s.run.Lost = "rec-1", []string{"n1"}
	return s
}

func clone(r Run) Run {
	r.Steps, r.Reign, r.Restored = slices.Clone(r.Steps), slices.Clone(r.Reign), slices.Clone(r.Restored)
	for i := range r.Steps {
		s := &r.Steps[i]
		s.Said, s.Earlier = slices.Clone(s.Said), slices.Clone(s.Earlier)
	}
	return r
}

func (s *sim) world(l *leader, r *Run) *World {
	w := &World{Now: s.now, Epoch: l.epoch, Node: fmt.Sprintf("l%d", l.epoch), Plan: s.p, InForce: s.inForce, Incident: incident.Fold(nil), Doers: s.can, Mine: map[string]int{}, Passed: map[string]instant{}, Spares: map[string]bool{}}
	for name, f := range l.mine {
		w.Mine[name] = f.attempt
	}
	for _, f := range l.over {
		w.Mine[f.step] = f.attempt
	}
	for name, p := range l.passed {
		w.Passed[name] = instant{p.attempt, s.now.Sub(p.at)}
	}
	return w
}

// elect ends the leader, wherever it is, and has another lead.
func (s *sim) elect() {
	s.epoch += 10
	s.lead = &leader{epoch: s.epoch, mine: map[string]*flight{}, passed: map[string]passing{}, begun: map[string]int{}}
}

// think has the leader take one step of its own: decide, enter, write and do.
// It says whether there was something to do.
func (s *sim) think() bool {
	l := s.lead
	switch l.phase {
	case 0:
		r := clone(s.run)
		l.r, l.rev, l.w = &r, s.rev, s.world(l, &r)
		if !r.Ended.IsZero() {
			return false
		}
		if r.Abandon != nil {
			for name, f := range l.mine { // told to end
				f.receipt = Receipt{Outcome: Indeterminate, Ended: s.now}
				l.over = append(l.over, *f)
				delete(l.mine, name)
			}
		}
		a, ok := s.taken(l)
		if !ok {
			a, ok = next(l.r, l.w)
		}
		if !ok {
			return false
		}
		l.a, l.phase = a, 1
	case 1:
		if e := entry(l.r, l.a, l.w); e != nil {
			if e.Once == "" {
				s.t.Fatalf("an entry has no name of its own: %+v", e)
			}
			s.log[e.Once] = true
			s.hash[e.Facts["receipt"]] = true
		}
		l.phase = 2
	case 2:
		l.phase = 0
		if l.rev != s.rev {
			return true // somebody was faster
		}
		if l.a.what == actBegin {
			l.begun[l.r.Steps[l.a.step].Name] = l.r.Steps[l.a.step].Attempt + 1
		}
		s.check(l)
		apply(l.r, l.a, l.w)
		s.run, s.rev = clone(*l.r), s.rev+1
		if rapid.IntRange(0, 30).Draw(s.t, "dies before it acts") == 0 && !s.resolved {
			s.elect()
			return true
		}
		s.act(l)
	}
	return true
}

// taken takes the next attempt that has ended.
func (s *sim) taken(l *leader) (action, bool) {
	for len(l.over) > 0 {
		x := l.over[0]
		i := slices.IndexFunc(l.r.Steps, func(st StepState) bool { return st.Name == x.step })
		if l.r.Steps[i].State != Running || l.r.Steps[i].Attempt != x.attempt || l.r.Steps[i].Epoch != l.epoch {
			l.over = l.over[1:]
			continue
		}
		if x.hand {
			return action{what: actHand, step: i, need: byPerson(l.r, i, l.w, "not here")}, true
		}
		if x.again {
			return action{what: actAgain, step: i, words: "too old"}, true
		}
		receipt := filled(x.receipt, l.r, &l.r.Steps[i], l.w)
		return action{what: actSettle, step: i, receipt: &receipt}, true
	}
	return action{}, false
}

// act does what was written.
func (s *sim) act(l *leader) {
	if l.a.step < 0 {
		return
	}
	st := &s.run.Steps[l.a.step]
	look := l.begun[st.Name] != st.Attempt
	switch l.a.what {
	case actBegin:
		look = false
	case actResume:
	default:
		if st.State == Done && st.Kind == "validate" && (l.a.what == actSettle || l.a.what == actHear) {
			l.passed[st.Name] = passing{st.Attempt, s.now}
			s.valid[st.Name] = "passed"
		}
		return
	}
	f := &flight{step: st.Name, attempt: st.Attempt}
	l.mine[st.Name] = f
	if look {
		k := slices.IndexFunc(s.did, func(e effect) bool { return e.step == st.Name && e.attempt == st.Attempt })
		switch {
		case !s.can[st.Kind]:
			s.end(f, Receipt{Outcome: Indeterminate})
			return
		case s.looks[st.Kind] && k >= 0 && s.did[k].done:
			s.end(f, s.done(st))
			return
		case !s.again[st.Kind]:
			s.end(f, Receipt{Outcome: Indeterminate})
			return
		case names(&s.run, s.p.RecoveryPlan("back"), l.a.step, s.world(l, &s.run)) != nil:
			f.again = true
			s.end(f, Receipt{})
			return
		}
	}
	s.do(st, f)
}

func (s *sim) end(f *flight, r Receipt) {
	r.Ended = s.now
	f.receipt = r
	delete(s.lead.mine, f.step)
	s.lead.over = append(s.lead.over, *f)
	if !s.resolved && rapid.IntRange(0, 9).Draw(s.t, "answers twice") == 0 {
		s.lead.over = append(s.lead.over, *f)
	}
}

// done is the receipt of a doer that succeeds.
func (s *sim) done(st *StepState) Receipt {
	r := Receipt{Outcome: Done}
	if st.Kind == "fence" {
		s.fenced["n1"] = true
		r.Fences = []Fence{{Node: "n1", By: FencedByPower, Facts: map[string]string{"state": "off"}}}
	}
	return r
}

// do calls a doer: here everything must hold that the gates are for.
func (s *sim) do(st *StepState, f *flight) {
	s.allowed(st)
	e := effect{step: st.Name, attempt: st.Attempt, epoch: s.lead.epoch, done: true}
	outcome := "done"
	if !s.resolved {
		outcome = rapid.SampledFrom([]string{"done", "done", "done", "failed", "indeterminate", "hand", "hangs", "unfenced"}).Draw(s.t, "outcome of "+st.Kind)
	}
	if st.Kind == "validate" {
		s.valid[st.Name] = outcome
	}
	switch outcome {
	case "done":
		s.did = append(s.did, e)
		s.end(f, s.done(st))
	case "failed":
		e.done = false
		s.did = append(s.did, e)
		s.end(f, Receipt{Outcome: Failed})
	case "unfenced": // it says done, and nothing was read back
		s.did = append(s.did, e)
		s.end(f, Receipt{Outcome: Done, Fences: []Fence{{Node: "n1", By: FencedByPower}}})
		if st.Kind == "validate" {
			s.valid[st.Name] = "done"
		}
	case "indeterminate":
		s.did = append(s.did, e)
		s.end(f, Receipt{Outcome: Indeterminate})
	case "hand":
		e.done = false
		s.did = append(s.did, e)
		f.hand = true
		s.end(f, Receipt{})
	case "hangs":
		s.did = append(s.did, e)
	}
}

// allowed fails where a doer is called that must not be.
func (s *sim) allowed(st *StepState) {
	rp := s.p.RecoveryPlan("back")
	i := slices.IndexFunc(s.run.Steps, func(o StepState) bool { return o.Name == st.Name })
	for _, k := range after(rp, i) {
		if !s.run.Steps[k].State.Over() {
			s.t.Fatalf("%s (%s) is done before %s has ended", st.Name, st.Kind, s.run.Steps[k].Name)
		}
	}
	if s.lead.epoch < s.epoch {
		s.t.Fatalf("epoch %d acts after epoch %d", s.lead.epoch, s.epoch)
	}
	if !s.run.Ended.IsZero() {
		s.t.Fatalf("%s is done after the run has ended", st.Name)
	}
	if slices.Contains([]string{"promote", "restore", "start"}, st.Kind) && !s.fenced["n1"] {
		s.t.Fatalf("%s (%s) is done and n1 was never fenced", st.Name, st.Kind)
	}
	if st.Kind == "dns" {
		s.movable(rp, i)
	}
	for _, e := range s.did {
		if e.step == st.Name && e.attempt == st.Attempt && !s.again[st.Kind] {
			s.t.Fatalf("%s (%s), attempt %d, is done twice", st.Name, st.Kind, st.Attempt)
		}
	}
	attempts := map[int]bool{st.Attempt: true}
	for _, e := range s.did {
		if e.step == st.Name {
			attempts[e.attempt] = true
		}
	}
	if st.Kind != "validate" && !s.again[st.Kind] && len(attempts) > 1+s.retried[st.Name] {
		s.t.Fatalf("%s (%s) is done in %d attempts and was tried again %d times", st.Name, st.Kind, len(attempts), s.retried[st.Name])
	}
	s.approved(st, &rp.Steps[i])
}

func (s *sim) movable(rp *plan.RecoveryPlan, i int) {
	for _, f := range functionsOf(rp, &rp.Steps[i]) {
		covered := false
		for k := range rp.Steps {
			v := &s.run.Steps[k]
			if v.Kind != "validate" || !slices.Contains(functionsOf(rp, &rp.Steps[k]), f) || follows(rp, k, i) {
				continue
			}
			covered = true
			if v.State != Done || s.valid[v.Name] != "done" && s.valid[v.Name] != "passed" {
				s.t.Fatalf("names of %s move while %s is %s (%s)", f, v.Name, v.State, s.valid[v.Name])
			}
			if s.now.Sub(v.Ended) > stale {
				s.t.Fatalf("names of %s move %s after %s", f, s.now.Sub(v.Ended), v.Name)
			}
			for m := range rp.Steps {
				o := &s.run.Steps[m]
				if slices.Contains([]string{"promote", "restore", "start"}, o.Kind) && slices.Contains(functionsOf(rp, &rp.Steps[m]), f) && o.From > 0 && (o.To < o.From || o.To > v.From) {
					s.t.Fatalf("names of %s move by %s, which is from before %s has ended", f, v.Name, o.Name)
				}
			}
		}
		if !covered {
			s.t.Fatalf("names of %s move and nothing validates it", f)
		}
	}
}

func (s *sim) approved(st *StepState, ps *plan.Step) {
	needs := len(ps.Approve) > 0 || slices.Contains([]string{"failback", "wipe", "restore"}, st.Kind)
	if !needs {
		return
	}
	by := map[string]string{}
	for _, said := range st.Said {
		if said.Round == st.Round && said.What == SaidApprove {
			by[said.By] = said.Person
		}
		if said.Round == st.Round && said.What == SaidReject {
			delete(by, said.By)
		}
	}
	if len(ps.Approve) > 0 {
		maps.DeleteFunc(by, func(_, person string) bool { return !slices.Contains(ps.Approve, person) })
		if _, own := by[s.run.Starter]; own && len(by) == 1 || len(by) < s.p.Organisation.Approvals {
			s.t.Fatalf("%s (%s) is done by the word of %v, and the plan wants %d of %v", st.Name, st.Kind, by, s.p.Organisation.Approvals, ps.Approve)
		}
	}
	if len(by) == 0 {
		s.t.Fatalf("%s (%s) is done and nobody has agreed", st.Name, st.Kind)
	}
}

// check looks at a change before it is made.
func (s *sim) check(l *leader) {
	if n := len(s.run.Reign); n > 0 && s.run.Reign[n-1].Epoch > l.epoch {
		s.t.Fatalf("epoch %d writes after epoch %d", l.epoch, s.run.Reign[n-1].Epoch)
	}
	if l.a.what != actSettle && l.a.what != actHear || l.a.receipt == nil {
		return
	}
	st := &s.run.Steps[l.a.step]
	if e := entry(l.r, l.a, l.w); !s.log[e.Once] {
		s.t.Fatalf("%s ends and the timeline does not say so", st.Name)
	}
}

var simPeople = []struct{ by, person string }{{"person:1", "ann"}, {"person:2", "bob"}, {"person:3", "cid"}, {"person:starter", "ann"}, {"person:9", ""}, {"local:uid=0", ""}}

// speak has somebody say something of a step, sensible or not.
func (s *sim) speak() {
	if len(s.run.Steps) == 0 || !s.run.Ended.IsZero() {
		return
	}
	st := &s.run.Steps[rapid.IntRange(0, len(s.run.Steps)-1).Draw(s.t, "of step")]
	who := rapid.SampledFrom(simPeople).Draw(s.t, "who")
	said := Saying{What: rapid.SampledFrom([]string{SaidApprove, SaidApprove, SaidReject, SaidDecided, SaidDone, SaidFailed, SaidRetry, SaidSkip}).Draw(s.t, "what"), By: who.by, Person: who.person, At: s.now, Attempt: st.Attempt, Round: st.Round}
	if rapid.IntRange(0, 5).Draw(s.t, "of an attempt before") == 0 {
		said.Attempt--
	}
	if rapid.Bool().Draw(s.t, "shown") {
		said.Evidence, said.Facts = []string{"ticket 7"}, map[string]string{"fenced-by": rapid.SampledFrom([]string{FencedByPower, FencedByLease}).Draw(s.t, "by"), "state": "off"}
	}
	s.say(st, said)
}

func (s *sim) say(st *StepState, said Saying) {
	st.Said = append(st.Said, said)
	s.rev++
	if said.What == SaidRetry {
		s.retried[st.Name]++
	}
	if said.What == SaidDone && st.Kind == "fence" && fenceSaid(&said) {
		s.fenced["n1"] = true // they say so, and mean it
	}
}

// helpful has people do what they are asked.
func (s *sim) helpful() bool {
	for i := range s.run.Steps {
		st := &s.run.Steps[i]
		if st.Need == nil || st.Heard < len(st.Said) {
			continue
		}
		said := Saying{At: s.now, Attempt: st.Attempt, Round: st.Round, By: "person:1", Person: "ann", Words: "so it is"}
		switch st.Need.What {
		case NeedApprove:
			for _, who := range simPeople[:3] {
				said.What, said.By, said.Person = SaidApprove, who.by, who.person
				s.say(st, said)
			}
			return true
		case NeedDecide:
			said.What = SaidDecided
		case NeedSay:
			for _, who := range simPeople[:2] {
				said.What, said.By, said.Person = SaidDone, who.by, who.person
				said.Evidence, said.Facts = []string{"ticket 8"}, map[string]string{"fenced-by": FencedByPower, "state": "off"}
				s.say(st, said)
			}
			return true
		case NeedHelp:
			said.What = SaidRetry
		}
		s.say(st, said)
		return true
	}
	return false
}

func TestWhateverHappensTheGatesHoldAndTheRunEndsOrSaysWhoMustDoWhat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSim(t)
		s.elect()
		for range rapid.IntRange(0, 120).Draw(t, "moments") {
			switch k := rapid.IntRange(0, 19).Draw(t, "moment"); {
			case k < 12:
				s.think()
			case k < 15:
				s.speak()
			case k == 15:
				s.elect()
			case k == 16:
				s.now = s.now.Add(time.Duration(rapid.IntRange(0, 7).Draw(t, "minutes")) * time.Minute)
				if s.lead.phase != 0 { // in the midst of it: its lease has ended
					s.elect()
				}
			case k == 17: // one that hung answers after all
				for _, name := range slices.Sorted(maps.Keys(s.lead.mine)) {
					f := s.lead.mine[name]
					s.end(f, Receipt{Outcome: Done})
					break
				}
			case k == 18:
				s.inForce = "another"
			case k == 19 && rapid.IntRange(0, 9).Draw(t, "given up") == 0:
				s.run.Abandon = &Saying{What: SaidAbandon, By: "person:1", At: s.now, Words: "enough"}
				s.rev++
			}
		}
		// From here on everybody is helpful: it ends, or it can only be given up.
		s.resolved = true
		s.elect()
		for n := 0; s.run.Ended.IsZero(); n++ {
			if n > 2000 {
				t.Fatalf("it does not end: %s", s.sum())
			}
			if s.think() || s.helpful() {
				s.now = s.now.Add(time.Second)
				continue
			}
			waits := s.run.Waits()
			if len(waits) == 0 {
				t.Fatalf("it has not ended and waits for nobody: %s", s.sum())
			}
			if !slices.ContainsFunc(waits, func(text string) bool { return strings.Contains(text, "bandon this run") }) {
				t.Fatalf("helpful people cannot end it: %q\n%s", waits, s.sum())
			}
			s.run.Abandon = &Saying{What: SaidAbandon, By: "person:1", At: s.now, Words: "as it says"}
			s.rev++
		}
		for i, st := range s.run.Steps {
			if ps := &s.p.RecoveryPlan("back").Steps[i]; st.State == Skipped && gate(ps) {
				t.Fatalf("%s (%s) is a gate and was skipped", st.Name, st.Kind)
			}
			s.attested(&st)
			if st.Receipt != nil && !s.hash[st.Receipt.Hash()] {
				t.Fatalf("%s has a receipt that is not in the timeline: %+v", st.Name, st.Receipt)
			}
		}
	})
}

// sum is the run in short.
func (s *sim) sum() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", s.p.Text)
	for _, st := range s.run.Steps {
		fmt.Fprintf(&b, "%s %s: %s, attempt %d, round %d, epoch %d, from %d to %d, said %d, heard %d: %s; need %+v\n", st.Name, st.Kind, st.State, st.Attempt, st.Round, st.Epoch, st.From, st.To, len(st.Said), st.Heard, st.Words, st.Need)
	}
	return b.String()
}

// follows says whether step k can only begin after step i.
func follows(rp *plan.RecoveryPlan, k, i int) bool {
	reached := map[int]bool{i: true}
	for range rp.Steps {
		for m := range rp.Steps {
			if slices.ContainsFunc(after(rp, m), func(b int) bool { return reached[b] }) {
				reached[m] = true
			}
		}
	}
	return k != i && reached[k]
}

// attested fails where fewer people than the plan wants have said that a node
// is fenced, and no machine has.
func (s *sim) attested(st *StepState) {
	if st.Kind != "fence" || st.State != Done || strings.HasPrefix(st.Receipt.By, "node:") {
		return
	}
	by := map[string]bool{}
	for _, said := range st.Said {
		if said.What == SaidDone && said.Round == st.Round && said.Attempt == st.Attempt {
			by[said.By] = true
		}
	}
	if len(by) < s.p.Organisation.Approvals {
		s.t.Fatalf("%s is done by the word of %v", st.Name, by)
	}
}
