// Package gateway knows how to answer a model request: who asks, where it may
// go, what it may cost, and how to bring back the answer or a clear error.
package gateway

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/prometheus/client_golang/prometheus"
)

// Options is what a gateway is made of.
type Options struct {
	Config    Config
	Node      uint32 // number of this node, part of every request id
	Boot      uint32 // number of this start, part of every request id
	DB        *db.DB
	Recorder  *ledger.Recorder
	Budgets   *ledger.Budgets
	Verifier  *access.Verifier
	Seal      func(plaintext, associated []byte) ([]byte, error)
	Open      func(sealed, associated []byte) ([]byte, error)
	Snapshot  string                                  // path of the sealed snapshot; empty: none is kept
	Simulator func(context.Context) (net.Conn, error) // reaches the built-in simulator
	Fleet     func(node string) *tls.Config           // reaches one node of the fleet and no other; it returns nil while this node is in none
	Fallbacks *ledger.Fallbacks                       // counts what others cost while the fleet's own models are away; nil: nobody does
	Metrics   *Metrics                                // never nil
	Log       *slog.Logger
	Clock     func() time.Time
}

// Gateway answers model requests. Make one with New, then Run it.
type Gateway struct {
	Options
	limits     limits
	providers  []*Provider
	models     []ModelConfig
	exchange   *exchange
	refreshing sync.Mutex
	building   sync.Mutex      // of the table
	out        map[string]bool // providers that are taken out of use; under building
	table      atomic.Pointer[routeTable]
	tenants    atomic.Pointer[tenants]
	metrics    *Metrics
	inFlight   atomic.Int64
	held       atomic.Int64 // bytes of request bodies in memory
	background sync.WaitGroup
}

type limits struct {
	inFlight    int64
	bodyBytes   int64
	bodyMemory  int64
	snapshotAge time.Duration
	calm        time.Duration
}

// New checks the configuration and makes a gateway. It connects to nothing.
func New(o Options) (*Gateway, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	g := &Gateway{Options: o, metrics: o.Metrics, models: o.Config.Models}
	g.limits = limits{
		inFlight:    int64(orInt(o.Config.Limits.InFlight, 4096)),
		bodyBytes:   orInt64(o.Config.Limits.BodyBytes, 32<<20),
		bodyMemory:  orInt64(o.Config.Limits.BodyMemory, 256<<20),
		snapshotAge: o.Config.Limits.SnapshotAge.Or(15 * time.Minute),
		calm:        o.Config.Limits.FallbackCalm.Or(time.Minute),
	}
	var err error
	if g.exchange, err = newExchange(o.Config.Currency, o.Config.ExchangeRates); err != nil {
		return nil, err
	}
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	for _, c := range o.Config.Providers {
		var dial func(context.Context) (net.Conn, error)
		if Kind(c.Kind) == SimulatorKind {
			dial = o.Simulator
		}
		p, err := newProvider(c, g.exchange, dial, o.Fleet, o.Clock)
		if err != nil {
			return nil, err
		}
		g.providers = append(g.providers, p)
	}
	g.table.Store(newRouteTable(g.models, g.providers))
	g.tenants.Store(&tenants{callers: map[string]*caller{}})
	return g, nil
}

// Check reports the first thing in a configuration that New would refuse.
func Check(c Config) error {
	_, err := New(Options{Config: c, Metrics: NewMetrics(prometheus.NewRegistry())})
	return err
}

// Run keeps the gateway's picture of keys, policies and providers current
// until ctx ends.
func (g *Gateway) Run(ctx context.Context) {
	for _, p := range g.providers {
		g.background.Go(func() { g.probe(ctx, p) })
	}
	g.background.Go(func() { g.follow(ctx) })
	g.background.Go(func() { g.runFallbacks(ctx) })
	<-ctx.Done()
	g.background.Wait()
}

// Providers returns the providers in configured order.
func (g *Gateway) Providers() []*Provider { return g.providers }

// Currency is the ledger's currency.
func (g *Gateway) Currency() string { return g.exchange.currency }

// ServeHTTP answers the model endpoints under /v1/.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ep, ok := endpoints[r.URL.Path]
	switch {
	case ok && r.Method == http.MethodPost:
		g.answer(w, r, ep)
	case ok:
		w.Header().Set("Allow", http.MethodPost)
		g.refuse(w, r, dialectOf(r), problemMethod(r.Method, "POST"))
	default:
		g.serveModels(w, r)
	}
}

func orInt64(v, fallback int64) int64 {
	if v == 0 {
		return fallback
	}
	return v
}
