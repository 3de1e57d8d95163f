//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// insecure trusts any certificate: what is measured is the time, on loopback.
func insecure() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // see above
}

// byHand runs pgBackRest as Foundry does, and says how long it took.
func (s *stage) byHand(ctx context.Context, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, "pgbackrest", append([]string{"--config=" + s.config, "--stanza=foundry", "--log-level-console=warn"}, args...)...)
	cmd.Dir, cmd.Env = "/", []string{"HOME=/", "PATH=/usr/bin:/bin", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.account}
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("pgbackrest %s: %w: %s", args[len(args)-1], err, out)
	}
	return time.Since(began), nil
}

// round measures a backup and a restore by hand and by Foundry.
func (s *stage) round(ctx context.Context, r *report) error {
	data := filepath.Join(s.data, "postgres", "data")
	c, err := s.connect(ctx, "foundry_migrator")
	if err != nil {
		return err
	}
	host := c.Config().Host
	_ = c.Close(ctx)
	hand, err := s.byHand(ctx, "--pg1-path="+data, "--pg1-socket-path="+host, "--pg1-port=5432", "--pg1-user=foundry_backup", "--pg1-database=postgres", "--type=full", "--start-fast", "backup")
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := s.foundry(ctx, "backup", "run", "database", "--type", "full", "--json"); err != nil {
		return err
	}
	r.backup = append(r.backup, pair{hand, time.Since(began)})

	restored := filepath.Join(s.dir, "by-hand")
	if err := os.Mkdir(restored, 0o700); err != nil {
		return err
	}
	if s.account != nil {
		if err := os.Chown(restored, int(s.account.Uid), int(s.account.Gid)); err != nil {
			return err
		}
	}
	defer func() { _ = os.RemoveAll(restored) }()
	if hand, err = s.byHand(ctx, "--pg1-path="+restored, "--archive-mode=off", "restore"); err != nil {
		return err
	}
	if err := os.RemoveAll(restored); err != nil {
		return err
	}
	began = time.Now()
	out, err := s.foundry(ctx, "backup", "drill", "--json")
	whole := time.Since(began)
	if err != nil {
		return err
	}
	d, err := readDrill(out)
	if err != nil {
		return err
	}
	r.restore = append(r.restore, pair{hand, time.Duration(d.Restore * float64(time.Second))})
	r.drill = append(r.drill, pair{time.Duration(d.Recovery * float64(time.Second)), whole})
	r.prove = append(r.prove, d.Prove)
	return nil
}

type drill struct {
	Outcome, Reason string
	Restore         float64 `json:"restore_seconds"`
	Recovery        float64 `json:"recovery_seconds"`
	Prove           float64 `json:"prove_seconds"`
}

// readDrill finds the drill in what the command printed.
func readDrill(out []byte) (d drill, err error) {
	if err := json.Unmarshal(out, &d); err != nil {
		return d, fmt.Errorf("reading the drill: %w", err)
	}
	if d.Outcome != "pass" {
		return d, fmt.Errorf("the drill came to %q: %s", d.Outcome, d.Reason)
	}
	return d, nil
}

// lose writes rows all the time, kills everything without warning, and
// recovers onto a bare directory from the kit.
func (s *stage) lose(ctx context.Context, r *report, writes time.Duration) error {
	fmt.Fprintln(os.Stderr, "recovery: making the kit, then writing until the machine is lost")
	shares := filepath.Join(s.dir, "shares")
	if _, err := s.foundry(ctx, "breakglass", "create", "--threshold", "2", "--shares", "3", "--holder", "a", "--holder", "b", "--holder", "c", "--out", shares, "--reason", "measuring recovery"); err != nil {
		return err
	}
	kit := ""
	for deadline := time.Now().Add(time.Minute); kit == ""; time.Sleep(100 * time.Millisecond) {
		if found, _ := filepath.Glob(filepath.Join(s.dir, "offsite", "foundry-kit-*.age")); len(found) == 1 {
			kit = found[0]
		} else if time.Now().After(deadline) {
			return errors.New("no kit came to the target")
		}
	}
	acknowledged, rows, err := s.write(ctx, writes)
	if err != nil {
		return err
	}
	r.written = rows
	if err := s.kill(); err != nil {
		return err
	}
	if err := os.Rename(s.data, s.data+".lost"); err != nil {
		return err
	}
	// Nothing of the old machine's memory: the new one has read neither.
	to := filepath.Join(s.dir, "new")
	began := time.Now()
	cmd := exec.CommandContext(ctx, s.program, "recover", "--json", "--kit", kit, "--data-dir", to, "--share", filepath.Join(shares, "share-1.txt"), "--share", filepath.Join(shares, "share-2.txt"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if _, err = s.watch(cmd); err != nil {
		return fmt.Errorf("recovering: %w: %s", err, &stderr)
	}
	recovered := time.Since(began)
	if err := run(ctx, s.program, "recover", "--activate", "--data-dir", to); err != nil {
		return err
	}
	if err := s.up(ctx, to); err != nil {
		return err
	}
	if err := s.answers(ctx, to); err != nil {
		return err
	}
	r.answered, r.recovered = time.Since(began), recovered
	s.data = to
	c, err := s.connect(ctx, "foundry_migrator")
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	var newest time.Time
	var kept int64
	if err := c.QueryRow(ctx, `SELECT max(at), count(*) FROM bench.writes`).Scan(&newest, &kept); err != nil {
		return err
	}
	r.gap, r.lost, r.peak = acknowledged.Sub(newest), rows-kept, s.peak
	return nil
}

// write inserts rows one after the other until the time is over, and says when
// the last one was acknowledged, by the server's clock.
func (s *stage) write(ctx context.Context, how time.Duration) (last time.Time, rows int64, err error) {
	c, err := s.connect(ctx, "foundry_migrator")
	if err != nil {
		return last, 0, err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	body := strings.Repeat("x", 500)
	for end := time.Now().Add(how); time.Now().Before(end); rows++ {
		if err := c.QueryRow(ctx, `INSERT INTO bench.writes (body) VALUES ($1) RETURNING at`, body).Scan(&last); err != nil {
			return last, rows, err
		}
	}
	return last, rows, nil
}

// kill ends the node and its server at once.
func (s *stage) kill() error {
	text, err := os.ReadFile(filepath.Join(s.data, "postgres", "data", "postmaster.pid"))
	if err != nil {
		return err
	}
	var server int
	if _, err := fmt.Sscan(string(text), &server); err != nil {
		return err
	}
	s.remember(s.node.Process)
	_ = s.node.Process.Kill()
	_ = syscall.Kill(server, syscall.SIGKILL)
	_ = s.node.Wait()
	s.node = nil
	return nil
}
