package access

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// house is a platform in production with two client organisations and staff.
type house struct {
	t     testing.TB
	d     *db.DB
	super *pgx.Conn // past all walls: makes time pass, and breaks things by hand
	*Grants
	a, b                      Organisation
	ops, security, chief      principal.Principal // of the platform
	admin, approver, outsider principal.Principal // of a, a and b
	alarms                    []Grant
	alarmFails                error
}

func newHouse(t testing.TB) *house {
	t.Helper()
	cfg := dbtest.Config(t)
	h := &house{t: t, d: dbtest.Open(t, cfg), super: dbtest.Superuser(t, cfg)}
	engine, err := policy.Load()
	if err != nil {
		t.Fatal(err)
	}
	h.Grants = NewGrants(GrantOptions{DB: h.d, Guard: NewGuard(engine, h.d, time.Now, policy.Production),
		Alarm: func(_ context.Context, _ pgx.Tx, g Grant) error { h.alarms = append(h.alarms, g); return h.alarmFails }})
	for name, o := range map[string]*Organisation{"st-mary": &h.a, "st-john": &h.b} {
		*o = Organisation{ID: uuid.New(), Name: name}
		h.exec(`INSERT INTO organisations (id, name) VALUES ($1, $2)`, o.ID, o.Name)
	}
	h.ops = h.person("ops", uuid.Nil, principal.PlatformOperator)
	h.security = h.person("security", uuid.Nil, principal.PlatformSecurity)
	h.chief = h.person("chief", uuid.Nil, principal.PlatformAdministrator, principal.PlatformSecurity)
	h.admin = h.person("admin", h.a.ID, principal.Administrator)
	h.approver = h.person("approver", h.a.ID, principal.Approver)
	h.outsider = h.person("outsider", h.b.ID, principal.Administrator)
	return h
}

func (h *house) exec(sql string, args ...any) {
	h.t.Helper()
	if _, err := h.super.Exec(ctx, sql, args...); err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
}

// person makes an active account. Accounts with the same address are the same person's.
func (h *house) person(address string, org uuid.UUID, roles ...principal.Role) principal.Principal {
	h.t.Helper()
	id, mac := uuid.New(), sha256.Sum256([]byte(address))
	h.exec(`INSERT INTO people (id, email_mac, email_sealed, name_sealed) VALUES ($1, $2, '', '')`, id, mac[:])
	var names []string
	for _, r := range roles {
		names = append(names, r.String())
	}
	h.exec(`INSERT INTO memberships (organisation_id, person_id, roles) VALUES ($1, $2, $3)`, org, id, names)
	return principal.Principal{Kind: principal.Person, ID: id.String(), Organisation: org, Session: "s-" + address,
		Roles: principal.RolesOf(roles...), SecondFactor: time.Now()}
}

func (h *house) ask() NewGrant {
	return NewGrant{Organisation: h.a.ID, Scopes: []Scope{ScopeRequests}, Reason: "The client reports wrong sums in May.", Ticket: "INC-1042"}
}

func (h *house) request() Grant {
	h.t.Helper()
	g, err := h.Request(ctx, h.ops, h.ask())
	if err != nil {
		h.t.Fatal(err)
	}
	return g
}

func (h *house) active() Grant {
	h.t.Helper()
	g, err := h.Approve(ctx, h.security, h.request().ID, "")
	if err != nil {
		h.t.Fatal(err)
	}
	return g
}

func (h *house) use() error {
	_, err := h.UseGrant(ctx, h.ops, h.a.ID, ScopeRequests)
	return err
}

func (h *house) audited(org uuid.UUID, act, outcome string) (out []audit.Entry) {
	h.t.Helper()
	rows, err := h.super.Query(ctx, `SELECT organisation_id, actor, act, target, outcome, details::text FROM audit WHERE organisation_id = $1 AND act = $2 AND outcome = $3`, org, act, outcome)
	if err != nil {
		h.t.Fatal(err)
	}
	out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e audit.Entry, err error) {
		var details string
		err = row.Scan(&e.Organisation, &e.Actor, &e.Act, &e.Target, &e.Outcome, &details)
		e.Details = json.RawMessage(details)
		return e, err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

func code(err error) string {
	if err == nil {
		return ""
	}
	return problem.From(err).Code
}

func TestStaffSeeNothingWithoutAGrantInForce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if err := h.use(); code(err) != "grant-needed" {
		t.Fatalf("without a grant: %v", err)
	}
	if n := len(h.audited(h.a.ID, "grant.use", audit.Denied)); n != 1 {
		t.Errorf("the client sees %d denials, want 1", n)
	}
	g := h.request()
	if err := h.use(); code(err) != "grant-needed" {
		t.Fatalf("with a request that nobody approved: %v", err)
	}
	if _, err := h.Approve(ctx, h.admin, g.ID, "go ahead"); err != nil {
		t.Fatal(err)
	}
	p, err := h.UseGrant(ctx, h.ops, h.a.ID, ScopeRequests)
	if err != nil || p.Grant != g.ID || p.Organisation != h.a.ID || p.ID != h.ops.ID {
		t.Fatalf("%+v %v", p, err)
	}
	if err := h.Guard.Authorise(ctx, p, "request.list", policy.Resource{Organisation: h.a.ID}); err != nil {
		t.Errorf("the policies do not know the grant: %v", err)
	}
	if err := h.Guard.Authorise(ctx, p, "request.list", policy.Resource{Organisation: h.b.ID}); err == nil {
		t.Error("the grant for one organisation opened another")
	}
	for name, use := range map[string]func() error{
		"another organisation": func() error { _, err := h.UseGrant(ctx, h.ops, h.b.ID, ScopeRequests); return err },
		"another scope":        func() error { _, err := h.UseGrant(ctx, h.ops, h.a.ID, ScopeAudit); return err },
		"another person":       func() error { _, err := h.UseGrant(ctx, h.chief, h.a.ID, ScopeRequests); return err },
		"who approved it":      func() error { _, err := h.UseGrant(ctx, h.security, h.a.ID, ScopeRequests); return err },
		"the platform itself":  func() error { _, err := h.UseGrant(ctx, h.ops, uuid.Nil, ScopeRequests); return err },
		"an API key of that id": func() error {
			p := h.ops
			p.Kind = principal.Key
			_, err := h.UseGrant(ctx, p, h.a.ID, ScopeRequests)
			return err
		},
		"a console link of that id": func() error {
			p := h.ops
			p.Kind = principal.Session
			_, err := h.UseGrant(ctx, p, h.a.ID, ScopeRequests)
			return err
		},
		"a member of another organisation": func() error { _, err := h.UseGrant(ctx, h.outsider, h.a.ID, ScopeRequests); return err },
		"who already acts under it": func() error {
			_, err := h.UseGrant(ctx, p, h.b.ID, ScopeRequests)
			return err
		},
	} {
		if err := use(); code(err) != "grant-needed" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAGrantEndsByItself(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	g := h.active()
	if took := g.ExpiresAt.Sub(*g.DecidedAt); took != GrantDefault {
		t.Errorf("lasts %s from its approval", took)
	}
	if err := h.use(); err != nil {
		t.Fatal(err)
	}
	h.exec(`UPDATE staff_grant_events SET at = at - interval '61 minutes', expires_at = expires_at - interval '61 minutes' WHERE event = 'approved'`)
	if err := h.use(); code(err) != "grant-needed" {
		t.Fatalf("after its time: %v", err)
	}
	g, err := h.Show(ctx, h.admin, g.ID)
	if err != nil || g.State != GrantExpired || g.LastUsedAt == nil || g.UsedMinutes != 1 {
		t.Errorf("%+v %v", g, err)
	}
}

func TestEitherSideEndsAGrantAtOnce(t *testing.T) {
	t.Parallel()
	for name, who := range map[string]func(*house) principal.Principal{
		"its holder":                           func(h *house) principal.Principal { return h.ops },
		"the client's administrator":           func(h *house) principal.Principal { return h.admin },
		"platform security":                    func(h *house) principal.Principal { return h.security },
		"the holder, after the step-up is old": func(h *house) principal.Principal { p := h.ops; p.SecondFactor = time.Time{}; return p },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			g := h.active()
			if err := h.use(); err != nil {
				t.Fatal(err)
			}
			p := who(h)
			ended, err := h.End(ctx, p, g.ID, "enough")
			if err != nil || ended.State != GrantEnded || ended.EndedBy != p.String() {
				t.Fatalf("%+v %v", ended, err)
			}
			if err := h.use(); code(err) != "grant-needed" {
				t.Errorf("after its end: %v", err)
			}
			if len(h.audited(h.a.ID, "grant.revoke", audit.Done)) != 1 {
				t.Error("the end is not in the audit log")
			}
			if again, err := h.End(ctx, p, g.ID, ""); err != nil || again.EndedAt == nil || !again.EndedAt.Equal(*ended.EndedAt) {
				t.Errorf("ended again: %+v %v", again, err)
			}
			if _, err := h.Approve(ctx, h.chief, g.ID, ""); code(err) != "grant-decided" {
				t.Errorf("approved again: %v", err)
			}
		})
	}
}

func TestAWithdrawnRequestCannotBeApproved(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	g := h.request()
	if _, err := h.End(ctx, h.ops, g.ID, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Approve(ctx, h.security, g.ID, ""); code(err) != "grant-decided" {
		t.Errorf("%v", err)
	}
	if h.use() == nil {
		t.Error("it opens something")
	}
}

func TestNobodyApprovesForThemselves(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	g, err := h.Request(ctx, h.chief, h.ask())
	if err != nil {
		t.Fatal(err)
	}
	twin := h.chief // the same person, in another session and as a member of the organisation
	twin.Session, twin.Organisation, twin.Roles = "other", h.a.ID, principal.RolesOf(principal.Administrator)
	h.exec(`UPDATE people SET status = 'deactivated' WHERE id = $1`, h.chief.ID)
	second := h.person("chief", uuid.Nil, principal.PlatformSecurity) // made anew after a deactivation
	for name, p := range map[string]principal.Principal{
		"by the same account":                       h.chief,
		"as an administrator of the organisation":   twin,
		"with an account of the platform made anew": second,
		"with an account that does not exist":       {Kind: principal.Person, ID: uuid.NewString(), Roles: principal.RolesOf(principal.PlatformSecurity), SecondFactor: time.Now()},
		"with an id that is none":                   {Kind: principal.Person, ID: "x", Roles: principal.RolesOf(principal.PlatformSecurity), SecondFactor: time.Now()},
	} {
		if _, err := h.Approve(ctx, p, g.ID, ""); err == nil || problem.From(err).Kind != problem.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.UseGrant(ctx, h.chief, h.a.ID, ScopeRequests); code(err) != "grant-needed" {
		t.Errorf("it opened: %v", err)
	}
	if n := len(h.audited(h.a.ID, "grant.approve", audit.Denied)); n < 3 {
		t.Errorf("%d denials are in the audit log", n)
	}
}

func TestWhoMayApprove(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	people := map[string]principal.Principal{"security": h.security, "operator": h.person("second", uuid.Nil, principal.PlatformOperator),
		"administrator": h.admin, "approver": h.approver, "viewer": h.person("viewer", h.a.ID, principal.Viewer), "outsider": h.outsider,
		"root on the server": {Kind: principal.Local}, "the node": principal.Node("sweep"),
		"a console link": {Kind: principal.Session, ID: "x"}, "a key": {Kind: principal.Key, ID: "abc", Organisation: h.a.ID}}
	for rule, may := range map[Approvers][]string{
		ApproversEither:       {"security", "administrator", "approver"},
		ApproversOrganisation: {"administrator", "approver"},
		ApproversPlatform:     {"security"},
	} {
		if err := h.SetRule(ctx, h.admin, h.a.ID, rule); err != nil {
			t.Fatal(err)
		}
		for name, p := range people {
			g := h.request()
			got, err := h.Approve(ctx, p, g.ID, "")
			if allowed := err == nil && got.State == GrantActive; allowed != slices.Contains(may, name) {
				t.Errorf("rule %s, %s: allowed %v, %v", rule, name, allowed, err)
			}
			if err != nil && name == "outsider" && code(err) != "grant-unknown" {
				t.Errorf("another organisation learns of the grant: %v", err)
			}
		}
	}
	if err := h.SetRule(ctx, h.chief, h.a.ID, ApproversPlatform); err == nil {
		t.Error("the platform took the decision away from the client")
	}
	if err := h.SetRule(ctx, h.outsider, h.a.ID, ApproversPlatform); err == nil {
		t.Error("another organisation took the decision away from the client")
	}
}

func TestEveryStepNeedsAFreshSecondFactor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	stale := func(p principal.Principal) principal.Principal {
		p.SecondFactor = time.Now().Add(-20 * time.Minute)
		return p
	}
	if _, err := h.Request(ctx, stale(h.ops), h.ask()); code(err) != "step-up-required" {
		t.Errorf("asking: %v", err)
	}
	g := h.request()
	for name, p := range map[string]principal.Principal{"security": h.security, "administrator": h.admin} {
		if _, err := h.Approve(ctx, stale(p), g.ID, ""); code(err) != "step-up-required" {
			t.Errorf("approving as %s: %v", name, err)
		}
	}
	if err := h.SetRule(ctx, stale(h.admin), h.a.ID, ApproversPlatform); code(err) != "step-up-required" {
		t.Errorf("setting the rule: %v", err)
	}
}

func TestARequestThatNobodyApprovedLapses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	g := h.request()
	h.exec(`UPDATE staff_grants SET requested_at = requested_at - interval '24 hours 1 second'`)
	if _, err := h.Approve(ctx, h.security, g.ID, ""); code(err) != "grant-lapsed" {
		t.Errorf("%v", err)
	}
	if h.use() == nil {
		t.Error("it opens something")
	}
	if g, err := h.Show(ctx, h.ops, g.ID); err != nil || g.State != GrantLapsed {
		t.Errorf("%+v %v", g, err)
	}
}

func TestOfTwoDecisionsOneCounts(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	g := h.request()
	errs := make([]error, 8)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			if i%2 == 0 {
				_, errs[i] = h.Approve(ctx, h.security, g.ID, "")
			} else {
				_, errs[i] = h.Reject(ctx, h.admin, g.ID, "")
			}
		})
	}
	all.Wait()
	won := 0
	for _, err := range errs {
		switch code(err) {
		case "":
			won++
		case "grant-decided":
		default:
			t.Error(err)
		}
	}
	if won != 1 || len(h.audited(h.a.ID, "grant.approve", audit.Done))+len(h.audited(h.a.ID, "grant.reject", audit.Done)) != 1 {
		t.Errorf("%d decisions won", won)
	}
}

func TestOnlyAPersonOfThePlatformAsks(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	under := h.ops
	under.Organisation, under.Grant = h.b.ID, uuid.New()
	for name, p := range map[string]principal.Principal{"root on the server": {Kind: principal.Local}, "the node": principal.Node("x"),
		"a client's administrator": h.admin, "a key": {Kind: principal.Key, ID: "k", Organisation: h.a.ID}, "staff under another grant": under} {
		if _, err := h.Request(ctx, p, h.ask()); err == nil || problem.From(err).Kind != problem.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAskingSaysWhatAndWhy(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for name, c := range map[string]struct {
		change func(*NewGrant)
		code   string
	}{
		"no organisation":          {func(n *NewGrant) { n.Organisation = uuid.Nil }, "grant-organisation"},
		"an unknown organisation":  {func(n *NewGrant) { n.Organisation = uuid.New() }, "organisation-unknown"},
		"no scope":                 {func(n *NewGrant) { n.Scopes = nil }, "grant-scope"},
		"an unknown scope":         {func(n *NewGrant) { n.Scopes = []Scope{"everything"} }, "grant-scope"},
		"no reason":                {func(n *NewGrant) { n.Reason = "          \t " }, "grant-reason"},
		"a reason of one word":     {func(n *NewGrant) { n.Reason = "because" }, "grant-reason"},
		"a reason like a book":     {func(n *NewGrant) { n.Reason = strings.Repeat("a", 1001) }, "grant-reason"},
		"a reason with a terminal": {func(n *NewGrant) { n.Reason = "see \x1b[2J nothing here" }, "grant-reason"},
		"a reason that is no text": {func(n *NewGrant) { n.Reason = "see \xff\xfe nothing here" }, "grant-reason"},
		"no ticket":                {func(n *NewGrant) { n.Ticket = " " }, "grant-ticket"},
		"nine hours":               {func(n *NewGrant) { n.Duration = 9 * time.Hour }, "grant-duration"},
		"a moment":                 {func(n *NewGrant) { n.Duration = time.Second }, "grant-duration"},
		"less than nothing":        {func(n *NewGrant) { n.Duration = -time.Hour }, "grant-duration"},
	} {
		in := h.ask()
		c.change(&in)
		if _, err := h.Request(ctx, h.ops, in); code(err) != c.code {
			t.Errorf("%s: got %v, want %s", name, err, c.code)
		}
	}
	in := h.ask()
	in.Scopes, in.Duration = []Scope{ScopeAudit, ScopeRequests, ScopeAudit}, 8*time.Hour
	if g, err := h.Request(ctx, h.ops, in); err != nil || len(g.Scopes) != 2 || g.Duration != 8*time.Hour {
		t.Errorf("%+v %v", g, err)
	}
}

func TestTheClientSeesEveryGrantAndNobodyElses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.Names = func(_ context.Context, ids []uuid.UUID) (map[uuid.UUID]string, error) {
		names := map[uuid.UUID]string{}
		for _, id := range ids {
			names[id] = "Olga Operator"
		}
		return names, nil
	}
	g := h.active()
	if err := h.use(); err != nil {
		t.Fatal(err)
	}
	list, err := h.List(ctx, h.admin, uuid.Nil, 0)
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v %v", list, err)
	}
	if got := list[0]; got.ID != g.ID || got.Reason == "" || got.Ticket != "INC-1042" || got.Holder != h.ops.String() || got.HolderName != "Olga Operator" ||
		got.LastUsedAt == nil || got.Approver != h.security.String() || got.ApproverSide != "platform" {
		t.Errorf("the client sees %+v", got)
	}
	if list, err := h.List(ctx, h.outsider, uuid.Nil, 0); err != nil || len(list) != 0 {
		t.Errorf("another organisation sees %+v %v", list, err)
	}
	if _, err := h.List(ctx, h.outsider, h.a.ID, 0); err == nil {
		t.Error("another organisation asked for it by id")
	}
	for name, err := range map[string]error{
		"shown": func() error { _, err := h.Show(ctx, h.outsider, g.ID); return err }(),
		"ended": func() error { _, err := h.End(ctx, h.outsider, g.ID, ""); return err }(),
	} {
		if code(err) != "grant-unknown" {
			t.Errorf("another organisation's grant was %s: %v", name, err)
		}
	}
	if list, err := h.List(ctx, h.security, uuid.Nil, 0); err != nil || len(list) != 1 {
		t.Errorf("the platform sees %+v %v", list, err)
	}
}

func TestUseIsNotedOnceAMinute(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	g := h.active()
	// In the middle of a minute, so that the uses below share one.
	for deadline := time.Now().Add(time.Minute); time.Now().Second() > 50; <-time.After(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the minute does not end")
		}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := h.use(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	used := h.audited(h.a.ID, "grant.use", audit.Done)
	g, err := h.Show(ctx, h.ops, g.ID)
	if err != nil || g.UsedMinutes != 1 || len(used) != 1 || used[0].Target != g.ID.String() || used[0].Actor != h.ops.String() {
		t.Errorf("%d notes, %d entries, %v", g.UsedMinutes, len(used), err)
	}
	h.exec(`UPDATE staff_grant_events SET at = at - interval '1 minute' WHERE event = 'used'`)
	if err := h.use(); err != nil {
		t.Fatal(err)
	}
	if g, err = h.Show(ctx, h.ops, g.ID); err != nil || g.UsedMinutes != 2 {
		t.Errorf("%d notes in two minutes, %v", g.UsedMinutes, err)
	}
}

func TestActsUnderAGrantNameIt(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	g := h.active()
	p, err := h.UseGrant(ctx, h.ops, h.a.ID, ScopeRequests)
	if err != nil {
		t.Fatal(err)
	}
	details := map[string]any{"n": 3}
	for _, d := range []any{nil, details, struct {
		N int `json:"n"`
	}{3}} {
		err = h.d.Org(ctx, h.a.ID, func(tx pgx.Tx) error { return audit.Append(ctx, tx, p, h.a.ID, "request.list", "", d) })
		if err != nil {
			t.Fatal(err)
		}
	}
	entries := h.audited(h.a.ID, "request.list", audit.Done)
	for _, e := range entries {
		var body struct{ Grant uuid.UUID }
		if err := json.Unmarshal(e.Details, &body); err != nil || body.Grant != g.ID {
			t.Errorf("details %s do not name the grant", e.Details)
		}
	}
	if _, has := details["grant"]; has || len(entries) != 3 {
		t.Error("the caller's details were changed")
	}
	if err := audit.Deny(ctx, h.d, p, h.a.ID, "request.read", "", nil); err != nil {
		t.Fatal(err)
	}
	if e := h.audited(h.a.ID, "request.read", audit.Denied); len(e) != 1 || !bytes.Contains(e[0].Details, []byte(g.ID.String())) {
		t.Errorf("a denial under the grant: %s", e)
	}
}

func TestTheGlassIsBrokenOnTheServerOnlyAndWithAnAlarm(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	root := principal.Principal{Kind: principal.Local, UID: 0}
	in := h.ask()
	in.Holder = uuid.MustParse(h.ops.ID)
	for name, p := range map[string]principal.Principal{"platform security": h.security, "the node": principal.Node("x"), "a console link": {Kind: principal.Session, ID: "x"},
		"a key": {Kind: principal.Key, ID: "k"}} {
		if _, err := h.BreakGlass(ctx, p, in); code(err) != "break-glass-local" {
			t.Errorf("%s: %v", name, err)
		}
	}
	long := in
	long.Duration = 61 * time.Minute
	if _, err := h.BreakGlass(ctx, root, long); code(err) != "grant-duration" {
		t.Errorf("for longer than an hour: %v", err)
	}
	nobody := in
	nobody.Holder = uuid.Nil
	if _, err := h.BreakGlass(ctx, root, nobody); code(err) != "grant-person" {
		t.Errorf("for nobody: %v", err)
	}
	h.alarmFails = errors.New("no relay")
	if _, err := h.BreakGlass(ctx, root, in); err == nil || h.use() == nil {
		t.Error("the glass broke without an alarm")
	}
	h.alarmFails, h.alarms = nil, nil
	g, err := h.BreakGlass(ctx, root, in)
	if err != nil || g.State != GrantActive || g.Requester != "local:uid=0" || g.Holder != h.ops.String() || len(h.alarms) != 1 {
		t.Fatalf("%+v %v, %d alarms", g, err, len(h.alarms))
	}
	if err := h.use(); err != nil {
		t.Fatal(err)
	}
	if list, err := h.List(ctx, h.admin, uuid.Nil, 0); err != nil || len(list) != 1 || list[0].Kind != GrantBreakGlass || list[0].LastUsedAt == nil {
		t.Errorf("the client sees %+v %v", list, err)
	}
	if len(h.audited(h.a.ID, "break-glass.open", audit.Done)) != 1 {
		t.Error("it is not in the client's audit log")
	}
	if _, err := h.Review(ctx, h.ops, g.ID, "Nothing to see here."); err == nil {
		t.Error("the holder reviewed it")
	}
	if _, err := h.Review(ctx, root, g.ID, "Nothing to see here."); err == nil {
		t.Error("who opened it reviewed it")
	}
	if g, err := h.Review(ctx, h.admin, g.ID, "One page of requests was read."); err != nil || g.ReviewedBy != h.admin.String() {
		t.Errorf("%+v %v", g, err)
	}
	if g, err := h.End(ctx, h.admin, g.ID, ""); err != nil || g.State != GrantEnded || h.use() == nil {
		t.Errorf("%+v %v", g, err)
	}
}

// The application's own database role cannot forge, change or forget a grant:
// what the code above checks, the database checks again.
func TestTheDatabaseKeepsGrantsForEver(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	g := h.active()
	if err := h.use(); err != nil {
		t.Fatal(err)
	}
	other := h.request()
	insert := func(changes map[string]string) string {
		row := map[string]string{"id": "gen_random_uuid()", "organisation_id": quote(h.a.ID), "grant_id": quote(other.ID), "kind": "'request'", "requester": quote(h.ops),
			"holder": quote(h.ops), "event": "'approved'", "actor": quote(h.security), "side": "'platform'", "expires_at": "now() + interval '1 hour'"}
		for k, v := range changes {
			row[k] = v
		}
		var names, values []string
		for k, v := range row {
			names, values = append(names, k), append(values, v)
		}
		return fmt.Sprintf("INSERT INTO staff_grant_events (%s) VALUES (%s)", strings.Join(names, ", "), strings.Join(values, ", "))
	}
	const denied, check, missing, unique = "42501", "23514", "23503", "23505"
	for name, c := range map[string]struct{ sql, state string }{
		"a grant's reason is changed":             {`UPDATE staff_grants SET reason = 'Something quite harmless.'`, denied},
		"a grant is deleted":                      {`DELETE FROM staff_grants`, denied},
		"a grant is locked away":                  {`SELECT * FROM staff_grants FOR UPDATE`, denied},
		"grants are emptied":                      {`TRUNCATE staff_grants CASCADE`, denied},
		"an approval is made longer":              {`UPDATE staff_grant_events SET expires_at = now() + interval '1 year'`, denied},
		"a use is deleted":                        {`DELETE FROM staff_grant_events WHERE event = 'used'`, denied},
		"a request is dated back":                 {`INSERT INTO staff_grants (id, organisation_id, kind, requester, holder, scopes, reason, ticket, seconds, requested_at) SELECT gen_random_uuid(), organisation_id, kind, requester, holder, scopes, reason, ticket, seconds, now() - interval '1 day' FROM staff_grants LIMIT 1`, denied},
		"a use is dated forward":                  {insert(map[string]string{"event": "'used'", "actor": quote(h.ops), "expires_at": "NULL", "at": "now() + interval '1 day'"}), denied},
		"the requester approves":                  {insert(map[string]string{"actor": quote(h.ops)}), check},
		"root approves":                           {insert(map[string]string{"actor": "'local:uid=0'"}), check},
		"the node approves":                       {insert(map[string]string{"actor": "'system:sweep'"}), check},
		"the requester approves under a pretence": {insert(map[string]string{"actor": quote(h.ops), "requester": quote(h.chief), "holder": quote(h.chief)}), missing},
		"an approval for a day":                   {insert(map[string]string{"expires_at": "now() + interval '24 hours'"}), check},
		"an approval without an end":              {insert(map[string]string{"expires_at": "NULL"}), check},
		"a request is opened like a broken glass": {insert(map[string]string{"event": "'opened'", "actor": quote(h.ops)}), check},
		"an approval for another organisation":    {insert(map[string]string{"organisation_id": quote(h.b.ID)}), denied},
		"a second approval":                       {insert(map[string]string{"grant_id": quote(g.ID)}), unique},
		"a person breaks the glass":               {`INSERT INTO staff_grants (id, organisation_id, kind, requester, holder, scopes, reason, ticket, seconds) SELECT gen_random_uuid(), organisation_id, 'break-glass', requester, holder, scopes, reason, ticket, 60 FROM staff_grants LIMIT 1`, check},
		"a grant for a week":                      {`INSERT INTO staff_grants (id, organisation_id, kind, requester, holder, scopes, reason, ticket, seconds) SELECT gen_random_uuid(), organisation_id, kind, requester, holder, scopes, reason, ticket, 604800 FROM staff_grants LIMIT 1`, check},
		"a grant in another's name":               {`INSERT INTO staff_grants (id, organisation_id, kind, requester, holder, scopes, reason, ticket, seconds) SELECT gen_random_uuid(), organisation_id, kind, requester, ` + quote(h.chief) + `, scopes, reason, ticket, 60 FROM staff_grants LIMIT 1`, check},
		"a rule is changed":                       {`UPDATE staff_access_rules SET approvers = 'either'`, denied},
	} {
		err := h.d.Org(ctx, h.a.ID, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, c.sql); return err })
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != c.state {
			t.Errorf("%s: got %v, want SQLSTATE %s", name, err, c.state)
		}
	}
}

func quote(v any) string { return "'" + strings.ReplaceAll(fmt.Sprint(v), "'", "''") + "'" }

func FuzzWhatAGrantIsAskedFor(f *testing.F) {
	f.Add("The client reports wrong sums in May.", "INC-1042", "requests", int64(time.Hour))
	f.Add("", "", "", int64(0))
	f.Add("\x00\xff\u202e", strings.Repeat("ä", 101), "audit", int64(-1))
	f.Fuzz(func(t *testing.T, reason, ticket, scope string, d int64) {
		n := NewGrant{Organisation: uuid.New(), Scopes: []Scope{Scope(scope)}, Reason: reason, Ticket: ticket, Duration: time.Duration(d)}
		if n.check(GrantLongest) != nil {
			return
		}
		if n.Duration < GrantShortest || n.Duration > GrantLongest || len([]rune(n.Reason)) < shortestReason || n.Ticket == "" || !slices.Contains(Scopes, n.Scopes[0]) ||
			strings.ContainsAny(n.Reason+n.Ticket, "\x00\x1b\r") {
			t.Errorf("accepted %+v", n)
		}
	})
}
