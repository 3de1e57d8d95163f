package backup

import (
	"fmt"
	"time"
)

// standing is what the verdict is made from: of one target of the database.
type standing struct {
	Target   string
	Points   int
	Last     *Drill    // of the database there
	Archived time.Time // what was written until then is there; zero: not known
	Gap      string    // a missing segment
	Failure  string    // why the target cannot be reached
}

// provenAt reports whether a target's last drill passed and still counts.
func (s *standing) proven(now time.Time, fresh time.Duration) bool {
	return s.Last != nil && s.Last.Outcome == Pass && s.Last.Ended != nil && now.Sub(*s.Last.Ended) <= fresh && s.Gap == "" && !s.Last.Ended.After(now.Add(time.Hour))
}

// judge answers "can I restore?", and how many seconds would be lost now;
// negative: nobody knows how many.
func judge(configured bool, all []standing, now time.Time, fresh time.Duration, rpo time.Duration) (Verdict, float64) {
	if !configured || len(all) == 0 {
		return Verdict{Outcome: Fail, Reason: "No. There is no target for backups: everything would be lost.", Next: "Name one under backup.targets in the configuration."}, -1
	}
	best, lose := -1, -1.0
	points := 0
	var failed, worst *standing
	for i := range all {
		s := &all[i]
		points += s.Points
		if s.Last != nil && s.Last.Outcome == Fail && failed == nil {
			failed = s
		}
		if s.Gap != "" && worst == nil {
			worst = s
		}
		if !s.proven(now, fresh) || s.Archived.IsZero() {
			continue
		}
		if l := max(0, now.Sub(s.Archived).Seconds()); best < 0 || l < lose {
			best, lose = i, l
		}
	}
	switch {
	case points == 0:
		return Verdict{Fail, "No. There is no backup yet: everything would be lost.", "foundry backup run"}, -1
	case best >= 0 && lose > rpo.Seconds():
		return Verdict{Fail, fmt.Sprintf("Only what is %s old: the archive at %s has not gone on since, and %s were promised.", inWords(lose), all[best].Target, rpo), "foundry backup status"}, lose
	case best >= 0:
		s := all[best]
		reason := fmt.Sprintf("Yes. A restore from %s was proven on %s; what was written until %s ago is archived there.", s.Target, stamp(*s.Last.Ended), inWords(lose))
		if failed != nil {
			reason += fmt.Sprintf(" The last drill from %s failed.", failed.Target)
		}
		return Verdict{Outcome: Pass, Reason: reason}, lose
	case failed != nil:
		return Verdict{Fail, fmt.Sprintf("No. The last drill from %s failed: %s", failed.Target, failed.Last.Reason), "foundry backup run --type full, then foundry backup drill"}, -1
	case worst != nil:
		return Verdict{Fail, fmt.Sprintf("Not beyond a gap: segment %s of the log is missing at %s.", worst.Gap, worst.Target), "foundry backup run --type full"}, -1
	}
	for _, s := range all {
		if s.Last != nil && s.Last.Outcome == Pass {
			return Verdict{Inconclusive, fmt.Sprintf("Nobody knows. The last proof is of %s: too long ago, or the archive is not seen since.", stamp(*s.Last.Ended)), "foundry backup drill"}, -1
		}
		if s.Last != nil {
			return Verdict{Inconclusive, "Nobody knows. The last drill proved nothing: " + s.Last.Reason, "foundry backup drill"}, -1
		}
	}
	return Verdict{Inconclusive, "Nobody knows. There are backups, but none was ever restored.", "foundry backup drill"}, -1
}

// inWords writes seconds for people.
func inWords(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < 2*time.Minute {
		return d.Round(time.Second).String()
	}
	if d < 2*time.Hour {
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
	if d < 48*time.Hour {
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
