package gateway

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/sovereignty"
)

// held is a gateway whose journal's disk can be made to hang, in front of one
// upstream.
type held struct {
	g     *Gateway
	token string
	hang  atomic.Bool
	let   chan struct{} // closed to let the disk go on
	asked chan struct{} // receives when the upstream is asked
}

func newHeld(t *testing.T, own bool) *held {
	t.Helper()
	h := &held{let: make(chan struct{}), asked: make(chan struct{}, 8)}
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.asked <- struct{}{}
		if bytes.Contains(body, []byte(`"stream":true`)) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}`+"\n\n"+
				`data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\ndata: [DONE]\n\n")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`)
	}))
	t.Cleanup(up.Close)
	p := ownOrThird(own)
	p.BaseURL = up.URL
	policy := sovereignty.DefaultPolicy()
	policy.ThirdParties = true
	h.g, h.token, _ = answering(t, Config{Providers: []ProviderConfig{p}}, policy, func(op, _ string) error {
		if op == "sync" && h.hang.Load() {
			<-h.let
		}
		return nil
	})
	return h
}

func ownOrThird(isOwn bool) ProviderConfig {
	p := own("a", "m")
	if !isOwn {
		p.Own, p.NoSubProcessors = nil, true
		p.Retention = &RetentionConfig{Days: new(int), Contract: "C", Signed: day(2020), Expires: day(2090)}
	}
	return p
}

// watched records when the first byte of an answer goes out.
type watched struct {
	*httptest.ResponseRecorder
	wrote chan struct{}
}

func (w *watched) WriteHeader(status int) {
	select {
	case w.wrote <- struct{}{}:
	default:
	}
	w.ResponseRecorder.WriteHeader(status)
}

func (h *held) ask(stream string) *watched {
	w := &watched{httptest.NewRecorder(), make(chan struct{}, 1)}
	r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"x"}],"stream":`+stream+`}`))
	r.Header.Set("Authorization", "Bearer "+h.token)
	r.Header.Set(ClassHeader, "public")
	go h.g.ServeHTTP(w, r)
	return w
}

const (
	soon  = 10 * time.Second
	never = 300 * time.Millisecond // long enough for a request that nothing holds back
)

func within(c <-chan struct{}, d time.Duration) bool {
	select {
	case <-c:
		return true
	case <-time.After(d):
		return false
	}
}

// Invariant 1: an admission to a third party is durable before the first byte
// goes up.
func TestAThirdPartySeesNothingBeforeTheAdmissionIsDurable(t *testing.T) {
	for _, stream := range []string{"false", "true"} {
		h := newHeld(t, false)
		h.hang.Store(true)
		w := h.ask(stream)
		if within(h.asked, never) {
			t.Fatal("the provider was asked while the admission was not on disk")
		}
		close(h.let)
		if !within(h.asked, soon) || !within(w.wrote, soon) {
			t.Fatal("the request did not go on once the disk did")
		}
	}
}

// Invariant 1: calls to the fleet's own models may overlap the sync, and no
// byte of their answer is released before it.
func TestAnOwnModelIsAskedAtOnceAndItsAnswerWaitsForTheAdmission(t *testing.T) {
	for _, stream := range []string{"false", "true"} {
		h := newHeld(t, true)
		h.hang.Store(true)
		w := h.ask(stream)
		if !within(h.asked, soon) {
			t.Fatal("the call did not overlap the sync")
		}
		if within(w.wrote, never) {
			t.Fatal("a byte of the answer was released while the admission was not on disk")
		}
		close(h.let)
		if !within(w.wrote, soon) {
			t.Fatal("the answer did not come once the disk went on")
		}
	}
}
