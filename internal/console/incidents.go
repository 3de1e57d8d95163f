package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/problem"
)

const (
	toIncidents  = "/console/incidents"
	toRecoveries = "/console/recoveries"
)

// timelinePage is how many entries of a timeline stand on a page.
const timelinePage = 100

func incidentLink(id string) templ.SafeURL {
	return templ.SafeURL(toIncidents + "/" + url.PathEscape(id))
}

func incidentAct(id, act string) templ.SafeURL { return incidentLink(id) + templ.SafeURL("/"+act) }

func (c *Console) incidentRoutes() []Route {
	show := sheet(c.showIncident)
	of := func(do bounded) func(*visit) error { return within(absent(c.Incidents, incident.ErrNone), do) }
	return []Route{
		{Pattern: "GET " + toIncidents, Action: "incident.read", do: of(c.incidentsPage)},
		{Pattern: "GET " + toIncidents + "/{id}", Action: "incident.read", do: of(show.empty)},
		{Pattern: "GET " + toIncidents + "/{id}/export", Action: "incident.read", do: of(c.exportIncident)},
		{Pattern: "POST " + toIncidents + "/{id}/note", Action: "incident.append", do: of(show.sent("note", []string{"note"}, c.writeNote))},
		{Pattern: "POST " + toIncidents + "/{id}/phase", Action: "incident.append", do: of(show.sent("why", []string{"to", "why"}, c.movePhase))},
		{Pattern: "POST " + toIncidents + "/{id}/decision", Action: "incident.decide", do: of(show.sent("reason", []string{"about", "target", "reason"}, c.decideIncident))},
		{Pattern: "POST " + toIncidents + "/{id}/approval", Action: "incident.approve", do: of(c.approveIncident)},
	}
}

type incidentsData struct {
	v    *visit
	now  time.Time
	rows []incident.Summary
}

func (c *Console) incidentsPage(ctx context.Context, v *visit) error {
	rows, err := c.Incidents.List(ctx, v.who())
	if err != nil {
		return err
	}
	return v.show(page{Title: "Incidents", Path: toIncidents, Live: true}, incidentsBody(incidentsData{v, c.Clock(), rows}))
}

type incidentData struct {
	v       *visit
	now     time.Time
	t       *incident.Timeline
	brief   incident.Brief
	kind    string
	entries []incident.Entry // of this page, the newest first
	older   int              // the entry before which the next page begins; 0: there is none
	paged   bool
	runs    []recovery.Shown // of this incident
	form    form
	may     func(policy.Action) bool // what the visitor is offered
}

func (c *Console) showIncident(ctx context.Context, v *visit, f form, status int) error {
	t, err := c.Incidents.Timeline(ctx, v.who(), v.r.PathValue("id"))
	if err != nil {
		return err
	}
	d := incidentData{v: v, now: c.Clock(), t: t, form: f, may: v.mayHere, kind: v.r.URL.Query().Get("kind")}
	d.brief = t.Brief(d.now)
	if c.eyes.runs != nil {
		if all, err := c.eyes.runs(ctx, v.who()); err == nil {
			d.runs = slices.DeleteFunc(all, func(r recovery.Shown) bool { return r.Incident != t.State.ID })
		}
	}
	before, _ := strconv.Atoi(v.r.URL.Query().Get("before"))
	d.paged = before > 0
	d.cut(before)
	return v.show(page{Title: t.State.Title, Path: toIncidents, Status: status, Live: true, Notice: incidentNotices[v.r.URL.Query().Get("done")], Crumbs: []crumb{{"Incidents", toIncidents}}}, incidentBody(d))
}

// cut takes the entries of one page, the newest first.
func (d *incidentData) cut(before int) {
	for _, e := range slices.Backward(d.t.Entries) {
		if before > 0 && e.N >= before || d.kind != "" && string(e.Kind) != d.kind {
			continue
		}
		if len(d.entries) == timelinePage {
			d.older = d.entries[timelinePage-1].N
			return
		}
		d.entries = append(d.entries, e)
	}
}

// kinds are those that the timeline has, for its filter.
func (d *incidentData) kinds() (out []string) {
	for _, e := range d.t.Entries {
		if !slices.Contains(out, string(e.Kind)) {
			out = append(out, string(e.Kind))
		}
	}
	slices.Sort(out)
	return out
}

// next is the phase that follows; "": the incident is closed, or closing it is next.
func (d *incidentData) next() incident.Phase {
	at := slices.Index(incident.Phases, d.t.State.Phase)
	if at < 0 || at+1 >= len(incident.Phases) || incident.Phases[at+1] == incident.Closed {
		return ""
	}
	return incident.Phases[at+1]
}

// waiting are the decisions that need somebody's word.
func (d *incidentData) waiting() (out []incident.Decided) {
	for _, one := range d.t.State.Decisions {
		if one.Needs > 0 && !one.Approved && len(one.Against) == 0 {
			out = append(out, one)
		}
	}
	return out
}

func (d *incidentData) isOpen() bool { return d.t.State.ClosedAt.IsZero() }

var incidentNotices = map[string]string{"note": "The note stands in the timeline.", "phase": "The next phase has begun.", "decision": "The decision stands in the timeline.", "approval": "Your word stands in the timeline."}

// write adds an entry; fields say where the form has what the entry calls
// otherwise.
func (c *Console) write(ctx context.Context, v *visit, kind incident.Kind, body incident.Body, done string, fields map[string]string) (templ.SafeURL, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	id := v.r.PathValue("id")
	if _, _, err := c.Incidents.Write(ctx, v.who(), id, kind, text); err != nil {
		e := *problem.From(err) // a copy: it may be shared
		e.Field = fields[e.Field]
		return "", &e
	}
	return with(string(incidentLink(id)), "done", done), nil
}

func (c *Console) writeNote(ctx context.Context, v *visit, f *form) (templ.SafeURL, error) {
	return c.write(ctx, v, incident.KindNote, &incident.Note{Words: f.value("note")}, "note", nil)
}

func (c *Console) movePhase(ctx context.Context, v *visit, f *form) (templ.SafeURL, error) {
	return c.write(ctx, v, incident.KindPhase, &incident.PhaseChange{To: incident.Phase(f.value("to")), Words: f.value("why")}, "phase", nil)
}

func (c *Console) decideIncident(ctx context.Context, v *visit, f *form) (templ.SafeURL, error) {
	return c.write(ctx, v, incident.KindDecision, &incident.Decision{About: f.value("about"), Target: f.value("target"), Words: f.value("reason")}, "decision", map[string]string{"about": "about", "target": "target"})
}

// approveIncident takes one person's word on one of the decisions that wait:
// each has a form of its own.
func (c *Console) approveIncident(ctx context.Context, v *visit) error {
	f, err := readForm(v.r, "of")
	if err != nil {
		return err
	}
	field := opinionField(f.value("of"))
	return sheet(c.showIncident).sent(field, []string{"of", "answer", field}, func(ctx context.Context, v *visit, f *form) (templ.SafeURL, error) {
		of, _ := strconv.Atoi(f.value("of"))
		return c.write(ctx, v, incident.KindApproval, &incident.Approval{Of: of, Approve: f.value("answer") == "approve", Words: f.value(field)}, "approval", nil)
	})(ctx, v)
}

func opinionField(of string) string { return "opinion-" + slug(of) }

// exportIncident gives the incident as a file.
func (c *Console) exportIncident(ctx context.Context, v *visit) error {
	f, err := c.Incidents.Export(ctx, v.who(), v.r.PathValue("id"), v.r.URL.Query().Get("format"), time.UTC)
	if err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Type", f.Type)
	h.Set("Content-Disposition", `attachment; filename="`+f.Name+`"`)
	h.Set("Cache-Control", "no-store")
	_, _ = v.w.Write(f.Bytes)
	return nil
}

// aboutWords are the decisions that open a gate, as they are offered.
var aboutWords = []struct{ about, words string }{
	{"restore", "Restore"}, {"restore-before-cause", "Restore before the cause is known"}, {"wipe", "Wipe a node"}, {"no-isolation", "Leave a node connected"}, {"no-notice", "Do not tell somebody"},
	{"notice", "Send a notice"}, {"lift-hold", "Lift the legal hold"}, {"unfounded", "It was a false alarm"}, {"no-plan-change", "Leave the plan as it is"}, {"close", "Close it"}, {"other", "Something else"},
}

// noticeState is a notice in shape, word and colour.
func noticeState(n *incident.Sent) state {
	switch {
	case n.Unclear:
		return state{warn, "Not known"}
	case n.Step == incident.Accepted:
		return state{ok, "Told"}
	case n.Step == incident.Failed && !n.Released:
		return state{bad, "Failed"}
	case n.Step == incident.Drafted:
		return state{warn, "Not sent"}
	}
	return state{info, "On its way"}
}

func decisionState(d *incident.Decided) state {
	switch {
	case d.Approved:
		return state{ok, "Stands"}
	case len(d.Against) > 0:
		return state{bad, "Rejected"}
	}
	return state{warn, fmt.Sprintf("%d of %d approvals", len(d.For), d.Needs)}
}

func actionState(a *incident.Action, now time.Time) state {
	switch {
	case !a.Done.IsZero():
		return state{ok, "Done"}
	case a.Due.Before(now):
		return state{bad, "Late"}
	}
	return state{info, "Open"}
}

func phaseState(s *incident.State, p incident.Phase) state {
	at, of := slices.Index(incident.Phases, s.Phase), slices.Index(incident.Phases, p)
	switch {
	case of < at || s.Phase == incident.Closed:
		return state{ok, "Over"}
	case of == at:
		return state{info, "Now"}
	}
	return state{idle, "To come"}
}

// reached is what an incident has reached, in a line.
func reached(s *incident.State) string {
	return commaList(slices.Concat(s.Scope.Nodes, s.Scope.Functions, s.Scope.Clients), "nothing that the plan names")
}

func downWords(list []incident.Down, now time.Time) string {
	var out []string
	for _, one := range list {
		out = append(out, one.Function+" for "+age(now.Sub(one.Since)))
	}
	return commaList(out, "nothing")
}

func receiptWords(r *recovery.Receipt) string {
	if r == nil {
		return ""
	}
	out := sentence(r.Words)
	for _, f := range r.Fences {
		out = strings.TrimSpace(out + " " + f.Node + " is fenced: " + f.By + ".")
	}
	return out
}

func anchoredWords(s *incident.State) string {
	if s.Anchored.N == 0 {
		return "not yet"
	}
	return fmt.Sprintf("up to entry %d of %d", s.Anchored.N, s.Head.N)
}

func exportWord(format string) string {
	return map[string]string{"archive": "Signed archive", "html": "Page", "pdf": "PDF"}[format]
}

func entryAnchor(n int) templ.SafeURL { return templ.SafeURL(fmt.Sprintf("#entry-%d", n)) }

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// prefixed says something of a list that is there.
func prefixed(before string, list []string) string {
	if len(list) == 0 {
		return ""
	}
	return before + strings.Join(list, ", ")
}

func olderEntries(d incidentData) templ.SafeURL {
	if d.older == 0 {
		return ""
	}
	return with(string(incidentLink(d.t.State.ID)), "kind", d.kind, "before", strconv.Itoa(d.older))
}

func runWords(r *recovery.Run) string {
	switch {
	case r.Outcome != "":
		return r.Outcome
	case !r.Ended.IsZero():
		return "ended"
	}
	return fmt.Sprintf("%d of %d steps are over", stepsOver(r), len(r.Steps))
}

// mayHere says whether the visitor may do something of the installation's.
func (v *visit) mayHere(act policy.Action) bool { return v.may(act, installation) }

// chosen marks the one of several links that stands for what is shown.
func chosen(is bool) templ.Attributes {
	if is {
		return templ.Attributes{"aria-current": "true"}
	}
	return nil
}
