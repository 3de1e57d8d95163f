//go:build linux

// Command recovery measures backups, drills and the recovery of a bare machine
// against pgBackRest run by hand: on the same data and repository, in the same
// run, one after the other.
//
// What is wrong makes it fail; what is slow does not, because a machine that
// others use too says nothing about the code.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "recovery:", err)
		stop()
		os.Exit(1)
	}
}

func bench(ctx context.Context) (err error) {
	scale := flag.Int("scale", 160, "size of the data, in units of pgbench: about 15 MB each")
	rounds := flag.Int("rounds", 3, "how often each is measured")
	writes := flag.Duration("writes", 40*time.Second, "how long rows are written in each round before the machine is lost")
	program := flag.String("foundry", "", "the program to measure (default: built from this tree)")
	parent := flag.String("dir", "", "directory on the disk to measure on (default: the system's for temporary files)")
	flag.Parse()

	dir, err := os.MkdirTemp(*parent, "foundry-recovery-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o711); err != nil { // the server's own user passes through
		return err
	}
	s := &stage{dir: dir, program: *program, peaks: map[string]int64{}}
	defer s.close()
	if s.program == "" {
		s.program = filepath.Join(dir, "foundry")
		if err := run(ctx, "go", "build", "-trimpath", "-o", s.program, "./cmd/foundry"); err != nil {
			return err
		}
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	if err := s.fill(ctx, *scale); err != nil {
		return err
	}
	r := &report{}
	if r.bytes, err = s.size(ctx); err != nil {
		return err
	}
	for n := range *rounds {
		fmt.Fprintf(os.Stderr, "recovery: round %d of %d\n", n+1, *rounds)
		if err := s.round(ctx, r, n, *writes); err != nil {
			return err
		}
	}
	r.peaks = s.peaks
	r.print(os.Stdout)
	return nil
}
