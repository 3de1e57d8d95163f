package audit

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/principal"
)

func TestManyCallersShareTransactionsAndEachIsDurable(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	l := openLog(t, options(d, t.TempDir()))
	var all sync.WaitGroup
	for i := range 400 {
		all.Go(func() {
			org := uuid.UUID{byte(i % 5)}
			var err error
			if i%2 == 0 {
				err = Deny(context.Background(), d, who, org, "test.deny", fmt.Sprint(i), nil)
			} else {
				err = l.Record(context.Background(), who, org, "test.record", fmt.Sprint(i), nil)
			}
			if err != nil {
				t.Error(err)
			}
			org2 := org
			rows, err := Find(context.Background(), d, Filter{Target: fmt.Sprint(i), Organisation: &org2})
			if err != nil || len(rows) != 1 || (rows[0].Outcome == Denied) != (i%2 == 0) {
				t.Errorf("entry %d: %+v, %v", i, rows, err)
			}
		})
	}
	all.Wait()
	drain(t, l)
	if r := verify(t, l); !r.OK || r.Entries != 400 {
		t.Errorf("got %+v", r)
	}
}

func TestOneEntryThatCannotBeStoredDoesNotTakeOthersWithIt(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	d := dbtest.Open(t, cfg)
	l := openLog(t, options(d, t.TempDir()))
	if _, err := dbtest.Superuser(t, cfg).Exec(t.Context(), `ALTER TABLE audit ADD CHECK (target <> 'poison')`); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			target := fmt.Sprint(i)
			if i%20 == 7 {
				target = "poison"
			}
			err := l.Record(context.Background(), who, uuid.Nil, "test.record", target, nil)
			if (err != nil) != (target == "poison") {
				t.Errorf("%s: %v", target, err)
			}
		})
	}
	all.Wait()
}

// TestABlockedSinkStopsPrivilegedActsAndKeepsDenials refuses audit inserts, as
// a full disk or a wrong grant would.
func TestABlockedSinkStopsPrivilegedActsAndKeepsDenials(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	d, root := dbtest.Open(t, cfg), dbtest.Superuser(t, cfg)
	o := options(d, t.TempDir())
	o.Held = 3
	l := openLog(t, o)
	if _, err := root.Exec(t.Context(), `ALTER TABLE audit ADD CONSTRAINT disk_full CHECK (false) NOT VALID; CREATE TABLE deeds (n int); GRANT INSERT, SELECT ON deeds TO foundry_app`); err != nil {
		t.Fatal(err)
	}
	err := d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `INSERT INTO deeds VALUES (1)`); err != nil {
			return err
		}
		return Append(t.Context(), tx, who, uuid.Nil, "test.deed", "", nil)
	})
	var deeds int
	if err == nil || root.QueryRow(t.Context(), `SELECT count(*) FROM deeds`).Scan(&deeds) != nil || deeds != 0 {
		t.Errorf("an act that could not be audited was done: %v, %d", err, deeds)
	}
	if err := l.Reading(t.Context(), who, uuid.Nil, Filter{}); err == nil {
		t.Error("the log may be read though that cannot be entered")
	}
	for i := range 5 {
		err := Deny(t.Context(), d, who, uuid.Nil, "test.deny", fmt.Sprint(i), map[string]string{"why": "no"})
		if (err != nil) != (i >= 3) {
			t.Errorf("denial %d: %v", i, err)
		}
	}
	if s := l.Status(); s.Held != 3 || s.Lost != 2 {
		t.Errorf("status %+v", s)
	}
	if _, err := root.Exec(t.Context(), `ALTER TABLE audit DROP CONSTRAINT disk_full`); err != nil {
		t.Fatal(err)
	}
	l.appends.retry(t.Context())
	rows, err := Find(t.Context(), d, Filter{Act: "test.deny"})
	if err != nil || len(rows) != 3 || l.Status().Held != 0 {
		t.Fatalf("%+v, %v", rows, err)
	}
	for _, r := range rows {
		if !strings.Contains(string(r.Details), `"held_since": `) || !strings.Contains(string(r.Details), `"why": "no"`) {
			t.Errorf("details %s", r.Details)
		}
	}
	l.appends.retry(t.Context()) // storing twice is the same as once
	drain(t, l)
	if r := verify(t, l); !r.OK || r.Entries != 3 {
		t.Errorf("got %+v", r)
	}
}

func TestADenialWhileTheDatabaseIsAwayIsStoredWhenItReturns(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	d := dbtest.Open(t, s.Config())
	l := openLog(t, options(d, t.TempDir()))
	drain(t, l)
	s.Stop()
	if err := Deny(t.Context(), d, who, uuid.Nil, "test.deny", "away", nil); err != nil {
		t.Fatal(err)
	}
	if l.Status().Held != 1 {
		t.Errorf("status %+v", l.Status())
	}
	if _, err := l.Sequence(t.Context()); err == nil {
		t.Error("it sequenced without a database")
	}
	if l.Status().Failure == "" {
		t.Error("the status does not say so")
	}
	s.Start()
	if err := d.WaitHealthy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	drain(t, l)
	if rows, err := Find(t.Context(), d, Filter{Target: "away"}); err != nil || len(rows) != 1 || rows[0].Leaf == nil {
		t.Errorf("%+v, %v", rows, err)
	}
}

func TestReadingTheLogIsEnteredOnceForAListingAndItsPages(t *testing.T) {
	t.Parallel()
	d, c := dbtest.New(t), newClock()
	o := options(d, t.TempDir())
	o.Clock = c.now
	l := openLog(t, o)
	other := principal.Principal{Kind: principal.Person, ID: "p"}
	page := int64(5)
	for i, step := range []struct {
		p    principal.Principal
		f    Filter
		want int // entries so far
	}{
		{who, Filter{}, 1},
		{who, Filter{Before: uuid.New()}, 1}, // its next page
		{who, Filter{After: &page}, 1},       // following
		{who, Filter{Act: "key."}, 2},        // another question
		{other, Filter{}, 3},                 // another person
		{who, Filter{Before: uuid.New(), Limit: 7}, 3},
	} {
		if err := l.Reading(t.Context(), step.p, uuid.Nil, step.f); err != nil {
			t.Fatal(err)
		}
		rows, err := Find(t.Context(), d, Filter{Act: ActRead})
		if err != nil || len(rows) != step.want {
			t.Errorf("step %d: %d entries, want %d (%v)", i, len(rows), step.want, err)
		}
	}
	c.advance(readSpan)
	if err := l.Reading(t.Context(), who, uuid.Nil, Filter{}); err != nil {
		t.Fatal(err)
	}
	if rows, _ := Find(t.Context(), d, Filter{Act: ActRead}); len(rows) != 4 {
		t.Errorf("%d entries", len(rows))
	}
}

func TestEntriesAreFoundByWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	l := openLog(t, options(d, t.TempDir()))
	org := uuid.New()
	act(t, d, org, "key.create", "a", nil)
	act(t, d, org, "key.revoke", "a", nil)
	act(t, d, uuid.Nil, "keys.rotate", "b", nil)
	if err := Deny(t.Context(), d, who, org, "key.create", "c", nil); err != nil {
		t.Fatal(err)
	}
	drain(t, l)
	start := int64(-1)
	for name, c := range map[string]struct {
		f    Filter
		want int
	}{
		"everything":         {Filter{}, 4},
		"an organisation":    {Filter{Organisation: &org}, 3},
		"the platform":       {Filter{Organisation: &uuid.Nil}, 1},
		"an act":             {Filter{Act: "key.create"}, 2},
		"acts of a kind":     {Filter{Act: "key."}, 3},
		"denials":            {Filter{Outcome: Denied}, 1},
		"a target":           {Filter{Target: "a"}, 2},
		"an actor":           {Filter{Actor: "local:uid=7"}, 4},
		"nobody":             {Filter{Actor: "local:uid=7' OR true --"}, 0},
		"a time":             {Filter{From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour)}, 4},
		"the future":         {Filter{From: time.Now().Add(time.Hour)}, 0},
		"from the beginning": {Filter{After: &start}, 4},
		"a few":              {Filter{Limit: 2}, 2},
	} {
		rows, err := Find(t.Context(), d, c.f)
		if err != nil || len(rows) != c.want {
			t.Errorf("%s: %d, want %d (%v)", name, len(rows), c.want, err)
		}
	}
}

func TestASyntheticAccessIsProvenWithinSeconds(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	l := openLog(t, options(d, t.TempDir()))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	for range 3 {
		b, took, err := l.Probe(ctx)
		if err != nil || len(b.Proofs) != 1 || took > 5*time.Second {
			t.Fatalf("%+v after %s: %v", b, took, err)
		}
	}
	cancel()
	<-done
	// With the sequencer stopped it does not pass.
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := l.Probe(short); codeOf(err) != "audit-probe-late" {
		t.Errorf("got %v", err)
	}
}
