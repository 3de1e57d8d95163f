package policy

import (
	"fmt"
	"testing"

	"github.com/cedar-policy/cedar-go"
	"github.com/missionopsai/foundry/internal/principal"
)

// authorizeBare is Cedar's own answer, without what Decide adds.
func authorizeBare(e *Engine, q *question) (bool, cedar.Diagnostic) {
	s := e.entitiesOf(q)
	all := relevant{}
	for i := range e.policies {
		all = append(all, &e.policies[i])
	}
	verdict, why := cedar.Authorize(all, s, e.requestOf(q, s))
	return verdict == cedar.Allow, why
}

// The target is 5 µs, the wrapper included.
func BenchmarkDecide(b *testing.B) {
	e := engine(b)
	r := Request{Principal: as(ward, principal.Developer), Action: "key.create", Resource: in(ward), Now: now, Mode: Production}
	b.Run("asked before", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !e.Decide(r).Allowed {
				b.Fatal("denied")
			}
		}
	})
	b.Run("never asked before", func(b *testing.B) {
		b.ReportAllocs()
		q, _ := ask(&r)
		for b.Loop() {
			if !e.decide(&q).Allowed {
				b.Fatal("denied")
			}
		}
	})
	b.Run("denied, with the nearest role", func(b *testing.B) {
		b.ReportAllocs()
		q, _ := ask(&Request{Principal: as(ward, principal.Viewer), Action: "key.create", Resource: in(ward), Now: now, Mode: Production})
		for b.Loop() {
			if e.decide(&q).Allowed {
				b.Fatal("allowed")
			}
		}
	})
	b.Run("a new resource each time", func(b *testing.B) {
		b.ReportAllocs()
		r := r
		ids := make([]string, 1<<16)
		for i := range ids {
			ids[i] = fmt.Sprint(i)
		}
		for i := 0; b.Loop(); i++ {
			r.Resource.ID = ids[i%len(ids)]
			e.Decide(r)
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		engine(b)
	}
}
