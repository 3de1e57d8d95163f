package credential

import (
	"fmt"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

const (
	// PasswordCost is the bcrypt cost of passwords: 240 ms here. Raising it is
	// enough to have every password hashed anew at its next sign-in.
	PasswordCost = 12
	// SecretCost is the bcrypt cost of secrets that were drawn at random, of
	// 75 bits and more. They need none; 10 is the floor that control O-12
	// asks for (60 ms here).
	SecretCost = 10
)

// costs is how much work hashing is. Decoys are hashes of 48 random bytes that
// nobody kept: what is compared when there is no hash to compare, so that an
// unknown account, or code, costs the same.
type costs struct {
	password, secret           int
	passwordDecoy, secretDecoy string
}

var full = costs{PasswordCost, SecretCost,
	"$2a$12$oFHZ1XyyFmXqsriFqVHGde6GPrtfhCyzPqDCgcXsW7097USdox.IC", "$2a$10$bNIgZhVeexnUhmsfIwXrCukGe5dvA8dIBj0gHWQtsd9f8ZeO4L./G"}

// NewQuickHasher makes a hasher of the least cost, for tests of what goes on
// around hashing. Outside of a test binary it panics: nothing that is
// configured, and no mistake in wiring, makes stored passwords cheap to guess.
func NewQuickHasher(peppers ...[]byte) (*Hasher, error) {
	if !testing.Testing() {
		panic("credential: a hasher for tests, outside of a test")
	}
	h, err := NewHasher(peppers...)
	if err != nil {
		return nil, err
	}
	decoy, err := bcrypt.GenerateFromPassword([]byte("decoy"), bcrypt.MinCost)
	h.costs = costs{bcrypt.MinCost, bcrypt.MinCost, string(decoy), string(decoy)}
	return h, err
}

// HashSecret hashes a secret of 72 bytes at most that was drawn at random.
func (h *Hasher) HashSecret(secret string) (string, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(secret), h.secret)
	if err != nil {
		return "", fmt.Errorf("hashing a secret: %w", err)
	}
	return string(hash), nil
}
