package restic

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// message is one line of restic's --json output
// (restic.readthedocs.io, "Scripting"; 0.14 has no number of stored bytes after compression).
type message struct {
	Type string `json:"message_type"`

	TotalBytes int64    `json:"total_bytes"` // status
	BytesDone  int64    `json:"bytes_done"`
	FilesDone  int64    `json:"files_done"`
	Current    []string `json:"current_files"`

	Files    int64  `json:"total_files_processed"` // summary
	Bytes    int64  `json:"total_bytes_processed"`
	Added    int64  `json:"data_added"`
	Snapshot string `json:"snapshot_id"`

	Item  string `json:"item"` // error
	Error struct {
		Op  string `json:"Op"`
		Err any    `json:"Err"` // errno, or a text
	} `json:"error"`
}

// parseMessage reads one line; ok is false for a line that is no message.
func parseMessage(line string) (m message, ok bool) {
	if !strings.HasPrefix(line, `{"message_type":`) || json.Unmarshal([]byte(line), &m) != nil {
		return message{}, false
	}
	m.TotalBytes, m.BytesDone, m.Files, m.Bytes, m.Added = max(m.TotalBytes, 0), max(m.BytesDone, 0), max(m.Files, 0), max(m.Bytes, 0), max(m.Added, 0)
	if !snapshotID.MatchString(m.Snapshot) {
		m.Snapshot = ""
	}
	return m, true
}

// vanished reports whether an error means that a file was gone when its turn
// came (ENOENT): what lives in a directory may be removed at any time.
func (m message) vanished() bool {
	errno, isNumber := m.Error.Err.(float64)
	text, _ := m.Error.Err.(string)
	return isNumber && errno == 2 || strings.Contains(text, "no such file or directory")
}

var snapshotID = regexp.MustCompile(`^[0-9a-f]{8,64}$`)

// snapshot is one entry of `restic snapshots --json`.
type snapshot struct {
	ID    string    `json:"id"`
	Time  time.Time `json:"time"`
	Host  string    `json:"hostname"`
	Paths []string  `json:"paths"`
	Tags  []string  `json:"tags"`
	// Original is the snapshot of which this is a copy with other tags.
	Original string `json:"original"`
}

// parseSnapshots reads the list, oldest first.
func parseSnapshots(text []byte) ([]snapshot, error) {
	var all []snapshot
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("the list of snapshots: %w", err)
	}
	for _, s := range all {
		if len(s.ID) != 64 || !snapshotID.MatchString(s.ID) || s.Time.IsZero() {
			return nil, errors.New("the list of snapshots has one without an id or a time")
		}
	}
	slices.SortStableFunc(all, func(a, b snapshot) int { return a.Time.Compare(b.Time) })
	return all, nil
}

// tag is the value of a tag key=value.
func (s snapshot) tag(key string) string {
	for _, t := range s.Tags {
		if k, v, ok := strings.Cut(t, "="); ok && k == key {
			return v
		}
	}
	return ""
}

// stats is the output of `restic stats --json`.
type stats struct {
	Bytes   int64 `json:"total_size"`
	Entries int64 `json:"total_file_count"`
}

func parseStats(text []byte) (s stats, err error) {
	if err = json.Unmarshal(text, &s); err == nil && (s.Bytes < 0 || s.Entries < 0) {
		err = errors.New("negative sizes")
	}
	if err != nil {
		return stats{}, fmt.Errorf("the size of a snapshot: %w", err)
	}
	return s, nil
}

// lock is the content of a lock in a repository.
type lock struct {
	Time time.Time `json:"time"`
	Host string    `json:"hostname"`
	PID  int       `json:"pid"`
}

func parseLock(text []byte) (l lock, err error) {
	if err = json.Unmarshal(text, &l); err == nil && (l.Time.IsZero() || l.PID <= 0) {
		err = errors.New("no process")
	}
	if err != nil {
		return lock{}, fmt.Errorf("a lock: %w", err)
	}
	return l, nil
}
