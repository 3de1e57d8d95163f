package scratch

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/missionopsai/foundry/internal/problem"
)

// Sentinel is a row that was written only to be found again.
type Sentinel struct {
	ID    int64     `json:"id"` // without gaps
	At    time.Time `json:"at"`
	LSN   string    `json:"lsn"` // of the write-ahead log, when it was written
	Nonce []byte    `json:"nonce"`
}

// sentinels compares the sentinels of the copy with those that were written,
// and returns the time of the newest that is right.
func (s *Server) sentinels(ctx context.Context, e *Expected) (Check, time.Time) {
	if len(e.Sentinels) == 0 {
		return unclear(CheckSentinels, "No sentinel is known that could be looked for."), time.Time{}
	}
	var have []Sentinel
	var n, span int64
	err := s.db.Read(ctx, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT count(*), coalesce(max(id) - min(id) + 1, 0) FROM backup_sentinels`).Scan(&n, &span); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT id, at, wal_lsn::text, nonce FROM backup_sentinels WHERE id >= $1 ORDER BY id`, e.Sentinels[0].ID)
		if err != nil {
			return err
		}
		have, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Sentinel])
		return err
	})
	if err != nil {
		if missing(err) {
			return fail(CheckSentinels, "The copy has no table of sentinels: it is empty, or of something else."), time.Time{}
		}
		return unclear(CheckSentinels, "The copy does not answer: %s", sentence(err)), time.Time{}
	}
	if n != span {
		return fail(CheckSentinels, "%d sentinels are missing in between: rows were lost.", span-n), time.Time{}
	}
	return compare(e, have)
}

// compare judges the sentinels that a copy has. Both lists are in order of id.
func compare(e *Expected, have []Sentinel) (c Check, newest time.Time) {
	for i := 1; i < len(e.Sentinels); i++ {
		if a, b := e.Sentinels[i-1], e.Sentinels[i]; b.At.Before(a.At) {
			return unclear(CheckSentinels, "The clock was moved back, from %s to %s: which rows a moment divides cannot be said. Ask for the latest point instead.", stamp(a.At), stamp(b.At)), newest
		}
	}
	reach := e.reach()
	if reach.IsZero() {
		return unclear(CheckSentinels, "Until when rows should be there is not known."), newest
	}
	got := map[int64]Sentinel{}
	for _, s := range have {
		got[s.ID] = s
	}
	wanted, found := 0, 0
	var lost *Sentinel
	for i, w := range e.Sentinels {
		g, ok := got[w.ID]
		if ok && !bytes.Equal(g.Nonce, w.Nonce) {
			return fail(CheckSentinels, "Sentinel %d is not the one that was written: the copy is of another history.", w.ID), newest
		}
		if ok && lost != nil {
			return fail(CheckSentinels, "Sentinel %d is there, but an earlier one of %s is not: rows were lost in between.", w.ID, stamp(lost.At)), newest
		}
		if ok {
			found, newest = found+1, w.At
			delete(got, w.ID)
		} else if lost == nil {
			lost = &e.Sentinels[i]
		}
		if !w.At.After(reach) {
			wanted++
		}
	}
	missing := 0
	for _, w := range e.Sentinels {
		if lost != nil && w.ID >= lost.ID && !w.At.After(reach) {
			missing++
		}
	}
	switch {
	case found == 0 && wanted > 0:
		return fail(CheckSentinels, "None of the %d sentinels that were written between %s and %s is there: the copy is stale or empty.", wanted, stamp(e.Sentinels[0].At), stamp(reach)), newest
	case missing > 0:
		return fail(CheckSentinels, "The newest sentinel is of %s; %d that were written until %s are lost, and the rows of that time with them.", stamp(newest), missing, stamp(reach)), newest
	case wanted == 0:
		return unclear(CheckSentinels, "No sentinel was written before %s: there is nothing to tell by.", stamp(reach)), newest
	case !e.At.IsZero() && newest.After(e.At):
		return fail(CheckSentinels, "The newest sentinel is of %s, after the moment that was asked for, %s.", stamp(newest), stamp(e.At)), newest
	case !e.At.IsZero() && newest.Before(reach.Add(-3*e.interval())):
		return unclear(CheckSentinels, "The last sentinel written before %s is of %s: what came in between cannot be told.", stamp(e.At), stamp(newest)), newest
	case len(got) > 0 && e.At.IsZero() && !onlyLater(got, e.Sentinels[len(e.Sentinels)-1]):
		return fail(CheckSentinels, "The copy has %d sentinels that nobody wrote: it is of another history.", len(got)), newest
	case len(got) > 0 && !e.At.IsZero():
		return fail(CheckSentinels, "The copy has %d sentinels that nobody wrote by then: it is of another history.", len(got)), newest
	}
	return pass(CheckSentinels, "All %d sentinels until %s are there, in order and without a gap; the newest is of %s.", wanted, stamp(reach), stamp(newest)), newest
}

// onlyLater reports whether sentinels were written after the last that is known.
func onlyLater(got map[int64]Sentinel, last Sentinel) bool {
	for id := range got {
		if id <= last.ID {
			return false
		}
	}
	return true
}

// missing reports an undefined table, schema or database.
func missing(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && (pe.Code == "42P01" || pe.Code == "3F000" || pe.Code == "3D000")
}

func sentence(err error) string {
	var p *problem.Error
	if errors.As(err, &p) {
		return p.Detail
	}
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Message + "."
	}
	return err.Error() + "."
}
