package survivor

import (
	"strings"
	"testing"
	"time"
)

// Keys without a backup to restore bring nothing back: who has only those is not
// ready.
func TestNobodyIsReadyWithoutABackupThatServes(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.deposit(1, material("a"))
	if err := s.of(2).Look(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	if r := s.readiness(3, "node1", "node2"); r.State != Lacking || !strings.Contains(r.Words(), "has not looked at the backups of node1") {
		t.Errorf("before it looked: %s %q", r.State, r.Words())
	}
	for name, c := range map[string]struct {
		found func(*Backing)
		words string // of what is missing; empty: nothing is
	}{
		"all is well":         {func(*Backing) {}, ""},
		"elsewhere":           {func(b *Backing) { *b = Backing{At: b.At, Of: b.Of, External: true} }, ""},
		"no directory":        {func(b *Backing) { *b = Backing{At: b.At, Of: b.Of, Error: "The target vault is not there."} }, "nothing can be restored there from the backups of node1: The target vault is not there"},
		"of another bundle":   {func(b *Backing) { b.Of = "before" }, "has not looked"},
		"looked at long ago":  {func(b *Backing) { b.At = s.now.Add(-2 * time.Hour) }, "2h0m0s ago"},
		"backups that ended":  {func(b *Backing) { b.Reaches = s.now.Add(-25 * time.Hour) }, "they have stopped"},
		"a node that is lost": {func(b *Backing) { b.Noted, b.Reaches = s.now.Add(-48*time.Hour), s.now.Add(-48*time.Hour-time.Minute) }, ""},
	} {
		s.lookAnd(2, c.found)
		r := s.readiness(3, "node1", "node2")
		switch missing := strings.Join(r.Missing, "; "); {
		case c.words == "" && (r.State != Ready || r.Backing == nil):
			t.Errorf("%s: %s %q", name, r.State, missing)
		case c.words != "" && (r.State != Lacking || !strings.Contains(missing, c.words)):
			t.Errorf("%s: %s %q does not say %q", name, r.State, missing, c.words)
		}
	}
}

func TestReadinessSaysHowMuchWouldBeLost(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.deposit(1, material("a"))
	s.lookAnd(2, func(b *Backing) {
		b.Reaches, b.Skipped = s.now.Add(-7*time.Minute), []string{"The target attic was not used: it is away."}
	})
	r := s.readiness(3, "node1", "node2")
	for _, want := range []string{"could take over database, platform from node1 now.", "the backups at vault reached to 2026-11-23 02:53:00 UTC", "20261123-020000F of 2026-11-23 02:00:00 UTC", "attic was not used"} {
		if !strings.Contains(r.Words(), want) {
			t.Errorf("%q does not say %q", r.Words(), want)
		}
	}
	if strings.Contains(r.Words(), "the plan allows") || r.RPO != 0 {
		t.Errorf("a plan that says nothing allows something: %q", r.Words())
	}
	s.plan = parse(t, strings.Replace(theThree, "functions:\n", "functions:\n  - {name: more, kind: platform, rpo: 5 min, host: [node1], fallbacks: [{node: node2}]}\n", 1))
	if r = s.readiness(3, "node1", "node2"); r.RPO != 300 || !strings.Contains(r.Words(), "They were 7m0s behind, and the plan allows 5m0s.") {
		t.Errorf("%v %q", r.RPO, r.Words())
	}
}
