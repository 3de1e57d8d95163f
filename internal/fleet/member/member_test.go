package member_test

import (
	"context"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
)

type note struct {
	Text string `json:"text"`
}

func TestAFleetOfOneKeepsValuesAndLeads(t *testing.T) {
	f := membertest.StartWith(t, 1, func(_ int, o *member.Options) { o.Listen = member.Addresses{} })
	m, ctx := f.Members[0], context.Background()
	if _, err := m.Store().Put(ctx, "plan", note{"in force"}); err != nil {
		t.Fatal(err)
	}
	term, err := m.Lead(ctx, "leader")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := term.Put(ctx, "verdicts/node1", note{"fine"}); err != nil {
		t.Fatal(err)
	}
	f.Stop(t, 0)
	m = f.Restart(t, 0)
	e, err := m.Store().Get(ctx, "plan")
	if err != nil {
		t.Fatal(err)
	}
	var got note
	if err := e.Decode(&got); err != nil || got.Text != "in force" {
		t.Fatalf("read %+v, %v", got, err)
	}
	again, err := m.Lead(ctx, "leader")
	if err != nil {
		t.Fatal(err)
	}
	if again.Epoch() <= term.Epoch() {
		t.Fatalf("epoch %d after %d", again.Epoch(), term.Epoch())
	}
}

func TestThreeMembers(t *testing.T) {
	began := time.Now()
	defer func() { t.Logf("stopped after %s", time.Since(began)) }()
	membertest.Start(t, 3)
	t.Logf("three members after %s", time.Since(began))
}
