package sandbox

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// answer is what a client got of one gateway.
type answer struct {
	node  string
	began time.Time
	ended time.Time
	good  bool
	why   string
}

// crowd is clients that ask all gateways in turn, as names with several
// addresses have them do.
type crowd struct {
	gateways []*node
	key      string
	client   *http.Client
	room     chan struct{} // bounds how many wait

	mu      sync.Mutex
	answers []answer
	stop    context.CancelFunc
	flying  sync.WaitGroup
}

// trusting is a client that trusts one authority, and keeps connections as
// long as they work.
func trusting(authority string, patience time.Duration) (*http.Client, error) {
	text, err := os.ReadFile(authority)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13},
		TLSHandshakeTimeout: patience, ResponseHeaderTimeout: patience, MaxIdleConnsPerHost: 32, IdleConnTimeout: 5 * time.Second}}, nil
}

// rate changes how often is asked; 0 ends it.
func (c *crowd) rate(ctx context.Context, perSecond int) {
	if c.stop != nil {
		c.stop()
		c.flying.Wait()
		c.stop = nil
	}
	if perSecond == 0 {
		return
	}
	ctx, c.stop = context.WithCancel(ctx)
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	c.flying.Add(1)
	go func() {
		defer c.flying.Done()
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			at := c.gateways[i%len(c.gateways)]
			select {
			case c.room <- struct{}{}:
			default:
				continue // so many wait already that one more would only weigh on this machine
			}
			c.flying.Add(1)
			go func() {
				defer c.flying.Done()
				a := c.ask(ctx, at)
				<-c.room
				if ctx.Err() == nil {
					c.keep(a)
				}
			}()
		}
	}()
}

func (c *crowd) keep(a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers = append(c.answers, a)
}

const question = `{"model":"m","max_tokens":20,"messages":[{"role":"user","content":"How are you?"}]}`

func (c *crowd) ask(ctx context.Context, n *node) (a answer) {
	a = answer{node: n.name, began: time.Now()}
	defer func() { a.ended = time.Now() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+n.https()+"/v1/chat/completions", bytes.NewReader([]byte(question)))
	if err != nil {
		a.why = err.Error()
		return a
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.key)
	resp, err := c.client.Do(req)
	if err != nil {
		a.why = err.Error()
		return a
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var whole struct {
		Choices []struct{ Message struct{ Content string } }
	}
	switch {
	case err != nil:
		a.why = err.Error()
	case resp.StatusCode != http.StatusOK:
		a.why = fmt.Sprintf("%d %s", resp.StatusCode, resp.Header.Get("X-Foundry-Problem"))
	case json.Unmarshal(text, &whole) != nil || len(whole.Choices) == 0 || whole.Choices[0].Message.Content == "":
		a.why = "the answer is not whole"
	default:
		a.good = true
	}
	return a
}

// tally is what became of the requests to some nodes between two moments.
type tally struct{ asked, good, failed int }

func (c *crowd) tally(nodes map[string]bool, from, to time.Time) (t tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.answers {
		if nodes[a.node] && !a.began.Before(from) && (to.IsZero() || a.began.Before(to)) {
			t.asked++
			if a.good {
				t.good++
			} else {
				t.failed++
			}
		}
	}
	return t
}

// settled is how long after a moment the last request to one of some nodes
// failed that was not in flight then, or the first was answered by each of
// them if that was later. False: one of them answered nobody.
func (c *crowd) settled(nodes map[string]bool, at time.Time) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, last := map[string]time.Time{}, time.Time{}
	for _, a := range c.answers {
		if !nodes[a.node] || a.began.Before(at) {
			continue
		}
		if !a.good {
			last = later(last, a.ended)
		} else if f := first[a.node]; f.IsZero() || a.ended.Before(f) {
			first[a.node] = a.ended
		}
	}
	for n := range nodes {
		if first[n].IsZero() {
			return 0, false
		}
		last = later(last, first[n])
	}
	return last.Sub(at), true
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// writer writes to the database by way of the gateways, and remembers what was
// acknowledged.
type writer struct {
	gateways []*node
	prefix   string
	body     func(name string) any

	mu    sync.Mutex
	acks  []ack
	tries int
	stop  context.CancelFunc
	done  chan struct{}
}

// ack is a write of which a gateway said that it was made; maybe: it broke
// while it was under way, and nobody knows.
type ack struct {
	name  string
	node  string
	began time.Time
	at    time.Time
	maybe bool
}

func (w *writer) rate(ctx context.Context, perSecond int) {
	if w.stop != nil {
		w.stop()
		<-w.done
		w.stop = nil
	}
	if perSecond == 0 {
		return
	}
	ctx, w.stop = context.WithCancel(ctx)
	w.done = make(chan struct{})
	go func() {
		defer close(w.done)
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				w.write(ctx, i)
			}
		}
	}()
}

// write tries one gateway after another until one has written.
func (w *writer) write(ctx context.Context, i int) {
	for try := range w.gateways {
		n := w.gateways[(i+try)%len(w.gateways)]
		if !n.up() {
			continue
		}
		w.mu.Lock()
		w.tries++
		name := fmt.Sprintf("%s-%06d", w.prefix, w.tries)
		w.mu.Unlock()
		one, cancel := context.WithTimeout(ctx, 3*time.Second)
		began := time.Now()
		err := n.call(one, http.MethodPost, "/organisations", w.body(name), nil)
		broke := one.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil || broke {
			w.mu.Lock()
			w.acks = append(w.acks, ack{name, n.name, began, time.Now(), err != nil})
			w.mu.Unlock()
		}
		if err == nil {
			return
		}
	}
}

// firstAfter is the first acknowledged write after a moment.
func (w *writer) firstAfter(at time.Time) (a ack, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.acks {
		if !a.maybe && a.at.After(at) {
			return a, true
		}
	}
	return a, false
}

// firstBy is the first write that began after a moment at one of some nodes,
// was acknowledged, and is there.
func (w *writer) firstBy(nodes, there map[string]bool, at time.Time) (a ack, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.acks {
		if !a.maybe && nodes[a.node] && there[a.name] && a.began.After(at) {
			return a, true
		}
	}
	return a, false
}

// compared is what became of what was acknowledged, and of what nobody knows.
type compared struct {
	acknowledged, lost, unclear, unclearThere int
	newest                                    time.Time // of what is there, written before the event
}

// compare holds what was acknowledged until it was looked what is there against
// that.
func (w *writer) compare(there map[string]bool, event, looked time.Time) (c compared) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.acks {
		switch {
		case !a.at.Before(looked): // it may have come after the look
		case a.maybe && there[a.name]:
			c.unclear, c.unclearThere = c.unclear+1, c.unclearThere+1
		case a.maybe:
			c.unclear++
		case !there[a.name]:
			c.acknowledged, c.lost = c.acknowledged+1, c.lost+1
		default:
			c.acknowledged++
			if a.at.Before(event) {
				c.newest = later(c.newest, a.at)
			}
		}
	}
	return c
}

// count is how many writes were acknowledged.
func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acks)
}

// missing are writes that were acknowledged after a moment, before it was looked
// what is there, and are not there.
func (w *writer) missing(there map[string]bool, after, looked time.Time) (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.acks {
		if !a.maybe && a.at.After(after) && a.at.Before(looked) && !there[a.name] {
			out = append(out, a.name)
		}
	}
	return out
}
