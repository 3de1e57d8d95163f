package outage

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/credential"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/pquerna/otp/totp"
)

var ctx = context.Background()

const goodPassword = "harbour lantern velvet quokka"

// house is a fleet whose gateways all stand on one member's store. What the
// database says is told by the test; the database itself is access's to test.
type house struct {
	t      *testing.T
	member *member.Member
	ring   *keys.Keyring
	hasher *credential.Hasher
	web    *webauthn.WebAuthn

	mu      sync.Mutex
	ahead   time.Duration
	people  []access.Material
	settled []access.Spent
	hop     byte

	gates []*gate
}

// gate is one gateway.
type gate struct {
	*Door
	house *house
	up    atomic.Bool // the database answers it
}

func newHouse(t *testing.T, gateways int) *house {
	t.Helper()
	t.Parallel()
	h := &house{t: t, member: membertest.Start(t, 1).Members[0]}
	h.ring = newRing(t)
	var err error
	h.hasher, err = credential.NewQuickHasher(bytes.Repeat([]byte{4}, 32))
	h.must(err)
	h.web, err = webauthn.New(&webauthn.Config{RPID: "console.example.org", RPDisplayName: "Foundry", RPOrigins: []string{"https://console.example.org"}})
	h.must(err)
	for i := range gateways {
		h.gates = append(h.gates, h.gate(fmt.Sprint("gate-", i+1), filepath.Join(t.TempDir(), "signin.sealed"), h.ring))
	}
	return h
}

func newRing(t *testing.T) *keys.Keyring {
	t.Helper()
	ring, err := keys.Open(keys.Options{Dir: filepath.Join(t.TempDir(), "keys")})
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// gate starts a gateway, or starts it again where its file is there.
func (h *house) gate(name, file string, ring *keys.Keyring) *gate {
	g := &gate{house: h}
	g.up.Store(true)
	g.Door = New(Options{Node: name, Store: h.member.Store(), Lease: h.member.Lease, Enter: h.member.Enter, Seal: ring.Seal, Open: ring.Open,
		TokenKey: bytes.Repeat([]byte{7}, 32), Healthy: g.up.Load, File: file, Clock: h.clock, Web: h.web,
		Material: func(context.Context) ([]access.Material, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			return append([]access.Material(nil), h.people...), nil
		},
		Settle: func(_ context.Context, all []access.Spent) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.settled = append(h.settled, all...)
			return nil
		},
		Account: accountOf,
		Verify: func(_ context.Context, stored, password string) (bool, error) {
			right, _ := h.hasher.Verify(stored, password)
			return right, nil
		},
		Limit: func(netip.Addr) error { return nil },
	})
	return g
}

func accountOf(email string) []byte {
	m := hmac.New(sha256.New, []byte("look-up"))
	m.Write([]byte(email))
	return m.Sum(nil)
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Add(h.ahead)
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ahead += d
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) refused(err error, code string) {
	h.t.Helper()
	if err == nil || problem.From(err).Code != code {
		h.t.Fatalf("got %v, want %s", err, code)
	}
}

// look has every gateway look once.
func (h *house) look() {
	h.t.Helper()
	for _, g := range h.gates {
		h.must(g.Tick(ctx))
	}
}

// lose takes the database away from everybody, for long enough.
func (h *house) lose() {
	h.t.Helper()
	for _, g := range h.gates {
		g.up.Store(false)
	}
	h.look()
	h.pass(Patience)
	h.look()
}

// operator is somebody of the platform.
type operator struct {
	access.Material
	email string
	step  int64
}

func (h *house) operator(email string, roles ...principal.Role) *operator {
	h.t.Helper()
	hash, err := h.hasher.Hash(goodPassword)
	h.must(err)
	secret, _, err := credential.NewTOTP("Foundry", email)
	h.must(err)
	o := &operator{email: email, Material: access.Material{Person: uuid.New(), Account: accountOf(email), Name: "Zebulon Quartermain", Roles: principal.RolesOf(roles...), Password: hash, TOTP: secret}}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.people = append(h.people, o.Material)
	return o
}

// code is what the person's code generator shows, after a wait for one that was
// not used yet.
func (h *house) code(o *operator) string {
	h.t.Helper()
	if step := credential.StepAt(h.clock()); step <= o.step {
		h.pass(time.Duration(o.step+1-step) * 30 * time.Second)
	}
	o.step = credential.StepAt(h.clock())
	code, err := totp.GenerateCode(o.TOTP, h.clock())
	h.must(err)
	return code
}

func (h *house) client() access.Client {
	h.hop++
	return access.Client{Address: netip.AddrFrom4([4]byte{192, 0, 2, h.hop}), Agent: "foundry/1 linux"}
}

// signIn signs in with password and code.
func (g *gate) signIn(o *operator) (access.SignedIn, error) {
	at, err := g.SignInPassword(ctx, g.house.client(), o.email, goodPassword)
	if err != nil {
		return access.SignedIn{}, err
	}
	return g.SignInTOTP(ctx, g.house.client(), at.Ceremony, g.house.code(o))
}

// authenticator is a passkey device: ES256.
type authenticator struct {
	id    []byte
	key   *ecdsa.PrivateKey
	count uint32
}

func (h *house) authenticator(o *operator, count uint32) *authenticator {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	h.must(err)
	pub, err := key.PublicKey.ECDH()
	h.must(err)
	point := pub.Bytes() // 4 ‖ x ‖ y
	cose, err := cbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
	h.must(err)
	a := &authenticator{id: []byte(rand.Text()), key: key, count: count}
	c := webauthn.Credential{ID: a.id, PublicKey: cose, AttestationType: "none", Authenticator: webauthn.Authenticator{SignCount: count}}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.people {
		if h.people[i].Person == o.Person {
			h.people[i].Passkeys = append(h.people[i].Passkeys, c)
		}
	}
	return a
}

// answer is what the browser says to a challenge.
func (a *authenticator) answer(t *testing.T, o *operator, c access.PasskeyChallenge) []byte {
	t.Helper()
	var asked struct {
		PublicKey struct{ Challenge string } `json:"publicKey"`
	}
	if err := json.Unmarshal(c.Options, &asked); err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	client, _ := json.Marshal(map[string]any{"type": "webauthn.get", "challenge": asked.PublicKey.Challenge, "origin": "https://console.example.org", "crossOrigin": false})
	rp, sum := sha256.Sum256([]byte("console.example.org")), sha256.Sum256(client)
	data := binary.BigEndian.AppendUint32(append(rp[:], 0x05), a.count) // user present and verified
	digest := sha256.Sum256(append(append([]byte(nil), data...), sum[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	body, _ := json.Marshal(map[string]any{"id": b64(a.id), "rawId": b64(a.id), "type": "public-key", "clientExtensionResults": map[string]any{},
		"response": map[string]any{"clientDataJSON": b64(client), "authenticatorData": b64(data), "signature": b64(signature), "userHandle": b64(o.Person[:])}})
	return body
}
