package access

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/crypto/bcrypt"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

var (
	ctx      = context.Background()
	operator = principal.Principal{Kind: principal.Local, UID: 1000}
	macKey   = bytes.Repeat([]byte{7}, 32)
)

// world is a database with one organisation, one key and a verifier that knows them.
type world struct {
	t     *testing.T
	d     *db.DB
	g     *Guard
	v     *Verifier
	org   Organisation
	key   Key
	token string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	w := &world{t: t, d: dbtest.New(t), v: NewVerifier(macKey)}
	w.g = newGuard(t, w.d)
	var err error
	if w.org, err = CreateOrganisation(ctx, w.d, w.g, operator, "st-mary"); err != nil {
		t.Fatal(err)
	}
	if w.key, w.token, err = w.v.CreateKey(ctx, w.d, w.g, operator, NewKey{Organisation: w.org.ID, Name: "app", ClassFloor: 2}); err != nil {
		t.Fatal(err)
	}
	w.refresh()
	return w
}

func (w *world) refresh() {
	w.t.Helper()
	err := w.d.Read(ctx, func(tx pgx.Tx) error {
		r, err := Load(ctx, tx)
		if err == nil {
			w.v.Use(NewDirectory(r, w.v.Directory()))
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) verify(token string) (*Key, error) {
	k, _, err := w.v.Verify(ctx, time.Now(), token, time.Minute)
	return k, err
}

func TestAKeyOpensAndIsKeptOnlyAsAHash(t *testing.T) {
	w := newWorld(t)
	k, err := w.verify(w.token)
	if err != nil || k.ID != w.key.ID || k.ClassFloor != 2 {
		t.Fatalf("%+v %v", k, err)
	}
	var hash string
	err = w.d.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT secret_hash FROM api_keys WHERE id = $1`, w.key.ID).Scan(&hash)
	})
	if err != nil {
		t.Fatal(err)
	}
	if cost, err := bcrypt.Cost([]byte(hash)); err != nil || cost < 10 {
		t.Fatalf("cost %d %v", cost, err)
	}
	if strings.Contains(hash, w.token[14:46]) {
		t.Fatal("the secret is in the row")
	}
}

func TestForgedAndDamagedTokensAreRefused(t *testing.T) {
	w := newWorld(t)
	other, _, _ := NewVerifier(bytes.Repeat([]byte{8}, 32)).tags.mint()
	flip := func(at int) string {
		b := []byte(w.token)
		if b[at] == 'a' {
			b[at] = 'b'
		} else {
			b[at] = 'a'
		}
		return string(b)
	}
	for name, token := range map[string]string{
		"empty": "", "not a token": "hello", "another installation's": other, "truncated": w.token[:61], "with more behind it": w.token + "a",
		"another selector": flip(5), "another secret": flip(20), "another tag": flip(60), "upper case": strings.ToUpper(w.token), "another prefix": "xdy_" + w.token[4:],
	} {
		for _, warm := range []bool{false, true} {
			if warm {
				if _, err := w.verify(w.token); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.verify(token); problem.From(err).Kind != problem.Unauthenticated {
				t.Errorf("%s (warm %v): %v", name, warm, err)
			}
		}
	}
}

// A token with a right tag but a wrong secret can only come from someone who
// has the MAC key; bcrypt still stands behind it.
func TestTheTagAloneOpensNothing(t *testing.T) {
	w := newWorld(t)
	body := w.key.ID + strings.Repeat("a", secretLength)
	if _, err := w.verify(prefix + body + w.v.tags.tag(body)); problem.From(err).Kind != problem.Unauthenticated {
		t.Fatalf("%v", err)
	}
}

func TestAWarmCheckSurvivesARefreshButNotAChange(t *testing.T) {
	w := newWorld(t)
	if _, err := w.verify(w.token); err != nil {
		t.Fatal(err)
	}
	w.refresh()
	if w.v.Directory().keys[w.key.ID].verified.Load() == nil {
		t.Fatal("a refresh threw a verification away: every refresh would cost a bcrypt for each key")
	}
	if _, err := RevokeKey(ctx, w.d, w.g, operator, w.key.ID); err != nil {
		t.Fatal(err)
	}
	w.refresh()
	if w.v.Directory().keys[w.key.ID].verified.Load() != nil {
		t.Fatal("a verification outlived a change of its row")
	}
	if _, err := w.verify(w.token); problem.From(err).Code != "key-revoked" {
		t.Fatalf("%v", err)
	}
}

// A refresh every second and checks that take a tenth of one: if what ends
// late were lost, a busy directory would check the same keys for ever.
func TestACheckThatOutlivesItsDirectoryIsRemembered(t *testing.T) {
	w := newWorld(t)
	began := w.v.Directory().keys[w.key.ID] // a check begins on this …
	w.refresh()
	_, secret, _, _ := split(w.token)
	sum := w.v.boot.sum(w.token)
	if err := w.v.cold(ctx, began, secret, &sum); err != nil { // … and ends when another is in use
		t.Fatal(err)
	}
	if w.v.Directory().keys[w.key.ID].verified.Load() == nil {
		t.Error("the key would be checked again")
	}
}

func TestExpiredKeysAndSuspendedOrganisationsAreRefused(t *testing.T) {
	w := newWorld(t)
	soon := time.Now().Add(time.Hour)
	_, token, err := w.v.CreateKey(ctx, w.d, w.g, operator, NewKey{Organisation: w.org.ID, Name: "short", ExpiresAt: &soon})
	if err != nil {
		t.Fatal(err)
	}
	w.refresh()
	if _, err := w.verify(token); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.v.Verify(ctx, soon, token, 24*time.Hour); problem.From(err).Code != "key-expired" {
		t.Fatalf("at its expiry: %v", err)
	}
	err = w.d.Org(ctx, w.org.ID, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE organisations SET status = 'suspended', version = version + 1`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	w.refresh()
	if _, err := w.verify(w.token); problem.From(err).Code != "organisation-suspended" {
		t.Fatalf("%v", err)
	}
}

// A valid key is never answered 401 because the directory is out of date.
func TestAGenuineKeyThatAStaleDirectoryDoesNotKnowIsUnavailable(t *testing.T) {
	w := newWorld(t)
	_, token, err := w.v.CreateKey(ctx, w.d, w.g, operator, NewKey{Organisation: w.org.ID, Name: "new"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.v.Verify(ctx, time.Now().Add(time.Hour), token, time.Minute); problem.From(err).Kind != problem.Unavailable {
		t.Fatalf("with a stale directory: %v", err)
	}
	if _, _, err := w.v.Verify(ctx, time.Now(), token, time.Minute); problem.From(err).Kind != problem.Unauthenticated {
		t.Fatalf("with a fresh directory: %v", err)
	}
}

func TestColdChecksAreBounded(t *testing.T) {
	w := newWorld(t)
	w.v.waiting.Store(maxWaiting)
	if _, err := w.verify(w.token); problem.From(err).Kind != problem.Overloaded {
		t.Fatalf("%v", err)
	}
	w.v.waiting.Store(0)
	for range cap(w.v.slots) {
		w.v.slots <- struct{}{}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := w.v.Verify(gone, time.Now(), w.token, time.Minute); problem.From(err).Kind != problem.Canceled {
		t.Fatalf("a caller that left still waits: %v", err)
	}
}

func TestBadInputNamesItsField(t *testing.T) {
	w := newWorld(t)
	past := time.Now().Add(-time.Hour)
	for name, in := range map[string]NewKey{
		"name": {Organisation: w.org.ID}, "requests_per_minute": {Organisation: w.org.ID, Name: "x", RequestsPerMinute: -1},
		"class_floor": {Organisation: w.org.ID, Name: "x", ClassFloor: 9}, "expires_at": {Organisation: w.org.ID, Name: "x", ExpiresAt: &past},
	} {
		_, _, err := w.v.CreateKey(ctx, w.d, w.g, operator, in)
		if p := problem.From(err); p.Kind != problem.Invalid || !strings.Contains(p.Field, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "Big", "-a", "a b", strings.Repeat("a", 64), "a'; DROP TABLE organisations; --"} {
		if _, err := CreateOrganisation(ctx, w.d, w.g, operator, name); problem.From(err).Code != "organisation-name" {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := CreateOrganisation(ctx, w.d, w.g, operator, "st-mary"); problem.From(err).Kind != problem.Conflict {
		t.Errorf("a name twice: %v", err)
	}
	if _, _, err := w.v.CreateKey(ctx, w.d, w.g, operator, NewKey{Organisation: w.org.ID, Name: "app"}); problem.From(err).Kind != problem.Conflict {
		t.Errorf("a key's name twice: %v", err)
	}
	if _, err := RevokeKey(ctx, w.d, w.g, operator, "nosuchkeyy"); problem.From(err).Kind != problem.NotFound {
		t.Errorf("an unknown key: %v", err)
	}
}

func TestEveryActAndDenialIsAudited(t *testing.T) {
	w := newWorld(t)
	intruder := principal.Principal{Kind: principal.Key, ID: w.key.ID, Organisation: w.org.ID}
	if _, err := RevokeKey(ctx, w.d, w.g, intruder, w.key.ID); problem.From(err).Kind != problem.Denied {
		t.Fatalf("%v", err)
	}
	if _, err := CreateOrganisation(ctx, w.d, w.g, intruder, "mine"); problem.From(err).Kind != problem.Denied {
		t.Fatalf("%v", err)
	}
	if _, err := RevokeKey(ctx, w.d, w.g, operator, w.key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := RevokeKey(ctx, w.d, w.g, operator, w.key.ID); err != nil {
		t.Fatal(err) // changes nothing, and so leaves no entry
	}
	entries, err := audit.List(ctx, w.d, uuid.Nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		got = append(got, e.Actor+" "+e.Act+" "+e.Outcome)
		if strings.Contains(string(e.Details), w.token[14:46]) {
			t.Error("a secret is in the audit log")
		}
	}
	want := []string{"local:uid=1000 organisation.create done", "local:uid=1000 key.create done", "key:" + w.key.ID + " key.revoke denied",
		"key:" + w.key.ID + " organisation.create denied", "local:uid=1000 key.revoke done"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestOrganisationsSeeOnlyTheirOwnKeys(t *testing.T) {
	w := newWorld(t)
	b, err := CreateOrganisation(ctx, w.d, w.g, operator, "other")
	if err != nil {
		t.Fatal(err)
	}
	err = w.d.Org(ctx, b.ID, func(tx pgx.Tx) error {
		for _, q := range []string{`SELECT count(*) FROM api_keys`, `SELECT count(*) - 1 FROM organisations`, `SELECT count(*) FROM audit WHERE act = 'key.create'`} {
			var n int
			if err := tx.QueryRow(ctx, q).Scan(&n); err != nil || n != 0 {
				t.Errorf("%s: %d %v", q, n, err)
			}
		}
		tag, err := tx.Exec(ctx, `UPDATE api_keys SET revoked_at = now()`)
		if err != nil || tag.RowsAffected() != 0 {
			t.Errorf("another organisation's key was changed: %v %v", tag, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = w.d.Org(ctx, b.ID, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO api_keys (id, organisation_id, name, secret_hash) VALUES ('x', $1, 'x', $2)`, w.org.ID, w.key.Hash)
		return err
	})
	if err == nil {
		t.Error("a key was planted in another organisation")
	}
	for _, q := range []string{`UPDATE audit SET act = 'x'`, `DELETE FROM audit`} {
		if err := w.d.Org(ctx, w.org.ID, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, q); return err }); err == nil {
			t.Errorf("%s was allowed", q)
		}
	}
}

func TestMACIsHMACSHA256(t *testing.T) {
	h := hmac.New(sha256.New, macKey)
	h.Write([]byte("message"))
	got := newMAC(macKey).sum("message")
	if !bytes.Equal(got[:], h.Sum(nil)) {
		t.Fatal("the tag is not what RFC 2104 says")
	}
}

func FuzzVerify(f *testing.F) {
	v := NewVerifier(macKey)
	token, _, _ := v.tags.mint()
	f.Add(token)
	f.Add("fdy_")
	f.Add(strings.Repeat("a", tokenLength))
	f.Fuzz(func(t *testing.T, text string) {
		if _, _, err := v.Verify(ctx, time.Now(), text, time.Hour*1e6); err == nil {
			t.Fatalf("%q opened an empty directory", text)
		}
	})
}

func BenchmarkVerifyWarm(b *testing.B) {
	v := NewVerifier(macKey)
	token, selector, secret := v.tags.mint()
	hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
	if err != nil {
		b.Fatal(err)
	}
	org := Organisation{ID: uuid.New(), Status: "active"}
	v.Use(NewDirectory(Records{TakenAt: time.Now(), Organisations: []Organisation{org}, Keys: []StoredKey{{Key: Key{ID: selector, Organisation: org.ID, Version: 1}, Hash: string(hash)}}}, nil))
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := v.Verify(ctx, now, token, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyForged(b *testing.B) {
	v := NewVerifier(macKey)
	token, _, _ := NewVerifier(bytes.Repeat([]byte{9}, 32)).tags.mint()
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := v.Verify(ctx, now, token, time.Hour); err == nil {
			b.Fatal("opened")
		}
	}
}
