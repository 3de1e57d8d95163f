package scenario

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/plan"
)

// act reads one line of a step.
func (r *reader) act(l *line) (a Act, ok bool) {
	verb := l.words[0]
	if verb.text == "wait" || verb.text == "expect" {
		return r.wait(l)
	}
	i := slices.IndexFunc(Forms, func(f Form) bool { return f.Verb == verb.text })
	if i < 0 || verb.quoted {
		verbs := []string{"wait", "expect"}
		for _, f := range Forms {
			verbs = append(verbs, f.Verb)
		}
		r.bad(verb.place, "scenario-verb", fmt.Sprintf("%q is nothing that can be done.", verb.text), nearest(verb.text, verbs))
		return a, false
	}
	f := Forms[i]
	if len(f.Modes) > 0 && !slices.Contains(f.Modes, r.mode) {
		r.bad(verb.place, "scenario-mode", fmt.Sprintf("%s cannot be done in the mode %s.", f.Verb, r.mode), "Move it to a part of another mode.")
		return a, false
	}
	args, rest, why := r.match(f.Pattern, l.words)
	if why != nil || len(rest) > 0 {
		r.refuse(l, why, rest, usage(f.Pattern))
		return a, false
	}
	a = Act{Verb: f.Verb, Args: args, Says: l.text, Place: l.place}
	if t := args["time"]; t != "" {
		d, _ := time.ParseDuration(t)
		if f.Verb == "at" {
			a.At = d
		} else {
			a.Within = d
		}
	}
	if f.Verb == "break" || f.Verb == "mend" {
		if !slices.Contains(services, args["service"]) {
			r.bad(l.words[1].place, "scenario-service", fmt.Sprintf("%q is no service of a sandbox.", args["service"]), nearest(args["service"], services))
			return a, false
		}
	}
	return a, true
}

// wait reads: wait until CONDITION [and CONDITION …] within TIME, and:
// expect CONDITION [and CONDITION …].
func (r *reader) wait(l *line) (a Act, ok bool) {
	w := l.words
	a = Act{Verb: w[0].text, Says: l.text, Place: l.place}
	if r.mode != Sandbox {
		r.bad(l.place, "scenario-mode", fmt.Sprintf("%s cannot be done in the mode %s: nothing is there to be looked at.", a.Verb, r.mode), `Write: check "…"`)
		return a, false
	}
	w = w[1:]
	if a.Verb == "wait" {
		n := len(w)
		if n < 4 || w[0].text != "until" || w[n-2].text != "within" {
			r.bad(l.place, "scenario-wait", "A wait says for what, and how long at most.", "Write: wait until CONDITION within TIME")
			return a, false
		}
		d, good := duration(w[n-1])
		if !good {
			r.bad(w[n-1].place, "scenario-duration", fmt.Sprintf("%q is no length of time.", w[n-1].text), "Write 500ms, 30s, 5m or 2h.")
			return a, false
		}
		a.Within, w = d, w[1:n-2]
	}
	for len(w) > 0 {
		end := slices.IndexFunc(w, func(x word) bool { return x.text == "and" && !x.quoted })
		if end < 0 {
			end = len(w)
		}
		c, good := r.condition(l, w[:end])
		if !good {
			return a, false
		}
		a.Until = append(a.Until, c)
		if end == len(w)-1 {
			r.bad(w[end].place, "scenario-condition", "Nothing follows this and.", "Remove it, or say what else has to be so.")
			return a, false
		}
		w = w[min(end+1, len(w)):]
	}
	if len(a.Until) == 0 {
		r.bad(l.place, "scenario-condition", "Nothing is said that has to be so.", "Write: expect CONDITION")
		return a, false
	}
	return a, true
}

func (r *reader) condition(l *line, w []word) (c Condition, ok bool) {
	if len(w) == 0 {
		r.bad(l.place, "scenario-condition", "There is no condition here.", "Write one, such as: one is lost")
		return c, false
	}
	var says []string
	for _, x := range w {
		says = append(says, x.text)
	}
	c.Says = strings.Join(says, " ")
	if w[0].text == "not" && len(w) > 1 {
		c.Not, w = true, w[1:]
	}
	var closest *Form
	for i := range Conditions {
		f := &Conditions[i]
		args, rest, why := r.match(f.Pattern, w)
		if why == nil && len(rest) == 0 {
			if arg := stated[f.Verb]; arg != "" && !slices.Contains(states[f.Verb], args[arg]) {
				r.bad(w[len(w)-1].place, "scenario-state", fmt.Sprintf("%q is nothing that this can be.", args[arg]), nearest(args[arg], states[f.Verb]))
				return c, false
			}
			c.Form, c.Args = f.Verb, args
			return c, true
		}
		if closest == nil && strings.HasPrefix(f.Pattern, w[0].text+" ") {
			closest = f
		}
	}
	mend := "Write one of those that `foundry exercise language` lists."
	if closest != nil {
		mend = "Write: " + usage(closest.Pattern)
	}
	r.bad(w[0].place, "scenario-condition", fmt.Sprintf("%q is nothing that can be looked at.", c.Says), mend)
	return c, false
}

// mismatch is where a line leaves its pattern.
type mismatch struct {
	place  plan.Place
	detail string
}

// match reads a line by a pattern. Words that are left over come back.
func (r *reader) match(pattern string, w []word) (args map[string]string, rest []word, why *mismatch) {
	args = map[string]string{}
	optional := false
	for p := range strings.FieldsSeq(pattern) {
		if strings.HasPrefix(p, "[") {
			if len(w) == 0 {
				return args, nil, nil
			}
			optional = true
		}
		p = strings.Trim(p, "[]")
		if len(w) == 0 {
			return nil, nil, &mismatch{detail: "The line ends too early."}
		}
		name, kind, value := strings.Cut(strings.Trim(p, "<>"), ":")
		if !value {
			if w[0].quoted || w[0].text != p {
				return nil, nil, &mismatch{w[0].place, fmt.Sprintf("%q stands where %q belongs.", w[0].text, p)}
			}
			if optional && p == "way" {
				args["one-way"] = "yes"
			}
			w = w[1:]
			continue
		}
		text, detail := r.value(kind, w[0])
		if detail != "" {
			return nil, nil, &mismatch{w[0].place, detail}
		}
		args[name] = text
		w = w[1:]
	}
	return args, w, nil
}

// value reads one value of a kind; detail says why it is none.
func (r *reader) value(kind string, w word) (text, detail string) {
	switch kind {
	case kindText:
		if !w.quoted || strings.TrimSpace(w.text) == "" {
			return "", fmt.Sprintf("%q is no text in quotes.", w.text)
		}
		return w.text, ""
	case kindDuration:
		d, ok := duration(w)
		if !ok {
			return "", fmt.Sprintf("%q is no length of time such as 30s or 5m.", w.text)
		}
		return d.String(), ""
	case kindNumber:
		if _, ok := number(w); !ok {
			return "", fmt.Sprintf("%q is no whole number.", w.text)
		}
		return w.text, ""
	case kindAll:
		if w.text == "all" && !w.quoted {
			return "all", ""
		}
		fallthrough
	case kindNode:
		if !isName(w) || r.s.Fleet.Node(w.text) == nil {
			return "", fmt.Sprintf("%q is no node of this fleet.", w.text)
		}
		return w.text, ""
	}
	if !isName(w) {
		return "", fmt.Sprintf("%q is no name: letters, digits, hyphens and dots.", w.text)
	}
	return w.text, ""
}

func (r *reader) refuse(l *line, why *mismatch, rest []word, usage string) {
	m := mismatch{place: l.place, detail: "The line does not end where it should."}
	if why != nil {
		m.detail = why.detail
		if why.place.Line > 0 {
			m.place = why.place
		}
	} else if len(rest) > 0 {
		m.place = rest[0].place
	}
	r.bad(m.place, "scenario-form", m.detail, "Write: "+usage)
}

func isName(w word) bool {
	if w.quoted || w.text == "" || len(w.text) > 64 {
		return false
	}
	for _, c := range w.text {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	return true
}

// duration is longer than nothing and shorter than a year.
func duration(w word) (time.Duration, bool) {
	d, err := time.ParseDuration(w.text)
	return d, err == nil && !w.quoted && d > 0 && d < 366*24*time.Hour
}

func number(w word) (int64, bool) {
	n, err := strconv.ParseInt(w.text, 10, 32)
	return n, err == nil && !w.quoted && n >= 0 && w.text[0] != '+' && w.text[0] != '-'
}

func size(w word) (int64, bool) {
	for unit, factor := range map[string]int64{"kB": 1e3, "MB": 1e6, "GB": 1e9} {
		if digits, ok := strings.CutSuffix(w.text, unit); ok && !w.quoted {
			n, err := strconv.ParseInt(digits, 10, 32)
			return n * factor, err == nil && n > 0 && n <= 1000
		}
	}
	return 0, false
}

// Check lists what a scenario names and a plan has not. A scenario that ships
// with the product fits the shipped plans; another plan may call things
// otherwise, and then the exercise would be about nothing.
func (s *Scenario) Check(p *plan.Plan) []plan.Mistake {
	var out []plan.Mistake
	bad := func(at plan.Place, kind, name string, names []string) {
		mend := fmt.Sprintf("Name one of the plan's, or run it without a plan: %s.", strings.Join(names, ", "))
		if near := config.Nearest(name, names); near != "" {
			mend = fmt.Sprintf("Is it %s?", near)
		}
		out = append(out, plan.Mistake{Code: "scenario-unknown", Detail: fmt.Sprintf("The plan has no %s called %q.", kind, name), Mend: mend, Place: at})
	}
	if s.Of != "" && !slices.ContainsFunc(p.Scenarios, func(x plan.Scenario) bool { return x.Name == s.Of }) {
		var names []string
		for _, x := range p.Scenarios {
			names = append(names, x.Name)
		}
		bad(plan.Place{Line: 1, Column: 1, Length: 1}, "scenario", s.Of, names)
	}
	var plans []string
	for _, x := range p.Recovery {
		plans = append(plans, x.Name)
	}
	for _, m := range s.Modes() {
		for _, st := range s.Steps(m) {
			for _, a := range st.Do {
				if a.Verb == "recover" && m != Sandbox && !slices.Contains(plans, a.Args["plan"]) {
					bad(a.Place, "recovery plan", a.Args["plan"], plans)
				}
			}
		}
	}
	return out
}
