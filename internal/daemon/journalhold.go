package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/gateway/journal"
	"github.com/missionopsai/foundry/internal/notify"
)

// journalHold keeps shipped segments of the journal until what was shipped is
// in the archive of every target: until then the journal is the only copy that
// a loss of the database does not take. Without targets for the database
// nothing would ever cover it, and segments go when they are shipped.
//
// It is bounded: near the journal's limit the oldest shipped segments go all
// the same, and people are told, because a full journal would stop requests.
type journalHold struct {
	release  func(journal.Position) error
	current  func(ctx context.Context) (lsn string, err error) // of the database's log
	archived func() (lsn string, waits bool)
	bytes    func() (used, limit int64)
	early    func(upTo journal.Position) // told when segments go before they are covered
	tight    func(used, limit int64)     // told when they soon have to
	log      *slog.Logger

	mu      sync.Mutex
	waiting []shipped // in order
}

// shipped is a place in the journal, and the place in the database's log by
// which everything before it was written there.
type shipped struct {
	upTo journal.Position
	lsn  uint64 // 0: not known, hence never covered
	at   time.Time
}

const (
	noteTimeout = 2 * time.Second
	noteApart   = time.Second // notes are joined when they are closer
	holdEvery   = 5 * time.Second
	mostNotes   = 10_000
)

// Release takes the place of journal.Release: it notes instead.
func (h *journalHold) Release(upTo journal.Position) error {
	if _, waits := h.archived(); !waits {
		return h.release(upTo)
	}
	ctx, cancel := context.WithTimeout(context.Background(), noteTimeout)
	defer cancel()
	n := shipped{upTo: upTo, at: time.Now()}
	if text, err := h.current(ctx); err == nil {
		n.lsn, _ = scratch.ParseLSN(text)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if last := len(h.waiting) - 1; last >= 0 && (n.lsn == 0 || n.at.Sub(h.waiting[last].at) < noteApart || len(h.waiting) >= mostNotes) {
		// The later place stands for both: it is covered later than either.
		h.waiting[last].upTo = upTo
		if n.lsn > h.waiting[last].lsn {
			h.waiting[last].lsn = n.lsn
		} else if n.lsn == 0 {
			h.waiting[last].lsn = 0
		}
		return nil
	}
	h.waiting = append(h.waiting, n)
	return nil
}

// look releases what is covered, and what must go for want of room.
func (h *journalHold) look(ctx context.Context) error {
	to, waits := h.archived()
	covered, err := scratch.ParseLSN(to)
	if err != nil {
		covered = 0
	}
	h.mu.Lock()
	n := 0
	for n < len(h.waiting) && (!waits || h.waiting[n].lsn != 0 && h.waiting[n].lsn <= covered) {
		n++
	}
	var upTo *journal.Position
	if n > 0 {
		p := h.waiting[n-1].upTo
		upTo = &p
		h.waiting = h.waiting[n:]
	}
	for i := range h.waiting { // the database did not answer when it was shipped; it may now
		if h.waiting[i].lsn == 0 {
			if text, err := h.current(ctx); err == nil {
				h.waiting[i].lsn, _ = scratch.ParseLSN(text)
			}
		}
	}
	h.mu.Unlock()
	if upTo != nil {
		if err := h.release(*upTo); err != nil {
			return err
		}
	}
	return h.makeRoom()
}

// makeRoom releases the oldest shipped segments when the journal is nearly
// full.
func (h *journalHold) makeRoom() error {
	for {
		used, limit := h.bytes()
		h.mu.Lock()
		if limit <= 0 || used < limit/10*9 || len(h.waiting) == 0 {
			waiting := len(h.waiting)
			h.mu.Unlock()
			if limit > 0 && used >= limit/4*3 && waiting > 0 {
				h.tight(used, limit)
			}
			return nil
		}
		upTo := h.waiting[0].upTo
		h.waiting = h.waiting[1:]
		h.mu.Unlock()
		if err := h.release(upTo); err != nil {
			return err
		}
		h.early(upTo)
	}
}

// run looks until ctx ends.
func (h *journalHold) run(ctx context.Context) {
	tick := time.NewTicker(holdEvery)
	defer tick.Stop()
	for {
		if err := h.look(ctx); err != nil && ctx.Err() == nil {
			h.log.Error("releasing what is archived of the journal failed; it is kept", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// held is how much the journal keeps only for this; about, since segments go
// whole.
func (h *journalHold) held() int64 {
	used, _ := h.bytes()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.waiting) == 0 {
		return 0
	}
	return used
}

// holdJournal makes what lets the journal go only when its records survive the
// loss of this node.
func (d *Daemon) holdJournal() *journalHold {
	limit := d.config.Limits.JournalBytes
	if limit == 0 {
		limit = defaultJournalBytes
	}
	return &journalHold{release: d.journal.Release, current: currentLSN(d.db), log: d.log,
		archived: func() (string, bool) {
			if d.followsFleet() && d.cluster.Load() == nil {
				return d.archivedElsewhere()
			}
			if d.backups == nil {
				return "", d.database != nil // the node is only starting
			}
			return d.backups.ArchivedTo()
		},
		bytes: func() (int64, int64) { return d.journal.Stats().Bytes, limit },
		tight: func(used, limit int64) {
			d.alarm(notify.Warning, "journal-waits-for-archive", uuid.Nil, map[string]string{"used_bytes": fmt.Sprint(used), "limit_bytes": fmt.Sprint(limit), "next": "foundry backup status"})
		},
		early: func(journal.Position) {
			d.log.Error("segments of the journal were removed before they were archived: there was no more room for them")
			d.alarm(notify.Critical, "journal-not-archived", uuid.Nil, map[string]string{"next": "foundry backup status"})
		}}
}

// defaultJournalBytes is what gateway's configuration promises.
const defaultJournalBytes = 4 << 30

// currentLSN is where the database's log is now. What was committed before is
// before it.
func currentLSN(d *db.DB) func(context.Context) (string, error) {
	return func(ctx context.Context) (lsn string, err error) {
		err = d.Read(ctx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&lsn) })
		return lsn, err
	}
}
