package pgbackrest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

// replay asks for segments as PostgreSQL does: by a shell, in the data
// directory, into a file that is then given the segment's name.
type replay struct {
	t       *testing.T
	command string
	data    string
	calls   string
}

// newReplay has a program in the place of pgBackRest that notes that it was
// asked, and does what is in the file of the segment's name in archive.
func newReplay(t *testing.T) (r *replay, archive string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "it's 100% here")
	r = &replay{t: t, data: filepath.Join(dir, "data"), calls: filepath.Join(dir, "calls")}
	side, archive := r.data+"-pgbackrest", filepath.Join(dir, "archive")
	for _, d := range []string{filepath.Join(r.data, "pg_wal"), filepath.Join(side, lastName), archive} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "pgbackrest")
	script := "#!/bin/sh\nwhile [ $# -gt 2 ]; do shift; done\necho \"$1\" >> " + strings.ReplaceAll(shellQuote(r.calls), "%%", "%") +
		"\n. " + strings.ReplaceAll(shellQuote(archive+"/"), "%%", "%") + "\"$1\"\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	e := &Engine{o: Options{Program: program}}
	r.command = e.restoreCommand(conf{path: filepath.Join(dir, "conf")}, r.data, side)
	return r, archive
}

// get asks for a segment, and returns what it holds and the exit status.
func (r *replay) get(segment string) (body string, status int) {
	r.t.Helper()
	const into = "pg_wal/RECOVERYXLOG"
	text := strings.NewReplacer("%%", "%", "%f", segment, "%p", into).Replace(r.command)
	cmd := exec.Command("/bin/sh", "-c", text)
	cmd.Dir = r.data
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(out), exit.ExitCode()
	} else if err != nil {
		r.t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(r.data, into))
	if err != nil {
		r.t.Fatalf("success, and no file: %v", err)
	}
	if err := os.Rename(filepath.Join(r.data, into), filepath.Join(r.data, "pg_wal", segment)); err != nil {
		r.t.Fatal(err)
	}
	return string(got), 0
}

func (r *replay) asked() string {
	text, _ := os.ReadFile(r.calls)
	return strings.Join(strings.Fields(string(text)), " ")
}

func TestTheLastSegmentOfAReplayIsFetchedOnce(t *testing.T) {
	r, archive := newReplay(t)
	put := func(name, does string) {
		if err := os.WriteFile(filepath.Join(archive, name), []byte(does), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const one, two, three = "000000010000000000000001", "000000010000000000000002", "000000010000000000000003"
	put(one, `printf first > "$2"`)
	put(two, `printf second > "$2"`)
	put(three, `exit 1`)
	for _, want := range []struct {
		segment, body string
		status        int
		asked         string // pgBackRest, so far
	}{
		{one, "first", 0, one},
		{two, "second", 0, one + " " + two},
		{three, "", 1, one + " " + two + " " + three},
		{two, "second", 0, one + " " + two + " " + three}, // as at the end of the log
		{three, "", 1, one + " " + two + " " + three + " " + three},
		{two, "second", 0, one + " " + two + " " + three + " " + three},
		{one, "first", 0, one + " " + two + " " + three + " " + three + " " + one}, // only the last is kept
	} {
		body, status := r.get(want.segment)
		if status != want.status || status == 0 && body != want.body || r.asked() != want.asked {
			t.Fatalf("%s: status %d, %q; asked for %s; want %+v", want.segment, status, body, r.asked(), want)
		}
	}
	kept, err := os.ReadDir(filepath.Join(r.data+"-pgbackrest", lastName))
	if err != nil || len(kept) != 2 {
		t.Errorf("beside a segment and its name are kept: %v, %v", kept, err)
	}
}

// What a replay is told decides between the end of the log and an error: every
// status has to come through.
func TestAFailureOfTheEngineReachesTheReplay(t *testing.T) {
	r, archive := newReplay(t)
	const segment = "000000010000000000000001"
	for does, want := range map[string]int{"exit 1": 1, "exit 42": 42, "exit 126": 126, "kill -TERM $$": 128 + 15, `printf half > "$2"; exit 25`: 25} {
		if err := os.WriteFile(filepath.Join(archive, segment), []byte(does), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, status := r.get(segment); status != want {
			t.Errorf("%s: status %d", does, status)
		}
	}
	if err := os.WriteFile(filepath.Join(archive, segment), []byte(`printf whole > "$2"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if body, status := r.get(segment); body != "whole" || status != 0 {
		t.Errorf("then %q, %d: what failed was kept", body, status)
	}
}

// A server that was opened writes its own log into the files of segments that
// it no longer needs: the one that is kept may be such.
func TestARestoreForgetsTheSegmentOfAnEarlierReplay(t *testing.T) {
	dir := dbtest.Dir(t)
	to := filepath.Join(dir, "data")
	side := to + "-pgbackrest"
	account, err := db.FindAccount("")
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{o: Options{Account: account}}
	if _, err := e.restoreInto(to, side, points("F0")[0]); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(side, lastName, "name")
	if err := os.WriteFile(stale, []byte("overwritten"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := e.restoreInto(to, side, points("F0")[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(side, lastName)); err != nil {
		t.Error(err)
	}
}
