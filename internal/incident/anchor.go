package incident

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// ActAnchor is how the audit log names a head of a timeline.
const ActAnchor = "incident.anchor"

// Anchor puts the head of every timeline that has grown into the audit log,
// and notes that in the timeline. From then on nobody can write the timeline
// anew without the audit tree showing it. Run it when the database is back,
// and now and then; the one who dies between the two anchors twice, which
// harms nothing. It says how many it anchored.
func (b *Book) Anchor(ctx context.Context, d *db.DB) (n int, err error) {
	node := principal.Node("incident")
	all, bad, err := b.all(ctx)
	if err != nil {
		return 0, err
	}
	for _, t := range all {
		if t.Stale || t.State.Stirred <= t.State.Anchored.N {
			continue
		}
		a := &Anchor{N: t.State.Head.N, Hash: t.State.Head.Hash}
		err := d.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
			return audit.Append(ctx, tx, node, uuid.Nil, ActAnchor, t.State.ID, a)
		})
		if err != nil {
			return n, fmt.Errorf("anchoring incident %s: %w", t.State.ID, err)
		}
		if _, _, err := b.append(ctx, node, t.State.ID, a); err != nil {
			return n, err
		}
		n++
	}
	for id, why := range bad {
		err = errors.Join(err, fmt.Errorf("incident %s is not anchored: %w", id, why))
	}
	return n, err
}

func codeIs(err error, code string) bool {
	var p *problem.Error
	return errors.As(err, &p) && p.Code == code
}
