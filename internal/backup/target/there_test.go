package target

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// shelved is a directory target of a node whose data is on the same volume,
// as it is when the target's own volume is not mounted.
type shelved struct {
	Target
	place   Place
	notes   string
	another func() Target // the same after a restart
}

func shelve(t *testing.T, production bool) shelved {
	t.Helper()
	dir := t.TempDir()
	s := shelved{place: Place{Paths: []string{filepath.Join(dir, "data")}, Host: "node1", Supplier: "A", Account: "main", Country: "FI"}, notes: filepath.Join(dir, "data", "backup", "targets")}
	path := filepath.Join(dir, "mnt")
	for _, d := range []string{s.place.Paths[0], path} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.another = func() Target {
		return Target{Config: Config{Name: "shelf", Kind: Directory, Path: path, Host: "nas.example", Supplier: "B", Account: "backups", Country: "DE"}}.Keep(s.notes, s.place, production)
	}
	s.Target = s.another()
	return s
}

// mount puts a file system of its own where the target is.
func mount(t *testing.T, path string) (unmount func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, "size=8m,mode=0700"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	var once sync.Once
	unmount = func() {
		once.Do(func() {
			if err := syscall.Unmount(path, 0); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(unmount)
	return unmount
}

// nothing checks that a directory has not been written to.
func nothing(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("the empty mount point holds %v (%v)", entries, err)
	}
}

func TestATargetThatWasNeverSeenIsRefusedOnTheDatasVolume(t *testing.T) {
	s := shelve(t, true)
	if err := s.Admit(t.Context()); codeOf(err) != "target-same-volume" {
		t.Errorf("got %v", err)
	}
	if !slices.Contains(rules(s.Apart(s.place, true)), "same-volume!") {
		t.Errorf("found %v", rules(s.Apart(s.place, true)))
	}
	nothing(t, s.Path)
	if s.Accepted() {
		t.Error("it counts as accepted")
	}
}

// The whole story, with a real mount: accepted, away, somebody writes, back.
func TestAnAcceptedTargetThatIsNotMountedIsAwayAndNotNew(t *testing.T) {
	s := shelve(t, true)
	unmount := mount(t, s.Path)
	if err := s.Admit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !s.Accepted() || s.There() != nil || len(s.Apart(s.place, true)) != 1 {
		t.Fatalf("accepted: %v, there: %v, apart: %+v", s.Accepted(), s.There(), s.Apart(s.place, true))
	}
	store, err := s.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(s.Path, markName))
	if err != nil {
		t.Fatal(err)
	}

	unmount()
	for name, at := range map[string]Target{"the same process": s.Target, "after a restart": s.another()} {
		for what, err := range map[string]error{
			"There": at.There(), "Admit": at.Admit(t.Context()), "an open store": store.Put(t.Context(), "foundry-kit.age", []byte("x")),
			"Space":   func() error { _, _, err := at.Space(t.Context()); return err }(),
			"Probe":   func() error { _, err := at.Probe(t.Context()); return err }(),
			"reading": func() error { _, err := store.List(t.Context(), ""); return err }(),
		} {
			p := problem.From(err)
			if p == nil || p.Code != "target-away" || p.Kind != problem.Unavailable || !strings.Contains(p.Mend, "Mount it") || !strings.Contains(p.Mend, "never begins a repository on the data's own disk") {
				t.Errorf("%s, %s: got %v", name, what, err)
			}
		}
		found := at.Apart(s.place, true)
		if got := rules(found); slices.Contains(got, "same-volume!") || slices.Contains(got, "same-host!") || !slices.Contains(got, "volume-away") {
			t.Errorf("%s: found %v", name, got)
		}
		for _, f := range found {
			if f.Away() && (f.Fatal || !strings.Contains(f.Mend, "Mount it")) {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
	nothing(t, s.Path)

	// Another volume is not the one that was accepted.
	unmount = mount(t, s.Path)
	if err := s.Admit(t.Context()); codeOf(err) != "target-away" {
		t.Errorf("an empty volume: got %v", err)
	}
	if err := os.WriteFile(filepath.Join(s.Path, markName), []byte(`{"version":1,"id":"OTHER","name":"shelf"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Admit(t.Context()); codeOf(err) != "target-away" {
		t.Errorf("another's volume: got %v", err)
	}

	if err := os.WriteFile(filepath.Join(s.Path, markName), kept, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Admit(t.Context()); err != nil {
		t.Errorf("back again: %v", err)
	}
	if err := store.Put(t.Context(), "foundry-kit.age", []byte("x")); err != nil {
		t.Errorf("back again: %v", err)
	}
	unmount()
}

func TestAVolumeThatBringsItsMarkIsTakenAsItIs(t *testing.T) {
	s := shelve(t, false)
	if err := s.Admit(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(s.Path, markName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.notes); err != nil { // a node that was recovered onto another machine
		t.Fatal(err)
	}
	if err := s.Admit(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(s.Path, markName))
	if err != nil || string(before) != string(after) || !s.Accepted() {
		t.Errorf("%s became %s (%v)", before, after, err)
	}
}

func TestDamagedMarksAreNoReasonToBeginAnew(t *testing.T) {
	s := shelve(t, false)
	if err := s.Admit(t.Context()); err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(s.notes, "shelf.json")
	if err := os.WriteFile(note, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Admit(t.Context()); err != nil {
		t.Errorf("a note that cannot be understood, and a mark that is there: %v", err)
	}
	if err := os.Remove(filepath.Join(s.Path, markName)); err != nil {
		t.Fatal(err)
	}
	if err := s.Admit(t.Context()); codeOf(err) != "target-away" {
		t.Errorf("a note that cannot be understood, and no mark: %v", err)
	}
}

func TestATargetThatCannotBeMarkedIsNotAccepted(t *testing.T) {
	s := shelve(t, false)
	if err := os.Symlink("/proc/nowhere/at-all", filepath.Join(s.Path, "x")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.Path, s.Path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := s.Admit(t.Context()); codeOf(err) != "target-gone" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	if s.Accepted() {
		t.Error("it counts as accepted")
	}
}

// The file system of a server that is gone does not answer, for ever: nothing
// may wait for it. A mark that is a pipe does not answer either.
func TestAFileSystemThatDoesNotAnswerIsNotWaitedFor(t *testing.T) {
	defer func(was time.Duration) { lookTimeout = was }(lookTimeout)
	s := shelve(t, false)
	if err := s.Admit(t.Context()); err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(s.Path, markName)
	text, err := os.ReadFile(mark)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(mark), syscall.Mkfifo(mark, 0o600)); err != nil {
		t.Fatal(err)
	}
	lookTimeout = 50 * time.Millisecond
	for range 3 {
		if err := s.There(); codeOf(err) != "target-gone" || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("got %v", err)
		}
	}
	lookTimeout = time.Minute
	pipe, err := os.OpenFile(mark, os.O_WRONLY, 0) // it answers at last
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pipe.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := pipe.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(mark), os.WriteFile(mark, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := s.There(); err != nil {
		t.Errorf("back again: %v", err)
	}
}

func TestWhoeverLooksAtTheSameTimeSeesTheSame(t *testing.T) {
	s := shelve(t, false)
	if err := s.Admit(t.Context()); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 50 {
				if err := s.There(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return problem.From(err).Code
}
