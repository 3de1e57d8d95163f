package gateway

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/translate"
	"github.com/missionopsai/foundry/internal/gateway/upstream"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
)

const (
	wholeLimit     = 1 << 20  // answers up to this size are held and checked before a byte goes out
	translateLimit = 32 << 20 // largest answer that is translated
	tailBytes      = 16 << 10 // of a larger answer, kept to find the usage
	copyBytes      = 32 << 10
	writeTimeout   = 60 * time.Second // for a client that does not read
)

// whole brings back an answer that is not a stream.
func (c *call) whole(h *hop, resp *upstream.Response) (*failure, error) {
	if !isMedia(resp.ContentType, "application/json") {
		return wrongMedia(resp), nil
	}
	c.in = c.in[:0]
	limit := wholeLimit
	if translated(h.provider, c.ep) {
		limit = translateLimit
	}
	if n := int(resp.ContentLength); n > 0 && n < limit && cap(c.in) < n+1 {
		c.in = make([]byte, 0, n+512)
	}
	for {
		if len(c.in) == cap(c.in) {
			c.in = append(c.in, make([]byte, max(4096, len(c.in)))...)[:len(c.in)]
		}
		n, err := resp.Read(c.in[len(c.in):cap(c.in)])
		c.in = c.in[:len(c.in)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			c.in = c.in[:0]
			return c.transportFailure(err), nil
		}
		if len(c.in) > limit {
			if translated(h.provider, c.ep) {
				return &failure{kind: problem.Upstream, reason: "answer too large", message: "The provider's answer is too large to translate."}, nil
			}
			return nil, c.passThrough(h, resp)
		}
	}
	c.chunk.Reset()
	ep := upstreamEndpoint(h.provider, c.ep)
	if err := wire.ScanResponse(ep, c.in, &c.chunk); err != nil {
		c.in = c.in[:0]
		return &failure{kind: problem.Upstream, status: resp.Status, reason: "malformed answer", message: "The provider's answer was not valid JSON."}, nil
	}
	if c.chunk.Error != nil {
		c.in = c.in[:0]
		return &failure{kind: problem.Upstream, status: resp.Status, reason: "error in answer", message: "The provider answered with an error."}, nil
	}
	body := c.in
	if ep != c.ep {
		var err error
		if body, err = c.translateAnswer(h); err != nil {
			return &failure{kind: problem.Upstream, status: resp.Status, reason: "untranslatable answer", message: "The provider's answer could not be translated."}, nil
		}
	}
	c.first = c.g.Clock()
	if err := c.await(); err != nil {
		return nil, err
	}
	c.result, c.status = ledger.OK, http.StatusOK
	header := c.headers(h)
	header["Content-Type"] = jsonMedia
	header.Set("Content-Length", strconv.Itoa(len(body)))
	c.answered = true
	c.w.WriteHeader(http.StatusOK)
	if _, err := c.w.Write(body); err != nil {
		c.result = ledger.ClientGone
	}
	return nil, nil
}

// passThrough brings back an answer that is too large to hold. Its end is
// checked by the transport: a broken answer breaks off for the client too.
func (c *call) passThrough(h *hop, resp *upstream.Response) error {
	if err := c.await(); err != nil {
		return err
	}
	c.first = c.g.Clock()
	header := c.headers(h)
	header["Content-Type"] = jsonMedia
	if resp.ContentLength > 0 {
		header.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	c.answered = true
	c.w.WriteHeader(http.StatusOK)
	tail := append([]byte(nil), c.in[max(0, len(c.in)-tailBytes):]...)
	sent := int64(len(c.in))
	defer func() { c.chunk.ContentBytes = sent }() // to estimate by, where no usage is told
	if _, err := c.w.Write(c.in); err != nil {
		c.result = ledger.ClientGone
		return nil
	}
	c.in = c.in[:copyBytes]
	for {
		n, err := resp.Read(c.in)
		if n > 0 {
			tail = append(tail, c.in[:n]...)
			tail = append(tail[:0], tail[max(0, len(tail)-tailBytes):]...)
			sent += int64(n)
			c.extendDeadline()
			if _, werr := c.w.Write(c.in[:n]); werr != nil {
				c.result = ledger.ClientGone
				return nil
			}
		}
		switch {
		case err == io.EOF:
			c.result, c.status = ledger.OK, http.StatusOK
			c.usageFromTail(tail)
			return nil
		case err != nil:
			c.result, c.status, c.broke = ledger.StreamBroken, http.StatusOK, c.transportFailure(err).reason
			return errBroken
		}
	}
}

// usageFromTail finds the usage in the last bytes of a large answer. The
// gateway's own scanner reads it, as the last member of an object made for it.
func (c *call) usageFromTail(tail []byte) {
	at := bytes.LastIndex(tail, []byte(`"usage"`))
	if at < 0 {
		return
	}
	c.chunk.Reset()
	object := append([]byte{'{'}, tail[at:]...)
	if err := wire.ScanResponse(c.ep, bytes.TrimSpace(object), &c.chunk); err != nil {
		c.chunk.Reset()
	}
}

func (c *call) translateAnswer(h *hop) ([]byte, error) {
	a := translate.Answer{Model: h.model, Created: c.start}
	if c.ep == wire.Messages {
		a.OmitReasoning = translate.OmitsThinking(c.body)
		return translate.ChatCompletionToMessage(c.in, a)
	}
	return translate.MessageToChatCompletion(c.in, a)
}

// upstreamEndpoint is the endpoint that is called at a provider for one that
// the client called here.
func upstreamEndpoint(p *Provider, ep wire.Endpoint) wire.Endpoint {
	switch {
	case !translated(p, ep):
		return ep
	case ep == wire.Messages:
		return wire.ChatCompletions
	default:
		return wire.Messages
	}
}

var jsonMedia = []string{"application/json"}

// headers puts on every answer where it came from.
func (c *call) headers(h *hop) http.Header {
	header := c.w.Header()
	var buf [64]byte
	id := []string{string(c.id.AppendTo(buf[:0]))}
	header["X-Request-Id"] = id
	if c.ep.Dialect() == wire.Anthropic {
		header["Request-Id"] = id // where Anthropic's SDKs look
	}
	header["X-Foundry-Route"] = h.metrics.route
	header["X-Foundry-Jurisdiction"] = h.metrics.jurisdiction
	header["Cache-Control"] = noStore
	return header
}

var noStore = []string{"no-store"}

func isMedia(contentType, want string) bool {
	if rest, ok := strings.CutPrefix(contentType, want); ok && (rest == "" || rest[0] == ';') {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && media == want
}

func wrongMedia(resp *upstream.Response) *failure {
	return &failure{kind: problem.Upstream, status: resp.Status, reason: "wrong content type", message: "The provider answered with something else than was asked for."}
}

// extendDeadline gives the client another minute to read, at most every few
// seconds, because setting a deadline costs a timer.
func (c *call) extendDeadline() {
	now := c.g.Clock()
	if now.Sub(c.deadlineSet) < writeTimeout/4 {
		return
	}
	c.deadlineSet = now
	_ = http.NewResponseController(c.w).SetWriteDeadline(now.Add(writeTimeout))
}
