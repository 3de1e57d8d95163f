package db_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

// TestDiagnosis reads golden files: what a server wrote, a line of dashes, and
// what people are told.
func TestDiagnosis(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/diagnosis/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			wrote, want, ok := strings.Cut(string(text), "----------\n")
			if !ok {
				t.Fatal("no line of dashes")
			}
			p := problem.From(db.Diagnose("/var/lib/foundry/postgres", "starting", wrote, errors.New("exit status 1")))
			got := p.Code + "\n" + p.Error() + "\n"
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(file, []byte(wrote+"----------\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func FuzzDiagnosis(f *testing.F) {
	files, _ := filepath.Glob("testdata/diagnosis/*.txt")
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil {
			f.Add(string(text))
		}
	}
	f.Fuzz(func(t *testing.T, wrote string) {
		p := problem.From(db.Diagnose("/d", "starting", wrote, nil))
		if p.Code == "" || p.Detail == "" || p.Mend == "" {
			t.Errorf("%q: incomplete: %+v", wrote, p)
		}
		if strings.Contains(p.Detail, "\n") {
			t.Errorf("%q: not one sentence: %q", wrote, p.Detail)
		}
	})
}

func TestOnlyTheRecentPartOfALogIsRead(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 11, 22, 18, 0, 0, 500e6, time.UTC)
	log := "2026-11-22 17:59:59.999 UTC [1] FATAL:  of the last start\n" +
		"continued\n" +
		"2026-11-22 18:00:00.500 UTC [2] LOG:  starting\n" +
		"2026-11-22 18:00:00.900 UTC [2] FATAL:  of this start\n"
	if got := string(db.Recent([]byte(log), since)); strings.Contains(got, "last start") || !strings.Contains(got, "of this start") || strings.Count(got, "\n") != 2 {
		t.Errorf("kept %q", got)
	}
}

func FuzzPidFile(f *testing.F) {
	f.Add("4711\n/var/lib/foundry/postgres/data\n1763834358\n5432\n/run\n\n  12345\nready   \n")
	f.Add("")
	f.Add("-1\n")
	f.Add("99999999999999999999\n")
	f.Fuzz(func(t *testing.T, text string) {
		// A process id of 0 or below would signal whole groups of processes.
		if p, err := db.ParsePidFile(text); err == nil && db.PID(p) <= 0 {
			t.Errorf("%q gives process %d", text, db.PID(p))
		}
	})
}

func TestWhatInitdbSaysOfChecksumsIsNoDamage(t *testing.T) {
	wrote := "The database cluster will be initialized with locale \"C.UTF-8\".\n\nData page checksums are enabled.\n\ninitdb: error: could not change permissions of directory \"/d/data.new\": No such file or directory\n"
	if p := problem.From(db.Diagnose("/d", "initdb", wrote, nil)); p.Code == "cluster-damaged" {
		t.Errorf("%s: %s", p.Code, p.Detail)
	}
}
