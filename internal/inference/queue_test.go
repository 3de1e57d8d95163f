package inference

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
	"pgregory.net/rapid"
)

func TestRequestsWaitInTheOrderInWhichTheyCame(t *testing.T) {
	t.Parallel()
	q := newQueue(1, 10, time.Now)
	leave, _, err := q.enter(t.Context(), patience)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var order, before []int
	var done sync.WaitGroup
	for i := range 5 {
		eventually(t, "the one before to wait", func() bool { return q.standing().Length == i })
		done.Go(func() {
			leave, n, err := q.enter(t.Context(), patience)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order, before = append(order, i), append(before, n)
			mu.Unlock()
			leave()
		})
	}
	eventually(t, "all to wait", func() bool { return q.standing().Length == 5 })
	leave()
	done.Wait()
	for i := range order {
		if order[i] != i || before[i] != i {
			t.Fatalf("the order was %v, behind %v", order, before)
		}
	}
	if s := q.standing(); s.InFlight != 0 || s.Length != 0 || s.Served != 6 {
		t.Errorf("afterwards: %+v", s)
	}
}

func TestAFullQueueRefusesAtOnceAndSaysWhen(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	q := newQueue(2, 1, func() time.Time { return now })
	var leaves []func()
	for range 2 {
		leave, _, err := q.enter(t.Context(), patience)
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leave)
	}
	now = now.Add(8 * time.Second)
	leaves[0]()
	leave, _, err := q.enter(t.Context(), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() { _, _, err := q.enter(ctx, patience); gone <- err }()
	eventually(t, "one to wait", func() bool { return q.standing().Length == 1 })
	_, _, err = q.enter(t.Context(), patience)
	// Two before it, two at once, eight seconds each.
	if e := problem.From(err); e.Kind != problem.RateLimited || e.Code != "inference-queue" || e.RetryAfter != 8*time.Second {
		t.Errorf("refused with %+v", e)
	}
	if s := q.standing(); s.WaitMs != 8000 || s.TypicalMs != 8000 || s.Refused != 1 {
		t.Errorf("%+v", s)
	}
	cancel()
	if err := <-gone; err != context.Canceled {
		t.Errorf("who left got %v", err)
	}
	if s := q.standing(); s.Length != 0 {
		t.Errorf("who left still waits: %+v", s)
	}
	_, _, err = q.enter(t.Context(), time.Nanosecond)
	if e := problem.From(err); e.Kind != problem.RateLimited {
		t.Errorf("waiting in vain ended with %v", err)
	}
}

// However requests come, wait, leave and end: never more than the places are
// in flight, nobody who was let in is forgotten, and in the end all is free.
func TestThePlacesAddUpWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		places, capacity := rapid.IntRange(1, 4).Draw(t, "places"), rapid.IntRange(1, 5).Draw(t, "capacity")
		q := newQueue(places, capacity, time.Now)
		var all sync.WaitGroup
		var mu sync.Mutex
		in, most := 0, 0
		for range rapid.IntRange(1, 40).Draw(t, "requests") {
			impatient := rapid.Bool().Draw(t, "impatient")
			leaves := rapid.Bool().Draw(t, "leaves")
			all.Go(func() {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				patience := time.Minute
				if impatient {
					patience = time.Microsecond
				}
				if leaves {
					go cancel()
				}
				leave, _, err := q.enter(ctx, patience)
				if err != nil {
					return
				}
				mu.Lock()
				in++
				most = max(most, in)
				mu.Unlock()
				mu.Lock()
				in--
				mu.Unlock()
				leave()
			})
		}
		all.Wait()
		if s := q.standing(); most > places || s.InFlight != 0 || s.Length != 0 {
			t.Fatalf("at most %d of %d at once; afterwards %+v", most, places, s)
		}
	})
}

func TestAFullFrontAnswers429SoThatAGatewayDoesNotTakeItForBroken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Config.Concurrency, o.Config.Queue = 1, 1 })
	c := w.gateway(t)
	ctx, leave := context.WithCancel(t.Context())
	var going sync.WaitGroup
	for i := range 2 {
		going.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, "POST", w.url+"/v1/chat/completions", strings.NewReader(chat("simulate stall chunk=1", true)))
			resp, err := c.Do(req)
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
		eventually(t, "it to arrive", func() bool { s := w.Health().Queue; return s.InFlight+s.Length == i+1 })
	}
	resp := post(t, c, w.url+"/v1/chat/completions", chat("x", false))
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" || resp.Header.Get(QueueHeader) == "" || resp.Header.Get(WaitHeader) == "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	if resp := post(t, c, w.url+"/v1/chat/completions", `{"x":"`+strings.Repeat("y", defaultBody)+`"}`); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over the bound: %d", resp.StatusCode)
	}
	leave()
	going.Wait()
	eventually(t, "the places to be free again", func() bool { s := w.Health().Queue; return s.InFlight+s.Length == 0 })
	if resp := post(t, c, w.url+"/v1/chat/completions", chat("x", false)); resp.StatusCode != http.StatusOK || resp.Header.Get(QueueHeader) != "0" {
		t.Errorf("afterwards: %d %v", resp.StatusCode, resp.Header)
	}
	if w.memory.held != 0 {
		t.Errorf("%d bytes of bodies are still counted", w.memory.held)
	}
}
