package ledger

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
)

func setBudget(t testing.TB, d *db.DB, def Budget) Budget {
	t.Helper()
	store := NewStore(d, guard(d))
	err := d.Org(t.Context(), def.Organisation, func(tx pgx.Tx) (err error) {
		def, err = store.SetBudget(t.Context(), tx, operator, def)
		return err
	})
	if err != nil {
		t.Fatalf("setting a budget: %v", err)
	}
	return def
}

func (a *Account) mustAdmit(t testing.TB, nano int64) Reservation {
	t.Helper()
	r, err := a.Admit(a.budgets.o.Now(), nano, 0)
	if err != nil {
		t.Fatalf("admitting: %v", err)
	}
	return r
}
