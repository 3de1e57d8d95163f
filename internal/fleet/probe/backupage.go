package probe

import (
	"context"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

// backupAge asks the node for the newest backup. One that nobody has restored
// proves nothing, and passes only where the target says that it may.
func (l *look) backupAge(ctx context.Context) finding {
	name := l.t.Rest
	if l.env.Backup == nil {
		return unknown(NotAvailable, "This node does not know of backups.")
	}
	b, err := l.env.Backup(ctx, name)
	if err != nil {
		code, why := classify(err)
		if code == Protocol {
			why = "this node could not say"
		}
		return unknown(NotAvailable, "It is not known how old the backup %s is: %s.", name, why)
	}
	most := l.t.span("max", 26*time.Hour)
	age := l.env.now().Sub(b.At)
	if !b.At.IsZero() {
		l.fact("point", b.At.UTC().Format(time.RFC3339))
	}
	l.fact("note", b.Words)
	switch {
	case b.At.IsZero():
		return bad(TooOld, "There is no backup %s.", name)
	case age < -5*time.Minute:
		return unknown(NotAvailable, "The newest backup %s is from the future: a clock is wrong.", name)
	case age > most:
		return bad(TooOld, "The newest backup %s is %s old; %s is allowed.", name, plan.FormatDuration(age.Truncate(time.Minute)), plan.FormatDuration(most))
	case !b.Proven && l.t.word("proven", "yes") == "yes":
		return unknown(Unproven, "The newest backup %s is %s old, and nothing shows that it can be restored.", name, plan.FormatDuration(max(age, 0).Truncate(time.Minute)))
	case !b.Proven:
		return good("The newest backup %s is %s old; nothing shows that it can be restored.", name, plan.FormatDuration(max(age, 0).Truncate(time.Minute)))
	}
	return good("The newest backup %s that is proven to work is %s old.", name, plan.FormatDuration(max(age, 0).Truncate(time.Minute)))
}
