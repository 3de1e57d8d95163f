//go:build faults

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// Each request asks for its own number of tokens. With input for free and a
// known price of output, what was reserved for it names the request in the
// ledger, and max_tokens names it at the provider: neither can mistake one
// request for another.
const (
	firstNumber  = 1000
	nanoPerToken = 1000 // "1" per million tokens
)

// vendor is a third party, in this process, that the node calls over TCP.
type vendor struct {
	*simulator.Simulator
	url  string
	stop func()
}

func newVendor(t testing.TB, o simulator.Options) *vendor {
	t.Helper()
	return newVendorAt(t, "127.0.0.1:0", o)
}

func newVendorAt(t testing.TB, address string, o simulator.Options) *vendor {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := simulator.New(o)
	server := simulator.Serve(l, s)
	var once sync.Once
	v := &vendor{Simulator: s, url: "http://" + l.Addr().String(), stop: func() { once.Do(func() { _ = s.Close(); _ = server.Close() }) }}
	t.Cleanup(v.stop)
	return v
}

// thirdParty is the configuration of a vendor outside the fleet, so that
// admissions have to be durable before a byte goes to it.
func thirdParty(v *vendor, more string) string {
	return fmt.Sprintf(`
providers:
  - name: vendor
    kind: openai
    base_url: %s
    own: false
    discover: false
    controller: FR
    processing: [FR]
    no_sub_processors: true
    retention: {days: 0, contract: DPA-1, signed: 2026-01-02, expires: 2033-12-31}
    models: [{name: simulator-chat, context: 100000000, max_output: 100000000, price: {input: "0", output: "1"}}]
models:
  - {name: m, routes: [{provider: vendor, model: simulator-chat}]}
%s`, v.url, more)
}

// client makes an organisation that consents to third parties, and a key of it.
func (n *node) newClient() (org string, key api.Key) {
	n.t.Helper()
	org = unique("org")
	policy := sovereignty.Policy{Regime: sovereignty.RegimeEU, Home: sovereignty.SetOf("FI"), Allowed: sovereignty.EEA(), ThirdParties: true,
		Highest: sovereignty.Internal, RequireNoRetention: sovereignty.Confidential,
		Ceilings: sovereignty.Ceilings{Own: sovereignty.Restricted, Near: sovereignty.Restricted, Elsewhere: sovereignty.Public}}
	n.must("POST", "/organisations", map[string]any{"name": org, "policy": policy}, nil)
	return org, n.newKey(org)
}

func (n *node) newKey(org string) (key api.Key) {
	n.t.Helper()
	n.must("POST", "/keys", map[string]any{"organisation": org, "name": unique("key")}, &key)
	return key
}

// answer is what a client got.
type answer struct {
	number int
	at     time.Time
	took   time.Duration
	status int    // 0: no answer at all
	code   string // of a refusal
	id     string
	whole  bool // the body arrived, and a stream said that it is complete
	broken bool // a stream ended with an error event
	err    error
}

// load sends requests at a steady rate, whether or not earlier ones have been
// answered, and remembers every answer.
type load struct {
	n    *node
	key  string
	rate int

	mu      sync.Mutex
	answers []answer
	last    int
	flying  sync.WaitGroup
	cancel  context.CancelFunc
	ended   chan struct{}
}

func newLoad(n *node, key string, rate int) *load {
	return &load{n: n, key: key, rate: rate, last: firstNumber}
}

// begin starts sending, until end.
func (l *load) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel, l.ended = cancel, make(chan struct{})
	go func() {
		defer close(l.ended)
		tick := time.NewTicker(time.Second / time.Duration(l.rate))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				l.flying.Go(func() { l.one() })
			}
		}
	}()
}

// end stops sending and waits for what is under way.
func (l *load) end() {
	l.cancel()
	<-l.ended
	l.flying.Wait()
}

// one sends the next request. Every fourth is a stream.
func (l *load) one() answer {
	l.mu.Lock()
	l.last++
	number := l.last
	l.mu.Unlock()
	a := l.n.ask(context.Background(), l.key, "m", number, number%4 == 0, "Hello")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = append(l.answers, a)
	return a
}

// all is every answer so far.
func (l *load) all() []answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]answer(nil), l.answers...)
}

// since is the answers to requests that were sent after a moment.
func (l *load) since(t time.Time) (list []answer) {
	for _, a := range l.all() {
		if a.at.After(t) {
			list = append(list, a)
		}
	}
	return list
}

// flows waits until requests sent from now on are answered well.
func (l *load) flows(t testing.TB) {
	t.Helper()
	from := time.Now()
	eventually(t, "requests to succeed", func() (bool, string) {
		good, list := 0, l.since(from)
		for _, a := range list {
			if a.status == http.StatusOK {
				good++
			}
		}
		return good >= 5, tally(list)
	})
}

// ask sends one request and reads its answer to the end.
func (n *node) ask(ctx context.Context, key, model string, number int, stream bool, text string) (a answer) {
	a = answer{number: number, at: time.Now()}
	defer func() { a.took = time.Since(a.at) }()
	body, err := json.Marshal(map[string]any{"model": model, "max_tokens": number, "stream": stream,
		"messages": []any{map[string]any{"role": "user", "content": text}}})
	if err != nil {
		a.err = err
		return a
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		a.err = err
		return a
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := n.client.Do(req)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	a.status, a.id, a.code = resp.StatusCode, resp.Header.Get("X-Request-Id"), resp.Header.Get("X-Foundry-Problem")
	got, err := io.ReadAll(resp.Body)
	a.err = err
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		a.whole = err == nil && bytes.HasSuffix(bytes.TrimSpace(got), []byte("data: [DONE]"))
		a.broken = err == nil && bytes.Contains(got, []byte(`"error"`))
	} else {
		a.whole = err == nil
	}
	return a
}

// tally says in one line what happened to a number of requests.
func tally(list []answer) string {
	counts := map[string]int{}
	for _, a := range list {
		switch {
		case a.status == 0:
			counts["no answer"]++
		case a.status == http.StatusOK && a.whole:
			counts["200"]++
		case a.status == http.StatusOK:
			counts["200 and broken off"]++
		default:
			counts[fmt.Sprintf("%d %s", a.status, a.code)]++
		}
	}
	return fmt.Sprint(counts)
}

// book is the ledger, by the number of the request.
type book map[int][]ledger.RequestRow

// ledgerOf reads every request of an organisation back.
func (n *node) ledgerOf(org string) book {
	n.t.Helper()
	b := book{}
	for after := ""; ; {
		var page api.Requests
		n.must("GET", "/requests?limit=500&organisation="+org+"&after="+url.QueryEscape(after), nil, &page)
		for _, r := range page.Requests {
			number := int(r.ReservedNano / nanoPerToken)
			b[number] = append(b[number], r)
		}
		if after = page.Next; after == "" {
			return b
		}
	}
}

// audit compares what clients got and what the provider saw with the ledger.
// killed says whether the node was killed in between: only then may an outcome
// be unknown, and an answer be cut.
func (l *load) audit(t testing.TB, org string, v *vendor, killed bool) book {
	t.Helper()
	b := l.n.ledgerOf(org)
	complain := limited(t)
	for number, rows := range b {
		if len(rows) != 1 {
			complain("request %d has %d rows in the ledger: %v and %v", number, len(rows), rows[0].ID, rows[1].ID)
		}
		switch r := rows[0]; {
		case r.State == ledger.StateInFlight:
			complain("request %d is still in flight: %s", number, r.ID)
		case r.State == ledger.StateUnknown && !killed:
			complain("request %d has an unknown outcome though nothing was killed", number)
		}
	}
	for _, a := range l.all() {
		switch {
		case a.status == http.StatusUnauthorized:
			complain("request %d with a valid key was answered 401 %s", a.number, a.code)
		case a.status != http.StatusOK:
			continue
		case len(b[a.number]) == 0:
			complain("request %d was answered and is not in the ledger (id %s)", a.number, a.id)
			continue
		}
		if a.status != http.StatusOK {
			continue
		}
		r := b[a.number][0]
		if r.ID.String() != a.id {
			complain("request %d was told it is %s, the ledger calls it %s", a.number, a.id, r.ID)
		}
		if a.whole && r.State != ledger.StateOK && !(killed && r.State == ledger.StateUnknown) {
			complain("request %d was answered whole, its state is %q", a.number, r.State)
		}
		if !a.whole && !a.broken && !killed {
			complain("request %d was cut silently (%v)", a.number, a.err)
		}
	}
	for number, times := range arrivals(t, v) {
		if len(b[number]) == 0 {
			complain("request %d reached the provider and is not in the ledger", number)
		}
		if times > 1 {
			complain("request %d reached the provider %d times", number, times)
		}
	}
	return b
}

// arrivals counts what reached the provider, by number.
func arrivals(t testing.TB, v *vendor) map[int]int {
	t.Helper()
	seen := map[int]int{}
	for _, r := range v.Requests() {
		var body struct {
			Max int `json:"max_tokens"`
		}
		if r.Method != http.MethodPost {
			continue
		}
		if err := json.Unmarshal(r.Body, &body); err != nil {
			continue // it was cut on its way when the node was killed
		}
		seen[body.Max]++
	}
	return seen
}

// limited reports the first few failures of a kind of which there may be
// thousands.
func limited(t testing.TB) func(format string, args ...any) {
	count := 0
	return func(format string, args ...any) {
		t.Helper()
		if count++; count <= 10 {
			t.Errorf(format, args...)
		} else if count == 11 {
			t.Error("… and more")
		}
	}
}
