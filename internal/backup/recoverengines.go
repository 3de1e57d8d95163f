package backup

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/backup/pgbackrest"
	"github.com/missionopsai/foundry/internal/backup/restic"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

// KitEngines makes pgBackRest and restic with the passphrases of a kit. They
// work in dir; their secrets are in memory-backed files until they are closed.
func KitEngines(ctx context.Context, targets []target.Target, c kit.Content, dir string, log *slog.Logger) (e RecoveryEngines, err error) {
	runtime, err := engine.OpenRuntime("", dir, c.Node.Mode == "production")
	if err != nil {
		return e, err
	}
	e.Close = runtime.Close
	defer func() {
		if err != nil {
			_ = runtime.Close()
		}
	}()
	account, err := db.FindAccount("")
	if err != nil {
		return e, err
	}
	passphrase := func(name string) engine.Passphrase {
		return func(_ context.Context, t target.Target) (string, error) {
			p := c.Passphrases[kit.PassphraseName(t.Name, name)]
			if len(p) == 0 {
				return "", problem.New(problem.NotFound, "kit-passphrase", "The kit has no passphrase for the repository of "+name+" at "+t.Name+".").
					WithMend("Use a newer kit, or another --target.")
			}
			return string(p), nil
		}
	}
	var database []target.Target
	for _, t := range targets {
		if t.Kind != target.SFTPHost && t.Serves(pgbackrest.Name) && len(c.Passphrases[kit.PassphraseName(t.Name, pgbackrest.Name)]) > 0 {
			database = append(database, t)
		}
	}
	pg, err := pgbackrest.New(ctx, pgbackrest.Options{Targets: database, Passphrase: passphrase(pgbackrest.Name), Runtime: runtime,
		Dir: filepath.Join(dir, "recovery-"+pgbackrest.Name), Account: account, Log: log})
	if err != nil {
		return e, err
	}
	e.Database = pg
	e.Archive = func(ctx context.Context, t target.Target) (scratch.Archive, time.Time, error) {
		a, err := pg.Archive(ctx, t)
		if err != nil {
			return scratch.Archive{}, time.Time{}, err
		}
		newest, _ := a.Newest()
		return scratch.Archive{Names: a.Names(), Missing: a.Missing()}, newest.Stored, nil
	}
	private, err := runtime.Sub(restic.Name, -1, -1)
	if err != nil {
		return e, err
	}
	e.Files, err = restic.New(restic.Options{State: filepath.Join(dir, "recovery-"+restic.Name), Runtime: private, Passphrase: passphrase(restic.Name), Behind: true, Log: log})
	return e, err
}

// openTargets makes targets of those in a kit. Files that their settings name
// are written below dir, readable for the programs that need them.
func openTargets(list []kit.Target, dir string) (out []target.Target, err error) {
	put := func(name string, body []byte) (string, error) {
		if len(body) == 0 {
			return "", nil
		}
		path := filepath.Join(dir, "recovery-targets", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
			return "", pathProblem(path, err)
		}
		return path, writeFile(path, body, 0o644) // public: certificates and host keys
	}
	for _, k := range list {
		t := target.Target{Config: k.Config, S3Key: k.S3Key, S3Secret: k.S3Secret, SFTPKey: k.SFTPKey}
		if s := k.Config.S3; s != nil {
			own := *s
			if own.CA, err = put(k.Config.Name+"-ca.pem", k.CA); err != nil {
				return nil, err
			}
			t.S3 = &own
		}
		if s := k.Config.SFTP; s != nil {
			own := *s
			if own.KnownHosts, err = put(k.Config.Name+"-known-hosts", k.KnownHosts); err != nil {
				return nil, err
			}
			t.SFTP = &own
		}
		out = append(out, t)
	}
	return out, nil
}

// workplace is where the engines of a recovery keep their locks and logs: in
// the data directory, or, where nothing may be changed, in a directory that is
// removed again.
func (x *recovering) workplace() (dir string, remove func() error, err error) {
	if !x.o.DryRun {
		return x.o.DataDir, func() error {
			return errors.Join(os.RemoveAll(filepath.Join(x.o.DataDir, "recovery-"+pgbackrest.Name)), os.RemoveAll(filepath.Join(x.o.DataDir, "recovery-"+restic.Name)))
		}, nil
	}
	if dir, err = os.MkdirTemp("", "foundry-recover-"); err != nil {
		return "", nil, pathProblem(os.TempDir(), err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // the database's account passes through
		return "", nil, pathProblem(dir, err)
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}
