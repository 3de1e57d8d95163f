package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/crypto/bcrypt"
)

// entry is a key in the directory, with the memory of its last verification:
// HMAC of the secret under a key that exists only in this process, so that a
// warm check costs one HMAC and the memory holds nothing that opens anything.
type entry struct {
	Key
	organisation *Organisation
	verified     *memory
}

// memory is what a verification leaves. The entries of one key in successive
// directories share it, so that a verification which ends after its directory
// was replaced is not lost.
type memory = atomic.Pointer[[sha256.Size]byte]

// Verifier answers who a token belongs to. Safe for concurrent use.
type Verifier struct {
	tags      *mac
	boot      *mac
	directory atomic.Pointer[Directory]
	slots     chan struct{} // bounds bcrypt work to the cores there are
	waiting   atomic.Int64
}

// maxWaiting bounds how many cold verifications queue before new ones are shed.
const maxWaiting = 256

// NewVerifier makes a verifier whose tokens carry tags under macKey.
func NewVerifier(macKey []byte) *Verifier {
	boot := make([]byte, 32)
	_, _ = rand.Read(boot) // never fails (crypto/rand)
	v := &Verifier{tags: newMAC(macKey), boot: newMAC(boot), slots: make(chan struct{}, max(1, runtime.NumCPU()-1))}
	v.directory.Store(&Directory{})
	return v
}

// Use replaces the directory.
func (v *Verifier) Use(d *Directory) { v.directory.Store(d) }

// Directory returns the directory in use.
func (v *Verifier) Directory() *Directory { return v.directory.Load() }

var errUnauthenticated = problem.New(problem.Unauthenticated, "key-invalid", "The API key is not valid.").
	WithMend("Send a key made with `foundry key create` as `Authorization: Bearer fdy_…` or `x-api-key: fdy_…`.")

// Verify returns the key that token belongs to and its organisation. A
// genuine token whose key is not in a directory older than staleAfter is
// Unavailable, not Unauthenticated: the key may have been made since.
func (v *Verifier) Verify(ctx context.Context, now time.Time, token string, staleAfter time.Duration) (*Key, *Organisation, error) {
	selector, secret, tag, ok := split(token)
	if !ok {
		return nil, nil, errUnauthenticated
	}
	d := v.directory.Load()
	e := d.keys[selector]
	if e == nil {
		if v.tags.genuine(selector, secret, tag) && now.Sub(d.TakenAt) > staleAfter {
			return nil, nil, problem.New(problem.Unavailable, "directory-stale", "This key cannot be checked right now: the key directory is out of reach.").
				WithMend("Try again shortly.").WithRetry(2 * time.Second)
		}
		return nil, nil, errUnauthenticated
	}
	sum := v.boot.sum(token)
	if known := e.verified.Load(); known == nil || subtle.ConstantTimeCompare(known[:], sum[:]) != 1 {
		if !v.tags.genuine(selector, secret, tag) {
			return nil, nil, errUnauthenticated
		}
		if err := v.cold(ctx, e, secret, &sum); err != nil {
			return nil, nil, err
		}
	}
	if e.Status(now) != "active" {
		return nil, nil, problem.New(problem.Unauthenticated, "key-"+e.Status(now), "The API key is "+e.Status(now)+".").
			WithMend("Ask your administrator for a new key.")
	}
	if e.organisation.Status != "active" {
		return nil, nil, problem.New(problem.Denied, "organisation-suspended", "The organisation "+e.organisation.Name+" is suspended.").
			WithMend("Ask the platform operator.")
	}
	return &e.Key, e.organisation, nil
}

// cold verifies with bcrypt, a few at a time, and remembers success.
func (v *Verifier) cold(ctx context.Context, e *entry, secret string, sum *[sha256.Size]byte) error {
	if v.waiting.Add(1) > maxWaiting {
		v.waiting.Add(-1)
		return problem.New(problem.Overloaded, "verification-queue", "Too many keys are being checked for the first time.").
			WithMend("Try again shortly.").WithRetry(2 * time.Second)
	}
	defer v.waiting.Add(-1)
	select {
	case v.slots <- struct{}{}:
		defer func() { <-v.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if known := e.verified.Load(); known != nil && subtle.ConstantTimeCompare(known[:], sum[:]) == 1 {
		return nil // another request of this key was first
	}
	if bcrypt.CompareHashAndPassword([]byte(e.Hash), []byte(secret)) != nil {
		return errUnauthenticated
	}
	kept := *sum
	e.verified.Store(&kept)
	return nil
}
