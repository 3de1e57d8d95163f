package plan

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// resolveCommitments looks at what only the subject of a commitment decides:
// what its bounds may be, and whose names it may hold.
func (p *Plan) resolveCommitments(r *reader) {
	list := child(r.root, "commitments")
	if list == nil || list.Kind != yaml.SequenceNode || len(list.Content) != len(p.Commitments) {
		return
	}
	said := map[string]map[string]bool{}
	for i := range p.Commitments {
		if r.full() {
			return
		}
		c, at := &p.Commitments[i], list.Content[i]
		if c.Subject == "" {
			continue // reported as missing
		}
		subject, ok := SubjectNamed(c.Subject)
		if !ok {
			var names []string
			for _, s := range subjects {
				names = append(names, s.Name)
			}
			mend := "`foundry plan subjects` lists what can be promised."
			if near := r.nearest(c.Subject, names); near != "" {
				mend = fmt.Sprintf("Did you mean %q?", near)
			}
			r.wrong(nodeAt(at, "subject"), "plan-unknown-subject", fmt.Sprintf("There is no subject %q.", short(c.Subject)), mend)
			continue
		}
		r.bounds(c, subject, at)
		for k, name := range c.Of {
			if !p.promisable(name, subject, said) {
				mend := "Name what the plan lists, or leave `of` out to promise it of all."
				if near := r.nearest(name, p.promisables(r, subject)); near != "" {
					mend = fmt.Sprintf("Did you mean %q?", near)
				}
				r.wrong(nodeAt(at, fmt.Sprintf("of[%d]", k)), "plan-unknown-name", fmt.Sprintf("The plan has nothing named %q that %s could be promised of.", short(name), c.Subject), mend)
			}
		}
	}
}

// bounds wants exactly one bound, of the subject's unit.
func (r *reader) bounds(c *Commitment, s Subject, at *yaml.Node) {
	given := []string{}
	valid := func(field string, bounds ...Bound) {
		given = append(given, field)
		for k, b := range bounds {
			if err := s.Unit.Valid(b); err != nil {
				n := nodeAt(at, field)
				if n.Kind == yaml.SequenceNode {
					n = nodeAt(n, fmt.Sprintf("[%d]", k))
				}
				detail, mend := split(err)
				if mend == "" {
					detail, mend, _ = strings.Cut(err.Error(), "; ")
				}
				r.wrong(n, "plan-bound", sentence(detail), sentence(mend))
			}
		}
	}
	for _, b := range []struct {
		field string
		bound Bound
	}{{"at_most", c.AtMost}, {"at_least", c.AtLeast}, {"equals", c.Equals}} {
		if b.bound != "" {
			valid(b.field, b.bound)
		}
	}
	if len(c.OneOf) > 0 {
		valid("one_of", boundsOf(c.OneOf)...)
	}
	if len(c.NoneOf) > 0 {
		valid("none_of", boundsOf(c.NoneOf)...)
	}
	switch {
	case len(given) == 0:
		r.wrong(at, "plan-bound", fmt.Sprintf("The commitment %q promises nothing.", short(c.Name)), "Write one of at_most, at_least, equals, one_of, none_of; where the text gives no number, its word, such as at_most: regularly.")
	case len(given) > 1:
		r.wrong(nodeAt(at, given[1]), "plan-bound", fmt.Sprintf("The commitment %q has more than one bound: %s.", short(c.Name), strings.Join(given, ", ")), "Make a commitment of each.")
	}
}

func boundsOf(words []string) []Bound {
	out := make([]Bound, len(words))
	for i, w := range words {
		out[i] = Bound(w)
	}
	return out
}

// promisable reports whether a commitment of a subject may name something:
// any thing of the plan, or what its values are told apart by.
func (p *Plan) promisable(name string, s Subject, said map[string]map[string]bool) bool {
	for kind := range kinds {
		if _, ok := p.names[kind][name]; ok {
			return true
		}
	}
	return s.Of == "traffic" && trafficOrSecret("TLS", name) || s.Of == "secret" && trafficOrSecret("Hashing", name) || grouped(s.Of, name) || p.saidOf(s, said)[name]
}

// groups are the fields by whose words things of a kind are spoken of together:
// all nodes of a role, all suppliers of a service. A promise may be made of a
// group before the plan says anything of it: that it says nothing is then found.
var groups = map[string][]string{"node": {"roles"}, "supplier": {"provides"}, "notice": {"event", "to"}}

// grouped reports whether a word stands for a group of things of a kind.
func grouped(kind, word string) bool {
	list, ok := shapes().byName[kinds[kind]]
	if !ok {
		return false
	}
	thing := shapes().fields[list].shape.element
	return slices.ContainsFunc(groups[kind], func(name string) bool {
		f := &thing.fields[thing.byName[name]]
		return slices.Contains(f.enum, word) || slices.Contains(f.words, word)
	})
}

// saidOf are the names of all that the plan says of a subject; said keeps them,
// as asking costs the length of the plan.
func (p *Plan) saidOf(s Subject, said map[string]map[string]bool) map[string]bool {
	if said[s.Name] == nil {
		said[s.Name] = map[string]bool{}
		for _, v := range p.Says(s.Name, "") {
			said[s.Name][v.Of] = true
			for _, name := range v.also {
				said[s.Name][name] = true
			}
		}
	}
	return said[s.Name]
}

// trafficOrSecret reports whether a word is one of those by which the
// protection of traffic or of secrets is told apart.
func trafficOrSecret(of, word string) bool {
	words := map[string]string{"TLS": "clients api mail internal database", "Hashing": "passwords session-tokens api-keys recovery-codes"}
	return strings.Contains(" "+words[of]+" ", " "+word+" ")
}

func (p *Plan) promisables(r *reader, s Subject) []string {
	if len(r.found) >= maxMistakes {
		return nil // not shown: see nearest
	}
	if _, ok := kinds[s.Of]; ok {
		return p.Names(s.Of)
	}
	var out []string
	for _, kind := range Kinds() {
		out = append(out, p.Names(kind)...)
	}
	return out
}

// resolveDuties looks at what duties are about: any thing of the plan.
func (p *Plan) resolveDuties(r *reader) {
	all := Kinds()
	for i := range p.Duties {
		for k, name := range p.Duties[i].Of {
			if p.named(name, all) || r.full() {
				continue
			}
			mend := "Name what the plan lists, or leave `of` out to mean all."
			if near := r.nearest(name, p.promisables(r, Subject{})); near != "" {
				mend = fmt.Sprintf("Did you mean %q?", near)
			}
			r.wrong(nodeAt(r.root, fmt.Sprintf("duties[%d].of[%d]", i, k)), "plan-unknown-name", fmt.Sprintf("The plan has nothing named %q.", short(name)), mend)
		}
	}
}
