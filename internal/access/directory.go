package access

import (
	"time"

	"github.com/google/uuid"
)

// Organisation is a client organisation.
type Organisation struct {
	ID        uuid.UUID `json:"id"`
	Name      string    `json:"name"`
	Status    string    `json:"status"` // active or suspended
	Version   int64     `json:"version"`
	CreatedAt time.Time `json:"created_at"`
}

// Key is an API key, without its secret.
type Key struct {
	ID                string     `json:"id"` // the selector
	Organisation      uuid.UUID  `json:"organisation"`
	Name              string     `json:"name"`
	Hash              string     `json:"-"` // bcrypt of the secret
	ClassFloor        int16      `json:"class_floor"`
	RequestsPerMinute int64      `json:"requests_per_minute"` // 0: no limit
	TokensPerMinute   int64      `json:"tokens_per_minute"`   // 0: no limit
	ExpiresAt         *time.Time `json:"expires_at,omitempty"`
	RevokedAt         *time.Time `json:"revoked_at,omitempty"`
	Version           int64      `json:"version"`
	CreatedAt         time.Time  `json:"created_at"`
}

// Status says whether the key opens anything at a moment.
func (k *Key) Status(now time.Time) string {
	switch {
	case k.RevokedAt != nil:
		return "revoked"
	case k.ExpiresAt != nil && !now.Before(*k.ExpiresAt):
		return "expired"
	}
	return "active"
}

// Directory is an immutable picture of every organisation and key, taken at
// one moment. The hot path reads only this.
type Directory struct {
	TakenAt       time.Time
	organisations map[uuid.UUID]*Organisation
	keys          map[string]*entry
}

// Organisation finds an organisation; nil if there is none.
func (d *Directory) Organisation(id uuid.UUID) *Organisation { return d.organisations[id] }

// OrganisationNamed finds an organisation by name; nil if there is none.
func (d *Directory) OrganisationNamed(name string) *Organisation {
	for _, o := range d.organisations {
		if o.Name == name {
			return o
		}
	}
	return nil
}

// Organisations lists all, in no order.
func (d *Directory) Organisations() []*Organisation {
	out := make([]*Organisation, 0, len(d.organisations))
	for _, o := range d.organisations {
		out = append(out, o)
	}
	return out
}

// Keys lists all keys, in no order.
func (d *Directory) Keys() []*Key {
	out := make([]*Key, 0, len(d.keys))
	for _, e := range d.keys {
		out = append(out, &e.Key)
	}
	return out
}

// Records is the directory in a form that can be stored (sealed: it holds
// bcrypt hashes).
type Records struct {
	TakenAt       time.Time      `json:"taken_at"`
	Organisations []Organisation `json:"organisations"`
	Keys          []StoredKey    `json:"keys"`
}

// StoredKey is a key with its hash.
type StoredKey struct {
	Key
	Hash string `json:"hash"`
}

// NewDirectory builds a directory from records. Verifications already made in
// previous (which may be nil) are kept for keys whose row did not change.
func NewDirectory(r Records, previous *Directory) *Directory {
	d := &Directory{
		TakenAt:       r.TakenAt,
		organisations: make(map[uuid.UUID]*Organisation, len(r.Organisations)),
		keys:          make(map[string]*entry, len(r.Keys)),
	}
	for i := range r.Organisations {
		d.organisations[r.Organisations[i].ID] = &r.Organisations[i]
	}
	for _, k := range r.Keys {
		e := &entry{Key: k.Key, verified: new(memory)}
		e.Hash = k.Hash
		e.organisation = d.organisations[k.Organisation]
		if e.organisation == nil {
			continue // the owner is gone: the key opens nothing
		}
		if previous != nil {
			if old := previous.keys[k.ID]; old != nil && old.Version == e.Version && old.Hash == e.Hash {
				e.verified = old.verified
			}
		}
		d.keys[k.ID] = e
	}
	return d
}
