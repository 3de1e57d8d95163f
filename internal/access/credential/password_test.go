package credential

import (
	"bytes"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/crypto/bcrypt"
)

const good = "harbour lantern velvet quokka"

func hasher(t testing.TB, peppers ...byte) *Hasher {
	var keys [][]byte
	for _, p := range peppers {
		keys = append(keys, bytes.Repeat([]byte{p}, 32))
	}
	h, err := NewHasher(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAPasswordIsStoredAsBcryptOfItsMAC(t *testing.T) {
	h := hasher(t, 1)
	stored, err := h.Hash(good)
	if err != nil {
		t.Fatal(err)
	}
	_, hash, ok := h.find(stored)
	if cost, err := bcrypt.Cost([]byte(hash)); !ok || err != nil || cost != PasswordCost {
		t.Fatalf("%s: cost %d, %v", stored, cost, err)
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(good)) == nil {
		t.Error("the hash is of the password itself: it can be attacked without the pepper")
	}
	for name, c := range map[string]struct {
		h        *Hasher
		password string
		ok       bool
		stale    bool
	}{
		"right":                     {h, good, true, false},
		"wrong":                     {h, good + "x", false, false},
		"composed otherwise":        {h, strings.ReplaceAll(good, "é", "é"), true, false},
		"with the pepper rotated":   {hasher(t, 2, 1), good, true, true},
		"with the pepper forgotten": {hasher(t, 2), good, false, true},
		"over the limit":            {h, strings.Repeat("a", MaxPasswordBytes+1), false, false},
	} {
		ok, stale := c.h.Verify(stored, c.password)
		if ok != c.ok || ok && stale != c.stale {
			t.Errorf("%s: %v %v", name, ok, stale)
		}
	}
}

func TestTheSameCharactersAreTheSamePassword(t *testing.T) {
	p := hasher(t, 1).peppers[0]
	composed, decomposed := "caf\u00e9 au lait", "cafe\u0301 au lait"
	if !bytes.Equal(p.mac(composed), p.mac(decomposed)) {
		t.Error("a password typed on another keyboard would be refused")
	}
	if mac := p.mac("x"); len(mac) != 64 || bytes.IndexByte(mac, 0) >= 0 {
		t.Errorf("bcrypt gets %d bytes", len(mac))
	}
	if bytes.Equal(p.mac(strings.Repeat("a", 72)), p.mac(strings.Repeat("a", 72)+"b")) {
		t.Error("a suffix after 72 bytes does not count")
	}
	if bytes.Equal(p.mac("a\x00b"), p.mac("a\x00c")) {
		t.Error("what stands after a NUL does not count")
	}
}

// The work, not the clock: whatever is stored, one comparison at full cost.
func TestUnknownLockedAndWrongCostTheSame(t *testing.T) {
	h := hasher(t, 1)
	stored, err := h.Hash(good)
	if err != nil {
		t.Fatal(err)
	}
	type work struct{ cost, hash, password int }
	var done []work
	h.compare = func(hash, password []byte) error {
		cost, err := bcrypt.Cost(hash)
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, work{cost, len(hash), len(password)})
		return bcrypt.ErrMismatchedHashAndPassword
	}
	for _, s := range []string{stored, "", "hs384:ffffffff:" + stored[15:], "hs384:x:y", "md5:1:2"} {
		for _, password := range []string{good, "", strings.Repeat("a", 5000)} {
			done = nil
			h.Verify(s, password)
			if len(done) != 1 || done[0] != (work{PasswordCost, 60, 64}) {
				t.Errorf("%q with %d bytes: %+v", s, len(password), done)
			}
		}
	}
	if ok, _ := hasher(t, 1).Verify("", ""); ok {
		t.Error("the decoy opens")
	}
}

func TestPeppersAreNeeded(t *testing.T) {
	if _, err := NewHasher(); err == nil {
		t.Error("without one")
	}
	if _, err := NewHasher([]byte("short")); err == nil {
		t.Error("with a short one")
	}
}

func TestPasswordsThatOthersWouldGuessAreRefused(t *testing.T) {
	for password, want := range map[string]string{
		good: "", "correct horse battery staple": "", "x7!kQ9vR2mLp": "", "日本語のパスワードはここです": "",
		"short": "password-short", "elevenchars": "password-short", strings.Repeat("ab ", 400): "password-long",
		"harbour lantern\x00velvet": "password-control", "harbour \xff\xfe lantern velvet": "password-encoding",
		"passwordpassword": "password-common", "P@ssw0rd!2026": "password-common", "qwertyuiop123456": "password-common",
		"123456789012": "password-common", "iloveyou!!!!!": "password-common", "!!!!!!!!!!!!": "password-common",
		"aaaaaaaaaaaaaaaa": "password-weak", "abcdefghijklm": "password-weak", "Winter2026Winter": "password-weak",
		"anna.lindqvist": "password-weak", "st-mary-hospital": "password-weak",
	} {
		err := CheckPassword(password, "anna.lindqvist@st-mary-hospital.example", "Anna Lindqvist")
		got := ""
		if err != nil {
			got = problem.From(err).Code
		}
		if want != got && !(want != "" && (got == "password-common" || got == "password-weak") && (want == "password-common" || want == "password-weak")) {
			t.Errorf("%q: %q, want %q", password, got, want)
		}
	}
}

func TestTheListOfCommonPasswordsIsThere(t *testing.T) {
	if n := len(common()); n < 10_000 {
		t.Fatalf("%d passwords", n)
	}
	for _, p := range []string{"123456", "Password", "LETMEIN", "d3agon"[:1] + "ragon99"} {
		if !Common(p) {
			t.Errorf("%s is not found", p)
		}
	}
	if Common(good) {
		t.Error("a good one is found")
	}
}

func FuzzCheckPassword(f *testing.F) {
	f.Add(good)
	f.Add("日本語\x00")
	f.Add(strings.Repeat("aB3$", 40))
	f.Fuzz(func(t *testing.T, text string) {
		if err := CheckPassword(text, text); err != nil && problem.From(err).Kind != problem.Invalid {
			t.Fatal(err)
		}
	})
}
