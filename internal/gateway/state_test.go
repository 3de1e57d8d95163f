package gateway

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/prometheus/client_golang/prometheus"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

func guard(t *testing.T, d *db.DB) *access.Guard {
	t.Helper()
	e, err := policy.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return access.NewGuard(e, d, time.Now, policy.Development)
}

// stored is a gateway on a database, with an organisation.
func stored(t *testing.T, d *db.DB, snapshot string, log *slog.Logger) (*Gateway, access.Organisation) {
	t.Helper()
	plain := func(in, _ []byte) ([]byte, error) { return in, nil }
	ollama := own("o", "llama3.2:latest")
	ollama.Kind = string(Ollama)
	g, err := New(Options{Config: Config{Providers: []ProviderConfig{ollama}}, Node: 1, Boot: 1, DB: d, Snapshot: snapshot, Seal: plain, Open: plain,
		Budgets: ledger.NewBudgets(d, ledger.BudgetOptions{Node: 1, Boot: 1}), Verifier: access.NewVerifier(bytes.Repeat([]byte{1}, 32)),
		Metrics: NewMetrics(prometheus.NewRegistry()), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	org, err := access.CreateOrganisation(t.Context(), d, guard(t, d), principal.Node("test"), "ward")
	if err != nil {
		t.Fatal(err)
	}
	return g, org
}

// A refresh that read a key before it was revoked, and was held up, must not
// put it back after a refresh that read it revoked.
func TestARefreshThatReadEarlierDoesNotReopenARevokedKey(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	d := dbtest.Open(t, cfg)
	g, org := stored(t, d, "", quiet())
	super := dbtest.Superuser(t, cfg)
	for i := range 8 { // without the lock, each round is lost with a chance of about one half
		key, token, err := g.Verifier.CreateKey(t.Context(), d, guard(t, d), principal.Node("test"), access.NewKey{Organisation: org.ID, Name: string(rune('a' + i))})
		if err != nil {
			t.Fatal(err)
		}
		hold, err := super.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// A refresh reads keys first and policies then, where it has to wait.
		if _, err := hold.Exec(t.Context(), `LOCK TABLE organisation_policies IN ACCESS EXCLUSIVE MODE`); err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		refresh := func() {
			if err := g.Refresh(t.Context()); err != nil {
				t.Error(err)
			}
		}
		both.Go(refresh)
		waiting(t, hold, 1)
		if _, err := access.RevokeKey(t.Context(), d, guard(t, d), principal.Node("test"), key.ID); err != nil {
			t.Fatal(err)
		}
		both.Go(refresh)
		if !g.refreshing.TryLock() { // the second waits behind the first
			if err := hold.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
		} else {
			t.Fatal("a refresh that is reading holds no lock")
		}
		both.Wait()
		if _, _, err := g.Verifier.Verify(t.Context(), time.Now(), token, time.Hour); err == nil {
			t.Fatalf("round %d: a revoked key opens", i)
		}
	}
}

// waiting returns once n sessions wait for the lock on the policies.
func waiting(t *testing.T, tx pgx.Tx, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		var have int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'organisation_policies'::regclass`).Scan(&have); err != nil {
			t.Fatal(err)
		}
		if have >= n {
			return
		}
	}
}

// What was read is in force even where the snapshot for a start without a
// database cannot be written, and the log says so.
func TestARefreshCountsThoughItsSnapshotCannotBeSaved(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	d := dbtest.New(t)
	g, org := stored(t, d, filepath.Join(t.TempDir(), "gone", "snapshot"), slog.New(slog.NewTextHandler(&log, nil)))
	if err := g.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g.Verifier.Directory().Organisation(org.ID) == nil {
		t.Error("what was read is not in force")
	}
	if !strings.Contains(log.String(), "was not saved") {
		t.Errorf("the log says %q", log.String())
	}
}

func TestAModelIsShownByTheNameItsUsersCallItBy(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	g, org := stored(t, d, "", quiet())
	_, token, err := g.Verifier.CreateKey(t.Context(), d, guard(t, d), principal.Node("test"), access.NewKey{Organisation: org.ID, Name: "k"})
	if err := errors.Join(err, g.Refresh(t.Context())); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"llama3.2": 200, "llama3.2:latest": 200, "llama3.2:8b": 404, "llama": 404} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/v1/models/"+name, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		g.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}
