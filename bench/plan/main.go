//go:build linux

// Command plan measures how long it takes to read and check a continuity plan,
// and to ask what falls with each thing that can be lost, for plans of four
// sizes: whether the time grows with the size or faster.
//
// What is wrong makes it fail; what is slow does not, because a machine that
// others use too says nothing about the code.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/lint"
	"github.com/missionopsai/foundry/internal/plan/plantest"
)

func main() {
	if err := bench(); err != nil {
		fmt.Fprintln(os.Stderr, "plan:", err)
		os.Exit(1)
	}
}

// size is one plan and what was measured of it.
type size struct {
	functions, nodes int
	bytes            int
	read, check      []cost
	whatif           []cost
	losses           int
	program          []cost
	peak             int64 // resident memory of the program, bytes
}

// cost is what something took: on the clock, and of the processors.
type cost struct{ wall, cpu time.Duration }

func bench() error {
	rounds := flag.Int("rounds", 5, "how often each is measured")
	program := flag.String("foundry", "", "the program to measure (default: built from this tree)")
	flag.Parse()
	dir, err := os.MkdirTemp("", "foundry-plan-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if *program == "" {
		*program = filepath.Join(dir, "foundry")
		if out, err := exec.Command("go", "build", "-trimpath", "-o", *program, "./cmd/foundry").CombinedOutput(); err != nil {
			return fmt.Errorf("building the program: %w\n%s", err, out)
		}
	}
	var sizes []*size
	for _, functions := range []int{125, 250, 500, 1000} {
		s := &size{functions: functions, nodes: functions / 5}
		if err := s.measure(dir, *program, *rounds); err != nil {
			return err
		}
		sizes = append(sizes, s)
	}
	return print(os.Stdout, sizes)
}

func (s *size) measure(dir, program string, rounds int) error {
	text := plantest.Sized(s.functions, s.nodes)
	s.bytes = len(text)
	file := filepath.Join(dir, fmt.Sprintf("%d.yaml", s.functions))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	now := time.Date(2026, time.November, 23, 12, 0, 0, 0, time.UTC)
	for range rounds {
		var p *plan.Plan
		var err error
		s.read = append(s.read, timed(func() { p, err = plan.Load(file) }))
		if err != nil {
			return err
		}
		s.check = append(s.check, timed(func() { lint.Check(p, lint.Options{Now: now}) }))
		things := p.Losable()
		s.losses = len(things)
		s.whatif = append(s.whatif, timed(func() {
			for _, t := range things {
				p.Falls(plan.Measured{}, t)
			}
		}))
		if err := s.run(program, file); err != nil {
			return err
		}
	}
	return nil
}

// run measures the whole program, as a person or a pipeline starts it.
func (s *size) run(program, file string) error {
	cmd := exec.Command(program, "plan", "check", "--json", file)
	start := time.Now()
	err := cmd.Run()
	wall := time.Since(start)
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() > 1 {
		return fmt.Errorf("checking %s: %w", file, err)
	}
	s.program = append(s.program, cost{wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()})
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		s.peak = max(s.peak, u.Maxrss<<10)
	}
	return nil
}

func timed(what func()) cost {
	cpu, start := used(), time.Now()
	what()
	return cost{time.Since(start), used() - cpu}
}

// used is the time of the processors that this process has taken.
func used() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// middle is the median by the clock and by the processors, each for itself.
func middle(list []cost) cost {
	var walls, cpus []time.Duration
	for _, c := range list {
		walls, cpus = append(walls, c.wall), append(cpus, c.cpu)
	}
	slices.Sort(walls)
	slices.Sort(cpus)
	return cost{walls[len(walls)/2], cpus[len(cpus)/2]}
}
