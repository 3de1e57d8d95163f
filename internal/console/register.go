package console

import (
	"context"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// registerQuery is the filter of the transfer register and of the refusals.
type registerQuery struct{ Organisation, Provider, Destination, Rule, After string }

func readRegisterQuery(v *visit) registerQuery {
	f := v.r.URL.Query()
	return registerQuery{f.Get("organisation"), f.Get("provider"), f.Get("destination"), f.Get("rule"), f.Get("after")}
}

func (q registerQuery) active() bool {
	q.After = ""
	return q != registerQuery{}
}

func (q registerQuery) page(path, after string) string {
	return string(with(path, "organisation", q.Organisation, "provider", q.Provider, "destination", q.Destination, "rule", q.Rule, "after", after))
}

type transfersData struct {
	v       *visit
	names   names
	query   registerQuery
	choices choices
	rows    []ledger.TransferRow
	next    string
}

func (c *Console) transferFilter(v *visit) (ledger.TransferFilter, registerQuery, error) {
	q := readRegisterQuery(v)
	org, err := c.organisationID(q.Organisation)
	return ledger.TransferFilter{Organisation: org, Provider: q.Provider, Destination: q.Destination, After: q.After, Limit: 50}, q, err
}

func (c *Console) transfers(v *visit) error {
	f, q, err := c.transferFilter(v)
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := transfersData{v: v, names: c.names(), query: q, choices: c.choices(v)}
	if d.rows, d.next, err = c.Store.Transfers(ctx, v.who(), f); err != nil {
		return err
	}
	return v.show(page{Title: "Transfer register", Path: toTransfers, Live: q.After == ""}, transfersBody(d))
}

const (
	exportPage  = 500
	exportLimit = 200_000
	exportTime  = 2 * time.Minute
)

// transfersCSV writes the whole register that the filter selects. A register
// that could not be read to its end says so in its last row: silence would
// read as completeness.
func (c *Console) transfersCSV(v *visit) error {
	f, _, err := c.transferFilter(v)
	if err != nil {
		return err
	}
	f.After, f.Limit = "", exportPage
	ctx, cancel := context.WithTimeout(v.r.Context(), exportTime)
	defer cancel()
	rows, next, err := c.Store.Transfers(ctx, v.who(), f)
	if err != nil {
		return err
	}
	n := c.names()
	out := v.csv("foundry-transfer-register", v.now)
	_ = out.Write([]string{"at", "request", "destination_number", "organisation", "key", "key_name", "class", "provider", "model", "destination", "controller",
		"left_eea", "restricted", "safeguard", "decision"})
	for written := 0; ; {
		for _, r := range rows {
			_ = out.Write(cells(machine(r.At), r.ID.String(), strconv.Itoa(r.N), n.organisation(r.Organisation), r.Key, n.key(r.Key), r.Class, r.Provider, r.ProviderModel,
				r.Destination, r.Controller, strconv.FormatBool(r.LeavesEEA), strconv.FormatBool(r.Restricted), r.Safeguard, hexText(r.Decision)))
		}
		if written += len(rows); next == "" {
			break
		}
		f.After = next
		if rows, next, err = c.Store.Transfers(ctx, v.who(), f); err != nil || written >= exportLimit {
			_ = out.Write([]string{"INCOMPLETE: the register goes on; narrow the filter and download again"})
			break
		}
	}
	out.Flush()
	return nil
}

type refusalsData struct {
	v       *visit
	names   names
	query   registerQuery
	choices choices
	rows    []ledger.RefusalRow
	next    string
}

func (c *Console) refusals(v *visit) error {
	q := readRegisterQuery(v)
	org, err := c.organisationID(q.Organisation)
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := refusalsData{v: v, names: c.names(), query: q, choices: c.choices(v)}
	d.rows, d.next, err = c.Store.Refusals(ctx, v.who(), ledger.RefusalFilter{Organisation: org, Rule: q.Rule, After: q.After, Limit: 50})
	if err != nil {
		return err
	}
	return v.show(page{Title: "Refusals", Path: toRefusals, Live: q.After == ""}, refusalsBody(d))
}

// refusal shows the decision that a refusal cites.
func (c *Console) refusal(v *visit) error {
	unknown := problem.New(problem.NotFound, "decision-unknown", "There is no such decision.")
	org, err := uuid.Parse(v.r.PathValue("organisation"))
	if err != nil {
		return unknown
	}
	raw, err := hex.DecodeString(v.r.PathValue("hash"))
	if err != nil || len(raw) != 16 {
		return unknown
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d, err := c.Store.Decision(ctx, v.who(), org, [16]byte(raw))
	if err != nil {
		return err
	}
	return v.show(page{Title: "Decision", Path: toRefusals, Crumbs: []crumb{{"Refusals", toRefusals}}}, refusalBody(*d))
}

// ruleText says what a refusal's rule is about.
func ruleText(rule string) string {
	if q := sovereignty.Rule(rule).Question(); q != "" {
		return q
	}
	if t, found := ruleTexts[rule]; found {
		return t
	}
	return ""
}

// ruleTexts are the rules that are not about sovereignty.
var ruleTexts = map[string]string{
	"budget-spent": "Is there budget left?", "requests-per-minute": "Is the key within its requests per minute?",
	"tokens-per-minute": "Is the key within its tokens per minute?", "model-unknown": "Is there a model of this name?",
}
