package db

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/missionopsai/foundry/internal/problem"
)

// Sentinels to test with errors.Is. Every error that matches one is also a
// *problem.Error with a sentence for people.
var (
	// ErrUnavailable: the database does not answer; nothing was committed,
	// unless the error also matches ErrCommitUnknown.
	ErrUnavailable = errors.New("database unavailable")
	// ErrCommitUnknown: the connection was lost after COMMIT was sent. The
	// transaction may have been committed: repeat it only if it is idempotent.
	ErrCommitUnknown = errors.New("outcome of commit unknown")
	// ErrBusy: every connection of the role was in use for too long. It also
	// matches ErrUnavailable.
	ErrBusy = errors.New("database connections all in use")
)

var (
	errNeverTried = errors.New("no connection has been made yet")
	errClosed     = errors.New("closed")
)

func unavailable(cause error) error {
	if signIn := refusedLogin(cause); signIn != nil {
		return signIn
	}
	if errors.Is(cause, ErrEpoch) {
		return problem.New(problem.Unavailable, ErrEpoch.Code, ErrEpoch.Detail).WithMend(ErrEpoch.Mend).WithRetry(2 * time.Second).Wrap(fmt.Errorf("%w: %w", ErrUnavailable, cause))
	}
	return problem.New(problem.Unavailable, "database-unavailable", "The database does not answer.").
		WithMend("Try again shortly; if it lasts, see whether PostgreSQL runs and can be reached.").
		WithRetry(2 * time.Second).Wrap(fmt.Errorf("%w: %w", ErrUnavailable, cause))
}

// refusedLogin explains a server that answers but lets a role not in.
func refusedLogin(cause error) error {
	var pe *pgconn.PgError
	if !errors.As(cause, &pe) {
		return nil
	}
	e := problem.New(problem.Unavailable, "", "").WithRetry(10 * time.Second).
		Wrap(fmt.Errorf("%w: %w", ErrUnavailable, cause))
	switch pe.Code {
	case "28000", "28P01": // invalid_authorization_specification, invalid_password
		e.Code, e.Detail = "database-login", "The database refuses the login of one of Foundry's roles: "+pe.Message+"."
		e.Mend = "Create the roles with the SQL that `foundry database roles` prints, and check the configured passwords."
	case "3D000": // invalid_catalog_name
		e.Code, e.Detail = "database-missing", "The server answers, but has not the configured database: "+pe.Message+"."
		e.Mend = "Create it with the SQL that `foundry database roles` prints, or correct the database's name."
	default:
		return nil
	}
	return e
}

// gone reports whether the server said that it is going, coming or full.
func gone(err error) bool {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return false
	}
	switch pe.Code {
	case "57P01", "57P02", "57P03", "57P05", "53300": // shutdown, crash, starting up, idle timeout, too many clients
		return true
	}
	return strings.HasPrefix(pe.Code, "08") // connection_exception
}

// classify turns an error out of a transaction into what a caller can act on.
// Problems pass untouched, as do database errors that only the caller can
// read. dead says that the connection did not survive.
func classify(ctx context.Context, dead bool, err error) error {
	var known *problem.Error
	var pe *pgconn.PgError
	switch {
	case errors.As(err, &known):
		return err
	case ctx.Err() != nil: // the caller gave up: not the server's fault
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	case gone(err) || dead:
		return unavailable(err)
	case errors.As(err, &pe) && pe.Code == "53100": // disk_full
		return problem.New(problem.Unavailable, "database-disk-full", "The database cannot write: its disk is full.").
			WithMend("Free space on the volume of the data directory; nothing needs a restart.").
			WithRetry(10 * time.Second).Wrap(fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	return err
}

// classifyCommit tells a refused commit, which is rolled back, from one whose
// answer never came.
func classifyCommit(ctx context.Context, err error) error {
	var pe *pgconn.PgError
	if errors.Is(err, pgx.ErrTxCommitRollback) || errors.As(err, &pe) && !gone(err) {
		return classify(ctx, false, err)
	}
	return problem.New(problem.Unavailable, "commit-unknown", "The connection to the database was lost while a change was being committed, so it may or may not have happened.").
		WithMend("Look whether it happened before repeating it.").WithRetry(2 * time.Second).
		Wrap(fmt.Errorf("%w: %w: %w", ErrUnavailable, ErrCommitUnknown, err))
}

// classifyAcquire explains why no transaction could begin.
func classifyAcquire(ctx context.Context, st *state, pool *pgxpool.Pool, err error) error {
	stat := pool.Stat()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("waiting for a database connection: %w", context.Cause(ctx))
	case st.over.Err() == nil && errors.Is(err, context.DeadlineExceeded) && stat.AcquiredConns() >= stat.MaxConns():
		return problem.New(problem.Overloaded, "database-busy", "Every connection to the database was in use for too long.").
			WithMend("Try again shortly.").WithRetry(time.Second).
			Wrap(fmt.Errorf("%w: %w: %w", ErrUnavailable, ErrBusy, err))
	}
	return unavailable(err)
}
