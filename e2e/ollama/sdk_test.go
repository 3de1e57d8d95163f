//go:build ollama

package ollama

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// sdks runs calls through the official SDKs, in one Node.js process that
// trusts the node's authority.
type sdks struct {
	process *exec.Cmd
	in      io.WriteCloser
	log     *transcript
	mu      sync.Mutex
	serial  int
	waiting map[int]chan result
}

// job is one call. Base and key say who is asked: the gateway, or Ollama.
type job struct {
	ID         int    `json:"id"`
	SDK        string `json:"sdk"`
	Call       string `json:"call"`
	Base       string `json:"base"`
	Key        string `json:"key"`
	Params     params `json:"params"`
	AbortAfter int    `json:"abortAfter,omitempty"` // chunks
	TellAfter  int    `json:"tellAfter,omitempty"`  // chunks
}

type params = map[string]any

// result is what the SDK gave its caller, in the same terms for all of them.
type result struct {
	ID        int               `json:"id"`
	Error     *sdkError         `json:"error"`
	Headers   map[string]string `json:"headers"`
	Model     string            `json:"model"`
	Text      string            `json:"text"`
	Reasoning string            `json:"reasoning"`
	Finish    string            `json:"finish"`
	Tools     []toolCall        `json:"tools"`
	Chunks    int               `json:"chunks"`
	Usages    int               `json:"usages"`
	Input     int64             `json:"input"`
	Output    int64             `json:"output"`
	Aborted   bool              `json:"aborted"`
	Begun     bool              `json:"begun"` // not the result yet: so many chunks are there
	Vectors   [][]float64       `json:"vectors"`
	Names     []string          `json:"names"`
}

type sdkError struct {
	Class   string            `json:"class"`
	Status  int               `json:"status"`
	Message string            `json:"message"`
	Headers map[string]string `json:"headers"`
}

type toolCall struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Input params `json:"input"`
}

// request is the id under which the gateway recorded the call.
func (r result) request() string { return r.Headers["x-request-id"] }

// startSDKs starts the process. The packages are those of e2e/sdk.
func startSDKs(ca string) (*sdks, error) {
	dir := filepath.Join("..", "sdk")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "openai")); err != nil {
		c := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("installing the SDKs with npm, which `make setup-test` provides: %w\n%s", err, out)
		}
	}
	s := &sdks{process: exec.Command("node", "real-ollama.mjs"), log: &transcript{}, waiting: map[int]chan result{}}
	s.process.Dir, s.process.Stderr = dir, s.log
	s.process.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+ca)
	out, err := s.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if s.in, err = s.process.StdinPipe(); err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	go s.read(out)
	return s, nil
}

func (s *sdks) read(out io.Reader) {
	scanner := bufio.NewScanner(out)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		var r result
		if err := json.Unmarshal(scanner.Bytes(), &r); err != nil {
			fmt.Fprintf(s.log, "not a result: %v: %.200s\n", err, scanner.Bytes())
			continue
		}
		s.mu.Lock()
		c := s.waiting[r.ID]
		if !r.Begun {
			delete(s.waiting, r.ID)
		}
		s.mu.Unlock()
		if c != nil {
			c <- r
		}
	}
}

// stop does not wait for calls that are still running.
func (s *sdks) stop() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// start begins a call; its result comes later, under the number returned.
func (s *sdks) start(t *testing.T, j job) (int, <-chan result) {
	t.Helper()
	c := make(chan result, 2)
	s.mu.Lock()
	s.serial++
	j.ID = s.serial
	s.waiting[j.ID] = c
	s.mu.Unlock()
	s.write(t, j)
	return j.ID, c
}

// abort makes the caller of a running call leave.
func (s *sdks) abort(t *testing.T, number int) {
	t.Helper()
	s.write(t, map[string]int{"abort": number})
}

func (s *sdks) write(t *testing.T, line any) {
	t.Helper()
	text, err := json.Marshal(line)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.in.Write(append(text, '\n')); err != nil {
		t.Fatalf("%v\n%s", err, s.log)
	}
}

// try makes a call, which may fail.
func (s *sdks) try(t *testing.T, j job) result {
	t.Helper()
	_, c := s.start(t, j)
	select {
	case r := <-c:
		return r
	case <-time.After(2 * patience):
		t.Fatalf("%s %s did not end\n%s", j.SDK, j.Call, s.log)
		return result{}
	}
}

// do makes a call, which must succeed.
func (s *sdks) do(t *testing.T, j job) result {
	t.Helper()
	r := s.try(t, j)
	if r.Error != nil {
		t.Fatalf("%s %s: %+v", j.SDK, j.Call, *r.Error)
	}
	return r
}
