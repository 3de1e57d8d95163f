package journal

import (
	"fmt"
	"math"
)

// State is what Inspect thinks of a segment.
type State string

const (
	StateOK      State = "ok"      // every byte that matters is as it was written
	StateOpen    State = "open"    // the same, and the journal was not closed: it runs, or it crashed
	StateTorn    State = "torn"    // the last write was cut short; Open will cut it off
	StateCorrupt State = "corrupt" // durable bytes are changed or missing
	StateSealed  State = "sealed"  // its key cannot be opened, so only checksums were checked
	StateUnused  State = "unused"  // was never written to; Open will remove it
)

// Report is what Inspect found out about one segment.
type Report struct {
	Segment     string // file name
	Node, Boot  uint32
	First, Last uint64 // sequence numbers of the readable records; Last below First if there is none
	Records     uint64
	Bytes       int64 // on disk
	Offset      int64 // where the valid frames end
	Torn        int64 // bytes after that
	Closed      bool  // the journal was closed in an orderly way here
	State       State
	Detail      string // a sentence for StateSealed
	Damage      []Damage
}

// Inspect checks every byte of the journal in dir and changes nothing. With a
// nil open only the checksums are checked, which finds decay but not forgery.
// It may run beside the journal's owner, whose newest segment it then sees at
// some moment.
func Inspect(dir string, open func(sealed, associated []byte) ([]byte, error)) ([]Report, error) {
	d, err := openDirectory(dir)
	if err != nil {
		return nil, err
	}
	defer d.close()
	inv, err := d.load()
	if err != nil {
		return nil, err
	}
	var reports []Report
	for i, s := range inv.segments {
		r, err := d.inspect(s, i == len(inv.segments)-1, open)
		if err != nil {
			return reports, err
		}
		reports = append(reports, r)
	}
	for _, name := range inv.leftover {
		reports = append(reports, Report{Segment: name, State: StateUnused})
	}
	return reports, nil
}

func (d *directory) inspect(s *segment, newest bool, open func(sealed, associated []byte) ([]byte, error)) (Report, error) {
	r := Report{Segment: s.name, Node: s.header.node, Boot: s.header.boot, First: s.header.first, Last: s.header.first - 1, Bytes: s.size, State: StateOK}
	var sum summary
	if !s.broken {
		var err error
		if sum, err = d.walk(s, open, &r); err != nil {
			return r, err
		}
		r.Last, r.Records, r.Offset, r.Torn, r.Closed = sum.last, sum.records, sum.end, sum.torn, sum.closed
	}
	for _, dam := range append(s.damage, sum.damage...) {
		r.Damage = append(r.Damage, *dam)
	}
	switch {
	case len(r.Damage) > 0:
		r.State = StateCorrupt
	case r.State == StateSealed:
	case r.Torn > 0 && !newest:
		r.State = StateCorrupt
		r.Damage = append(r.Damage, Damage{Segment: s.name, Node: r.Node, Boot: r.Boot, Offset: r.Offset, Bytes: r.Torn, First: r.Last + 1,
			Detail: "The end of the segment is damaged."})
	case r.Torn > 0:
		r.State = StateTorn
	case newest && !r.Closed:
		r.State = StateOpen
	}
	return r, nil
}

func (d *directory) walk(s *segment, open func(sealed, associated []byte) ([]byte, error), r *Report) (summary, error) {
	f, err := d.open(s.name, false)
	if err != nil {
		return summary{}, err
	}
	defer f.close()
	if open != nil {
		aead, err := s.header.unseal(s.raw, open)
		switch {
		case err == nil:
			s.aead = aead
		case err == errHeaderForged:
			s.lose(s.header.boot, s.header.number, s.header.first, "The segment's header was changed after it was written.")
			return summary{last: s.header.first - 1}, nil
		default:
			r.State, r.Detail = StateSealed, fmt.Sprint(err)
		}
	} else {
		r.State, r.Detail = StateSealed, "No key was given, so only the checksums were checked."
	}
	limit := uint64(math.MaxUint64)
	if s.known {
		limit = s.last
	}
	return newScanner(f.f, s.size, s).walk(limit), nil
}
