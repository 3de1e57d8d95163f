//go:build faults

package faults

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup"
)

// shelf is a directory for backups.
func shelf(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(tempDir(t), "repository")
	if err := os.Mkdir(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A node that is killed while it backs up or drills leaves no engine
// running, says of the run that it was interrupted, and the next run is clean;
// what was proven before can be restored all the time.
func TestARealNodeIsKilledWhileItBacksUpAndDrills(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, shelf(t))
	g.proven()
	for _, step := range []struct {
		program, command string
		args             []string
	}{
		{"pgbackrest", "backup", []string{"backup", "run", "database", "--type", "full"}},
		{"restic", "backup", []string{"backup", "run", "files"}},
		{"pgbackrest", "restore", []string{"backup", "drill"}},
	} {
		what := strings.Join(step.args, " ")
		hold := g.hold(step.program, step.command)
		job := g.begin(step.args...)
		hold.reached()
		held, secrets := slices.Clone(g.stopped), g.runtimes()
		if len(secrets) == 0 {
			t.Fatalf("%s: no directory with secrets in memory was found", what)
		}
		g.kill()
		g.letGo() // it was told to end when the node died, and may tidy up
		job.lost(t)
		await(t, what+": the engine to die with the node", func() (bool, string) {
			return !slices.ContainsFunc(held, alive), fmt.Sprintf("%v", held)
		})
		left := filepath.Join(secrets[0], "left-by-a-killed-node")
		if err := os.WriteFile(left, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}

		g.start()
		if _, err := os.Stat(left); !os.IsNotExist(err) {
			t.Errorf("%s: what the killed node left of its secrets is still there: %s", what, left)
		}
		if now := g.runtimes(); len(now) != 1 {
			t.Errorf("%s: directories for secrets: %v", what, now)
		}
		await(t, what+": the run to be called interrupted", func() (bool, string) {
			r := g.last(step.args[1])
			return r.State == backup.Interrupted && r.Reason != "" && r.Mend != "", fmt.Sprintf("%+v", r)
		})
		await(t, what+": the next run to be clean", func() (bool, string) {
			s := g.run(step.args...)
			return s.code == 0, fmt.Sprintf("exit code %d: %s%s", s.code, s.out, s.err)
		})
		await(t, what+": restored copies to be removed", func() (bool, string) {
			copies, _ := filepath.Glob(filepath.Join(g.data(), "scratch", "*copy-*"))
			return len(copies) == 0, fmt.Sprint(copies)
		})
	}
	g.say("backup", "verify")
	g.passes("after all kills")
}

// alive reports whether a process runs.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

// runtimes are the directories in memory that name this node's repository.
func (g *guarded) runtimes() (out []string) {
	for _, root := range []string{"/run", "/dev/shm"} {
		confs, _ := filepath.Glob(filepath.Join(root, "foundry-*", "pgbackrest", "*.conf"))
		for _, c := range confs {
			if text, err := os.ReadFile(c); err == nil && bytes.Contains(text, []byte(g.target)) {
				out = append(out, filepath.Dir(filepath.Dir(c)))
			}
		}
	}
	return out
}

// last is the youngest run of a command.
func (g *guarded) last(command string) (last backup.Run) {
	g.t.Helper()
	out := g.run("backup", "list", "--runs", "--json")
	var jobs []backup.Job
	if err := json.Unmarshal([]byte(out.out), &jobs); err != nil {
		return backup.Run{Reason: out.err}
	}
	for _, j := range jobs {
		for _, r := range j.Runs {
			if (string(r.Kind) == command || command == "run" && r.Kind == backup.KindBackup) && !r.Scheduled && r.Started.After(last.Started) {
				last = r
			}
		}
	}
	return last
}

// liars put a program in the place of pgBackRest that exits 0 and does nothing
// for the commands that are named in a file, and is honest otherwise.
func liars(t *testing.T) (env string, lie func(commands string)) {
	t.Helper()
	honest, err := exec.LookPath("pgbackrest")
	if err != nil {
		t.Skip("pgbackrest is not installed")
	}
	dir := tempDir(t)
	list := filepath.Join(dir, "lies")
	script := fmt.Sprintf("#!/bin/sh\nfor lie in $(cat %s); do for word; do [ \"$word\" = \"$lie\" ] && exit 0; done; done\nexec %s \"$@\"\n", list, honest)
	lie = func(commands string) {
		if err := os.WriteFile(list, []byte(commands), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lie("")
	if err := os.WriteFile(filepath.Join(dir, "pgbackrest"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return "PATH=" + dir + ":" + os.Getenv("PATH"), lie
}

// An engine that exits 0 and did nothing convinces nobody, whatever it was
// asked for; and what was made before it lied can be restored when it is
// honest again.
func TestAnEngineOfARealNodeThatLiesIsNeverGreen(t *testing.T) {
	t.Parallel()
	env, lie := liars(t)
	g := newGuarded(t, shelf(t))
	g.env = []string{env}
	g.proven()

	lie("backup")
	g.fails("engine-", "backup", "run", "database", "--type", "full")
	lie("restore")
	g.notGreen("nothing was restored", backup.Fail, backup.Inconclusive)
	lie("")
	g.passes("honest again")

	// Segments are reported to be archived and are not.
	lie("archive-push")
	g.say("org", "create", unique("unarchived"))
	g.caughtUp("while it lies about the archive")
	lie("")
	g.say("org", "create", unique("archived"))
	g.caughtUp("honest about the archive")
	g.notGreen("the log has a hole", backup.Fail)
	g.say("backup", "run", "database", "--type", "full")
	g.passes("a full backup behind the hole")
}

// A recovery that is killed again and again ends where one ends that was not,
// and opens for nobody who has too few shares, a mistyped one or a damaged kit.
func TestARecoveryOfARealNodeIsKilledAndGoesOn(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, shelf(t))
	g.proven()
	shares := filepath.Join(g.dir, "shares")
	g.say("breakglass", "create", "--reason", "for the test of recovery", "--out", shares)
	survivor := unique("survivor")
	g.say("org", "create", survivor)
	g.say("backup", "run")
	kits, _ := filepath.Glob(filepath.Join(g.target, "foundry-kit-*.age"))
	if len(kits) != 1 {
		t.Fatalf("kits at the target: %v", kits)
	}
	one, two := filepath.Join(shares, "share-1.txt"), filepath.Join(shares, "share-2.txt")
	given := []string{"recover", "--kit", kits[0], "--share", one, "--share", two}

	if s := g.run(given...); s.code == 0 {
		t.Error("it recovered over a running node")
	}
	g.kill()
	if s := g.run(given...); s.code == 0 {
		t.Error("it recovered over the data of a node")
	}
	if err := os.Rename(g.data(), g.data()+".lost"); err != nil {
		t.Fatal(err)
	}
	damaged, mistyped := filepath.Join(g.dir, "damaged.age"), filepath.Join(g.dir, "mistyped")
	body, err := os.ReadFile(kits[0])
	text, terr := os.ReadFile(one)
	if err := errors.Join(err, terr); err != nil {
		t.Fatal(err)
	}
	body[len(body)-100] ^= 1
	wrong := regexp.MustCompile(`(?m)^FOUNDRY-SHARE.*$`).ReplaceAll(regexp.MustCompile(` 1\. [a-z]+`).ReplaceAll(text, []byte(" 1. abandn")), nil)
	if err := errors.Join(os.WriteFile(damaged, body, 0o600), os.WriteFile(mistyped, wrong, 0o600)); err != nil {
		t.Fatal(err)
	}
	for what, args := range map[string][]string{
		"too few shares":   {"recover", "--kit", kits[0], "--share", one},
		"a share twice":    {"recover", "--kit", kits[0], "--share", one, "--share", one},
		"a share mistyped": {"recover", "--kit", kits[0], "--share", mistyped, "--share", two},
		"a damaged kit":    {"recover", "--kit", damaged, "--share", one, "--share", two},
		"no kit":           {"recover", "--kit", two, "--share", one, "--share", two},
	} {
		s := g.run(args...)
		if s.code == 0 || strings.Contains(s.err, "panic") || len(s.err) < 40 {
			t.Errorf("%s: exit code %d: %s%s", what, s.code, s.out, s.err)
		}
		t.Logf("%s: %d: %s", what, s.code, s.err)
		if _, err := os.Stat(g.data()); !os.IsNotExist(err) {
			t.Fatalf("%s: the data directory was begun", what)
		}
	}

	// Killed ever later, until it comes to its end.
	kills := 0
	for after := 200 * time.Millisecond; ; after = after*3/2 + rand.N(after) {
		b := g.begin(given...)
		select {
		case s := <-b.done:
			if s.code != 0 || !strings.Contains(s.out, "proof: pass") {
				t.Fatalf("after %d kills: exit code %d: %s%s", kills, s.code, s.out, s.err)
			}
		case <-time.After(after):
			_ = b.cmd.Process.Kill()
			<-b.done
			kills++
			continue
		}
		break
	}
	t.Logf("recovered after %d kills", kills)
	if kills == 0 {
		t.Error("it was never killed: this test did not test")
	}
	g.config = filepath.Join(g.data(), "foundry.yaml")
	g.say("recover", "--activate")
	g.start()
	if list := g.say("org", "list"); !strings.Contains(list, survivor) {
		t.Errorf("%s is not among what was recovered: %s", survivor, list)
	}
	g.say("backup", "run", "--type", "full")
	g.passes("a backup of the recovered node")
}
