package incident

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

var (
	anna = principal.Principal{Kind: principal.Person, ID: "0197c2a4-0000-7000-8000-000000000001"}
	bert = principal.Principal{Kind: principal.Person, ID: "0197c2a4-0000-7000-8000-000000000002"}
	root = principal.Principal{Kind: principal.Local, UID: 0}
)

var start = time.Date(2026, 11, 20, 17, 45, 0, 0, time.UTC) // a Friday evening

func at(d time.Duration) time.Time { return start.Add(d) }

// scene writes a timeline without a store.
type scene struct {
	t       testing.TB
	now     time.Time
	by      principal.Principal
	entries []Entry
	s       *State
}

func outage(t testing.TB, approvals int) *scene { return open(t, Outage, approvals) }

func open(t testing.TB, c Category, approvals int) *scene {
	x := &scene{t: t, now: start, by: anna, s: Fold(nil)}
	rules := clock.Rules(nil, clock.Scope{Events: []string{string(c)}, Clients: []string{"acme"}, Functions: []string{"web"}})
	four, err := time.ParseDuration("4h")
	if err != nil {
		t.Fatal(err)
	}
	x.do(&Opened{Title: "node-1 does not answer", Category: c, Mode: Real, Plan: "aaaa", Approvals: approvals, Started: at(-2 * time.Minute), Detected: at(-time.Minute),
		Scope: Scope{Nodes: []string{"node-1"}, Functions: []string{"web"}, Clients: []string{"acme"}}, Rules: append(rules, rto(four))})
	return x
}

func rto(within time.Duration) clock.Rule {
	var b clock.Bound
	b.From = clock.Ref{Name: clock.Lost, Of: "web"}
	if err := b.Within.UnmarshalText([]byte(within.String())); err != nil {
		panic(err)
	}
	return clock.Rule{ID: "rto/web", Kind: clock.RTO, Of: "web", Bounds: []clock.Bound{b}, Ends: []clock.Ref{{Name: clock.Restored, Of: "web"}, {Name: clock.Unfounded}},
		Reopens: []clock.Ref{{Name: clock.Lost, Of: "web"}}, Escalate: []clock.Stage{{Share: 0.5, Who: []string{"lead"}}, {Share: 1, Who: []string{"lead", "deputy"}}}}
}

// try appends, and returns the code of what refuses it, or "".
func (x *scene) try(b Body) string {
	x.t.Helper()
	x.now = x.now.Add(time.Second)
	if err := x.s.Check(b, x.by.String(), x.now); err != nil {
		p := problem.From(err)
		if p.Kind == problem.Internal || p.Mend == "" && p.Code != ErrUnknown.Code {
			x.t.Fatalf("refused without a mend: %v", err)
		}
		return p.Code
	}
	var before *Entry
	if n := len(x.entries); n > 0 {
		before = &x.entries[n-1]
	}
	e, err := link(before, "inc-test", x.now, x.by.String(), "node2", b.kind(), b)
	if err != nil {
		x.t.Fatal(err)
	}
	x.entries = append(x.entries, e)
	x.s.Apply(&e)
	return ""
}

func (x *scene) do(bodies ...Body) {
	x.t.Helper()
	for _, b := range bodies {
		if code := x.try(b); code != "" {
			x.t.Fatalf("%s was refused: %s", b.kind(), code)
		}
	}
}

func (x *scene) refused(code string, b Body) {
	x.t.Helper()
	if got := x.try(b); got != code {
		x.t.Fatalf("%s: got %q, want it refused as %q", b.kind(), got, code)
	}
}

func (x *scene) fact(name, of string) *Fact {
	return &Fact{Fact: name, Of: of, At: x.now, Evidence: []string{fmt.Sprintf("entry:%d", len(x.entries))}}
}

// approved decides and approves.
func (x *scene) approved(about, target string, by ...principal.Principal) {
	x.t.Helper()
	x.do(&Decision{About: about, Target: target, Words: "It has to be."})
	n := len(x.entries)
	was := x.by
	for _, p := range by {
		x.by = p
		x.do(&Approval{Of: n, Approve: true})
	}
	x.by = was
}

func (x *scene) signals() {
	x.t.Helper()
	x.do(&Signal{Source: "https", From: "node-2", Subject: "web", At: x.now, Words: "no answer"}, &Signal{Source: "ssh", From: "witness", Subject: "node-1", At: x.now, Words: "no route"})
}

func anybody(context.Context, principal.Principal, policy.Action, policy.Resource) error { return nil }

func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return problem.From(err).Code
}
