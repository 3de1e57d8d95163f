package fleet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

func planNamed(node string) []byte {
	return fmt.Appendf(nil, "version: 1\norganisation: {name: N, country: DK}\nnodes: [{name: %s}]\n", node)
}

// Whoever tells last of two plans, the one that came into force last is the
// fleet's, also when both are told at once from two nodes.
func TestOfTwoPlansTheOneThatCameIntoForceLastStays(t *testing.T) {
	t.Parallel()
	f := membertest.Start(t, 3)
	began := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			n := (i*5 + 3) % 8 // in no order
			err := PublishPlan(t.Context(), f.Members[i%3].Store(), fmt.Sprint("hash", n), fmt.Sprint("revision", n), began.Add(time.Duration(n)*time.Minute), planNamed(fmt.Sprint("node", n)), nil)
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	p := NewPlanned(f.Members[1].Store(), slog.New(slog.DiscardHandler), nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go p.Run(ctx)
	waitFor(t, func() bool { return p.Plan() != nil && p.Plan().Nodes[0].Name == "node7" })
	if p.File() == nil || p.File().Nodes[0].Name != "node7" {
		t.Errorf("%+v", p.File())
	}
	// The one before, told again by a node that was away, changes nothing.
	if err := PublishPlan(t.Context(), f.Members[0].Store(), "hash2", "revision2", began.Add(2*time.Minute), planNamed("node2"), nil); err != nil {
		t.Fatal(err)
	}
	if err := PublishPlan(t.Context(), f.Members[0].Store(), "hash9", "revision9", began.Add(9*time.Minute), planNamed("node9"), nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return p.Plan().Nodes[0].Name == "node9" })
}

func TestThePlanIsThereWithoutAMajority(t *testing.T) {
	t.Parallel()
	f := membertest.Start(t, 3)
	if err := PublishPlan(t.Context(), f.Members[0].Store(), "hash", "revision", time.Now(), planNamed("node1"), nil); err != nil {
		t.Fatal(err)
	}
	third := f.Members[2]
	waitFor(t, func() bool { _, err := third.Store().GetLocal(t.Context(), planPath); return err == nil })
	f.Kill(t, 0)
	f.Kill(t, 1)
	p := NewPlanned(third.Store(), slog.New(slog.DiscardHandler), nil)
	if err := p.Read(t.Context()); err != nil || p.Plan() == nil {
		t.Fatalf("%v %v", err, p.Plan())
	}
}

func TestAPlanThatTheFleetCannotKeepIsRefusedWithItsSize(t *testing.T) {
	t.Parallel()
	f := membertest.Start(t, 1)
	noise := make([]byte, 2<<20)
	_, _ = rand.Read(noise)
	err := PublishPlan(t.Context(), f.Members[0].Store(), "h", "r", time.Now(), []byte(hex.EncodeToString(noise)), nil)
	if problem.From(err).Code != "fleet-plan-size" {
		t.Error(err)
	}
	p := NewPlanned(f.Members[0].Store(), slog.New(slog.DiscardHandler), nil)
	if err := p.Read(t.Context()); err != nil || p.Plan() != nil {
		t.Errorf("%v", err)
	}
}

// A member that cannot read what a newer one published goes on by the plan
// that it has.
func TestAPlanThatCannotBeReadLeavesTheOneBefore(t *testing.T) {
	t.Parallel()
	f := membertest.Start(t, 1)
	store := f.Members[0].Store()
	if err := PublishPlan(t.Context(), store, "h", "r1", time.Now(), planNamed("node1"), nil); err != nil {
		t.Fatal(err)
	}
	p := NewPlanned(store, slog.New(slog.DiscardHandler), nil)
	if err := p.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := PublishPlan(t.Context(), store, "h", "r2", time.Now().Add(time.Minute), []byte("version: 9\nnew: true\n"), nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Read(t.Context()); err == nil || p.Plan() == nil || p.Plan().Nodes[0].Name != "node1" {
		t.Errorf("%v", err)
	}
}

func waitFor(t *testing.T, met func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !met(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come about in a minute")
		}
	}
}

// A step of a recovery says what its runbook says, on a node that has no
// database; and a plan that a member of an earlier version told gets its
// runbooks from the next that tells it.
func TestTheRunbooksOfThePlanAreWithTheFleet(t *testing.T) {
	f := membertest.Start(t, 1)
	store := f.Members[0].Store()
	text := []byte("version: 1\norganisation: {name: x}\nnodes: [{name: one}]\nrunbooks: [{name: lost, file: lost.md}]\n")
	books := map[string]string{"lost": "# Lost\n\n```foundry-step\nname: stop\nkind: fence\ndo: Pull the plug.\nneeds_person: true\nverify: look\n```\n"}
	since := time.Now()
	planned := NewPlanned(store, slog.New(slog.DiscardHandler), nil)
	for _, told := range []map[string]string{nil, books, nil, books} {
		if err := PublishPlan(t.Context(), store, "h", "r", since, text, told); err != nil {
			t.Fatal(err)
		}
		if err := planned.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p := planned.Plan()
	steps, err := p.BookSteps("lost")
	if err != nil || len(steps) != 1 || steps[0].Do != "Pull the plug." {
		t.Errorf("%+v %v", steps, err)
	}
	whole, err := plan.Parse("fleet.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	if err := whole.SetBooks(map[string][]byte{"lost": []byte(books["lost"])}); err != nil {
		t.Fatal(err)
	}
	if p.Hash() != whole.Hash() {
		t.Error("the fleet has a plan with another hash than the one that was approved")
	}
}
