package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/gateway/journal"
	"github.com/missionopsai/foundry/internal/problem"
)

// ShipperOptions configure NewShipper.
type ShipperOptions struct {
	Node, Boot uint32
	// Seal protects the raw bytes of a record that had to be set aside.
	Seal func(plaintext, associated []byte) ([]byte, error)
	Log  *slog.Logger     // nil discards
	Now  func() time.Time // nil is time.Now

	// Release is told up to where the journal is needed no more by shipping;
	// nil is journal.Release.
	Release func(journal.Position) error

	BatchEvents int           // at most; default 2500
	Gather      time.Duration // between batches under load; default 1 s
	GatherIdle  time.Duration // from the first event to its batch otherwise; default 200 ms
}

// busyEvents in a batch count as load. Every batch makes the database sync the
// disk that the journal's syncs need, too: a few times a second they would wait.
const busyEvents = 50

// batchBytes bounds the memory of a batch, whatever is in it.
const batchBytes = 2 << 20

// Queue says how far shipping is behind.
type Queue struct {
	Events   uint64        // durable and not shipped, earlier boots' included; until the database has said once what it has, at most so many
	Age      time.Duration // of the oldest event that an attempt failed to ship
	Shipped  journal.Position
	Open     int    // admissions whose outcome has not been shipped
	Rejected uint64 // set aside since start
	Failure  error  // why the last attempt failed; nil if it did not
}

// Shipper copies the journal into PostgreSQL: each record once, in order, in
// batches. journal_batches, written in a batch's own transaction, says where
// to go on. While the database is away the journal is the queue.
type Shipper struct {
	journal *journal.Journal
	db      *db.DB
	o       ShipperOptions

	shipping sync.Mutex // one batch at a time; guards what follows
	batch    *batch
	at       journal.Position // everything up to here is shipped
	open     requests         // at that point
	known    bool             // at and open were read from the database and the journal
	unsure   bool             // the last transaction may or may not have committed
	limit    int              // records in the next batch
	aside    string           // the next batch is one record, to be set aside for this reason
	folded   time.Time
	damaged  int // how many damages were logged

	mu       sync.Mutex // guards what Queue reports
	queue    Queue
	since    time.Time
	progress chan struct{} // closed, and replaced, at every attempt to ship
	emptied  bool          // the last attempt found nothing to ship

	fault func(step string) error // tests crash the shipper here
}

// NewShipper returns a shipper of j.
func NewShipper(j *journal.Journal, d *db.DB, o ShipperOptions) *Shipper {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Release == nil {
		o.Release = j.Release
	}
	if o.BatchEvents <= 0 {
		o.BatchEvents = 2500
	}
	if o.Gather <= 0 {
		o.Gather = time.Second
	}
	if o.GatherIdle <= 0 {
		o.GatherIdle = 200 * time.Millisecond
	}
	return &Shipper{
		journal: j, db: d, o: o, batch: newBatch(o.Node, o.Seal), limit: o.BatchEvents,
		fault: func(string) error { return nil }, progress: make(chan struct{}),
	}
}

// Run ships until ctx ends. It never gives up.
func (s *Shipper) Run(ctx context.Context) error {
	const quickest, slowest = 100 * time.Millisecond, 5 * time.Second
	backoff := quickest
	for ctx.Err() == nil {
		n, err := s.ship(ctx)
		switch {
		case errors.Is(err, errAgain):
			continue
		case err != nil:
			if ctx.Err() != nil {
				break
			}
			s.complain(err, backoff)
			wait(ctx, quickest)
			s.rest(ctx, backoff-quickest)
			backoff = min(2*backoff, slowest)
			continue
		case n >= s.o.BatchEvents:
			backoff = quickest
			continue
		}
		backoff = quickest
		s.fold(ctx)
		gather := s.o.GatherIdle
		if n > min(s.o.BatchEvents/10, busyEvents) {
			gather = s.o.Gather
		}
		if n == 0 {
			select {
			case <-s.journal.Notify():
			case <-ctx.Done():
			}
		}
		wait(ctx, gather)
	}
	return nil
}

// rest waits for d, or less if the database was away and is back.
func (s *Shipper) rest(ctx context.Context, d time.Duration) {
	if s.db.Healthy() {
		wait(ctx, d)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	_ = s.db.WaitHealthy(ctx)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// complain logs the first failure of a row, and each at the slowest pace.
func (s *Shipper) complain(err error, backoff time.Duration) {
	level := slog.LevelWarn
	if e := (*problem.Error)(nil); !errors.As(err, &e) || e.Kind != problem.Unavailable {
		level = slog.LevelError
	}
	q := s.Queue()
	s.o.Log.Log(context.Background(), level, "shipping the journal failed; it is kept and tried again",
		"error", err, "again_in", backoff, "events_waiting", q.Events, "oldest", q.Age)
}

// Flush ships everything that is durable now, or says why it cannot.
func (s *Shipper) Flush(ctx context.Context) error {
	for {
		n, err := s.ship(ctx)
		switch {
		case errors.Is(err, errAgain):
		case err != nil:
			return err
		case n == 0:
			return nil
		}
	}
}

// Queue returns how far shipping is behind.
func (s *Shipper) Queue() Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queue
	if durable := s.journal.Durable(); q.Shipped.Boot != s.o.Boot {
		q.Events = durable + s.journal.Earlier(q.Shipped)
	} else if durable > q.Shipped.Seq {
		q.Events = durable - q.Shipped.Seq
	}
	if !s.since.IsZero() {
		q.Age = max(s.o.Now().Sub(s.since), 0)
	}
	return q
}

// errAgain says that the batch was not shipped and a smaller one should be.
var errAgain = errors.New("try a smaller batch")

// ship ships one batch and returns how many records it had.
func (s *Shipper) ship(ctx context.Context) (int, error) {
	s.shipping.Lock()
	defer s.shipping.Unlock()
	n, err := s.shipBatch(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.queue.Failure, s.since = nil, time.Time{}
	case !errors.Is(err, errAgain):
		s.queue.Failure = err
		if s.batch.oldest != 0 {
			s.since = time.Unix(0, s.batch.oldest)
		} else if s.since.IsZero() {
			s.since = s.o.Now() // nothing has been read yet: it waits at least since now
		}
	}
	s.queue.Shipped, s.queue.Open = s.at, len(s.open)
	s.emptied = err == nil && n == 0
	close(s.progress)
	s.progress = make(chan struct{})
	return n, err
}

func (s *Shipper) shipBatch(ctx context.Context) (int, error) {
	if err := s.orient(ctx); err != nil {
		return 0, err
	}
	if err := s.build(); err != nil {
		return 0, err
	}
	b := s.batch
	if b.events == 0 {
		return 0, nil
	}
	if err := s.fault("built"); err != nil {
		return 0, err
	}
	s.unsure = true
	if err := s.db.Ship(ctx, func(tx pgx.Tx) error { return s.insert(ctx, tx) }); err != nil {
		return 0, s.shrink(err)
	}
	if err := s.fault("committed"); err != nil {
		return 0, err
	}
	s.advance()
	s.release()
	return b.events, s.fault("released")
}

// release lets the journal delete what is shipped and belongs to no request
// that is still open.
func (s *Shipper) release() {
	if err := s.o.Release(before(s.open.oldest(after(s.at)))); err != nil {
		s.o.Log.Error("releasing what was shipped of the journal failed; it is kept", "error", err)
	}
}

// build fills the batch with what the journal has after s.at.
func (s *Shipper) build() error {
	b := s.batch
	b.begin(s.at, s.open)
	take, limit := b.add, s.limit
	if s.aside != "" {
		take, limit = func(e *journal.Entry) error { return b.setAside(e, s.aside) }, 1
	}
	from, err := s.journal.Read(s.at, limit, batchBytes, func(e journal.Entry) error { return take(&e) })
	for errors.Is(err, journal.ErrDamaged) { // said once, by itself; what lies behind it is shipped
		s.reportDamage()
		from, err = s.journal.Read(from, limit, batchBytes, func(e journal.Entry) error { return take(&e) })
	}
	if err != nil {
		return fmt.Errorf("reading the journal: %w", err)
	}
	b.finish()
	return nil
}

// errRaced says that another process shipped the same records.
var errRaced = errors.New("the journal is being shipped by another process too")

func (s *Shipper) insert(ctx context.Context, tx pgx.Tx) error {
	if err := s.fault("begun"); err != nil {
		return err
	}
	b, conn := s.batch, tx.Conn()
	var pipeline pgconn.Batch
	used := []*table{b.batches}
	for _, t := range b.all {
		if t.rows() > 0 {
			used = append(used, t)
		}
	}
	for _, t := range used {
		if _, err := conn.Prepare(ctx, t.name, t.insert); err != nil {
			return err
		}
		pipeline.ExecPrepared(t.name, t.parameters(), t.formats, nil)
	}
	results, err := conn.PgConn().ExecBatch(ctx, &pipeline).ReadAll()
	if err != nil {
		return err
	}
	if results[0].CommandTag.RowsAffected() != int64(b.batches.rows()) {
		return errRaced
	}
	return s.fault("inserted")
}

// advance goes on behind the batch that is known to be stored.
func (s *Shipper) advance() {
	b := s.batch
	b.lay(s.open)
	s.at, s.unsure, s.aside = b.to, false, ""
	s.limit = min(max(2*s.limit, 1), s.o.BatchEvents)
	for _, reason := range b.rejected {
		s.o.Log.Error("a journal record could not be stored and was set aside, sealed, in journal_rejects",
			"node", s.o.Node, "boot", b.to.Boot, "up_to", b.to.Seq, "reason", reason)
	}
	s.mu.Lock()
	s.queue.Rejected += uint64(len(b.rejected))
	s.mu.Unlock()
}

// shrink makes the next batch smaller when the database refused the data of
// this one, until the record that it refuses is alone and can be set aside.
func (s *Shipper) shrink(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || !poisonous(pg.Code) {
		return fmt.Errorf("shipping: %w", err)
	}
	if s.batch.events > 1 {
		s.limit = s.batch.events / 2
		return errAgain
	}
	if s.aside != "" {
		return fmt.Errorf("setting a record aside: %w", err)
	}
	s.aside = fmt.Sprintf("refused by the database: %s (%s)", pg.Message, pg.Code)
	return errAgain
}

// poisonous says whether an SQLSTATE is about the data: data exception,
// integrity constraint violation, program limit exceeded.
func poisonous(code string) bool {
	return strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23") || strings.HasPrefix(code, "54")
}

// after and before step over one place. A sequence starts at 1.
func after(p journal.Position) journal.Position  { p.Seq++; return p }
func before(p journal.Position) journal.Position { p.Seq--; return p }
