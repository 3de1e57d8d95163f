//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
)

// starts measures how long `foundry up` takes until it answers.
func starts(ctx context.Context, dir string, o options) error {
	var took, peak spread
	for i := range o.starts {
		cmd := exec.CommandContext(ctx, o.program, "up", "--json", "--data-dir", filepath.Join(dir, fmt.Sprint("up-", i)), "--https", "127.0.0.1:0", "--http", "off")
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		began := time.Now()
		if err := cmd.Start(); err != nil {
			return err
		}
		var ready struct {
			URL string `json:"url"`
		}
		err = json.NewDecoder(out).Decode(&ready)
		took = append(took, time.Since(began).Seconds())
		pause(ctx, 15*time.Second)
		_, p := memory(cmd.Process.Pid)
		peak = append(peak, p)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if werr := cmd.Wait(); err != nil || werr != nil {
			return errors.Join(err, werr)
		}
	}
	fmt.Printf("\n## `foundry up` on an empty directory, %d times\n\n| | target | measured |\n|---|---|---|\n", o.starts)
	fmt.Printf("| ready, seconds | ≤ 5 | %s %s |\n| memory at its highest within 15 s, nobody asking, MB | | %s |\n", took, verdictOf(took.max() <= 5), peak)
	return nil
}

// watching measures what it costs five members to watch functions.
func watching(ctx context.Context, dir string, o options) error {
	const size = 5
	t, err := newTargets(dir, o.functions, nil)
	if err != nil {
		return err
	}
	defer t.close()
	w, err := newWorld(ctx, filepath.Join(dir, "five"), o.program, size, nil, []string{"SSL_CERT_FILE=" + t.roots})
	if err != nil {
		return err
	}
	defer w.close()
	cost := func() (per spread) {
		before := make([]float64, size)
		began := time.Now()
		for i, n := range w.nodes {
			before[i] = processor(n.cmd.Process.Pid)
		}
		pause(ctx, o.probes)
		for i, n := range w.nodes {
			per = append(per, 100*(processor(n.cmd.Process.Pid)-before[i])/time.Since(began).Seconds())
		}
		return per
	}
	pause(ctx, 10*time.Second)
	idle := cost()
	if err := w.publish(ctx, t.plan(size, "30s")); err != nil {
		return err
	}
	pause(ctx, 35*time.Second) // every function was looked at once
	busy := cost()
	var more, rss spread
	for i, n := range w.nodes {
		more = append(more, busy[i]-idle[i])
		_, p := memory(n.cmd.Process.Pid)
		rss = append(rss, p)
	}
	fine := 0
	p, err := w.nodes[0].picture(ctx)
	if err != nil {
		return err
	}
	for _, f := range p.Functions {
		if f.Looked && f.Verdict.State == verdict.Fine {
			fine++
		}
	}
	fmt.Printf("\n## %d functions, a page over TLS each, every 30 s, from each of %d members, for %s\n\nLoad average at the end %s; %d functions are fine.\n\n| | target | measured |\n|---|---|---|\n", o.functions, size, o.probes, loadAverage(), fine)
	fmt.Printf("| a member that watches nothing, %% of a core | | %s |\n| what watching adds, %% of a core | ≤ 2 | %s %s |\n| both | | %s |\n", idle, more, verdictOf(more.max() <= 2), busy)
	fmt.Printf("| memory of a member at its highest, MB | ≤ 90 | %s %s |\n", rss, verdictOf(rss.max() <= 90))
	if fine != o.functions {
		return fmt.Errorf("only %d of %d functions are seen to be fine", fine, o.functions)
	}
	return nil
}

// soakFunctions is how many functions are watched in the soak.
const soakFunctions = 24

// seen is what the members held over the time of the soak.
type seen struct {
	suspicions map[string]int // times that a member came to suspect a subject
	lost       []string
	leaders    map[int64]string
	minority   int // looks at which a member heard no majority
	looks      int
	failed     int // looks that were not answered within a second
	other      map[string]int
	last       map[string]verdict.State
	loads      spread
}

// soak watches functions that are fine, from members that are fine, while every
// processor is busy. Whoever is held lost is accused wrongly.
func soak(ctx context.Context, dir string, o options) error {
	hosts, free := addresses(3)
	defer free()
	t, err := newTargets(dir, soakFunctions, hosts)
	if err != nil {
		return err
	}
	defer t.close()
	w, err := newWorld(ctx, dir, o.program, 3, hosts, []string{"SSL_CERT_FILE=" + t.roots})
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.publish(ctx, t.plan(3, "5s")); err != nil {
		return err
	}
	if err := w.until(ctx); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for range o.burners {
		b := exec.Command(self, "burn")
		if err := b.Start(); err != nil {
			return err
		}
		defer func() { _ = b.Process.Kill(); _ = b.Wait() }()
	}
	s := &seen{suspicions: map[string]int{}, leaders: map[int64]string{}, other: map[string]int{}, last: map[string]verdict.State{}}
	began := time.Now()
	for next := time.Now(); time.Since(began) < o.soak && ctx.Err() == nil; pause(ctx, 250*time.Millisecond) {
		for _, n := range w.nodes {
			s.look(ctx, n)
		}
		if time.Now().After(next) {
			var load float64
			_, _ = fmt.Sscan(loadAverage(), &load)
			s.loads, next = append(s.loads, load), next.Add(10*time.Second)
		}
	}
	var confirmed []fleet.Confirmed
	if err := w.nodes[0].get(ctx, "/fleet/losses", &confirmed); err != nil {
		return errors.Join(err, ctx.Err())
	}
	took := time.Since(began)
	if err := s.report(o, w, hosts != nil, confirmed, took); err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	return w.control(ctx, t)
}

// control takes away what is watched: a soak in which nothing could have been
// confirmed would say nothing.
func (w *world) control(ctx context.Context, t *targets) error {
	_ = t.cmd.Process.Kill()
	began := time.Now()
	lost := 0
	for end := began.Add(patience); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, time.Second) {
		p, err := w.nodes[0].picture(ctx)
		if err != nil {
			continue
		}
		lost = 0
		for _, f := range p.Functions {
			if f.Verdict.State == verdict.Lost {
				lost++
			}
		}
		if lost == soakFunctions {
			fmt.Printf("| afterwards everything that is watched is killed: all %d functions confirmed lost, seconds | | %.0f |\n", soakFunctions, time.Since(began).Seconds())
			return nil
		}
	}
	return fmt.Errorf("what is watched was killed, and only %d of %d functions were confirmed lost: the soak says nothing", lost, soakFunctions)
}

// until waits until every member holds every function to be fine.
func (w *world) until(ctx context.Context) error {
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, time.Second) {
		fine := 0
		for _, n := range w.nodes {
			p, err := n.picture(ctx)
			if err != nil {
				continue
			}
			for _, f := range p.Functions {
				if f.Looked && f.Verdict.State == verdict.Fine {
					fine++
				}
			}
		}
		if fine == soakFunctions*len(w.nodes) {
			return nil
		}
	}
	return errors.Join(errors.New("the functions were not seen to be fine before the soak"), ctx.Err())
}

func (s *seen) look(ctx context.Context, n *node) {
	s.looks++
	one, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	p, err := n.picture(one)
	if err != nil {
		s.failed++
		return
	}
	if !p.Majority {
		s.minority++
	}
	if p.Epoch > 0 && p.Leader != "" {
		s.leaders[p.Epoch] = p.Leader
	}
	all := map[string]verdict.Verdict{}
	for _, x := range p.Nodes {
		all[verdict.Node(x.Name)] = x.Verdict
	}
	for _, x := range p.Functions {
		all[verdict.Function(x.Name)] = x.Verdict
	}
	for subject, v := range all {
		of := n.name + " of " + subject
		if was := s.last[of]; was == v.State {
			continue
		}
		s.last[of] = v.State
		switch v.State {
		case verdict.Fine:
		case verdict.Suspected:
			s.suspicions[of]++
		case verdict.Lost:
			s.lost = append(s.lost, of+": "+v.Words)
		default:
			s.other[string(v.State)]++
		}
	}
}

func (s *seen) report(o options, w *world, ssh bool, confirmed []fleet.Confirmed, took time.Duration) error {
	total := 0
	for _, n := range s.suspicions {
		total += n
	}
	kinds := "one kind of signal for nodes (without root), two for functions"
	if ssh {
		kinds = "two kinds of signal for nodes and for functions"
	}
	fmt.Printf("\n## Soak: three members, %d functions, %d busy processes, %s\n\n%s. Load average %s.\n\n| | target | measured |\n|---|---|---|\n", soakFunctions, o.burners, took.Round(time.Second), kinds, s.loads)
	fmt.Printf("| losses held by any member at any look | 0 | %d %s |\n", len(s.lost), verdictOf(len(s.lost) == 0))
	fmt.Printf("| losses that the fleet confirmed | 0 | %d %s |\n", len(confirmed), verdictOf(len(confirmed) == 0))
	fmt.Printf("| suspicions | | %d, of %d pairs of member and subject |\n| other verdicts | | %v |\n| leaders of the fleet | | %d |\n", total, len(s.suspicions), s.other, len(s.leaders))
	fmt.Printf("| looks; at which a member heard no majority; that were not answered within a second | | %d; %d; %d |\n", s.looks, s.minority, s.failed)
	var rss spread
	for _, n := range w.nodes {
		_, p := memory(n.cmd.Process.Pid)
		rss = append(rss, p)
	}
	fmt.Printf("| memory of a member at its highest, MB | ≤ 90 | %s %s |\n", rss, verdictOf(rss.max() <= 90))
	if len(s.lost)+len(confirmed) == 0 {
		return nil
	}
	for _, c := range confirmed {
		s.lost = append(s.lost, fmt.Sprintf("confirmed by %s: %s: %s", c.By, c.Verdict.Subject, c.Verdict.Words))
	}
	slices.Sort(s.lost)
	return errors.New("somebody was accused wrongly:\n" + strings.Join(s.lost, "\n"))
}
