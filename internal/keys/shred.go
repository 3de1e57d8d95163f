package keys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// States of a request to shred.
const (
	ShredRequested = "requested"
	ShredApproved  = "approved" // by two people; waits for the undo window to end
	ShredCancelled = "cancelled"
	ShredExecuted  = "executed"
)

// Shred is a request to destroy an organisation's keys, and so everything that
// was ever sealed with them. Three people take part: one asks, two others
// approve.
type Shred struct {
	ID               uuid.UUID  `json:"id"`
	Organisation     uuid.UUID  `json:"organisation"`
	State            string     `json:"state"`
	Reason           string     `json:"reason"`
	RequestedBy      string     `json:"requested_by"`
	RequestedAt      time.Time  `json:"requested_at"`
	FirstApprover    string     `json:"first_approver,omitempty"`
	FirstApprovedAt  *time.Time `json:"first_approved_at,omitempty"`
	SecondApprover   string     `json:"second_approver,omitempty"`
	SecondApprovedAt *time.Time `json:"second_approved_at,omitempty"`
	ExecuteAfter     *time.Time `json:"execute_after,omitempty"`
	EndedBy          string     `json:"ended_by,omitempty"`
	EndedAt          *time.Time `json:"ended_at,omitempty"`
	Statement        *Statement `json:"statement,omitempty"`
}

// Statement says what a shredding destroyed, and what is left of it where.
type Statement struct {
	Keys     []string         `json:"keys"`   // destroyed
	Values   map[string]int64 `json:"values"` // by table.column: sealed values that nobody can read any more
	Left     []string         `json:"left"`   // where wrapped copies of the keys may still lie
	Backups  string           `json:"backups"`
	GoneFrom time.Time        `json:"gone_from"` // when the last backup that may hold the wrapped keys has expired
}

const shredColumns = `id, organisation_id, state, reason, requested_by, requested_at, first_approver, first_approved_at,
	second_approver, second_approved_at, execute_after, ended_by, ended_at, statement`

func selectShred(ctx context.Context, tx pgx.Tx, where string, args ...any) (*Shred, error) {
	rows, err := tx.Query(ctx, `SELECT `+shredColumns+` FROM keyset_shreds WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	s, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[Shred])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return s, err
}

// Shreds lists requests, the newest first, of one organisation or of all (nil).
func (v *Vault) Shreds(ctx context.Context, org *uuid.UUID) (out []Shred, err error) {
	err = v.o.DB.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+shredColumns+` FROM keyset_shreds WHERE $1::uuid IS NULL OR organisation_id = $1 ORDER BY id DESC LIMIT 1000`, org)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Shred])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing requests to shred: %w", err)
	}
	return out, nil
}

// RequestShred asks for an organisation's keys to be destroyed.
func (v *Vault) RequestShred(ctx context.Context, p principal.Principal, org uuid.UUID, reason string) (*Shred, error) {
	const act = "keys.shred.request"
	switch {
	case org == uuid.Nil:
		return nil, v.deny(ctx, p, org, act, "", problem.New(problem.Denied, "shred-installation", "The installation's own keys cannot be shredded.").
			WithMend("Name an organisation."))
	case len(reason) < 10 || len(reason) > 1000:
		return nil, problem.New(problem.Invalid, "shred-reason", "A reason of 10 to 1000 characters is needed.").WithField("reason").
			WithMend("Say why, for example: contract 2026-17 ended, erasure confirmed in ticket 4711.")
	}
	s := &Shred{ID: uuid.Must(uuid.NewV7()), Organisation: org}
	err := v.o.DB.Org(ctx, org, func(tx pgx.Tx) error {
		if err := v.shreddable(ctx, tx, org); err != nil {
			return err
		}
		open, err := selectShred(ctx, tx, `organisation_id = $1 AND state IN ('requested', 'approved')`, org)
		if err == nil && open != nil {
			err = problem.New(problem.Conflict, "shred-open", "There is already a request to shred the keys of this organisation: "+open.ID.String()+".").
				WithMend("Approve or cancel that one.")
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO keyset_shreds (id, organisation_id, reason, requested_by) VALUES ($1, $2, $3, $4)`, s.ID, org, reason, p.String()); err != nil {
			return err
		}
		v.o.Step("shred:requested")
		if s, err = selectShred(ctx, tx, `id = $1`, s.ID); err != nil {
			return err
		}
		return v.o.Audit(ctx, tx, p, org, act, s.ID.String(), nil)
	})
	return s, v.denied(ctx, p, org, act, "", err)
}

// shreddable refuses what is on legal hold or gone. It holds the row until the
// transaction ends, so that a hold cannot slip in between.
func (v *Vault) shreddable(ctx context.Context, tx pgx.Tx, org uuid.UUID) error {
	row, err := selectKeyset(ctx, tx, org, "FOR UPDATE")
	switch {
	case err != nil:
		return err
	case row == nil:
		return problem.New(problem.NotFound, "keyset-unknown", "This organisation has no keyset: nothing was ever sealed for it.")
	case row.DestroyedAt != nil:
		return problem.New(problem.Conflict, "keyset-destroyed", "The keys of this organisation are destroyed already.")
	case row.HoldReason != "":
		return problem.New(problem.Denied, "legal-hold", "The organisation is under legal hold: "+row.HoldReason+".").
			WithMend("Release the hold first, if it has ended: `foundry keys hold ORG --release`.")
	}
	return nil
}

// deny audits a denial and returns it.
func (v *Vault) deny(ctx context.Context, p principal.Principal, org uuid.UUID, act, target string, e *problem.Error) error {
	if err := v.o.Deny(ctx, v.o.DB, p, org, act, target, map[string]any{"code": e.Code}); err != nil {
		return err
	}
	return e
}

// denied audits an error that is a denial.
func (v *Vault) denied(ctx context.Context, p principal.Principal, org uuid.UUID, act, target string, err error) error {
	var e *problem.Error
	if errors.As(err, &e) && e.Kind == problem.Denied {
		return v.deny(ctx, p, org, act, target, e)
	}
	return err
}

// ApproveShred adds one approval. The second, by another person, starts the
// undo window.
func (v *Vault) ApproveShred(ctx context.Context, p principal.Principal, id uuid.UUID) (*Shred, error) {
	const act = "keys.shred.approve"
	return v.onShred(ctx, p, id, act, func(tx pgx.Tx, s *Shred) error {
		who := p.String()
		switch {
		case s.State != ShredRequested:
			return problem.New(problem.Conflict, "shred-state", "This request is "+s.State+" and waits for no approval.")
		case who == s.RequestedBy:
			return problem.New(problem.Denied, "shred-own-request", "Whoever asked for it cannot approve it.").WithMend("Two other people must.")
		case who == s.FirstApprover:
			return problem.New(problem.Denied, "shred-approved-twice", "You have approved it already: the second approval must be another person's.")
		}
		if err := v.shreddable(ctx, tx, s.Organisation); err != nil {
			return err
		}
		set, args := `first_approver = $2, first_approved_at = now()`, []any{s.ID, who}
		if s.FirstApprover != "" {
			set = `second_approver = $2, second_approved_at = now(), state = 'approved', execute_after = now() + $3::interval`
			args = append(args, v.o.Undo)
		}
		_, err := tx.Exec(ctx, `UPDATE keyset_shreds SET `+set+` WHERE id = $1`, args...)
		v.o.Step("shred:approved")
		return err
	})
}

// CancelShred ends a request before it is executed.
func (v *Vault) CancelShred(ctx context.Context, p principal.Principal, id uuid.UUID) (*Shred, error) {
	return v.onShred(ctx, p, id, "keys.shred.cancel", func(tx pgx.Tx, s *Shred) error {
		if s.State != ShredRequested && s.State != ShredApproved {
			return problem.New(problem.Conflict, "shred-state", "This request is "+s.State+": it cannot be cancelled.")
		}
		_, err := tx.Exec(ctx, `UPDATE keyset_shreds SET state = 'cancelled', ended_by = $2, ended_at = now() WHERE id = $1`, s.ID, p.String())
		v.o.Step("shred:cancelled")
		return err
	})
}

// FindShred finds a request by its id, in any organisation.
func (v *Vault) FindShred(ctx context.Context, id uuid.UUID) (s *Shred, err error) {
	err = v.o.DB.Read(ctx, func(tx pgx.Tx) error { s, err = selectShred(ctx, tx, `id = $1`, id); return err })
	if err == nil && s == nil {
		err = problem.New(problem.NotFound, "shred-unknown", "There is no such request to shred.").WithField("id").WithMend("`foundry keys shred list` shows them.")
	}
	return s, err
}

// onShred changes a request under its lock, with its audit entry.
func (v *Vault) onShred(ctx context.Context, p principal.Principal, id uuid.UUID, act string, fn func(pgx.Tx, *Shred) error) (*Shred, error) {
	s, err := v.FindShred(ctx, id)
	if err != nil {
		return nil, err
	}
	org := s.Organisation
	err = v.o.DB.Org(ctx, org, func(tx pgx.Tx) error {
		if s, err = selectShred(ctx, tx, `id = $1 FOR UPDATE`, id); err != nil {
			return err
		}
		if err := fn(tx, s); err != nil {
			return err
		}
		if s, err = selectShred(ctx, tx, `id = $1`, id); err != nil {
			return err
		}
		return v.o.Audit(ctx, tx, p, org, act, id.String(), map[string]any{"state": s.State})
	})
	if err != nil {
		return nil, v.denied(ctx, p, org, act, id.String(), err)
	}
	return s, nil
}

// ShredDue destroys the keysets whose undo window has ended. One that was put
// on hold meanwhile is refused, and looked at again the next time.
func (v *Vault) ShredDue(ctx context.Context) error {
	var due []Shred
	err := v.o.DB.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+shredColumns+` FROM keyset_shreds s WHERE state = 'approved' AND execute_after <= now()
			AND NOT EXISTS (SELECT FROM keysets k WHERE k.organisation_id = s.organisation_id AND k.hold_reason <> '')`)
		if err != nil {
			return err
		}
		due, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Shred])
		return err
	})
	if err != nil {
		return fmt.Errorf("looking for keysets to shred: %w", err)
	}
	var errs []error
	for _, s := range due {
		errs = append(errs, v.executeShred(ctx, s))
	}
	return errors.Join(append(errs, v.clearRemains(ctx))...)
}

// executeShred destroys a keyset: in one transaction the wrapped keys go, the
// request ends, and the audit entry stands; killed before the commit, nothing
// has happened, and the next sweep does it.
func (v *Vault) executeShred(ctx context.Context, s Shred) error {
	org, who := s.Organisation, principal.Node("keys")
	statement, err := v.statement(ctx, org)
	if err != nil {
		return err
	}
	v.o.Step("shred:before")
	_, err = v.onShred(ctx, who, s.ID, "keys.shred.execute", func(tx pgx.Tx, s *Shred) error {
		var late bool
		if err := tx.QueryRow(ctx, `SELECT now() >= $1`, s.ExecuteAfter).Scan(&late); err != nil {
			return err
		}
		if s.State != ShredApproved || !late { // cancelled, or done by another node
			return errChanged
		}
		if err := v.shreddable(ctx, tx, org); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE keysets SET wrapped = NULL, destroyed_at = now(), version = version + 1 WHERE organisation_id = $1`, org); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE keyset_keys SET status = 'destroyed', destroyed_at = now() WHERE organisation_id = $1 AND status <> 'destroyed'`, org); err != nil {
			return err
		}
		v.o.Step("shred:destroyed")
		if _, err := tx.Exec(ctx, `UPDATE keyset_shreds SET state = 'executed', ended_by = $2, ended_at = now(), statement = $3 WHERE id = $1`, s.ID, who.String(), statement); err != nil {
			return err
		}
		return db.Touch(ctx, tx)
	})
	if errors.Is(err, errChanged) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("shredding the keys of %s: %w", org, err)
	}
	v.o.Step("shred:committed")
	v.loading.Lock()
	v.forget(org)
	v.loading.Unlock()
	return nil
}

// afterlife is for how long a transaction may still see a keyset as it was
// before it was destroyed, and so keep it in its table's file.
const afterlife = time.Hour

// clearRemains writes the table of keysets anew, without the rows' earlier
// versions, which hold the wrapped keys. A plain VACUUM forgets where these
// bytes are and leaves them on their pages. It is done as long as somebody may
// still see them, and once after a start, because a kill may have come between
// a destruction and this.
func (v *Vault) clearRemains(ctx context.Context) error {
	var last *time.Time
	var now time.Time
	err := v.o.DB.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT max(destroyed_at), now() FROM keysets`).Scan(&last, &now)
	})
	if err != nil {
		return fmt.Errorf("looking for destroyed keysets: %w", err)
	}
	v.cleared.Lock()
	defer v.cleared.Unlock()
	if last == nil || v.cleared.at.After(last.Add(afterlife)) {
		return nil
	}
	conn, err := v.o.DB.Pool(db.Migrator).Acquire(ctx)
	if err != nil {
		return fmt.Errorf("clearing the remains of destroyed keysets: %w", err)
	}
	defer conn.Release()
	// Whoever waits for the table makes all others wait behind.
	if _, err = conn.Exec(ctx, `SET lock_timeout = '1s'`); err == nil {
		_, err = conn.Exec(ctx, `VACUUM FULL keysets`)
		_, reset := conn.Exec(context.WithoutCancel(ctx), `RESET lock_timeout`)
		err = errors.Join(err, reset)
	}
	if err != nil {
		return fmt.Errorf("clearing the remains of destroyed keysets, which is tried again: %w", err)
	}
	v.cleared.at = now
	return nil
}

func (v *Vault) statement(ctx context.Context, org uuid.UUID) (*Statement, error) {
	now := v.o.Clock().UTC()
	out := &Statement{Values: map[string]int64{}, GoneFrom: now.AddDate(0, 0, v.o.BackupDays)}
	found, err := v.readKeys(ctx, `k.organisation_id = '`+org.String()+`'`)
	if err != nil {
		return nil, err
	}
	for _, k := range found {
		if k.Status != "destroyed" {
			out.Keys = append(out.Keys, keyName(uint32(k.ID)))
		}
	}
	for _, c := range v.o.Columns {
		if c.Installation || c.Organisation == "" {
			continue
		}
		n, err := v.countColumn(ctx, c, org, "<>", 0)
		if err != nil {
			return nil, err
		}
		out.Values[c.String()] = n
	}
	out.Left = []string{
		"blocks of the disk that the table's earlier file has given back, until something else is written there",
		"the write-ahead log of PostgreSQL, until its segments are recycled: the keys in it are wrapped by the key-encryption key " + v.keks.Current().fingerprint,
		"standbys and archives of that log, for as long as they are kept",
		"the memory of other nodes, until they hear of it: within a second while they reach the database",
		"to end all of these at once: `foundry keys rewrap --new`, then destroy the retired key-encryption key",
	}
	out.Backups = fmt.Sprintf("Foundry makes no backups yet. Whoever backs up this database keeps the wrapped keys in those backups until they expire: with %d days of retention, until %s.",
		v.o.BackupDays, out.GoneFrom.Format(time.DateOnly))
	return out, nil
}

// Hold puts an organisation's keys on legal hold, or with an empty reason
// releases them.
func (v *Vault) Hold(ctx context.Context, p principal.Principal, org uuid.UUID, reason string) error {
	act := "keys.hold"
	if reason == "" {
		act = "keys.release"
	}
	if len(reason) > 1000 {
		return problem.New(problem.TooLarge, "hold-reason", "A reason has at most 1000 characters.").WithField("reason")
	}
	if _, err := v.load(ctx, org, nil); err != nil {
		return err
	}
	return v.o.DB.Org(ctx, org, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE keysets SET hold_reason = $2, hold_by = CASE WHEN $2 = '' THEN '' ELSE $3 END, hold_at = CASE WHEN $2 = '' THEN NULL ELSE now() END
			WHERE organisation_id = $1 AND hold_reason <> $2`, org, reason, p.String())
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return v.o.Audit(ctx, tx, p, org, act, org.String(), nil)
	})
}
