package console_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/kit"
)

// recoverable makes a recovery key, and returns its shares.
func (w *world) recoverable(t *testing.T) (made backup.MadeKey, shares []kit.Share) {
	t.Helper()
	var r backup.KeyRequest
	w.ask200(t, http.MethodPost, "/emergency/keys", backup.NewKey{Threshold: 2, Shares: 3, Holders: []string{"Ada Lovelace", "Grace Hopper", "Edith Clarke"},
		Contacts: []kit.Contact{{Name: "Edith Clarke", Role: "decides", Phone: "+358 40 1234567"}}, Reason: "the first recovery key"}, &r)
	w.ask200(t, http.MethodPost, "/emergency/keys/"+r.ID.String()+"/shares", nil, &made)
	for _, s := range made.Shares {
		share, err := kit.ParseShare(s.Text)
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, share)
	}
	return made, shares
}

// breakGlass opens an emergency session, as somebody at the server does.
func (w *world) breakGlass(t *testing.T, shares []kit.Share) (o backup.OpenedGlass) {
	t.Helper()
	key, err := kit.Combine(shares)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	var c backup.Challenge
	w.ask200(t, http.MethodPost, "/emergency/challenges", nil, &c)
	r := backup.OpenGlass{Nonce: c.Nonce, Scope: "operate", Seconds: 3600, Reason: "Sign-in is down since the mail relay moved.", Shares: []int{1, 2}}
	r.Proof = backup.ProveKey(key.Authenticator(), r)
	w.ask200(t, http.MethodPost, "/emergency/openings", r, &o)
	return o
}

// TestTheEmergencyKitIsWatchedAndAnOpeningIsReviewedInTheBrowser asks the
// operator's question before there is a key, while the glass is broken, and
// after a drill; reviews the opening with the keyboard alone; and looks for
// secrets on every page.
func TestTheEmergencyKitIsWatchedAndAnOpeningIsReviewedInTheBrowser(t *testing.T) {
	w := saved(t)
	ctx := tab(t, w)
	run(t, ctx, chromedp.EmulateViewport(1280, 900))
	signIn(t, ctx, w)
	question := func(answer string) {
		t.Helper()
		until(t, ctx, `document.querySelector('.verdict .question').textContent.replace(/\s+/g, ' ').startsWith(`+quoted("Could we open it tonight? "+answer)+`)`)
	}
	const page = "/console/backups/kit"
	w.open(t, ctx, page, "Emergency kit")
	question("No.")
	says(t, ctx, "No recovery key yet", "foundry breakglass create")
	clean(t, ctx, "no kit")
	pictured(t, ctx, "kit-none")

	made, shares := w.recoverable(t)
	opened := w.breakGlass(t, shares[:2])
	w.open(t, ctx, page, "Emergency kit")
	question("Nobody knows.")
	says(t, ctx, "The glass is broken: somebody may operate the node for another", "2 of 3", "Read there", "offsite: foundry-kit-"+made.Set)
	clean(t, ctx, "a kit whose glass is broken")
	pictured(t, ctx, "kit-open")
	var visited strings.Builder
	note := func() { visited.WriteString(eval[string](t, ctx, `document.documentElement.outerHTML`)) }
	note()

	// A copy that somebody changed is seen when it is looked for.
	press(t, ctx, "Read the copies now")
	until(t, ctx, `location.pathname === '/console/backups/kit'`)
	says(t, ctx, "Read there")

	// The review, by keyboard alone.
	w.open(t, ctx, page+"/openings/"+opened.ID.String(), "Opening of "+time.Now().UTC().Format("2 January 2006"))
	says(t, ctx, "Sign-in is down since the mail relay moved.", "operate the node")
	clean(t, ctx, "an opening that waits for its review")
	pictured(t, ctx, "kit-review")
	run(t, ctx, chromedp.Focus(chromedp.CSS("#finding")))
	run(t, ctx, chromedp.KeyEvent("The relay was set back, and nothing else was changed."+kb.Tab+" "))
	if eval[string](t, ctx, `document.querySelector('[name=verdict]:checked')?.value ?? ''`) != "justified" {
		t.Error("the space bar does not choose the first answer")
	}
	_ = eval[bool](t, ctx, `(() => { window.before = true; return true })()`)
	run(t, ctx, chromedp.KeyEvent(kb.Tab+kb.Enter))
	until(t, ctx, `!window.before && document.readyState === 'complete'`)
	says(t, ctx, "The relay was set back", "Reviewed")
	if list := w.entries(t, "", "break-glass.review"); len(list) != 1 {
		t.Errorf("the audit log has %+v of the review", list)
	}
	note()

	// A drill that failed is an answer too.
	w.ask200(t, http.MethodPost, "/emergency/drills", backup.NewKitDrill{Set: made.Set, Outcome: backup.Fail, Reason: "The passphrase of offsite does not open its repository.", Seconds: 95, KitMade: time.Now()}, nil)
	w.open(t, ctx, page, "Emergency kit")
	question("No.")
	says(t, ctx, "The passphrase of offsite does not open its repository.", "Open now")
	pictured(t, ctx, "kit-failed")
	note()

	// What is to be printed.
	press(t, ctx, "When the server is lost")
	says(t, ctx, "foundry recover")
	clean(t, ctx, "instructions")
	pictured(t, ctx, "kit-instructions")
	note()
	if holders := visited.String(); strings.Contains(holders, "Grace") || strings.Contains(holders, "1234567") {
		t.Error("the pages name holders or contacts to whoever may only read")
	}
	w.open(t, ctx, page, "Emergency kit")
	press(t, ctx, "Briefing")
	says(t, ctx, "Grace Hopper", "+358 40 1234567")
	clean(t, ctx, "the briefing")
	pictured(t, ctx, "kit-briefing")
	note()
	if list := w.entries(t, "", "break-glass.brief"); len(list) != 1 {
		t.Errorf("the audit log has %+v of the briefing", list)
	}
	for _, s := range made.Shares {
		for _, secret := range []string{s.Text, strings.Join(s.Words[8:11], " "), opened.Token} {
			if strings.Contains(visited.String(), secret) {
				t.Errorf("a secret of share %d is on a page", s.Index)
			}
		}
	}
}
