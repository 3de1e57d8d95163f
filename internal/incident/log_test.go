package incident

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestATimelineInAFileIsAChainAsAnyOther(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	l := NewLog(&out, "exc-1", "here", "local-owner 0", func() time.Time { now = now.Add(time.Second); return now })
	if _, err := l.Append(&Note{Words: "too early"}); err == nil {
		t.Error("an entry came before the opening")
	}
	if _, err := l.Append(&Opened{Title: "A try", Category: Outage, Mode: Sandbox, Started: now, Detected: now}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(&Act{Act: "exercise.kill", Target: "one"}); err != nil {
		t.Fatal(err)
	}
	var entries []Entry
	for line := range strings.SplitSeq(strings.TrimSpace(out.String()), "\n") {
		e, err := Decode([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	if err := Verify(entries); err != nil || len(entries) != 2 {
		t.Fatalf("%d entries: %v", len(entries), err)
	}
	entries[1].Body = bytes.Replace(entries[1].Body, []byte("one"), []byte("two"), 1)
	if err := Verify(entries); err == nil {
		t.Error("a changed entry verifies")
	}
	if got := l.Timeline(); got.State.Mode != Sandbox || len(got.Entries) != 2 {
		t.Errorf("%+v", got.State)
	}
}

type full struct{ bytes.Buffer }

func (*full) Write([]byte) (int, error) { return 0, errors.New("no space") }

func TestAnEntryThatCouldNotBeWrittenDoesNotCount(t *testing.T) {
	l := NewLog(&full{}, "exc-1", "here", "local-owner 0", time.Now)
	if _, err := l.Append(&Opened{Title: "A try", Category: Outage, Mode: Sandbox, Started: time.Now(), Detected: time.Now()}); err == nil {
		t.Error("it was taken")
	}
	if n := len(l.Timeline().Entries); n != 0 {
		t.Errorf("%d entries", n)
	}
}
