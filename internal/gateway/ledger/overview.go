package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// groupings are the SQL of each Grouping: never built from input.
var groupings = map[Grouping]string{
	ByDay:          `to_char(bucket AT TIME ZONE 'UTC', 'YYYY-MM-DD')`,
	ByHour:         `to_char(bucket AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24":00Z"')`,
	ByModel:        `model`,
	ByOrganisation: `organisation_id::text`,
	ByJurisdiction: `jurisdiction`,
	ByProvider:     `provider`,
	ByKey:          `api_key`,
}

// Usage sums what was used, by group and currency, in order of the group's
// name. It reads sums that were made while shipping, never requests.
func (s *Store) Usage(ctx context.Context, p principal.Principal, f UsageFilter) ([]UsageRow, error) {
	group, ok := groupings[f.GroupBy]
	if !ok {
		return nil, problem.New(problem.Invalid, "usage-grouping", fmt.Sprintf("Usage cannot be summed by %q.", f.GroupBy)).WithField("group_by").
			WithMend("Use day, hour, model, organisation, jurisdiction, provider or key.")
	}
	from, to := bounds(f.From, f.To)
	var out []UsageRow
	err := s.view(ctx, p, "usage.read", f.Organisation, "", func(tx pgx.Tx) (err error) {
		rows, _ := tx.Query(ctx, `SELECT `+group+` COLLATE "C" AS grp, currency, sum(requests)::bigint, sum(errors)::bigint, sum(refusals)::bigint, sum(unknown)::bigint,
				`+bounded("input_tokens")+`, `+bounded("output_tokens")+`, `+bounded("cached_tokens")+`, `+bounded("cost_nano")+`, `+bounded("held_nano")+`
			FROM usage_deltas WHERE bucket >= $1 AND bucket < $2 AND ($3::uuid IS NULL OR organisation_id = $3)
			GROUP BY grp, currency ORDER BY grp, currency DESC`, from, to, nullable(f.Organisation))
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[UsageRow])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("summing usage: %w", err)
	}
	return foldRefusals(out), nil
}

// bounded sums a column and stays within int64.
func bounded(column string) string {
	return `LEAST(GREATEST(sum(` + column + `), -9223372036854775808), 9223372036854775807)::bigint`
}

// foldRefusals moves refusals, which have no currency and come last in their
// group, to the group's first row, if it has another.
func foldRefusals(rows []UsageRow) []UsageRow {
	out := rows[:0]
	for _, r := range rows {
		first := len(out) - 1
		for first > 0 && out[first-1].Group == r.Group {
			first--
		}
		if r.Currency == "" && r.Requests == 0 && first >= 0 && out[first].Group == r.Group {
			out[first].Refusals += r.Refusals
			continue
		}
		out = append(out, r)
	}
	return out
}

// Overview returns what the console shows first.
func (s *Store) Overview(ctx context.Context, p principal.Principal) (Overview, error) {
	var o Overview
	err := s.view(ctx, p, "overview.read", uuid.Nil, "", func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT now()`).Scan(&o.At); err != nil {
			return err
		}
		o.At = o.At.UTC()
		for _, part := range []func(context.Context, pgx.Tx) error{o.readHour, o.readMoney, o.readAlarms, o.readFallbacks} {
			if err := part(ctx, tx); err != nil {
				return err
			}
		}
		if !p.Platform() {
			return nil
		}
		return tx.QueryRow(ctx, `SELECT count(*) FROM journal_rejects`).Scan(&o.Rejected)
	})
	if err != nil {
		return Overview{}, fmt.Errorf("reading the overview: %w", err)
	}
	return o, nil
}

// readHour reads the last sixty minutes, this one included.
func (o *Overview) readHour(ctx context.Context, tx pgx.Tx) error {
	start := o.At.Truncate(time.Minute).Add(-59 * time.Minute)
	o.Minutes = make([]Minute, 60)
	for i := range o.Minutes {
		o.Minutes[i].At = start.Add(time.Duration(i) * time.Minute)
	}
	rows, _ := tx.Query(ctx, `SELECT bucket, requests, errors, refusals, latency FROM usage_deltas WHERE bucket >= $1`, start)
	var latency histogram
	var (
		at   time.Time
		m    Minute
		hist []byte
	)
	_, err := pgx.ForEachRow(rows, []any{&at, &m.Requests, &m.Errors, &m.Refusals, &hist}, func() error {
		o.Requests += m.Requests
		o.Errors += m.Errors
		o.Refusals += m.Refusals
		latency.merge(hist)
		if i := int(at.Sub(start) / time.Minute); i >= 0 && i < len(o.Minutes) {
			o.Minutes[i].Requests += m.Requests
			o.Minutes[i].Errors += m.Errors
			o.Minutes[i].Refusals += m.Refusals
		}
		return nil
	})
	o.P50, o.P95 = latency.quantile(0.50), latency.quantile(0.95)
	return err
}

func (o *Overview) readMoney(ctx context.Context, tx pgx.Tx) error {
	midnight, _ := Day.Bounds(o.At)
	rows, _ := tx.Query(ctx, `SELECT currency, `+bounded("cost_nano")+`, `+bounded("held_nano")+` FROM usage_deltas
		WHERE bucket >= $1 AND currency <> '' GROUP BY currency ORDER BY currency`, midnight)
	var cost, held Amount
	_, err := pgx.ForEachRow(rows, []any{&cost.Currency, &cost.Nano, &held.Nano}, func() error {
		o.CostToday = append(o.CostToday, cost)
		if held.Currency = cost.Currency; held.Nano != 0 {
			o.HeldToday = append(o.HeldToday, held)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return tx.QueryRow(ctx, `SELECT (SELECT COALESCE(sum(unknown), 0)::bigint FROM usage_deltas WHERE bucket >= $1),
		(SELECT count(*) FROM organisations o CROSS JOIN LATERAL (SELECT FROM transfers t WHERE t.organisation_id = o.id AND t.at >= $1) t)`,
		o.At.Add(-24*time.Hour)).Scan(&o.Unknown, &o.Transfers)
}

func (o *Overview) readAlarms(ctx context.Context, tx pgx.Tx) error {
	rows, _ := tx.Query(ctx, `SELECT b.id, b.organisation_id, COALESCE(b.api_key_id, ''), b.period, b.limit_nano, b.currency, b.alarm_percent,
			a.period_start, a.spent_nano, a.raised_at
		FROM budget_alarms a JOIN budgets b ON b.id = a.budget_id ORDER BY a.raised_at DESC`)
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (a AlarmRow, err error) {
		err = r.Scan(&a.ID, &a.Organisation, &a.Key, &a.Period, &a.LimitNano, &a.Currency, &a.AlarmPercent, &a.PeriodStart, &a.SpentNano, &a.RaisedAt)
		return a, err
	})
	for _, a := range all {
		if start, _ := a.Period.Bounds(o.At); start.Equal(a.PeriodStart) {
			o.Alarms = append(o.Alarms, a)
		}
	}
	return err
}
