package incident

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/incident/clock"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

func bookOf(m *member.Member) *Book {
	return &Book{Store: m.Store(), Node: m.Name(), Clock: time.Now, Authorise: anybody}
}

func opened() Opened {
	now := time.Now()
	return Opened{Title: "node-1 does not answer", Category: Outage, Mode: Real, Started: now.Add(-time.Minute), Detected: now.Add(-time.Second),
		Scope: Scope{Nodes: []string{"node-1"}, Functions: []string{"web"}}, Rules: []clock.Rule{rto(4 * time.Hour)}}
}

// Three nodes write at once while members are killed and come back, one at a
// time. What was acknowledged is there, once; what failed is there once or not
// at all; and the chain verifies on every node.
func TestNothingAcknowledgedIsLostWhenThreeNodesWriteAndMembersAreKilled(t *testing.T) {
	f := membertest.Start(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), 3*membertest.Patience)
	defer cancel()
	first, err := bookOf(f.Members[0]).Open(ctx, anna, opened())
	if err != nil {
		t.Fatal(err)
	}
	id := first.State.ID

	const each = 15
	var mu sync.Mutex
	acknowledged, failed := map[string]bool{}, map[string]bool{}
	members := append([]*member.Member(nil), f.Members...)
	var wait sync.WaitGroup
	halfway := make(chan struct{}, 3)
	for i := range 3 {
		wait.Go(func() {
			pause := time.NewTicker(20 * time.Millisecond)
			defer pause.Stop()
			for n := range each {
				for try := 0; ctx.Err() == nil; try++ { // until a node that lives has taken it
					words := fmt.Sprintf("%d of node%d, try %d", n, i+1, try)
					mu.Lock()
					b := bookOf(members[i])
					mu.Unlock()
					_, _, err := b.Append(ctx, anna, id, &Note{Words: words})
					mu.Lock()
					known := acknowledged
					if err != nil {
						known = failed
					}
					known[words] = true
					mu.Unlock()
					if err == nil {
						break
					}
					<-pause.C
				}
				if n == 3 {
					halfway <- struct{}{}
				}
			}
		})
	}
	for range 3 {
		<-halfway
	}
	for i := range 2 { // in the midst of it, each in turn
		f.Kill(t, i)
		m := f.Restart(t, i)
		mu.Lock()
		members[i] = m
		mu.Unlock()
	}
	wait.Wait()
	t.Logf("%d acknowledged, %d not", len(acknowledged), len(failed))
	if len(acknowledged) != 3*each {
		t.Fatalf("%d of %d were acknowledged: %v", len(acknowledged), 3*each, ctx.Err())
	}
	for i := range 3 {
		var got *Timeline
		f.Await(t, "the timeline can be read on every node", func(ctx context.Context) (ok bool) {
			got, err = bookOf(f.Members[i]).Read(ctx, anna, id)
			return err == nil && !got.Stale
		})
		seen := map[string]int{}
		for k := range got.Entries {
			if note, ok := got.Entries[k].Read().(*Note); ok {
				seen[note.Words]++
			}
		}
		for words := range acknowledged {
			if seen[words] != 1 {
				t.Errorf("node%d: %q was acknowledged and is there %d times", i+1, words, seen[words])
			}
		}
		for words := range failed {
			if seen[words] > 1 {
				t.Errorf("node%d: %q is there %d times", i+1, words, seen[words])
			}
		}
	}
}

func TestOneNodeKeepsATimelineAndFindsWhatWasChangedInIt(t *testing.T) {
	f := membertest.Start(t, 1)
	b := bookOf(f.Members[0])
	ctx, cancel := context.WithTimeout(context.Background(), membertest.Patience)
	defer cancel()

	if _, err := b.Read(ctx, anna, "inc-none"); !errors.Is(err, ErrUnknown) {
		t.Fatalf("got %v", err)
	}
	if _, _, err := b.Append(ctx, anna, "inc-none", &Note{Words: "x"}); !errors.Is(err, ErrUnknown) {
		t.Fatalf("got %v", err)
	}
	one, mine, err := b.OpenOnce(ctx, anna, "loss-node-1", opened())
	if err != nil || !mine {
		t.Fatal(mine, err)
	}
	if again, mine, err := b.OpenOnce(ctx, bert, "loss-node-1", opened()); err != nil || mine || again.State.OpenedBy != anna.String() {
		t.Fatal(mine, err)
	}
	if _, _, err := b.OpenOnce(ctx, bert, "../x", opened()); err == nil {
		t.Fatal("a path was taken for a name")
	}
	id := one.State.ID
	for n := range 5 {
		if _, _, err := b.Append(ctx, anna, id, &Note{Words: fmt.Sprint("note ", n)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := b.Append(ctx, anna, id, &PhaseChange{To: InReview}); codeOf(err) != "incident-phase-skipped" {
		t.Fatalf("got %v", err)
	}
	denied := *b
	denied.Authorise = nil
	if _, _, err := denied.Append(ctx, anna, id, &Note{Words: "x"}); codeOf(err) != "incident-denied" {
		t.Fatalf("got %v", err)
	}
	if _, err := denied.Read(ctx, anna, id); codeOf(err) != "incident-denied" {
		t.Fatalf("got %v", err)
	}

	// whoever holds the fleet's keys may write values: the chain shows it
	get := func(path string) (text string) {
		t.Helper()
		e, err := b.Store.Get(ctx, path)
		if err == nil {
			err = e.Decode(&text)
		}
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	third, fourth := get(pathEntry(id, 3)), get(pathEntry(id, 4))
	var head Head
	if e, err := b.Store.Get(ctx, pathHead(id)); err != nil || e.Decode(&head) != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, attack := range map[string]struct{ do, undo func() }{
		"an entry is replaced by another": {func() { _, err := b.Store.Put(ctx, pathEntry(id, 3), fourth); must(err) }, func() { _, err := b.Store.Put(ctx, pathEntry(id, 3), third); must(err) }},
		"an entry is taken out":           {func() { must(b.Store.Delete(ctx, pathEntry(id, 3))) }, func() { _, err := b.Store.Put(ctx, pathEntry(id, 3), third); must(err) }},
		"the end is cut off":              {func() { must(b.Store.Delete(ctx, pathEntry(id, 6))) }, nil},
	} {
		if attack.undo == nil {
			sixth := get(pathEntry(id, 6))
			attack.undo = func() { _, err := b.Store.Put(ctx, pathEntry(id, 6), sixth); must(err) }
		}
		attack.do()
		if _, err := b.Read(ctx, anna, id); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := b.Append(ctx, anna, id, &Note{Words: "x"}); !errors.Is(err, ErrBroken) {
			t.Errorf("%s, and it is written after: %v", name, err)
		}
		if all, bad, err := b.List(ctx, anna); err != nil || len(all) != 0 || !errors.Is(bad[id], ErrBroken) {
			t.Errorf("%s: the list says %d, %v, %v", name, len(all), bad, err)
		}
		attack.undo()
		if got, err := b.Read(ctx, anna, id); err != nil || got.State.Head != head {
			t.Fatalf("%s: put back it is not what it was: %v", name, err)
		}
	}
	must(b.Store.Delete(ctx, pathRoot+id+"/"))
	if _, bad, err := b.List(ctx, anna); err != nil || !errors.Is(bad[id], ErrBroken) {
		t.Errorf("a timeline that is gone as a whole: %v, %v", bad, err)
	}
}

// turn is a clock that a test turns.
type turn struct {
	wall    time.Time
	counter time.Duration
}

func (c *turn) on(d time.Duration) { c.wall, c.counter = c.wall.Add(d), c.counter+d }

func TestEscalationsAreToldOnceAcrossLeadersAndAgainUntilTheyAreSent(t *testing.T) {
	f := membertest.Start(t, 1)
	ctx, cancel := context.WithTimeout(context.Background(), membertest.Patience)
	defer cancel()
	now := &turn{wall: start}
	b := bookOf(f.Members[0])
	b.Clock = func() time.Time { return now.wall }
	o := opened()
	o.Started, o.Detected = start, start
	one, err := b.Open(ctx, anna, o)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	var down error
	leader := func() *Watch {
		return &Watch{Book: b, Log: slog.New(slog.DiscardHandler), Counter: func() time.Duration { return now.counter },
			Tell: func(_ context.Context, id string, s *State, r *clock.Reading, e clock.Escalation) (string, error) {
				if down == nil {
					told = append(told, id[len(s.ID):])
				}
				return "", down
			}}
	}
	w := leader()
	tick := func(want ...string) {
		t.Helper()
		told = nil
		if err := w.Tick(ctx); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(told) != fmt.Sprint(want) {
			t.Fatalf("told %v, want %v", told, want)
		}
	}
	tick()
	now.on(2 * time.Hour)
	down = errors.New("the relay is away")
	tick()
	down = nil
	tick("/rto/web/0/50")
	tick()
	w = leader() // another node takes over
	tick()
	now.on(3 * time.Hour)
	tick("/rto/web/0/100")
	now.wall = now.wall.Add(-24 * time.Hour) // somebody sets the clock back
	tick()
	got, err := b.Read(ctx, anna, one.State.ID)
	if err != nil {
		t.Fatal(err)
	}
	if c := got.State.Clocks(now.wall)[0]; c.State != clock.Expired {
		t.Errorf("set back by a day, the clock is %s", c.State)
	}
	jumps := 0
	for i := range got.Entries {
		if e, ok := got.Entries[i].Read().(*ClockEvent); ok && e.Event == "jump" {
			jumps++
		}
	}
	if jumps != 1 {
		t.Errorf("the jump is in the timeline %d times", jumps)
	}
}

func TestTheHeadOfATimelineIsInTheAuditLogWhenTheDatabaseIsThere(t *testing.T) {
	f := membertest.Start(t, 1)
	d := dbtest.New(t)
	b := bookOf(f.Members[0])
	ctx, cancel := context.WithTimeout(context.Background(), membertest.Patience)
	defer cancel()
	one, err := b.Open(ctx, anna, opened())
	if err != nil {
		t.Fatal(err)
	}
	id := one.State.ID
	anchored := func(want int) {
		t.Helper()
		if n, err := b.Anchor(ctx, d); err != nil || n != want {
			t.Fatalf("anchored %d, %v; want %d", n, err, want)
		}
	}
	anchored(1)
	anchored(0) // that it was noted is nothing to anchor
	if _, _, err := b.Append(ctx, anna, id, &Note{Words: "x"}); err != nil {
		t.Fatal(err)
	}
	anchored(1)
	got, err := b.Read(ctx, anna, id)
	if err != nil || got.State.Anchored.N != 3 || got.State.Anchored.Hash != got.Entries[2].Hash {
		t.Fatalf("%+v, %v", got.State.Anchored, err)
	}
	rows, err := audit.List(ctx, d, uuid.Nil, 10)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	for _, r := range rows {
		if r.Act == ActAnchor && r.Target == id {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d anchors are in the audit log", n)
	}
}

// Somebody who waits only so long gets what their node has, and not an error,
// while most of the fleet does not answer.
func TestATimelineIsReadInTimeWithoutAMajority(t *testing.T) {
	f := membertest.Start(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), membertest.Patience)
	defer cancel()
	b := bookOf(f.Members[0])
	b.Patience = 200 * time.Millisecond
	first, err := bookOf(f.Members[0]).Open(ctx, anna, opened())
	if err != nil {
		t.Fatal(err)
	}
	f.Kill(t, 1)
	f.Kill(t, 2)
	limited, stop := context.WithTimeout(context.Background(), membertest.Patience)
	defer stop()
	if got, err := b.Read(limited, anna, first.State.ID); err != nil || !got.Stale || len(got.Entries) != 1 {
		t.Fatalf("got %v, %v", got, err)
	}
	if all, broken, err := b.List(limited, anna); err != nil || len(broken) > 0 || len(all) != 1 || !all[0].Stale {
		t.Fatalf("got %d, %v, %v", len(all), broken, err)
	}
}
