package gateway

import (
	"strings"
	"sync"

	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the gateway's Prometheus metrics. Names follow OpenTelemetry's
// semantic conventions for generative AI (gen_ai.server.request.duration,
// gen_ai.server.time_to_first_token, gen_ai.client.token.usage) in
// Prometheus' spelling.
type Metrics struct {
	duration *prometheus.HistogramVec
	first    *prometheus.HistogramVec
	tokens   *prometheus.HistogramVec
	cost     *prometheus.CounterVec
	refusals *prometheus.CounterVec
	failed   *prometheus.CounterVec
	shed     prometheus.Counter
	hops     sync.Map // hopKey → *hopMetrics

	fallbacks, fallbackCost *prometheus.CounterVec
}

var (
	durationBuckets = []float64{0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92}
	firstBuckets    = []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	tokenBuckets    = []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304}
)

// NewMetrics makes the metrics and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	labels := []string{"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"}
	m := &Metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "gen_ai_server_request_duration_seconds", Help: "Time from a request's arrival to the last byte of its answer.", Buckets: durationBuckets}, append(labels, "error_type")),
		first:    prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "gen_ai_server_time_to_first_token_seconds", Help: "Time from a request's arrival to its first content.", Buckets: firstBuckets}, labels),
		tokens:   prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "gen_ai_client_token_usage", Help: "Tokens of a request.", Buckets: tokenBuckets}, append(labels, "gen_ai_token_type")),
		cost:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "foundry_gateway_cost_total", Help: "Cost of answered requests, in units of the ledger's currency."}, labels),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "foundry_gateway_refusals_total", Help: "Requests refused, by rule."}, []string{"rule"}),
		failed:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "foundry_gateway_provider_failures_total", Help: "Calls to a provider that failed, by reason."}, []string{"gen_ai_provider_name", "reason"}),
		shed:     prometheus.NewCounter(prometheus.CounterOpts{Name: "foundry_gateway_shed_total", Help: "Requests shed because the node is full."}),
	}
	home := []string{"gen_ai_provider_name", "organisation"}
	m.fallbacks = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "foundry_gateway_fallback_requests_total", Help: "Requests that others answered because the fleet's own provider, which comes first for them, did not."}, home)
	m.fallbackCost = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "foundry_gateway_fallback_cost_total", Help: "What those cost, in units of the ledger's currency."}, home)
	reg.MustRegister(m.fallbacks, m.fallbackCost, m.duration, m.first, m.tokens, m.cost, m.refusals, m.failed, m.shed)
	return m
}

func (m *Metrics) refused(rule string) { m.refusals.WithLabelValues(rule).Inc() }

type hopKey struct {
	provider, model string
	endpoint        wire.Endpoint
}

// hopMetrics are the series and the header values of one destination, looked
// up once per decision instead of once per request.
type hopMetrics struct {
	m            *Metrics
	labels       []string
	ok           prometheus.Observer
	first        prometheus.Observer
	input        prometheus.Observer
	output       prometheus.Observer
	cost         prometheus.Counter
	route        []string
	jurisdiction []string
}

func (m *Metrics) hop(p *Provider, model string, a ask) *hopMetrics {
	key := hopKey{p.Name, model, a.endpoint}
	if h, ok := m.hops.Load(key); ok {
		return h.(*hopMetrics)
	}
	labels := []string{operation(a.endpoint), p.Name, model}
	with := func(extra string) []string { return append(append([]string(nil), labels...), extra) }
	h := &hopMetrics{m: m, labels: labels, ok: m.duration.WithLabelValues(with("")...), first: m.first.WithLabelValues(labels...),
		input: m.tokens.WithLabelValues(with("input")...), output: m.tokens.WithLabelValues(with("output")...),
		cost: m.cost.WithLabelValues(labels...), route: []string{p.Name + "/" + model}, jurisdiction: []string{""}}
	var places []string
	for _, j := range p.Facts.Processing {
		places = append(places, string(j))
	}
	h.jurisdiction[0] = strings.Join(places, ", ")
	actual, _ := m.hops.LoadOrStore(key, h)
	return actual.(*hopMetrics)
}

// operation is the convention's name for what an endpoint does.
func operation(ep wire.Endpoint) string {
	switch ep {
	case wire.Embeddings:
		return "embeddings"
	case wire.CountTokens:
		return "count_tokens"
	default:
		return "chat"
	}
}

func (h *hopMetrics) observe(o *ledger.Outcome, u wire.Usage) {
	seconds := o.Latency.Seconds()
	if o.Result == ledger.OK {
		h.ok.Observe(seconds)
	} else {
		h.m.duration.WithLabelValues(append(append([]string(nil), h.labels...), o.Result.String())...).Observe(seconds)
	}
	for _, t := range o.Tries {
		if t.Reason != "" {
			h.m.failed.WithLabelValues(t.Provider, t.Reason).Inc()
		}
	}
	if o.FirstToken > 0 {
		h.first.Observe(o.FirstToken.Seconds())
	}
	if u.Input > 0 {
		h.input.Observe(float64(u.Input))
	}
	if u.Output > 0 {
		h.output.Observe(float64(u.Output))
	}
	if o.CostNano > 0 {
		h.cost.Add(float64(o.CostNano) / 1e9)
	}
}
