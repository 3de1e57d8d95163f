package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/upstream"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// Kind is a family of model servers: it fixes the dialect, the default
// address and which endpoints exist.
type Kind string

// The kinds of provider.
const (
	Ollama           Kind = "ollama"
	OpenAI           Kind = "openai"
	Anthropic        Kind = "anthropic"
	Mistral          Kind = "mistral"
	OpenAICompatible Kind = "openai-compatible"
	SimulatorKind    Kind = "simulator" // built in, in this process, offline
)

// kindFacts is what the vendors document about their APIs.
type kindFacts struct {
	dialect   wire.Dialect
	base      string
	endpoints map[wire.Endpoint]bool
	usageFlag bool // understands stream_options.include_usage
	noStore   bool // has a `store` field, so that store:false is asserted on the wire
}

var kinds = map[Kind]kindFacts{
	Ollama:           {wire.OpenAI, "http://127.0.0.1:11434", set(wire.ChatCompletions, wire.Embeddings, wire.Responses), true, false},
	OpenAI:           {wire.OpenAI, "https://api.openai.com", set(wire.ChatCompletions, wire.Embeddings, wire.Responses), true, true},
	Anthropic:        {wire.Anthropic, "https://api.anthropic.com", set(wire.Messages, wire.CountTokens), false, false},
	Mistral:          {wire.OpenAI, "https://api.mistral.ai", set(wire.ChatCompletions, wire.Embeddings), false, false},
	OpenAICompatible: {wire.OpenAI, "", set(wire.ChatCompletions, wire.Embeddings, wire.Responses), true, false},
	SimulatorKind:    {wire.OpenAI, "http://simulator", set(wire.ChatCompletions, wire.Embeddings, wire.Responses), true, true},
}

func set(eps ...wire.Endpoint) map[wire.Endpoint]bool {
	m := map[wire.Endpoint]bool{}
	for _, ep := range eps {
		m[ep] = true
	}
	return m
}

// Provider is a configured provider at work: its facts, its connection pool
// and its circuit.
type Provider struct {
	Name    string
	Kind    Kind
	Facts   *sovereignty.Provider
	facts   kindFacts
	config  ProviderConfig
	client  *upstream.Client
	breaker *upstream.Breaker
	secret  string // the API key, to redact it from what the upstream says
	models  atomic.Pointer[map[string]*ProviderModel]
	health  atomic.Pointer[Health]
	front   *front // nil: it has no health endpoint
}

// Health is the result of the last probe of a provider.
type Health struct {
	At      time.Time
	OK      bool
	Error   string
	Latency time.Duration
}

// ProviderModel is one model of a provider, priced in the ledger's currency.
type ProviderModel struct {
	Name       string
	Tier       string
	Price      ledger.Price
	Priced     bool // false: no price is known and none is charged
	Context    int64
	MaxOutput  int64
	Discovered bool
}

const (
	defaultContext  = 131072
	connectTimeout  = 5 * time.Second
	firstByteLimit  = 2 * time.Minute
	betweenChunks   = 2 * time.Minute
	totalLimit      = 30 * time.Minute
	breakerFailures = 5
	breakerWindow   = 30 * time.Second
	breakerCooldown = 10 * time.Second
)

func newProvider(c ProviderConfig, rates *exchange, dial func(context.Context) (net.Conn, error), fleet func(string) *tls.Config, clock func() time.Time) (*Provider, error) {
	kf, ok := kinds[Kind(c.Kind)]
	if !ok {
		return nil, problem.New(problem.Invalid, "provider-kind", fmt.Sprintf("%q is not a kind of provider.", c.Kind)).
			WithField("providers." + c.Name + ".kind").WithMend("Use ollama, openai, anthropic, mistral, openai-compatible or simulator.")
	}
	p := &Provider{Name: c.Name, Kind: Kind(c.Kind), facts: kf, config: c}
	var err error
	if p.Facts, err = c.sovereign(); err != nil {
		return nil, err
	}
	if p.secret, err = c.APIKey.Read("providers." + c.Name + ".api_key"); err != nil {
		return nil, err
	}
	if err := p.connect(dial, fleet); err != nil {
		return nil, err
	}
	p.breaker = upstream.NewBreaker(orInt(c.Circuit.Failures, breakerFailures), c.Circuit.Window.Or(breakerWindow), c.Circuit.Cooldown.Or(breakerCooldown), clock)
	models := map[string]*ProviderModel{}
	for i, m := range c.Models {
		pm, err := m.model(rates)
		if err != nil {
			return nil, problem.From(err).WithField(fmt.Sprintf("providers.%s.models[%d].price", c.Name, i))
		}
		models[m.Name] = pm
	}
	p.models.Store(&models)
	return p, nil
}

func (p *Provider) connect(dial func(context.Context) (net.Conn, error), fleet func(string) *tls.Config) error {
	c := p.config
	field := "providers." + c.Name
	base := orString(c.BaseURL, p.facts.base)
	if base == "" {
		return problem.New(problem.Invalid, "provider-base-url", "This kind of provider has no default address.").
			WithField(field + ".base_url").WithMend("Give the root of its API, for example http://127.0.0.1:8000.")
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return problem.New(problem.Invalid, "provider-ca", "The authority's file cannot be read: "+c.CA+".").WithField(field + ".ca").Wrap(err)
		}
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(pem) {
			return problem.New(problem.Invalid, "provider-ca", c.CA+" holds no PEM certificate.").WithField(field + ".ca")
		}
	}
	if c.mutual() {
		var err error
		if tlsConfig, err = c.clientTLS(base, tlsConfig.RootCAs, fleet); err != nil {
			return err
		}
	}
	var proxy *url.URL
	if c.Proxy != "" {
		var err error
		if proxy, err = url.Parse(c.Proxy); err != nil || proxy.Scheme != "http" || proxy.Host == "" {
			return problem.New(problem.Invalid, "provider-proxy", fmt.Sprintf("%q is not the URL of an HTTP proxy.", c.Proxy)).
				WithField(field + ".proxy").WithMend("Write it as http://host:port.")
		}
	}
	conns := orInt(c.Concurrency, 256)
	if p.Facts.Own {
		conns = orInt(c.Concurrency, 64)
	}
	o := upstream.Options{
		BaseURL: strings.TrimSuffix(strings.TrimSuffix(base, "/"), "/v1"), Dial: dial, TLS: tlsConfig, Proxy: proxy,
		MaxConns: conns, MaxIdle: conns, IdleTimeout: 60 * time.Second, MaxQueue: orInt(c.Queue, 2*conns),
		Timeouts: upstream.Timeouts{
			Connect: c.Timeouts.Connect.Or(connectTimeout), FirstByte: c.Timeouts.FirstByte.Or(firstByteLimit),
			BetweenChunks: c.Timeouts.BetweenChunks.Or(betweenChunks), Total: c.Timeouts.Total.Or(totalLimit),
		},
		Header: p.header(),
	}
	client, err := upstream.New(o)
	if err != nil {
		return problem.New(problem.Invalid, "provider-base-url", fmt.Sprintf("%q cannot be used as an address: %v.", base, err)).WithField(field + ".base_url")
	}
	p.client = client
	return p.makeFront(o)
}

func (p *Provider) header() http.Header {
	h := http.Header{"User-Agent": {"foundry"}, "Content-Type": {"application/json"}}
	switch {
	case p.secret == "":
	case p.facts.dialect == wire.Anthropic:
		h.Set("X-Api-Key", p.secret)
	default:
		h.Set("Authorization", "Bearer "+p.secret)
	}
	return h
}

// model finds a model of the provider, nil if it does not list it.
func (p *Provider) model(name string) *ProviderModel { return (*p.models.Load())[name] }

// Models returns the provider's models by name.
func (p *Provider) Models() map[string]*ProviderModel { return *p.models.Load() }

func (c ProviderConfig) sovereign() (*sovereignty.Provider, error) {
	sp := &sovereignty.Provider{Name: c.Name, Own: c.own(), Simulated: c.Kind == string(SimulatorKind), Controller: sovereignty.Jurisdiction(c.Controller),
		NoSubProcessors: c.NoSubProcessors}
	for _, j := range c.Processing {
		sp.Processing = append(sp.Processing, sovereignty.Jurisdiction(j))
	}
	for _, s := range c.SubProcessors {
		sp.SubProcessors = append(sp.SubProcessors, sovereignty.SubProcessor{Name: s.Name, Jurisdiction: sovereignty.Jurisdiction(s.Jurisdiction), Purpose: s.Purpose})
	}
	if r := c.Retention; r != nil {
		if r.Days == nil {
			return nil, problem.New(problem.Invalid, "retention-days", "How long the provider keeps requests is not stated.").
				WithField("providers." + c.Name + ".retention.days").WithMend("Write a number of days; 0 means that nothing is kept.")
		}
		sp.Retention = sovereignty.Retention{None: *r.Days == 0, Days: *r.Days,
			Contract: sovereignty.Contract{Reference: r.Contract, Signed: r.Signed.Time, Expires: r.Expires.End()}}
	}
	for i, s := range c.Safeguards {
		covers, err := sovereignty.ParseSet(s.Covers...)
		if err != nil {
			return nil, problem.From(err).WithField(fmt.Sprintf("providers.%s.safeguards[%d].covers", c.Name, i))
		}
		sp.Safeguards = append(sp.Safeguards, sovereignty.Safeguard{Instrument: sovereignty.Instrument(s.Instrument), Reference: s.Reference,
			Covers: covers, Expires: s.Expires.End()})
	}
	if err := sp.Validate(); err != nil {
		e := problem.From(err)
		e.Field = "providers." + c.Name + "." + e.Field
		return nil, e
	}
	return sp, nil
}

// own reports whether these are the fleet's own models. Only the simulator,
// which runs in this process, is so without being told.
func (c ProviderConfig) own() bool {
	if c.Own == nil {
		return Kind(c.Kind) == SimulatorKind
	}
	return *c.Own
}

func orInt(v, fallback int) int {
	if v == 0 {
		return fallback
	}
	return v
}

func orString(v, fallback string) string {
	if v == "" {
		return fallback
	}
	return v
}
