package db_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

// shared are the tables that belong to no organisation, and why nothing of one
// can be learnt from them. A new table without an organisation has to say so.
var shared = map[string]string{
	"schema_migrations": "which migrations ran",
	"foundry_changes":   "a counter of changes, without what changed",
	"journal_batches":   "places in the journal; the application sees node and boot alone",
	"journal_rejects":   "sealed records; the application sees nothing",
	"control_runs":      "which node runs which control of the installation, and when",
	"evidence_signers":  "public keys of nodes",
	"fleet_epoch":       "which node ran the database, and from when on",
	"gateways":          "which processes of the installation live",
	"installation_keys": "a hash of a key that is used for nothing else, and a sentence that is sealed",

	"backup_sentinels": "random numbers that are looked for in restored copies",
	"backup_notes":     "how many rows each table of the installation had",
	"backup_runs":      "backups of the whole installation, and whether they went well",
	"backup_points":    "likewise: what could be restored",
	"backup_drills":    "restores of the whole installation, and what they proved",
	"backup_holds":     "which backups of the whole installation are kept, and why",
	"backup_space":     "how full the targets are",
	"backup_archived":  "how far the write-ahead log is archived",

	"plan_revisions":           "the continuity plan of the platform itself; its text is sealed",
	"plan_decisions":           "who approved which revision of the plan",
	"plan_in_force":            "from when which revision of the plan is in force",
	"plan_acknowledgements":    "who of the platform's staff has read the plan",
	"plan_reviews":             "reviews of the plan that changes of it ask for",
	"plan_review_results":      "what those reviews found",
	"plan_confirmations":       "that duties of the plan were done",
	"plan_reminders":           "which reminders of duties of the plan were sent",
	"exercises":                "exercises of the plan of the platform itself; what they say is sealed",
	"exercise_actions":         "who of the platform's staff does what an exercise left, and until when",
	"exercise_action_changes":  "that it was done",
	"break_glass_requests":     "recovery keys of the installation that were asked for; who keeps them is sealed",
	"break_glass_decisions":    "likewise",
	"break_glass_sets":         "fingerprints of the installation's recovery keys",
	"break_glass_openings":     "who got into the installation with the recovery key",
	"break_glass_reviews":      "likewise",
	"break_glass_drills":       "restores of the whole installation",
	"break_glass_attestations": "when the installation's contacts were called",
}

// definers are the functions that run with their owner's rights, and so past
// the policies, with what keeps that harmless.
var definers = map[string]string{
	"ledger_fold(timestamp with time zone)": "sums rows of the same organisation; the shipper alone may call it, and gets a count",
	"audit_enqueue()":                       "a trigger: queues hashes over salted commitments of the rows just inserted",
	"audit_enqueue_batch()":                 "a trigger, likewise",
	"audit_erase(uuid,uuid)":                "erases a body of the caller's own organisation, and asks the database which that is",
}

// oracles are unique indexes without the organisation, by whose violation
// somebody could learn that another has a value, and why that is harmless.
var oracles = map[string]string{
	"organisations_name_key":       "names of organisations are the platform's to give: nobody in one makes another",
	"api_keys_pkey":                "random selectors that the node draws",
	"invitations_pkey":             "random selectors that the node draws",
	"notifications_message_id_key": "random ids that the node draws",
}

// tenant is a table (or view) with the rows of organisations.
type tenantTable struct {
	name    string
	owner   string // the column that says whose a row is
	columns []tenantColumn
	view    bool
}

type tenantColumn struct {
	name, kind string
	needed     bool // not null, without a default
}

// fortress is a database in which two organisations have a row in every table.
type fortress struct {
	t      testing.TB
	d      *db.DB
	super  *pgx.Conn
	a, b   uuid.UUID
	tables []tenantTable
}

// withRowsEverywhere fills every table that the catalog knows. Rows are made up
// from the columns' types, past all constraints: what matters is whose they are.
func withRowsEverywhere(t testing.TB, prepare string) *fortress {
	t.Helper()
	f := newFortress(t, prepare)
	for _, name := range f.texts(`SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) FROM pg_constraint
		WHERE contype = 'c' AND connamespace = 'public'::regnamespace`) {
		f.exec(name)
	}
	f.exec(`SET session_replication_role = replica`) // no triggers, no foreign keys
	for _, table := range f.tables {
		if !table.view {
			for i, org := range []uuid.UUID{f.a, f.b, f.b} {
				f.exec(table.insert(org, i) + " ON CONFLICT DO NOTHING") // some tables have one row for each
			}
		}
	}
	f.exec(`SET session_replication_role = origin`)
	return f
}

func newFortress(t testing.TB, prepare string) *fortress {
	t.Helper()
	cfg := dbtest.Config(t)
	f := &fortress{t: t, d: dbtest.Open(t, cfg), super: dbtest.Superuser(t, cfg), a: uuid.New(), b: uuid.New()}
	if prepare != "" {
		f.exec(prepare)
	}
	f.tables = f.read()
	return f
}

func (f *fortress) exec(sql string) {
	f.t.Helper()
	if _, err := f.super.Exec(context.Background(), sql); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

func (f *fortress) texts(sql string, args ...any) []string {
	f.t.Helper()
	rows, _ := f.super.Query(context.Background(), sql, args...)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
	return out
}

// read lists the tables and views of organisations from the catalog.
func (f *fortress) read() (all []tenantTable) {
	f.t.Helper()
	rows, _ := f.super.Query(context.Background(), `SELECT c.relname::text, c.relkind IN ('v', 'm'), a.attname::text, format_type(a.atttypid, NULL),
			a.attnotnull AND a.attidentity = '' AND a.attgenerated = ''
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND a.attgenerated = ''
		ORDER BY c.relname, a.attnum`)
	var name string
	var view bool
	var col tenantColumn
	byName := map[string]*tenantTable{}
	_, err := pgx.ForEachRow(rows, []any{&name, &view, &col.name, &col.kind, &col.needed}, func() error {
		t := byName[name]
		if t == nil {
			t = &tenantTable{name: name, view: view}
			byName[name] = t
		}
		t.columns = append(t.columns, col)
		if col.name == "organisation_id" || name == "organisations" && col.name == "id" {
			t.owner = col.name
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		if byName[name].owner != "" {
			all = append(all, *byName[name])
		}
	}
	return all
}

// secret stands in everything that belongs to the second organisation.
const secret = "secret-of-b"

// insert is a statement that makes the nth row, of an organisation.
func (t *tenantTable) insert(org uuid.UUID, n int) string {
	var names, values []string
	for _, c := range t.columns {
		v := made(c, n)
		switch {
		case c.name == t.owner && !(t.name == "organisations" && n > 1):
			v = "'" + org.String() + "'"
		case !c.needed:
			continue
		case v == "":
			v = "'{}'"
		}
		names, values = append(names, `"`+c.name+`"`), append(values, v)
	}
	return fmt.Sprintf("INSERT INTO %q (%s) VALUES (%s)", t.name, strings.Join(names, ", "), strings.Join(values, ", "))
}

// made makes up a value of a column for the nth row.
func made(c tenantColumn, n int) string {
	switch c.kind {
	case "uuid":
		return "gen_random_uuid()"
	case "text", "character varying":
		return fmt.Sprintf("'%s-%d-' || gen_random_uuid()", []string{"open-of-a", secret}[min(n, 1)], n)
	case "bytea":
		return fmt.Sprintf("sha256(('%s' || gen_random_uuid())::bytea)", secret)
	case "smallint", "integer", "bigint", "numeric", "double precision", "real":
		return fmt.Sprint(n + 1)
	case "boolean":
		return []string{"true", "false"}[n%2]
	case "timestamp with time zone":
		return fmt.Sprintf("now() + interval '%d hours'", n)
	case "json", "jsonb":
		return `'{}'`
	}
	return "" // an array, or what the statement will complain about
}

// digest is over every row of the second organisation.
func (f *fortress) digest() string {
	var b strings.Builder
	for _, t := range f.tables {
		if !t.view {
			b.WriteString(t.name + " " + f.texts(fmt.Sprintf(`SELECT count(*) || ' ' || coalesce(md5(string_agg(x::text, '|' ORDER BY x::text)), '') FROM %q x WHERE %q <> $1`, t.name, t.owner), f.a)[0] + "\n")
		}
	}
	return b.String()
}

// in runs statements as a role; with a setting under the application's.
func (f *fortress) in(role db.Role, setting *string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	ctx := context.Background()
	return f.d.As(ctx, role, func(tx pgx.Tx) error {
		if setting != nil {
			if _, err := tx.Exec(ctx, "SELECT set_config('foundry.organisation', $1, true)", *setting); err != nil {
				return err
			}
		}
		return fn(ctx, tx)
	})
}

// counted runs a query that gives a number; -1 when the role may not ask.
func (f *fortress) counted(role db.Role, setting *string, sql string) (n int, err error) {
	err = f.in(role, setting, func(ctx context.Context, tx pgx.Tx) (err error) { n, err = count(ctx, tx, sql); return err })
	if code(err) == "42501" {
		return -1, nil
	}
	return n, err
}

// attackAsOrganisation tries, with the first organisation's setting, to see or
// change what the second has. It returns what succeeded.
func (f *fortress) attackAsOrganisation(t tenantTable) (holes []string) {
	mine := f.a.String()
	hole := func(format string, args ...any) { holes = append(holes, t.name+": "+fmt.Sprintf(format, args...)) }
	theirs := fmt.Sprintf(`%q <> '%s'`, t.owner, f.a)
	for name, sql := range map[string]string{
		"read":                fmt.Sprintf(`SELECT count(*) FROM %q WHERE %s`, t.name, theirs),
		"read as text":        fmt.Sprintf(`SELECT count(*) FROM %q x WHERE x::text LIKE '%%%s%%'`, t.name, secret),
		"read by a union":     fmt.Sprintf(`SELECT count(*) FROM (SELECT * FROM %[1]q UNION ALL SELECT * FROM %[1]q) x WHERE x.%[2]s`, t.name, theirs),
		"read by a sub-query": fmt.Sprintf(`SELECT (SELECT count(*) FROM %q x WHERE %s)`, t.name, theirs),
		"locked":              fmt.Sprintf(`SELECT count(*) FROM (SELECT 1 FROM %q WHERE %s FOR UPDATE) x`, t.name, theirs),
	} {
		if t.view && name == "locked" {
			continue
		}
		n, err := f.counted(db.App, &mine, sql)
		if err != nil {
			if strings.Contains(name, "union") && code(err) == "42883" { // a type without equality, as json
				continue
			}
			hole("%s: %v", name, err)
		} else if n > 0 {
			hole("%d rows of another were %s", n, name)
		}
	}
	// A condition that fails on a row shows that the row was looked at.
	if n, err := f.counted(db.App, &mine, fmt.Sprintf(`SELECT count(*) FROM %q WHERE 1 / (CASE WHEN %s THEN 0 ELSE 1 END) = 1`, t.name, theirs)); err != nil {
		hole("an error told of a row of another (%d): %v", n, err)
	}
	var out bytes.Buffer
	err := f.in(db.App, &mine, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Conn().PgConn().CopyTo(ctx, &out, fmt.Sprintf(`COPY (SELECT * FROM %q) TO STDOUT`, t.name))
		return err
	})
	if err == nil && strings.Contains(out.String(), secret) || err != nil && code(err) != "42501" {
		hole("copied out: %v", err)
	}
	if t.view {
		return holes
	}
	for name, sql := range map[string]string{
		"changed":                         fmt.Sprintf(`UPDATE %q SET %[2]q = %[2]q WHERE %[3]s`, t.name, t.owner, theirs),
		"changed without saying which":    fmt.Sprintf(`UPDATE %q SET %[2]q = %[2]q`, t.name, t.owner),
		"deleted":                         fmt.Sprintf(`DELETE FROM %q WHERE %s`, t.name, theirs),
		"given away":                      fmt.Sprintf(`UPDATE %q SET %q = '%s'`, t.name, t.owner, f.b),
		"taken over":                      fmt.Sprintf(`UPDATE %q SET %q = '%s' WHERE %s`, t.name, t.owner, f.a, theirs),
		"written for another":             t.insert(f.b, 7),
		"written for another, quietly":    t.insert(f.b, 8) + " ON CONFLICT DO NOTHING",
		"written for nobody":              t.insert(uuid.Nil, 9),
		"emptied":                         fmt.Sprintf(`TRUNCATE %q CASCADE`, t.name),
		"merged":                          fmt.Sprintf(`MERGE INTO %[1]q x USING (SELECT 1) y ON %[2]s WHEN MATCHED THEN DELETE`, t.name, "x."+theirs),
		"opened by its owner's switch":    fmt.Sprintf(`ALTER TABLE %q DISABLE ROW LEVEL SECURITY`, t.name),
		"opened by a policy of one's own": fmt.Sprintf(`CREATE POLICY mine ON %q USING (true)`, t.name),
	} {
		var affected int64
		err := f.in(db.App, &mine, func(ctx context.Context, tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, sql)
			affected = tag.RowsAffected()
			if err == nil {
				return errUndo
			}
			return err
		})
		own := int64(1)
		if name != "changed without saying which" {
			own = 0
		}
		switch {
		case err == errUndo && affected > own, err == errUndo && (name == "emptied" || strings.HasPrefix(name, "opened")):
			hole("%d rows of another were %s", affected, name)
		case err != errUndo && code(err) != "42501":
			hole("%s: an answer that tells something: %v", name, err)
		}
	}
	err = f.in(db.App, &mine, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Conn().PgConn().CopyFrom(ctx, strings.NewReader(""), fmt.Sprintf(`COPY %q FROM STDIN`, t.name))
		return err
	})
	if err == nil {
		hole("copied in")
	}
	return holes
}

var errUndo = fmt.Errorf("undo")

func TestAnOrganisationReachesNothingOfAnotherInAnyTable(t *testing.T) {
	t.Parallel()
	f := withRowsEverywhere(t, "")
	if len(f.tables) < 20 {
		t.Fatalf("only %d tables were found", len(f.tables))
	}
	before := f.digest()
	for _, table := range f.tables {
		for _, h := range f.attackAsOrganisation(table) {
			t.Error(h)
		}
	}
	if after := f.digest(); after != before {
		t.Errorf("rows of another changed:\n%s\n%s", before, after)
	}
}

// The attack has to find holes, or it says nothing.
func TestTheAttackFindsHoles(t *testing.T) {
	t.Parallel()
	for name, hole := range map[string]string{
		"a policy that sees all":                `DROP POLICY app ON things; CREATE POLICY app ON things TO foundry_app USING (true) WITH CHECK (true)`,
		"a policy that reads all":               `CREATE POLICY more ON things FOR SELECT TO foundry_app USING (true)`,
		"a policy that forgets what is written": `DROP POLICY app ON things; CREATE POLICY app ON things TO foundry_app USING (organisation_id = foundry_organisation()) WITH CHECK (true)`,
		"a policy that lets others be deleted":  `CREATE POLICY more ON things FOR DELETE TO foundry_app USING (true); CREATE POLICY seen ON things FOR SELECT TO foundry_app USING (true)`,
		"row-level security switched off":       `ALTER TABLE things DISABLE ROW LEVEL SECURITY`,
		"truncate granted":                      `GRANT TRUNCATE ON things TO foundry_app`,
		"a view with its owner's eyes":          `CREATE VIEW all_things AS SELECT * FROM things; GRANT SELECT ON all_things TO foundry_app; ALTER TABLE things NO FORCE ROW LEVEL SECURITY`,
		"a materialised view":                   `INSERT INTO things (organisation_id, note) VALUES (gen_random_uuid(), 'secret-of-b'); CREATE MATERIALIZED VIEW all_things AS SELECT * FROM things; GRANT SELECT ON all_things TO foundry_app`,
		"a function that decides for everybody": `CREATE OR REPLACE FUNCTION foundry_organisation() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT '00000000-0000-0000-0000-000000000000'::uuid $$; DROP POLICY app ON things; CREATE POLICY app ON things TO foundry_app USING (organisation_id <> foundry_organisation())`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := withRowsEverywhere(t, things+hole)
			var holes []string
			for _, table := range f.tables {
				if strings.HasSuffix(table.name, "things") {
					holes = append(holes, f.attackAsOrganisation(table)...)
				}
			}
			if len(holes) == 0 {
				t.Error("the attack found nothing")
			}
		})
	}
}

func TestWithoutAnOrganisationTheApplicationSeesNothing(t *testing.T) {
	t.Parallel()
	f := withRowsEverywhere(t, "")
	word := func(s string) *string { return &s }
	for name, setting := range map[string]*string{
		"unset": nil, "empty": word(""), "the platform": word(uuid.Nil.String()), "a stranger": word(uuid.NewString()),
		"garbage": word("' OR true --"), "a wildcard": word("%"), "all": word("*"), "two": word(f.a.String() + "," + f.b.String()), "a space": word(" "),
		"in braces, another's": word("{" + uuid.NewString() + "}"),
	} {
		for _, table := range f.tables {
			n, err := f.counted(db.App, setting, fmt.Sprintf(`SELECT count(*) FROM %q`, table.name))
			if n > 0 || err != nil && code(err) != "22P02" {
				t.Errorf("%s: %s: %d rows, %v", name, table.name, n, err)
			}
			if table.view {
				continue
			}
			err = f.in(db.App, setting, func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, table.insert(f.b, 5))
				return err
			})
			if c := code(err); c != "42501" && c != "22P02" {
				t.Errorf("%s: written to %s: %v", name, table.name, err)
			}
		}
	}
}

// What each other role may do with tables of organisations.
func TestEachRoleDoesNoMoreWithAnyTableThanItsPart(t *testing.T) {
	t.Parallel()
	f := withRowsEverywhere(t, "")
	before := f.digest()
	mine := f.a.String()
	for _, table := range f.tables {
		read := fmt.Sprintf(`SELECT count(*) FROM %q`, table.name)
		for _, setting := range []*string{nil, &mine} {
			if n, err := f.counted(db.Shipper, setting, read); n >= 0 || err != nil {
				t.Errorf("the shipper reads %s: %d rows, %v", table.name, n, err)
			}
		}
		if n, err := f.counted(db.Sequencer, &mine, read); n > 0 || err != nil {
			t.Errorf("the sequencer reads %s: %d rows, %v", table.name, n, err)
		}
		if table.view {
			continue
		}
		for _, role := range []db.Role{db.Shipper, db.Reader, db.Sequencer} {
			statements := map[string]string{
				"changes": fmt.Sprintf(`UPDATE %q SET %[2]q = %[2]q`, table.name, table.owner),
				"deletes": fmt.Sprintf(`DELETE FROM %q`, table.name),
				"empties": fmt.Sprintf(`TRUNCATE %q CASCADE`, table.name),
			}
			if role != db.Shipper {
				statements["writes"] = table.insert(f.a, 6)
			} else {
				statements["writes and reads back"] = table.insert(f.a, 6) + ` RETURNING *`
				statements["overwrites"] = table.insert(f.a, 6) + fmt.Sprintf(` ON CONFLICT DO NOTHING RETURNING %q`, table.owner)
			}
			for what, sql := range statements {
				setting := &mine
				if role == db.Reader {
					setting = nil // it would be a query, after which a transaction cannot become one that writes
				}
				err := f.in(role, setting, func(ctx context.Context, tx pgx.Tx) error {
					if role == db.Reader {
						if _, err := tx.Exec(ctx, `SET TRANSACTION READ WRITE`); err != nil {
							return err
						}
					}
					_, err := tx.Exec(ctx, sql)
					return err
				})
				if code(err) != "42501" {
					t.Errorf("%s %s %s: %v", role, what, table.name, err)
				}
			}
		}
	}
	if after := f.digest(); after != before {
		t.Error("rows changed")
	}
}

func TestEveryTableHasAnOrganisationOrSaysWhyNot(t *testing.T) {
	t.Parallel()
	f := newFortress(t, "")
	owned := map[string]bool{}
	for _, table := range f.tables {
		owned[table.name] = true
	}
	for _, name := range f.texts(`SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')`) {
		if !owned[name] && shared[name] == "" && !strings.HasPrefix(name, "audit_") {
			t.Errorf("%s has no organisation_id: add it, or say in this test why nothing of an organisation is in it", name)
		}
	}
	// What has no organisation must not be in the application's reach, save
	// what is said above.
	for _, name := range f.texts(`SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
		AND has_any_column_privilege('foundry_app', c.oid, 'SELECT') AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'organisation_id')`) {
		if shared[name] == "" && name != "organisations" {
			t.Errorf("the application reads %s, which has no organisation", name)
		}
	}
}

func TestEveryFunctionWithItsOwnersRightsSaysWhyItIsHarmless(t *testing.T) {
	t.Parallel()
	f := newFortress(t, "")
	for _, name := range f.texts(`SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef`) {
		if definers[name] == "" {
			t.Errorf("%s runs with its owner's rights: say in this test what keeps it harmless", name)
		}
	}
	for _, name := range f.texts(`SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef
		AND p.prorettype <> 'trigger'::regtype AND has_function_privilege('public', p.oid, 'EXECUTE')`) {
		t.Errorf("everybody may call %s", name)
	}
}

// A unique index or a foreign key without the organisation answers whether
// another organisation has a value: by its violation, or by none.
func TestNoIndexAndNoKeyTellsOfAnother(t *testing.T) {
	t.Parallel()
	f := newFortress(t, "")
	for _, line := range f.texts(`SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
		WHERE i.indisunique AND c.relnamespace = 'public'::regnamespace
		  AND (has_any_column_privilege('foundry_app', c.oid, 'INSERT') OR has_any_column_privilege('foundry_app', c.oid, 'UPDATE'))
		  AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND (a.attname = 'organisation_id' OR c.relname = 'organisations'))
		  AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
		      AND (a.attname = 'organisation_id' OR a.atttypid = 'uuid'::regtype))
		  AND NOT EXISTS (SELECT FROM pg_constraint x WHERE x.conrelid = c.oid AND x.contype = 'c' AND pg_get_constraintdef(x.oid) LIKE '%organisation_id = ''00000000%')`) {
		if oracles[line] == "" {
			t.Errorf("%s is unique across organisations over values that can be guessed: add the organisation, or say in this test why it tells nothing", line)
		}
	}
	for _, line := range f.texts(`SELECT k.conrelid::regclass || ' ' || pg_get_constraintdef(k.oid) FROM pg_constraint k
		WHERE k.contype = 'f' AND k.connamespace = 'public'::regnamespace
		  AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey) AND (a.attname = 'organisation_id' OR a.atttypid = 'uuid'::regtype))
		  AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = k.confrelid AND a.attname = 'organisation_id')
		  AND (has_any_column_privilege('foundry_app', k.conrelid, 'INSERT') OR has_any_column_privilege('foundry_app', k.conrelid, 'UPDATE'))`) {
		t.Errorf("a foreign key tells whether another organisation has a value that can be guessed: %s", line)
	}
}

func TestAnOrganisationErasesNoEntryOfAnother(t *testing.T) {
	t.Parallel()
	f := newFortress(t, "")
	entry := func(org uuid.UUID) (id uuid.UUID) {
		id = uuid.New()
		f.exec(fmt.Sprintf(`INSERT INTO audit (id, organisation_id, actor, act, outcome, details) VALUES ('%s', '%s', 'x', 'key.create', 'done', '{"n": 1}')`, id, org))
		return id
	}
	mine, theirs := entry(f.a), entry(f.b)
	for name, c := range map[string]struct{ entry, by, target string }{
		"by an entry of one's own":           {theirs.String(), "new", theirs.String()},
		"by an entry of theirs":              {theirs.String(), theirs.String(), ""},
		"by an entry that speaks of another": {theirs.String(), "new", mine.String()},
	} {
		org := f.a.String()
		err := f.in(db.App, &org, func(ctx context.Context, tx pgx.Tx) error {
			by := c.by
			if by == "new" {
				by = uuid.NewString()
				if _, err := tx.Exec(ctx, `INSERT INTO audit (id, organisation_id, actor, act, target, outcome) VALUES ($1, $2, 'x', 'audit.erase', $3, 'done')`, by, f.a, c.target); err != nil {
					return err
				}
			}
			_, err := tx.Exec(ctx, `SELECT audit_erase($1, $2)`, c.entry, by)
			return err
		})
		if code(err) != "P0001" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := f.texts(`SELECT details::text FROM audit WHERE id = $1`, theirs)[0]; left != `{"n": 1}` {
		t.Errorf("their entry is now %s", left)
	}
}
