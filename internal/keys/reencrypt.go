package keys

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/problem"
)

// batch is how many values are re-encrypted in one transaction.
const batch = 100

// of reports whether a column can hold values of an organisation's keyset.
func (c Column) of(org uuid.UUID) bool {
	if c.Installation || c.Organisation == "" {
		return org == uuid.Nil
	}
	return true
}

func name(s string) string { return pgx.Identifier{s}.Sanitize() }

// where selects an organisation's values by how they begin. $1 is the prefix;
// $2 the organisation, where the column has one.
func (c Column) where(compare string, org uuid.UUID, prefix []byte) (string, []any) {
	sql, args := fmt.Sprintf(`%s IS NOT NULL AND substring(%s FROM 1 FOR 5) %s $1`, name(c.Column), name(c.Column), compare), []any{prefix}
	if c.Organisation != "" && !c.Installation {
		sql, args = sql+fmt.Sprintf(` AND %s = $2`, name(c.Organisation)), append(args, org)
	}
	return sql, args
}

// references counts the values that a key has sealed.
func (v *Vault) references(ctx context.Context, org uuid.UUID, id uint32) (total int64, err error) {
	for _, c := range v.o.Columns {
		n, err := v.countColumn(ctx, c, org, "=", id)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// outdated counts the values that a rotation has to re-encrypt.
func (v *Vault) outdated(ctx context.Context, org uuid.UUID, primary uint32) (total int64, err error) {
	for _, c := range v.o.Columns {
		n, err := v.countColumn(ctx, c, org, "<>", primary)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func (v *Vault) countColumn(ctx context.Context, c Column, org uuid.UUID, compare string, id uint32) (n int64, err error) {
	if !c.of(org) {
		return 0, nil
	}
	where, args := c.where(compare, org, prefixOf(id))
	err = v.o.DB.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM `+name(c.Table)+` WHERE `+where, args...).Scan(&n)
	})
	if err != nil {
		return 0, fmt.Errorf("counting the sealed values of %s: %w", c, err)
	}
	return n, nil
}

// sealedRow is a value that an older key sealed.
type sealedRow struct {
	org    uuid.UUID // whose row it is, for row-level security
	sealed []byte
	keys   []string
}

// pass looks once at every column, re-encrypts what an older key has sealed,
// and returns how many values it changed.
func (v *Vault) pass(ctx context.Context, org uuid.UUID, j *job) (changed int64, err error) {
	j.change(func(p *Progress) { p.Unreadable = 0 })
	k, err := v.load(ctx, org, nil)
	if err != nil {
		return 0, err
	}
	for _, c := range v.o.Columns {
		if !c.of(org) {
			continue
		}
		j.change(func(p *Progress) { p.Column = c.String() })
		n, err := v.passColumn(ctx, c, org, k.primary, j)
		if err != nil {
			return changed, err
		}
		changed += n
	}
	return changed, nil
}

// passColumn streams one column's older values from one snapshot, and changes
// them in transactions of their own.
func (v *Vault) passColumn(ctx context.Context, c Column, org uuid.UUID, primary uint32, j *job) (changed int64, err error) {
	types, err := v.keyTypes(ctx, c)
	if err != nil {
		return 0, err
	}
	owner := "'" + uuid.Nil.String() + "'::uuid"
	if c.Organisation != "" {
		owner = name(c.Organisation)
	}
	fields := []string{owner + " AS owner", name(c.Column)}
	for _, k := range c.Keys {
		fields = append(fields, name(k)+"::text")
	}
	where, args := c.where("<>", org, prefixOf(primary))
	query := `SELECT ` + strings.Join(fields, ", ") + ` FROM ` + name(c.Table) + ` WHERE ` + where + ` ORDER BY owner`
	var rows []sealedRow
	flush := func() error {
		n, err := v.reencrypt(ctx, c, org, types, rows, j)
		changed, rows = changed+n, nil
		return err
	}
	err = v.o.DB.Read(ctx, func(tx pgx.Tx) error {
		found, err := tx.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		defer found.Close()
		for found.Next() {
			r := sealedRow{keys: make([]string, len(c.Keys))}
			into := []any{&r.org, &r.sealed}
			for i := range r.keys {
				into = append(into, &r.keys[i])
			}
			if err := found.Scan(into...); err != nil {
				return err
			}
			if len(rows) > 0 && (rows[0].org != r.org || len(rows) == batch) {
				if err := flush(); err != nil {
					return err
				}
			}
			rows = append(rows, r)
		}
		return found.Err()
	})
	if err == nil && len(rows) > 0 {
		err = flush()
	}
	if err != nil {
		return changed, fmt.Errorf("re-encrypting %s: %w", c, err)
	}
	return changed, nil
}

// keyTypes reads the types of the key columns, so that rows are found by their
// index.
func (v *Vault) keyTypes(ctx context.Context, c Column) ([]string, error) {
	types := make([]string, len(c.Keys))
	err := v.o.DB.Read(ctx, func(tx pgx.Tx) error {
		for i, k := range c.Keys {
			err := tx.QueryRow(ctx, `SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = $2 AND NOT attisdropped`,
				name(c.Table), k).Scan(&types[i])
			if err != nil {
				return fmt.Errorf("reading the type of %s.%s: %w", c.Table, k, err)
			}
		}
		return nil
	})
	return types, err
}

// reencrypt changes rows of one owner, in one transaction. A row that somebody
// changed meanwhile is not touched (compare and set): the next pass looks at it.
func (v *Vault) reencrypt(ctx context.Context, c Column, org uuid.UUID, types []string, rows []sealedRow, j *job) (changed int64, err error) {
	if len(rows) == 0 {
		return 0, nil
	}
	conditions := ""
	for i, k := range c.Keys {
		conditions += fmt.Sprintf(` AND %s = $%d::text::%s`, name(k), i+3, types[i])
	}
	update := fmt.Sprintf(`UPDATE %s SET %s = $1 WHERE %s = $2`, name(c.Table), name(c.Column), name(c.Column)) + conditions
	var unreadable, raced int64
	sealed := tally{}
	err = v.o.DB.Org(ctx, rows[0].org, func(tx pgx.Tx) error {
		changed, unreadable, raced = 0, 0, 0
		for _, r := range rows {
			at := Place{Table: c.Table, Column: c.Column, Row: Row(r.keys...)}
			fresh, err := v.reseal(ctx, org, at, r.sealed, sealed)
			if err != nil {
				return err
			}
			if fresh == nil {
				unreadable++
				continue
			}
			args := []any{fresh, r.sealed}
			for _, k := range r.keys {
				args = append(args, k)
			}
			tag, err := tx.Exec(ctx, update, args...)
			if err != nil {
				return err
			}
			changed += tag.RowsAffected()
			raced += 1 - tag.RowsAffected()
		}
		v.o.Step("rotate:batch")
		return sealed.store(ctx, tx, org)
	})
	if err != nil {
		sealed.keep(v, org) // the nonces are spent, though the values are not stored
		return 0, err
	}
	j.change(func(p *Progress) {
		p.Done, p.Raced, p.Unreadable = p.Done+changed, p.Raced+raced, p.Unreadable+unreadable
		p.Total = max(p.Total, p.Done)
	})
	v.o.Step("rotate:committed")
	return changed, nil
}

// reseal encrypts a value anew. It returns nil for one that does not open, and
// an error where no value would (the database or the key provider is away).
func (v *Vault) reseal(ctx context.Context, org uuid.UUID, at Place, sealed []byte, sum tally) ([]byte, error) {
	plain, err := v.Open(ctx, org, at, sealed)
	if err != nil {
		if code := problem.From(err).Code; code == "value-unreadable" || code == "key-destroyed" || code == "key-disabled" {
			return nil, nil
		}
		return nil, err
	}
	defer clear(plain)
	fresh, k, err := v.encrypt(ctx, org, at.associated(aboutValue, org), plain)
	if err != nil {
		return nil, err
	}
	n := sum[k.primary]
	sum[k.primary] = [2]int64{n[0] + int64(len(plain)), n[1] + 1}
	if bytes.Equal(fresh[:5], sealed[:5]) {
		err = errChanged // the primary is an older key: another node was quicker
	}
	return fresh, err
}

// tally is what keys have sealed for one transaction: bytes and values.
type tally map[uint32][2]int64

// store writes the counts with the values themselves, so that a kill loses
// neither without the other. It ends what the transaction may see of the rows'
// own organisation, and so comes last.
func (t tally) store(ctx context.Context, tx pgx.Tx, org uuid.UUID) error {
	if _, err := tx.Exec(ctx, `SELECT set_config('foundry.organisation', $1, true)`, org.String()); err != nil {
		return err
	}
	for key, n := range t {
		if _, _, err := (counted{org, key}).store(ctx, tx, n[0], n[1]); err != nil {
			return err
		}
	}
	return nil
}

// keep counts in memory what could not be stored.
func (t tally) keep(v *Vault, org uuid.UUID) {
	for key, n := range t {
		v.count(org, key).addMany(n[0], n[1])
	}
}
