//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cost is what something took: time, and processor time of everything that
// worked for it and has ended.
type cost struct{ wall, cpu time.Duration }

// hand is pgBackRest as somebody runs it who knows it: with the configuration
// that Foundry made, segments fetched ahead by a replay as Foundry does it, and
// locks and spool of its own.
type hand struct {
	s      *stage
	config string
}

// handConfig copies the configuration of the running node: it is needed when
// the node is gone.
func (s *stage) handConfig() (*hand, error) {
	h := &hand{s: s, config: filepath.Join(s.dir, "by-hand.conf")}
	text, err := os.ReadFile(s.config)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"lock", "log", "spool"} {
		dir := filepath.Join(s.dir, "by-hand-"+name)
		if err := s.own(dir); err != nil {
			return nil, err
		}
		var out []string
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, name+"-path=") {
				line = name + "-path=" + dir + "\n"
			}
			out = append(out, line)
		}
		text = []byte(strings.Join(out, ""))
	}
	text = append(text, "\n[global:archive-get]\narchive-async=y\n"...)
	if err := os.WriteFile(h.config, text, 0o600); err != nil {
		return nil, err
	}
	return h, s.give(h.config)
}

// own makes a directory for the server's account.
func (s *stage) own(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return s.give(dir)
}

func (s *stage) give(path string) error {
	if s.account == nil {
		return nil
	}
	return os.Chown(path, int(s.account.Uid), int(s.account.Gid))
}

func (h *hand) run(ctx context.Context, args ...string) (cost, error) {
	cmd := exec.CommandContext(ctx, "pgbackrest", append([]string{"--config=" + h.config, "--stanza=foundry", "--log-level-console=error"}, args...)...)
	cmd.Dir, cmd.Env = "/", []string{"HOME=/", "PATH=/usr/bin:/bin", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: h.s.account}
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return cost{}, fmt.Errorf("pgbackrest %s: %w: %s", args[len(args)-1], err, out)
	}
	return cost{time.Since(began), used(cmd.ProcessState)}, nil
}

func used(p *os.ProcessState) time.Duration { return p.UserTime() + p.SystemTime() }

// backup makes a full backup of the running node's database.
func (h *hand) backup(ctx context.Context) (cost, error) {
	data := filepath.Join(h.s.data, "postgres", "data")
	socket, err := h.s.socket()
	if err != nil {
		return cost{}, err
	}
	return h.run(ctx, "--pg1-path="+data, "--pg1-socket-path="+socket, "--pg1-port=5432", "--pg1-user=foundry_backup", "--pg1-database=postgres", "--type=full", "--start-fast", "backup")
}

// restore restores to the end of the log, and starts a server on it until it
// takes connections. forced: it is to be the database, so what it writes is
// forced to disk, as a recovery does; a drill's copy is not.
func (h *hand) restore(ctx context.Context, forced bool) (restored, answered cost, err error) {
	dir := filepath.Join(h.s.dir, "by-hand")
	data := filepath.Join(dir, "data")
	for _, d := range []string{dir, data} {
		if err := h.s.own(d); err != nil {
			return restored, answered, err
		}
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if restored, err = h.run(ctx, "--pg1-path="+data, "--archive-mode=off", "--recovery-option=recovery_target_action=promote", "restore"); err != nil {
		return restored, answered, err
	}
	started, err := h.start(ctx, dir, data, forced)
	return restored, cost{restored.wall + started.wall, restored.cpu + started.cpu}, err
}

// start starts a server as Foundry starts one on what it restored.
func (h *hand) start(ctx context.Context, dir, data string, forced bool) (cost, error) {
	settings := map[string]string{"listen_addresses": "", "unix_socket_directories": dir, "archive_mode": "off", "hot_standby": "off", "autovacuum": "off"}
	if forced {
		settings["shared_buffers"], settings["max_wal_size"], settings["max_connections"] = "96MB", "512MB", "60"
	} else {
		settings["fsync"], settings["full_page_writes"], settings["synchronous_commit"] = "off", "off", "off"
		settings["shared_buffers"], settings["max_wal_size"], settings["max_connections"] = "32MB", "256MB", "20"
	}
	args := []string{"-D", data}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(h.s.server, "postgres"), args...)
	cmd.Dir, cmd.Env = "/", []string{"HOME=/", "PATH=/usr/bin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: h.s.account}
	var out bytes.Buffer
	cmd.Stderr = &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return cost{}, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		// The eighth line says how the server is (utils/pidfile.h).
		text, _ := os.ReadFile(filepath.Join(data, "postmaster.pid"))
		if lines := strings.Split(string(text), "\n"); len(lines) > 7 && strings.TrimSpace(lines[7]) == "ready" {
			break
		}
		select {
		case err := <-ended:
			return cost{}, fmt.Errorf("the server ended: %w: %s", err, &out)
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGQUIT)
			return cost{}, errors.Join(ctx.Err(), <-ended)
		case <-time.After(5 * time.Millisecond):
		}
	}
	wall := time.Since(began)
	_ = cmd.Process.Signal(syscall.SIGINT)
	<-ended
	return cost{wall, used(cmd.ProcessState)}, nil
}

// settle gives every measurement the same disk: nothing waits to be written.
func settle() {
	unix.Sync()
	time.Sleep(time.Second)
}
