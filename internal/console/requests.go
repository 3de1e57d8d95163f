package console

import (
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// choices are what a filter offers.
type choices struct {
	Organisations, Models, Providers []string
}

var classes = []string{"public", "internal", "confidential", "restricted"}

// choices are what filters offer: of organisations only those that the visitor
// may know of.
func (c *Console) choices(v *visit) choices {
	var out choices
	for _, o := range c.Verifier.Directory().Organisations() {
		if !v.who().Platform() && o.ID != v.who().Organisation {
			continue
		}
		out.Organisations = append(out.Organisations, o.Name)
	}
	slices.Sort(out.Organisations)
	for _, m := range c.Gateway.Models() {
		out.Models = append(out.Models, m.Name)
	}
	for _, p := range c.Gateway.Providers() {
		out.Providers = append(out.Providers, p.Name)
	}
	return out
}

// requestQuery is the filter form of the requests page.
type requestQuery struct {
	Organisation, Key, Model, Provider, State, Class, After string
}

func (q requestQuery) active() bool {
	q.After = ""
	return q != requestQuery{}
}

// page is the address of the list with this filter, from a cursor on.
func (q requestQuery) page(after string) string {
	return string(with(toRequests, "organisation", q.Organisation, "key", q.Key, "model", q.Model, "provider", q.Provider, "state", q.State,
		"class", q.Class, "after", after))
}

type requestsData struct {
	v       *visit
	names   names
	query   requestQuery
	choices choices
	rows    []ledger.RequestRow
	next    string
}

func (c *Console) requests(v *visit) error {
	f := v.r.URL.Query()
	q := requestQuery{f.Get("organisation"), f.Get("key"), f.Get("model"), f.Get("provider"), f.Get("state"), f.Get("class"), f.Get("after")}
	org, err := c.organisationID(q.Organisation)
	if err != nil {
		return err
	}
	var class sovereignty.DataClass
	if q.Class != "" {
		if class, err = sovereignty.ParseDataClass(q.Class); err != nil {
			return err
		}
	}
	d := requestsData{v: v, names: c.names(), query: q, choices: c.choices(v)}
	ctx, cancel := v.ctx()
	defer cancel()
	d.rows, d.next, err = c.Store.Requests(ctx, v.who(), ledger.RequestFilter{Organisation: org, Key: q.Key, Model: q.Model, Provider: q.Provider,
		State: q.State, Class: class, After: q.After, Limit: 50})
	if err != nil {
		return err
	}
	return v.show(page{Title: "Requests", Path: toRequests, Live: q.After == ""}, requestsBody(d))
}

// organisationID finds an organisation by name; the nil id for no name.
func (c *Console) organisationID(name string) (uuid.UUID, error) {
	if name == "" {
		return uuid.Nil, nil
	}
	o, err := c.organisationNamed(name)
	if err != nil {
		return uuid.Nil, err
	}
	return o.ID, nil
}

func (c *Console) organisationNamed(name string) (*access.Organisation, error) {
	if o := c.Verifier.Directory().OrganisationNamed(name); o != nil {
		return o, nil
	}
	return nil, problem.New(problem.NotFound, "organisation-unknown", "There is no such organisation.").WithMend("Choose one from the list of organisations.")
}

// traceData is what a request's page shows.
type traceData struct {
	v        *visit
	names    names
	row      ledger.RequestRow
	decision *sovereignty.Decision
}

func (c *Console) request(v *visit) error {
	id, err := ledger.ParseRequestID(v.r.PathValue("id"))
	if err != nil {
		return problem.New(problem.NotFound, "request-id", "That is not a request id.").WithMend("It is req_ and 26 letters and digits, as in the x-request-id header of the answer.")
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := traceData{v: v, names: c.names()}
	if d.row, d.decision, err = c.Store.Request(ctx, v.who(), id); err != nil {
		if problem.From(err).Kind == problem.NotFound && v.r.URL.Query().Get("wait") != "" {
			return v.show(page{Title: "Request", Path: toRequests, Crumbs: []crumb{{"Requests", toRequests}}, Live: true}, waitBody(v, id.String()))
		}
		return err
	}
	return v.show(page{Title: "Request", Path: toRequests, Crumbs: []crumb{{"Requests", toRequests}}, Live: d.row.State == ledger.StateInFlight}, requestBody(d))
}

// answered reports whether a provider delivered.
func (d traceData) answered() bool { return d.row.State == ledger.StateOK }

// story tells in sentences what became of the request.
func (d traceData) story() []string {
	r := d.row
	var out []string
	who := "the provider " + r.Provider
	if r.Own {
		who = "the fleet’s own model at " + r.Provider
	}
	switch {
	case d.answered():
		out = append(out, "It was answered by "+who+", in "+inCountry(r.Jurisdiction)+".")
	case r.State == ledger.StateInFlight:
		out = append(out, "It went to "+who+", in "+inCountry(r.Jurisdiction)+". "+outcomeMeaning(r.State))
	default:
		out = append(out, "It last went to "+who+", in "+inCountry(r.Jurisdiction)+". "+outcomeMeaning(r.State))
	}
	switch {
	case r.LeavesEEA && r.Restricted:
		out = append(out, "The data left the European Economic Area, under a safeguard: "+safeguard(r.Safeguard)+".")
	case r.LeavesEEA:
		out = append(out, "The data left the European Economic Area.")
	case r.Restricted:
		out = append(out, "The data stayed in the European Economic Area; for its exporter it was a transfer to a third country, under a safeguard: "+safeguard(r.Safeguard)+".")
	default:
		out = append(out, "Nothing left the European Economic Area.")
	}
	if n := len(d.calls()); n > 1 {
		out = append(out, "It took "+plural(int64(n), "try", "tries")+": the places below were tried one after the other, and only places that every rule admits.")
	}
	return out
}

// safeguard names the instrument and its reference as the ledger keeps them.
func safeguard(text string) string {
	if text == "" {
		return "none on record"
	}
	instrument, reference, _ := strings.Cut(text, " ")
	title := sovereignty.Instrument(instrument).Title()
	if reference == "" || strings.Contains(title, instrument) { // an instrument of a newer binary
		return text
	}
	return title + " (" + reference + ")"
}

// try is one call to a provider, in words.
type try struct {
	n        int
	provider string
	result   state
	where    string
	what     string
	took     time.Duration
}

// reasons are the codes that the gateway records for a try that failed.
var reasons = map[string]string{
	"circuit open": "It was left alone, because it had kept failing.", "timeout": "It did not answer in time.",
	"total timeout": "It did not finish in time.", "connection failed": "It could not be reached.", "client gone": "The caller left.",
	"too many calls waiting": "Too many calls were waiting for it.", "TLS failed": "No trustworthy connection to it could be made.",
	"protocol broken": "Its answer was not valid.", "connection closed early": "It closed the connection early.",
}

func (d traceData) calls() []try {
	var out []try
	for i, t := range d.row.Tries {
		last := i == len(d.row.Tries)-1
		one := try{n: i + 1, provider: t.Provider, took: t.Duration, where: d.where(t.Provider), result: state{bad, "Failed"}, what: reasons[t.Reason]}
		switch {
		case one.what != "":
		case t.Status != 0:
			one.what = "It answered with status " + number(int64(t.Status)) + "."
		case t.Reason != "":
			one.what = capital(strings.ReplaceAll(t.Reason, "-", " ")) + "."
		}
		if last && t.Reason == "" {
			one.result, one.what = outcome(d.row.State), ""
		}
		out = append(out, one)
	}
	if len(out) == 0 && d.row.State != ledger.StateInFlight {
		out = append(out, try{n: 1, provider: d.row.Provider, result: outcome(d.row.State), where: country(d.row.Jurisdiction), took: d.row.Latency})
	}
	return out
}

// where is the country that a try went to, as far as it is on record. A
// provider that is tried again is recorded once; one whose circuit was open
// got nothing, and is not.
func (d traceData) where(provider string) string {
	for _, a := range d.row.Attempts {
		if a.Provider == provider {
			return country(a.Jurisdiction)
		}
	}
	if provider == d.row.Provider {
		return country(d.row.Jurisdiction)
	}
	return ""
}

// told is the first sentence after who asked for what.
func (d traceData) told() string {
	return " with " + d.row.Class + " data on " + stamp(d.row.At) + " UTC. " + strings.Join(d.story(), " ")
}

// phase is a part of the time a request took.
type phase struct {
	class, name string
	took        time.Duration
}

// phases splits the time taken into what was lost on failed tries, the wait
// for the first token, and the rest of the answer.
func (d traceData) phases() []phase {
	r := d.row
	if r.Latency <= 0 {
		return nil
	}
	var lost time.Duration
	if n := len(r.Tries); n > 1 {
		for _, t := range r.Tries[:n-1] {
			lost += t.Duration
		}
	}
	lost = min(lost, r.Latency)
	var out []phase
	if lost > 0 {
		out = append(out, phase{"p0", "Tries that failed", lost})
	}
	if r.FirstToken > lost && r.FirstToken <= r.Latency {
		out = append(out, phase{"p1", "Until the first token", r.FirstToken - lost})
		return append(out, phase{"p2", "The rest of the answer", r.Latency - r.FirstToken})
	}
	return append(out, phase{"p1", "Until the answer", r.Latency - lost})
}

// segments are the phases as parts of a bar a hundred wide.
func (d traceData) segments() []rect {
	var out []rect
	x := 0.0
	for _, p := range d.phases() {
		w := float64(p.took) / float64(d.row.Latency) * 100
		out = append(out, rect{x: units(x), w: units(w), class: p.class})
		x += w
	}
	return out
}

// verdict is a rule's verdict: shape, word and colour.
func verdict(r sovereignty.Result) state {
	switch r {
	case sovereignty.Pass:
		return state{ok, "Yes"}
	case sovereignty.Fail:
		return state{bad, "No"}
	}
	return state{idle, "Not needed"}
}

// used reports whether a candidate is the one that the request ended at.
func (d traceData) used(t sovereignty.Target) bool {
	return t.Provider == d.row.Provider && t.Model == d.row.ProviderModel
}

func zoneText(z sovereignty.Zone) string {
	return map[sovereignty.Zone]string{sovereignty.ZoneOwn: "The fleet’s own models", sovereignty.ZoneHome: "Home jurisdictions",
		sovereignty.ZoneEEA: "European Economic Area", sovereignty.ZoneElsewhere: "Elsewhere"}[z]
}

func failures(c sovereignty.Considered) int64 {
	var n int64
	for _, k := range c.Checks {
		if k.Result == sovereignty.Fail {
			n++
		}
	}
	return n
}
