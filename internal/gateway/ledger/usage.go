package ledger

import (
	"encoding/binary"
	"math/bits"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// usageKey is what usage is summed by within a batch.
type usageKey struct {
	org                                          uuid.UUID
	minute                                       int64 // of admission, Unix
	boot                                         uint32
	key, model, provider, jurisdiction, currency string
}

// usageSum is the sum for one key. Sums stay at the end of int64 rather than
// wrap.
type usageSum struct {
	requests, errors, refusals, unknown int64
	input, output, cached               int64
	cost, held                          int64
	latency                             histogram
}

func newUsageTable() *table {
	return newTable("usage_deltas",
		field{"organisation_id", pgtype.UUIDOID}, field{"bucket", pgtype.TimestamptzOID},
		field{"node", pgtype.Int8OID}, field{"boot", pgtype.Int8OID}, field{"batch_seq", pgtype.Int8OID}, field{"n", pgtype.Int4OID},
		field{"origin_boot", pgtype.Int8OID},
		field{"requests", pgtype.Int8OID}, field{"errors", pgtype.Int8OID}, field{"refusals", pgtype.Int8OID}, field{"unknown", pgtype.Int8OID},
		field{"input_tokens", pgtype.Int8OID}, field{"output_tokens", pgtype.Int8OID}, field{"cached_tokens", pgtype.Int8OID},
		field{"cost_nano", pgtype.Int8OID}, field{"held_nano", pgtype.Int8OID},
		field{"api_key", pgtype.TextOID}, field{"model", pgtype.TextOID}, field{"provider", pgtype.TextOID},
		field{"jurisdiction", pgtype.TextOID}, field{"currency", pgtype.TextOID}, field{"latency", pgtype.ByteaOID})
}

// sum returns the sum of a key.
func (b *batch) sum(k usageKey) *usageSum {
	s := b.usage[k]
	if s == nil {
		s = new(usageSum)
		b.usage[k] = s
		b.order = append(b.order, k)
	}
	return s
}

// count adds an outcome to the request's minute of admission: the period whose
// budget lease it was reserved from.
func (b *batch) count(q *request, boot uint32, o *Outcome) {
	s := b.sum(usageKey{
		org: q.org, minute: minuteOf(q.at), boot: boot,
		key: q.key, model: q.model, provider: q.provider, jurisdiction: q.jurisdiction, currency: q.currency,
	})
	s.requests++
	if o.Result == Unknown {
		s.unknown++
	} else if o.Result.Error() {
		s.errors++
	}
	s.input = saturatingAdd(s.input, o.Usage.Input)
	s.output = saturatingAdd(s.output, o.Usage.Output)
	s.cached = saturatingAdd(s.cached, o.Usage.CachedInput)
	s.cost = saturatingAdd(s.cost, o.CostNano)
	if o.Held {
		s.held = saturatingAdd(s.held, o.CostNano)
	}
	if o.Result == OK {
		s.latency.add(o.Latency)
	}
}

func (b *batch) refused(f *Refusal, boot uint32) {
	b.sum(usageKey{org: f.Organisation, minute: minuteOf(f.At), boot: boot, key: f.Key, model: f.Model}).refusals++
}

func minuteOf(t time.Time) int64 { return t.Unix() - (t.Unix()%60+60)%60 }

func (b *batch) writeUsage() {
	for n, k := range b.order {
		s := b.usage[k]
		r := b.deltas.row()
		r.bytes(k.org[:])
		r.time(time.Unix(k.minute, 0))
		r.int64(int64(b.node))
		r.int64(int64(b.to.Boot))
		r.int64(int64(b.to.Seq))
		r.int32(int32(n))
		r.int64(int64(k.boot))
		for _, v := range [...]int64{s.requests, s.errors, s.refusals, s.unknown, s.input, s.output, s.cached, s.cost, s.held} {
			r.int64(v)
		}
		r.text(k.key)
		r.text(k.model)
		r.text(k.provider)
		r.text(k.jurisdiction)
		r.text(k.currency)
		r.bytes(s.latency.encode(nil))
	}
}

// histogram counts latencies in buckets of one eighth of an octave of
// microseconds, so that a quantile is known to within 7 %.
type histogram struct {
	counts [histogramSize]uint32
	any    bool
}

const histogramSize = 36 * 8 // up to 2^36 µs, nineteen hours

func bucketOf(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 0))
	if us < 8 {
		return int(us)
	}
	octave := bits.Len64(us) - 1      // 3 or more
	eighth := int(us>>(octave-3)) & 7 // the three bits after the first
	return min((octave-2)*8+eighth, histogramSize-1)
}

// middle returns the middle of a bucket.
func middle(bucket int) time.Duration {
	if bucket < 8 {
		return time.Duration(bucket) * time.Microsecond
	}
	octave, eighth := bucket/8+2, bucket%8
	width := int64(1) << (octave - 3)
	return time.Duration(int64(8+eighth)*width+width/2) * time.Microsecond
}

func (h *histogram) add(d time.Duration) {
	h.any = true
	h.counts[bucketOf(d)]++
}

// encode appends the buckets that are not empty: for each, how many buckets
// after the last one, and its count.
func (h *histogram) encode(dst []byte) []byte {
	if !h.any {
		return dst
	}
	last := 0
	for i, n := range h.counts {
		if n > 0 {
			dst = binary.AppendUvarint(dst, uint64(i-last))
			dst = binary.AppendUvarint(dst, uint64(n))
			last = i
		}
	}
	return dst
}

// merge adds what encode wrote. It passes over what it cannot read.
func (h *histogram) merge(src []byte) {
	at := uint64(0)
	for len(src) > 0 {
		gap, n := binary.Uvarint(src)
		if n <= 0 {
			return
		}
		count, m := binary.Uvarint(src[n:])
		if m <= 0 || gap >= histogramSize || at+gap >= histogramSize {
			return
		}
		at += gap
		h.counts[at] += uint32(min(count, 1<<31))
		h.any = true
		src = src[n+m:]
	}
}

// quantile returns the latency that the fraction q of all lie at or below; zero if
// there are none.
func (h *histogram) quantile(q float64) time.Duration {
	var total uint64
	for _, n := range h.counts {
		total += uint64(n)
	}
	if total == 0 {
		return 0
	}
	rank := uint64(q * float64(total-1))
	for i, n := range h.counts {
		if rank < uint64(n) {
			return middle(i)
		}
		rank -= uint64(n)
	}
	return middle(histogramSize - 1)
}
