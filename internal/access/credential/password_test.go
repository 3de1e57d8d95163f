package credential

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/crypto/bcrypt"
	"pgregory.net/rapid"
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
	if bytes.Equal(p.mac(good), hasher(t, 2).peppers[0].mac(good)) {
		t.Error("the pepper does not count: who has the database can guess")
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

func TestThePiecesOfAPasswordAreSeenThrough(t *testing.T) {
	for name, passwords := range map[string][]string{
		"common, disguised":     {"P@ssw0rdP@ssw0rd", "dr4g0n99dr4g0n", "drowssap123456", "Password123!Password", "L3tm31n!L3tm31n!", "MonkeyMonkey12"},
		"two words":             {"summer holiday", "StrawberryCake", "yellow-elephant", "football2026!", "Katherine1985"},
		"names":                 {"michael.johnson", "JenniferSmith1"},
		"repeated":              {"xqzxqzxqzxqzxqz", "zzzzzzzzzzzzzzzzzz", "kv9kv9kv9kv9kv9"},
		"in sequence":           {"abcdefgh12345678", "zyxwvutsrqpo", "ABCDEFGHIJKLM", "абвгдежзийклм"},
		"walked on a keyboard":  {"asdfghjklzxcvbnm", "1qaz2wsx3edc4rfv", "QWERTYUIOP{}", "!QAZxsw2#EDCvfr4", "qwertzuiopü+asdf", "azertyuiopqsdfgh", "zaq12wsxcde3"},
		"dates":                 {"12.05.1990 13.06.1991", "1990-05-12!!", "07041776-1989"},
		"about the owner":       {"annalindqvist", "AnnaLindqvist1", "lindqvist.anna", "tsivqdnil.anna", "MaryHospital2026", "foundryfoundry1"},
		"the owner, disguised":  {"4nn4.l1ndqv1st", "@nna.Lindqvi$t"},
		"a mix of all of these": {"anna1990qwerty", "Lindqvist-12345", "abcabc123Hospital"},
	} {
		for _, p := range passwords {
			if err := CheckPassword(p, "anna.lindqvist@st-mary-hospital.example", "Anna Lindqvist"); err == nil {
				t.Errorf("%s: %q is accepted, for 10^%.1f guesses", name, p, estimate(p, inputs([]string{"Anna Lindqvist"})))
			}
		}
	}
}

func TestPasswordsThatNobodyGuessesAreAccepted(t *testing.T) {
	for _, p := range []string{
		good, "correct horse battery staple", "the crow paints seven windows", "velvet-anvil-marble-ninety", "fjord kaffee brille zwölf",
		"x7!kQ9vR2mLp", "hT5#wq8Zb2&Lx", "mkzvtqhwnrbxlp", "aina sataa lauantaisin", "Rente, Kuh & Sonnenuhr", "日本語のパスワードはここです",
		strings.Repeat("x7!kQ9vR2mLp", 5),
	} {
		if err := CheckPassword(p, "anna.lindqvist@st-mary-hospital.example", "Anna Lindqvist"); err != nil {
			t.Errorf("%q is refused, for 10^%.1f guesses: %v", p, estimate(p, nil), err)
		}
	}
}

func TestWhatIsKnownNeverMakesAPasswordBetter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.StringMatching(`[a-zA-Z0-9 !$]{12,24}`).Draw(t, "password")
		word := rapid.StringMatching(`[a-z]{3,8}`).Draw(t, "word")
		if with, without := estimate(p, []string{word}), estimate(p, nil); with > without || without > float64(len(p)) || math.IsNaN(with) {
			t.Errorf("10^%f with %q, 10^%f without", with, word, without)
		}
	})
}

func TestTheListsAreThere(t *testing.T) {
	for word, list := range map[string]int{"123456": 1, "you": 2, "patricia": 3, "robert": 4, "johnson": 5} {
		ranks := map[string]int{word: 0}
		lookUp(ranks, list)
		if r := ranks[word]; r < 1 || r > 100 {
			t.Errorf("%s has the rank %d", word, r)
		}
	}
	ranks := map[string]int{"patricia": 0}
	lookUp(ranks, allLists)
	if ranks["patricia"] != 2 {
		t.Errorf("a name has the rank %d: not its best", ranks["patricia"])
	}
	for _, p := range []string{"123456", "Password", "LETMEIN", "dragon99"} {
		if !Common(p) {
			t.Errorf("%s is not found", p)
		}
	}
	if Common(good) {
		t.Error("a good one is found")
	}
}

func BenchmarkCheckPassword(b *testing.B) {
	for b.Loop() {
		_ = CheckPassword(good, "anna.lindqvist@st-mary-hospital.example", "Anna Lindqvist")
	}
}

func BenchmarkCheckTheLongestPassword(b *testing.B) {
	for b.Loop() {
		_ = CheckPassword(strings.Repeat("aB3$", 40), "anna.lindqvist@st-mary-hospital.example")
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
