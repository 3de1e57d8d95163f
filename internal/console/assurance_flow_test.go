package console_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/missionopsai/foundry/internal/audit"
)

// control is how a control stands.
func (w *world) control(t *testing.T, id string) (c struct {
	State    string
	Evidence []struct {
		Owner, Reason string
		Observed      string `json:"observed_at"`
	}
}) {
	t.Helper()
	w.ask200(t, http.MethodGet, "/controls/"+id, nil, &c)
	return c
}

func TestSomebodyAnswersForAControl(t *testing.T) {
	w := office(t)
	by := w.colleague(t, "platform-security")
	ctx := by.tab(t)
	w.open(t, ctx, "/console/controls/O-07.escrow", "O-07.escrow Somebody else holds a copy of the key-encryption key")
	says(t, ctx, "Overdue")
	press(t, ctx, "Answer for it")
	clean(t, ctx, "answering for a control")
	fill(t, ctx, map[string]string{"owner": "Anna Ek", "statement": "The copy lies in safe 3 of the notary; opened and tried on 2 November."})
	press(t, ctx, "Answer for it")
	says(t, ctx, "holds no names")
	if got := w.control(t, "O-07.escrow").State; got != "overdue" {
		t.Errorf("a refused statement makes it %s", got)
	}
	fill(t, ctx, map[string]string{"owner": "platform-security", "expires": "2040-01-01"})
	_ = eval[bool](t, ctx, `(() => { document.querySelector('#expires').removeAttribute('max'); return true })()`)
	press(t, ctx, "Answer for it")
	says(t, ctx, "must expire after now and by")
	fill(t, ctx, map[string]string{"expires": eval[string](t, ctx, `document.querySelector('#expires').max`)})
	press(t, ctx, "Answer for it")
	says(t, ctx, "The statement is signed and recorded.", "Passes", "safe 3 of the notary")
	if got := w.control(t, "O-07.escrow"); got.State != "pass" || len(got.Evidence) == 0 || got.Evidence[0].Owner != "platform-security" {
		t.Errorf("the control is %+v", got)
	}
	w.recorded(t, "platform", "controls.attest", by, "O-07.escrow")
	if status, _, body := by.do(t, http.MethodPost, "/console/controls/O-10/attest", url.Values{"owner": {"platform-security"}, "statement": {"It is so."}}.Encode()); status != http.StatusForbidden || !strings.Contains(body, "checked by a machine") {
		t.Errorf("answering for what a machine checks answers %d", status)
	}
}

func TestAControlIsRunNow(t *testing.T) {
	w := office(t)
	by := w.colleague(t, "platform-operator")
	ctx := by.tab(t)
	before := w.control(t, "O-08")
	w.open(t, ctx, "/console/controls/O-08", "O-08 All client traffic uses TLS 1.3")
	press(t, ctx, "Run now")
	at(t, ctx, "/console/controls/O-08", "O-08 All client traffic uses TLS 1.3")
	eventually(t, "the run leaves evidence", func() bool {
		now := w.control(t, "O-08")
		return len(now.Evidence) > 0 && (len(before.Evidence) == 0 || now.Evidence[0] != before.Evidence[0])
	})
	says(t, ctx, "Passes") // the page follows
	w.recorded(t, "platform", "controls.run", by, "")
}

func TestAMessageThatWasRefusedIsSentAgain(t *testing.T) {
	w := office(t)
	by := w.colleague(t, "platform-operator")
	w.mailbox.refuse.Store("wrong-box")
	invite(t, w, "harbour-authority", "wrong-box@example.org", "Willa Wrong", "viewer")
	ctx := by.tab(t)
	w.open(t, ctx, "/console/messages?state=failed", "Messages")
	until(t, ctx, `document.querySelector('main').innerText.includes('nobody of that name is here') || (location.reload(), false)`)
	clean(t, ctx, "a message that was refused")
	saysNot(t, ctx, "wrong-box@example.org") // addresses are sealed
	w.mailbox.refuse.Store("")
	taken := w.mailbox.taken.Load()
	_ = eval[bool](t, ctx, `(() => { document.querySelector('tbody button').setAttribute('data-pressed', ''); return true })()`)
	click(t, ctx, "[data-pressed]")
	eventually(t, "the message arrives", func() bool { return w.mailbox.taken.Load() > taken })
	w.open(t, ctx, "/console/messages?state=accepted", "Messages")
	until(t, ctx, `document.querySelectorAll('tbody tr').length > 0 || (location.reload(), false)`)
	w.recorded(t, "harbour-authority", "notify.retry", by, "")
}

func TestTheAuditLogIsTakenAlong(t *testing.T) {
	w := office(t)
	by := w.colleague(t, "st-mary-hospital/auditor")
	ctx := by.tab(t)
	w.open(t, ctx, "/console/audit", "Audit log")
	press(t, ctx, "Take it along")
	says(t, ctx, "None in this session")
	clean(t, ctx, "taking the audit log along")
	// The browser's own download; the page follows it.
	body := eval[string](t, ctx, `fetch('/console/audit/export.tsv').then(r => r.text())`)
	says(t, ctx, "Complete", "foundry-audit-st-mary-hospital-")
	clean(t, ctx, "the audit log was taken along")
	sum := sha256.Sum256([]byte(body))
	says(t, ctx, hex.EncodeToString(sum[:]))
	w.recorded(t, "st-mary-hospital", "audit.export", by, "")
	key := eval[string](t, ctx, `document.querySelector('main p.id').textContent`)
	report, err := audit.VerifyArchive(t.Context(), strings.NewReader(body), audit.ArchiveOptions{Keys: []string{key}})
	if err != nil || !report.OK || report.Entries == 0 {
		t.Errorf("the download does not verify with %s: %+v %v", key, report, err)
	}
	if strings.Contains(body, "harbour-authority") || !strings.Contains(body, "scope\torganisation\t") {
		t.Error("the archive holds what is another's")
	}
	cut := body[:len(body)/2]
	if report, err := audit.VerifyArchive(t.Context(), strings.NewReader(cut), audit.ArchiveOptions{Keys: []string{key}}); err == nil && report.OK {
		t.Error("half of the archive verifies")
	}
	for query, want := range map[string]int{"from=yesterday": 400, "to=2020-01-01": 400, "organisation=harbour-authority": 403, "organisation=platform": 403, "from=2026-01-01": 200} {
		if status, _ := by.get(t, "/console/audit/export.tsv?"+query); status != want {
			t.Errorf("%s answers %d", query, status)
		}
	}
	// By a click it is a download, and the person stays where they are.
	run(t, ctx, chromedp.Navigate(w.base+"/console/audit/export"))
	run(t, ctx, chromedp.Click(chromedp.CSS("form .primary")))
	until(t, ctx, `location.pathname === '/console/audit/export' && document.querySelectorAll('#region .trail li').length >= 3`)
}
