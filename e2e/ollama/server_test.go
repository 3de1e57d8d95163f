//go:build ollama

package ollama

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take that ought to happen soon, on a busy
// machine.
const patience = 60 * time.Second

// server is an Ollama on a loopback port, with its models in a directory of
// its own. It can be killed and started again at the same address.
type server struct {
	binary, dir, host string
	log               *transcript
	process           *exec.Cmd
	ended             chan struct{}
}

// transcript collects what a process writes.
type transcript struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tail is the end of it, enough to see what went wrong.
func (l *transcript) tail() string {
	text := l.String()
	return text[max(0, len(text)-8<<10):]
}

// newServer starts an Ollama without models.
func newServer(dir string) (*server, error) {
	binary := os.Getenv("FOUNDRY_TEST_OLLAMA")
	if binary == "" {
		return nil, errors.New("FOUNDRY_TEST_OLLAMA does not name an Ollama: run scripts/test-ollama, which builds one")
	}
	// The address must be known before the start, and stay the same after one.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{binary: binary, dir: dir, host: l.Addr().String(), log: &transcript{}}
	_ = l.Close()
	return s, s.start()
}

func (s *server) environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "OLLAMA_HOST=" + s.host, "OLLAMA_MODELS=" + filepath.Join(s.dir, "models"),
		"OLLAMA_KEEP_ALIVE=10m", "OLLAMA_NUM_PARALLEL=1", "OLLAMA_MAX_LOADED_MODELS=4", "OLLAMA_LOAD_TIMEOUT=1m"}
}

// start runs `ollama serve` and waits until it answers.
func (s *server) start() error {
	c := exec.Command(s.binary, "serve")
	c.Env, c.Dir, c.Stdout, c.Stderr = s.environment(), s.dir, s.log, s.log
	// In a group of its own, so that its runners die with it, and not longer
	// alive than the test.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		return err
	}
	s.process, s.ended = c, make(chan struct{})
	go func() {
		_ = c.Wait()
		close(s.ended)
	}()
	return until(func() error {
		select {
		case <-s.ended:
			return final{fmt.Errorf("ollama serve ended:\n%s", s.log)}
		default:
		}
		_, err := s.get("/api/version")
		return err
	})
}

// kill ends it the hard way, with its runners.
func (s *server) kill() {
	if s.process == nil {
		return
	}
	_ = syscall.Kill(-s.process.Process.Pid, syscall.SIGKILL)
	<-s.ended
	s.process = nil
}

// create loads a model the way a person does.
func (s *server) create(name, modelfile string) error {
	path := filepath.Join(s.dir, name+".Modelfile")
	if err := os.WriteFile(path, []byte(modelfile), 0o600); err != nil {
		return err
	}
	c := exec.Command(s.binary, "create", name, "-f", path)
	c.Env = s.environment()
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("ollama create %s: %w\n%s", name, err, out)
	}
	return nil
}

func (s *server) get(path string) ([]byte, error) {
	resp, err := http.Get("http://" + s.host + path)
	if err != nil {
		return nil, err
	}
	return body(resp)
}

func body(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.500s", resp.Status, text)
	}
	return text, err
}

// answered counts the requests to a path that Ollama has finished with,
// successfully or not, by its access log.
func (s *server) answered(path string) int {
	return strings.Count(s.log.String(), fmt.Sprintf("POST     %q", path))
}

// final is an error that waiting does not mend.
type final struct{ error }

// until waits for a condition that nothing signals, because it is about
// another process.
func until(try func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if _, ok := err.(final); ok || time.Now().After(deadline) {
			return err
		}
		<-time.After(20 * time.Millisecond)
	}
}

// eventually is until for a test.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	if err := until(try); err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
}
