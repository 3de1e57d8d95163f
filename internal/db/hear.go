package db

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Tell sends a message to whoever hears a channel now, on any node. It is kept
// nowhere: who does not hear it at this moment never will. A payload has less
// than 8000 bytes (PostgreSQL's NOTIFY).
func (d *DB) Tell(ctx context.Context, channel, payload string) error {
	return d.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT pg_notify($1, $2)`, channel, payload)
		return err
	})
}

// Hear calls fn for every message on a channel, until ctx ends. Messages sent
// while the connection is being made anew are not heard.
func (d *DB) Hear(ctx context.Context, channel string, fn func(payload string)) {
	for ctx.Err() == nil {
		if d.WaitHealthy(ctx) != nil {
			return
		}
		_ = d.hear(ctx, channel, fn) // the heartbeat says what is wrong with the database
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (d *DB) hear(ctx context.Context, channel string, fn func(payload string)) error {
	pc, err := d.cfg.pool(Reader)
	if err != nil {
		return err
	}
	connect, cancel := context.WithTimeout(ctx, d.cfg.SilenceTimeout)
	defer cancel()
	conn, err := d.dial(connect, pc)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(connect, "listen "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return err
	}
	// A server that vanished without a word would be waited for in vain: the
	// heartbeat notices, and ends this connection too.
	over := d.state.Load().over
	life, end := context.WithCancel(ctx)
	defer end()
	defer context.AfterFunc(over, end)()
	for {
		n, err := conn.WaitForNotification(life)
		if err != nil {
			return err
		}
		fn(n.Payload)
	}
}
