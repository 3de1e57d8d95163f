package incident

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// whole is a timeline with an entry of most kinds.
func whole(t testing.TB) *scene {
	x := open(t, Security, 1)
	x.do(&Assignment{Role: Lead, Who: anna.String()}, &Note{Words: "a < b & c > d, ü, \u2028"})
	x.signals()
	x.approved("no-isolation", "node-1", bert)
	x.do(&Evidence{Name: "log", Capture: CaptureLogs, Hash: hashOf([]byte("x")), Size: 1, Bytes: []byte("x"), Taken: x.now}, &Hold{On: true, Words: "asked"},
		&Quarantine{Node: "node-1", Step: "asked", At: x.now}, &Action{ID: "A1", Title: "x", Owner: "ceo", Due: x.now.Add(time.Hour)},
		&Notice{ID: "N", Step: Drafted, Audience: ToClient, To: "acme", Fields: complete}, &ClockEvent{Event: "told", Clock: "rto/web", Share: 0.5})
	return x
}

func TestEveryFlipOfABitInATimelineIsFound(t *testing.T) {
	x := whole(t)
	var lines [][]byte
	for i := range x.entries {
		line, err := x.entries[i].Encode()
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	for i := range lines {
		good := x.entries[i]
		for k := range lines[i] {
			for bit := range 8 {
				lines[i][k] ^= 1 << bit
				bad, err := Decode(lines[i])
				if x.entries[i] = bad; err == nil && Verify(x.entries) == nil {
					t.Fatalf("bit %d of byte %d of entry %d is another, and nobody sees it: %s", bit, k, i+1, lines[i])
				}
				lines[i][k] ^= 1 << bit
			}
		}
		x.entries[i] = good
	}
	if err := Verify(x.entries); err != nil {
		t.Fatal(err)
	}
}

func TestATimelineThatWasCutMixedOrWrittenAnewIsFound(t *testing.T) {
	x := whole(t)
	rapid.Check(t, func(t *rapid.T) {
		bad := append([]Entry(nil), x.entries...)
		i := rapid.IntRange(0, len(bad)-2).Draw(t, "i")
		k := rapid.IntRange(i+1, len(bad)-1).Draw(t, "k")
		what := rapid.SampledFrom([]string{"left out", "swapped", "twice", "other body", "other author", "hash made anew", "numbered otherwise", "begins later"}).Draw(t, "what")
		switch what {
		case "left out":
			bad = append(bad[:i], bad[i+1:]...)
		case "swapped":
			bad[i], bad[k] = bad[k], bad[i]
		case "twice":
			bad = append(bad[:k], append([]Entry{bad[i]}, bad[k:]...)...)
		case "other body":
			bad[i].Body = json.RawMessage(`{"words":"nothing"}`)
		case "other author":
			bad[i].By = "person:nobody"
		case "hash made anew":
			bad[i].Node = "node9"
			bad[i].Hash = bad[i].sum()
		case "numbered otherwise":
			for k := i + 1; k < len(bad); k++ {
				bad[k].N++
				bad[k].Prev = bad[k-1].Hash
				bad[k].Hash = bad[k].sum()
			}
		case "begins later":
			bad = bad[i+1:]
		}
		if err := Verify(bad); !errors.Is(err, ErrBroken) {
			t.Fatalf("%s (%d, %d): %v", what, i, k, err)
		}
	})
}

func TestTheSameEntriesTellTheSameEverywhere(t *testing.T) {
	x := whole(t)
	for cut := range x.entries {
		a, b := Fold(x.entries[:cut]), Fold(x.entries[:cut])
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("after %d entries it is told in two ways", cut)
		}
	}
	if !reflect.DeepEqual(Fold(x.entries), x.s) {
		t.Fatal("told at once it is another than told one by one")
	}
}

func TestWhatANewerMemberWritesStaysAndChangesNothing(t *testing.T) {
	x := outage(t, 1)
	last := &x.entries[0]
	add := func(kind Kind, body string) {
		t.Helper()
		e := Entry{Incident: last.Incident, N: last.N + 1, ID: "x", At: x.now, By: "person:1", Node: "node3", Kind: kind, Body: json.RawMessage(body), Prev: last.Hash}
		e.Hash = e.sum()
		line, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if e, err = Decode(line); err != nil {
			t.Fatal(err)
		}
		x.entries = append(x.entries, e)
		x.s.Apply(&e)
		last = &x.entries[len(x.entries)-1]
	}
	before := *x.s
	add("hologram", `{"of":"node-1","with":{"colours":3}}`)
	add(KindNote, `{"words":["no","longer","a","text"]}`)
	add(KindNote, `{"words":"known","mood":"grim"}`)
	if err := Verify(x.entries); err != nil {
		t.Fatal(err)
	}
	if len(x.s.Unread) != 2 || x.s.Phase != before.Phase || len(x.s.Facts) != len(before.Facts) {
		t.Fatalf("unread %v, phase %s", x.s.Unread, x.s.Phase)
	}
	if !bytes.Contains(x.entries[1].Body, []byte("colours")) || !bytes.Contains(x.entries[3].Body, []byte("grim")) {
		t.Fatal("what a newer member wrote is gone")
	}
	x.do(&Note{Words: "and it goes on"})
}

func TestAnEntryWrittenBeforeTheOneItFollowsIsMarked(t *testing.T) {
	x := outage(t, 1)
	x.now = x.now.Add(time.Hour)
	x.do(&Note{Words: "by a node whose clock is ahead"})
	x.now = x.now.Add(-time.Hour)
	x.do(&Note{Words: "by one whose clock is right"})
	if len(x.s.Skewed) != 1 || x.s.Skewed[0] != 3 {
		t.Errorf("marked: %v", x.s.Skewed)
	}
}

// The bytes that are hashed may never change: timelines outlive the program.
func TestTheHashOfAnEntryIsWhatItWas(t *testing.T) {
	e := Entry{Incident: "inc-1", N: 2, ID: "ABC", At: start, By: "person:1", Node: "node1", Kind: KindNote, Body: json.RawMessage(`{"words":"x"}`), Prev: Hash{1}}
	const want = "4b541e027a20ccb90608a679e45c8749c69907aabfe73b3302ce237c745dbf9e"
	if got := e.sum().String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	x := whole(f)
	for i := range x.entries {
		line, _ := x.entries[i].Encode()
		f.Add(line)
	}
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"incident":"a","n":1,"n":2}`))
	f.Add([]byte("\xff"))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := Decode(line)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil || !bytes.Equal(again, line) {
			t.Fatalf("read %q and wrote %q", line, again)
		}
		Fold([]Entry{e}).Clocks(start)
	})
}

func TestNoEntryHoldsMoreThanTheStoreTakes(t *testing.T) {
	x := outage(t, 1)
	_, err := link(&x.entries[0], "inc-test", x.now, "person:1", "node1", KindNote, &Note{Words: strings.Repeat("x", MaxBody)})
	if codeOf(err) != "incident-entry-large" {
		t.Fatal(err)
	}
}
