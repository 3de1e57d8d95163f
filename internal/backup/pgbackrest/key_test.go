package pgbackrest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/problem"
)

// pgBackRest has the same words for a wrong passphrase and for a damaged file.
// What else of the repository opens tells them apart; where nothing does, both
// are said.
func TestDamageIsToldFromAWrongPassphrase(t *testing.T) {
	t.Parallel()
	n, at := one(t)
	n.write(t, "a mark")
	p := n.backup(t, at, engine.Full)
	repository := filepath.Join(at.Path, "pgbackrest")
	both := func(path string) []string {
		return []string{filepath.Join(repository, path), filepath.Join(repository, path+".copy")}
	}
	lists, archive := both("backup/foundry/backup.info"), both("archive/foundry/archive.info")
	manifests := both("backup/foundry/" + p.Label + "/backup.manifest")
	points := func() error { _, err := n.engine.Points(t.Context(), at); return err }
	restore := func() error {
		_, err := n.engine.Restore(t.Context(), at, engine.RestoreRequest{Label: p.Label, To: place(t)}, nil)
		return err
	}
	for _, c := range []struct {
		name  string
		files []string
		every int // so many bytes one is changed
		do    func() error
		code  string
		says  []string
	}{
		{"the list of backups", lists, 100, points, "repository-damaged", []string{"passphrase is right", "backup.info"}},
		{"the manifest", manifests, 100, restore, "repository-damaged", []string{"damaged"}},
		{"everything that the passphrase opens", append(lists[:2:2], archive...), 1, points, "repository-key", []string{"Either", "damaged"}},
	} {
		for _, path := range c.files {
			turn(t, path, c.every)
		}
		err := problem.From(c.do())
		if err.Code != c.code || err.Mend == "" {
			t.Errorf("%s: got %v, want %s", c.name, err, c.code)
		}
		for _, words := range c.says {
			if !strings.Contains(err.Detail, words) {
				t.Errorf("%s: %q is not in %q", c.name, words, err.Detail)
			}
		}
		for _, path := range c.files {
			turn(t, path, c.every)
		}
	}
	if err := restore(); err != nil {
		t.Errorf("with all damage undone: %v", err)
	}
}

// turn changes bytes of a file, one of so many, and changes them back. A single
// one might stand where nothing looks.
func turn(t *testing.T, path string, every int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 20; i < len(text); i += every {
		text[i] ^= 0x10
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0) // in place: owner and mode stay
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		t.Fatal(err)
	}
}
