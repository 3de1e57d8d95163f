package backup

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// passphrasesLabel binds the file to its purpose.
const passphrasesLabel = "backup passphrases"

// Passphrases keeps the passphrase of every repository: random, made once, in a
// file that the installation's keyring seals. Losing the file and every kit
// loses all backups. Safe for concurrent use.
type Passphrases struct {
	path string
	seal func(plaintext, associated []byte) ([]byte, error)

	mu  sync.Mutex
	all map[string]string // by kit.PassphraseName
}

// OpenPassphrases reads <dataDir>/backup/passphrases.sealed, if it is there.
func OpenPassphrases(dataDir string, seal, open func(data, associated []byte) ([]byte, error)) (*Passphrases, error) {
	p := &Passphrases{path: filepath.Join(dataDir, "backup", "passphrases.sealed"), seal: seal, all: map[string]string{}}
	sealed, err := os.ReadFile(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, pathProblem(p.path, err)
	}
	text, err := open(sealed, []byte(passphrasesLabel))
	if err == nil {
		err = json.Unmarshal(text, &p.all)
		clear(text)
	}
	if err != nil {
		return nil, problem.New(problem.Internal, "backup-passphrases", p.path+" does not open with this node's keys.").
			WithMend("Restore it from the emergency kit. Without it the backups made so far open no more; deleting it makes new repositories impossible where old ones are.").Wrap(err)
	}
	return p, nil
}

// For is how an engine asks for the passphrase of its repository at a target.
// One that is not there yet is made, and durable before it is used.
func (p *Passphrases) For(name string) engine.Passphrase {
	return func(_ context.Context, t target.Target) (string, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		key := kit.PassphraseName(t.Name, name)
		if v, ok := p.all[key]; ok {
			return v, nil
		}
		raw := make([]byte, 32)
		_, _ = rand.Read(raw) // never fails
		next := maps.Clone(p.all)
		next[key] = base64.RawURLEncoding.EncodeToString(raw)
		clear(raw)
		if err := p.write(next); err != nil {
			return "", err
		}
		p.all = next
		return next[key], nil
	}
}

func (p *Passphrases) write(all map[string]string) error {
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	defer clear(text)
	sealed, err := p.seal(text, []byte(passphrasesLabel))
	if err != nil {
		return err
	}
	return writeFile(p.path, sealed, 0o600)
}

// Adopt takes over the passphrase that another node made for the repository of
// an engine at its target theirs, for this node's target ours: both are one
// place. The passphrase that this node had made for it opens nothing there; it
// is kept all the same.
func (p *Passphrases) Adopt(from *Passphrases, theirs, ours, engineName string) error {
	from.mu.Lock()
	taken, has := from.all[kit.PassphraseName(theirs, engineName)]
	from.mu.Unlock()
	if !has {
		return problem.New(problem.NotFound, "backup-passphrase-unknown", "The passphrase of the repository at "+theirs+" is not among what was left.").WithMend("Look for it in the emergency kit of the node that made it.")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	name := kit.PassphraseName(ours, engineName)
	before, had := p.all[name]
	if had && before == taken {
		return nil
	}
	next := maps.Clone(p.all)
	if had {
		next[name+".before"] = before
	}
	next[name] = taken
	if err := p.write(next); err != nil {
		return err
	}
	p.all = next
	return nil
}

// Reseal writes the file anew, after the keyring was rotated.
func (p *Passphrases) Reseal() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.all) == 0 {
		return nil
	}
	return p.write(p.all)
}

// All is every passphrase, for the emergency kit. The caller wipes them.
func (p *Passphrases) All() map[string][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string][]byte{}
	for name, v := range p.all {
		out[name] = []byte(v)
	}
	return out
}
