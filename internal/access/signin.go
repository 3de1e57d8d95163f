package access

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/credential"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Factor names what a person can show.
type Factor string

// Factors of a sign-in.
const (
	FactorPassword Factor = "password"
	FactorTOTP     Factor = "totp"
	FactorPasskey  Factor = "passkey"
	FactorRecovery Factor = "recovery"
)

// Progress is where a sign-in stands after the password. Either SignedIn is
// set, or Ceremony is the handle of the next step, which must show one of
// Factors before Expires.
type Progress struct {
	SignedIn *SignedIn `json:"signed_in,omitempty"`
	Ceremony string    `json:"ceremony,omitempty"`
	Factors  []Factor  `json:"factors,omitempty"`
	Expires  time.Time `json:"expires,omitzero"`
}

// kindSignIn is a sign-in whose password was right.
const kindSignIn = "signin"

// signInState is what is known after the password.
type signInState struct {
	Account []byte `json:"account"`
}

var errSignIn = problem.New(problem.Unauthenticated, "signin-failed", "The address or the password is wrong.").WithMend("Check both; mind the Caps Lock key.")

// SignInPassword checks an address and a password. An unknown address, a
// locked account and a wrong password cost the same work; the first and the
// last give the same answer.
func (s *People) SignInPassword(ctx context.Context, c Client, email, password string) (Progress, error) {
	if err := s.limit(ctx, c); err != nil {
		return Progress{}, err
	}
	account := s.account(email)
	var a attempt
	var who storedPerson
	err := s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) (err error) {
		if a, err = beginAttempt(ctx, tx, account); err != nil {
			return err
		}
		if who, err = activeByAddress(ctx, tx, account); gone(err) {
			err = nil
		}
		return err
	})
	if err != nil {
		return Progress{}, err
	}
	var right, stale bool
	if err := s.slow(ctx, func() { right, stale = s.hasher.Verify(who.password, password) }); err != nil {
		return Progress{}, err
	}
	switch {
	case a.refused > 0:
		return Progress{}, s.failed(ctx, a, who.ID, FactorPassword, errLocked(a.refused))
	case !right || who.ID == uuid.Nil:
		return Progress{}, s.failed(ctx, a, who.ID, FactorPassword, errSignIn)
	}
	if stale {
		if err := s.renew(ctx, who, password); err != nil {
			return Progress{}, err
		}
	}
	return s.passwordShown(ctx, c, a, who)
}

// passwordShown goes on after a right password: to the second factor if there
// is one, and into the session if none is needed. Without one, but with a role
// that demands it, the session is for enrolling one and nothing else.
func (s *People) passwordShown(ctx context.Context, c Client, a attempt, who storedPerson) (Progress, error) {
	if !who.Factors.Second() {
		in, err := s.complete(ctx, c, a.account, who.ID, string(FactorPassword), false, nil)
		if err != nil {
			return Progress{}, err
		}
		return Progress{SignedIn: &in}, nil
	}
	var p Progress
	err := s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) (err error) {
		if err := a.undo(ctx, tx); err != nil {
			return err
		}
		p.Ceremony, p.Expires, err = s.begin(ctx, tx, kindSignIn, &who.ID, signInState{Account: a.account})
		return err
	})
	if who.Factors.Passkeys > 0 && s.PasskeysOffered() {
		p.Factors = append(p.Factors, FactorPasskey)
	}
	if who.Factors.TOTP {
		p.Factors = append(p.Factors, FactorTOTP)
	}
	if who.Factors.RecoveryCodes > 0 {
		p.Factors = append(p.Factors, FactorRecovery)
	}
	return p, err
}

// complete ends a sign-in: also, if given, runs in the transaction that opens
// the session.
func (s *People) complete(ctx context.Context, c Client, account []byte, person uuid.UUID, method string, second bool, also func(pgx.Tx) error) (in SignedIn, err error) {
	_, memberships, err := s.person(ctx, person)
	if err != nil {
		return in, err
	}
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if also != nil {
			if err := also(tx); err != nil {
				return err
			}
		}
		if active, err := holdActive(ctx, tx, person); err != nil || !active {
			return orElse(err, errSignIn)
		}
		if account != nil {
			if _, err := clearFailures(ctx, tx, account); err != nil {
				return err
			}
		}
		in, err = s.open(ctx, tx, person, memberships, c, method, second)
		return err
	})
	if err != nil {
		return SignedIn{}, err
	}
	s.settle(ctx, in.Token)
	return in, nil
}

// holdActive reports whether a person is active, and keeps them so until the
// transaction ends: no session opens beside a deactivation that is under way.
func holdActive(ctx context.Context, tx pgx.Tx, person uuid.UUID) (active bool, err error) {
	err = tx.QueryRow(ctx, `SELECT status = 'active' FROM people WHERE id = $1 FOR UPDATE`, person).Scan(&active)
	return active, err
}

func orElse(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// renew hashes a password that is right anew, with the pepper and cost in use.
func (s *People) renew(ctx context.Context, who storedPerson, password string) error {
	var hash string
	var err error
	if err := s.slow(ctx, func() { hash, err = s.hasher.Hash(password) }); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	return s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error { return rehash(ctx, tx, who.ID, who.password, hash) })
}

// failed audits a try that failed, and the lock that it may have caused, and
// returns why.
func (s *People) failed(ctx context.Context, a attempt, person uuid.UUID, factor Factor, why error) error {
	actor, target := nobody, accountName(a.account)
	if person != uuid.Nil {
		actor, target = asPerson(person), person.String()
	}
	details := map[string]any{"factor": factor, "reason": problem.From(why).Code}
	if err := audit.Deny(ctx, s.DB, actor, uuid.Nil, "person.signin", target, details); err != nil {
		return err
	}
	if a.lock == 0 || a.refused > 0 {
		return why
	}
	err := s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := audit.Append(ctx, tx, nobody, uuid.Nil, "person.lock", target,
			map[string]any{"failures": a.failures, "seconds": int(a.lock.Seconds()), "automatic": true}); err != nil {
			return err
		}
		return s.tellLocked(ctx, tx, a, person)
	})
	return orElse(err, why)
}

var (
	errCode   = problem.New(problem.Unauthenticated, "code-wrong", "The code is wrong, or was used before.").WithField("code").WithMend("Wait for the next one, and check that your device's clock is right.")
	errBackup = problem.New(problem.Unauthenticated, "recovery-code-wrong", "The recovery code is wrong, or was used before.").WithField("code").WithMend("Use another one of your list.")
)

// SignInTOTP shows the code of an authenticator app after the password.
func (s *People) SignInTOTP(ctx context.Context, c Client, ceremony, code string) (SignedIn, error) {
	return s.second(ctx, c, ceremony, FactorTOTP, func(tx pgx.Tx, person uuid.UUID) (bool, error) { return s.useTOTP(ctx, tx, person, code) }, errCode)
}

// SignInRecovery shows a recovery code after the password, in place of a
// factor that was lost. Each opens once.
func (s *People) SignInRecovery(ctx context.Context, c Client, ceremony, code string) (SignedIn, error) {
	return s.second(ctx, c, ceremony, FactorRecovery, func(tx pgx.Tx, person uuid.UUID) (bool, error) { return s.useRecoveryCode(ctx, tx, person, code) }, errBackup)
}

// second shows a second factor. The try is counted before it is judged, in a
// transaction of its own, so that none is free.
func (s *People) second(ctx context.Context, c Client, handle string, factor Factor, show func(pgx.Tx, uuid.UUID) (bool, error), wrong error) (SignedIn, error) {
	if err := s.limit(ctx, c); err != nil {
		return SignedIn{}, err
	}
	var state signInState
	var person *uuid.UUID
	var a attempt
	err := s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) (err error) {
		if person, err = s.resume(ctx, tx, tryCeremony, kindSignIn, handle, &state); err != nil {
			return err
		}
		a, err = beginAttempt(ctx, tx, state.Account)
		return err
	})
	if err != nil {
		return SignedIn{}, err
	}
	if a.refused > 0 {
		return SignedIn{}, s.failed(ctx, a, *person, factor, errLocked(a.refused))
	}
	in, err := s.complete(ctx, c, state.Account, *person, string(FactorPassword)+"+"+string(factor), true, func(tx pgx.Tx) error {
		right, err := show(tx, *person)
		if err != nil || !right {
			return orElse(err, wrong)
		}
		_, err = s.resume(ctx, tx, takeCeremony, kindSignIn, handle, &signInState{})
		return err
	})
	if err == wrong {
		return SignedIn{}, s.failed(ctx, a, *person, factor, wrong)
	}
	return in, err
}

// useTOTP takes a code for good.
func (s *People) useTOTP(ctx context.Context, tx pgx.Tx, person uuid.UUID, code string) (bool, error) {
	sealed, last, err := totpSecret(ctx, tx, person)
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	secret, err := s.openText(ctx, "totp_secrets", "secret_sealed", person.String(), sealed)
	if err != nil {
		return false, err
	}
	if s.SpentStep != nil {
		last = max(last, s.SpentStep(ctx, person))
	}
	step, ok := credential.CheckTOTP(secret, code, s.Clock(), last)
	if !ok {
		return false, nil
	}
	return useStep(ctx, tx, person, step)
}

func (s *People) useRecoveryCode(ctx context.Context, tx pgx.Tx, person uuid.UUID, code string) (bool, error) {
	selector, secret, ok := credential.SplitRecoveryCode(code)
	if !ok {
		return false, nil
	}
	hash, err := recoveryHash(ctx, tx, person, selector)
	if err != nil {
		return false, err
	}
	if err := s.slow(ctx, func() { ok = s.hasher.CheckRecoveryCode(hash, secret) }); err != nil || !ok {
		return false, err
	}
	return useRecovery(ctx, tx, person, selector)
}

// StepUpTOTP shows the second factor again in a session that is open, for acts
// that ask for a recent one. The session gets a new token.
func (s *People) StepUpTOTP(ctx context.Context, p principal.Principal, c Client, code string) (SignedIn, error) {
	if err := s.limit(ctx, c); err != nil {
		return SignedIn{}, err
	}
	person, err := s.own(ctx, p, "account.change")
	if err != nil {
		return SignedIn{}, err
	}
	who, _, err := s.person(ctx, person)
	if err != nil {
		return SignedIn{}, err
	}
	var a attempt
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) (err error) {
		a, err = beginAttempt(ctx, tx, who.mac)
		return err
	})
	if err != nil {
		return SignedIn{}, err
	}
	if a.refused > 0 {
		return SignedIn{}, s.failed(ctx, a, person, FactorTOTP, errLocked(a.refused))
	}
	in, err := s.stepUp(ctx, p, FactorTOTP, func(tx pgx.Tx) error {
		right, err := s.useTOTP(ctx, tx, person, code)
		if err != nil || !right {
			return orElse(err, errCode)
		}
		_, err = clearFailures(ctx, tx, who.mac)
		return err
	})
	if err == errCode {
		return SignedIn{}, s.failed(ctx, a, person, FactorTOTP, errCode)
	}
	return in, err
}

// stepUp rotates a session in which a second factor was just shown.
func (s *People) stepUp(ctx context.Context, p principal.Principal, factor Factor, show func(pgx.Tx) error) (in SignedIn, err error) {
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := show(tx); err != nil {
			return err
		}
		if in, err = s.rotate(ctx, tx, p, rotation{method: string(factor), second: true}); err != nil {
			return err
		}
		return record(ctx, tx, p, p.Organisation, "session.stepup", p.Session, map[string]any{"factor": factor})
	})
	if err != nil {
		return SignedIn{}, err
	}
	s.settle(ctx, in.Token)
	return in, nil
}
