package lint

import (
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// clockRules judge what starts a clock, how long it runs, and whether two
// clocks for one thing agree.
var clockRules = []Rule{
	{
		ID: "clock-without-start", Title: "A notice whose clock may never start", Group: "clocks", Severity: Error,
		Why:    "A period that runs from a confirmation that nobody has to give, or from an event that nobody has to recognise, is no promise; whoever waits for the notice counts from another moment.",
		Mend:   "Count from awareness or detection, or bound what the clock waits for: confirm_within or detect_within of the scenario, the time of the step that finds the scope.",
		Source: "GDPR art. 33(1) counts from awareness; ISO 22301:2019, 8.4.3",
		check:  clockWithoutStart,
	},
	{
		ID: "rto-start-undefined", Title: "The clock of the recovery time has no start", Group: "clocks", Severity: Warning,
		Why:    "Four hours from the failure, from its detection and from its confirmation are three different promises; clients count from the failure.",
		Mend:   "Write rto_from: start, detection or confirmation, and bound the time until then with detect_within and confirm_within.",
		Source: "ISO 22301:2019, 8.2.2; NIST SP 800-34 r1, 3.2.1",
		check:  rtoStartUndefined,
	},
	{
		ID: "notice-conflict", Title: "Several rules for one notice", Group: "clocks", Severity: Warning,
		Why:    "At night somebody looks up one rule, and it is the slower one. Each document is quoted by the client whom it suits.",
		Mend:   "Keep one rule for each event and recipient, the strictest, and let the other documents refer to it.",
		Source: "ISO 22301:2019, 8.4.3",
		check:  noticeConflict,
	},
	{
		ID: "vague-period", Title: "A word in place of a number", Group: "clocks", Severity: Warning,
		Why:    "What is done regularly is never late, so nobody can see that it was not done.",
		Mend:   "Write a length of time: the longest that you could defend to a client.",
		Source: "ISO 22301:2019, 9.1: what is measured, and when",
		check:  vaguePeriod,
	},
	{
		ID: "duty-conflict", Title: "Two periods for one duty", Group: "clocks", Severity: Warning,
		Why:   "Two periods mean that the longer one is kept, and that the shorter one is broken by whoever wrote it.",
		Mend:  "Keep one period, the shorter, and let the other place refer to it.",
		check: dutyConflict,
	},
	{
		ID: "acknowledgement-slower-than-fix", Title: "A report is read later than it must be mended", Group: "clocks", Severity: Warning,
		Why:    "A weakness that somebody reports on a Friday may be read after the time in which it should have been mended.",
		Mend:   "Acknowledge faster than the shortest time for mending, in hours of the calendar, or write that the time for mending starts with the acknowledgement.",
		Source: "ISO/IEC 27001:2022, A.8.8; ISO/IEC 29147:2018",
		check:  acknowledgementSlower,
	},
	{
		ID: "review-without-deadline", Title: "A review with no deadline", Group: "clocks", Severity: Warning,
		Why:    "A review that follows an event and may happen at any time happens after the next event, when the memory is gone.",
		Mend:   "Write within: how long after the event the review is done, and close_within: how soon its gaps are closed.",
		Source: "ISO/IEC 27001:2022, A.5.27; ISO 22301:2019, 10.1",
		check:  reviewWithoutDeadline,
	},
	{
		ID: "desktop-proves-nothing", Title: "An exercise at a desk as proof of a recovery time", Group: "clocks", Severity: Warning,
		Why:    "Talking through a recovery shows whether people know the plan. It restores nothing, so it measures neither how long a restore takes nor what comes back.",
		Mend:   "Exercise in a sandbox at least once a year, restoring from the real backup with a watch, and let that exercise prove the RTO.",
		Source: "NIST SP 800-34 r1, 3.5; ISO 22301:2019, 8.5",
		check:  desktopProvesNothing,
	},
	{
		ID: "never-exercised", Title: "Recovery times that nobody tries", Group: "clocks", Severity: Warning,
		Why:    "The first recovery is then the real one, and the recovery time a hope.",
		Mend:   "Write a duty of kind exercise: once a year restore into a sandbox, with a watch. For one server, an afternoon and a rented machine are enough.",
		Source: "ISO 22301:2019, 8.5; ISO/IEC 27001:2022, A.5.30",
		check:  neverExercised,
	},
	{
		ID: "retention-ambiguous", Title: "A retention that is neither minimum nor maximum", Group: "clocks", Severity: Warning,
		Why:    "Kept for 30 days can mean that day 30 can still be restored, or that nothing older exists. The first is a promise to whoever restores, the second to whoever asks for deletion, and they need different settings.",
		Mend:   "Write keep_at_least for what can be restored, and delete_after for what has gone.",
		Source: "GDPR art. 5(1)(e); ISO/IEC 27001:2022, A.8.10 and A.8.13",
		check:  retentionAmbiguous,
	},
}

// scenariosOf lists the scenarios that bring about an event that notices are
// about; nil for events that come from outside of the plan.
func (c *Context) scenariosOf(event string) (out []*plan.Scenario) {
	kinds := map[string][]string{
		"outage":               {"node-loss", "site-loss", "supplier-loss", "data-loss", "premises"},
		"security-incident":    {"security"},
		"personal-data-breach": {"security"},
		"supplier-loss":        {"supplier-loss"},
		"person-away":          {"person-away"},
	}[event]
	for i := range c.Scenarios {
		if slices.Contains(kinds, c.Scenarios[i].Kind) {
			out = append(out, &c.Scenarios[i])
		}
	}
	return out
}

func clockWithoutStart(c *Context) {
	for i := range c.Notices {
		n := &c.Notices[i]
		path, subject := at("notices", i, "from"), about("notice", n.Name)
		within := n.Within.String()
		if n.Within.IsZero() {
			within = "no time"
		}
		if n.From == "" {
			if n.Within.Known() {
				c.Report(at("notices", i, "within"), subject, "Notice %q is due within %s and does not say from when.", n.Name, within).
					Saying("Write from: awareness, or another moment that the plan bounds.").As(Warning)
			}
			continue
		}
		if missing := c.unbounded(n); missing != "" {
			c.Report(path, subject, "Notice %q gives %s from %s, and %s.", n.Name, within, strings.ReplaceAll(n.From, "-", " "), missing)
		}
	}
}

// unbounded says what lets the start of a notice's clock be put off for ever,
// or "". Start and awareness are facts that nobody can put off.
func (c *Context) unbounded(n *plan.Notice) string {
	var open []string
	for _, s := range c.scenariosOf(n.Event) {
		switch n.From {
		case "detection":
			if !s.DetectWithin.Known() {
				open = append(open, s.Name)
			}
		case "confirmation":
			if !s.ConfirmWithin.Known() {
				open = append(open, s.Name)
			}
		case "scope-known":
			if !c.timed(s, "investigate") {
				open = append(open, s.Name)
			}
		case "containment":
			if !c.timed(s, "isolate", "fence") {
				open = append(open, s.Name)
			}
		}
	}
	none := len(c.scenariosOf(n.Event)) == 0
	what := map[string]string{
		"detection":    "within what time it is seen (detect_within)",
		"confirmation": "within what time somebody confirms it (confirm_within)",
		"scope-known":  "how long finding the scope takes (a step of kind investigate)",
		"containment":  "how long containing it takes (a step of kind isolate)",
	}[n.From]
	switch {
	case what == "":
		return ""
	case none && n.From != "detection":
		return about("no scenario of the plan bounds that moment for the event", n.Event)
	case len(open) == 0:
		return ""
	}
	return these("scenario", "scenarios", open) + " " + does(open, "does not say ", "do not say ") + what
}

// timed reports whether a recovery plan of a scenario has a step of one of the
// kinds, and all of them take a known time.
func (c *Context) timed(s *plan.Scenario, kinds ...string) bool {
	found := false
	for _, name := range s.Recovery {
		r := c.RecoveryPlan(name)
		if r == nil {
			continue
		}
		for _, step := range r.Steps {
			if slices.Contains(kinds, step.Kind) {
				if !step.Takes.Known() {
					return false
				}
				found = true
			}
		}
	}
	return found
}

func rtoStartUndefined(c *Context) {
	for i := range c.Scenarios {
		s := &c.Scenarios[i]
		subject := about("scenario", s.Name)
		nothing := s.Kind == "premises" && len(s.Loses) == 0 && len(s.Recovery) == 0 // whoever works from anywhere recovers nothing
		if nothing || s.Kind == "planned" || s.Kind == "person-away" || len(s.Recovery) == 0 && !s.RestoreWithin.Known() {
			continue
		}
		switch {
		case s.RTOFrom == "":
			c.Report(at("scenarios", i), subject, "Scenario %q does not say whether recovery times count from its start, its detection or its confirmation.", s.Name)
		case s.RTOFrom != "start" && !s.DetectWithin.Known():
			c.Report(at("scenarios", i, "rto_from"), subject, "In scenario %q recovery times count from %s, and nothing bounds how long it may go unseen.", s.Name, s.RTOFrom).
				Saying("Write detect_within: how long scenario %q can go unseen at most.", s.Name)
		case s.RTOFrom == "confirmation" && !s.ConfirmWithin.Known():
			c.Report(at("scenarios", i, "rto_from"), subject, "In scenario %q recovery times count from confirmation, and nothing says by when somebody confirms it.", s.Name).
				Saying("Write confirm_within: how long after detection somebody has to say that scenario %q has happened.", s.Name)
		}
	}
}

func acknowledgementSlower(c *Context) {
	ack, path, subject := c.Security.Disclosure.Acknowledge, "security.disclosure.acknowledge_within", "disclosure"
	if !ack.Known() {
		for i, n := range c.Notices {
			if n.Event == "vulnerability-report" && n.Within.Known() && (!ack.Known() || n.Within.Longest() < ack.Longest() || n.Within.Longest() == ack.Longest() && about("notice", n.Name) < subject) {
				ack, path, subject = n.Within, at("notices", i, "within"), about("notice", n.Name)
			}
		}
	}
	if !ack.Known() {
		return
	}
	patching := c.Security.Patching
	for _, p := range []struct {
		name string
		span plan.Span
	}{{"critical", patching.Critical}, {"high", patching.High}, {"medium", patching.Medium}, {"low", patching.Low}} {
		if !p.span.Known() || ack.Longest() <= p.span.Longest() {
			continue
		}
		longest := ""
		if ack.BusinessDays() > 0 {
			longest = ", which are up to " + plan.FormatDuration(ack.Longest()) + " with weekends and holidays"
		}
		c.Report(path, subject, "A report is acknowledged within %s%s; a %s weakness is to be mended within %s.", ack, longest, p.name, p.span).
			With("security.patching." + p.name)
		return
	}
}

func reviewWithoutDeadline(c *Context) {
	for i := range c.Duties {
		d := &c.Duties[i]
		after := slices.Sorted(slices.Values(d.On))
		if d.Kind == "post-incident-review" && !slices.Contains(after, "incident") {
			after = append(after, "incident")
		}
		if len(after) > 0 && d.Within.IsZero() && d.Kind != "client-update" {
			for j := range after {
				after[j] = map[string]string{"architecture-change": "a change of architecture", "incident": "an incident", "people-change": "a change of people", "supplier-change": "a change of supplier"}[after[j]]
			}
			c.Report(at("duties", i), about("duty", d.Name), "Duty %q follows %s and does not say how soon.", d.Name, strings.Join(after, " or "))
		}
		if d.Kind == "exercise" && d.Close.IsZero() {
			c.Report(at("duties", i), about("duty", d.Name), "Exercise %q does not say by when the gaps that it finds are closed.", d.Name).
				Saying("Write close_within: how soon what the exercise finds is mended, well before the next one.").As(Note)
		}
	}
}

func desktopProvesNothing(c *Context) {
	desks, hands := []int(nil), false
	for i := range c.Duties {
		d := &c.Duties[i]
		switch {
		case d.Form == "desktop":
			desks = append(desks, i)
		case d.Form == "sandbox", d.Form == "live", slices.Contains(d.Proves, "rto"):
			hands = true
		}
	}
	for _, i := range desks {
		d := &c.Duties[i]
		proofs := slices.DeleteFunc(slices.Sorted(slices.Values(d.Proves)), func(p string) bool { return p != "rto" && p != "rpo" })
		switch {
		case len(proofs) > 0:
			c.Report(at("duties", i, "proves"), about("duty", d.Name), "Duty %q is talked through at a desk and is offered as proof of the %s.", d.Name, strings.ToUpper(strings.Join(proofs, " and "))).As(Error)
		case !hands && c.promisesRecovery():
			c.Report(at("duties", i, "form"), about("duty", d.Name), "Duty %q is talked through at a desk, and no other exercise restores anything, so no recovery time is ever measured.", d.Name)
		}
	}
}

func neverExercised(c *Context) {
	if !c.promisesRecovery() || slices.ContainsFunc(c.Duties, func(d plan.Duty) bool {
		return d.Kind == "exercise" || slices.Contains(d.Proves, "rto")
	}) {
		return
	}
	tightest := -1
	for i := range c.Functions {
		f := &c.Functions[i]
		if !f.RTO.Known() {
			continue
		}
		if tightest < 0 || sooner(f, &c.Functions[tightest]) {
			tightest = i
		}
	}
	f := &c.Functions[tightest]
	c.Report(at("functions", tightest, "rto"), "the plan", "The plan promises function %q back within %s and has no exercise in which any recovery is tried.", f.Name, f.RTO)
}

// sooner orders functions by their recovery times.
func sooner(a, b *plan.Function) bool {
	if a.RTO.Longest() != b.RTO.Longest() {
		return a.RTO.Longest() < b.RTO.Longest()
	}
	return a.Name < b.Name
}

// promisesRecovery reports whether any function has a recovery time.
func (c *Context) promisesRecovery() bool {
	return slices.ContainsFunc(c.Functions, func(f plan.Function) bool { return f.RTO.Known() })
}

func retentionAmbiguous(c *Context) {
	for i := range c.Backups {
		b := &c.Backups[i]
		subject := about("backup", b.Name)
		switch {
		case !b.Keep.IsZero() && b.KeepAtLeast.IsZero() && b.DeleteAfter.IsZero():
			c.Report(at("backups", i, "keep"), subject, "Backup %q is kept for %s: neither at least nor at most.", b.Name, b.Keep)
		case b.KeepAtLeast.Known() && b.DeleteAfter.Known() && b.KeepAtLeast.Longest() > b.DeleteAfter.Longest():
			c.Report(at("backups", i, "keep_at_least"), subject, "Backup %q is kept for at least %s and deleted after %s.", b.Name, b.KeepAtLeast, b.DeleteAfter).
				Saying("Delete later than what is kept at least.").With(at("backups", i, "delete_after")).As(Error)
		case b.Keep.IsZero() && b.KeepAtLeast.IsZero() && b.DeleteAfter.IsZero():
			c.Report(at("backups", i), subject, "Backup %q does not say how long it is kept.", b.Name).As(Note)
		}
	}
}
