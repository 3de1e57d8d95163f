package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/problem"
)

// HexBytes are bytes that JSON shows in hexadecimal.
type HexBytes []byte

// MarshalText writes hexadecimal digits.
func (h HexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// UnmarshalText reads hexadecimal digits.
func (h *HexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// statementMagic is the first line of every signed statement. It keeps a
// signature from meaning anything elsewhere, and names the encoding.
const statementMagic = "foundry observation v1\n"

// Statement is what is signed: every field that says something, each after its
// length (8 bytes, big endian), times as microseconds since 1970 in UTC. Two
// different observations have different statements.
func (o *Observation) Statement() []byte {
	var b bytes.Buffer
	b.WriteString(statementMagic)
	put := func(p []byte) {
		_ = binary.Write(&b, binary.BigEndian, uint64(len(p))) // a Buffer never fails
		b.Write(p)
	}
	putList := func(list []string) {
		_ = binary.Write(&b, binary.BigEndian, uint64(len(list)))
		for _, s := range list {
			put([]byte(s))
		}
	}
	for _, id := range [][16]byte{o.ID, o.Organisation, o.Run} {
		put(id[:])
	}
	for _, s := range []string{o.Control, o.Scope, o.Subject, string(o.Result), o.Reason} {
		put([]byte(s))
	}
	putList(o.Covered)
	putList(o.NotCovered)
	for _, t := range []time.Time{o.Observed, o.Effective, o.Expires} {
		_ = binary.Write(&b, binary.BigEndian, t.UnixMicro())
	}
	for _, s := range []string{o.Collector, o.Version, o.Mode, o.Owner} {
		put([]byte(s))
	}
	put(o.RawHash)
	put([]byte(o.RawPlace))
	return b.Bytes()
}

// Signer signs observations with the node's Ed25519 key (RFC 8032).
type Signer struct {
	id  string
	key ed25519.PrivateKey
}

// ID names the key: the first 16 hexadecimal digits of its SHA-256.
func (s *Signer) ID() string { return s.id }

// Public is the key that verifies.
func (s *Signer) Public() ed25519.PublicKey { return s.key.Public().(ed25519.PublicKey) }

// SignerID names a public key.
func SignerID(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:8])
}

const (
	signerFile  = "signer.sealed"
	signerLabel = "evidence signing key"
)

// OpenSigner reads the node's signing key from a directory, and makes one
// where there is none. The key lies there only as seal made it.
func OpenSigner(dir string, seal, open func(plaintext, associated []byte) ([]byte, error)) (*Signer, error) {
	path := filepath.Join(dir, signerFile)
	sealed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if sealed, err = makeSigner(dir, path, seal); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, signerUnusable(path, err)
	}
	seed, err := open(sealed, []byte(signerLabel))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, problem.New(problem.Internal, "evidence-key", path+" does not open with this node's keys.").
			WithMend("Put it back from the same backup as the keys. Without it, move it away: a new key is made, and old evidence stays verifiable.").Wrap(err)
	}
	key := ed25519.NewKeyFromSeed(seed)
	return &Signer{id: SignerID(key.Public().(ed25519.PublicKey)), key: key}, nil
}

// Reseal seals the node's signing key in a directory anew, after what seals it
// was rotated.
func (s *Signer) Reseal(dir string, seal func(plaintext, associated []byte) ([]byte, error)) error {
	_, err := storeSigner(dir, filepath.Join(dir, signerFile), s.key, seal)
	return err
}

func makeSigner(dir, path string, seal func(plaintext, associated []byte) ([]byte, error)) ([]byte, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, signerUnusable(dir, err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("making the evidence key: %w", err)
	}
	return storeSigner(dir, path, key, seal)
}

func storeSigner(dir, path string, key ed25519.PrivateKey, seal func(plaintext, associated []byte) ([]byte, error)) ([]byte, error) {
	sealed, err := seal(key.Seed(), []byte(signerLabel))
	if err != nil {
		return nil, fmt.Errorf("sealing the evidence key: %w", err)
	}
	if err := durable.Replace(path, sealed, 0o600); err != nil {
		return nil, signerUnusable(path, err)
	}
	return sealed, nil
}

func signerUnusable(path string, err error) error {
	return problem.New(problem.Unavailable, "evidence-key-file", "The evidence key cannot be used: "+path+".").
		WithMend("Check that the directory is writable and that the disk has room.").Wrap(err)
}

// sign completes an observation.
func (s *Signer) sign(o *Observation) {
	statement := o.Statement()
	sum := sha256.Sum256(statement)
	o.Hash, o.Signer, o.Signature = sum[:], s.id, ed25519.Sign(s.key, statement)
}

// Verify checks an observation against the public key that it names: that no
// field, and none of the raw bytes kept with it, was changed since. It says
// nothing about who owns the key: compare its id with the one in the audit log.
func (o *Observation) Verify(public ed25519.PublicKey) error {
	if len(public) != ed25519.PublicKeySize || SignerID(public) != o.Signer {
		return problem.New(problem.Invalid, "evidence-signer", "The observation was signed by another key: "+o.Signer+".")
	}
	statement := o.Statement()
	sum := sha256.Sum256(statement)
	switch {
	case !bytes.Equal(sum[:], o.Hash), !ed25519.Verify(public, statement, o.Signature):
		return problem.New(problem.Invalid, "evidence-changed", fmt.Sprintf("The observation %s is not what was signed.", o.ID)).
			WithMend("Treat it as forged, and look for who can write to the database.")
	case o.Raw != nil && !bytes.Equal(rawHash(o.Raw), o.RawHash):
		return problem.New(problem.Invalid, "evidence-raw-changed", fmt.Sprintf("The raw bytes of the observation %s are not those that were seen.", o.ID)).
			WithMend("Treat it as forged, and look for who can write to the database.")
	}
	return nil
}
