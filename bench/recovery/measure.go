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

// pairs measures one thing by hand and by Foundry, in an order that changes from
// round to round, each with a disk that has nothing to write.
func pairs(n int, hand, foundry func() error) error {
	both := []func() error{hand, foundry}
	if n%2 == 1 {
		both[0], both[1] = both[1], both[0]
	}
	for _, do := range both {
		settle()
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// round measures a backup, a restore and a drill by hand and by Foundry; and
// then the loss of the machine.
func (s *stage) round(ctx context.Context, r *report, n int, writes time.Duration) error {
	h, err := s.handConfig()
	if err != nil {
		return err
	}
	var backup, restore, drill, own pair
	err = pairs(n, func() (err error) {
		backup.hand, err = h.backup(ctx)
		return err
	}, func() (err error) {
		backup.foundry, _, err = s.measured(ctx, "backup", "run", "database", "--type", "full", "--json")
		return err
	})
	if err != nil {
		return err
	}
	err = pairs(n, func() (err error) {
		restore.hand, drill.hand, err = h.restore(ctx, false)
		return err
	}, func() error {
		whole, out, err := s.measured(ctx, "backup", "drill", "--json")
		if err != nil {
			return err
		}
		d, err := readDrill(out)
		if err != nil {
			return err
		}
		restore.foundry = cost{wall: seconds(d.Restore)}
		drill.foundry, own = whole, pair{cost{wall: seconds(d.Recovery)}, whole}
		r.prove = append(r.prove, d.Prove)
		return nil
	})
	if err != nil {
		return err
	}
	r.backup, r.restore, r.drill, r.own = append(r.backup, backup), append(r.restore, restore), append(r.drill, drill), append(r.own, own)
	return s.lose(ctx, r, h, n, writes)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// measured gives the node a command, and says what it cost.
func (s *stage) measured(ctx context.Context, args ...string) (c cost, out []byte, err error) {
	began, before := time.Now(), spent(s.node.Process)
	out, err = s.foundry(ctx, args...)
	return cost{time.Since(began), spent(s.node.Process) - before}, out, err
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
// recovers onto a bare directory from the kit; and from the same repository by
// hand. The recovered node goes on as the node.
func (s *stage) lose(ctx context.Context, r *report, h *hand, n int, writes time.Duration) error {
	fmt.Fprintln(os.Stderr, "recovery: writing until the machine is lost")
	if err := s.makeKit(ctx); err != nil {
		return err
	}
	began := time.Now()
	acknowledged, rows, err := s.write(ctx, writes)
	if err != nil {
		return err
	}
	if err := s.kill(); err != nil {
		return err
	}
	lost := s.data
	if err := os.Rename(lost, lost+".lost"); err != nil {
		return err
	}
	var bare, usable pair
	to := filepath.Join(s.dir, fmt.Sprintf("node-%d", n+1))
	// By hand first in every round: afterwards the repository has another history.
	// Both read it from memory, where the backups of this round left it.
	settle()
	if bare.hand, usable.hand, err = h.restore(ctx, true); err != nil {
		return err
	}
	settle()
	if bare.foundry, err = s.recover(ctx, r, to); err != nil {
		return err
	}
	usable.foundry = bare.foundry
	r.bare, r.usable = append(r.bare, bare), append(r.usable, usable)
	c, err := s.connect(ctx, "foundry_migrator")
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	var newest time.Time
	var kept int64
	if err := c.QueryRow(ctx, `SELECT coalesce(max(at), $1), count(*) FROM public.bench_writes`, began).Scan(&newest, &kept); err != nil {
		return err
	}
	r.losses = append(r.losses, loss{gap: acknowledged.Sub(newest), written: rows, lost: s.written + rows - kept})
	s.written = kept
	if err := os.RemoveAll(lost + ".lost"); err != nil {
		return err
	}
	if err := s.find(filepath.Join(s.dir, "offsite")); err != nil {
		return err
	}
	return s.idle(ctx)
}

// makeKit makes the recovery key, once, and waits until its kit is at the target.
func (s *stage) makeKit(ctx context.Context) error {
	if s.kit != "" {
		return nil
	}
	if _, err := s.foundry(ctx, "breakglass", "create", "--threshold", "2", "--shares", "3", "--holder", "a", "--holder", "b", "--holder", "c", "--out", filepath.Join(s.dir, "shares"), "--reason", "measuring recovery"); err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); s.kit == ""; time.Sleep(100 * time.Millisecond) {
		if found, _ := filepath.Glob(filepath.Join(s.dir, "offsite", "foundry-kit-*.age")); len(found) == 1 {
			s.kit = found[0]
		} else if time.Now().After(deadline) {
			return errors.New("no kit came to the target")
		}
	}
	return nil
}

// recover brings the node back, from the kit to the first answer to a request.
func (s *stage) recover(ctx context.Context, r *report, to string) (c cost, err error) {
	share := func(n int) string { return filepath.Join(s.dir, "shares", fmt.Sprintf("share-%d.txt", n)) }
	began := time.Now()
	cmd := exec.CommandContext(ctx, s.program, "recover", "--json", "--kit", s.kit, "--data-dir", to, "--share", share(1), "--share", share(2))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := s.watch(cmd, "recover")
	if err != nil {
		return c, fmt.Errorf("recovering: %w: %s", err, &stderr)
	}
	fenced := time.Since(began)
	if err := run(ctx, s.program, "recover", "--activate", "--data-dir", to); err != nil {
		return c, err
	}
	if err := s.up(ctx, to); err != nil {
		return c, err
	}
	if err := s.answers(ctx, to); err != nil {
		return c, err
	}
	c = cost{time.Since(began), used(cmd.ProcessState)}
	s.data = to
	steps, err := readSteps(out)
	r.steps = append(r.steps, steps)
	r.fenced = append(r.fenced, fenced)
	return c, err
}

// step is a step of a recovery.
type step struct {
	Name  string
	Began time.Time
	Ended time.Time
}

func readSteps(out []byte) ([]step, error) {
	var r struct {
		Steps []step
		Proof struct{ Outcome, Reason string }
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return nil, fmt.Errorf("reading the recovery: %w", err)
	}
	if r.Proof.Outcome != "pass" {
		return nil, fmt.Errorf("the recovery came to %q: %s", r.Proof.Outcome, r.Proof.Reason)
	}
	return r.Steps, nil
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
		if err := c.QueryRow(ctx, `INSERT INTO public.bench_writes (body) VALUES ($1) RETURNING at`, body).Scan(&last); err != nil {
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
	s.remember("up", s.node.Process)
	_ = s.node.Process.Kill()
	_ = syscall.Kill(server, syscall.SIGKILL)
	_ = s.node.Wait()
	s.node = nil
	return nil
}
