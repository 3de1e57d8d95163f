package daemon

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/outage"
)

// identity is what knows who can sign in.
type identity struct {
	people   *access.People
	sessions *access.Sessions
	handover *access.Handover
	door     *outage.Door // nil: without the database nobody signs in here
}

// handoverPath is where a process that ends gracefully leaves its memory of
// verifications for the next one.
func (d *Daemon) handoverPath() string { return filepath.Join(d.config.DataDir, "handover.sealed") }

// takeHandover gives the verifier the memory of the process before. It must
// come before the first API key is verified.
func (d *Daemon) takeHandover() {
	var err error
	d.handover, err = access.ReadHandover(d.handoverPath(), d.clock(), d.keyring.Open)
	if err != nil {
		d.log.Warn("no verifications were taken over: keys and sessions are checked anew", "error", err)
	}
	d.verifier.UseBootKey(d.handover.Key)
}

// makePeople makes what people sign in to.
func (d *Daemon) makePeople(ctx context.Context) error {
	purposes := []string{"password pepper", "person lookup", "invitation tag", "session tag"}
	var derived [4][]byte
	for i, purpose := range purposes {
		key, err := d.keyring.MACKey(purpose)
		if err != nil {
			return fmt.Errorf("deriving the key for the %s: %w", purpose, err)
		}
		derived[i] = key
	}
	d.sessions = access.NewSessions(access.SessionOptions{DB: d.db, TagKey: derived[3], BootKey: d.handover.Key, Log: d.log})
	var err error
	d.people, err = access.NewPeople(access.PeopleOptions{
		DB: d.db, Guard: d.guard, Sessions: d.sessions,
		Seal: func(ctx context.Context, table, column, row string, plaintext []byte) ([]byte, error) {
			return d.vault.Seal(ctx, uuid.Nil, keys.Place{Table: table, Column: column, Row: row}, plaintext)
		},
		Open: func(ctx context.Context, table, column, row string, sealed []byte) ([]byte, error) {
			return d.vault.Open(ctx, uuid.Nil, keys.Place{Table: table, Column: column, Row: row}, sealed)
		},
		Peppers: derived[:1], LookupKey: derived[1], Invitation: derived[2], URL: d.URL(), Clock: d.clock,
		Invited: d.invited, Locked: d.accountLocked, SignedInNew: d.signedInNew,
		Withdrawn: func(ctx context.Context, person uuid.UUID) { d.door.Withdrawn(ctx, person) },
		SpentStep: func(ctx context.Context, person uuid.UUID) int64 { return d.door.SpentStep(ctx, person) },
	})
	if err != nil {
		return err
	}
	if err := d.sessions.Refresh(ctx); err != nil {
		d.log.Warn("nobody is signed in until the database answers", "error", err)
	}
	if n := d.handover.Restore(d.verifier, d.sessions); n > 0 {
		d.log.Info("verifications taken over", "count", n)
	}
	return nil
}

// runPeople keeps sessions fresh and sweeps what is over, until ctx ends.
func (d *Daemon) runPeople(ctx context.Context) {
	d.running.Go(func() { d.sessions.Run(ctx) })
	d.running.Go(func() {
		d.people.Run(ctx, func(err error) { d.log.Warn("sign-ins were not swept", "error", err) })
	})
}

// handPeopleOver writes what the next process takes over. Nobody is answered
// any more.
func (d *Daemon) handPeopleOver(ctx context.Context) {
	if d.sessions == nil {
		return
	}
	if err := d.sessions.FlushSeen(ctx); err != nil {
		d.log.Warn("when sessions were last seen was not written", "error", err)
	}
	if err := d.handover.Write(d.handoverPath(), d.clock(), d.verifier, d.sessions, d.keyring.Seal); err != nil {
		d.log.Warn("verifications were not handed over: the next start checks keys and sessions anew", "error", err)
	}
}
