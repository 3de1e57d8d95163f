package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// openIncident opens one on the node of a test, and closes nothing: other tests
// must not count them.
func openIncident(t *testing.T, w *world, title, mode string) string {
	t.Helper()
	var brief struct{ State struct{ ID string } }
	w.ask200(t, http.MethodPost, "/incidents", map[string]any{"title": title, "mode": mode, "functions": []string{"platform"}}, &brief)
	return brief.State.ID
}

// An incident is worked on by forms: a note, a decision, the next phase. What a
// timeline refuses is said at the field.
func TestAnIncidentIsWorkedOnInTheConsole(t *testing.T) {
	w := node(t)
	id := openIncident(t, w, "node1 does not answer", "desktop")
	ctx := tab(t, w)
	run(t, ctx, chromedp.EmulateViewport(1280, 900))
	signIn(t, ctx, w)
	run(t, ctx, chromedp.Navigate(w.base+"/console/incidents"))
	says(t, ctx, "node1 does not answer", "Exercise, desktop", "Detection")
	clean(t, ctx, "incidents")
	run(t, ctx, chromedp.Navigate(w.base+"/console/incidents/"+id))
	says(t, ctx, "This is an exercise.", "Opened as outage: node1 does not answer", "Write a note", "Go on to containment")
	clean(t, ctx, "an incident")
	run(t, ctx, chromedp.SendKeys(chromedp.CSS(`#note`), "The supplier says power loss."))
	press(t, ctx, "Write it down")
	says(t, ctx, "The note stands in the timeline.", "The supplier says power loss.")
	pictured(t, ctx, "incident")
	run(t, ctx, chromedp.Navigate(w.base+"/console/incidents/"+id+"?kind=note"))
	says(t, ctx, "The supplier says power loss.")
	saysNot(t, ctx, "Opened as outage")

	v := w.visitor(t)
	// A phase cannot be skipped, and the page says so where it was asked for.
	for _, one := range []struct {
		act, says string
		form      url.Values
		status    int
	}{
		{"phase", `id="why-wrong"`, url.Values{"to": {"remediation"}, "why": {"Because."}}, http.StatusConflict},
		{"note", `id="note-wrong"`, url.Values{"note": {""}}, http.StatusBadRequest},
		{"decision", `id="reason-wrong"`, url.Values{"about": {"restore"}, "reason": {""}}, http.StatusBadRequest},
		{"approval", `Entry 1 is no decision`, url.Values{"of": {"1"}, "answer": {"approve"}}, 0},
		{"decision", "", url.Values{"about": {"restore"}, "target": {"platform"}, "reason": {"It does not come back."}}, http.StatusSeeOther},
	} {
		status, _, body := v.do(t, http.MethodPost, "/console/incidents/"+id+"/"+one.act, one.form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
		if one.status != 0 && status != one.status {
			t.Errorf("%s answers %d in place of %d", one.act, status, one.status)
		}
		if one.act != "approval" && !strings.Contains(body, one.says) {
			t.Errorf("%s does not say %s", one.act, one.says)
		}
	}
	status, body := v.get(t, "/console/incidents/"+id)
	if status != http.StatusOK || !strings.Contains(body, "Approve or reject") || !strings.Contains(body, "restore platform") {
		t.Errorf("the decision does not wait on the page: %d", status)
	}
	for format, begins := range map[string]string{"html": "<!DOCTYPE html>", "pdf": "%PDF-", "archive": ""} {
		status, header, body := v.do(t, http.MethodGet, "/console/incidents/"+id+"/export?format="+format, "")
		if status != http.StatusOK || !strings.HasPrefix(header.Get("Content-Disposition"), "attachment") || !strings.HasPrefix(strings.ToLower(body), strings.ToLower(begins)) {
			t.Errorf("the export %s answers %d with %.40q", format, status, body)
		}
	}
	if status, body := v.get(t, "/console/incidents/inc-20200101-nobody"); status != http.StatusNotFound || !strings.Contains(body, "There is no such incident.") {
		t.Errorf("an unknown incident answers %d", status)
	}
	// The page for the night has it, marked.
	if status, body := v.get(t, "/console/command"); status != http.StatusOK || !strings.Contains(body, "node1 does not answer") || !strings.Contains(body, "Exercise, desktop") {
		t.Errorf("the page Command answers %d without the incident", status)
	}
	if status, body := v.get(t, "/console/recoveries/rec-20200101-nobody"); status != http.StatusNotFound || !strings.Contains(body, "There is no such recovery.") {
		t.Errorf("an unknown recovery answers %d", status)
	}
}
