package backup

import (
	"context"
	"time"
)

// Measured is what drills and the archive have shown, for those who reckon
// with it: no assumption is in it.
type Measured struct {
	Rate   float64       // bytes a second, of the last restore that passed; 0: not known
	Replay time.Duration // of the log, in that restore
	Proven time.Time     // the newest moment from which nothing would be lost; zero: nothing is proven
}

// Measured says what was measured, for the node itself.
func (b *Backups) Measured(ctx context.Context) (m Measured, err error) {
	s, err := b.status(ctx)
	if err != nil {
		return m, err
	}
	if d := s.LastPassed; d != nil && d.Restore > 0 {
		m.Rate = float64(d.Bytes) / d.Restore
		m.Replay = seconds(max(0, d.Recovery-d.Restore))
	}
	if s.WouldLose >= 0 {
		m.Proven = s.At.Add(-seconds(s.WouldLose))
	}
	return m, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
