package policy

import (
	"iter"
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// relevant are the policies that can say anything about an action of a type of
// principal. A policy whose scope cannot match is silent about the request and
// cannot fail on it, so leaving it out changes no answer; it is what keeps a
// decision under five microseconds.
type relevant []*named

// All lists them in the order of all policies: what cedar.Authorize asks for.
func (r relevant) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, n := range r {
			if !yield(cedar.PolicyID(n.id), n.policy) {
				return
			}
		}
	}
}

// makeIndex sorts the policies by what they can apply to.
func (e *Engine) makeIndex() {
	e.index = map[scope]relevant{}
	for key := range e.valid {
		var list relevant
		for i := range e.policies {
			if e.mayApply((*ast.Policy)(e.policies[i].policy.AST()), key) {
				list = append(list, &e.policies[i])
			}
		}
		e.index[key] = list
	}
}

// mayApply reports whether a policy's scope can match. What it does not know,
// it lets through.
func (e *Engine) mayApply(p *ast.Policy, s scope) bool {
	action := cedar.NewEntityUID(typeAction, cedar.String(s.action))
	isIn := func(group cedar.EntityUID) bool {
		parents := e.actions[action.ID].Parents
		return action == group || parents.Contains(group)
	}
	switch a := p.Action.(type) {
	case ast.ScopeTypeEq:
		if a.Entity != action {
			return false
		}
	case ast.ScopeTypeIn:
		if !isIn(a.Entity) {
			return false
		}
	case ast.ScopeTypeInSet:
		if !slices.ContainsFunc(a.Entities, isIn) {
			return false
		}
	}
	switch w := p.Principal.(type) {
	case ast.ScopeTypeEq:
		return w.Entity.Type == s.who
	case ast.ScopeTypeIs:
		return w.Type == s.who
	case ast.ScopeTypeIsIn:
		return w.Type == s.who
	case ast.ScopeTypeIn: // only people are in anything; anything is in itself
		return s.who == typePerson || w.Entity.Type == s.who
	}
	return true
}
