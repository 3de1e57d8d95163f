package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/principal"
)

var who = principal.Principal{Kind: principal.Local, UID: 0}

func standing(t testing.TB, r *Runner, id string) Status {
	t.Helper()
	r.forget()
	s, err := r.Show(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func run(t testing.TB, r *Runner, ids ...string) {
	t.Helper()
	if err := r.RunNow(t.Context(), who, ids, nil); err != nil {
		t.Fatal(err)
	}
}

// Invariant 11.
func TestAControlIsNeverGreenWithoutFreshEvidence(t *testing.T) {
	d, c := dbtest.New(t), &clock{time.Now()}
	r := runner(t, d, 1, c.Now, check("C-1", saying(good())))
	if s := standing(t, r, "C-1"); s.State != Overdue {
		t.Errorf("before it ran: %s", s.State)
	}
	run(t, r, "c-1")
	s := standing(t, r, "C-1")
	if s.State != Passing || len(s.Evidence) != 1 {
		t.Errorf("after it ran: %+v", s)
	}
	c.now = c.now.Add(3*time.Hour - time.Second)
	if s := standing(t, r, "C-1"); s.State != Passing {
		t.Errorf("within the bound: %s", s.State)
	}
	c.now = c.now.Add(2 * time.Second)
	if s := standing(t, r, "C-1"); s.State != Overdue {
		t.Errorf("past the bound: %s", s.State)
	}
	c.now = c.now.Add(-24 * time.Hour)
	if s := standing(t, r, "C-1"); s.State != Unclear {
		t.Errorf("with evidence from the future: %s", s.State)
	}
}

func TestWhateverGoesWrongIsInconclusiveAndSaysWhy(t *testing.T) {
	d := dbtest.New(t)
	forever := make(chan struct{})
	t.Cleanup(func() { close(forever) })
	silent := good()
	silent.Covered = nil
	cases := map[string]struct {
		collect Collect
		says    string
	}{
		"ERR":   {func(context.Context, func(string)) ([]Finding, error) { return nil, errors.New("the probe broke") }, "the probe broke"},
		"PANIC": {func(context.Context, func(string)) ([]Finding, error) { panic("x") }, "defect"},
		"NONE":  {saying(), "nothing to look at"},
		"BLANK": {saying(Finding{Subject: "s"}), "no result"},
		"BARE":  {saying(silent), "not what it looked at"},
		"HANG":  {func(ctx context.Context, _ func(string)) ([]Finding, error) { <-ctx.Done(); return nil, ctx.Err() }, "did not finish"},
		"DEAF":  {func(context.Context, func(string)) ([]Finding, error) { <-forever; return nil, nil }, "did not finish"},
		"HALF":  {Parts(Part{Name: "a", Collect: saying(good())}, Part{Name: "b", Missing: "b is not built"}), "b is not built"},
	}
	var all []Control
	for id, tc := range cases {
		c := check(id, tc.collect)
		c.Timeout = 200 * time.Millisecond
		all = append(all, c)
	}
	r := runner(t, d, 1, time.Now, all...)
	run(t, r)
	for id, tc := range cases {
		if s := standing(t, r, id); s.State != Unclear || !strings.Contains(s.Reason, tc.says) {
			t.Errorf("%s: %s %q", id, s.State, s.Reason)
		}
	}
	run(t, r, "DEAF")
	if s := standing(t, r, "DEAF"); !strings.Contains(s.Reason, "still hangs") {
		t.Errorf("a second call of a collector that never returned: %q", s.Reason)
	}
}

func TestAFailureStandsUntilANewerRunPassed(t *testing.T) {
	d, c := dbtest.New(t), &clock{time.Now()}
	now := good()
	r := runner(t, d, 1, c.Now, check("C-1", func(context.Context, func(string)) ([]Finding, error) { return []Finding{now}, nil }))
	now = good().fail("It is broken.")
	run(t, r)
	if s := standing(t, r, "C-1"); s.State != Failing || s.Reason != "It is broken." {
		t.Errorf("%+v", s.Standing)
	}
	now = unclear("it", "The probe broke.")
	c.now = c.now.Add(time.Minute)
	run(t, r)
	if s := standing(t, r, "C-1"); s.State != Failing || !strings.Contains(s.Reason, "It is broken.") || !strings.Contains(s.Reason, "The probe broke.") {
		t.Errorf("a broken probe cleared a failure: %+v", s.Standing)
	}
	c.now = c.now.Add(365 * 24 * time.Hour)
	if s := standing(t, r, "C-1"); s.State != Failing {
		t.Errorf("waiting cleared a failure: %+v", s.Standing)
	}
	now = good()
	run(t, r)
	if s := standing(t, r, "C-1"); s.State != Passing {
		t.Errorf("%+v", s.Standing)
	}
}

func TestStandingAsRules(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	draw := func(rt *rapid.T, label string) (out []Observation) {
		for range rapid.IntRange(0, 4).Draw(rt, label) {
			at := now.Add(time.Duration(rapid.IntRange(-300, 30).Draw(rt, "at")) * time.Minute)
			out = append(out, Observation{Result: rapid.SampledFrom([]Result{Pass, Fail, Inconclusive}).Draw(rt, "result"), Reason: "r", Observed: at, Expires: at.Add(2 * time.Hour)})
		}
		return out
	}
	rapid.Check(t, func(rt *rapid.T) {
		latest, decisive := draw(rt, "latest"), draw(rt, "decisive")
		s := Stand(latest, decisive, now)
		green := len(latest) > 0
		for _, o := range latest {
			green = green && o.Result == Pass && now.Before(o.Expires) && !o.Observed.After(now.Add(clockError))
			if o.Result == Fail && !o.Observed.After(now.Add(clockError)) && s.State != Failing {
				rt.Fatalf("a failure is shown as %s", s.State)
			}
		}
		if green != (s.State == Passing) {
			rt.Fatalf("green is %v, and it is shown as %s", green, s.State)
		}
		if s.Reason == "" {
			rt.Fatal("no reason")
		}
	})
}

func TestEvidenceIsSignedAnchoredAndCannotBeChanged(t *testing.T) {
	cfg := dbtest.Config(t)
	d := dbtest.Open(t, cfg)
	r := runner(t, d, 1, time.Now, check("C-1", saying(good())))
	run(t, r)
	o := standing(t, r, "C-1").Evidence[0]
	rows, err := audit.Find(t.Context(), d, audit.Filter{Act: "evidence.observe", Target: o.Run.String()})
	if err != nil || len(rows) != 1 {
		t.Fatalf("%d entries, %v", len(rows), err)
	}
	var details struct {
		Observations []struct{ SHA256 string }
	}
	text, _ := o.Hash.MarshalText()
	if err := json.Unmarshal(rows[0].Details, &details); err != nil || len(details.Observations) != 1 || details.Observations[0].SHA256 != string(text) {
		t.Errorf("the entry does not carry the hash: %s %v", rows[0].Details, err)
	}
	// An administrator of the database turns a failure into a pass.
	su := dbtest.Superuser(t, cfg)
	for column, value := range map[string]string{"result": "'fail'", "reason": "'x'", "expires_at": "now() + interval '1 year'", "covered": "'{}'", "raw": "'\\x00'", "subject": "'other'", "owner": "'x'", "mode": "'production'"} {
		tx, err := su.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "UPDATE observations SET "+column+" = "+value); err != nil {
			t.Fatal(err)
		}
		rows, err := tx.Query(t.Context(), "SELECT "+columns+" FROM observations")
		if err != nil {
			t.Fatal(err)
		}
		forged, err := pgx.CollectExactlyOneRow(rows, scan)
		if err != nil {
			t.Fatal(err)
		}
		if forged.Verify(r.Signer.Public()) == nil {
			t.Errorf("a changed %s was not noticed", column)
		}
		_ = tx.Rollback(t.Context())
	}
	if _, err := su.Exec(t.Context(), "UPDATE observations SET expires_at = now() + interval '1 year'"); err != nil {
		t.Fatal(err)
	}
	if s := standing(t, r, "C-1"); s.State != Failing || !strings.Contains(s.Reason, "not what was signed") {
		t.Errorf("forged evidence counts: %+v", s.Standing)
	}
	if o.Verify(signer(t).Public()) == nil {
		t.Error("another key verifies it")
	}
}

func TestTheStatementTellsTwoObservationsApart(t *testing.T) {
	a := Observation{Covered: []string{"ab", "c"}, NotCovered: []string{}}
	for _, b := range []Observation{{Covered: []string{"a", "bc"}}, {Covered: []string{"ab"}, NotCovered: []string{"c"}}, {Covered: []string{"abc"}}, {Covered: []string{"ab", "c"}, Subject: "x"}} {
		if string(a.Statement()) == string(b.Statement()) {
			t.Errorf("%+v", b)
		}
	}
}

func TestTheSigningKeyLastsAndLiesSealed(t *testing.T) {
	dir := t.TempDir()
	mask := func(b, _ []byte) ([]byte, error) {
		out := append([]byte(nil), b...)
		for i := range out {
			out[i] ^= 0x5a
		}
		return out, nil
	}
	a, err := OpenSigner(dir, mask, mask)
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenSigner(dir, mask, mask)
	if err != nil || a.ID() != b.ID() {
		t.Errorf("a second start made another key: %v", err)
	}
	if c, err := OpenSigner(dir, mask, unsealed); err == nil && c.ID() == a.ID() {
		t.Error("the key opens without the keyring")
	}
}

func TestOneRunnerRunsAControlAcrossNodes(t *testing.T) {
	d := dbtest.New(t)
	var running, most, runs atomic.Int32
	release := make(chan struct{})
	collect := func(ctx context.Context, _ func(string)) ([]Finding, error) {
		runs.Add(1)
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-release
		running.Add(-1)
		return []Finding{good()}, nil
	}
	var all []*Runner
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{}, 3)
	for node := range uint32(3) {
		c := check("C-1", collect)
		c.Timeout = time.Minute
		r := runner(t, d, node+1, time.Now, c)
		all = append(all, r)
		go func() { _ = r.Run(ctx); done <- struct{}{} }()
	}
	wait(t, func() bool { return running.Load() == 1 })
	if err := all[1].RunNow(ctx, who, []string{"C-1"}, nil); !errors.Is(err, errBusy) {
		t.Errorf("a second run beside the first: %v", err)
	}
	close(release)
	wait(t, func() bool { return standing(t, all[2], "C-1").State == Passing })
	cancel()
	for range all {
		<-done
	}
	if runs.Load() != 1 || most.Load() != 1 {
		t.Errorf("%d runs, %d at once", runs.Load(), most.Load())
	}
}

func TestAControlOfADeadNodeIsTakenOver(t *testing.T) {
	d := dbtest.New(t)
	c := check("C-1", saying(good()))
	a, b := runner(t, d, 1, time.Now, c), runner(t, d, 2, time.Now, c)
	lease := uuid.New()
	if ok, err := claim(t.Context(), d, &a.Controls[0], "", 1, lease, false); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if err := b.RunNow(t.Context(), who, []string{"C-1"}, nil); !errors.Is(err, errBusy) {
		t.Errorf("while the first lives: %v", err)
	}
	// Node 1 is killed: its lease runs out.
	if err := d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE control_runs SET leased_until = now() - interval '1 second', next_due = now() - interval '1 second'`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	run(t, b, "C-1")
	// It comes back from the dead with an old result.
	err := finish(t.Context(), d, &a.Controls[0], "", lease, time.Hour, who, a.observations(&a.Controls[0], "", time.Now(), []Finding{good().fail("old news")}))
	if !errors.Is(err, errLeaseLost) {
		t.Errorf("a result without a lease was stored: %v", err)
	}
	if s := standing(t, b, "C-1"); s.State != Passing {
		t.Errorf("%+v", s.Standing)
	}
}

func TestEveryNodeAnswersForItselfUntilItIsRetired(t *testing.T) {
	d, c := dbtest.New(t), &clock{time.Now()}
	mine := check("C-1", saying(good()))
	mine.PerNode = true
	broken := mine
	broken.Collect = saying(good().fail("Broken here."))
	a, b := runner(t, d, 1, c.Now, mine), runner(t, d, 2, c.Now, broken)
	run(t, a)
	run(t, b)
	s := standing(t, a, "C-1")
	if s.State != Failing || s.Scope != "node:2" || len(s.Scopes) != 2 {
		t.Errorf("%+v", s)
	}
	if err := d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error { return Retire(t.Context(), tx, "node:2") }); err != nil {
		t.Fatal(err)
	}
	if s := standing(t, a, "C-1"); s.State != Passing {
		t.Errorf("after retiring: %+v", s.Standing)
	}
	run(t, b)
	if s := standing(t, a, "C-1"); s.State != Failing {
		t.Errorf("after it came back: %+v", s.Standing)
	}
}

func TestAnAttestationNeedsAnOwnerAndEnds(t *testing.T) {
	d, c := dbtest.New(t), &clock{time.Now()}
	r := runner(t, d, 1, c.Now, Control{ID: "A-1", Fresh: 30 * 24 * time.Hour}, check("C-1", saying(good())))
	attest := func(a Attestation) error {
		return d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error { _, err := r.Attest(t.Context(), tx, who, a); return err })
	}
	if s := standing(t, r, "A-1"); s.State != Overdue || s.Kind != attestation {
		t.Errorf("%+v", s)
	}
	for name, a := range map[string]Attestation{
		"no owner":      {Control: "A-1", Statement: "It is so."},
		"a name":        {Control: "A-1", Owner: "Grace Hopper", Statement: "It is so."},
		"an address":    {Control: "A-1", Owner: "grace@example.org", Statement: "It is so."},
		"no statement":  {Control: "A-1", Owner: "platform-security"},
		"for ever":      {Control: "A-1", Owner: "platform-security", Statement: "It is so.", Expires: c.now.AddDate(10, 0, 0)},
		"already over":  {Control: "A-1", Owner: "platform-security", Statement: "It is so.", Expires: c.now.Add(-time.Hour)},
		"for a machine": {Control: "C-1", Owner: "platform-security", Statement: "It is so."},
		"for nothing":   {Control: "X-1", Owner: "platform-security", Statement: "It is so."},
	} {
		if err := attest(a); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := attest(Attestation{Control: "A-1", Owner: "platform-security", Statement: "It is so."}); err != nil {
		t.Fatal(err)
	}
	if s := standing(t, r, "A-1"); s.State != Passing || s.Evidence[0].Owner != "platform-security" {
		t.Errorf("%+v", s)
	}
	c.now = c.now.Add(31 * 24 * time.Hour)
	if s := standing(t, r, "A-1"); s.State != Overdue {
		t.Errorf("%+v", s)
	}
	if err := r.RunNow(t.Context(), who, []string{"A-1"}, nil); err == nil {
		t.Error("a machine ran what it cannot check")
	}
}

func TestOldFactsAreAsOldAsTheyAre(t *testing.T) {
	d := dbtest.New(t)
	f := good()
	f.Effective = time.Now().Add(-4 * time.Hour)
	r := runner(t, d, 1, time.Now, check("C-1", saying(f)))
	run(t, r)
	if s := standing(t, r, "C-1"); s.State != Overdue {
		t.Errorf("what was so four hours ago counts as fresh: %+v", s.Standing)
	}
}

func TestAFloodOfFindingsKeepsTheFailure(t *testing.T) {
	d := dbtest.New(t)
	var many []Finding
	for range 500 {
		many = append(many, good())
	}
	many = append(many, good().fail("The last of many."))
	r := runner(t, d, 1, time.Now, check("C-1", saying(many...)))
	run(t, r)
	if s := standing(t, r, "C-1"); s.State != Failing || len(s.Evidence) > maxFindings {
		t.Errorf("%s with %d observations", s.State, len(s.Evidence))
	}
}

func TestLargeRawBytesAreKeptAsAHash(t *testing.T) {
	d := dbtest.New(t)
	f := good()
	f.Raw = make([]byte, MaxRaw+1)
	r := runner(t, d, 1, time.Now, check("C-1", saying(f)))
	run(t, r)
	o := standing(t, r, "C-1").Evidence[0]
	if o.Raw != nil || string(o.RawHash) != string(rawHash(f.Raw)) || o.Verify(r.Signer.Public()) != nil {
		t.Errorf("%d raw bytes", len(o.Raw))
	}
}

func TestTheGaugesSayWhatTheBoardSays(t *testing.T) {
	d := dbtest.New(t)
	r := runner(t, d, 1, time.Now, check("C-1", saying(good())), check("C-2", saying(good())))
	run(t, r, "C-1")
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(r)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "foundry_control_state" && m.GetGauge().GetValue() == 1 {
				got[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = true
			}
		}
	}
	if !got["C-1 pass"] || !got["C-2 overdue"] || len(got) != 2 {
		t.Errorf("%v", got)
	}
}

func TestOneOrganisationSeesNoEvidenceOfAnotherOrOfThePlatform(t *testing.T) {
	d := dbtest.New(t)
	r := runner(t, d, 1, time.Now, check("C-1", saying(good())))
	run(t, r)
	err := d.Org(t.Context(), uuid.New(), func(tx pgx.Tx) error {
		var n int
		if err := tx.QueryRow(t.Context(), "SELECT count(*) FROM observations").Scan(&n); err != nil || n != 0 {
			t.Errorf("%d rows, %v", n, err)
		}
		o := r.observations(&r.Controls[0], "", time.Now(), []Finding{good()})
		if insert(t.Context(), tx, who, o) == nil {
			t.Error("evidence of the platform was written from inside an organisation")
		}
		return nil
	})
	if err == nil {
		t.Error("the transaction of the attack committed")
	}
	for _, statement := range []string{"UPDATE observations SET result = 'pass'", "DELETE FROM observations", "UPDATE evidence_signers SET node = 9", "DELETE FROM control_runs"} {
		if err := d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error { _, err := tx.Exec(t.Context(), statement); return err }); err == nil {
			t.Errorf("the application may %s", statement)
		}
	}
	if err := db.CheckRoles(t.Context(), d); err != nil {
		t.Error(err)
	}
}

func TestACatalogueThatCouldNeverBeGreenIsRefused(t *testing.T) {
	bad := check("C-1", saying(good()))
	bad.Fresh = bad.Every
	for _, list := range [][]Control{{bad}, {{ID: "A"}}, {check("", saying())}, {check("A", saying()), check("A", saying())}} {
		if _, err := NewRunner(Options{Controls: list}); err == nil {
			t.Errorf("%+v", list)
		}
	}
	if _, err := NewRunner(Options{Controls: Catalogue(Wiring{Listeners: func() []Listener { return nil }, Plain: func() (string, string) { return "", "" }})}); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNotBuiltInIsInconclusive(t *testing.T) {
	for _, c := range Catalogue(Wiring{Listeners: func() []Listener { return nil }, Plain: func() (string, string) { return nobody(t), "" }, Now: time.Now}) {
		if c.Attested() {
			continue
		}
		if got, found := look(t, c.Collect); got != Inconclusive {
			t.Errorf("%s: %s %+v", c.ID, got, found)
		}
	}
}

func wait(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen")
		}
	}
}
