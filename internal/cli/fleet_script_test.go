package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
)

// processes are what scripts of several nodes run, by working directory and name.
var processes sync.Map

// doors writes NAME.yaml for a node called NAME with three free addresses and
// the data directory NAME.
func doors(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		free, err := membertest.Ports(3)
		ts.Check(err)
		text := fmt.Sprintf("data_dir: %s\nfleet:\n  name: %s\n  listen: {peers: %q, clients: %q, join: %q}\n", ts.MkAbs(name), name, free[0], free[1], free[2])
		ts.Check(os.WriteFile(ts.MkAbs(name+".yaml"), []byte(text), 0o600))
	}
}

// process runs a command until the script ends, and waits for its greeting in
// JSON: process NAME foundry serve ….
func process(ts *testscript.TestScript, neg bool, args []string) {
	program, err := exec.LookPath(args[1])
	ts.Check(err)
	cmd := exec.Command(program, append(args[2:], "--json")...)
	cmd.Env, cmd.Dir = os.Environ(), ts.MkAbs(".")
	r := &running{cmd: cmd, exited: make(chan error, 1), stderr: &bytes.Buffer{}}
	cmd.Stderr = r.stderr
	stdout, greeting := io.Pipe()
	cmd.Stdout = greeting
	ts.Check(cmd.Start())
	go func() { err := cmd.Wait(); _ = greeting.Close(); r.exited <- err }()
	ts.Defer(func() { _ = cmd.Process.Kill() })
	var hello map[string]any
	if err := json.NewDecoder(stdout).Decode(&hello); err != nil {
		<-r.exited
		ts.Fatalf("%s did not start: %s", args[0], r.stderr)
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	processes.Store(ts.MkAbs(args[0]), r)
}

// endprocess ends a process: endprocess kill|stop NAME.
func endProcess(ts *testscript.TestScript, neg bool, args []string) {
	v, ok := processes.LoadAndDelete(ts.MkAbs(args[1]))
	if !ok {
		ts.Fatalf("no process %s runs here", args[1])
	}
	r := v.(*running)
	if args[0] == "stop" {
		r.stop(ts)
		return
	}
	ts.Check(r.cmd.Process.Signal(syscall.SIGKILL))
	<-r.exited
}

// until runs a command again and again until what it prints matches:
// until 'PATTERN' foundry node list.
func until(ts *testscript.TestScript, neg bool, args []string) {
	pattern := regexp.MustCompile(`(?m)` + args[0])
	var last string
	for deadline := time.Now().Add(membertest.Patience); time.Now().Before(deadline); <-time.After(100 * time.Millisecond) {
		cmd := exec.Command(args[1], args[2:]...)
		cmd.Env, cmd.Dir = os.Environ(), ts.MkAbs(".")
		out, _ := cmd.CombinedOutput() // a command that fails says so, and may be what is waited for
		if last = string(out); pattern.MatchString(last) {
			return
		}
	}
	ts.Fatalf("%s never printed %s; at last:\n%s", strings.Join(args[1:], " "), args[0], last)
}

// interrupt runs a command until what it prints matches, interrupts it, and
// wants it to end well: interrupt 'PATTERN' foundry fleet status --watch 1s.
// What stands behind the word while is run again and again meanwhile, with a
// number in place of the N of each -N.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	pattern := regexp.MustCompile(`(?m)` + args[0])
	ctx, cancel := context.WithTimeout(context.Background(), membertest.Patience)
	defer cancel()
	program := func(args []string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env, cmd.Dir = os.Environ(), ts.MkAbs(".")
		return cmd
	}
	args, during, _ := cutList(args[1:], "while")
	cmd := program(args)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	printed, matched := []byte(nil), make(chan struct{})
	go func() {
		defer close(matched)
		for piece := make([]byte, 4096); ; {
			n, err := stdout.Read(piece)
			if printed = append(printed, piece[:n]...); pattern.Match(printed) || err != nil {
				return
			}
		}
	}()
	for n, waiting := 0, true; waiting; n++ {
		if len(during) > 0 {
			act := strings.Split(strings.ReplaceAll(strings.Join(during, "\x00"), "-N", fmt.Sprint("-", n)), "\x00")
			if out, err := program(act).CombinedOutput(); err != nil {
				ts.Fatalf("%s: %v: %s", strings.Join(act, " "), err, out)
			}
		}
		select {
		case <-matched:
			waiting = false
		case <-time.After(200 * time.Millisecond):
		}
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	_, _ = io.Copy(io.Discard, stdout)
	if err := cmd.Wait(); err != nil || !pattern.Match(printed) {
		ts.Fatalf("%s ended with %v after it printed\n%s%s", strings.Join(args, " "), err, printed, &stderr)
	}
}

func cutList(list []string, at string) (before, after []string, found bool) {
	i := slices.Index(list, at)
	if i < 0 {
		return list, nil, false
	}
	return list[:i], list[i+1:], true
}
