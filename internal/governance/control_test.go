package governance

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/lint"
)

// whole is a plan with which every control of the plan passes.
const whole = `
version: 1
organisation:
  {name: Harbour Works, country: DE, home: [EEA], remote_first: true, owner: head, operators: [watch], approvers: [board, auditor], approvals: 2}
documents:
  - {name: bcp, title: The plan, version: "1", date: 2026-01-01, owner: head, review_every: annually, reviewed: 2026-01-01, acknowledge: [head, watch]}
people:
  - {name: head, account: head@works.example, deputies: [watch, firm], check_in: 1 day, away_after: 7 days}
  - {name: watch, account: watch@works.example, deputies: [head], reachable: always}
  - {name: firm, outside: true, contract: {reference: c-7, until: 2027-12-31}}
  - {name: board, account: board@works.example}
  - {name: auditor, account: auditor@works.example}
sites:
  - {name: east, supplier: host-a, country: DE}
  - {name: west, supplier: host-b, country: FR}
suppliers:
  - {name: host-a, title: Host A GmbH, jurisdiction: DE, provides: [hosting], critical: true, alternatives: [{supplier: host-b, runbook: lost, rehearsed: 2026-05-01}]}
  - {name: host-b, jurisdiction: FR, provides: [hosting], critical: true, alternatives: [{supplier: host-a, runbook: lost, rehearsed: 2026-05-01}]}
  - {name: vault, jurisdiction: NL, provides: [storage]}
nodes:
  - {name: one, supplier: host-a, site: east, roles: [gateway, database], stack: s}
  - {name: two, supplier: host-b, site: west, roles: [gateway, database], stack: s, spare: true}
  - {name: alone, supplier: host-a, site: east, roles: [gateway], isolated: true, control_plane: own}
data: [{name: orders}]
functions:
  - {name: shop, mtd: 8h, rto: 4h, rpo: 1h, host: [one], data: [orders], fallbacks: [{node: two, state: warm, data: replica, serves: any, takes: 10 min}]}
backups:
  - {name: nightly, functions: [shop], data: [orders], continuous: 5 min, to: [{name: far, supplier: vault, country: NL}]}
clients:
  - {name: port, functions: [shop], notify_within: 2h, agreement: {reference: a-1, until: 2027-12-31}}
notices:
  - {name: outage, event: outage, to: clients, within: 1h, from: detection, channels: [{kind: telephone}]}
scenarios:
  - {name: one-lost, kind: node-loss, loses: [one], rto_from: detection, recovery: [over], restore_within: 1 day}
recovery:
  - {name: over, functions: [shop], onto: [two], steps: [{name: promote, kind: promote, takes: 5 min, runbook: lost}]}
runbooks:
  - {name: lost, file: lost.md, for: [shop], owner: head, review_every: quarterly, reviewed: 2026-05-20}
duties:
  - {name: look, kind: plan-review, every: annually, within: 30 days, on: [architecture-change, incident, people-change], last: 2026-05-10, close_within: 90 days}
  - {name: drill, kind: exercise, every: annually, last: 2026-05-11, close_within: 90 days}
  - {name: rights, kind: access-review, every: quarterly}
  - {name: call, kind: contact-review, every: annually, last: 2026-04-01}
claims:
  - {name: ce, standard: cyber-essentials, status: held, kind: certificate, scope: all, until: 2027-03-31}
  - {name: cover, standard: cyber-insurance, status: held, kind: insurance, cover: 1M EUR, until: 2027-03-31}
commitments:
  - {name: three, subject: nodes.count, equals: "3", evidence: [O-40]}
`

var today = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// world is what the checks see besides the text.
type situation struct {
	facts
	text string
	done map[string]confirmation
}

func situationOf() *situation {
	since, reviewed := today.AddDate(0, 0, -2), today.AddDate(0, -1, 0)
	s := &situation{text: whole, done: map[string]confirmation{}}
	s.now = today
	s.revision = Revision{ID: uuid.MustParse("019ab0e2-0c5e-7000-8000-000000000001"), Since: &since, Decisions: []Decision{{By: "person:b", As: "board", Approved: true}, {By: "person:a", As: "auditor", Approved: true}}}
	s.read = map[string]bool{"person:h": true, "person:w": true}
	s.accounts = map[string]string{"head@works.example": "person:h", "watch@works.example": "person:w", "board@works.example": "person:b", "auditor@works.example": "person:a"}
	s.here = &Here{Country: "DE", Supplier: "host a gmbh", Targets: []HereTarget{{Name: "far", Supplier: "vault", Country: "NL"}}}
	s.exercisesKnown, s.exercises = true, []Exercise{{ID: "exc-1", Scenario: "one-lost", Mode: "desktop", Outcome: "passed", At: today.AddDate(0, 0, -20)}}
	s.access = &accessReviews{last: &reviewed, began: today.AddDate(-1, 0, 0)}
	return s
}

func (s *situation) replace(old, new string) {
	if !strings.Contains(s.text, old) {
		panic("the plan has no " + old)
	}
	s.text = strings.Replace(s.text, old, new, 1)
}

// state is how a control stands after its check.
func (s *situation) state(t *testing.T, id string) (evidence.State, []evidence.Finding) {
	t.Helper()
	read, err := plan.Parse("fleet.yaml", []byte(s.text))
	if err != nil {
		t.Fatal(err)
	}
	read.Books = map[string][]byte{}
	for _, b := range read.Runbooks {
		if b.File != "gone.md" {
			read.Books[b.Name] = []byte("# What to do\n")
		}
	}
	f := s.facts
	f.Plan, f.id, f.revision.Hash = read, id, read.Hash()
	f.complete(s.done, plan.Measured{})
	found := f.judge(checks[id])
	var latest []evidence.Observation
	for _, x := range found {
		o := evidence.Observation{Result: x.Result, Reason: x.Reason, Observed: f.now, Expires: f.now.Add(3 * time.Hour)}
		if !x.Until.IsZero() && x.Until.Before(o.Expires) {
			o.Expires = x.Until
		}
		latest = append(latest, o)
		if !slices.Contains(x.Covered, "continuity plan "+read.Hash()) {
			t.Errorf("%s: a finding is not bound to the hash of the plan: %+v", id, x)
		}
		var raw map[string]any
		if err := json.Unmarshal(x.Raw, &raw); err != nil || raw["plan"] != read.Hash() {
			t.Errorf("%s: %s %v", id, x.Raw, err)
		}
	}
	return evidence.Stand(latest, latest, f.now).State, found
}

type turn struct {
	name string
	is   evidence.State
	says string // in a reason
	do   func(s *situation)
}

func replacing(pairs ...string) func(*situation) {
	return func(s *situation) {
		for i := 0; i < len(pairs); i += 2 {
			s.replace(pairs[i], pairs[i+1])
		}
	}
}

// exercising adds an exercise to the one that there is.
func exercising(e Exercise) func(*situation) {
	return func(s *situation) { s.exercises = append(s.exercises, e) }
}

// at moves the clock, and what is not asked about with it.
func at(year int, month time.Month, day int) func(*situation) {
	return func(s *situation) {
		s.now = time.Date(year, month, day, 12, 0, 0, 0, time.UTC)
		reviewed, since := s.now.AddDate(0, 0, -10), s.now.AddDate(0, 0, -2)
		s.access, s.revision.Since = &accessReviews{last: &reviewed, began: reviewed}, &since
		// The plan itself was looked at: what is asked about has lapsed alone.
		s.done["duty look"] = confirmation{Done: s.now.AddDate(0, 0, -1)}
	}
}

// planOld is a plan whose own review is overdue: no word of it counts.
func planOld(s *situation) { s.now = time.Date(2027, 5, 11, 12, 0, 0, 0, time.UTC) }

var turns = map[string][]turn{
	"O-01": {
		{"a node stands elsewhere", evidence.Failing, "node two", replacing("name: west, supplier: host-b, country: FR", "name: west, supplier: host-b, country: US")},
		{"a supplier obeys foreign law", evidence.Failing, "law of US", replacing("name: host-b, jurisdiction: FR", "name: host-b, jurisdiction: US")},
		{"this node stands elsewhere", evidence.Failing, "stands in US", func(s *situation) { s.here.Country = "US" }},
		{"this node is run by somebody the plan does not know", evidence.Failing, "no such supplier", func(s *situation) { s.here.Supplier = "Cheap Cloud" }},
		{"the country of this node is assumed", evidence.Unclear, "assumed", func(s *situation) { s.here.Assumed = true }},
		{"nothing is known of this node", evidence.Unclear, "not known", func(s *situation) { s.here = nil }},
		{"nobody says who supplies a node", evidence.Unclear, "who supplies it", replacing("name: one, supplier: host-a, site: east", "name: one, country: DE")},
		{"where data may be is not said", evidence.Unclear, "organisation.home", replacing("home: [EEA], ", "")},
		{"the plan was not reviewed", evidence.Overdue, "due to be reviewed", planOld},
	},
	"O-02": {
		{"a target of the plan stands elsewhere", evidence.Failing, "target far", replacing("supplier: vault, country: NL", "supplier: vault, country: US")},
		{"who stores obeys foreign law", evidence.Failing, "law of US", replacing("name: vault, jurisdiction: NL", "name: vault, jurisdiction: US")},
		{"a configured target stands elsewhere", evidence.Failing, "configured target far", func(s *situation) { s.here.Targets[0].Country = "US" }},
		{"a configured target is with somebody the plan does not know", evidence.Failing, "no such supplier", func(s *situation) { s.here.Targets[0].Supplier = "S3 of somebody" }},
		{"a configured target says nothing", evidence.Unclear, "in which country", func(s *situation) { s.here.Targets[0].Country = "" }},
		{"no target is planned", evidence.Unclear, "no target", replacing("to: [{name: far, supplier: vault, country: NL}]", "to: []")},
		{"the plan was not reviewed", evidence.Overdue, "due to be reviewed", planOld},
	},
	"O-14": {
		{"the plan asks for no review", evidence.Failing, "no duty", replacing("  - {name: rights, kind: access-review, every: quarterly}\n", "")},
		{"the last review is older than the plan's period", evidence.Overdue, "Access was last reviewed", func(s *situation) { x := today.AddDate(0, -4, 0); s.access.last = &x }},
		{"there was never a review", evidence.Overdue, "never reviewed", func(s *situation) { s.access.last = nil }},
		{"the first review is not due yet", evidence.Unclear, "first review is due", func(s *situation) { s.access.last, s.access.began = nil, today }},
		{"the period is a word", evidence.Unclear, "how often", replacing("kind: access-review, every: quarterly", "kind: access-review, every: regularly")},
	},
	"O-37": {
		{"a claim has lapsed and stands", evidence.Failing, "lapsed", replacing("cyber-essentials, status: held", "cyber-essentials, status: lapsed")},
		{"one standard is claimed in two ways", evidence.Failing, "claim-contradicts", replacing("claims:\n", "claims:\n  - {name: ce2, standard: cyber-essentials, status: in-progress, kind: certificate}\n")},
		{"a certificate has ended", evidence.Overdue, "was held until", at(2027, 4, 2)},
		{"a certificate has no scope", evidence.Unclear, "scope", replacing("scope: all, ", "")},
		{"a certificate has no end", evidence.Unclear, "until when", replacing("scope: all, until: 2027-03-31", "scope: all")},
	},
	"O-38": {
		{"a critical function has no recovery time", evidence.Failing, "By when", func(s *situation) {
			s.replace("rto: 4h, ", "")
		}},
		{"it is back later than it may be away", evidence.Failing, "should be back within 9h", replacing("rto: 4h", "rto: 9h")},
		{"its downtime is a word", evidence.Failing, "not given as a number", replacing("{name: shop, mtd: 8h", "{name: shop, critical: true, mtd: regularly")},
		{"no function is critical", evidence.Unclear, "no function critical", replacing("{name: shop, mtd: 8h", "{name: shop, critical: false, mtd: 8h")},
		{"the plan was not reviewed", evidence.Overdue, "due to be reviewed", planOld},
	},
	"O-39": {
		{"one site takes a function down", evidence.Failing, "site east", replacing(", fallbacks: [{node: two, state: warm, data: replica, serves: any, takes: 10 min}]", "")},
		{"a node stands nowhere", evidence.Unclear, "at which site", replacing("name: two, supplier: host-b, site: west", "name: two, supplier: host-b, country: FR")},
		{"the plan was not reviewed", evidence.Overdue, "due to be reviewed", planOld},
	},
	"O-40": {
		{"more are promised than described", evidence.Failing, "three", replacing(`equals: "3"`, `equals: "4"`)},
		{"a node is only named", evidence.Failing, "its roles", replacing("site: east, roles: [gateway, database], ", "site: east, ")},
		{"the plan was not reviewed", evidence.Overdue, "due to be reviewed", planOld},
	},
	"O-43": {
		{"it shares its control plane", evidence.Failing, "control plane", replacing("roles: [gateway, database], stack: s}", "roles: [gateway, database], stack: s, control_plane: own}")},
		{"another node reaches it", evidence.Failing, "connection", replacing("roles: [gateway, database], stack: s}", "roles: [gateway, database], stack: s, reaches: [alone]}")},
		{"to accept it does not isolate it", evidence.Failing, "connection", func(s *situation) {
			s.replace("roles: [gateway, database], stack: s}", "roles: [gateway, database], stack: s, reaches: [alone]}")
			s.text += "suppress: [{rule: isolated-node-shared, reason: For now., by: head, until: 2027-01-01}]\n"
		}},
		{"nothing is isolated", evidence.Unclear, "no node isolated", replacing("isolated: true, control_plane: own", "control_plane: own")},
		{"the plan was not reviewed", evidence.Overdue, "due to be reviewed", planOld},
	},
	"O-55": {
		{"nothing starts the clock", evidence.Failing, "rto_from", replacing("rto_from: detection, ", "")},
		{"full restoration has no end", evidence.Failing, "restore_within", replacing(", restore_within: 1 day", "")},
		{"full restoration is a word", evidence.Failing, "restore_within", replacing("restore_within: 1 day", "restore_within: promptly")},
		{"nothing is ever lost", evidence.Unclear, "no scenario", replacing("kind: node-loss, ", "kind: planned, ")},
		{"the plan was not reviewed", evidence.Overdue, "due to be reviewed", planOld},
	},
	"O-57": {
		{"nobody looks at the contacts", evidence.Failing, "no duty", replacing("  - {name: call, kind: contact-review, every: annually, last: 2026-04-01}\n", "")},
		{"they are looked at every two years", evidence.Failing, "365 days", replacing("contact-review, every: annually", "contact-review, every: 2 years")},
		{"they were looked at too long ago", evidence.Overdue, "was last done", at(2027, 4, 2)},
		{"nothing says when they were looked at", evidence.Unclear, "nothing says when", replacing("contact-review, every: annually, last: 2026-04-01", "contact-review, every: annually")},
	},
	"O-59": {
		{"nobody's absence is noticed", evidence.Failing, "check-in", replacing("check_in: 1 day, ", "")},
		{"the absence may be longer", evidence.Failing, "7 days are the most", replacing("away_after: 7 days", "away_after: 8 days")},
		{"no absence is long enough", evidence.Failing, "away_after", replacing(", away_after: 7 days", "")},
		{"nobody is under contract", evidence.Failing, "with a contract", replacing("deputies: [watch, firm]", "deputies: [watch]")},
		{"the contract has ended", evidence.Overdue, "was in force until", at(2028, 1, 2)},
		{"the contract has no end", evidence.Unclear, "until when", replacing("contract: {reference: c-7, until: 2027-12-31}", "contract: {reference: c-7}")},
	},
	"O-60": {
		{"a function has no runbook", evidence.Failing, "function-without-runbook", replacing("file: lost.md, for: [shop]", "file: lost.md, for: [one-lost]", "takes: 5 min, runbook: lost", "takes: 5 min", "loses: [one], rto_from: detection, recovery: [over]", "loses: [two], rto_from: detection")},
		{"its text was not handed in", evidence.Failing, "not handed in", replacing("file: lost.md", "file: gone.md")},
		{"it is reviewed once a year", evidence.Failing, "92 days", replacing("review_every: quarterly", "review_every: annually")},
		{"its review is overdue", evidence.Overdue, "was last done", at(2026, 8, 25)},
		{"its review has no date", evidence.Unclear, "nothing says when", replacing("review_every: quarterly, reviewed: 2026-05-20", "review_every: quarterly")},
	},
	"O-67": {
		{"no insurance is held", evidence.Failing, "no insurance", replacing("cyber-insurance, status: held", "cyber-insurance, status: in-progress")},
		{"no certificate is held", evidence.Failing, "no certificate", replacing("cyber-essentials, status: held", "cyber-essentials, status: aligned")},
		{"both have ended", evidence.Overdue, "was in force until", at(2027, 4, 2)},
		{"nothing says what is covered", evidence.Unclear, "covers", replacing("cover: 1M EUR, ", "")},
	},
	"O-68": {
		{"a critical supplier has no alternative", evidence.Failing, "no alternative", replacing(", alternatives: [{supplier: host-b, runbook: lost, rehearsed: 2026-05-01}]", "")},
		{"nothing says how to change", evidence.Failing, "No runbook", replacing("supplier: host-b, runbook: lost, rehearsed", "supplier: host-b, rehearsed")},
		{"it was never tried", evidence.Failing, "never rehearsed", replacing("supplier: host-b, runbook: lost, rehearsed: 2026-05-01", "supplier: host-b, runbook: lost")},
		{"it was tried too long ago", evidence.Overdue, "was last done", at(2027, 5, 2)},
		{"no supplier is critical", evidence.Unclear, "no supplier critical", func(s *situation) { s.text = strings.ReplaceAll(s.text, "critical: true, ", "") }},
	},
	"O-70": {
		{"the other host obeys foreign law", evidence.Failing, "supplier host-a", replacing("name: host-b, jurisdiction: FR", "name: host-b, jurisdiction: US")},
		{"the alternative hosts nothing", evidence.Failing, "no alternative that can host", replacing("name: host-b, jurisdiction: FR, provides: [hosting]", "name: host-b, jurisdiction: FR, provides: [mail]")},
		{"the move was tried too long ago", evidence.Overdue, "was last done", at(2027, 5, 2)},
	},
	"O-71": {
		{"work needs a place", evidence.Failing, "needs a certain place", replacing("remote_first: true", "remote_first: false")},
		{"the plan does not say", evidence.Unclear, "remote_first", replacing("remote_first: true, ", "")},
		{"the plan was not reviewed", evidence.Overdue, "due to be reviewed", planOld},
	},
	"O-72": {
		{"a notice is slower than an agreement", evidence.Failing, "the agreement gives 2h", replacing("within: 1h, from", "within: 3h, from")},
		{"no notice reaches the client", evidence.Failing, "No notice", replacing("event: outage, to: clients", "event: outage, to: staff")},
		{"a notice has no number", evidence.Failing, "no deadline", replacing("within: 1h, from", "within: promptly, from")},
		{"the agreement has ended", evidence.Overdue, "was in force until", at(2028, 1, 2)},
		{"what was agreed is not known", evidence.Unclear, "shortest deadline is 1h", replacing("notify_within: 2h, ", "")},
	},
	"O-76": {
		{"the plan is never exercised", evidence.Failing, "no duty to exercise", replacing("  - {name: drill, kind: exercise, every: annually, last: 2026-05-11, close_within: 90 days}\n", "")},
		{"it is reviewed every two years", evidence.Failing, "365 days", replacing("plan-review, every: annually", "plan-review, every: 2 years")},
		{"the exercise is overdue", evidence.Overdue, "drill was last done", at(2027, 5, 12)},
		{"nothing says when it was exercised", evidence.Unclear, "nothing says when", replacing("exercise, every: annually, last: 2026-05-11", "exercise, every: annually")},
	},
	"O-76.exercised": {
		{"it was never exercised", evidence.Failing, "scenario one-lost: It was never exercised", func(s *situation) { s.exercises = nil }},
		{"the last one failed", evidence.Failing, "it failed (exc-2)", exercising(Exercise{ID: "exc-2", Scenario: "one-lost", Mode: "sandbox", Outcome: "failed", At: today})},
		{"one before it failed", evidence.Passing, "", exercising(Exercise{ID: "exc-2", Scenario: "one-lost", Mode: "sandbox", Outcome: "failed", At: today.AddDate(0, 0, -30)})},
		{"it came to no end, and says nothing", evidence.Passing, "", exercising(Exercise{ID: "exc-2", Scenario: "one-lost", Mode: "sandbox", Outcome: "aborted", At: today})},
		{"a target was missed", evidence.Failing, "something was missing", exercising(Exercise{ID: "exc-2", Scenario: "one-lost", Mode: "sandbox", Outcome: "missed", At: today})},
		{"a gap of a desktop is open", evidence.Failing, "1 are open", exercising(Exercise{ID: "exc-2", Scenario: "one-lost", Mode: "desktop", Outcome: "missed", At: today, Open: 1})},
		{"every gap of a desktop is closed", evidence.Passing, "", exercising(Exercise{ID: "exc-2", Scenario: "one-lost", Mode: "desktop", Outcome: "missed", At: today})},
		{"a target was not measured", evidence.Unclear, "could be measured", exercising(Exercise{ID: "exc-2", Scenario: "one-lost", Mode: "sandbox", Outcome: "inconclusive", At: today})},
		{"another scenario was exercised", evidence.Failing, "never", func(s *situation) { s.exercises[0].Scenario = "two-lost" }},
		{"it was only talked through", evidence.Failing, "never exercised in the mode sandbox", replacing("kind: exercise, every", "kind: exercise, form: sandbox, every")},
		{"it was only tried on copies", evidence.Failing, "never exercised in the mode desktop", func(s *situation) {
			s.replace("kind: exercise, every", "kind: exercise, form: desktop, every")
			s.exercises[0].Mode = "sandbox"
		}},
		{"a game day is both", evidence.Passing, "", func(s *situation) {
			s.replace("kind: exercise, every", "kind: exercise, form: sandbox, every")
			s.exercises[0].Mode = "live"
		}},
		{"no duty asks for it", evidence.Failing, "No duty of the plan asks", replacing("kind: exercise, every", "kind: exercise, of: [shop], every")},
		{"nothing says how often", evidence.Unclear, "how often", replacing("exercise, every: annually, ", "exercise, every: regularly, ")},
		{"it is due again", evidence.Overdue, "was due on 2027-05-12", at(2027, 5, 13)},
		{"nothing is known", evidence.Unclear, "is not known", func(s *situation) { s.exercisesKnown = false }},
	},
	"O-77": {
		{"an action is past its day", evidence.Overdue, "What it left to do (exercise exc-1/gap-1) was due on", func(s *situation) {
			s.actions = []Action{{Key: "exercise exc-1/gap-1", Of: "exercise exc-1", Owner: "head", Due: today.AddDate(0, 0, -1)}}
		}},
		{"gaps may stay", evidence.Failing, "close_within", replacing("last: 2026-05-11, close_within: 90 days", "last: 2026-05-11")},
		{"gaps outlast the cycle", evidence.Failing, "comes round every", replacing("last: 2026-05-11, close_within: 90 days", "last: 2026-05-11, close_within: 2 years")},
		{"a review is past its day", evidence.Overdue, "opened this review", func(s *situation) {
			s.reviews = []Review{{ID: uuid.New(), Opened: today.AddDate(0, -2, 0), Due: today.AddDate(0, -1, 0)}}
		}},
	},
	"O-78": {
		{"a change of people asks for nothing", evidence.Failing, "people-change", replacing("[architecture-change, incident, people-change]", "[architecture-change, incident]")},
		{"a review is past its day", evidence.Overdue, "opened this review", func(s *situation) {
			s.reviews = []Review{{ID: uuid.New(), Opened: today.AddDate(0, -2, 0), Due: today.AddDate(0, -1, 0)}}
		}},
		{"a review was closed late", evidence.Unclear, "was closed on", func(s *situation) {
			late := today.AddDate(0, 0, -1)
			s.reviews = []Review{{ID: uuid.New(), Opened: today.AddDate(0, -2, 0), Due: today.AddDate(0, -1, 0), Closed: &late}}
		}},
	},
	"O-79": {
		{"nobody has to read it", evidence.Failing, "names nobody", replacing(", acknowledge: [head, watch]", "")},
		{"somebody has not read it in time", evidence.Overdue, "should have until", func(s *situation) {
			since := today.AddDate(0, 0, -15)
			s.read, s.revision.Since = map[string]bool{"person:h": true}, &since
		}},
		{"somebody has not read it yet", evidence.Unclear, "not acknowledged", func(s *situation) { s.read = map[string]bool{"person:w": true} }},
		{"somebody has no account", evidence.Unclear, "no account", replacing("name: watch, account: watch@works.example", "name: watch")},
		{"an account is nobody's", evidence.Unclear, "Nobody active", func(s *situation) { delete(s.accounts, "watch@works.example") }},
	},
	"O-80": {
		{"one of two has approved", evidence.Failing, "1 of 2", func(s *situation) { s.revision.Decisions = s.revision.Decisions[:1] }},
		{"others have approved", evidence.Failing, "0 of 2", func(s *situation) {
			s.revision.Decisions = []Decision{{By: "person:x", Approved: true}, {By: "person:y", Approved: true}}
		}},
		{"two voices of one", evidence.Failing, "1 of 2", func(s *situation) { s.revision.Decisions[1].As = "board" }},
		{"the owner alone approves", evidence.Failing, "owner", replacing("approvers: [board, auditor], approvals: 2", "approvers: [head]")},
		{"nobody is to approve", evidence.Failing, "names nobody", replacing(", approvers: [board, auditor], approvals: 2", "")},
		{"approvers have no accounts", evidence.Unclear, "account", replacing("name: board, account: board@works.example", "name: board", "name: auditor, account: auditor@works.example", "name: auditor")},
		{"the plan was not reviewed", evidence.Overdue, "due to be reviewed", planOld},
	},
}

func TestEveryControlOfThePlanPassesFailsAndIsOverdueWithAPlanThatDoes(t *testing.T) {
	t.Parallel()
	for _, id := range Controls() {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			if is, found := situationOf().state(t, id); is != evidence.Passing {
				t.Fatalf("the whole plan: %s %+v", is, found)
			}
			states := map[evidence.State]bool{}
			for _, turn := range turns[id] {
				s := situationOf()
				turn.do(s)
				is, found := s.state(t, id)
				if is != turn.is || !strings.Contains(said(found), turn.says) {
					t.Errorf("%s: got %s, want %s with %q:\n%s", turn.name, is, turn.is, turn.says, said(found))
				}
				states[turn.is] = true
			}
			if !states[evidence.Failing] || !states[evidence.Overdue] {
				t.Errorf("there is no plan with which it fails, or none with which it is overdue: %v", states)
			}
			if found := noPlan(); evidence.Stand([]evidence.Observation{{Result: found[0].Result, Observed: today, Expires: today.Add(time.Hour)}}, nil, today).State == evidence.Passing || !strings.Contains(found[0].Reason, "foundry plan submit") {
				t.Errorf("without a plan: %+v", found)
			}
		})
	}
}

func said(found []evidence.Finding) string {
	var out []string
	for _, f := range found {
		out = append(out, fmt.Sprintf("%s: %s: %s", f.Result, f.Subject, f.Reason))
	}
	return strings.Join(out, "\n")
}

func TestControlsAskTheRulesThatThereAre(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"claim-contradicts", "count-contradicts", "isolated-node-shared", "function-without-runbook"} {
		if !slices.ContainsFunc(lint.Rules(), func(r lint.Rule) bool { return r.ID == id }) {
			t.Errorf("there is no rule %s", id)
		}
	}
}

func TestACommitmentThatNamesAControlIsComparedByIt(t *testing.T) {
	t.Parallel()
	s := situationOf()
	s.replace("commitments:\n", "commitments:\n  - {name: fast, subject: function.rto, at_most: 1h, evidence: [O-38]}\n")
	if is, found := s.state(t, "O-38"); is != evidence.Failing || !strings.Contains(said(found), "commitment fast") {
		t.Errorf("%s\n%s", is, said(found))
	}
	if is, found := s.state(t, "O-55"); is != evidence.Passing {
		t.Errorf("another control: %s\n%s", is, said(found))
	}
}

func TestAPassStopsCountingWhenTheFirstOfItLapses(t *testing.T) {
	t.Parallel()
	s := situationOf()
	s.now = time.Date(2027, 3, 31, 23, 0, 0, 0, time.UTC)
	since := s.now.AddDate(0, 0, -1)
	s.revision.Since = &since
	_, found := s.state(t, "O-67")
	if end := time.Date(2027, 4, 1, 0, 0, 0, 0, time.UTC); len(found) != 1 || !found[0].Until.Equal(end) {
		t.Errorf("%+v", found)
	}
}
