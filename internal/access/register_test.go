package access

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// office is a house with a register of access.
type office struct {
	*house
	r   *Register
	use map[string]time.Time
}

func newOffice(t testing.TB) *office {
	t.Helper()
	o := &office{house: newHouse(t), use: map[string]time.Time{}}
	logins := []string{"foundry_bootstrap", string(db.Countersigner)}
	for _, role := range db.Roles {
		logins = append(logins, string(role))
	}
	sign := func(m []byte) []byte { h := hmac.New(sha256.New, []byte("secret")); h.Write(m); return h.Sum(nil) }
	o.r = NewRegister(RegisterOptions{DB: o.d, Guard: o.Guard, Grants: o.Grants, Logins: logins,
		KeyUse: func(context.Context) (map[string]time.Time, error) { return o.use, nil },
		Sign:   func(m []byte) (string, []byte, error) { return "test", sign(m), nil },
		Verify: func(signer string, m, s []byte) error {
			if signer != "test" || !hmac.Equal(sign(m), s) {
				return errors.New("another key signed it")
			}
			return nil
		}})
	// The people of the house were made by hand: here, by acts.
	for _, p := range []principal.Principal{o.ops, o.security, o.chief, o.admin, o.approver, o.outsider} {
		o.act(p.Organisation, "person.invite", p.ID)
	}
	if f := o.compare().Findings; len(f) != 0 {
		t.Fatalf("a house in order has findings: %+v", f)
	}
	return o
}

// act enters an act into the audit log, as the methods that change access do.
func (o *office) act(org uuid.UUID, act, target string) {
	o.t.Helper()
	if err := o.d.Org(ctx, org, func(tx pgx.Tx) error { return audit.Append(ctx, tx, principal.Node("test"), org, act, target, nil) }); err != nil {
		o.t.Fatal(err)
	}
}

// later makes an hour pass: what happened before is no news any more.
func (o *office) later() {
	o.t.Helper()
	o.exec(`UPDATE audit SET id = overlay(id::text placing '00' from 1 for 2)::uuid, at = at - interval '1 hour'`)
}

func (o *office) compare() RegisterReport {
	o.t.Helper()
	r, err := o.r.Compare(ctx, principal.Node("register"))
	if err != nil {
		o.t.Fatal(err)
	}
	return r
}

func (o *office) key() string {
	o.t.Helper()
	id := strings.ReplaceAll(uuid.NewString(), "-", "")[:10]
	o.exec(`INSERT INTO api_keys (id, organisation_id, name, secret_hash) VALUES ($1, $2, $1, '$2a$10$abc')`, id, o.a.ID)
	return id
}

func found(r RegisterReport, code, kind, id string) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool {
		return f.Code == code && f.Kind == kind && f.ID == id && f.Detail != "" && f.Mend != ""
	})
}

func TestTheRegisterSaysWhoHasWhatAndWhy(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	key := o.key()
	o.act(o.a.ID, "key.create", key)
	used := time.Now().Add(-time.Hour)
	o.use[key] = used
	g := o.active()
	r, err := o.r.List(ctx, o.security, uuid.Nil)
	if err != nil || len(r.Findings) != 0 {
		t.Fatalf("%+v %v", r.Findings, err)
	}
	find := func(kind, id string) *Access {
		for i := range r.Entries {
			if r.Entries[i].Kind == kind && r.Entries[i].ID == id {
				return &r.Entries[i]
			}
		}
		t.Fatalf("no %s %s among %d entries", kind, id, len(r.Entries))
		return nil
	}
	if e := find(EntryKey, key); !e.Open || e.LastUsed == nil || !e.LastUsed.Equal(used) || !strings.HasPrefix(e.Why, "key.create by system:test") || e.Since == nil {
		t.Errorf("%+v", e)
	}
	if e := find(EntryMembership, o.admin.ID); e.What != "administrator" || e.Organisation != o.a.ID || e.Subject != o.admin.String() || !strings.HasPrefix(e.Why, "person.invite") {
		t.Errorf("%+v", e)
	}
	if e := find(EntryGrant, g.ID.String()); !e.Open || !strings.Contains(e.What, "INC-1042") || !strings.HasPrefix(e.Why, "grant.approve by "+o.security.String()) {
		t.Errorf("%+v", e)
	}
	find(EntryPerson, o.ops.ID)
	find(EntryDatabaseRole, "foundry_app")

	mine, err := o.r.List(ctx, o.admin, uuid.Nil)
	if err != nil || len(mine.Entries) == 0 {
		t.Fatal(err)
	}
	for _, e := range mine.Entries {
		if e.Organisation != o.a.ID {
			t.Errorf("the organisation sees %s %s of another", e.Kind, e.ID)
		}
	}
	if _, err := o.r.List(ctx, o.outsider, o.a.ID); err == nil {
		t.Error("another organisation read it")
	}
	if _, err := o.r.List(ctx, o.approver, uuid.Nil); err == nil {
		t.Error("an approver read it")
	}
	if len(o.audited(o.a.ID, "register.read", audit.Done)) != 1 {
		t.Error("the reading is not in the audit log")
	}
}

// Every attack writes to the database by hand, as whoever holds a superuser's
// or the migrator's login can, and has to be found until somebody looked.
func TestWhatIsDoneByHandIsFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql        string
		code, kind string
		id         func(o *office, key string) string
	}{
		"a key is made":                          {`INSERT INTO api_keys (id, organisation_id, name, secret_hash) SELECT 'backdoor', organisation_id, 'b', secret_hash FROM api_keys`, UnexplainedMade, EntryKey, func(*office, string) string { return "backdoor" }},
		"a key gets another secret":              {`UPDATE api_keys SET secret_hash = '$2a$10$other'`, UnexplainedChanged, EntryKey, nil},
		"a key is given to another organisation": {`UPDATE api_keys SET organisation_id = (SELECT id FROM organisations WHERE name = 'st-john')`, UnexplainedMade, EntryKey, nil},
		"a revoked key opens again":              {`UPDATE api_keys SET revoked_at = NULL, expires_at = NULL, name = 'again'`, UnexplainedChanged, EntryKey, nil},
		"a key is deleted":                       {`DELETE FROM api_keys`, UnexplainedGone, EntryKey, nil},
		"a role is raised":                       {`UPDATE memberships SET roles = '{administrator}' WHERE roles = '{approver}'`, UnexplainedChanged, EntryMembership, func(o *office, _ string) string { return o.approver.ID }},
		"a membership is made":                   {`INSERT INTO memberships SELECT '00000000-0000-0000-0000-000000000000', person_id, '{platform-security}' FROM memberships WHERE roles = '{approver}'`, UnexplainedMade, EntryMembership, func(o *office, _ string) string { return o.approver.ID }},
		"a password is replaced":                 {`UPDATE people SET password_hash = 'hs384:00000000:$2a$12$x' WHERE id = (SELECT person_id FROM memberships WHERE roles = '{approver}')`, UnexplainedChanged, EntryPerson, func(o *office, _ string) string { return o.approver.ID }},
		"a passkey is added":                     {`INSERT INTO passkeys (id, person_id, name_sealed, credential_sealed, sign_count) SELECT '0123456789abcdef', person_id, '', '', 0 FROM memberships WHERE roles = '{approver}'`, UnexplainedChanged, EntryPerson, func(o *office, _ string) string { return o.approver.ID }},
		"a code generator is removed and made":   {`INSERT INTO totp_secrets (person_id, secret_sealed, last_step) SELECT person_id, '', 0 FROM memberships WHERE roles = '{approver}'`, UnexplainedChanged, EntryPerson, func(o *office, _ string) string { return o.approver.ID }},
		"an account is opened again":             {`UPDATE people SET status = 'deactivated' WHERE id = (SELECT person_id FROM memberships WHERE roles = '{approver}')`, UnexplainedChanged, EntryPerson, func(o *office, _ string) string { return o.approver.ID }},
		"a grant's reason is rewritten":          {`UPDATE staff_grants SET reason = 'Something quite harmless.'`, UnexplainedChanged, EntryGrant, func(o *office, _ string) string { return o.grant() }},
		"a service account is made":              {`INSERT INTO service_accounts (id, organisation_id, name) SELECT '00000000-0000-0000-0000-00000000000a', id, 'ghost' FROM organisations WHERE name = 'st-mary'`, UnexplainedMade, EntryService, func(*office, string) string { return "00000000-0000-0000-0000-00000000000a" }},
		"an invitation is made":                  {`INSERT INTO invitations (id, organisation_id, kind, email_mac, email_sealed, name_sealed, roles, secret_hash, invited_by, expires_at) SELECT 'ghost', id, 'member', decode(repeat('00', 32), 'hex'), '', '', '{administrator}', '$2a$10$x', 'person:nobody', now() + interval '1 day' FROM organisations WHERE name = 'st-mary'`, UnexplainedMade, EntryInvitation, func(*office, string) string { return "ghost" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			key := o.key()
			o.act(o.a.ID, "key.create", key)
			o.active()
			if f := o.compare().Findings; len(f) != 0 {
				t.Fatalf("before: %+v", f)
			}
			o.later()
			o.exec(c.sql)
			// Signing in, and acts on others, explain nothing.
			o.act(uuid.Nil, "person.signin", o.approver.ID)
			o.act(o.a.ID, "key.create", "another")
			id := key
			if c.id != nil {
				id = c.id(o, key)
			}
			for i := range 3 { // it stays until somebody looked
				if r := o.compare(); !found(r, c.code, c.kind, id) {
					t.Fatalf("look %d: %s of %s %s not among %+v", i, c.code, c.kind, id, r.Findings)
				}
				o.later()
			}
			// A review lets it stay as it is.
			for _, org := range []uuid.UUID{o.a.ID, o.b.ID, uuid.Nil} {
				reviewer := map[uuid.UUID]principal.Principal{o.a.ID: o.admin, o.b.ID: o.outsider, uuid.Nil: o.security}[org]
				v, err := o.r.StartReview(ctx, reviewer, org, "after an incident", 24*time.Hour)
				if err != nil {
					t.Fatal(err)
				}
				for _, item := range v.Entries {
					if item.Kind == c.kind && item.Entry == id {
						if _, err := o.r.Confirm(ctx, reviewer, v.ID, item.Kind, item.Entry, ResultKeep, "known"); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			if r := o.compare(); found(r, c.code, c.kind, id) {
				t.Errorf("after its review: %+v", r.Findings)
			}
		})
	}
}

func (o *office) grant() string {
	var id string
	if err := o.super.QueryRow(ctx, `SELECT id::text FROM staff_grants`).Scan(&id); err != nil {
		o.t.Fatal(err)
	}
	return id
}

func TestWhatIsDoneByAnActIsNoFinding(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	key := o.key()
	o.act(o.a.ID, "key.create", key)
	o.compare()
	o.later()
	for _, c := range []struct {
		sql, act, target string
		org              uuid.UUID
	}{
		{`UPDATE api_keys SET revoked_at = now()`, "key.revoke", key, o.a.ID},
		{`UPDATE memberships SET roles = '{viewer}' WHERE roles = '{approver}'`, "membership.set", o.approver.ID, o.a.ID},
		{`UPDATE people SET status = 'deactivated' WHERE id = '` + o.approver.ID + `'`, "person.deactivate", o.approver.ID, uuid.Nil},
		{`DELETE FROM memberships WHERE roles = '{viewer}'`, "person.deactivate", o.approver.ID, uuid.Nil},
	} {
		o.exec(c.sql)
		o.act(c.org, c.act, c.target)
		if r := o.compare(); len(r.Findings) != 0 {
			t.Errorf("%s: %+v", c.act, r.Findings)
		}
		o.later()
	}
}

func TestAnUnknownDatabaseLoginIsFound(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	// Roles are shared by the databases of the server, and so with other tests.
	name := "intruder_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:8]
	o.exec(`CREATE ROLE ` + name + ` LOGIN`)
	t.Cleanup(func() {
		o.super, _ = pgx.ConnectConfig(context.Background(), o.super.Config())
		_, _ = o.super.Exec(context.Background(), `DROP OWNED BY `+name+`; DROP ROLE `+name)
		_ = o.super.Close(context.Background())
	})
	o.exec(`GRANT CONNECT ON DATABASE ` + pgx.Identifier{o.super.Config().Database}.Sanitize() + ` TO ` + name)
	if r := o.compare(); !found(r, FindingRole, EntryDatabaseRole, name) {
		t.Errorf("a login: %+v", r.Findings)
	}
}

func TestAForgedPictureIsFound(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"another document":  `UPDATE access_register_snapshots SET document = 'x' WHERE document IS NOT NULL`,
		"another signature": `UPDATE access_register_snapshots SET signature = 'x'`,
		"another signer":    `UPDATE access_register_snapshots SET signer = 'mallory'`,
		"another moment":    `UPDATE access_register_snapshots SET taken_at = taken_at - interval '1 hour'`,
		"another digest":    `UPDATE access_register_snapshots SET digest = sha256('x')`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			o.exec(sql)
			if r := o.compare(); !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Code == FindingSnapshot }) {
				t.Errorf("%+v", r.Findings)
			}
			if r := o.compare(); len(r.Findings) != 0 {
				t.Errorf("the picture after it: %+v", r.Findings)
			}
		})
	}
}

func TestPicturesAreChainedAndStoredOnceWhileNothingChanges(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	first := o.compare()
	second := o.compare()
	if second.Previous != first.Digest || second.Digest != first.Digest {
		t.Errorf("%s after %s, %s", second.Previous, first.Digest, second.Digest)
	}
	var n, full int
	if err := o.super.QueryRow(ctx, `SELECT count(*), count(document) FROM access_register_snapshots`).Scan(&n, &full); err != nil || n != 3 || full != 1 {
		t.Errorf("%d pictures, %d documents, %v", n, full, err)
	}
	if age, err := o.r.Age(ctx); err != nil || age < 0 || age > time.Minute {
		t.Errorf("age %v %v", age, err)
	}
	o.exec(`UPDATE access_register_snapshots SET taken_at = taken_at - interval '3 hours'`)
	if age, err := o.r.Age(ctx); err != nil || age < 3*time.Hour {
		t.Errorf("age %v %v", age, err)
	}
	if n := len(o.audited(uuid.Nil, "register.compare", audit.Done)); n != 3 {
		t.Errorf("%d pictures are anchored in the audit log", n)
	}
}

func TestUnusedAccessIsReportedAfterNinetyDays(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	old, fresh := o.key(), o.key()
	o.act(o.a.ID, "key.create", old)
	o.act(o.a.ID, "key.create", fresh)
	o.exec(`UPDATE api_keys SET created_at = now() - interval '100 days'`)
	o.exec(`UPDATE memberships SET created_at = now() - interval '91 days' WHERE person_id = $1`, uuid.MustParse(o.approver.ID))
	o.use[old], o.use[fresh] = time.Now().Add(-90*24*time.Hour-time.Minute), time.Now().Add(-89*24*time.Hour)
	r := o.compare()
	if !found(r, FindingUnused, EntryKey, old) || found(r, FindingUnused, EntryKey, fresh) || !found(r, FindingUnused, EntryMembership, o.approver.ID) || len(r.Findings) != 2 {
		t.Errorf("%+v", r.Findings)
	}
	o.exec(`UPDATE api_keys SET revoked_at = now() WHERE id = $1`, old)
	o.act(o.a.ID, "key.revoke", old)
	if r := o.compare(); found(r, FindingUnused, EntryKey, old) {
		t.Error("a revoked key is still reported as unused")
	}
}

func TestASocketThatOthersMayUseIsFound(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.r.Socket = filepath.Join(t.TempDir(), "foundry.sock")
	l, err := net.Listen("unix", o.r.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o660: true, 0o602: true, 0o777: true} {
		if err := os.Chmod(o.r.Socket, mode); err != nil {
			t.Fatal(err)
		}
		r := o.compare()
		if got := found(r, FindingSocket, EntryOSUser, "socket"); got != want {
			t.Errorf("mode %o: %+v", mode, r.Findings)
		}
		if !slices.ContainsFunc(r.Entries, func(e Access) bool { return e.Kind == EntryOSUser && e.ID == "0" }) {
			t.Error("root is not in the register")
		}
	}
}

func TestAReviewIsDecidedByOthersAndInTime(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	if _, err := o.r.ReviewAge(ctx, o.a.ID); code(err) != "review-missing" {
		t.Errorf("%v", err)
	}
	second := o.person("second", o.a.ID, principal.Administrator)
	o.act(o.a.ID, "person.invite", second.ID)
	v, err := o.r.StartReview(ctx, o.admin, o.a.ID, "autumn", 14*24*time.Hour)
	if err != nil || v.Items != 3 || v.Open != 3 || v.Overdue {
		t.Fatalf("%+v %v", v, err)
	}
	if _, err := o.r.Confirm(ctx, o.admin, v.ID, EntryMembership, o.admin.ID, ResultKeep, ""); code(err) != "review-own" {
		t.Errorf("one's own: %v", err)
	}
	if _, err := o.r.Confirm(ctx, o.outsider, v.ID, EntryMembership, o.approver.ID, ResultKeep, ""); code(err) != "review-unknown" {
		t.Errorf("another organisation: %v", err)
	}
	if _, err := o.r.Confirm(ctx, o.approver, v.ID, EntryMembership, o.admin.ID, ResultKeep, ""); code(err) != "access-denied" {
		t.Errorf("a role that may not: %v", err)
	}
	if _, err := o.r.Confirm(ctx, o.admin, v.ID, EntryMembership, uuid.NewString(), ResultKeep, ""); code(err) != "review-entry" {
		t.Errorf("an entry that is none: %v", err)
	}
	item, err := o.r.Confirm(ctx, o.admin, v.ID, EntryMembership, o.approver.ID, ResultRemove, "left in May")
	if err != nil || item.Result != ResultRemove || item.By != o.admin.String() {
		t.Errorf("%+v %v", item, err)
	}
	if _, err := o.r.Confirm(ctx, second, v.ID, EntryMembership, o.approver.ID, ResultKeep, ""); code(err) != "review-decided" {
		t.Errorf("decided twice: %v", err)
	}
	o.exec(`UPDATE access_reviews SET due_at = now() - interval '1 minute'`)
	if r := o.compare(); !found(r, FindingOverdue, "review", v.ID.String()) {
		t.Errorf("overdue: %+v", r.Findings)
	}
	for _, c := range []struct {
		by principal.Principal
		of string
	}{{o.admin, second.ID}, {second, o.admin.ID}} {
		if _, err := o.r.Confirm(ctx, c.by, v.ID, EntryMembership, c.of, ResultKeep, ""); err != nil {
			t.Fatal(err)
		}
	}
	done, err := o.r.ShowReview(ctx, o.admin, v.ID)
	if err != nil || done.Open != 0 || done.CompletedAt == nil || done.Overdue || done.Removed != 1 {
		t.Errorf("%+v %v", done, err)
	}
	if age, err := o.r.ReviewAge(ctx, o.a.ID); err != nil || age > time.Minute {
		t.Errorf("%v %v", age, err)
	}
	if list, err := o.r.Reviews(ctx, o.outsider, uuid.Nil); err != nil || len(list) != 0 {
		t.Errorf("another organisation sees %+v %v", list, err)
	}
	for _, sql := range []string{`UPDATE access_review_results SET result = 'keep'`, `DELETE FROM access_review_items`, `UPDATE access_reviews SET due_at = now()`,
		`DELETE FROM access_register_snapshots`,
		`INSERT INTO access_review_results (id, review_id, organisation_id, kind, entry, subject, result, actor) SELECT gen_random_uuid(), review_id, organisation_id, kind, entry, subject, 'keep', subject FROM access_review_items`} {
		err := o.d.Org(ctx, o.a.ID, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, sql); return err })
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "42501" && pg.Code != "23514" {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestABrokenGlassThatNobodyLookedAtIsFound(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	in := o.ask()
	in.Holder = uuid.MustParse(o.ops.ID)
	g, err := o.BreakGlass(ctx, principal.Principal{Kind: principal.Local}, in)
	if err != nil {
		t.Fatal(err)
	}
	if r := o.compare(); len(r.Findings) != 0 {
		t.Errorf("at once: %+v", r.Findings)
	}
	o.exec(`ALTER TABLE staff_grant_events DISABLE TRIGGER ALL`)
	o.exec(`UPDATE staff_grants SET requested_at = requested_at - interval '25 hours'`)
	if r := o.compare(); !found(r, FindingUnreviewed, EntryGrant, g.ID.String()) {
		t.Errorf("a day later: %+v", r.Findings)
	}
	if _, err := o.Grants.Review(ctx, o.admin, g.ID, "One page of requests was read."); err != nil {
		t.Fatal(err)
	}
	if r := o.compare(); found(r, FindingUnreviewed, EntryGrant, g.ID.String()) {
		t.Errorf("after its review: %+v", r.Findings)
	}
}

func TestOnlySecurityAndTheNodeCompare(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for name, p := range map[string]principal.Principal{"an operator": o.ops, "an organisation": o.admin, "root in production": {Kind: principal.Local}} {
		if _, err := o.r.Compare(ctx, p); err == nil || problem.From(err).Kind != problem.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := o.r.Compare(ctx, o.security); err != nil {
		t.Error(err)
	}
}
