package backup

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Bounds of an emergency session.
const (
	DefaultEmergency = time.Hour
	LongestEmergency = 4 * time.Hour
	challengeLasts   = 2 * time.Minute
	mostChallenges   = 100
)

// ScopeKit is the scope of a kit that was opened without a node.
const ScopeKit = "kit"

// emergencyRoles says what each scope of an emergency session may do.
var emergencyRoles = map[string]principal.Role{
	"operate": principal.PlatformOperator, "secure": principal.PlatformSecurity, "administer": principal.PlatformAdministrator,
}

// Challenge is what a proof of the recovery key is about. The shares themselves
// never leave the machine of whoever types them.
type Challenge struct {
	Set       string    `json:"set"`
	Threshold int       `json:"threshold"`
	Nonce     string    `json:"nonce"`
	Expires   time.Time `json:"expires_at"`
}

// OpenGlass asks for an emergency session.
type OpenGlass struct {
	Nonce   string `json:"nonce"`
	Proof   string `json:"proof"` // ProveKey, hexadecimal
	Shares  []int  `json:"shares"`
	Scope   string `json:"scope"`
	Seconds int    `json:"seconds,omitempty"`
	Reason  string `json:"reason"`
}

// ProveKey shows that its caller has the recovery key, for one request.
func ProveKey(authenticator []byte, r OpenGlass) string {
	m := hmac.New(sha256.New, authenticator)
	fmt.Fprintf(m, "foundry break glass v1\n%q %v %q %d %q", r.Nonce, r.Shares, r.Scope, r.Seconds, r.Reason)
	return hex.EncodeToString(m.Sum(nil))
}

// emergency is a session behind broken glass. It is kept in memory: a node that
// is started again knows none.
type emergency struct {
	Opening
	role principal.Role
}

// Challenge begins the proof of the recovery key.
func (g *Glass) Challenge(ctx context.Context, p principal.Principal) (c Challenge, err error) {
	if err := g.mayOpen(ctx, p); err != nil {
		return c, err
	}
	raw := make([]byte, 24)
	if _, err := io.ReadFull(g.o.Random, raw); err != nil {
		return c, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == nil {
		return c, errNoKey
	}
	now := g.o.Clock()
	for n, until := range g.challenges {
		if now.After(until) {
			delete(g.challenges, n)
		}
	}
	if len(g.challenges) >= mostChallenges {
		return c, problem.New(problem.RateLimited, "break-glass-busy", "Too many proofs were begun.").WithMend("Try again in two minutes.").WithRetry(challengeLasts)
	}
	c = Challenge{Set: g.state.Set.String(), Threshold: g.state.Threshold, Nonce: base64.RawURLEncoding.EncodeToString(raw), Expires: now.Add(challengeLasts).UTC()}
	g.challenges[c.Nonce] = c.Expires
	return c, nil
}

// mayOpen lets only processes of this machine try: break-glass is for whoever
// stands at the server. A denial must not depend on the database.
func (g *Glass) mayOpen(ctx context.Context, p principal.Principal) error {
	return g.o.Guard.Authorise(ctx, p, "break-glass.open", policy.Resource{})
}

// OpenedGlass is an emergency session, with its token, shown once.
type OpenedGlass struct {
	Opening
	Token string `json:"token"`
}

// Open lets somebody in who proves the recovery key: for a limited time, with
// one role. It works without the database. The act is durable, and on its way
// to everybody who should know, before the session begins.
func (g *Glass) Open(ctx context.Context, p principal.Principal, r OpenGlass) (out OpenedGlass, err error) {
	if err := g.mayOpen(ctx, p); err != nil {
		return out, err
	}
	role, ok := emergencyRoles[r.Scope]
	if !ok {
		return out, problem.New(problem.Invalid, "break-glass-scope", fmt.Sprintf("%q is no scope of an emergency session.", r.Scope)).WithField("scope").WithMend("Use operate, secure or administer: the least that helps.")
	}
	lasts := time.Duration(r.Seconds) * time.Second
	if r.Seconds == 0 {
		lasts = DefaultEmergency
	}
	if lasts < time.Minute || lasts > LongestEmergency {
		return out, problem.New(problem.Invalid, "break-glass-duration", fmt.Sprintf("An emergency session lasts from a minute to %s.", LongestEmergency)).WithField("seconds").WithMend("Open another one when it has ended.")
	}
	if len(strings.TrimSpace(r.Reason)) < 10 || len(r.Reason) > 1000 {
		return out, problem.New(problem.Invalid, "break-glass-reason", "Breaking the glass needs a reason of 10 to 1000 characters.").WithField("reason").WithMend("Say in a sentence what happened.")
	}
	set, err := g.prove(r)
	if err != nil {
		if derr := audit.Deny(ctx, g.o.DB, p, uuid.Nil, "break-glass.open", "", map[string]any{"code": problem.From(err).Code}); derr != nil {
			g.o.Log.Warn("a refused attempt to break the glass is not in the audit log", "actor", p.String(), "error", derr)
		}
		return out, err
	}
	raw := make([]byte, 32)
	if _, err := io.ReadFull(g.o.Random, raw); err != nil {
		return out, err
	}
	now := g.o.Clock().UTC().Truncate(time.Microsecond)
	o := Opening{ID: uuid.Must(uuid.NewV7()), Set: set.String(), By: p.String(), Scope: r.Scope, Reason: r.Reason, Shares: r.Shares, Opened: now, Until: now.Add(lasts)}
	if err := g.chain.append(glassAct{ID: o.ID, At: now, Act: "open", Opening: o.ID, Details: &o}); err != nil {
		return out, err
	}
	g.o.Log.Warn("the glass was broken: somebody got in with the shares of the recovery key", "opening", o.ID, "scope", o.Scope, "actor", o.By, "until", o.Until)
	token := "foundry-emergency-" + base64.RawURLEncoding.EncodeToString(raw)
	g.mu.Lock()
	g.sessions[sha256.Sum256([]byte(token))] = &emergency{o, role}
	g.mu.Unlock()
	if err := g.Anchor(ctx); err != nil {
		g.o.Log.Warn("the opening waits in a file until the database takes it", "opening", o.ID, "error", err)
	}
	return OpenedGlass{o, token}, nil
}

// prove checks a proof. A challenge serves once.
func (g *Glass) prove(r OpenGlass) (set kit.SetID, err error) {
	g.mu.Lock()
	s := g.state
	until, known := g.challenges[r.Nonce]
	delete(g.challenges, r.Nonce)
	g.mu.Unlock()
	if s == nil {
		return set, errNoKey
	}
	if !known || g.o.Clock().After(until) {
		return set, problem.New(problem.Unauthenticated, "break-glass-challenge", "The proof was begun too long ago, or used already.").WithMend("Run the command again.")
	}
	secrets, err := g.secrets(s)
	if err != nil {
		return set, err
	}
	distinct := slices.Compact(slices.Sorted(slices.Values(r.Shares)))
	if len(distinct) < s.Threshold || !hmac.Equal([]byte(ProveKey(secrets.Authenticator, r)), []byte(r.Proof)) {
		return set, problem.New(problem.Unauthenticated, "break-glass-proof", "The shares do not make this node's recovery key.").
			WithMend(fmt.Sprintf("Use the shares of set %s.", s.Set))
	}
	return s.Set, nil
}

// Session finds who acts by the token of an emergency session. Its acts are
// entered before they are done. A nil error and false: it is no such token.
func (g *Glass) Session(token, request string, changes bool) (p principal.Principal, found bool, err error) {
	if !strings.HasPrefix(token, "foundry-emergency-") {
		return p, false, nil
	}
	now := g.o.Clock()
	g.mu.Lock()
	e := g.sessions[sha256.Sum256([]byte(token))]
	g.mu.Unlock()
	if e == nil || !now.Before(e.Until) {
		return p, true, problem.New(problem.Unauthenticated, "break-glass-ended", "The emergency session has ended.").WithMend("Open another one with `foundry breakglass open`, if it is still needed.")
	}
	if changes {
		if err := g.chain.append(glassAct{ID: uuid.Must(uuid.NewV7()), At: now.UTC(), Act: "request", Opening: e.ID, Request: request}); err != nil {
			return p, true, err
		}
		g.Kick()
	}
	// The shares of several people stand for the second factor, for as long as
	// the session lasts.
	return principal.Principal{Kind: principal.Person, ID: e.ID.String(), Session: principal.Emergency, Roles: principal.RolesOf(e.role), SecondFactor: now}, true, nil
}

// End ends an emergency session before its time, by its token.
func (g *Glass) End(token string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	id := sha256.Sum256([]byte(token))
	e := g.sessions[id]
	if e == nil {
		return problem.New(problem.NotFound, "break-glass-ended", "There is no such emergency session.").WithMend("It may have ended already: `foundry breakglass status`.")
	}
	delete(g.sessions, id)
	return g.chain.append(glassAct{ID: uuid.Must(uuid.NewV7()), At: g.o.Clock().UTC(), Act: "end", Opening: e.ID})
}

// OpenedOffline enters that a kit was opened without a node: its acts wait in
// the data directory's file, if there is one.
func (g *Glass) OpenedOffline(by, reason string, set kit.SetID, shares []int) error {
	now := g.o.Clock().UTC().Truncate(time.Microsecond)
	o := Opening{ID: uuid.Must(uuid.NewV7()), Set: set.String(), By: by, Scope: ScopeKit, Reason: reason, Shares: shares, Opened: now, Until: now, Offline: true}
	return g.chain.append(glassAct{ID: o.ID, At: now, Act: "open", Opening: o.ID, Details: &o})
}

// Anchor enters what waits in the file into the database and the audit log,
// with the hash of its place in the chain, and raises the alarms. Entered twice
// is the same as once.
func (g *Glass) Anchor(ctx context.Context) error {
	for {
		act, ok := g.chain.next()
		if !ok {
			return nil
		}
		err := g.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
			fresh, err := g.anchor(ctx, tx, act)
			if err != nil || !fresh {
				return err
			}
			details := map[string]any{"chain": hex.EncodeToString(act.hash[:]), "at": act.At, "opening": act.Opening}
			who := principal.Node("break-glass")
			if act.Details != nil {
				details["by"], details["scope"], details["reason"], details["shares"] = act.Details.By, act.Details.Scope, act.Details.Reason, act.Details.Shares
				details["until"], details["offline"], details["set"] = act.Details.Until, act.Details.Offline, act.Details.Set
			}
			if act.Request != "" {
				details["request"] = act.Request
			}
			return audit.Append(ctx, tx, who, uuid.Nil, "break-glass."+act.Act, act.Opening.String(), details)
		})
		if err != nil {
			return err
		}
		if err := g.chain.entered(); err != nil {
			return err
		}
	}
}

func (g *Glass) anchor(ctx context.Context, tx pgx.Tx, act chained) (fresh bool, err error) {
	if act.Act != "open" || act.Details == nil {
		return true, nil
	}
	if fresh, err = insertOpening(ctx, tx, *act.Details, act.hash[:]); err != nil || !fresh {
		return fresh, err
	}
	if g.o.Alarm != nil {
		return true, g.o.Alarm(ctx, tx, *act.Details)
	}
	return true, nil
}

// ReviewOpening notes what somebody else found who looked at what was done.
func (g *Glass) ReviewOpening(ctx context.Context, p principal.Principal, id uuid.UUID, finding string, justified bool) (o Opening, err error) {
	if err := g.o.Guard.Authorise(ctx, p, "break-glass.review", policy.Resource{ID: id.String()}); err != nil {
		return o, err
	}
	if finding = strings.TrimSpace(finding); len(finding) < 10 || len(finding) > 2000 {
		return o, problem.New(problem.Invalid, "break-glass-finding", "A review needs a finding of 10 to 2000 characters.").WithField("finding").WithMend("Say in a sentence what was done and whether it was right.")
	}
	if err := g.Anchor(ctx); err != nil {
		return o, err
	}
	err = g.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if o, err = selectOpening(ctx, tx, id); err != nil {
			return err
		}
		switch {
		case o.Reviewed != nil:
			return problem.New(problem.Conflict, "break-glass-reviewed", "This opening was reviewed already.").WithField("id").WithMend("See `foundry breakglass status`.")
		case o.By == p.String() && g.o.Guard.Mode() == "production", p.ID == o.ID.String():
			return problem.New(problem.Denied, "break-glass-self", "Whoever broke the glass cannot review it.").WithMend("Ask somebody else who may: security or an administrator of the platform.")
		}
		if err := insertReview(ctx, tx, id, p.String(), finding, justified); err != nil {
			return err
		}
		if err := audit.Append(ctx, tx, p, uuid.Nil, "break-glass.review", id.String(), map[string]any{"finding": finding, "justified": justified}); err != nil {
			return err
		}
		o, err = selectOpening(ctx, tx, id)
		return err
	})
	return o, err
}

// NewKitDrill is a drill that somebody ran with nothing but the kit.
type NewKitDrill struct {
	Set       string     `json:"set"`
	ByContact bool       `json:"by_contact"`
	Outcome   Outcome    `json:"outcome"`
	Reason    string     `json:"reason"`
	Seconds   float64    `json:"seconds"`
	Recovered *time.Time `json:"recovered_at,omitempty"`
	KitMade   time.Time  `json:"kit_made_at"`
	Evidence  string     `json:"evidence"` // the printed record, signed with this node's evidence key
}

// NoteDrill enters a drill. verify checks the record's signature.
func (g *Glass) NoteDrill(ctx context.Context, p principal.Principal, n NewKitDrill, verify func(signed string) error) (d KitDrill, err error) {
	if err := g.o.Guard.Authorise(ctx, p, "break-glass.drill", policy.Resource{}); err != nil {
		return d, err
	}
	if n.Outcome != Pass && n.Outcome != Fail && n.Outcome != Inconclusive {
		return d, problem.New(problem.Invalid, "break-glass-outcome", fmt.Sprintf("%q is no outcome.", n.Outcome)).WithField("outcome").WithMend("Use pass, fail or inconclusive.")
	}
	if n.Outcome == Pass {
		// Only a restore that opened this node's keys can sign with its evidence key.
		if err := verify(n.Evidence); err != nil {
			return d, err
		}
		if !strings.Contains(n.Evidence, "\nproof: pass\n") || !strings.Contains(n.Evidence, "set "+n.Set) {
			return d, problem.New(problem.Invalid, "break-glass-evidence", "The record does not say that the recovered point was proven with this set.").WithField("evidence").WithMend("Send the record of that drill.")
		}
	}
	sum := sha256.Sum256([]byte(n.Evidence))
	d = KitDrill{ID: uuid.Must(uuid.NewV7()), Set: n.Set, By: p.String(), ByContact: n.ByContact, Outcome: n.Outcome, Reason: n.Reason, Seconds: n.Seconds,
		Recovered: n.Recovered, KitMade: n.KitMade, Evidence: hex.EncodeToString(sum[:]), At: g.o.Clock().UTC()}
	err = g.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := insertDrill(ctx, tx, d); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, uuid.Nil, "break-glass.drill", d.ID.String(), map[string]any{"set": d.Set, "outcome": d.Outcome, "evidence": d.Evidence, "seconds": d.Seconds, "by_contact": d.ByContact})
	})
	return d, err
}
