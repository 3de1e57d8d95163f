package exercise

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/problem"
)

// MaxBundle bounds what an exercise left, unpacked, in bytes; maxTimelines how
// many timelines it has.
const (
	MaxBundle    = 32 << 20
	maxTimelines = 50
)

// Bundle is what an exercise left, as it was written: the record and every
// timeline that it refers to, by file.
type Bundle struct {
	Record    json.RawMessage   `json:"record"`
	Timelines map[string]string `json:"timelines"`
}

// ReadBundle reads the bundle of a directory and checks nothing of it.
func ReadBundle(dir string) (*Bundle, error) {
	path := filepath.Join(dir, RecordFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, problem.New(problem.NotFound, "exercise-record", "The record of the exercise cannot be read: "+err.Error()+".").WithField(path).WithMend("Name the directory that `foundry exercise run` wrote.")
	}
	var r Record
	if err := json.Unmarshal(text, &r); err != nil || r.ID == "" {
		return nil, changed(fmt.Sprintf("%s is no record of an exercise.", path))
	}
	b := &Bundle{Record: text, Timelines: map[string]string{}}
	for _, s := range r.Timelines {
		if s.File != filepath.Base(s.File) {
			return nil, changed(fmt.Sprintf("The record names a file outside of its directory: %q.", s.File))
		}
		lines, err := os.ReadFile(filepath.Join(dir, s.File))
		if err != nil {
			return nil, changed("A timeline is missing: " + err.Error() + ".")
		}
		b.Timelines[s.File] = string(lines)
	}
	return b, nil
}

// Pack makes the bundle small, to be sent and kept.
func (b *Bundle) Pack() ([]byte, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return nil, changed("The record is no JSON.")
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Unpack reads what Pack made.
func Unpack(packed []byte) (*Bundle, error) {
	bad := func(detail string) error {
		return problem.New(problem.Invalid, "exercise-bundle", detail).WithField("bundle").WithMend("Hand it in with `foundry exercise submit`.")
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, bad("This is no packed exercise.")
	}
	text, err := io.ReadAll(io.LimitReader(r, MaxBundle+1))
	switch {
	case err != nil:
		return nil, bad("The packed exercise is cut off or damaged.")
	case len(text) > MaxBundle:
		return nil, problem.New(problem.TooLarge, "exercise-size", fmt.Sprintf("The exercise has more than %d MiB.", MaxBundle>>20)).WithField("bundle").WithMend("Keep it elsewhere, and confirm the duty with `foundry plan confirm`.")
	}
	var b Bundle
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, bad("The packed exercise is not as it is written.")
	}
	return &b, nil
}

// Verify checks the bundle as a whole: every hash, that each statement of the
// record names an entry that is there, and that the entry says the same.
func (b *Bundle) Verify() (*Record, map[string]*incident.Timeline, error) {
	var r Record
	if err := json.Unmarshal(b.Record, &r); err != nil || r.ID == "" {
		return nil, nil, changed("This is no record of an exercise.")
	}
	if r.Version != 1 {
		return nil, nil, problem.New(problem.Invalid, "exercise-version", fmt.Sprintf("The record is of version %d, and this program reads version 1.", r.Version)).WithMend("Use the program that wrote it, or a newer one.")
	}
	if len(r.Timelines) > maxTimelines {
		return nil, nil, changed(fmt.Sprintf("The record names %d timelines.", len(r.Timelines)))
	}
	timelines := map[string]*incident.Timeline{}
	for _, s := range r.Timelines {
		text, there := b.Timelines[s.File]
		if !there {
			return nil, nil, changed(fmt.Sprintf("The timeline %s is missing.", s.ID))
		}
		t, err := parseTimeline([]byte(text))
		if err != nil {
			return nil, nil, err
		}
		if len(t.Entries) == 0 || t.State.ID != s.ID {
			return nil, nil, changed(fmt.Sprintf("The file %s is not the timeline %s.", s.File, s.ID))
		}
		timelines[s.ID] = t
	}
	if err := r.Check(timelines); err != nil {
		return nil, nil, changed("What the record says does not stand in its timelines: " + err.Error() + ".")
	}
	if err := r.Trace(timelines); err != nil {
		return nil, nil, changed("What the record says does not stand in its timelines: " + err.Error() + ".")
	}
	return &r, timelines, nil
}
