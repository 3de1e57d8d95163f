//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/missionopsai/foundry/bench/load"
)

// scenario is one kind of load.
type scenario struct {
	name        string
	title       string
	stream      bool
	upstream    int // which one
	connections int
	rate        float64 // open loop; 0 for a closed loop
}

// scenarios are the loads of the performance targets. Each runs through plain
// HTTP and through TLS 1.3.
var scenarios = []scenario{
	{name: "whole", title: "Whole answers, 64 connections, closed loop, instant upstream", connections: 64},
	{name: "stream", title: "Streams of 40 chunks, 16 connections, closed loop, instant upstream", stream: true, connections: 16},
	{name: "stream-flushed", title: "Streams of 40 chunks, 16 connections, closed loop, upstream sends every chunk by itself", stream: true, upstream: flushing, connections: 16},
	{name: "open-slow", title: "Whole answers, 500 requests/s, open loop, upstream takes 20 ms to its first byte", upstream: slow, connections: 64, rate: 500},
	{name: "open-instant", title: "Whole answers, 500 requests/s, open loop, instant upstream", connections: 64, rate: 500},
	{name: "open-slow-stream", title: "Streams, 500/s, open loop, upstream takes 20 ms to its first byte", stream: true, upstream: slow, connections: 64, rate: 500},
	{name: "open-instant-stream", title: "Streams, 500/s, open loop, instant upstream", stream: true, connections: 64, rate: 500},
}

// setting is a scenario over plain HTTP or TLS.
type setting struct {
	scenario
	secure bool
}

func (s setting) key() string {
	if s.secure {
		return s.name + "-tls"
	}
	return s.name
}

// sample is what one round showed.
type sample struct {
	load.Result
	Gateway   float64       // processor seconds per 1000 answers
	Database  float64       // the same for PostgreSQL
	Upstream  float64       // the same for the upstream
	Generator float64       // the same for the load generator
	Foreign   float64       // share of the machine that others used
	Stolen    float64       // share that the hypervisor took
	Queue     uint64        // events that the database had not seen at the end
	Drained   time.Duration // until it had
}

func (s *sample) perSecond() float64 { return float64(s.Measured) / max(s.Seconds, 1e-9) }

// all is the processor time of all processes for 1000 answers. Divided into the
// number of processors it bounds the rate, whatever else runs on the machine.
func (s *sample) all() float64 { return s.Gateway + s.Database + s.Upstream + s.Generator }

// requestBody is what clients send: the fields that many send, and a short
// conversation.
func requestBody(model string, stream bool) []byte {
	text := fmt.Sprintf(`{"model":%q,"messages":[{"role":"system","content":"You are a helpful assistant that answers briefly and precisely."},`+
		`{"role":"user","content":"What is the capital of Finland? Answer in one word please."}],"max_tokens":64,"temperature":0.2`, model)
	if stream {
		text += `,"stream":true`
	}
	return []byte(text + "}")
}

// loadOptions aims a load at a subject.
func (s *stage) loadOptions(v *subject, set setting) load.Options {
	i, kind := set.upstream, 0
	if set.stream {
		kind = 1
	}
	body := requestBody(v.models[i], set.stream)
	key := v.key
	if key == "" {
		key = "fdy_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" // as long as a real one
	}
	o := load.Options{Connections: set.connections, Rate: set.rate, Expect: v.expect[kind].body, First: v.expect[kind].first, Address: v.plain[i],
		Request: fmt.Appendf(nil, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", key, len(body), body)}
	if set.secure {
		o.Address, o.CA, o.Name = v.secure[i], s.ca, "localhost"
	}
	return o
}

// round puts one load on one subject and reads every account before and
// after. What the node still ships to the database afterwards is counted.
func (s *stage) round(ctx context.Context, v *subject, o load.Options, progress func(int)) (sample, error) {
	before, began := takeCensus(), time.Now()
	busy, stolen := machineTime()
	result, err := runLoad(ctx, o, progress)
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", v.title, err)
	}
	out := sample{Result: result}
	if v.pid == s.node.pid {
		if out.Queue, out.Drained, err = s.node.shipped(ctx); err != nil {
			return sample{}, err
		}
	}
	after := takeCensus()
	busyAfter, stolenAfter := machineTime()
	per1000 := func(seconds float64) float64 { return seconds / max(float64(result.Answers), 1) * 1000 }
	gateway := func(c census) float64 {
		if v.workers {
			return c.tree(v.pid)
		}
		return c.self(v.pid)
	}
	out.Gateway = per1000(gateway(after) - gateway(before))
	if v.pid == s.node.pid {
		out.Database = per1000(after.tree(v.pid) - after.self(v.pid) - before.tree(v.pid) + before.self(v.pid))
	}
	for _, pid := range s.upstream {
		out.Upstream += per1000(after.self(pid) - before.self(pid))
	}
	out.Generator = per1000(result.CPU)
	machine := time.Since(began).Seconds() * float64(runtime.NumCPU())
	ours := after.tree(os.Getpid()) - before.tree(os.Getpid())
	out.Foreign = max(0, busyAfter-busy-ours) / machine
	out.Stolen = (stolenAfter - stolen) / machine
	return out, nil
}

// message is one line that the load generator's process writes.
type message struct {
	Progress int
	Result   *load.Result
	Error    string
}

// runLoad makes the load from a process of its own.
func runLoad(ctx context.Context, o load.Options, progress func(int)) (load.Result, error) {
	self, err := os.Executable()
	if err != nil {
		return load.Result{}, err
	}
	in, err := json.Marshal(o)
	if err != nil {
		return load.Result{}, err
	}
	cmd := exec.CommandContext(ctx, self, "load")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return load.Result{}, err
	}
	if err := cmd.Start(); err != nil {
		return load.Result{}, err
	}
	var last message
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = message{}
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			return load.Result{}, fmt.Errorf("the load generator said %q", lines.Bytes())
		}
		if last.Progress > 0 && progress != nil {
			progress(last.Progress)
		}
	}
	if err := cmd.Wait(); err != nil {
		return load.Result{}, fmt.Errorf("the load generator: %w", err)
	}
	if last.Result == nil {
		return load.Result{}, fmt.Errorf("the load could not be made: %s", last.Error)
	}
	return *last.Result, nil
}

// makeLoad is the load generator's process.
func makeLoad() error {
	var o load.Options
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	result, err := load.Run(o, func(n int) { _ = out.Encode(message{Progress: n}) })
	if err != nil {
		return out.Encode(message{Error: err.Error()})
	}
	return out.Encode(message{Result: &result})
}
