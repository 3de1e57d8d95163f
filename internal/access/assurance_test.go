package access

import (
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/principal"
)

func TestTheProbeWithoutASecondFactorGetsNothingAndLeavesNothing(t *testing.T) {
	w := newCompany(t)
	count := func() (n int) {
		w.must(w.d.Read(ctx, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM people) + (SELECT count(*) FROM memberships) + (SELECT count(*) FROM sessions) + (SELECT count(*) FROM audit)`).Scan(&n)
		}))
		return n
	}
	before := count()
	probes, err := w.people.ProbeSecondFactor(ctx)
	w.must(err)
	if len(probes) != 3 {
		t.Fatalf("%d probes: %+v", len(probes), probes)
	}
	for _, p := range probes {
		if !p.Enrolled || len(p.Open) > 0 || p.Asked < 20 {
			t.Errorf("%+v", p)
		}
	}
	if after := count(); after != before {
		t.Errorf("%d rows before, %d after", before, after)
	}
}

func TestAdministratorsAreCountedWithTheirFactors(t *testing.T) {
	w := newCompany(t)
	w.must(w.d.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		for i, role := range []principal.Role{principal.PlatformAdministrator, principal.PlatformSecurity} {
			id := uuid.Must(uuid.NewV7())
			mac := make([]byte, 32)
			mac[0] = byte(i)
			if err := insertPerson(ctx, tx, id, mac, []byte{1}, []byte{1}, ""); err != nil {
				return err
			}
			m, err := addMembership(ctx, tx, uuid.Nil, id, roleNames(principal.RolesOf(role)))
			if err != nil {
				return err
			}
			if _, err := w.people.open(ctx, tx, id, []Membership{m}, w.client(), "password", i == 0); err != nil {
				return err
			}
		}
		return nil
	}))
	n, err := w.people.Administrators(ctx)
	w.must(err)
	if n != (AdministratorCount{All: 2, Without: 2}) {
		t.Errorf("%+v", n)
	}
}
