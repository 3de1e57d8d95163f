package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// ballastRow is how much one row holds: random, so that nothing packs it.
const ballastRow = 64 << 10

// fill puts as much into the first node's database as the scenario says, apart
// from what is Foundry's, and has it backed up whole: a restore takes as long
// as it has to carry.
func (l *Lab) fill(ctx context.Context, n *node, say func(string)) error {
	rows := l.o.Scenario.Fleet.Data / ballastRow
	if rows == 0 {
		return nil
	}
	say(fmt.Sprintf("putting %d MB into the database, and backing it up", l.o.Scenario.Fleet.Data>>20))
	run := filepath.Join(n.data(), "postgres", "run")
	sockets, err := filepath.Glob(filepath.Join(run, ".s.PGSQL.*[0-9]")) // named by the port where it listens for other nodes
	if err != nil || len(sockets) == 0 {
		return errors.Join(errors.New("the database of "+n.name+" has no socket"), err)
	}
	c, err := pgx.Connect(ctx, fmt.Sprintf("host=%s port=%s sslmode=disable dbname=foundry user=foundry_migrator", run, filepath.Ext(sockets[0])[1:]))
	if err != nil {
		return fmt.Errorf("filling the database: %w", err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	if _, err := c.Exec(ctx, `CREATE SCHEMA ballast; CREATE TABLE ballast.rows (n bigint PRIMARY KEY, body bytea NOT NULL)`); err != nil {
		return fmt.Errorf("filling the database: %w", err)
	}
	body := make([]byte, ballastRow)
	i := int64(0)
	if _, err := c.CopyFrom(ctx, pgx.Identifier{"ballast", "rows"}, []string{"n", "body"}, pgx.CopyFromFunc(func() ([]any, error) {
		if i == rows {
			return nil, nil
		}
		i++
		_, _ = rand.Read(body) // never fails (crypto/rand)
		return []any{i, body}, nil
	})); err != nil {
		return fmt.Errorf("filling the database: %w", err)
	}
	_, err = n.run(ctx, "backup", "run")
	return err
}
