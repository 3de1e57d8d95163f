package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

// Options open a Log.
type Options struct {
	DB   *db.DB
	Dir  string // holds the signing keys and the checkpoints outside the database
	Node uint32

	Seal func(plaintext, associated []byte) ([]byte, error) // protects the signing keys
	Open func(sealed, associated []byte) ([]byte, error)

	// The gateway's ledger, whose tables package gateway/ledger owns. Nil: its
	// batches stand in the tree, but are not compared with their rows.
	Batches   func(ctx context.Context, refs []uuid.UUID) (map[uuid.UUID]Batch, error)                // those that are stored
	CheckRows func(ctx context.Context, found func(code, place, what string)) (rows int64, err error) // compares every row with its batch

	Cosigners []Cosigner       // besides the local witness
	Clock     func() time.Time // nil is time.Now
	Log       *slog.Logger     // nil discards
	Every     time.Duration    // between looks at the queue; default 250 ms
	Batch     int              // most leaves in one transaction; default 5000
	Held      int              // most denials kept in memory while the database refuses them; default 10000
}

// Log is a node's hold on the audit log: it sequences, signs, proves and
// verifies. Safe for concurrent use. Every node of a database has one; they
// take turns, a transaction each.
type Log struct {
	o       Options
	appends *appender
	reads   readings

	seq    sync.Mutex // one pass at a time; guards the following
	origin string
	log    *signer
	seed   []byte
	wit    *signer
	cosign []Cosigner
	edge   *frontier // of what is committed; nil: to be read again
	last   tlog.Hash // of the last leaf
	book   *book
	left   int64 // in the queue after the last pass
	bare   bool  // the newest checkpoint is not in the database (it was restored, or another node's)

	mu     sync.Mutex // guards what Status reports
	status Status
	keys   []*verifier   // this node's and, once read, the other nodes'
	since  time.Time     // when everything was last in the tree
	passed chan struct{} // closed after every pass
	kick   chan struct{}

	fault func(step string) error // tests crash the sequencer here
}

// Status says how the log is.
type Status struct {
	Origin     string        `json:"origin,omitempty"`
	Size       int64         `json:"tree_size"`
	Root       string        `json:"root,omitempty"`
	Waiting    int64         `json:"waiting"`             // entries that are not in the tree yet, as of the last pass
	Lag        time.Duration `json:"lag_ns"`              // how long the tree has been behind the log; 0: it is not
	Checkpoint time.Time     `json:"checkpoint,omitzero"` // when the newest checkpoint was signed
	Failure    string        `json:"failure,omitempty"`   // why the last pass failed
	Code       string        `json:"failure_code,omitempty"`
	Held       int           `json:"held"` // denials in memory that the database has refused so far
	Lost       uint64        `json:"lost"` // denials dropped because that memory was full
	Verified   time.Time     `json:"verified,omitzero"`
	Sound      bool          `json:"sound"`            // what the last verification found; meaningless before the first
	Checked    time.Time     `json:"checked,omitzero"` // when the tree was last compared with the checkpoints on disk
}

// OpenLog reads the log's keys and checkpoints from its directory, making
// them where there never were any. It does not need the database.
func OpenLog(o Options) (*Log, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Every <= 0 {
		o.Every = 250 * time.Millisecond
	}
	if o.Batch <= 0 {
		o.Batch = 5000
	}
	if o.Held <= 0 {
		o.Held = 10_000
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fileProblem(o.Dir, err)
	}
	l := &Log{o: o, since: o.Clock(), kick: make(chan struct{}, 1), fault: func(string) error { return nil }}
	var err error
	if l.seed, err = openSeed(filepath.Join(o.Dir, logKeyFile), &o); err != nil {
		return nil, err
	}
	if l.book, err = openBook(o.Dir); err != nil {
		return nil, err
	}
	if b := l.book.newest; b.Note != "" {
		if err := l.name(b.Origin); err != nil {
			return nil, err
		}
	}
	l.appends = newAppender(o.DB, o.Held, o.Clock, o.Log)
	enroll(o.DB, l.appends)
	return l, nil
}

// name makes the signers, whose names hold the tree's origin.
func (l *Log) name(origin string) error {
	if l.origin == origin {
		return nil
	}
	seed, err := openSeed(filepath.Join(l.o.Dir, witnessKeyFile), &l.o)
	if err != nil {
		return err
	}
	l.origin = origin
	l.log = newSigner(origin, algEd25519, l.seed, l.o.Clock)
	l.wit = newSigner(origin+"/witness", algCosignature, seed, l.o.Clock)
	l.cosign = append([]Cosigner{l.wit.cosigner(&l.log.verifier)}, l.o.Cosigners...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys = []*verifier{&l.log.verifier, &l.wit.verifier}
	l.status.Origin = origin
	return nil
}

// Close stores what is held in memory, as far as the database takes it.
func (l *Log) Close(ctx context.Context) error {
	dismiss(l.o.DB)
	return l.appends.close(ctx)
}

// Kick makes the sequencer look at the queue now.
func (l *Log) Kick() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// Run sequences until ctx ends, compares the tree with the checkpoints on disk
// every hour, and stores held denials. It never gives up.
func (l *Log) Run(ctx context.Context) error {
	var checked time.Time
	pause, logged := l.o.Every, ""
	for ctx.Err() == nil {
		n, err := l.Sequence(ctx)
		if err == nil && l.o.Clock().Sub(checked) >= time.Hour {
			if err = l.CheckHistory(ctx); err == nil {
				checked = l.o.Clock()
			}
		}
		l.appends.retry(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			p := problem.From(err)
			if p.Code != logged || p.Kind == problem.Internal && pause < 30*time.Second {
				l.o.Log.Error("sequencing the audit log failed; it is tried again", "code", p.Code, "error", err)
			}
			logged, pause = p.Code, min(2*pause, 30*time.Second)
		case n >= l.o.Batch:
			logged, pause = "", l.o.Every
			continue
		default:
			logged, pause = "", l.o.Every
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-l.kick:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
		}
	}
	return nil
}

// Status reports how the log is.
func (l *Log) Status() Status {
	l.mu.Lock()
	s := l.status
	if late := l.o.Clock().Sub(l.since); late > 4*l.o.Every {
		s.Lag = late
	}
	l.mu.Unlock()
	s.Held, s.Lost = l.appends.heldNow()
	return s
}

// Sequence moves one batch of what waits into the tree, signs it and files
// the checkpoint. It returns how many leaves it moved; none when another node
// is at it.
func (l *Log) Sequence(ctx context.Context) (moved int, err error) {
	l.seq.Lock()
	defer l.seq.Unlock()
	defer func() { l.report(moved, err) }()
	var p pass
	err = l.o.DB.As(ctx, db.Sequencer, func(tx pgx.Tx) error {
		p = pass{}
		return l.sequence(ctx, tx, &p)
	})
	if err != nil {
		l.edge = nil // it may or may not have committed
		return 0, fmt.Errorf("sequencing: %w", err)
	}
	if p.edge == nil {
		return 0, nil // another node's turn
	}
	l.edge, l.last, l.left = p.edge, p.last, p.left
	if err := l.fault("committed"); err != nil {
		return 0, err
	}
	if p.signed != nil {
		if err := l.book.file(*p.signed); err != nil {
			return 0, err
		}
	}
	return len(p.leaves), l.fault("filed")
}

// pass is one transaction of the sequencer.
type pass struct {
	edge   *frontier
	last   tlog.Hash
	leaves []leaf
	nodes  []storedNode
	signed *Checkpoint
	left   int64 // in the queue
}

func (l *Log) sequence(ctx context.Context, tx pgx.Tx, p *pass) error {
	mine, err := takeTurn(ctx, tx)
	if err != nil || !mine {
		return err
	}
	edge, last, err := l.orient(ctx, tx)
	if err != nil {
		return err
	}
	if err := l.fault("begun"); err != nil {
		return err
	}
	p.last = last
	taken, err := take(ctx, tx, l.o.Batch)
	if err != nil {
		return err
	}
	if err := l.fault("taken"); err != nil {
		return err
	}
	edge = edge.clone()
	for i := range taken {
		taken[i].n = edge.size
		p.last = taken[i].hash
		err := edge.push(0, taken[i].hash, func(level int, n int64, h tlog.Hash) {
			if level%every == 0 {
				p.nodes = append(p.nodes, storedNode{level, n, h})
			}
		})
		if err != nil {
			return err
		}
	}
	if err := insertLeaves(ctx, tx, taken, p.nodes); err != nil {
		return err
	}
	if err := l.fault("inserted"); err != nil {
		return err
	}
	p.leaves = taken
	if len(taken) > 0 || l.book.newest.Size != edge.size || l.bare || l.stale() {
		c, failed, err := signCheckpoint(l.origin, edge.size, edge.root(), l.log, l.cosign)
		if err != nil {
			return err
		}
		for _, err := range failed {
			l.o.Log.Error("a cosigner did not sign a checkpoint", "size", edge.size, "error", err)
		}
		if err := insertCheckpoint(ctx, tx, l.log, c); err != nil {
			return err
		}
		p.signed, l.bare = &c, false
	}
	p.edge = edge
	if len(taken) == l.o.Batch {
		if p.left, err = waiting(ctx, tx); err != nil {
			return err
		}
	}
	return l.fault("signed")
}

// stale says that it is time for a new checkpoint though nothing happened, so
// that whoever reads it sees that the log is alive.
func (l *Log) stale() bool { return l.o.Clock().Sub(l.book.newest.At) >= time.Hour }

// orient returns the right edge of the tree in the database, and refuses one
// that does not follow from what this node has signed.
func (l *Log) orient(ctx context.Context, tx pgx.Tx) (*frontier, tlog.Hash, error) {
	size, last, err := head(ctx, tx)
	if err != nil {
		return nil, last, err
	}
	if l.edge != nil && l.edge.size == size && l.last == last && l.book.newest.Size <= size {
		return l.edge, last, nil
	}
	id, err := logID(ctx, tx)
	if err != nil {
		return nil, last, err
	}
	origin := originOf(id)
	if l.book.newest.Note != "" && l.book.newest.Origin != origin {
		return nil, last, problem.New(problem.Conflict, "audit-tree-other", "The database holds another audit log than the one whose checkpoints are in "+l.o.Dir+".").
			WithMend("Connect the node to its own database, or follow docs/runbooks/audit-verify-fails.md.")
	}
	if err := l.name(origin); err != nil {
		return nil, last, err
	}
	read := treeReader(ctx, tx)
	if err := follows(l.book.newest, size, read); err != nil {
		return nil, last, err
	}
	edge, err := read.frontier(size)
	if err != nil {
		return nil, last, err
	}
	if err := insertKeys(ctx, tx, l.o.Node, l.log, l.wit); err != nil {
		return nil, last, err
	}
	l.bare = true
	return edge, last, nil
}

// originOf is the first line of the checkpoints of a tree.
func originOf(id uuid.UUID) string { return "foundry.audit/" + id.String() }

// follows says whether a tree of size leaves contains the tree of a checkpoint.
func follows(c Checkpoint, size int64, read hashes) error {
	if c.Note == "" {
		return nil
	}
	if size < c.Size {
		return problem.New(problem.Conflict, "audit-tree-behind", fmt.Sprintf(
			"The audit tree in the database has %d leaves, but this node signed a checkpoint over %d: the database is older than the log, or leaves were removed.", size, c.Size)).
			WithMend("Nothing is sequenced until then: restore a newer database, or accept the loss as docs/runbooks/audit-verify-fails.md says.")
	}
	was, err := read.frontier(c.Size)
	if err == nil && was.root() == c.Root {
		return nil
	}
	if err != nil && !errors.Is(err, errGap) {
		return err
	}
	return problem.New(problem.Conflict, "audit-tree-forked", fmt.Sprintf(
		"The first %d leaves of the audit tree in the database are not the ones that this node signed: the log was changed.", c.Size)).
		WithMend("Run `foundry audit verify` to see what, and follow docs/runbooks/audit-verify-fails.md.")
}

// CheckHistory compares the tree in the database with every checkpoint that
// this node keeps outside of it.
func (l *Log) CheckHistory(ctx context.Context) error {
	l.seq.Lock()
	history, _, err := l.book.history()
	newest := l.book.newest
	l.seq.Unlock()
	if err != nil {
		return err
	}
	err = l.o.DB.Read(ctx, func(tx pgx.Tx) error {
		size, _, err := head(ctx, tx)
		if err != nil {
			return err
		}
		for _, c := range append(history, newest) {
			if c.Note == "" {
				continue
			}
			if said, _, err := openCheckpoint(c.Note, l.trusted()); err != nil || said.Size != c.Size || said.Root != c.Root {
				return forged(c, err)
			}
			if err := follows(c, size, treeReader(ctx, tx)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		l.mu.Lock()
		l.status.Checked = l.o.Clock()
		l.mu.Unlock()
	}
	return err
}

func forged(c Checkpoint, cause error) error {
	return problem.New(problem.Conflict, "audit-checkpoint-forged", fmt.Sprintf("A stored checkpoint over %d leaves does not bear this log's signature.", c.Size)).
		WithMend("Follow docs/runbooks/audit-verify-fails.md.").Wrap(cause)
}

func (l *Log) trusted() []*verifier {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keys
}

// report takes down how a pass went. Called with seq held.
func (l *Log) report(moved int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.status
	if l.passed != nil {
		close(l.passed)
		l.passed = nil
	}
	if err != nil {
		p := problem.From(err)
		s.Failure, s.Code = p.Detail, p.Code
		return
	}
	s.Failure, s.Code, s.Waiting = "", "", l.left
	if moved < l.o.Batch { // otherwise more may wait
		l.since = l.o.Clock()
	}
	if l.edge != nil {
		root := l.edge.root()
		s.Size, s.Root = l.edge.size, root.String()
	}
	s.Checkpoint = l.book.newest.At
}

// Checkpoint returns the newest checkpoint that this node signed.
func (l *Log) Checkpoint() (Checkpoint, error) {
	l.seq.Lock()
	defer l.seq.Unlock()
	if l.book.newest.Note == "" {
		return Checkpoint{}, problem.New(problem.NotFound, "audit-checkpoint-none", "Nothing has been signed yet.").WithMend("Try again in a second.")
	}
	return l.book.newest, nil
}

// Keys lists this node's public keys, and those of other nodes that have
// signed, as the database names them.
func (l *Log) Keys(ctx context.Context) ([]PublicKey, error) {
	var out []PublicKey
	err := l.o.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		out, err = readKeys(ctx, tx)
		return err
	})
	return out, err
}
