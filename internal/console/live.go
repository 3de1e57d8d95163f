package console

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

const (
	maxStreams  = 200                    // event streams at once
	watchEvery  = 500 * time.Millisecond // how often an event stream looks for news, and whether its session still lives
	newsEvery   = time.Second            // between two pieces of news
	resendEvery = 15 * time.Second       // ages and rates move even when nothing happens
	memberEvery = 5 * time.Second        // for members of an organisation, whatever happens
	writeLimit  = 10 * time.Second       // a browser that does not read is let go
)

// events tells a page that something happened: names only, no data. The page
// then fetches what it shows again, and is authorised again.
func (c *Console) events(v *visit) error {
	if c.streams.Add(1) > maxStreams {
		c.streams.Add(-1)
		return problem.New(problem.Overloaded, "too-many-streams", "Too many pages are updating themselves.").WithRetry(resendEvery)
	}
	defer c.streams.Add(-1)
	out := http.NewResponseController(v.w)
	v.w.Header().Set("Content-Type", "text/event-stream")
	v.w.Header().Set("X-Accel-Buffering", "no")
	send := func(name string) error {
		_ = out.SetWriteDeadline(time.Now().Add(writeLimit)) // not every writer has one
		if _, err := fmt.Fprintf(v.w, "event: %s\ndata:\n\n", name); err != nil {
			return err
		}
		return out.Flush()
	}
	resend, news := resendEvery, func() string { return c.stored() + c.nightPulse() }
	if !v.who().Platform() {
		// What is stored is everybody's: an organisation must not see in its
		// page when another one works.
		resend, news = memberEvery, func() string { return "" }
	}
	stored, state, sent := news(), c.state(), time.Now()
	if err := send("hello"); err != nil {
		return nil
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-v.r.Context().Done():
			return nil
		case <-c.closed:
			return nil
		case now := <-tick.C:
			if !c.alive(v) {
				return nil
			}
			if now.Sub(sent) < newsEvery {
				continue
			}
			name := ""
			switch s, t := news(), c.state(); {
			case t != state:
				name, state, stored = "state-changed", t, s
			case s != stored || now.Sub(sent) >= resend:
				name, stored = "ledger-changed", s
			default:
				continue
			}
			sent = now
			if err := send(name); err != nil {
				return nil
			}
		}
	}
}

// stored changes when the ledger shows something new.
func (c *Console) stored() string {
	q := c.Queue()
	return fmt.Sprint(q.Shipped, c.Verifier.Directory().TakenAt)
}

// state changes when the node's condition does.
func (c *Console) state() string {
	var b strings.Builder
	fmt.Fprint(&b, c.DB.Healthy(), c.Refusing() != nil)
	fmt.Fprint(&b, c.canary.pulse(), c.exports.pulse(), c.working.pulse(c.Clock()))
	for _, p := range c.Gateway.Providers() {
		h := p.Health()
		fmt.Fprint(&b, p.Circuit(), h != nil && h.OK)
	}
	return b.String()
}
