package governance_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/principal"
)

func TestThePlanIsThereWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	w := newWorldOn(t, server.Config())
	ctx, p := t.Context(), person(principal.PlatformOperator)
	r := w.inForce(library)
	_, err := w.g.Confirm(ctx, p, governance.NewConfirmation{Entry: "check-in person anna"})
	must(t, err)
	must(t, w.g.Look(ctx))
	of := w.clock()
	s, err := w.g.Standing(ctx, p)
	if must(t, err); s.Copied != nil || s.Plan.Copied != nil {
		t.Error("what the database says is called a copy")
	}
	server.Stop()
	for deadline := time.Now().Add(2 * time.Minute); w.d.Healthy(); {
		if time.Now().After(deadline) {
			t.Fatal("the database is still there")
		}
		_, _ = w.g.List(ctx, p)
	}
	w.mu.Lock()
	w.now = w.now.Add(3 * time.Hour)
	w.mu.Unlock()
	rules, err := policy.Builtin()
	must(t, err)
	w.again(rules) // the node was started again
	if s, err = w.g.Standing(ctx, p); err != nil || s.Copied == nil || !s.Copied.Equal(of) || s.Plan.ID != r.ID || len(s.Margins) != 1 || len(s.Findings) == 0 {
		t.Fatalf("%+v %v", s, err)
	}
	for _, id := range []uuid.UUID{uuid.Nil, r.ID} {
		if shown, err := w.g.Show(ctx, p, id); err != nil || shown.Text != library || shown.Copied == nil || shown.Hash != r.Hash || len(shown.Decisions) != 2 {
			t.Errorf("%+v %v", shown, err)
		}
	}
	o, from, _, err := w.g.Whatif(ctx, p, "one")
	if must(t, err); len(o.Functions) != 1 || from.Copied == nil {
		t.Errorf("%+v %+v", o, from)
	}
	due, err := w.g.Register(ctx, p)
	if must(t, err); len(due) != 3 {
		t.Errorf("%+v", due)
	}
	for _, d := range due {
		if d.Key == "check-in person anna" && d.State != governance.Current {
			t.Errorf("what was confirmed is forgotten: %+v", d)
		}
	}
	// A copy decides nothing.
	for name, act := range map[string]func() error{
		"submit": func() error {
			_, err := w.g.Submit(ctx, p, governance.NewRevision{Text: library, Note: "x"})
			return err
		},
		"decide":      func() error { _, err := w.g.Decide(ctx, p, r.ID, true, ""); return err },
		"acknowledge": func() error { _, err := w.g.Acknowledge(ctx, p, r.Hash); return err },
		"confirm": func() error {
			_, err := w.g.Confirm(ctx, p, governance.NewConfirmation{Entry: "duty exercise"})
			return err
		},
	} {
		if act() == nil {
			t.Errorf("%s without the database", name)
		}
	}
	if _, err := w.g.Show(ctx, p, uuid.New()); err == nil {
		t.Error("another revision is shown from the copy")
	}
	if _, err := w.g.Standing(ctx, person(principal.Viewer)); err == nil {
		t.Error("anybody may read the copy")
	}
}

func TestTheCopyIsSealedAndOneThatWasChangedIsRefused(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	w := newWorldOn(t, server.Config())
	p := person(principal.PlatformOperator)
	w.inForce(strings.Replace(library, "name: Library", "name: Needle Library", 1))
	sealed, err := os.ReadFile(w.copy)
	must(t, err)
	if info, err := os.Stat(w.copy); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if bytes.Contains(sealed, []byte("Needle")) {
		t.Error("the copy can be read")
	}
	server.Stop()
	for deadline := time.Now().Add(2 * time.Minute); w.d.Healthy(); {
		if time.Now().After(deadline) {
			t.Fatal("the database is still there")
		}
		_, _ = w.g.List(t.Context(), p)
	}
	sealed[len(sealed)/2] ^= 1
	must(t, os.WriteFile(w.copy, sealed, 0o600))
	_, err = w.g.Standing(t.Context(), p)
	refused(t, err, "plan-copy-unreadable")
	must(t, os.Remove(w.copy))
	_, err = w.g.Standing(t.Context(), p)
	refused(t, err, "plan-copy-none")
}
