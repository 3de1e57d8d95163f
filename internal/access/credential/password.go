// Package credential knows what proves a person: passwords, one-time codes and
// recovery codes, how they are made, judged, hashed and checked. It only
// computes; it stores nothing.
package credential

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/text/unicode/norm"
)

// scheme names how a password becomes what bcrypt is given:
// base64(HMAC-SHA384(pepper, NFC(password))), 64 characters. That is within
// the 72 bytes after which bcrypt stops looking, and has no NUL byte, at which
// it would stop as well. Without the pepper, which is not in the database, the
// hashes cannot even be guessed at.
const scheme = "hs384"

// Hasher hashes passwords under a pepper, and random secrets without one. Safe
// for concurrent use.
type Hasher struct {
	peppers []pepper
	costs
	compare func(hash, password []byte) error // bcrypt's; counted in tests
}

type pepper struct {
	id  string
	key []byte
}

// NewHasher makes a hasher. The first pepper is in use; the others open hashes
// made before it was rotated.
func NewHasher(peppers ...[]byte) (*Hasher, error) {
	h := &Hasher{costs: full, compare: bcrypt.CompareHashAndPassword}
	for _, key := range peppers {
		if len(key) < 32 {
			return nil, errors.New("a password pepper needs 32 bytes")
		}
		id := sha256.Sum256(append([]byte("foundry pepper id "), key...))
		h.peppers = append(h.peppers, pepper{hex.EncodeToString(id[:4]), append([]byte(nil), key...)})
	}
	if len(h.peppers) == 0 {
		return nil, errors.New("passwords need a pepper")
	}
	return h, nil
}

// Hash returns what is stored of a password: hs384:<pepper id>:<bcrypt>.
func (h *Hasher) Hash(password string) (string, error) {
	p := h.peppers[0]
	hash, err := bcrypt.GenerateFromPassword(p.mac(password), h.password)
	if err != nil {
		return "", fmt.Errorf("hashing a password: %w", err)
	}
	return scheme + ":" + p.id + ":" + string(hash), nil
}

// Verify compares a password with what is stored. stale says that a password
// which is right should be hashed again, because its pepper or cost is no
// longer the one in use. An empty or unreadable stored value, and a password
// over the limit, cost as much as a wrong password: one bcrypt, always.
func (h *Hasher) Verify(stored, password string) (ok, stale bool) {
	p, hash, known := h.find(stored)
	if !known {
		p, hash = h.peppers[0], h.passwordDecoy
	}
	fits := len(password) <= MaxPasswordBytes
	if !fits {
		password = ""
	}
	match := h.compare([]byte(hash), p.mac(password)) == nil
	cost, err := bcrypt.Cost([]byte(hash))
	return match && known && fits, p.id != h.peppers[0].id || err != nil || cost != h.password
}

// find takes a stored value apart.
func (h *Hasher) find(stored string) (pepper, string, bool) {
	name, rest, _ := strings.Cut(stored, ":")
	id, hash, found := strings.Cut(rest, ":")
	if !found || name != scheme {
		return pepper{}, "", false
	}
	if _, err := bcrypt.Cost([]byte(hash)); err != nil {
		return pepper{}, "", false
	}
	for _, p := range h.peppers {
		if p.id == id {
			return p, hash, true
		}
	}
	return pepper{}, "", false
}

// mac is the password as bcrypt gets it. The same characters typed on another
// keyboard may be other code points: NFC makes them one (RFC 8265, OpaqueString).
func (p pepper) mac(password string) []byte {
	m := hmac.New(sha512.New384, p.key)
	m.Write([]byte(norm.NFC.String(password)))
	return []byte(base64.StdEncoding.EncodeToString(m.Sum(nil)))
}
