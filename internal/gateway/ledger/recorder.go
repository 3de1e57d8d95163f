package ledger

import (
	"sync"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/gateway/journal"
)

// Recorder writes events to the journal of this boot.
type Recorder struct {
	journal    *journal.Journal
	node, boot uint32
	buffers    sync.Pool

	mu    sync.RWMutex
	cited map[citation]struct{}
}

// citation is a decision trace of one organisation.
type citation struct {
	org  uuid.UUID
	hash [16]byte
}

// maxCited bounds the memory of traces already written. Beyond it some are
// written again, which the database ignores.
const maxCited = 1 << 16

// NewRecorder returns a recorder for the boot that j was opened for.
func NewRecorder(j *journal.Journal, node, boot uint32) *Recorder {
	r := &Recorder{journal: j, node: node, boot: boot, cited: map[citation]struct{}{}}
	r.buffers.New = func() any { b := make([]byte, 0, 1024); return &b }
	return r
}

// Admission writes a and returns the request's id, and the ticket to wait for
// before anything goes up (third parties) or comes back (the fleet's own).
func (r *Recorder) Admission(a *Admission) (RequestID, journal.Ticket, error) {
	t, err := r.append(r.journal.Append, func(b []byte) []byte { return AppendAdmission(b, a) })
	return RequestID{Node: r.node, Boot: r.boot, Seq: t.Seq()}, t, err
}

// Attempt writes that a request goes on to another provider; wait for the
// ticket before it does.
func (r *Recorder) Attempt(a *Attempt) (journal.Ticket, error) {
	return r.append(r.journal.Append, func(b []byte) []byte { return AppendAttempt(b, a) })
}

// Outcome writes how a request ended. It is written exactly once for each
// admission, also for one whose ticket failed.
func (r *Recorder) Outcome(o *Outcome) (journal.Ticket, error) {
	// Nothing waits for it: an outcome that a crash takes is swept as unknown.
	// So it rides along with the next admission instead of costing a sync.
	return r.append(r.journal.AppendLater, func(b []byte) []byte { return AppendOutcome(b, o) })
}

// Refusal writes that a request was denied.
func (r *Recorder) Refusal(f *Refusal) (journal.Ticket, error) {
	return r.append(r.journal.Append, func(b []byte) []byte { return AppendRefusal(b, f) })
}

// Trace writes a decision's trace unless this boot has written it already.
// Call it before the event that cites the trace. body is called only if the
// trace is written.
func (r *Recorder) Trace(org uuid.UUID, hash [16]byte, body func() []byte) error {
	c := citation{org, hash}
	r.mu.RLock()
	_, done := r.cited[c]
	r.mu.RUnlock()
	if done {
		return nil
	}
	// Written before it is marked: two requests may both write it, and none
	// that cites it comes before it.
	t := Trace{Hash: hash, Organisation: org, JSON: body()}
	if _, err := r.append(r.journal.Append, func(b []byte) []byte { return AppendTrace(b, &t) }); err != nil {
		return err
	}
	r.mu.Lock()
	if len(r.cited) >= maxCited {
		clear(r.cited)
	}
	r.cited[c] = struct{}{}
	r.mu.Unlock()
	return nil
}

func (r *Recorder) append(to func([]byte) (journal.Ticket, error), encode func([]byte) []byte) (journal.Ticket, error) {
	b := r.buffers.Get().(*[]byte)
	*b = encode((*b)[:0])
	t, err := to(*b)
	r.buffers.Put(b)
	return t, err
}
