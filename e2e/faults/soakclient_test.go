//go:build faults

package faults

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
)

// asked is one request, of whom it was asked, and what became of it.
type asked struct {
	number  int
	words   int // that were asked for
	gateway int // on the network
	at, end time.Time
	status  int // 0: no answer at all
	code    string
	id      string
	whole   bool   // complete, and word for word what the provider says to this question
	wrong   string // what is wrong with it, which nothing excuses
	broken  bool   // it says itself that it is not whole
	tokens  int64
	err     error
}

func (a asked) good() bool { return a.status == http.StatusOK && a.whole && a.wrong == "" }

func (a asked) String() string {
	return fmt.Sprintf("request %d to gateway %d at %s after %s: %d %s whole %v %s %v", a.number, a.gateway, a.at.Format("15:04:05.000"), a.end.Sub(a.at).Round(time.Millisecond), a.status, a.code, a.whole, a.wrong, a.err)
}

// crowd is everybody who asks the gateways, on a machine of its own.
type crowd struct {
	t       testing.TB
	net     *network
	at      int // the machine they are on
	key     string
	roots   *x509.CertPool
	last    atomic.Int64
	provide http.Handler // what the provider would say

	mu   sync.Mutex
	all  []asked
	gaps []gap
}

// gap is how long somebody who goes on to the next address waited from one
// good answer to the next.
type gap struct {
	long time.Duration
	end  time.Time
}

func newCrowd(t testing.TB, n *network, at int, first *machine, key string) *crowd {
	t.Helper()
	text, err := os.ReadFile(daemon.AuthorityFile(first.api().data()))
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{t: t, net: n, at: at, key: key, roots: x509.NewCertPool(), provide: simulator.New(simulator.Options{Forget: true})}
	c.roots.AppendCertsFromPEM(text)
	c.last.Store(firstNumber)
	return c
}

// client opens connections from the crowd's machine. One that keeps none finds
// out at each request how a gateway is now.
func (c *crowd) client(keep bool, patience time.Duration) *http.Client {
	dial := func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = c.net.inside(c.at, func() (derr error) {
			conn, derr = (&net.Dialer{Timeout: min(patience, 2*time.Second)}).DialContext(ctx, network, address)
			return derr
		})
		return conn, err
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: c.roots}, TLSHandshakeTimeout: min(patience, 2*time.Second),
		ResponseHeaderTimeout: patience, DisableKeepAlives: !keep, MaxIdleConnsPerHost: 8}}
}

// ask asks one gateway one question, and compares the answer with what the
// provider says to it.
func (c *crowd) ask(ctx context.Context, client *http.Client, gateway, words int, stream bool) (a asked) {
	number := int(c.last.Add(1))
	a = asked{number: number, words: words, gateway: gateway, at: time.Now()}
	defer func() {
		a.end = time.Now()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.all = append(c.all, a)
	}()
	question := map[string]any{"model": "m", "max_tokens": number, "messages": []any{map[string]any{"role": "user", "content": fmt.Sprintf("Question %d, please write %d words", number, words)}}}
	if stream {
		question["stream"], question["stream_options"] = true, map[string]any{"include_usage": true}
	}
	body, err := json.Marshal(question)
	if err != nil {
		a.wrong = err.Error()
		return a
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.net.address(gateway)+":8443/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		a.wrong = err.Error()
		return a
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.key)
	resp, err := client.Do(req)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	a.status, a.id, a.code = resp.StatusCode, resp.Header.Get("X-Request-Id"), resp.Header.Get("X-Foundry-Problem")
	got, err := io.ReadAll(resp.Body)
	a.err = err
	switch {
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		a.wrong = "a key that is good was refused"
	case a.status != http.StatusOK || err != nil: // the connection broke, and the client knows
	case stream:
		c.readStream(&a, question, got)
	default:
		var whole completion
		if err := json.Unmarshal(got, &whole); err != nil || len(whole.Choices) != 1 {
			a.wrong = fmt.Sprintf("the answer is not one: %.200s", got)
			return a
		}
		c.compare(&a, question, whole.Choices[0].Message.Content, whole.Usage)
	}
	return a
}

// completion is the part of an answer, or of a stream's event, that is
// compared.
type completion struct {
	Choices []struct {
		Message, Delta struct{ Content string }
	}
	Usage *struct {
		Out int64 `json:"completion_tokens"`
	}
	Error json.RawMessage
}

func (c *crowd) readStream(a *asked, question map[string]any, got []byte) {
	var said strings.Builder
	var last completion
	done := false
	for lines := bufio.NewScanner(bytes.NewReader(got)); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			done = true
			continue
		}
		var event completion
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			a.wrong = fmt.Sprintf("the stream has an event that is none: %.200s", data)
			return
		}
		if event.Error != nil {
			a.broken = true
		}
		for _, choice := range event.Choices {
			said.WriteString(choice.Delta.Content)
		}
		if event.Usage != nil {
			last.Usage = event.Usage
		}
	}
	switch {
	case a.broken:
	case !done:
		a.wrong = "the stream ended early and did not say so"
	default:
		c.compare(a, question, said.String(), last.Usage)
	}
}

func (c *crowd) compare(a *asked, question map[string]any, said string, usage *struct {
	Out int64 `json:"completion_tokens"`
}) {
	delete(question, "stream")
	delete(question, "stream_options")
	question["model"] = "simulator-chat"
	body, _ := json.Marshal(question) // it was marshalled before
	req := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	c.provide.ServeHTTP(w, req)
	var want completion
	if err := json.Unmarshal(w.Body.Bytes(), &want); err != nil || len(want.Choices) != 1 || usage == nil {
		a.wrong = fmt.Sprintf("nothing to compare with: %.200s", w.Body)
		return
	}
	if said != want.Choices[0].Message.Content || usage.Out != want.Usage.Out {
		a.wrong = fmt.Sprintf("the answer is %q with %d tokens, and the provider's is %q with %d", said, usage.Out, want.Choices[0].Message.Content, want.Usage.Out)
		return
	}
	a.whole, a.tokens = true, usage.Out
}

// stay asks one gateway twice a second, whether or not it answers, until ctx
// ends. Every fourth answer is a stream.
func (c *crowd) stay(ctx context.Context, gateway int) {
	client := c.client(false, 30*time.Second)
	var flying sync.WaitGroup
	defer flying.Wait()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		flying.Go(func() {
			one, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
			defer cancel()
			c.ask(one, client, gateway, 40, n%4 == 0)
		})
	}
}

// wander asks one question after the other, keeps to a gateway for as long as
// it answers, and goes on to the next address when it does not, as one does who
// was given several addresses for a name.
func (c *crowd) wander(ctx context.Context, gateways []int, words int, stream bool, deadline time.Duration) {
	client := c.client(true, min(deadline, 3*time.Second))
	last, now := time.Now(), 0
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadline)
		a := c.ask(one, client, gateways[now%len(gateways)], words, stream)
		cancel()
		if !a.good() {
			client.CloseIdleConnections()
			now++
			if errors.Is(a.err, context.DeadlineExceeded) || a.end.Sub(a.at) > 100*time.Millisecond {
				continue
			}
		} else {
			if words < longStream { // one that is cut is waited for to its deadline: it was under way
				c.mu.Lock()
				c.gaps = append(c.gaps, gap{a.end.Sub(last), a.end})
				c.mu.Unlock()
			}
			last = a.end
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// longest is the longest that somebody waited who goes on to the next address.
func (c *crowd) longest() (g gap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.gaps {
		if one.long > g.long {
			g = one
		}
	}
	return g
}

func (c *crowd) everything() []asked {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]asked(nil), c.all...)
}
