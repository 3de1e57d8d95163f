package db_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

// things is a tenant table made exactly as 0001_foundation.sql says.
const things = `
CREATE TABLE things (
	id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	organisation_id  uuid NOT NULL,
	note             text NOT NULL DEFAULT '',
	UNIQUE (note, organisation_id)
);
CREATE INDEX things_by_organisation ON things (organisation_id, id);
ALTER TABLE things ENABLE ROW LEVEL SECURITY;
ALTER TABLE things FORCE ROW LEVEL SECURITY;
CREATE POLICY app ON things TO foundry_app
	USING (organisation_id = foundry_organisation())
	WITH CHECK (organisation_id = foundry_organisation());
CREATE POLICY migrator ON things TO foundry_migrator USING (true) WITH CHECK (true);
CREATE POLICY reader ON things FOR SELECT TO foundry_reader USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON things TO foundry_app;
CREATE POLICY shipper ON things FOR INSERT TO foundry_shipper WITH CHECK (true);
GRANT INSERT ON things TO foundry_shipper;
`

// withThings returns a database with the table things. One connection per
// role, so that whatever leaks into a connection meets its next user.
func withThings(t testing.TB) *db.DB {
	t.Helper()
	cfg := dbtest.Config(t)
	cfg.MaxConns = map[db.Role]int32{db.App: 1, db.Reader: 1, db.Shipper: 1, db.Migrator: 1}
	d := dbtest.Open(t, cfg)
	run(t, d, db.Migrator, things)
	return d
}

func run(t testing.TB, d *db.DB, role db.Role, sql string, args ...any) {
	t.Helper()
	if err := d.As(t.Context(), role, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), sql, args...)
		return err
	}); err != nil {
		t.Fatalf("%s as %s: %v", sql, role, err)
	}
}

// count is the number of rows that a query of one transaction sees.
func count(ctx context.Context, tx pgx.Tx, sql string, args ...any) (n int, err error) {
	err = tx.QueryRow(ctx, sql, args...).Scan(&n)
	return n, err
}

func add(ctx context.Context, d *db.DB, as, org uuid.UUID, note string) error {
	return d.Org(ctx, as, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "insert into things (organisation_id, note) values ($1, $2)", org, note)
		return err
	})
}

func code(err error) string {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code
	}
	return ""
}

func TestAnOrganisation(t *testing.T) {
	t.Parallel()
	d := withThings(t)
	ctx := t.Context()
	alpha, beta := uuid.New(), uuid.New()
	for _, org := range []uuid.UUID{alpha, beta, beta} {
		if err := add(ctx, d, org, org, uuid.NewString()); err != nil {
			t.Fatal(err)
		}
	}
	see := func(org uuid.UUID, sql string, args ...any) int {
		t.Helper()
		var n int
		err := d.Org(ctx, org, func(tx pgx.Tx) (err error) { n, err = count(ctx, tx, sql, args...); return err })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Run("sees its own rows and no others", func(t *testing.T) {
		if a, b, c := see(alpha, "select count(*) from things"), see(beta, "select count(*) from things"), see(uuid.New(), "select count(*) from things"); a != 1 || b != 2 || c != 0 {
			t.Errorf("alpha sees %d, beta %d, a stranger %d; want 1, 2, 0", a, b, c)
		}
	})
	t.Run("finds nothing of another by asking for it", func(t *testing.T) {
		if n := see(alpha, "select count(*) from things where organisation_id = $1", beta); n != 0 {
			t.Errorf("alpha sees %d rows of beta", n)
		}
	})
	t.Run("cannot write for another", func(t *testing.T) {
		if err := add(ctx, d, alpha, beta, "x"); code(err) != "42501" {
			t.Errorf("insert for another: %v, want insufficient_privilege", err)
		}
	})
	t.Run("cannot give its rows away", func(t *testing.T) {
		err := d.Org(ctx, alpha, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "update things set organisation_id = $1", beta)
			return err
		})
		if code(err) != "42501" {
			t.Errorf("update to another: %v, want insufficient_privilege", err)
		}
	})
	t.Run("changes and deletes nothing of another", func(t *testing.T) {
		err := d.Org(ctx, alpha, func(tx pgx.Tx) error {
			a, err := tx.Exec(ctx, "update things set note = 'mine' where organisation_id = $1", beta)
			if err != nil {
				return err
			}
			b, err := tx.Exec(ctx, "delete from things where organisation_id = $1", beta)
			if a.RowsAffected()+b.RowsAffected() != 0 {
				t.Error("alpha changed rows of beta")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Run("does not leak into the next use of its connection", func(t *testing.T) {
		see(alpha, "select count(*) from things")
		var org *uuid.UUID
		var n int
		if err := d.Pool(db.App).QueryRow(ctx, "select foundry_organisation(), (select count(*) from things)").Scan(&org, &n); err != nil {
			t.Fatal(err)
		}
		if org != nil || n != 0 {
			t.Errorf("the next user of the connection is organisation %v and sees %d rows", org, n)
		}
	})
	t.Run("may be the platform itself, which sees no organisation", func(t *testing.T) {
		if n := see(uuid.Nil, "select count(*) from things"); n != 0 {
			t.Errorf("the platform sees %d rows of organisations", n)
		}
	})
}

func TestEachRoleMayOnlyDoItsPart(t *testing.T) {
	t.Parallel()
	d := withThings(t)
	ctx := t.Context()
	alpha, beta := uuid.New(), uuid.New()
	ship := func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `insert into things (id, organisation_id, note)
			select * from unnest($1::uuid[], $2::uuid[], $3::text[]) on conflict do nothing`,
			[]uuid.UUID{alpha, beta}, []uuid.UUID{alpha, beta}, []string{"a", "b"})
		return err
	}
	t.Run("the shipper inserts for all organisations, again and again", func(t *testing.T) {
		for range 2 {
			if err := d.Ship(ctx, ship); err != nil {
				t.Fatal(err)
			}
		}
	})
	for _, c := range []struct {
		name string
		run  func(fn func(pgx.Tx) error) error
		sql  string
		want string
	}{
		{"the shipper reads nothing", func(fn func(pgx.Tx) error) error { return d.Ship(ctx, fn) }, "select count(*) from things", "42501"},
		{"the shipper deletes nothing", func(fn func(pgx.Tx) error) error { return d.Ship(ctx, fn) }, "delete from things", "42501"},
		{"the reader writes nothing", func(fn func(pgx.Tx) error) error { return d.Read(ctx, fn) }, "insert into things (organisation_id) values (gen_random_uuid())", "25006"},
		{"the reader writes nothing outside a read-only transaction either", func(fn func(pgx.Tx) error) error { return d.As(ctx, db.Reader, fn) },
			"set transaction read write; insert into things (organisation_id) values (gen_random_uuid())", "42501"},
		{"the application makes no tables", func(fn func(pgx.Tx) error) error { return d.Org(ctx, alpha, fn) }, "create table mine (id int)", "42501"},
		{"the application makes no temporary tables", func(fn func(pgx.Tx) error) error { return d.Org(ctx, alpha, fn) }, "create temporary table things (id int)", "42501"},
		{"the application cannot truncate", func(fn func(pgx.Tx) error) error { return d.Org(ctx, alpha, fn) }, "truncate things", "42501"},
		{"the application cannot become another role", func(fn func(pgx.Tx) error) error { return d.Org(ctx, alpha, fn) }, "set role foundry_reader", "42501"},
		{"the application cannot switch row-level security off", func(fn func(pgx.Tx) error) error { return d.Org(ctx, alpha, fn) }, "alter table things disable row level security", "42501"},
		{"the application gets no rows with row_security off", func(fn func(pgx.Tx) error) error { return d.Org(ctx, alpha, fn) }, "set local row_security = off; select * from things", "42501"},
		{"the sequencer sees nothing that it was not given", func(fn func(pgx.Tx) error) error { return d.As(ctx, db.Sequencer, fn) }, "select * from things", "42501"},
		{"no role runs programs", func(fn func(pgx.Tx) error) error { return d.As(ctx, db.Migrator, fn) }, "copy things to program 'true'", "42501"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.run(func(tx pgx.Tx) error { _, err := tx.Exec(ctx, c.sql); return err })
			if code(err) != c.want {
				t.Errorf("got %v, want SQLSTATE %s", err, c.want)
			}
		})
	}
	for _, role := range []db.Role{db.Reader, db.Migrator} {
		t.Run(string(role)+" sees the rows of all organisations", func(t *testing.T) {
			if err := d.As(ctx, role, func(tx pgx.Tx) error {
				n, err := count(ctx, tx, "select count(distinct organisation_id) from things")
				if n != 2 {
					t.Errorf("sees %d organisations, want 2", n)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("a backfill by the migrator reaches every row", func(t *testing.T) {
		if err := d.As(ctx, db.Migrator, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, "update things set note = note || '!'")
			if tag.RowsAffected() != 2 {
				t.Errorf("changed %d rows, want 2", tag.RowsAffected())
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPolicyUsesTheIndex(t *testing.T) {
	t.Parallel()
	d := withThings(t)
	run(t, d, db.Migrator, "insert into things (organisation_id, note) select gen_random_uuid(), i::text from generate_series(1, 5000) i")
	run(t, d, db.Migrator, "analyze things")
	var plan []string
	if err := d.Org(t.Context(), uuid.New(), func(tx pgx.Tx) (err error) {
		rows, _ := tx.Query(t.Context(), "explain select * from things")
		plan, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(plan, "\n"); !strings.Contains(text, "things_by_organisation") || !strings.Contains(text, "Index Cond: (organisation_id = ") {
		t.Errorf("the policy does not use the index:\n%s", text)
	}
}

// TestNoSequenceOfTransactionsMixesOrganisations runs random transactions,
// ending in every way a transaction can end, over a single connection.
func TestNoSequenceOfTransactionsMixesOrganisations(t *testing.T) {
	t.Parallel()
	d := withThings(t)
	rapid.Check(t, func(r *rapid.T) {
		orgs := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
		rows := map[uuid.UUID][]string{}
		for range rapid.IntRange(1, 12).Draw(r, "transactions") {
			org := rapid.SampledFrom(orgs).Draw(r, "organisation")
			ending := rapid.SampledFrom([]string{"commit", "error", "bad statement", "panic", "cancel"}).Draw(r, "ending")
			note := uuid.NewString()
			var seen []string
			err := transactThatEnds(t.Context(), d, org, note, ending, &seen)
			if (err == nil) != (ending == "commit") {
				r.Fatalf("%s ended with %v", ending, err)
			}
			if want := rows[org]; !slices.Equal(seen, want) {
				r.Fatalf("organisation saw %v, want %v", seen, want)
			}
			// What was set for a transaction ended with it: the next one on this
			// connection that names no organisation sees nothing.
			err = d.As(t.Context(), db.App, func(tx pgx.Tx) error {
				var left string
				var n int
				if err := tx.QueryRow(t.Context(), "select coalesce(current_setting('foundry.organisation', true), ''), (select count(*) from things)").Scan(&left, &n); err != nil {
					return err
				}
				if left != "" || n != 0 {
					r.Fatalf("after %s, %q is still set, and %d rows are seen", ending, left, n)
				}
				return nil
			})
			if err != nil {
				r.Fatal(err)
			}
			if ending == "commit" {
				rows[org] = append(slices.Clone(rows[org]), note)
				slices.Sort(rows[org])
			}
		}
	})
}

func transactThatEnds(ctx context.Context, d *db.DB, org uuid.UUID, note, ending string, seen *[]string) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panicked: %v", r)
		}
	}()
	return d.Org(ctx, org, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, "select note from things order by note collate \"C\"")
		var err error
		if *seen, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return err
		}
		if len(*seen) == 0 {
			*seen = nil
		}
		if _, err := tx.Exec(ctx, "insert into things (organisation_id, note) values ($1, $2)", org, note); err != nil {
			return err
		}
		switch ending {
		case "error":
			return errors.New("changed my mind")
		case "bad statement":
			_, err := tx.Exec(ctx, "select 1/0")
			return err
		case "panic":
			panic("oh")
		case "cancel":
			cancel()
		}
		return nil
	})
}

func TestACommitWithoutEffectIsAnError(t *testing.T) {
	t.Parallel()
	d := withThings(t)
	org := uuid.New()
	err := d.Org(t.Context(), org, func(tx pgx.Tx) error {
		_, _ = tx.Exec(t.Context(), "select 1/0") // swallowed: the transaction is aborted all the same
		return nil
	})
	if err == nil || errors.Is(err, db.ErrUnavailable) {
		t.Errorf("committing an aborted transaction: %v, want an error that is not ErrUnavailable", err)
	}
}

func TestACallerWhoGivesUpIsNotAnOutage(t *testing.T) {
	t.Parallel()
	d := withThings(t)
	var before, after uint32
	pid := func(into *uint32) {
		if err := d.Pool(db.App).QueryRow(t.Context(), "select pg_backend_pid()").Scan(into); err != nil {
			t.Fatal(err)
		}
	}
	pid(&before)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := d.Org(ctx, uuid.New(), func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "select pg_sleep(60)")
		return err
	})
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, db.ErrUnavailable) {
		t.Errorf("got %v, want the caller's own deadline", err)
	}
	pid(&after)
	if before != after {
		t.Error("a cancelled statement cost its connection")
	}
}

func TestAllConnectionsInUseIsSaidAfterABoundedWait(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	cfg.MaxConns = map[db.Role]int32{db.App: 1}
	cfg.AcquireTimeout = time.Second // long enough for the first connection on a busy machine
	d := dbtest.Open(t, cfg)
	err := d.Org(t.Context(), uuid.New(), func(pgx.Tx) error {
		start := time.Now()
		err := d.Org(t.Context(), uuid.New(), func(pgx.Tx) error { return nil })
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("waited %v for a connection", took)
		}
		return err
	})
	if !errors.Is(err, db.ErrBusy) || !errors.Is(err, db.ErrUnavailable) || problem.From(err).Kind != problem.Overloaded {
		t.Errorf("got %v, want ErrBusy, which is also ErrUnavailable, as an overload", err)
	}
}

func TestProblemsOfTheCallerPassUntouched(t *testing.T) {
	t.Parallel()
	d := withThings(t)
	mine := problem.New(problem.Conflict, "name-taken", "The name is taken.")
	if err := d.Org(t.Context(), uuid.New(), func(pgx.Tx) error { return mine }); err != error(mine) {
		t.Errorf("got %v", err)
	}
	if err := d.Read(t.Context(), func(tx pgx.Tx) error {
		var n int
		return tx.QueryRow(t.Context(), "select 1 where false").Scan(&n)
	}); !errors.Is(err, pgx.ErrNoRows) || errors.Is(err, db.ErrUnavailable) {
		t.Errorf("got %v, want ErrNoRows", err)
	}
}

func BenchmarkOrg(b *testing.B) {
	d := withThings(b)
	org := uuid.New()
	for b.Loop() {
		if err := d.Org(b.Context(), org, func(tx pgx.Tx) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
