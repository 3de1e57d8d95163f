package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// maxLimit is a hundred million of a currency: sums of leases stay far from
// the end of int64.
const maxLimit = 100_000_000 * 1_000_000_000

// defaultAlarm is the percentage of a budget at which its alarm is raised.
const defaultAlarm = 80

func (d *Budget) validate() error {
	invalid := func(field, detail, mend string) error {
		return problem.New(problem.Invalid, "budget-"+field, detail).WithField(field).WithMend(mend)
	}
	switch {
	case d.Organisation == uuid.Nil:
		return invalid("organisation", "A budget belongs to an organisation.", "Name the organisation.")
	case d.Period != Day && d.Period != Month && d.Period != Total:
		return invalid("period", fmt.Sprintf("%q is not a period.", d.Period), "Use day, month or total.")
	case d.LimitNano < 0:
		return invalid("limit", "A limit cannot be negative.", "Use 0 to allow only what costs nothing.")
	case d.LimitNano > maxLimit:
		return invalid("limit", "A limit may be at most "+Money(maxLimit, d.Currency)+".", "To have no limit, remove the budget.")
	case d.AlarmPercent < 1 || d.AlarmPercent > 100:
		return invalid("alarm", "The alarm line is a percentage from 1 to 100.", "Leave it out for 80.")
	case len(d.Currency) != 3 || d.Currency[0] < 'A' || d.Currency[0] > 'Z' || d.Currency[1] < 'A' || d.Currency[1] > 'Z' || d.Currency[2] < 'A' || d.Currency[2] > 'Z':
		return invalid("currency", fmt.Sprintf("%q is not a currency code.", d.Currency), "Use three capital letters, such as EUR.")
	}
	return nil
}

// SetBudget makes a budget, or changes the one that the organisation or key
// has for the period, in a transaction of db.Org for that organisation. A
// budget counts what its current period has cost so far.
func (s *Store) SetBudget(ctx context.Context, tx pgx.Tx, p principal.Principal, def Budget) (Budget, error) {
	if def.AlarmPercent == 0 {
		def.AlarmPercent = defaultAlarm
	}
	if err := def.validate(); err != nil {
		return def, err
	}
	if err := s.guard.Authorise(ctx, p, "budget.set", policy.Resource{ID: def.Organisation.String(), Organisation: def.Organisation}); err != nil {
		return def, err
	}
	var key *string
	if def.Key != "" {
		key = &def.Key
		var there bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM api_keys WHERE id = $1)`, def.Key).Scan(&there); err != nil {
			return def, fmt.Errorf("looking for the key: %w", err)
		}
		if !there {
			return def, problem.New(problem.NotFound, "key-unknown", fmt.Sprintf("The organisation has no key %s.", def.Key)).
				WithField("key").WithMend("List its keys with `foundry key list`.")
		}
	}
	def.ID = uuid.Must(uuid.NewV7())
	var made bool
	err := tx.QueryRow(ctx, `INSERT INTO budgets (id, organisation_id, api_key_id, period, limit_nano, currency, alarm_percent)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (organisation_id, COALESCE(api_key_id, ''), period) DO UPDATE SET
			limit_nano = excluded.limit_nano, currency = excluded.currency, alarm_percent = excluded.alarm_percent, changed_at = now()
		RETURNING id, id = $1`, def.ID, def.Organisation, key, def.Period, def.LimitNano, def.Currency, def.AlarmPercent).Scan(&def.ID, &made)
	if err != nil {
		return def, fmt.Errorf("storing the budget: %w", err)
	}
	if made {
		if err := countSoFar(ctx, tx, &def, key); err != nil {
			return def, err
		}
	}
	err = audit.Append(ctx, tx, p, def.Organisation, "budget.set", def.ID.String(), map[string]any{
		"key": def.Key, "period": def.Period, "limit_nano": def.LimitNano, "currency": def.Currency, "alarm_percent": def.AlarmPercent,
	})
	if err != nil {
		return def, err
	}
	return def, db.Touch(ctx, tx)
}

// countSoFar charges a new budget with what its period has cost already, to
// the boots that spent it: a later reconciliation of a boot finds the same.
func countSoFar(ctx context.Context, tx pgx.Tx, def *Budget, key *string) error {
	var now time.Time
	if err := tx.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
		return err
	}
	start, _ := def.Period.Bounds(now)
	_, err := tx.Exec(ctx, `INSERT INTO budget_leases (budget_id, period_start, node, boot, organisation_id, granted_nano, spent_nano)
		SELECT $1, $2, node, origin_boot, organisation_id, sum(cost_nano)::bigint, sum(cost_nano)::bigint FROM usage_deltas
		WHERE organisation_id = $3 AND bucket >= $2 AND ($4::text IS NULL OR api_key = $4)
		GROUP BY node, origin_boot, organisation_id`, def.ID, start, def.Organisation, key)
	if err != nil {
		return fmt.Errorf("counting what the period has cost: %w", err)
	}
	return nil
}

// RemoveBudget removes a budget, in a transaction of db.Org for its
// organisation.
func (s *Store) RemoveBudget(ctx context.Context, tx pgx.Tx, p principal.Principal, id uuid.UUID) error {
	var org uuid.UUID // stays the platform's if there is no such budget: whoever may remove none learns nothing
	err := tx.QueryRow(ctx, `SELECT organisation_id FROM budgets WHERE id = $1`, id).Scan(&org)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("looking for the budget: %w", err)
	}
	if err := s.guard.Authorise(ctx, p, "budget.remove", policy.Resource{ID: id.String(), Organisation: org}); err != nil {
		return err
	}
	if err == nil {
		_, err = tx.Exec(ctx, `DELETE FROM budgets WHERE id = $1`, id)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return problem.New(problem.NotFound, "budget-unknown", "There is no such budget.").WithField("id")
	}
	if err != nil {
		return fmt.Errorf("removing the budget: %w", err)
	}
	if err := audit.Append(ctx, tx, p, org, "budget.remove", id.String(), nil); err != nil {
		return err
	}
	return db.Touch(ctx, tx)
}

func readBudgets(ctx context.Context, tx pgx.Tx) ([]Budget, error) {
	rows, _ := tx.Query(ctx, `SELECT id, organisation_id, COALESCE(api_key_id, ''), period, limit_nano, currency, alarm_percent
		FROM budgets ORDER BY organisation_id, api_key_id NULLS FIRST, period`)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Budget])
}

// Budgets lists the budgets that p may see, with what has become of them in
// their current period.
func (s *Store) Budgets(ctx context.Context, p principal.Principal) ([]BudgetRow, error) {
	var out []BudgetRow
	err := s.view(ctx, p, "budget.list", uuid.Nil, "", func(tx pgx.Tx) error {
		list, err := readBudgets(ctx, tx)
		if err != nil {
			return err
		}
		var now time.Time
		if err := tx.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
			return err
		}
		for _, def := range list {
			r := BudgetRow{Budget: def}
			r.PeriodStart, r.PeriodEnd = def.Period.Bounds(now)
			err := tx.QueryRow(ctx, `SELECT COALESCE(sum(spent_nano), 0)::bigint, COALESCE(sum(granted_nano - spent_nano), 0)::bigint,
					EXISTS (SELECT FROM budget_alarms a WHERE a.budget_id = $1 AND a.period_start = $2)
				FROM budget_leases WHERE budget_id = $1 AND period_start = $2`, def.ID, r.PeriodStart).Scan(&r.SpentNano, &r.LeasedNano, &r.Alarmed)
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing budgets: %w", err)
	}
	return out, nil
}
