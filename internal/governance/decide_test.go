package governance_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/principal"
)

// guild names who approves its plan, with their accounts.
const guild = `
version: 1
organisation: {name: Guild, owner: anna, approvers: [ben, zoe], approvals: 2}
people:
  - {name: anna, account: anna@guild.example}
  - {name: ben, account: ben@guild.example}
  - {name: zoe, account: 11111111-2222-4333-8444-555555555555}
functions: [{name: hall}]
`

// known gives people the accounts by which the plan names them.
func (w *world) known(accounts map[string]principal.Principal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accounts = map[string]string{}
	for account, p := range accounts {
		w.accounts[account] = p.String()
	}
}

func TestThoseWhomThePlanNamesApproveIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	anna, ben, zoe, stranger := person(principal.PlatformOperator), person(principal.PlatformOperator), person(principal.PlatformSecurity), person(principal.PlatformAdministrator)
	r := w.submit(anna, guild)
	_, err := w.g.Decide(ctx, ben, r.ID, true, "")
	refused(t, err, "plan-approver-none") // nobody has an account here yet
	w.known(map[string]principal.Principal{"anna@guild.example": anna, "ben@guild.example": ben, "11111111-2222-4333-8444-555555555555": zoe})
	for _, other := range []principal.Principal{anna, stranger} {
		_, err = w.g.Decide(ctx, other, r.ID, true, "")
		refused(t, err, "plan-approver")
	}
	_, err = w.g.Decide(ctx, stranger, r.ID, false, "I would rather have another plan.")
	refused(t, err, "plan-approver")
	r, err = w.g.Decide(ctx, ben, r.ID, true, "")
	if must(t, err); r.State != governance.Waiting || r.Decisions[0].As != "ben" {
		t.Errorf("%+v", r)
	}
	_, err = w.g.Decide(ctx, ben, r.ID, true, "")
	refused(t, err, "plan-voice")
	r, err = w.g.Decide(ctx, zoe, r.ID, true, "")
	if must(t, err); r.State != governance.InForce || r.Decisions[1].As != "zoe" {
		t.Errorf("%+v", r)
	}
}

func TestAPlanCannotChooseItsOwnJudges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	anna, ben, zoe := person(principal.PlatformOperator), person(principal.PlatformOperator), person(principal.PlatformSecurity)
	known := map[string]principal.Principal{"anna@guild.example": anna, "ben@guild.example": ben, "11111111-2222-4333-8444-555555555555": zoe}
	w.known(known)
	first := w.submit(anna, guild)
	for _, p := range []principal.Principal{ben, zoe} {
		_, err := w.g.Decide(ctx, p, first.ID, true, "")
		must(t, err)
	}
	coup := w.submit(anna, strings.Replace(guild, "approvers: [ben, zoe], approvals: 2", "approvers: [anna], approvals: 1", 1))
	if coup.Needs != 2 {
		t.Errorf("a plan lowers what its own approval needs: %d", coup.Needs)
	}
	_, err := w.g.Decide(ctx, anna, coup.ID, true, "")
	refused(t, err, "plan-approver")
	taken, err := w.g.Decide(ctx, anna, coup.ID, false, "Handed in by mistake.")
	if must(t, err); taken.State != governance.Rejected {
		t.Errorf("whoever handed it in takes it back: %+v", taken)
	}
	// When all approvers have left, those of the successor decide on it.
	w.known(map[string]principal.Principal{"anna@guild.example": anna, "new@guild.example": zoe, "other@guild.example": ben})
	later := strings.NewReplacer("ben@guild.example", "new@guild.example", "11111111-2222-4333-8444-555555555555", "other@guild.example").Replace(guild)
	r := w.submit(anna, later)
	for _, p := range []principal.Principal{ben, zoe} {
		r, err = w.g.Decide(ctx, p, r.ID, true, "")
		must(t, err)
	}
	if r.State != governance.InForce {
		t.Errorf("%+v", r)
	}
}

func TestAnAddressAndAnIdOfOneAccountAreOneVoice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ben := person(principal.PlatformOperator)
	w.known(map[string]principal.Principal{"ben@guild.example": ben, "11111111-2222-4333-8444-555555555555": ben})
	r := w.submit(ben, guild)
	r, err := w.g.Decide(t.Context(), ben, r.ID, true, "")
	if must(t, err); r.State != governance.Waiting {
		t.Errorf("%+v", r)
	}
	_, err = w.g.Decide(t.Context(), ben, r.ID, true, "")
	refused(t, err, "plan-voice")
}

// together holds the lock that decisions wait for, until as many of them wait
// as are started, and then lets go: each has read what was in force before the
// others decided.
func (w *world) together(acts ...func() error) []error {
	w.t.Helper()
	conn := dbtest.Superuser(w.t, w.config)
	ctx := w.t.Context()
	tx, err := conn.Begin(ctx)
	must(w.t, err)
	_, err = tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('foundry plan', 0))`)
	must(w.t, err)
	out := make([]error, len(acts))
	var running sync.WaitGroup
	deadline := time.Now().Add(2 * time.Minute)
	for i, act := range acts { // they get the lock in the order in which they wait for it
		running.Go(func() { out[i] = act() })
		for waiting := 0; waiting <= i; {
			if time.Now().After(deadline) {
				w.t.Fatalf("%d of %d decisions wait", waiting, len(acts))
			}
			must(w.t, tx.QueryRow(ctx, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&waiting))
		}
	}
	must(w.t, tx.Commit(ctx))
	running.Wait()
	return out
}

func TestTwoPlansApprovedAtOnceAreComparedWithEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := context.WithoutCancel(t.Context())
	plain := strings.Replace(library, "approvals: 2", "approvals: 1", 1)
	w.inForce(plain)
	// One brings somebody in, and the other, which comes second, takes her away.
	more := w.submit(person(principal.PlatformOperator), strings.Replace(plain, "  - {name: ben}\n", "  - {name: ben}\n  - {name: eve}\n", 1))
	faster := w.submit(person(principal.PlatformOperator), strings.Replace(plain, "rto: 8h", "rto: 4h", 1))
	var acts []func() error
	for _, r := range []governance.Revision{more, faster} {
		p := person(principal.PlatformSecurity)
		acts = append(acts, func() error { _, err := w.g.Decide(ctx, p, r.ID, true, ""); return err })
	}
	for _, err := range w.together(acts...) {
		must(t, err)
	}
	s, err := w.g.Standing(ctx, person(principal.PlatformOperator))
	must(t, err)
	because := ""
	for _, r := range s.Reviews {
		because += strings.Join(r.Because, " ") + "\n"
	}
	if s.Plan.ID != faster.ID || len(s.Reviews) != 2 || !strings.Contains(because, `"eve" is gone`) {
		t.Errorf("the second was compared with what was in force before the first: %s %s", s.Plan.ID, because)
	}
}

func TestTwoVoicesAtOnceAreTwoAndOneTwiceIsOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := context.WithoutCancel(t.Context())
	r := w.submit(person(principal.PlatformOperator), library)
	same, other := person(principal.PlatformSecurity), person(principal.PlatformAdministrator)
	voice := func(p principal.Principal) func() error {
		return func() error { _, err := w.g.Decide(ctx, p, r.ID, true, ""); return err }
	}
	failed := 0
	for _, err := range w.together(voice(same), voice(same)) {
		if err != nil {
			refused(t, err, "plan-voice")
			failed++
		}
	}
	shown, err := w.g.Show(ctx, same, r.ID)
	if must(t, err); failed != 1 || shown.State != governance.Waiting || len(shown.Decisions) != 1 {
		t.Errorf("%d refused, %+v", failed, shown.Decisions)
	}
	third := person(principal.PlatformOperator)
	failed = 0
	for _, err := range w.together(voice(other), voice(third)) {
		if err != nil {
			refused(t, err, "plan-decided") // the second of two made it the plan
			failed++
		}
	}
	shown, err = w.g.Show(ctx, same, r.ID)
	if must(t, err); failed != 1 || shown.State != governance.InForce || len(shown.Decisions) != 2 {
		t.Errorf("%d refused, %+v", failed, shown)
	}
}
