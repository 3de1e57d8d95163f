//go:build linux

// Command bench measures the gateway against nginx and Go's own reverse proxy:
// in the same run, before the same upstream, under load from another process.
//
// Wrong, cut or missing answers make it fail; slowness does not, because a
// machine that others use too says nothing about the code.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch args := os.Args[1:]; {
	case len(args) > 0 && args[0] == "load":
		err = makeLoad()
	case len(args) > 0 && args[0] == "proxy":
		err = runProxy(ctx, args[1:])
	case len(args) == 2 && args[0] == "upstream":
		err = runFlushing(ctx, args[1])
	default:
		err = bench(ctx, args)
	}
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	if p := (*problem.Error)(nil); errors.As(err, &p) && p.Mend != "" {
		fmt.Fprintln(os.Stderr, "  →", p.Mend)
	}
	stop()
	os.Exit(1)
}

// size is how long to measure.
type size struct {
	rounds  int
	extra   int // more rounds, to replace those in which others used the machine
	warm    time.Duration
	round   time.Duration
	soak    int // requests of the long run
	streams int // streams that are counted
}

var (
	shortSize  = size{rounds: 1, warm: 100 * time.Millisecond, round: 500 * time.Millisecond, soak: 10_000, streams: 1_000}
	normalSize = size{rounds: 3, extra: 2, warm: 300 * time.Millisecond, round: 3 * time.Second, soak: 100_000, streams: 10_000}
	fullSize   = size{rounds: 5, extra: 5, warm: 500 * time.Millisecond, round: 5 * time.Second, soak: 1_000_000, streams: 10_000}
)

// options are what the command line says.
type options struct {
	size
	foundry string
	apart   bool
	dir     string
	only    *regexp.Regexp
	profile *regexp.Regexp
	results string
}

func parse(args []string) (*options, error) {
	o := &options{size: normalSize}
	f := flag.NewFlagSet("bench", flag.ExitOnError)
	short := f.Bool("short", false, "less than two minutes: shows that everything works, says little about speed")
	full := f.Bool("full", false, "five rounds of five seconds and a million requests: half an hour to an hour")
	rounds := f.Int("rounds", 0, "rounds of each subject in each setting")
	round := f.Duration("round", 0, "how long a round is")
	soak := f.Int("soak", -1, "requests of the long run, 0 for none")
	only := f.String("only", "", "regular expression: measure only the settings that match, for example ^whole$")
	f.StringVar(&o.foundry, "foundry", "", "the program to measure (default: built from this tree)")
	f.BoolVar(&o.apart, "apart", false, "run the node's place in the fleet in a process of its own, as in production, and measure the gateway alone")
	f.StringVar(&o.dir, "dir", "", "directory on the disk that the data directory is to be on (default: the system's for temporary files)")
	profile := f.String("profile", "^$", "regular expression: take CPU profiles of the node in the settings that match, for example ^whole$, and show where the time goes")
	f.StringVar(&o.results, "results", "", "write every sample to this file, as JSON")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case *full:
		o.size = fullSize
	case *short:
		o.size = shortSize
	}
	if *rounds > 0 {
		o.rounds = *rounds
	}
	if *round > 0 {
		o.round = *round
	}
	if *soak >= 0 {
		o.soak = *soak
	}
	var err, perr error
	o.only, err = regexp.Compile(*only)
	o.profile, perr = regexp.Compile(*profile)
	return o, errors.Join(err, perr)
}

func bench(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	nginx, err := nginxProgram()
	if err != nil {
		return err
	}
	s := &stage{apart: o.apart}
	if s.dir, err = os.MkdirTemp(o.dir, "foundry-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(s.dir) }()
	// The database's and nginx's unprivileged users must pass through.
	if err := os.Chmod(s.dir, 0o711); err != nil {
		return err
	}
	program := o.foundry
	if program == "" {
		if program, err = compile(ctx, s.dir); err != nil {
			return err
		}
	}
	defer s.close()
	if err := s.build(ctx, program, nginx); err != nil {
		return err
	}
	for _, v := range s.subjects {
		for _, address := range slices.Concat(v.plain[:], v.secure[:]) {
			if err := answersAt(ctx, address); err != nil {
				return fmt.Errorf("%s: %w", v.title, err)
			}
		}
	}
	r := &report{size: o.size, facts: facts(s.dir, nginx), began: time.Now()}
	r.print()
	if err = measure(ctx, s, o, r); err != nil && ctx.Err() == nil {
		err = errors.Join(err, s.dead())
	}
	if o.results != "" {
		if werr := r.save(o.results); err == nil {
			err = werr
		}
	}
	return err
}

// compile builds the program that is measured.
func compile(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "foundry")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "./cmd/foundry")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("building foundry (run this from the top of the repository): %w", err)
	}
	return path, nil
}

// measure runs every setting, then the long runs, and reports as it goes.
func measure(ctx context.Context, s *stage, o *options, r *report) error {
	for _, sc := range scenarios {
		for _, secure := range []bool{false, true} {
			set := setting{sc, secure}
			if !o.only.MatchString(set.key()) {
				continue
			}
			t, err := s.rounds(ctx, set, o)
			if err != nil {
				return err
			}
			r.add(t)
			if o.profile.MatchString(set.key()) {
				if err := s.profiled(ctx, set, o, r); err != nil {
					return err
				}
			}
		}
	}
	if o.soak > 0 {
		if err := s.soak(ctx, o, r); err != nil {
			return err
		}
	}
	_, peak := memory(s.node.pid)
	r.finish(peak)
	return r.verdict()
}

// quiet is the share of the machine that others may use in a round without
// having it repeated.
const quiet = 0.05

// rounds measures one setting: every subject once, then all of them again, so
// that whatever else the machine does meets them alike. Rounds in which others
// used the machine are repeated, as far as there are extra rounds for it; the
// quietest are kept.
func (s *stage) rounds(ctx context.Context, set setting, o *options) (*table, error) {
	type lap struct {
		samples []sample
		noise   float64
	}
	var laps []lap
	for calm := 0; calm < o.rounds && len(laps) < o.rounds+o.extra; {
		var l lap
		for _, v := range s.subjects {
			load := s.loadOptions(v, set)
			load.Warm, load.Duration = o.warm, o.round
			got, err := s.round(ctx, v, load, nil)
			if err != nil {
				return nil, err
			}
			l.samples, l.noise = append(l.samples, got), max(l.noise, got.Foreign+got.Stolen)
		}
		laps = append(laps, l)
		if l.noise <= quiet {
			calm++
		}
	}
	slices.SortFunc(laps, func(a, b lap) int { return cmp.Compare(a.noise, b.noise) })
	t := &table{setting: set, subjects: s.subjects, samples: make([][]sample, len(s.subjects)), dropped: len(laps) - o.rounds}
	for i := range s.subjects {
		for j, l := range laps {
			if j < o.rounds {
				t.samples[i] = append(t.samples[i], l.samples[i])
			} else {
				t.others = append(t.others, l.samples[i])
			}
		}
	}
	return t, nil
}

// save keeps every sample for those who want to look closer.
func (r *report) save(path string) error {
	type row struct {
		Setting, Subject string
		Samples          []sample
	}
	var rows []row
	for _, t := range r.tables {
		for i, v := range t.subjects {
			rows = append(rows, row{t.key(), v.name, t.samples[i]})
		}
	}
	text, err := json.MarshalIndent(map[string]any{"facts": r.facts, "began": r.began, "rows": rows, "soak": r.soak}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
