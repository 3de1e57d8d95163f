package supplier

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 20

// door is one supplier's interface over HTTPS.
type door struct {
	who     string // in messages
	base    string
	client  *http.Client
	timeout time.Duration // of one request; 0: 15 s

	// burnt are credentials that were refused. They are not shown again: a
	// supplier may lock out whoever shows wrong ones again, and that at the worst
	// moment.
	mu    sync.Mutex
	burnt [sha256.Size]byte
}

type request struct {
	method, path string
	kind, body   string // of what is sent
	authorise    func(*http.Request)
	proof        string // what authorise shows; never leaves this process but by it
}

var plainClient = &http.Client{
	Transport:     &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true, Proxy: http.ProxyFromEnvironment},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (d *door) check() error {
	if u, err := url.Parse(d.base); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return problem.New(problem.Invalid, "supplier-endpoint", "The address of the supplier's interface is no https address.").WithField("endpoint")
	}
	return nil
}

// call makes one request and reads its answer, whatever it says. An error means
// that there was none.
func (d *door) call(ctx context.Context, r request) (*http.Response, []byte, error) {
	proof := sha256.Sum256([]byte(r.proof))
	d.mu.Lock()
	burnt := d.burnt == proof
	d.mu.Unlock()
	if burnt {
		return nil, nil, d.wrongKey("was refused before, and is not shown again")
	}
	if d.timeout <= 0 {
		d.timeout = 15 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, strings.TrimSuffix(d.base, "/")+r.path, strings.NewReader(r.body))
	if err != nil {
		return nil, nil, err
	}
	r.authorise(req)
	req.Header.Set("Accept", "application/json")
	if r.body != "" {
		req.Header.Set("Content-Type", r.kind)
	}
	client := d.client
	if client == nil {
		client = plainClient
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, nil, d.lost(r.method, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, nil, d.lost(r.method, err)
	}
	if res.StatusCode == http.StatusUnauthorized {
		d.mu.Lock()
		d.burnt = proof
		d.mu.Unlock()
		return nil, nil, d.wrongKey("is not accepted")
	}
	return res, text, nil
}

func (d *door) wrongKey(how string) error {
	return problem.New(problem.Denied, "supplier-key", "What this node shows to "+d.who+" "+how+".").
		WithMend("Make new credentials in the supplier's console, write them into the file that the configuration names, and try again.").Wrap(ErrKey)
}

// lost is a request whose answer did not come: a question can be asked again, an
// act may have been done.
func (d *door) lost(method string, err error) error {
	if method == http.MethodGet {
		return problem.New(problem.Unavailable, "supplier-unreachable", "The interface of "+d.who+" cannot be reached.").Wrap(errors.Join(ErrUnreachable, err))
	}
	return problem.New(problem.Unavailable, "supplier-outcome-unknown", "Something was asked of "+d.who+", and the answer was lost.").
		WithMend("Look at what the supplier says before it is asked again.").Wrap(errors.Join(ErrUnknown, err))
}

// garbled is an answer that says it went well and cannot be read.
func (d *door) garbled(method string) error {
	return d.lost(method, errors.New("the answer is not what is documented"))
}

// refusal says in words what an answer with an error means.
func (d *door) refusal(method string, status int, code string, retry time.Duration) error {
	code = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return -1
	}, code[:min(len(code), 60)])
	made := func(kind problem.Kind, rule, detail, mend string, cause error) error {
		return problem.New(kind, rule, fmt.Sprintf("%s %s (%d %s).", d.who, detail, status, code)).WithMend(mend).WithRetry(retry).Wrap(cause)
	}
	switch {
	case status == http.StatusTooManyRequests, code == "RATE_LIMIT_EXCEEDED", code == "rate_limit_exceeded":
		return made(problem.RateLimited, "supplier-rate-limit", "was asked too often", "Wait, or do it in the supplier's console.", ErrBusy)
	case code == "RESET_MANUAL_ACTIVE":
		return made(problem.Conflict, "supplier-manual-reset", "has a technician at this server already", "Ask the supplier's support what is being done, and look again.", ErrRefused)
	case status == http.StatusLocked, status == http.StatusConflict && (code == "locked" || code == "conflict"):
		return made(problem.Unavailable, "supplier-busy", "is doing something else with it", "Try again in a minute.", ErrBusy)
	case status == http.StatusForbidden:
		return made(problem.Denied, "supplier-forbidden", "does not allow this to these credentials", "Use credentials that may, or take the server's protection away.", ErrRefused)
	case status == http.StatusNotFound:
		return made(problem.NotFound, "supplier-absent", "has no such server, or cannot do this with it", "Compare the number of the server and the account.", ErrAbsent)
	case status == http.StatusServiceUnavailable:
		return made(problem.Unavailable, "supplier-unavailable", "does not answer now", "Look at the supplier's status page.", busyOr(method))
	case status >= 500 && method != http.MethodGet:
		return made(problem.Unavailable, "supplier-outcome-unknown", "failed while it was at it", "Look at what the supplier says before it is asked again.", ErrUnknown)
	case status >= 500:
		return made(problem.Unavailable, "supplier-failure", "fails", "Look at the supplier's status page.", ErrUnreachable)
	}
	return made(problem.Upstream, "supplier-refused", "refuses", "Look at the server in the supplier's console.", ErrRefused)
}

// busyOr tells a question from an act, which may have been done behind a proxy
// that did not wait for it.
func busyOr(method string) error {
	if method == http.MethodGet {
		return ErrUnreachable
	}
	return ErrUnknown
}
