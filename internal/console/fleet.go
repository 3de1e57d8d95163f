package console

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/survivor"
	verdicts "github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/problem"
)

const toFleet = "/console/fleet"

// Fleet is how this node sees the fleet.
type Fleet struct {
	Picture   func() fleet.Picture
	Status    func(context.Context) member.Status
	Readiness func(context.Context) ([]survivor.Readiness, error)
	Confirmed func(context.Context) ([]fleet.Confirmed, error)

	Database func() *FleetDatabase // its own; nil, or returning nil: there is none
}

var errNoFleet = problem.New(problem.Unavailable, "fleet-off", "This node belongs to no fleet.").WithMend("Set fleet.name in its configuration, or look on a node that does.")

func (c *Console) fleetRoutes() []Route {
	return []Route{{Pattern: "GET " + toFleet, Action: "fleet.read", do: within(absent(c.Fleet, errNoFleet), c.fleetPage)}}
}

type fleetData struct {
	v         *visit
	p         fleet.Picture
	s         member.Status
	ready     []survivor.Readiness
	readyErr  *problem.Error
	confirmed []fleet.Confirmed
	database  *FleetDatabase
	now       time.Time
}

// fleetPage shows what is lost, who says so, and what could take over. It asks
// nothing of the database, and of the fleet only what this node has: it is the
// page for the night on which both are away.
func (c *Console) fleetPage(ctx context.Context, v *visit) error {
	d := fleetData{v: v, p: c.Fleet.Picture(), s: c.Fleet.Status(ctx), now: c.Clock()}
	var err error
	if d.ready, err = c.Fleet.Readiness(ctx); err != nil {
		d.readyErr = problem.From(err)
	}
	if d.p.Majority {
		if d.confirmed, err = c.Fleet.Confirmed(ctx); err != nil {
			d.confirmed = nil // the verdicts themselves are shown
		}
	}
	slices.Reverse(d.confirmed)
	if c.Fleet.Database != nil {
		d.database = c.Fleet.Database()
	}
	return v.show(page{Title: "Fleet", Path: toFleet, Live: true}, fleetBody(d))
}

// heldStates are the words and shapes of verdicts.
var heldStates = map[verdicts.State]state{
	verdicts.Fine: {ok, "Fine"}, verdicts.Drained: {idle, "Drained"}, verdicts.Slow: {warn, "Slow"}, verdicts.Wrong: {warn, "Condition not met"},
	verdicts.Clock: {warn, "Clock is off"}, verdicts.Flapping: {warn, "Comes and goes"}, verdicts.Disputed: {warn, "Contradicts the others"},
	verdicts.OneWay: {warn, "One way only"}, verdicts.Suspected: {warn, "Suspected"}, verdicts.Unknown: {idle, "Cannot be known"},
	verdicts.CutOff: {bad, "May be cut off"}, verdicts.Lost: {bad, "Lost"},
}

func heldState(v verdicts.Verdict) state {
	if s, known := heldStates[v.State]; known {
		return s
	}
	return state{idle, "Not judged yet"}
}

// alarming lists what is not fine, the worst first.
func (d fleetData) alarming() (out []verdicts.Verdict) {
	for _, n := range d.p.Nodes {
		out = append(out, n.Verdict)
	}
	for _, f := range d.p.Functions {
		out = append(out, f.Verdict)
	}
	out = slices.DeleteFunc(out, func(v verdicts.Verdict) bool {
		return v.State == "" || v.State == verdicts.Fine || v.State == verdicts.Drained
	})
	slices.SortStableFunc(out, func(a, b verdicts.Verdict) int {
		return slices.Index(verdicts.States, b.State) - slices.Index(verdicts.States, a.State)
	})
	return out
}

// answering counts the nodes that are there.
func (d fleetData) answering() (n int) {
	for _, s := range d.s.Nodes {
		if s.Answers {
			n++
		}
	}
	return n
}

func (d fleetData) leaderNote() string {
	if d.p.Epoch == 0 {
		return "nobody leads"
	}
	return fmt.Sprintf("epoch %d", d.p.Epoch)
}

func (d fleetData) majorityWord() (value, note string) {
	if !d.p.Majority {
		if d.p.Known.IsZero() {
			return "No", "nothing can be decided"
		}
		return "No", "last heard " + age(d.now.Sub(d.p.Known)) + " ago"
	}
	if d.s.Survives == 0 {
		return "Yes", "no voter may be lost"
	}
	return "Yes", plural(int64(d.s.Survives), "voter more may be lost", "voters more may be lost")
}

// readyCount says how many of those that the plan names could take over.
func (d fleetData) readyCount() (could, named int) {
	for _, r := range d.ready {
		if r.State != survivor.Refused {
			named++
		}
		if r.State == survivor.Ready {
			could++
		}
	}
	return could, named
}

var readyStates = map[survivor.State]state{survivor.Ready: {ok, "Could now"}, survivor.Lacking: {bad, "Could not"}, survivor.Refused: {idle, "Must not hold keys"}}

func heardWords(n fleet.NodeView, now time.Time) string {
	switch {
	case n.Self:
		return "this node"
	case n.Heard.IsZero():
		return "never"
	}
	return age(now.Sub(n.Heard)) + " ago"
}

func uptimeWords(f fleet.FunctionView) string {
	if f.Uptime == nil {
		return "–"
	}
	ratio, known := f.Uptime.Ratio()
	if !known {
		return "not known yet"
	}
	return percentOf(ratio)
}

// percentOf never rounds a loss away: 99.996 % is not 100 %.
func percentOf(ratio float64) string {
	if ratio >= 1 {
		return "100 %"
	}
	return fmt.Sprintf("%.2f %%", math.Floor(ratio*10000)/100)
}

func budgetWords(f fleet.FunctionView) string {
	switch {
	case f.Budget == nil:
		return "–"
	case f.Budget.Left < 0:
		return "overspent by " + age(-f.Budget.Left)
	}
	return age(f.Budget.Left) + " left"
}

func latencyWords(f fleet.FunctionView) string {
	if f.Uptime == nil || f.Uptime.P50 == 0 {
		return "–"
	}
	return span(f.Uptime.P50) + " / " + span(f.Uptime.P95)
}

func rolesOf(list []member.Role) string {
	words := make([]string, len(list))
	for i, r := range list {
		words[i] = string(r)
	}
	return strings.Join(words, ", ")
}

// The map: nodes on a circle, a line for each pair.
const (
	mapWidth, mapHeight = 560, 320
	mapRadius           = 112
	mapBox, mapTall     = 132, 48
)

type mapNode struct {
	fleet.NodeView
	X, Y int // its middle
}

// Link is a line between two nodes.
type mapLink struct {
	X1, Y1, X2, Y2 int
	class          string // sees, blind, one-way or unsaid
	words          string
}

func (d fleetData) mapNodes() []mapNode {
	out := make([]mapNode, len(d.p.Nodes))
	for i, n := range d.p.Nodes {
		angle := 2*math.Pi*float64(i)/float64(len(d.p.Nodes)) - math.Pi/2
		wide := 1.7 // names are wide: the circle is an ellipse
		out[i] = mapNode{n, mapWidth/2 + int(wide*mapRadius*math.Cos(angle)), mapHeight/2 + int(mapRadius*math.Sin(angle))}
	}
	return out
}

func (d fleetData) mapLinks() (out []mapLink) {
	nodes := d.mapNodes()
	for i, a := range nodes {
		for _, b := range nodes[i+1:] {
			ab, ba := sightOf(a.NodeView, b.Name), sightOf(b.NodeView, a.Name)
			l := mapLink{X1: a.X, Y1: a.Y, X2: b.X, Y2: b.Y, class: "sees", words: a.Name + " and " + b.Name + " see each other"}
			switch {
			case ab == nil && ba == nil:
				l.class, l.words = "unsaid", a.Name+" and "+b.Name+" say nothing of each other"
			case seen(ab) && blind(ba):
				l.class, l.words = "one-way", b.Name+" does not see "+a.Name
			case seen(ba) && blind(ab):
				l.class, l.words = "one-way", a.Name+" does not see "+b.Name
			case blind(ab) || blind(ba):
				l.class, l.words = "blind", a.Name+" and "+b.Name+" do not see each other"
			}
			out = append(out, l)
		}
	}
	return out
}

func sightOf(n fleet.NodeView, other string) *fleet.Sight {
	for _, s := range n.Sees {
		if s.Node == other {
			return &s
		}
	}
	return nil
}

func seen(s *fleet.Sight) bool  { return s != nil && s.OK }
func blind(s *fleet.Sight) bool { return s != nil && !s.OK }

// mapText says the map in words, for who cannot see it.
func (d fleetData) mapText() string {
	var out []string
	for _, l := range d.mapLinks() {
		if l.class != "sees" {
			out = append(out, l.words)
		}
	}
	if len(out) == 0 {
		return "Every node sees every other."
	}
	return strings.Join(out, "; ") + "."
}

// sightWords is a cell of the table of who sees whom.
func sightWords(n fleet.NodeView, other string) (state, string) {
	s := sightOf(n, other)
	switch {
	case n.Name == other:
		return state{}, ""
	case s == nil:
		return state{idle, "Says nothing"}, ""
	case s.OK && len(s.Not) == 0:
		return state{ok, "Sees it"}, "by " + strings.Join(s.By, ", ")
	case s.OK:
		return state{warn, "Sees it"}, "by " + strings.Join(s.By, ", ") + "; not by " + strings.Join(s.Not, ", ")
	}
	return state{bad, "Does not"}, strings.Join(s.Codes, ", ")
}

func orDash(s string) string { return titleOr(s, "–") }
