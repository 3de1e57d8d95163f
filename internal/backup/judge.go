package backup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/problem"
)

// auditSlack is how much later than its commit an entry may be signed for:
// a checkpoint of that age need not be in a copy.
const auditSlack = 15 * time.Second

// JudgeAudit compares the audit tree of a restored copy with every checkpoint
// that was kept outside of the database. A checkpoint that was signed well
// before the recovered moment has to be in it; later ones cannot be.
func JudgeAudit(ctx context.Context, log *audit.Log, recovered time.Time) (scratch.Outcome, string, error) {
	c, err := log.Cover(ctx)
	switch p := problem.From(err); {
	case err != nil && (p.Code == "audit-tree-forked" || p.Code == "audit-checkpoint-forged"):
		return scratch.Fail, p.Detail, nil
	case err != nil:
		return scratch.Inconclusive, "", err
	}
	return judgeCoverage(c, recovered), coverageReason(c, recovered), nil
}

func judgeCoverage(c audit.Coverage, recovered time.Time) scratch.Outcome {
	switch {
	case c.Within == 0 && c.Beyond == 0, recovered.IsZero():
		return scratch.Inconclusive
	case c.Beyond > 0 && c.Missing.Before(recovered.Add(-auditSlack)):
		return scratch.Fail
	case c.Within == 0:
		return scratch.Inconclusive
	}
	return scratch.Pass
}

func coverageReason(c audit.Coverage, recovered time.Time) string {
	switch {
	case c.Within == 0 && c.Beyond == 0:
		return "There is no checkpoint outside of the database to compare with."
	case recovered.IsZero():
		return "The moment that the copy came to is not known."
	case c.Beyond > 0 && c.Missing.Before(recovered.Add(-auditSlack)):
		return fmt.Sprintf("The tree has %d leaves, but a checkpoint over more was signed at %s, before the recovered moment: entries are lost.", c.Size, stamp(c.Missing))
	case c.Within == 0:
		return fmt.Sprintf("The tree of %d leaves is smaller than every checkpoint that is kept.", c.Size)
	}
	return fmt.Sprintf("The tree of %d leaves goes on from the %d checkpoints kept outside of the database until then.", c.Size, c.Within)
}

// samplesEach is how many values of each sealed column are opened.
const samplesEach = 5

// JudgeKeys opens the keyset of every organisation in a restored copy, and
// samples of what is sealed there.
func JudgeKeys(ctx context.Context, copy *db.DB, v *keys.Vault, columns []keys.Column) (scratch.Outcome, string, error) {
	n, err := v.OpenAll(ctx)
	switch p := problem.From(err); {
	case err != nil && p.Code == "kek-wrong":
		return scratch.Fail, p.Detail, nil
	case err != nil:
		return scratch.Inconclusive, "", err
	}
	opened := 0
	for _, c := range columns {
		list, err := samples(ctx, copy, c)
		if undefined(err) {
			continue // of a later release than the copy; that no table was lost, the counts of rows say
		}
		if err != nil {
			return scratch.Inconclusive, "", fmt.Errorf("reading samples of %s: %w", c, err)
		}
		for _, s := range list {
			plain, err := v.Open(ctx, s.org, s.place, s.sealed)
			clear(plain)
			switch {
			case err == nil:
				opened++
			case shredded(err): // as somebody wanted
			default:
				return scratch.Fail, fmt.Sprintf("A value of %s does not open with the keys at hand.", c), nil
			}
		}
	}
	if n == 0 && opened == 0 {
		return scratch.Inconclusive, "Nothing in the copy is sealed yet that could be opened.", nil
	}
	return scratch.Pass, fmt.Sprintf("The keysets of %d organisations and %d samples of sealed values open.", n, opened), nil
}

// undefined reports whether a table or a column is not there.
func undefined(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && (pe.Code == "42P01" || pe.Code == "42703")
}

// shredded reports whether the keys of something were destroyed.
func shredded(err error) bool {
	code := problem.From(err).Code
	return code == "keyset-destroyed" || code == "keys-shredded"
}

type sample struct {
	org    uuid.UUID
	place  keys.Place
	sealed []byte
}

// samples reads the first and the last values of a sealed column.
func samples(ctx context.Context, copy *db.DB, c keys.Column) (out []sample, err error) {
	names := make([]string, 0, len(c.Keys))
	for _, k := range c.Keys {
		names = append(names, pgx.Identifier{k}.Sanitize()+"::text")
	}
	org := "'" + uuid.Nil.String() + "'::uuid"
	if c.Organisation != "" && !c.Installation {
		org = pgx.Identifier{c.Organisation}.Sanitize()
	}
	column := pgx.Identifier{c.Column}.Sanitize()
	query := fmt.Sprintf(`SELECT %s, ARRAY[%s], %s FROM public.%s WHERE %s IS NOT NULL LIMIT %d`, org, strings.Join(names, ", "), column, pgx.Identifier{c.Table}.Sanitize(), column, samplesEach)
	err = copy.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, query)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s sample, err error) {
			var key []string
			err = row.Scan(&s.org, &key, &s.sealed)
			s.place = keys.Place{Table: c.Table, Column: c.Column, Row: keys.Row(key...)}
			return s, err
		})
		return err
	})
	return out, err
}
