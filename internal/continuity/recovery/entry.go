package recovery

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/missionopsai/foundry/internal/incident"
)

// Acts as they stand in an incident's timeline. Those of people are written by
// the desk.
const (
	ActBegin    = "recovery.begin"        // the first leader has taken a run up
	ActLead     = "recovery.lead"         // another leader has
	ActPlan     = "recovery.plan-changed" // another plan came into force; the run goes on by its own
	ActStep     = "recovery.step"
	ActEnd      = "recovery.end"
	ActStart    = "recovery.start"
	ActApprove  = "recovery.approve"
	ActReject   = "recovery.reject"
	ActDecide   = "recovery.decide"
	ActSay      = "recovery.say"
	ActRetry    = "recovery.retry"
	ActSkip     = "recovery.skip"
	ActGiveUp   = "recovery.abandon"
	outcomeHeld = "held"
)

// entry is what stands in the timeline of a change before it is made; nil:
// nothing does. Whoever makes the same change under the same epoch again
// writes the same, under the same name.
func entry(r *Run, a action, w *World) *incident.Act {
	if a.step < 0 {
		return entryOfRun(r, a, w)
	}
	s := &r.Steps[a.step]
	e := incident.Act{Act: ActStep, Step: r.Name + "/" + s.Name, Words: a.words,
		Facts: map[string]string{"run": r.ID, "kind": s.Kind, "epoch": strconv.FormatInt(w.Epoch, 10)}}
	if rp := w.recoveryPlan(r); rp != nil {
		e.Target = rp.Steps[a.step].Node
	}
	attempt := s.Attempt
	switch a.what {
	case actBegin:
		attempt++
		e.Outcome = "began"
	case actResume:
		e.Outcome = "taken-over"
	case actAsk:
		switch {
		case a.state != NeedsPerson:
			return nil // that it failed stands there already
		case a.need.What == NeedSay:
			attempt++
			e.Outcome = string(NeedsPerson)
		default:
			e.Outcome = string(NeedsPerson) + "/" + a.need.What + "/" + strconv.Itoa(s.Round) + "/" + short(a.need.Words)
		}
		e.Words = a.need.Words
	case actHand:
		e.Outcome, e.Words = "by-hand", a.need.Words
	case actHold:
		if a.state != Ready {
			return nil
		}
		e.Outcome = outcomeHeld + "/" + strconv.Itoa(s.Round) + "/" + short(a.words)
	case actNote:
		if a.need == nil || s.Need != nil && s.Need.Words == a.need.Words {
			return nil
		}
		e.Outcome, e.Words = string(NeedsPerson)+"/"+short(a.need.Words), a.need.Words
	case actAgain:
		e.Outcome = "again"
	case actSettle:
		ended(&e, a.receipt, r, s, w)
	case actHear:
		switch {
		case a.receipt != nil:
			ended(&e, a.receipt, r, s, w)
		case a.state == s.State:
			return nil
		default:
			e.Outcome = string(a.state) + "/" + strconv.Itoa(s.Round)
		}
	default:
		return nil
	}
	e.Facts["attempt"] = strconv.Itoa(attempt)
	e.Once = fmt.Sprintf("%s/%s/%d/%s/%d", r.ID, s.Name, attempt, e.Outcome, w.Epoch)
	e.Outcome, _, _ = strings.Cut(e.Outcome, "/")
	return &e
}

// ended is how an attempt ended: what its receipt says, and the receipt's hash.
func ended(e *incident.Act, receipt *Receipt, r *Run, s *StepState, w *World) {
	full := filled(*receipt, r, s, w)
	e.Outcome, e.Words = string(full.Outcome), full.Words
	for k, v := range full.Facts {
		if _, ours := e.Facts[k]; !ours {
			e.Facts[k] = v
		}
	}
	for _, f := range full.Fences {
		e.Facts["fenced-"+f.Node] = f.By
	}
	if full.Code != "" {
		e.Facts["code"] = full.Code
	}
	e.Facts["by"], e.Facts["receipt"] = full.By, full.Hash()
}

func entryOfRun(r *Run, a action, w *World) *incident.Act {
	e := incident.Act{Target: r.ID, Words: a.words, Facts: map[string]string{"run": r.ID, "plan": r.Name, "hash": r.Plan, "epoch": strconv.FormatInt(w.Epoch, 10)}}
	switch a.what {
	case actReign:
		e.Act, e.Words = ActLead, w.Node+" leads the recovery from here."
		if len(r.Reign) == 0 {
			e.Act, e.Words = ActBegin, fmt.Sprintf("The recovery plan %s is carried out, led by %s.", r.Name, w.Node)
			e.Facts["lost"], e.Facts["onto"], e.Facts["started-by"], e.Facts["mode"] = strings.Join(r.Lost, " "), strings.Join(r.Onto, " "), r.Starter, string(r.Mode)
		}
		e.Once = fmt.Sprintf("%s/lead/%d", r.ID, w.Epoch)
	case actNewer:
		e.Act, e.Words = ActPlan, "Another plan came into force; this run goes on by the one that it was started with."
		e.Facts["in-force"], e.Once = a.of, r.ID+"/newer/"+a.of
	case actEnd:
		e.Act, e.Outcome, e.Once = ActEnd, a.outcome, r.ID+"/end"
	default:
		return nil
	}
	return &e
}

func short(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}
