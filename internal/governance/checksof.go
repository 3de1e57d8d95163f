package governance

import (
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

func manyPremises(f *facts, v *verdict) {
	for i := range f.Nodes {
		n := &f.Nodes[i]
		if n.Site == "" {
			v.unknown("node "+n.Name, "The plan does not say at which site it stands.")
		}
		v.covered = append(v.covered, "site of node "+n.Name)
	}
	for _, s := range f.Singles(plan.Measured{}) {
		if s.Kind == plan.KindSite {
			v.fails("site "+s.Name, "With this site alone %s down, and nothing carries %s: %s.", plural(len(s.Functions), "a critical function is", "%d critical functions are"), plural(len(s.Functions), "it", "them"), quoted(s.Functions))
		}
	}
	if len(f.Nodes) == 0 {
		v.unknown("nodes", "The plan lists no node.")
	}
	v.says = "No site takes a critical function down alone."
	v.notCovered = []string{"whether the fallbacks carry what they should: exercises show that"}
}

func described(f *facts, v *verdict) {
	for i := range f.Nodes {
		n := &f.Nodes[i]
		v.covered = append(v.covered, "node "+n.Name)
		var missing []string
		for what, there := range map[string]bool{"its roles": len(n.Roles) > 0, "where it stands": f.Country(n) != "", "who supplies it, or its site": n.Supplier != "" || n.Site != ""} {
			if !there {
				missing = append(missing, what)
			}
		}
		if slices.Sort(missing); len(missing) > 0 {
			v.fails("node "+n.Name, "It is listed and not described: the plan does not say %s.", quoted(missing))
		}
	}
	v.breaks(f, "count-contradicts")
	if len(f.Nodes) == 0 {
		v.unknown("nodes", "The plan lists no node.")
	}
	v.says = "Every node is described, and as many are described as are promised."
	v.notCovered = []string{"whether the nodes can be reached: probes from one to another show that"}
}

func isolated(f *facts, v *verdict) {
	for i := range f.Nodes {
		if f.Nodes[i].Isolated {
			v.covered = append(v.covered, "node "+f.Nodes[i].Name)
		}
	}
	v.breaks(f, "isolated-node-shared")
	if len(v.covered) == 0 {
		v.unknown("nodes", "The plan calls no node isolated.")
	}
	v.says = "What is called isolated shares nothing with other nodes, by the plan."
	v.notCovered = []string{"whether a connection can be made: only trying shows that"}
}

// stopping are the kinds of scenario that stop functions.
var stopping = []string{"node-loss", "site-loss", "supplier-loss", "data-loss", "security"}

func restored(f *facts, v *verdict) {
	for i := range f.Scenarios {
		s := &f.Scenarios[i]
		if !slices.Contains(stopping, s.Kind) {
			continue
		}
		what := "scenario " + s.Name
		v.covered = append(v.covered, what)
		if s.RTOFrom == "" {
			v.fails(what, "Nothing says what starts the clock of the recovery times. Write rto_from.")
		}
		if !s.RestoreWithin.Known() {
			v.fails(what, "Nothing says as a number by when everything is as it was. Write restore_within.")
		}
	}
	if len(v.covered) == 0 {
		v.unknown("scenarios", "The plan has no scenario in which something is lost.")
	}
	v.says = "Every loss has a clock of its recovery and one of full restoration."
	v.notCovered = []string{"whether the times are reached: exercises show that"}
}

func absent(f *facts, v *verdict) {
	for i := range f.People {
		x := &f.People[i]
		if !x.CheckIn.Known() {
			continue
		}
		what := "person " + x.Name
		v.covered = append(v.covered, what)
		switch {
		case !x.AwayAfter.Known():
			v.fails(what, "Nothing says after which absence somebody under contract is engaged. Write away_after.")
		case x.AwayAfter.Longest() > awayMost:
			v.fails(what, "Somebody under contract is engaged after %s; 7 days are the most.", x.AwayAfter)
		}
		engaged(f, v, x)
	}
	if len(v.covered) == 0 {
		v.fails("people", "Nobody's absence is noticed: the plan gives nobody a check-in. Write check_in for whom it depends on.")
	}
	v.says = "A missed check-in is noticed, and a long absence brings somebody whose contract is in force."
	v.notCovered = []string{"whether the contract obliges to come in time"}
}

// engaged wants somebody outside, under contract, among the deputies.
func engaged(f *facts, v *verdict, x *plan.Person) {
	contracted := false
	for _, name := range x.Deputies {
		d := f.Person(name)
		if d == nil || !d.Outside || d.Contract.Reference == "" {
			continue
		}
		contracted = true
		if d.Contract.Until.IsZero() {
			v.unknown("person "+d.Name, "Nothing says until when the contract %s is in force.", d.Contract.Reference)
			continue
		}
		v.lapses(f.now, d.Contract.Until.End(), "person "+d.Name, "The contract %s was in force until %s.", d.Contract.Reference, day(d.Contract.Until.Time))
	}
	if !contracted {
		v.fails("person "+x.Name, "Nobody from outside with a contract is among the deputies.")
	}
}

func runbooks(f *facts, v *verdict) {
	v.breaks(f, "function-without-runbook")
	for i := range f.Runbooks {
		b := &f.Runbooks[i]
		what := "runbook " + b.Name
		v.covered = append(v.covered, what)
		switch {
		case b.File != "" && len(f.Books[b.Name]) == 0:
			v.fails(what, "Its text was not handed in with the plan.")
		case !b.ReviewEvery.Known():
			v.unknown(what, "Nothing says as a number how often it is reviewed. Write review_every.")
		case b.ReviewEvery.Longest() > quarter:
			v.fails(what, "It is reviewed every %s; 92 days are the most.", b.ReviewEvery)
		default:
			v.comesRound(f, what, quarter)
		}
	}
	if len(f.Runbooks) == 0 {
		v.fails("runbooks", "The plan has no runbook.")
	}
	v.says = "Every critical function has a runbook, and every runbook was reviewed within 92 days."
	v.notCovered = []string{"whether somebody else can follow them: exercises show that"}
}

// criticalSuppliers are those that the plan calls so.
func criticalSuppliers(f *facts) (out []*plan.Supplier) {
	for i := range f.Suppliers {
		if s := &f.Suppliers[i]; s.Critical != nil && *s.Critical {
			out = append(out, s)
		}
	}
	return out
}

func contingent(f *facts, v *verdict) {
	for _, s := range criticalSuppliers(f) {
		what := "supplier " + s.Name
		v.covered = append(v.covered, what)
		if len(s.Alternatives) == 0 {
			v.fails(what, "It is critical, and the plan names no alternative.")
			continue
		}
		// The first that is whole stands for the supplier; without one, the first
		// says what is missing.
		best := slices.IndexFunc(s.Alternatives, func(a plan.Alternative) bool { return a.Runbook != "" && !rehearsed(f, s, &a).IsZero() })
		a := &s.Alternatives[max(best, 0)]
		if a.Runbook == "" {
			v.fails(what, "No runbook says how to change to %s.", a.Supplier)
			continue
		}
		alternative(f, v, s, a)
	}
	if len(v.covered) == 0 {
		v.unknown("suppliers", "The plan calls no supplier critical.")
	}
	v.says = "Every critical supplier has an alternative, a runbook for the change, and a rehearsal within a year."
	v.notCovered = []string{"whether the alternative would take the organisation as its client"}
}

// rehearsed is when the change to an alternative was last rehearsed.
func rehearsed(f *facts, s *plan.Supplier, a *plan.Alternative) time.Time {
	d := f.due["rehearsal alternative "+s.Name+"/"+a.Supplier]
	if d.Done.After(d.Last) {
		return d.Done
	}
	return d.Last
}

// alternative wants the rehearsal of a change within a year.
func alternative(f *facts, v *verdict, s *plan.Supplier, a *plan.Alternative) {
	if rehearsed(f, s, a).IsZero() {
		v.fails("supplier "+s.Name, "The change to %s was never rehearsed.", a.Supplier)
		return
	}
	v.comesRound(f, "rehearsal alternative "+s.Name+"/"+a.Supplier, annual)
}

func movable(f *facts, v *verdict) {
	home := homeOf(f, v)
	if len(home) == 0 {
		return
	}
	seen := map[string]bool{}
	for i := range f.Nodes {
		s := f.Supplier(f.Nodes[i].Supplier)
		if s == nil || seen[s.Name] {
			continue
		}
		seen[s.Name] = true
		v.covered = append(v.covered, "supplier "+s.Name)
		at := slices.IndexFunc(s.Alternatives, func(a plan.Alternative) bool {
			x := f.Supplier(a.Supplier)
			return x != nil && (slices.Contains(x.Provides, "hosting") || onlyInference(f, s.Name) && slices.Contains(x.Provides, "inference")) && plan.InCountries(x.Jurisdiction, home)
		})
		if at < 0 {
			v.fails("supplier "+s.Name, "It hosts nodes, and no alternative that can host obeys a law of %s.", quoted(home))
			continue
		}
		alternative(f, v, s, &s.Alternatives[at])
	}
	if len(seen) == 0 {
		v.unknown("suppliers", "The plan names nobody who hosts its nodes.")
	}
	v.says = "Whoever hosts nodes can be left for another host where data may be; the move was rehearsed within a year."
	v.notCovered = []string{"whether there is room at the other host on that day"}
}

// onlyInference reports whether a supplier hosts nothing but models: another's
// models carry those too.
func onlyInference(f *facts, supplier string) bool {
	for i := range f.Nodes {
		if n := &f.Nodes[i]; n.Supplier == supplier && !slices.Equal(n.Roles, []string{"inference"}) {
			return false
		}
	}
	return true
}

func remote(f *facts, v *verdict) {
	v.covered = append(v.covered, "organisation.remote_first")
	switch r := f.Organisation.Remote; {
	case r == nil:
		v.unknown("organisation", "The plan does not say whether anybody has to be at a certain place to work. Write organisation.remote_first.")
	case !*r:
		v.fails("organisation", "The plan says that some work needs a certain place.")
	}
	v.says = "The plan says that nobody needs to be at a certain place to work."
	v.notCovered = []string{"whether it is so: O-71.attested"}
}

func told(f *facts, v *verdict) {
	for i := range f.Clients {
		c := &f.Clients[i]
		what := "client " + c.Name
		v.covered = append(v.covered, what)
		shortest, reached := time.Duration(0), false
		for j := range f.Notices {
			n := &f.Notices[j]
			if n.Event != "outage" && n.Event != "security-incident" && n.Event != "personal-data-breach" || n.To != "clients" && n.To != c.Name {
				continue
			}
			reached = true
			switch {
			case !n.Within.Known():
				v.fails(what, "Notice %s has no deadline as a number.", n.Name)
			case c.Notify.Known() && n.Within.Longest() > c.Notify.Longest():
				v.fails(what, "Notice %s is due within %s; the agreement gives %s.", n.Name, n.Within, c.Notify)
			case shortest == 0 || n.Within.Longest() < shortest:
				shortest = n.Within.Longest()
			}
		}
		switch {
		case !reached:
			v.fails(what, "No notice of an outage or an incident reaches this client.")
		case !c.Notify.Known() && shortest > 0:
			v.unknown(what, "What the agreement says of notices is not in the plan; the shortest deadline is %s. Write notify_within.", plan.FormatDuration(shortest))
		}
		if !c.Agreement.Until.IsZero() {
			v.lapses(f.now, c.Agreement.Until.End(), what, "The agreement was in force until %s.", day(c.Agreement.Until.Time))
		}
	}
	if len(f.Clients) == 0 {
		v.unknown("clients", "The plan lists no client.")
	}
	v.says = "Every client is told within what its agreement gives."
	v.notCovered = []string{"whether notices went out: the log of an incident shows that"}
}

func exercised(f *facts, v *verdict) {
	duty(f, v, "plan-review", "review the plan", annual)
	duty(f, v, "exercise", "exercise the plan", annual)
	v.says = "The plan was reviewed and exercised within a year."
	v.notCovered = []string{"what the exercise has shown: O-76.exercised"}
}

func closed(f *facts, v *verdict) {
	for _, kind := range []string{"plan-review", "exercise"} {
		all := dutiesOf(f, kind)
		if len(all) == 0 {
			v.fails("duties", "The plan has no duty of the kind %s.", kind)
		}
		for _, d := range all {
			what := "duty " + d.Name
			v.covered = append(v.covered, what)
			switch {
			case !d.Close.Known():
				v.fails(what, "Nothing says as a number how soon the gaps that it finds are closed. Write close_within.")
			case d.Every.Known() && d.Close.Longest() > d.Every.Longest():
				v.fails(what, "Its gaps are closed within %s, and it comes round every %s.", d.Close, d.Every)
			}
		}
	}
	openReviews(f, v)
	openActions(f, v)
	v.says = "Gaps are to be closed before the next cycle, and no review and no action is past its day."
	v.notCovered = []string{"gaps of exercises that were not handed in"}
}

// openReviews wants that no review of the plan is past its day.
func openReviews(f *facts, v *verdict) {
	for _, r := range f.reviews {
		if r.Closed == nil {
			v.lapses(f.now, r.Due, "review "+r.ID.String(), "A change opened this review on %s; it was due by %s. `foundry plan review` closes it.", day(r.Opened), day(r.Due))
		}
	}
	v.covered = append(v.covered, "the reviews that changes of the plan have opened")
}

// occasions are the changes after which a plan is looked at again.
var occasions = []string{"architecture-change", "incident", "people-change"}

func reviewedOnChange(f *facts, v *verdict) {
	all := dutiesOf(f, "plan-review")
	if len(all) == 0 {
		v.fails("duties", "The plan has no duty to review it.")
	}
	for _, on := range occasions {
		if len(all) > 0 && !slices.ContainsFunc(all, func(d *plan.Duty) bool { return slices.Contains(d.On, on) }) {
			v.fails("duties", "No review of the plan is asked for by %s. Write it under on:.", on)
		}
	}
	for _, r := range f.reviews {
		if r.Closed != nil && r.Closed.After(r.Due) && f.now.Sub(*r.Closed) < annual {
			v.unknown("review "+r.ID.String(), "It was closed on %s, and was due by %s.", day(*r.Closed), day(r.Due))
		}
	}
	openReviews(f, v)
	v.says = "Changes ask for a review, and every review that one opened was closed in time."
	v.notCovered = []string{"changes that are not in the plan"}
}

func familiar(f *facts, v *verdict) {
	must := map[string]bool{}
	for i := range f.Documents {
		for _, name := range f.Documents[i].Acknowledge {
			must[name] = true
		}
	}
	if len(must) == 0 {
		v.fails("documents", "The plan names nobody who must have read it. Write acknowledge: at its document.")
	}
	grace := f.now
	if f.revision.Since != nil {
		grace = f.revision.Since.Add(readGrace)
	}
	for i := range f.People {
		x := &f.People[i]
		if !must[x.Name] {
			continue
		}
		what := "person " + x.Name
		v.covered = append(v.covered, what)
		who := f.accounts[x.Account]
		switch {
		case x.Account == "":
			v.unknown(what, "The plan gives this person no account: nobody can see whether they have read it.")
		case who == "":
			v.unknown(what, "Nobody active has the account that the plan gives this person.")
		case f.read[who]:
		case f.now.Before(grace):
			v.unknown(what, "This person has not acknowledged the plan in force yet, and should until %s.", day(grace))
		default:
			v.lapses(f.now, grace, what, "This person has not acknowledged the plan in force, and should have until %s.", day(grace))
		}
	}
	v.says = "Everybody who must have read the plan has acknowledged the one in force."
	v.notCovered = []string{"whether they have understood it: exercises show that"}
}

func approved(f *facts, v *verdict) {
	v.covered = append(v.covered, "the decisions on the hash in force")
	approvers := f.Organisation.Approvers
	switch {
	case len(approvers) == 0:
		v.fails("organisation", "The plan names nobody to approve it. Write organisation.approvers.")
		return
	case !slices.ContainsFunc(approvers, func(name string) bool { return name != f.Organisation.Owner }):
		v.fails("organisation", "The owner of the plan alone approves it.")
	case len(f.Approvers()) == 0:
		v.unknown("organisation", "The plan gives nobody who approves it an account: whether it was they cannot be seen. Write account: at the person.")
		return
	}
	as := map[string]bool{}
	for _, d := range f.revision.Decisions {
		if d.Approved && d.As != "" {
			as[d.As] = true
		}
	}
	if want := max(1, f.Organisation.Approvals); len(as) < want {
		v.fails("approval", "%d of %d approvals are by people whom the plan names to approve it.", len(as), want)
	}
	v.says = "The hash in force was approved by those whom the plan names."
	v.notCovered = []string{"minutes of the meeting"}
}
