package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// A record is a kind, a version and a body. Both are one byte. Numbers are
// varints, times eight bytes of Unix nanoseconds, strings a length and bytes.
// A layout never changes: a new one gets a new version, and the old one stays
// readable for as long as journals of the old binary may exist.
const (
	kindAdmission byte = iota + 1
	kindAttempt
	kindOutcome
	kindRefusal
	kindTrace
	kindEnd // the first kind that this binary does not know
)

const version = 1

// Bounds on what is written. Names from outside are cut, at a whole rune, so
// that one request cannot fill the journal.
const (
	maxName  = 256
	maxTries = 64
)

// ErrDamaged is wrapped by every error of Decode.
var ErrDamaged = errors.New("the ledger record is damaged")

const (
	flagStream = 1 << iota
	flagOwn
	flagLeavesEEA
	flagRestricted
)

const (
	flagUsageKnown = 1 << iota
	flagHeld
	flagUsageSet
)

// AppendAdmission appends the record of a. It does not allocate when dst has room.
func AppendAdmission(dst []byte, a *Admission) []byte {
	dst = append(dst, kindAdmission, version)
	dst = append(dst, flag(a.Stream, flagStream)|flag(a.Own, flagOwn)|flag(a.LeavesEEA, flagLeavesEEA)|flag(a.Restricted, flagRestricted),
		byte(a.Endpoint), byte(a.Class))
	dst = appendTime(dst, a.At)
	dst = append(dst, a.Organisation[:]...)
	dst = append(dst, a.Decision[:]...)
	dst = appendName(dst, a.Key)
	dst = appendName(dst, a.Model)
	dst = appendName(dst, a.Tier)
	dst = appendName(dst, a.Provider)
	dst = appendName(dst, a.ProviderModel)
	dst = appendName(dst, string(a.Jurisdiction))
	dst = appendName(dst, string(a.Controller))
	dst = appendName(dst, a.Safeguard)
	dst = appendName(dst, a.Currency)
	return binary.AppendVarint(dst, a.ReservedNano)
}

// AppendAttempt appends the record of a.
func AppendAttempt(dst []byte, a *Attempt) []byte {
	dst = append(dst, kindAttempt, version)
	dst = append(dst, flag(a.Own, flagOwn)|flag(a.LeavesEEA, flagLeavesEEA)|flag(a.Restricted, flagRestricted))
	dst = binary.AppendUvarint(dst, a.Seq)
	dst = binary.AppendUvarint(dst, uint64(max(a.N, 0)))
	dst = appendTime(dst, a.At)
	dst = appendName(dst, a.Provider)
	dst = appendName(dst, a.ProviderModel)
	dst = appendName(dst, string(a.Jurisdiction))
	dst = appendName(dst, string(a.Controller))
	return appendName(dst, a.Safeguard)
}

// AppendOutcome appends the record of o. Of more than 64 tries it keeps the last.
func AppendOutcome(dst []byte, o *Outcome) []byte {
	dst = append(dst, kindOutcome, version)
	dst = append(dst, flag(o.UsageKnown, flagUsageKnown)|flag(o.Held, flagHeld)|flag(o.Usage.Set, flagUsageSet), byte(o.Result))
	dst = binary.AppendUvarint(dst, uint64(o.Boot))
	dst = binary.AppendUvarint(dst, o.Seq)
	dst = binary.AppendUvarint(dst, uint64(max(o.Status, 0)))
	dst = appendTime(dst, o.At)
	dst = appendName(dst, o.Provider)
	dst = appendName(dst, o.ProviderModel)
	for _, n := range [...]int64{o.Usage.Input, o.Usage.Output, o.Usage.CachedInput, o.Usage.CacheWrite, o.Usage.Reasoning,
		o.CostNano, int64(o.Latency), int64(o.FirstToken)} {
		dst = binary.AppendVarint(dst, n)
	}
	tries := o.Tries[max(0, len(o.Tries)-maxTries):]
	dst = binary.AppendUvarint(dst, uint64(len(tries)))
	for i := range tries {
		dst = appendName(dst, tries[i].Provider)
		dst = binary.AppendUvarint(dst, uint64(max(tries[i].Status, 0)))
		dst = appendName(dst, tries[i].Reason)
		dst = binary.AppendVarint(dst, int64(tries[i].Duration))
	}
	return dst
}

// AppendRefusal appends the record of r.
func AppendRefusal(dst []byte, r *Refusal) []byte {
	dst = append(dst, kindRefusal, version, byte(r.Endpoint), byte(r.Class))
	dst = appendTime(dst, r.At)
	dst = append(dst, r.Organisation[:]...)
	dst = append(dst, r.Decision[:]...)
	dst = appendName(dst, r.Key)
	dst = appendName(dst, r.Model)
	dst = appendName(dst, r.Rule)
	return binary.AppendUvarint(dst, uint64(max(r.Status, 0)))
}

// AppendTrace appends the record of t.
func AppendTrace(dst []byte, t *Trace) []byte {
	dst = append(dst, kindTrace, version)
	dst = append(dst, t.Hash[:]...)
	dst = append(dst, t.Organisation[:]...)
	dst = binary.AppendUvarint(dst, uint64(len(t.JSON)))
	return append(dst, t.JSON...)
}

// Decode reads one record: *Admission, *Attempt, *Outcome, *Refusal, *Trace,
// or *Newer for a kind or version of a newer binary. Its result does not
// alias the record, except that Newer keeps a copy.
func Decode(record []byte) (any, error) {
	var d decoder
	kind, known, err := d.start(record)
	if err != nil {
		return nil, err
	}
	if !known {
		return &Newer{Kind: record[0], Version: record[1], Record: append([]byte(nil), record...)}, nil
	}
	switch kind {
	case kindAdmission:
		a := new(Admission)
		return a, d.admission(a)
	case kindAttempt:
		a := new(Attempt)
		return a, d.attempt(a)
	case kindOutcome:
		o := new(Outcome)
		return o, d.outcome(o)
	case kindRefusal:
		r := new(Refusal)
		return r, d.refusal(r)
	default:
		t := new(Trace)
		return t, d.trace(t)
	}
}

// decoder reads one record after another. The names that it meets are few and
// repeat in every record, so it keeps one copy of each.
type decoder struct {
	rest   []byte
	failed bool
	names  map[string]string
}

// maxNames bounds the memory of names: clients invent model names.
const maxNames = 4096

func (d *decoder) start(record []byte) (kind byte, known bool, err error) {
	if len(record) < 2 || record[0] == 0 || record[1] == 0 {
		return 0, false, fmt.Errorf("%w: it has no kind", ErrDamaged)
	}
	d.rest, d.failed = record[2:], false
	return record[0], record[0] < kindEnd && record[1] == version, nil
}

func (d *decoder) admission(a *Admission) error {
	flags := d.flags(flagStream | flagOwn | flagLeavesEEA | flagRestricted)
	*a = Admission{
		Stream: flags&flagStream != 0, Own: flags&flagOwn != 0,
		LeavesEEA: flags&flagLeavesEEA != 0, Restricted: flags&flagRestricted != 0,
		Endpoint: wire.Endpoint(d.byte()), Class: sovereignty.DataClass(d.byte()),
		At: d.time(), Organisation: uuid.UUID(d.sixteen()), Decision: d.sixteen(),
		Key: d.name(), Model: d.name(), Tier: d.name(), Provider: d.name(), ProviderModel: d.name(),
		Jurisdiction: sovereignty.Jurisdiction(d.name()), Controller: sovereignty.Jurisdiction(d.name()),
		Safeguard: d.name(), Currency: d.name(), ReservedNano: d.varint(),
	}
	return d.end("admission")
}

func (d *decoder) attempt(a *Attempt) error {
	flags := d.flags(flagOwn | flagLeavesEEA | flagRestricted)
	*a = Attempt{
		Own: flags&flagOwn != 0, LeavesEEA: flags&flagLeavesEEA != 0, Restricted: flags&flagRestricted != 0,
		Seq: d.uvarint(math.MaxInt64), N: int(d.uvarint(math.MaxInt16)), At: d.time(),
		Provider: d.name(), ProviderModel: d.name(),
		Jurisdiction: sovereignty.Jurisdiction(d.name()), Controller: sovereignty.Jurisdiction(d.name()),
		Safeguard: d.name(),
	}
	return d.end("attempt")
}

func (d *decoder) outcome(o *Outcome) error {
	flags := d.flags(flagUsageKnown | flagHeld | flagUsageSet)
	*o = Outcome{
		UsageKnown: flags&flagUsageKnown != 0, Held: flags&flagHeld != 0,
		Result: Result(d.byte()), Boot: uint32(d.uvarint(math.MaxUint32)), Seq: d.uvarint(math.MaxInt64),
		Status: int(d.uvarint(math.MaxInt16)), At: d.time(),
		Provider: d.name(), ProviderModel: d.name(),
		Usage: wire.Usage{
			Input: d.varint(), Output: d.varint(), CachedInput: d.varint(), CacheWrite: d.varint(), Reasoning: d.varint(),
			Set: flags&flagUsageSet != 0,
		},
		CostNano: d.varint(), Latency: time.Duration(d.varint()), FirstToken: time.Duration(d.varint()),
	}
	if n := d.uvarint(maxTries); n > 0 && !d.failed {
		o.Tries = make([]Try, 0, n)
		for range n {
			o.Tries = append(o.Tries, Try{Provider: d.name(), Status: int(d.uvarint(math.MaxInt16)), Reason: d.name(), Duration: time.Duration(d.varint())})
		}
	}
	return d.end("outcome")
}

func (d *decoder) refusal(r *Refusal) error {
	*r = Refusal{
		Endpoint: wire.Endpoint(d.byte()), Class: sovereignty.DataClass(d.byte()),
		At: d.time(), Organisation: uuid.UUID(d.sixteen()), Decision: d.sixteen(),
		Key: d.name(), Model: d.name(), Rule: d.name(), Status: int(d.uvarint(math.MaxInt16)),
	}
	return d.end("refusal")
}

func (d *decoder) trace(t *Trace) error {
	*t = Trace{Hash: d.sixteen(), Organisation: uuid.UUID(d.sixteen())}
	t.JSON = append([]byte(nil), d.bytes(d.uvarint(math.MaxInt32))...)
	return d.end("trace")
}

// end reports whether the record held exactly what its layout says.
func (d *decoder) end(what string) error {
	switch {
	case d.failed:
		return fmt.Errorf("%w: its %s is cut short or out of range", ErrDamaged, what)
	case len(d.rest) > 0:
		return fmt.Errorf("%w: %d bytes follow its %s", ErrDamaged, len(d.rest), what)
	}
	return nil
}

func (d *decoder) bytes(n uint64) []byte {
	if d.failed || n > uint64(len(d.rest)) {
		d.failed = true
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// flags refuses bits that this version does not define.
func (d *decoder) flags(defined byte) byte {
	b := d.byte()
	d.failed = d.failed || b&^defined != 0
	return b
}

func (d *decoder) sixteen() (v [16]byte) {
	copy(v[:], d.bytes(16))
	return v
}

func (d *decoder) time() time.Time {
	b := d.bytes(8)
	if b == nil {
		return time.Time{}
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(b))).UTC()
}

func (d *decoder) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(d.rest)
	if d.failed || n <= 0 || v > limit {
		d.failed = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if d.failed || n <= 0 {
		d.failed = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) name() string {
	b := d.bytes(d.uvarint(maxName))
	if len(b) == 0 {
		return ""
	}
	if s, ok := d.names[string(b)]; ok {
		return s
	}
	s := string(b)
	if d.names != nil {
		if len(d.names) >= maxNames {
			clear(d.names)
		}
		d.names[s] = s
	}
	return s
}

func flag(set bool, bit byte) byte {
	if set {
		return bit
	}
	return 0
}

// appendTime keeps what int64 Unix nanoseconds can say: the years 1678 to 2262.
func appendTime(dst []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(t.UnixNano()))
}

func appendName(dst []byte, s string) []byte {
	if len(s) > maxName {
		s = clip(s, maxName)
	}
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// clip cuts s to at most n bytes, and not within a rune.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
