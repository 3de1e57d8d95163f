package scenario

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

type reader struct {
	s        *Scenario
	mode     Mode // of the steps that are read
	mistakes *plan.Mistakes
}

// Load reads a scenario from a file.
func Load(path string) (*Scenario, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, problem.New(problem.NotFound, "scenario-file", "The scenario cannot be read: "+err.Error()+".").WithField(path).WithMend("Name a file, or one of those that `foundry exercise scenarios` lists.")
	}
	return Parse(path, text)
}

// Parse reads the text of a scenario; path stands for it in messages. What is
// none is a *plan.Mistakes with everything that is wrong.
func Parse(path string, text []byte) (*Scenario, error) {
	r := &reader{s: &Scenario{Path: path, Text: text}, mistakes: &plan.Mistakes{File: path, Of: "scenario", Text: text}}
	if len(text) > maxText {
		r.bad(plan.Place{Line: 1, Column: 1, Length: 1}, "scenario-size", "The file is too large for a scenario: more than 256 KiB.", "Is it the right file?")
		return nil, r.mistakes
	}
	for _, l := range r.lines(string(text)) {
		if len(l.words) > 0 {
			r.top(l)
		}
	}
	r.whole()
	if len(r.mistakes.List) > 0 {
		slices.SortStableFunc(r.mistakes.List, func(a, b plan.Mistake) int {
			return (a.Place.Line-b.Place.Line)<<16 + a.Place.Column - b.Place.Column
		})
		return nil, r.mistakes
	}
	return r.s, nil
}

var tops = []string{"scenario", "source", "of", "fleet", "target", "sandbox", "desktop", "live"}

// top reads a line outside of every block.
func (r *reader) top(l *line) {
	w := l.words
	if l.open && !slices.Contains([]string{"fleet", "sandbox", "desktop", "live"}, w[0].text) {
		r.bad(l.place, "scenario-block", fmt.Sprintf("%q has no block.", w[0].text), "Blocks are fleet, sandbox, desktop and live.")
		return
	}
	switch w[0].text {
	case "scenario":
		if len(w) != 3 || !isName(w[1]) || !w[2].quoted || w[2].text == "" {
			r.bad(l.place, "scenario-name", "A scenario has a name and a title.", `Write: scenario NAME "Title"`)
			return
		}
		if r.s.Name != "" {
			r.bad(l.place, "scenario-twice", "A file holds one scenario.", "Write the second into a file of its own.")
			return
		}
		r.s.Name, r.s.Title = w[1].text, w[2].text
	case "source":
		var parts []string
		for _, x := range w[1:] {
			parts = append(parts, x.text)
		}
		if len(parts) == 0 {
			r.bad(l.place, "scenario-source", "A source says where something is written.", "Write: source bcp 4.1")
			return
		}
		r.s.Source = append(r.s.Source, strings.Join(parts, " "))
	case "of":
		if len(w) != 2 || !isName(w[1]) {
			r.bad(l.place, "scenario-of", "of names one scenario of the plan.", "Write: of NAME")
			return
		}
		r.s.Of = w[1].text
	case "target":
		r.target(l)
	case "fleet":
		r.fleet(l)
	case "sandbox", "desktop", "live":
		r.part(l, Mode(w[0].text))
	default:
		mend := "A scenario has the lines " + strings.Join(tops, ", ") + "."
		if near := config.Nearest(w[0].text, tops); near != "" {
			mend = fmt.Sprintf("Is it %s?", near)
		}
		r.bad(w[0].place, "scenario-word", fmt.Sprintf("%q begins no line here.", w[0].text), mend)
	}
}

func (r *reader) target(l *line) {
	w := l.words
	const write = "Write: target MEASURE within TIME, or: target lost at most 0"
	if len(w) < 4 {
		r.bad(l.place, "scenario-target", "A target says what has to be reached.", write)
		return
	}
	t := Target{Measure: w[1].text, Place: l.place}
	if Measures[t.Measure] == "" {
		r.bad(w[1].place, "scenario-measure", fmt.Sprintf("%q is not measured.", t.Measure), nearest(t.Measure, keys(Measures)))
		return
	}
	for _, o := range r.s.Targets {
		if o.Measure == t.Measure {
			r.bad(w[1].place, "scenario-twice", fmt.Sprintf("%s has two targets.", t.Measure), "Keep one.")
			return
		}
	}
	var ok bool
	switch {
	case !counted[t.Measure] && len(w) == 4 && w[2].text == "within":
		t.Within, ok = duration(w[3])
	case counted[t.Measure] && len(w) == 5 && w[2].text == "at" && w[3].text == "most":
		t.AtMost, ok = number(w[4])
	}
	if !ok {
		r.bad(l.place, "scenario-target", fmt.Sprintf("This is no target for %s.", t.Measure), write)
		return
	}
	r.s.Targets = append(r.s.Targets, t)
}

func (r *reader) fleet(l *line) {
	if r.s.Fleet != nil {
		r.bad(l.place, "scenario-twice", "There are two fleets.", "Keep one.")
		return
	}
	f := &Fleet{Database: "own"}
	r.s.Fleet = f
	for _, x := range l.block {
		if len(x.words) == 0 {
			continue
		}
		w := x.words
		switch w[0].text {
		case "node":
			r.node(f, x)
		case "service":
			if len(w) != 2 || !slices.Contains(services, w[1].text) {
				r.bad(x.place, "scenario-service", "This is no service that a sandbox has.", "Those are: "+strings.Join(services[:4], ", ")+".")
				continue
			}
			f.Services = append(f.Services, w[1].text)
		case "data":
			n, ok := size(w[len(w)-1])
			if len(w) != 2 || !ok {
				r.bad(x.place, "scenario-size", "data says how much is in the database.", "Write: data 100MB")
				continue
			}
			f.Data = n
		case "database":
			if len(w) != 2 || w[1].text != "own" && w[1].text != "patroni" {
				r.bad(x.place, "scenario-database", "A sandbox's database is Foundry's own, or Patroni's.", "Write: database own, or: database patroni")
				continue
			}
			f.Database = w[1].text
		default:
			r.bad(w[0].place, "scenario-word", fmt.Sprintf("%q begins no line of a fleet.", w[0].text), "A fleet has the lines node, service, data and database.")
		}
	}
	if len(f.Nodes) == 0 {
		r.bad(l.place, "scenario-fleet", "The fleet has no nodes.", "Write: node NAME gateway fleet database")
	}
	r.databases(f, l.place)
}

// databases checks who runs the fleet's database: Foundry, or Patroni.
func (r *reader) databases(f *Fleet, at plan.Place) {
	count := map[string]int{}
	for _, n := range f.Nodes {
		for _, role := range n.Roles {
			count[role]++
		}
	}
	const write = "Write: node one gateway fleet patroni, two gateway fleet patroni, and three fleet patroni."
	switch {
	case count["patroni"] > 0 && count["database"] > 0:
		r.bad(at, "scenario-database", "The database is either kept by Foundry or by Patroni.", "Give nodes the role database, or patroni.")
	case count["patroni"] == 0 && f.Database == "patroni":
		r.bad(at, "scenario-database", "Patroni runs nowhere.", write)
	case count["patroni"] > 0 && count["patroni"] < 3:
		// In strict mode what is left of two acknowledges nothing.
		r.bad(at, "scenario-database", "Where Patroni keeps the database, three nodes have it: of two, the loss of one ends all writes.", write)
	case count["patroni"] > 0:
		f.Database = "patroni"
	}
}

func (r *reader) node(f *Fleet, l *line) {
	w := l.words
	if len(w) < 3 || !isName(w[1]) {
		r.bad(l.place, "scenario-node", "A node has a name and roles.", "Write: node NAME gateway fleet database")
		return
	}
	if f.Node(w[1].text) != nil {
		r.bad(w[1].place, "scenario-twice", fmt.Sprintf("There are two nodes called %s.", w[1].text), "Give one another name.")
		return
	}
	n := Node{Name: w[1].text, Place: l.place}
	for _, x := range w[2:] {
		if !slices.Contains(roles, x.text) {
			r.bad(x.place, "scenario-role", fmt.Sprintf("%q is no role of a node.", x.text), nearest(x.text, roles))
			continue
		}
		n.Roles = append(n.Roles, x.text)
	}
	if slices.Contains(n.Roles, "patroni") && !slices.Contains(n.Roles, "fleet") {
		r.bad(l.place, "scenario-role", "In a sandbox Patroni runs beside a member of the fleet's store.", "Give the node the role fleet too.")
	}
	if slices.Contains(n.Roles, "witness") && len(n.Roles) > 1 {
		r.bad(l.place, "scenario-role", "A witness is nothing else.", "Give it the role witness alone, or fleet in its place.")
	}
	f.Nodes = append(f.Nodes, n)
}

func (r *reader) part(l *line, m Mode) {
	if len(r.s.Steps(m)) > 0 {
		r.bad(l.place, "scenario-twice", fmt.Sprintf("There are two parts for the mode %s.", m), "Keep one.")
		return
	}
	r.mode = m
	var out []Step
	for _, x := range l.block {
		if len(x.words) != 2 || x.words[0].text != "step" || !x.words[1].quoted || !x.open {
			r.bad(x.place, "scenario-step", "A part of a scenario consists of steps.", `Write: step "What happens" { … }`)
			continue
		}
		s := Step{Title: x.words[1].text, Place: x.place}
		for _, y := range x.block {
			if y.open {
				r.bad(y.place, "scenario-block", "A line of a step has no block.", "Write another step.")
				continue
			}
			if len(y.words) > 0 {
				if a, ok := r.act(y); ok {
					s.Do = append(s.Do, a)
				}
			}
		}
		if len(s.Do) == 0 && len(x.block) == 0 {
			r.bad(x.place, "scenario-step", fmt.Sprintf("In the step %q nothing is done.", s.Title), "Say what is done, or remove it.")
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		r.bad(l.place, "scenario-step", fmt.Sprintf("The part for the mode %s has no steps.", m), `Write: step "What happens" { … }`)
	}
	switch m {
	case Desktop:
		r.s.Desktop = out
	case Sandbox:
		r.s.Sandbox = out
	case Live:
		r.s.Live = out
	}
}

// whole checks what only the whole file shows.
func (r *reader) whole() {
	top := plan.Place{Line: 1, Column: 1, Length: 1}
	if r.s.Name == "" && len(r.mistakes.List) == 0 {
		r.bad(top, "scenario-name", "The scenario has no name.", `Begin with: scenario NAME "Title"`)
	}
	if len(r.s.Modes()) == 0 && len(r.mistakes.List) == 0 {
		r.bad(top, "scenario-empty", "The scenario can be run in no mode.", "Add a part: sandbox { … } or desktop { … }.")
	}
	if len(r.s.Sandbox) > 0 && r.s.Fleet == nil {
		r.bad(top, "scenario-fleet", "A sandbox needs a fleet.", "Add: fleet { node one gateway fleet database … }")
	}
	var at time.Duration
	for _, s := range r.s.Desktop {
		for _, a := range s.Do {
			if a.Verb == "at" && a.At < at {
				r.bad(a.Place, "scenario-clock", "This comes before what stands above it.", "Write what happens in the order in which it happens.")
			}
			at = max(at, a.At)
		}
	}
}

func keys[V any](m map[string]V) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// nearest is a mend: what was meant, or what there is.
func nearest(written string, names []string) string {
	if near := config.Nearest(written, names); near != "" {
		return fmt.Sprintf("Is it %s?", near)
	}
	return "There are: " + strings.Join(names, ", ") + "."
}
