package backup

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/principal"
)

// glassWorld is a node with break-glass and nothing else.
type glassWorld struct {
	*Glass
	t       *testing.T
	o       GlassOptions
	content kit.Content
	target  map[string][]byte // what lies at the target
	away    bool              // the target is
	alarms  atomic.Int64
	now     time.Time
}

func someone(role principal.Role) principal.Principal {
	return principal.Principal{Kind: principal.Person, ID: uuid.NewString(), Roles: principal.RolesOf(role), SecondFactor: time.Now()}
}

var console = principal.Principal{Kind: principal.Local}

func newGlassWorld(t *testing.T, d *db.DB, mode string) *glassWorld {
	t.Helper()
	rules, err := policy.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ring, err := keys.Open(keys.Options{Dir: filepath.Join(dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	w := &glassWorld{t: t, target: map[string][]byte{}, now: time.Now(),
		content: kit.Content{Foundry: "v1", KEKs: []kit.KEK{{Key: bytes.Repeat([]byte("k"), 32)}}, Settings: "a"}}
	w.o = GlassOptions{DB: d, Guard: access.NewGuard(rules, d, time.Now, mode), DataDir: dir, Seal: ring.Seal, Open: ring.Open, Log: dbtest.Log(t),
		Clock: func() time.Time { return w.now },
		Collect: func(context.Context) (kit.Content, error) {
			c := w.content
			c.KEKs = []kit.KEK{{Key: bytes.Clone(w.content.KEKs[0].Key)}}
			return c, nil
		},
		Publish: func(_ context.Context, name string, file []byte) []KitCopy {
			if w.away {
				return []KitCopy{{Place: "offsite", Failure: "It is away."}}
			}
			w.target[name] = file
			return []KitCopy{{Place: "offsite", At: w.now}}
		},
		Alarm: func(context.Context, pgx.Tx, Opening) error { w.alarms.Add(1); return nil },
	}
	w.again()
	return w
}

// again starts the node again.
func (w *glassWorld) again() {
	w.t.Helper()
	g, err := NewGlass(w.o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Glass = g
}

var newKeyRequest = NewKey{Threshold: 2, Shares: 3, Holders: []string{"Ada", "Grace", "Edith"}, Contacts: []kit.Contact{{Name: "Edith", Mail: "edith@example.org"}}, Reason: "for these tests"}

// make makes a key, as the server's administrator does in development.
func (w *glassWorld) make() (shares []kit.Share) {
	w.t.Helper()
	r, err := w.RequestKey(w.t.Context(), console, newKeyRequest)
	if err != nil {
		w.t.Fatal(err)
	}
	made, err := w.MakeKey(w.t.Context(), console, r.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range made.Shares {
		s, err := kit.ParseShare(m.Text)
		if err != nil {
			w.t.Fatal(err)
		}
		shares = append(shares, s)
	}
	return shares
}

// proof proves shares for an opening.
func (w *glassWorld) proof(shares []kit.Share, change func(*OpenGlass)) OpenGlass {
	w.t.Helper()
	key, err := kit.Combine(shares)
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := w.Challenge(w.t.Context(), console)
	if err != nil {
		w.t.Fatal(err)
	}
	r := OpenGlass{Nonce: c.Nonce, Scope: "operate", Seconds: 600, Reason: "sign-in is down", Shares: []int{1, 2}}
	r.Proof = ProveKey(key.Authenticator(), r)
	if change != nil {
		change(&r)
	}
	return r
}

func TestARecoveryKeyNeedsTwoPeople(t *testing.T) {
	w := newGlassWorld(t, dbtest.New(t), policy.Production)
	asks, decides, operates := someone(principal.PlatformSecurity), someone(principal.PlatformAdministrator), someone(principal.PlatformOperator)
	ctx := t.Context()
	for _, p := range []principal.Principal{operates, decides, console} {
		if _, err := w.RequestKey(ctx, p, newKeyRequest); err == nil {
			t.Errorf("%s may ask for a key", p)
		}
	}
	r, err := w.RequestKey(ctx, asks, newKeyRequest)
	if err != nil || r.State != "waiting" {
		t.Fatalf("%+v, %v", r, err)
	}
	_, err = w.MakeKey(ctx, asks, r.ID)
	wantCode(t, err, "break-glass-waiting")
	_, err = w.DecideKey(ctx, asks, r.ID, true)
	wantCode(t, err, "break-glass-self")
	if _, err := w.DecideKey(ctx, operates, r.ID, true); err == nil {
		t.Error("an operator approved it")
	}
	if r, err = w.DecideKey(ctx, decides, r.ID, true); err != nil || r.State != "approved" {
		t.Fatalf("%+v, %v", r, err)
	}
	_, err = w.MakeKey(ctx, someone(principal.PlatformSecurity), r.ID)
	wantCode(t, err, "break-glass-other")
	made, err := w.MakeKey(ctx, asks, r.ID)
	if err != nil || len(made.Shares) != 3 || made.Shares[1].Holder != "Grace" {
		t.Fatalf("%d shares, %v", len(made.Shares), err)
	}
	_, err = w.MakeKey(ctx, asks, r.ID)
	wantCode(t, err, "break-glass-decided")
	state, err := os.ReadFile(w.stateFile())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{made.Shares[0].Text, made.Shares[0].Words[9] + " " + made.Shares[0].Words[10], "Grace", "edith@"} {
		if bytes.Contains(state, []byte(secret)) {
			t.Errorf("the node keeps %q", secret)
		}
	}
}

func TestTheKitIsMadeAnewWhenAnythingInItChanges(t *testing.T) {
	w := newGlassWorld(t, dbtest.New(t), policy.Development)
	shares := w.make()
	key, err := kit.Combine(shares[1:])
	if err != nil {
		t.Fatal(err)
	}
	name := kit.FileName(key.Set())
	first := w.target[name]
	c, err := kit.Open(first, key)
	if err != nil || c.Settings != "a" || c.Holders[2] != "Edith" {
		t.Fatalf("%v, %v", c, err)
	}
	refresh := func(want bool, why string) {
		t.Helper()
		before := w.target[name]
		if err := w.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := !bytes.Equal(before, w.target[name]); got != want {
			t.Errorf("%s: a new kit is %v, want %v", why, got, want)
		}
	}
	refresh(false, "nothing changed")
	w.content.Audit.Checkpoint = "newer"
	refresh(false, "only the audit log went on")
	w.content.Settings = "b"
	refresh(true, "the settings changed")
	w.content.KEKs[0].Key[3] ^= 1
	refresh(true, "the key-encryption key changed")
	w.now = w.now.Add(kitAge + time.Second)
	refresh(true, "it grew old")
	w.away = true
	w.content.Settings = "c"
	refresh(false, "the target is away")
	s, err := w.Status(t.Context(), console)
	if err != nil || s.Ready || s.Copies[0].Failure == "" || s.Mend == "" {
		t.Errorf("%+v, %v", s, err)
	}
	w.away = false
	w.again() // the node was started again meanwhile
	refresh(true, "the target is back")
	if s, err = w.Status(t.Context(), console); err != nil || !s.Ready || !s.Current {
		t.Errorf("%+v, %v", s, err)
	}
	if c, err = kit.Open(w.target[name], key); err != nil || c.Settings != "c" || c.Audit.Checkpoint != "newer" {
		t.Errorf("%v, %v", c.Settings, err)
	}
}

func TestOnlyWhoProvesTheSharesGetsIn(t *testing.T) {
	w := newGlassWorld(t, dbtest.New(t), policy.Production)
	dev := newGlassWorld(t, w.o.DB, policy.Development)
	w.o.DataDir, w.o.Seal, w.o.Open = dev.o.DataDir, dev.o.Seal, dev.o.Open
	shares := dev.make()
	w.again()
	strangers, err := kit.NewKey(bytes.NewReader(bytes.Repeat([]byte{5}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*OpenGlass)
		code   string
	}{
		"another key":          {func(r *OpenGlass) { r.Proof = ProveKey(strangers.Authenticator(), *r) }, "break-glass-proof"},
		"no proof":             {func(r *OpenGlass) { r.Proof = "" }, "break-glass-proof"},
		"more than was proved": {func(r *OpenGlass) { r.Scope = "administer" }, "break-glass-proof"},
		"longer":               {func(r *OpenGlass) { r.Seconds = 7200 }, "break-glass-proof"},
		"for another reason":   {func(r *OpenGlass) { r.Reason = "because I want to" }, "break-glass-proof"},
		"one share twice":      {func(r *OpenGlass) { r.Shares = []int{1, 1} }, "break-glass-proof"},
		"an invented question": {func(r *OpenGlass) { r.Nonce = "invented" }, "break-glass-challenge"},
		"too long":             {func(r *OpenGlass) { r.Seconds = 5 * 3600 }, "break-glass-duration"},
		"no reason":            {func(r *OpenGlass) { r.Reason = "x" }, "break-glass-reason"},
		"no such scope":        {func(r *OpenGlass) { r.Scope = "root" }, "break-glass-scope"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.Open(t.Context(), console, w.proof(shares[:2], c.change))
			wantCode(t, err, c.code)
		})
	}
	for _, p := range []principal.Principal{someone(principal.PlatformAdministrator), {Kind: principal.Key, ID: "k", Organisation: uuid.New()}} {
		if _, err := w.Challenge(t.Context(), p); err == nil {
			t.Errorf("%s may try from afar", p)
		}
	}
	r := w.proof(shares[:2], nil)
	o, err := w.Open(t.Context(), console, r)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Open(t.Context(), console, r)
	wantCode(t, err, "break-glass-challenge") // a proof serves once
	late := w.proof(shares[:2], nil)
	w.now = w.now.Add(challengeLasts + time.Second)
	_, err = w.Open(t.Context(), console, late)
	wantCode(t, err, "break-glass-challenge")
	p, found, err := w.Session(o.Token, "GET /x", false)
	if err != nil || !found || p.Roles != principal.RolesOf(principal.PlatformOperator) || !p.Platform() {
		t.Errorf("the session is %+v, %v", p, err)
	}
	if _, found, _ := w.Session("other", "GET /x", false); found {
		t.Error("any token is a session")
	}
	w.now = w.now.Add(10 * time.Minute)
	_, _, err = w.Session(o.Token, "GET /x", false)
	wantCode(t, err, "break-glass-ended")
	w.again()
	_, _, err = w.Session(o.Token, "GET /x", false)
	wantCode(t, err, "break-glass-ended")
}

func TestAnOpeningWithoutTheDatabaseIsEnteredLaterAndReviewedBySomebodyElse(t *testing.T) {
	server := dbtest.NewServer(t)
	d := dbtest.Open(t, server.Config())
	w := newGlassWorld(t, d, policy.Development)
	shares := w.make()
	server.Stop()
	o, err := w.Open(t.Context(), console, w.proof(shares[:2], nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Session(o.Token, "POST /api/v1/organisations", true); err != nil {
		t.Fatal(err)
	}
	s, err := w.Status(t.Context(), console)
	if err != nil || s.Unanchored != 2 || w.alarms.Load() != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	w.again() // killed meanwhile
	server.Start()
	if err := d.WaitHealthy(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Anchor(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var acts int
	if err := d.Read(t.Context(), func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), `SELECT count(*) FROM audit WHERE target = $1 AND act IN ('break-glass.open', 'break-glass.request') AND details ? 'chain'`, o.ID.String()).Scan(&acts)
	}); err != nil {
		t.Fatal(err)
	}
	if s, err = w.Status(t.Context(), console); err != nil || s.Unanchored != 0 || s.Unreviewed != 1 || acts != 2 || w.alarms.Load() != 1 {
		t.Fatalf("%+v, %d acts, %d alarms, %v", s, acts, w.alarms.Load(), err)
	}
	found, err := w.KitControl(t.Context(), func(string) {})
	if err != nil || found[2].Result != "inconclusive" {
		t.Errorf("O-56: %+v, %v", found, err)
	}
	w.now = w.now.Add(reviewWithin + time.Hour)
	if found, err = w.KitControl(t.Context(), func(string) {}); err != nil || found[2].Result != "fail" {
		t.Errorf("O-56 a day later: %+v, %v", found, err)
	}
	itself := principal.Principal{Kind: principal.Person, ID: o.ID.String(), Roles: principal.RolesOf(principal.PlatformSecurity), SecondFactor: time.Now()}
	_, err = w.ReviewOpening(t.Context(), itself, o.ID, "all of it was right", true)
	wantCode(t, err, "break-glass-self")
	if _, err := w.ReviewOpening(t.Context(), someone(principal.PlatformSecurity), o.ID, "all of it was right", true); err != nil {
		t.Fatal(err)
	}
	if found, err = w.KitControl(t.Context(), func(string) {}); err != nil || found[2].Result != "pass" {
		t.Errorf("O-56 after the review: %+v, %v", found, err)
	}
}

func TestTheChainOfActsNoticesEveryChange(t *testing.T) {
	plain := func(b, _ []byte) ([]byte, error) { return b, nil }
	dir := t.TempDir()
	c, err := openChain(dir, plain, plain)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := c.append(glassAct{ID: uuid.New(), Act: "request", Opening: uuid.New()}); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	reopen := func(body []byte) (*actChain, error) {
		if err := os.WriteFile(c.path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		return openChain(dir, plain, plain)
	}
	for name, body := range map[string][]byte{
		"a line taken out": bytes.Join([][]byte{lines[0], lines[2]}, nil), "the first taken out": bytes.Join(lines[1:3], nil),
		"two exchanged": bytes.Join([][]byte{lines[1], lines[0], lines[2]}, nil), "a byte changed": append([]byte("B"), whole[1:]...), "nonsense": []byte("x y\n"),
	} {
		if _, err := reopen(body); err == nil {
			t.Errorf("%s: it was not noticed", name)
		} else {
			wantCode(t, err, "break-glass-chain")
		}
	}
	half, err := reopen(append(bytes.Clone(whole), lines[0][:20]...)) // a crash in the middle of a line
	if err != nil || half.waiting() != 3 {
		t.Errorf("half a line: %v", err)
	}
	for range 3 {
		if err := half.entered(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := reopen(bytes.Join(lines[:2], nil)); err == nil {
		t.Error("lines that were entered are gone, and nobody noticed")
	}
	broken := func([]byte, []byte) ([]byte, error) { return nil, errors.New("another key") }
	if err := os.WriteFile(c.path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := openChain(dir, plain, broken); err != nil || again.waiting() != 0 {
		t.Errorf("what is entered has to open for ever: %v", err)
	}
}

func TestADrillCountsOnlyWithTheNodesOwnSignature(t *testing.T) {
	w := newGlassWorld(t, dbtest.New(t), policy.Development)
	set := w.make()[0].Set.String()
	forged := errors.New("forged")
	n := NewKitDrill{Set: set, Outcome: Pass, Reason: "all of it", Evidence: "kit: set " + set + "\n\nproof: pass\n", KitMade: time.Now(), ByContact: true}
	if _, err := w.NoteDrill(t.Context(), console, n, func(string) error { return forged }); !errors.Is(err, forged) {
		t.Errorf("got %v", err)
	}
	other := n
	other.Evidence = "kit: set " + set + "\n\nproof: inconclusive\n"
	_, err := w.NoteDrill(t.Context(), console, other, func(string) error { return nil })
	wantCode(t, err, "break-glass-evidence")
	if _, err := w.NoteDrill(t.Context(), console, n, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for name, control := range map[string]func(context.Context, func(string)) (string, error){
		"O-56": func(ctx context.Context, say func(string)) (string, error) {
			f, err := w.KitControl(ctx, say)
			return string(f[1].Result), err
		},
		"O-58": func(ctx context.Context, say func(string)) (string, error) {
			f, err := w.ContactDrillControl(ctx, say)
			return string(f[0].Result), err
		},
	} {
		if got, err := control(t.Context(), func(string) {}); err != nil || got != "pass" {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	f, err := w.ContactsControl(t.Context(), func(string) {})
	if err != nil || f[0].Result != "fail" {
		t.Errorf("O-57 before anybody called: %+v, %v", f, err)
	}
	if err := w.AttestContacts(t.Context(), console, true); err != nil {
		t.Fatal(err)
	}
	if f, err = w.ContactsControl(t.Context(), func(string) {}); err != nil || f[0].Result == "inconclusive" {
		t.Errorf("O-57: %+v, %v", f, err)
	}
	w.now = w.now.Add(366 * 24 * time.Hour)
	if f, err = w.ContactsControl(t.Context(), func(string) {}); err != nil || f[0].Result != "fail" {
		t.Errorf("O-57 a year later: %+v, %v", f, err)
	}
}
