package kit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
	"pgregory.net/rapid"
)

var made = time.Date(2026, 11, 23, 4, 5, 6, 0, time.UTC)

func someContent() Content {
	return Content{
		Foundry: "1.2.3", PostgreSQL: 15, Packages: []string{"postgresql-15", "pgbackrest"},
		Node:        Node{Number: 7, Name: "node1", Mode: "production", Country: "FI", DataDir: "/var/lib/foundry"},
		KEKs:        []KEK{{Provider: "file", Place: "/etc/kek", Fingerprint: "abc", Key: bytes.Repeat([]byte("K"), keyBytes)}},
		Files:       []File{{Path: "keys/aead.keyset", Mode: 0o600, Body: []byte("keyset-body-that-is-secret")}},
		Secrets:     []Secret{{Field: "providers[0].key", File: "/etc/foundry/mistral", Value: []byte("provider-secret-value")}},
		Passphrases: map[string][]byte{PassphraseName("offsite", "pgbackrest"): []byte("repository-passphrase-value")},
		Targets:     []Target{{Config: target.Config{Name: "offsite", Kind: target.Directory, Path: "/mnt/b"}, S3Secret: "bucket-secret-value"}},
		Threshold:   2, Shares: 3, Holders: []string{"Ada", "Grace", "Edith"},
		Briefing: "briefing-text",
	}
}

func seal(t testing.TB, k *Key, c Content) []byte {
	t.Helper()
	file, err := (Recipient{k.Recipient(), k.Authenticator()}).Seal(c, made)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAKitHoldsWhatWasPutIn(t *testing.T) {
	k := newKey(t)
	want := someContent()
	got, err := Open(seal(t, k, want), k)
	if err != nil {
		t.Fatal(err)
	}
	want.Version, want.Made = ContentVersion, made
	want.Header = Header{Set: k.Set(), Created: made, Fingerprint: Fingerprint(k.Recipient())}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %s\nwant %s", mustJSON(t, got), mustJSON(t, want))
	}
}

func mustJSON(t *testing.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheKitAloneShowsItsFirstLineAndNothingElse(t *testing.T) {
	k := newKey(t)
	file := seal(t, k, someContent())
	h, err := ReadHeader(file)
	if err != nil || h.Set != k.Set() || !h.Created.Equal(made) || h.Fingerprint != Fingerprint(k.Recipient()) {
		t.Fatalf("header %+v, %v", h, err)
	}
	line, _, _ := bytes.Cut(file, []byte("\n"))
	if want := "foundry-kit 1 " + h.String(); string(line) != want {
		t.Errorf("the first line is %q", line)
	}
	for _, secret := range []string{"KKKKKKKK", "keyset-body", "provider-secret", "repository-passphrase", "bucket-secret", "briefing-text", "Grace", "offsite", k.Recipient()} {
		if bytes.Contains(file, []byte(secret)) {
			t.Errorf("the file shows %q", secret)
		}
	}
	_, rest, _ := bytes.Cut(file, []byte("\n"))
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := age.Decrypt(bytes.NewReader(rest), other); err == nil {
		t.Error("another key opens it")
	}
}

func TestAKitOpensWithTheSharesAndTheStandardTool(t *testing.T) {
	k, shares := newShares(t, 2, 3)
	file := seal(t, k, someContent())
	again, err := Combine(shares[1:])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, again); err != nil {
		t.Error(err)
	}
	_, rest, _ := bytes.Cut(file, []byte("\n")) // as `tail -n +2 kit | age -d -i key` would
	r, err := age.Decrypt(bytes.NewReader(rest), again.identity)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r)
	if err != nil || !bytes.Contains(body, []byte("provider-secret-value")[:0]) || !json.Valid(body[32:]) {
		t.Errorf("age reads %d bytes, %v", len(body), err)
	}
}

func TestAKitThatIsNotRightIsRefused(t *testing.T) {
	k, other := newKey(t), newKey(t)
	file := seal(t, k, someContent())
	stolen := func() []byte { // by somebody who knows the recipient and can write to the target
		b, err := (Recipient{k.Recipient(), bytes.Repeat([]byte{9}, 32)}).Seal(someContent(), made)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	relabel := bytes.Replace(file, []byte("2026-11-23"), []byte("2027-11-23"), 1)
	renamed := bytes.Replace(seal(t, other, someContent()), []byte(other.Set().String()), []byte(k.Set().String()), 1)
	for name, c := range map[string]struct {
		file        []byte
		code, words string
	}{
		"of another key":            {seal(t, other, someContent()), "kit-wrong", other.Set().String()},
		"another key's, relabelled": {renamed, "kit-wrong", "another key"},
		"made younger":              {relabel, "kit-forged", "Do not use"},
		"forged at the target":      {stolen(), "kit-forged", "Do not use"},
		"cut short":                 {file[:len(file)-1], "kit-damaged", "another copy"},
		"empty":                     {nil, "kit-none", "foundry-kit-"},
		"a page of text":            {[]byte("Dear reader,\n"), "kit-none", "foundry-kit-"},
		"only the line":             {file[:bytes.IndexByte(file, '\n')+1], "kit-damaged", "another copy"},
		"of the future":             {append([]byte("foundry-kit 2 x=y\n"), file...), "kit-version", "newer"},
		"with a strange line":       {append([]byte("foundry-kit 1 set=zz\n"), file...), "kit-damaged", "first line"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(c.file, k)
			wantProblem(t, err, c.code, "kit", c.words)
		})
	}
}

func TestNoChangedByteOfAKitGoesUnnoticed(t *testing.T) {
	k := newKey(t)
	file := seal(t, k, someContent())
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.IntRange(0, len(file)-1).Draw(t, "place")
		flip := rapid.ByteRange(1, 255).Draw(t, "flip")
		changed := bytes.Clone(file)
		changed[at] ^= flip
		if _, err := Open(changed, k); err == nil {
			t.Fatalf("byte %d was changed and the kit opened", at)
		}
	})
}

func TestAKitCannotWriteOutsideTheDataDirectory(t *testing.T) {
	k := newKey(t)
	for name, f := range map[string]File{
		"upwards": {Path: "../etc/passwd", Mode: 0o600}, "absolute": {Path: "/etc/passwd", Mode: 0o600},
		"hidden steps": {Path: "keys/../../x", Mode: 0o600}, "set-user-id": {Path: "keys/x", Mode: 0o4755 | 1<<23},
	} {
		t.Run(name, func(t *testing.T) {
			c := someContent()
			c.Files = append(c.Files, f)
			if _, err := (Recipient{k.Recipient(), k.Authenticator()}).Seal(c, made); err == nil {
				t.Error("it was made")
			}
			if err := func() error { c.Version = 1; return c.Validate() }(); err == nil {
				t.Error("it would be read")
			}
		})
	}
}

func TestAKitOfANewerVersionIsRefusedWithTheVersionToGet(t *testing.T) {
	c := someContent()
	c.Version = ContentVersion + 1
	wantProblem(t, c.Validate(), "kit-version", "", "Foundry 1.2.3")
}

func TestAKitNeedsItsKeys(t *testing.T) {
	c := someContent()
	c.Version, c.KEKs = 1, nil
	wantProblem(t, c.Validate(), "kit-no-key", "", "another kit")
	c = someContent()
	c.Version, c.KEKs[0].Key = 1, []byte("short")
	wantProblem(t, c.Validate(), "kit-key", "", "another kit")
}

func TestContentThatIsPrintedByMistakeShowsNothing(t *testing.T) {
	c := someContent()
	for _, s := range []string{c.String(), c.GoString(), strings.Join(c.Inventory(), "\n")} {
		if strings.Contains(s, "secret") && strings.Contains(s, "value") || strings.Contains(s, "KKKK") {
			t.Error(s)
		}
	}
}

func FuzzOpen(f *testing.F) {
	k, err := keyFrom(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		f.Fatal(err)
	}
	file := seal(f, k, someContent())
	f.Add(file)
	f.Add(file[:100])
	f.Add([]byte("foundry-kit 1 "))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Open(b, k)
		var p *problem.Error
		if err != nil && (!errors.As(err, &p) || p.Mend == "") {
			t.Fatalf("an error that does not say what to do: %v", err)
		}
		if err == nil && !(c.Made.Equal(made) && c.Briefing == someContent().Briefing) { // sealed anew by every process
			t.Fatal("a kit opened that nobody made")
		}
	})
}

func FuzzContent(f *testing.F) {
	c := someContent()
	c.Version = 1
	body, err := json.Marshal(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		var c Content
		if json.Unmarshal(body, &c) == nil && c.Validate() == nil {
			for _, f := range c.Files {
				if strings.HasPrefix(f.Path, "/") || strings.Contains(f.Path, "..") && strings.HasPrefix(f.Path, "../") {
					t.Fatalf("a kit would write %q", f.Path)
				}
			}
		}
	})
}
