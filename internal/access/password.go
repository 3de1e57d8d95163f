package access

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/credential"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// ChangePassword replaces the caller's password, or sets the first one (old is
// then ignored). All other sessions end, and this one gets a new token.
func (s *People) ChangePassword(ctx context.Context, p principal.Principal, c Client, old, next string) (in SignedIn, err error) {
	if err := s.limit(ctx, c); err != nil {
		return in, err
	}
	who, _, err := s.caller(ctx, p)
	if err != nil {
		return in, err
	}
	if err := s.confirm(ctx, who, old); err != nil {
		return in, err
	}
	about, err := s.reveal(ctx, who)
	if err != nil {
		return in, err
	}
	hash, err := s.hash(ctx, next, about.Email, about.Name)
	if err != nil {
		return in, err
	}
	err = s.change(ctx, p, "password.change", func(tx pgx.Tx, person uuid.UUID, _ Factors) error {
		s.withdrawn(ctx, person)
		if err := setPassword(ctx, tx, person, hash); err != nil {
			return err
		}
		ended, err := endSessions(ctx, tx, person, "password-changed", p.Session)
		if err != nil {
			return err
		}
		if in, err = s.rotate(ctx, tx, p, rotation{}); err != nil {
			return err
		}
		if err := record(ctx, tx, p, p.Organisation, "password.change", person.String(), map[string]any{"sessions": len(ended)}); err != nil {
			return err
		}
		return db.Touch(ctx, tx)
	})
	if err != nil {
		return SignedIn{}, err
	}
	s.settle(ctx, in.Token)
	return in, nil
}

// confirm checks the old password, where there is one, at the price of a
// failed sign-in.
func (s *People) confirm(ctx context.Context, who storedPerson, old string) error {
	if who.password == "" {
		return nil
	}
	var a attempt
	err := s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) (err error) { a, err = beginAttempt(ctx, tx, who.mac); return err })
	if err != nil {
		return err
	}
	var right bool
	if err := s.slow(ctx, func() { right, _ = s.hasher.Verify(who.password, old) }); err != nil {
		return err
	}
	switch {
	case a.refused > 0:
		return s.failed(ctx, a, who.ID, FactorPassword, errLocked(a.refused))
	case !right:
		return s.failed(ctx, a, who.ID, FactorPassword, problem.New(problem.Denied, "password-wrong", "The old password is wrong.").WithField("old"))
	}
	return s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error { return a.undo(ctx, tx) })
}

// hash judges a new password and hashes it.
func (s *People) hash(ctx context.Context, password string, about ...string) (hash string, err error) {
	if err := credential.CheckPassword(password, about...); err != nil {
		return "", err
	}
	if slow := s.slow(ctx, func() { hash, err = s.hasher.Hash(password) }); slow != nil {
		return "", slow
	}
	return hash, err
}
