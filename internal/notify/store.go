package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

// Notification is a message as people may see it: without address and words.
type Notification struct {
	ID           uuid.UUID  `json:"id"`
	Organisation uuid.UUID  `json:"organisation"`
	Template     Template   `json:"template"`
	Channel      string     `json:"channel"` // mail, or webhook:NAME
	Page         *uuid.UUID `json:"page,omitempty"`
	MessageID    string     `json:"message_id"`
	Recipient    []byte     `json:"-"`
	State        State      `json:"state"`
	Attempts     int        `json:"attempts"`
	Doubtful     int        `json:"doubtful_attempts"`
	Relay        string     `json:"relay,omitempty"`
	Answer       string     `json:"answer,omitempty"`
	Created      time.Time  `json:"created_at"`
	Next         *time.Time `json:"next_attempt_at,omitempty"`
	Expires      time.Time  `json:"expires_at"`
	Ended        *time.Time `json:"ended_at,omitempty"`
	Wiped        bool       `json:"wiped"` // address and words are gone

	Held bool      `json:"held"` // no relay is configured, or no such webhook
	To   string    `json:"recipient"`
	Log  []Attempt `json:"attempt_log,omitempty"`
}

// Attempt is what one relay said, once.
type Attempt struct {
	N       int       `json:"attempt"`
	Hop     int       `json:"relay_number"`
	At      time.Time `json:"at"`
	Relay   string    `json:"relay"`
	Outcome string    `json:"outcome"`
	Stage   string    `json:"stage"`
	Code    int       `json:"code"`
	Answer  string    `json:"answer"`
}

const columns = `id, organisation_id, template, channel, page_id, message_id, recipient, state, attempts, doubtful, relay, answer, created_at, next_at, expires_at, ended_at, sealed IS NULL`

func scan(row pgx.CollectableRow) (n Notification, err error) {
	err = row.Scan(&n.ID, &n.Organisation, &n.Template, &n.Channel, &n.Page, &n.MessageID, &n.Recipient, &n.State, &n.Attempts, &n.Doubtful, &n.Relay, &n.Answer,
		&n.Created, &n.Next, &n.Expires, &n.Ended, &n.Wiped)
	if len(n.Recipient) >= 6 {
		n.To = fmt.Sprintf("%x", n.Recipient[:6]) // enough to tell two recipients apart
	}
	return n, err
}

func (b *Outbox) insert(ctx context.Context, tx pgx.Tx, r rendered) error {
	plain, err := r.body.marshal()
	if err != nil {
		return fmt.Errorf("storing a message: %w", err)
	}
	sealed, err := b.seal(ctx, r.organisation, "notifications", "sealed", r.id.String(), plain)
	if err != nil {
		return fmt.Errorf("sealing a message: %w", err)
	}
	recipient := r.body.To.Email
	if r.channel != mailChannel {
		recipient = r.channel
	}
	_, err = tx.Exec(ctx, `INSERT INTO notifications (id, organisation_id, template, message_id, recipient, content, sealed, state, next_at, expires_at, channel, page_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 'queued', now(), now() + $8, $9, nullif($10, '00000000-0000-0000-0000-000000000000'::uuid))`, r.id, r.organisation, r.template, r.messageID,
		b.hash([]byte(recipient)), b.hash(plain), sealed, r.expires.Sub(b.clock()), r.channel, r.page)
	if err != nil {
		return fmt.Errorf("storing a message: %w", err)
	}
	return nil
}

// due lists messages whose time has come, of all organisations, for channels
// that this node can send by.
func due(ctx context.Context, d *db.DB, channels []string, limit int) (out []Notification, err error) {
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+columns+` FROM notifications
			WHERE next_at <= now() AND (leased_until IS NULL OR leased_until <= now()) AND channel = ANY($2) ORDER BY next_at LIMIT $1`, limit, channels)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, scan)
		return err
	})
	return out, err
}

// claim takes the lease of one message. ok is false where another node was
// faster. A message whose lease ran out while it was being sent belonged to a
// node that died: what became of it is not known, and is entered as such.
func (b *Outbox) claim(ctx context.Context, d *db.DB, n Notification, lease uuid.UUID, span time.Duration) (c content, attempt int, ok bool, err error) {
	err = d.Org(ctx, n.Organisation, func(tx pgx.Tx) error {
		var sealed []byte
		var was State
		err := tx.QueryRow(ctx, `UPDATE notifications new SET state = 'sending', lease = $2, leased_until = now() + $3, attempts = old.attempts + 1,
				doubtful = old.doubtful + (old.state = 'sending')::int
			FROM (SELECT id, state, attempts, doubtful FROM notifications WHERE id = $1 AND next_at <= now() AND expires_at > now() AND sealed IS NOT NULL
				AND (leased_until IS NULL OR leased_until <= now()) FOR UPDATE) old
			WHERE new.id = old.id RETURNING new.sealed, old.state, new.attempts`, n.ID, lease, span).Scan(&sealed, &was, &attempt)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		ok = true
		if was == Sending {
			lost := try{outcome: doubtful, stage: "answer", answer: "The node stopped while it was sending: the receiver may have taken the message."}
			if err := logTry(ctx, tx, n, attempt-1, 99, lost); err != nil {
				return err
			}
		}
		plain, err := b.open(ctx, n.Organisation, "notifications", "sealed", n.ID.String(), sealed)
		if err != nil {
			return fmt.Errorf("opening a message: %w", err)
		}
		return json.Unmarshal(plain, &c)
	})
	return c, attempt, ok && err == nil, err
}

func logTry(ctx context.Context, tx pgx.Tx, n Notification, attempt, hop int, t try) error {
	_, err := tx.Exec(ctx, `INSERT INTO notification_attempts (notification_id, organisation_id, n, hop, relay, outcome, stage, code, answer)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`, n.ID, n.Organisation, attempt, hop, t.relay, string(t.outcome), t.stage, t.code, t.answer)
	return err
}

// settle enters how an attempt ended, and gives the lease back. Whoever lost
// the lease meanwhile changes nothing but the log.
func settle(ctx context.Context, d *db.DB, n Notification, lease uuid.UUID, attempt int, tries []try, v verdict) error {
	return d.Org(ctx, n.Organisation, func(tx pgx.Tx) error {
		for i, t := range tries {
			if err := logTry(ctx, tx, n, attempt, i+1, t); err != nil {
				return err
			}
		}
		last, unknown := tries[len(tries)-1], 0
		if last.outcome == doubtful {
			unknown = 1
		}
		// The end of a message is remembered even by a node that was too slow:
		// what a relay accepted must not be sent again.
		_, err := tx.Exec(ctx, `UPDATE notifications SET state = $3, relay = $4, answer = $5, doubtful = doubtful + $6,
				next_at = CASE WHEN $7::interval IS NULL THEN NULL ELSE now() + $7::interval END,
				sealed = CASE WHEN $8 THEN NULL ELSE sealed END, ended_at = CASE WHEN $7::interval IS NULL THEN now() END,
				lease = NULL, leased_until = NULL
			WHERE id = $1 AND (lease = $2 OR $3 = 'accepted') AND state <> 'accepted'`,
			n.ID, lease, string(v.state), last.relay, last.answer, unknown, v.wait, v.wipe)
		return err
	})
}

// expire ends what is of no use any more, and wipes it. What a relay may have
// taken stays indeterminate: it is not known to have expired.
func expire(ctx context.Context, d *db.DB) (n int64, err error) {
	var old []Notification
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+columns+` FROM notifications WHERE sealed IS NOT NULL AND expires_at <= now()
			AND (leased_until IS NULL OR leased_until <= now()) ORDER BY expires_at LIMIT 100`)
		if err != nil {
			return err
		}
		old, err = pgx.CollectRows(rows, scan)
		return err
	})
	for _, o := range old {
		if err != nil {
			return n, err
		}
		err = d.Org(ctx, o.Organisation, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, `UPDATE notifications SET sealed = NULL, next_at = NULL, lease = NULL, leased_until = NULL, ended_at = coalesce(ended_at, now()),
					state = CASE WHEN state IN ('sending', 'indeterminate') OR doubtful > 0 THEN 'indeterminate' WHEN state = 'failed' THEN 'failed' ELSE 'expired' END
				WHERE id = $1 AND sealed IS NOT NULL AND expires_at <= now() AND (leased_until IS NULL OR leased_until <= now())`, o.ID)
			n += tag.RowsAffected()
			return err
		})
	}
	return n, err
}

// Filter narrows a list of messages.
type Filter struct {
	Organisation uuid.UUID // nil and All false: the platform's own
	All          bool      // of all organisations
	State        State     // empty: all
	Before       uuid.UUID // nil: from the newest
	Limit        int
}

// List shows messages, the newest first.
func (b *Outbox) List(ctx context.Context, d *db.DB, f Filter) (out []Notification, err error) {
	if f.Before == uuid.Nil {
		f.Before = uuid.Max
	}
	if f.Limit <= 0 || f.Limit > 500 {
		f.Limit = 50
	}
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+columns+` FROM notifications WHERE id < $1 AND ($2 OR organisation_id = $3) AND ($4 = '' OR state = $4)
			ORDER BY id DESC LIMIT $5`, f.Before, f.All, f.Organisation, string(f.State), f.Limit)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, scan)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing messages: %w", err)
	}
	for i := range out {
		out[i].Held = b.held(out[i])
	}
	return out, nil
}

// Show gives one message with all its attempts.
func (b *Outbox) Show(ctx context.Context, d *db.DB, id uuid.UUID) (n Notification, err error) {
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+columns+` FROM notifications WHERE id = $1`, id)
		if err != nil {
			return err
		}
		if n, err = pgx.CollectExactlyOneRow(rows, scan); err != nil {
			return err
		}
		rows, err = tx.Query(ctx, `SELECT n, hop, at, relay, outcome, stage, code, answer FROM notification_attempts WHERE notification_id = $1 ORDER BY n, hop`, id)
		if err != nil {
			return err
		}
		n.Log, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Attempt])
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return n, problem.New(problem.NotFound, "message-unknown", "There is no such message.").WithField("id").WithMend("`foundry notify list` shows them.")
	}
	if err != nil {
		return n, fmt.Errorf("showing a message: %w", err)
	}
	n.Held = b.held(n)
	return n, nil
}

// Retry makes an unfinished message due at once, in the caller's transaction,
// which must be scoped to its organisation.
func (b *Outbox) Retry(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	tag, err := tx.Exec(ctx, `UPDATE notifications SET next_at = now(), ended_at = NULL, state = CASE WHEN state = 'failed' THEN 'queued' ELSE state END
		WHERE id = $1 AND state IN ('queued', 'failed', 'indeterminate') AND sealed IS NOT NULL AND expires_at > now()`, id)
	if err != nil {
		return fmt.Errorf("retrying a message: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return problem.New(problem.Conflict, "message-ended", "This message cannot be sent again: it was accepted, is being sent, or has expired and is wiped.").
			WithMend("Repeat the act that caused it, for example make a new invitation.")
	}
	return nil
}

// Counts says how many messages are in each state, of all organisations.
func Counts(ctx context.Context, d *db.DB) (map[State]int64, error) {
	out := map[State]int64{}
	err := d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT state, count(*) FROM notifications GROUP BY state`)
		if err != nil {
			return err
		}
		var s State
		var n int64
		_, err = pgx.ForEachRow(rows, []any{&s, &n}, func() error { out[s] = n; return nil })
		return err
	})
	return out, err
}

// held reports whether a message waits for its channel to be configured.
func (b *Outbox) held(n Notification) bool {
	return n.Next != nil && !slices.Contains(b.reached(), n.Channel)
}
