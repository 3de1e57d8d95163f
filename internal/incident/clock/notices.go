package clock

import (
	"fmt"
	"slices"

	"github.com/missionopsai/foundry/internal/plan"
)

// Everybody stands for all clients where the plan names none.
const Everybody = "clients"

// recipients are the clients that have to be told.
func (b *builder) recipients() (out []string) {
	if len(b.s.Clients) > 0 {
		return b.s.Clients
	}
	for i := range b.p.Clients {
		c := &b.p.Clients[i]
		touched := len(c.Functions) == 0 || len(b.s.Functions) == 0
		for _, f := range c.Functions {
			touched = touched || slices.Contains(b.s.Functions, f)
		}
		if touched {
			out = append(out, c.Name)
		}
	}
	if len(b.p.Clients) == 0 {
		out = []string{Everybody}
	}
	return out
}

// notices gives every client one clock for its first notice, with every bound
// that the plan, its agreement and what was promised set (O-72: the least of
// them counts), and one for updates; and everybody else whom the plan names one.
func (b *builder) notices() {
	clients := b.recipients()
	for _, client := range clients {
		b.client(client)
	}
	for i := range b.p.Notices {
		n := &b.p.Notices[i]
		if !slices.Contains(b.s.Events, n.Event) || n.To == "clients" || n.To == "regulator" || slices.Contains(clients, n.To) {
			continue
		}
		x, ok := bound(Notice, fact(n.From, Detected), n.Within, n.Source, fmt.Sprintf("notices[%d].within", i))
		if !ok {
			continue
		}
		x.Law = n.Law
		b.add(Rule{ID: "notice/" + n.Name, Kind: Notice, Of: n.To, Title: n.To + " told (" + n.Name + ")", Bounds: []Bound{x},
			Ends: []Ref{{Told, n.To}, {Acknowledged, n.To}}, Escalate: usual(append(slices.Clone(n.By), b.owner)...)})
	}
}

// client is one client's notice and updates.
func (b *builder) client(name string) {
	var first, again []Bound
	hears := []string{}
	for i := range b.p.Notices {
		n := &b.p.Notices[i]
		if !slices.Contains(b.s.Events, n.Event) || n.To != "clients" && n.To != name {
			continue
		}
		hears = union(hears, n.By)
		from := fact(n.From, Detected)
		if x, ok := bound("", from, n.Within, n.Source, fmt.Sprintf("notices[%d].within", i)); ok {
			x.Law = n.Law
			first = append(first, x)
		}
		first = append(first, b.promised("notice.within", n.Name, from)...)
		if !n.UpdateEvery.IsZero() {
			x, _ := bound(Update, Ref{Told, name}, n.UpdateEvery, n.Source, fmt.Sprintf("notices[%d].update_every", i))
			again = append(again, x)
		}
		again = append(again, b.promised("notice.update-interval", n.Name, Ref{Told, name})...)
	}
	for i := range b.p.Clients {
		c := &b.p.Clients[i]
		if c.Name != name {
			continue
		}
		if x, ok := bound("", Ref{Detected, ""}, c.Notify, c.Source, fmt.Sprintf("clients[%d].notify_within", i)); ok {
			first = append(first, x)
		}
	}
	for i := range b.p.Duties {
		if d := &b.p.Duties[i]; d.Kind == "client-update" {
			x, _ := bound(Update, Ref{Told, name}, d.Every, d.Source, fmt.Sprintf("duties[%d].every", i))
			again = append(again, x)
			hears = union(hears, []string{d.Owner})
		}
	}
	if len(first) == 0 { // "without undue delay", or nothing at all
		x, _ := bound(Notice, Ref{Confirmed, ""}, plan.Span{}, nil, "")
		first = []Bound{x}
	}
	if known := slices.DeleteFunc(slices.Clone(again), func(x Bound) bool { return x.Assumed }); len(known) > 0 {
		again = known
	}
	hears = append(hears, b.owner)
	b.add(Rule{ID: "notice/" + name, Kind: Notice, Of: name, Title: name + " told", Bounds: first, Ends: []Ref{{Told, name}}, Escalate: usual(hears...)})
	b.add(Rule{ID: "update/" + name, Kind: Update, Of: name, Title: name + " hears again", Bounds: again, Ends: []Ref{{AllRestored, ""}}, Reopens: b.lost(), Escalate: usual(hears...)})
}

// law adds what the GDPR asks for, whether the plan says so or not, and apart
// for those who decide about data and those who hold them for others.
func (b *builder) law() {
	who := b.s.Personal
	if who.Controller {
		regimes := who.Regimes
		if len(regimes) == 0 {
			regimes = []string{"UK"}
		}
		for _, regime := range regimes {
			b.regulator(regime)
		}
	}
	if who.Processor {
		for _, client := range b.recipients() {
			b.controller(client)
		}
	}
	if who.High && who.Controller {
		x, _ := bound(Subjects, Ref{Aware, ""}, plan.Span{}, nil, "")
		x.Law = "GDPR art. 34(1): without undue delay"
		b.add(Rule{ID: "data-subjects", Kind: Subjects, Title: "people whose data it is told", Bounds: []Bound{x}, Ends: []Ref{{SubjectsTold, ""}, {NoRisk, ""}}, Reopens: []Ref{{Risk, ""}}})
	}
}

// regulator is article 33(1): within 72 hours of having become aware, unless
// there is no risk to people. An assessment that says so ends the clock; one
// that takes it back sets it going again, from when it first started.
func (b *builder) regulator(regime string) {
	law := regime + " GDPR art. 33(1)"
	if regime != "UK" {
		law = "EU GDPR art. 33(1)"
	}
	within, _ := plan.ParseSpan("72h")
	bounds := []Bound{{From: Ref{Aware, ""}, Within: within, Law: law, Source: []string{law}}}
	hears := []string{b.owner}
	for i := range b.p.Notices {
		n := &b.p.Notices[i]
		if n.Event != "personal-data-breach" || n.To != "regulator" {
			continue
		}
		hears = union(hears, n.By)
		if x, ok := bound("", fact(n.From, Aware), n.Within, n.Source, fmt.Sprintf("notices[%d].within", i)); ok {
			x.Law = n.Law
			bounds = append(bounds, x)
		}
	}
	b.add(Rule{ID: "regulator/" + regime, Kind: Regulator, Of: regime, Title: "authority told (" + law + ")", Bounds: bounds,
		Ends: []Ref{{RegulatorTold, regime}, {NoRisk, ""}}, Reopens: []Ref{{Risk, ""}}, Escalate: usual(hears...)})
}

// controller is article 33(2): a processor tells the controller without undue
// delay, whatever the risk. The law gives no number; the client's agreement
// may, and its own 72 hours begin when it hears.
func (b *builder) controller(client string) {
	within, law := plan.Span{}, "GDPR art. 33(2): without undue delay"
	var source []plan.Source
	at := ""
	for i := range b.p.Clients {
		if c := &b.p.Clients[i]; c.Name == client {
			within, source, at = c.Notify, c.Source, fmt.Sprintf("clients[%d].notify_within", i)
		}
	}
	x, _ := bound(Controller, Ref{Aware, ""}, within, source, at)
	x.Law = law
	b.add(Rule{ID: "controller/" + client, Kind: Controller, Of: client, Title: client + " told as controller", Bounds: []Bound{x}, Ends: []Ref{{BreachTold, client}}})
}
