package daemon

import (
	"time"

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
	add("foundry_audit_up", "Whether the last pass of the audit log's sequencer succeeded.", func(d *Daemon) float64 { return truth(d.auditLog.Status().Failure == "") })
	add("foundry_audit_tree_size", "Leaves in the audit log's tree.", func(d *Daemon) float64 { return float64(d.auditLog.Status().Size) })
	add("foundry_audit_lag_seconds", "How long the tree has been behind the audit log.", func(d *Daemon) float64 { return d.auditLog.Status().Lag.Seconds() })
	add("foundry_audit_checkpoint_timestamp_seconds", "When the newest checkpoint was signed.", func(d *Daemon) float64 { return moment(d.auditLog.Status().Checkpoint) })
	add("foundry_audit_verified_timestamp_seconds", "When the audit log was last verified by this process; 0: not yet.", func(d *Daemon) float64 { return moment(d.auditLog.Status().Verified) })
	add("foundry_audit_sound", "What the last verification found; 1 before the first.", func(d *Daemon) float64 {
		s := d.auditLog.Status()
		return truth(s.Sound || s.Verified.IsZero())
	})
	add("foundry_audit_held_denials", "Denials in memory because the database refused them.", func(d *Daemon) float64 { return float64(d.auditLog.Status().Held) })
	add("foundry_audit_lost_denials", "Denials since start that nobody will know of.", func(d *Daemon) float64 { return float64(d.auditLog.Status().Lost) })
	add("foundry_journal_up", "Whether the journal accepts records.", func(d *Daemon) float64 { return truth(d.journal.Stats().Failure == nil) })
	return m
}

// moment is a time as Prometheus writes it; zero: never.
func moment(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
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
