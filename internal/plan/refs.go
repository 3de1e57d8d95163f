package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

// index finds the things of each kind by name.
func (p *Plan) index() {
	p.names = map[string]map[string]int{}
	for _, kind := range Kinds() {
		names := p.Names(kind)
		at := make(map[string]int, len(names))
		for i, n := range names {
			at[n] = i
		}
		p.names[kind] = at
	}
}

// Names lists the names of the things of a kind, in the order of the file.
func (p *Plan) Names(kind string) []string {
	switch kind {
	case "document":
		return namesOf(p.Documents, func(x *Document) string { return x.Name })
	case "person":
		return namesOf(p.People, func(x *Person) string { return x.Name })
	case "site":
		return namesOf(p.Sites, func(x *Site) string { return x.Name })
	case "supplier":
		return namesOf(p.Suppliers, func(x *Supplier) string { return x.Name })
	case "node":
		return namesOf(p.Nodes, func(x *Node) string { return x.Name })
	case "function":
		return namesOf(p.Functions, func(x *Function) string { return x.Name })
	case "data":
		return namesOf(p.Data, func(x *DataClass) string { return x.Name })
	case "backup":
		return namesOf(p.Backups, func(x *Backup) string { return x.Name })
	case "client":
		return namesOf(p.Clients, func(x *Client) string { return x.Name })
	case "notice":
		return namesOf(p.Notices, func(x *Notice) string { return x.Name })
	case "scenario":
		return namesOf(p.Scenarios, func(x *Scenario) string { return x.Name })
	case "recovery":
		return namesOf(p.Recovery, func(x *RecoveryPlan) string { return x.Name })
	case "runbook":
		return namesOf(p.Runbooks, func(x *Runbook) string { return x.Name })
	case "duty":
		return namesOf(p.Duties, func(x *Duty) string { return x.Name })
	case "claim":
		return namesOf(p.Claims, func(x *Claim) string { return x.Name })
	case "watch":
		return namesOf(p.Watches, func(x *Watch) string { return x.Name })
	case "commitment":
		return namesOf(p.Commitments, func(x *Commitment) string { return x.Name })
	}
	return nil
}

func namesOf[T any](list []T, of func(*T) string) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = of(&list[i])
	}
	return out
}

// resolve reports names of things that are not there.
func (p *Plan) resolve(r *reader) {
	p.resolveCommitments(r)
	p.resolveDuties(r)
	p.resolveAccounts(r)
	for _, ref := range r.refs {
		if r.full() {
			return
		}
		name := ref.node.Value
		if !slices.Contains(ref.in.words, name) && !p.named(name, ref.in.ref) {
			detail, mend := p.unknown(r, name, ref.in)
			r.wrong(ref.node, "plan-unknown-name", detail, mend)
		}
	}
	documents := p.Names("document")
	for _, n := range r.cited {
		if r.full() {
			return
		}
		if !p.cites(n.Value) {
			first, _, _ := strings.Cut(n.Value, " ")
			mend := fmt.Sprintf("Begin with the name of one of the documents, such as \"%s 4.1\", and list %s under documents: if it is missing.", cmpOr(firstOf(documents), "bcp"), short(first))
			if near := r.nearest(first, documents); near != "" {
				mend = fmt.Sprintf("Did you mean %q?", near)
			}
			r.wrong(n, "plan-unknown-document", fmt.Sprintf("The source %q names no document.", short(n.Value)), mend)
		}
	}
}

func (p *Plan) named(name string, of []string) bool {
	for _, kind := range of {
		if _, ok := p.names[kind][name]; ok {
			return true
		}
	}
	return false
}

// unknown says what a name could have been.
func (p *Plan) unknown(r *reader, name string, in *field) (detail, mend string) {
	var words, lists, there []string
	for _, kind := range in.ref {
		words, lists = append(words, kindWord(kind)), append(lists, kinds[kind]+":")
		if len(r.found) < maxMistakes {
			there = append(there, p.Names(kind)...)
		}
	}
	there = slices.DeleteFunc(append(there, in.words...), func(name string) bool { return name == "" })
	if len(words) > 4 {
		words = []string{"thing"}
		lists = []string{"its list"}
	}
	detail = fmt.Sprintf("There is no %s %q.", strings.Join(words, " or "), short(name))
	mend = "List it under " + strings.Join(lists, " or ") + ", or name one that is there."
	if near := r.nearest(name, there); near != "" {
		return detail, fmt.Sprintf("Did you mean %q?", near)
	}
	for kind, of := range p.names {
		if _, ok := of[name]; ok {
			return detail, fmt.Sprintf("There is a %s of this name, but here stands the name of a %s.", kindWord(kind), strings.Join(words, " or "))
		}
	}
	if len(there) > 0 && len(there) <= 8 {
		mend = "There is: " + strings.Join(there, ", ") + "."
	}
	return detail, mend
}

// cites reports whether a source begins with the name of a document.
func (p *Plan) cites(source string) bool {
	for end, c := range source + " " {
		if c == ' ' {
			if _, ok := p.names["document"][source[:end]]; ok && end > 0 {
				return true
			}
		}
	}
	return false
}

func firstOf(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// split takes what is wrong and what to do from an error for people.
func split(err error) (detail, mend string) {
	var e *problem.Error
	if errors.As(err, &e) {
		return e.Detail, e.Mend
	}
	return sentence(err.Error()), ""
}
