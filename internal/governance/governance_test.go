package governance_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
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
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// library is a small company whose plan two people approve.
const library = `
version: 1
organisation: {name: Library, owner: anna, approvals: 2}
people:
  - {name: anna, deputies: [ben, zoe], check_in: 1 day, away_after: 7 days}
  - {name: ben}
  - {name: zoe, outside: true, contract: {reference: c-1, until: 2026-12-31}}
suppliers: [{name: host, jurisdiction: FI}]
nodes: [{name: one, supplier: host, country: FI}]
data: [{name: loans}]
functions: [{name: catalogue, mtd: 1 day, rto: 8h, rpo: 1h, host: [one], data: [loans]}]
backups: [{name: nightly, functions: [catalogue], continuous: 1 min, to: [{supplier: host}]}]
duties: [{name: exercise, kind: exercise, every: yearly, last: 2026-01-10}]
`

type world struct {
	t        testing.TB
	d        *db.DB
	g        *governance.Plans
	vault    *keys.Vault
	mu       sync.Mutex
	now      time.Time
	measured plan.Measured
	alarms   []string
	deaf     bool // alarms fail
	accounts map[string]string
	config   db.Config
	copy     string
	ring     *keys.Keyring
	actions  func(context.Context) ([]governance.Action, error)
}

func (w *world) clock() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, dbtest.Config(t))
}

func newWorldOn(t *testing.T, config db.Config) *world {
	t.Helper()
	rules, err := policy.Builtin()
	must(t, err)
	w := &world{t: t, config: config, d: dbtest.Open(t, config), copy: filepath.Join(t.TempDir(), "plan.sealed"), now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)}
	ring, err := keys.Open(keys.Options{Dir: filepath.Join(t.TempDir(), "keys")})
	must(t, err)
	w.ring = ring
	w.vault = keys.NewVault(keys.VaultOptions{DB: w.d, Keyring: ring, Columns: governance.SealedColumns(), Audit: audit.Append, Deny: audit.Deny})
	w.again(rules)
	return w
}

// again starts the node again.
func (w *world) again(rules *policy.Engine) {
	w.g = governance.New(governance.Options{DB: w.d, Guard: access.NewGuard(rules, w.d, time.Now, policy.Production), Vault: w.vault, Clock: w.clock, Log: dbtest.Log(w.t),
		Copy: w.copy, Seal: w.ring.Seal, Open: w.ring.Open,
		Accounts: func(_ context.Context, accounts []string) (map[string]string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			out := map[string]string{}
			for _, a := range accounts {
				if who := w.accounts[a]; who != "" {
					out[a] = who
				}
			}
			return out, nil
		},
		Actions: func(ctx context.Context) ([]governance.Action, error) {
			if w.actions == nil {
				return nil, nil
			}
			return w.actions(ctx)
		},
		Measured: func(context.Context, *plan.Plan) (plan.Measured, error) { return w.measured, nil },
		Alarm: func(_ context.Context, _ pgx.Tx, code string, critical bool, facts map[string]string) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.deaf {
				return errors.New("nobody hears it")
			}
			words := []string{code}
			for _, k := range slices.Sorted(maps.Keys(facts)) {
				words = append(words, k+"="+facts[k])
			}
			w.alarms = append(w.alarms, fmt.Sprintf("%s critical=%v", strings.Join(words, " "), critical))
			return nil
		}})
}

func person(role principal.Role) principal.Principal {
	return principal.Principal{Kind: principal.Person, ID: uuid.NewString(), Session: "s", Roles: principal.RolesOf(role), SecondFactor: time.Now()}
}

func (w *world) submit(p principal.Principal, text string) governance.Revision {
	w.t.Helper()
	r, err := w.g.Submit(w.t.Context(), p, governance.NewRevision{Text: text, Note: "First."})
	must(w.t, err)
	return r
}

// inForce hands in a plan and approves it.
func (w *world) inForce(text string) governance.Revision {
	w.t.Helper()
	r := w.submit(person(principal.PlatformOperator), text)
	for range r.Needs {
		var err error
		r, err = w.g.Decide(w.t.Context(), person(principal.PlatformSecurity), r.ID, true, "")
		must(w.t, err)
	}
	if r.State != governance.InForce {
		w.t.Fatalf("the plan is %s", r.State)
	}
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t testing.TB, err error, code string) {
	t.Helper()
	var p *problem.Error
	if !errors.As(err, &p) || p.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestAPlanComesIntoForceByAsManyPeopleAsItAsksFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, author, second := t.Context(), person(principal.PlatformOperator), person(principal.PlatformAdministrator)
	if s, err := w.g.Standing(ctx, author); err != nil || s.Plan != nil || !strings.Contains(s.Weakest, "no plan") {
		t.Errorf("%+v %v", s, err)
	}
	r := w.submit(author, library)
	if r.State != governance.Waiting || r.Needs != 2 || r.Errors+r.Warnings == 0 {
		t.Errorf("%+v", r)
	}
	_, err := w.g.Submit(ctx, author, governance.NewRevision{Text: "# the same\n" + library, Note: "Again."})
	refused(t, err, "plan-same")
	r, err = w.g.Decide(ctx, author, r.ID, true, "")
	if must(t, err); r.State != governance.Waiting {
		t.Errorf("one voice of two: %s", r.State)
	}
	_, err = w.g.Decide(ctx, author, r.ID, true, "")
	refused(t, err, "plan-voice")
	r, err = w.g.Decide(ctx, second, r.ID, true, "Read and discussed.")
	if must(t, err); r.State != governance.InForce || r.Since == nil || len(r.Decisions) != 2 {
		t.Errorf("%+v", r)
	}
	_, err = w.g.Decide(ctx, person(principal.PlatformSecurity), r.ID, false, "It is too late for that.")
	refused(t, err, "plan-decided")
	s, err := w.g.Standing(ctx, author)
	if must(t, err); s.Plan == nil || s.Plan.ID != r.ID || len(s.Findings) == 0 || len(s.Margins) != 1 || !strings.Contains(s.Weakest, "If node one is lost, 1 critical function is down with nothing to carry it: catalogue.") && !strings.Contains(s.Weakest, "If supplier host") {
		t.Errorf("%+v", s)
	}
	// A restart reads it again from what is sealed.
	rules, err := policy.Builtin()
	must(t, err)
	w.again(rules)
	shown, err := w.g.Show(ctx, author, uuid.Nil)
	if must(t, err); shown.Text != library || shown.Hash != r.Hash {
		t.Errorf("%+v", shown)
	}
}

func TestOneRejectionEndsARevision(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	r := w.submit(person(principal.PlatformOperator), library)
	_, err := w.g.Decide(ctx, person(principal.PlatformSecurity), r.ID, false, "no")
	refused(t, err, "plan-reason")
	r, err = w.g.Decide(ctx, person(principal.PlatformSecurity), r.ID, false, "The catalogue has no fallback.")
	if must(t, err); r.State != governance.Rejected {
		t.Errorf("%+v", r)
	}
	_, err = w.g.Decide(ctx, person(principal.PlatformSecurity), r.ID, true, "")
	refused(t, err, "plan-decided")
	// The same plan may be handed in again.
	if again := w.submit(person(principal.PlatformOperator), library); again.ID == r.ID {
		t.Error("the rejected revision came back")
	}
	_, err = w.g.Decide(ctx, person(principal.PlatformSecurity), uuid.New(), true, "")
	refused(t, err, "plan-unknown")
}

func TestWhatCannotBeAPlanIsRefusedAndKeptNowhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := person(principal.PlatformOperator)
	for code, n := range map[string]governance.NewRevision{
		"plan-size": {Text: "version: 1\n#" + strings.Repeat("x", governance.MaxText), Note: "Large."},
		"plan-note": {Text: library},
	} {
		_, err := w.g.Submit(t.Context(), p, n)
		refused(t, err, code)
	}
	if _, err := w.g.Submit(t.Context(), p, governance.NewRevision{Text: library + "nodse: []\n", Note: "Typo."}); err == nil || !strings.Contains(err.Error(), "nodes") {
		t.Errorf("%v", err)
	}
	if all, err := w.g.List(t.Context(), p); err != nil || len(all) != 0 {
		t.Errorf("%v %v", all, err)
	}
}

func TestAChangeOfNodesSuppliersOrPeopleOpensAReview(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.inForce(library)
	first := w.inForce(strings.Replace(library, "rto: 8h", "rto: 4h", 1))
	s, err := w.g.Standing(ctx, person(principal.PlatformOperator))
	if must(t, err); len(s.Reviews) != 0 {
		t.Errorf("a tighter clock is no change of who or where: %+v", s.Reviews)
	}
	shown, err := w.g.Show(ctx, person(principal.PlatformOperator), first.ID)
	if must(t, err); len(shown.Changes) != 1 {
		t.Errorf("%+v", shown.Changes)
	}
	w.inForce(strings.Replace(library, "  - {name: ben}\n", "  - {name: ben}\n  - {name: eve}\n", 1))
	s, err = w.g.Standing(ctx, person(principal.PlatformOperator))
	if must(t, err); len(s.Reviews) != 1 || s.Reviews[0].Closed != nil || !s.Reviews[0].Due.Equal(w.clock().Add(30*24*time.Hour)) || !strings.Contains(strings.Join(s.Reviews[0].Because, " "), "eve") {
		t.Fatalf("%+v", s.Reviews)
	}
	_, err = w.g.CloseReview(ctx, person(principal.PlatformSecurity), s.Reviews[0].ID, "fine")
	refused(t, err, "plan-finding")
	done, err := w.g.CloseReview(ctx, person(principal.PlatformSecurity), s.Reviews[0].ID, "The new person is named as a deputy nowhere; that is right.")
	if must(t, err); done.Closed == nil {
		t.Errorf("%+v", done)
	}
	_, err = w.g.CloseReview(ctx, person(principal.PlatformSecurity), s.Reviews[0].ID, "The new person is named as a deputy nowhere; that is right.")
	refused(t, err, "plan-review-closed")
}

func TestReadingIsAcknowledgedByHash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, reader := t.Context(), person(principal.PlatformOperator)
	_, err := w.g.Acknowledge(ctx, reader, strings.Repeat("0", 64))
	refused(t, err, "plan-none")
	old := w.inForce(library)
	for range 2 {
		_, err = w.g.Acknowledge(ctx, reader, old.Hash)
		must(t, err)
	}
	shown, err := w.g.Show(ctx, reader, old.ID)
	if must(t, err); len(shown.Read) != 1 || shown.Read[0].By != reader.String() {
		t.Errorf("%+v", shown.Read)
	}
	w.inForce(strings.Replace(library, "rto: 8h", "rto: 4h", 1))
	_, err = w.g.Acknowledge(ctx, reader, old.Hash)
	refused(t, err, "plan-hash")
	shown, err = w.g.Show(ctx, reader, uuid.Nil)
	if must(t, err); len(shown.Read) != 0 {
		t.Errorf("who read the old plan has not read this one: %+v", shown.Read)
	}
}

func TestTheRegisterIsConfirmedAndReminds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, p := t.Context(), person(principal.PlatformOperator)
	w.inForce(library)
	state := func() string {
		all, err := w.g.Register(ctx, p)
		must(t, err)
		var out []string
		for _, d := range all {
			out = append(out, d.Key+": "+d.State)
		}
		return strings.Join(out, ", ")
	}
	if got := state(); got != "check-in person anna: undated, contract person zoe: current, duty exercise: current" {
		t.Errorf("%s", got)
	}
	_, err := w.g.Confirm(ctx, p, governance.NewConfirmation{Entry: "duty exercize"})
	refused(t, err, "plan-entry")
	_, err = w.g.Confirm(ctx, p, governance.NewConfirmation{Entry: "contract person zoe"})
	refused(t, err, "plan-entry-dated")
	_, err = w.g.Confirm(ctx, p, governance.NewConfirmation{Entry: "check-in person anna", Done: w.now.Add(time.Hour)})
	refused(t, err, "plan-confirmation")
	d, err := w.g.Confirm(ctx, p, governance.NewConfirmation{Entry: "check-in person anna", Note: "On the phone."})
	if must(t, err); d.State != governance.Current || !d.Due.Equal(w.now.Add(24*time.Hour)) || d.By != p.String() {
		t.Errorf("%+v", d)
	}
	look := func(after time.Duration) string {
		w.mu.Lock()
		w.now, w.alarms = w.now.Add(after), nil
		w.mu.Unlock()
		must(t, w.g.Look(ctx))
		must(t, w.g.Look(ctx)) // a second look says nothing again
		w.mu.Lock()
		defer w.mu.Unlock()
		out := slices.DeleteFunc(slices.Clone(w.alarms), func(s string) bool { return strings.HasPrefix(s, "plan.margin") })
		return strings.Join(out, "\n")
	}
	if got := look(time.Hour); got != "" {
		t.Errorf("too early: %s", got)
	}
	if got := look(22 * time.Hour); !strings.HasPrefix(got, "plan.register.check-in-person-anna-") || strings.Contains(got, "call=") {
		t.Errorf("soon: %s", got)
	}
	if got := look(2 * time.Hour); !strings.Contains(got, "call=ben ") || !strings.Contains(got, "critical=true") {
		t.Errorf("the deputy is called: %s", got)
	}
	if got := look(7 * 24 * time.Hour); !strings.Contains(got, "call=zoe ") {
		t.Errorf("the contractor is called: %s", got)
	}
	if got := state(); !strings.HasPrefix(got, "check-in person anna: lapsed") {
		t.Errorf("%s", got)
	}
}

func TestAShrinkingMarginAlarmsBeforeItIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.inForce(library)
	behind := func(lag time.Duration) string {
		w.mu.Lock()
		w.alarms, w.measured = nil, plan.Measured{LogLag: map[string]time.Duration{"nightly": lag}}
		w.mu.Unlock()
		must(t, w.g.Look(t.Context()))
		out := slices.DeleteFunc(slices.Clone(w.alarms), func(s string) bool { return !strings.HasPrefix(s, "plan.margin") })
		return strings.Join(out, "\n")
	}
	for _, c := range []struct {
		lag  time.Duration
		want string
	}{
		{30 * time.Minute, ""},
		{50 * time.Minute, "10m are left. critical=false"},
		{51 * time.Minute, ""}, // said already
		{43 * time.Minute, ""}, // a little better is not well
		{50 * time.Minute, ""},
		{2 * time.Hour, "the loss of data would be 2h; its recovery point objective is 1h. critical=true"},
		{5 * time.Minute, ""},
		{50 * time.Minute, "critical=false"}, // it was well between
	} {
		if got := behind(c.lag); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%v behind: %q, want %q", c.lag, got, c.want)
		}
	}
}

func TestWhoMayDoWhatWithThePlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	r := w.submit(person(principal.PlatformOperator), library)
	outside := principal.Principal{Kind: principal.Person, ID: uuid.NewString(), Organisation: uuid.New(), Roles: principal.RolesOf(principal.Administrator), SecondFactor: time.Now()}
	stale := person(principal.PlatformSecurity)
	stale.SecondFactor = time.Now().Add(-time.Hour)
	acts := map[string]func(p principal.Principal) error{
		"submit": func(p principal.Principal) error {
			_, err := w.g.Submit(ctx, p, governance.NewRevision{Text: library, Note: "Mine."})
			return err
		},
		"decide":      func(p principal.Principal) error { _, err := w.g.Decide(ctx, p, r.ID, true, ""); return err },
		"acknowledge": func(p principal.Principal) error { _, err := w.g.Acknowledge(ctx, p, r.Hash); return err },
		"confirm": func(p principal.Principal) error {
			_, err := w.g.Confirm(ctx, p, governance.NewConfirmation{Entry: "x"})
			return err
		},
		"review": func(p principal.Principal) error {
			_, err := w.g.CloseReview(ctx, p, r.ID, "It was looked at.")
			return err
		},
		"read":     func(p principal.Principal) error { _, err := w.g.Standing(ctx, p); return err },
		"list":     func(p principal.Principal) error { _, err := w.g.List(ctx, p); return err },
		"show":     func(p principal.Principal) error { _, err := w.g.Show(ctx, p, r.ID); return err },
		"register": func(p principal.Principal) error { _, err := w.g.Register(ctx, p); return err },
		"whatif":   func(p principal.Principal) error { _, _, _, err := w.g.Whatif(ctx, p, "one"); return err },
	}
	for name, act := range acts {
		var p *problem.Error
		if err := act(outside); !errors.As(err, &p) || p.Kind != problem.Denied {
			t.Errorf("%s by somebody outside: %v", name, err)
		}
		if name == "submit" || name == "decide" || name == "review" {
			if err := act(stale); !errors.As(err, &p) || p.Kind != problem.Denied {
				t.Errorf("%s with a second factor of an hour ago: %v", name, err)
			}
		}
	}
	_, err := w.g.Decide(ctx, principal.Node("plan"), r.ID, true, "")
	var p *problem.Error
	if !errors.As(err, &p) || p.Kind != problem.Denied {
		t.Errorf("the node approves by itself: %v", err)
	}
}

func TestNothingOfThePlanLiesReadableInTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.inForce(library)
	var found int
	must(t, w.d.Read(t.Context(), func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), `SELECT count(*) FROM plan_revisions WHERE position('catalogue'::bytea in sealed) > 0 OR to_jsonb(plan_revisions)::text LIKE '%catalogue%'`).Scan(&found)
	}))
	if found != 0 {
		t.Error("the plan is in plain text")
	}
	if n, err := w.vault.OpenAll(t.Context()); err != nil || n != 1 {
		t.Errorf("a rotation would not find it: %d %v", n, err)
	}
}

func TestAReminderThatNobodyHeardIsGivenAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// A name that is no part of an alarm's code as it stands.
	w.inForce(strings.Replace(library, "last: 2026-01-10}]", "last: 2026-01-10}, {name: \"Übung für alle: Büro, Keller/Dach und der ganze Rest des Hauses\", kind: exercise, every: yearly, last: 2025-01-10}]", 1))
	w.mu.Lock()
	w.deaf = true
	w.mu.Unlock()
	if err := w.g.Look(t.Context()); err == nil {
		t.Error("an alarm that failed was no error")
	}
	w.mu.Lock()
	w.deaf = false
	w.mu.Unlock()
	must(t, w.g.Look(t.Context()))
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.alarms, func(s string) bool { return strings.Contains(s, "entry=Übung") })
	if i < 0 {
		t.Fatalf("the reminder was lost: %q", w.alarms)
	}
	code, _, _ := strings.Cut(w.alarms[i], " ")
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`).MatchString(code) {
		t.Errorf("%q is no code of an alarm", code)
	}
}
