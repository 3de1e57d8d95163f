package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/missionopsai/foundry/internal/cli"
)

var update = flag.Bool("update", false, "write what the commands print into the scripts")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"foundry": func() { os.Exit(cli.Run("v0.0.0-test", os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs every script in testdata/script. Beside testscript's own
// commands they know those below.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update, ContinueOnError: true,
		Setup: setup,
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("there is no condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "node": startNode, "stopnode": stopNode, "json": isJSON, "listen": listen, "mount": mount,
			"sql": sql, "asnobody": asNobody, "chat": chat, "capture": capture, "long": long,
			"accept": accept, "code": code, "lines": lines,
			"doors": doors, "process": process, "endprocess": endProcess, "until": until, "interrupt": interrupt,
		},
	})
}

// setup opens the working directory to the database's unprivileged user.
func setup(env *testscript.Env) error {
	for dir := env.WorkDir; strings.Contains(dir, "go-test-script"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o711); err != nil {
			return err
		}
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	env.Vars = append(env.Vars, "ROOT="+root, "TZ=UTC", "OLLAMA_HOST=127.0.0.1:1", "HOME="+env.WorkDir)
	return nil
}

// exits runs a command and checks its exit code: exits 73 foundry up.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	checkExit(ts, want, ts.Exec(args[1], args[2:]...))
}

func checkExit(ts *testscript.TestScript, want int, err error) {
	got := 0
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		got = failed.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// running is a node started by a script.
type running struct {
	cmd    *exec.Cmd
	exited chan error
	stderr *bytes.Buffer
}

func (r *running) stop(ts *testscript.TestScript) {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-r.exited:
		checkExit(ts, 0, err)
	case <-time.After(time.Minute):
		_ = r.cmd.Process.Kill()
		ts.Fatalf("the node did not stop: %s", r.stderr)
	}
}

var nodes = map[string]*running{} // by working directory; scripts of one node each

var nodesLock = make(chan struct{}, 1)

// startNode runs `foundry up` until the script ends: node [flags of up].
// It sets DATA, URL, PID and, on the first start, KEY.
func startNode(ts *testscript.TestScript, neg bool, args []string) {
	data := ts.Getenv("DATA")
	if data == "" {
		data = ts.MkAbs("d")
		ts.Setenv("DATA", data)
	}
	program, err := exec.LookPath("foundry")
	ts.Check(err)
	cmd := exec.Command(program, append([]string{"up", "--json", "--data-dir", data, "--https", "127.0.0.1:0", "--http", "off"}, args...)...)
	cmd.Env = append(os.Environ(), "OLLAMA_HOST=127.0.0.1:1")
	cmd.Dir = ts.MkAbs(".")
	r := &running{cmd: cmd, exited: make(chan error, 1), stderr: &bytes.Buffer{}}
	cmd.Stderr = r.stderr
	stdout, greeting := io.Pipe()
	cmd.Stdout = greeting
	ts.Check(cmd.Start())
	go func() { err := cmd.Wait(); _ = greeting.Close(); r.exited <- err }()
	var hello struct {
		URL      string `json:"url"`
		FirstKey string `json:"first_key"`
	}
	if err := json.NewDecoder(stdout).Decode(&hello); err != nil {
		<-r.exited
		ts.Fatalf("the node did not start: %s", r.stderr)
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	ts.Setenv("URL", hello.URL)
	ts.Setenv("PID", strconv.Itoa(cmd.Process.Pid))
	ts.Setenv("FOUNDRY_DATA_DIR", data)
	if hello.FirstKey != "" {
		ts.Setenv("KEY", hello.FirstKey)
	}
	nodesLock <- struct{}{}
	nodes[data] = r
	<-nodesLock
	ts.Defer(func() {
		select {
		case <-r.exited:
		default:
			_ = cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-r.exited:
			case <-time.After(time.Minute):
				_ = cmd.Process.Kill()
			}
		}
	})
}

// stopNode ends the script's node with SIGTERM and wants exit code 0.
func stopNode(ts *testscript.TestScript, neg bool, args []string) {
	nodesLock <- struct{}{}
	r := nodes[ts.Getenv("DATA")]
	delete(nodes, ts.Getenv("DATA"))
	<-nodesLock
	if r == nil {
		ts.Fatalf("stopnode: no node runs in %q here: `node` starts one", ts.Getenv("DATA"))
	}
	r.stop(ts)
	close(r.exited)
}

// isJSON checks that stdout or stderr is one JSON document, and with a second
// word that it has that field: json stdout readiness.
func isJSON(ts *testscript.TestScript, neg bool, args []string) {
	var v any
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	if err := dec.Decode(&v); err != nil {
		ts.Fatalf("%s is not JSON: %v\n%s", args[0], err, ts.ReadFile(args[0]))
	}
	if dec.More() {
		ts.Fatalf("%s is more than one document", args[0])
	}
	if list, ok := v.([]any); ok && len(args) > 1 {
		if len(list) == 0 {
			ts.Fatalf("%s is an empty list", args[0])
		}
		v = list[0]
	}
	for _, field := range args[min(1, len(args)):] {
		m, ok := v.(map[string]any)
		if _, has := m[field]; !ok || !has {
			ts.Fatalf("%s has no field %q: %v", args[0], field, v)
		}
	}
}

// capture takes what a pattern's group matches in stdout into a variable:
// capture ID 'id +([a-z2-7]+)'.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	m := regexp.MustCompile(`(?m)` + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("no match of %s in\n%s", args[1], ts.ReadFile("stdout"))
	}
	ts.Setenv(args[0], m[1])
}

// listen takes a free port and puts its address into a variable.
func listen(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

// mount mounts a small file system: mount dir full|ro|none. full leaves hardly
// a page free.
func mount(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=0755"))
	ts.Defer(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	switch args[1] {
	case "full":
		f, err := os.Create(filepath.Join(dir, "ballast"))
		ts.Check(err)
		if _, err = f.Write(make([]byte, 2<<20)); !errors.Is(err, syscall.ENOSPC) {
			ts.Fatalf("filling the disk: %v", err)
		}
		ts.Check(f.Close())
	case "ro":
		ts.Check(unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	}
}

// sql runs a statement in the node's private database, as the migrator.
func sql(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, "host="+filepath.Join(ts.Getenv("DATA"), "postgres", "run")+" port=5432 sslmode=disable dbname=foundry user=foundry_migrator")
	ts.Check(err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, args[0])
	ts.Check(err)
}

// asNobody is exits for a process of an unprivileged user.
func asNobody(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	nobody, err := user.Lookup("nobody")
	ts.Check(err)
	uid, err := strconv.Atoi(nobody.Uid)
	ts.Check(err)
	gid, err := strconv.Atoi(nobody.Gid)
	ts.Check(err)
	// The test's own binary lies where only its user may go.
	me, err := os.Executable()
	ts.Check(err)
	program := ts.MkAbs("foundry")
	body, err := os.ReadFile(me)
	ts.Check(err)
	ts.Check(os.WriteFile(program, body, 0o755))
	var out, errw bytes.Buffer
	cmd := exec.Command(program, args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = os.Environ()
	cmd.Stdout, cmd.Stderr = &out, &errw
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	err = cmd.Run()
	ts.Check(os.WriteFile(ts.MkAbs("nobody.err"), errw.Bytes(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("nobody.out"), out.Bytes(), 0o600))
	ts.Logf("[stdout]\n%s[stderr]\n%s", out.String(), errw.String())
	checkExit(ts, want, err)
}

// chat asks a model through the node: chat MODEL [STATUS]. It puts the
// request's id into REQUEST, and waits until the ledger has its outcome.
func chat(ts *testscript.TestScript, neg bool, args []string) {
	pem, err := os.ReadFile(filepath.Join(ts.Getenv("DATA"), "ca", "ca.pem"))
	ts.Check(err)
	client := &http.Client{Timeout: time.Minute, Transport: trusting(pem)}
	body := fmt.Sprintf(`{"model": %q, "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}`, args[0])
	req, err := http.NewRequest(http.MethodPost, ts.Getenv("URL")+"/v1/chat/completions", strings.NewReader(body))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+ts.Getenv("KEY"))
	resp, err := client.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	want := "200"
	if len(args) > 1 {
		want = args[1]
	}
	if strconv.Itoa(resp.StatusCode) != want {
		ts.Fatalf("status %d, want %s: %s", resp.StatusCode, want, text)
	}
	id := resp.Header.Get("X-Request-Id")
	ts.Setenv("REQUEST", id)
	if resp.StatusCode != http.StatusOK {
		return
	}
	local := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(ts.Getenv("DATA"), "foundry.sock"))
	}}}
	for deadline := time.Now().Add(time.Minute); ; <-time.After(10 * time.Millisecond) {
		var row struct{ State string }
		resp, err := local.Get("http://node/api/v1/requests/" + id)
		ts.Check(err)
		err = json.NewDecoder(resp.Body).Decode(&row)
		resp.Body.Close()
		ts.Check(err)
		if resp.StatusCode == http.StatusOK && row.State == "ok" {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("request %s is not in the ledger: %d %q", id, resp.StatusCode, row.State)
		}
	}
}

// long puts the path of a directory whose name has so many letters into a
// variable: long DIR 120.
func long(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Setenv(args[0], ts.MkAbs(strings.Repeat("x", n)))
}
