package sandbox

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/continuity/scenario"
	"github.com/missionopsai/foundry/internal/incident"
)

// holds says whether a condition is so, and what is so instead.
func (r *runner) holds(ctx context.Context, c scenario.Condition) (bool, string) {
	ok, words := r.condition(ctx, c)
	if c.Not {
		return !ok, words
	}
	return ok, words
}

func (r *runner) condition(ctx context.Context, c scenario.Condition) (bool, string) {
	v := r.lab.seen.view()
	switch c.Form {
	case "node-state":
		return r.nodeState(ctx, &v, c.Args["node"], c.Args["state"])
	case "gateway":
		return r.answers(ctx, r.lab.node(c.Args["node"]))
	case "service-answers":
		return r.service(ctx, c.Args["service"])
	case "primary":
		return v.primary == c.Args["node"], "it is on " + orNobody(v.primary)
	case "writers":
		n, _ := strconv.Atoi(c.Args["count"])
		at, err := r.writers(ctx)
		if err != nil {
			return false, err.Error()
		}
		return at <= n, fmt.Sprintf("%d at once", at)
	case "name":
		return v.points == c.Args["node"], "it points to " + orNobody(v.points)
	case "incident":
		return incidentIs(&v, c.Args["state"])
	case "recovery":
		return recoveryIs(&v, c.Args["state"])
	case "step":
		return stepIs(&v, c.Args["step"], c.Args["state"])
	case "gate":
		return gateHolds(&v, c.Args["gate"])
	case "notices":
		return noticesAre(&v, c.Args["state"])
	case "clock":
		return clockIs(&v, c.Args["clock"], c.Args["state"])
	case "lost":
		n, _ := strconv.Atoi(c.Args["count"])
		cmp, err := r.compare(ctx)
		if err != nil {
			return false, err.Error()
		}
		return cmp.lost <= n, fmt.Sprintf("%d of %d are lost", cmp.lost, cmp.acknowledged)
	case "audit":
		n := r.lab.node(v.primary) // the others may have a history that was given up
		if r.lab.kept() {          // there is one history, and any gateway reads it
			n = r.lab.anyone(ctx)
		}
		if n == nil {
			return false, "no node runs the database"
		}
		if out, err := n.run(ctx, "audit", "verify"); err != nil {
			return false, err.Error() + " " + strings.Join(findings.FindAllString(out, 3), " ")
		}
		return true, ""
	}
	return false, "nothing looks at this"
}

// findings are the lines in which the audit log's verification says what is
// wrong.
var findings = regexp.MustCompile(`(?m)^✗.*$`)

func orNobody(name string) string {
	if name == "" {
		return "no node"
	}
	return name
}

func (r *runner) nodeState(ctx context.Context, v *view, name, want string) (bool, string) {
	if want == "fenced" && r.lab.kept() {
		return r.follows(ctx, name)
	}
	if want == "fenced" {
		return fencedIn(r.lab.node(name))
	}
	is, words := v.state(name)
	return string(is) == want || want == "suspected" && is == "lost", fmt.Sprintf("it is %s: %s", is, words)
}

func (r *runner) answers(ctx context.Context, n *node) (bool, string) {
	if !n.up() {
		return false, n.name + " does not run"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	a := r.lab.crowd.ask(ctx, n)
	return a.good, a.why
}

func (r *runner) service(ctx context.Context, name string) (bool, string) {
	switch name {
	case "gateways", "models":
		for _, n := range r.lab.gateways() {
			if !n.up() || r.away[n.name] {
				continue
			}
			if ok, why := r.answers(ctx, n); !ok {
				return false, n.name + ": " + why
			}
		}
		return true, ""
	case "database":
		before := time.Now()
		one, cancel := context.WithTimeout(ctx, 4*time.Second)
		defer cancel()
		r.lab.writer.write(one, 0)
		if _, ok := r.lab.writer.firstAfter(before); !ok {
			return false, "no write is accepted"
		}
		return true, ""
	}
	if _, err := r.lab.names.points(); err != nil {
		return false, err.Error()
	}
	return true, ""
}

func incidentIs(v *view, want string) (bool, string) {
	for _, i := range v.incidents {
		switch {
		case want == "open" && i.Phase != incident.Closed, want == "closed" && i.Phase == incident.Closed, string(i.Phase) == want:
			return true, i.ID
		}
	}
	return false, fmt.Sprintf("of %d incidents none is", len(v.incidents))
}

func recoveryIs(v *view, want string) (bool, string) {
	says := "there is none"
	for _, r := range v.runs {
		state := "running"
		for _, s := range r.Steps {
			switch {
			case s.State == recovery.Failed:
				state = "failed"
			case s.State == recovery.NeedsPerson && state == "running":
				state = "waiting"
			}
		}
		if !r.Ended.IsZero() {
			state = r.Outcome
		}
		if state == want {
			return true, r.ID
		}
		says = r.ID + " is " + state
	}
	return false, says
}

// stepIs looks for a step by its name or its kind.
func stepIs(v *view, name, want string) (bool, string) {
	says := "no recovery has such a step"
	for _, r := range v.runs {
		for _, s := range r.Steps {
			if s.Name != name && s.Kind != name {
				continue
			}
			if string(s.State) == want {
				return true, s.Words
			}
			says = fmt.Sprintf("%s is %s: %s", s.Name, s.State, s.Words)
		}
	}
	return false, says
}

// gates are the kinds of steps that a gate holds.
var gates = map[string][]string{"fence": {"promote", "restore", "start"}, "validation": {"dns"}, "approval": {"approve", "failback", "wipe"}}

func gateHolds(v *view, gate string) (bool, string) {
	for _, r := range v.runs {
		for _, s := range r.Steps {
			for _, k := range gates[gate] {
				if s.Kind == k && (s.State == recovery.Ready || s.State == recovery.NeedsPerson) {
					return true, s.Name + ": " + s.Words
				}
			}
		}
	}
	return false, "no step is held back"
}

func noticesAre(v *view, want string) (bool, string) {
	var sent, all int
	for _, i := range v.incidents {
		for _, n := range i.Notices {
			if n.Audience != incident.ToClient {
				continue
			}
			all++
			switch {
			case want == "indeterminate" && n.Unclear:
				return true, n.ID
			case want == "sent" && !n.ToldAt.IsZero(), want == "acknowledged" && n.Receipt != "" && !n.ToldAt.IsZero():
				sent++
			}
		}
	}
	return want != "indeterminate" && all > 0 && sent == all, fmt.Sprintf("%d of %d", sent, all)
}

func clockIs(v *view, id, want string) (bool, string) {
	says := "there is no such clock"
	for _, i := range v.incidents {
		for _, c := range i.Clocks(v.at) {
			if c.ID != id {
				continue
			}
			state := map[string]string{"met": "kept", "missed": "missed", "expired": "missed", "running": "running"}[string(c.State)]
			if state == want {
				return true, c.Says
			}
			says = "it is " + string(c.State)
		}
	}
	return false, says
}
