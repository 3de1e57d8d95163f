package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/problem"
)

// The files of the log in its directory.
const (
	logKeyFile     = "log.key"           // sealed seed of the signing key
	witnessKeyFile = "witness.key"       // sealed seed of the witness's key
	newestFile     = "newest.json"       // the newest checkpoint this node signed or saw, replaced whole
	historyFile    = "checkpoints.jsonl" // the first of each hour, append only
)

// openSeed reads a sealed key, or makes one where none was ever made.
func openSeed(path string, o *Options) ([]byte, error) {
	associated := []byte("audit/" + filepath.Base(path))
	sealed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if exists(filepath.Join(o.Dir, newestFile)) {
			return nil, problem.New(problem.Conflict, "audit-key-missing", path+" is missing, though the audit log has signed checkpoints with it.").
				WithMend("Restore it from the backup. A new key would have to be given to every auditor: docs/runbooks/audit-verify-fails.md.")
		}
		seed := make([]byte, ed25519.SeedSize)
		_, _ = rand.Read(seed) // never fails (crypto/rand)
		if sealed, err = o.Seal(seed, associated); err != nil {
			return nil, fmt.Errorf("sealing %s: %w", path, err)
		}
		return seed, replace(path, sealed)
	}
	if err != nil {
		return nil, fileProblem(path, err)
	}
	seed, err := o.Open(sealed, associated)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, problem.New(problem.Internal, "audit-key-unreadable", path+" does not open with this installation's keys.").
			WithMend("Restore it together with the keys directory.").Wrap(err)
	}
	return seed, nil
}

// Reseal seals the log's keys anew, after what seals them was rotated. Killed
// in between, each file is as it was or as it is to be.
func (l *Log) Reseal() error {
	l.seq.Lock()
	defer l.seq.Unlock()
	for _, name := range []string{logKeyFile, witnessKeyFile} {
		path := filepath.Join(l.o.Dir, name)
		if !exists(path) { // the witness has none before the tree has a name
			continue
		}
		seed, err := openSeed(path, &l.o)
		if err != nil {
			return err
		}
		sealed, err := l.o.Seal(seed, []byte("audit/"+name))
		clear(seed)
		if err != nil {
			return fmt.Errorf("sealing %s: %w", path, err)
		}
		if err := replace(path, sealed); err != nil {
			return err
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func fileProblem(path string, err error) error {
	return problem.New(problem.Unavailable, "audit-file", "The audit log's file "+path+" cannot be used.").
		WithMend("Check the directory's permissions and that the disk has room.").Wrap(err)
}

// replace writes a file whole or not at all, for its owner only.
func replace(path string, body []byte) error {
	if err := durable.Replace(path, body, 0o600); err != nil {
		return fileProblem(path, err)
	}
	return nil
}

// book is the log's checkpoints outside the database: what the database is
// compared with. A later checkpoint commits to all that an earlier one does,
// so the history keeps one an hour.
type book struct {
	dir    string
	newest Checkpoint // zero size and no note: none
	filed  time.Time  // of the last line in the history
	torn   bool       // the history ends in half a line
}

func openBook(dir string) (*book, error) {
	b := &book{dir: dir}
	text, err := os.ReadFile(filepath.Join(dir, newestFile))
	switch {
	case err == nil:
		if json.Unmarshal(text, &b.newest) != nil || b.newest.Note == "" {
			return nil, problem.New(problem.Conflict, "audit-file-damaged", filepath.Join(dir, newestFile)+" is damaged: it does not hold a checkpoint.").
				WithMend("Restore it from the backup, or follow docs/runbooks/audit-verify-fails.md.")
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fileProblem(dir, err)
	}
	history, torn, err := b.history()
	if err != nil {
		return nil, err
	}
	b.torn = torn
	if n := len(history); n > 0 {
		b.filed = history[n-1].At
	}
	return b, nil
}

// history reads the append-only file. torn: a crash left half a line at its end.
func (b *book) history() (all []Checkpoint, torn bool, err error) {
	text, err := os.ReadFile(filepath.Join(b.dir, historyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fileProblem(b.dir, err)
	}
	for len(text) > 0 {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			return all, true, nil
		}
		var c Checkpoint
		if err := json.Unmarshal(line, &c); err != nil {
			return all, false, problem.New(problem.Conflict, "audit-file-damaged", fmt.Sprintf("Line %d of %s is damaged.", len(all)+1, filepath.Join(b.dir, historyFile))).
				WithMend("Restore the file from the backup, or follow docs/runbooks/audit-verify-fails.md.")
		}
		all, text = append(all, c), rest
	}
	return all, false, nil
}

// file keeps a checkpoint that is committed.
func (b *book) file(c Checkpoint) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if err := replace(filepath.Join(b.dir, newestFile), line); err != nil {
		return err
	}
	b.newest = c
	if c.At.Truncate(time.Hour).Equal(b.filed.Truncate(time.Hour)) {
		return nil
	}
	if err := b.append(line); err != nil {
		return err
	}
	b.filed = c.At
	return nil
}

func (b *book) append(line []byte) error {
	path := filepath.Join(b.dir, historyFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fileProblem(path, err)
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil && b.torn { // what a crash left half is not an entry
		var text []byte
		if text, err = os.ReadFile(path); err == nil {
			end = int64(bytes.LastIndexByte(text, '\n') + 1)
			err = f.Truncate(end)
		}
	}
	if err == nil {
		_, err = f.WriteAt(line, end)
	}
	if err == nil {
		err = f.Sync()
	}
	b.torn = err != nil // half a line may be there now
	if err = errors.Join(err, f.Close()); err != nil {
		return fileProblem(path, err)
	}
	return nil
}
