package keys

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// FilesStatus is the keyring in files.
type FilesStatus struct {
	Keys       []string   `json:"keys"`                  // the primary first
	RotatedAt  *time.Time `json:"rotated_at,omitempty"`  // when the primary was made; empty: with the installation
	OlderUntil *time.Time `json:"older_until,omitempty"` // when what the older keys sealed has gone, where Note makes no exception
	Note       string     `json:"note"`
}

// rotatedFile remembers when the keyring in files got the key that it seals
// with. It is no secret, and nothing but the status hangs on it.
const rotatedFile = "aead.rotated"

func (k *Keyring) noteRotation(at time.Time) error {
	return replace(filepath.Join(k.dir, rotatedFile), []byte(at.UTC().Format(time.RFC3339)+"\n"))
}

// rotatedAt is zero where the keyring was never rotated.
func (k *Keyring) rotatedAt() time.Time {
	text, _ := os.ReadFile(filepath.Join(k.dir, rotatedFile))
	at, _ := time.Parse(time.RFC3339, strings.TrimSpace(string(text)))
	return at
}

// status is the honest list of what a rotation does not reach, and of when
// that will have gone. kept is how long what is sealed in the database with
// the keyring lives at most.
func (k *Keyring) status(kept time.Duration) FilesStatus {
	out := FilesStatus{Keys: k.KeyIDs(), Note: "It seals the journal, the snapshot, the handover of a restart, queued mail, the passphrases of backups, records of recovery keys, and the signing keys of the local authority, the audit log and the evidence. " +
		"The PRF keyset (tags of tokens, the pepper, and other MAC keys) is never rotated: tokens and passwords depend on it."}
	at := k.rotatedAt()
	if at.IsZero() || len(out.Keys) < 2 {
		return out
	}
	until := at.Add(kept)
	out.RotatedAt, out.OlderUntil = &at, &until
	out.Note += fmt.Sprintf(" The older keys only open. The signing keys and the passphrases were sealed anew at once, and the snapshot within a minute; mail that was queued before is wiped by %s. "+
		"Segments of the journal keep theirs until they are shipped and deleted, and records that were set aside until somebody has dealt with them; those of recovery keys keep theirs for ever. "+
		"So older keys are not destroyed; backups of their time need them as well.", until.UTC().Format(time.DateOnly))
	return out
}
