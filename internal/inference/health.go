package inference

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// Health is what an inference node says about itself.
type Health struct {
	Status  string    `json:"status"` // ok, ollama-away, exposed or stopping
	Words   string    `json:"words"`
	Version string    `json:"version"`
	At      time.Time `json:"at"` // when the Ollama was last asked
	Ollama  string    `json:"ollama_version,omitempty"`
	Models  []Model   `json:"models"`
	Loaded  []Loaded  `json:"loaded"`
	Queue   Standing  `json:"queue"`
	GPU     GPUs      `json:"gpu"`
	Memory  Memory    `json:"memory"`
}

// Ready reports whether requests may be sent there.
func (h *Health) Ready() bool { return h.Status == statusOK }

// Model is a model that the Ollama has.
type Model struct {
	Name string `json:"name"`
	Size int64  `json:"size_bytes"`
}

// Loaded is a model that is in memory.
type Loaded struct {
	Name    string    `json:"name"`
	Size    int64     `json:"size_bytes"`
	VRAM    int64     `json:"vram_bytes"` // of the size; 0: it runs on the processor
	Expires time.Time `json:"expires_at,omitzero"`
}

const (
	statusOK       = "ok"
	statusAway     = "ollama-away"
	statusExposed  = "exposed"
	statusStopping = "stopping"
)

const (
	watchEvery   = 10 * time.Second       // while all is well
	hurryEvery   = time.Second            // while the Ollama is away
	askTimeout   = 5 * time.Second        // for one answer of the Ollama
	leastBetween = 250 * time.Millisecond // between two looks that somebody asked for
	answerBytes  = 4 << 20
)

// watcher keeps what is known about the Ollama and the machine, so that
// /health costs nothing however often it is asked for.
type watcher struct {
	f      *Front
	kick   chan struct{}
	looked chan struct{} // closed after the first look

	mu      sync.Mutex
	health  Health
	exposed error
}

func (w *watcher) init(f *Front) {
	w.f, w.kick, w.looked = f, make(chan struct{}, 1), make(chan struct{})
	w.health = Health{Status: statusAway, Words: "The Ollama was not asked yet."}
}

// run looks now and then until ctx ends.
func (w *watcher) run(ctx context.Context) {
	for first := true; ; first = false {
		w.look(ctx)
		if first {
			close(w.looked)
		}
		every := watchEvery
		if now := w.read(); !now.Ready() {
			every = hurryEvery
		}
		pause := time.NewTimer(every)
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		case <-w.kick:
			pause.Stop()
			select {
			case <-ctx.Done():
				return
			case <-time.After(leastBetween):
			}
		}
	}
}

// hurry has the watcher look soon.
func (w *watcher) hurry() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

func (w *watcher) look(ctx context.Context) {
	f := w.f
	h := Health{Status: statusOK, Words: "The Ollama answers.", At: f.o.Clock().UTC(), Version: f.o.Version, Models: []Model{}, Loaded: []Loaded{}}
	exposed := f.exposed(ctx)
	h.GPU, h.Memory = f.o.Machine.gpus(ctx), f.o.Machine.memory()
	if err := f.ask(ctx, &h); err != nil {
		h.Status, h.Words = statusAway, "The Ollama does not answer: "+err.Error()+"."
	}
	if exposed != nil {
		h.Status, h.Words = statusExposed, problem.From(exposed).Error()
	}
	w.mu.Lock()
	was := w.health.Status
	w.health, w.exposed = h, exposed
	w.mu.Unlock()
	if was != h.Status && ctx.Err() == nil {
		f.o.Log.Info("the Ollama was looked at", "status", h.Status, "words", h.Words, "models", len(h.Models))
	}
}

// allowed refuses while the Ollama can be reached past this front.
func (w *watcher) allowed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.exposed
}

func (w *watcher) read() Health {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.health
}

// Health is what the node would say now.
func (f *Front) Health() Health {
	h := f.watch.read()
	h.Queue = f.queue.standing()
	if f.queue.stops() {
		h.Status, h.Words = statusStopping, "This node takes no more requests: it stops."
	}
	return h
}

func (f *Front) serveHealth(w http.ResponseWriter, r *http.Request) {
	select { // the very first look takes a moment
	case <-f.watch.looked:
	case <-r.Context().Done():
		return
	}
	h := f.Health()
	body, err := json.Marshal(h)
	if err != nil {
		problem.Write(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !h.Ready() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(append(body, '\n'))
}

// ask asks the Ollama for its version, its models and which are loaded
// (github.com/ollama/ollama/blob/main/docs/api.md).
func (f *Front) ask(ctx context.Context, h *Health) error {
	var version struct {
		Version string `json:"version"`
	}
	if err := f.get(ctx, "/api/version", &version); err != nil {
		return err
	}
	h.Ollama = clip(version.Version)
	var tags struct {
		Models []struct {
			Name string `json:"name"`
			Size int64  `json:"size"`
		} `json:"models"`
	}
	if err := f.get(ctx, "/api/tags", &tags); err != nil {
		return err
	}
	for _, m := range tags.Models {
		h.Models = append(h.Models, Model{clip(m.Name), m.Size})
	}
	var running struct {
		Models []struct {
			Name    string    `json:"name"`
			Size    int64     `json:"size"`
			VRAM    int64     `json:"size_vram"`
			Expires time.Time `json:"expires_at"`
		} `json:"models"`
	}
	if err := f.get(ctx, "/api/ps", &running); err != nil {
		return err
	}
	for _, m := range running.Models {
		h.Loaded = append(h.Loaded, Loaded{clip(m.Name), m.Size, m.VRAM, m.Expires})
	}
	return nil
}

func (f *Front) get(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.target.Scheme+"://"+f.target.Host+path, nil)
	if err != nil {
		return err
	}
	resp, err := f.client.RoundTrip(req)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("it takes too long")
	case err != nil:
		return errors.New("no connection")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("asked for %s, it answered %d", path, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerBytes))
	if err != nil || json.Unmarshal(body, into) != nil {
		return fmt.Errorf("asked for %s, it did not answer as documented", path)
	}
	return nil
}

func clip(s string) string { return s[:min(len(s), 200)] }
