package keys

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
)

func person(id string) principal.Principal {
	return principal.Principal{Kind: principal.Person, ID: id}
}

const reason17 = "contract 17 ended"

// requested asks for an organisation with one note to be shredded.
func (w *world) requested() (uuid.UUID, *Shred) {
	w.t.Helper()
	org := uuid.New()
	w.note(w.vault, org, "ward", "1", "text")
	s, err := w.vault.RequestShred(context.Background(), person("anna"), org, reason17)
	if err != nil {
		w.t.Fatal(err)
	}
	return org, s
}

func (w *world) approved() (uuid.UUID, *Shred) {
	w.t.Helper()
	org, s := w.requested()
	var err error
	for _, who := range []string{"ben", "carla"} {
		if s, err = w.vault.ApproveShred(context.Background(), person(who), s.ID); err != nil {
			w.t.Fatal(err)
		}
	}
	return org, s
}

// elapse ends the undo window.
func (w *world) elapse() {
	w.t.Helper()
	if _, err := w.db.Pool(db.Migrator).Exec(context.Background(), `UPDATE keyset_shreds SET execute_after = now() - interval '1 s' WHERE state = 'approved'`); err != nil {
		w.t.Fatal(err)
	}
}

func TestShreddingTakesThreePeopleAndAWindow(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	org, s := w.requested()
	if s.State != ShredRequested {
		t.Fatalf("%+v", s)
	}
	_, err := w.vault.ApproveShred(ctx, person("anna"), s.ID)
	wantCode(t, err, "shred-own-request")
	if s, err = w.vault.ApproveShred(ctx, person("ben"), s.ID); err != nil || s.State != ShredRequested {
		t.Fatalf("one approval is enough: %+v, %v", s, err)
	}
	_, err = w.vault.ApproveShred(ctx, person("ben"), s.ID)
	wantCode(t, err, "shred-approved-twice")
	_, err = w.vault.ApproveShred(ctx, person("anna"), s.ID)
	wantCode(t, err, "shred-own-request")
	if s, err = w.vault.ApproveShred(ctx, person("carla"), s.ID); err != nil || s.State != ShredApproved {
		t.Fatalf("%+v, %v", s, err)
	}
	if left := time.Until(*s.ExecuteAfter); left < 71*time.Hour || left > 73*time.Hour {
		t.Errorf("the window is %s", left)
	}
	if err := w.vault.ShredDue(ctx); err != nil {
		t.Fatal(err)
	}
	w.reads(w.newVault(nil), org, "ward", "1", "text") // the window is still open
	w.elapse()
	w.reads(w.vault, org, "ward", "1", "text") // the cache is warm
	if err := w.vault.ShredDue(ctx); err != nil {
		t.Fatal(err)
	}
	for _, v := range []*Vault{w.vault, w.newVault(nil)} {
		_, err = w.read(v, org, "ward", "1")
		wantCode(t, err, "keyset-destroyed")
		_, err = v.Seal(ctx, org, noteAt("ward", "2"), []byte("x"))
		wantCode(t, err, "keyset-destroyed") // never made anew
	}
	if s, err = w.vault.FindShred(ctx, s.ID); err != nil || s.State != ShredExecuted || s.Statement == nil {
		t.Fatalf("%+v, %v", s, err)
	}
	st := s.Statement
	if len(st.Keys) != 1 || st.Values["notes.body"] != 1 || st.GoneFrom.Before(time.Now().AddDate(0, 0, 29)) || len(st.Left) == 0 {
		t.Errorf("%+v", st)
	}
	for act, n := range map[string]int{"keys.shred.request": 1, "keys.shred.approve": 2, "keys.shred.execute": 1, "denied keys.shred.approve": 3} {
		if got := w.audit.count(act); got != n {
			t.Errorf("%d entries of %q, want %d", got, act, n)
		}
	}
	var left int
	if err := w.db.Org(ctx, org, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM keysets WHERE wrapped IS NOT NULL`).Scan(&left)
	}); err != nil || left != 0 {
		t.Errorf("%d wrapped keysets left, %v", left, err)
	}
}

// The database itself refuses what a wrong program would write.
func TestTheDatabaseWantsThreeNamesToo(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	org, s := w.requested()
	for name, set := range map[string]string{
		"approved by nobody":         `state = 'approved', execute_after = now()`,
		"approved by one":            `first_approver = 'person:ben', state = 'approved', execute_after = now()`,
		"approved twice by the same": `first_approver = 'person:ben', second_approver = 'person:ben'`,
		"approved by who asked":      `first_approver = 'person:anna'`,
		"executed without approval":  `state = 'executed'`,
	} {
		err := w.db.Org(ctx, org, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE keyset_shreds SET `+set+` WHERE id = $1`, s.ID)
			return err
		})
		if err == nil {
			t.Errorf("%s: it was stored", name)
		}
	}
}

func TestShreddingCanBeCancelledWhileTheWindowIsOpen(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	org, s := w.approved()
	s, err := w.vault.CancelShred(ctx, person("dora"), s.ID)
	if err != nil || s.State != ShredCancelled || s.EndedBy != "person:dora" {
		t.Fatalf("%+v, %v", s, err)
	}
	w.elapse()
	if err := w.vault.ShredDue(ctx); err != nil {
		t.Fatal(err)
	}
	w.reads(w.newVault(nil), org, "ward", "1", "text")
	_, err = w.vault.ApproveShred(ctx, person("ben"), s.ID)
	wantCode(t, err, "shred-state")
	if _, err := w.vault.RequestShred(ctx, person("anna"), org, reason17); err != nil {
		t.Errorf("asked again: %v", err)
	}
	_, err = w.vault.RequestShred(ctx, person("anna"), org, reason17)
	wantCode(t, err, "shred-open")
}

func TestALegalHoldForbidsShreddingAtEveryStep(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	hold := func(org uuid.UUID, reason string) {
		t.Helper()
		if err := w.vault.Hold(ctx, person("lena"), org, reason); err != nil {
			t.Fatal(err)
		}
	}
	org := uuid.New()
	w.note(w.vault, org, "ward", "1", "text")
	hold(org, "court order 17/26")
	_, err := w.vault.RequestShred(ctx, person("anna"), org, reason17)
	wantCode(t, err, "legal-hold")

	org, s := w.requested()
	hold(org, "court order 17/26")
	_, err = w.vault.ApproveShred(ctx, person("ben"), s.ID)
	wantCode(t, err, "legal-hold")

	org, _ = w.approved()
	hold(org, "court order 17/26")
	w.elapse()
	if err := w.vault.ShredDue(ctx); err != nil {
		t.Fatal(err)
	}
	w.reads(w.newVault(nil), org, "ward", "1", "text")
	hold(org, "")
	if err := w.vault.ShredDue(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = w.read(w.newVault(nil), org, "ward", "1")
	wantCode(t, err, "keyset-destroyed")
	if n := w.audit.count("keys.hold"); n != 3 || w.audit.count("keys.release") != 1 {
		t.Errorf("%d holds, %d releases audited", n, w.audit.count("keys.release"))
	}
	// A hold that comes between the search and the destruction is seen too.
	org, s = w.approved()
	w.elapse()
	hold(org, "court order 17/26")
	wantCode(t, w.vault.executeShred(ctx, *s), "legal-hold")
	w.reads(w.newVault(nil), org, "ward", "1", "text")
}

func TestBadRequestsToShredAreRefused(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	_, err := w.vault.RequestShred(ctx, person("anna"), uuid.Nil, reason17)
	wantCode(t, err, "shred-installation")
	_, err = w.vault.RequestShred(ctx, person("anna"), uuid.New(), reason17)
	wantCode(t, err, "keyset-unknown")
	_, err = w.vault.RequestShred(ctx, person("anna"), uuid.New(), "why")
	wantCode(t, err, "shred-reason")
	_, err = w.vault.ApproveShred(ctx, person("anna"), uuid.New())
	wantCode(t, err, "shred-unknown")
}

// Killed at any step, the keys are whole or gone, and the next sweep goes on.
func TestAShreddingThatIsKilledIsWholeOrDone(t *testing.T) {
	for step, gone := range map[string]bool{"shred:before": false, "shred:destroyed": false, "shred:committed": true} {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			org, s := w.approved()
			w.elapse()
			w.killAt("shred", step, org)
			v := w.newVault(nil)
			after, err := v.FindShred(t.Context(), s.ID)
			if err != nil {
				t.Fatal(err)
			}
			if (after.State == ShredExecuted) != gone || (after.Statement != nil) != gone {
				t.Errorf("the request is %s", after.State)
			}
			if !gone {
				w.reads(v, org, "ward", "1", "text")
				if err := v.ShredDue(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			_, err = w.read(v, org, "ward", "1")
			wantCode(t, err, "keyset-destroyed")
		})
	}
}

// Two nodes whose sweeps meet destroy once, with one entry in the audit log.
func TestTwoNodesShredOnce(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.approved()
	w.elapse()
	c := make(chan error, 2)
	for range 2 {
		v := w.newVault(nil)
		go func() { c <- v.ShredDue(ctx) }()
	}
	for range 2 {
		if err := <-c; err != nil {
			t.Error(err)
		}
	}
	var n int
	if err := w.db.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM audit WHERE act = 'keys.shred.execute'`).Scan(&n)
	}); err != nil || n != 1 {
		t.Errorf("%d entries, %v", n, err)
	}
}
