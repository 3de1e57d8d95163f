package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Encryption is what the interface needs to show and to change keys.
type Encryption struct {
	Vault   *keys.Vault
	Rotate  func(ctx context.Context, p principal.Principal, org uuid.UUID) (keys.Progress, error) // of the installation: its files too
	Storage func(context.Context) keys.StorageReport
	Canary  func(context.Context, principal.Principal) (keys.CanaryReport, error)
}

// Installation stands for the installation's own keyset where an organisation
// is asked for.
const Installation = "installation"

// KeysetStatus is a keyset with its organisation's name.
type KeysetStatus struct {
	keys.KeysetStatus
	Name string `json:"name"`
}

// EncryptionStatus is the state of all keys.
type EncryptionStatus struct {
	KEK      keys.KEKStatus     `json:"kek"`
	Files    keys.FilesStatus   `json:"files"`
	Keysets  []KeysetStatus     `json:"keysets"`
	Warnings []string           `json:"warnings"`
	Storage  keys.StorageReport `json:"storage"`
}

// Shred is a request to shred with its organisation's name.
type Shred struct {
	keys.Shred
	Name string `json:"name"`
}

type rotateKeys struct {
	Caller
	Body struct {
		Organisation string `json:"organisation" doc:"Name of the organisation, or installation."`
	}
}

type rotation struct {
	Caller
	Organisation string `path:"organisation"`
}

type rewrapKeys struct {
	Caller
	Body struct {
		New bool `json:"new,omitempty" doc:"Make a new key-encryption key; without it the one in force wraps what older ones still wrap."`
	}
}

type requestShred struct {
	Caller
	Body struct {
		Organisation string `json:"organisation"`
		Reason       string `json:"reason"`
	}
}

type holdKeys struct {
	Caller
	Organisation string `path:"organisation"`
	Body         struct {
		Reason string `json:"reason" minLength:"3" maxLength:"1000"`
	}
}

func (a *API) encryption() {
	register(a, http.MethodGet, "/encryption", "encryption-status", "Show every keyset, key and key-encryption key, and how the node's storage is protected", a.encryptionStatus)
	register(a, http.MethodGet, "/encryption/storage", "storage-status", "Show whether volume, swap, core dumps and file modes protect the data", func(ctx context.Context, in *struct{ Caller }) (keys.StorageReport, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "keys.storage", policy.Resource{}); err != nil {
			return keys.StorageReport{}, err
		}
		return a.Encryption.Storage(ctx), nil
	})
	register(a, http.MethodPost, "/encryption/rotations", "keys-rotate", "Give a keyset a new key, and re-encrypt what older ones sealed", func(ctx context.Context, in *rotateKeys) (keys.Progress, error) {
		org, err := a.keyset(ctx, in.Principal, "keys.rotate", in.Body.Organisation)
		if err != nil {
			return keys.Progress{}, err
		}
		return a.Encryption.Rotate(ctx, in.Principal, org)
	})
	register(a, http.MethodGet, "/encryption/rotations/{organisation}", "keys-rotation", "Show how far the latest rotation is", func(ctx context.Context, in *rotation) (keys.Progress, error) {
		org, err := a.keyset(ctx, in.Principal, "keys.status", in.Organisation)
		if err != nil {
			return keys.Progress{}, err
		}
		p, ok := a.Encryption.Vault.RotationProgress(org)
		if !ok {
			return p, problem.New(problem.NotFound, "rotation-unknown", "This node has not rotated that keyset since it started.")
		}
		return p, nil
	})
	register(a, http.MethodPost, "/encryption/rewraps", "keys-rewrap", "Wrap every keyset with the key-encryption key in force, or with a new one", func(ctx context.Context, in *rewrapKeys) (keys.Rewrapped, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "keys.rewrap", policy.Resource{}); err != nil {
			return keys.Rewrapped{}, err
		}
		return a.Encryption.Vault.Rewrap(ctx, in.Principal, in.Body.New)
	})
	register(a, http.MethodPost, "/encryption/canaries", "keys-canary", "Plant a canary and search for it wherever it must not be", func(ctx context.Context, in *struct{ Caller }) (keys.CanaryReport, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "keys.search", policy.Resource{}); err != nil {
			return keys.CanaryReport{}, err
		}
		return a.Encryption.Canary(ctx, in.Principal)
	})
	a.shredding()
}

func (a *API) shredding() {
	register(a, http.MethodGet, "/encryption/shreds", "shred-list", "List requests to shred keys", func(ctx context.Context, in *struct{ Caller }) ([]Shred, error) {
		org := in.Principal.Organisation
		if err := a.Guard.Authorise(ctx, in.Principal, "keys.status", policy.Resource{Organisation: org}); err != nil {
			return nil, err
		}
		only := &org
		if in.Principal.Platform() {
			only = nil
		}
		all, err := a.Encryption.Vault.Shreds(ctx, only)
		out := make([]Shred, len(all))
		for i := range all {
			out[i] = a.shred(&all[i])
		}
		return out, err
	})
	register(a, http.MethodPost, "/encryption/shreds", "shred-request", "Ask for an organisation's keys to be destroyed", func(ctx context.Context, in *requestShred) (Shred, error) {
		org, err := a.keyset(ctx, in.Principal, "keys.shred", in.Body.Organisation)
		if err != nil {
			return Shred{}, err
		}
		s, err := a.Encryption.Vault.RequestShred(ctx, in.Principal, org, in.Body.Reason)
		return a.shred(s), err
	})
	register(a, http.MethodPost, "/encryption/shreds/{id}/approvals", "shred-approve", "Approve that keys be destroyed", func(ctx context.Context, in *byID) (Shred, error) {
		return a.onShred(ctx, in, "keys.approve", a.Encryption.Vault.ApproveShred)
	})
	register(a, http.MethodDelete, "/encryption/shreds/{id}", "shred-cancel", "Cancel a request to shred keys", func(ctx context.Context, in *byID) (Shred, error) {
		return a.onShred(ctx, in, "keys.restore", a.Encryption.Vault.CancelShred)
	})
	register(a, http.MethodPut, "/encryption/holds/{organisation}", "keys-hold", "Put an organisation's keys on legal hold", func(ctx context.Context, in *holdKeys) (EncryptionStatus, error) {
		// Whoever may undo a destruction may forbid it.
		org, err := a.keyset(ctx, in.Principal, "keys.restore", in.Organisation)
		if err == nil {
			err = a.Encryption.Vault.Hold(ctx, in.Principal, org, in.Body.Reason)
		}
		if err != nil {
			return EncryptionStatus{}, err
		}
		return a.readEncryption(ctx, in.Principal)
	})
	register(a, http.MethodDelete, "/encryption/holds/{organisation}", "keys-release", "Release an organisation's keys from legal hold", func(ctx context.Context, in *rotation) (EncryptionStatus, error) {
		org, err := a.keyset(ctx, in.Principal, "keys.shred", in.Organisation)
		if err == nil {
			err = a.Encryption.Vault.Hold(ctx, in.Principal, org, "")
		}
		if err != nil {
			return EncryptionStatus{}, err
		}
		return a.readEncryption(ctx, in.Principal)
	})
}

func (a *API) encryptionStatus(ctx context.Context, in *struct{ Caller }) (EncryptionStatus, error) {
	if err := a.Guard.Authorise(ctx, in.Principal, "keys.status", policy.Resource{Organisation: in.Principal.Organisation}); err != nil {
		return EncryptionStatus{}, err
	}
	return a.readEncryption(ctx, in.Principal)
}

// readEncryption shows an organisation's principal its own keyset only, and
// nothing of the node.
func (a *API) readEncryption(ctx context.Context, p principal.Principal) (EncryptionStatus, error) {
	s, err := a.Encryption.Vault.Status(ctx)
	if err != nil {
		return EncryptionStatus{}, err
	}
	out := EncryptionStatus{KEK: s.KEK, Files: s.Files, Warnings: s.Warnings, Keysets: []KeysetStatus{}}
	if !p.Platform() {
		out.KEK.Place, out.Files, out.Warnings = "", keys.FilesStatus{}, []string{}
	} else {
		out.Storage = a.Encryption.Storage(ctx)
	}
	for _, k := range s.Keysets {
		if p.Platform() || k.Organisation == p.Organisation {
			out.Keysets = append(out.Keysets, KeysetStatus{k, a.keysetName(k.Organisation)})
		}
	}
	return out, nil
}

func (a *API) keysetName(org uuid.UUID) string {
	if org == uuid.Nil {
		return Installation
	}
	if o := a.Verifier.Directory().Organisation(org); o != nil {
		return o.Name
	}
	return org.String()
}

// keyset finds the organisation whose keyset is meant, for somebody who may do
// action to it.
func (a *API) keyset(ctx context.Context, p principal.Principal, action policy.Action, name string) (uuid.UUID, error) {
	if name == Installation {
		return uuid.Nil, a.Guard.Authorise(ctx, p, action, policy.Resource{ID: name})
	}
	o, err := a.organisation(ctx, p, action, name)
	if err != nil {
		return uuid.Nil, err
	}
	return o.ID, nil
}

func (a *API) onShred(ctx context.Context, in *byID, action policy.Action, do func(context.Context, principal.Principal, uuid.UUID) (*keys.Shred, error)) (Shred, error) {
	id, err := uuid.Parse(in.ID)
	if err != nil {
		return Shred{}, problem.New(problem.Invalid, "shred-id", "That is no id of a request to shred.").WithField("id").WithMend("`foundry keys shred list` shows them.")
	}
	s, err := a.Encryption.Vault.FindShred(ctx, id)
	if err != nil && in.Principal.Platform() {
		return Shred{}, err
	}
	r := policy.Resource{ID: in.ID, Organisation: uuid.Max} // for an organisation, what is not there is another's
	if err == nil {
		r.Organisation, r.Owner = s.Organisation, strings.TrimPrefix(s.RequestedBy, string(principal.Person)+":")
	}
	if err := a.Guard.Authorise(ctx, in.Principal, action, r); err != nil {
		return Shred{}, err
	}
	if s, err = do(ctx, in.Principal, id); err != nil {
		return Shred{}, err
	}
	return a.shred(s), nil
}

func (a *API) shred(s *keys.Shred) Shred {
	if s == nil {
		return Shred{}
	}
	return Shred{*s, a.keysetName(s.Organisation)}
}
