package console_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// person is what the local interface tells of somebody.
func (w *world) person(t *testing.T, p *colleague, where string) (out struct {
	Status      string
	LockedUntil *time.Time `json:"locked_until"`
	Memberships []struct{ Roles []string }
}) {
	t.Helper()
	w.ask200(t, http.MethodGet, "/people/"+p.id+"?organisation="+where, nil, &out)
	return out
}

func TestRolesAreChangedInTheBrowser(t *testing.T) {
	w := office(t)
	admin := w.colleague(t, "st-mary-hospital/administrator")
	mia := w.hire(t, "st-mary-hospital", "mia@example.org", "Mia Member", "viewer")
	if status, _ := mia.get(t, "/console/audit"); status != http.StatusForbidden {
		t.Fatalf("before, the audit log answers %d", status)
	}
	ctx := admin.tab(t)
	w.open(t, ctx, "/console/people", "People and roles")
	press(t, ctx, "Mia Member")
	clean(t, ctx, "a person")
	run(t, ctx, chromedp.Click(chromedp.CSS("#role-auditor")), chromedp.Click(chromedp.CSS("#role-viewer")))
	press(t, ctx, "Change roles")
	says(t, ctx, "The roles are changed.")
	if got := w.person(t, mia, "st-mary-hospital").Memberships; len(got) != 1 || !slices.Equal(got[0].Roles, []string{"auditor"}) {
		t.Errorf("the roles are %+v", got)
	}
	if found := w.entries(t, "st-mary-hospital", "membership."); len(found) == 0 || found[0].Actor != "person:"+admin.id || !strings.Contains(string(found[0].Details)+found[0].Target, "") {
		t.Errorf("the audit log says %+v", found)
	}
	// What was open ends: nobody goes on with roles that they had.
	eventually(t, "the session has ended", func() bool { status, _ := mia.get(t, "/console/"); return status == http.StatusSeeOther })
	mia.signIn(t, password, w.code(t, mia.secret, 1))
	if status, _ := mia.get(t, "/console/audit"); status != http.StatusOK {
		t.Errorf("an auditor's audit log answers %d", status)
	}
	if status, _ := mia.get(t, "/console/people/invite"); status != http.StatusForbidden {
		t.Errorf("an auditor's invitation page answers %d", status)
	}
}

func TestALockedPersonIsReleasedInTheBrowser(t *testing.T) {
	w := office(t)
	admin := w.colleague(t, "st-mary-hospital/administrator")
	lola := w.hire(t, "st-mary-hospital", "lola@example.org", "Lola Locked", "viewer")
	stranger := &visitor{w: w, client: w.elsewhere()}
	try := func() int {
		status, _, _ := stranger.do(t, http.MethodPost, "/console/sign-in", url.Values{"email": {lola.email}, "password": {"not the right one"}}.Encode())
		return status
	}
	for range 12 {
		if try() == http.StatusTooManyRequests {
			break
		}
	}
	if w.person(t, lola, "st-mary-hospital").LockedUntil == nil {
		t.Fatal("wrong passwords lock nothing")
	}
	ctx := admin.tab(t)
	w.open(t, ctx, "/console/people/"+lola.id, "Lola Locked")
	says(t, ctx, "Locked until")
	clean(t, ctx, "a locked person")
	press(t, ctx, "Release")
	says(t, ctx, "The person can sign in again.")
	saysNot(t, ctx, "Locked until")
	if at := w.person(t, lola, "st-mary-hospital").LockedUntil; at != nil {
		t.Errorf("still locked until %s", at)
	}
	if found := w.entries(t, "st-mary-hospital", "person.unlock"); len(found) != 1 || found[0].Actor != "person:"+admin.id {
		t.Errorf("the audit log says %+v", found)
	}
	status, header, _ := stranger.do(t, http.MethodPost, "/console/sign-in", url.Values{"email": {lola.email}, "password": {password}}.Encode())
	if status != http.StatusSeeOther || !strings.Contains(header.Get("Location"), "second-factor") {
		t.Errorf("the right password answers %d afterwards", status)
	}
}

func TestADeactivatedPersonLosesEverythingButTheKeysThatStay(t *testing.T) {
	w := office(t)
	admin := w.colleague(t, "harbour-authority/administrator")
	dev := w.hire(t, "harbour-authority", "drew@example.org", "Drew Developer", "developer")
	for _, name := range []string{"stays", "ends"} {
		if status, _, body := dev.do(t, http.MethodPost, "/console/organisations/harbour-authority/keys", "name="+name); status != http.StatusOK {
			t.Fatalf("making a key answers %d: %s", status, body)
		}
	}
	ctx := admin.tab(t)
	w.open(t, ctx, "/console/people/"+dev.id, "Drew Developer")
	press(t, ctx, "Deactivate")
	says(t, ctx, "API keys that they made", "stays")
	clean(t, ctx, "deactivating a person")
	_ = eval[bool](t, ctx, `(() => { const box = [...document.querySelectorAll('.box')].find(b => b.textContent.includes('stays')); box.querySelector('input').click(); return true })()`)
	fill(t, ctx, map[string]string{"name": "Drew"})
	press(t, ctx, "Deactivate")
	says(t, ctx, "That is not the person's name.")
	if status, _ := dev.get(t, "/console/"); status != http.StatusOK {
		t.Fatalf("a mistyped name deactivates: %d", status)
	}
	_ = eval[bool](t, ctx, `(() => { const box = [...document.querySelectorAll('.box')].find(b => b.textContent.includes('stays')).querySelector('input'); if (!box.checked) box.click(); return true })()`)
	fill(t, ctx, map[string]string{"name": "Drew Developer"})
	press(t, ctx, "Deactivate")
	says(t, ctx, "The person is deactivated.")
	eventually(t, "the session has ended", func() bool { status, _ := dev.get(t, "/console/"); return status == http.StatusSeeOther })
	if status, _, _ := dev.do(t, http.MethodPost, "/console/sign-in", url.Values{"email": {dev.email}, "password": {password}}.Encode()); status != http.StatusUnauthorized {
		t.Errorf("their password answers %d", status)
	}
	w.recorded(t, "harbour-authority", "person.deactivate", admin, dev.id)
	var keys []struct {
		Name      string
		RevokedAt *time.Time `json:"revoked_at"`
	}
	w.ask200(t, http.MethodGet, "/keys?organisation=harbour-authority", nil, &keys)
	for _, k := range keys {
		if k.Name == "stays" && k.RevokedAt != nil || k.Name == "ends" && k.RevokedAt == nil {
			t.Errorf("the key %s is revoked at %v", k.Name, k.RevokedAt)
		}
	}
}

func TestAKeyIsGivenToAServiceAccount(t *testing.T) {
	w := office(t)
	admin := w.colleague(t, "st-mary-hospital/administrator")
	ctx := admin.tab(t)
	w.open(t, ctx, "/console/service-accounts", "Service accounts")
	fill(t, ctx, map[string]string{"name": "ward-program"})
	press(t, ctx, "Create")
	press(t, ctx, "ward-program")
	says(t, ctx, "No key")
	clean(t, ctx, "a service account")
	account := strings.TrimPrefix(eval[string](t, ctx, `location.pathname`), "/console/service-accounts/")
	choose := eval[string](t, ctx, `[...document.querySelectorAll('#key option')].find(o => o.textContent.startsWith('ward-assistant (')).value`)
	run(t, ctx, chromedp.SetValue(chromedp.CSS("#key"), choose))
	press(t, ctx, "Give it this key")
	says(t, ctx, "The key belongs to the service account now.", choose)
	clean(t, ctx, "a service account with a key")
	w.recorded(t, "st-mary-hospital", "service-account.change", admin, account)
	var all []struct {
		Name string
		Keys int
	}
	w.ask200(t, http.MethodGet, "/service-accounts?organisation=st-mary-hospital", nil, &all)
	if len(all) != 1 || all[0].Keys != 1 {
		t.Errorf("the service accounts are %+v", all)
	}
	// Another organisation's key is not to be had, and nothing is said of it.
	var foreign []struct{ ID string }
	w.ask200(t, http.MethodGet, "/keys?organisation=harbour-authority", nil, &foreign)
	status, _, body := admin.do(t, http.MethodPost, "/console/service-accounts/"+account+"/keys", "key="+foreign[0].ID)
	if status != http.StatusBadRequest || !strings.Contains(body, "has no such key") {
		t.Errorf("another organisation's key answers %d", status)
	}
	// The key works on, and ends with the account.
	if id := w.ask("st-mary-hospital", "assistant", "internal", "Hello"); !strings.HasPrefix(id, "req_") {
		t.Errorf("the key does not work: %s", id)
	}
}
