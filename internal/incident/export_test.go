package incident

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/evidence"
	"golang.org/x/net/html"
	"pgregory.net/rapid"
)

func signer(t testing.TB) *evidence.Signer {
	t.Helper()
	plain := func(b, _ []byte) ([]byte, error) { return b, nil }
	s, err := evidence.OpenSigner(t.TempDir(), plain, plain)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func exported(t testing.TB) ([]byte, *evidence.Signer, *scene) {
	x, s := whole(t), signer(t)
	var out bytes.Buffer
	if err := Export(&out, &Timeline{Entries: x.entries, State: x.s}, s, anna.String(), x.now); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), s, x
}

func TestAnExportVerifiesAnywhereAndSaysWhoSignedIt(t *testing.T) {
	text, s, x := exported(t)
	v, err := VerifyExport(bytes.NewReader(text), s.Public())
	if err != nil {
		t.Fatal(err)
	}
	if v.State.Head != x.s.Head || v.Signer != s.ID() || len(v.Entries) != len(x.entries) {
		t.Errorf("read %+v", v)
	}
	if _, err := VerifyExport(bytes.NewReader(text)); err != nil {
		t.Errorf("without a key: %v", err)
	}
	other, _, _ := ed25519.GenerateKey(nil)
	if _, err := VerifyExport(bytes.NewReader(text), other); !errors.Is(err, ErrBroken) {
		t.Errorf("with the key of somebody else: %v", err)
	}
	if _, err := VerifyExport(bytes.NewReader(text), other, s.Public()); err != nil {
		t.Errorf("with one of two keys: %v", err)
	}
}

func TestEveryChangedByteOfAnExportIsFound(t *testing.T) {
	text, _, _ := exported(t)
	for i := range text {
		bad := bytes.Clone(text)
		bad[i] ^= 1
		if v, err := VerifyExport(bytes.NewReader(bad)); err == nil {
			t.Fatalf("byte %d (%q) is another, and nobody sees it: %+v", i, text[i], v.State.Head)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		cut, n := rapid.IntRange(0, len(text)-1).Draw(t, "at"), rapid.IntRange(1, 400).Draw(t, "bytes")
		bad := append(bytes.Clone(text[:cut]), text[min(len(text), cut+n):]...)
		if _, err := VerifyExport(bytes.NewReader(bad)); err == nil {
			t.Fatalf("%d bytes after %d are gone, and nobody sees it", n, cut)
		}
		if _, err := VerifyExport(bytes.NewReader(append(bytes.Clone(text), bad...))); err == nil {
			t.Fatal("something follows, and nobody sees it")
		}
	})
}

func FuzzVerifyExport(f *testing.F) {
	text, _, _ := exported(f)
	f.Add(text)
	f.Add([]byte(exportMagic))
	f.Add([]byte(exportMagic + "incident\tx\nmade\ta\tb\nhead\t1\t" + strings.Repeat("0", 64) + "\nkey\tx\tAAAA\nbegin\nend\t0\nseal\tAAAA\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if v, err := VerifyExport(bytes.NewReader(in)); err == nil && !bytes.Equal(in, text) {
			t.Fatalf("%q verifies: %+v", in, v)
		} else if err != nil && !errors.Is(err, ErrBroken) {
			t.Fatalf("refused for another reason than that it was changed: %v", err)
		}
	})
}

func TestTheReportNeedsNothingElseAndLetsNothingIn(t *testing.T) {
	x := whole(t)
	x.do(&Note{Words: `</td><script>alert(1)</script><img src=x onerror=alert(1)> <a href="javascript:x">`})
	var out bytes.Buffer
	zone, err := time.LoadLocation("Europe/London")
	if err != nil {
		t.Fatal(err)
	}
	if err := HTML(&out, &Timeline{Entries: x.entries, State: x.s}, zone, x.now); err != nil {
		t.Fatal(err)
	}
	root, err := html.Parse(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	ids, refs := map[string]bool{}, []string{}
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.ElementNode {
			switch n.Data {
			case "script", "img", "link", "iframe", "form", "object", "svg":
				t.Errorf("the page has a <%s>", n.Data)
			}
			for _, a := range n.Attr {
				switch {
				case strings.HasPrefix(a.Key, "on"), a.Key == "style", a.Key == "src":
					t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
				case a.Key == "id":
					ids[a.Val] = true
				case a.Key == "href":
					refs = append(refs, a.Val)
				}
			}
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	walk(root)
	for _, ref := range refs {
		if !ids[strings.TrimPrefix(ref, "#")] || !strings.HasPrefix(ref, "#") {
			t.Errorf("a claim refers to %q, and there is no such entry", ref)
		}
	}
	for _, want := range []string{x.s.Head.Hash.String(), "rto/web", "default-src &#39;none&#39;", "4h", "color-scheme: light dark", "@media print"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(out.String(), "ZgotmplZ") || strings.Contains(out.String(), "EXERCISE") {
		t.Error("the page holds what a template refused")
	}
	for i := range x.entries {
		if Describe(x.entries[i]) == "" || strings.Contains(Describe(x.entries[i]), "newer member") {
			t.Errorf("entry %d (%s) is not said in words", i+1, x.entries[i].Kind)
		}
	}
}

// What an earlier release exported verifies for good.
func TestExportsOfEarlierReleasesVerify(t *testing.T) {
	const path = "testdata/v1.incident"
	if *update {
		text, s, _ := exported(t)
		if err := errors.Join(os.WriteFile(path, text, 0o644), os.WriteFile("testdata/v1.key", []byte(base64.StdEncoding.EncodeToString(s.Public())+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	v, err := VerifyExport(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if v.State.Title != "node-1 does not answer" || v.State.Head.N != 13 || len(v.State.Unread) != 0 {
		t.Errorf("read %q, %d entries, unread %v", v.State.Title, v.State.Head.N, v.State.Unread)
	}
}

var update = flag.Bool("update", false, "write the golden files anew")
