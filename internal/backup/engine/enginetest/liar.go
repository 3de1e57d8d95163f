package enginetest

import (
	"context"
	"os"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
)

// Lie is what a lying engine does.
type Lie int

// Lies, each of which a real program has told.
const (
	// Nothing: Backup does nothing and reports a point, and Restore of it does
	// nothing and reports success.
	Nothing Lie = iota + 1
	// Empty: backups are real, but Restore leaves an empty directory.
	Empty
	// Stale: backups are real, but Restore brings back the oldest, whatever is
	// asked for, and says that it was the one asked for.
	Stale
	// Forgetful: Points goes on listing what the repository has lost.
	Forgetful
	// Blind: Check finds every repository good.
	Blind
)

// Liar is an engine that reports success and lies. Whoever trusts what an
// engine says takes it for a good one; only what is restored tells.
type Liar struct {
	engine.Engine // a real one, for what it does not lie about
	Lie           Lie
	Now           func() time.Time

	invented []engine.Point
	listed   []engine.Point
}

// Backup makes a backup, or says so.
func (l *Liar) Backup(ctx context.Context, t target.Target, r engine.BackupRequest, p engine.Progress) (engine.Point, error) {
	if l.Lie != Nothing {
		return l.Engine.Backup(ctx, t, r, p)
	}
	now := time.Now
	if l.Now != nil {
		now = l.Now
	}
	at := now().UTC().Truncate(time.Second)
	p.Tell(0, 100<<20, "database")
	p.Tell(100<<20, 100<<20, "database")
	point := engine.Point{Engine: l.Name(), Target: t.Name, Label: at.Format("20060102-150405") + "F", Type: engine.Full,
		Started: at.Add(-time.Second), Stopped: at, Bytes: 100 << 20, Stored: 20 << 20, Timeline: 1,
		StartWAL: "000000010000000000000002", StopWAL: "000000010000000000000002", StartLSN: "0/2000028", StopLSN: "0/2000100"}
	l.invented = append(l.invented, point)
	return point, nil
}

// Points lists what there is, or what there ever was.
func (l *Liar) Points(ctx context.Context, t target.Target) ([]engine.Point, error) {
	if l.Lie == Nothing {
		return l.invented, nil
	}
	points, err := l.Engine.Points(ctx, t)
	if l.Lie != Forgetful {
		return points, err
	}
	if err == nil && len(points) >= len(l.listed) {
		l.listed = points
	}
	return l.listed, nil
}

// Restore restores, or says so.
func (l *Liar) Restore(ctx context.Context, t target.Target, r engine.RestoreRequest, p engine.Progress) (engine.Restored, error) {
	switch l.Lie {
	case Nothing, Empty:
		points, err := l.Points(ctx, t)
		if err != nil || len(points) == 0 {
			return engine.Restored{}, err
		}
		said := engine.Restored{Point: asked(points, r), Took: time.Second, Files: 967, Said: []string{"restore command end: completed successfully"}}
		said.Bytes = said.Point.Bytes
		return said, os.MkdirAll(r.To, 0o700)
	case Stale:
		points, err := l.Engine.Points(ctx, t)
		if err != nil || len(points) == 0 {
			return engine.Restored{}, err
		}
		pretended := asked(points, r)
		// As it was when the oldest backup was complete.
		done, err := l.Engine.Restore(ctx, t, engine.RestoreRequest{Label: points[0].Label, Time: staleTime(points[0]), To: r.To}, p)
		done.Point = pretended
		return done, err
	}
	return l.Engine.Restore(ctx, t, r, p)
}

func staleTime(p engine.Point) time.Time {
	if p.StopWAL == "" {
		return time.Time{} // files have no time but that of the point
	}
	if p.Stopped.Nanosecond() == 0 { // in whole seconds: it was complete at any moment of the next
		return p.Stopped.Add(time.Second)
	}
	return p.Stopped.Add(time.Millisecond)
}

func asked(points []engine.Point, r engine.RestoreRequest) engine.Point {
	for _, p := range points {
		if p.Label == r.Label {
			return p
		}
	}
	return points[len(points)-1]
}

// Check checks, or says so.
func (l *Liar) Check(ctx context.Context, t target.Target, p engine.Progress) error {
	if l.Lie == Blind || l.Lie == Nothing {
		return nil
	}
	return l.Engine.Check(ctx, t, p)
}

// Prepare prepares, or says so.
func (l *Liar) Prepare(ctx context.Context, t target.Target) error {
	if l.Lie == Nothing {
		return nil
	}
	return l.Engine.Prepare(ctx, t)
}

// Name is that of the real engine.
func (l *Liar) Name() string {
	if l.Engine == nil {
		return "pgbackrest"
	}
	return l.Engine.Name()
}
