package audit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/missionopsai/foundry/internal/db/dbtest"
)

// What opens is, byte for byte, a checkpoint that the key signed: a checkpoint
// that somebody kept elsewhere is evidence only if nobody can make one.
func FuzzAnyCheckpointIsReadWithoutHarm(f *testing.F) {
	const origin = "foundry.audit/0190c2f0-0000-7000-8000-000000000001"
	clock := newClock()
	key := newSigner(origin, algEd25519, make([]byte, 32), clock.now)
	witness := newSigner(origin+"/witness", algCosignature, []byte(strings.Repeat("w", 32)), clock.now)
	trusted := []*verifier{&key.verifier, &witness.verifier}
	genuine, failed, err := signCheckpoint(origin, 7, tlog.Hash{1}, key, []Cosigner{witness.cosigner(&key.verifier)})
	if err != nil || len(failed) > 0 {
		f.Fatal(err, failed)
	}
	f.Add(genuine.Note)
	f.Add(strings.Replace(genuine.Note, "\n7\n", "\n8\n", 1))
	f.Add(strings.Replace(genuine.Note, "\n7\n", "\n+7\n", 1))
	f.Add(genuine.Note[:strings.LastIndex(genuine.Note, "— ")])           // the log alone
	f.Add(strings.Join(strings.SplitAfter(genuine.Note, "\n\n")[:1], "")) // nobody
	f.Add(origin + "\n-1\n\n\n— " + origin + " AAAA\n")
	f.Add(key.vkey())
	f.Fuzz(func(t *testing.T, text string) {
		c, by, err := openCheckpoint(text, trusted)
		if err == nil && (c.Size != genuine.Size || c.Root != genuine.Root || c.Origin != origin || len(by) == 0) {
			t.Errorf("what nobody signed opened: %q", text)
		}
		if c, err := parseCheckpoint(text); err == nil && !strings.HasPrefix(text, checkpointText(c.Origin, c.Size, c.Root)) {
			t.Errorf("%q is read as %+v", text, c)
		}
		if v, err := parseVKey(text); err == nil && v.vkey() != text {
			t.Errorf("%q is read as the key %s", text, v.vkey())
		}
	})
}

// The files of checkpoints outside the database may be damaged, or written by
// somebody else: they are refused or read, and what is read is written back.
func FuzzAnyHistoryOfCheckpointsIsReadWithoutHarm(f *testing.F) {
	f.Add(`{"origin":"o","size":3,"root":"","note":"n","at":"2026-11-22T12:00:00Z"}`+"\n", `{"origin":"o","size":3,"root":"","note":"n"}`)
	f.Add("{}\n{}\nhalf", "{}")
	f.Add("null\n", "null")
	f.Add("\n\n", "")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, history, newest string) {
		for name, text := range map[string]string{historyFile: history, newestFile: newest} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b, err := openBook(dir)
		if err != nil {
			return
		}
		before, torn, err := b.history()
		if err != nil || torn != (history != "" && !strings.HasSuffix(history, "\n")) {
			t.Fatalf("%d lines, torn %v: %v", len(before), torn, err)
		}
		if err := b.append([]byte("{\"size\":9}\n")); err != nil {
			t.Fatal(err)
		}
		after, torn, err := b.history()
		if err != nil || torn || len(after) != len(before)+1 || after[len(before)].Size != 9 {
			t.Errorf("after %d lines one more made %d, torn %v: %v", len(before), len(after), torn, err)
		}
	})
}

// The witness remembers: of two trees that do not follow from each other it
// signs one.
func TestTheWitnessSignsOnlyWhatFollows(t *testing.T) {
	const origin = "foundry.audit/x"
	clock := newClock()
	key := newSigner(origin, algEd25519, make([]byte, 32), clock.now)
	cosign := newSigner(origin+"/witness", algCosignature, []byte(strings.Repeat("w", 32)), clock.now).cosigner(&key.verifier)
	for _, c := range []struct {
		name string
		size int64
		root byte
		ok   bool
	}{
		{"the first", 7, 1, true}, {"the same again", 7, 1, true}, {"another of the same size", 7, 2, false}, {"a smaller one", 6, 1, false},
		{"a larger one", 9, 3, true}, {"the one before", 7, 1, false},
	} {
		_, failed, err := signCheckpoint(origin, c.size, tlog.Hash{c.root}, key, []Cosigner{cosign})
		if err != nil || (len(failed) == 0) != c.ok {
			t.Errorf("%s: %v %v", c.name, failed, err)
		}
	}
	forger := newSigner(origin, algEd25519, []byte(strings.Repeat("f", 32)), clock.now)
	if _, failed, err := signCheckpoint(origin, 20, tlog.Hash{4}, forger, []Cosigner{cosign}); err != nil || len(failed) != 1 {
		t.Errorf("a tree that the log did not sign: %v %v", failed, err)
	}
}

// A witness on the same machine vouches for nothing by itself, and the time of
// its cosignature is signed with it (https://c2sp.org/tlog-cosignature).
func TestACheckpointNeedsTheLogAndACosignatureItsTime(t *testing.T) {
	const origin = "foundry.audit/x"
	clock := newClock()
	key := newSigner(origin, algEd25519, make([]byte, 32), clock.now)
	witness := newSigner(origin+"/witness", algCosignature, []byte(strings.Repeat("w", 32)), clock.now)
	trusted := []*verifier{&key.verifier, &witness.verifier}
	text := checkpointText(origin, 7, tlog.Hash{1})
	alone, err := note.Sign(&note.Note{Text: text}, witness)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := openCheckpoint(string(alone), trusted); err == nil {
		t.Error("a witness alone is enough")
	}
	sig, err := witness.Sign([]byte(text))
	if err != nil || !witness.Verify([]byte(text), sig) {
		t.Fatal(err)
	}
	for i := range 8 {
		later := append([]byte(nil), sig...)
		later[i] ^= 1
		if witness.Verify([]byte(text), later) {
			t.Errorf("byte %d of the time can be changed", i)
		}
	}
}

func TestTheLogsKeysAreSealedAnew(t *testing.T) {
	t.Parallel()
	d, dir := dbtest.New(t), t.TempDir()
	o := options(d, dir)
	seal, version := o.Seal, byte(1)
	o.Seal = func(plain, ad []byte) ([]byte, error) {
		out, err := seal(plain, ad)
		return append([]byte{version}, out...), err
	}
	open := o.Open
	o.Open = func(sealed, ad []byte) ([]byte, error) { return open(sealed[1:], ad) }
	l := openLog(t, o)
	appendMany(t, d, 3)
	drain(t, l)
	key := l.log.vkey()
	version = 2
	if err := l.Reseal(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{logKeyFile, witnessKeyFile} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || b[0] != 2 {
			t.Errorf("%s is as it was: %v", name, err)
		}
	}
	appendMany(t, d, 3)
	drain(t, l)
	if again := openLog(t, o); again.log.vkey() != key {
		t.Error("another key opens")
	}
}
