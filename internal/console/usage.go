package console

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/problem"
)

// usageQuery is the form of the usage page.
type usageQuery struct {
	Organisation, By, Measure, Span string
	From, To                        string // dates; given together they win over Span
}

var spans = []struct {
	name, text string
	length     time.Duration
}{
	{"24h", "Last 24 hours", 24 * time.Hour}, {"7d", "Last 7 days", 7 * 24 * time.Hour},
	{"30d", "Last 30 days", 30 * 24 * time.Hour}, {"90d", "Last 90 days", 90 * 24 * time.Hour},
}

var groupings = []struct {
	by   ledger.Grouping
	text string
}{
	{ledger.ByModel, "Model"}, {ledger.ByOrganisation, "Organisation"}, {ledger.ByJurisdiction, "Jurisdiction"}, {ledger.ByProvider, "Provider"},
	{ledger.ByKey, "Key"}, {ledger.ByDay, "Day"}, {ledger.ByHour, "Hour"},
}

var measures = []struct {
	name, text string
	of         func(ledger.UsageRow) int64
}{
	{"requests", "Requests", func(r ledger.UsageRow) int64 { return r.Requests }},
	{"tokens", "Tokens", func(r ledger.UsageRow) int64 { return r.InputTokens + r.OutputTokens }},
	{"cost", "Cost", func(r ledger.UsageRow) int64 { return r.CostNano }},
}

// usageData is what the usage page shows.
type usageData struct {
	v        *visit
	query    usageQuery
	choices  choices
	from, to time.Time
	rows     []usageRow
	total    ledger.UsageRow
	chart    chart
	measure  string // in words
	group    string // in words
}

// usageRow is a row with the name that people use for its group.
type usageRow struct {
	ledger.UsageRow
	Name string
}

func (c *Console) usage(v *visit) error {
	d, org, err := c.usageQuery(v)
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if d.rows, err = c.usageRows(v, org, &d); err != nil {
		return err
	}
	for _, r := range d.rows {
		d.total.Requests += r.Requests
		d.total.Errors += r.Errors
		d.total.Refusals += r.Refusals
		d.total.InputTokens += r.InputTokens
		d.total.OutputTokens += r.OutputTokens
		d.total.CostNano += r.CostNano
	}
	d.total.Currency = c.Gateway.Currency()
	step := ledger.ByDay
	if d.to.Sub(d.from) <= 49*time.Hour {
		step = ledger.ByHour
	}
	series, err := c.Store.Usage(ctx, v.who(), ledger.UsageFilter{From: d.from, To: d.to, Organisation: org, GroupBy: step})
	if err != nil {
		return err
	}
	d.chart = usageChart(series, step, d)
	return v.show(page{Title: "Usage and cost", Path: toUsage}, usageBody(d))
}

// usageQuery reads the form. Days are whole days in UTC, the last one included.
func (c *Console) usageQuery(v *visit) (usageData, uuid.UUID, error) {
	f := v.r.URL.Query()
	q := usageQuery{f.Get("organisation"), f.Get("by"), f.Get("measure"), f.Get("span"), f.Get("from"), f.Get("to")}
	q.By, q.Measure = cmp.Or(q.By, "model"), cmp.Or(q.Measure, "requests")
	d := usageData{v: v, choices: c.choices(v), to: v.now.Truncate(time.Hour).Add(time.Hour)}
	for _, g := range groupings {
		if string(g.by) == q.By {
			d.group = g.text
		}
	}
	for _, m := range measures {
		if m.name == q.Measure {
			d.measure = m.text
		}
	}
	if d.group == "" || d.measure == "" {
		return d, uuid.Nil, problem.New(problem.Invalid, "usage-query", "Usage cannot be summed like this.").WithMend("Choose from the form.")
	}
	if q.From != "" || q.To != "" {
		from, errFrom := time.Parse(time.DateOnly, q.From)
		to, errTo := time.Parse(time.DateOnly, cmp.Or(q.To, v.now.Format(time.DateOnly)))
		if errFrom != nil || errTo != nil || to.Before(from) || to.Sub(from) > 400*24*time.Hour {
			return d, uuid.Nil, problem.New(problem.Invalid, "usage-dates", "These dates are no period.").
				WithMend("Give a first and a last day as YYYY-MM-DD, at most 400 days apart.")
		}
		d.from, d.to, q.Span = from, to.AddDate(0, 0, 1), "dates"
	} else {
		length := spans[1].length
		for _, s := range spans {
			if s.name == q.Span {
				length = s.length
			}
		}
		q.Span = cmp.Or(q.Span, spans[1].name)
		if d.from = d.to.Add(-length); length > 24*time.Hour {
			d.from = d.from.Truncate(24 * time.Hour)
		}
	}
	d.query = q
	org, err := c.organisationID(q.Organisation)
	return d, org, err
}

// usageRows reads the sums, with names in place of ids, largest first unless
// they are in order of time.
func (c *Console) usageRows(v *visit, org uuid.UUID, d *usageData) ([]usageRow, error) {
	ctx, cancel := v.ctx()
	defer cancel()
	rows, err := c.Store.Usage(ctx, v.who(), ledger.UsageFilter{From: d.from, To: d.to, Organisation: org, GroupBy: ledger.Grouping(d.query.By)})
	if err != nil {
		return nil, err
	}
	n := c.names()
	out := make([]usageRow, 0, len(rows))
	for _, r := range rows {
		one := usageRow{r, r.Group}
		switch ledger.Grouping(d.query.By) {
		case ledger.ByOrganisation:
			if id, err := uuid.Parse(r.Group); err == nil {
				one.Name = n.organisation(id)
			}
		case ledger.ByKey:
			one.Name = n.key(r.Group)
		case ledger.ByJurisdiction:
			one.Name = country(r.Group)
		}
		if r.Group == "" {
			one.Name = "refused, so none"
		}
		out = append(out, one)
	}
	if d.query.By != "day" && d.query.By != "hour" {
		slices.SortStableFunc(out, func(a, b usageRow) int { return cmp.Compare(d.value(b.UsageRow), d.value(a.UsageRow)) })
	}
	return out, nil
}

// value is what the page measures.
func (d usageData) value(r ledger.UsageRow) int64 {
	for _, m := range measures {
		if m.name == d.query.Measure {
			return m.of(r)
		}
	}
	return 0
}

func (d usageData) format(n int64) string {
	if d.query.Measure == "cost" {
		return money(n, d.total.Currency)
	}
	return number(n)
}

// whole is the sum of what is measured, for shares.
func (d usageData) whole() int64 { return d.value(d.total) }

// usageChart lays the sums on the time axis, empty days and hours included.
func usageChart(series []ledger.UsageRow, step ledger.Grouping, d usageData) chart {
	layout, label, width := "2006-01-02", "2 Jan", 24*time.Hour
	if step == ledger.ByHour {
		layout, label, width = "2006-01-02T15:00Z", "15:04", time.Hour
	}
	sums := map[string]int64{}
	for _, r := range series {
		sums[r.Group] += d.value(r)
	}
	c := chart{Title: d.measure + " by " + string(step), Series: []string{d.measure}, Format: d.format, Head: capital(string(step)) + " (UTC)"}
	n := max(int(d.to.Sub(d.from)/width), 1)
	var peak, total int64
	for i := range n {
		at := d.from.Add(time.Duration(i) * width)
		v := sums[at.Format(layout)]
		peak, total = max(peak, v), total+v
		c.Bars = append(c.Bars, bar{at.Format("2 Jan 2006" + map[bool]string{true: ", 15:04"}[step == ledger.ByHour]), [2]int64{v, 0}})
	}
	for i := range 5 {
		c.Ticks = append(c.Ticks, d.from.Add(time.Duration(i*(n-1)/4)*width).Format(label))
	}
	if n < 5 {
		c.Ticks = []string{d.from.Format(label), d.from.Add(time.Duration(n-1) * width).Format(label)}
	}
	c.Text = fmt.Sprintf("%s to %s, UTC: %s in all, at most %s in one %s.", d.from.Format("2 Jan 15:04"), d.to.Format("2 Jan 15:04"), d.format(total), d.format(peak), step)
	return c
}

func (c *Console) usageCSV(v *visit) error {
	d, org, err := c.usageQuery(v)
	if err != nil {
		return err
	}
	if d.rows, err = c.usageRows(v, org, &d); err != nil {
		return err
	}
	out := v.csv("foundry-usage-by-"+d.query.By, v.now)
	_ = out.Write([]string{d.query.By, "name", "from", "to", "currency", "requests", "errors", "refusals", "unknown", "input_tokens", "output_tokens", "cached_tokens", "cost", "held"})
	for _, r := range d.rows {
		_ = out.Write(cells(r.Group, r.Name, machine(d.from), machine(d.to), r.Currency, whole(r.Requests), whole(r.Errors), whole(r.Refusals), whole(r.Unknown),
			whole(r.InputTokens), whole(r.OutputTokens), whole(r.CachedTokens), decimal(r.CostNano), decimal(r.HeldNano)))
	}
	out.Flush()
	return nil
}

// csv begins a download (RFC 4180).
func (v *visit) csv(name string, now time.Time) *csv.Writer {
	h := v.w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
	h.Set("Content-Disposition", `attachment; filename="`+name+"-"+now.Format("2006-01-02")+`.csv"`)
	v.w.WriteHeader(http.StatusOK)
	out := csv.NewWriter(v.w)
	out.UseCRLF = true
	return out
}

// cells makes names harmless to spreadsheets, which take a cell that begins
// with one of these characters for a formula (OWASP, CSV injection).
func cells(list ...string) []string {
	for i, c := range list {
		if c != "" && strings.ContainsRune("=+-@\t\r", rune(c[0])) {
			if _, err := strconv.ParseFloat(c, 64); err != nil {
				list[i] = "'" + c
			}
		}
	}
	return list
}

func whole(n int64) string { return strconv.FormatInt(n, 10) }

// decimal writes nano-units exactly, with a point.
func decimal(nano int64) string {
	sign, n := "", uint64(nano)
	if nano < 0 {
		sign, n = "-", -n
	}
	return fmt.Sprintf("%s%d.%09d", sign, n/1_000_000_000, n%1_000_000_000)
}

// link is the page or download with the same question.
func (d usageData) link(path string) string {
	q := d.query
	span := q.Span
	if span == "dates" {
		span = ""
	}
	return string(with(path, "organisation", q.Organisation, "by", q.By, "measure", q.Measure, "span", span, "from", q.From, "to", q.To))
}
