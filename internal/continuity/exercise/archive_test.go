package exercise

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const ofThePlan = `version: 1
organisation: {name: Harbour Works, owner: head, country: DE}
people: [{name: head}, {name: deputy}]
nodes: [{name: one}]
scenarios: [{name: dark-night, kind: node-loss, loses: [one]}, {name: standby-failure, kind: node-loss, loses: [one]}]
duties:
  - {name: talk, kind: exercise, every: annually, form: desktop, owner: deputy, close_within: 30 days}
  - {name: break, kind: exercise, every: 6 months, form: sandbox, owner: head, close_within: 14 days}
`

type memory struct {
	*Archive
	t    *testing.T
	d    *db.DB
	now  time.Time
	told int
}

func newMemory(t *testing.T) *memory {
	t.Helper()
	rules, err := policy.Builtin()
	ok(t, err)
	w := &memory{t: t, d: dbtest.Open(t, dbtest.Config(t)), now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}
	ring, err := keys.Open(keys.Options{Dir: filepath.Join(t.TempDir(), "keys")})
	ok(t, err)
	vault := keys.NewVault(keys.VaultOptions{DB: w.d, Keyring: ring, Columns: append(governance.SealedColumns(), SealedColumns()...), Audit: audit.Append, Deny: audit.Deny})
	guard := access.NewGuard(rules, w.d, time.Now, policy.Production)
	plans := governance.New(governance.Options{DB: w.d, Guard: guard, Vault: vault, Log: dbtest.Log(t)})
	w.Archive = NewArchive(ArchiveOptions{DB: w.d, Guard: guard, Vault: vault, Plan: plans.When, Held: plans.Held, Changed: func() { w.told++ }, Clock: func() time.Time { return w.now }, Log: dbtest.Log(t)})
	r, err := plans.Submit(t.Context(), operator(), governance.NewRevision{Text: ofThePlan, Note: "First."})
	ok(t, err)
	for range r.Needs {
		_, err = plans.Decide(t.Context(), operator(), r.ID, true, "")
		ok(t, err)
	}
	return w
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func operator() principal.Principal {
	return principal.Principal{Kind: principal.Person, ID: uuid.NewString(), Session: "s", Roles: principal.RolesOf(principal.PlatformOperator), SecondFactor: time.Now()}
}

func packed(t testing.TB, dir string) []byte {
	t.Helper()
	b, err := ReadBundle(dir)
	ok(t, err)
	out, err := b.Pack()
	ok(t, err)
	return out
}

func (w *memory) hand(dir, of string) Held {
	w.t.Helper()
	h, err := w.Submit(w.t.Context(), operator(), Handed{Bundle: packed(w.t, dir), Of: of})
	ok(w.t, err)
	return h
}

func codeOf(t testing.TB, err error, want string) {
	t.Helper()
	if p := problem.From(err); err == nil || p.Code != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func (w *memory) audited(act string) int {
	w.t.Helper()
	rows, err := audit.Find(w.t.Context(), w.d, audit.Filter{Act: act, Outcome: audit.Done})
	ok(w.t, err)
	return len(rows)
}

func TestAnExerciseIsEvidenceWhateverCameOfIt(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	failed := w.hand(filepath.Join("testdata", "failed"), "dark-night")
	if failed.Outcome != Failed || failed.Of != "dark-night" || len(failed.Missed)+len(failed.Failed)+len(failed.Unknown) == 0 || failed.Bound {
		t.Errorf("%+v", failed)
	}
	if n := len(failed.Missed) + len(failed.Failed) + len(failed.Unknown); len(failed.Actions) != n {
		t.Errorf("%d things were missing, and %d are to be done", n, len(failed.Actions))
	}
	for _, x := range failed.Actions {
		if x.Owner != "head" || !x.Due.Equal(failed.Ended.Add(14*24*time.Hour)) || x.Title == "" {
			t.Errorf("not as the duty says: %+v", x)
		}
	}
	passed := w.hand(filepath.Join("testdata", "passed"), "standby-failure")
	if passed.Outcome != Passed || passed.Of != "standby-failure" || len(passed.Actions) != 0 || len(passed.Kept) == 0 {
		t.Errorf("%+v", passed)
	}
	all, err := w.List(t.Context(), operator())
	ok(t, err)
	if len(all) != 2 || all[0].ID != failed.ID || all[0].Title == "" {
		t.Errorf("%+v", all)
	}
	standing, err := w.Standing(t.Context(), operator())
	ok(t, err)
	got := map[string]string{}
	for _, s := range standing {
		got[s.Scenario+" "+s.Form] = string(s.Result) + " " + s.Last
	}
	for key, want := range map[string]string{"dark-night sandbox": "fail " + failed.ID, "dark-night desktop": "fail ", "standby-failure sandbox": "pass " + passed.ID, "standby-failure desktop": "fail "} {
		if got[key] != want {
			t.Errorf("%s: %q, want %q", key, got[key], want)
		}
	}
	if w.told != 2 || w.audited("exercise.run") != 2 || w.audited("plan.confirm") != 2 {
		t.Errorf("told %d times, %d and %d entries in the audit log", w.told, w.audited("exercise.run"), w.audited("plan.confirm"))
	}
}

func TestAnExerciseIsShownAsItWasHandedIn(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	dir, r := ended(t, false)
	h := w.hand(dir, "dark-night")
	if !h.Bound || h.Outcome != Missed || len(h.Actions) != 1 || h.Actions[0].Owner != "ceo" {
		t.Errorf("%+v", h)
	}
	s, err := w.Get(t.Context(), operator(), r.ID)
	ok(t, err)
	if s.Record.Digest() != r.Digest() {
		t.Error("it is another record")
	}
	report, err := w.Report(t.Context(), operator(), r.ID)
	ok(t, err)
	if !bytes.Contains(report, []byte("It is dark")) || bytes.Contains(report, []byte("<script")) {
		t.Errorf("%s", report[:200])
	}
	_, err = w.Get(t.Context(), operator(), "exc-2")
	codeOf(t, err, "exercise-unknown")
	_, err = w.Report(t.Context(), operator(), "exc-2")
	codeOf(t, err, "exercise-unknown")

	var row string
	ok(t, w.d.Read(t.Context(), func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), `SELECT e::text FROM exercises e`).Scan(&row)
	}))
	if strings.Contains(row, "It is dark") || strings.Contains(row, "6974206973206461726b") {
		t.Error("what people said lies in the database unsealed")
	}
}

func TestWhatWasChangedIsNotTakenIn(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	dir := copied(t, "failed")
	spoilt(t, dir, func(r *Record) { r.Outcome, r.Words = Passed, "All is well." })
	_, err := w.Submit(t.Context(), operator(), Handed{Bundle: packed(t, dir)})
	codeOf(t, err, "exercise-changed")
	if !strings.Contains(problem.From(err).Detail, "exc-20261123-im7qm5 #60") {
		t.Errorf("it does not name the entry: %v", err)
	}
	_, err = w.Submit(t.Context(), operator(), Handed{Bundle: []byte("x")})
	codeOf(t, err, "exercise-bundle")

	good := Handed{Bundle: packed(t, filepath.Join("testdata", "passed"))}
	viewer := principal.Principal{Kind: principal.Person, ID: uuid.NewString(), Session: "s", Organisation: uuid.New(), Roles: principal.RolesOf(principal.Viewer)}
	if _, err = w.Submit(t.Context(), viewer, good); problem.From(err).Kind != problem.Denied {
		t.Errorf("a viewer of a client: %v", err)
	}
	_, err = w.Submit(t.Context(), operator(), Handed{Bundle: good.Bundle, Of: "nothing"})
	codeOf(t, err, "exercise-of")
	_, err = w.Submit(t.Context(), operator(), Handed{Bundle: good.Bundle, Owner: "stranger"})
	codeOf(t, err, "exercise-owner")
	now := w.now
	w.now = now.AddDate(0, 0, -2)
	_, err = w.Submit(t.Context(), operator(), good)
	codeOf(t, err, "exercise-time")
	w.now = now
	if all, err := w.List(t.Context(), operator()); err != nil || len(all) != 0 || w.audited("plan.confirm") != 0 {
		t.Errorf("something of it stayed: %v %v", all, err)
	}
	w.hand(filepath.Join("testdata", "passed"), "")
	_, err = w.Submit(t.Context(), operator(), good)
	codeOf(t, err, "exercise-known")

	one, _ := ended(t, true)
	w.hand(one, "")
	other, _ := ended(t, false)
	_, err = w.Submit(t.Context(), operator(), Handed{Bundle: packed(t, other)})
	codeOf(t, err, "exercise-other")
}

func TestWhatAnExerciseLeftIsDoneOnceAndWithAReason(t *testing.T) {
	t.Parallel()
	w := newMemory(t)
	dir, r := ended(t, false)
	w.hand(dir, "dark-night")
	do := func(c ActionChange) (Action, error) { return w.Do(t.Context(), operator(), r.ID, "gap-1", c) }
	for _, bad := range []ActionChange{{Done: true}, {Words: "Nothing."}, {Words: "Yesterday.", Due: w.now.AddDate(0, 0, -1)}} {
		_, err := do(bad)
		codeOf(t, err, "exercise-action")
	}
	_, err := w.Do(t.Context(), operator(), r.ID, "gap-9", ActionChange{Done: true, Words: "x"})
	codeOf(t, err, "exercise-action-unknown")
	later := w.now.AddDate(0, 2, 0)
	x, err := do(ActionChange{Due: later, Owner: "deputy", Words: "The supplier is late."})
	ok(t, err)
	if !x.Due.Equal(later) || x.Owner != "deputy" || x.Title != "Was not so: Nobody moved names too early." {
		t.Errorf("%+v", x)
	}
	open, err := w.Open(t.Context())
	ok(t, err)
	if len(open) != 1 || open[0].Key != "exercise exc-1/gap-1" || open[0].Owner != "deputy" || !open[0].Due.Equal(later) {
		t.Errorf("%+v", open)
	}
	held, err := w.Exercises(t.Context())
	ok(t, err)
	if held[0].Open != 1 {
		t.Errorf("%+v", held)
	}
	if x, err = do(ActionChange{Done: true, Words: "commit 4f2a"}); err != nil || !x.Done.Equal(w.now) {
		t.Errorf("%+v %v", x, err)
	}
	_, err = do(ActionChange{Done: true, Words: "again"})
	codeOf(t, err, "exercise-action-done")
	if open, err := w.Open(t.Context()); err != nil || len(open) != 0 {
		t.Errorf("%+v %v", open, err)
	}
	if held, err = w.Exercises(t.Context()); err != nil || held[0].Open != 0 {
		t.Errorf("%+v %v", held, err)
	}
}

func TestAnExerciseWithoutAPlanNeedsSomebodyWhoOwnsWhatItFound(t *testing.T) {
	r := &Record{ID: "exc-1", Outcome: Aborted, Ended: time.Now()}
	_, err := leaves(r, &Held{Outcome: Aborted}, "", nil)
	codeOf(t, err, "exercise-owner")
	e := &Held{Outcome: Aborted}
	list, err := leaves(r, e, "head", nil)
	if err != nil || len(list) != 1 || list[0].Owner != "head" || !list[0].Due.Equal(r.Ended.Add(closeAnyway)) || e.ToDo["again"] == "" {
		t.Errorf("%+v %v", list, err)
	}
	var p *problem.Error
	if _, err := rehearses(&Record{}, "lost", nil); !errors.As(err, &p) || p.Code != "exercise-of" {
		t.Error(err)
	}
}
