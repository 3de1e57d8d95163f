package member

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/missionopsai/foundry/internal/problem"
)

// Own is what a node is in its fleet, read from its files: the process need
// not run, and may.
type Own struct {
	Name  string
	Fleet string // id
	Roles []Role
	files *files
}

// ReadOwn reads it from the folder fleet of a data directory. It changes nothing.
func ReadOwn(dir string, ring Ring) (Own, error) {
	absent := problem.New(problem.NotFound, "fleet-absent", "There is no node of a fleet in "+filepath.Dir(dir)+".").
		WithMend("Name the configuration of a node that belongs to the fleet.")
	if _, err := os.Stat(filepath.Join(dir, recordFile)); errors.Is(err, fs.ErrNotExist) {
		return Own{}, absent
	}
	f, err := openFiles(dir, ring)
	if err != nil {
		return Own{}, err
	}
	r := f.read()
	if r.Fleet == "" {
		return Own{}, absent
	}
	return Own{Name: r.Name, Fleet: r.Fleet, Roles: r.Roles, files: f}, nil
}

// Open opens what was encrypted to this node's recipient.
func (o Own) Open(sealed []byte) ([]byte, error) { return o.files.openOwn(sealed) }

// Own is what this node is in its fleet.
func (m *Member) Own() Own {
	r := m.files.read()
	return Own{Name: r.Name, Fleet: r.Fleet, Roles: m.Roles(), files: m.files}
}
