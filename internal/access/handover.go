package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/missionopsai/foundry/internal/durable"
)

// Handover carries the memory of verifications over a graceful restart, so
// that the callers of the process before are not all checked with bcrypt at
// once (60 ms each). What is carried opens nothing: HMACs of tokens under a key
// that only these two processes know, sealed on disk in between.
//
// Order matters: ReadHandover, then Verifier.UseBootKey and NewSessions with
// BootKey, then the first refresh of each, then Restore.
type Handover struct {
	Key      []byte             `json:"key"` // of the HMAC
	MadeAt   time.Time          `json:"made_at"`
	Keys     map[string]carried `json:"keys"`
	Sessions map[string]carried `json:"sessions"`
}

// carried is one verification. It counts only for the very row it was made
// with: another secret or version, and it is forgotten.
type carried struct {
	Row [sha256.Size]byte `json:"row"` // of hash and version
	Sum [sha256.Size]byte `json:"sum"`
}

// handoverAge is how long a handover may lie on disk.
const handoverAge = time.Hour

const handoverLabel = "foundry verification handover"

// ReadHandover takes the handover that the process before left, and removes it:
// it is used once. Without one, or with one that does not open, the new
// process starts cold, with a key of its own.
func ReadHandover(path string, now time.Time, open func(sealed, associated []byte) ([]byte, error)) (*Handover, error) {
	h := &Handover{Key: make([]byte, 32)}
	_, _ = rand.Read(h.Key) // never fails (crypto/rand)
	sealed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return h, fmt.Errorf("reading the handover: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return h, fmt.Errorf("removing the handover: %w", err) // not used: it could be used twice
	}
	body, err := open(sealed, []byte(handoverLabel))
	if err != nil {
		return h, fmt.Errorf("opening the handover: %w", err)
	}
	var found Handover
	if err := json.Unmarshal(body, &found); err != nil {
		return h, fmt.Errorf("reading the handover: %w", err)
	}
	if age := now.Sub(found.MadeAt); len(found.Key) != 32 || age < -time.Minute || age > handoverAge {
		return h, nil
	}
	return &found, nil
}

// Write leaves a handover for the next process: last thing before this one
// ends, when it answers nobody any more.
func (h *Handover) Write(path string, now time.Time, v *Verifier, s *Sessions, seal func(plaintext, associated []byte) ([]byte, error)) error {
	out := Handover{Key: h.Key, MadeAt: now, Keys: map[string]carried{}, Sessions: map[string]carried{}}
	if v != nil {
		for id, e := range v.Directory().keys {
			keep(out.Keys, id, e.Hash, e.Version, e.verified)
		}
	}
	if s != nil {
		for id, l := range s.picture.Load().live {
			keep(out.Sessions, id, l.hash, l.Version, l.verified)
		}
	}
	body, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("writing the handover: %w", err)
	}
	sealed, err := seal(body, []byte(handoverLabel))
	if err != nil {
		return fmt.Errorf("sealing the handover: %w", err)
	}
	if err := durable.Replace(path, sealed, 0o600); err != nil {
		return fmt.Errorf("writing the handover: %w", err)
	}
	return nil
}

func keep(to map[string]carried, id, hash string, version int64, verified *memory) {
	if sum := verified.Load(); sum != nil {
		to[id] = carried{Row: rowSum(hash, version), Sum: *sum}
	}
}

func rowSum(hash string, version int64) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", hash, version))
}

// Restore puts the verifications in force whose rows are still the same, and
// returns how many. Either may be nil.
func (h *Handover) Restore(v *Verifier, s *Sessions) (n int) {
	restore := func(from map[string]carried, id, hash string, version int64, verified *atomic.Pointer[[sha256.Size]byte]) {
		if c, ok := from[id]; ok && c.Row == rowSum(hash, version) && verified.CompareAndSwap(nil, &c.Sum) {
			n++
		}
	}
	if v != nil {
		for id, e := range v.Directory().keys {
			restore(h.Keys, id, e.Hash, e.Version, e.verified)
		}
	}
	if s != nil {
		for id, l := range s.picture.Load().live {
			restore(h.Sessions, id, l.hash, l.Version, l.verified)
		}
	}
	return n
}

// UseBootKey replaces the key of the verifier's memory by that of a handover.
// Only before the first token is verified: what was remembered is void.
func (v *Verifier) UseBootKey(key []byte) { v.boot = newMAC(key) }
