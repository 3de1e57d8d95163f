package console_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/daemon"
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
	v := w.visitor(t) // signing in needs no database

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
