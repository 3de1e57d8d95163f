package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/missionopsai/foundry/internal/gateway/journal"
)

// batch turns a stretch of the journal into the rows of one transaction. It
// changes nothing outside itself: what it learns about open requests is an
// overlay that is laid down once the transaction has committed, so that a
// batch can be built again.
type batch struct {
	node uint32
	seal func(plaintext, associated []byte) ([]byte, error)

	from, to journal.Position // of the records read: after from, up to to
	events   int
	oldest   int64 // the earliest time in it, Unix nanoseconds
	rejected []string
	barren   bool // its one record was set aside

	before  requests                  // open before this batch; read only
	entered map[journal.Position]int  // admitted in this batch: index into waiting
	waiting []admitted                // in order
	moved   requests                  // open before, with another destination now
	closed  map[journal.Position]bool // open before, and not any more

	usage map[usageKey]*usageSum
	order []usageKey

	digest hash.Hash
	run    span64
	runs   []anchored   // that have ended
	salts  func([]byte) // fills with random bytes
	dec    decoder
	adm    Admission
	att    Attempt
	out    Outcome
	ref    Refusal
	trace  Trace

	requests, outcomes, attempts, transfers, refusals, decisions, deltas, rejects, batches *table
	all                                                                                    []*table
}

// span64 is a run of records of one boot.
type span64 struct {
	boot        uint32
	first, last uint64
	events      int
}

// admitted is an admission of this batch, with its outcome if that is in the
// batch too.
type admitted struct {
	request
	at        journal.Position
	admission Admission
	outcome   Outcome
	done      bool
}

var outcomeFields = []field{
	{"ended_at", pgtype.TimestamptzOID}, {"cost_nano", pgtype.Int8OID},
	{"input_tokens", pgtype.Int8OID}, {"output_tokens", pgtype.Int8OID}, {"cached_tokens", pgtype.Int8OID},
	{"cache_write_tokens", pgtype.Int8OID}, {"reasoning_tokens", pgtype.Int8OID},
	{"latency_us", pgtype.Int8OID}, {"first_token_us", pgtype.Int8OID},
	{"status", pgtype.Int2OID}, {"usage_known", pgtype.BoolOID}, {"held", pgtype.BoolOID},
	{"result", pgtype.TextOID}, {"tries", pgtype.JSONOID},
}

var placeFields = []field{{"node", pgtype.Int8OID}, {"boot", pgtype.Int8OID}, {"seq", pgtype.Int8OID}}

func fields(parts ...[]field) (all []field) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func newBatch(node uint32, seal func(plaintext, associated []byte) ([]byte, error)) *batch {
	b := &batch{
		node: node, seal: seal, digest: sha256.New(), salts: randomSalt,
		entered: map[journal.Position]int{}, moved: requests{}, closed: map[journal.Position]bool{},
		usage: map[usageKey]*usageSum{},
		dec:   decoder{names: map[string]string{}},
	}
	b.requests = newTable("requests", fields(placeFields, []field{
		{"admitted_at", pgtype.TimestamptzOID}, {"organisation_id", pgtype.UUIDOID}, {"reserved_nano", pgtype.Int8OID},
		{"class", pgtype.Int2OID}, {"stream", pgtype.BoolOID}, {"own", pgtype.BoolOID}, {"leaves_eea", pgtype.BoolOID},
		{"restricted", pgtype.BoolOID}, {"decision", pgtype.ByteaOID}, {"api_key", pgtype.TextOID}, {"endpoint", pgtype.TextOID},
		{"model", pgtype.TextOID}, {"tier", pgtype.TextOID}, {"provider", pgtype.TextOID}, {"provider_model", pgtype.TextOID},
		{"jurisdiction", pgtype.TextOID}, {"controller", pgtype.TextOID}, {"safeguard", pgtype.TextOID}, {"currency", pgtype.TextOID},
	}, outcomeFields)...)
	b.outcomes = newTable("request_outcomes", fields(placeFields, []field{{"organisation_id", pgtype.UUIDOID}}, outcomeFields, batchFields)...)
	b.attempts = newTable("request_attempts", fields(placeFields, []field{
		{"n", pgtype.Int2OID}, {"organisation_id", pgtype.UUIDOID}, {"at", pgtype.TimestamptzOID}, {"own", pgtype.BoolOID},
		{"leaves_eea", pgtype.BoolOID}, {"restricted", pgtype.BoolOID}, {"provider", pgtype.TextOID}, {"provider_model", pgtype.TextOID},
		{"jurisdiction", pgtype.TextOID}, {"controller", pgtype.TextOID}, {"safeguard", pgtype.TextOID},
	}, batchFields)...)
	b.transfers = newTable("transfers", fields(placeFields, []field{
		{"n", pgtype.Int2OID}, {"at", pgtype.TimestamptzOID}, {"organisation_id", pgtype.UUIDOID}, {"class", pgtype.Int2OID},
		{"leaves_eea", pgtype.BoolOID}, {"restricted", pgtype.BoolOID}, {"decision", pgtype.ByteaOID}, {"api_key", pgtype.TextOID},
		{"provider", pgtype.TextOID}, {"provider_model", pgtype.TextOID}, {"destination", pgtype.TextOID},
		{"controller", pgtype.TextOID}, {"safeguard", pgtype.TextOID},
	}, batchFields)...)
	b.refusals = newTable("refusals", fields(placeFields, []field{
		{"at", pgtype.TimestamptzOID}, {"organisation_id", pgtype.UUIDOID}, {"class", pgtype.Int2OID}, {"status", pgtype.Int2OID},
		{"decision", pgtype.ByteaOID}, {"api_key", pgtype.TextOID}, {"endpoint", pgtype.TextOID}, {"model", pgtype.TextOID},
		{"rule", pgtype.TextOID},
	})...)
	b.decisions = newTable("decisions", field{"organisation_id", pgtype.UUIDOID}, field{"hash", pgtype.ByteaOID}, field{"body", pgtype.JSONOID})
	b.deltas = newUsageTable()
	b.rejects = newTable("journal_rejects", fields(placeFields, []field{{"reason", pgtype.TextOID}, {"sealed", pgtype.ByteaOID}})...)
	b.batches = newTable("journal_batches", field{"node", pgtype.Int8OID}, field{"boot", pgtype.Int8OID},
		field{"first_seq", pgtype.Int8OID}, field{"last_seq", pgtype.Int8OID}, field{"events", pgtype.Int4OID}, field{"digest", pgtype.ByteaOID},
		field{"salt", pgtype.ByteaOID}, field{"row_hashes", pgtype.ByteaOID}, field{"root", pgtype.ByteaOID})
	b.all = []*table{b.requests, b.outcomes, b.attempts, b.transfers, b.refusals, b.decisions, b.deltas, b.rejects}
	return b
}

// begin empties the batch; before is what was open at from.
func (b *batch) begin(from journal.Position, before requests) {
	b.from, b.to, b.before = from, from, before
	b.events, b.oldest, b.rejected, b.barren = 0, 0, nil, false
	clear(b.entered)
	clear(b.moved)
	clear(b.closed)
	clear(b.usage)
	clear(b.waiting)
	b.waiting, b.order = b.waiting[:0], b.order[:0]
	b.run, b.runs = span64{}, b.runs[:0]
	b.batches.reset()
	for _, t := range b.all {
		t.reset()
	}
}

// add takes one record. It fails only if a record that must be set aside
// cannot be sealed.
func (b *batch) add(e *journal.Entry) error {
	at := journal.Position{Boot: e.Boot, Seq: e.Seq}
	if b.run.events > 0 && b.run.boot != e.Boot {
		b.endRun()
	}
	if b.run.events == 0 {
		b.run = span64{boot: e.Boot, first: e.Seq}
		b.digest.Reset()
	}
	var frame [12]byte
	binary.BigEndian.PutUint64(frame[:], e.Seq)
	binary.BigEndian.PutUint32(frame[8:], uint32(len(e.Record)))
	b.digest.Write(frame[:])
	b.digest.Write(e.Record)
	b.run.last = e.Seq
	b.run.events++
	b.events++
	b.to = at
	if reason := b.interpret(at, e.Record); reason != "" {
		return b.reject(at, e.Record, reason)
	}
	return nil
}

// interpret reads one record, or says why it must be set aside.
func (b *batch) interpret(at journal.Position, record []byte) string {
	kind, known, err := b.dec.start(record)
	switch {
	case err != nil:
		return err.Error()
	case !known:
		return fmt.Sprintf("written by a newer version (kind %d, version %d)", record[0], record[1])
	}
	switch kind {
	case kindAdmission:
		if err = b.dec.admission(&b.adm); err == nil {
			b.admit(at)
		}
	case kindAttempt:
		if err = b.dec.attempt(&b.att); err == nil && !b.attempt(at) {
			return "an attempt of a request that is not open"
		}
	case kindOutcome:
		if err = b.dec.outcome(&b.out); err == nil && !b.outcome(at) {
			return "an outcome of a request that is not open"
		}
	case kindRefusal:
		if err = b.dec.refusal(&b.ref); err == nil {
			b.refuse(at)
		}
	default:
		if err = b.dec.trace(&b.trace); err == nil && !b.cite() {
			return "a decision trace that is not JSON"
		}
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func (b *batch) seen(nano int64) {
	if b.oldest == 0 || nano < b.oldest {
		b.oldest = nano
	}
}

func (b *batch) admit(at journal.Position) {
	a := &b.adm
	b.seen(a.At.UnixNano())
	b.entered[at] = len(b.waiting)
	b.waiting = append(b.waiting, admitted{request: opened(a), at: at, admission: *a})
	if registered(a.LeavesEEA, a.Restricted, a.Own) {
		r := b.place(b.transfers, at)
		r.int16(1)
		r.time(a.At)
		r.bytes(a.Organisation[:])
		r.int16(int(a.Class))
		r.bool(a.LeavesEEA)
		r.bool(a.Restricted)
		r.bytes(a.Decision[:])
		r.text(a.Key)
		r.text(a.Provider)
		r.text(a.ProviderModel)
		r.text(string(a.Jurisdiction))
		r.text(string(a.Controller))
		r.text(a.Safeguard)
		r.batch(b)
	}
}

// find returns an open request and how to store a change of it.
func (b *batch) find(at journal.Position) (r *request, waiting *admitted) {
	if i, ok := b.entered[at]; ok {
		if w := &b.waiting[i]; !w.done {
			return &w.request, w
		}
		return nil, nil
	}
	if b.closed[at] {
		return nil, nil
	}
	if r, ok := b.moved[at]; ok {
		return &r, nil
	}
	if r, ok := b.before[at]; ok {
		return &r, nil
	}
	return nil, nil
}

func (b *batch) attempt(at journal.Position) bool {
	a := &b.att
	admission := journal.Position{Boot: at.Boot, Seq: a.Seq}
	q, waiting := b.find(admission)
	if q == nil {
		return false
	}
	b.seen(a.At.UnixNano())
	q.moved(a)
	if waiting == nil {
		b.moved[admission] = *q
	}
	r := b.place(b.attempts, admission)
	r.int16(a.N)
	r.bytes(q.org[:])
	r.time(a.At)
	r.bool(a.Own)
	r.bool(a.LeavesEEA)
	r.bool(a.Restricted)
	r.text(a.Provider)
	r.text(a.ProviderModel)
	r.text(string(a.Jurisdiction))
	r.text(string(a.Controller))
	r.text(a.Safeguard)
	r.batch(b)
	if registered(a.LeavesEEA, a.Restricted, a.Own) {
		r := b.place(b.transfers, admission)
		r.int16(a.N)
		r.time(a.At)
		r.bytes(q.org[:])
		r.int16(int(q.class))
		r.bool(a.LeavesEEA)
		r.bool(a.Restricted)
		r.bytes(q.decision[:])
		r.text(q.key)
		r.text(a.Provider)
		r.text(a.ProviderModel)
		r.text(string(a.Jurisdiction))
		r.text(string(a.Controller))
		r.text(a.Safeguard)
		r.batch(b)
	}
	return true
}

func (b *batch) outcome(at journal.Position) bool {
	o := &b.out
	admission := o.place(at.Boot)
	q, waiting := b.find(admission)
	if q == nil {
		return false
	}
	b.seen(o.At.UnixNano())
	b.count(q, admission.Boot, o)
	if waiting != nil {
		waiting.outcome, waiting.done = *o, true
		return true
	}
	b.closed[admission] = true
	r := b.place(b.outcomes, admission)
	r.bytes(q.org[:])
	r.outcome(o)
	r.batch(b)
	return true
}

func (b *batch) refuse(at journal.Position) {
	f := &b.ref
	b.seen(f.At.UnixNano())
	b.refused(f, at.Boot)
	r := b.place(b.refusals, at)
	r.time(f.At)
	r.bytes(f.Organisation[:])
	r.int16(int(f.Class))
	r.int16(f.Status)
	r.bytes(f.Decision[:])
	r.text(f.Key)
	r.text(f.Endpoint.String())
	r.text(f.Model)
	r.text(f.Rule)
}

func (b *batch) cite() bool {
	t := &b.trace
	if !utf8.Valid(t.JSON) || !json.Valid(t.JSON) {
		return false
	}
	r := b.decisions.row()
	r.bytes(t.Organisation[:])
	r.bytes(t.Hash[:])
	r.bytes(t.JSON)
	return true
}

// reject sets a record aside, sealed to its place.
func (b *batch) reject(at journal.Position, record []byte, reason string) error {
	sealed, err := b.seal(record, rejectContext(b.node, at))
	if err != nil {
		return fmt.Errorf("sealing record %d of boot %d, which must be set aside: %w", at.Seq, at.Boot, err)
	}
	r := b.place(b.rejects, at)
	r.text(clip(reason, 1000))
	r.bytes(sealed)
	b.rejected = append(b.rejected, reason)
	return nil
}

// rejectContext binds a record that was set aside to its place.
func rejectContext(node uint32, at journal.Position) []byte {
	return []byte("journal_rejects/" + RequestID{Node: node, Boot: at.Boot, Seq: at.Seq}.String())
}

func (b *batch) endRun() {
	if b.run.events == 0 {
		return
	}
	b.runs = append(b.runs, anchored{span64: b.run, digest: b.digest.Sum(nil)})
	b.run = span64{}
}

// setAside takes one record that the database refuses, and nothing else: what
// it says about open requests still holds.
func (b *batch) setAside(e *journal.Entry, reason string) error {
	if err := b.add(e); err != nil {
		return err
	}
	if len(b.rejected) > 0 {
		return nil
	}
	for _, t := range b.all {
		t.reset()
	}
	b.order, b.barren = b.order[:0], true
	return b.reject(b.to, e.Record, reason)
}

// finish writes the rows that had to wait for the whole batch.
func (b *batch) finish() {
	b.endRun()
	defer b.anchor()
	if b.barren {
		return
	}
	for i := range b.waiting {
		w := &b.waiting[i]
		a := &w.admission
		r := b.place(b.requests, w.at)
		r.time(a.At)
		r.bytes(a.Organisation[:])
		r.int64(a.ReservedNano)
		r.int16(int(a.Class))
		r.bool(a.Stream)
		r.bool(a.Own)
		r.bool(a.LeavesEEA)
		r.bool(a.Restricted)
		r.bytes(a.Decision[:])
		r.text(a.Key)
		r.text(a.Endpoint.String())
		r.text(a.Model)
		r.text(a.Tier)
		r.text(a.Provider)
		r.text(a.ProviderModel)
		r.text(string(a.Jurisdiction))
		r.text(string(a.Controller))
		r.text(a.Safeguard)
		r.text(a.Currency)
		if w.done {
			r.outcome(&w.outcome)
			continue
		}
		for range outcomeFields {
			r.null()
		}
	}
	b.writeUsage()
}

func (b *batch) place(t *table, at journal.Position) row {
	r := t.row()
	r.int64(int64(b.node))
	r.int64(int64(at.Boot))
	r.int64(int64(at.Seq))
	return r
}

func (r *row) outcome(o *Outcome) {
	r.time(o.At)
	r.int64(o.CostNano)
	r.int64(o.Usage.Input)
	r.int64(o.Usage.Output)
	r.int64(o.Usage.CachedInput)
	r.int64(o.Usage.CacheWrite)
	r.int64(o.Usage.Reasoning)
	r.int64(o.Latency.Microseconds())
	r.int64(o.FirstToken.Microseconds())
	r.int16(o.Status)
	r.bool(o.UsageKnown)
	r.bool(o.Held)
	r.text(o.Result.String())
	if len(o.Tries) < 2 && (len(o.Tries) == 0 || o.Tries[0].Reason == "") {
		r.null()
		return
	}
	r.json(o.Tries)
}

// lay applies what the batch learned about open requests.
func (b *batch) lay(open requests) {
	for at := range b.closed {
		delete(open, at)
	}
	for at, r := range b.moved {
		if !b.closed[at] {
			open[at] = r
		}
	}
	for i := range b.waiting {
		if w := &b.waiting[i]; !w.done {
			open[w.at] = w.request
		}
	}
}

// registered reports whether a destination belongs into the transfer register:
// everything that leaves the EEA, and every restricted transfer to a third
// party. Calls between an exporter and its own servers inside the EEA do not:
// they would bury the transfers that somebody must answer for.
func registered(leavesEEA, restricted, own bool) bool { return leavesEEA || restricted && !own }
