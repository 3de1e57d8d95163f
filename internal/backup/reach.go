package backup

import (
	"context"
	"fmt"
	"time"

	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// A server is asked again and again whether it answers. One that goes is tried
// once more at the next look before people are told, which is then within
// reachEvery, twice reachBound and a look: about a minute. Of a directory
// watchAway knows at every look.
const (
	reachEvery = 30 * time.Second
	reachBound = 10 * time.Second
	reachTries = 2
)

// reach is what is known of whether a server answers.
type reach struct {
	at      time.Time // of the last look
	looking bool
	failed  int            // looks in a row
	why     *problem.Error // of the last of them
}

// unanswered is why a server cannot be used now; nil: it answers, as far as is known.
func (b *Backups) unanswered(target string) *problem.Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.reached[target]; r.failed >= reachTries {
		return r.why
	}
	return nil
}

// watchServers looks whether servers answer, beside each other, and without
// waiting for them.
func (b *Backups) watchServers(ctx context.Context) {
	for _, t := range b.o.Targets {
		if t.Kind == target.Directory {
			continue
		}
		now := b.o.Clock()
		b.mu.Lock()
		r := b.reached[t.Name]
		wait := reachEvery
		if r.failed > 0 && r.failed < reachTries {
			wait = 0
		}
		due := !r.looking && (r.at.IsZero() || now.Sub(r.at) >= wait || now.Before(r.at))
		if due {
			r.at, r.looking = now, true
			b.reached[t.Name] = r
		}
		b.mu.Unlock()
		if due {
			b.o.Background(func() { b.reachOut(ctx, t) })
		}
	}
}

// reachOut asks one server, and notes when it goes and when it is back.
func (b *Backups) reachOut(ctx context.Context, t target.Target) {
	err := reaches(ctx, t)
	b.mu.Lock()
	r := b.reached[t.Name]
	was := r.failed
	r.looking = false
	switch {
	case ctx.Err() != nil: // the process ends
	case err != nil:
		r.failed, r.why = r.failed+1, problem.From(err)
	default:
		r.failed, r.why = 0, nil
	}
	b.reached[t.Name] = r
	back := was >= reachTries && r.failed == 0
	if back {
		b.forget(t.Name)
	}
	b.mu.Unlock()
	switch {
	case back:
		b.o.Log.Info("a target of backups answers again", "target", t.Name)
		b.resolved("backup-target-failing", t.Name)
	case was < reachTries && r.failed >= reachTries:
		b.o.Log.Error("a target of backups does not answer", "target", t.Name, "code", r.why.Code, "detail", r.why.Detail, "mend", r.why.Mend)
	}
}

// reaches asks a server for something that costs it nothing. nil: it answers,
// and knows this node.
func reaches(ctx context.Context, t target.Target) error {
	bound, cancel := context.WithTimeout(ctx, reachBound)
	defer cancel()
	store, err := t.Store(bound)
	if err == nil {
		_, err = store.List(bound, "foundry-reach/")
		_ = store.Close()
	}
	if err != nil && problem.From(err).Code == "target-file-missing" {
		return nil // an SFTP server on which the first backup makes the directory
	}
	if err != nil && bound.Err() != nil {
		return problem.New(problem.Unavailable, "target-gone", fmt.Sprintf("The target %s did not answer within %s.", t.Name, reachBound)).
			WithMend("Check that it runs, and the network on the way. Until then WAL collects in the database's directory, and nothing of it is lost.").Wrap(err)
	}
	return err
}

// forget has what was known of a target looked at anew, and the schedule not
// wait for its next try. The caller holds the lock.
func (b *Backups) forget(target string) {
	delete(b.seen, target)
	w := b.watched[target]
	w.Seen, w.Failure = time.Time{}, ""
	b.watched[target] = w
	b.back[target] = b.o.Clock()
}
