package console

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/upstream"
	"github.com/missionopsai/foundry/internal/problem"
)

// trouble is one thing that is wrong now.
type trouble struct {
	kind string
	what string
	mend string
	to   string // page that tells more; may be empty
	more string // the link's text
}

// overviewData is what the first page shows. Without the database, what this
// node knows by itself.
type overviewData struct {
	v        *visit
	names    names
	known    bool // the ledger answered
	ledger   ledger.Overview
	latest   []ledger.RequestRow
	troubles []trouble
	models   int
	own      int // providers that are the fleet's own
	all      int
	listed   bool // the visitor may see single requests
}

const latestRows = 8

func (c *Console) overview(v *visit) error {
	d := overviewData{v: v, names: c.names(), models: len(c.Gateway.Models())}
	for _, p := range c.Gateway.Providers() {
		d.all++
		if p.Facts.Own {
			d.own++
		}
	}
	ctx, cancel := v.ctx()
	defer cancel()
	var err error
	d.listed = v.may("request.list", v.who().Organisation)
	if d.ledger, err = c.Store.Overview(ctx, v.who()); err == nil && d.listed {
		d.latest, _, err = c.Store.Requests(ctx, v.who(), ledger.RequestFilter{Limit: latestRows})
	}
	if d.known = err == nil; !d.known && c.DB.Healthy() && problem.From(err).Kind != problem.Unavailable {
		return err
	}
	d.troubles = c.troubles(&d)
	return v.show(page{Title: "Overview", Path: toOverview, Live: true}, overviewBody(d))
}

// troubles lists what is wrong now, worst first.
func (c *Console) troubles(d *overviewData) []trouble {
	var out []trouble
	add := func(kind, what, mend, to, more string) { out = append(out, trouble{kind, what, mend, to, more}) }
	if err := c.Refusing(); err != nil {
		e := problem.From(err)
		add(bad, "The journal takes nothing: requests are refused. "+e.Detail, e.Mend, "", "")
	}
	age, limit := c.Gateway.Age(), c.Gateway.SnapshotLimit()
	q := c.Queue()
	switch {
	case age > limit:
		add(bad, fmt.Sprintf("Keys and policies are %s old: requests are refused.", ageText(age)), "Bring the database back.", "", "")
	case !d.known || !c.DB.Healthy():
		add(bad, "The database does not answer.", fmt.Sprintf("Requests go on for %s more with the keys and policies in memory; what happens is kept in the journal (%s waiting). Find out whether PostgreSQL runs and can be reached.",
			ageText(limit-age), plural(int64(q.Events), "event", "events")), "", "")
	case q.Failure != nil:
		add(warn, "The journal is not being stored: "+plural(int64(q.Events), "event is", "events are")+" waiting.", problem.From(q.Failure).Detail, "", "")
	}
	out = append(out, c.backupTroubles(d.v)...)
	out = append(out, c.providerTroubles()...)
	if d.known {
		out = append(out, ledgerTroubles(d)...)
	}
	return out
}

// backupTroubles are what is badly wrong with backups, for whoever may know.
// That there are none at all is the page of backups' to say.
func (c *Console) backupTroubles(v *visit) (out []trouble) {
	if c.Backups == nil || !v.may("backup.read", uuid.Nil) {
		return nil
	}
	ctx, cancel := v.ctx()
	defer cancel()
	s, err := c.Backups.Status(ctx, v.who())
	if err != nil || !s.Configured {
		return nil
	}
	for _, p := range s.Problems {
		if p.Severity == "critical" {
			out = append(out, trouble{bad, sentence(p.Reason), p.Mend, toBackups, "Backups and recovery"})
		}
	}
	return out
}

func (c *Console) providerTroubles() []trouble {
	var out []trouble
	for _, p := range c.Gateway.Providers() {
		h := p.Health()
		switch {
		case p.Circuit() == upstream.Open:
			out = append(out, trouble{bad, "Provider " + p.Name + " keeps failing and is left alone for now.", "Its circuit closes when a trial call succeeds.", toProviders, "Providers"})
		case h != nil && !h.OK:
			out = append(out, trouble{warn, "Provider " + p.Name + " did not answer its last probe.", sentence(h.Error), toProviders, "Providers"})
		}
		if until := p.Facts.Retention.Contract.Expires; !until.IsZero() && until.Sub(c.Clock()) < 30*24*time.Hour {
			out = append(out, trouble{warn, "The retention contract with " + p.Name + " ends with " + lastDay(until) + ".", "Renew it: without it, stricter data may not go there.", toProviders, "Providers"})
		}
	}
	if len(c.Gateway.Models()) == 0 {
		out = append(out, trouble{warn, "No model is offered.", "No provider lists a model yet: see whether they can be reached.", toProviders, "Providers"})
	}
	return out
}

func ledgerTroubles(d *overviewData) []trouble {
	var out []trouble
	for _, a := range d.ledger.Alarms {
		kind, word := warn, "has passed its alarm line"
		if a.SpentNano >= a.LimitNano {
			kind, word = bad, "is spent: further requests are refused"
		}
		of := "of " + d.names.organisation(a.Organisation)
		if a.Key != "" {
			of = "of key " + d.names.key(a.Key) + " " + of
		}
		out = append(out, trouble{kind, fmt.Sprintf("The %s budget %s %s: %s of %s.", periodWord(a.Period), of, word, money(a.SpentNano, a.Currency), money(a.LimitNano, a.Currency)),
			"", string(organisationLink(d.names.organisation(a.Organisation))), "Budget"})
	}
	for _, f := range d.ledger.Fallbacks {
		out = append(out, trouble{warn, fmt.Sprintf("%s is away: since %s UTC %s went elsewhere and cost %s, against nothing at home.", f.Provider, moment(f.Began, d.v.now),
			plural(f.Requests, "request", "requests"), amounts(f.Cost, d.v.c.Gateway.Currency())), "Bring the inference node back; requests return to it by themselves.", toProviders, "Providers"})
	}
	if n := d.ledger.Unknown; n > 0 {
		out = append(out, trouble{warn, plural(n, "request of the last day has", "requests of the last day have") + " an unknown outcome.",
			"A node stopped before they ended. What they had reserved stays charged.", string(with(toRequests, "state", ledger.StateUnknown)), "Show them"})
	}
	if n := d.ledger.Rejected; n > 0 {
		out = append(out, trouble{bad, plural(n, "journal record", "journal records") + " could not be stored and was set aside.", "They are kept sealed in journal_rejects.", "", ""})
	}
	if d.ledger.Requests >= 20 && d.ledger.Errors*10 >= d.ledger.Requests {
		out = append(out, trouble{warn, fmt.Sprintf("%s%% of the last hour's requests failed.", share(d.ledger.Errors, d.ledger.Requests)), "", toProviders, "Providers"})
	}
	return out
}

func periodWord(p ledger.Period) string {
	return map[ledger.Period]string{ledger.Day: "daily", ledger.Month: "monthly", ledger.Total: "total"}[p]
}

func ageText(d time.Duration) string { return age(d) }

// perMinute is the rate of the last five full minutes.
func (d overviewData) perMinute() string {
	minutes := d.ledger.Minutes
	if len(minutes) < 6 {
		return "–"
	}
	var n int64
	for _, m := range minutes[len(minutes)-6 : len(minutes)-1] {
		n += m.Requests
	}
	if n == 0 {
		return "0"
	}
	if n < 50 {
		return fmt.Sprintf("%.1f", float64(n)/5)
	}
	return number(n / 5)
}

func (d overviewData) chart() chart {
	c := chart{Title: "Requests per minute", Series: []string{"Succeeded", "Failed"}, Format: number, Head: "Minute (UTC)"}
	var peak, total, failed int64
	for i, m := range d.ledger.Minutes {
		c.Bars = append(c.Bars, bar{m.At.UTC().Format("15:04"), [2]int64{m.Requests - m.Errors, m.Errors}})
		peak, total, failed = max(peak, m.Requests), total+m.Requests, failed+m.Errors
		if i%15 == 0 || i == len(d.ledger.Minutes)-1 {
			c.Ticks = append(c.Ticks, m.At.UTC().Format("15:04"))
		}
	}
	c.Text = fmt.Sprintf("Last hour, UTC: %s, %s failed, at most %s in one minute.", plural(total, "request", "requests"), number(failed), number(peak))
	return c
}
