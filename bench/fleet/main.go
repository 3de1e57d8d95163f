//go:build linux

// Command fleet measures a fleet of real processes on this machine: how fast
// another member leads when the leader is killed, beside a plain etcd with the
// same times; how fast a loss is suspected; what a member weighs; what watching
// 200 functions costs; and whether anybody is accused wrongly while every
// processor is busy.
//
// A false verdict makes it fail; slowness does not, because a machine that
// others use too says nothing about the code.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch args := os.Args[1:]; {
	case len(args) == 1 && args[0] == "burn":
		burn()
	case len(args) > 1 && args[0] == "targets":
		err = serveTargets(ctx, args[1], args[2:])
	case len(args) == 2 && args[0] == "etcd":
		err = runEtcd(ctx, args[1])
	default:
		err = bench(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		stop()
		os.Exit(1)
	}
}

// burn keeps one processor busy.
func burn() {
	runtime.GOMAXPROCS(1)
	for n := uint64(0); ; n++ {
		runtime.KeepAlive(n)
	}
}

type options struct {
	program   string
	kills     int
	starts    int
	functions int
	probes    time.Duration
	soak      time.Duration
	burners   int
}

func bench(ctx context.Context) error {
	var o options
	flag.IntVar(&o.kills, "kills", 20, "how often the leader of three members is killed, and as often that of a plain etcd; 0: not at all")
	flag.IntVar(&o.starts, "starts", 3, "how often `foundry up` is started; 0: not at all")
	flag.IntVar(&o.functions, "functions", 200, "functions that five members watch")
	flag.DurationVar(&o.probes, "probes", time.Minute, "for how long they do; 0: not at all")
	flag.DurationVar(&o.soak, "soak", 0, "instead of all else: for how long three members watch 24 functions while every processor is busy")
	flag.IntVar(&o.burners, "burn", runtime.NumCPU(), "processes that keep a processor busy during the soak")
	flag.StringVar(&o.program, "foundry", "", "the program to measure (default: built from this tree)")
	short := flag.Bool("short", false, "two kills and one start: shows that it works, says nothing about speed")
	parent := flag.String("dir", "", "directory on the disk to measure on (default: the system's for temporary files)")
	flag.Parse()
	if *short {
		o.kills, o.starts, o.probes = 2, 1, 0
	}
	dir, err := os.MkdirTemp(*parent, "foundry-fleet-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o711); err != nil { // the server's own user passes through
		return err
	}
	if o.program == "" {
		o.program = filepath.Join(dir, "foundry")
		if out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", o.program, "./cmd/foundry").CombinedOutput(); err != nil {
			return fmt.Errorf("building foundry (run this from the top of the repository): %w: %s", err, out)
		}
	}
	var u unix.Utsname
	_ = unix.Uname(&u)
	fmt.Printf("# Measured %s\n\n- %d processors, Linux %s, %s; load average at the beginning %s\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"),
		runtime.NumCPU(), unix.ByteSliceToString(u.Release[:]), runtime.Version(), loadAverage())
	if o.soak > 0 {
		return soak(ctx, dir, o)
	}
	for _, part := range []struct {
		on bool
		do func(context.Context, string, options) error
	}{{o.kills > 0, leaders}, {o.starts > 0, starts}, {o.probes > 0, watching}} {
		if !part.on {
			continue
		}
		if err := part.do(ctx, dir, o); err != nil {
			return errors.Join(err, ctx.Err())
		}
	}
	return nil
}

// loadAverage is of the last minute.
func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
