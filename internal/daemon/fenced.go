package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// rescue is what brings a node back, and lets people in when nothing else does.
type rescue struct {
	fence *backup.Fence // nil: the node works
	glass *backup.Glass
	code  *backup.Code

	kekLock sync.Mutex
	kekFor  string // fingerprint of the key in force when a person was asked
	keks    []kit.KEK
}

// runRescue starts its background work.
func (d *Daemon) runRescue(ctx context.Context) {
	d.running.Go(func() { d.announceRecovery(ctx) })
	d.running.Go(func() {
		if err := d.glass.Run(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("keeping the emergency kit stopped", "error", err)
		}
	})
}

// Fence says why the node does nothing yet; nil: it works.
func (d *Daemon) Fence() *backup.Fence { return d.fence }

// startFenced starts a node that was recovered and not activated: it answers
// that it is fenced, and nothing else. It starts no database, so that nothing
// is written into the archive that it came from; it runs no job and sends
// nothing.
func (d *Daemon) startFenced(ctx context.Context) (fenced bool, err error) {
	dir, err := filepath.Abs(d.config.DataDir)
	if err != nil {
		return false, err
	}
	if d.fence, err = backup.ReadFence(dir); err != nil {
		// Said of the directory, if that is what cannot be used.
		if _, unusable := prepareDir(d.config.DataDir); unusable != nil {
			return false, unusable
		}
		return false, err
	}
	if d.fence == nil {
		return false, nil
	}
	if d.config.DataDir, err = prepareDir(d.config.DataDir); err != nil {
		return true, err
	}
	if d.lock, err = takeLock(d.config.DataDir, d.clock()); err != nil {
		return true, err
	}
	if err := d.openKeys(); err != nil {
		return true, err
	}
	if d.authority, err = openAuthority(d.config.DataDir, d.keyring, d.clock()); err != nil {
		return true, err
	}
	if err := d.listen(ctx); err != nil {
		return true, err
	}
	d.log.Warn("the node is fenced: it was recovered, and does nothing until it is activated", "reason", d.fence.Reason)
	d.serveFenced()
	return true, nil
}

func (d *Daemon) serveFenced() {
	for _, s := range d.servers {
		s.http = &http.Server{ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytes, ErrorLog: quietLog(d.log),
			Handler: http.HandlerFunc(d.answerFenced), BaseContext: func(net.Listener) context.Context { return d.serving }}
		l, serve := s.listener, s.http.Serve
		switch s.name {
		case "https":
			s.http.TLSConfig = tlsConfig(d.certificates())
			serve = func(l net.Listener) error { return s.http.ServeTLS(l, "", "") }
		case "http":
			s.http.Handler = d.redirect()
		}
		d.running.Go(func() {
			if err := serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
				d.failed <- fmt.Errorf("listening on %s ended: %w", s.name, err)
			}
		})
	}
}

// answerFenced says that the process answers, and that the node does not.
func (d *Daemon) answerFenced(w http.ResponseWriter, r *http.Request) {
	w.Header()["Strict-Transport-Security"] = hsts
	if r.URL.Path == "/healthz" {
		writeJSON(w, http.StatusOK, map[string]any{"status": "fenced", "version": d.version, "since": d.fence.Since, "reason": d.fence.Reason, "mend": d.fence.Mend})
		return
	}
	problem.Write(w, d.fence.Problem())
}

// announceEvery is how often it is tried to enter a recovery into the audit log.
const announceEvery = 10 * time.Second

// announceRecovery enters into the audit log that this node was recovered, how
// far and with what loss, and tells people, once the database answers.
func (d *Daemon) announceRecovery(ctx context.Context) {
	for ctx.Err() == nil {
		r, err := backup.ReadRecovery(d.config.DataDir)
		if r == nil && err == nil || err == nil && (r.Activated.IsZero() || !r.Announced.IsZero()) {
			return
		}
		if err == nil {
			if err = d.enterRecovery(ctx, r); err == nil {
				return
			}
		}
		d.log.Warn("the recovery of this node is not in the audit log yet; it is tried again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(announceEvery):
		}
	}
}

func (d *Daemon) enterRecovery(ctx context.Context, r *backup.Recovery) error {
	outcome := string(backup.Inconclusive)
	if r.Proof != nil {
		outcome = string(r.Proof.Outcome)
	}
	facts := map[string]any{"kit": r.Kit.Set, "kit_made": r.Kit.Created, "target": r.Target, "label": r.Point.Label, "wanted": r.Wanted, "recovered": r.Recovered,
		"lost_seconds": r.Lost, "proof": outcome, "started": r.Started, "finished": r.Finished, "activated": r.Activated, "notes": r.Notes}
	if r.Taken != nil {
		facts["taken_over"] = r.Taken
	}
	err := d.db.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := audit.Append(ctx, tx, principal.Node("recovery"), uuid.Nil, "recovery.activate", r.ID, facts); err != nil {
			return err
		}
		_, err := d.outbox.Alarm(ctx, tx, notify.Critical, "node-recovered", uuid.Nil, map[string]string{"recovered": inMail(r.Recovered), "proof": outcome,
			"lost": fmt.Sprintf("%.0f s", r.Lost), "next": "foundry backup run --type full"})
		return err
	})
	if err != nil {
		return err
	}
	d.log.Info("the recovery of this node is in the audit log", "recovery", r.ID, "recovered", r.Recovered, "proof", outcome)
	d.outbox.Kick()
	return backup.NoteAnnounced(d.config.DataDir, d.clock())
}
