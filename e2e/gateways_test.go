package e2e

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/problem"
)

// gateways starts so many nodes on one database, with one vendor. They share
// keys and authority, as nodes of one installation do.
func gateways(t *testing.T, n int) []*world {
	t.Helper()
	dsn := dbtest.Config(t).DSN
	var all []*world
	for range n {
		w := prepared(t)
		if len(all) > 0 {
			inherit(t, all[0], w)
			w.vendors = all[0].vendors
		} else if _, err := w.vendor("openai", simulator.Options{Format: simulator.OpenAI, Commands: true}); err != nil {
			t.Fatal(err)
		}
		all = append(all, start(t, onDatabase(dsn, w), w, nil))
	}
	return all
}

func onDatabase(dsn string, w *world) daemon.Config {
	p := european("openai", gateway.OpenAI, w.vendors["openai"].url)
	p.Models = []gateway.ProviderModelConfig{{Name: "simulator-chat", MaxOutput: 1000, Price: &gateway.PriceConfig{Currency: "EUR", Input: "100", Output: "1000"}}}
	return daemon.Config{Database: daemon.DatabaseConfig{DSN: dsn}, Config: gateway.Config{Providers: []gateway.ProviderConfig{p}}}
}

// inherit gives a node that has not started yet the keys and the authority of
// another.
func inherit(t testing.TB, from, to *world) {
	t.Helper()
	for _, dir := range []string{"keys", "ca"} {
		source, target := filepath.Join(from.dir, "d", dir), filepath.Join(to.dir, "d", dir)
		if err := os.CopyFS(target, os.DirFS(source)); err != nil {
			t.Fatal(err)
		}
		err := filepath.WalkDir(target, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			mode := fs.FileMode(0o600)
			if d.IsDir() {
				mode = 0o700
			}
			return os.Chmod(path, mode)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryGatewayKnowsTheKeysAndSessionsOfTheOthersAndTheirEnd(t *testing.T) {
	t.Parallel()
	all := gateways(t, 3)
	a, c := all[0], all[2]
	k := a.key(t, a.org(t, anywhere()), nil)
	q := question{model: "simulator-chat", limit: 5}
	for i, w := range all {
		eventually(t, fmt.Sprintf("gateway %d to know a key made on the first", i), func() (bool, string) {
			r := w.get(t, k.Token, q)
			return r.status == 200, r.String()
		})
	}
	c.must(t, "DELETE", "/keys/"+k.ID, nil, nil)
	revoked := time.Now()
	for i, w := range all {
		eventually(t, fmt.Sprintf("gateway %d to hear of the revocation", i), func() (bool, string) {
			r := w.get(t, k.Token, q)
			return r.status == 401, r.String()
		})
	}
	t.Logf("a key revoked on one of three gateways was refused by all after %s", time.Since(revoked).Round(time.Millisecond))

	var i api.Invitation
	a.must(t, "POST", "/people/bootstrap", map[string]any{"email": "first@example.org", "name": "First"}, &i)
	somebody := a.enrolled(t, i.Token, "first@example.org")
	for n, w := range all {
		eventually(t, fmt.Sprintf("gateway %d to know a session begun on the first", n), func() (bool, string) {
			status, text := w.over(t, somebody.token, "GET", "/session", nil, nil)
			return status == 200, text
		})
		eventually(t, fmt.Sprintf("the console of gateway %d to show itself to it", n), func() (bool, string) {
			status := w.console(t, somebody.token)
			return status == http.StatusOK, fmt.Sprint(status)
		})
	}
	if status, text := c.over(t, somebody.token, "DELETE", "/session", nil, nil); status >= 300 {
		t.Fatalf("signing out: %d %s", status, text)
	}
	ended := time.Now()
	for n, w := range all {
		eventually(t, fmt.Sprintf("gateway %d to hear that the session is over", n), func() (bool, string) {
			status, text := w.over(t, somebody.token, "GET", "/session", nil, nil)
			return status == 401, text
		})
	}
	t.Logf("a session ended on one of three gateways was refused by all after %s", time.Since(ended).Round(time.Millisecond))

	// All of them wrote into one log: every one can prove it whole.
	for n, w := range all {
		eventually(t, fmt.Sprintf("gateway %d to have everything in the tree", n), func() (bool, string) {
			s := w.d.AuditLog().Status()
			return s.Waiting == 0 && s.Failure == "" && s.Size > 0, fmt.Sprintf("%+v", s)
		})
		report, err := w.d.AuditLog().Verify(t.Context(), audit.VerifyOptions{})
		if err != nil || len(report.Findings) > 0 {
			t.Errorf("gateway %d finds in the audit log: %+v %v", n, report.Findings, err)
		}
	}
}

// console asks for the first page of the console in a session.
func (w *world) console(t testing.TB, token string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", w.base+"/console/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.AddCookie(&http.Cookie{Name: "__Host-foundry", Value: token})
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestGatewaysTogetherSpendNoMoreThanABudget(t *testing.T) {
	t.Parallel()
	all := gateways(t, 2)
	org := all[0].org(t, anywhere())
	k := all[0].key(t, org, nil)
	all[0].budget(t, org, "", "total", "0.8") // about eight at their worst
	for _, w := range all {
		eventually(t, "the key and the budget to be known", func() (bool, string) {
			r := w.get(t, k.Token, question{model: "simulator-chat", limit: 5})
			return r.status == 200 || r.status == 429, r.String()
		})
	}
	var callers sync.WaitGroup
	for _, w := range all {
		for range 3 {
			callers.Go(func() {
				for refused := 0; refused < 5; {
					r := w.get(t, k.Token, question{model: "simulator-chat", limit: 90, text: "Please write 80 words"})
					switch r.status {
					case 200:
					case 429:
						refused++
					default:
						t.Errorf("neither answered nor refused: %s", r)
						return
					}
				}
			})
		}
	}
	callers.Wait()
	var spent int64
	for _, w := range all {
		w.shipped(t)
	}
	var rows []ledger.UsageRow
	all[1].must(t, "GET", "/usage?group_by=day&organisation="+org, nil, &rows)
	for _, r := range rows {
		spent += r.CostNano
	}
	if spent > 800_000_000 || spent < 400_000_000 {
		t.Errorf("two gateways spent %d of a budget of 800000000", spent)
	}
	t.Logf("two gateways spent %.1f %% of a budget", float64(spent)/8_000_000)
}

func TestANodeWithOtherKeysDoesNotStartOnAnInstallationsDatabase(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Config(t).DSN
	first := prepared(t)
	if _, err := first.vendor("openai", simulator.Options{Format: simulator.OpenAI}); err != nil {
		t.Fatal(err)
	}
	start(t, onDatabase(dsn, first), first, nil)
	stranger := prepared(t)
	t.Cleanup(func() { _ = stranger.stop() })
	stranger.vendors = first.vendors
	err := stranger.launch(onDatabase(dsn, stranger), nil)
	var p *problem.Error
	if err != nil {
		p = problem.From(err)
	}
	if p == nil || p.Code != "keys-differ" || !strings.Contains(p.Mend, "copy the directory keys") {
		t.Fatalf("a node with keys of its own: %v", err)
	}

	// After a rotation of the keys in files on the first, a copy from before
	// is behind.
	behind := prepared(t)
	behind.vendors = first.vendors
	t.Cleanup(func() { _ = behind.stop() })
	inherit(t, first, behind)
	first.must(t, "POST", "/encryption/rotations", map[string]any{"organisation": "installation"}, nil)
	err = behind.launch(onDatabase(dsn, behind), nil)
	if err == nil || problem.From(err).Code != "keys-behind" {
		t.Errorf("a node with keys from before a rotation: %v", err)
	}
}

func TestACopiedDataDirectoryEndsOneOfTheTwo(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Config(t).DSN
	first := prepared(t)
	if _, err := first.vendor("openai", simulator.Options{Format: simulator.OpenAI}); err != nil {
		t.Fatal(err)
	}
	start(t, onDatabase(dsn, first), first, nil)
	failed := make(chan error, 1)
	go func() { failed <- first.d.Wait(t.Context()) }()
	second := prepared(t)
	second.vendors = first.vendors
	inherit(t, first, second)
	text, err := os.ReadFile(filepath.Join(first.dir, "d", "node.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(second.dir, "d", "node.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, onDatabase(dsn, second), second, nil)
	select {
	case err := <-failed:
		if problem.From(err).Code != "node-twice" {
			t.Errorf("the first ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("two processes go on under one number")
	}
}
