package backup

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/problem"
)

func insertRequest(ctx context.Context, tx pgx.Tx, id uuid.UUID, actor string, n NewKey, sealed []byte) error {
	_, err := tx.Exec(ctx, `INSERT INTO break_glass_requests (id, actor, threshold, shares, reason, sealed) VALUES ($1, $2, $3, $4, $5, $6)`,
		id, actor, n.Threshold, n.Shares, n.Reason, sealed)
	if err != nil {
		return fmt.Errorf("asking for a recovery key: %w", err)
	}
	return nil
}

func insertDecision(ctx context.Context, tx pgx.Tx, id uuid.UUID, actor string, approved bool) error {
	if _, err := tx.Exec(ctx, `INSERT INTO break_glass_decisions (request, actor, approved) VALUES ($1, $2, $3)`, id, actor, approved); err != nil {
		return fmt.Errorf("deciding on a recovery key: %w", err)
	}
	return nil
}

const requestColumns = `r.id, r.actor, r.threshold, r.shares, r.reason, r.requested_at,
	CASE WHEN s.request IS NOT NULL THEN 'made' WHEN d.approved THEN 'approved' WHEN d.approved IS FALSE THEN 'rejected' ELSE 'waiting' END,
	coalesce(d.actor, ''), d.decided_at
	FROM break_glass_requests r LEFT JOIN break_glass_decisions d ON d.request = r.id LEFT JOIN break_glass_sets s ON s.request = r.id`

func selectRequest(ctx context.Context, tx pgx.Tx, id uuid.UUID) (r KeyRequest, err error) {
	rows, err := tx.Query(ctx, `SELECT `+requestColumns+` WHERE r.id = $1`, id)
	if err != nil {
		return r, err
	}
	r, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[KeyRequest])
	if errors.Is(err, pgx.ErrNoRows) {
		return r, problem.New(problem.NotFound, "break-glass-unknown", "There is no such request.").WithField("id").WithMend("`foundry breakglass status` lists them.")
	}
	return r, err
}

func selectSealed(ctx context.Context, tx pgx.Tx, id uuid.UUID) (sealed []byte, err error) {
	err = tx.QueryRow(ctx, `SELECT sealed FROM break_glass_requests WHERE id = $1`, id).Scan(&sealed)
	return sealed, err
}

func insertSet(ctx context.Context, tx pgx.Tx, request uuid.UUID, actor string, s *glassState) error {
	_, err := tx.Exec(ctx, `INSERT INTO break_glass_sets (set_id, fingerprint, request, actor, threshold, shares) VALUES ($1, $2, $3, $4, $5, $6)`,
		s.Set.String(), kit.Fingerprint(s.Public), request, actor, s.Threshold, s.Shares)
	if err != nil {
		return fmt.Errorf("entering a recovery key: %w", err)
	}
	return nil
}

// insertOpening reports whether the opening was not there yet.
func insertOpening(ctx context.Context, tx pgx.Tx, o Opening, chain []byte) (bool, error) {
	shares := make([]int32, len(o.Shares))
	for i, s := range o.Shares {
		shares[i] = int32(s) //nolint:gosec // at most 255
	}
	tag, err := tx.Exec(ctx, `INSERT INTO break_glass_openings (id, set_id, actor, scope, reason, shares, opened_at, until_at, offline, chain)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING`,
		o.ID, o.Set, o.By, o.Scope, o.Reason, shares, o.Opened, o.Until, o.Offline, chain)
	if err != nil {
		return false, fmt.Errorf("entering an opening: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}

const openingColumns = `o.id, o.set_id, o.actor, o.scope, o.reason, o.shares::bigint[], o.opened_at, o.until_at, o.offline, o.entered_at,
	r.reviewed_at, coalesce(r.actor, ''), coalesce(r.finding, ''), r.justified
	FROM break_glass_openings o LEFT JOIN break_glass_reviews r ON r.opening = o.id`

func selectOpening(ctx context.Context, tx pgx.Tx, id uuid.UUID) (o Opening, err error) {
	rows, err := tx.Query(ctx, `SELECT `+openingColumns+` WHERE o.id = $1`, id)
	if err != nil {
		return o, err
	}
	o, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Opening])
	if errors.Is(err, pgx.ErrNoRows) {
		return o, problem.New(problem.NotFound, "break-glass-unknown", "There is no such opening.").WithField("id").WithMend("`foundry breakglass status` lists them.")
	}
	return o, err
}

func insertReview(ctx context.Context, tx pgx.Tx, id uuid.UUID, actor, finding string, justified bool) error {
	if _, err := tx.Exec(ctx, `INSERT INTO break_glass_reviews (opening, actor, finding, justified) VALUES ($1, $2, $3, $4)`, id, actor, finding, justified); err != nil {
		return fmt.Errorf("entering a review: %w", err)
	}
	return nil
}

func insertDrill(ctx context.Context, tx pgx.Tx, d KitDrill) error {
	_, err := tx.Exec(ctx, `INSERT INTO break_glass_drills (id, set_id, actor, by_contact, outcome, reason, seconds, recovered_at, kit_made_at, evidence, drilled_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`, d.ID, d.Set, d.By, d.ByContact, string(d.Outcome), d.Reason, d.Seconds, d.Recovered, d.KitMade, d.Evidence, d.At)
	if err != nil {
		return fmt.Errorf("entering a drill: %w", err)
	}
	return nil
}

func insertAttestation(ctx context.Context, tx pgx.Tx, actor string, contacts int, briefed bool) error {
	_, err := tx.Exec(ctx, `INSERT INTO break_glass_attestations (id, actor, contacts, briefed) VALUES ($1, $2, $3, $4)`, uuid.Must(uuid.NewV7()), actor, contacts, briefed)
	if err != nil {
		return fmt.Errorf("entering an attestation: %w", err)
	}
	return nil
}

// mostListed bounds what a status shows.
const mostListed = 100

// readLists fills in what only the database knows.
func (g *Glass) readLists(ctx context.Context, s *GlassStatus) error {
	return g.o.DB.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+requestColumns+` WHERE s.request IS NULL AND d.approved IS DISTINCT FROM false ORDER BY r.id DESC LIMIT $1`, mostListed)
		if err != nil {
			return err
		}
		if s.Requests, err = pgx.CollectRows(rows, pgx.RowToStructByPos[KeyRequest]); err != nil {
			return err
		}
		rows, err = tx.Query(ctx, `SELECT `+openingColumns+` ORDER BY (r.opening IS NULL) DESC, o.id DESC LIMIT $1`, mostListed)
		if err != nil {
			return err
		}
		if s.Openings, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Opening]); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM break_glass_openings o WHERE NOT EXISTS (SELECT FROM break_glass_reviews r WHERE r.opening = o.id)`).Scan(&s.Unreviewed); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT max(attested_at) FROM break_glass_attestations`).Scan(&s.Attested); err != nil {
			return err
		}
		rows, err = tx.Query(ctx, `SELECT id, set_id, actor, by_contact, outcome, reason, seconds, recovered_at, kit_made_at, evidence, drilled_at
			FROM break_glass_drills ORDER BY drilled_at DESC, id DESC LIMIT $1`, mostListed)
		if err != nil {
			return err
		}
		s.Drills, err = pgx.CollectRows(rows, pgx.RowToStructByPos[KitDrill])
		for i := range s.Drills {
			d := &s.Drills[i]
			if s.LastDrill == nil {
				s.LastDrill = d
			}
			if d.ByContact && s.LastContactDrill == nil {
				s.LastContactDrill = d
			}
		}
		return err
	})
}
