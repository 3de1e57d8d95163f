//go:build linux

package load

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const request = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi"

func options(s *httptest.Server) Options {
	return Options{Address: s.Listener.Addr().String(), Request: []byte(request), Expect: []byte(hello), First: 5, Connections: 4}
}

func run(t *testing.T, o Options) Result {
	t.Helper()
	r, err := Run(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// serve starts a server whose n-th request, from 1, is answered by answer.
func serve(t *testing.T, answer func(w http.ResponseWriter, n int64)) *httptest.Server {
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		answer(w, n.Add(1))
	}))
	t.Cleanup(s.Close)
	return s
}

func TestTheClosedLoopAsksExactlyAsOftenAsItIsTold(t *testing.T) {
	var asked atomic.Int64
	s := serve(t, func(w http.ResponseWriter, n int64) { asked.Store(n); _, _ = io.WriteString(w, hello) })
	o := options(s)
	o.Count, o.Every = 100, 25
	var progress []int
	r, err := Run(o, func(n int) { progress = append(progress, n) })
	if err != nil {
		t.Fatal(err)
	}
	if r.Answers != 100 || r.Broken != 0 || asked.Load() != 100 || r.Whole.P50 <= 0 || r.CPU <= 0 {
		t.Fatalf("%+v, asked %d times", r, asked.Load())
	}
	if len(progress) != 4 || progress[3] != 100 {
		t.Fatalf("progress %v", progress)
	}
}

func TestTLSConnectionsAreDrivenByTheSameLoop(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "hello")
		w.(http.Flusher).Flush()
		_, _ = io.WriteString(w, " world")
	}))
	s.StartTLS()
	t.Cleanup(s.Close)
	o := options(s)
	o.CA, o.Name = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), "example.com"
	o.Count = 200
	if r := run(t, o); r.Answers != 200 || r.Broken != 0 {
		t.Fatalf("%+v", r)
	}
}

func TestBrokenAnswersAreCountedAndTheLoadGoesOn(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, n int64) {
		switch n % 10 {
		case 3:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 5:
			_, _ = io.WriteString(w, "hello WORLD")
		case 7:
			_, _ = io.WriteString(w, "hello")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler) // closes the connection in mid-answer
		default:
			_, _ = io.WriteString(w, hello)
		}
	})
	o := options(s)
	o.Count = 100
	r := run(t, o)
	if r.Answers != 70 || r.Broken != 30 {
		t.Fatalf("%+v", r)
	}
	for _, kind := range []string{"not 200", "wrong body", "closed early"} {
		if r.Errors[kind] != 10 {
			t.Errorf("%s: %d, want 10", kind, r.Errors[kind])
		}
	}
	if r.Sample == "" {
		t.Error("no sample of an error")
	}
}

func TestTheOpenLoopKeepsItsRateAndCountsTimeFromWhenARequestWasDue(t *testing.T) {
	// One connection and answers that take 20 ms: 50 a second at most. At 100
	// a second, half of the requests wait, each longer than the one before.
	const delay = 20 * time.Millisecond
	s := serve(t, func(w http.ResponseWriter, _ int64) { <-time.After(delay); _, _ = io.WriteString(w, hello) })
	o := options(s)
	o.Connections, o.Rate, o.Duration = 1, 100, 400*time.Millisecond
	r := run(t, o)
	if r.Answers < 38 || r.Answers > 40 || r.Broken != 0 {
		t.Fatalf("%+v", r)
	}
	if r.Whole.Max < 10*delay {
		t.Errorf("the slowest took %s: the wait for a connection was not counted", r.Whole.Max)
	}
}

func TestTheFirstTokenIsTimedApartFromTheEnd(t *testing.T) {
	const delay = 30 * time.Millisecond
	s := serve(t, func(w http.ResponseWriter, _ int64) {
		_, _ = io.WriteString(w, "hello")
		w.(http.Flusher).Flush()
		<-time.After(delay)
		_, _ = io.WriteString(w, " world")
	})
	o := options(s)
	o.Count = 8
	r := run(t, o)
	if r.Whole.P50 < delay || r.Whole.P50-r.First.P50 < delay/2 {
		t.Fatalf("first %s, whole %s", r.First.P50, r.Whole.P50)
	}
}

func TestTheWarmUpIsNotMeasured(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ int64) { _, _ = io.WriteString(w, hello) })
	o := options(s)
	o.Rate, o.Warm, o.Duration = 200, 200*time.Millisecond, 200*time.Millisecond
	r := run(t, o)
	if r.Answers < 75 || r.Measured < 35 || r.Measured > 41 {
		t.Fatalf("%+v", r)
	}
}

func TestAServerThatIsNotThereIsAnErrorNotACount(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, int64) {})
	o := options(s)
	o.Count = 1
	s.Close()
	if _, err := Run(o, nil); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("got %v", err)
	}
}

func TestAServerThatNeverAnswersIsBrokenAfterAGrace(t *testing.T) {
	stuck := make(chan struct{})
	s := serve(t, func(http.ResponseWriter, int64) { <-stuck })
	t.Cleanup(func() { close(stuck) })
	o := options(s)
	o.Duration, o.Grace = 10*time.Millisecond, 100*time.Millisecond
	if r := run(t, o); r.Broken != 4 || r.Errors["no answer"] != 4 {
		t.Fatalf("%+v", r)
	}
}

func TestQuantilesAreThoseOfTheSortedTimes(t *testing.T) {
	var times []time.Duration
	for i := 100; i > 0; i-- {
		times = append(times, time.Duration(i))
	}
	if q := quantiles(times); q != (Quantiles{P50: 51, P90: 91, P99: 100, Max: 100}) {
		t.Fatalf("%+v", q)
	}
	if q := quantiles(nil); q != (Quantiles{}) {
		t.Fatalf("%+v", q)
	}
}
