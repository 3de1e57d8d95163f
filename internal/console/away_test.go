package console_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/outage"
)

// TestTheConsoleWorksWithTheDatabaseAway starts a node on the data of an
// earlier start, with a database that nobody can reach.
func TestTheConsoleWorksWithTheDatabaseAway(t *testing.T) {
	if testing.Short() {
		t.Skip("this starts two nodes")
	}
	w := &world{keys: map[string]string{}}
	t.Cleanup(w.stop)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.offset.Store(0)
	key := w.d.FirstKey
	if err := w.admin(http.MethodPost, "/organisations", map[string]any{"name": "remembered"}, nil); err != nil {
		t.Fatal(err)
	}
	anna := w.hire(t, "platform", "anna@example.org", "Anna Lind", "platform-operator")
	w.mirrored(t)
	w.client.CloseIdleConnections()
	w.local.CloseIdleConnections()
	if err := w.d.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.database = daemon.DatabaseConfig{DSN: "host=127.0.0.1 port=9 dbname=foundry sslmode=disable"}
	if err := w.restart(); err != nil {
		t.Fatal(err)
	}
	w.keys["default"] = key
	operatorsGetIn(t, w, anna)
	v := w.visitor(t) // signing in by a link needs no database

	status, body := v.get(t, "/console/")
	if status != http.StatusOK {
		t.Fatalf("the overview answers %d", status)
	}
	for _, want := range []string{"The database does not answer.", "Requests go on for", "Journal queue", "not available without the database"} {
		if !strings.Contains(body, want) {
			t.Errorf("the overview does not say %q", want)
		}
	}
	for path, want := range map[string]string{"/console/providers": "helsinki", "/console/organisations": "remembered", "/console/playground": "Send",
		"/console/organisations/remembered":                                       "They go on being enforced from memory.",
		"/console/explain?organisation=remembered&model=assistant&class=internal": "may receive internal data of remembered"} {
		if status, body := v.get(t, path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s answers %d without %q", path, status, want)
		}
	}
	if status, body := v.get(t, "/console/exercises"); status != http.StatusOK || !strings.Contains(body, "The database is away, and exercises are kept in it.") {
		t.Errorf("the exercises answer %d", status)
	}
	for _, path := range []string{"/console/requests", "/console/usage", "/console/transfers", "/console/transfers.csv", "/console/refusals", "/console/audit"} {
		status, header, body := v.do(t, http.MethodGet, path, "")
		if status != http.StatusServiceUnavailable || !strings.Contains(body, "Requests go on being answered from memory") || header.Get("Retry-After") == "" {
			t.Errorf("%s answers %d", path, status)
		}
	}
	chat := `{"model":"assistant","max_tokens":20,"messages":[{"role":"user","content":"Are you there?"}]}`
	path := "/console/playground/chat/default"
	if status, _, body := v.do(t, http.MethodPost, path, chat, "Content-Type", "application/json"); status != http.StatusServiceUnavailable || !strings.Contains(body, "Paste an API key") {
		t.Errorf("the playground without a key answers %d %s", status, body)
	}
	if status, _, body := v.do(t, http.MethodPost, path, chat, "Content-Type", "application/json", "X-Api-Key", key); status != http.StatusOK || !strings.Contains(body, "choices") {
		t.Errorf("the playground with a key answers %d %s", status, body)
	}
}

// mirrored waits until the fleet's store has who may sign in, as it is now.
func (w *world) mirrored(t *testing.T) {
	t.Helper()
	since := time.Now().Add(time.Duration(w.offset.Load()))
	for deadline := time.Now().Add(patience); ; {
		var s daemon.Status
		w.ask200(t, http.MethodGet, "/status", nil, &s)
		if at := s.Database.SignIn; at != nil && at.AgreedAt.After(since) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("who may sign in is not in the fleet's store")
		}
		<-time.After(50 * time.Millisecond)
	}
}

// operatorsGetIn signs an operator in without the database, in a browser.
func operatorsGetIn(t *testing.T, w *world, anna *colleague) {
	t.Helper()
	tab := tab(t, w)
	at := w.base + "/console/sign-in"
	run(t, tab, chromedp.Navigate(at))
	until(t, tab, `document.readyState === 'complete' && document.body.textContent.includes('Nobody can sign in here right now.') || (location.reload(), false)`)
	pictured(t, tab, "signin-away-closed")
	w.offset.Add(int64(outage.Patience)) // on the node's clock
	run(t, tab, chromedp.Navigate(at+"?next=/console/command"))
	until(t, tab, `document.readyState === 'complete' && document.body.textContent.includes('Operators of the platform can sign in without it.') || (location.reload(), false)`)
	for _, c := range []string{"light", "dark"} {
		theme(t, tab, c)
		if found := violations(t, tab); found != "" {
			t.Errorf("signing in, %s: %s", c, found)
		}
	}
	pictured(t, tab, "signin-away")
	fill(t, tab, map[string]string{"email": anna.email, "password": password})
	click(t, tab, "form.stackform button.primary")
	if found := violations(t, tab); found != "" {
		t.Errorf("the second factor: %s", found)
	}
	pictured(t, tab, "second-away")
	fill(t, tab, map[string]string{"code": w.code(t, anna.secret, 0)})
	click(t, tab, "form.stackform button.primary")
	if path := eval[string](t, tab, `location.pathname`); path != "/console/command" {
		t.Fatalf("signing in led to %s: %s", path, eval[string](t, tab, `document.body.innerText`))
	}
	pictured(t, tab, "command-away")
	if text := eval[string](t, tab, `document.body.innerText`); !strings.Contains(text, "The database does not answer.") || strings.Contains(text, "Your account") || strings.Contains(text, "Refusals") {
		t.Errorf("Command shows %s", text)
	}
	for path, want := range map[string]string{"/console/": "Command", "/console/incidents": "Incidents", "/console/fleet": "Fleet", "/console/people": "Not allowed", "/console/organisations": "Not allowed", "/console/audit": "Not allowed"} {
		run(t, tab, chromedp.Navigate(w.base+path))
		if got := eval[string](t, tab, `document.querySelector('h1').textContent`); got != want {
			t.Errorf("%s shows %q", path, got)
		}
	}
	run(t, tab, chromedp.Navigate(w.base+"/console/people"))
	pictured(t, tab, "refused-away")
	run(t, tab, chromedp.Navigate(w.base+"/console/command"))
	click(t, tab, `form[action="/console/sign-out"] button`)
	run(t, tab, chromedp.Navigate(w.base+"/console/command"))
	if path := eval[string](t, tab, `location.pathname`); path != "/console/sign-in" {
		t.Errorf("after signing out: %s", path)
	}
}
