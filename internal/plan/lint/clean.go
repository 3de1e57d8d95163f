package lint

import (
	"fmt"
	"slices"

	"github.com/missionopsai/foundry/internal/plan"
)

// soonest is the function with the shortest recovery time, or nil.
func (c *Context) soonest() (f *plan.Function, path string) {
	for i := range c.Functions {
		x := &c.Functions[i]
		if x.RTO.Known() && (f == nil || sooner(x, f)) {
			f, path = x, at("functions", i, "rto")
		}
	}
	return f, path
}

func rootCauseUnbounded(c *Context) {
	s := &c.Security
	if s.RestoreNeeds != "root-cause" {
		return
	}
	f, path := c.soonest()
	promised, also := "", []string(nil)
	if f != nil {
		promised, also = fmt.Sprintf("; function %q is promised back within %s", f.Name, f.RTO), []string{path}
	}
	switch {
	case !s.RootCauseWithin.Known():
		c.Report("security.restore_after", "security", "After a security incident nothing is restored before its root cause is known, for which there is no time limit%s.", promised).With(also...)
	case f != nil && s.RootCauseWithin.Longest() >= f.RTO.Longest():
		c.Report("security.root_cause_within", "security", "After a security incident nothing is restored before its root cause is known, which may take %s%s.", s.RootCauseWithin, promised).
			With(also...).As(Warning)
	}
}

// retention is how far back a backup reaches: what is promised at least, else
// the most there can be.
func retention(b *plan.Backup) (kept plan.Span, field string) {
	for _, r := range []struct {
		span  plan.Span
		field string
	}{{b.KeepAtLeast, "keep_at_least"}, {b.DeleteAfter, "delete_after"}, {b.Keep, "keep"}} {
		if r.span.Known() {
			return r.span, r.field
		}
	}
	return plan.Span{}, ""
}

func dwellExceedsRetention(c *Context) {
	dwell := c.Security.DwellTime
	if !dwell.Known() {
		c.dwellUnknown()
		return
	}
	for i := range c.Backups {
		b := &c.Backups[i]
		if kept, field := retention(b); field != "" && kept.Longest() < dwell.Longest() && !c.keptLonger(b, dwell) {
			c.Report(at("backups", i, field), about("backup", b.Name), "Backup %q reaches back %s, and an intruder may have been there unseen for %s.", b.Name, kept, dwell).With("security.dwell_time")
		}
	}
}

// keptLonger reports whether another backup of the same things reaches far
// enough back.
func (c *Context) keptLonger(b *plan.Backup, dwell plan.Span) bool {
	return slices.ContainsFunc(c.Backups, func(x plan.Backup) bool {
		kept, field := retention(&x)
		return field != "" && kept.Longest() >= dwell.Longest() && contains(x.Functions, b.Functions) && contains(x.Data, b.Data) && len(b.Functions)+len(b.Data) > 0
	})
}

func contains(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// dwellUnknown reports a plan that restores after an intrusion and does not
// say how old a backup must be to be clean.
func (c *Context) dwellUnknown() {
	where := "security.restore_after"
	if c.Security.RestoreNeeds == "" {
		i := slices.IndexFunc(c.Scenarios, func(s plan.Scenario) bool { return s.Kind == "security" })
		if i < 0 {
			return
		}
		where = at("scenarios", i)
	}
	var shortest plan.Span
	var paths []string
	for i := range c.Backups {
		kept, field := retention(&c.Backups[i])
		if field == "" {
			continue
		}
		paths = append(paths, at("backups", i, field))
		if shortest.IsZero() || kept.Longest() < shortest.Longest() || kept.Longest() == shortest.Longest() && kept.String() < shortest.String() {
			shortest = kept
		}
	}
	if len(paths) == 0 {
		return
	}
	c.Report(where, "dwell time", "Backups reach back %s, and nothing says how long an intruder may have been there unseen: whether any of them is clean cannot be judged.", shortest).
		Saying("Write dwell_time: how long an intruder could go unseen with what you watch, and keep some backups longer than that.").With(paths...).As(Warning)
}
