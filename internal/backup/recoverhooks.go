package backup

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/problem"
)

// Checks that a recovery makes beside those of package scratch.
const (
	CheckAudit = "audit log"
	CheckKeys  = "keys"
)

// auditBehind is said where signed entries are no more.
const auditBehind = "newest entries are lost"

// recoveryHooks look at the audit log and at the keys of a restored copy, with
// what the kit brought into a data directory.
func recoveryHooks(dataDir string) func(kit.Content, *keys.Keyring) []scratch.Hook {
	return func(_ kit.Content, ring *keys.Keyring) []scratch.Hook {
		return []scratch.Hook{
			{Name: CheckAudit, Look: func(ctx context.Context, copy *db.DB, _ time.Time) (scratch.Outcome, string, error) {
				return lookAtAudit(ctx, copy, filepath.Join(dataDir, "audit"), ring)
			}},
			{Name: CheckKeys, Look: func(ctx context.Context, copy *db.DB, _ time.Time) (scratch.Outcome, string, error) {
				return lookAtKeys(ctx, copy, ring)
			}},
		}
	}
}

func lookAtAudit(ctx context.Context, copy *db.DB, dir string, ring *keys.Keyring) (scratch.Outcome, string, error) {
	log, err := audit.OpenLog(audit.Options{DB: copy, Dir: dir, Seal: ring.Seal, Open: ring.Open})
	if err != nil {
		return scratch.Inconclusive, "", err
	}
	defer func() { _ = log.Close(ctx) }()
	c, err := log.Cover(ctx)
	switch p := problem.From(err); {
	case err != nil && (p.Code == "audit-tree-forked" || p.Code == "audit-checkpoint-forged"):
		return scratch.Fail, p.Detail, nil
	case err != nil:
		return scratch.Inconclusive, "", err
	case c.Within == 0 && c.Beyond == 0:
		return scratch.Inconclusive, "The kit holds no checkpoint to compare the audit log with.", nil
	case c.Within == 0:
		return scratch.Inconclusive, fmt.Sprintf("The tree has %d leaves, fewer than every checkpoint of the kit: the %s, and nothing tells whether the others were changed.", c.Size, auditBehind), nil
	case c.Beyond > 0:
		return scratch.Pass, fmt.Sprintf("The tree of %d leaves goes on from %d checkpoints of the kit; %d entries were signed, the %s.", c.Size, c.Within, c.Largest, auditBehind), nil
	}
	return scratch.Pass, fmt.Sprintf("The tree of %d leaves goes on from all %d checkpoints of the kit.", c.Size, c.Within), nil
}

func lookAtKeys(ctx context.Context, copy *db.DB, ring *keys.Keyring) (scratch.Outcome, string, error) {
	n, err := keys.NewVault(keys.VaultOptions{DB: copy, Keyring: ring}).OpenAll(ctx)
	switch p := problem.From(err); {
	case err != nil && p.Code == "kek-wrong":
		return scratch.Fail, p.Detail, nil
	case err != nil:
		return scratch.Inconclusive, "", err
	case n == 0:
		return scratch.Inconclusive, "No organisation has keys yet that could be tried.", nil
	}
	return scratch.Pass, fmt.Sprintf("The keys of %d organisations open with the kit's key-encryption key.", n), nil
}
