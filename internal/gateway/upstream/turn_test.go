package upstream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// A lost wake-up would show as a timeout: answers come at once, a little later,
// and in pieces, while many calls share few processors.
func TestNoAnswerIsMissedWheneverItComes(t *testing.T) {
	c := client(t, "http://"+listen(t, func(p *peer) {
		for p.request() != nil {
			answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n%05d", p.n)
			for spin := time.Now().Add(rand.N(100 * time.Microsecond)); time.Now().Before(spin); {
			}
			if cut := rand.IntN(2 * len(answer)); cut < len(answer) {
				p.say(answer[:cut])
				answer = answer[cut:]
			}
			p.say(answer)
		}
	}), within(Timeouts{FirstByte: 10 * time.Second, BetweenChunks: 10 * time.Second}), func(o *Options) { o.MaxConns, o.MaxQueue = 8, 100 })
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			for range 300 {
				if _, got, err := call(c, "{}"); err != nil || len(got) != 5 {
					t.Errorf("got %q, %v", got, err)
					return
				}
			}
		})
	}
	callers.Wait()
	if s := c.Stats(); s.Dialed > 8 || s.Retried != 0 {
		t.Errorf("unexpected %+v", s)
	}
}

func TestALongRequestLooksBeforeItUsesAnIdleConnection(t *testing.T) {
	idle, closed := make(chan struct{}), make(chan struct{})
	c := client(t, "http://"+listen(t, func(p *peer) {
		for p.request() != nil {
			p.say(hello)
			if p.n == 0 {
				wait(t, "idleness", idle)
				p.Close()
				close(closed)
				return
			}
		}
	}))
	if _, _, err := call(c, "{}"); err != nil {
		t.Fatal(err)
	}
	close(idle)
	wait(t, "the end", closed)
	if _, got, err := call(c, strings.Repeat("x", 4*inlineMax)); err != nil || got != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if s := c.Stats(); s.Dialed != 2 || s.Reused != 0 || s.Retried != 0 || s.Open != 1 {
		t.Errorf("unexpected %+v", s)
	}
}

func TestManyStaleConnectionsAreAllPassedOver(t *testing.T) {
	const conns = 5
	idle, closed := make(chan struct{}), make(chan struct{}, conns)
	var together sync.WaitGroup
	together.Add(conns)
	c := client(t, "http://"+listen(t, func(p *peer) {
		if p.request() == nil {
			return
		}
		if p.n < conns {
			together.Done()
			together.Wait()
		}
		p.say(hello)
		if p.n < conns {
			wait(t, "idleness", idle)
			p.Close()
			closed <- struct{}{}
		}
	}))
	var callers sync.WaitGroup
	for range conns {
		callers.Go(func() {
			if _, _, err := call(c, "{}"); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	close(idle)
	for range conns {
		wait(t, "the end", closed)
	}
	if _, got, err := call(c, "{}"); err != nil || got != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if s := c.Stats(); s.Reused != 0 || s.Open != 1 || s.InFlight != 1 && s.Idle != 1 {
		t.Errorf("unexpected %+v", s)
	}
}

func TestACancelledTurnEndsAtOnce(t *testing.T) {
	reached := make(chan struct{}, 1)
	c := client(t, "http://"+listen(t, func(p *peer) {
		p.request()
		p.say(hello)
		p.request()
		reached <- struct{}{}
		p.waitGone()
	}))
	if _, _, err := call(c, "{}"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-reached
		cancel()
	}()
	if _, _, err := callWith(ctx, c, "{}"); err == nil || ctx.Err() == nil {
		t.Errorf("got %v", err)
	}
	if s := c.Stats(); s.Open != 0 {
		t.Errorf("unexpected %+v", s)
	}
}
