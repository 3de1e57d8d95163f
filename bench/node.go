//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// nodeConfig starts a node with everything on. Each upstream is a provider
// twice: as a third party, whose admissions are synced before the call, and as
// the fleet's own, whose admissions are synced beside it.
const nodeConfig = `node: {country: FI}
listen: {https: "%[1]s", http: "off", proxy: "%[2]s"}
tls: {certificate: %[3]s/tls.crt, key: {file: %[3]s/tls.key}}
providers:
%[4]s`

const nodeProvider = `  - name: %[1]s
    kind: openai-compatible
    base_url: http://%[2]s
    own: %[3]t
    discover: false
%[4]s    models:
      - {name: %[1]s, tier: standard, context: 8192, price: {input: "0.10", output: "0.30"}}
`

const thirdParty = `    controller: FI
    processing: [FI]
    no_sub_processors: true
    retention: {days: 0, contract: DPA-2026-001, signed: 2026-01-01, expires: 2099-12-31}
`

// Names of the providers, and of their one model each.
var (
	thirdModels = each{"third-instant", "third-slow", "third-flushing"}
	ownModels   = each{"own-instant", "own-slow", "own-flushing"}
)

func writeNodeConfig(dir, secure, plain string, upstreams each) (string, error) {
	var providers strings.Builder
	for i, upstream := range upstreams {
		fmt.Fprintf(&providers, nodeProvider, thirdModels[i], upstream, false, thirdParty)
		fmt.Fprintf(&providers, nodeProvider, ownModels[i], upstream, true, "")
	}
	path := filepath.Join(dir, "foundry.yaml")
	return path, os.WriteFile(path, fmt.Appendf(nil, nodeConfig, secure, plain, dir, providers.String()), 0o600)
}

// node is the gateway that is measured.
type node struct {
	program string
	dataDir string
	pid     int
	key     string
	local   *http.Client // over its socket
}

// startNode starts a node on an empty data directory, and makes an
// organisation that consents to third parties, a key with rate limits, and
// budgets for both.
func (s *stage) startNode(ctx context.Context, program, config string) (*node, error) {
	n := &node{program: program, dataDir: filepath.Join(s.dir, "node")}
	n.local = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(n.dataDir, "foundry.sock"))
	}}}
	argv := []string{program, "up", "--json", "--data-dir", n.dataDir, "--config", config}
	if s.apart {
		if err := s.vote(ctx, n, config); err != nil {
			return nil, err
		}
		argv = []string{program, "serve", "--role", "gateway", "--json", "--data-dir", n.dataDir, "--config", config}
	}
	p, err := s.start(ctx, "node", argv...)
	if err != nil {
		return nil, err
	}
	n.pid = p.cmd.Process.Pid
	var ready struct {
		URL string `json:"url"`
	}
	if err := p.await(func(r io.Reader) error { return json.NewDecoder(r).Decode(&ready) }); err != nil {
		return nil, fmt.Errorf("starting the node: %w", err)
	}
	if _, err := n.run(ctx, "org", "create", "bench", "--third-parties", "--allow", "EEA", "--highest", "internal", "--ceiling-near", "internal"); err != nil {
		return nil, err
	}
	key, err := n.run(ctx, "key", "create", "--org", "bench", "--name", "bench", "--rpm", "1000000000", "--tpm", "1000000000000", "--json")
	if err != nil {
		return nil, err
	}
	var made struct{ ID, Token string }
	if err := json.Unmarshal(key, &made); err != nil || made.Token == "" {
		return nil, fmt.Errorf("making a key: unexpected answer %q", key)
	}
	n.key = made.Token
	for _, whose := range [][]string{nil, {"--key", made.ID}} {
		if _, err := n.run(ctx, append([]string{"budget", "set", "--org", "bench", "--period", "month", "--limit", "1000000.00"}, whose...)...); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// vote starts the node's place in the fleet as a process of its own, which is
// how production runs, and lets the gateway join it.
func (s *stage) vote(ctx context.Context, gateway *node, config string) error {
	v := &node{program: gateway.program, dataDir: filepath.Join(s.dir, "vote")}
	doors, err := freeAddresses()
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, "vote.yaml")
	text := fmt.Sprintf("fleet: {name: vote, listen: {peers: %q, clients: %q, join: %q}}\n", doors[0], doors[1], doors[2])
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	if _, err := s.start(ctx, "vote", v.program, "serve", "--role", "fleet", "--data-dir", v.dataDir, "--config", path); err != nil {
		return err
	}
	for _, door := range doors {
		if err := answersAt(ctx, door); err != nil {
			return err
		}
	}
	token, err := v.run(ctx, "node", "invite", "gateway", "--roles", "gateway")
	if err != nil {
		return err
	}
	invitation, _, _ := strings.Cut(strings.TrimSpace(string(token)), "\n")
	_, err = gateway.run(ctx, "node", "join", strings.TrimSpace(invitation), "--config", config)
	return err
}

// run gives the node a command.
func (n *node) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, n.program, append([]string{"--data-dir", n.dataDir}, args...)...)
	cmd.Stderr = new(strings.Builder)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("foundry %s: %w: %s", strings.Join(args, " "), err, cmd.Stderr)
	}
	return out, nil
}

// queue is how many events the journal holds that are not in the database yet.
func (n *node) queue(ctx context.Context) (uint64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://node/readyz", nil)
	if err != nil {
		return 0, err
	}
	resp, err := n.local.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	var ready struct {
		Queue uint64 `json:"journal_queue"`
	}
	err = json.NewDecoder(resp.Body).Decode(&ready)
	return ready.Queue, err
}

// shipped waits until the journal's queue is empty, so that what a round
// leaves to the database is counted for it.
func (n *node) shipped(ctx context.Context) (queue uint64, took time.Duration, err error) {
	began := time.Now()
	for first := true; ; first = false {
		left, err := n.queue(ctx)
		if err != nil {
			return 0, 0, fmt.Errorf("reading the journal's queue: %w", err)
		}
		if first {
			queue = left
		}
		if left == 0 {
			return queue, time.Since(began), nil
		}
		if time.Since(began) > time.Minute {
			return 0, 0, fmt.Errorf("%d events were not shipped within a minute after the load", left)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// profile takes a CPU profile of the next seconds into a file.
func (n *node) profile(ctx context.Context, span time.Duration, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://node/debug/profile?for="+span.String(), nil)
	if err != nil {
		return err
	}
	resp, err := n.local.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the node takes no profile: %s", resp.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, resp.Body); err != nil {
		return err
	}
	return f.Close()
}
