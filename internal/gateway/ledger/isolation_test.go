package ledger

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/gateway/wire"
)

// tenantTables are those that the shipper writes for organisations.
var tenantTables = []string{"requests", "request_outcomes", "request_attempts", "transfers", "refusals", "decisions", "usage_deltas"}

var firstColumn = map[string]string{
	"requests": "node", "request_outcomes": "node", "request_attempts": "node", "transfers": "node", "refusals": "node",
	"decisions": "organisation_id", "usage_deltas": "organisation_id", "journal_rejects": "node",
}

func state(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

func TestAnOrganisationSeesItsOwnRowsInEveryTableAndNoOthers(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	orgs := makeOrganisations(t, d, 2)
	n := newNode(t, d, t.TempDir(), 1, newExpectation())
	defer n.stop()
	for i, org := range orgs {
		for range i + 2 { // two for the first, three for the second
			id := n.admit(admission(org, false))
			n.flush()
			n.attempt(id, &Attempt{At: time.Now(), N: 2, Provider: "mistral", Jurisdiction: "FR", LeavesEEA: true})
			n.finish(id, outcome(1))
			n.refuse(&Refusal{At: time.Now(), Organisation: org, Endpoint: wire.Messages, Rule: "r", Status: 403})
			n.flush()
		}
		n.raw(AppendTrace(nil, &Trace{Hash: [16]byte{byte(i)}, Organisation: org, JSON: []byte(`{}`)}))
		n.flush()
		setBudget(t, d, Budget{Organisation: org, Period: Day, LimitNano: 1e9, Currency: "EUR"})
		b := NewBudgets(d, BudgetOptions{Node: 1, Boot: 1})
		if err := b.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.Account(org, "k", Limits{}).mustAdmit(t, 1e6).Settle(9e8, 0)
		if err := b.Lease(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	tables := append([]string{"budgets", "budget_leases", "budget_alarms", "request_log", "usage_by_hour"}, tenantTables...)
	for _, table := range tables {
		if all := countRows(t, d, table, uuid.Nil); all < 2 {
			t.Errorf("%s has %d rows: the test shows nothing", table, all)
		}
		for _, org := range orgs {
			var own, others int
			err := d.Org(t.Context(), org, func(tx pgx.Tx) error {
				return tx.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE organisation_id = $1), count(*) FILTER (WHERE organisation_id <> $1) FROM `+table, org).Scan(&own, &others)
			})
			if err != nil || own == 0 || others != 0 {
				t.Errorf("%s: an organisation sees %d of its own rows and %d of others (%v)", table, own, others, err)
			}
		}
	}
	for _, table := range tenantTables { // what was shipped is not the application's to write
		for _, act := range []string{"DELETE FROM " + table, "UPDATE " + table + " SET organisation_id = organisation_id", "INSERT INTO " + table + " SELECT * FROM " + table} {
			err := d.Org(t.Context(), orgs[0], func(tx pgx.Tx) error { _, err := tx.Exec(t.Context(), act); return err })
			if state(err) != "42501" {
				t.Errorf("%s: %v", act, err)
			}
		}
	}
	for _, table := range []string{"journal_rejects"} {
		err := d.Org(t.Context(), orgs[0], func(tx pgx.Tx) error { _, err := tx.Exec(t.Context(), "SELECT * FROM "+table); return err })
		if state(err) != "42501" {
			t.Errorf("%s may be read by an organisation: %v", table, err)
		}
	}
	err := d.Org(t.Context(), orgs[0], func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO budgets (id, organisation_id, period, limit_nano, currency) VALUES (gen_random_uuid(), $1, 'month', 1, 'EUR')`, orgs[1])
		return err
	})
	if state(err) != "42501" {
		t.Errorf("an organisation may set another's budget: %v", err)
	}
}

func TestTheSchemaKeepsOrganisationsApart(t *testing.T) {
	t.Parallel()
	if err := db.CheckRoles(t.Context(), dbtest.New(t)); err != nil {
		t.Error(err)
	}
}

func countRows(t *testing.T, d *db.DB, table string, _ uuid.UUID) (n int) {
	t.Helper()
	err := d.Read(t.Context(), func(tx pgx.Tx) error { return tx.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}
