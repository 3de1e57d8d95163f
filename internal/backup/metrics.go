package backup

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The metrics of backups. Ages are absent where there is nothing to be that
// old: an alarm on absence is the operator's to set, and the node raises its
// own in any case.
var (
	descConfigured = prometheus.NewDesc("foundry_backup_targets", "Targets of backups that are configured.", nil, nil)
	descProven     = prometheus.NewDesc("foundry_backup_newest_proven_age_seconds", "Age of the newest backup of the database that a restore has proven.", nil, nil)
	descLose       = prometheus.NewDesc("foundry_backup_would_lose_seconds", "How long ago what would be lost now began to be written; absent while nothing is proven.", nil, nil)
	descLag        = prometheus.NewDesc("foundry_backup_wal_lag_seconds", "How far the archive of the write-ahead log is behind, in time.", nil, nil)
	descLagBytes   = prometheus.NewDesc("foundry_backup_wal_lag_bytes", "How far the archive of the write-ahead log is behind, in bytes.", nil, nil)
	descDrill      = prometheus.NewDesc("foundry_backup_last_drill_age_seconds", "Time since the last drill ended.", []string{"subject", "target"}, nil)
	descResult     = prometheus.NewDesc("foundry_backup_last_drill_passed", "1 when the last drill passed, 0 when it failed or proved nothing.", []string{"subject", "target"}, nil)
	descRecovery   = prometheus.NewDesc("foundry_backup_last_drill_recovery_seconds", "Measured recovery time of the last drill, extrapolated to everything.", []string{"subject", "target"}, nil)
	descGap        = prometheus.NewDesc("foundry_backup_last_drill_gap_seconds", "Measured data gap of the last drill.", []string{"subject", "target"}, nil)
	descDone       = prometheus.NewDesc("foundry_backup_last_success_age_seconds", "Time since the last backup was made.", []string{"subject", "target"}, nil)
	descFailures   = prometheus.NewDesc("foundry_backup_failures", "Backups that failed or were interrupted in a row.", []string{"subject", "target"}, nil)
	descFree       = prometheus.NewDesc("foundry_backup_target_free_bytes", "Room that is left at a target.", []string{"target"}, nil)
	descFull       = prometheus.NewDesc("foundry_backup_target_full_seconds", "Time until a target is full, by a line through the last runs.", []string{"target"}, nil)
	descStored     = prometheus.NewDesc("foundry_backup_target_stored_bytes", "What backups take at a target.", []string{"target"}, nil)
	descProblems   = prometheus.NewDesc("foundry_backup_problems", "What is wrong with backups now, by severity.", []string{"severity"}, nil)
)

// Describe lists the metrics.
func (b *Backups) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descConfigured, descProven, descLose, descLag, descLagBytes, descDrill, descResult, descRecovery, descGap, descDone, descFailures, descFree, descFull, descStored, descProblems} {
		ch <- d
	}
}

// scrapeTimeout bounds what a scrape may ask of the database.
const scrapeTimeout = 2 * time.Second

// Collect reads them. While the database is away there are none but the first.
func (b *Backups) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descConfigured, float64(len(b.o.Targets)))
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	if !b.o.DB.Healthy() {
		return
	}
	s, err := b.status(ctx)
	if err != nil {
		return
	}
	if s.NewestProven != nil {
		gauge(descProven, s.At.Sub(s.NewestProven.Stopped).Seconds())
	}
	for d, v := range map[*prometheus.Desc]float64{descLose: s.WouldLose, descLag: s.WALLagSeconds, descLagBytes: float64(s.WALLagBytes)} {
		if v >= 0 {
			gauge(d, v)
		}
	}
	severities := map[string]int{"critical": 0, "warning": 0}
	for _, p := range s.Problems {
		severities[p.Severity]++
	}
	for severity, n := range severities {
		gauge(descProblems, float64(n), severity)
	}
	for _, t := range s.Targets {
		if t.Free >= 0 {
			gauge(descFree, float64(t.Free), t.Name)
		}
		if t.FullAt != nil {
			gauge(descFull, t.FullAt.Sub(s.At).Seconds(), t.Name)
		}
		gauge(descStored, float64(t.Stored), t.Name)
	}
	b.collectTasks(ctx, s.At, gauge)
}

func (b *Backups) collectTasks(ctx context.Context, now time.Time, gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	past, err := b.histories(ctx)
	if err != nil {
		return
	}
	drills, err := b.lastDrills(ctx)
	if err != nil {
		return
	}
	for _, t := range b.tasks() {
		key := [2]string{string(t.subject), t.target.Name}
		h := past[key]
		gauge(descFailures, float64(h.Failures), key[:]...)
		if !h.LastDone.IsZero() {
			gauge(descDone, now.Sub(h.LastDone).Seconds(), key[:]...)
		}
		d := drills[key]
		if d == nil || d.Ended == nil {
			continue
		}
		passed := 0.0
		if d.Outcome == Pass {
			passed = 1
		}
		gauge(descDrill, now.Sub(*d.Ended).Seconds(), key[:]...)
		gauge(descResult, passed, key[:]...)
		gauge(descRecovery, d.FullSize, key[:]...)
		gauge(descGap, d.Gap, key[:]...)
	}
}
