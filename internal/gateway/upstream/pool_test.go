package upstream

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"
)

// gate is a server that answers when it is told to.
func gate(t *testing.T) (addr string, arrived <-chan struct{}, release chan<- struct{}) {
	in, out := make(chan struct{}, 100), make(chan struct{})
	addr = listen(t, func(p *peer) {
		for p.request() != nil {
			in <- struct{}{}
			select {
			case <-out:
			case <-p.over:
				return
			}
			p.say(hello)
		}
	})
	return addr, in, out
}

func TestBeyondTheQueueCallersAreTurnedAwayAtOnce(t *testing.T) {
	addr, arrived, release := gate(t)
	c := client(t, "http://"+addr, func(o *Options) { o.MaxConns, o.MaxQueue = 2, 3 })
	results := make(chan error, 5)
	for range 5 {
		go func() { _, _, err := call(c, "{}"); results <- err }()
	}
	for range 2 {
		wait(t, "a call in flight", arrived)
	}
	until(t, "three wait", func() bool { return c.Stats().Waiting == 3 })
	_, _, err := call(c, "{}")
	if !errors.Is(err, ErrOverloaded) || Sent(err) {
		t.Errorf("got %v", err)
	}
	if s := c.Stats(); s.Open != 2 || s.InFlight != 2 {
		t.Errorf("unexpected %+v", s)
	}
	for range 5 {
		release <- struct{}{}
	}
	for range 5 {
		if err := wait(t, "a result", results); err != nil {
			t.Error(err)
		}
	}
	if s := c.Stats(); s.Dialed != 2 || s.Reused != 3 || s.Open != 2 || s.Idle != 2 || s.Waiting != 0 {
		t.Errorf("unexpected %+v", s)
	}
}

func TestWaitingForAConnectionEnds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit Timeouts
		end   func(c *Client, cancel context.CancelFunc)
		want  error
	}{
		{"when the queue time is over", Timeouts{Queue: short}, nil, ErrOverloaded},
		{"when the total time is over", Timeouts{Queue: time.Hour, Total: short}, nil, ErrTimeoutTotal},
		{"when the caller leaves", Timeouts{}, func(_ *Client, cancel context.CancelFunc) { cancel() }, context.Canceled},
		{"when the client closes", Timeouts{}, func(c *Client, _ context.CancelFunc) { c.Close() }, ErrClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, arrived, _ := gate(t)
			c := client(t, "http://"+addr, func(o *Options) { o.MaxConns = 1 })
			holder, stop := context.WithCancel(context.Background())
			defer stop()
			held := make(chan error, 1)
			go func() { _, _, err := callWith(holder, c, "{}"); held <- err }()
			wait(t, "the holder", arrived)
			c.timeouts = tt.limit // of the second caller alone
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			result := make(chan error, 1)
			go func() { _, _, err := callWith(ctx, c, "{}"); result <- err }()
			if tt.end != nil {
				until(t, "a waiter", func() bool { return c.Stats().Waiting == 1 })
				tt.end(c, cancel)
			}
			if err := wait(t, "the waiter's end", result); !errors.Is(err, tt.want) || Sent(err) {
				t.Errorf("got %v", err)
			}
			stop()
			wait(t, "the holder's end", held)
			if s := c.Stats(); s.Waiting != 0 || s.Open != 0 {
				t.Errorf("left behind: %+v", s)
			}
		})
	}
}

func TestAWaiterGetsTheSlotOfAConnectionThatEnded(t *testing.T) {
	c := client(t, "http://"+listen(t, func(p *peer) {
		p.request()
		p.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
	}), func(o *Options) { o.MaxConns, o.MaxQueue = 1, 100 })
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			if _, got, err := call(c, "{}"); err != nil || got != "hello" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	all.Wait()
	if s := c.Stats(); s.Dialed != 30 || s.Open != 0 || s.Waiting != 0 {
		t.Errorf("unexpected %+v", s)
	}
}

func TestIdleConnectionsAreClosedAfterAWhile(t *testing.T) {
	addr, arrived, release := gate(t)
	c := client(t, "http://"+addr, func(o *Options) { o.IdleTimeout = short })
	done := make(chan struct{}, 3)
	for range 3 {
		go func() { _, _, _ = call(c, "{}"); done <- struct{}{} }()
	}
	for range 3 {
		wait(t, "a call in flight", arrived)
	}
	for range 3 {
		release <- struct{}{}
		wait(t, "a call's end", done)
	}
	if s := c.Stats(); s.Idle != 3 {
		t.Fatalf("unexpected %+v", s)
	}
	until(t, "nothing is idle", func() bool { return c.Stats().Open == 0 })
}

func TestNoMoreThanMaxIdleAreKept(t *testing.T) {
	addr, arrived, release := gate(t)
	c := client(t, "http://"+addr, func(o *Options) { o.MaxIdle = 1 })
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { _, _, _ = call(c, "{}") })
	}
	for range 4 {
		wait(t, "a call in flight", arrived)
	}
	for range 4 {
		release <- struct{}{}
	}
	all.Wait()
	if s := c.Stats(); s.Open != 1 || s.Idle != 1 {
		t.Errorf("unexpected %+v", s)
	}
}

func TestAClosedClientLetsCallsFinishAndTakesNoMore(t *testing.T) {
	addr, arrived, release := gate(t)
	c := client(t, "http://"+addr)
	result := make(chan error, 1)
	go func() { _, _, err := call(c, "{}"); result <- err }()
	wait(t, "the call", arrived)
	c.Close()
	if _, _, err := call(c, "{}"); !errors.Is(err, ErrClosed) || Sent(err) {
		t.Errorf("got %v", err)
	}
	release <- struct{}{}
	if err := wait(t, "the result", result); err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.Open != 0 {
		t.Errorf("left behind: %+v", s)
	}
}

// Every way a call can end, at once and at random: the counts must come out even.
func TestThePoolKeepsItsCountUnderLoad(t *testing.T) {
	c := client(t, "http://"+listen(t, func(p *peer) {
		for i := 0; p.request() != nil; i++ {
			switch (p.n + i) % 7 {
			case 3:
				return
			case 5:
				p.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
				return
			case 6:
				p.say(chunkedHead + "5\r\nhello\r\n")
				p.waitGone()
				return
			}
			p.say(hello)
		}
	}), func(o *Options) { o.MaxConns, o.MaxQueue, o.MaxIdle = 5, 6, 3 },
		within(Timeouts{BetweenChunks: 5 * time.Millisecond, Queue: 20 * time.Millisecond}))
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for j := range 60 {
				ctx, cancel := context.WithCancel(context.Background())
				if (i+j)%5 == 0 {
					go cancel()
				}
				if r, err := c.Do(ctx, "POST", "/", nil, []byte("{}")); err == nil {
					if j%4 != 0 {
						_, _ = io.Copy(io.Discard, r)
					}
					r.Close()
				}
				if s := c.Stats(); s.Open > 5 || s.Idle > 3 || s.Waiting > 6 {
					t.Errorf("beyond its bounds: %+v", s)
				}
				cancel()
			}
		})
	}
	all.Wait()
	if s := c.Stats(); s.Waiting != 0 || s.Open != s.Idle {
		t.Errorf("left behind: %+v", s)
	}
	c.Close()
	if s := c.Stats(); s.Open != 0 {
		t.Errorf("left behind after Close: %+v", s)
	}
}
