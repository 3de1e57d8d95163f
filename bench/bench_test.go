//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/bench/load"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
)

// TestMain lets this test program be the load generator, as the real one is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "load" {
		if err := makeLoad(); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestTheNodesConfigurationIsValid(t *testing.T) {
	path, err := writeNodeConfig(t.TempDir(), "127.0.0.1:1", "127.0.0.1:2", each{"127.0.0.1:3", "127.0.0.1:4", "127.0.0.1:5"})
	if err != nil {
		t.Fatal(err)
	}
	var c daemon.Config
	if err := config.Load(path, &c); err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if len(c.Providers) != 2*upstreamKinds {
		t.Fatalf("%d providers", len(c.Providers))
	}
}

func TestNginxTakesTheConfiguration(t *testing.T) {
	nginx, err := nginxProgram()
	if err != nil {
		t.Skip("nginx is not installed")
	}
	s := &stage{dir: t.TempDir()}
	if err := s.certificate(); err != nil {
		t.Fatal(err)
	}
	var sets [3]each
	for i := range sets {
		if sets[i], err = freeAddresses(); err != nil {
			t.Fatal(err)
		}
	}
	path, err := writeNginxConfig(s.dir, sets[0], sets[1], sets[2])
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(nginx, "-t", "-c", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// upstream is the simulator of the measurements, in this process.
func upstream(t *testing.T) *httptest.Server {
	s := httptest.NewServer(simulator.NewBench(0))
	t.Cleanup(s.Close)
	return s
}

func TestWhatIsExpectedOfAStreamIsWhatTheUpstreamSendsWithoutItsUsage(t *testing.T) {
	body, err := ask(t.Context(), upstream(t).URL, requestBody("m", true))
	if err != nil {
		t.Fatal(err)
	}
	all, hidden := expectedStream(body, false), expectedStream(body, true)
	if string(all.body) != string(body) {
		t.Error("a stream that hides nothing is not the upstream's")
	}
	if strings.Contains(string(hidden.body), `"usage"`) || !strings.HasSuffix(string(hidden.body), "data: [DONE]\n\n") ||
		strings.Count(string(hidden.body), "\n\n") != strings.Count(string(body), "\n\n")-1 {
		t.Errorf("not exactly the usage is missing:\n%s", hidden.body)
	}
	first := string(all.body[:all.first])
	if !strings.HasSuffix(first, "\n\n") || strings.Count(first, " simulated") != 1 {
		t.Errorf("the first token ends elsewhere: %q", first)
	}
}

func TestARoundThroughTheReferenceProxyBringsBackTheExpectedAnswers(t *testing.T) {
	up := upstream(t)
	s := &stage{dir: t.TempDir()}
	if err := s.certificate(); err != nil {
		t.Fatal(err)
	}
	v := &subject{}
	for _, a := range []*string{&v.plain[0], &v.secure[0]} {
		var err error
		if *a, err = freeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- runProxy(ctx, []string{s.dir + "/tls.crt", s.dir + "/tls.key", v.plain[0], v.secure[0], up.URL})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for _, address := range []string{v.plain[0], v.secure[0]} {
		if err := answersAt(ctx, address); err != nil {
			t.Fatal(err)
		}
	}
	s.upstreams[0], s.subjects = up.Listener.Addr().String(), []*subject{v}
	if err := s.expectations(ctx); err != nil {
		t.Fatal(err)
	}
	for _, sc := range scenarios[:2] {
		for _, secure := range []bool{false, true} {
			o := s.loadOptions(v, setting{sc, secure})
			o.Count = 100
			got, err := runLoad(ctx, o, nil)
			if err != nil || got.Answers != 100 || got.Broken != 0 {
				t.Errorf("%s, TLS %t: %v, %+v", sc.name, secure, err, got)
			}
		}
	}
}

func TestTheFlushingUpstreamSendsTheSameStreamInItsChunks(t *testing.T) {
	body, err := ask(t.Context(), upstream(t).URL, requestBody("m", true))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(flushed(simulator.NewBench(0)))
	t.Cleanup(s.Close)
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	request := requestBody("m", true)
	if _, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(request), request); err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	if err != nil || string(got) != string(body) {
		t.Fatalf("%v, %d bytes of %d", err, len(got), len(body))
	}
	// On the wire, each event is a chunk of HTTP.
	if chunks, events := strings.Count(string(raw), "\n\n\r\n"), strings.Count(string(body), "\n\n"); chunks != events {
		t.Errorf("%d chunks for %d events", chunks, events)
	}
}

func TestTheLoadGeneratorSaysWhyItCouldNotMakeLoad(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }))
	s.Close()
	_, err := runLoad(t.Context(), load.Options{Address: s.Listener.Addr().String(), Connections: 1, Count: 1}, nil)
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("got %v", err)
	}
}

func TestACensusCountsAProcessWithItsChildren(t *testing.T) {
	c := census{1: {pid: 1, own: 100, reaped: 900}, 10: {pid: 10, parent: 1, own: 50, reaped: 7}, 11: {pid: 11, parent: 10, own: 20},
		12: {pid: 12, parent: 11, own: 3}, 13: {pid: 13, parent: 1, own: 1000}}
	if got := c.tree(10); got != 0.80 {
		t.Errorf("tree: %v, want 0.80", got)
	}
	if got := c.self(10); got != 0.50 {
		t.Errorf("self: %v, want 0.50", got)
	}
	loop := census{1: {pid: 1, parent: 2}, 2: {pid: 2, parent: 1}}
	if loop.descends(1, 3) {
		t.Error("a loop of parents descends from a stranger")
	}
}

func TestProcStatIsReadWhateverTheProgramIsCalled(t *testing.T) {
	p, err := parseStat([]byte("42 (a) b (c)) S 7 1 1 0 -1 4194560 1 2 3 4 110 20 5 6 20 0 1 0 100 0 0\n"))
	if err != nil || p != (process{pid: 42, parent: 7, own: 130, reaped: 11}) {
		t.Fatalf("%+v, %v", p, err)
	}
	for _, bad := range []string{"", "42", "42 (x) S 7"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	self := takeCensus()[os.Getpid()]
	if self.parent != os.Getppid() {
		t.Errorf("own parent: %d, want %d", self.parent, os.Getppid())
	}
	if now, peak := memory(os.Getpid()); now == 0 || peak < now {
		t.Errorf("memory: %d, at most %d", now, peak)
	}
}

func TestAProcessThatEndedByItselfIsNamed(t *testing.T) {
	s := &stage{dir: t.TempDir()}
	if _, err := s.start(t.Context(), "short", "/bin/sh", "-c", "echo out of ideas >&2; exit 3"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		if err := s.dead(); err != nil {
			if !strings.Contains(err.Error(), "short ended by itself: exit status 3: out of ideas") {
				t.Fatal(err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody noticed")
		}
	}
}

func TestMediansAreTakenOverRoundsAndDifferencesWithinThem(t *testing.T) {
	if got := middle([]float64{5, 1, 3}); got != (spread{3, 1, 5}) {
		t.Errorf("%+v", got)
	}
	if got := middle([]float64{4, 1, 3, 2}); got != (spread{2.5, 1, 4}) {
		t.Errorf("%+v", got)
	}
	// A machine that is twice as slow in every later round changes no ratio.
	list := func(rates ...int) []sample {
		var out []sample
		for _, r := range rates {
			out = append(out, sample{Result: load.Result{Measured: r, Seconds: 1, Answers: r}})
		}
		return out
	}
	tab := &table{samples: [][]sample{list(800, 400, 200), list(400, 200, 100)}}
	if got := tab.ratio(1); got != (spread{0.5, 0.5, 0.5}) {
		t.Errorf("%+v", got)
	}
}

func TestBrokenAnswersMakeTheRunFailAndSlownessDoesNot(t *testing.T) {
	slow := sample{Result: load.Result{Answers: 1, Measured: 1, Seconds: 60, Whole: load.Quantiles{P50: time.Minute}}}
	r := &report{}
	r.count("slow", &slow)
	if err := r.verdict(); err != nil {
		t.Fatal(err)
	}
	broken := slow
	broken.Broken, broken.Result.Sample = 2, "closed early: after 3 bytes"
	r.count("stream, nginx", &broken)
	if err := r.verdict(); err == nil || !strings.Contains(err.Error(), "stream, nginx: 2 of 3 answers were broken, for example closed early") {
		t.Fatalf("got %v", err)
	}
	r = &report{}
	r.count("silent", &sample{})
	if r.verdict() == nil {
		t.Fatal("a round without a single answer passed")
	}
}

func TestATargetIsReachedOrMissedOnItsOwnSide(t *testing.T) {
	for _, c := range []struct {
		value, limit float64
		least        bool
		want         string
	}{{0.5, 0.5, true, "0.50 reached"}, {0.49, 0.5, true, "0.49 missed"}, {0.08, 0.08, false, "0.08 reached"}, {0.09, 0.08, false, "0.09 missed"}} {
		if got := mark(c.value, c.limit, c.least, "%.2f"); got != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
}

func TestNoTargetOfTheClockIsJudgedOnABusyMachine(t *testing.T) {
	list := func(rate int, foreign float64) []sample {
		return []sample{{Result: load.Result{Measured: rate, Seconds: 1}, Gateway: 0.01, Foreign: foreign}}
	}
	for foreign, want := range map[float64]string{0.1: "0.60 reached", 0.5: "0.60, on a machine too busy to tell"} {
		tab := &table{samples: [][]sample{list(100, 0), nil, list(60, foreign)}}
		if got := targets[0].reached(tab, strict); got != want {
			t.Errorf("others used %v: got %s", foreign, got)
		}
	}
	// Processor time is counted by process.
	if got := targets[2].reached(&table{samples: [][]sample{nil, nil, list(1, 0.5)}}, strict); got != "0.010 reached" {
		t.Errorf("got %s", got)
	}
}
