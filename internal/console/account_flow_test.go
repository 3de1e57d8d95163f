package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

func TestAPasswordIsChangedAndOtherSessionsEnd(t *testing.T) {
	w := office(t)
	const fresh = "a kettle sings in the violet hour"
	p := w.hire(t, "harbour-authority", "paula@example.org", "Paula Password", "developer")
	ctx := p.tab(t)
	w.open(t, ctx, "/console/account", "Your account")
	elsewhere := *p // the same session, and another one
	elsewhere.signIn(t, password, w.code(t, p.secret, 1))
	run(t, ctx, chromedp.Click(chromedp.CSS(`a[href="/console/account/password"]`)))
	at(t, ctx, "/console/account/password", "Change your password")
	clean(t, ctx, "changing a password")
	fill(t, ctx, map[string]string{"old": "not the old one", "password": fresh, "again": fresh})
	click(t, ctx, ".stackform .primary")
	until(t, ctx, `!!document.querySelector('main .err, main .note.bad')`)
	if eval[bool](t, ctx, `document.documentElement.outerHTML.includes(`+quoted(fresh)+`)`) {
		t.Error("the page holds the new password")
	}
	fill(t, ctx, map[string]string{"old": password, "password": fresh, "again": fresh + "x"})
	click(t, ctx, ".stackform .primary")
	says(t, ctx, "The two passwords are not the same.")
	fill(t, ctx, map[string]string{"old": password, "password": fresh, "again": fresh})
	click(t, ctx, ".stackform .primary")
	at(t, ctx, "/console/account", "Your account")
	says(t, ctx, "Your password is changed.")
	eventually(t, "the other session has ended", func() bool { status, _ := elsewhere.get(t, "/console/account"); return status == http.StatusSeeOther })
	w.recorded(t, "harbour-authority", "password.change", p, "")
	if status, _, _ := (&visitor{w: w, client: p.client}).do(t, http.MethodPost, "/console/sign-in", url.Values{"email": {p.email}, "password": {password}}.Encode()); status != http.StatusUnauthorized {
		t.Errorf("the old password answers %d", status)
	}
	if status, _, _ := (&visitor{w: w, client: p.client}).do(t, http.MethodPost, "/console/sign-in", url.Values{"email": {p.email}, "password": {fresh}}.Encode()); status != http.StatusSeeOther {
		t.Errorf("the new password answers %d", status)
	}
}

func TestARecoveryCodeSignsInOnce(t *testing.T) {
	w := office(t)
	p := w.hire(t, "harbour-authority", "rae@example.org", "Rae Recovery", "developer")
	ctx := tab(t, w)
	run(t, ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(w.base+"/console/sign-in"))
	signInWith(t, ctx, p.email, "")
	run(t, ctx, chromedp.Click(chromedp.CSS("details summary")))
	fill(t, ctx, map[string]string{"recovery": p.codes[0]})
	click(t, ctx, "details .actions button")
	at(t, ctx, "/console/", "Overview")
	w.open(t, ctx, "/console/account", "Your account")
	says(t, ctx, "recovery code")
	if left := eval[string](t, ctx, `[...document.querySelectorAll('.rows div')].find(d => d.querySelector('dt')?.textContent === 'Recovery codes').querySelector('.st').textContent.trim()`); left != "9 left" {
		t.Errorf("of 10 codes: %s", left)
	}
	found := ""
	for _, e := range w.entries(t, "harbour-authority", "person.signin") {
		if strings.Contains(e.Actor, p.id) {
			found += e.Act + " " + string(e.Details)
		}
	}
	if !strings.Contains(found, "recovery") {
		t.Errorf("the audit log does not say that a recovery code was used: %s", found)
	}
	signOut(t, ctx)
	signInWith(t, ctx, p.email, "")
	run(t, ctx, chromedp.Click(chromedp.CSS("details summary")))
	fill(t, ctx, map[string]string{"recovery": p.codes[0]})
	click(t, ctx, "details .actions button")
	until(t, ctx, `!!document.querySelector('main .err, main .note.bad') && location.pathname === '/console/sign-in/second-factor'`)
}

func TestAPasskeyIsRenamedAndRemoved(t *testing.T) {
	w := office(t)
	p := w.hire(t, "harbour-authority", "pim@example.org", "Pim Passkey", "developer")
	ctx := p.tab(t)
	authenticator(t, ctx)
	w.open(t, ctx, "/console/account/second-factor", "Add a second factor")
	until(t, ctx, `!document.querySelector('[data-passkey]').hidden`)
	fill(t, ctx, map[string]string{"name": "Work laptop"})
	click(t, ctx, "[data-passkey] button")
	says(t, ctx, "The passkey is added.")
	press(t, ctx, "Work laptop")
	clean(t, ctx, "a passkey")
	fill(t, ctx, map[string]string{"name": "Old laptop"})
	press(t, ctx, "Rename")
	at(t, ctx, "/console/account", "Your account")
	says(t, ctx, "Old laptop")
	saysNot(t, ctx, "Work laptop")
	press(t, ctx, "Old laptop")
	press(t, ctx, "Remove passkey")
	at(t, ctx, "/console/account", "Your account")
	says(t, ctx, "It is removed.")
	saysNot(t, ctx, "Old laptop")
	for _, act := range []string{"passkey.add", "passkey.rename", "passkey.remove"} {
		w.recorded(t, "harbour-authority", act, p, "")
	}
	// The browser still has it; the node does not take it.
	signOut(t, ctx)
	run(t, ctx, chromedp.Click(chromedp.CSS("[data-passkey] button")))
	says(t, ctx, "The passkey was not accepted.")
}

func TestSomebodyWithAnAccountJoinsAndSwitches(t *testing.T) {
	w := office(t)
	p := w.hire(t, "harbour-authority", "jo@example.org", "Jo Joins", "viewer")
	link := invite(t, w, "st-mary-hospital", p.email, p.name, "auditor")
	ctx := tab(t, w)
	run(t, ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(link))
	until(t, ctx, `document.readyState === 'complete' && document.querySelector('h1').textContent === 'Join st-mary-hospital'`)
	clean(t, ctx, "an invitation of somebody with an account")
	press(t, ctx, "Sign in and join")
	signInWith(t, ctx, p.email, w.code(t, p.secret, 1))
	at(t, ctx, "/console/account/join", "Join st-mary-hospital")
	clean(t, ctx, "joining")
	press(t, ctx, "Join")
	at(t, ctx, "/console/", "Overview")
	acts := func() string { return eval[string](t, ctx, `document.querySelector('.foot').innerText`) }
	if !strings.Contains(acts(), "You act for st-mary-hospital") {
		t.Errorf("after joining: %s", acts())
	}
	w.open(t, ctx, "/console/audit", "Audit log")
	w.recorded(t, "st-mary-hospital", "invitation.accept", p, "")

	w.open(t, ctx, "/console/account/places", "Where you act")
	clean(t, ctx, "where you act")
	press(t, ctx, "Act here: harbour-authority")
	if !strings.Contains(acts(), "You act for harbour-authority") {
		t.Errorf("after switching: %s", acts())
	}
	w.recorded(t, "harbour-authority", "session.enter", p, "")
	if got := eval[int](t, ctx, `fetch('/console/audit').then(r => r.status)`); got != http.StatusForbidden {
		t.Errorf("the audit log of the place where they are a viewer answers %d", got)
	}
	if got := eval[int](t, ctx, `fetch('/console/organisations/st-mary-hospital').then(r => r.status)`); got != http.StatusForbidden {
		t.Errorf("the place they left answers %d", got)
	}
}
