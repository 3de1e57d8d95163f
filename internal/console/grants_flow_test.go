package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

func TestStaffAccessIsAskedForApprovedUsedAndEnded(t *testing.T) {
	w := office(t)
	made := w.ask("st-mary-hospital", "assistant", "internal", "How are you?")
	if err := w.stored(made); err != nil {
		t.Fatal(err)
	}
	staff, client := w.colleague(t, "platform-operator"), w.colleague(t, "st-mary-hospital/administrator")
	ctx := staff.tab(t)
	w.open(t, ctx, "/console/requests?organisation=st-mary-hospital", "Access to client data")
	press(t, ctx, "Ask for access")
	clean(t, ctx, "staff access")
	run(t, ctx, chromedp.SetValue(chromedp.CSS("#for-organisation"), "st-mary-hospital"), chromedp.Click(chromedp.CSS("#scope-requests")), chromedp.Click(chromedp.CSS("#scope-audit")))
	fill(t, ctx, map[string]string{"reason": "short", "ticket": "INC-1042", "minutes": "30"})
	press(t, ctx, "Ask for access")
	says(t, ctx, "The reason has to be 10 to 1000 printable characters.")
	fill(t, ctx, map[string]string{"reason": "The sums of May look wrong to them."})
	press(t, ctx, "Ask for access")
	says(t, ctx, "Waits for approval", "It opens nothing yet.", "INC-1042")
	saysNot(t, ctx, "Decide")
	at := eval[string](t, ctx, `location.pathname + location.search`)
	id := strings.TrimPrefix(eval[string](t, ctx, `location.pathname`), "/console/staff-access/")
	w.recorded(t, "st-mary-hospital", "grant.request", staff, id)
	w.open(t, ctx, "/console/requests?organisation=st-mary-hospital", "Access to client data")

	// The client sees who wants what and why, and lets them.
	other := client.tab(t)
	w.open(t, other, "/console/staff-access", "Staff access")
	click(t, other, `tbody a[href*="`+id+`"]`)
	says(t, other, "The sums of May look wrong to them.", staff.name)
	clean(t, other, "deciding about staff access")
	fill(t, other, map[string]string{"note": "Only May, please."})
	press(t, other, "Approve")
	says(t, other, "In force", "Only May, please.", "for the client")
	w.recorded(t, "st-mary-hospital", "grant.approve", client, id)

	// Now it opens requests, and what it opens is linked to it.
	w.open(t, ctx, "/console/requests?organisation=st-mary-hospital", "Requests")
	click(t, ctx, `tbody a[href*="`+made+`"]`)
	says(t, ctx, "st-mary-hospital", "It was answered by")
	press(t, ctx, "Prove this request")
	says(t, ctx, "The proof holds.", made)
	if used := w.recorded(t, "st-mary-hospital", "audit.prove", staff, made); !strings.Contains(string(used.Details), id) {
		t.Errorf("the entry does not name the grant: %s", used.Details)
	}
	if len(w.entries(t, "st-mary-hospital", "grant.use")) == 0 {
		t.Error("that the grant was used is not in the audit log")
	}
	w.open(t, ctx, "/console/organisations/st-mary-hospital", "st-mary-hospital") // of settings: everybody of the platform may
	w.open(t, ctx, "/console/requests?organisation=harbour-authority", "Access to client data")

	// The client ends it, and the next page is closed.
	w.open(t, other, at, "Access to st-mary-hospital")
	says(t, other, "In force", "Used")
	press(t, other, "End it now")
	says(t, other, "Ended")
	w.recorded(t, "st-mary-hospital", "grant.revoke", client, id)
	w.open(t, ctx, "/console/requests?organisation=st-mary-hospital", "Access to client data")
	if status, _ := staff.get(t, "/console/requests/"+made+"/proof?organisation=st-mary-hospital"); status != http.StatusForbidden {
		t.Errorf("the proof answers %d after the grant has ended", status)
	}
}

func TestAnOrganisationSaysWhoApproves(t *testing.T) {
	w := office(t)
	client, security, staff := w.colleague(t, "st-mary-hospital/administrator"), w.colleague(t, "platform-security"), w.colleague(t, "platform-operator")
	rule := func() string {
		var r struct{ Approvers string }
		w.ask200(t, http.MethodGet, "/organisations/st-mary-hospital/grant-rule", nil, &r)
		return r.Approvers
	}
	ctx := client.tab(t)
	w.open(t, ctx, "/console/staff-access", "Staff access")
	says(t, ctx, "The organisation or platform security")
	press(t, ctx, "Change who may approve")
	clean(t, ctx, "who may approve")
	run(t, ctx, chromedp.Click(chromedp.CSS("#approvers-organisation")))
	press(t, ctx, "Change the rule")
	says(t, ctx, "The rule is changed.", "The organisation only")
	if got := rule(); got != "organisation" {
		t.Errorf("the rule is %s", got)
	}
	if n := len(w.entries(t, "st-mary-hospital", "grant.rule")); n != 1 {
		t.Errorf("the change is in the audit log %d times", n)
	}
	// Platform security is not enough any more.
	_, header, _ := staff.do(t, http.MethodPost, "/console/staff-access", url.Values{"organisation": {"st-mary-hospital"}, "scopes": {"requests"},
		"reason": {"The sums of June look wrong."}, "ticket": {"INC-1043"}, "minutes": {"30"}}.Encode())
	other := security.tab(t)
	w.open(t, other, header.Get("Location"), "Access to st-mary-hospital")
	press(t, other, "Approve")
	says(t, other, "You may not approve this access.", "An administrator or approver of the organisation has to.")
	if status, _, body := client.do(t, http.MethodPost, "/console/staff-access/rule", "approvers=nobody"); status != http.StatusBadRequest || !strings.Contains(body, "does not say who may approve") {
		t.Errorf("a rule that is none answers %d", status)
	}
	if status, _, _ := client.do(t, http.MethodPost, "/console/staff-access/rule", "approvers=either"); status != http.StatusSeeOther || rule() != "either" {
		t.Errorf("changing it back answers %d: %s", status, rule())
	}
}

func TestABrokenGlassIsReviewedBySomebodyElse(t *testing.T) {
	w := office(t)
	staff, client := w.colleague(t, "platform-operator"), w.colleague(t, "st-mary-hospital/administrator")
	var g struct{ ID string }
	w.ask200(t, http.MethodPost, "/grants/break-glass", map[string]any{"organisation": "st-mary-hospital", "person": staff.id, "scopes": []string{"requests"},
		"reason": "Nobody answers, and requests are lost.", "ticket": "INC-2001", "duration": "10m"}, &g)
	mine := staff.tab(t)
	w.open(t, mine, "/console/staff-access/"+g.ID+"?organisation=st-mary-hospital", "Access to st-mary-hospital")
	says(t, mine, "the glass was broken on the server", "Nobody has reviewed it yet.")
	saysNot(t, mine, "Record the review")
	if status, _, _ := staff.do(t, http.MethodPost, "/console/staff-access/"+g.ID+"/review?organisation=st-mary-hospital", "finding=All+is+well+with+it."); status != http.StatusForbidden {
		t.Errorf("reviewing one's own access answers %d", status)
	}
	ctx := client.tab(t)
	w.open(t, ctx, "/console/staff-access", "Staff access")
	says(t, ctx, "broken glass", "not reviewed")
	click(t, ctx, `tbody a[href*="`+g.ID+`"]`)
	clean(t, ctx, "reviewing a broken glass")
	fill(t, ctx, map[string]string{"finding": "Fine."})
	press(t, ctx, "Record the review")
	says(t, ctx, "10 to 1000 printable characters")
	fill(t, ctx, map[string]string{"finding": "Nothing was opened that the incident did not need."})
	press(t, ctx, "Record the review")
	says(t, ctx, "Reviewed", "person:"+client.id, "Nothing was opened that the incident did not need.")
	saysNot(t, ctx, "Nobody has reviewed it yet.", "Record the review")
	w.recorded(t, "st-mary-hospital", "grant.review", client, g.ID)
	press(t, ctx, "End it now")
	says(t, ctx, "Ended", "Nothing was opened that the incident did not need.") // the end does not hide what was found
}
