package journal

import (
	"context"
	"testing"
	"time"
)

func TestARecordThatNobodyWaitsForGoesWithTheNextThatSomebodyDoes(t *testing.T) {
	j := mustOpen(t, t.TempDir(), options(1))
	before := j.Stats().Syncs
	var tickets []Ticket
	for range 10 {
		later, err := j.AppendLater([]byte("later"))
		if err != nil {
			t.Fatal(err)
		}
		tickets = append(tickets, later)
	}
	now, err := j.Append([]byte("now"))
	if err != nil {
		t.Fatal(err)
	}
	if err := now.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, later := range tickets {
		if err := later.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := j.Stats().Syncs - before; got > 3 {
		t.Errorf("%d syncs for records that nobody waited for and one that somebody did", got)
	}
}

func TestARecordThatNobodyWaitsForBecomesDurableByItself(t *testing.T) {
	j := mustOpen(t, t.TempDir(), options(1))
	later, err := j.AppendLater([]byte("later"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := later.Wait(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestClosingTakesAlongWhatNobodyWaitedFor(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, options(1))
	later, err := j.AppendLater([]byte("later"))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := later.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, dir, options(2))
	n := 0
	if _, err := again.Read(Position{}, 10, 1<<20, func(Entry) error { n++; return nil }); err != nil || n != 1 {
		t.Fatalf("%d records after closing, %v", n, err)
	}
}
