package backup

import (
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
)

// history is what the schedule knows of one subject at one target.
type history struct {
	LastDone  time.Time // end of the last backup that was made; zero: never
	LastFull  time.Time // end of the last full one
	LastTry   time.Time // start of the last run, however it ended
	Failures  int       // in a row
	Running   bool
	LastDrill time.Time // end of the last drill, whatever it proved
	Drills    int
}

// Bounds of trying again after a failure.
const (
	firstRetry = 5 * time.Minute
	lastRetry  = 2 * time.Hour
	drillRetry = 6 * time.Hour // after a drill that proved nothing
)

// retryAfter is how long the schedule waits after failures in a row.
func retryAfter(failures int) time.Duration {
	d := firstRetry
	for i := 1; i < failures && d < lastRetry; i++ {
		d *= 2
	}
	return min(d, lastRetry)
}

// slot is the last moment at which a daily backup was due.
func slot(now time.Time, daily time.Duration) time.Time {
	now = now.UTC()
	due := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC).Add(daily)
	if due.After(now) {
		due = due.AddDate(0, 0, -1)
	}
	return due
}

// due reports whether a backup is due now. One that never was is due at once:
// a node without a backup does not wait for the night. A clock that was set
// back does not make the schedule wait for it.
func due(h history, now time.Time, daily time.Duration) bool {
	if h.Running {
		return false
	}
	if h.Failures > 0 && !now.Before(h.LastTry) && now.Before(h.LastTry.Add(retryAfter(h.Failures))) {
		return false
	}
	return h.LastDone.IsZero() || h.LastDone.Before(slot(now, daily)) || h.LastDone.After(now.Add(time.Hour))
}

// next is when the next backup is due.
func next(h history, now time.Time, daily time.Duration) time.Time {
	if due(h, now, daily) {
		return now
	}
	if h.Failures > 0 {
		return h.LastTry.Add(retryAfter(h.Failures))
	}
	return slot(now, daily).AddDate(0, 0, 1)
}

// typeFor chooses how much the next backup of the database holds.
func typeFor(h history, now time.Time, fullEvery int) engine.Type {
	// Half a day of slack: a full backup that took long last week must not
	// turn this week's into a differential one.
	if h.LastFull.IsZero() || now.Sub(h.LastFull) > time.Duration(fullEvery)*24*time.Hour-12*time.Hour || h.LastFull.After(now) {
		return engine.Full
	}
	return engine.Differential
}

// drillDue reports whether a drill is due.
func drillDue(h history, now time.Time, every time.Duration, proven bool) bool {
	if h.LastDone.IsZero() || h.Running {
		return false // there is nothing to restore, or it is being made
	}
	if h.LastDrill.IsZero() || h.LastDrill.After(now.Add(time.Hour)) {
		return true
	}
	if !proven {
		every = min(every, drillRetry)
	}
	return now.Sub(h.LastDrill) >= every
}

// whichNext rotates through what drills restore.
func whichNext(drills int) Which {
	return []Which{Latest, Random, Oldest}[drills%3]
}

// missed reports how long a backup is overdue; zero: it is not. An hour is
// what a backup may take before somebody is told.
func missed(h history, now time.Time, daily time.Duration, began time.Time) time.Duration {
	const grace = time.Hour
	at := slot(now, daily)
	if !h.LastDone.IsZero() && !h.LastDone.Before(at) {
		return 0
	}
	if h.LastDone.IsZero() {
		at = began
	}
	if late := now.Sub(at); late > grace {
		return late
	}
	return 0
}
