package console_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

const fleet = `version: 1
organisation: {name: Library, owner: anna, country: FI}
people:
  - {name: anna, check_in: 1 day}
suppliers: [{name: host, jurisdiction: FI}]
sites: [{name: hall, supplier: host, country: FI}]
nodes:
  - {name: one, site: hall, supplier: host}
  - {name: two, site: hall, supplier: host}
functions:
  - {name: catalogue, mtd: 1 day, rto: 8h, host: [one]}
  - {name: loans, mtd: 2 days, rto: 8h, host: [one], fallbacks: [{node: two, state: warm, data: none}]}
`

// TestThePlanIsHandedInApprovedReadAndAskedInTheBrowser goes the way of
// somebody who wants to know, before the night comes, what falls with what.
func TestThePlanIsHandedInApprovedReadAndAskedInTheBrowser(t *testing.T) {
	w := saved(t)
	ctx := tab(t, w)
	run(t, ctx, chromedp.EmulateViewport(1280, 900))
	signIn(t, ctx, w)

	w.open(t, ctx, "/console/plan", "Continuity plan")
	says(t, ctx, "There is no plan in force")
	clean(t, ctx, "no plan")
	press(t, ctx, "Hand in a plan")
	fill(t, ctx, map[string]string{"text": "version: 1\norganisation: {name: L}\nnodse: []\n", "note": "The first."})
	press(t, ctx, "Hand in")
	says(t, ctx, `Did you mean "nodes"?`)
	clean(t, ctx, "a plan that cannot be read")
	fill(t, ctx, map[string]string{"text": fleet})
	press(t, ctx, "Hand in")
	says(t, ctx, "Waits for approval", "0 of 1, by different people", "name: catalogue")
	clean(t, ctx, "a revision that waits")
	pictured(t, ctx, "plan-revision")
	press(t, ctx, "Reject")
	fill(t, ctx, map[string]string{"reason": "no"})
	press(t, ctx, "Reject")
	says(t, ctx, "A rejection needs a reason.")
	clean(t, ctx, "a rejection")
	press(t, ctx, "Cancel")
	press(t, ctx, "Approve")
	says(t, ctx, "In force")

	w.open(t, ctx, "/console/plan", "Continuity plan")
	says(t, ctx, "The weakest point", "catalogue", "What depends on what", "If it failed now", "Findings")
	clean(t, ctx, "the plan")
	pictured(t, ctx, "plan")
	press(t, ctx, "I have read this plan")
	saysNot(t, ctx, "I have read this plan")

	// What if? A click in the drawing.
	run(t, ctx, chromedp.Click(chromedp.CSS(`svg a[href$="lose=node+one"]`)))
	until(t, ctx, `location.search.includes('lose=node')`)
	says(t, ctx, "Without node one", "Nobody covers:", "catalogue is down: no fallback carries it and no recovery plan brings it back.", "Carried by two")
	clean(t, ctx, "a loss")
	pictured(t, ctx, "plan-loss")
	press(t, ctx, "Nothing is lost")

	press(t, ctx, "Done: Check-in of anna")
	clean(t, ctx, "a confirmation")
	fill(t, ctx, map[string]string{"note": "On the telephone."})
	press(t, ctx, "It was done")
	says(t, ctx, "Current")

	// Somebody new: a review is due.
	press(t, ctx, "Hand in a plan")
	if text := eval[string](t, ctx, `document.querySelector('#text').value`); text != fleet {
		t.Errorf("the form does not hold the plan in force: %q", text)
	}
	fill(t, ctx, map[string]string{"text": strings.Replace(fleet, "check_in: 1 day}\n", "check_in: 1 day}\n  - {name: ben}\n", 1), "note": "Ben joins."})
	press(t, ctx, "Hand in")
	says(t, ctx, "asks for a review")
	press(t, ctx, "Approve")
	w.open(t, ctx, "/console/plan", "Continuity plan")
	press(t, ctx, "A review of the plan")
	clean(t, ctx, "a review")
	fill(t, ctx, map[string]string{"finding": "Ben is in every runbook now."})
	press(t, ctx, "Close the review")
	saysNot(t, ctx, "A review of the plan")
	for act, times := range map[string]int{"plan.submit": 2, "plan.decide": 2, "plan.in-force": 2, "plan.acknowledge": 1, "plan.confirm": 1, "plan.review": 1} {
		if list := w.entries(t, "", act); len(list) != times {
			t.Errorf("the audit log has %d entries of %s, want %d: %+v", len(list), act, times, list)
		}
	}
}
