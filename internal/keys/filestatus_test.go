package keys

import (
	"strings"
	"testing"
	"time"
)

// What a rotation does not reach stands in the status, with the day on which
// it will have gone.
func TestTheStatusSaysUntilWhenOlderKeysAreNeeded(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	before, err := w.vault.Status(ctx)
	if err != nil || before.Files.RotatedAt != nil || before.Files.OlderUntil != nil || len(before.Files.Keys) != 1 {
		t.Fatalf("%+v %v", before.Files, err)
	}
	if _, err := w.vault.RotateFiles(ctx, tester); err != nil {
		t.Fatal(err)
	}
	for _, v := range []*Vault{w.vault, w.newVault(nil)} { // also after a restart
		s, err := v.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		f := s.Files
		if f.RotatedAt == nil || time.Since(*f.RotatedAt) > time.Hour || f.OlderUntil == nil || f.OlderUntil.Sub(*f.RotatedAt) != 7*24*time.Hour || len(f.Keys) != 2 {
			t.Fatalf("%+v", f)
		}
		for _, said := range []string{f.OlderUntil.UTC().Format(time.DateOnly), "until they are shipped", "PRF keyset", "never rotated", "set aside"} {
			if !strings.Contains(f.Note, said) {
				t.Errorf("the note does not say %q: %s", said, f.Note)
			}
		}
	}
}
