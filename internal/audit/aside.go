package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/problem"
)

// asideFile keeps what was signed over leaves that a restore has lost: evidence
// for whoever holds a copy of it, and nothing that the log is compared with.
const asideFile = "lost.jsonl"

// Restored is the tree with which a database came back from a backup, as those
// know it who restored it: not as the database says.
type Restored struct {
	Size int64
	Root string // base64, as of a checkpoint
	By   string // the recovery, for the file
}

// Aside is a checkpoint that was set aside, and why.
type Aside struct {
	Checkpoint
	Restored int64  `json:"restored_size"`
	By       string `json:"restored_by"`
}

// SetAside lets the log go on from a database that was restored to an earlier
// moment: the checkpoints of this node over more leaves than came back are kept
// in lost.jsonl and compared with no more. It refuses where the tree in the
// database does not go on from the restored one, or contradicts a checkpoint
// over leaves that did come back (code "audit-tree-forked"). Without such
// checkpoints it does nothing. tell is called before anything is set aside, and
// may be called again after a crash; where it fails nothing is.
func (l *Log) SetAside(ctx context.Context, r Restored, tell func(gone []Aside) error) (gone []Aside, err error) {
	root, err := tlog.ParseHash(r.Root)
	if err != nil {
		return nil, problem.New(problem.Invalid, "audit-restored-root", "The root of the restored tree is no hash.").WithField("root").Wrap(err)
	}
	l.seq.Lock()
	defer l.seq.Unlock()
	history, _, err := l.book.history()
	if err != nil {
		return nil, err
	}
	if l.book.newest.Note != "" {
		history = append(history, l.book.newest)
	}
	var stay []Checkpoint
	err = l.o.DB.Read(ctx, func(tx pgx.Tx) error {
		gone, stay = nil, nil
		size, _, err := head(ctx, tx)
		if err != nil {
			return err
		}
		read := treeReader(ctx, tx)
		if err := follows(Checkpoint{Size: r.Size, Root: root, Note: r.By}, size, read); err != nil {
			return err
		}
		for _, c := range history {
			switch err := follows(c, size, read); {
			case err == nil:
				stay = append(stay, c)
			case c.Size > r.Size && lostCode(err):
				gone = append(gone, Aside{c, r.Size, r.By})
			default:
				return err
			}
		}
		return nil
	})
	if err != nil || len(gone) == 0 {
		return nil, err
	}
	if err := tell(gone); err != nil {
		return nil, err
	}
	if err := l.book.setAside(gone, stay); err != nil {
		return nil, err
	}
	l.edge = nil
	return gone, nil
}

// lostCode says whether a checkpoint is only of leaves that are not there, or
// of others than are there now.
func lostCode(err error) bool {
	code := problem.From(err).Code
	return code == "audit-tree-behind" || code == "audit-tree-forked"
}

// setAside writes what is set aside before it is taken out of the history: a
// crash between leaves it in both, and the next call ends it.
func (b *book) setAside(gone []Aside, stay []Checkpoint) error {
	path := filepath.Join(b.dir, asideFile)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fileProblem(path, err)
	}
	for _, a := range gone {
		line, err := json.Marshal(a)
		if err != nil {
			return err
		}
		if line = append(line, '\n'); !bytes.Contains(text, line) {
			text = append(text, line...)
		}
	}
	if err := replace(path, text); err != nil {
		return err
	}
	var kept []byte
	b.newest = Checkpoint{}
	for _, c := range stay {
		line, err := json.Marshal(c)
		if err != nil {
			return err
		}
		kept = append(append(kept, line...), '\n')
		if c.Size >= b.newest.Size {
			b.newest = c
		}
	}
	if err := replace(filepath.Join(b.dir, historyFile), kept); err != nil {
		return err
	}
	b.torn, b.filed = false, b.newest.At
	newest := filepath.Join(b.dir, newestFile)
	if b.newest.Note == "" {
		if err := os.Remove(newest); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fileProblem(newest, err)
		}
		return durable.SyncDir(b.dir)
	}
	line, err := json.Marshal(b.newest)
	if err != nil {
		return fmt.Errorf("writing the newest checkpoint: %w", err)
	}
	return replace(newest, append(line, '\n'))
}
