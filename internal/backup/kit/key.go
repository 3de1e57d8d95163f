// Package kit knows the format of the emergency kit: the recovery key and how
// it is split into shares that people keep, how a share is written down and
// read again by somebody who mistypes, and the file that the key opens.
//
// The kit opens nothing without enough shares, and fewer shares than enough say
// nothing about the key. The node keeps only the key's recipient: it can make
// a kit, and cannot read one.
package kit

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"github.com/missionopsai/foundry/internal/problem"
)

const keyBytes = 32

// Bounds of how the key is split. One share that is enough alone would be the
// key itself in one hand; more than sixteen nobody brings together in two hours.
const (
	LeastThreshold = 2
	MostShares     = 16
)

// SetID names the shares that belong together, and the kits they open. It
// follows from the recipient, which is public.
type SetID [4]byte

// String is eight hexadecimal digits.
func (s SetID) String() string { return hex.EncodeToString(s[:]) }

// MarshalText writes the set's name.
func (s SetID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a set's name.
func (s *SetID) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(s) {
		return fmt.Errorf("%q is not the name of a set: eight hexadecimal digits", text)
	}
	copy(s[:], raw)
	return nil
}

func setOf(recipient string) (s SetID) {
	sum := sha256.Sum256([]byte("foundry recovery set v1\n" + recipient))
	copy(s[:], sum[:])
	return s
}

// Fingerprint tells recipients apart and is no secret.
func Fingerprint(recipient string) string {
	sum := sha256.Sum256([]byte("foundry recovery recipient v1\n" + recipient))
	return hex.EncodeToString(sum[:8])
}

// Key is the recovery key: an age X25519 identity (age-encryption.org/v1).
type Key struct {
	secret   [keyBytes]byte
	identity *age.X25519Identity
}

// NewKey makes a recovery key.
func NewKey(random io.Reader) (*Key, error) {
	var secret [keyBytes]byte
	defer clear(secret[:])
	if _, err := io.ReadFull(random, secret[:]); err != nil {
		return nil, fmt.Errorf("making the recovery key: %w", err)
	}
	clamp(secret[:])
	return keyFrom(secret[:])
}

// clamp sets the bits that X25519 ignores (RFC 7748, section 5), so that one
// public key has one secret and a change of any bit of it shows.
func clamp(secret []byte) {
	secret[0] &= 248
	secret[31] = secret[31]&127 | 64
}

func keyFrom(secret []byte) (*Key, error) {
	identity, err := age.ParseX25519Identity(strings.ToUpper(bech32("age-secret-key-", secret)))
	if err != nil {
		return nil, fmt.Errorf("making the recovery key: %w", err)
	}
	k := &Key{identity: identity}
	copy(k.secret[:], secret)
	return k, nil
}

// Wipe clears the key's own copy. The library's stays until it is collected.
func (k *Key) Wipe() {
	clear(k.secret[:])
	k.identity = nil
}

// Recipient is the public half, age1….
func (k *Key) Recipient() string { return k.identity.Recipient().String() }

// Set names the shares of this key.
func (k *Key) Set() SetID { return setOf(k.Recipient()) }

// Authenticator is the key by which a node that has it shows that a kit is its
// own: age says for whom a file is, not by whom, so that whoever can write to a
// target and knows the recipient could leave a kit of his own making there. It
// says nothing about the recovery key.
func (k *Key) Authenticator() []byte {
	out, err := hkdf.Key(sha256.New, k.secret[:], nil, "foundry kit authenticator v1", keyBytes)
	if err != nil {
		panic(err) // only lengths are wrong, and they are constant
	}
	return out
}

// Split gives shares of the key, of which any threshold give it back.
func (k *Key) Split(threshold, shares int, random io.Reader) ([]Share, error) {
	switch {
	case threshold < LeastThreshold:
		return nil, problem.New(problem.Invalid, "share-threshold", fmt.Sprintf("%d share would open the kit alone.", threshold)).
			WithField("threshold").WithMend("Let at least two people be needed.")
	case shares < threshold || shares > MostShares:
		return nil, problem.New(problem.Invalid, "share-count", fmt.Sprintf("%d shares of which %d are needed cannot be made.", shares, threshold)).
			WithField("shares").WithMend(fmt.Sprintf("Make at least as many as are needed, and at most %d. One more than needed is lost without harm.", MostShares))
	}
	points, err := split(k.secret[:], threshold, shares, random)
	if err != nil {
		return nil, fmt.Errorf("splitting the recovery key: %w", err)
	}
	out := make([]Share, shares)
	for i, p := range points {
		out[i] = Share{Set: k.Set(), Threshold: threshold, Index: int(p.x)}
		copy(out[i].value[:], p.y)
		clear(p.y)
	}
	return out, nil
}

// Combine gives the key back. Every error says which share is the matter.
func Combine(shares []Share) (*Key, error) {
	if err := Enough(shares); err != nil {
		return nil, err
	}
	points := make([]point, 0, len(shares))
	for _, s := range shares[:shares[0].Threshold] {
		points = append(points, point{byte(s.Index), s.value[:]})
	}
	secret := interpolate(points, 0)
	defer clear(secret)
	canonical := bytes.Clone(secret)
	defer clear(canonical)
	clamp(canonical)
	k, err := keyFrom(secret)
	if err != nil {
		return nil, err
	}
	if k.Set() != shares[0].Set || !bytes.Equal(secret, canonical) {
		return nil, problem.New(problem.Invalid, "shares-wrong", "The shares are whole, but together they do not make the key of their set.").WithField("shares").
			WithMend("One of them was not made by Foundry. Use another share in place of each in turn.")
	}
	return k, nil
}

// Enough says what still is the matter with shares that were read one by one.
func Enough(shares []Share) error {
	if len(shares) == 0 {
		return problem.New(problem.Invalid, "shares-none", "No share of the recovery key was given.").WithField("shares").
			WithMend("Type the words of each share, or name files with --shares-from.")
	}
	first, seen := shares[0], map[int]int{}
	for i, s := range shares {
		field := fmt.Sprintf("share %d", i+1)
		switch before, twice := seen[s.Index]; {
		case s.Set != first.Set:
			return problem.New(problem.Invalid, "shares-mixed", fmt.Sprintf("Share %d of set %s was given together with share %d of set %s.", s.Index, s.Set, first.Index, first.Set)).
				WithField(field).WithMend("Shares of different sets do not fit together. The set stands on every page, and on the kit: keep those of the kit's set.")
		case s.Threshold != first.Threshold:
			return problem.New(problem.Invalid, "shares-threshold", fmt.Sprintf("Share %d says that %d are needed, and share %d that %d are.", s.Index, s.Threshold, first.Index, first.Threshold)).
				WithField(field).WithMend("One of them was not made by Foundry. Use another share.")
		case twice:
			return problem.New(problem.Invalid, "share-twice", fmt.Sprintf("Share %d was given twice (as share %d and share %d).", s.Index, before+1, i+1)).
				WithField(field).WithMend("Give the share of another person.")
		}
		seen[s.Index] = i
	}
	if len(shares) < first.Threshold {
		return problem.New(problem.Invalid, "shares-few", fmt.Sprintf("%d of the %d shares that are needed were given.", len(shares), first.Threshold)).
			WithField("shares").WithMend("Call the next person on the briefing page, and type their share too.")
	}
	return nil
}
