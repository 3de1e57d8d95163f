package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/gateway/journal"
	"github.com/missionopsai/foundry/internal/problem"
)

// orient finds out where to go on: at start, and after a transaction whose end
// is not known.
func (s *Shipper) orient(ctx context.Context) error {
	if s.known && !s.unsure {
		return nil
	}
	at, err := s.shipped(ctx)
	if err != nil {
		return fmt.Errorf("asking what was shipped: %w", err)
	}
	switch {
	case s.known && at == s.at: // it did not commit
		s.unsure = false
		return nil
	case s.known && at == s.batch.to && s.batch.from == s.at: // it did
		s.advance()
		return nil
	}
	if at.Boot > s.o.Boot || at.Boot == s.o.Boot && at.Seq > s.journal.Durable() {
		return problem.New(problem.Conflict, "journal-behind", fmt.Sprintf(
			"The database has records of node %d up to boot %d, sequence %d, which are not in this journal.", s.o.Node, at.Boot, at.Seq)).
			WithMend("The journal's directory was replaced or restored, or two nodes have the same number. Start with a higher boot number, or give this node a new number; nothing is shipped until then.")
	}
	open := requests{}
	var d decoder
	d.names = map[string]string{}
	if err := scan(ctx, s.journal, at, func(e *journal.Entry) { open.follow(&d, e) }); err != nil {
		return fmt.Errorf("reading what was shipped: %w", err)
	}
	s.reportDamage()
	s.at, s.open, s.known, s.unsure, s.aside = at, open, true, false, ""
	s.release() // what an earlier boot shipped and did not live to release
	return nil
}

// shipped returns the last place that the database has.
func (s *Shipper) shipped(ctx context.Context) (journal.Position, error) {
	var boot, seq int64
	err := s.db.Ship(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT boot, last_seq FROM journal_batches WHERE node = $1
			ORDER BY node DESC, boot DESC, first_seq DESC LIMIT 1`, int64(s.o.Node)).Scan(&boot, &seq)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return journal.Position{Boot: uint32(boot), Seq: uint64(seq)}, err
}

// reportDamage logs damage to the journal that it has not logged before.
func (s *Shipper) reportDamage() {
	list := s.journal.Stats().Damaged
	for _, d := range list[min(s.damaged, len(list)):] {
		s.o.Log.Error("part of the journal is damaged: what it held is lost to the ledger, and the file is kept",
			"segment", d.Segment, "boot", d.Boot, "offset", d.Offset, "bytes", d.Bytes, "first", d.First, "last", d.Last, "detail", d.Detail)
	}
	s.damaged = len(list)
}

// scan replays the journal from its oldest record up to a place. It passes over
// what is damaged: the journal's Stats keep the list.
func scan(ctx context.Context, j *journal.Journal, to journal.Position, fn func(*journal.Entry)) error {
	const records, bytes = 10_000, 4 << 20
	at, done := journal.Position{}, false
	for !done {
		if err := ctx.Err(); err != nil {
			return err
		}
		next, err := j.Read(at, records, bytes, func(e journal.Entry) error {
			if to.Before(journal.Position{Boot: e.Boot, Seq: e.Seq}) {
				done = true
				return nil
			}
			fn(&e)
			return nil
		})
		if err != nil && !errors.Is(err, journal.ErrDamaged) {
			return err
		}
		done = done || next == at && err == nil
		at = next
	}
	return nil
}

// fold asks the database to fold the usage of past hours, now and then.
func (s *Shipper) fold(ctx context.Context) {
	s.shipping.Lock()
	defer s.shipping.Unlock()
	now := s.o.Now()
	if now.Sub(s.folded) < 30*time.Minute {
		return
	}
	s.folded = now
	err := s.db.Ship(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT ledger_fold(now() - interval '3 hours')`)
		return err
	})
	if err != nil && ctx.Err() == nil {
		s.o.Log.Warn("folding past usage failed; it is tried again later", "error", err)
	}
}

// Sweep writes the outcome "unknown" for every admission of an earlier boot
// that has none, and returns how many there were once they are durable. What
// was reserved for them stays spent: nobody knows what they cost. Call it once
// after opening the journal; it may run while the node serves.
//
// It happens exactly once for each admission: the journal keeps an admission
// until its outcome is shipped, and outcomes lie behind their admissions. After
// an error it may be called again: what became durable is not written twice.
func Sweep(ctx context.Context, j *journal.Journal, boot uint32, now time.Time) (int, error) {
	open := requests{}
	var d decoder
	d.names = map[string]string{}
	end := journal.Position{Boot: boot, Seq: j.Durable()}
	if err := scan(ctx, j, end, func(e *journal.Entry) { open.follow(&d, e) }); err != nil {
		return 0, fmt.Errorf("looking for requests without an outcome: %w", err)
	}
	var tickets []journal.Ticket
	for _, at := range open.sorted() {
		if at.Boot >= boot {
			continue
		}
		r := open[at]
		o := Outcome{
			Seq: at.Seq, Boot: at.Boot, At: now, Result: Unknown, Provider: r.provider, ProviderModel: r.providerModel,
			CostNano: r.reserved, Held: true,
		}
		ticket, err := appendPatiently(ctx, j, AppendOutcome(nil, &o))
		if err != nil {
			return 0, fmt.Errorf("writing the outcome of record %d of boot %d: %w", at.Seq, at.Boot, err)
		}
		tickets = append(tickets, ticket)
	}
	for _, t := range tickets {
		if err := t.Wait(ctx); err != nil {
			return 0, fmt.Errorf("writing unknown outcomes: %w", err)
		}
	}
	return len(tickets), nil
}

// appendPatiently waits while the journal's memory is full.
func appendPatiently(ctx context.Context, j *journal.Journal, record []byte) (journal.Ticket, error) {
	for {
		t, err := j.Append(record)
		if !errors.Is(err, journal.ErrOverloaded) || ctx.Err() != nil {
			return t, err
		}
		wait(ctx, time.Millisecond)
	}
}
