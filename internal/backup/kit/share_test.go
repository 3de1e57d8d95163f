package kit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/problem"
	"pgregory.net/rapid"
)

func newKey(t testing.TB) *Key {
	t.Helper()
	k, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newShares(t testing.TB, threshold, n int) (*Key, []Share) {
	t.Helper()
	k := newKey(t)
	shares, err := k.Split(threshold, n, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k, shares
}

func wantProblem(t *testing.T, err error, code, field, words string) {
	t.Helper()
	var p *problem.Error
	if !errors.As(err, &p) {
		t.Fatalf("got %v, want the problem %s", err, code)
	}
	if p.Code != code || field != "" && p.Field != field || !strings.Contains(p.Detail+" "+p.Mend, words) {
		t.Errorf("got %s at %q: %s → %s; want %s at %q with %q", p.Code, p.Field, p.Detail, p.Mend, code, field, words)
	}
	if p.Mend == "" {
		t.Errorf("%s does not say what to do", p.Code)
	}
}

func TestTheListIsThatOfBIP39(t *testing.T) {
	sum := sha256.Sum256([]byte(listText))
	if got := hex.EncodeToString(sum[:]); got != "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda" || len(list) != 2048 || !slices.IsSorted(list) {
		t.Errorf("the list has %d words and SHA-256 %s", len(list), got)
	}
}

func TestEnoughSharesMakeTheKeyAgainFromEveryForm(t *testing.T) {
	k, shares := newShares(t, 3, 5)
	forms := map[string]func(Share) string{
		"words":          func(s Share) string { return strings.Join(s.Words(), " ") },
		"numbered lines": func(s Share) string { return numberLines(s.Words()) },
		"four letters":   func(s Share) string { return strings.Join(firstLetters(s.Words()), "\n") },
		"capitals":       func(s Share) string { return strings.ToUpper(strings.Join(s.Words(), ", ")) },
		"line":           Share.Text,
		"small letters":  func(s Share) string { return strings.ToLower(s.Text()) },
		"page":           func(s Share) string { b, _ := ShareText(Page{Shares: 5, Set: s.Set}, s); return string(b) },
		"HTML page":      func(s Share) string { b, _ := ShareHTML(Page{Shares: 5, Set: s.Set}, s); return string(b) },
	}
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			var read []Share
			for _, i := range []int{4, 0, 2} {
				s, err := ParseShare(form(shares[i]))
				if err != nil {
					t.Fatal(err)
				}
				if s != shares[i] {
					t.Fatalf("share %d was read as %s", i+1, s)
				}
				read = append(read, s)
			}
			got, err := Combine(read)
			if err != nil {
				t.Fatal(err)
			}
			if got.Recipient() != k.Recipient() || got.secret != k.secret {
				t.Error("they make another key")
			}
		})
	}
}

func numberLines(words []string) string {
	var b strings.Builder
	for i, w := range words {
		fmt.Fprintf(&b, "%2d. %s\n", i+1, w)
	}
	return b.String()
}

func firstLetters(words []string) (out []string) {
	for _, w := range words {
		out = append(out, w[:min(len(w), decisiveLetters)])
	}
	return out
}

func TestAShareHasThirtyTwoWords(t *testing.T) {
	_, shares := newShares(t, 2, 2)
	if n := len(shares[0].Words()); n != 32 || WordCount != 32 {
		t.Errorf("it has %d", n)
	}
}

func TestOneWrongWordIsNamedAndMended(t *testing.T) {
	_, shares := newShares(t, 2, 3)
	rapid.Check(t, func(t *rapid.T) {
		words := shares[rapid.IntRange(0, 2).Draw(t, "share")].Words()
		at := rapid.IntRange(0, WordCount-1).Draw(t, "place")
		other := rapid.SampledFrom(list).Filter(func(w string) bool { return w != words[at] }).Draw(t, "typed")
		right := words[at]
		words[at] = other
		_, err := ParseWords(words)
		var p *problem.Error
		if !errors.As(err, &p) || p.Code != "share-mistyped" || p.Field != fmt.Sprintf("word %d", at+1) || !strings.Contains(p.Mend, `"`+right+`"`) {
			t.Fatalf("word %d, %s for %s: %v", at+1, other, right, err)
		}
	})
}

func TestMistakesInTypingAreNamed(t *testing.T) {
	_, shares := newShares(t, 2, 2)
	words := shares[0].Words()
	edit := func(f func([]string) []string) []string { return f(slices.Clone(words)) }
	for name, c := range map[string]struct {
		words               []string
		code, field, words2 string
	}{
		"no word of the list": {edit(func(w []string) []string { w[6] = "abandn"; return w }), "share-word", "word 7", `"abandon"`},
		"nothing like a word": {edit(func(w []string) []string { w[0] = "qqqqqqqq"; return w }), "share-word", "word 1", "BIP-39"},
		"left out":            {edit(func(w []string) []string { return slices.Delete(w, 11, 12) }), "share-length", "words", "Word 12"},
		"one too many":        {edit(func(w []string) []string { return slices.Insert(w, 3, "zebra") }), "share-length", "words", `Word 4, "zebra"`},
		"half of it":          {words[:16], "share-length", "words", "are 16"},
		"nothing":             {nil, "share-length", "words", "are 0"},
		"everything wrong":    {strings.Fields(strings.Repeat("zoo ", WordCount)), "share-mistyped", "words", "More than one"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseWords(c.words)
			wantProblem(t, err, c.code, c.field, c.words2)
		})
	}
	for i := range words[:len(words)-1] {
		if words[i] != words[i+1] {
			_, err := ParseWords(edit(func(w []string) []string { w[i], w[i+1] = w[i+1], w[i]; return w }))
			wantProblem(t, err, "share-mistyped", fmt.Sprintf("word %d", i+1), "Exchange")
			break
		}
	}
}

func TestALineWithOneWrongCharacterIsRefused(t *testing.T) {
	_, shares := newShares(t, 2, 2)
	line := shares[0].Text()
	for i := len(shareHeadline); i < len(line); i++ {
		for _, c := range []byte("A7") {
			if line[i] == c {
				continue
			}
			if s, err := ParseShare(line[:i] + string(c) + line[i+1:]); err == nil && s != shares[0] {
				t.Fatalf("character %d was changed to %c, and another share came of it", i, c)
			}
		}
	}
	_, err := ParseShare(line[:len(line)-3])
	wantProblem(t, err, "share-line", "", "characters")
}

func TestSharesThatDoNotFitAreNamed(t *testing.T) {
	_, a := newShares(t, 3, 5)
	_, b := newShares(t, 3, 5)
	forged := a[2]
	forged.value[0] ^= 1
	threshold := a[2]
	threshold.Threshold = 2
	for name, c := range map[string]struct {
		shares             []Share
		code, field, words string
	}{
		"none":                   {nil, "shares-none", "shares", "--shares-from"},
		"too few":                {a[:2], "shares-few", "shares", "2 of the 3"},
		"of another set":         {[]Share{a[0], b[1], a[2]}, "shares-mixed", "share 2", b[1].Set.String()},
		"twice the same":         {[]Share{a[0], a[1], a[0]}, "share-twice", "share 3", "Share 1"},
		"made by somebody else":  {[]Share{a[0], a[1], forged}, "shares-wrong", "shares", "each in turn"},
		"with another threshold": {[]Share{a[0], a[1], threshold}, "shares-threshold", "share 3", "2 are"},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := Combine(c.shares)
			if k != nil {
				t.Error("they made a key")
			}
			wantProblem(t, err, c.code, c.field, c.words)
		})
	}
}

func TestAKeyIsNotSplitSoThatOneShareIsEnough(t *testing.T) {
	k := newKey(t)
	for name, c := range map[string]struct {
		threshold, shares int
		code              string
	}{
		"one needed": {1, 3, "share-threshold"}, "none needed": {0, 3, "share-threshold"},
		"fewer than needed": {3, 2, "share-count"}, "too many": {2, 17, "share-count"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := k.Split(c.threshold, c.shares, rand.Reader)
			wantProblem(t, err, c.code, "", "")
		})
	}
}

func TestAShareThatIsPrintedByMistakeShowsNothing(t *testing.T) {
	_, shares := newShares(t, 2, 2)
	s := shares[0]
	secret := hex.EncodeToString(s.value[:8])
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if got := fmt.Sprintf(f, s); strings.Contains(got, secret) || strings.Contains(got, s.Words()[10]+" "+s.Words()[11]) || strings.Contains(got, fmt.Sprint(s.value[0], " ", s.value[1])) {
			t.Errorf("%s shows %s", f, got)
		}
	}
}

func TestNearWordsAreOffered(t *testing.T) {
	for typed, want := range map[string]string{"abondon": "abandon", "wierd": "weird", "zzo": "zoo", "recieve": "receive"} {
		if got := NearestWords(typed); !slices.Contains(got, want) {
			t.Errorf("%s: %v", typed, got)
		}
	}
	if got := NearestWords("xylophone"); len(got) != 0 {
		t.Errorf("xylophone: %v", got)
	}
	if got := Complete("aban"); !slices.Equal(got, []string{"abandon"}) {
		t.Errorf("aban: %v", got)
	}
}

func FuzzParseShare(f *testing.F) {
	k, err := keyFrom(make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	shares, err := k.Split(2, 3, rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range shares {
		f.Add(s.Text())
		f.Add(strings.Join(s.Words(), " "))
		f.Add(numberLines(s.Words()[1:]))
	}
	f.Add("")
	f.Add("FOUNDRY-SHARE-1-")
	f.Add(strings.Repeat("zoo ", 33))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseShare(text)
		var p *problem.Error
		switch {
		case err != nil && (!errors.As(err, &p) || p.Mend == ""):
			t.Fatalf("%q: an error that does not say what to do: %v", text, err)
		case err == nil:
			again, err := ParseShare(s.Text())
			if err != nil || again != s {
				t.Fatalf("%q was read as %s, which is not read again: %v", text, s, err)
			}
		}
	})
}
