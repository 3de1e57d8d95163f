package console_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// pages are all pages of the console, by name.
func pages(w *world) []struct{ name, path string } {
	return []struct{ name, path string }{
		{"overview", "/console/"}, {"fleet", "/console/fleet"}, {"requests", "/console/requests"}, {"requests-none", "/console/requests?state=shed"},
		{"trace", "/console/requests/" + w.failed}, {"trace-abroad", "/console/requests/" + w.abroad},
		{"usage", "/console/usage?by=model&span=24h"}, {"transfers", "/console/transfers"}, {"refusals", "/console/refusals"}, {"providers", "/console/providers"},
		{"organisations", "/console/organisations"}, {"organisation", "/console/organisations/st-mary-hospital"},
		{"explain", "/console/explain?organisation=harbour-authority&model=assistant&class=confidential"}, {"playground", "/console/playground"},
		{"policy", "/console/organisations/st-mary-hospital/policy"}, {"people", "/console/people"}, {"invite", "/console/people/invite?organisation=st-mary-hospital"},
		{"services", "/console/service-accounts?organisation=st-mary-hospital"}, {"staff-access", "/console/staff-access"}, {"register", "/console/access-register"},
		{"encryption", "/console/encryption"}, {"controls", "/console/controls"}, {"control", "/console/controls/O-08"}, {"messages", "/console/messages"},
		{"hold", "/console/encryption/st-mary-hospital/hold"}, {"release", "/console/encryption/st-mary-hospital/release"}, {"rewrap", "/console/encryption/rewrap"},
		{"canary", "/console/encryption/canary"}, {"attest", "/console/controls/O-07.escrow/attest"}, {"attested", "/console/controls/O-07.escrow"},
		{"grant-rule", "/console/staff-access/rule?organisation=st-mary-hospital"}, {"export", "/console/audit/export"}, {"request-proof", "/console/requests/" + w.failed + "/proof"},
		{"audit", "/console/audit"}, {"audit-log", "/console/audit/log"}, {"missing", "/console/nowhere"},
	}
}

// TestPicturesForTheEye writes pictures of every page where FOUNDRY_SHOTS
// says, for people to look at.
func TestPicturesForTheEye(t *testing.T) {
	dir := os.Getenv("FOUNDRY_SHOTS")
	if dir == "" {
		t.Skip("FOUNDRY_SHOTS names no directory")
	}
	w := node(t)
	ctx := tab(t, w)
	picture := func(name string, ctx context.Context) {
		body, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".png"), body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, ctx, chromedp.EmulateViewport(1280, 800))
	run(t, ctx, chromedp.Navigate(w.link(t)))
	picture("link-light", ctx)
	signIn(t, ctx, w)
	proof := provable(t, ctx, w)
	for _, p := range append(pages(w), struct{ name, path string }{"entry", proof}, struct{ name, path string }{"proof", proof + "/proof"}) {
		if only := os.Getenv("FOUNDRY_SHOTS_ONLY"); only != "" && !strings.Contains(","+only+",", ","+p.name+",") {
			continue
		}
		run(t, ctx, chromedp.EmulateViewport(1280, 800))
		run(t, ctx, chromedp.Navigate(w.base+p.path))
		for _, c := range []string{"light", "dark"} {
			theme(t, ctx, c)
			picture(p.name+"-"+c, ctx)
		}
		theme(t, ctx, "light")
		run(t, ctx, chromedp.EmulateViewport(390, 844))
		picture(p.name+"-phone", ctx)
	}
}

// pictured writes pictures of the page that a test has open, where
// FOUNDRY_SHOTS says.
func pictured(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("FOUNDRY_SHOTS")
	if dir == "" {
		return
	}
	shoot := func(as string) {
		body, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+"-"+as+".png"), body, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []string{"dark", "light"} {
		theme(t, ctx, c)
		shoot(c)
	}
	run(t, ctx, chromedp.EmulateViewport(390, 844))
	shoot("phone")
	run(t, ctx, chromedp.EmulateViewport(1280, 900))
}

// provable is the page of an entry that stands in the tree.
func provable(t *testing.T, ctx context.Context, w *world) string {
	t.Helper()
	run(t, ctx, chromedp.Navigate(w.base+"/console/audit?act=organisation.create"))
	path := eval[string](t, ctx, `new URL(document.querySelector('tbody a').href).pathname`)
	run(t, ctx, chromedp.Navigate(w.base+path))
	until(t, ctx, `document.querySelector('a.primary')?.textContent === 'Prove this entry' || (location.reload(), false)`)
	return path
}
