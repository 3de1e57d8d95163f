package access

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/credential"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/pquerna/otp/totp"
)

const (
	goodPassword = "harbour lantern velvet quokka"
	otherGood    = "tundra pickle orchestra 41 moss"
	consoleURL   = "https://console.example.org"
)

// company is an installation in which people sign in.
type company struct {
	t        *testing.T
	cfg      db.Config
	d        *db.DB
	ring     *keys.Keyring
	guard    *Guard
	people   *People
	sessions *Sessions
	org      Organisation
	quick    bool // hashes at the least cost

	mu  sync.Mutex
	now time.Time // of the node's clock, ahead of the real one by what tests added
	hop byte      // so that every client has a network of its own
}

func (w *company) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.now.Sub(time.Time{}))
}

// pass lets time go by on the node's clock.
func (w *company) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// client is somebody at a network that nobody else uses.
func (w *company) client() Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hop++
	return Client{Address: netip.AddrFrom4([4]byte{192, 0, 2, w.hop}), Agent: "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}
}

// newCompany makes one that hashes quickly: most tests are of what goes on
// around hashing. The database has to be talked into that.
func newCompany(t *testing.T) *company {
	t.Helper()
	t.Parallel()
	w := &company{t: t, cfg: dbtest.Config(t), quick: true}
	w.d = dbtest.Open(t, w.cfg)
	w.sql(`ALTER TABLE people DROP CONSTRAINT people_password_hash_check`)
	w.begin()
	return w
}

// newThoroughCompany makes one that hashes as programs do.
func newThoroughCompany(t *testing.T) *company {
	t.Helper()
	t.Parallel()
	w := &company{t: t, cfg: dbtest.Config(t)}
	w.d = dbtest.Open(t, w.cfg)
	w.begin()
	return w
}

func (w *company) begin() {
	t := w.t
	t.Helper()
	ring, err := keys.Open(keys.Options{Dir: filepath.Join(t.TempDir(), "keys")})
	w.must(err)
	w.ring = ring
	w.people, w.sessions = w.node(w.d)
	w.guard = w.people.Guard
	w.org, err = CreateOrganisation(ctx, w.d, w.guard, operator, "st-mary")
	w.must(err)
}

// node is another node's view of the same company.
func (w *company) node(d *db.DB) (*People, *Sessions) {
	w.t.Helper()
	engine, err := policy.Load()
	w.must(err)
	place := func(table, column, row string) []byte { return []byte(table + "\x00" + column + "\x00" + row) }
	sessions := NewSessions(SessionOptions{DB: d, TagKey: bytes.Repeat([]byte{3}, 32)})
	people, err := NewPeople(PeopleOptions{
		DB: d, Guard: NewGuard(engine, d, w.clock, policy.Development), Sessions: sessions,
		Seal: func(_ context.Context, table, column, row string, b []byte) ([]byte, error) {
			return w.ring.Seal(b, place(table, column, row))
		},
		Open: func(_ context.Context, table, column, row string, b []byte) ([]byte, error) {
			return w.ring.Open(b, place(table, column, row))
		},
		Peppers: [][]byte{bytes.Repeat([]byte{4}, 32)}, LookupKey: bytes.Repeat([]byte{5}, 32), Invitation: bytes.Repeat([]byte{6}, 32),
		URL: consoleURL, Clock: w.clock,
	})
	w.must(err)
	if w.quick {
		people.hasher, err = credential.NewQuickHasher(people.Peppers...)
		w.must(err)
	}
	w.must(sessions.Refresh(ctx))
	return people, sessions
}

func (w *company) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// member is a person with a password and, if asked for, a code generator.
type member struct {
	w      *company
	id     uuid.UUID
	email  string
	secret string // of the code generator; empty: none
	codes  []string
	in     SignedIn
	step   int64
}

// join invites somebody, accepts, and enrols what their roles demand.
func (w *company) join(email string, org uuid.UUID, roles ...principal.Role) *member {
	w.t.Helper()
	_, token, err := w.people.Invite(ctx, operator, NewInvitation{Organisation: org, Email: email, Name: "Zebulon Quartermain", Roles: principal.RolesOf(roles...)})
	w.must(err)
	in, err := w.people.Accept(ctx, w.client(), token, Acceptance{Password: goodPassword})
	w.must(err)
	m := &member{w: w, id: in.Session.Person, email: email, in: in}
	if in.Session.Enrolment {
		m.enrolTOTP()
	}
	return m
}

func (m *member) enrolTOTP() {
	m.w.t.Helper()
	e, err := m.w.people.BeginTOTP(ctx, m.in.Principal)
	m.w.must(err)
	m.secret = e.Secret
	done, err := m.w.people.ConfirmTOTP(ctx, m.in.Principal, e.Ceremony, m.code())
	m.w.must(err)
	m.in, m.codes = done.SignedIn, done.Codes
}

// code is what the person's code generator shows, after a wait for one that
// was not used yet.
func (m *member) code() string {
	m.w.t.Helper()
	if step := m.w.clock().Unix() / 30; step <= m.step {
		m.w.pass(time.Duration(m.step+1-step) * 30 * time.Second)
	}
	m.step = m.w.clock().Unix() / 30
	code, err := totp.GenerateCode(m.secret, m.w.clock())
	m.w.must(err)
	return code
}

// signIn signs in with password and code.
func (m *member) signIn() SignedIn {
	m.w.t.Helper()
	at, err := m.w.people.SignInPassword(ctx, m.w.client(), m.email, goodPassword)
	m.w.must(err)
	if at.SignedIn != nil {
		m.in = *at.SignedIn
		return m.in
	}
	in, err := m.w.people.SignInTOTP(ctx, m.w.client(), at.Ceremony, m.code())
	m.w.must(err)
	m.in = in
	return in
}

func (w *company) check(token string) (principal.Principal, error) {
	p, _, err := w.sessions.Check(ctx, time.Now(), token)
	return p, err
}

func (w *company) wantCode(err error, code string) {
	w.t.Helper()
	if err == nil || problem.From(err).Code != code {
		w.t.Fatalf("got %v, want %s", err, code)
	}
}

// sql runs a statement past all walls: what a test does to time, or what an
// attacker who has the database does to a row.
func (w *company) sql(query string, args ...any) {
	w.t.Helper()
	conn := dbtest.Superuser(w.t, w.cfg)
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, query, args...); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
}

func (w *company) count(query string, args ...any) (n int) {
	w.t.Helper()
	w.must(w.d.Read(ctx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, query, args...).Scan(&n) }))
	return n
}

// authenticator is a passkey device: ES256, no attestation.
type authenticator struct {
	t        *testing.T
	id       []byte
	key      *ecdsa.PrivateKey
	handle   []byte
	count    uint32
	counting bool
	unseen   bool // does not verify its user
	origin   string
}

func newAuthenticator(t *testing.T) *authenticator {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id := make([]byte, 32)
	_, _ = rand.Read(id)
	return &authenticator{t: t, id: id, key: key, counting: true, origin: consoleURL}
}

type webauthnOptions struct {
	PublicKey struct {
		Challenge string
		RPID      string `json:"rpId"`
		User      struct{ ID string }
	} `json:"publicKey"`
}

func (a *authenticator) read(c PasskeyChallenge) (o webauthnOptions) {
	if err := json.Unmarshal(c.Options, &o); err != nil {
		a.t.Fatal(err)
	}
	return o
}

func (a *authenticator) data(attested []byte) []byte {
	rp := sha256.Sum256([]byte("console.example.org"))
	flags := byte(0x01) // user present
	if !a.unseen {
		flags |= 0x04
	}
	if attested != nil {
		flags |= 0x40
	}
	if a.counting {
		a.count++
	}
	return append(binary.BigEndian.AppendUint32(append(rp[:], flags), a.count), attested...)
}

func (a *authenticator) clientData(typ, challenge string) []byte {
	b, _ := json.Marshal(map[string]any{"type": typ, "challenge": challenge, "origin": a.origin, "crossOrigin": false})
	return b
}

var b64 = base64.RawURLEncoding

func (a *authenticator) wrap(response map[string]any) []byte {
	b, _ := json.Marshal(map[string]any{"id": b64.EncodeToString(a.id), "rawId": b64.EncodeToString(a.id), "type": "public-key",
		"response": response, "clientExtensionResults": map[string]any{}})
	return b
}

// register answers an enrolment.
func (a *authenticator) register(c PasskeyChallenge) []byte {
	o := a.read(c)
	a.handle, _ = b64.DecodeString(o.PublicKey.User.ID)
	pub, err := a.key.PublicKey.ECDH()
	if err != nil {
		a.t.Fatal(err)
	}
	point := pub.Bytes() // 4 ‖ x ‖ y
	cose, err := cbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
	if err != nil {
		a.t.Fatal(err)
	}
	attested := append(append(append(make([]byte, 16), 0, byte(len(a.id))), a.id...), cose...)
	object, err := cbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": a.data(attested)})
	if err != nil {
		a.t.Fatal(err)
	}
	return a.wrap(map[string]any{"clientDataJSON": b64.EncodeToString(a.clientData("webauthn.create", o.PublicKey.Challenge)), "attestationObject": b64.EncodeToString(object)})
}

// sign answers a sign-in.
func (a *authenticator) sign(c PasskeyChallenge) []byte {
	o := a.read(c)
	data, client := a.data(nil), a.clientData("webauthn.get", o.PublicKey.Challenge)
	hash := sha256.Sum256(client)
	sum := sha256.Sum256(append(append([]byte(nil), data...), hash[:]...))
	sig, err := ecdsa.SignASN1(rand.Reader, a.key, sum[:])
	if err != nil {
		a.t.Fatal(err)
	}
	return a.wrap(map[string]any{"clientDataJSON": b64.EncodeToString(client), "authenticatorData": b64.EncodeToString(data),
		"signature": b64.EncodeToString(sig), "userHandle": b64.EncodeToString(a.handle)})
}

// enrolPasskey gives a member a passkey.
func (m *member) enrolPasskey() *authenticator {
	m.w.t.Helper()
	a := newAuthenticator(m.w.t)
	c, err := m.w.people.BeginPasskeyEnrolment(ctx, m.in.Principal)
	m.w.must(err)
	done, err := m.w.people.EnrolPasskey(ctx, m.in.Principal, c.Ceremony, "Blue key", a.register(c))
	m.w.must(err)
	m.in = done.SignedIn
	if done.Codes != nil {
		m.codes = done.Codes
	}
	return a
}

// passkeySignIn signs in with a passkey alone.
func (w *company) passkeySignIn(a *authenticator) (SignedIn, error) {
	w.t.Helper()
	c, err := w.people.BeginPasskey(ctx, w.client(), "")
	w.must(err)
	return w.people.SignInPasskey(ctx, w.client(), c.Ceremony, a.sign(c))
}

func containsAny(text string, needles ...string) string {
	for _, n := range needles {
		if n != "" && strings.Contains(text, n) {
			return n
		}
	}
	return ""
}

// addressNumber is an address in the i-th /64 of a documentation network.
func addressNumber(i int) netip.Addr {
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	binary.BigEndian.PutUint32(a[4:], uint32(i))
	return netip.AddrFrom16(a)
}
