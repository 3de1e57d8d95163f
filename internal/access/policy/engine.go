package policy

import (
	"cmp"
	"hash/maphash"
	"sync/atomic"

	"github.com/cedar-policy/cedar-go"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
)

// Engine decides. It never changes: another set of policies is another engine,
// with a memory of its own, so an answer is never older than its policies.
// Safe for concurrent use.
type Engine struct {
	policies []named
	actions  map[cedar.String]cedar.Entity
	valid    map[scope]bool
	index    map[scope]relevant
	contexts [contextCount]atomic.Pointer[cedar.Record]
	digest   string

	seed   maphash.Seed
	recent [recentSize]atomic.Pointer[remembered]
}

// named is a policy with what people call it.
type named struct {
	id, reason, file string
	builtin          bool
	text             string
	policy           *cedar.Policy
}

// scope is what a policy is chosen by.
type scope struct {
	who    cedar.EntityType
	action Action
}

// recentSize bounds what an engine remembers of its answers; a power of two.
const recentSize = 4096

type remembered struct {
	question question
	decision Decision
}

// context returns the context of an index, made on first use.
func (e *Engine) context(n int32) cedar.Record {
	if c := e.contexts[n].Load(); c != nil {
		return *c
	}
	c := contextOf(n)
	e.contexts[n].Store(&c)
	return c
}

// Decide answers one request. Whatever cannot be decided is denied.
func (e *Engine) Decide(r Request) Decision {
	if !r.Action.Known() {
		return Decision{Code: CodeUnknownAction, Policy: DefaultPolicy, Reason: "There is no action " + quoted(string(r.Action)) + "."}
	}
	q, wrong := ask(&r)
	if wrong != "" {
		return Decision{Code: CodeInvalid, Policy: DefaultPolicy, Reason: "The request is not a valid one: " + wrong + "."}
	}
	if !e.valid[scope{kindTypes[q.kind], q.action}] {
		return e.explain(&q, Decision{Code: CodeInvalid, Policy: DefaultPolicy, Reason: "The request is not a valid one: a " + string(q.kind) + " principal never does this."})
	}
	slot := &e.recent[maphash.Comparable(e.seed, q)%recentSize]
	if known := slot.Load(); known != nil && known.question == q {
		return known.decision
	}
	d := e.decide(&q)
	slot.Store(&remembered{q, d})
	return d
}

// decide answers a question that validated.
func (e *Engine) decide(q *question) Decision {
	d := e.evaluate(q)
	if d.Allowed || d.Code == CodeFault {
		return d
	}
	if q.kind == principal.Person {
		fresh := *q
		fresh.facts = refreshed(q.facts)
		switch then := e.evaluate(&fresh); {
		case then.Allowed:
			d.Code, d.StepUp = CodeStepUp, true
			return d
		case then.Code == CodeDenied:
			d = then // the second factor is not what is in the way
		}
	}
	return e.explain(q, d)
}

// refreshed is the context with a second factor shown just now.
func refreshed(facts int32) int32 { return facts - facts%(longAgo+2) + 1 }

// evaluate asks Cedar. Any error in any policy denies: Cedar passes over a
// policy that fails, and what it passes over may be the forbid that matters.
func (e *Engine) evaluate(q *question) (d Decision) {
	defer func() {
		if recover() != nil { // a defect in the evaluator must not become an open door
			d = Decision{Code: CodeFault, Policy: DefaultPolicy, Reason: "The policies could not be evaluated."}
		}
	}()
	s := e.entitiesOf(q)
	verdict, why := cedar.Authorize(e.index[scope{kindTypes[q.kind], q.action}], s, e.requestOf(q, s))
	if len(why.Errors) > 0 {
		id := string(why.Errors[0].PolicyID)
		return Decision{Code: CodeFault, Policy: id, Reason: "The policy " + quoted(id) + " could not be evaluated, so nothing is allowed."}
	}
	if len(why.Reasons) == 0 {
		return Decision{Code: CodeDenied, Policy: DefaultPolicy, Reason: "No policy permits it."}
	}
	n := e.find(string(why.Reasons[0].PolicyID))
	d = Decision{Policy: n.id, Reason: n.reason}
	if d.Allowed = verdict == cedar.Allow; !d.Allowed {
		d.Code = CodeDenied
	}
	return d
}

func (e *Engine) find(id string) *named {
	for i := range e.policies {
		if e.policies[i].id == id {
			return &e.policies[i]
		}
	}
	return &named{id: id}
}

// explain adds the nearest role: of the roles that would allow it to a person
// with a fresh second factor, the one with the fewest permissions. Roles where
// the principal acts come first, then those of the platform, then those of the
// organisation that was asked about.
func (e *Engine) explain(q *question, d Decision) Decision {
	for i, place := range []struct {
		organisation uuid.UUID
		roles        principal.Roles
	}{{q.organisation, memberRoles}, {uuid.Nil, staffRoles}, {q.resource.Organisation, memberRoles}} {
		if (place.organisation == uuid.Nil) != (place.roles == staffRoles) {
			continue
		}
		for _, role := range place.roles.List() {
			if d.HasNearest && cmp.Compare(size(role), size(d.Nearest)) >= 0 {
				continue
			}
			as := *q
			as.kind, as.organisation, as.roles = principal.Person, place.organisation, principal.RolesOf(role)
			if as.id == "" {
				as.id = "somebody"
			}
			as.facts = refreshed(factsIndex(e.mode(q.facts), false, 0))
			if e.valid[scope{typePerson, q.action}] && e.evaluate(&as).Allowed {
				d.Nearest, d.HasNearest = role, true
			}
		}
		if d.HasNearest {
			d.Elsewhere = i == 2
			break
		}
	}
	return d
}

func (e *Engine) mode(facts int32) string {
	if facts >= 2*(longAgo+2) {
		return Production
	}
	return Development
}
