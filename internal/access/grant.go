package access

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Scope is what part of an organisation's data a grant opens.
type Scope string

// The scopes. A grant opens what it names and nothing else.
const (
	ScopeRequests Scope = "requests" // which requests were made, refused and transferred, and why; never their content
	ScopeBilling  Scope = "billing"  // usage, cost and budgets in detail
	ScopeAudit    Scope = "audit"    // the organisation's audit log
	ScopeSettings Scope = "settings" // policies, keys and who has which role
)

// Scopes lists every scope.
var Scopes = []Scope{ScopeRequests, ScopeBilling, ScopeAudit, ScopeSettings}

// ScopeOf is the scope that covers an action; false for actions that no grant opens.
func ScopeOf(a policy.Action) (Scope, bool) {
	switch a.Type() {
	case "request", "refusal", "transfer":
		return ScopeRequests, true
	case "usage", "budget":
		return ScopeBilling, true
	case "audit":
		return ScopeAudit, true
	case "organisation", "policy", "key", "person", "membership", "service-account", "invitation", "route":
		return ScopeSettings, true
	}
	return "", false
}

// Bounds of a grant.
const (
	GrantDefault     = time.Hour      // how long it lasts when nothing is asked
	GrantShortest    = time.Minute    //
	GrantLongest     = 8 * time.Hour  // a shift; the database refuses more as well
	BreakGlassMost   = time.Hour      // without anybody's approval
	ApprovalLife     = 24 * time.Hour // a request that nobody approved by then has lapsed
	ReviewWithin     = 24 * time.Hour // a break-glass grant that nobody looked at by then is a finding
	shortestReason   = 10             // characters
	longestReason    = 1000
	longestTicket    = 100
	grantUseInterval = time.Minute // the index staff_grant_used_by_minute keeps it
)

// Approvers says who may approve staff access to an organisation's data. An
// administrator or approver of the organisation sets it.
type Approvers string

// Who may approve. The default is either: a client that wants to decide alone
// says so, and a client with nobody on call leaves it to platform security.
const (
	ApproversEither       Approvers = "either"
	ApproversOrganisation Approvers = "organisation"
	ApproversPlatform     Approvers = "platform-security"
)

// GrantKind is how a grant came to be.
type GrantKind string

// Kinds of grant.
const (
	GrantRequested  GrantKind = "request"     // asked for by one person, approved by another
	GrantBreakGlass GrantKind = "break-glass" // opened over the local socket, with an alarm and a review afterwards
)

// GrantState is where a grant stands.
type GrantState string

// States of a grant. Only an active one opens anything.
const (
	GrantPending  GrantState = "pending"  // waits for approval
	GrantLapsed   GrantState = "lapsed"   // nobody approved it in time
	GrantRejected GrantState = "rejected" //
	GrantActive   GrantState = "active"   //
	GrantExpired  GrantState = "expired"  // its time is over
	GrantEnded    GrantState = "ended"    // ended early, by either side
)

// Grant is one person's time-boxed access to one organisation's data.
type Grant struct {
	ID           uuid.UUID     `json:"id"`
	Organisation uuid.UUID     `json:"organisation"`
	Kind         GrantKind     `json:"kind"`
	Requester    string        `json:"requester"`               // principal: person:<id>, the same in every audit entry
	Holder       string        `json:"holder"`                  // who may use it; the requester, save for a break-glass grant
	HolderName   string        `json:"holder_name,omitempty"`   // as the person is called
	Approver     string        `json:"approver,omitempty"`      // or who rejected it
	ApproverSide string        `json:"approver_side,omitempty"` // client or platform
	Scopes       []Scope       `json:"scopes"`                  //
	Reason       string        `json:"reason"`                  //
	Ticket       string        `json:"ticket"`                  //
	Duration     time.Duration `json:"duration_ns"`             // from approval
	State        GrantState    `json:"state"`                   //
	RequestedAt  time.Time     `json:"requested_at"`            //
	DecidedAt    *time.Time    `json:"decided_at,omitempty"`    //
	ExpiresAt    *time.Time    `json:"expires_at,omitempty"`    //
	FirstUsedAt  *time.Time    `json:"first_used_at,omitempty"` // to the minute
	LastUsedAt   *time.Time    `json:"last_used_at,omitempty"`  // to the minute
	UsedMinutes  int           `json:"used_minutes"`            // in how many minutes it was used
	EndedAt      *time.Time    `json:"ended_at,omitempty"`      //
	EndedBy      string        `json:"ended_by,omitempty"`      //
	ReviewedAt   *time.Time    `json:"reviewed_at,omitempty"`   // a break-glass grant
	ReviewedBy   string        `json:"reviewed_by,omitempty"`   //
	Finding      string        `json:"finding,omitempty"`       // of the review
	Note         string        `json:"note,omitempty"`          // of the decision or the end
	Until        *time.Time    `json:"approve_until,omitempty"` // while pending
}

// state tells where a grant stands from what happened to it.
func (g *Grant) state(now time.Time) GrantState {
	switch {
	case g.EndedAt != nil:
		return GrantEnded
	case g.DecidedAt != nil && g.ExpiresAt == nil:
		return GrantRejected
	case g.ExpiresAt != nil && !now.Before(*g.ExpiresAt):
		return GrantExpired
	case g.ExpiresAt != nil:
		return GrantActive
	case !now.Before(g.RequestedAt.Add(ApprovalLife)):
		return GrantLapsed
	}
	return GrantPending
}

// Opens reports whether the grant covers a scope.
func (g *Grant) Opens(s Scope) bool { return g.State == GrantActive && slices.Contains(g.Scopes, s) }

// NewGrant is what a caller asks of Request or BreakGlass.
type NewGrant struct {
	Organisation uuid.UUID
	Scopes       []Scope
	Reason       string
	Ticket       string
	Duration     time.Duration // zero: GrantDefault
	Holder       uuid.UUID     // break-glass only: the person of the platform who gets in
}

// check validates and completes a request.
func (n *NewGrant) check(longest time.Duration) error {
	n.Reason, n.Ticket = strings.TrimSpace(n.Reason), strings.TrimSpace(n.Ticket)
	if n.Duration == 0 {
		n.Duration = min(GrantDefault, longest)
	}
	n.Scopes = slices.Clone(n.Scopes)
	slices.Sort(n.Scopes)
	n.Scopes = slices.Compact(n.Scopes)
	switch {
	case n.Organisation == uuid.Nil:
		return problem.New(problem.Invalid, "grant-organisation", "A grant is for the data of one organisation.").WithField("organisation").
			WithMend("Name the organisation.")
	case len(n.Scopes) == 0:
		return problem.New(problem.Invalid, "grant-scope", "A grant says what it opens.").WithField("scopes").WithMend("Use " + scopeList() + ".")
	case n.Duration < GrantShortest || n.Duration > longest || n.Duration%time.Second != 0:
		return problem.New(problem.Invalid, "grant-duration", fmt.Sprintf("A grant cannot last %s.", n.Duration)).WithField("duration").
			WithMend(fmt.Sprintf("Use 1m to %s, in whole seconds.", longest))
	}
	for _, s := range n.Scopes {
		if !slices.Contains(Scopes, s) {
			return problem.New(problem.Invalid, "grant-scope", fmt.Sprintf("There is no scope %q.", s)).WithField("scopes").WithMend("Use " + scopeList() + ".")
		}
	}
	if err := text("reason", n.Reason, shortestReason, longestReason, "Say what has to be looked at and why, for example: the client reports wrong sums in May."); err != nil {
		return err
	}
	return text("ticket", n.Ticket, 1, longestTicket, "Name the ticket or incident that this belongs to, for example INC-1042.")
}

func scopeList() string {
	var words []string
	for _, s := range Scopes {
		words = append(words, string(s))
	}
	return strings.Join(words, ", ")
}

// text refuses what is too short, too long or not printable: the client reads it.
func text(field, s string, least, most int, mend string) error {
	n := utf8.RuneCountInString(s)
	bad := !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f || r == 0xfffd })
	if n < least || n > most || bad {
		return problem.New(problem.Invalid, "grant-"+field, fmt.Sprintf("The %s has to be %d to %d printable characters.", field, least, most)).
			WithField(field).WithMend(mend)
	}
	return nil
}

// Sides of a grant.
const (
	sideClient   = "client"
	sidePlatform = "platform"
)

// approverSide says on whose side a principal may decide about grants for an
// organisation; false when they may not. Only a person can, in a session of
// their own: not the node, not a key, not the local socket, and nobody who is
// in the organisation's data by a grant themselves.
func approverSide(p principal.Principal, org uuid.UUID, rule Approvers) (string, bool) {
	if p.Kind != principal.Person || p.Grant != uuid.Nil {
		return "", false
	}
	switch {
	case p.Organisation == org && org != uuid.Nil && rule != ApproversPlatform &&
		(p.Roles.Has(principal.Administrator) || p.Roles.Has(principal.Approver)):
		return sideClient, true
	case p.Platform() && rule != ApproversOrganisation && p.Roles.Has(principal.PlatformSecurity):
		return sidePlatform, true
	}
	return "", false
}

// mayApprove decides about one grant. It is asked beside the Guard: the
// policies know roles, this knows the people of this grant.
func mayApprove(p principal.Principal, g *Grant, rule Approvers) (string, error) {
	side, ok := approverSide(p, g.Organisation, rule)
	switch {
	case p.String() == g.Requester || p.String() == g.Holder:
		return "", errOwnGrant
	case !ok:
		return "", problem.New(problem.Denied, "grant-approver", "You may not approve this access.").WithMend(approversMend(rule))
	case g.State == GrantLapsed:
		return "", problem.New(problem.Conflict, "grant-lapsed", "Nobody approved this request within 24 hours; it has lapsed.").
			WithMend("Ask for it again.")
	case g.State != GrantPending:
		return "", errDecided(g)
	}
	return side, nil
}

var errOwnGrant = problem.New(problem.Denied, "grant-own", "Nobody approves access for themselves, whatever account they use.").
	WithMend("Ask somebody else to approve it.")

func errDecided(g *Grant) error {
	return problem.New(problem.Conflict, "grant-decided", fmt.Sprintf("This request is %s already.", g.State)).
		WithMend("`foundry grant show` tells by whom.")
}

func approversMend(rule Approvers) string {
	switch rule {
	case ApproversOrganisation:
		return "An administrator or approver of the organisation has to."
	case ApproversPlatform:
		return "Somebody who holds platform-security has to."
	}
	return "Somebody who holds platform-security has to, or an administrator or approver of the organisation."
}
