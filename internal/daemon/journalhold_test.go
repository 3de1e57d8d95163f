package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/missionopsai/foundry/internal/gateway/journal"
	"pgregory.net/rapid"
)

// holdWorld is a journal, a database and an archive, as numbers.
type holdWorld struct {
	*journalHold
	released []journal.Position
	lsn      int // of the database; -1: it is away
	archive  int // -1: not known
	waits    bool
	used     int64
	gone     int
	warned   int
}

func newHold() *holdWorld {
	w := &holdWorld{waits: true}
	text := func(n int) string { return fmt.Sprintf("0/%X", n) }
	w.journalHold = &journalHold{log: slog.New(slog.DiscardHandler),
		release: func(p journal.Position) error { w.released = append(w.released, p); w.used -= 10; return nil },
		current: func(context.Context) (string, error) {
			if w.lsn < 0 {
				return "", errors.New("away")
			}
			return text(w.lsn), nil
		},
		archived: func() (string, bool) {
			if w.archive < 0 {
				return "", w.waits
			}
			return text(w.archive), w.waits
		},
		bytes: func() (int64, int64) { return w.used, 100 },
		early: func(journal.Position) { w.gone++ }, tight: func(int64, int64) { w.warned++ }}
	return w
}

func at(n int) journal.Position { return journal.Position{Boot: 1, Seq: uint64(n)} }

// apart makes the notes so far older than those that are joined.
func (w *holdWorld) apart() {
	for i := range w.waiting {
		w.waiting[i].at = w.waiting[i].at.Add(-2 * noteApart)
	}
}

func (w *holdWorld) step(t *testing.T, lsn, n int) {
	t.Helper()
	w.apart()
	w.lsn = lsn
	if err := w.Release(at(n)); err != nil {
		t.Fatal(err)
	}
}

func TestTheJournalGoesOnlyWhenWhatWasShippedIsArchived(t *testing.T) {
	w := newHold()
	w.step(t, 100, 1)
	w.step(t, 200, 2)
	w.step(t, 300, 3)
	for _, c := range []struct {
		archive int
		want    []journal.Position
	}{{-1, nil}, {99, nil}, {100, []journal.Position{at(1)}}, {199, []journal.Position{at(1)}}, {1000, []journal.Position{at(1), at(3)}}} {
		w.archive = c.archive
		if err := w.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(w.released, c.want) {
			t.Fatalf("archived to %d: released %v, want %v", c.archive, w.released, c.want)
		}
	}
	if w.gone+w.warned > 0 {
		t.Error("somebody was told, of nothing")
	}
}

func TestWithoutTargetsTheJournalGoesWhenItIsShipped(t *testing.T) {
	w := newHold()
	w.waits = false
	w.step(t, 100, 1)
	if !slices.Equal(w.released, []journal.Position{at(1)}) {
		t.Fatalf("%v", w.released)
	}
}

func TestWhatWasShippedWhileTheDatabaseDidNotAnswerIsNotReleasedForAnEarlierPlace(t *testing.T) {
	w := newHold()
	w.step(t, 100, 1)
	w.step(t, -1, 2) // its place is not known: the note before must not stand for it
	w.archive = 150
	w.lsn = -1
	if err := w.look(t.Context()); err != nil || len(w.released) != 0 {
		t.Fatalf("%v %v", w.released, err)
	}
	w.lsn = 300
	if err := w.look(t.Context()); err != nil || len(w.released) != 0 {
		t.Fatalf("%v %v", w.released, err)
	}
	w.archive = 300
	if err := w.look(t.Context()); err != nil || !slices.Equal(w.released, []journal.Position{at(2)}) {
		t.Fatalf("%v %v", w.released, err)
	}
}

func TestAFullJournalMakesRoomAndNeverSilently(t *testing.T) {
	w := newHold()
	w.archive = -1
	for n := 1; n <= 5; n++ {
		w.step(t, n*100, n)
	}
	w.used = 80
	if err := w.look(t.Context()); err != nil || w.warned != 1 || len(w.released) != 0 {
		t.Fatalf("warned %d, released %v, %v", w.warned, w.released, err)
	}
	w.used = 105
	if err := w.look(t.Context()); err != nil || w.gone != 2 || !slices.Equal(w.released, []journal.Position{at(1), at(2)}) {
		t.Fatalf("told %d, released %v, %v", w.gone, w.released, err)
	}
}

// Whatever comes in whatever order: nothing is released that is not archived,
// unless somebody is told.
func TestNothingUnarchivedIsEverReleasedSilently(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newHold()
		w.archive = -1
		lsn, n := 0, 0
		shippedAt := map[journal.Position]int{} // place in the log by which it was there
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				lsn, n = lsn+rapid.IntRange(1, 50).Draw(t, "log"), n+1
				w.lsn = lsn
				if rapid.Bool().Draw(t, "away") {
					w.lsn = -1
				}
				if rapid.Bool().Draw(t, "later") {
					w.apart()
				}
				shippedAt[at(n)] = lsn
				if err := w.Release(at(n)); err != nil {
					t.Fatal(err)
				}
			case 2:
				w.archive = max(w.archive, rapid.IntRange(-1, lsn).Draw(t, "archive"))
			case 3:
				w.lsn = lsn
				if err := w.look(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range w.released {
				if shippedAt[p] > w.archive {
					t.Fatalf("%v was written by %d and released at %d", p, shippedAt[p], w.archive)
				}
			}
		}
	})
}
