package e2e

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/gateway/wire"
)

// outcome is what becomes of a request whose first provider misbehaves.
type outcome int

const (
	fine     outcome = iota // the first provider's answer reaches the client whole
	failed                  // nothing of it does: the next provider answers, or the client gets an error
	rejected                // the first provider's verdict on the request is final
	broken                  // part of a stream has gone out: an error event, and nobody else is asked
)

// expectation says what one fault leads to.
type expectation struct {
	outcome  outcome
	reason   string // of the try, in the ledger
	status   int    // for the client where no other provider is left
	result   string // in the ledger where no other provider is left
	estimate bool   // usage is estimated, although the answer is whole
	reported bool   // usage is known, although the answer is not whole
}

// majors are the formats of the two dialects, for what is slow to try.
var majors = []simulator.Format{simulator.OpenAI, simulator.Anthropic}

// reporting says that the vendor tells its usage before it fails.
func (e expectation) reporting() expectation { e.reported = true; return e }

func ok() expectation        { return expectation{outcome: fine, result: "ok"} }
func estimated() expectation { return expectation{outcome: fine, result: "ok", estimate: true} }
func fails(reason string, status int) expectation {
	e := expectation{outcome: failed, reason: reason, status: status, result: "upstream-error"}
	if status == http.StatusGatewayTimeout {
		e.result = "timeout"
	}
	return e
}
func rejects(status int) expectation {
	return expectation{outcome: rejected, reason: fmt.Sprintf("answered %d", status), status: status, result: "rejected"}
}
func breaks(reason string) expectation {
	e := expectation{outcome: broken, reason: reason, result: "stream-broken"}
	if reason == "timeout" {
		e.result = "timeout"
	}
	return e
}

// row is one misbehaviour. Where formats differ, by says how.
type row struct {
	fault         string
	whole, stream expectation
	by            func(c misbehaviour) (expectation, bool)
	formats       []simulator.Format // nil: all
}

func both(fault string, e expectation) row { return row{fault: fault, whole: e, stream: e} }

// of limits a row to some formats.
func (r row) of(f []simulator.Format) row { r.formats = f; return r }

func only(f simulator.Format, e expectation) func(misbehaviour) (expectation, bool) {
	return func(c misbehaviour) (expectation, bool) { return e, c.format == f }
}

var misbehaviours = []row{
	both("429", fails("answered 429", 429)),
	both("429 retry-after=60", fails("answered 429", 429)),
	both("500", fails("answered 500", 502)),
	both("503", fails("answered 503", 502)),
	both("529", fails("answered 529", 429)),
	both("404", fails("answered 404", 502)),
	both("422", rejects(422)),
	both("quotes-key", fails("answered 401", 502)),
	both("quotes-key status=500", fails("answered 500", 502)),
	both("quotes-key status=400", rejects(400)),
	{fault: "quota-exceeded", whole: fails("answered 429", 429), stream: fails("answered 429", 429), by: only(simulator.Anthropic, fails("answered 402", 502))},
	both("context-length-exceeded", rejects(400)),
	both("html-page", fails("answered 502", 502)),
	both("redirect", fails("answered 307", 502)),
	both("early-close", fails("connection closed early", 502)),
	both("early-close with=rst", fails("connection closed early", 502)),
	both("early-error", rejects(413)),
	both("hang-before-headers", fails("timeout", 504)).of(majors),
	both("hang-after-headers", fails("timeout", 504)).of(majors),
	both("stall", fails("timeout", 504)).of(majors),
	{fault: "stall chunk=3", whole: fails("timeout", 504), stream: breaks("timeout"), formats: majors},
	both("cut", fails("connection closed early", 502)),
	{fault: "cut with=eof", whole: fails("connection closed early", 502), stream: fails("stream incomplete", 502)},
	{fault: "cut chunk=3", whole: fails("connection closed early", 502), stream: breaks("connection closed early")},
	{fault: "cut chunk=3 with=rst", whole: fails("connection closed early", 502), stream: breaks("connection closed early")},
	{fault: "cut chunk=3 with=eof", whole: fails("connection closed early", 502), stream: breaks("stream incomplete")},
	{fault: "cut chunk=3 mid with=eof", whole: fails("connection closed early", 502), stream: breaks("cut within an event")},
	{fault: "error-event", whole: fails("answered 500", 502), stream: fails("error event", 502)},
	{fault: "error-event chunk=3", whole: fails("answered 500", 502), stream: breaks("error event")},
	// A stream in OpenAI's format that said why it stopped, and whose
	// transport ended properly, is whole without [DONE]: several servers
	// never send it. Anthropic's always ends with message_stop.
	{fault: "no-done", whole: ok(), stream: ok(), by: func(c misbehaviour) (expectation, bool) {
		return breaks("stream incomplete").reporting(), c.format == simulator.Anthropic && c.stream
	}},
	{fault: "malformed-json", whole: fails("malformed answer", 502), stream: fails("malformed event", 502)},
	{fault: "malformed-json chunk=2", whole: fails("malformed answer", 502), stream: breaks("malformed event")},
	both("split-every-byte", ok()),
	both("drip 1ms size=97", ok()),
	{fault: "huge 2MB", whole: ok(), stream: ok(), formats: majors},
	{fault: "huge 2MB in=event", whole: ok(), stream: ok(), formats: majors},
	{fault: "huge 9MB in=event", whole: ok(), stream: fails("event too large", 502), formats: majors},
	both("huge 1MB in=header", fails("protocol broken", 502)),
	both("wrong-content-type", fails("wrong content type", 502)),
	// Which of two fields of one name counts is anyone's guess: what is
	// forwarded is as the vendor said it, what is translated is not guessed.
	{fault: "duplicate-usage", whole: ok(), stream: ok(), by: func(c misbehaviour) (expectation, bool) {
		return fails("untranslatable answer", 502).reporting(), !c.stream && !c.native()
	}},
	both("no-usage", estimated()),
	both("absurd-usage", estimated()),
	both("empty-answer", ok()),
	{fault: "empty-body", whole: fails("malformed answer", 502), stream: fails("stream incomplete", 502)},
	// Mistral says "error" where it stopped; Anthropic's dialect has no word
	// for that, and none is made up.
	{fault: "content-filter", whole: ok(), stream: ok(), by: func(c misbehaviour) (expectation, bool) {
		if c.stream {
			return breaks("untranslatable event").reporting(), c.format == simulator.Mistral && c.dialect == wire.Anthropic
		}
		return fails("untranslatable answer", 502).reporting(), c.format == simulator.Mistral && c.dialect == wire.Anthropic
	}},
	{fault: "trailing-garbage", whole: fails("malformed answer", 502), stream: ok()},
	{fault: "gzip", whole: fails("malformed answer", 502), stream: fails("", 502)},
	both("sse-crlf", ok()),
	both("sse-comments", ok()),
	both("early-hints", ok()),
	both("connection-close", ok()),
}

// misbehaviour is one case: a fault of one format, asked for in one way.
type misbehaviour struct {
	format  simulator.Format
	fault   string
	stream  bool
	dialect wire.Dialect
	backed  bool // another provider is left
}

func (c misbehaviour) String() string {
	how, alone := "whole", "alone"
	if c.stream {
		how = "stream"
	}
	if c.backed {
		alone = "backed"
	}
	return fmt.Sprintf("%s/%s/%s/%s/%s", c.fault, c.format, how, c.dialect, alone)
}

func (r row) expect(c misbehaviour) expectation {
	if r.by != nil {
		if e, applies := r.by(c); applies {
			return e
		}
	}
	if c.stream {
		return r.stream
	}
	return r.whole
}

// provider is the one that misbehaves.
func (c misbehaviour) provider() string {
	switch {
	case c.fault == "early-error":
		return string(c.format) + "-early"
	case strings.HasPrefix(c.fault, "huge"):
		return string(c.format) + "-large"
	}
	return string(c.format)
}

// native reports whether the provider speaks the client's dialect.
func (c misbehaviour) native() bool {
	return (c.format == simulator.Anthropic) == (c.dialect == wire.Anthropic)
}

const vendorTimeout = 2 * time.Second

// patient is a provider whose circuit never opens, so that every case of a
// table meets it alike.
func patient(p gateway.ProviderConfig, model string) gateway.ProviderConfig {
	p.Timeouts = gateway.TimeoutsConfig{Connect: span(5 * time.Second), FirstByte: span(vendorTimeout), BetweenChunks: span(vendorTimeout), Total: span(time.Minute)}
	p.Circuit = gateway.CircuitConfig{Failures: 1 << 30}
	p.Models = []gateway.ProviderModelConfig{{Name: model, Price: &gateway.PriceConfig{Input: "2", Output: "10", CachedInput: "1", CacheWrite: "3"}, Context: 1 << 20, MaxOutput: 4096}}
	return p
}

// nano is what tokens cost at patient's prices, in nano-units.
func nano(r api.Request) int64 {
	fresh := r.InputTokens - r.CachedTokens - r.CacheWrite
	return fresh*2000 + r.CachedTokens*1000 + r.CacheWrite*3000 + r.OutputTokens*10000
}

// vendors is the node that the tests of misbehaviour share: every format, one
// provider that obeys "simulate …" and one that always errs early, each alone
// and with a spare behind it.
var vendors = &shared{make: func() (*world, error) {
	w, err := newWorld()
	if err != nil {
		return nil, err
	}
	var cfg daemon.Config
	add := func(name string, f simulator.Format, o simulator.Options) error {
		o.Format, o.APIKey = f, "sk-vendor-"+name+"-4f9dQ7xLr2Zt8WkPmN3b"
		v, err := w.vendor(name, o)
		if err != nil {
			return err
		}
		p := patient(european(name, kindOf(f), v.url), "simulator-chat")
		p.APIKey = w.secret(o.APIKey)
		if strings.HasSuffix(name, "-large") {
			p.Timeouts = gateway.TimeoutsConfig{} // what is large takes its time on a busy machine
		}
		cfg.Providers = append(cfg.Providers, p)
		return nil
	}
	if err := add("spare", simulator.OpenAICompatible, simulator.Options{}); err != nil {
		return nil, err
	}
	for _, f := range formats {
		for _, name := range []string{string(f), string(f) + "-early", string(f) + "-large"} {
			if err := add(name, f, simulator.Options{Commands: true}); err != nil {
				return nil, err
			}
			first := gateway.RouteConfig{Provider: name, Model: "simulator-chat"}
			cfg.Models = append(cfg.Models, gateway.ModelConfig{Name: name + "-alone", Routes: []gateway.RouteConfig{first}},
				gateway.ModelConfig{Name: name + "-backed", Routes: []gateway.RouteConfig{first, {Provider: "spare", Model: "simulator-chat"}}})
		}
		w.vendors[string(f)+"-early"].Always(simulator.MustFault("early-error"))
	}
	return w, w.launch(cfg, nil)
}}

// observation is what one case led to.
type observation struct {
	misbehaviour
	mark  string
	reply reply
	err   error
	row   api.Request
	first int // requests that the first provider got
	spare int // requests that the spare got
}

var markShape = regexp.MustCompile(`mark-\d+-end`)

// arrivals counts by mark what arrived at a vendor.
func arrivals(v *vendor) map[string]int {
	out := map[string]int{}
	for _, r := range v.Requests() {
		for _, m := range markShape.FindAllString(string(r.Body), 1) {
			out[m]++
		}
	}
	return out
}

func (w *world) misbehave(ctx context.Context, token string, c misbehaviour) observation {
	o := observation{misbehaviour: c, mark: fmt.Sprintf("mark-%d-end", serial.Add(1))}
	model := c.provider()
	if c.backed {
		model += "-backed"
	} else {
		model += "-alone"
	}
	o.reply, o.err = w.ask(ctx, token, question{dialect: c.dialect, model: model, mark: o.mark, text: "simulate " + c.fault, stream: c.stream, usage: true})
	return o
}

func TestEveryMisbehaviourOfAProviderHasAnAnswer(t *testing.T) {
	t.Parallel()
	w := vendors.get(t)
	token := w.token(t, anywhere())
	rows := map[string]row{}
	var cases []misbehaviour
	for _, r := range misbehaviours {
		rows[r.fault] = r
		of := r.formats
		if of == nil {
			of = formats
		}
		for _, f := range of {
			for i := range 8 {
				c := misbehaviour{format: f, fault: r.fault, stream: i&1 != 0, dialect: wire.OpenAI, backed: i&2 != 0}
				if i&4 != 0 {
					c.dialect = wire.Anthropic
				}
				cases = append(cases, c)
			}
		}
	}
	for _, listed := range simulator.Faults() {
		name, _, _ := strings.Cut(listed, ":")
		known := false
		for fault := range rows {
			known = known || fault == name || strings.HasPrefix(fault, name+" ")
		}
		if !known {
			t.Errorf("the fault %q has no row here: say what the client sees, what is recorded and what is retried", name)
		}
	}
	seen := make([]observation, len(cases))
	var wg sync.WaitGroup
	next := make(chan int)
	for range 48 {
		wg.Go(func() {
			for i := range next {
				seen[i] = w.misbehave(t.Context(), token, cases[i])
			}
		})
	}
	for i := range cases {
		next <- i
	}
	close(next)
	wg.Wait()
	w.shipped(t)
	spare, first := arrivals(w.vendors["spare"]), map[string]map[string]int{}
	for name, v := range w.vendors {
		first[name] = arrivals(v)
	}
	for i := range seen {
		o := &seen[i]
		o.first, o.spare = first[o.provider()][o.mark], spare[o.mark]
		if o.fault == "early-error" {
			o.first = 1 // the body is not read, so there is nothing to count
		}
		t.Run(o.String(), func(t *testing.T) {
			if o.err != nil {
				t.Fatalf("the client got no answer: %v", o.err)
			}
			o.row = w.recorded(t, o.reply.id)
			o.check(t, rows[o.fault].expect(o.misbehaviour))
			o.noSecret(t, w)
		})
	}
	log := w.log.String()
	for name, v := range w.vendors {
		if secret, leaked := fragment(log, strings.TrimPrefix(v.secret, "sk-vendor-"+name)); leaked {
			t.Errorf("the log holds %q of a provider's credential", secret)
		}
	}
	if _, leaked := fragment(log, token); leaked {
		t.Error("the log holds part of an API key")
	}
}

// check compares one case with what is expected of it.
func (o *observation) check(t *testing.T, e expectation) {
	t.Helper()
	switch {
	case e.outcome == fine:
		o.answered(t, string(o.row.Provider), e.estimate)
		if o.spare != 0 {
			t.Errorf("the spare was asked although the first provider answered")
		}
		o.tries(t, "")
	case e.outcome == failed && o.backed:
		o.answered(t, "spare", false)
		if o.row.Provider != "spare" || o.spare != 1 {
			t.Errorf("answered by %q; the spare was asked %d times", o.row.Provider, o.spare)
		}
		o.tries(t, e.reason, "")
		if len(o.row.Attempts) != 2 || o.row.Attempts[1].Provider != "spare" {
			t.Errorf("the second destination was not recorded before it was asked: %+v", o.row.Attempts)
		}
	case e.outcome == failed:
		o.errored(t, e)
		o.retried(t, e)
	case e.outcome == rejected:
		o.errored(t, e)
		if o.first != 1 || o.spare != 0 {
			t.Errorf("a request that is at fault itself was sent %d times, and %d times to the spare", o.first, o.spare)
		}
		o.tries(t, e.reason)
	case e.outcome == broken:
		o.brokeOff(t, e)
	}
}

// answered checks a whole answer and what is recorded of it.
func (o *observation) answered(t *testing.T, provider string, estimate bool) {
	t.Helper()
	r := o.reply
	if r.status != 200 || r.err != nil || !r.complete || r.errType != "" || r.finish == "" {
		t.Fatalf("the client did not get a whole answer: %s", r)
	}
	if r.text == "" && o.fault != "empty-answer" {
		t.Errorf("the answer has no text: %s", r)
	}
	if !o.stream && provider == "spare" && !strings.Contains(r.text, "simulated answer") {
		t.Errorf("the text is not the spare's: %s", r)
	}
	if o.row.State != "ok" || o.row.Status != 200 {
		t.Errorf("recorded as %q with status %d", o.row.State, o.row.Status)
	}
	if o.row.UsageKnown == estimate {
		t.Errorf("usage known: %t", o.row.UsageKnown)
	}
	if o.row.InputTokens <= 0 || o.row.OutputTokens <= 0 && o.fault != "empty-answer" || o.row.CostNano != nano(o.row) {
		t.Errorf("recorded %d and %d tokens for %d nano, want %d nano", o.row.InputTokens, o.row.OutputTokens, o.row.CostNano, nano(o.row))
	}
	// What a first provider said that it consumed before it failed is paid for
	// too, but no part of the answer: the client is not told of it.
	told := r.input == o.row.InputTokens && r.output == o.row.OutputTokens
	sunk := provider == "spare" && o.format == simulator.Anthropic && o.stream && r.input <= o.row.InputTokens && o.row.InputTokens <= 2*r.input && r.output <= o.row.OutputTokens
	if !estimate && r.reported && !told && !sunk {
		t.Errorf("the client was told %d and %d tokens, the ledger %d and %d", r.input, r.output, o.row.InputTokens, o.row.OutputTokens)
	}
	if !estimate && !r.reported {
		t.Errorf("the client was told no usage: %s", r)
	}
	if route := provider + "/simulator-chat"; r.header.Get("X-Foundry-Route") != route || r.header.Get("X-Foundry-Jurisdiction") != "FR" {
		t.Errorf("the headers say %q in %q, want %q", r.header.Get("X-Foundry-Route"), r.header.Get("X-Foundry-Jurisdiction"), route)
	}
}

// errored checks an error answer and what is recorded of it.
func (o *observation) errored(t *testing.T, e expectation) {
	t.Helper()
	r := o.reply
	if r.status != e.status || r.errType == "" || strings.HasPrefix(r.errType, "malformed") || r.errText == "" || r.err != nil || r.complete {
		t.Errorf("want an error %d in the shape of the dialect, got %s", e.status, r)
	}
	if e.status == 429 && r.header.Get("Retry-After") == "" {
		t.Errorf("a 429 without Retry-After")
	}
	if o.row.State != e.result || o.row.Status != e.status {
		t.Errorf("recorded as %q with status %d, want %q with %d", o.row.State, o.row.Status, e.result, e.status)
	}
	// Anthropic tells at the start of a stream what the input was.
	told := e.reported || o.format == simulator.Anthropic && o.stream
	if o.row.CostNano != nano(o.row) || !told && o.row.CostNano != 0 {
		t.Errorf("nothing was answered, yet %d tokens for %d nano are recorded", o.row.OutputTokens, o.row.CostNano)
	}
}

// retried checks that the only provider was asked again, where that can help.
func (o *observation) retried(t *testing.T, e expectation) {
	t.Helper()
	want := 3
	if o.fault == "429 retry-after=60" {
		want = 1 // nobody waits that long; the client is told instead
		if got := o.reply.header.Get("Retry-After"); got != "60" {
			t.Errorf("Retry-After is %q, want the provider's 60", got)
		}
	}
	switch e.reason {
	case "answered 401", "answered 402", "answered 404":
		want = 1 // it would be the same a moment later
	}
	if len(o.row.Tries) != want || o.first < want {
		t.Errorf("%d tries are recorded and %d requests arrived, want %d", len(o.row.Tries), o.first, want)
	}
	for _, try := range o.row.Tries {
		if try.Provider != o.provider() || e.reason != "" && try.Reason != e.reason || try.Reason == "" {
			t.Errorf("recorded %+v, want reason %q", try, e.reason)
		}
	}
}

// tries compares the recorded tries with the reasons wanted; "" is success.
func (o *observation) tries(t *testing.T, reasons ...string) {
	t.Helper()
	if len(reasons) == 1 && reasons[0] == "" && len(o.row.Tries) == 0 {
		return // a single success says nothing that the row does not
	}
	if len(o.row.Tries) != len(reasons) {
		t.Errorf("recorded tries %+v, want reasons %q", o.row.Tries, reasons)
		return
	}
	for i, want := range reasons {
		got := o.row.Tries[i].Reason
		if got != want && !(want == "" && i == 0 && len(reasons) == 2 && got != "") {
			t.Errorf("try %d is recorded with reason %q, want %q", i+1, got, want)
		}
	}
}

// brokeOff checks a stream that broke after the client had seen part of it.
func (o *observation) brokeOff(t *testing.T, e expectation) {
	t.Helper()
	r := o.reply
	if r.status != 200 || r.err != nil || !r.errEvent || r.after != 0 || r.complete || r.errType == "" || !strings.Contains(r.errText, "incomplete") {
		t.Errorf("the client must get an error event at the end, and nothing that looks like an end: %s", r)
	}
	if r.text == "" {
		t.Errorf("the part that had arrived did not reach the client: %s", r)
	}
	if o.first != 1 || o.spare != 0 {
		t.Errorf("after the first content, %d requests and %d to the spare", o.first, o.spare)
	}
	o.tries(t, e.reason)
	if o.row.State != e.result || o.row.Status != 200 || o.row.UsageKnown != e.reported {
		t.Errorf("recorded as %q with status %d, usage known %t; want %q", o.row.State, o.row.Status, o.row.UsageKnown, e.result)
	}
	if o.row.OutputTokens < 2 || o.row.InputTokens <= 0 || o.row.CostNano != nano(o.row) {
		t.Errorf("what was produced must be billed: recorded %d and %d tokens for %d nano", o.row.InputTokens, o.row.OutputTokens, o.row.CostNano)
	}
}

// fragment finds a secret, or twelve bytes in a row of it, in text.
func fragment(text, secret string) (string, bool) {
	const n = 12
	if secret == "" {
		return "", false
	}
	for i := 0; i+n <= len(secret); i++ {
		if strings.Contains(text, secret[i:i+n]) {
			return secret[i : i+n], true
		}
	}
	return "", false
}

// noSecret checks that no credential came out.
func (o *observation) noSecret(t *testing.T, w *world) {
	t.Helper()
	shown := string(o.reply.body) + fmt.Sprint(o.reply.header) + fmt.Sprintf("%+v", o.row.RequestRow)
	for name, v := range w.vendors {
		secret := strings.TrimPrefix(v.secret, "sk-vendor-"+name) // the name is no secret
		if part, leaked := fragment(shown, secret); leaked {
			t.Errorf("%q of the credential for %s was shown: %s", part, name, o.reply)
		}
	}
}
