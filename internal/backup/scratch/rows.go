package scratch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
)

// Note is how many rows each table had at a moment.
type Note struct {
	At    time.Time        `json:"at"`       // when the count began, by the database's clock
	Until time.Time        `json:"until_at"` // and ended: rows of the time in between may be in it or not
	LSN   string           `json:"lsn"`
	Rows  map[string]int64 `json:"rows"` // by table
	// Grows are the tables from which no role may delete: between two notes
	// they have at least as many rows as in the first, and at most as many as
	// in the second. Others may have any number.
	Grows []string `json:"grows"`
}

// Total is the number of rows in all tables.
func (n *Note) Total() (sum int64) {
	for _, rows := range n.Rows {
		sum += rows
	}
	return sum
}

// atOnce is how many tables are counted at a time.
const atOnce = 2

// Count counts the rows of every table, as the reader sees them.
func Count(ctx context.Context, d *db.DB) (Note, error) {
	n := Note{Rows: map[string]int64{}}
	var tables []string
	err := d.Read(ctx, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT clock_timestamp(), (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text`).Scan(&n.At, &n.LSN); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT c.relname, NOT EXISTS (
				SELECT FROM pg_roles r WHERE r.rolname IN ('foundry_app', 'foundry_shipper', 'foundry_sequencer', 'foundry_reader') AND has_table_privilege(r.oid, c.oid, 'DELETE'))
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = 'public' AND c.relkind = 'r' ORDER BY pg_relation_size(c.oid) DESC, c.relname`)
		if err != nil {
			return err
		}
		var name string
		var grows bool
		_, err = pgx.ForEachRow(rows, []any{&name, &grows}, func() error {
			tables = append(tables, name)
			if grows {
				n.Grows = append(n.Grows, name)
			}
			return nil
		})
		return err
	})
	if err != nil {
		return n, fmt.Errorf("listing the tables: %w", err)
	}
	slices.Sort(n.Grows)
	if err := countAll(ctx, d, tables, n.Rows); err != nil {
		return n, err
	}
	err = d.Read(ctx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&n.Until) })
	return n, err
}

// countAll counts tables, a few at a time, the largest first.
func countAll(ctx context.Context, d *db.DB, tables []string, into map[string]int64) error {
	var mu sync.Mutex
	var first error
	next := 0
	take := func() (string, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == len(tables) || first != nil {
			return "", false
		}
		next++
		return tables[next-1], true
	}
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for table, ok := take(); ok; table, ok = take() {
				var rows int64
				err := d.Read(ctx, func(tx pgx.Tx) error {
					return tx.QueryRow(ctx, `SELECT count(*) FROM public.`+pgx.Identifier{table}.Sanitize()).Scan(&rows)
				})
				mu.Lock()
				if err != nil && first == nil {
					first = fmt.Errorf("counting the rows of %s: %w", table, err)
				}
				into[table] = rows
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return first
}

// rows counts the copy, and compares.
func (s *Server) rows(ctx context.Context, e *Expected, recovered, replayed time.Time) (c Check, rows int64, tables int) {
	have, err := Count(ctx, s.db)
	if err != nil {
		// A page that cannot be read is found here first.
		return fail(CheckRows, "The tables of the copy cannot be read: %s", sentence(err)), 0, 0
	}
	if replayed.Before(recovered) {
		replayed = recovered
	}
	return compareRows(e.Notes, have, recovered, replayed.Add(e.slack())), have.Total(), len(have.Rows)
}

// few is how many rows a table that may shrink has to have had for its being
// empty to say something.
const few = 10

// compareRows judges the counts of a copy by the notes before and after what it
// came to: everything until recovered is in it, and nothing after until.
func compareRows(notes []Note, have Note, recovered, until time.Time) Check {
	var before, after *Note
	for i := range notes {
		switch n := &notes[i]; {
		case !n.Until.After(recovered):
			before = n
		case n.At.After(until) && after == nil:
			after = n
		}
	}
	if len(have.Rows) == 0 {
		return fail(CheckRows, "The copy has no table.")
	}
	if before == nil || recovered.IsZero() {
		return unclear(CheckRows, "No count of rows is known from before the recovered moment.")
	}
	var wrong []string
	compared := 0
	for _, table := range slices.Sorted(maps.Keys(before.Rows)) {
		was := before.Rows[table]
		is, ok := have.Rows[table]
		grows := slices.Contains(before.Grows, table) && (after == nil || slices.Contains(after.Grows, table))
		switch {
		case !ok:
			if _, still := latest(notes).Rows[table]; still {
				wrong = append(wrong, fmt.Sprintf("the table %s is missing", table))
			}
			continue
		case grows && is < was:
			wrong = append(wrong, fmt.Sprintf("%s has %d rows, and had %d at %s", table, is, was, stamp(before.At)))
		case grows && after != nil && is > after.Rows[table]:
			wrong = append(wrong, fmt.Sprintf("%s has %d rows, and had only %d later, at %s", table, is, after.Rows[table], stamp(after.At)))
		case !grows && is == 0 && was >= few && after != nil && after.Rows[table] >= few:
			wrong = append(wrong, fmt.Sprintf("%s is empty, and had %d rows before and %d after", table, was, after.Rows[table]))
		case grows:
			compared++
		}
	}
	if len(wrong) > 0 {
		return fail(CheckRows, "%s.", capital(strings.Join(wrong[:min(3, len(wrong))], "; ")))
	}
	if compared == 0 {
		return unclear(CheckRows, "No table could be compared.")
	}
	if after == nil {
		return pass(CheckRows, "%d rows in %d tables; the %d from which nothing is deleted have at least as many as at %s.", have.Total(), len(have.Rows), compared, stamp(before.At))
	}
	return pass(CheckRows, "%d rows in %d tables; the %d from which nothing is deleted have between as many as at %s and as at %s.", have.Total(), len(have.Rows), compared, stamp(before.At), stamp(after.At))
}

func latest(notes []Note) *Note { return &notes[len(notes)-1] }

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
