package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stranger is somebody who has never seen the system: a shell without any
// environment but a home, and what the runbook says.
type stranger struct {
	t     *testing.T
	path  string // with the program, and an apt-get that installs nothing
	home  string
	env   []string
	input string // what is typed
	nodes []*exec.Cmd
}

func (s *stranger) shell(script string) *exec.Cmd {
	cmd := exec.Command("sh", "-eu", "-c", script)
	cmd.Dir, cmd.Stdin = s.home, strings.NewReader(s.input)
	cmd.Env = append([]string{"PATH=" + s.path, "HOME=" + s.home, "OLLAMA_HOST=127.0.0.1:1"}, s.env...)
	return cmd
}

func (s *stranger) run(script string) string {
	s.t.Helper()
	out, err := s.shell(script).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s\n%s\n%v", script, out, err)
	}
	return string(out)
}

// up starts a node and returns how it greets.
func (s *stranger) up(script string) map[string]any {
	s.t.Helper()
	cmd := s.shell(script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var failure bytes.Buffer
	cmd.Stderr = &failure
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.nodes = append(s.nodes, cmd)
	s.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		_ = cmd.Wait()
	})
	var hello map[string]any
	if err := json.NewDecoder(out).Decode(&hello); err != nil {
		s.t.Fatalf("the node did not start: %v\n%s", err, failure.String())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return hello
}

// block is a fenced block of the runbook.
type block struct{ info, text string }

func blocks(t *testing.T, file string) (out []block) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "\n```")
	for i := 1; i+1 < len(parts); i += 2 {
		info, body, _ := strings.Cut(parts[i], "\n")
		out = append(out, block{info, body})
	}
	return out
}

// Everything that the runbook says is done as it is written, by somebody who
// has only the kit, the shares and the runbook.
func TestTheRunbookBringsALostNodeBack(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs two nodes")
	}
	for _, program := range []string{"pgbackrest", "restic"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed")
		}
	}
	program, err := exec.LookPath("foundry")
	if err != nil {
		t.Fatal(err)
	}
	work, err := os.MkdirTemp("/dev/shm", "foundry-runbook-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(work) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(work, 0o711))
	old, to, target, bin := filepath.Join(work, "old"), filepath.Join(work, "new"), filepath.Join(work, "target"), filepath.Join(work, "bin")
	for _, dir := range []string{target, bin, filepath.Join(work, "home")} {
		must(os.Mkdir(dir, 0o755))
	}
	must(os.Symlink(program, filepath.Join(bin, "foundry")))
	must(os.WriteFile(filepath.Join(bin, "apt-get"), []byte("#!/bin/sh\necho \"$@\" > "+work+"/installed\n"), 0o755))
	s := &stranger{t: t, path: bin + ":/usr/sbin:/usr/bin:/bin", home: filepath.Join(work, "home")}
	config := filepath.Join(work, "foundry.yaml")
	must(os.WriteFile(config, []byte(fmt.Sprintf("data_dir: %s\nlisten: {https: '127.0.0.1:0', http: 'off'}\nbackup:\n  targets:\n    - {name: offsite, kind: directory, path: %s}\n", old, target)), 0o600))
	hello := s.up("exec foundry up --json --config " + config)
	s.run("foundry breakglass create --data-dir " + old + " --threshold 2 --shares 3 --out " + work + "/shares --reason 'for the test of the runbook'")
	s.run("foundry org create survivor --data-dir " + old)
	s.run("foundry keys rotate --org default --data-dir " + old) // so that something has to open afterwards
	// The node makes its first backup by itself; this one waits for that.
	s.run("n=0; until foundry backup run --data-dir " + old + "; do n=$((n+1)); test $n -lt 60; sleep 1; done")
	must(s.nodes[0].Process.Kill())
	_ = s.nodes[0].Wait()
	awaitGone(t, filepath.Join(old, "postgres", "data", "postmaster.pid"))
	must(os.RemoveAll(old))
	kits, err := filepath.Glob(filepath.Join(target, "foundry-kit-*.age"))
	if err != nil || len(kits) != 1 {
		t.Fatalf("at the target lie %v, %v", kits, err)
	}

	for _, n := range []string{"1", "3"} {
		page, err := os.ReadFile(filepath.Join(work, "shares", "share-"+n+".txt"))
		must(err)
		_, words, _ := strings.Cut(string(page), "enough):")
		words, _, _ = strings.Cut(words, "The same")
		s.input += strings.Join(strings.Fields(words), " ") + "\n\n" // with their numbers
	}
	s.env = []string{"KIT=" + kits[0], "DATA=" + to}
	var said []string
	commands := 0
	archive := listing(t, filepath.Join(target, "pgbackrest", "archive"))
	for _, b := range blocks(t, "../../docs/runbooks/bare-machine.md") {
		commands++
		setting := `KIT=` + kits[0] + `; DATA=` + to + "\n"
		if strings.Contains(b.text, "--activate") {
			// Until now nothing was written into the archive that it came from.
			if now := listing(t, filepath.Join(target, "pgbackrest", "archive")); now != archive {
				t.Errorf("before it was activated the archive changed, from\n%s\nto\n%s", archive, now)
			}
		}
		switch b.info {
		case "sh":
			said = append(said, s.run(setting+b.text))
		case "sh terminal":
			again := s.up(setting + strings.Replace(strings.TrimSpace(b.text), "foundry up", "exec foundry up --json", 1))
			if again["fenced"] != nil || again["first_key"] != "" || hello["first_key"] == "" {
				t.Errorf("it greets with %v", again)
			}
		default:
			t.Errorf("nobody runs the block %q of the runbook", b.info)
		}
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{"Nothing was changed. About", "proof: pass", "recovered point: ", "lost: ", "survivor", "✓ Nothing was changed.", "ready: The kit is current."} {
		if !strings.Contains(all, want) {
			t.Errorf("nobody reads %q in:\n%s", want, all)
		}
	}
	if now := listing(t, filepath.Join(target, "pgbackrest", "archive")); !strings.Contains(now, "00000002.history") {
		t.Errorf("its new timeline is not in the archive:\n%s", now)
	}
	if commands < 8 {
		t.Errorf("the runbook has only %d blocks", commands)
	}
	if text, err := os.ReadFile(filepath.Join(work, "installed")); err != nil || string(text) != "install --yes postgresql-15 pgbackrest restic\n" {
		t.Errorf("installed is %q, %v", text, err)
	}
}

// listing names every file below a directory.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			fmt.Fprintln(&b, rel)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// awaitGone waits until a killed node's database has shut itself down.
func awaitGone(t *testing.T, path string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Lstat(path); os.IsNotExist(err) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal("the database of the killed node goes on")
		case <-tick.C:
		}
	}
}
