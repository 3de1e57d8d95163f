package notify

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
)

// RetryAs authorises, does and audits that a message is tried again at once.
func (b *Outbox) RetryAs(ctx context.Context, d *db.DB, g *access.Guard, p principal.Principal, id uuid.UUID) (Notification, error) {
	if err := g.Authorise(ctx, p, "notify.retry", policy.Resource{ID: id.String()}); err != nil {
		return Notification{}, err
	}
	n, err := b.Show(ctx, d, id)
	if err != nil {
		return n, err
	}
	err = d.Org(ctx, n.Organisation, func(tx pgx.Tx) error {
		if err := b.Retry(ctx, tx, id); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, n.Organisation, "notify.retry", id.String(), nil)
	})
	if err != nil {
		return n, err
	}
	b.Kick()
	return b.Show(ctx, d, id)
}

// TestAs authorises, queues and audits a test message.
func (b *Outbox) TestAs(ctx context.Context, d *db.DB, g *access.Guard, p principal.Principal, to, locale, node string) (Notification, error) {
	if err := g.Authorise(ctx, p, "notify.test", policy.Resource{}); err != nil {
		return Notification{}, err
	}
	address, err := ParseAddress("to", to)
	if err != nil {
		return Notification{}, err
	}
	var id uuid.UUID
	err = d.Org(ctx, uuid.Nil, func(tx pgx.Tx) (err error) {
		id, err = b.Enqueue(ctx, tx, Message{Template: Test, Locale: locale, To: address, Fields: map[string]string{"when": b.clock().UTC().Format(time.RFC3339), "node": node}})
		if err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, uuid.Nil, "notify.test", id.String(), nil)
	})
	if err != nil {
		return Notification{}, err
	}
	b.Kick()
	return b.Show(ctx, d, id)
}
