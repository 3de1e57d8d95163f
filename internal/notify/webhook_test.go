package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

var testKey = []byte("a key of at least 24 bytes for tests")

// received is what a receiver got, and whether its signature was right.
type received struct {
	id, signature string
	at            time.Time
	body          []byte
	signed        bool
	proto         string
	tls           uint16
}

// receiver is a real HTTPS server.
type receiver struct {
	*httptest.Server
	mu  sync.Mutex
	got []received
}

// receive starts a receiver; answer decides about the nth request (from 1), nil:
// 204 for all.
func receive(t testing.TB, answer func(n int, w http.ResponseWriter)) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		g := received{id: req.Header.Get("webhook-id"), signature: req.Header.Get("webhook-signature"), body: body, proto: req.Proto, tls: req.TLS.Version}
		seconds, _ := strconv.ParseInt(req.Header.Get("webhook-timestamp"), 10, 64)
		g.at = time.Unix(seconds, 0)
		g.signed = verified(g, testKey)
		r.mu.Lock()
		r.got = append(r.got, g)
		n := len(r.got)
		r.mu.Unlock()
		if answer == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		answer(n, w)
	}))
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}

// verified checks a signature as the specification tells receivers to.
func verified(g received, key []byte) bool {
	m := hmac.New(sha256.New, key)
	fmt.Fprintf(m, "%s.%d.%s", g.id, g.at.Unix(), g.body)
	for s := range strings.FieldsSeq(g.signature) {
		mac, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, "v1,"))
		if err == nil && strings.HasPrefix(s, "v1,") && hmac.Equal(mac, m.Sum(nil)) {
			return true
		}
	}
	return false
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.got...)
}

func secretFile(t testing.TB, text string) config.Secret {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Secret{File: path}
}

func whsec(key []byte) string { return "whsec_" + base64.StdEncoding.EncodeToString(key) }

// hook is the configuration that reaches the receiver.
func (r *receiver) hook(t testing.TB, name string) Webhook {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return Webhook{Name: name, URL: r.URL + "/alarms", Secret: secretFile(t, whsec(testKey)), CA: ca, Networks: []string{"127.0.0.0/8"}, Timeout: config.Duration(time.Minute)}
}

func hooked(t testing.TB, hooks ...Webhook) *Outbox {
	t.Helper()
	c := Channels{Webhooks: hooks}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	b, err := New(Options{Channels: c, Seal: seal, Open: open, Hash: keyed})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// raise raises an alarm and gives the first message it queued.
func raise(t testing.TB, d *db.DB, b *Outbox, severity Severity, code string) (id uuid.UUID) {
	t.Helper()
	err := d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error {
		ids, err := b.Alarm(t.Context(), tx, severity, code, uuid.Nil, map[string]string{"budget": "b-1"})
		if len(ids) > 0 {
			id = ids[0]
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// The specification's own example (Standard Webhooks 1.0.0, "Signature scheme").
func TestASignatureIsTheOneOfTheSpecification(t *testing.T) {
	key, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := sign([][]byte{key}, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

func TestAnAlarmReachesAReceiverSignedOverTLS13(t *testing.T) {
	d, r := dbtest.New(t), receive(t, nil)
	b := hooked(t, r.hook(t, "chat"))
	sending(t, d, b)
	id := raise(t, d, b, Warning, "budget.b-1")
	n := await(t, d, b, id, "accepted", is(Accepted))
	got := r.all()
	if len(got) != 1 || !got[0].signed || got[0].id != id.String() || got[0].tls != tls.VersionTLS13 || n.Channel != "webhook:chat" || !n.Wiped || n.Log[0].Code != 204 {
		t.Fatalf("%+v %+v", got, n)
	}
	var body struct {
		Type      string
		Timestamp time.Time
		Data      map[string]string
	}
	if err := json.Unmarshal(got[0].body, &body); err != nil || body.Type != "foundry.alarm" || body.Data["code"] != "budget.b-1" || body.Data["id"] != id.String() || body.Data["facts"] != "budget: b-1" || body.Timestamp.IsZero() {
		t.Errorf("%s %v", got[0].body, err)
	}
}

func TestWhatAReceiverCannotTakeIsTriedAgainWithTheSameIDAndBody(t *testing.T) {
	d := dbtest.New(t)
	r := receive(t, func(n int, w http.ResponseWriter) { w.WriteHeader([]int{503, 429, 404, 302, 204}[min(n, 5)-1]) })
	b := hooked(t, r.hook(t, "chat"))
	sending(t, d, b)
	id := raise(t, d, b, Warning, "budget.b-1")
	n := await(t, d, b, id, "accepted", is(Accepted))
	got := r.all()
	if len(got) != 5 || n.Attempts != 5 || n.Doubtful != 0 {
		t.Fatalf("%d requests, %+v", len(got), n)
	}
	for _, g := range got {
		if !g.signed || g.id != got[0].id || string(g.body) != string(got[0].body) {
			t.Errorf("%+v", g)
		}
	}
}

func TestARefusalEndsAMessageAndALostAnswerLeavesItIndeterminate(t *testing.T) {
	d := dbtest.New(t)
	gone := receive(t, func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusGone) })
	lost := receive(t, func(int, http.ResponseWriter) { panic(http.ErrAbortHandler) }) // taken, and no answer
	b := hooked(t, gone.hook(t, "gone"), lost.hook(t, "lost"))
	sending(t, d, b)
	for name, c := range map[string]struct {
		at    *receiver
		state State
		tries int
	}{"gone": {gone, Failed, 1}, "lost": {lost, Indeterminate, maxDoubtful}} {
		id := put(t, d, b, Message{Template: Test, Webhook: name, Fields: map[string]string{"when": "now", "node": "n"}})
		n := await(t, d, b, id, string(c.state), func(n Notification) bool { return n.State == c.state && n.Next == nil })
		if n.Attempts != c.tries || len(c.at.all()) != c.tries {
			t.Errorf("%s: %d requests, %+v", name, len(c.at.all()), n)
		}
	}
}

func TestAWebhookGoesNowhereElse(t *testing.T) {
	second := receive(t, nil)
	first := receive(t, func(_ int, w http.ResponseWriter) {
		w.Header().Set("Location", second.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	t.Setenv("HTTPS_PROXY", second.URL)
	got := first.hook(t, "chat").deliver(t.Context(), "id", time.Now(), []byte(`{}`))
	if got.outcome != deferred || got.code != http.StatusTemporaryRedirect || len(second.all()) != 0 || len(first.all()) != 1 {
		t.Errorf("%+v, the second got %d", got, len(second.all()))
	}
}

func TestAPrivateAddressIsConnectedToOnlyIfItsNetworkIsNamed(t *testing.T) {
	r := receive(t, nil)
	closed := r.hook(t, "chat")
	closed.Networks = nil
	_, port, _ := net.SplitHostPort(r.Listener.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f000001", "0.0.0.0", "[::1]", "[::]"} {
		closed.URL = "https://" + host + ":" + port
		got := closed.deliver(t.Context(), "id", time.Now(), []byte(`{}`))
		if got.outcome != deferred || got.stage != "connect" {
			t.Errorf("%s: %+v", host, got)
		}
	}
	if len(r.all()) != 0 {
		t.Error("a private address was reached")
	}
	for a, want := range map[string]bool{"8.8.8.8": true, "2606:4700::1111": true, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false,
		"fd00::1": false, "fe80::1": false, "::ffff:10.0.0.1": false, "64:ff9b::a00:1": false, "2002:a00:1::": false, "224.0.0.1": false, "255.255.255.255": false, "192.0.0.8": false, "2001::1": false} {
		if got := closed.allowed(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
	closed.Networks = []string{"10.1.0.0/16"}
	if !closed.allowed(netip.MustParseAddr("10.1.2.3")) || closed.allowed(netip.MustParseAddr("10.2.2.3")) || closed.allowed(netip.MustParseAddr("127.0.0.1")) {
		t.Error("a network opens more, or less, than itself")
	}
}

func TestAReceiverIsTrustedByItsCertificateAndSpeaksTLS13(t *testing.T) {
	r := receive(t, nil)
	stranger := r.hook(t, "chat")
	stranger.CA = ""
	if got := stranger.deliver(t.Context(), "id", time.Now(), []byte(`{}`)); got.stage != "tls" || got.outcome != deferred {
		t.Errorf("%+v", got)
	}
	old := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }))
	old.Config.ErrorLog = log.New(io.Discard, "", 0)
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS12}
	old.StartTLS()
	defer old.Close()
	h := (&receiver{Server: old}).hook(t, "chat")
	if got := h.deliver(t.Context(), "id", time.Now(), []byte(`{}`)); got.outcome != deferred || got.stage == "answer" {
		t.Errorf("1.2 is spoken by itself: %+v", got)
	}
	h.TLS = "1.2"
	if got := h.deliver(t.Context(), "id", time.Now(), []byte(`{}`)); got.outcome != accepted {
		t.Errorf("1.2 is not spoken where it is asked for: %+v", got)
	}
}

func TestTwoSecretsSignWhileOneReplacesTheOther(t *testing.T) {
	r := receive(t, nil)
	h := r.hook(t, "chat")
	h.Previous, h.Secret = h.Secret, secretFile(t, whsec([]byte("the next key, of 24 bytes at least")))
	if got := h.deliver(t.Context(), "id", time.Now(), []byte(`{}`)); got.outcome != accepted {
		t.Fatal(got)
	}
	g := r.all()[0]
	if !g.signed || !verified(g, []byte("the next key, of 24 bytes at least")) || verified(g, []byte("another key of 24 bytes and more")) {
		t.Errorf("%+v", g)
	}
}

func TestASecretIsInNoLogErrorOrRow(t *testing.T) {
	d := dbtest.New(t)
	r := receive(t, func(_ int, w http.ResponseWriter) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "you sent "+whsec(testKey)) // a receiver that repeats it
	})
	b := hooked(t, r.hook(t, "chat"))
	var out lockedBuffer
	id := put(t, d, b, Message{Template: Test, Webhook: "chat", Fields: map[string]string{"when": "now", "node": "n"}})
	if err := b.round(t.Context(), SenderOptions{DB: d, Log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), Wait: backoff}); err != nil {
		t.Fatal(err)
	}
	n, err := b.Show(t.Context(), d, id)
	if err != nil || n.State != Failed {
		t.Fatal(n, err)
	}
	text := out.String() + fmt.Sprintf("%+v", n)
	for _, s := range []string{base64.StdEncoding.EncodeToString(testKey), string(testKey), "whsec_"} {
		if strings.Contains(text, s) {
			t.Errorf("%q is in %s", s, text)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func TestAWebhookThatIsNoLongerConfiguredHoldsItsMessages(t *testing.T) {
	d, r := dbtest.New(t), receive(t, nil)
	with := hooked(t, r.hook(t, "chat"))
	id := raise(t, d, with, Warning, "budget.b-1")
	without := hooked(t)
	sending(t, d, without)
	n, err := without.Show(t.Context(), d, id)
	if err != nil || !n.Held || n.State != Queued || len(r.all()) != 0 {
		t.Fatalf("%+v %v", n, err)
	}
	sending(t, d, with)
	await(t, d, with, id, "accepted", is(Accepted))
}

func TestWebhooksAndRotasThatCannotWorkAreRefused(t *testing.T) {
	good := Webhook{Name: "chat", URL: "https://hooks.example.eu/x", Secret: secretFile(t, whsec(testKey))}
	day := config.Date{Time: time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)}
	ada := RotaPerson{Name: "ada", Email: "ada@example.eu"}
	for want, change := range map[string]func(*Channels){
		"webhook-name":     func(c *Channels) { c.Webhooks[0].Name = "Chat!" },
		"webhook-url":      func(c *Channels) { c.Webhooks[0].URL = "http://hooks.example.eu" },
		"webhook-tls":      func(c *Channels) { c.Webhooks[0].TLS = "1.1" },
		"webhook-network":  func(c *Channels) { c.Webhooks[0].Networks = []string{"0.0.0.0/0"} },
		"webhook-secret":   func(c *Channels) { c.Webhooks[0].Secret = secretFile(t, "whsec_c2hvcnQ=") },
		"webhook-only":     func(c *Channels) { c.Webhooks[0].Only = "alarms" },
		"webhook-timeout":  func(c *Channels) { c.Webhooks[0].Timeout = config.Duration(time.Hour) },
		"notify-twice":     func(c *Channels) { c.Webhooks = append(c.Webhooks, c.Webhooks[0]) },
		"notify-handle":    func(c *Channels) { c.People[0].Name = "Ada Lovelace" },
		"notify-channel":   func(c *Channels) { c.People[0].Channels = []string{"pigeon"} },
		"notify-order":     func(c *Channels) { c.OnCall.Order = []string{"grace"} },
		"notify-escalate":  func(c *Channels) { c.OnCall.Escalate = config.Duration(time.Second) },
		"notify-time-zone": func(c *Channels) { c.OnCall.TimeZone = "Mars/Olympus" },
		"notify-at":        func(c *Channels) { c.OnCall.At = "9 o'clock" },
		"notify-first":     func(c *Channels) { c.OnCall.First = config.Date{} },
		"notify-weeks":     func(c *Channels) { c.OnCall.Weeks = 9 },
		"mail-address":     func(c *Channels) { c.People[0].Email = "nobody" },
	} {
		c := Channels{Webhooks: []Webhook{good}, People: []RotaPerson{ada}, OnCall: &RotaConfig{TimeZone: "Europe/Berlin", First: day, Order: []string{"ada"}}}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&c)
		var e *problem.Error
		if err := c.Validate(); !errors.As(err, &e) || e.Code != want || e.Field == "" {
			t.Errorf("want %s: %v", want, err)
		}
	}
}
