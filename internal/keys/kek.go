package keys

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// KEK is a key-encryption key: AES-256-GCM over keysets. What it wrapped opens
// with no other key, and not after any change (authenticated wrap).
type KEK struct {
	aead        tink.AEAD
	fingerprint string
}

// newKEK takes 32 bytes, and wipes them. The copies inside the cipher stay for
// the life of the process: Go gives no way to reach them.
func newKEK(key []byte) (*KEK, error) {
	defer clear(key)
	if len(key) != kekBytes {
		return nil, fmt.Errorf("a key-encryption key has %d bytes, not %d", kekBytes, len(key))
	}
	a, err := subtle.NewAESGCM(key)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("foundry kek fingerprint v1"))
	return &KEK{a, hex.EncodeToString(mac.Sum(nil)[:8])}, nil
}

// Fingerprint tells keys apart and is no secret: 64 bits of a pseudo-random
// function of the key.
func (k *KEK) Fingerprint() string { return k.fingerprint }

// Provider gives the key-encryption key. File, Age and Credential are such.
type Provider interface {
	// Name is the provider's kind: file, age or credential.
	Name() string
	// Place says where the key lies, for people. It is no secret.
	Place() string
	// Load reads the key in force, and after it any that a rewrap that was
	// interrupted left beside it. Values of keys are wiped by the caller.
	Load(ctx context.Context) ([][]byte, error)
	// Next makes the key that is to follow, durably, beside the one in force;
	// or returns it, if it is there already. The key in force stays.
	Next(ctx context.Context) ([]byte, error)
	// Promote puts the next key in the place of the one in force, whose file
	// is kept under another name, which it returns. Without a next key it does
	// nothing.
	Promote(ctx context.Context, retired string) (kept string, err error)
	// Check refuses what production forbids: an unprotected key on the volume
	// of the data.
	Check(dataDir string) error
}

// errProviderSlow is in the chain when a provider did not answer in time.
var errProviderSlow = errors.New("the provider of the key-encryption key did not answer in time")

// defaultPatience is how long a provider may take.
const defaultPatience = 30 * time.Second

// bounded runs what may block for ever (a named pipe, a network file system, a
// token that waits for a touch) for as long as ctx lasts. The goroutine of a
// call that never returns is left behind; the process is about to end anyway.
func bounded[T any](ctx context.Context, p Provider, do func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	c := make(chan result, 1)
	go func() { v, err := do(); c <- result{v, err} }()
	select {
	case r := <-c:
		return r.v, r.err
	case <-ctx.Done():
		var none T
		return none, problem.New(problem.Timeout, "kek-slow", fmt.Sprintf("The key-encryption key (%s, %s) could not be read in time.", p.Name(), p.Place())).
			WithField("keys").WithMend("See what holds it up: a pipe nobody writes to, a file system that is away, a passphrase nobody has typed.").
			Wrap(errors.Join(errProviderSlow, context.Cause(ctx)))
	}
}

// Keks are the keys that wrap, or have wrapped, keysets: the one in force,
// which wraps, and those before it, which only open. Safe for concurrent use.
type Keks struct {
	provider Provider
	previous []Provider
	patience time.Duration

	mu      sync.Mutex
	current *KEK
	all     map[string]*KEK
	asked   time.Time // when an unknown fingerprint last made the providers be asked
}

// reloadEvery bounds how often a fingerprint that is not known makes the
// providers be asked again.
const reloadEvery = 2 * time.Second

func loadKeks(ctx context.Context, provider Provider, previous []Provider, patience time.Duration) (*Keks, error) {
	if patience == 0 {
		patience = defaultPatience
	}
	k := &Keks{provider: provider, previous: previous, patience: patience}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k, k.load(ctx)
}

// load asks every provider. Keys known before stay known.
func (k *Keks) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, k.patience)
	defer cancel()
	all := map[string]*KEK{}
	var current *KEK
	for _, p := range append([]Provider{k.provider}, k.previous...) {
		found, err := bounded(ctx, p, func() ([][]byte, error) { return p.Load(ctx) })
		if err != nil {
			return err
		}
		for _, raw := range found {
			kek, err := newKEK(raw)
			if err != nil {
				return err
			}
			if current == nil {
				current = kek
			}
			all[kek.fingerprint] = kek
		}
	}
	if current == nil {
		return problem.New(problem.Internal, "kek-none", "The provider of the key-encryption key gave none.").WithField("keys")
	}
	for f, old := range k.all {
		if all[f] == nil {
			all[f] = old
		}
	}
	k.current, k.all = current, all
	return nil
}

// Current is the key that wraps.
func (k *Keks) Current() *KEK {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current
}

// list has the key in force first.
func (k *Keks) list() []*KEK {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := []*KEK{k.current}
	for _, kek := range k.all {
		if kek != k.current {
			out = append(out, kek)
		}
	}
	return out
}

// find returns a key by its fingerprint. One that is not known may have been
// made on another node, or by a rewrap: the providers are asked again.
func (k *Keks) find(ctx context.Context, fingerprint string) (*KEK, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if kek := k.all[fingerprint]; kek != nil {
		return kek, nil
	}
	if time.Since(k.asked) >= reloadEvery {
		k.asked = time.Now()
		if err := k.load(ctx); err != nil {
			return nil, err
		}
		if kek := k.all[fingerprint]; kek != nil {
			return kek, nil
		}
	}
	return nil, wrongKEK(fingerprint, k.current.fingerprint)
}

func wrongKEK(want, have string) error {
	return problem.New(problem.Unavailable, "kek-wrong", fmt.Sprintf("A keyset is wrapped by the key-encryption key %s, but this node has %s.", want, have)).
		WithField("keys").WithMend("Give that key too, under keys.previous, or restore it from escrow: docs/runbooks/kek-lost.md.")
}

// adopt makes a key known, without putting it in force.
func (k *Keks) adopt(kek *KEK) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all[kek.fingerprint] = kek
}

// promote puts a known key in force.
func (k *Keks) promote(kek *KEK) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all[kek.fingerprint], k.current = kek, kek
}

// parseKEK reads 32 bytes in base64. Errors say nothing of what was read.
func parseKEK(place string, text []byte) ([]byte, error) {
	trimmed := strings.TrimSpace(string(text))
	key, err := base64.StdEncoding.DecodeString(trimmed)
	if err != nil || len(key) != kekBytes {
		clear(key)
		return nil, problem.New(problem.Invalid, "kek-format", place+" does not hold a key-encryption key.").
			WithMend("It must be 32 random bytes in base64, for example from: openssl rand -base64 32")
	}
	return key, nil
}
