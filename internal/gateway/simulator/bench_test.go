package simulator

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func benchAsk(body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	NewBench(0).ServeHTTP(w, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(body)))
	return w
}

func TestTheBenchAnswersExactly716BytesOfJSON(t *testing.T) {
	w := benchAsk(`{"model":"x","messages":[]}`)
	m, ok := decode(w.Body.Bytes())
	if !ok || w.Body.Len() != 716 || w.Header().Get("Content-Length") != "716" || m.str("object") != "chat.completion" {
		t.Errorf("%d bytes: %s", w.Body.Len(), w.Body)
	}
}

func TestTheBenchStreams40ChunksIfTheBodyAsks(t *testing.T) {
	pad := strings.Repeat("x", 4090)
	bodies := []string{`{"stream":true}`, `{"stream" : true, "a":1}`}
	for i := 4060; i <= len(pad); i++ { // across the buffer's edge
		bodies = append(bodies, `{"a":"`+pad[:i]+`","stream":true}`)
	}
	for _, body := range bodies {
		w := benchAsk(body)
		if got := strings.Count(w.Body.String(), `"content":" simulated"`); got != 40 || !strings.HasSuffix(w.Body.String(), "data: [DONE]\n\n") {
			t.Errorf("%.30s: %d chunks", body, got)
		}
		_, datas := eventsOf(w.Body.String())
		for _, d := range datas[:len(datas)-1] {
			if _, ok := decode([]byte(d)); !ok {
				t.Errorf("not JSON: %s", d)
			}
		}
	}
	if w := benchAsk(`{"stream":false}`); w.Body.Len() != 716 {
		t.Errorf("streamed though told not to: %s", w.Body)
	}
}

func TestTheBenchWaitsForItsFirstByte(t *testing.T) {
	begin := time.Now()
	w := httptest.NewRecorder()
	NewBench(20*time.Millisecond).ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader("{}")))
	if time.Since(begin) < 20*time.Millisecond {
		t.Errorf("answered after %s", time.Since(begin))
	}
}
