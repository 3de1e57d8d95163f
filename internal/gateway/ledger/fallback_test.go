package ledger

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/principal"
)

// told collects what begins and ends.
type told struct {
	mu  sync.Mutex
	all []Fallback
}

func (w *told) hear(_ context.Context, _ pgx.Tx, f Fallback) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, f)
	return nil
}

func flushFallbacks(t testing.TB, all ...*Fallbacks) {
	t.Helper()
	for _, f := range all {
		if err := f.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func calmFallbacks(t testing.TB, d *db.DB) {
	t.Helper()
	err := d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE fallbacks SET last_at = now() - interval '2 minutes' WHERE ended_at IS NULL`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAFallbackBeginsOnceOnAllGatewaysAndEndsOnceWithItsSum(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	orgs := makeOrganisations(t, d, 3)
	heard := &told{}
	one, two := NewFallbacks(d, FallbackOptions{Node: 1, Told: heard.hear}), NewFallbacks(d, FallbackOptions{Node: 2, Told: heard.hear})
	one.Add("home", orgs[0], 5, "EUR", false) // an answer that failed: no fallback
	for range fallbackDoubt {
		flushFallbacks(t, one, two)
	}
	two.Add("home", orgs[0], 1000, "EUR", false) // one that failed just before: it belongs to it
	flushFallbacks(t, two)
	if len(heard.all) != 0 {
		t.Fatalf("one failure began a fallback: %+v", heard.all)
	}
	one.Add("home", orgs[0], 10, "EUR", true)
	two.Add("home", orgs[0], 20, "EUR", true)
	two.Add("home", orgs[1], 300, "EUR", true)
	flushFallbacks(t, one, two)
	one.Add("home", orgs[0], 1, "EUR", false) // its circuit has closed by now, but the fallback is not over
	flushFallbacks(t, one)
	if len(heard.all) != 1 || heard.all[0].Provider != "home" || !heard.all[0].Ended.IsZero() {
		t.Fatalf("told: %+v", heard.all)
	}
	s := NewStore(d, guard(d))
	for _, test := range []struct {
		who      principal.Principal
		org      uuid.UUID
		requests int64
		cost     int64
		orgs     int
	}{
		{operator, uuid.Nil, 5, 1331, 2},
		{operator, orgs[1], 1, 300, 1},
		{member(orgs[0], principal.Administrator), orgs[0], 4, 1031, 1},
		{member(orgs[2], principal.Administrator), orgs[2], 0, 0, 0},
	} {
		rows, err := s.Fallbacks(t.Context(), test.who, test.org)
		if err != nil {
			t.Fatal(err)
		}
		if test.requests == 0 {
			if len(rows) != 0 {
				t.Errorf("shown to who has none: %+v", rows)
			}
			continue
		}
		if len(rows) != 1 || rows[0].Requests != test.requests || rows[0].Organisations != test.orgs || !slices.Equal(rows[0].Cost, []Amount{{"EUR", test.cost}}) || rows[0].Ended != nil {
			t.Errorf("shown: %+v, want %d for %d", rows, test.requests, test.cost)
		}
	}
	back := false
	end := func() {
		t.Helper()
		for _, f := range []*Fallbacks{one, two} {
			if err := f.End(t.Context(), time.Minute, func(string) bool { return back }); err != nil {
				t.Fatal(err)
			}
		}
	}
	end()
	calmFallbacks(t, d)
	end() // calm, because nobody asks, but the provider is still away
	back = true
	one.Add("home", orgs[0], 1, "EUR", true)
	flushFallbacks(t, one)
	end() // back, but not calm
	if len(heard.all) != 1 {
		t.Fatalf("ended too soon: %+v", heard.all)
	}
	calmFallbacks(t, d)
	end()
	end()
	if len(heard.all) != 2 {
		t.Fatalf("told %d times", len(heard.all))
	}
	last := heard.all[1]
	if last.Ended.IsZero() || last.Requests != 6 || last.Organisations != 2 || !slices.Equal(last.Cost, []Amount{{"EUR", 1332}}) || last.ID != heard.all[0].ID {
		t.Errorf("at the end: %+v", last)
	}
	if o, err := s.Overview(t.Context(), operator); err != nil || len(o.Fallbacks) != 0 {
		t.Errorf("the overview shows what is over: %+v %v", o.Fallbacks, err)
	}
	one.Add("home", orgs[0], 7, "EUR", true)
	flushFallbacks(t, one)
	if len(heard.all) != 3 || heard.all[2].ID == last.ID {
		t.Errorf("the next one: %+v", heard.all)
	}
	if o, err := s.Overview(t.Context(), operator); err != nil || len(o.Fallbacks) != 1 || o.Fallbacks[0].Cost[0].Nano != 7 {
		t.Errorf("the overview: %+v %v", o.Fallbacks, err)
	}
}

func TestWhatCouldNotBeWrittenStaysCounted(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	fails := true
	f := NewFallbacks(d, FallbackOptions{Node: 1, Told: func(context.Context, pgx.Tx, Fallback) error {
		if fails {
			return context.DeadlineExceeded
		}
		return nil
	}})
	f.Add("home", org, 10, "EUR", true)
	if err := f.Flush(t.Context()); err == nil {
		t.Fatal("the failure is not reported")
	}
	f.Add("home", org, 5, "EUR", false)
	fails = false
	flushFallbacks(t, f)
	rows, err := NewStore(d, guard(d)).Fallbacks(t.Context(), operator, org)
	if err != nil || len(rows) != 1 || rows[0].Requests != 2 || rows[0].Cost[0].Nano != 15 {
		t.Errorf("%+v %v", rows, err)
	}
}
