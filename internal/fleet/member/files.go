package member

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// The files of a node in the fleet. What is secret is sealed with the node's
// own ring, bound to its file's name.
const (
	recordFile   = "fleet.json"
	caFile       = "ca.pem"
	caKeyFile    = "ca.key.sealed"
	certFile     = "node.pem"
	keyFile      = "node.key.sealed"
	identityFile = "identity.sealed"
	keysetFile   = "keyset.sealed"
	revokedFile  = "revoked.crl"
	etcdDir      = "etcd"
	snapshotDir  = "snapshots"
)

// record is what a node knows of its fleet before it hears from it.
type record struct {
	Fleet     string        `json:"fleet"` // random; names the etcd cluster
	Name      string        `json:"name"`
	Roles     []Role        `json:"roles"`
	Joined    time.Time     `json:"joined"`
	Founded   bool          `json:"founded,omitempty"` // here, not joined
	Initial   string        `json:"initial,omitempty"` // etcd's initial cluster, for the first start after a join
	Advertise Addresses     `json:"advertise,omitzero"`
	Members   []knownMember `json:"members,omitempty"` // as last heard
	High      int64         `json:"high,omitempty"`    // the highest revision that was seen
	Heard     time.Time     `json:"heard,omitzero"`    // when a majority last answered
	Recovered *recovery     `json:"recovered,omitempty"`
}

type knownMember struct {
	Name      string    `json:"name"`
	Addresses Addresses `json:"addresses"`
	Voter     bool      `json:"voter"`
}

// recovery waits in the record until the first start after it.
type recovery struct {
	At       time.Time `json:"at"`
	From     string    `json:"from"`
	Revision int64     `json:"revision"`
}

// files is a node's directory.
type files struct {
	dir  string
	ring Ring

	mu     sync.Mutex
	record record
}

func openFiles(dir string, ring Ring) (*files, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unusable(dir, err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, unusable(dir, err)
	}
	f := &files{dir: dir, ring: ring}
	body, err := os.ReadFile(f.path(recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, unusable(f.path(recordFile), err)
	}
	if err := json.Unmarshal(body, &f.record); err != nil || f.record.Fleet == "" || f.record.Name == "" {
		return nil, problem.New(problem.Internal, "fleet-file", f.path(recordFile)+" is damaged.").
			WithMend("Restore it from the backup. A node that lost it has to be removed from the fleet and invited again.").Wrap(err)
	}
	return f, nil
}

// belongs says whether the node is in a fleet.
func (f *files) belongs() bool { return f.read().Fleet != "" }

func (f *files) path(name string) string { return filepath.Join(f.dir, name) }

func (f *files) read() record {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.record
}

// update changes the record, durably.
func (f *files) update(change func(*record)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.record
	change(&next)
	body, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the fleet's record: %w", err)
	}
	if err := replaceFile(f.path(recordFile), append(body, '\n')); err != nil {
		return err
	}
	f.record = next
	return nil
}

func label(name string) []byte { return []byte("foundry fleet " + name + " v1") }

func (f *files) seal(name string, plain []byte) error {
	sealed, err := f.ring.Seal(plain, label(name))
	if err != nil {
		return fmt.Errorf("sealing %s: %w", name, err)
	}
	return replaceFile(f.path(name), sealed)
}

// open reads a sealed file; absent: nil.
func (f *files) open(name string) ([]byte, error) {
	sealed, err := os.ReadFile(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unusable(f.path(name), err)
	}
	plain, err := f.ring.Open(sealed, label(name))
	if err != nil {
		return nil, problem.New(problem.Internal, "fleet-file-sealed", f.path(name)+" does not open with this node's keys.").
			WithMend("Restore it and the keys from the same backup, or remove the node from the fleet and invite it again.").Wrap(err)
	}
	return plain, nil
}

// Reseal seals every file anew, after the ring was rotated.
func Reseal(dir string, ring Ring) error {
	f, err := openFiles(dir, ring)
	if err != nil {
		return err
	}
	for _, name := range []string{caKeyFile, keyFile, identityFile, keysetFile} {
		plain, err := f.open(name)
		if err != nil {
			return err
		}
		if plain == nil {
			continue
		}
		err = f.seal(name, plain)
		clear(plain)
		if err != nil {
			return err
		}
	}
	return nil
}

// makeKeyset makes the keyset that seals the fleet's values.
func makeKeyset() ([]byte, error) {
	h, err := keyset.NewHandle(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("making the fleet's keyset: %w", err)
	}
	var out bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewBinaryWriter(&out)); err != nil { // sealed before it is stored
		return nil, fmt.Errorf("writing the fleet's keyset: %w", err)
	}
	return out.Bytes(), nil
}

func openKeyset(plain []byte) (sealer, error) {
	h, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(plain)))
	if err != nil {
		return nil, fmt.Errorf("reading the fleet's keyset: %w", err)
	}
	a, err := aead.New(h)
	if err != nil {
		return nil, fmt.Errorf("opening the fleet's keyset: %w", err)
	}
	return a, nil
}

func unusable(path string, err error) error {
	var p *problem.Error
	if errors.As(err, &p) {
		return err
	}
	return problem.New(problem.Unavailable, "fleet-dir", "The fleet's files cannot be used: "+path+".").
		WithMend("Check that the directory is writable and that the disk has room.").Wrap(err)
}

// replaceFile writes a file that only its owner may read, in one durable step.
func replaceFile(path string, body []byte) error {
	if err := durable.Replace(path, body, 0o600); err != nil {
		return unusable(path, err)
	}
	return nil
}
