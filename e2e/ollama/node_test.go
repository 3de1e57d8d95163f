//go:build ollama

package ollama

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
)

// node is a `foundry up` as a person starts it: a process, with nothing
// configured.
type node struct {
	dir     string
	log     *transcript
	process *exec.Cmd
	ended   chan error
	URL     string `json:"url"`
	CA      string `json:"ca"`
	Key     string `json:"first_key"`
	client  *http.Client
	local   *http.Client // over the local socket
}

// build compiles the program under test.
func build(dir string) (string, error) {
	path := filepath.Join(dir, "foundry")
	c := exec.Command("go", "build", "-o", path, "github.com/missionopsai/foundry/cmd/foundry")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building foundry: %w\n%s", err, out)
	}
	return path, nil
}

// startNode runs `foundry up` with OLLAMA_HOST as the only hint, and waits for
// its greeting.
func startNode(program, dir, ollamaHost string, arguments ...string) (*node, error) {
	n := &node{dir: filepath.Join(dir, "data"), log: &transcript{}, ended: make(chan error, 1)}
	c := exec.Command(program, append([]string{"up", "--json", "--data-dir", n.dir, "--https", "127.0.0.1:0", "--http", "off"}, arguments...)...)
	c.Env = append(os.Environ(), "OLLAMA_HOST="+ollamaHost)
	c.Stderr = n.log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	n.process = c
	greeted := make(chan error, 1)
	go func() {
		greeted <- json.NewDecoder(out).Decode(n)
		_, _ = io.Copy(n.log, out)
		n.ended <- c.Wait()
	}()
	select {
	case err = <-greeted:
	case <-time.After(2 * patience):
		err = errors.New("no greeting")
	}
	if err == nil {
		err = n.connect()
	}
	if err != nil {
		_ = n.stop()
		return nil, fmt.Errorf("foundry up: %w\n%s", err, n.log)
	}
	return n, nil
}

func (n *node) connect() error {
	pem, err := os.ReadFile(n.CA)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	n.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	n.local = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", daemon.SocketPath(n.dir))
	}}}
	return nil
}

// stop ends it as Ctrl-C does, and reports if it did not end well.
func (n *node) stop() error {
	select {
	case err := <-n.ended:
		return fmt.Errorf("foundry up ended before it was told to (%v)\n%s", err, n.log)
	default:
	}
	_ = n.process.Process.Signal(syscall.SIGINT)
	select {
	case err := <-n.ended:
		if err != nil {
			return fmt.Errorf("foundry up ended with %w\n%s", err, n.log)
		}
		return nil
	case <-time.After(patience):
		_ = syscall.Kill(-n.process.Process.Pid, syscall.SIGKILL)
		return errors.New("foundry up did not stop")
	}
}

// call asks over the local socket.
func (n *node) call(method, path string, in, out any) error {
	var content io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, "http://node/api/v1"+path, content)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := n.local.Do(req)
	if err != nil {
		return err
	}
	text, err := body(resp)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(text, out)
}

// status is what the node says about itself.
func (n *node) status(t *testing.T) daemon.Status {
	t.Helper()
	var s daemon.Status
	if err := n.call("GET", "/status", nil, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// provider is what the node says about one of its providers.
func (n *node) provider(t *testing.T, name string) daemon.ProviderStatus {
	t.Helper()
	for _, p := range n.status(t).Providers {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("the node has no provider %s", name)
	return daemon.ProviderStatus{}
}

// recorded waits until a request's outcome is in the database.
func (n *node) recorded(t *testing.T, id string) api.Request {
	t.Helper()
	var r api.Request
	eventually(t, "the outcome of "+id, func() error {
		r = api.Request{}
		if err := n.call("GET", "/requests/"+url.PathEscape(id), nil, &r); err != nil {
			return err
		}
		if r.State == ledger.StateInFlight {
			return errors.New(r.State)
		}
		return nil
	})
	return r
}

// spent is what the ledger has added up for one model, place and so on.
func (n *node) spent(t *testing.T, by, name string) ledger.UsageRow {
	t.Helper()
	var rows []ledger.UsageRow
	if err := n.call("GET", "/usage?group_by="+by, nil, &rows); err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.Group == name {
			return r
		}
	}
	return ledger.UsageRow{}
}
