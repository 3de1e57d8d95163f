package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/pgbackrest"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// goOn has this node archive, from the moment at which it runs the database, into
// the repository that it was restored from, where it has the same place among
// its targets: that is opened by the passphrase of the node that made it. The
// log of the old timeline stays there, and the new one begins beside it. dir
// is where the rest of the lost node was restored.
func (d *Daemon) goOn(ctx context.Context, dir string, r *backup.Recovery) (words string) {
	from, found := restoredTarget(dir, r.Target)
	if !found {
		return "Where the backups went until now is not known: what this node archives goes to its own targets."
	}
	var own []string
	for _, t := range d.targets {
		if t.Kind == target.SFTPHost || !t.Serves(pgbackrest.Name) {
			continue
		}
		if !samePlace(t.Config, from) {
			own = append(own, t.Name)
			continue
		}
		theirs, err := backup.OpenPassphrases(dir, d.keyring.Seal, d.keyring.Open)
		if err == nil {
			err = d.passphrases.Adopt(theirs, r.Target, t.Name, pgbackrest.Name)
		}
		if err == nil {
			_, err = d.database.Points(ctx, t) // as configured anew
		}
		if err != nil {
			d.log.Error("the repository that the database was restored from does not open here: nothing is archived there", "target", t.Name, "error", err)
			return fmt.Sprintf("The repository at %s does not open on this node: nothing is archived there. %s", t.Name, problem.From(err).Detail)
		}
		return fmt.Sprintf("The database is archived at %s as before, on a timeline of its own.", t.Name)
	}
	if len(own) == 0 {
		d.log.Error("this node runs the database and has no target for its backups", "before", r.Target)
		return "This node has no target for backups of the database: from now on there are none."
	}
	return fmt.Sprintf("The database is archived at %s from now on; what came before stays at %s.", strings.Join(own, ", "), r.Target)
}

// restoredTarget is the place of a target, by the settings of the node that was
// restored in dir.
func restoredTarget(dir, name string) (target.Config, bool) {
	var c Config
	if err := config.Load(filepath.Join(dir, "foundry.yaml"), &c); err != nil {
		return target.Config{}, false
	}
	for _, t := range c.Backup.Targets {
		if t.Name == name {
			return t, true
		}
	}
	return target.Config{}, false
}

// samePlace says whether two nodes name one place.
func samePlace(a, b target.Config) bool {
	if a.Kind != b.Kind || filepath.Clean("/"+a.Path) != filepath.Clean("/"+b.Path) {
		return false
	}
	if a.Kind == target.S3Bucket {
		return a.S3 != nil && b.S3 != nil && strings.TrimSuffix(a.S3.Endpoint, "/") == strings.TrimSuffix(b.S3.Endpoint, "/") && a.S3.Bucket == b.S3.Bucket
	}
	return true
}
