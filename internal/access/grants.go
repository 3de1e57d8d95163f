package access

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// GrantOptions is what Grants stands on.
type GrantOptions struct {
	DB    *db.DB
	Guard *Guard
	// Names gives the display names of people; those it does not know are
	// shown by their id alone. May be nil.
	Names func(ctx context.Context, people []uuid.UUID) (map[uuid.UUID]string, error)
	// Alarm is called in the transaction that breaks the glass: an alarm that
	// cannot be recorded keeps the glass whole. May be nil.
	Alarm func(ctx context.Context, tx pgx.Tx, g Grant) error
	// Approved is called in the transaction that approves a grant, to have the
	// client told. May be nil.
	Approved func(ctx context.Context, tx pgx.Tx, g Grant) error
}

// Grants knows which staff may see which organisation's data, until when, and
// why. Safe for concurrent use.
type Grants struct{ GrantOptions }

// NewGrants makes it.
func NewGrants(o GrantOptions) *Grants { return &Grants{o} }

func (s *Grants) may(ctx context.Context, p principal.Principal, action policy.Action, g *Grant) error {
	r := policy.Resource{Organisation: g.Organisation}
	if g.ID != uuid.Nil {
		r.ID, r.Owner = g.ID.String(), personOf(g.Holder)
	}
	return s.Guard.Authorise(ctx, p, action, r)
}

// Request asks for access to an organisation's data. It opens nothing until
// somebody else approves it.
func (s *Grants) Request(ctx context.Context, p principal.Principal, in NewGrant) (Grant, error) {
	if err := in.check(GrantLongest); err != nil {
		return Grant{}, err
	}
	if p.Kind != principal.Person || !p.Platform() || p.Grant != uuid.Nil {
		return Grant{}, s.deny(ctx, p, in.Organisation, "grant.request", problem.New(problem.Denied, "grant-person",
			"Only a person of the platform, signed in, can ask for access to client data.").
			WithMend("Sign in, or, when nobody can, use `foundry grant break-glass` on the server."))
	}
	if err := s.Guard.Authorise(ctx, p, "grant.request", policy.Resource{Organisation: in.Organisation}); err != nil {
		return Grant{}, err
	}
	g := grantOf(in, GrantRequested, p.String(), p.String())
	err := s.DB.Org(ctx, in.Organisation, func(tx pgx.Tx) error {
		if err := insertGrant(ctx, tx, &g); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, g.Organisation, "grant.request", g.ID.String(), map[string]any{
			"scopes": g.Scopes, "ticket": g.Ticket, "seconds": int(g.Duration.Seconds())})
	})
	return s.made(ctx, g, err)
}

// BreakGlass gives a person of the platform access without approval, over the
// local socket only, for when nobody can approve. It raises the alarm, the
// client sees it, and somebody else has to review it afterwards.
func (s *Grants) BreakGlass(ctx context.Context, p principal.Principal, in NewGrant) (Grant, error) {
	if err := in.check(BreakGlassMost); err != nil {
		return Grant{}, err
	}
	if p.Kind != principal.Local {
		return Grant{}, s.deny(ctx, p, in.Organisation, "break-glass.open", problem.New(problem.Denied, "break-glass-local",
			"The glass can be broken only on the server itself, over its local socket.").
			WithMend("Ask for a grant: `foundry grant request`."))
	}
	if err := s.Guard.Authorise(ctx, p, "break-glass.open", policy.Resource{Type: "break-glass"}); err != nil {
		return Grant{}, err
	}
	if err := s.active(ctx, in.Holder); err != nil {
		return Grant{}, err
	}
	g := grantOf(in, GrantBreakGlass, p.String(), "person:"+in.Holder.String())
	err := s.DB.Org(ctx, in.Organisation, func(tx pgx.Tx) error {
		if err := insertGrant(ctx, tx, &g); err != nil {
			return err
		}
		until := g.RequestedAt.Add(g.Duration)
		if err := insertEvent(ctx, tx, &g, "opened", p, sidePlatform, "", &until); err != nil {
			return err
		}
		g.DecidedAt, g.ExpiresAt, g.State = &g.RequestedAt, &until, GrantActive
		if err := audit.Append(ctx, tx, p, g.Organisation, "break-glass.open", g.ID.String(), map[string]any{
			"scopes": g.Scopes, "ticket": g.Ticket, "seconds": int(g.Duration.Seconds()), "holder": g.Holder}); err != nil {
			return err
		}
		if s.Alarm == nil {
			return nil
		}
		return s.Alarm(ctx, tx, g)
	})
	return s.made(ctx, g, err)
}

func grantOf(in NewGrant, kind GrantKind, requester, holder string) Grant {
	return Grant{ID: uuid.Must(uuid.NewV7()), Organisation: in.Organisation, Kind: kind, Requester: requester, Holder: holder,
		Scopes: in.Scopes, Reason: in.Reason, Ticket: in.Ticket, Duration: in.Duration, State: GrantPending}
}

func (s *Grants) made(ctx context.Context, g Grant, err error) (Grant, error) {
	if foreign(err) {
		return Grant{}, errNoOrganisation
	}
	if err != nil {
		return Grant{}, err
	}
	return s.find(ctx, g.Organisation, g.ID)
}

var errNoOrganisation = problem.New(problem.NotFound, "organisation-unknown", "There is no such organisation.").WithField("organisation").
	WithMend("`foundry org list` shows them.")

// deny audits a denial that the policies do not know of, and returns it.
func (s *Grants) deny(ctx context.Context, p principal.Principal, org uuid.UUID, act string, why *problem.Error) error {
	if err := audit.Deny(ctx, s.DB, p, org, act, "", map[string]any{"code": why.Code}); err != nil {
		return err
	}
	return why
}

// Approve lets a grant begin: from now, for as long as was asked.
func (s *Grants) Approve(ctx context.Context, p principal.Principal, id uuid.UUID, note string) (Grant, error) {
	return s.decide(ctx, p, id, "approved", "grant.approve", note)
}

// Reject refuses a request.
func (s *Grants) Reject(ctx context.Context, p principal.Principal, id uuid.UUID, note string) (Grant, error) {
	return s.decide(ctx, p, id, "rejected", "grant.reject", note)
}

func (s *Grants) decide(ctx context.Context, p principal.Principal, id uuid.UUID, event string, act policy.Action, note string) (Grant, error) {
	g, err := s.visible(ctx, p, id)
	if err != nil {
		return Grant{}, err
	}
	if err := note0(note); err != nil {
		return Grant{}, err
	}
	if err := s.may(ctx, p, act, &g); err != nil {
		return Grant{}, err
	}
	rule, err := s.Rule(ctx, g.Organisation)
	if err != nil {
		return Grant{}, err
	}
	side, err := mayApprove(p, &g, rule)
	if err == nil && event == "approved" {
		err = s.differentPeople(ctx, p.ID, personOf(g.Holder))
	}
	if e := problem.From(err); err != nil {
		if e.Kind == problem.Denied {
			return Grant{}, s.deny(ctx, p, g.Organisation, string(act), e)
		}
		return Grant{}, err
	}
	err = s.DB.Org(ctx, g.Organisation, func(tx pgx.Tx) error {
		// Read again in this transaction: the database's clock decides whether
		// it has lapsed, and one index whether somebody was faster.
		now, g, err := grantNow(ctx, tx, id)
		if err != nil {
			return err
		}
		if g.State != GrantPending {
			_, err := mayApprove(p, &g, rule)
			return err
		}
		details := map[string]any{"holder": g.Holder, "side": side}
		var until *time.Time
		if event == "approved" {
			t := now.Add(g.Duration)
			until, details["until"] = &t, t
		}
		if err := insertEvent(ctx, tx, &g, event, p, side, note, until); err != nil {
			return err
		}
		if err := audit.Append(ctx, tx, p, g.Organisation, string(act), g.ID.String(), details); err != nil {
			return err
		}
		if event != "approved" || s.Approved == nil {
			return nil
		}
		g.DecidedAt, g.ExpiresAt = &now, until
		return s.Approved(ctx, tx, g)
	})
	if duplicate(err) {
		if g, err = s.find(ctx, g.Organisation, id); err == nil {
			err = errDecided(&g)
		}
		return Grant{}, err
	}
	if err != nil {
		return Grant{}, err
	}
	return s.find(ctx, g.Organisation, id)
}

// End ends a grant, or withdraws a request, at once and for good. Its holder
// may, and so may either side. Ending one that is over changes nothing.
func (s *Grants) End(ctx context.Context, p principal.Principal, id uuid.UUID, note string) (Grant, error) {
	g, err := s.visible(ctx, p, id)
	if err != nil {
		return Grant{}, err
	}
	if err := note0(note); err != nil {
		return Grant{}, err
	}
	side := sidePlatform
	if !p.Platform() && p.Grant == uuid.Nil {
		side = sideClient
	}
	// Giving up one's own access needs nobody's permission.
	if own := p.String() == g.Requester || p.String() == g.Holder; !own {
		if err := s.may(ctx, p, "grant.revoke", &g); err != nil {
			return Grant{}, err
		}
	}
	if g.State != GrantActive && g.State != GrantPending {
		return g, nil
	}
	err = s.DB.Org(ctx, g.Organisation, func(tx pgx.Tx) error {
		if err := insertEvent(ctx, tx, &g, "ended", p, side, note, nil); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, g.Organisation, "grant.revoke", g.ID.String(), map[string]any{"holder": g.Holder, "side": side})
	})
	if err != nil && !duplicate(err) { // somebody ended it at the same moment
		return Grant{}, err
	}
	return s.find(ctx, g.Organisation, id)
}

// Review records that somebody looked at what was done under a break-glass grant.
func (s *Grants) Review(ctx context.Context, p principal.Principal, id uuid.UUID, note string) (Grant, error) {
	g, err := s.visible(ctx, p, id)
	if err != nil {
		return Grant{}, err
	}
	if err := text("note", note, shortestReason, longestReason, "Say what was found."); err != nil {
		return Grant{}, err
	}
	if err := s.may(ctx, p, "grant.review", &g); err != nil {
		return Grant{}, err
	}
	side, ok := approverSide(p, g.Organisation, ApproversEither)
	switch {
	case p.String() == g.Requester || p.String() == g.Holder:
		return Grant{}, s.deny(ctx, p, g.Organisation, "grant.review", errOwnGrant)
	case !ok:
		return Grant{}, s.deny(ctx, p, g.Organisation, "grant.review", problem.New(problem.Denied, "grant-approver", "You may not review this access.").
			WithMend(approversMend(ApproversEither)))
	case g.Kind != GrantBreakGlass:
		return Grant{}, problem.New(problem.Conflict, "grant-reviewed", "Only a break-glass grant is reviewed; this one was approved.")
	}
	if err := s.differentPeople(ctx, p.ID, personOf(g.Holder)); err != nil {
		return Grant{}, err
	}
	err = s.DB.Org(ctx, g.Organisation, func(tx pgx.Tx) error {
		if err := insertEvent(ctx, tx, &g, "reviewed", p, side, note, nil); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, g.Organisation, "grant.review", g.ID.String(), map[string]any{"side": side})
	})
	if duplicate(err) {
		return Grant{}, problem.New(problem.Conflict, "grant-reviewed", "This grant is reviewed already.")
	}
	if err != nil {
		return Grant{}, err
	}
	return s.find(ctx, g.Organisation, id)
}

// UseGrant is asked when somebody of the platform opens an organisation's
// data. With a grant in force for the scope it returns the principal as it
// then acts: in that organisation, with Grant set, so that every act is linked
// to it. Without one it audits the denial. Use is noted once a minute.
//
// Ask it anew for every request: a grant that is ended ends at once.
func (s *Grants) UseGrant(ctx context.Context, p principal.Principal, org uuid.UUID, scope Scope) (principal.Principal, error) {
	acting, found, err := s.TryGrant(ctx, p, org, scope)
	if err == nil && !found {
		err = s.deny(ctx, p, org, "grant.use", errNoGrant(scope))
	}
	return acting, err
}

// TryGrant is UseGrant for callers that ask the Guard next: without a grant
// the principal stays as it is, and the policies deny and audit.
func (s *Grants) TryGrant(ctx context.Context, p principal.Principal, org uuid.UUID, scope Scope) (acting principal.Principal, found bool, err error) {
	if p.Kind != principal.Person || !p.Platform() || org == uuid.Nil {
		return p, false, nil
	}
	acting = p
	err = s.DB.Org(ctx, org, func(tx pgx.Tx) error {
		g, err := inForce(ctx, tx, p.String(), scope)
		if err != nil || g.ID == uuid.Nil {
			return err
		}
		acting, found = under(p, org, g.ID), true
		first, err := noteUse(ctx, tx, &g, acting)
		if err != nil || !first {
			return err
		}
		return audit.Append(ctx, tx, acting, org, "grant.use", g.ID.String(), map[string]any{"scope": scope})
	})
	if err != nil {
		return p, false, err
	}
	return acting, found, nil
}

func under(p principal.Principal, org, grant uuid.UUID) principal.Principal {
	p.Organisation, p.Grant = org, grant
	return p
}

func errNoGrant(scope Scope) *problem.Error {
	return problem.New(problem.Denied, "grant-needed", fmt.Sprintf("No grant that is in force opens this organisation's data (%s) to you.", scope)).
		WithMend("Ask for one: `foundry grant request`; somebody else has to approve it.")
}

// SetRule says who may approve access to an organisation's data.
func (s *Grants) SetRule(ctx context.Context, p principal.Principal, org uuid.UUID, a Approvers) error {
	if a != ApproversEither && a != ApproversOrganisation && a != ApproversPlatform {
		return problem.New(problem.Invalid, "grant-approvers", fmt.Sprintf("%q does not say who may approve.", a)).WithField("approvers").
			WithMend("Use either, organisation or platform-security.")
	}
	if err := s.Guard.Authorise(ctx, p, "grant.rule", policy.Resource{Organisation: org}); err != nil {
		return err
	}
	err := s.DB.Org(ctx, org, func(tx pgx.Tx) error {
		if err := insertRule(ctx, tx, org, a, p); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, org, "grant.rule", org.String(), map[string]any{"approvers": a})
	})
	if foreign(err) {
		return errNoOrganisation
	}
	return err
}

// note0 checks a note that may be empty.
func note0(note string) error { return text("note", note, 0, longestReason, "Shorten it.") }
