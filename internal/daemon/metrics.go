package daemon

import (
	"github.com/missionopsai/foundry/internal/gateway/upstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// nodeMetrics reads the node's state when it is asked for, so that nothing
// has to keep gauges current.
type nodeMetrics struct {
	d       *Daemon
	gauges  []gauge
	health  *prometheus.Desc
	circuit *prometheus.Desc
	calls   *prometheus.Desc
}

type gauge struct {
	desc *prometheus.Desc
	read func(*Daemon) float64
}

func newNodeMetrics(d *Daemon) *nodeMetrics {
	provider := []string{"gen_ai_provider_name"}
	m := &nodeMetrics{
		d:       d,
		health:  prometheus.NewDesc("foundry_provider_up", "Whether the last probe of the provider succeeded.", provider, nil),
		circuit: prometheus.NewDesc("foundry_provider_circuit", "State of the provider's circuit: 0 closed, 1 open, 2 half-open.", provider, nil),
		calls:   prometheus.NewDesc("foundry_provider_calls", "Calls to the provider, by what they do.", append(provider, "state"), nil),
	}
	add := func(name, help string, read func(*Daemon) float64) {
		m.gauges = append(m.gauges, gauge{prometheus.NewDesc(name, help, nil, nil), read})
	}
	add("foundry_database_up", "Whether the database answers.", func(d *Daemon) float64 { return truth(d.db.Healthy()) })
	add("foundry_snapshot_age_seconds", "Age of the picture of keys and policies.", func(d *Daemon) float64 { return d.gateway.Age().Seconds() })
	add("foundry_journal_queue_events", "Events in the journal that are not shipped.", func(d *Daemon) float64 { return float64(d.shipper.Queue().Events) })
	add("foundry_journal_queue_age_seconds", "Age of the oldest event that is not shipped.", func(d *Daemon) float64 { return d.shipper.Queue().Age.Seconds() })
	add("foundry_journal_rejected_events", "Events set aside since start because they could not be shipped.", func(d *Daemon) float64 { return float64(d.shipper.Queue().Rejected) })
	add("foundry_journal_bytes", "Size of the journal on disk.", func(d *Daemon) float64 { return float64(d.journal.Stats().Bytes) })
	add("foundry_journal_sync_seconds", "Duration of the journal's last sync.", func(d *Daemon) float64 { return d.journal.Stats().LastSync.Seconds() })
	add("foundry_journal_up", "Whether the journal accepts records.", func(d *Daemon) float64 { return truth(d.journal.Stats().Failure == nil) })
	return m
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (m *nodeMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range m.gauges {
		ch <- g.desc
	}
	ch <- m.health
	ch <- m.circuit
	ch <- m.calls
}

// Collect implements prometheus.Collector.
func (m *nodeMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, g := range m.gauges {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.read(m.d))
	}
	for _, p := range m.d.gateway.Providers() {
		if h := p.Health(); h != nil {
			ch <- prometheus.MustNewConstMetric(m.health, prometheus.GaugeValue, truth(h.OK), p.Name)
		}
		state := map[upstream.State]float64{upstream.Closed: 0, upstream.Open: 1, upstream.HalfOpen: 2}[p.Circuit()]
		ch <- prometheus.MustNewConstMetric(m.circuit, prometheus.GaugeValue, state, p.Name)
		s := p.Connections()
		ch <- prometheus.MustNewConstMetric(m.calls, prometheus.GaugeValue, float64(s.InFlight), p.Name, "in_flight")
		ch <- prometheus.MustNewConstMetric(m.calls, prometheus.GaugeValue, float64(s.Waiting), p.Name, "waiting")
	}
}

// registerMetrics adds the node's and the process's metrics to the gateway's.
func (d *Daemon) registerMetrics() {
	d.registry.MustRegister(newNodeMetrics(d), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}
