package exercise

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/problem"
)

// Names of what an exercise leaves, below its directory.
const (
	PageFile   = "report.html"
	RecordFile = "record.json"
)

// Read reads what an exercise left in a directory and checks it as a whole.
func Read(dir string) (*Record, error) {
	b, err := ReadBundle(dir)
	if err != nil {
		return nil, err
	}
	r, _, err := b.Verify()
	return r, err
}

// ReadTimeline reads the file of a timeline and verifies it.
func ReadTimeline(path string) (*incident.Timeline, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, changed("A timeline is missing: " + err.Error() + ".")
	}
	return parseTimeline(text)
}

func parseTimeline(text []byte) (*incident.Timeline, error) {
	var t incident.Timeline
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 4*incident.MaxBody)
	for lines.Scan() {
		e, err := incident.Decode(lines.Bytes())
		if err != nil {
			return nil, err
		}
		t.Entries = append(t.Entries, e)
	}
	if err := lines.Err(); err != nil {
		return nil, changed("A timeline cannot be read: " + err.Error() + ".")
	}
	if err := incident.Verify(t.Entries); err != nil {
		return nil, err
	}
	t.State = incident.Fold(t.Entries)
	return &t, nil
}

func changed(detail string) error {
	return problem.New(incident.ErrBroken.Kind, "exercise-changed", detail).WithMend("Take the directory from where it was first written, or run the exercise again.")
}

// Write leaves the record and the page in a directory, beside the files of the
// timelines that they refer to.
func Write(dir string, r *Record, timelines map[string]*incident.Timeline) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	err = durable.Replace(filepath.Join(dir, RecordFile), text, 0o644)
	var page bytes.Buffer
	if perr := Page(&page, r, timelines); perr != nil {
		return errors.Join(err, perr)
	}
	return errors.Join(err, durable.Replace(filepath.Join(dir, PageFile), page.Bytes(), 0o644))
}
