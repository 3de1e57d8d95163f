package db_test

import (
	"testing"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

func TestShippedSchemaKeepsOrganisationsApart(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	if err := db.CheckRoles(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := db.CheckSchema(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}
