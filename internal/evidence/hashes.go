package evidence

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
)

// HashColumn is a column that holds hashes of credentials. The package that
// owns the table passes it.
type HashColumn struct {
	Table   string
	Column  string
	Prefix  string // a POSIX expression of what stands before the bcrypt hash; usually empty
	MinCost int    // bcrypt's work factor, at least
}

// OtherColumn is a column whose name sounds like a credential's but that holds
// none.
type OtherColumn struct {
	Table  string
	Column string
	Why    string
}

// suspicious finds columns that may hold credentials, by their names. A column
// that ends in _sealed holds ciphertext and is the canary's business.
const suspicious = `SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
	  AND a.attname ~* '(hash|passw|secret|token|credential|pepper|private|api_?key|recovery|otp)' AND a.attname !~ '_sealed$'
	  AND a.atttypid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'bytea'::regtype, 'json'::regtype, 'jsonb'::regtype, 'text[]'::regtype)
	ORDER BY 1, 2`

// Hashes checks that every stored credential is a bcrypt hash of at least the
// agreed cost, over all rows (O-12). A column that sounds like a credential and
// that nobody has listed is a failure: it may be one in plaintext.
func Hashes(d *db.DB, hashes []HashColumn, others []OtherColumn) Collect {
	return func(ctx context.Context, progress func(string)) (out []Finding, err error) {
		err = d.Read(ctx, func(tx pgx.Tx) error {
			found, err := suspiciousColumns(ctx, tx)
			if err != nil {
				return err
			}
			out = append(out, listed(found, hashes, others))
			for _, h := range hashes {
				progress(h.Table + "." + h.Column)
				if !slices.Contains(found, [2]string{h.Table, h.Column}) {
					continue // said by listed
				}
				f, err := checkColumn(ctx, tx, h)
				if err != nil {
					return err
				}
				out = append(out, f)
			}
			return nil
		})
		return out, err
	}
}

func suspiciousColumns(ctx context.Context, tx pgx.Tx) (found [][2]string, err error) {
	rows, err := tx.Query(ctx, suspicious)
	if err != nil {
		return nil, err
	}
	var table, column string
	_, err = pgx.ForEachRow(rows, []any{&table, &column}, func() error { found = append(found, [2]string{table, column}); return nil })
	return found, err
}

// listed compares what the database has with what the owners said.
func listed(found [][2]string, hashes []HashColumn, others []OtherColumn) Finding {
	f := Finding{Subject: "columns", Covered: []string{fmt.Sprintf("the names of all columns of the database: %d sound like a credential", len(found))},
		NotCovered: []string{"credentials in columns with a name that does not tell: the canary of O-13 looks for those"}}
	known := map[[2]string]bool{}
	for _, h := range hashes {
		known[[2]string{h.Table, h.Column}] = true
		if !slices.Contains(found, [2]string{h.Table, h.Column}) {
			return f.fail(fmt.Sprintf("%s.%s should hold hashes, but there is no such column: the list of hash columns is out of date.", h.Table, h.Column))
		}
	}
	for _, o := range others {
		known[[2]string{o.Table, o.Column}] = true
		f.Covered = append(f.Covered, fmt.Sprintf("%s.%s is no credential: %s", o.Table, o.Column, o.Why))
	}
	var unknown []string
	for _, c := range found {
		if !known[c] {
			unknown = append(unknown, c[0]+"."+c[1])
		}
	}
	if len(unknown) > 0 {
		return f.fail("These columns sound like credentials, and nobody has said what they hold: " + strings.Join(unknown, ", ") + ".")
	}
	return f.pass("Every column that sounds like a credential is accounted for.")
}

// checkColumn counts rows that are no bcrypt hash, and rows below the floor.
// The identifiers come from this program's own list, and are quoted all the
// same.
func checkColumn(ctx context.Context, tx pgx.Tx, h HashColumn) (Finding, error) {
	f := Finding{Subject: h.Table + "." + h.Column, Covered: []string{"every row of every organisation"}, NotCovered: []string{"backups", "dead rows that the database has not cleaned up yet"}}
	column := pgx.Identifier{h.Column}.Sanitize()
	var rows, wrong, cheap int64
	var least *int
	err := tx.QueryRow(ctx, fmt.Sprintf(`SELECT count(h), count(*) FILTER (WHERE h !~ $1), count(*) FILTER (WHERE h ~ $1 AND substring(h from $2)::int < $3), min(substring(h from $2)::int)
		FROM (SELECT %s AS h FROM %s) t WHERE h IS NOT NULL`, column, pgx.Identifier{h.Table}.Sanitize()),
		`^`+h.Prefix+`\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}$`, `\$2[aby]\$([0-9]{2})\$`, h.MinCost).Scan(&rows, &wrong, &cheap, &least)
	if err != nil {
		return f, err
	}
	f.Raw = fmt.Appendf(nil, "rows=%d not_bcrypt=%d below_floor=%d floor=%d", rows, wrong, cheap, h.MinCost)
	switch {
	case wrong > 0:
		return f.fail(fmt.Sprintf("%d of %d rows are no bcrypt hash.", wrong, rows)), nil
	case cheap > 0:
		return f.fail(fmt.Sprintf("%d of %d rows have a work factor below %d.", cheap, rows, h.MinCost)), nil
	case rows == 0:
		return f.pass("There are no rows yet; none is wrong."), nil
	}
	return f.pass(fmt.Sprintf("All %d rows are bcrypt hashes; the lowest work factor is %d, the floor %d.", rows, *least, h.MinCost)), nil
}
