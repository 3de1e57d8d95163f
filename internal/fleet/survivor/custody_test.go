package survivor

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

// scene is a fleet of three with a plan, and a custody on each node.
type scene struct {
	t     *testing.T
	fleet *membertest.Fleet
	plan  *plan.Plan
	now   time.Time
	dirs  []string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, fleet: membertest.Start(t, 3), plan: parse(t, theThree), now: time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)}
	for range s.fleet.Members {
		s.dirs = append(s.dirs, t.TempDir())
	}
	return s
}

// of is the custody of a node, from 1.
func (s *scene) of(i int) *Custody {
	return New(Options{Member: s.fleet.Members[i-1], Dir: s.dirs[i-1], Plan: func() *plan.Plan { return s.plan }, Clock: func() time.Time { return s.now }})
}

func (s *scene) deposit(i int, parts []Part) Deposited {
	s.t.Helper()
	d, err := s.of(i).Deposit(s.t.Context(), parts)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// look has a node open what it holds, and find good backups behind all of it.
func (s *scene) look(i int, lacks ...string) {
	s.t.Helper()
	s.lookAnd(i, func(*Backing) {}, lacks...)
}

// lookAnd is look for a node that finds something else.
func (s *scene) lookAnd(i int, found func(*Backing), lacks ...string) {
	s.t.Helper()
	held, err := s.of(i).Holds(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	backed := map[string]Backing{}
	for from, digest := range held {
		b := Backing{At: s.now, Of: digest, Target: "vault", Label: "20261123-020000F", Stopped: s.now.Add(-time.Hour), Reaches: s.now.Add(-time.Minute), Noted: s.now}
		found(&b)
		backed[from] = b
	}
	if err := s.of(i).Look(s.t.Context(), lacks, backed); err != nil {
		s.t.Fatal(err)
	}
}

// of what node1 loses, as the node asked sees it.
func (s *scene) readiness(i int, from, to string) Readiness {
	s.t.Helper()
	all, err := s.of(i).Readiness(s.t.Context(), false)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range all {
		if r.From == from && r.To == to {
			return r
		}
	}
	s.t.Fatalf("nothing is said of %s taking over from %s: %+v", to, from, all)
	return Readiness{}
}

func material(secret string) []Part {
	return []Part{{Keys, []byte("kek " + secret)}, {Authority, []byte("authority " + secret)}, {Backups, []byte("passphrase " + secret)}, {Settings, []byte("mode: production")}}
}

func TestWhatANodeLeavesOpensOnItsSurvivorAndNowhereElse(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	d := s.deposit(1, material("canary-of-the-kek"))
	if !slices.Equal(d.Sealed, []string{"node2"}) || len(d.Absent) != 0 {
		t.Fatalf("%+v", d)
	}
	if d.Refused["node3"] == "" || d.Refused["alone"] == "" {
		t.Errorf("the witness and the isolated node are not refused: %+v", d.Refused)
	}
	got, err := s.of(2).Take(t.Context(), "node1")
	if err != nil {
		t.Fatal(err)
	}
	if !got.Made.Equal(s.now) || len(got.Parts) != 4 || string(got.Parts[0].Body) != "kek canary-of-the-kek" {
		t.Errorf("%+v", got)
	}
	for other, code := range map[int]string{1: "survivor-nothing", 3: "survivor-refused"} {
		if _, err := s.of(other).Take(t.Context(), "node1"); problem.From(err).Code != code {
			t.Errorf("node%d: %v", other, err)
		}
	}
	// A witness that copies the survivor's bundle to its own place reads nothing.
	e, err := s.fleet.Members[2].Store().Get(t.Context(), bundlePath("node2", "node1"))
	if err != nil {
		t.Fatal(err)
	}
	var b bundle
	if err := e.Decode(&b); err != nil {
		t.Fatal(err)
	}
	if _, err := s.fleet.Members[2].Store().Put(t.Context(), bundlePath("node3", "node1"), b); err != nil {
		t.Fatal(err)
	}
	witness := s.of(3)
	witness.o.Plan = func() *plan.Plan { return nil } // nor where it asks no plan
	if _, err := witness.Take(t.Context(), "node1"); problem.From(err).Code != "survivor-unreadable" {
		t.Errorf("the witness: %v", err)
	}
	if bytes.Contains(b.Sealed, []byte("canary-of-the-kek")) {
		t.Error("the bundle is not sealed")
	}
}

func TestABundleInAnothersPlaceDoesNotPassForIt(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.deposit(1, material("one"))
	s.deposit(2, material("two"))
	store := s.fleet.Members[0].Store()
	e, err := store.Get(t.Context(), bundlePath("node2", "node1"))
	if err != nil {
		t.Fatal(err)
	}
	var b bundle
	if err := e.Decode(&b); err != nil {
		t.Fatal(err)
	}
	b.From = "node9" // what node1 left, as if node9 had
	if _, err := store.Put(t.Context(), bundlePath("node2", "node9"), b); err != nil {
		t.Fatal(err)
	}
	if _, err := s.of(2).Take(t.Context(), "node9"); problem.From(err).Code != "survivor-unreadable" {
		t.Errorf("%v", err)
	}
	b.From, b.Digest = "node1", strings.Repeat("0", 64)
	if _, err := store.Put(t.Context(), bundlePath("node2", "node1"), b); err != nil {
		t.Fatal(err)
	}
	if _, err := s.of(2).Take(t.Context(), "node1"); problem.From(err).Code != "survivor-unreadable" {
		t.Errorf("%v", err)
	}
}

func TestReadinessSaysWhatIsMissingUntilNothingIs(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	wants := func(step string, state State, words ...string) {
		t.Helper()
		r := s.readiness(3, "node1", "node2")
		if r.State != state {
			t.Errorf("%s: %s, want %s (%s)", step, r.State, state, r.Words())
		}
		for _, w := range words {
			if !strings.Contains(r.Words(), w) {
				t.Errorf("%s: %q does not say %q", step, r.Words(), w)
			}
		}
	}
	wants("at first", Lacking, "node1 has left nothing for it yet")
	s.deposit(1, material("a"))
	wants("deposited", Lacking, "has not opened what it holds")
	s.look(2)
	wants("opened", Ready, "node2 could take over database, platform from node1 now.")
	if d := s.deposit(1, material("a")); d.Changed() || !slices.Equal(d.Current, []string{"node2"}) {
		t.Errorf("the same again: %+v", d)
	}
	s.deposit(1, material("b")) // a new key
	wants("changed", Lacking, "has not opened")
	s.look(2, "pgBackRest is not installed: run `make setup`")
	wants("a program is missing", Lacking, "pgBackRest is not installed")
	s.look(2)
	wants("all there", Ready)
	s.now = s.now.Add(2 * time.Hour)
	wants("not looked for long", Lacking, "2h0m0s ago")
	s.look(2)
	d := s.deposit(1, material("b")[:1])
	if !d.Changed() {
		t.Errorf("%+v", d)
	}
	s.look(2)
	wants("a part less", Lacking, "left no authority", "left no backups", "left no settings")
	for _, never := range []string{"node3", "alone"} {
		if r := s.readiness(3, "node1", never); r.State != Refused || !strings.Contains(r.Words(), "holds nothing") {
			t.Errorf("%+v", r)
		}
	}
}

// A bundle that a node no longer is to hold goes, from the store and from its
// disk, and the deposit says who had it.
func TestANodeThatThePlanNoLongerNamesLosesItsBundle(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.deposit(1, material("a"))
	s.look(2)
	copied := filepath.Join(s.dirs[1], "node1.survivor")
	if _, err := os.Stat(copied); err != nil {
		t.Fatal(err)
	}
	s.plan = parse(t, strings.Replace(theThree, "{name: node2, roles: [gateway, fleet]}", "{name: node2, roles: [gateway, fleet], isolated: true}", 1))
	if d := s.deposit(1, material("a")); !slices.Equal(d.Withdrawn, []string{"node2"}) || d.Refused["node2"] == "" {
		t.Fatalf("%+v", d)
	}
	s.look(2)
	if _, err := os.Stat(copied); !os.IsNotExist(err) {
		t.Errorf("the copy is still there: %v", err)
	}
	if _, err := s.of(2).Take(t.Context(), "node1"); problem.From(err).Code != "survivor-refused" {
		t.Errorf("%v", err)
	}
	s.plan = parse(t, theThree) // whoever asks by an older plan finds nothing
	if _, err := s.of(2).Take(t.Context(), "node1"); problem.From(err).Code != "survivor-nothing" {
		t.Errorf("%v", err)
	}
}

// With most of the fleet gone, a survivor still opens what it was left: that
// is the night it is for.
func TestASurvivorOpensItsBundleWithoutAMajority(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.deposit(1, material("a"))
	s.look(2)
	s.fleet.Kill(t, 0)
	s.fleet.Kill(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := s.of(2).Take(ctx, "node1")
	if err != nil || len(got.Parts) != 4 {
		t.Fatalf("%v %+v", err, got)
	}
	all, err := s.of(2).Readiness(ctx, true)
	if err != nil || len(all) == 0 {
		t.Errorf("%v %+v", err, all)
	}
}

func TestABundleThatWouldNotFitIsRefusedWithItsSize(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	_, err := s.of(1).Deposit(t.Context(), []Part{{Settings, bytes.Repeat([]byte("x"), 400<<10)}})
	if problem.From(err).Code != "survivor-size" {
		t.Errorf("%v", err)
	}
	if _, err := s.of(2).Take(t.Context(), "node1"); problem.From(err).Code != "survivor-nothing" {
		t.Errorf("%v", err)
	}
}
