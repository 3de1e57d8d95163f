package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// patience is how long anything may take that ought to happen at once.
const patience = 30 * time.Second

// world is a running node with vendors behind it.
type world struct {
	d       *daemon.Daemon
	dir     string // of everything, removed at the end
	base    string // https://…
	client  *http.Client
	local   *http.Client // over the local socket
	log     *lockedBuffer
	vendors map[string]*vendor
	files   atomic.Int64
	closers []func()
}

// vendor is a simulated provider behind the node.
type vendor struct {
	*simulator.Simulator
	url    string
	secret string // the credential that the node holds for it
}

// newWorld prepares a node that launch starts: vendors first.
func newWorld() (*world, error) {
	dir, err := os.MkdirTemp(root(), "foundry-e2e-")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, log: &lockedBuffer{}, vendors: map[string]*vendor{}}
	w.closers = append(w.closers, func() { _ = os.RemoveAll(dir) })
	// The database's unprivileged user must pass through.
	return w, os.Chmod(dir, 0o711)
}

// root is where data directories are made: in memory if there is room.
func root() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return os.TempDir()
}

// vendor starts a simulator on loopback.
func (w *world) vendor(name string, o simulator.Options) (*vendor, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	v := &vendor{Simulator: simulator.New(o), url: "http://" + l.Addr().String(), secret: o.APIKey}
	server := simulator.Serve(l, v.Simulator)
	w.closers = append(w.closers, func() { _ = v.Close(); _ = server.Close() })
	w.vendors[name] = v
	return v, nil
}

// secret puts a credential where configuration can point to it.
func (w *world) secret(value string) config.Secret {
	path := filepath.Join(w.dir, fmt.Sprintf("secret-%d", w.files.Add(1)))
	if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
		panic(err)
	}
	return config.Secret{File: path}
}

// launch starts the node. Addresses that the configuration leaves open are on
// loopback with free ports.
func (w *world) launch(cfg daemon.Config, clock func() time.Time) error {
	cfg.DataDir = filepath.Join(w.dir, "d")
	if cfg.Listen.HTTPS == "" {
		cfg.Listen.HTTPS = "127.0.0.1:0"
	}
	if cfg.Listen.HTTP == "" {
		cfg.Listen.HTTP = "off"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	log := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d, err := daemon.Start(ctx, daemon.Options{Config: cfg, Version: "e2e", Log: log, Clock: clock})
	if err != nil {
		return fmt.Errorf("starting a node: %w (%v)", err, errors.Unwrap(err))
	}
	w.d, w.base = d, d.URL()
	pem, err := os.ReadFile(daemon.AuthorityFile(d.DataDir()))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	w.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 256, ForceAttemptHTTP2: false},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	w.local = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", daemon.SocketPath(d.DataDir()))
	}}}
	return nil
}

// stop ends the node and then its vendors. Stopping twice does nothing.
func (w *world) stop() error {
	var err error
	if w.d != nil {
		w.client.CloseIdleConnections()
		w.local.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
		defer cancel()
		err = w.d.Stop(ctx)
		w.d = nil
	}
	for i := len(w.closers) - 1; i >= 0; i-- {
		w.closers[i]()
	}
	w.closers = nil
	return err
}

// start launches a node for one test.
func start(t *testing.T, cfg daemon.Config, w *world, clock func() time.Time) *world {
	t.Helper()
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Errorf("stopping the node: %v", err)
		}
	})
	if err := w.launch(cfg, clock); err != nil {
		t.Fatal(err)
	}
	return w
}

// prepared is newWorld for a test.
func prepared(t *testing.T) *world {
	t.Helper()
	w, err := newWorld()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// shared is a node that the tests of a file have in common, because a start
// costs seconds. TestMain stops it.
type shared struct {
	once sync.Once
	make func() (*world, error)
	w    *world
	err  error
}

var (
	sharedMu sync.Mutex
	sharing  []*shared
)

func (s *shared) get(t testing.TB) *world {
	t.Helper()
	s.once.Do(func() {
		s.w, s.err = s.make()
		sharedMu.Lock()
		defer sharedMu.Unlock()
		sharing = append(sharing, s)
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.w
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, s := range sharing {
		if s.w == nil {
			continue
		}
		if err := s.w.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping a shared node:", err)
			code = max(code, 1)
		}
	}
	dbtest.End()
	os.Exit(code)
}

// lockedBuffer takes the log of a node.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// call acts over the local socket. out may be nil.
func (w *world) call(method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, "http://node/api/v1"+path, body)
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
		return fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

func (w *world) must(t testing.TB, method, path string, in, out any) {
	t.Helper()
	if err := w.call(method, path, in, out); err != nil {
		t.Fatal(err)
	}
}

var serial atomic.Int64

// org makes an organisation under a policy and returns its name.
func (w *world) org(t testing.TB, policy sovereignty.Policy) string {
	t.Helper()
	name := fmt.Sprintf("org-%d", serial.Add(1))
	w.must(t, "POST", "/organisations", map[string]any{"name": name, "policy": policy}, nil)
	return name
}

// key makes an API key. Options are merged into what the interface is sent.
func (w *world) key(t testing.TB, org string, options map[string]any) api.Key {
	t.Helper()
	in := map[string]any{"organisation": org, "name": fmt.Sprintf("key-%d", serial.Add(1))}
	for k, v := range options {
		in[k] = v
	}
	var k api.Key
	w.must(t, "POST", "/keys", in, &k)
	return k
}

// token is a new key's token in a new organisation under a policy.
func (w *world) token(t testing.TB, policy sovereignty.Policy) string {
	t.Helper()
	return w.key(t, w.org(t, policy), nil).Token
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, done func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ok, state := done()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: %s", what, state)
		}
		pause()
	}
}

// pause is between two looks at a condition that nothing signals: the ledger
// is in another process.
func pause() { <-time.After(5 * time.Millisecond) }

// recorded waits until a request's outcome is in the database.
func (w *world) recorded(t testing.TB, id string) api.Request {
	t.Helper()
	var r api.Request
	eventually(t, "the outcome of "+id, func() (bool, string) {
		r = api.Request{}
		if err := w.call("GET", "/requests/"+url.PathEscape(id), nil, &r); err != nil {
			return false, err.Error()
		}
		return r.State != ledger.StateInFlight, r.State
	})
	return r
}

// shipped waits until everything that happened so far is in the database.
func (w *world) shipped(t testing.TB) {
	t.Helper()
	eventually(t, "the journal's queue to be empty", func() (bool, string) {
		resp, err := w.local.Get("http://node/readyz")
		if err != nil {
			return false, err.Error()
		}
		defer resp.Body.Close()
		var r daemon.Readiness
		if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
			return false, err.Error()
		}
		return r.Queue == 0, fmt.Sprintf("%d events are left", r.Queue)
	})
}

// refused waits until a refusal is in the database.
func (w *world) refused(t testing.TB, org, id string) ledger.RefusalRow {
	t.Helper()
	var row ledger.RefusalRow
	eventually(t, "the refusal "+id, func() (bool, string) {
		var page api.Refusals
		if err := w.call("GET", "/refusals?limit=500&organisation="+org, nil, &page); err != nil {
			return false, err.Error()
		}
		for _, r := range page.Refusals {
			if r.ID.String() == id {
				row = r
				return true, ""
			}
		}
		return false, fmt.Sprintf("%d other refusals", len(page.Refusals))
	})
	return row
}

// transfers is the register of an organisation, newest first.
func (w *world) transfers(t testing.TB, org string) []ledger.TransferRow {
	t.Helper()
	w.shipped(t)
	var page api.Transfers
	w.must(t, "GET", "/transfers?limit=500&organisation="+org, nil, &page)
	return page.Transfers
}

// anywhere is a policy that allows every vendor used here: what other tests
// are about is not where data may go.
func anywhere() sovereignty.Policy {
	return sovereignty.Policy{Regime: sovereignty.RegimeEU, Home: sovereignty.SetOf("DE", "FI"), Allowed: sovereignty.EEA().With("US", "GB"),
		ThirdParties: true, Highest: sovereignty.Internal, RequireNoRetention: sovereignty.Confidential,
		Ceilings: sovereignty.Ceilings{Own: sovereignty.Restricted, Near: sovereignty.Restricted, Elsewhere: sovereignty.Restricted}}
}

func no() *bool { v := false; return &v }
func days(n int) *int {
	return &n
}

// european is a third party in the EEA that keeps nothing, with every fact on
// record.
func european(name string, kind gateway.Kind, base string) gateway.ProviderConfig {
	return gateway.ProviderConfig{Name: name, Kind: string(kind), BaseURL: base, Own: no(), Discover: no(), Controller: "FR", Processing: []string{"FR"},
		NoSubProcessors: true, Retention: &gateway.RetentionConfig{Days: days(0), Contract: "DPA-1", Signed: date("2026-01-02"), Expires: date("2033-12-31")}}
}

func date(text string) config.Date {
	var d config.Date
	if err := d.UnmarshalText([]byte(text)); err != nil {
		panic(err)
	}
	return d
}

// span is a duration as configuration has it.
func span(d time.Duration) config.Duration { return config.Duration(d) }

// kindOf is the kind of provider that a simulator's format stands for.
func kindOf(f simulator.Format) gateway.Kind { return gateway.Kind(f) }

var formats = []simulator.Format{simulator.OpenAI, simulator.Anthropic, simulator.Mistral, simulator.Ollama, simulator.OpenAICompatible}
