package scratch

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
)

// Expected is what a copy is compared with. All of it comes from outside the
// copy: from the running database, or from notes that were kept elsewhere.
type Expected struct {
	At        time.Time     // the moment that was asked for; zero: the end of what there is
	Reach     time.Time     // everything written until then has to be there; zero: At, less what a commit takes
	Interval  time.Duration // between sentinels; 0: SentinelEvery
	Slack     time.Duration // what a commit may take; 0: 5 s
	Sentinels []Sentinel    // as written, in order of their ids; those after At too
	Notes     []Note        // row counts, in order of time
	Archive   Archive       // of the repository
	StartWAL  string        // with which the restored backup begins
	ReachLSN  string        // how far the archive had come
	Checks    []Hook        // further checks, made while the copy runs
}

// SentinelEvery is how often a sentinel is written.
const SentinelEvery = 10 * time.Second

// commitSlack is how long a transaction may take from the time that its row
// carries until its commit.
const commitSlack = 5 * time.Second

// Hook is a check that somebody else knows how to make.
type Hook struct {
	Name string
	Look func(ctx context.Context, copy *db.DB, recovered time.Time) (Outcome, string, error)
}

func (e *Expected) interval() time.Duration {
	if e.Interval > 0 {
		return e.Interval
	}
	return SentinelEvery
}

func (e *Expected) slack() time.Duration {
	if e.Slack > 0 {
		return e.Slack
	}
	return commitSlack
}

// reach is until when everything has to be there.
func (e *Expected) reach() time.Time {
	if e.Reach.IsZero() && !e.At.IsZero() {
		return e.At.Add(-e.slack())
	}
	return e.Reach
}

// Prove looks at a running copy in every way there is, and stops it: the last
// check is of the pages in its files. say may be nil.
func (s *Server) Prove(ctx context.Context, e Expected, say func(what string)) (p Proof, err error) {
	if say == nil {
		say = func(string) {}
	}
	began := time.Now()
	look := func(name string, do func() Check) {
		say(name)
		at := time.Now()
		c := do()
		c.Name, c.Seconds = name, time.Since(at).Seconds()
		p.Checks = append(p.Checks, c)
	}
	required := []string{CheckLog, CheckSentinels, CheckReplay, CheckRows}
	look(CheckLog, func() Check { return e.Archive.Check(e.StartWAL, e.ReachLSN) })
	look(CheckSentinels, func() Check {
		c, newest := s.sentinels(ctx, &e)
		p.Recovered = newest
		return c
	})
	var replayed time.Time
	look(CheckReplay, func() (c Check) {
		c, replayed = s.replay(ctx, &e, p.Recovered)
		return c
	})
	look(CheckRows, func() Check {
		c, rows, tables := s.rows(ctx, &e, p.Recovered, replayed)
		p.Rows, p.Tables = rows, tables
		return c
	})
	for _, h := range e.Checks {
		required = append(required, h.Name)
		look(h.Name, func() Check { return hook(ctx, h, s.db, p.Recovered) })
	}
	required = append(required, CheckPages)
	look(CheckPages, func() Check { return s.pages(ctx) })
	if ctx.Err() != nil {
		return p, ctx.Err()
	}
	p.Seconds = time.Since(began).Seconds()
	p.Settle(required...)
	return p, nil
}

func hook(ctx context.Context, h Hook, copy *db.DB, recovered time.Time) Check {
	outcome, reason, err := h.Look(ctx, copy, recovered)
	if err != nil {
		return unclear(h.Name, "It could not be looked at: %s", sentence(err))
	}
	return Check{Name: h.Name, Outcome: outcome, Reason: reason}
}

// replay compares the time of the last transaction that was replayed, and
// returns it. Where none follows the backup in the log, the newest sentinel
// says how far the copy came: it was committed no later.
func (s *Server) replay(ctx context.Context, e *Expected, sentinel time.Time) (Check, time.Time) {
	var at *time.Time
	var recovering bool
	err := s.db.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT pg_last_xact_replay_timestamp(), pg_is_in_recovery()`).Scan(&at, &recovering)
	})
	switch {
	case err != nil:
		return unclear(CheckReplay, "The copy does not say how far it came: %s", sentence(err)), time.Time{}
	case recovering:
		return unclear(CheckReplay, "The copy is still replaying."), time.Time{}
	case at == nil && sentinel.IsZero():
		return unclear(CheckReplay, "The copy replayed no transaction: it is as old as the backup itself."), time.Time{}
	case at == nil:
		c := judgeReplay(e, sentinel)
		c.Reason = "No transaction follows the backup in the log; its newest sentinel counts. " + c.Reason
		return c, sentinel
	}
	return judgeReplay(e, *at), *at
}

func judgeReplay(e *Expected, at time.Time) Check {
	switch reach := e.reach(); {
	case reach.IsZero():
		return unclear(CheckReplay, "The copy came to %s, but how far it should come is not known.", stamp(at))
	case at.Before(reach.Add(-e.interval() - e.slack())):
		return fail(CheckReplay, "The copy came to %s only, and the log had reached %s.", stamp(at), stamp(reach))
	case !e.At.IsZero() && at.After(e.At):
		return fail(CheckReplay, "The copy came to %s, later than the moment that was asked for, %s.", stamp(at), stamp(e.At))
	default:
		return pass(CheckReplay, "The last transaction replayed is of %s.", stamp(at))
	}
}

// pages stops the copy and looks at every page of its files.
func (s *Server) pages(ctx context.Context) Check {
	if err := s.Stop(ctx); err != nil {
		return unclear(CheckPages, "The copy could not be stopped: %s", sentence(err))
	}
	out, err := s.cluster.Program(ctx, "pg_controldata", "-D", s.cluster.DataDir())
	if c := judgeControl(out, err); c.Outcome != Pass {
		return c
	}
	return judgePages(s.files.finish(ctx))
}

// judgeControl says whether the files are those of a server that was shut down
// and keeps checksums of its pages, from what pg_controldata writes.
func judgeControl(out string, err error) Check {
	values := map[string]string{}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(line, ":")
		values[name] = strings.TrimSpace(value)
	}
	version := values["Data page checksum version"]
	switch {
	case err != nil || version == "" || strings.Contains(out, "WARNING"):
		return unclear(CheckPages, "pg_controldata cannot read what the copy says of itself: %s", lastLine(out, err))
	case !strings.HasPrefix(values["Database cluster state"], "shut down"):
		return unclear(CheckPages, "The copy was not shut down: it says %q.", values["Database cluster state"])
	case version != "1":
		return unclear(CheckPages, "The database keeps no checksums of its pages, or of a kind that is not known (%s).", version)
	case values["Database block size"] != strconv.Itoa(pageBytes) || values["Blocks per segment of large relation"] != strconv.Itoa(segmentPages):
		return unclear(CheckPages, "The pages or files of this PostgreSQL are not of the usual size.")
	}
	return pass(CheckPages, "It was shut down, and keeps checksums.")
}

func judgePages(r result) Check {
	switch {
	case r.bad > 0:
		return fail(CheckPages, "%d of %d pages do not match their checksums; the first is %s.", r.bad, r.pages, r.first)
	case r.err != nil:
		return unclear(CheckPages, "The pages could not all be read: %s", sentence(r.err))
	case r.pages == 0:
		return unclear(CheckPages, "There is no page.")
	}
	return pass(CheckPages, "All %d pages match their checksums.", r.pages)
}

func lastLine(out string, err error) string {
	out = strings.TrimSpace(out)
	line := out[strings.LastIndexByte(out, '\n')+1:]
	if line == "" && err != nil {
		line = err.Error()
	}
	if len(line) > 200 {
		line = line[:200]
	}
	return strings.TrimSuffix(fmt.Sprintf("%q", line), ".") + "."
}
