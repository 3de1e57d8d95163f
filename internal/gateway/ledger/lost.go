package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/gateway/journal"
)

// Place is that of an event: in the journal of which node, and since which start.
type Place struct {
	Node int64 `json:"node"`
	Boot int64 `json:"boot"`
	Seq  int64 `json:"seq"`
}

// LostEvent is an event of the ledger that only a database that was left has.
type LostEvent struct {
	Place
	Kind         string    `json:"kind"` // request, outcome or refusal
	At           time.Time `json:"at"`
	Organisation uuid.UUID `json:"organisation"`
	CostNano     int64     `json:"cost_nano,omitempty"` // of an outcome; reserved, of a request without one
	Journal      bool      `json:"journal,omitempty"`   // the journal beside that database still has it: it is shipped when the node runs again
}

// Lost is what a database that was left has and the one that goes on lacks.
type Lost struct {
	Since         time.Time   `json:"since"`         // what is older was not compared
	Events        []LostEvent `json:"events"`        // the oldest first of each kind; see Count
	Count         int         `json:"count"`         // how many there are
	Replayed      int         `json:"replayed"`      // events since then that both have: journals shipped them again, or the backup had them
	Indeterminate []Place     `json:"indeterminate"` // requests that both have, whose outcome only the one that was left has
}

// The three kinds of events, as the old database lists them and the new one is
// asked for them: $1 is the time, $2 to $4 the last place. A request's outcome
// may stand in its own row.
var lostKinds = []struct{ kind, list, has string }{
	{"request", `SELECT node, boot, seq, admitted_at, organisation_id, coalesce(cost_nano, reserved_nano),
		ended_at IS NOT NULL OR EXISTS (SELECT FROM request_outcomes o WHERE (o.node, o.boot, o.seq) = (requests.node, requests.boot, requests.seq)) FROM requests WHERE admitted_at >= $1`,
		`SELECT r.node, r.boot, r.seq, r.ended_at IS NOT NULL OR EXISTS (SELECT FROM request_outcomes o WHERE (o.node, o.boot, o.seq) = (r.node, r.boot, r.seq)) FROM requests r`},
	{"outcome", `SELECT node, boot, seq, ended_at, organisation_id, cost_nano, true FROM request_outcomes WHERE ended_at >= $1`,
		`SELECT r.node, r.boot, r.seq, true FROM request_outcomes r`},
	{"refusal", `SELECT node, boot, seq, at, organisation_id, 0::bigint, true FROM refusals WHERE at >= $1`,
		`SELECT r.node, r.boot, r.seq, true FROM refusals r`},
}

// FindLost compares the ledgers of two databases from a moment on, and reads
// only. At most limit events are listed.
func FindLost(ctx context.Context, old, next *db.DB, since time.Time, limit int) (out Lost, err error) {
	out = Lost{Since: since.UTC(), Events: []LostEvent{}, Indeterminate: []Place{}}
	for _, k := range lostKinds {
		after := Place{Node: -1}
		for {
			page, done, err := listEvents(ctx, old, k.list, since, after)
			if err != nil {
				return out, fmt.Errorf("reading what was left: %w", err)
			}
			if len(page) == 0 {
				break
			}
			after = page[len(page)-1].Place
			has, err := hasEvents(ctx, next, k.has, page)
			if err != nil {
				return out, err
			}
			for i, e := range page {
				e.Kind = k.kind
				ended, there := has[e.Place]
				switch {
				case there && done[i] && !ended && len(out.Indeterminate) < limit:
					out.Indeterminate = append(out.Indeterminate, e.Place)
				case there:
					out.Replayed++
				default:
					if out.Count++; len(out.Events) < limit {
						out.Events = append(out.Events, e)
					}
				}
			}
		}
	}
	return out, nil
}

func listEvents(ctx context.Context, d *db.DB, list string, since time.Time, after Place) (out []LostEvent, done []bool, err error) {
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, list+` AND (node, boot, seq) > ($2, $3, $4) ORDER BY node, boot, seq LIMIT 5000`, since, after.Node, after.Boot, after.Seq)
		if err != nil {
			return err
		}
		for rows.Next() {
			var e LostEvent
			var ended bool
			if err := rows.Scan(&e.Node, &e.Boot, &e.Seq, &e.At, &e.Organisation, &e.CostNano, &ended); err != nil {
				return err
			}
			e.At = e.At.UTC()
			out, done = append(out, e), append(done, ended)
		}
		return rows.Err()
	})
	return out, done, err
}

// hasEvents says which of them a database has, and whether they have ended.
func hasEvents(ctx context.Context, d *db.DB, has string, page []LostEvent) (map[Place]bool, error) {
	var nodes, boots, seqs []int64
	for _, e := range page {
		nodes, boots, seqs = append(nodes, e.Node), append(boots, e.Boot), append(seqs, e.Seq)
	}
	out := map[Place]bool{}
	return out, d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, has+` JOIN unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS of (node, boot, seq) ON (r.node, r.boot, r.seq) = (of.node, of.boot, of.seq)`, nodes, boots, seqs)
		if err != nil {
			return err
		}
		for rows.Next() {
			var p Place
			var ended bool
			if err := rows.Scan(&p.Node, &p.Boot, &p.Seq, &ended); err != nil {
				return err
			}
			out[p] = ended
		}
		return rows.Err()
	})
}

// Tail is what a journal holds that a database does not have.
type Tail struct {
	Records  int         `json:"records"`
	Requests int         `json:"requests"` // admitted
	Outcomes int         `json:"outcomes"`
	Refusals int         `json:"refusals"`
	Open     int         `json:"open"`   // requests in it without an outcome: how they ended is in no place
	Events   []LostEvent `json:"events"` // at most as many as were asked for
	Damaged  bool        `json:"damaged,omitempty"`
}

// ReadTail reads, of a journal that nobody writes, what a database does not
// have, and notes which of the lost events are in it.
func ReadTail(ctx context.Context, j *journal.Journal, node uint32, d *db.DB, lost []LostEvent, limit int) (t Tail, err error) {
	t.Events = []LostEvent{}
	var has journal.Position
	if err := d.Read(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT boot, last_seq FROM journal_batches WHERE node = $1 ORDER BY boot DESC, last_seq DESC LIMIT 1`, int64(node)).Scan(&has.Boot, &has.Seq)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	}); err != nil {
		return t, err
	}
	wanted := map[string]map[Place]*LostEvent{"request": {}, "outcome": {}, "refusal": {}}
	for i := range lost {
		wanted[lost[i].Kind][lost[i].Place] = &lost[i]
	}
	open := map[Place]bool{}
	for at := (journal.Position{}); ; {
		n := 0
		next, err := j.Read(at, 4096, 8<<20, func(r journal.Entry) error {
			n++
			e, of, ok := eventOf(r)
			if !ok {
				t.Damaged = t.Damaged || e.Kind == "damaged"
				return nil
			}
			if l := wanted[e.Kind][of]; l != nil {
				l.Journal = true
			}
			if has.Before(journal.Position{Boot: r.Boot, Seq: r.Seq}) {
				t.add(e, of, open, limit)
			}
			return nil
		})
		if err != nil && !errors.Is(err, journal.ErrDamaged) {
			return t, err
		}
		t.Damaged = t.Damaged || err != nil
		if at = next; n == 0 && err == nil {
			t.Open = len(open)
			return t, nil
		}
	}
}

// eventOf is what a record says. of is the place that the ledger keeps it
// under: an outcome stands at that of its admission.
func eventOf(r journal.Entry) (e LostEvent, of Place, ok bool) {
	e.Place, e.Journal = Place{int64(r.Node), int64(r.Boot), int64(r.Seq)}, true //nolint:gosec // journals do not reach 2^63
	of = e.Place
	decoded, err := Decode(r.Record)
	if err != nil {
		e.Kind = "damaged"
		return e, of, false
	}
	switch x := decoded.(type) {
	case *Admission:
		e.Kind, e.At, e.Organisation, e.CostNano = "request", x.At.UTC(), x.Organisation, x.ReservedNano
	case *Outcome:
		e.Kind, e.At, e.CostNano = "outcome", x.At.UTC(), x.CostNano
		of.Seq = int64(x.Seq) //nolint:gosec // as above
		if x.Boot != 0 {
			of.Boot = int64(x.Boot)
		}
	case *Refusal:
		e.Kind, e.At, e.Organisation = "refusal", x.At.UTC(), x.Organisation
	default:
		return e, of, false
	}
	return e, of, true
}

func (t *Tail) add(e LostEvent, of Place, open map[Place]bool, limit int) {
	switch t.Records++; e.Kind {
	case "request":
		t.Requests++
		open[of] = true
	case "outcome":
		t.Outcomes++
		delete(open, of)
	case "refusal":
		t.Refusals++
	}
	if len(t.Events) < limit {
		t.Events = append(t.Events, e)
	}
}
