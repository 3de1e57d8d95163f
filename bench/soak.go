//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// tenth is a tenth of the long run.
type tenth struct {
	Gateway float64 // processor seconds per 1000 requests
	RSS     int64   // at its end
}

// soaked is what the long runs showed.
type soaked struct {
	Whole   sample
	Tenths  []tenth
	Each    int // requests in a tenth
	Streams sample
}

// soak makes the long runs, through the listener for a reverse proxy, with the
// strict kind of provider: many whole answers, which show whether memory or
// processor time grow, and streams that are counted.
func (s *stage) soak(ctx context.Context, o *options, r *report) error {
	v := s.subjects[strict]
	l := s.loadOptions(v, setting{scenario: scenarios[1]})
	l.Count = o.streams
	var out soaked
	var err error
	if out.Streams, err = s.round(ctx, v, l, nil); err != nil {
		return err
	}
	l = s.loadOptions(v, setting{scenario: scenarios[0]})
	// One tenth more, before the first: shipping lags behind by a second, so
	// that a short run's first requests would not pay for it.
	l.Count, l.Every = o.soak+o.soak/10, o.soak/10
	out.Each = l.Every
	last := 0.0
	if out.Whole, err = s.round(ctx, v, l, func(int) {
		now := takeCensus().self(v.pid)
		rss, _ := memory(v.pid)
		if last > 0 {
			out.Tenths = append(out.Tenths, tenth{(now - last) / float64(l.Every) * 1000, rss})
		}
		last = now
	}); err != nil {
		return err
	}
	r.soaked(&out)
	return nil
}

// profiled repeats a setting with the strict kind of provider while the node
// takes a CPU profile, and shows the flame graph as text.
func (s *stage) profiled(ctx context.Context, set setting, o *options, r *report) error {
	v := s.subjects[strict]
	l := s.loadOptions(v, set)
	l.Warm, l.Duration = o.warm, max(o.round, 8*time.Second)
	path := filepath.Join(s.dir, "profile")
	done := make(chan error, 1)
	go func() { done <- s.node.profile(ctx, l.Duration, path) }()
	if _, err := s.round(ctx, v, l, nil); err != nil {
		return err
	}
	if err := <-done; err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-traces", s.node.program, path)
	cmd.Env = append(os.Environ(), "PPROF_NO_BROWSER=1")
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("reading the profile: %w", err)
	}
	flame, err := readTraces(bytes.NewReader(out))
	if err != nil {
		return err
	}
	var text strings.Builder
	flame.print(&text)
	r.section("Where the node's time goes: "+set.key(), "```\n"+text.String()+"```")
	return nil
}
