package pgbackrest

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/backup/target"
)

// Archived is what the repository at a target has of the WAL, by its names.
// What is in the segments, only replaying shows.
type Archived struct {
	Segments  []Segment // in order of timeline and number
	Histories []uint32  // timelines whose history file is there
	Gaps      []Gap     // holes within a timeline, and where one follows another
	Bytes     int64     // stored

	id string // of the database inside the stanza, such as 15-1
}

// Segment is a finished segment of the WAL in a repository.
type Segment struct {
	Name     string // as PostgreSQL names it, 24 hexadecimal digits
	Timeline uint32
	Number   uint64 // counts from 0 on, over all timelines
	Stored   time.Time
	Bytes    int64
}

// Gap is a run of segments that are missing.
type Gap struct {
	First, Last string    // the missing segments
	After, Till time.Time // when the segments on both sides were stored
}

// String names the gap by segment and time.
func (g Gap) String() string {
	name := g.First
	if g.Last != g.First {
		name += " to " + g.Last
	}
	return fmt.Sprintf("%s, between %s and %s", name, g.After.UTC().Format(time.RFC3339), g.Till.UTC().Format(time.RFC3339))
}

// Names are the names of the segments.
func (a Archived) Names() []string {
	names := make([]string, len(a.Segments))
	for i, s := range a.Segments {
		names[i] = s.Name
	}
	return names
}

// Missing names the first segment of each gap.
func (a Archived) Missing() []string {
	names := make([]string, len(a.Gaps))
	for i, g := range a.Gaps {
		names[i] = g.First
	}
	return names
}

// Newest is the segment that was stored last; false: there is none.
func (a Archived) Newest() (newest Segment, ok bool) {
	for _, s := range a.Segments {
		if !ok || s.Stored.After(newest.Stored) || s.Stored.Equal(newest.Stored) && s.Name > newest.Name {
			newest, ok = s, true
		}
	}
	return newest, ok
}

// perLog is how many segments of 16 MiB share the middle eight digits of
// their names (access/xlog_internal.h, XLogSegmentsPerXLogId).
const perLog = 256

var (
	// A segment's checksum is part of its name, so that a second one of the
	// same name cannot take its place.
	archivedName = regexp.MustCompile(`^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})-[0-9a-f]{40}(\.[a-z0-9]+)?$`)
	historyName  = regexp.MustCompile(`^([0-9A-F]{8})\.history$`)
)

func segmentName(timeline uint32, number uint64) string {
	return fmt.Sprintf("%08X%08X%08X", timeline, number/perLog, number%perLog)
}

// parseSegment reads the name of a file in an archive.
func parseSegment(name string) (Segment, bool) {
	m := archivedName.FindStringSubmatch(name)
	if m == nil {
		return Segment{}, false
	}
	timeline, _ := strconv.ParseUint(m[1], 16, 32) // the expression has checked the digits
	log, _ := strconv.ParseUint(m[2], 16, 32)
	seg, _ := strconv.ParseUint(m[3], 16, 32)
	if timeline == 0 || seg >= perLog {
		return Segment{}, false
	}
	return Segment{Name: name[:24], Timeline: uint32(timeline), Number: log*perLog + seg}, true
}

type listed struct {
	Type string `json:"type"`
	Size int64  `json:"size"`
	Time int64  `json:"time"`
}

// parseArchive reads `repo-ls --recurse --output=json archive/<stanza>`.
func parseArchive(text []byte) (Archived, error) {
	files := map[string]listed{}
	if err := json.Unmarshal(text, &files); err != nil {
		return Archived{}, fmt.Errorf("reading the list of archived WAL: %w", err)
	}
	// One directory per database that the stanza has had, "15-1"; after a
	// pg_upgrade the segments of the older one are another history.
	newest, newestID := "", -1
	for name := range files {
		id, _, found := strings.Cut(name, "/")
		if _, n, ok := strings.Cut(id, "-"); found && ok {
			if v, err := strconv.Atoi(n); err == nil && v > newestID {
				newest, newestID = id, v
			}
		}
	}
	a := Archived{id: newest}
	for name, f := range files {
		if id, _, _ := strings.Cut(name, "/"); f.Type != "file" || id != newest {
			continue
		}
		base := path.Base(name)
		if m := historyName.FindStringSubmatch(base); m != nil {
			n, _ := strconv.ParseUint(m[1], 16, 32)
			a.Histories = append(a.Histories, uint32(n))
		}
		s, ok := parseSegment(base)
		if !ok {
			continue
		}
		s.Stored, s.Bytes = time.Unix(f.Time, 0).UTC(), f.Size
		a.Segments = append(a.Segments, s)
		a.Bytes += f.Size
	}
	slices.Sort(a.Histories)
	slices.SortFunc(a.Segments, func(x, y Segment) int { return strings.Compare(x.Name, y.Name) })
	a.Gaps = gaps(a.Segments)
	return a, nil
}

// gaps finds the holes between the first and the last segment of each timeline.
func gaps(ordered []Segment) (out []Gap) {
	for i := 1; i < len(ordered); i++ {
		a, b := ordered[i-1], ordered[i]
		if a.Timeline != b.Timeline || b.Number <= a.Number+1 {
			continue
		}
		out = append(out, Gap{First: segmentName(a.Timeline, a.Number+1), Last: segmentName(a.Timeline, b.Number-1), After: a.Stored, Till: b.Stored})
	}
	return out
}

// Archive lists the WAL that the repository at a target has.
func (e *Engine) Archive(ctx context.Context, t target.Target) (Archived, error) {
	if err := usable(t); err != nil {
		return Archived{}, err
	}
	out, err := e.run(ctx, t, nil, "--recurse", "--output=json", "--log-level-console=off", "--log-level-stderr=warn", "--sort=none", "repo-ls", "archive/"+stanza)
	if err != nil {
		return Archived{}, err
	}
	a, err := parseArchive(out.Out)
	if err != nil {
		return a, err
	}
	for _, timeline := range a.Histories {
		parents, err := e.history(ctx, t, a.id, timeline)
		if err != nil {
			return a, err
		}
		a.Gaps = append(a.Gaps, joint(a.Segments, timeline, parents)...)
	}
	return a, nil
}

// history reads where a timeline left its ancestors. A history never changes,
// so it is fetched once.
func (e *Engine) history(ctx context.Context, t target.Target, id string, timeline uint32) (map[uint32]uint64, error) {
	path := fmt.Sprintf("archive/%s/%s/%08X.history", stanza, id, timeline)
	key := t.Name + " " + path
	e.mu.Lock()
	known, ok := e.histories[key]
	e.mu.Unlock()
	if ok {
		return known, nil
	}
	out, err := e.run(ctx, t, nil, "--log-level-console=off", "--log-level-stderr=warn", "repo-get", path)
	if err != nil {
		return nil, err
	}
	parents, err := parseHistory(string(out.Out))
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.histories[key] = parents
	e.mu.Unlock()
	return parents, nil
}

// segmentBytes is the size of a segment where initdb was not told otherwise.
const segmentBytes = 16 << 20

// joint finds what is missing where a timeline left its parent: the parent's
// segments up to there, and the timeline's own from the one in which it began.
// A replay would not stop at such a hole: it would go on along the parent.
func joint(ordered []Segment, timeline uint32, parents map[uint32]uint64) (out []Gap) {
	var parent uint32
	for p := range parents {
		parent = max(parent, p)
	}
	if parent == 0 {
		return nil
	}
	began := parents[parent] / segmentBytes
	var before, first *Segment // the parent's last up to there, and the timeline's first
	for i, s := range ordered {
		if s.Timeline == parent && s.Number <= began {
			before = &ordered[i]
		}
		if s.Timeline == timeline && first == nil {
			first = &ordered[i]
		}
	}
	if before == nil || first == nil { // expired, or nothing has been written there yet
		return nil
	}
	if before.Number+1 < began {
		out = append(out, Gap{First: segmentName(parent, before.Number+1), Last: segmentName(parent, began-1), After: before.Stored, Till: first.Stored})
	}
	if first.Number > began {
		out = append(out, Gap{First: segmentName(timeline, began), Last: segmentName(timeline, first.Number-1), After: before.Stored, Till: first.Stored})
	}
	return out
}
