package console_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// keyset is what the local interface tells of an organisation's keys.
func (w *world) keyset(t *testing.T, name string) (k struct {
	Name, KEK, Hold string
	HoldBy          string `json:"hold_by"`
	Keys            []struct{ ID, Status string }
}) {
	t.Helper()
	var all struct {
		Keysets []struct {
			Name, KEK, Hold string
			HoldBy          string `json:"hold_by"`
			Keys            []struct{ ID, Status string }
		}
	}
	w.ask200(t, http.MethodGet, "/encryption", nil, &all)
	for _, one := range all.Keysets {
		if one.Name == name {
			return one
		}
	}
	return k
}

// customer makes an organisation with a keyset.
func (w *world) customer(t *testing.T, name string) (id string) {
	t.Helper()
	var made struct{ ID string }
	w.ask200(t, http.MethodPost, "/organisations", map[string]any{"name": name}, &made)
	w.ask200(t, http.MethodPut, "/encryption/holds/"+name, map[string]any{"reason": "so that its keys are made"}, nil)
	w.ask200(t, http.MethodDelete, "/encryption/holds/"+name, nil, nil)
	return made.ID
}

func TestKeysAreRotatedInTheBrowser(t *testing.T) {
	w := office(t)
	w.customer(t, "rotating")
	before := w.keyset(t, "rotating")
	by := w.colleague(t, "platform-security")
	ctx := by.tab(t)
	w.open(t, ctx, "/console/encryption", "Encryption")
	press(t, ctx, "New key for rotating")
	says(t, ctx, before.Keys[0].ID)
	until(t, ctx, `[...document.querySelectorAll('section')].find(s => s.querySelector('h2').textContent === 'rotating').querySelectorAll('tbody tr').length === 2 || (location.reload(), false)`)
	after := w.keyset(t, "rotating")
	if len(after.Keys) != 2 || after.Keys[0].Status == "primary" || after.Keys[1].Status != "primary" {
		t.Errorf("the keys are %+v", after.Keys)
	}
	if e := w.recorded(t, "rotating", "keys.rotate", by, ""); !strings.Contains(string(e.Details), "key") && e.Target == "" {
		t.Errorf("the entry does not name the key: %+v", e)
	}
	clean(t, ctx, "encryption after a rotation")
}

func TestKeysAreShreddedByThreePeopleAndNotUnderAHold(t *testing.T) {
	w := office(t)
	id := w.customer(t, "estuary")
	asks, first, second := w.colleague(t, "platform-security"), w.colleague(t, "platform-security#2"), w.colleague(t, "platform-security#3")
	ctx := asks.tab(t)
	w.open(t, ctx, "/console/encryption", "Encryption")
	press(t, ctx, "Shred the keys of estuary")
	clean(t, ctx, "asking for shredding")
	fill(t, ctx, map[string]string{"reason": "The contract ended on 30 September.", "name": "esturay"})
	press(t, ctx, "Ask for shredding")
	says(t, ctx, "That is not the organisation's name.")
	fill(t, ctx, map[string]string{"name": "estuary"})
	press(t, ctx, "Ask for shredding")
	says(t, ctx, "Waits for approval", "The contract ended")
	saysNot(t, ctx, "Approve") // nobody approves their own
	at := eval[string](t, ctx, `location.pathname`)
	w.recorded(t, "estuary", "keys.shred.request", asks, "")

	// A hold forbids what is asked for.
	other := first.tab(t)
	w.open(t, other, "/console/encryption/estuary/hold", "Legal hold on estuary")
	clean(t, other, "legal hold")
	fill(t, other, map[string]string{"reason": "too short"})
	press(t, other, "Put on hold")
	says(t, other, "at least 10 characters")
	if got := w.keyset(t, "estuary"); got.Hold != "" {
		t.Errorf("a refused reason is a hold: %+v", got)
	}
	fill(t, other, map[string]string{"reason": "Court order 14 C 220/26"})
	press(t, other, "Put on hold")
	says(t, other, "It is on legal hold.", "Court order 14 C 220/26")
	if got := w.keyset(t, "estuary"); got.Hold != "Court order 14 C 220/26" || got.HoldBy != "person:"+first.id {
		t.Errorf("the hold is %+v", got)
	}
	w.recorded(t, "estuary", "keys.hold", first, id)
	w.open(t, other, at, "Shredding of estuary")
	press(t, other, "Approve")
	says(t, other, "under legal hold")
	w.open(t, other, "/console/encryption/estuary/release", "Release estuary")
	clean(t, other, "releasing a hold")
	fill(t, other, map[string]string{"name": "estuary "})
	press(t, other, "Release")
	says(t, other, "The hold is released.")
	w.recorded(t, "estuary", "keys.release", first, id)

	// Two others approve; then it counts down, and can be undone.
	w.open(t, other, at, "Shredding of estuary")
	press(t, other, "Approve")
	says(t, other, "Waits for approval", "by person:"+first.id)
	saysNot(t, other, "Approve") // nobody approves twice
	if status, _, _ := first.do(t, http.MethodPost, at+"/approve", ""); status != http.StatusForbidden {
		t.Errorf("approving a second time answers %d", status)
	}
	last := second.tab(t)
	w.open(t, last, at, "Shredding of estuary")
	press(t, last, "Approve")
	says(t, last, "Counting down", "Until then it can be undone.")
	clean(t, last, "a shredding that counts down")
	for _, p := range []*colleague{first, second} {
		w.recorded(t, "estuary", "keys.shred.approve", p, "")
	}
	press(t, last, "Undo")
	says(t, last, "Cancelled")
	w.recorded(t, "estuary", "keys.shred.cancel", second, "")
	if got := w.keyset(t, "estuary"); got.Keys[0].Status != "primary" {
		t.Errorf("after it was undone the keys are %+v", got.Keys)
	}
}

func TestKeysAreWrappedAnewInTheBrowser(t *testing.T) {
	w := office(t)
	w.customer(t, "wrapped")
	by := w.colleague(t, "platform-security")
	ctx := by.tab(t)
	old := w.keyset(t, "wrapped").KEK
	w.open(t, ctx, "/console/encryption", "Encryption")
	press(t, ctx, "Wrap the keys anew")
	says(t, ctx, old)
	clean(t, ctx, "wrapping anew")
	run(t, ctx, chromedp.Click(chromedp.CSS("#with-new")))
	fill(t, ctx, map[string]string{"fingerprint": "0000"})
	press(t, ctx, "Wrap anew")
	says(t, ctx, "That is not the fingerprint")
	if got := w.keyset(t, "wrapped").KEK; got != old {
		t.Fatalf("a wrong fingerprint wrapped anew: %s", got)
	}
	fill(t, ctx, map[string]string{"fingerprint": old})
	press(t, ctx, "Wrap anew")
	says(t, ctx, "The key before it is retired", "O-07.escrow")
	clean(t, ctx, "wrapped anew")
	fresh := w.keyset(t, "wrapped").KEK
	if fresh == old {
		t.Error("the keyset is wrapped by the key before")
	}
	whole := 0 // beside an entry for each keyset there is one for the whole
	for _, e := range w.entries(t, "platform", "keys.rewrap") {
		if e.Actor == "person:"+by.id && e.Target == fresh && strings.Contains(string(e.Details), `"files"`) {
			whole++
		}
	}
	if whole != 1 {
		t.Errorf("the audit log has %d entries: %+v", whole, w.entries(t, "platform", "keys.rewrap"))
	}
	// Nothing is left to wrap, and it says so.
	press(t, ctx, "Wrap anew")
	says(t, ctx, "There was nothing to do")
}

func TestACanaryIsSearchedForInTheBrowser(t *testing.T) {
	w := office(t)
	by := w.colleague(t, "platform-security")
	ctx := by.tab(t)
	w.open(t, ctx, "/console/encryption", "Encryption")
	press(t, ctx, "Canary search")
	says(t, ctx, "Not searched yet")
	clean(t, ctx, "no canary search yet")
	press(t, ctx, "Search now")
	until(t, ctx, `document.querySelector('main').innerText.includes('Where it was looked for') || document.querySelector('main').innerText.includes('could not be made')`)
	saysNot(t, ctx, "could not be made")
	says(t, ctx, "Journal", "Write-ahead log", "Process memory", "real API key", "by person:"+by.id)
	clean(t, ctx, "a canary search")
	// The platform's security may search; the key that is planted is the node's.
	w.recorded(t, "platform", "keys.search", by, "")
	var keys []struct {
		Name      string
		RevokedAt *time.Time `json:"revoked_at"`
	}
	w.ask200(t, http.MethodGet, "/keys?organisation=default", nil, &keys)
	for _, k := range keys {
		if strings.HasPrefix(k.Name, "canary-") && k.RevokedAt == nil {
			t.Errorf("the canary's key %s is not revoked", k.Name)
		}
	}
}
