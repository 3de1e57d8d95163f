//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/engine/enginetest"
)

// guarded is a node with a target for its backups, and what it has of engines.
type guarded struct {
	*node
	t       *testing.T
	target  string
	sources string // directory that is backed up with the node's own
	stopped []int  // engines that a test holds
}

// newGuarded prepares a node that backs up to a directory.
func newGuarded(t *testing.T, target string) *guarded {
	t.Helper()
	for _, program := range []string{"pgbackrest", "restic"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed")
		}
	}
	sources := filepath.Join(tempDir(t), "sources")
	if err := os.Mkdir(sources, 0o700); err != nil {
		t.Fatal(err)
	}
	g := &guarded{t: t, target: target, sources: sources,
		node: newNode(t, fmt.Sprintf("mail: {alarms: [ops@example.eu]}\nbackup: {archive_timeout: 1s, files: [%q], targets: [{name: shelf, kind: directory, path: %q}]}\n", sources, target))}
	t.Cleanup(func() { signalAll(g.stopped, syscall.SIGKILL) })
	return g
}

// await is eventually for what engines do, which takes its time on a busy
// machine.
func await(t *testing.T, what string, done func() (bool, string)) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		ok, state := done()
		if ok {
			return time.Since(began)
		}
		if time.Since(began) > 3*patience {
			t.Fatalf("waiting for %s: %s", what, state)
		}
		pass(20 * glance)
	}
}

// proven starts the node, waits until it has made its first backup and drilled
// it by itself, and proves a restore. What it drilled itself may be inconclusive:
// a node that has just begun has nothing sealed that a copy's keys could open.
func (g *guarded) proven() {
	g.t.Helper()
	if g.cmd == nil {
		g.start()
	}
	g.say("org", "create", unique("sealed"))
	await(g.t, "the first backups to be drilled", func() (bool, string) {
		var drills []backup.Drill
		s, _ := g.status()
		list := g.run("backup", "list", "--drills", "--json")
		ok := json.Unmarshal([]byte(list.out), &drills) == nil && len(drills) >= 2 && len(s.Running) == 0 // of the database and of the files
		return ok, fmt.Sprintf("%d drills, %+v", len(drills), s.Problems)
	})
	g.say("backup", "drill")
	g.green("can-I-restore to be yes")
}

func (g *guarded) green(what string) time.Duration {
	g.t.Helper()
	return await(g.t, what, func() (bool, string) {
		s, code := g.status()
		ok := code == 0 && s.CanRestore.Outcome == backup.Pass && len(s.Running) == 0
		return ok, fmt.Sprintf("exit code %d, %+v, %+v", code, s.CanRestore, s.Problems)
	})
}

// status is what `foundry backup status` says and how it exits.
func (g *guarded) status() (s backup.Status, code int) {
	g.t.Helper()
	out := g.run("backup", "status", "--json")
	if err := json.Unmarshal([]byte(out.out), &s); err != nil {
		g.t.Fatalf("%v: %+v", err, out)
	}
	return s, out.code
}

// drill restores, and returns the record and how the command exits.
func (g *guarded) drill(args ...string) (d backup.Drill, s said) {
	g.t.Helper()
	s = g.run(append([]string{"backup", "drill", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(s.out), &d); err != nil {
		g.t.Fatalf("a drill: %v: %+v", err, s)
	}
	if want := map[backup.Outcome]int{backup.Pass: 0, backup.Fail: 1, backup.Inconclusive: 3}[d.Outcome]; s.code != want {
		g.t.Errorf("a drill with outcome %q exits with %d", d.Outcome, s.code)
	}
	return d, s
}

// notGreen drills what must not pass, and checks that nothing says it could be
// restored.
func (g *guarded) notGreen(what string, allowed ...backup.Outcome) {
	g.t.Helper()
	d, s := g.drill()
	if !slices.Contains(allowed, d.Outcome) || d.Reason == "" || s.code == 0 {
		g.t.Errorf("%s: the drill's outcome is %q (exit code %d): %s", what, d.Outcome, s.code, d.Reason)
	}
	g.t.Logf("%s: %s: %s", what, d.Outcome, d.Reason)
	st, code := g.status()
	if code == 0 || st.CanRestore.Outcome == backup.Pass || st.CanRestore.Next == "" {
		g.t.Errorf("%s: status exits with %d: %+v", what, code, st.CanRestore)
	}
	if !slices.ContainsFunc(st.Problems, func(p backup.Problem) bool { return p.Code == "backup-unproven" && p.Mend != "" }) {
		g.t.Errorf("%s: it is not among the problems: %+v", what, st.Problems)
	}
}

// passes drills what must pass.
func (g *guarded) passes(what string) {
	g.t.Helper()
	if d, s := g.drill(); d.Outcome != backup.Pass {
		g.t.Errorf("%s: the drill's outcome is %q (%s): %s", what, d.Outcome, s.err, d.Reason)
	}
}

// fails runs a command that must fail with a code, and say what to do next.
func (g *guarded) fails(code string, args ...string) backup.Job {
	g.t.Helper()
	s := g.run(append(args, "--json")...)
	var j backup.Job
	if err := json.Unmarshal([]byte(s.out), &j); err != nil || s.code == 0 || len(j.Runs) == 0 {
		g.t.Fatalf("foundry %s: exit code %d, %v: %s%s", strings.Join(args, " "), s.code, err, s.out, s.err)
	}
	g.failed(code, j)
	return j
}

func (g *guarded) failed(code string, j backup.Job) {
	g.t.Helper()
	bad := slices.IndexFunc(j.Runs, func(r backup.Run) bool { return r.State != backup.Done })
	if bad < 0 {
		g.t.Errorf("nothing of it failed: %+v", j.Runs)
		return
	}
	r := j.Runs[bad]
	if !strings.HasPrefix(r.Code, code) || r.Reason == "" || r.Mend == "" {
		g.t.Errorf("failed with %q, want %q: %s Next: %s", r.Code, code, r.Reason, r.Mend)
	}
	g.t.Logf("%s: %s Next: %s", r.Code, r.Reason, r.Mend)
}

// files finds files of the repository of the database.
func (g *guarded) files(pattern string) []string {
	g.t.Helper()
	all, err := filepath.Glob(filepath.Join(g.target, "pgbackrest", pattern))
	if err != nil || len(all) == 0 {
		g.t.Fatalf("nothing is at %s: %v", pattern, err)
	}
	return all
}

// flip changes a byte in the middle of files, and returns how to undo it.
func flip(t *testing.T, paths ...string) (mend func()) {
	t.Helper()
	turn := func() {
		for _, path := range paths {
			body, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			body[len(body)/2] ^= 0x10
			f, err := os.OpenFile(path, os.O_WRONLY, 0) // in place: owner and mode stay
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(body, 0); err != nil {
				t.Fatal(err)
			}
			_ = f.Close()
		}
	}
	turn()
	return turn
}

// newestFull is the directory of the youngest full backup: its name begins with
// the time.
func newestFull(t *testing.T, root string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "*", "2*F"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no full backup below %s: %v", root, err)
	}
	return slices.Max(found)
}

func largest(t *testing.T, root string) (path string) {
	t.Helper()
	var most int64
	err := filepath.Walk(root, func(p string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && info.Size() > most {
			path, most = p, info.Size()
		}
		return err
	})
	if err != nil || path == "" {
		t.Fatalf("no file below %s: %v", root, err)
	}
	return path
}

// What is damaged at the target is never called restorable, and is again once
// the damage is undone: no drill, check or expiry took the good backup away.
func TestDamageAtTheTargetOfARealNodeIsNeverGreen(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, filepath.Join(tempDir(t), "repository"))
	if err := os.Mkdir(g.target, 0o711); err != nil {
		t.Fatal(err)
	}
	g.proven()

	label := filepath.Dir(g.files("backup/*/2*F/backup.manifest")[0])
	mend := flip(t, largest(t, filepath.Join(label, "pg_data")))
	g.notGreen("a byte of the repository is flipped", backup.Fail)
	g.fails("", "backup", "verify")
	mend()

	mend = flip(t, g.files("backup/*/2*F/backup.manifest*")...)
	g.notGreen("a byte of the manifest is flipped", backup.Fail, backup.Inconclusive)
	mend()

	mend = flip(t, g.files("backup/*/backup.info*")...)
	g.notGreen("a byte of the list of backups is flipped", backup.Fail, backup.Inconclusive)
	mend()

	// A segment behind the backup: what was written since hangs on it.
	segments := g.files("archive/*/*/*/*.zst")
	segment := segments[len(segments)-2]
	away := filepath.Join(filepath.Dir(g.target), filepath.Base(segment))
	if err := os.Rename(segment, away); err != nil {
		t.Fatal(err)
	}
	g.notGreen("a segment of the log is removed", backup.Fail)
	name := filepath.Base(segment)[:24]
	if j := g.fails("", "backup", "verify"); !strings.Contains(fmt.Sprint(j.Runs), name) {
		t.Errorf("verify does not name %s: %+v", name, j.Runs)
	}
	if err := os.Rename(away, segment); err != nil {
		t.Fatal(err)
	}
	g.say("backup", "verify")
	g.passes("with all damage undone")
	g.green("can-I-restore to be yes again")
}

// A target that is full, read-only or gone takes nothing with it: the log waits, people see by how much, and all
// goes on by itself when the target is back.
func TestATargetOfARealNodeFailsAndComesBack(t *testing.T) {
	t.Parallel()
	mount := disk(t, "400m")
	g := newGuarded(t, filepath.Join(mount, "repository"))
	if err := os.Mkdir(g.target, 0o711); err != nil {
		t.Fatal(err)
	}
	g.proven()

	var restore func()
	for _, fault := range []struct {
		name, code string
		cause      func() (undo func())
	}{
		{"gone", "target-gone", func() func() {
			return move(t, g.target, g.target+".away")
		}},
		{"read-only", "target-", func() func() {
			remount := func(flags uintptr) {
				if err := unix.Mount("", mount, "", unix.MS_REMOUNT|flags, "size=400m"); err != nil {
					t.Fatal(err)
				}
			}
			remount(unix.MS_RDONLY)
			return func() { remount(0) }
		}},
		{"full", "target-full", func() func() { return fill(t, mount) }},
	} {
		restore = fault.cause()
		g.fails(fault.code, "backup", "run", "database")
		g.suffers(fault.name)
		restore()
		t.Logf("%s: green %s after it was back", fault.name, g.caughtUp(fault.name).Round(time.Millisecond))
	}

	g.say("backup", "verify")
	g.passes("after all of it")
}

func move(t *testing.T, from, to string) (back func()) {
	t.Helper()
	rename := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	rename(from, to)
	return func() { rename(to, from) }
}

// suffers waits until the node says that the target fails, and by how much its
// log is behind. That archiving fails it says after some patience of its own.
func (g *guarded) suffers(what string) {
	g.t.Helper()
	await(g.t, what+": the failing archive to be shown", func() (bool, string) {
		s, _ := g.status()
		listed := slices.ContainsFunc(s.Problems, func(p backup.Problem) bool {
			return (p.Code == "backup-target-failing" || p.Code == "backup-backup-failed") && p.Mend != "" && p.Severity == "critical"
		})
		ok := listed && s.WALLagBytes > 0
		return ok, fmt.Sprintf("lag %d bytes, %.0f s, %+v", s.WALLagBytes, s.WALLagSeconds, s.Problems)
	})
}

// caughtUp waits until everything that was written by now is archived.
func (g *guarded) caughtUp(what string) time.Duration {
	g.t.Helper()
	back := time.Now()
	return await(g.t, what+": the log to be archived again", func() (bool, string) {
		s, code := g.status()
		ok := code == 0 && !slices.ContainsFunc(s.Problems, func(p backup.Problem) bool { return p.Code == "backup-target-failing" }) &&
			s.WALLagSeconds < time.Since(back).Seconds()
		return ok, fmt.Sprintf("exit code %d, lag %.0f s, %+v %+v", code, s.WALLagSeconds, s.CanRestore, s.Problems)
	})
}

// descendants are the processes below one, whoever they run as.
func descendants(of int) (out []int) {
	parent := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, _ := os.ReadFile(path)
		_, rest, ok := strings.Cut(string(text), ") ")
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if fields := strings.Fields(rest); ok && len(fields) > 1 {
			parent[pid], _ = strconv.Atoi(fields[1])
		}
	}
	for pid := range parent {
		for at := pid; at > 1; at = parent[at] {
			if parent[at] == of {
				out = append(out, pid)
				break
			}
		}
	}
	return out
}

// engines are the node's children that run a command of an engine.
func (g *guarded) engines(program, command string) (out []int) {
	for _, pid := range descendants(g.cmd.Process.Pid) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		words := strings.Split(string(text), "\x00")
		if filepath.Base(words[0]) == program && slices.Contains(words, command) {
			out = append(out, pid)
		}
	}
	return out
}

// hold is a place in the work of an engine at which a test stops it.
type hold struct {
	g                *guarded
	program, command string
	at               *enginetest.Held
	planted          string // file that stands there for that alone
}

// hold chooses where the next run of a command is to be stopped: a backup
// where it reads what is to be backed up, a restore where it reads the
// repository.
func (g *guarded) hold(program, command string) *hold {
	g.t.Helper()
	h := &hold{g: g, program: program, command: command}
	path := ""
	switch {
	case command == "restore":
		path = largest(g.t, newestFull(g.t, filepath.Join(g.target, program, "backup")))
	case program == "restic": // the node reads this one, to list what it backs up
		h.planted = filepath.Join(g.sources, unique("listed"))
	default: // pgBackRest takes along whatever is in the directory of the database
		h.planted = filepath.Join(g.data(), "postgres", "data", unique("planted"))
	}
	if h.planted != "" {
		path = h.planted
		if err := os.WriteFile(path, []byte("planted"), 0o644); err != nil {
			g.t.Fatal(err)
		}
	}
	h.at = enginetest.Hold(g.t, path)
	return h
}

// reached waits until the engine is there, and stops it.
func (h *hold) reached() {
	h.g.t.Helper()
	h.at.Reached()
	if h.program == "restic" && h.command == "backup" {
		// The node has read the directory and stands at the first file of it: a
		// second one is for restic alone.
		path := filepath.Join(h.g.sources, unique("planted"))
		if err := os.WriteFile(path, []byte("planted"), 0o644); err != nil {
			h.g.t.Fatal(err)
		}
		listed := h.at
		h.at = enginetest.Hold(h.g.t, path)
		listed.Release() // the file stays: it is in the list
		h.planted = path
		h.at.Reached()
	}
	pids := h.g.engines(h.program, h.command)
	if len(pids) == 0 {
		h.g.t.Fatalf("%s %s does not run", h.program, h.command)
	}
	signalAll(pids, syscall.SIGSTOP)
	h.g.stopped = append(h.g.stopped, pids...)
	h.at.Release()
	if h.planted != "" {
		_ = os.Remove(h.planted)
	}
}

// letGo lets the engines go on that a test stopped.
func (g *guarded) letGo() {
	signalAll(g.stopped, syscall.SIGCONT)
	g.stopped = nil
}
