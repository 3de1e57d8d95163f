package keys

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
)

func TestARewrapPutsANewKeyInForceAndKeepsWhatIsSealed(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	orgs := []uuid.UUID{uuid.New(), uuid.New()}
	for _, org := range orgs {
		w.note(w.vault, org, "ward", "1", "text")
	}
	filed, err := w.vault.o.Keyring.Seal([]byte("segment"), nil)
	if err != nil {
		t.Fatal(err)
	}
	old := w.vault.keks.Current().fingerprint
	other := w.newVault(nil) // a node of the same machine, with its cache warm
	w.reads(other, orgs[0], "ward", "1", "text")
	r, err := w.vault.Rewrap(ctx, tester, true)
	if err != nil {
		t.Fatal(err)
	}
	if r.KEK == old || r.Keysets != 2 || r.Files != 2 || r.Retired != filepath.Join(w.dir, "kek.retired-"+old) {
		t.Fatalf("%+v", r)
	}
	if err := os.Remove(r.Retired); err != nil { // to escrow
		t.Fatal(err)
	}
	v := w.newVault(nil)
	for _, org := range orgs {
		w.reads(v, org, "ward", "1", "text")
		w.reads(other, org, "ward", "1", "text")
	}
	if got, err := v.o.Keyring.Open(filed, nil); err != nil || string(got) != "segment" {
		t.Errorf("%q, %v", got, err)
	}
	// What the retired key had wrapped opens with it no more.
	if len(v.keks.list()) != 1 {
		t.Errorf("%d keys are known", len(v.keks.list()))
	}
	if again, err := v.Rewrap(ctx, tester, false); err != nil || again.Keysets+again.Files != 0 {
		t.Errorf("there was something left: %+v, %v", again, err)
	}
}

// Changing to a key of another place: both are given, then the old one goes.
func TestARewrapMovesToAKeyOfAnotherProvider(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	org := uuid.New()
	w.note(w.vault, org, "ward", "1", "text")
	elsewhere := filepath.Join(keyDir(t), "kek")
	write(t, elsewhere, kekText())
	_, err := Open(Options{Dir: w.dir, Provider: File(elsewhere)})
	wantCode(t, err, "kek-wrong")
	o := Options{Dir: w.dir, Provider: File(elsewhere), Previous: []Provider{File(filepath.Join(w.dir, "kek"))}}
	v := w.vaultOf(open(t, o), nil)
	w.reads(v, org, "ward", "1", "text")
	s, err := v.Status(ctx)
	if err != nil || len(s.Warnings) != 1 || len(s.KEK.Older) != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	if r, err := v.Rewrap(ctx, tester, false); err != nil || r.Keysets != 1 || r.Files != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	v = w.vaultOf(open(t, Options{Dir: w.dir, Provider: File(elsewhere)}), nil)
	w.reads(v, org, "ward", "1", "text")
}

// Killed at any step, everything opens at the next start, and the rewrap can
// be run again to its end.
func TestARewrapThatIsKilledLeavesEverythingReadable(t *testing.T) {
	for _, step := range []string{"rewrap:next", "rewrap:" + aeadFile, "rewrap:" + prfFile, "rewrap:row", "rewrap:rows", "rewrap:promoted"} {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			orgs := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
			for _, org := range orgs {
				w.note(w.vault, org, "ward", "1", "text")
			}
			filed, err := w.vault.o.Keyring.Seal([]byte("segment"), nil)
			if err != nil {
				t.Fatal(err)
			}
			w.killAt("rewrap", step, uuid.Nil)
			check := func(when string) {
				t.Helper()
				v := w.newVault(nil)
				for _, org := range orgs {
					w.reads(v, org, "ward", "1", "text")
				}
				if got, err := v.o.Keyring.Open(filed, nil); err != nil || string(got) != "segment" {
					t.Errorf("%s: %q, %v", when, got, err)
				}
			}
			check("after the kill")
			v := w.newVault(nil)
			if _, err := v.Rewrap(t.Context(), tester, step != "rewrap:promoted"); err != nil {
				t.Fatal(err)
			}
			retired, _ := filepath.Glob(filepath.Join(w.dir, "kek.retired-*"))
			for _, path := range retired {
				_ = os.Remove(path)
			}
			if len(retired) != 1 || exists(filepath.Join(w.dir, "kek.next")) {
				t.Errorf("%d retired keys, want 1; a next one: %v", len(retired), exists(filepath.Join(w.dir, "kek.next")))
			}
			check("after going on, with the old key gone")
		})
	}
}
