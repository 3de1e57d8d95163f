//go:build faults

package faults

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

// binary is the program under test, built once by TestMain.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "foundry-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "foundry")
	build := exec.Command("go", "build", "-o", binary, "../../cmd/foundry")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building the program under test:", err)
		os.Exit(1)
	}
	code := m.Run()
	dbtest.End()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

const (
	patience = 60 * time.Second // for what happens soon, on a busy machine
	glance   = 10 * time.Millisecond
)

// node is one data directory and the process that runs on it, if any.
type node struct {
	t      testing.TB
	dir    string // holds the data directory, the configuration and secrets
	config string
	url    string
	client *http.Client // trusts the node's authority
	local  *http.Client
	env    []string // beside this process's own

	sessions string // file with who signed in; commands act in their name, else as the owner of the local socket

	FirstKey string
	Ready    time.Duration // from the start of the process to its greeting

	cmd    *exec.Cmd
	log    *logBuffer
	exited chan struct{}
	code   int
}

// newNode prepares a data directory. The address stays the same across
// restarts, as clients expect.
func newNode(t testing.TB, configuration string) *node {
	t.Helper()
	return newNodeIn(t, tempDir(t), configuration)
}

func newNodeIn(t testing.TB, dir, configuration string) *node {
	t.Helper()
	n := &node{t: t, dir: dir, config: filepath.Join(dir, "foundry.yaml"), log: &logBuffer{}}
	port := freePort(t)
	n.url = "https://127.0.0.1:" + port
	text := fmt.Sprintf("listen: {https: \"127.0.0.1:%s\", http: \"off\"}\nnode: {country: FI}\n%s", port, configuration)
	n.write(t, text)
	n.local = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", daemon.SocketPath(n.data()))
	}}}
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			t.Logf("the node's log:\n%s", n.log.tail(6000))
		}
	})
	return n
}

func (n *node) write(t testing.TB, configuration string) {
	t.Helper()
	if err := os.WriteFile(n.config, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (n *node) data() string { return filepath.Join(n.dir, "d") }

// tempDir is a directory that the database's unprivileged user may pass
// through, unlike t.TempDir.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fdy-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// start runs the node and waits for its greeting.
func (n *node) start() {
	n.t.Helper()
	if err := n.tryStart(); err != nil {
		n.t.Fatal(err)
	}
}

// tryStart is start for a node that may refuse.
func (n *node) tryStart() error {
	stdout, greeting := io.Pipe()
	cmd := exec.Command(binary, "up", "--json", "--config", n.config, "--data-dir", n.data())
	cmd.Stdout, cmd.Stderr = greeting, n.log
	cmd.Env = append(os.Environ(), n.env...)
	// A test that dies takes the node with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	exited, started := make(chan struct{}), make(chan error, 1)
	began := time.Now()
	go func() {
		runtime.LockOSThread() // Pdeathsig is about the thread that started the process
		defer close(exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			n.code = cmd.ProcessState.ExitCode()
		}
		_ = greeting.Close()
	}()
	if err := <-started; err != nil {
		return err
	}
	n.cmd, n.exited = cmd, exited
	var hello struct {
		URL      string `json:"url"`
		CA       string `json:"ca"`
		FirstKey string `json:"first_key"`
	}
	greeted := make(chan error, 1)
	go func() {
		err := json.NewDecoder(stdout).Decode(&hello)
		greeted <- err
		_, _ = io.Copy(io.Discard, stdout)
	}()
	select {
	case err := <-greeted:
		if err != nil {
			<-exited
			n.cmd = nil
			return fmt.Errorf("the node did not start (exit code %d): %s", n.code, n.log.tail(2000))
		}
	case <-time.After(2 * patience):
		return errors.New("the node neither started nor gave up")
	}
	n.Ready = time.Since(began)
	if hello.FirstKey != "" {
		n.FirstKey = hello.FirstKey
	}
	return n.trust(hello.CA)
}

func (n *node) trust(file string) error {
	pem, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	n.client = &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 256}}
	return nil
}

// kill ends the process as the kernel would: no goodbye.
func (n *node) kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	<-n.exited
	n.cmd = nil
}

// stop asks the process to end and returns its exit code.
func (n *node) stop() int {
	n.t.Helper()
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	return n.wait()
}

// wait returns the exit code of a process that is about to end.
func (n *node) wait() int {
	n.t.Helper()
	select {
	case <-n.exited:
	case <-time.After(patience):
		n.t.Errorf("the node does not stop")
		n.kill()
		return -1
	}
	n.cmd = nil
	return n.code
}

// call acts over the local socket; out may be nil.
func (n *node) call(method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, "http://node"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := n.local.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 && path != "/readyz" {
		return fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

func (n *node) must(method, path string, in, out any) {
	n.t.Helper()
	if err := n.call(method, "/api/v1"+path, in, out); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) status() daemon.Status {
	n.t.Helper()
	var s daemon.Status
	n.must("GET", "/status", nil, &s)
	return s
}

func (n *node) readiness() (r daemon.Readiness, err error) {
	err = n.call("GET", "/readyz", nil, &r)
	return r, err
}

// settled waits until the database answers and has all that happened since the
// start: the queue does not count what earlier starts left to be shipped.
func (n *node) settled() {
	n.t.Helper()
	eventually(n.t, "the journal to be shipped", func() (bool, string) {
		r, err := n.readiness()
		return err == nil && r.Database && r.Queue == 0, fmt.Sprintf("%+v, %v", r, err)
	})
}

// postmaster is the process of the private database server.
func (n *node) postmaster() int {
	n.t.Helper()
	pid := 0
	eventually(n.t, "the database server to run", func() (bool, string) {
		pid = n.status().Database.PID
		return pid != 0, "it has no process id"
	})
	return pid
}

// family is a process and its children.
func family(pid int) []int {
	all := []int{pid}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, word := range strings.Fields(string(text)) {
		if child, err := strconv.Atoi(word); err == nil {
			all = append(all, child)
		}
	}
	return all
}

func signalAll(pids []int, sig syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig) // it may be gone already
	}
}

// eventually waits for a condition that nothing here is told of.
func eventually(t testing.TB, what string, done func() (bool, string)) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		ok, state := done()
		if ok {
			return time.Since(began)
		}
		if time.Since(began) > patience {
			t.Fatalf("waiting for %s: %s", what, state)
		}
		pass(glance)
	}
}

// pass lets time go by where time is what is tested.
func pass(d time.Duration) { <-time.After(d) }

// logBuffer takes what a process writes to standard error.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) tail(n int) string {
	text := l.String()
	return text[max(0, len(text)-n):]
}

// swept is how many requests the log says have an unknown outcome.
func (l *logBuffer) swept() int {
	sum := 0
	for line := range strings.Lines(l.String()) {
		var entry struct {
			Msg      string
			Requests int
		}
		if json.Unmarshal([]byte(line), &entry) == nil && strings.Contains(entry.Msg, "outcome is unknown") {
			sum += entry.Requests
		}
	}
	return sum
}

var names atomic.Int64

func unique(prefix string) string { return fmt.Sprintf("%s-%d", prefix, names.Add(1)) }

// contextOf is a context that ends with the test, or before.
func contextOf(t testing.TB) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return ctx, cancel
}

// copyKeys gives a node that has not started yet the key material of another.
func copyKeys(t testing.TB, from, to *node) {
	t.Helper()
	if err := os.MkdirAll(to.data(), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(to.data(), "keys"), os.DirFS(filepath.Join(from.data(), "keys"))); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(filepath.Join(to.data(), "keys"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o600)
		if d.IsDir() {
			mode = 0o700
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		t.Fatal(err)
	}
}
