package scratch

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// segment is a segment of the write-ahead log: its timeline, and its place in
// order. The name is timeline, log and segment, eight hexadecimal digits each
// (access/xlog_internal.h, XLogFileName).
type segment struct {
	timeline uint32
	n        uint64
}

var segmentName = regexp.MustCompile(`^[0-9A-F]{24}$`)

// SegmentBytes is the size of a segment where initdb was not told otherwise.
const SegmentBytes = 16 << 20

// parseSegment reads a segment's name. Anything that follows the name, such as
// a checksum and .zst, is the repository's business.
func parseSegment(name string, size uint64) (segment, bool) {
	if len(name) < 24 || !segmentName.MatchString(name[:24]) || strings.HasSuffix(name, ".partial") || strings.Contains(name, ".backup") {
		return segment{}, false
	}
	timeline, _ := strconv.ParseUint(name[:8], 16, 32) // the expression has checked the digits
	log, _ := strconv.ParseUint(name[8:16], 16, 32)
	seg, _ := strconv.ParseUint(name[16:24], 16, 32)
	per := (uint64(1) << 32) / size
	if seg >= per || timeline == 0 {
		return segment{}, false
	}
	return segment{uint32(timeline), log*per + seg}, true //nolint:gosec // eight digits
}

func (s segment) name(size uint64) string {
	per := (uint64(1) << 32) / size
	return fmt.Sprintf("%08X%08X%08X", s.timeline, s.n/per, s.n%per)
}

// ParseLSN reads a position of the write-ahead log, such as 0/3000060.
func ParseLSN(text string) (uint64, error) {
	high, low, ok := strings.Cut(text, "/")
	h, err1 := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("%q is no position of the write-ahead log", text)
	}
	return h<<32 | l, nil
}

// FormatLSN writes a position as PostgreSQL does.
func FormatLSN(lsn uint64) string { return fmt.Sprintf("%X/%X", lsn>>32, lsn&0xffffffff) }

// Archive is what a repository holds of the write-ahead log, by names.
type Archive struct {
	Names []string // of files in the repository, in any order
	// Missing are segments that whoever read the histories of the timelines
	// knows to be missing: by names alone nobody sees what lacks where one
	// timeline leaves another.
	Missing []string
	Size    uint64 // bytes of a segment; 0: SegmentBytes
}

// Newest returns the end of the newest segment that is reached from start
// without a gap, over switches of the timeline; 0: start is not there.
func (a Archive) Newest(start string) (end uint64) {
	size := a.size()
	at, ok := parseSegment(start, size)
	if !ok {
		return 0
	}
	have := a.read()
	if !have[at] {
		return 0
	}
	lines := timelines(have)
	for {
		next, found := follow(at, have, lines)
		if !found {
			return (at.n + 1) * size
		}
		at = next
	}
}

// follow finds the segment after one: on its timeline, or, where that ends, on
// a later one. A promotion begins the new timeline with a copy of the segment
// in which the old one ended.
func follow(at segment, have map[segment]bool, lines []uint32) (segment, bool) {
	if next := (segment{at.timeline, at.n + 1}); have[next] {
		return next, true
	}
	for _, line := range lines {
		if line <= at.timeline {
			continue
		}
		for _, n := range []uint64{at.n, at.n + 1} {
			if next := (segment{line, n}); have[next] {
				return next, true
			}
		}
	}
	return segment{}, false
}

func (a Archive) size() uint64 {
	if a.Size == 0 {
		return SegmentBytes
	}
	return a.Size
}

func (a Archive) read() map[segment]bool {
	have := map[segment]bool{}
	for _, name := range a.Names {
		if s, ok := parseSegment(name, a.size()); ok {
			have[s] = true
		}
	}
	return have
}

func timelines(have map[segment]bool) []uint32 {
	set := map[uint32]bool{}
	for s := range have {
		set[s.timeline] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// Gaps lists the first segment of each gap on each timeline, from a segment
// on; an empty name: from the first that there is.
func (a Archive) Gaps(from string) (gaps []string) {
	size := a.size()
	have := a.read()
	var after uint64
	if s, ok := parseSegment(from, size); ok {
		after = s.n
	}
	for _, line := range timelines(have) {
		var all []uint64
		for s := range have {
			if s.timeline == line && s.n >= after {
				all = append(all, s.n)
			}
		}
		slices.Sort(all)
		for i := 1; i < len(all); i++ {
			if all[i] != all[i-1]+1 {
				gaps = append(gaps, segment{line, all[i-1] + 1}.name(size))
			}
		}
	}
	for _, name := range a.Missing {
		if s, ok := parseSegment(name, size); ok && s.n >= after && !have[s] && !slices.Contains(gaps, s.name(size)) {
			gaps = append(gaps, s.name(size))
		}
	}
	return gaps
}

// Check judges whether a point can be restored up to a position, by the names
// of the segments alone: what is in them, only replaying shows.
func (a Archive) Check(start, reach string) Check {
	size := a.size()
	if len(a.read()) == 0 {
		return fail(CheckLog, "The repository holds no segment of the write-ahead log.")
	}
	first, ok := parseSegment(start, size)
	if !ok {
		return unclear(CheckLog, "The engine does not say which segment the backup begins with.")
	}
	if !a.read()[first] {
		return fail(CheckLog, "Segment %s is missing, with which the backup begins.", start)
	}
	end := a.Newest(start)
	if gaps := a.Gaps(start); len(gaps) > 0 {
		return fail(CheckLog, "Segment %s is missing from the repository: nothing after it can be restored from this backup.", gaps[0])
	}
	count := end/size - first.n
	if reach == "" {
		return unclear(CheckLog, "All %d segments from %s on are there up to %s, but how far they should reach is not known.", count, start, FormatLSN(end))
	}
	want, err := ParseLSN(reach)
	if err != nil {
		return unclear(CheckLog, "How far the segments should reach is not known: %s.", err)
	}
	if end < want {
		return fail(CheckLog, "The segments end at %s, but the archive had reached %s.", FormatLSN(end), reach)
	}
	return pass(CheckLog, "All %d segments from %s to %s are there.", count, start, FormatLSN(end))
}

// SegmentEnd is the position at which a segment of the usual size ends.
func SegmentEnd(name string) (lsn uint64, ok bool) {
	s, ok := parseSegment(name, SegmentBytes)
	return (s.n + 1) * SegmentBytes, ok
}
