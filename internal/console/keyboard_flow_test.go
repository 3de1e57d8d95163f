package console_test

import (
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Every page of keys, proofs and controls is reached and used without a mouse.
func TestKeysAndProofsAreUsedByKeyboardAlone(t *testing.T) {
	w := office(t)
	w.customer(t, "typed")
	made := w.ask("st-mary-hospital", "assistant", "internal", "Prove me")
	if err := w.stored(made); err != nil {
		t.Fatal(err)
	}
	security, auditor := w.colleague(t, "platform-security"), w.colleague(t, "st-mary-hospital/auditor")
	admin := w.colleague(t, "st-mary-hospital/administrator")
	reach := func(t *testing.T, p *colleague, path, what string) {
		t.Helper()
		ctx := tab(t, w)
		p.into(t, ctx)
		run(t, ctx, chromedp.Navigate(w.base+path))
		until(t, ctx, `document.readyState === 'complete' && !!document.querySelector(`+quoted(what)+`)`)
		for range 60 {
			run(t, ctx, chromedp.KeyEvent(kb.Tab))
			if eval[bool](t, ctx, `document.activeElement.matches(`+quoted(what)+`)`) {
				if eval[string](t, ctx, `getComputedStyle(document.activeElement).outlineStyle`) == "none" {
					t.Errorf("%s: %s has focus and does not show it", path, what)
				}
				return
			}
		}
		t.Errorf("%s: tabbing does not reach %s", path, what)
	}
	reach(t, security, "/console/encryption", `a[href="/console/encryption/rewrap"]`)
	reach(t, security, "/console/encryption/rewrap", `main form .primary`)
	reach(t, security, "/console/encryption/canary", `main form .primary`)
	reach(t, security, "/console/controls/O-07.escrow/attest", `main form .primary`)
	reach(t, admin, "/console/staff-access/rule", `main form .primary`)
	reach(t, auditor, "/console/audit/export", `main form .primary`)
	reach(t, auditor, "/console/requests/"+made, `a[href$="/proof"]`)
	reach(t, auditor, "/console/requests/"+made+"/proof", `main summary`)

	ctx := security.tab(t)
	w.open(t, ctx, "/console/encryption/typed/hold", "Legal hold on typed")
	for range 60 {
		run(t, ctx, chromedp.KeyEvent(kb.Tab))
		if eval[string](t, ctx, `document.activeElement.id`) == "reason" {
			break
		}
	}
	run(t, ctx, chromedp.KeyEvent("Letter of 3 November"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	says(t, ctx, "It is on legal hold.")
	if got := w.keyset(t, "typed").Hold; got != "Letter of 3 November" {
		t.Errorf("the hold is %q", got)
	}
}
