package recovery

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/plan"
)

// Things that are done to a run.
const (
	actReign   = "reign"    // another leads
	actNewer   = "newer"    // another plan came into force
	actTrouble = "trouble"  // nothing can be done at all, or that is over
	actHear    = "hear"     // what somebody has said
	actBegin   = "begin"    // a doer begins
	actResume  = "resume"   // an attempt that a leader before began is taken over
	actAsk     = "ask"      // a person has to do something
	actHold    = "hold"     // a gate holds
	actAgain   = "again"    // what was done has to be done again
	actSettle  = "settle"   // an attempt has ended
	actHand    = "hand"     // a doer cannot: people go on with the attempt
	actNote    = "note"     // how far a step is, and whom it waits for
	actRestore = "restored" // a function is back
	actEnd     = "end"      // the run has ended
)

// action is one change of a run. Each is written into the timeline, then into
// the run, then done.
type action struct {
	what    string
	step    int // -1: of the run
	state   State
	words   string
	need    *Need
	receipt *Receipt
	outcome string
	of      string // a hash, a function
	entry   int    // of the timeline, once it stands there

	progress *order.Progress
	doing    *doing // of a note
}

// next decides what is done to a run now: the first of it, then it is looked
// at again. Nothing: the run waits for a doer, a person, or time.
func next(r *Run, w *World) (action, bool) {
	if !r.Ended.IsZero() {
		return action{}, false
	}
	if n := len(r.Reign); n == 0 || r.Reign[n-1].Epoch != w.Epoch {
		if n > 0 && r.Reign[n-1].Epoch > w.Epoch {
			return action{}, false // this leader has been overtaken, and does not know it yet
		}
		return action{what: actReign, step: -1}, true
	}
	rp := w.recoveryPlan(r)
	if a, ok := trouble(r, rp, w); ok {
		return a, a.what != ""
	}
	if w.InForce != "" && w.InForce != r.Plan && w.InForce != r.Newer {
		return action{what: actNewer, step: -1, of: w.InForce}, true
	}
	for i := range r.Steps {
		if a, ok := heard(r, rp, i, w); ok {
			return a, true
		}
	}
	if r.Abandon != nil {
		return abandoned(r, w)
	}
	if a, ok := restored(r, rp); ok {
		return a, true
	}
	for i := range r.Steps {
		if a, ok := step(r, i, w); ok {
			return a, true
		}
	}
	if !slices.ContainsFunc(r.Steps, func(s StepState) bool { return !s.State.Over() }) {
		return action{what: actEnd, step: -1, outcome: "done"}, true
	}
	return action{}, false
}

// trouble is what keeps a run from going on at all. ok with an empty action:
// it is known, and lasts.
func trouble(r *Run, rp *plan.RecoveryPlan, w *World) (action, bool) {
	why := ""
	switch {
	case rp == nil || len(rp.Steps) != len(r.Steps):
		why = "The recovery plan that this run goes by cannot be read."
	case w.Incident == nil:
		why = "The incident cannot be read, and nothing is done that would not stand in it."
	case !w.Incident.ClosedAt.IsZero():
		why = "The incident is closed, and nothing is done that would not stand in it. Abandon this run, and start it in the incident that goes on."
	}
	switch {
	case why == "" && r.Trouble == "":
		return action{}, false
	case why == r.Trouble && r.Abandon == nil:
		return action{}, true
	case why == r.Trouble: // it can be given up nevertheless
		return abandoned(r, w)
	}
	return action{what: actTrouble, step: -1, words: why}, true
}

// abandoned ends a run that somebody has given up: what is being done is told
// to end, and waited for.
func abandoned(r *Run, w *World) (action, bool) {
	for i := range r.Steps {
		s := &r.Steps[i]
		if s.State != Running {
			continue
		}
		if w.Mine[s.Name] == s.Attempt {
			return action{}, false // it was told to end
		}
		return action{what: actSettle, step: i, receipt: &Receipt{Outcome: Indeterminate, Words: "The run was given up while another leader was at this.", Ended: r.Abandon.At}}, true
	}
	return action{what: actEnd, step: -1, outcome: "abandoned", words: r.Abandon.Words}, true
}

// restored finds a function that is back: all that validates it and moves its
// names has ended.
func restored(r *Run, rp *plan.RecoveryPlan) (action, bool) {
	for _, name := range rp.Functions {
		if slices.Contains(r.Restored, name) {
			continue
		}
		last, open := -1, false
		for i := range rp.Steps {
			k := rp.Steps[i].Kind
			if k != "validate" && k != "dns" || !slices.Contains(functionsOf(rp, &rp.Steps[i]), name) {
				continue
			}
			if s := &r.Steps[i]; s.State != Done {
				open = true
			} else if last < 0 || s.To > r.Steps[last].To {
				last = i
			}
		}
		if last >= 0 && !open {
			return action{what: actRestore, step: last, of: name}, true
		}
	}
	return action{}, false
}

// heard answers what somebody has said of a step.
func heard(r *Run, rp *plan.RecoveryPlan, i int, w *World) (action, bool) {
	s := &r.Steps[i]
	if s.Heard >= len(s.Said) {
		return action{}, false
	}
	said := &s.Said[s.Heard]
	a := action{what: actHear, step: i, state: s.State}
	if said.Attempt != s.Attempt || said.Round != s.Round || s.State == Running || s.State.Over() {
		return a, true // it was said of something else, or too late
	}
	open := s.State == Failed || s.State == Indeterminate
	asked := s.State == NeedsPerson && s.Need != nil && s.Need.What == NeedSay
	switch said.What {
	case SaidReject:
		if s.State == NeedsPerson {
			a.state, a.words = Failed, "It was rejected: "+said.Words
		}
	case SaidDone:
		if asked && attested(r, i, w) || open && maySay(r, rp, i) && attested(r, i, w) {
			a.state, a.receipt = Done, receiptOf(rp, r, i, said)
		}
	case SaidFailed:
		if asked || s.State == Indeterminate {
			a.state, a.words = Failed, said.Words
			a.receipt = receiptOf(rp, r, i, said)
		}
	case SaidRetry:
		if open {
			a.state, a.words = Waiting, "It is tried again: "+said.Words
		}
	case SaidSkip:
		if !gate(&rp.Steps[i]) {
			a.state, a.words = Skipped, said.Words
		}
	}
	return a, true
}

// maySay says whether people may say that a step is done which a doer could
// not: not where a machine has said that it does not work, or where a gate
// wants a machine's word.
func maySay(r *Run, rp *plan.RecoveryPlan, i int) bool {
	switch rp.Steps[i].Kind {
	case "validate", "approve", "decide", "confirm":
		return false
	}
	return true
}

// attested says whether enough people have said that a step is done. A fence
// that no machine has shown takes as many people as the plan asks for
// approvals, and each has to say in which way, and that it was read back.
func attested(r *Run, i int, w *World) bool {
	s := &r.Steps[i]
	if s.Kind != "fence" {
		return true
	}
	var who []string
	for k := range s.Said[:s.Heard+1] {
		said := &s.Said[k]
		if said.What == SaidDone && said.Attempt == s.Attempt && said.Round == s.Round && fenceSaid(said) && !slices.Contains(who, said.By) {
			who = append(who, said.By)
		}
	}
	return len(who) >= max(1, w.Plan.Organisation.Approvals)
}

// fenceSaid says whether somebody has said of a fence what has to be said.
func fenceSaid(said *Saying) bool {
	f := Fence{By: said.Facts["fenced-by"], Facts: map[string]string{"state": said.Facts["state"]}}
	return f.holds() && (f.By == FencedByPower || f.By == FencedByItself) && len(said.Evidence) > 0
}

// receiptOf is the receipt of what a person has done.
func receiptOf(rp *plan.RecoveryPlan, r *Run, i int, said *Saying) *Receipt {
	out := &Receipt{Outcome: Done, Words: said.Words, By: said.By, Facts: map[string]string{}, Ended: said.At}
	if said.What == SaidFailed {
		out.Outcome = Failed
	}
	for k, v := range said.Facts {
		out.Facts[k] = v
	}
	if len(said.Evidence) > 0 {
		out.Facts["evidence"] = strings.Join(said.Evidence, " ")
	}
	out.Facts["said"] = fmt.Sprintf("entry:%d", said.Entry)
	if rp.Steps[i].Kind == "fence" && out.Outcome == Done {
		for _, node := range fencedBy(r, &rp.Steps[i]) {
			out.Fences = append(out.Fences, Fence{Node: node, By: said.Facts["fenced-by"], Facts: map[string]string{"state": said.Facts["state"], "said-by": said.By}})
		}
	}
	return out
}

// fencedBy lists the nodes that a fence is for.
func fencedBy(r *Run, s *plan.Step) []string {
	if s.Node != "" {
		return []string{s.Node}
	}
	return r.Lost
}

// step decides about a step of which nothing was said.
func step(r *Run, i int, w *World) (action, bool) {
	s := &r.Steps[i]
	switch s.State {
	case Running:
		if w.Mine[s.Name] == s.Attempt {
			return action{}, false
		}
		return action{what: actResume, step: i}, true
	case Done, Skipped:
		return action{}, false
	case Failed, Indeterminate:
		if s.Need == nil {
			return action{what: actAsk, step: i, state: s.State, need: help(r, i, w)}, true
		}
		return action{}, false
	case NeedsPerson:
		if s.Need != nil && s.Need.What == NeedSay {
			return action{}, false // it has begun: somebody is at it
		}
	}
	h := hold(r, i, w)
	switch {
	case h == nil:
		return begin(r, i, w)
	case h.Code == "recovery-order":
		if s.State == Waiting {
			return action{}, false
		}
		return action{what: actHold, step: i, state: Waiting, words: h.Words}, true
	case len(h.Again) > 0:
		return action{what: actAgain, step: h.Again[0], words: h.Words}, true
	case h.Need != nil:
		if s.State == NeedsPerson && s.Need != nil && s.Need.Words == h.Need.Words {
			return action{}, false
		}
		return action{what: actAsk, step: i, state: NeedsPerson, need: h.Need}, true
	case s.State == Ready && s.Words == h.Words:
		return action{}, false
	}
	return action{what: actHold, step: i, state: Ready, words: h.Words}, true
}

// begin begins a step that nothing holds.
func begin(r *Run, i int, w *World) (action, bool) {
	s, rp := &r.Steps[i], w.recoveryPlan(r)
	switch what := spoken[s.Kind]; {
	case what == NeedApprove: // the gate had it
		var names []string
		if need := approvalOf(r, rp, i, w); need != nil {
			names = need.Who
		}
		last := s.Said[len(s.Said)-1]
		return action{what: actSettle, step: i, receipt: &Receipt{Outcome: Done, By: last.By, Words: "It was approved.", Ended: last.At, Facts: map[string]string{"approved-by": strings.Join(approvers(r, i, names), " ")}}}, true
	case what == NeedDecide:
		k := slices.IndexFunc(s.Said, func(said Saying) bool { return said.What == SaidDecided && said.Round == s.Round })
		if k >= 0 {
			said := &s.Said[k]
			return action{what: actSettle, step: i, receipt: &Receipt{Outcome: Done, By: said.By, Words: said.Words, Ended: said.At, Facts: map[string]string{"decision": fmt.Sprintf("entry:%d", said.Entry)}}}, true
		}
		if s.Need != nil && s.Need.What == NeedDecide {
			return action{}, false
		}
		return action{what: actAsk, step: i, state: NeedsPerson, need: &Need{What: NeedDecide, Words: "Somebody has to decide, and to say why.", Who: rp.Steps[i].By, Guide: guide(w.Plan, &rp.Steps[i])}}, true
	case w.Doers[s.Kind] && r.Mode != incident.Desktop:
		return action{what: actBegin, step: i}, true
	}
	return action{what: actAsk, step: i, state: NeedsPerson, need: byPerson(r, i, w, "")}, true
}

// byPerson is a step that people do.
func byPerson(r *Run, i int, w *World, why string) *Need {
	s := &w.recoveryPlan(r).Steps[i]
	if why == "" {
		why = "Foundry does not do this here by itself: somebody does it, and says so with what shows it."
	}
	n := &Need{What: NeedSay, Words: why, Who: s.By, Count: 1, Guide: guide(w.Plan, s)}
	if b := bookStep(w.Plan, s); b != nil {
		n.Verify = []string{b.Verify}
	}
	if s.Kind == "fence" {
		n.Count = max(1, w.Plan.Organisation.Approvals)
		n.Verify = append(n.Verify, "Say in which way and what was read back: --fact fenced-by=power-off --fact state=off, or --fact fenced-by=stopped, with --evidence.")
	}
	return n
}

// guide is what the plan says of a step, a line each.
func guide(p *plan.Plan, s *plan.Step) (out []string) {
	if b := bookStep(p, s); b != nil {
		if b.Do != "" {
			out = append(out, b.Do)
		}
		if b.Run != "" {
			out = append(out, "Run: "+b.Run)
		}
		if b.Node != "" {
			out = append(out, "On: "+b.Node)
		}
	}
	if s.Node != "" {
		out = append(out, "Node: "+s.Node)
	}
	if s.Supplier != "" {
		out = append(out, "Supplier: "+s.Supplier)
	}
	if s.Notice != "" {
		out = append(out, "Notice: "+s.Notice)
	}
	if s.Runbook != "" {
		where := s.Runbook
		if b := p.Runbook(s.Runbook); b != nil && b.File != "" {
			where += " (" + b.File + ")"
		}
		out = append(out, "Runbook: "+where)
	}
	return out
}

// help is what people can do about a step that failed, or of which nobody
// knows.
func help(r *Run, i int, w *World) *Need {
	rp := w.recoveryPlan(r)
	s := &rp.Steps[i]
	can := []string{"`foundry recovery retry`"}
	if maySay(r, rp, i) {
		can = append(can, "`foundry recovery say … done` where it was done by hand")
	}
	if r.Steps[i].State == Indeterminate {
		can = append(can, "`foundry recovery say … failed` where it has no effect")
	}
	if !gate(s) {
		can = append(can, "`foundry recovery skip`")
	}
	words := "It failed: "
	if r.Steps[i].State == Indeterminate {
		words = "Whether it took effect is not known: look, then "
	}
	return &Need{What: NeedHelp, Words: words + strings.Join(can, ", ") + ".", Who: s.By, Guide: guide(w.Plan, s)}
}

// apply makes a change to a run.
func apply(r *Run, a action, w *World) {
	now := w.Now.UTC()
	if a.step < 0 {
		switch a.what {
		case actReign:
			r.Reign = append(r.Reign, Reign{Epoch: w.Epoch, Node: w.Node, Since: now})
		case actNewer:
			r.Newer = a.of
		case actTrouble:
			r.Trouble = a.words
		case actEnd:
			r.Ended, r.Outcome = now, a.outcome
		}
		return
	}
	s := &r.Steps[a.step]
	switch a.what {
	case actBegin:
		started(r, s, w, Running)
	case actResume:
		s.Epoch = w.Epoch
	case actAsk:
		if a.state == NeedsPerson && a.need.What == NeedSay {
			started(r, s, w, NeedsPerson)
		}
		s.State, s.Need, s.Words = a.state, a.need, a.need.Words
		if a.state != NeedsPerson && s.Receipt != nil {
			s.Words = s.Receipt.Words
		}
	case actHold:
		s.State, s.Words, s.Need = a.state, a.words, nil
	case actHand:
		s.State, s.Words, s.Need, s.Progress = NeedsPerson, a.need.Words, a.need, nil
	case actNote:
		s.Progress, s.Need = a.progress, a.need
	case actAgain:
		keepReceipt(s)
		s.State, s.Words, s.Need = Waiting, a.words, nil
	case actRestore:
		r.Restored = append(r.Restored, a.of)
	case actSettle:
		settle(r, s, a, w)
	case actHear:
		hear(r, s, a, w)
	}
}

func hear(r *Run, s *StepState, a action, w *World) {
	s.Heard++
	switch {
	case a.state == s.State && a.receipt == nil:
	case a.receipt != nil:
		settle(r, s, a, w)
	default:
		if a.state == Waiting {
			keepReceipt(s)
			s.Round++
		}
		s.State, s.Words, s.Need = a.state, a.words, nil
		if a.state == Skipped || a.state == Failed {
			r.Serial++
			s.Ended, s.To = w.Now.UTC(), r.Serial
		}
	}
}

// started begins another attempt.
func started(r *Run, s *StepState, w *World, state State) {
	keepReceipt(s)
	r.Serial++
	s.State, s.Words, s.Need, s.Progress = state, "", nil, nil
	s.Attempt++
	s.Epoch, s.Began, s.Ended, s.From, s.To = w.Epoch, w.Now.UTC(), time.Time{}, r.Serial, 0
}

func keepReceipt(s *StepState) {
	if s.Receipt != nil {
		s.Earlier = append(s.Earlier, *s.Receipt)
		s.Receipt = nil
	}
}

// settle ends an attempt with its receipt.
func settle(r *Run, s *StepState, a action, w *World) {
	if s.Attempt == 0 { // what people say has no other beginning
		began := a.receipt.Ended
		started(r, s, w, Running)
		s.Began = began
	}
	r.Serial++
	keepReceipt(s)
	receipt := filled(*a.receipt, r, s, w)
	s.State, s.Receipt, s.Words, s.Need, s.Progress = receipt.Outcome, &receipt, receipt.Words, nil, nil
	s.Ended, s.To, s.Entry = receipt.Ended, r.Serial, a.entry
}

// filled is a receipt with what every one has.
func filled(receipt Receipt, r *Run, s *StepState, w *World) Receipt {
	receipt.Step, receipt.Attempt, receipt.Epoch, receipt.Began = s.Name, max(1, s.Attempt), w.Epoch, s.Began
	if receipt.Began.IsZero() {
		receipt.Began = receipt.Ended
	}
	if receipt.By == "" {
		receipt.By = "node:" + w.Node
	}
	if receipt.Ended.IsZero() {
		receipt.Ended = w.Now.UTC()
	}
	if rp := w.recoveryPlan(r); s.Kind == "fence" && receipt.Outcome == Done && rp != nil {
		i := slices.IndexFunc(rp.Steps, func(o plan.Step) bool { return o.Name == s.Name })
		for _, node := range fencedBy(r, &rp.Steps[i]) {
			if !slices.ContainsFunc(receipt.Fences, func(f Fence) bool { return f.Node == node && f.holds() }) {
				receipt.Outcome, receipt.Code = Indeterminate, "recovery-unfenced"
				receipt.Words = "It is said to be done, and nothing was read back that shows that " + node + " writes no more."
			}
		}
	}
	return receipt
}

// Waits lists what a run waits for, a sentence each: what people have to do
// first, then what holds it.
func (r *Run) Waits() (out []string) {
	if !r.Ended.IsZero() {
		return nil
	}
	if r.Trouble != "" {
		out = append(out, r.Trouble)
	}
	for _, s := range r.Steps {
		if s.Need != nil {
			out = append(out, s.Name+": "+s.Need.Words)
		}
	}
	for _, s := range r.Steps {
		if s.State == Ready {
			out = append(out, s.Name+": "+s.Words)
		}
	}
	if r.stuck() {
		out = append(out, "What is left waits for itself: abandon this run, and mend the plan.")
	}
	return out
}

// stuck says whether nobody is at anything and nobody can be: every step that
// is left waits for another, or for a gate that none of them will open.
func (r *Run) stuck() bool {
	open := false
	for i := range r.Steps {
		s := &r.Steps[i]
		switch s.State {
		case Done, Skipped:
			continue
		case Running, NeedsPerson, Failed, Indeterminate:
			return false
		case Waiting:
			if !slices.ContainsFunc(r.Steps, func(o StepState) bool { return slices.Contains(s.After, o.Name) && !o.State.Over() }) {
				return false // it is about to begin
			}
		}
		open = true
	}
	return open
}

// restoredSince says whether the incident knows already that a function is
// back, and has not been lost again.
func restoredSince(s *incident.State, of string) bool {
	back, lost := s.Known(clock.Restored, of), s.Known(clock.Lost, of)
	return back != nil && (lost == nil || lost.Entry < back.Entry)
}

// restoredFact says that a function is back, and which entry shows it.
func restoredFact(r *Run, a action) *incident.Fact {
	s := &r.Steps[a.step]
	return &incident.Fact{Fact: clock.Restored, Of: a.of, At: s.Ended, Evidence: []string{fmt.Sprintf("entry:%d", s.Entry)},
		Words: fmt.Sprintf("%s of the recovery %s has shown it.", s.Name, r.ID)}
}
