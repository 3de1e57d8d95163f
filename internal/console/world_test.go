package console_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/notify"
)

// patience is how long anything may take that ought to happen at once.
const patience = 2 * time.Minute

// world is a running node with simulated vendors, organisations and some
// history, shared by the tests of this package.
type world struct {
	d       *daemon.Daemon
	base    string
	client  *http.Client // trusts the node's authority, follows no redirect
	local   *http.Client // the command line's way in
	offset  atomic.Int64 // of the node's clock
	keys    map[string]string
	failed  string // id of a request that failed over
	abroad  string // id of a request that left the EEA
	dir     string
	closers []func()

	database daemon.DatabaseConfig
	mail     notify.Config
	mailbox  *mailbox
	backup   backup.Config
	people   map[string]*colleague
}

var shared struct {
	once sync.Once
	w    *world
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	closeBrowser()
	for _, one := range []*world{shared.w, staffed.w} {
		if one != nil {
			one.stop()
		}
	}
	os.Exit(code)
}

// node returns the shared world, started and filled on first use.
func node(t *testing.T) *world {
	t.Helper()
	shared.once.Do(func() {
		shared.w = &world{keys: map[string]string{}}
		if shared.err = shared.w.start(); shared.err == nil {
			shared.err = shared.w.fill()
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.w
}

func (w *world) stop() {
	if w.d != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		w.client.CloseIdleConnections()
		if err := w.d.Stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the node:", err)
		}
	}
	for _, c := range w.closers {
		c()
	}
}

// vendor starts a simulator on loopback and returns its address.
func (w *world) vendor(o simulator.Options) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	o.FirstByte, o.BetweenChunks, o.Chunks, o.Forget = 15*time.Millisecond, time.Millisecond, 16, true
	s := simulator.New(o)
	server := simulator.Serve(l, s)
	w.closers = append(w.closers, func() { _ = s.Close(); _ = server.Close() })
	return "http://" + l.Addr().String(), nil
}

func (w *world) start() error {
	dir, err := os.MkdirTemp("", "foundry-console-")
	if err != nil {
		return err
	}
	w.closers = append(w.closers, func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { // the database's own user passes through
		return err
	}
	// The node's history begins an hour ago, so that charts have something to
	// show; the clock reaches the present before the first test.
	w.dir = dir
	w.offset.Store(int64(-57 * time.Minute))
	return w.restart()
}

// restart starts the node on what it left.
func (w *world) restart() (err error) {
	cfg := daemon.Config{DataDir: filepath.Join(w.dir, "d"), Database: w.database, Node: daemon.NodeConfig{Country: "FI"}, Listen: daemon.ListenConfig{HTTPS: "localhost:0", HTTP: "off"}, Mail: w.mail, Backup: w.backup}
	if cfg.Config, err = w.models(w.dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if w.d, err = daemon.Start(ctx, daemon.Options{Config: cfg, Version: "0.1.0", Log: debugLog(), Clock: func() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) }}); err != nil {
		return err
	}
	w.base = w.d.URL()
	pem, err := os.ReadFile(daemon.AuthorityFile(w.d.DataDir()))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	w.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	w.local = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", daemon.SocketPath(w.d.DataDir()))
	}}}
	return nil
}

// models is a fleet like a small company's: its own server, a European vendor,
// an American one, and one that is down.
func (w *world) models(dir string) (gateway.Config, error) {
	var c gateway.Config
	yes, no, none, month := true, false, 0, 30
	secret := filepath.Join(dir, "vendor-key")
	if err := os.WriteFile(secret, []byte("vendor-secret"), 0o600); err != nil {
		return c, err
	}
	own, err := w.vendor(simulator.Options{Format: simulator.OpenAICompatible, Models: []string{"simulator-small", "simulator-embed"}, Commands: true})
	if err != nil {
		return c, err
	}
	french, err := w.vendor(simulator.Options{Format: simulator.Mistral, Models: []string{"simulator-large"}})
	if err != nil {
		return c, err
	}
	american, err := w.vendor(simulator.Options{Format: simulator.OpenAI, Models: []string{"simulator-frontier"}})
	if err != nil {
		return c, err
	}
	on := func(text string) config.Date {
		at, _ := time.Parse(time.DateOnly, text)
		return config.Date{Time: at}
	}
	year := time.Now().AddDate(1, 0, 0).Format(time.DateOnly)
	soon := time.Now().AddDate(0, 0, 12).Format(time.DateOnly)
	c.Providers = []gateway.ProviderConfig{
		{Name: "helsinki", Kind: "openai-compatible", BaseURL: own, Own: &yes, Controller: "FI", Processing: []string{"FI"}, Discover: &no,
			Models: []gateway.ProviderModelConfig{{Name: "simulator-small", Tier: "routine", Price: &gateway.PriceConfig{Input: "0.04", Output: "0.12"}, Context: 32768}, {Name: "simulator-embed", Tier: "bulk"}}},
		{Name: "mistral", Kind: "mistral", BaseURL: french, APIKey: config.Secret{File: secret}, Controller: "FR", Processing: []string{"FR", "SE"}, NoSubProcessors: true,
			Retention: &gateway.RetentionConfig{Days: &none, Contract: "ZDR-2026-114", Signed: on("2026-02-01"), Expires: on(soon)},
			Models:    []gateway.ProviderModelConfig{{Name: "simulator-large", Tier: "standard", Price: &gateway.PriceConfig{Input: "0.40", Output: "2.00", CachedInput: "0.10"}, Context: 131072}}},
		{Name: "openai", Kind: "openai", BaseURL: american, APIKey: config.Secret{File: secret}, Controller: "US", Processing: []string{"US", "IE"},
			SubProcessors: []gateway.SubProcessorConfig{{Name: "Cloud host", Jurisdiction: "US", Purpose: "computing"}},
			Retention:     &gateway.RetentionConfig{Days: &month, Contract: "DPA-2026-031", Signed: on("2026-01-15"), Expires: on(year)},
			Safeguards:    []gateway.SafeguardConfig{{Instrument: "eu-scc", Reference: "SCC-2026-07", Covers: []string{"US"}, Expires: on(year)}},
			Models:        []gateway.ProviderModelConfig{{Name: "simulator-frontier", Tier: "frontier", Price: &gateway.PriceConfig{Input: "2.10", Output: "8.40"}, Context: 400000}}},
		{Name: "standby", Kind: "openai-compatible", BaseURL: "http://127.0.0.1:9", Own: &yes, Controller: "DE", Processing: []string{"DE"}, Discover: &no,
			Models: []gateway.ProviderModelConfig{{Name: "simulator-small", Tier: "routine"}}},
	}
	c.Limits.SnapshotAge = config.Duration(3 * time.Hour) // the clock of this world runs ahead of its refreshes
	route := func(p, m string) gateway.RouteConfig { return gateway.RouteConfig{Provider: p, Model: m} }
	c.Models = []gateway.ModelConfig{
		{Name: "assistant", Tier: "routine", Routes: []gateway.RouteConfig{route("helsinki", "simulator-small"), route("mistral", "simulator-large"), route("openai", "simulator-frontier")}},
		{Name: "embeddings", Tier: "bulk", Routes: []gateway.RouteConfig{route("helsinki", "simulator-embed")}},
		{Name: "expert", Tier: "frontier", Routes: []gateway.RouteConfig{route("openai", "simulator-frontier")}},
		{Name: "writer", Tier: "standard", Routes: []gateway.RouteConfig{route("mistral", "simulator-large"), route("helsinki", "simulator-small")}},
	}
	return c, nil
}

// fill makes organisations, keys, budgets and an hour of traffic.
func (w *world) fill() error {
	open := map[string]any{"regime": "EU", "home": []string{"FI", "DE"}, "allowed": []string{"EEA", "US"}, "third_parties": true, "highest": "confidential",
		"ceilings": map[string]string{"own": "restricted", "near": "confidential", "elsewhere": "internal"}, "require_no_retention": "confidential"}
	for _, name := range []string{"st-mary-hospital", "harbour-authority"} {
		body := map[string]any{"name": name}
		if name == "st-mary-hospital" {
			body["policy"] = open
		}
		if err := w.admin(http.MethodPost, "/organisations", body, nil); err != nil {
			return err
		}
		var key struct{ Token string }
		if err := w.admin(http.MethodPost, "/keys", map[string]any{"organisation": name, "name": "ward-assistant", "requests_per_minute": 600}, &key); err != nil {
			return err
		}
		w.keys[name] = key.Token
	}
	for _, b := range []map[string]any{{"organisation": "st-mary-hospital", "period": "month", "limit": "250.00"}, {"organisation": "harbour-authority", "period": "day", "limit": "1.00"}} {
		if err := w.admin(http.MethodPost, "/budgets", b, nil); err != nil {
			return err
		}
	}
	for minute := range 58 {
		for n := range 1 + (minute*7%5+minute/9)/2 {
			w.ask("st-mary-hospital", []string{"assistant", "writer", "assistant", "expert"}[(minute+n)%4], []string{"internal", "internal", "confidential", "public"}[(minute+n)%4], "How are you?")
			if n == 1 {
				w.ask("harbour-authority", "assistant", "confidential", "Which berth is free?")
			}
		}
		if minute%13 == 5 {
			w.ask("harbour-authority", "expert", "confidential", "This may go nowhere.")
		}
		w.offset.Store(min(w.offset.Load()+int64(time.Minute), 0))
	}
	w.offset.Store(0)
	w.failed = w.ask("st-mary-hospital", "assistant", "confidential", "simulate 500")
	w.abroad = w.ask("st-mary-hospital", "expert", "internal", "A question for abroad")
	// A change makes the node read its keys again, as of the present.
	if err := w.admin(http.MethodPost, "/keys", map[string]any{"organisation": "st-mary-hospital", "name": "letters", "class_floor": "confidential"}, nil); err != nil {
		return err
	}
	for _, id := range []string{w.failed, w.abroad} {
		if err := w.stored(id); err != nil {
			var why struct{ Text []string }
			_ = w.admin(http.MethodGet, "/route?organisation=st-mary-hospital&model=expert&class=internal", nil, &why)
			return fmt.Errorf("%w %s", err, strings.Join(why.Text, "\n"))
		}
	}
	return nil
}

// ask sends a chat completion and returns the request's id.
func (w *world) ask(org, model, class, text string) string {
	body, _ := json.Marshal(map[string]any{"model": model, "max_tokens": 60, "stream": w.offset.Load() == 0, "messages": []any{map[string]string{"role": "user", "content": text}}})
	req, _ := http.NewRequest(http.MethodPost, w.base+"/v1/chat/completions", bytes.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+w.keys[org])
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Foundry-Data-Class", class)
	resp, err := w.client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	if os.Getenv("CONSOLE_DEBUG") != "" && resp.StatusCode != 200 {
		fmt.Fprintf(os.Stderr, "%s %s %s: %s %.300s\n", org, model, class, resp.Status, answer)
	}
	return resp.Header.Get("X-Request-Id")
}

// stored waits until the ledger shows a request with its end.
func (w *world) stored(id string) error {
	var got struct{ State string }
	deadline := time.Now().Add(patience)
	for {
		err := w.admin(http.MethodGet, "/requests/"+id, nil, &got)
		if err == nil && got.State != "in flight" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("request %s was not stored in time: %v %s", id, err, got.State)
		}
	}
}

// admin calls the node's local interface.
func (w *world) admin(method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, "http://local/api/v1"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.local.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s", method, path, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// link makes a sign-in link as `foundry console` does.
func (w *world) link(t *testing.T) string {
	t.Helper()
	var l struct{ URL string }
	if err := w.admin(http.MethodPost, "/console/links", nil, &l); err != nil {
		t.Fatal(err)
	}
	return l.URL
}

// visitor is a client with the console's cookie.
type visitor struct {
	w      *world
	cookie *http.Cookie
	client *http.Client // nil: the world's
}

// visitor signs in over HTTP.
func (w *world) visitor(t *testing.T) *visitor {
	t.Helper()
	resp, err := w.client.Post(w.link(t), "application/x-www-form-urlencoded", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, c := range resp.Cookies() {
		if c.Name == "__Host-foundry" {
			return &visitor{w: w, cookie: c}
		}
	}
	t.Fatalf("signing in set no cookie: %s", resp.Status)
	return nil
}

// do sends a request and returns status, headers and body.
func (v *visitor) do(t *testing.T, method, path, form string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(method, v.w.base+path, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	if v.cookie != nil {
		req.AddCookie(v.cookie)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := cmp.Or(v.client, v.w.client).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

func (v *visitor) get(t *testing.T, path string) (int, string) {
	t.Helper()
	status, _, body := v.do(t, http.MethodGet, path, "")
	return status, body
}

// debugLog shows the node's log where CONSOLE_DEBUG asks for it.
func debugLog() *slog.Logger {
	if os.Getenv("CONSOLE_DEBUG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
