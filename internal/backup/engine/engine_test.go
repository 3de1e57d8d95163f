package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/problem"
)

// shell is a program that does what a test says; engines' children never are shells.
func shell(script string) engine.Child {
	return engine.Child{Path: "/bin/sh", Args: []string{"-c", script}, Dir: "/"}
}

func TestAChildIsReadLineByLine(t *testing.T) {
	var seen []string
	c := shell(`echo one; echo two >&2; printf three; exit 3`)
	c.Line = func(line string) { seen = append(seen, line) }
	out, err := c.Run(t.Context())
	if err == nil || out.Exit != 3 || string(out.Out) != "one\nthree" {
		t.Errorf("exit %d, %v, %q", out.Exit, err, out.Out)
	}
	for _, want := range []string{"one", "two", "three"} {
		if !strings.Contains(strings.Join(seen, "\n"), want) || !strings.Contains(out.Text(), want) {
			t.Errorf("%q is missing from %q or %q", want, seen, out.Text())
		}
	}
}

func TestASecretDoesNotComeOutAgain(t *testing.T) {
	c := shell(`echo "wrong password: canary-secret"; printf '\033[2Jcleared\n' >&2`)
	c.Redact = []string{"canary-secret", ""}
	out, err := c.Run(t.Context())
	if err != nil || strings.Contains(out.Text(), "canary") || !strings.Contains(out.Text(), "(redacted)") || strings.Contains(out.Text(), "\033") {
		t.Errorf("%q, %v", out.Text(), err)
	}
}

func TestAChildHasNothingOfThisEnvironment(t *testing.T) {
	t.Setenv("CANARY", "canary")
	c := shell("env")
	c.Env = []string{"MINE=1"}
	out, err := c.Run(t.Context())
	if err != nil || strings.Contains(string(out.Out), "CANARY") || !strings.Contains(string(out.Out), "MINE=1") {
		t.Errorf("%s, %v", out.Out, err)
	}
}

func TestACancelledChildGoesWithItsChildren(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	c := shell(`sleep 600 & echo $$ $! > ` + pids + `; echo begun; wait`)
	c.Line = func(string) { cancel(why) }
	began := time.Now()
	if _, err := c.Run(ctx); !errors.Is(err, why) {
		t.Errorf("got %v, want the reason", err)
	}
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("it took %v", took)
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		end := time.Now().Add(20 * time.Second)
		for running(pid) {
			if time.Now().After(end) {
				t.Fatalf("process %d still runs", pid)
			}
		}
	}
	ended, cancelled := context.WithCancel(t.Context())
	cancelled()
	if _, err := shell("exit 0").Run(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("a child that nobody wants any more is started: %v", err)
	}
}

// running reports whether a process runs: one that ended and was not waited for does not.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestTheRuntimeIsInMemoryAndForItsUserAlone(t *testing.T) {
	data := t.TempDir()
	r, err := engine.OpenRuntime("", data, true)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := r.Sub("engine", -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	path, err := sub.Write("conf", "one")
	if err != nil {
		t.Fatal(err)
	}
	if path2, err := sub.Write("conf", "two"); err != nil || path2 != path {
		t.Fatal(path2, err)
	}
	text, err := os.ReadFile(path)
	info, serr := os.Stat(path)
	if err != nil || serr != nil || string(text) != "two" || info.Mode().Perm() != 0o600 {
		t.Fatalf("%q %v, %v, %v", text, info.Mode(), err, serr)
	}
	for dir, want := range map[string]os.FileMode{r.Dir(): 0o711, sub.Dir(): 0o700} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
	}
	if entries, _ := os.ReadDir(sub.Dir()); len(entries) != 1 {
		t.Errorf("something is left beside it: %v", entries)
	}
	// A second process of the same node has one of its own, and clears nothing.
	second, err := engine.OpenRuntime("", data, true)
	if err != nil || second.Dir() == r.Dir() {
		t.Fatal("the same directory twice", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("the second cleared the first's")
	}
	if err := errors.Join(second.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.Dir()); !os.IsNotExist(err) {
		t.Error("it is still there")
	}
}

func TestWhatAKilledNodeLeftIsRemovedByTheNext(t *testing.T) {
	data := t.TempDir()
	r, err := engine.OpenRuntime("", data, true)
	if err != nil {
		t.Fatal(err)
	}
	dir := r.Dir()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	second := dir + "-SECOND"
	if err := os.Mkdir(second, 0o711); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "engine", "conf")
	if err := errors.Join(os.Mkdir(dir, 0o711), os.Mkdir(filepath.Dir(left), 0o700), os.WriteFile(left, []byte("secret"), 0o600)); err != nil {
		t.Fatal(err)
	}
	again, err := engine.OpenRuntime("", data, true)
	if err != nil || again.Dir() != dir {
		t.Fatal(again, err)
	}
	defer again.Close()
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Error("a secret is left behind")
	}
	if _, err := os.Stat(second); !os.IsNotExist(err) {
		t.Error("what a second process left is still there")
	}
}

func TestSecretsAreKeptFromDisks(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "runtime")
	_, err := engine.OpenRuntime(disk, "", true)
	if err == nil {
		t.Skip("this directory for tests is in memory")
	}
	if p := problem.From(err); p.Code != "runtime-disk" || p.Mend == "" {
		t.Errorf("got %v", err)
	}
	r, err := engine.OpenRuntime(disk, "", false)
	if err != nil || r.Warning == "" {
		t.Fatalf("development: %v, without a warning", err)
	}
	_ = r.Close()
	open := filepath.Join(t.TempDir(), "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.OpenRuntime(open, "", false); problem.From(err).Code != "runtime-owner" {
		t.Errorf("a directory of everybody: %v", err)
	}
}

func TestAChildThatStaysBehindLowersNobodyElsesPriority(t *testing.T) {
	priority := func(c engine.Child) string {
		t.Helper()
		out, err := c.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out.Out))
	}
	own := priority(shell("nice"))
	behind := shell("sh -c nice") // what it starts too
	behind.Behind = true
	for range 3 {
		if got := priority(behind); got == own && own != "19" { // there is nothing lower
			t.Errorf("its niceness is %s, that of others %s", got, own)
		}
		if got := priority(shell("nice")); got != own {
			t.Errorf("afterwards another has the niceness %s, before %s", got, own)
		}
	}
}
