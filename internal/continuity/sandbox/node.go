package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/scenario"
)

// node is one node of the sandbox: a data directory, a configuration, and the
// process that runs on them.
type node struct {
	lab    *Lab
	i      int // machine, from 1
	name   string
	roles  []string
	dir    string
	config string
	proc   process
	keeper *keeper // nil: without the role patroni
	bare   bool    // its process is a member of the fleet and no gateway, for now
	local  *http.Client
}

func newNode(l *Lab, i int, n scenario.Node) *node {
	dir := filepath.Join(l.dir, n.Name)
	out := &node{lab: l, i: i, name: n.Name, dir: dir}
	out.roles = slices.DeleteFunc(slices.Clone(n.Roles), func(r string) bool { return r == "patroni" }) // which is no role of Foundry
	out.local = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "unix", l.o.Socket(out.data()))
	}}}
	return out
}

func (n *node) data() string         { return filepath.Join(n.dir, "d") }
func (n *node) has(role string) bool { return slices.Contains(n.roles, role) }
func (n *node) address() string      { return n.lab.net.address(n.i) }
func (n *node) https() string        { return net.JoinHostPort(n.address(), "8443") }
func (n *node) rolesText() string    { return strings.Join(n.roles, ",") }
func (n *node) up() bool             { return n.proc.runs() }

// start starts the node's process, and Patroni beside it.
func (n *node) start() error { return errors.Join(n.proc.start(n.command()), n.startKeeper()) }

// command starts the node; `ip netns exec` becomes the program.
func (n *node) command() *exec.Cmd {
	roles := n.rolesText()
	if n.bare {
		roles = strings.Join(n.withoutGateway(), ",")
	}
	cmd := n.lab.net.on(n.i, n.lab.o.Binary, "serve", "--config", n.config, "--role", roles, "--json")
	cmd.Env = n.lab.environment()
	return cmd
}

// each signals every process of the node, also those that outlived their
// parent.
func (n *node) each(sig syscall.Signal) {
	for _, pid := range slices.Concat(n.lab.net.inSpace(n.i), besides(n.dir+string(filepath.Separator))) {
		_ = syscall.Kill(pid, sig)
	}
	_ = n.proc.signal(sig)
}

// kill takes the node's power away.
func (n *node) kill() {
	n.each(syscall.SIGKILL)
	n.proc.kill()
	if n.keeper != nil {
		n.keeper.proc.kill()
	}
	n.each(syscall.SIGKILL) // what was being started meanwhile
}

// run runs a command of the product on the node's machine.
func (n *node) run(ctx context.Context, args ...string) (out string, err error) {
	var stdout, stderr bytes.Buffer
	cmd := n.lab.net.on(n.i, n.lab.o.Binary, append(args, "--data-dir", n.data())...)
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = n.lab.environment()
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: foundry %s: %w: %s", n.name, strings.Join(args[:min(2, len(args))], " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// call asks the node's interface by its local socket.
func (n *node) call(ctx context.Context, method, path string, in, into any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://foundry/api/v1"+path, body)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := n.local.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 32<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s: %s %s: %d %s", n.name, method, path, resp.StatusCode, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}
