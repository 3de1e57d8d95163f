package evidence

import (
	"strings"
	"testing"
)

func textSigner(t testing.TB) *Signer {
	t.Helper()
	plain := func(b, _ []byte) ([]byte, error) { return b, nil }
	s, err := OpenSigner(t.TempDir(), plain, plain)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASignedTextIsVerifiedAndAChangedOneIsNot(t *testing.T) {
	s := textSigner(t)
	const text = "recovered point: noon\nlost: 4 s\n"
	signed := text + s.SignText(text)
	if got, by, err := VerifyText(signed); err != nil || got != text || by != s.ID() {
		t.Fatalf("%q by %s, %v", got, by, err)
	}
	for i := range signed {
		changed := signed[:i] + string(rune('!'+signed[i]%64)) + signed[i+1:]
		if changed == signed {
			continue
		}
		if got, by, err := VerifyText(changed); err == nil && (got == text || by == s.ID()) {
			t.Fatalf("byte %d was changed and the text verified", i)
		}
	}
	for name, other := range map[string]string{"no signature": text, "a line after it": signed + "and more\n", "cut": signed[:len(signed)-5], "empty": ""} {
		if _, _, err := VerifyText(other); err == nil {
			t.Errorf("%s: it verified", name)
		}
	}
	if o := (&Observation{}).Statement(); strings.HasPrefix(string(o), textMagic) {
		t.Error("a text could be signed that is an observation")
	}
}

func FuzzVerifyText(f *testing.F) {
	s := textSigner(f)
	f.Add("a\n" + s.SignText("a\n"))
	f.Add(textMark)
	f.Add("")
	f.Fuzz(func(t *testing.T, signed string) {
		text, by, err := VerifyText(signed)
		if err == nil && (by == "" || !strings.HasPrefix(signed, text)) {
			t.Fatalf("%q", signed)
		}
	})
}
