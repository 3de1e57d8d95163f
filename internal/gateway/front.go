package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/upstream"
	"github.com/missionopsai/foundry/internal/inference"
	"github.com/missionopsai/foundry/internal/problem"
)

// front is a provider's own word on how it is. A provider that has one is
// taken out of use as soon as it cannot be reached, and no client's request is
// spent on finding out whether it is back: that is asked for every second.
type front struct {
	path     string
	client   *upstream.Client // its own: a busy provider must not look like a lost one
	kick     chan struct{}
	said     atomic.Pointer[inference.Health]
	lost     atomic.Bool
	doubtful atomic.Int32 // probes in a row that took too long
}

const (
	frontEvery   = 5 * time.Second // while it is well
	frontAway    = time.Second     // while it is lost
	frontTimeout = 5 * time.Second // for its answer
	frontHeld    = time.Minute     // how long a loss holds without being seen again: longer than any probe takes
	frontDoubts  = 2               // answers in a row that may take too long: a machine may be that busy
)

// mutual reports whether both ends show certificates.
func (c ProviderConfig) mutual() bool { return c.Node != "" || c.ClientCert != "" || c.ClientKey.Set() }

// clientTLS is TLS 1.3 with a certificate of this node's.
func (c ProviderConfig) clientTLS(base string, roots *x509.CertPool, fleet func(string) *tls.Config) (*tls.Config, error) {
	field := "providers." + c.Name
	if u, err := url.Parse(base); err != nil || u.Scheme != "https" {
		return nil, problem.New(problem.Invalid, "provider-mutual-plain", "Certificates are shown over https:// only.").WithField(field + ".base_url").
			WithMend("Write the inference node's address, for example https://10.0.0.5:11443.")
	}
	if c.Node != "" {
		return fleetTLS(c.Node, fleet), nil
	}
	if c.ClientCert == "" || !c.ClientKey.Set() || roots == nil {
		return nil, problem.New(problem.Invalid, "provider-mutual-half", "A client certificate, its key and the authority of the other side come together.").
			WithField(field).WithMend("Give client_certificate, client_key and ca, or the node's name in the fleet.")
	}
	pair := &inference.Pair{Certificate: c.ClientCert, Key: c.ClientKey, Authority: c.CA, Field: field, Log: slog.Default()}
	if err := pair.Check(); err != nil {
		return nil, err
	}
	own := pair.TLS()
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own.Certificate() }}, nil
}

var errNoFleet = errors.New("this node is in no fleet")

// fleetTLS reaches one node of the fleet. What it shows and believes is asked
// for at every handshake: a gateway starts before it has its place in the
// fleet, and certificates are renewed while it runs. The library's own check is
// off because it knows no such moment; what stands in its place checks the
// same, and whatever the fleet checks beside it.
func fleetTLS(node string, fleet func(string) *tls.Config) *tls.Config {
	now := func() (*tls.Config, error) {
		if fleet != nil {
			if c := fleet(node); c != nil && c.RootCAs != nil && c.ServerName != "" && c.GetClientCertificate != nil {
				return c, nil
			}
		}
		return nil, errNoFleet
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true,
		GetClientCertificate: func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := now()
			if err != nil {
				return nil, err
			}
			return c.GetClientCertificate(r)
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			c, err := now()
			if err != nil {
				return err
			}
			if len(s.PeerCertificates) == 0 {
				return errors.New("no certificate was shown")
			}
			between := x509.NewCertPool()
			for _, other := range s.PeerCertificates[1:] {
				between.AddCert(other)
			}
			if _, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: c.RootCAs, DNSName: c.ServerName, Intermediates: between}); err != nil {
				return err
			}
			if c.VerifyConnection != nil {
				return c.VerifyConnection(s)
			}
			return nil
		}}
}

// healthPath is where the provider says how it is; empty: nowhere.
func (c ProviderConfig) healthPath() string {
	switch {
	case c.Health == "off":
		return ""
	case c.Health == "" && c.mutual() && Kind(c.Kind) == Ollama:
		return "/health"
	}
	return c.Health
}

// makeFront prepares asking the provider how it is, where it tells.
func (p *Provider) makeFront(o upstream.Options) error {
	path := p.config.healthPath()
	if path == "" {
		return nil
	}
	if !strings.HasPrefix(path, "/") {
		return problem.New(problem.Invalid, "provider-health", "The path of the health endpoint begins with /.").WithField("providers." + p.Name + ".health")
	}
	o.MaxConns, o.MaxIdle, o.MaxQueue = 2, 1, 2
	client, err := upstream.New(o)
	if err != nil {
		return err
	}
	p.front = &front{path: path, client: client, kick: make(chan struct{}, 1)}
	return nil
}

// Front is what an inference node said about itself last; nil for other
// providers, and before it said anything.
func (p *Provider) Front() *inference.Health {
	if p.front == nil {
		return nil
	}
	return p.front.said.Load()
}

func (f *front) pause() time.Duration {
	if f.lost.Load() || f.doubtful.Load() > 0 {
		return frontAway/2 + rand.N(frontAway/2)
	}
	return frontEvery/2 + rand.N(frontEvery/2)
}

// errNotReady is what a provider says that is there and takes nothing.
type errNotReady struct{ words string }

func (e errNotReady) Error() string { return "it says: " + e.words }

// ask asks how the provider is. Its models are part of the answer.
func (f *front) ask(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, frontTimeout)
	defer cancel()
	resp, err := f.client.Do(ctx, http.MethodGet, f.path, nil, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Close()
	body, err := io.ReadAll(io.LimitReader(resp, probeBody))
	if err != nil {
		return nil, err
	}
	var h inference.Health
	if err := json.Unmarshal(body, &h); err != nil || h.Status == "" {
		return nil, errNotReady{"nothing that is understood"}
	}
	f.said.Store(&h)
	if !h.Ready() {
		return nil, errNotReady{clip(h.Words, 300)}
	}
	names := make([]string, 0, len(h.Models))
	for _, m := range h.Models {
		if m.Name != "" && len(m.Name) <= 200 {
			names = append(names, m.Name)
		}
	}
	return names, nil
}

// judgeFront takes a provider out of use, or back, by what a probe found.
func (p *Provider) judgeFront(err error) {
	f := p.front
	switch {
	case f == nil:
	case err == nil:
		f.doubtful.Store(0)
		if f.lost.CompareAndSwap(true, false) {
			p.breaker.Reset()
		}
	case (errors.Is(err, upstream.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)) && !errors.Is(err, upstream.ErrConnect) &&
		f.doubtful.Add(1) < frontDoubts && !f.lost.Load():
	default:
		p.lose()
	}
}

// unreachable takes a provider out of use to which no connection could be
// made: the requests that come next do not try.
func (p *Provider) unreachable() {
	if p.front == nil {
		return
	}
	p.lose()
	select {
	case p.front.kick <- struct{}{}:
	default:
	}
}

func (p *Provider) lose() {
	p.front.lost.Store(true)
	p.breaker.Trip(frontHeld)
}
