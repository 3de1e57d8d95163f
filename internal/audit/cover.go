package audit

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/problem"
)

// Coverage says how a database stands to the checkpoints that are kept outside
// of it.
type Coverage struct {
	Size    int64     // leaves of the tree in the database
	Root    string    // of that tree, in base64
	Within  int       // checkpoints that the tree goes on from
	Beyond  int       // checkpoints over more leaves than the tree has
	Largest int64     // leaves of the largest checkpoint
	Missing time.Time // when the oldest of those beyond was signed; zero: there is none
}

// Cover compares the tree in the database with every checkpoint in the log's
// directory. A tree that is shorter than some of them is no error: a database
// that was restored to an earlier moment is. A tree that does not go on from one
// that it is long enough for is an error of code "audit-tree-forked".
func (l *Log) Cover(ctx context.Context) (c Coverage, err error) {
	l.seq.Lock()
	history, _, err := l.book.history()
	newest := l.book.newest
	l.seq.Unlock()
	if err != nil {
		return c, err
	}
	err = l.o.DB.Read(ctx, func(tx pgx.Tx) error {
		c = Coverage{}
		var err error
		if c.Size, _, err = head(ctx, tx); err != nil {
			return err
		}
		edge, err := treeReader(ctx, tx).frontier(c.Size)
		if err != nil {
			return err
		}
		c.Root = edge.root().String()
		for _, p := range append(history, newest) {
			if p.Note == "" {
				continue
			}
			if said, _, err := openCheckpoint(p.Note, l.trusted()); err != nil || said.Size != p.Size || said.Root != p.Root {
				return forged(p, err)
			}
			c.Largest = max(c.Largest, p.Size)
			if err := follows(p, c.Size, treeReader(ctx, tx)); err == nil {
				c.Within++
			} else if problem.From(err).Code == "audit-tree-behind" {
				c.Beyond++
				if c.Missing.IsZero() || p.At.Before(c.Missing) {
					c.Missing = p.At
				}
			} else {
				return err
			}
		}
		return nil
	})
	return c, err
}
