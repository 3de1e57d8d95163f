package incident

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/principal"
)

func TestAnIncidentGoesThroughItsPhasesAndSkipsNone(t *testing.T) {
	x := outage(t, 1)
	x.refused("incident-phase-skipped", &PhaseChange{To: Remediation})
	x.refused("incident-phase-skipped", &PhaseChange{To: Investigation})
	x.refused("incident-entry", &PhaseChange{To: Closed})
	x.refused("incident-lead-missing", &PhaseChange{To: Containment})
	x.do(&Assignment{Role: Lead, Who: anna.String()})
	x.refused("incident-phase-unfinished", &PhaseChange{To: Containment})
	x.refused("incident-one-signal", x.fact(clock.Confirmed, ""))
	x.do(&Signal{Source: "https", From: "node-2", At: x.now, Words: "no answer"}, &Signal{Source: "https", From: "witness", At: x.now, Words: "no answer"}, &Signal{Source: "ssh", From: "node-2", At: x.now, Words: "x"})
	x.do(x.fact(clock.Confirmed, "")) // ssh from node-2 beside https from the witness
	x.do(&PhaseChange{To: Containment})
	x.refused("incident-phase-back", &PhaseChange{To: Detection})
	x.refused("incident-phase-back", &PhaseChange{To: Containment})
	x.refused("incident-phase-unfinished", &PhaseChange{To: Investigation})
	x.refused("incident-fact-unproven", &Fact{Fact: clock.Contained, At: x.now})
	x.refused("incident-entry", &Fact{Fact: clock.Contained, At: x.now, Evidence: []string{"entry:999"}})
	x.refused("incident-entry", &Fact{Fact: clock.Contained, At: x.now.Add(time.Hour), Evidence: []string{"entry:1"}})
	x.do(x.fact(clock.Contained, ""), &PhaseChange{To: Investigation})
	x.refused("incident-phase-unfinished", &PhaseChange{To: Remediation})
	x.approved("restore-before-cause", "", bert)
	x.do(&PhaseChange{To: Remediation})
	x.refused("incident-phase-unfinished", &PhaseChange{To: InReview})
	x.refused("incident-not-restored", x.fact(clock.AllRestored, ""))
	x.do(x.fact(clock.Restored, "web"), x.fact(clock.AllRestored, ""), &PhaseChange{To: InReview})
	if x.s.Phase != InReview {
		t.Fatalf("the phase is %s", x.s.Phase)
	}
}

func TestSignalsOfOneKindOrOneObserverConfirmNothing(t *testing.T) {
	for name, signals := range map[string][]Signal{
		"none":         {},
		"one":          {{Source: "https", From: "a"}},
		"one kind":     {{Source: "https", From: "a"}, {Source: "https", From: "b"}},
		"one observer": {{Source: "https", From: "a"}, {Source: "ssh", From: "a"}},
		"one against":  {{Source: "https", From: "a"}, {Source: "ssh", From: "b", OK: true}},
	} {
		x := outage(t, 1)
		for _, s := range signals {
			s.At, s.Words = x.now, "seen"
			x.do(&s)
		}
		if got := x.try(x.fact(clock.Confirmed, "")); got != "incident-one-signal" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func remediated(t *testing.T, approvals int) *scene {
	x := outage(t, approvals)
	x.do(&Assignment{Role: Lead, Who: anna.String()})
	x.signals()
	x.do(x.fact(clock.Confirmed, ""), &PhaseChange{To: Containment}, x.fact(clock.Contained, ""), &PhaseChange{To: Investigation}, x.fact(clock.RootCause, ""), &PhaseChange{To: Remediation},
		x.fact(clock.Restored, "web"), x.fact(clock.AllRestored, ""))
	return x
}

var complete = map[string]string{"nature": "The server was away.", "data-affected": "None, as far as is known.", "remediation": "It runs on another.", "contact": "ops desk"}

func TestAnIncidentIsClosedWhenItWasReviewedAndNothingIsLeftOpen(t *testing.T) {
	x := remediated(t, 2)
	review := &Review{Held: x.now, Attended: []string{"ceo"}, Cause: "A disk.", Went: "Detection.", Failed: "No spare.", Lessons: "Keep one."}
	x.refused("incident-review-early", review)
	x.refused("incident-close-early", &Closing{})
	x.do(&PhaseChange{To: InReview})
	x.refused("incident-unreviewed", &Closing{})
	review.Held = x.now
	x.refused("incident-entry", &Review{Held: x.now, Attended: []string{"ceo"}, Cause: "A disk."})
	x.do(review)
	x.refused("incident-without-actions", &Closing{})
	x.refused("incident-action-unowned", &Action{ID: "A1", Title: "Buy a spare", Due: x.now.Add(time.Hour)})
	x.refused("incident-action-undated", &Action{ID: "A1", Title: "Buy a spare", Owner: "ceo"})
	x.refused("incident-action-undated", &Action{ID: "A1", Title: "Buy a spare", Owner: "ceo", Due: x.now.Add(-time.Hour)})
	x.do(&Action{ID: "A1", Title: "Buy a spare", Owner: "ceo", Due: x.now.Add(240 * time.Hour)})
	x.refused("incident-plan-unchanged", &Closing{})
	x.refused("incident-plan-same", &PlanRevision{Hash: "aaaa", Words: "none"})
	x.do(&PlanRevision{Hash: "bbbb", Words: "names a spare"})
	x.refused("incident-clock-open", &Closing{}) // nobody has told acme
	if late := x.s.Missing(x.now.Add(1000 * time.Hour)); !slices.ContainsFunc(late, func(err error) bool { return codeOf(err) == "incident-clock-open" }) {
		t.Error("when its clock has run out, nobody needs to tell acme any more")
	}
	x.do(&Notice{ID: "N1", Step: Drafted, Audience: ToClient, To: "acme", Fields: complete}, &Notice{ID: "N1", Step: SentOff})
	x.refused("incident-clock-open", &Closing{}) // and whether it arrived is not known
	x.do(&Notice{ID: "N1", Step: Accepted, Receipt: "250 2.0.0 queued as 4711", At: x.now})
	x.refused("incident-close-unapproved", &Closing{})
	x.approved("close", "", anna)
	x.refused("incident-close-unapproved", &Closing{})
	x.by = bert
	x.do(&Approval{Of: x.s.Decisions[len(x.s.Decisions)-1].Entry, Approve: true}, &Closing{})

	x.refused("incident-closed", &Signal{Source: "https", From: "a", At: x.now, Words: "x"})
	x.refused("incident-action-unshown", &Action{ID: "A1", Title: "Buy a spare", Owner: "ceo", Due: x.s.Actions[0].Due, Done: x.now})
	x.refused("incident-action-moved", &Action{ID: "A1", Title: "Buy a spare", Owner: "ceo", Due: x.s.Actions[0].Due.Add(time.Hour)})
	if late := x.s.Late(x.now.Add(300 * time.Hour)); len(late) != 1 {
		t.Errorf("%d actions are late", len(late))
	}
	x.do(&Action{ID: "A1", Title: "Buy a spare", Owner: "ceo", Due: x.s.Actions[0].Due, Done: x.now, Shown: "entry:1"}, &Note{Words: "bought"})
	if late := x.s.Late(x.now.Add(300 * time.Hour)); len(late) != 0 {
		t.Errorf("%d actions are late after they were done", len(late))
	}
}

func TestApprovalsComeFromDifferentPeopleWhoSignedIn(t *testing.T) {
	x := outage(t, 2)
	x.do(&Decision{About: "wipe", Target: "node-1", Words: "It is full of holes."})
	n := len(x.entries)
	x.refused("incident-approvals-few", &Decision{About: "wipe", Words: "x", Needs: 1})
	x.by = root
	x.refused("incident-approver-unknown", &Approval{Of: n, Approve: true})
	x.by = anna
	x.refused("incident-entry", &Approval{Of: 1, Approve: true})
	x.do(&Approval{Of: n, Approve: true})
	x.refused("incident-approved-twice", &Approval{Of: n, Approve: true})
	if x.s.Approved("wipe", "node-1") {
		t.Fatal("one person's word was enough for two")
	}
	x.by = bert
	x.do(&Approval{Of: n, Approve: true})
	if !x.s.Approved("wipe", "node-1") || x.s.Approved("wipe", "node-2") || x.s.Approved("wipe", "") {
		t.Fatal("the approval is not of what was decided")
	}
	x.do(&Decision{About: "wipe", Target: "node-1", Words: "Again, and otherwise."})
	if x.s.Approved("wipe", "node-1") {
		t.Fatal("another decision lives off the approval of the last")
	}
	x.do(&Approval{Of: len(x.entries), Approve: false, Words: "No."})
	x.by = anna
	x.do(&Approval{Of: n + 3, Approve: true})
	if x.s.Approved("wipe", "node-1") {
		t.Fatal("it was rejected")
	}
	x.do(&Decision{About: "restore", Words: "From Sunday's."})
	n = len(x.entries)
	for _, say := range []struct {
		by string
		ok bool
	}{{"1", true}, {"2", false}, {"3", true}} {
		x.by = principal.Principal{Kind: principal.Person, ID: say.by}
		x.do(&Approval{Of: n, Approve: say.ok, Words: "So I think."})
	}
	if x.s.Approved("restore", "") {
		t.Fatal("two were for it, and one against: that has to be decided anew")
	}
	x.do(&Decision{About: "use node-2 meanwhile", Words: "It can serve."})
	if !x.s.Approved("use node-2 meanwhile", "") {
		t.Fatal("a record of a decision stands by itself")
	}
}

func TestNothingIsWipedBeforeItWasCaptured(t *testing.T) {
	x := open(t, Security, 1)
	x.refused("incident-not-captured", &Act{Act: "node.wipe", Target: "node-1"})
	x.refused("incident-not-captured", &Act{Act: "node.reinstall", Target: "node-1"})
	x.do(&Act{Act: "service.stop", Target: "node-1"}, &Act{Act: "node.wipe", Target: "node-9"})
	sum := strings.Repeat("ab", 32)
	capture := &Evidence{Name: "disk of node-1", Target: "node-1", Capture: CaptureDisk, Hash: sum, Size: 1 << 40, Place: "vault:/evidence/node-1.img", Taken: x.now}
	x.do(&Evidence{Name: "memory", Target: "node-1", Capture: CaptureMemory, Hash: sum, Size: 1 << 30, Place: "x", Taken: x.now, Checked: true}, capture)
	x.refused("incident-not-captured", &Act{Act: "node.wipe", Target: "node-1"}) // nobody has read it again
	checked := *capture
	checked.Checked = true
	x.do(&checked)
	x.do(&Hold{On: true, Words: "The police asked."})
	x.refused("incident-held", &Act{Act: "node.wipe", Target: "node-1"})
	x.refused("incident-hold-unapproved", &Hold{On: false, Words: "over"})
	x.approved("lift-hold", "", bert)
	x.do(&Hold{On: false, Words: "They have what they need."}, &Hold{On: true, Words: "And again."})
	x.refused("incident-hold-unapproved", &Hold{On: false, Words: "the old word does not count"})
	x.approved("wipe", "node-1", bert)
	x.do(&Act{Act: "node.wipe", Target: "node-1"})
	if err := Interlock([]*State{outage(t, 1).s, open(t, Security, 1).s}, "node-1"); err == nil {
		t.Error("another incident that has not captured it lets it be wiped")
	}
}

func TestARestoreAfterABreakInWaitsForCauseCleanPointAndWord(t *testing.T) {
	x := open(t, Security, 1)
	may := func(code string, point time.Duration) {
		t.Helper()
		if got := codeOf(x.s.MayRestore("database", at(point))); got != code {
			t.Fatalf("got %q, want %q", got, code)
		}
	}
	may("incident-restore-uncontained", -100*time.Hour)
	x.do(&Evidence{Name: "log", Capture: CaptureLogs, Hash: hashOf([]byte("x")), Size: 1, Bytes: []byte("x"), Taken: x.now}, x.fact(clock.Contained, ""))
	may("incident-restore-uncaused", -100*time.Hour)
	x.do(x.fact(clock.RootCause, ""))
	may("incident-restore-undated", -100*time.Hour)
	x.do(&Fact{Fact: clock.Compromised, At: at(-30 * time.Hour)})
	may("incident-restore-unclean", -30*time.Hour)
	may("incident-restore-unapproved", -31*time.Hour)
	x.approved("restore", "database", bert)
	may("", -31*time.Hour)
	x.do(&Fact{Fact: clock.Compromised, At: at(-50 * time.Hour)}) // it was earlier still
	may("incident-restore-unclean", -31*time.Hour)
	may("", -51*time.Hour)
}

func TestQuarantineHasAnEndAndContainmentWaitsForIt(t *testing.T) {
	x := open(t, Security, 1)
	x.do(&Assignment{Role: Lead, Who: anna.String()})
	x.signals()
	x.do(x.fact(clock.Confirmed, ""), &PhaseChange{To: Containment}, x.fact(clock.Contained, ""))
	x.refused("incident-not-isolated", &PhaseChange{To: Investigation})
	x.do(&Quarantine{Node: "node-1", Step: "asked", At: x.now})
	x.refused("incident-quarantine-unbounded", &Quarantine{Node: "node-1", Step: "done", At: x.now, How: "vSwitch down"})
	x.refused("incident-entry", &Quarantine{Node: "node-1", Step: "done", At: x.now, Until: x.now.Add(time.Hour)})
	x.do(&Quarantine{Node: "node-1", Step: "done", At: x.now, How: "vSwitch down", Until: x.now.Add(24 * time.Hour)}, &PhaseChange{To: Investigation})
}

func TestANoticeSaysWhatItMustAndEndsItsClockOnlyWithAReceipt(t *testing.T) {
	x := outage(t, 1)
	for _, missing := range []string{"nature", "data-affected", "remediation", "contact"} {
		fields := map[string]string{}
		for k, v := range complete {
			if k != missing {
				fields[k] = v
			}
		}
		x.refused("incident-notice-incomplete", &Notice{ID: "N", Step: Drafted, Audience: ToClient, To: "acme", Fields: fields})
	}
	x.refused("incident-notice-incomplete", &Notice{ID: "N", Step: Drafted, Audience: ToClient, To: "acme", States: []string{"next-update"}, Fields: complete})
	x.refused("incident-notice-undrafted", &Notice{ID: "N", Step: SentOff})
	x.do(&Notice{ID: "N", Step: Drafted, Audience: ToClient, To: "acme", Fields: complete}, &Notice{ID: "N", Step: SentOff}, &Notice{ID: "N", Step: Failed, Words: "timeout"}, &Notice{ID: "N", Step: SentOff})
	x.refused("incident-notice-out", &Notice{ID: "N", Step: Drafted, Audience: ToClient, To: "acme", Fields: complete})
	if n := x.s.notice("N"); !n.Unclear || n.Tries != 2 || x.clock("notice/acme").Ended != nil {
		t.Fatalf("sent twice and not acknowledged: %+v", n)
	}
	x.refused("incident-notice-unproven", &Notice{ID: "N", Step: Accepted, At: x.now})
	x.signals()
	x.do(x.fact(clock.Confirmed, ""), &Notice{ID: "N", Step: Accepted, At: x.now, Receipt: "queued as 1"})
	if c := x.clock("notice/acme"); c.State != clock.Met {
		t.Fatalf("the clock is %s: %s", c.State, c.Says)
	}
	x.refused("incident-notice-told", &Notice{ID: "N", Step: SentOff})
}

func (x *scene) clock(id string) clock.Reading {
	x.t.Helper()
	all := x.s.Clocks(x.now)
	i := slices.IndexFunc(all, func(r clock.Reading) bool { return r.ID == id })
	if i < 0 {
		x.t.Fatalf("there is no clock %s", id)
	}
	return all[i]
}

func TestAnAssessmentStartsTheRegulatorsClockFromWhenItWasKnown(t *testing.T) {
	x := open(t, Security, 1)
	rules := clock.Rules(nil, clock.Scope{Clients: []string{"acme"}, Personal: clock.Personal{Controller: true, Processor: true, Regimes: []string{"UK"}}})
	x.refused("incident-entry", &Assessment{Personal: true, Risk: RiskLikely, Words: "x", Aware: x.now})
	x.refused("incident-entry", &Assessment{Personal: false, Risk: RiskLikely, Words: "x"})
	x.refused("incident-entry", &Assessment{Personal: true, Controller: true, Risk: RiskLikely, Words: "x", Aware: x.now, Regimes: []string{"US"}})
	x.now = at(20 * time.Hour)
	aware := at(2 * time.Hour)
	x.do(&Assessment{Personal: true, Controller: true, Processor: true, Risk: RiskLikely, Regimes: []string{"UK"}, Aware: aware, Words: "Addresses of clients' staff.", Rules: rules})
	if c := x.clock("regulator/UK"); c.State != clock.Running || !c.Due.Equal(aware.Add(72*time.Hour)) {
		t.Fatalf("got %s until %s", c.State, c.Due)
	}
	x.refused("incident-aware-later", &Assessment{Personal: true, Controller: true, Risk: RiskLikely, Aware: at(10 * time.Hour), Words: "x"})
	x.do(&Assessment{Personal: true, Controller: true, Risk: RiskUnlikely, Aware: aware, Words: "They were encrypted."})
	if c := x.clock("regulator/UK"); c.State != clock.Met {
		t.Fatalf("got %s", c.State)
	}
	if c := x.clock("controller/acme"); c.State != clock.Running {
		t.Fatalf("a processor tells the controller whatever the risk: %s", c.State)
	}
	x.now = at(80 * time.Hour)
	x.do(&Assessment{Personal: true, Controller: true, Risk: RiskHigh, Aware: at(time.Hour), Words: "The key was beside them."})
	if c := x.clock("regulator/UK"); c.State != clock.Expired || !c.Due.Equal(at(73*time.Hour)) {
		t.Fatalf("got %s until %s", c.State, c.Due)
	}
	regulator := map[string]string{"nature": "a", "categories": "b", "subjects": "c", "records": "d", "contact": "e", "consequences": "f", "measures": "g"}
	x.refused("incident-notice-incomplete", &Notice{ID: "R", Step: Drafted, Audience: ToRegulator, To: "UK", Fields: regulator}) // late, and no reasons
	regulator["delay"] = "It was thought to be encrypted."
	x.do(&Notice{ID: "R", Step: Drafted, Audience: ToRegulator, To: "UK", Fields: regulator}, &Notice{ID: "R", Step: Accepted, At: x.now, Receipt: "ICO reference IC-1"})
	if c := x.clock("regulator/UK"); c.State != clock.Missed {
		t.Fatalf("got %s", c.State)
	}
	x.do(&Notice{ID: "N", Step: Drafted, Audience: ToClient, To: "acme", Fields: complete}, &Notice{ID: "N", Step: Accepted, At: x.now, Receipt: "1"})
	if c := x.clock("controller/acme"); c.Ended != nil {
		t.Fatal("a notice that says nothing of personal data has told the controller of them")
	}
	x.do(&Notice{ID: "M", Step: Drafted, Audience: ToClient, To: "acme", Breach: true, Fields: complete}, &Notice{ID: "M", Step: Accepted, At: x.now, Receipt: "1"})
	if c := x.clock("controller/acme"); c.Ended == nil {
		t.Fatal("the controller was told")
	}
}

func TestAFalseAlarmIsDecidedByTwoAndEndsEveryClock(t *testing.T) {
	x := outage(t, 2)
	x.refused("incident-unfounded-unapproved", x.fact(clock.Unfounded, ""))
	x.approved("unfounded", "", anna, bert)
	x.do(x.fact(clock.Unfounded, ""))
	for _, c := range x.s.Clocks(x.now) {
		if !c.Over() {
			t.Errorf("%s is %s", c.ID, c.State)
		}
	}
	x.approved("close", "", anna, bert)
	x.do(&Closing{Words: "A probe was wrong."})
}

func TestAWiderScopeAddsClocksAndTakesNoneAway(t *testing.T) {
	x := outage(t, 1)
	before := len(x.s.Rules)
	longer := rto(40 * time.Hour)
	mail := rto(8 * time.Hour)
	mail.ID, mail.Of, mail.Bounds[0].From.Of = "rto/mail", "mail", "mail"
	x.do(&Scope{Functions: []string{"mail"}, Rules: []clock.Rule{longer, mail}})
	if len(x.s.Rules) != before+1 || x.clock("rto/web").Left > 4*time.Hour {
		t.Fatalf("%d rules, %s left", len(x.s.Rules), x.clock("rto/web").Left)
	}
	if c := x.clock("rto/mail"); !c.Started.At.Equal(at(-2 * time.Minute)) {
		t.Fatalf("found later, mail counts from %s, not from the start", c.Started.At)
	}
}

func TestEveryAudienceHasATemplateInEveryLanguageThatSaysAllItMust(t *testing.T) {
	x := outage(t, 1)
	for audience, fields := range required {
		for _, locale := range Locales {
			n := &Notice{Audience: audience, To: "acme", Locale: locale, Fields: map[string]string{}}
			for _, f := range fields {
				n.Fields[f] = "<" + f + "> & more"
			}
			text, err := x.s.Compose(n)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range fields {
				if !strings.Contains(text, "<"+f+"> & more") {
					t.Errorf("%s.%s does not say %s:\n%s", audience, locale, f, text)
				}
			}
			if strings.Contains(text, "\n\n\n") || strings.Contains(text, "EXERCISE") {
				t.Errorf("%s.%s:\n%s", audience, locale, text)
			}
			x.s.Mode = Sandbox
			if text, err = x.s.Compose(n); err != nil || !strings.HasPrefix(text, "THIS IS AN EXERCISE") && !strings.HasPrefix(text, "DIES IST EINE ÜBUNG") {
				t.Errorf("an exercise does not say that it is one: %v\n%s", err, text)
			}
			x.s.Mode = Real
		}
	}
}

func TestAnActWithANameOfItsOwnIsWrittenOnce(t *testing.T) {
	x := outage(t, 1)
	x.do(&Act{Act: "recovery.step", Once: "rec-1/fence/1/began"})
	if code := x.try(&Act{Act: "recovery.step", Once: "rec-1/fence/1/began"}); code != "incident-act-again" {
		t.Errorf("the same again: %q", code)
	}
	if n := x.s.Once["rec-1/fence/1/began"]; n != x.s.Head.N {
		t.Errorf("it is entry %d, and was found at %d", x.s.Head.N, n)
	}
	x.do(&Act{Act: "recovery.step", Once: "rec-1/fence/1/done"})
	x.do(&Act{Act: "service.stop"})
	x.do(&Act{Act: "service.stop"}) // what has no name may be done again
}
