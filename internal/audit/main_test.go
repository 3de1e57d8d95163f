package audit

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

var who = principal.Principal{Kind: principal.Local, UID: 7}

// plainSeal stands in for the keyring: it authenticates nothing but the place.
func plainSeal(plaintext, associated []byte) ([]byte, error) {
	return append(append(bytes.Clone(associated), 0), plaintext...), nil
}

func plainOpen(sealed, associated []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(sealed, append(bytes.Clone(associated), 0))
	if !ok {
		return nil, errors.New("sealed for another place")
	}
	return rest, nil
}

func options(d *db.DB, dir string) Options {
	return Options{DB: d, Dir: dir, Node: 1, Seal: plainSeal, Open: plainOpen}
}

func openLog(t testing.TB, o Options) *Log {
	t.Helper()
	if o.Log == nil {
		o.Log = dbtest.Log(t)
	}
	l, err := OpenLog(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	return l
}

// act appends an entry in a transaction of its own and returns its id.
func act(t testing.TB, d *db.DB, org uuid.UUID, name, target string, details any) uuid.UUID {
	t.Helper()
	err := d.Org(context.Background(), org, func(tx pgx.Tx) error {
		return Append(context.Background(), tx, who, org, name, target, details)
	})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := Find(context.Background(), d, Filter{Limit: 1, Act: name})
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	return rows[0].ID
}

// drain sequences until nothing waits.
func drain(t interface{ Fatal(...any) }, l *Log) {
	for {
		n, err := l.Sequence(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

// clock is a time that a test moves.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time          { return c.at }
func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }

// codeOf is the code of a problem, or nothing.
func codeOf(err error) string {
	var p *problem.Error
	if errors.As(err, &p) {
		return p.Code
	}
	return ""
}
