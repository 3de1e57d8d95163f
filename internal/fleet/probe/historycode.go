package probe

import (
	"encoding/binary"
	"hash/crc32"
	"maps"
	"math"
	"slices"
	"time"
)

// Kinds of records.
const (
	recordName   = 1 // a number for a name
	recordResult = 2 // as it came
	recordRecent = 3 // remembered, and counted before
	recordUnit   = 4
	recordOutage = 5
	recordState  = 6
)

const maxRecordBytes = 16 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal appends a record: length, body, checksum of both.
func seal(out, body []byte) []byte {
	begin := len(out)
	out = binary.AppendUvarint(out, uint64(len(body)))
	out = append(out, body...)
	return binary.BigEndian.AppendUint32(out, crc32.Checksum(out[begin:], castagnoli))
}

// name gives the number of a name, and appends a record for a new one.
func name(out []byte, names map[string]uint64, s string) ([]byte, uint64) {
	if n, ok := names[s]; ok {
		return out, n
	}
	n := uint64(len(names))
	names[s] = n
	return seal(out, appendText([]byte{recordName}, s)), n
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendResult(out []byte, names map[string]uint64, kind byte, r Result, valid time.Duration) []byte {
	body := binary.AppendVarint([]byte{kind}, r.At.UnixMilli())
	for _, s := range []string{r.Function, r.Probe, r.Node, string(r.Signal), string(r.Code)} {
		var n uint64
		out, n = name(out, names, s)
		body = binary.AppendUvarint(body, n)
	}
	flags := byte(0)
	if r.OK {
		flags |= 1
	}
	if r.Inconclusive {
		flags |= 2
	}
	body = binary.AppendUvarint(append(body, flags, byte(r.Tries)), uint64(r.Took/time.Microsecond))
	body = binary.AppendUvarint(body, uint64(valid/time.Millisecond))
	return seal(out, appendText(body, r.Words))
}

// appendSnapshot writes everything, the most important first, in no more than
// so many bytes; what does not fit is left to memory.
func appendSnapshot(out []byte, names map[string]uint64, records map[string]*record, most int) []byte {
	functions := slices.Sorted(maps.Keys(records))
	each := func(write func(out []byte, n uint64, rec *record) []byte) {
		for _, f := range functions {
			var n uint64
			if out, n = name(out, names, f); len(out) < most {
				out = write(out, n, records[f])
			}
		}
	}
	each(func(out []byte, n uint64, rec *record) []byte {
		body := binary.AppendVarint(binary.AppendUvarint([]byte{recordState}, n), rec.at)
		body = binary.AppendUvarint(body, uint64(len(rec.probes)))
		for _, p := range slices.Sorted(maps.Keys(rec.probes)) {
			var id uint64
			out, id = name(out, names, p)
			body = binary.AppendVarint(append(binary.AppendUvarint(body, id), byte(rec.probes[p].state)), rec.probes[p].until)
		}
		return seal(out, body)
	})
	for unit := len(units) - 1; unit >= 0; unit-- {
		each(func(out []byte, n uint64, rec *record) []byte { return appendUnits(out, n, &rec.spent[unit], most) })
	}
	each(func(out []byte, n uint64, rec *record) []byte {
		for i, o := range rec.outages {
			var code uint64
			out, code = name(out, names, string(o.Code))
			body := binary.AppendVarint(binary.AppendUvarint([]byte{recordOutage}, n), o.From.UnixMilli())
			to := int64(math.MinInt64)
			if !rec.open || i < len(rec.outages)-1 {
				to = o.To.UnixMilli()
			}
			out = seal(out, appendText(binary.AppendUvarint(binary.AppendVarint(body, to), code), o.Words))
		}
		return out
	})
	each(func(out []byte, _ uint64, rec *record) []byte {
		for _, r := range rec.recent {
			out = appendResult(out, names, recordRecent, r, 0)
		}
		return out
	})
	return out
}

func appendUnits(out []byte, function uint64, r *ring, most int) []byte {
	for _, page := range r.pages {
		for _, b := range page {
			if b == (bucket{}) || len(out) >= most {
				continue
			}
			body := binary.AppendVarint(append(binary.AppendUvarint([]byte{recordUnit}, function), byte(r.unit)), b.n)
			body = binary.AppendUvarint(binary.AppendUvarint(body, uint64(b.up)), uint64(b.down))
			for i, c := range b.answers {
				if c > 0 {
					body = append(body, byte(i), c)
				}
			}
			out = seal(out, body)
		}
	}
	return out
}

// reader takes a record apart. After the first thing that is not there, bad is
// set and everything is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) unsigned() uint64 {
	n, w := binary.Uvarint(r.b)
	if w <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[w:]
	return n
}

func (r *reader) signed() int64 {
	n, w := binary.Varint(r.b)
	if w <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[w:]
	return n
}

func (r *reader) octet() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) text() string {
	n := r.unsigned()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// readable is how much of a file could be read, and its names.
type readable struct {
	size  int
	names map[string]uint64
	list  []string
}

func (g *readable) name(r *reader) string {
	n := r.unsigned()
	if n >= uint64(len(g.list)) {
		r.bad = true
		return ""
	}
	return g.list[n]
}

// readHistory takes records into a history, up to the first that is not whole
// or makes no sense.
func readHistory(body []byte, h *History) readable {
	g := readable{names: map[string]uint64{}}
	if len(body) < len(historyMagic) || string(body[:len(historyMagic)]) != historyMagic {
		return g
	}
	for at := len(historyMagic); ; {
		g.size = at
		length, w := binary.Uvarint(body[at:])
		if w <= 0 || length == 0 || length > maxRecordBytes || uint64(len(body)-at-w) < length+4 {
			return g
		}
		end := at + w + int(length)
		if binary.BigEndian.Uint32(body[end:]) != crc32.Checksum(body[at:end], castagnoli) || !g.record(&reader{b: body[at+w : end]}, h) {
			return g
		}
		at = end + 4
	}
}

// record takes one record in.
func (g *readable) record(r *reader, h *History) bool {
	switch r.octet() {
	case recordName:
		s := r.text()
		if _, twice := g.names[s]; twice || r.bad || len(g.list) > 1<<20 {
			return false
		}
		g.names[s] = uint64(len(g.list))
		g.list = append(g.list, s)
	case recordResult:
		result, valid, ok := g.result(r)
		if !ok {
			return false
		}
		h.add(result, valid)
	case recordRecent:
		result, _, ok := g.result(r)
		if !ok {
			return false
		}
		if rec := h.recordFor(result.Function, result.Probe); rec != nil && len(rec.recent) < keptResults {
			rec.recent = append(rec.recent, result)
		}
	case recordUnit:
		return g.unit(r, h)
	case recordOutage:
		return g.outage(r, h)
	case recordState:
		return g.state(r, h)
	default:
		return false
	}
	return !r.bad
}

func (h *History) recordFor(function, probe string) *record {
	if function == "" {
		function = probe
	}
	rec := h.records[function]
	if rec == nil && len(h.records) < maxRecords {
		rec = newRecord()
		h.records[function] = rec
	}
	return rec
}

func (g *readable) result(r *reader) (Result, time.Duration, bool) {
	out := Result{At: time.UnixMilli(r.signed()).UTC(), Function: g.name(r), Probe: g.name(r), Node: g.name(r), Signal: Signal(g.name(r)), Code: Code(g.name(r))}
	flags := r.octet()
	out.OK, out.Inconclusive, out.Tries = flags&1 != 0, flags&2 != 0, int(r.octet())
	took, valid := r.unsigned(), r.unsigned()
	out.Words = r.text()
	if r.bad || took > uint64(time.Hour/time.Microsecond) || valid > uint64(maxValid/time.Millisecond) || !plausible(out.At.UnixMilli()) {
		return out, 0, false
	}
	out.Took = time.Duration(took) * time.Microsecond
	return out, time.Duration(valid) * time.Millisecond, true
}

// plausible bounds moments so that sums of them stay in range: to the year 9999.
func plausible(ms int64) bool { return ms > -253402300800000 && ms < 253402300800000 }

func (g *readable) unit(r *reader, h *History) bool {
	function, unit, n := g.name(r), int(r.octet()), r.signed()
	up, down := r.unsigned(), r.unsigned()
	if r.bad || unit >= len(units) || !plausible(n) || !plausible(n*units[unit].length) || up > uint64(units[unit].length) || down > uint64(units[unit].length)-up {
		return false
	}
	rec := h.recordFor(function, "")
	if rec == nil {
		return true
	}
	b := rec.spent[unit].slot(n, true)
	b.up, b.down = uint32(up), uint32(down)
	for len(r.b) > 0 {
		class, count := int(r.octet()), r.octet()
		if r.bad || class >= latencyClasses {
			return false
		}
		b.answers[class] = count
	}
	return true
}

func (g *readable) outage(r *reader, h *History) bool {
	function, from, to := g.name(r), r.signed(), r.signed()
	o := Outage{From: time.UnixMilli(from).UTC(), Code: Code(g.name(r)), Words: r.text()}
	if r.bad || !plausible(from) || to != math.MinInt64 && !plausible(to) {
		return false
	}
	if rec := h.recordFor(function, ""); rec != nil && len(rec.outages) < keptOutages {
		if rec.open = to == math.MinInt64; !rec.open {
			o.To = time.UnixMilli(to).UTC()
		}
		rec.outages = append(rec.outages, o)
	}
	return true
}

func (g *readable) state(r *reader, h *History) bool {
	function, at, n := g.name(r), r.signed(), r.unsigned()
	if r.bad || n > 256 || !plausible(at) {
		return false
	}
	probes := map[string]probeState{}
	for range n {
		p, s, until := g.name(r), state(r.octet()), r.signed()
		if r.bad || s > stateDown || !plausible(until) {
			return false
		}
		probes[p] = probeState{s, until}
	}
	if rec := h.recordFor(function, ""); rec != nil {
		rec.at, rec.probes = at, probes
	}
	return true
}
