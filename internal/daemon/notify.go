package daemon

import (
	"context"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/prometheus/client_golang/prometheus"
)

// makeOutbox makes what tells people. Without a mail section it holds messages.
func (d *Daemon) makeOutbox() (err error) {
	mac, err := d.keyring.MACKey("notify hash")
	if err != nil {
		return err
	}
	// The installation's keyring: a message lives for days, and outlives the
	// organisation's keys no longer than that.
	place := func(org uuid.UUID, table, column, row string) []byte {
		return []byte(org.String() + " " + table + " " + column + " " + row)
	}
	d.outbox, err = notify.New(notify.Options{Down: d.functionsDown, Config: d.config.Mail, Channels: d.config.Notify, TakeLink: func(token string) string { return d.URL() + notify.TakePath + "#" + token }, Clock: d.clock, Hash: keyedHash(mac),
		Seal: func(_ context.Context, org uuid.UUID, table, column, row string, plaintext []byte) ([]byte, error) {
			return d.keyring.Seal(plaintext, place(org, table, column, row))
		},
		Open: func(_ context.Context, org uuid.UUID, table, column, row string, sealed []byte) ([]byte, error) {
			return d.keyring.Open(sealed, place(org, table, column, row))
		}})
	if err != nil {
		return err
	}
	d.registry.MustRegister(&mailMetrics{d})
	return nil
}

// sendMail sends what is due until ctx ends.
func (d *Daemon) sendMail(ctx context.Context) {
	if err := d.outbox.Send(ctx, notify.SenderOptions{DB: d.db, Log: d.log}); err != nil && ctx.Err() == nil {
		d.log.Error("sending mail stopped", "error", err)
	}
}

// controlChanged raises an alarm when a control begins to fail.
func (d *Daemon) controlChanged(c *evidence.Control, was, is evidence.State) {
	d.log.Info("a control changed", "control", c.ID, "was", was, "is", is)
	if is != evidence.Failing {
		return
	}
	severity := notify.Critical
	if d.config.Mode == Development {
		severity = notify.Info // much of what production demands is not there
	}
	d.alarm(severity, alarmOf(c.ID), uuid.Nil, map[string]string{"control": c.ID, "promise": c.Title, "next": "foundry controls show " + c.ID})
}

var messagesDesc = prometheus.NewDesc("foundry_messages", "Messages in the outbox, by state.", []string{"state"}, nil)

// mailMetrics counts messages when asked.
type mailMetrics struct{ d *Daemon }

// Describe implements prometheus.Collector.
func (m *mailMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- messagesDesc }

// Collect implements prometheus.Collector.
func (m *mailMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(m.d.life, statusTimeout)
	defer cancel()
	counts, err := notify.Counts(ctx, m.d.db)
	if err != nil {
		return
	}
	for _, s := range []notify.State{notify.Queued, notify.Sending, notify.Accepted, notify.Indeterminate, notify.Failed, notify.Expired} {
		ch <- prometheus.MustNewConstMetric(messagesDesc, prometheus.GaugeValue, float64(counts[s]), string(s))
	}
}
