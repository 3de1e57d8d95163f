package backup

import (
	"context"
	"path/filepath"
	"time"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/keys"
)

// Checks that a recovery makes beside those of package scratch.
const (
	CheckAudit = "audit log"
	CheckKeys  = "keys"
)

// hooks look at the audit log and at the keys of a restored copy, with what the
// kit brought into the data directory.
func (x *recovering) hooks() []scratch.Hook {
	return []scratch.Hook{
		{Name: CheckAudit, Look: x.lookAtAudit},
		{Name: CheckKeys, Look: func(ctx context.Context, copy *db.DB, _ time.Time) (scratch.Outcome, string, error) {
			return JudgeKeys(ctx, copy, keys.NewVault(keys.VaultOptions{DB: copy, Keyring: x.ring}), access.SealedColumns())
		}},
	}
}

func (x *recovering) lookAtAudit(ctx context.Context, copy *db.DB, recovered time.Time) (scratch.Outcome, string, error) {
	log, err := audit.OpenLog(audit.Options{DB: copy, Dir: filepath.Join(x.o.DataDir, "audit"), Seal: x.ring.Seal, Open: x.ring.Open})
	if err != nil {
		return scratch.Inconclusive, "", err
	}
	defer func() { _ = log.Close(ctx) }()
	// A log that lost its newest entries can only go on where what it had signed
	// of them is set aside.
	c, err := log.Cover(ctx)
	x.r.AuditBehind = err != nil || c.Beyond > 0
	x.r.AuditSize, x.r.AuditRoot = c.Size, c.Root
	return JudgeAudit(ctx, log, recovered)
}
