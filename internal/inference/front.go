package inference

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// The headers by which every answer says how long it had to wait.
const (
	QueueHeader = "X-Foundry-Queue"         // how many waited before this request
	WaitHeader  = "X-Foundry-Queue-Wait-Ms" // how long it waited
)

// passed lists what a gateway asks of an Ollama. Nothing else gets through:
// /api/pull, /api/delete, /api/push, /api/create and the rest would let a
// caller change what the node serves.
var passed = map[string]struct {
	method string
	queues bool
}{
	"/v1/chat/completions": {http.MethodPost, true},
	"/v1/embeddings":       {http.MethodPost, true},
	"/v1/responses":        {http.MethodPost, true},
	"/v1/models":           {http.MethodGet, false},
}

func (f *Front) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := f.o.Clock()
		out := &counted{ResponseWriter: w}
		defer func() {
			// Nothing of what was asked or answered, and no address: who called
			// is a node's name.
			f.o.Log.Debug("asked", "by", caller(r), "path", known(r.URL.Path), "status", out.status, "bytes", out.bytes, "took", f.o.Clock().Sub(began))
		}()
		err := f.serve(out, r)
		if errors.Is(err, errCut) {
			panic(http.ErrAbortHandler) // a part has gone out: it must not end as if it were the whole
		}
		if err != nil && r.Context().Err() == nil {
			if problem.From(err).Kind == problem.Unavailable {
				out.Header().Set("Connection", "close")
			}
			problem.Write(out, err)
		}
	})
}

func (f *Front) serve(w *counted, r *http.Request) error {
	if r.URL.Path == "/health" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		f.serveHealth(w, r)
		return nil
	}
	rule, ok := passed[r.URL.Path]
	switch {
	case !ok || r.URL.RawPath != "" || r.URL.RawQuery != "":
		return problem.New(problem.NotFound, "inference-path", "An inference node does not pass this on.").
			WithMend("It passes /v1/chat/completions, /v1/embeddings, /v1/responses and /v1/models. Models are changed on its own machine.")
	case r.Method != rule.method:
		w.Header().Set("Allow", rule.method)
		return problem.New(problem.NoMethod, "inference-method", "This path is asked with "+rule.method+".")
	}
	if err := f.watch.allowed(); err != nil {
		return err
	}
	body, release, err := f.read(r)
	if err != nil {
		return err
	}
	defer release()
	if !rule.queues {
		return f.pass(w, r, body)
	}
	arrived := f.o.Clock()
	leave, before, err := f.queue.enter(r.Context(), time.Duration(f.config.Wait))
	w.Header().Set(QueueHeader, strconv.Itoa(before))
	w.Header().Set(WaitHeader, strconv.FormatInt(f.o.Clock().Sub(arrived).Milliseconds(), 10))
	if err != nil {
		return err
	}
	defer leave()
	return f.pass(w, r, body)
}

// read takes the body in whole, so that a client that leaves while it waits is
// noticed: net/http watches for that once the body has been read.
func (f *Front) read(r *http.Request) (body []byte, release func(), err error) {
	if r.ContentLength == 0 {
		return nil, func() {}, nil
	}
	if r.ContentLength > f.config.BodyBytes {
		return nil, nil, tooLarge(f.config.BodyBytes)
	}
	size := r.ContentLength
	if size < 0 {
		size = f.config.BodyBytes
	}
	if !f.memory.take(size) {
		return nil, nil, full("This node holds as many request bodies as it may.", 0)
	}
	release = func() { f.memory.give(size) }
	body, err = io.ReadAll(io.LimitReader(r.Body, f.config.BodyBytes+1))
	switch {
	case err != nil:
		err = problem.New(problem.Invalid, "body-unreadable", "The request body did not arrive whole.").Wrap(err)
	case int64(len(body)) > f.config.BodyBytes:
		err = tooLarge(f.config.BodyBytes)
	default:
		return body, release, nil
	}
	release()
	return nil, nil, err
}

func tooLarge(limit int64) error {
	return problem.New(problem.TooLarge, "body-too-large", fmt.Sprintf("The request body is larger than %d bytes.", limit)).
		WithMend("Raise inference.body_bytes, or send less.")
}

// errCut marks an answer that the Ollama broke off.
var errCut = errors.New("the Ollama broke off its answer")

// pass asks the Ollama and hands its answer on as it comes.
func (f *Front) pass(w *counted, r *http.Request, body []byte) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.Method, f.target.Scheme+"://"+f.target.Host+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("asking the Ollama: %w", err)
	}
	req.ContentLength = int64(len(body))
	// Nothing else of the gateway's header is the Ollama's business.
	for _, name := range []string{"Content-Type", "Accept"} {
		if v := r.Header.Get(name); v != "" {
			req.Header.Set(name, v)
		}
	}
	req.Header.Set("User-Agent", "foundry-inference")
	resp, err := f.client.RoundTrip(req)
	if err != nil {
		f.watch.hurry()
		return problem.New(problem.Upstream, "ollama-away", "The Ollama behind this node does not answer.").
			WithMend("Start it on the inference node: systemctl start ollama.").Wrap(err)
	}
	defer resp.Body.Close()
	header := w.Header()
	for _, name := range []string{"Content-Type", "Cache-Control", "Retry-After"} {
		if v := resp.Header.Get(name); v != "" {
			header.Set(name, v)
		}
	}
	if resp.ContentLength >= 0 {
		header.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	w.WriteHeader(resp.StatusCode)
	flush := http.NewResponseController(w)
	if resp.ContentLength < 0 {
		_ = flush.Flush() // the header of a stream, before its first event
	}
	return relay(w, flush, resp.Body, resp.ContentLength < 0)
}

// relay hands bytes on at once: what has arrived never waits for more.
func relay(w io.Writer, flush *http.ResponseController, from io.Reader, stream bool) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return errCut // the gateway left
			}
			if stream {
				_ = flush.Flush()
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return errCut
		}
	}
}

// counted knows what was answered, for the log.
type counted struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (c *counted) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counted) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	n, err := c.ResponseWriter.Write(p)
	c.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController find what flushes.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// caller is the name in the certificate of the node that called.
func caller(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return ""
	}
	return r.TLS.PeerCertificates[0].Subject.CommonName
}

// known keeps what a caller made up out of the log.
func known(path string) string {
	if _, ok := passed[path]; ok || path == "/health" {
		return path
	}
	return "other"
}
