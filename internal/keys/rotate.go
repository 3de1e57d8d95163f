package keys

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// Progress is how far a rotation is.
type Progress struct {
	Organisation uuid.UUID  `json:"organisation"`
	Key          string     `json:"key"`    // the new primary
	Column       string     `json:"column"` // being worked on
	Total        int64      `json:"total"`  // values that were sealed with older keys
	Done         int64      `json:"done"`
	Raced        int64      `json:"raced"`      // changed by somebody else meanwhile, and looked at again
	Unreadable   int64      `json:"unreadable"` // did not open; their key is kept
	Disabled     []string   `json:"disabled,omitempty"`
	Started      time.Time  `json:"started"`
	Ended        *time.Time `json:"ended,omitempty"`
	Error        string     `json:"error,omitempty"`
}

type job struct {
	mu   sync.Mutex
	p    Progress
	done chan struct{}
}

func (j *job) change(fn func(*Progress)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fn(&j.p)
}

func (j *job) progress() Progress {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.p
}

// settle is how long a rotation waits before it believes that every node
// seals with the new key: they hear of it at the next heartbeat (500 ms).
const settle = 1500 * time.Millisecond

// StartRotation gives an organisation, or with uuid.Nil the installation, a
// new key and re-encrypts what its older keys sealed, in the background. A
// rotation that was interrupted is taken up again instead, without another key.
// ctx bounds the making of the key; the rest goes on for as long as Run runs.
func (v *Vault) StartRotation(ctx context.Context, p principal.Principal, org uuid.UUID) (Progress, error) {
	life := context.WithoutCancel(ctx)
	if l := v.life.Load(); l != nil {
		life = *l
	}
	j, err := v.startRotation(ctx, life, p, org)
	return j.progress(), err
}

func (v *Vault) startRotation(ctx, life context.Context, p principal.Principal, org uuid.UUID) (*job, error) {
	j, err := v.startJob(org)
	if err != nil {
		return j, err
	}
	k, err := v.addKey(ctx, p, org)
	if err != nil {
		v.endJob(j, err)
		return j, err
	}
	j.change(func(p *Progress) { p.Key = keyName(k.primary) })
	go func() { v.endJob(j, v.finishRotation(life, p, org, j)) }()
	return j, nil
}

// Rotate is StartRotation that waits for the end.
func (v *Vault) Rotate(ctx context.Context, p principal.Principal, org uuid.UUID) (Progress, error) {
	j, err := v.startRotation(ctx, ctx, p, org)
	if err != nil {
		return Progress{}, err
	}
	<-j.done
	out := j.progress()
	if out.Error != "" {
		return out, problem.New(problem.Unavailable, "rotation-failed", out.Error).WithMend("It goes on by itself; `foundry keys status` shows how far it is.")
	}
	return out, nil
}

// RotationProgress tells how far this node's latest rotation of an
// organisation is.
func (v *Vault) RotationProgress(org uuid.UUID) (Progress, bool) {
	v.jobs.Lock()
	defer v.jobs.Unlock()
	if j := v.jobs.running[org]; j != nil {
		return j.progress(), true
	}
	return Progress{}, false
}

func (v *Vault) startJob(org uuid.UUID) (*job, error) {
	v.jobs.Lock()
	defer v.jobs.Unlock()
	if j := v.jobs.running[org]; j != nil && j.progress().Ended == nil {
		return j, problem.New(problem.Conflict, "rotation-running", "A rotation of this keyset is already under way.").
			WithMend("`foundry keys status` shows how far it is.")
	}
	j := &job{p: Progress{Organisation: org, Started: v.o.Clock()}, done: make(chan struct{})}
	v.jobs.running[org] = j
	return j, nil
}

func (v *Vault) endJob(j *job, err error) {
	now := v.o.Clock()
	j.change(func(p *Progress) {
		p.Ended = &now
		if err != nil {
			p.Error = problem.From(err).Detail
		}
	})
	if err != nil {
		v.o.Log.Error("a rotation of keys was interrupted; it goes on by itself", "organisation", j.p.Organisation, "error", err)
	}
	close(j.done)
}

// addKey makes a new primary, unless an older key is still in use, which means
// that a rotation was interrupted.
func (v *Vault) addKey(ctx context.Context, p principal.Principal, org uuid.UUID) (*opened, error) {
	if _, err := v.load(ctx, org, nil); err != nil { // makes it if there is none
		return nil, err
	}
	err := v.change(ctx, org, func(tx pgx.Tx, k *opened, m *keyset.Manager) (bool, error) {
		var unfinished bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM keyset_keys WHERE organisation_id = $1 AND status = 'enabled')`, org).Scan(&unfinished)
		if err != nil || unfinished {
			return false, err
		}
		id, err := m.Add(aead.AES256GCMKeyTemplate())
		if err == nil {
			err = m.SetPrimary(id)
		}
		if err != nil {
			return false, fmt.Errorf("adding a key: %w", err)
		}
		if _, err := tx.Exec(ctx, `UPDATE keyset_keys SET status = 'enabled' WHERE organisation_id = $1 AND status = 'primary'`, org); err != nil {
			return false, err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO keyset_keys (organisation_id, key_id, status) VALUES ($1, $2, 'primary')`, org, int64(id)); err != nil {
			return false, err
		}
		v.o.Step("rotate:add")
		return true, v.o.Audit(ctx, tx, p, org, "keys.rotate", keyName(id), map[string]any{"after": keyName(k.primary)})
	})
	if err != nil {
		return nil, err
	}
	v.o.Step("rotate:added")
	return v.load(ctx, org, nil)
}

// keep ends a key's rotation without disabling it: files, which stand in no
// column, may refer to it. Their owner ends that with [Vault.ResealFile].
func (v *Vault) keep(ctx context.Context, org uuid.UUID, id uint32) error {
	return v.o.DB.Org(ctx, org, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE keyset_keys SET status = 'kept' WHERE organisation_id = $1 AND key_id = $2 AND status = 'enabled'`, org, int64(id))
		return err
	})
}

// change changes the keys of a stored keyset in one transaction, under the
// row's lock, so that of two nodes one waits for the other. fn reports whether
// it changed anything.
func (v *Vault) change(ctx context.Context, org uuid.UUID, fn func(pgx.Tx, *opened, *keyset.Manager) (bool, error)) error {
	err := v.o.DB.Org(ctx, org, func(tx pgx.Tx) error {
		row, err := selectKeyset(ctx, tx, org, "FOR UPDATE")
		if err != nil {
			return err
		}
		if row == nil {
			return problem.New(problem.NotFound, "keyset-unknown", "This organisation has no keyset yet: nothing was sealed for it.")
		}
		k, err := v.unwrap(ctx, org, row)
		if err != nil {
			return err
		}
		m := keyset.NewManagerFromHandle(k.handle)
		changed, err := fn(tx, k, m)
		if err != nil || !changed {
			return err
		}
		h, err := m.Handle()
		if err != nil {
			return fmt.Errorf("changing the keyset of %s: %w", org, err)
		}
		if _, err := v.updateKeyset(ctx, tx, org, h, row.Version); err != nil {
			return err
		}
		return db.Touch(ctx, tx)
	})
	v.loading.Lock()
	v.forget(org)
	v.loading.Unlock()
	return err
}

// finishRotation re-encrypts until nothing refers to an older key, and then
// disables those keys.
func (v *Vault) finishRotation(ctx context.Context, p principal.Principal, org uuid.UUID, j *job) error {
	k, err := v.load(ctx, org, nil)
	if err != nil {
		return err
	}
	n, err := v.outdated(ctx, org, k.primary)
	if err != nil {
		return err
	}
	j.change(func(p *Progress) { p.Total = n })
	added := time.Now()
	for {
		changed, err := v.pass(ctx, org, j)
		if err != nil {
			return err
		}
		if changed > 0 {
			continue // somebody may have sealed with an older key meanwhile
		}
		wait := v.settle - time.Since(added)
		if wait <= 0 {
			break
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	v.o.Step("rotate:reencrypted")
	return v.disableOlder(ctx, p, org, j)
}

// disableOlder disables each older key that nothing refers to.
func (v *Vault) disableOlder(ctx context.Context, p principal.Principal, org uuid.UUID, j *job) error {
	older, err := v.readKeys(ctx, `k.status = 'enabled' AND k.organisation_id = '`+org.String()+`'`)
	if err != nil {
		return err
	}
	for _, key := range older {
		id := uint32(key.ID)
		n, err := v.references(ctx, org, id)
		if err != nil {
			return err
		}
		if n > 0 {
			return problem.New(problem.Conflict, "rotation-unreadable", fmt.Sprintf("%d values still stand under the key %s and do not open: the key is kept.", n, keyName(id))).
				WithMend("Restore those rows from a backup, or remove them; then rotate again.")
		}
		if key.Files {
			if err := v.keep(ctx, org, id); err != nil {
				return err
			}
			continue
		}
		if err := v.setStatus(ctx, p, org, id, "disabled"); err != nil {
			return err
		}
		v.o.Step("rotate:disabled")
		j.change(func(p *Progress) { p.Disabled = append(p.Disabled, keyName(id)) })
	}
	return nil
}

// setStatus disables, enables or destroys one key.
func (v *Vault) setStatus(ctx context.Context, p principal.Principal, org uuid.UUID, id uint32, status string) error {
	return v.change(ctx, org, func(tx pgx.Tx, k *opened, m *keyset.Manager) (bool, error) {
		now, known := k.status[id]
		var err error
		var set string
		switch {
		case !known || id == k.primary:
			return false, nil
		case status == "disabled" && now == keyset.Enabled:
			err, set = m.Disable(id), `status = 'disabled', disabled_at = now()`
		case status == "enabled" && now == keyset.Disabled:
			err, set = m.Enable(id), `status = 'enabled', disabled_at = NULL`
		case status == "destroyed" && now == keyset.Disabled:
			err, set = m.Delete(id), `status = 'destroyed', destroyed_at = now()`
		default:
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("changing a key: %w", err)
		}
		if _, err := tx.Exec(ctx, `UPDATE keyset_keys SET `+set+` WHERE organisation_id = $1 AND key_id = $2`, org, int64(id)); err != nil {
			return false, err
		}
		act := map[string]string{"disabled": "keys.disable", "enabled": "keys.enable", "destroyed": "keys.destroy"}[status]
		return true, v.o.Audit(ctx, tx, p, org, act, keyName(id), nil)
	})
}

// ResumeRotations goes on with rotations that were interrupted: an enabled key
// beside the primary is the trace they leave.
func (v *Vault) ResumeRotations(ctx context.Context) error {
	found, err := v.readKeys(ctx, `k.status = 'enabled' AND s.destroyed_at IS NULL`)
	if err != nil {
		return err
	}
	tried := map[uuid.UUID]bool{}
	var errs []error
	for _, key := range found {
		if last, ok := v.RotationProgress(key.Organisation); tried[key.Organisation] || ok && (last.Ended == nil || last.Error != "" && v.o.Clock().Sub(*last.Ended) < time.Hour) {
			continue // at work, or failed not long ago
		}
		tried[key.Organisation] = true
		if _, err := v.Rotate(ctx, principal.Node("keys"), key.Organisation); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// DestroyDue destroys keys that have been disabled for long enough and to which
// nothing refers. A key that something refers to after all (sealed by a node
// that had not heard, restored from a backup) is enabled again, and what it
// sealed is re-encrypted.
func (v *Vault) DestroyDue(ctx context.Context) error {
	found, err := v.readKeys(ctx, `k.status = 'disabled' AND s.destroyed_at IS NULL`)
	if err != nil {
		return err
	}
	for _, key := range found {
		id := uint32(key.ID)
		n, err := v.references(ctx, key.Organisation, id)
		if err != nil {
			return err
		}
		switch {
		case n > 0:
			err = v.setStatus(ctx, principal.Node("keys"), key.Organisation, id, "enabled")
		case key.DisabledAt != nil && v.o.Clock().Sub(*key.DisabledAt) >= v.o.DestroyAfter:
			err = v.setStatus(ctx, principal.Node("keys"), key.Organisation, id, "destroyed")
		}
		if err != nil {
			return err
		}
	}
	return nil
}
