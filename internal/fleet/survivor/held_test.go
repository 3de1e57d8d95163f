package survivor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// kept opens what node2 keeps beside the store, as a command does beside the
// process.
func (s *scene) kept(from string) (Held, error) {
	return OpenKept(s.fleet.Members[1].Own(), s.dirs[1], from, s.now)
}

func doubted(h Held, words string) bool {
	return strings.Contains(strings.Join(h.Doubts, "\n"), words)
}

func TestWhatIsKeptBesideTheStoreOpensWithWhatChangesByItself(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.deposit(1, material("a"))
	if err := s.of(1).Note(t.Context(), []byte("boot 7")); err != nil {
		t.Fatal(err)
	}
	s.look(2)
	for where, open := range map[string]func() (Held, error){
		"beside the store": func() (Held, error) { return s.kept("node1") },
		"in the store":     func() (Held, error) { return s.of(2).Take(t.Context(), "node1") },
	} {
		h, err := open()
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		if len(h.Parts) != 4 || string(h.Latest) != "boot 7" || !h.Noted.Equal(s.now) || h.From != "node1" || h.To != "node2" || h.Fleet == "" {
			t.Errorf("%s: %+v", where, h)
		}
		if len(h.Doubts) > 0 || h.Stale {
			t.Errorf("%s: %q", where, h.Doubts)
		}
	}
	s.now = s.now.Add(3 * time.Hour)
	if h, err := s.kept("node1"); err != nil || !doubted(h, "3h0m0s ago") {
		t.Errorf("%q, %v", h.Doubts, err)
	}
}

// What was noted by one node is not taken for what another noted, and no note
// is taken for a bundle.
func TestANoteInAnothersPlaceIsSaidNotToOpen(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.deposit(1, material("a"))
	s.deposit(2, material("b"))
	store := s.fleet.Members[0].Store()
	if h, err := s.of(2).Take(t.Context(), "node1"); err != nil || h.Latest != nil || !doubted(h, "left no note") {
		t.Errorf("%q, %v", h.Doubts, err)
	}
	if err := s.of(1).Note(t.Context(), []byte("of node1")); err != nil {
		t.Fatal(err)
	}
	e, err := store.Get(t.Context(), bundlePath("node2", "node1"))
	if err != nil {
		t.Fatal(err)
	}
	var b bundle
	if err := e.Decode(&b); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), notePath("node2", "node1"), b); err != nil {
		t.Fatal(err)
	}
	if h, err := s.of(2).Take(t.Context(), "node1"); err != nil || h.Latest != nil || !doubted(h, "does not open") {
		t.Errorf("a bundle passes for a note: %q %q, %v", h.Latest, h.Doubts, err)
	}
	if err := s.of(1).Note(t.Context(), make([]byte, 200<<10)); problem.From(err).Code != "survivor-size" {
		t.Errorf("%v", err)
	}
}

func TestABundleFromBeforeAChangeSaysThatItIsStale(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.deposit(1, material("a"))
	store := s.fleet.Members[0].Store()
	// The node changed its keys, and died before it could seal them anew.
	if _, err := store.Put(t.Context(), sourcePath("node1"), source{Digest: strings.Repeat("1", 64), Made: s.now}); err != nil {
		t.Fatal(err)
	}
	s.look(2)
	for where, open := range map[string]func() (Held, error){
		"beside the store": func() (Held, error) { return s.kept("node1") },
		"in the store":     func() (Held, error) { return s.of(2).Take(t.Context(), "node1") },
	} {
		if h, err := open(); err != nil || !h.Stale || !doubted(h, "has changed keys or settings since") {
			t.Errorf("%s: stale %v, %q, %v", where, h.Stale, h.Doubts, err)
		}
	}
}

func TestWhatWasLeftInAnotherFleetIsRefused(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.deposit(1, material("a"))
	s.look(2)
	path := filepath.Join(s.dirs[1], "node1.survivor")
	change := func(f func(*kept)) {
		t.Helper()
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var k kept
		if err := json.Unmarshal(body, &k); err != nil {
			t.Fatal(err)
		}
		f(&k)
		if body, err = json.Marshal(k); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	own := s.fleet.Members[1].Own()
	own.Fleet = "another"
	if _, err := OpenKept(own, s.dirs[1], "node1", s.now); problem.From(err).Code != "survivor-other-fleet" {
		t.Errorf("%v", err)
	}
	fleet := ""
	change(func(k *kept) { fleet, k.Fleet = k.Fleet, "another" })
	if _, err := OpenKept(own, s.dirs[1], "node1", s.now); problem.From(err).Code != "survivor-unreadable" {
		t.Errorf("a bundle that only says to be of this fleet: %v", err)
	}
	change(func(k *kept) { k.Fleet = "" }) // as of an earlier version, outside
	if _, err := s.kept("node1"); problem.From(err).Code != "survivor-unreadable" {
		t.Errorf("%v", err)
	}
	change(func(k *kept) { k.Fleet = fleet })
	if h, err := s.kept("node1"); err != nil || h.Fleet != fleet {
		t.Errorf("%v", err)
	}
	for _, name := range []string{"node9", "../node1", "", "a/b"} {
		if _, err := s.kept(name); problem.From(err).Code != "survivor-nothing" {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func FuzzReadKept(f *testing.F) {
	f.Add([]byte(`{"from":"node1","to":"node2","digest":"00","sealed":"AAAA","latest":{"from":"node1"},"seen":"2026-11-23T00:00:00Z"}`))
	f.Add([]byte(`{"from":"node9"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "node1.survivor"), body, 0o600); err != nil {
			t.Fatal(err)
		}
		if k, err := readKept(dir, "node1"); err == nil {
			if _, err := k.open("node2", func([]byte) ([]byte, error) { return body, nil }); err == nil && k.Digest == "" {
				t.Error("it opened, and has no digest")
			}
		}
	})
}
