package api

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/outage"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// ServePublic answers a request that came over the network: of a person, who
// sends the token of a session, or of somebody who is about to sign in. Cookies
// count for nothing here, so that no other site can act in a browser's name.
func (a *API) ServePublic(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	client := clientOf(r)
	r = r.WithContext(context.WithValue(r.Context(), clientKey{}, client))
	if a.People == nil || a.Sessions == nil {
		problem.Write(w, problem.New(problem.Unavailable, "sign-in-closed", "Nobody can sign in here yet.").WithRetry(5*time.Second))
		return
	}
	if signInPaths[r.URL.Path] && r.Method == http.MethodPost {
		a.Serve(w, r, principal.Principal{Kind: principal.Anonymous})
		return
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="foundry"`) // RFC 6750
		problem.Write(w, problem.New(problem.Unauthenticated, "session-missing", "This needs a signed-in session.").
			WithMend("Run `foundry login`, or send the session's token as `Authorization: Bearer fds_…`."))
		return
	}
	p, err := a.whose(r, strings.TrimSpace(token))
	if err != nil {
		if problem.From(err).Kind == problem.Unauthenticated {
			w.Header().Set("WWW-Authenticate", `Bearer realm="foundry", error="invalid_token"`)
		}
		problem.Write(w, err)
		return
	}
	a.Serve(w, r, p)
}

// whose says who a session's token belongs to. Where sessions cannot be checked
// because the database is down, operators can sign in without it.
func (a *API) whose(r *http.Request, token string) (principal.Principal, error) {
	if outage.OursToken(token) {
		p, _, err := a.Door.Check(r.Context(), token)
		return p, err
	}
	check := a.Sessions.Check
	if enrolmentPaths[r.URL.Path] {
		check = a.Sessions.CheckEnrolment
	}
	p, _, err := check(r.Context(), time.Now(), token)
	if err != nil && a.Door.Away() && problem.From(err).Kind == problem.Unavailable {
		e := *problem.From(err)
		e.Mend = "Operators of the platform can sign in without the database: `foundry login`."
		return p, &e
	}
	return p, err
}

type clientKey struct{}

// clientOf says where a request came from, as far as this listener knows.
func clientOf(r *http.Request) access.Client {
	c := access.Client{Agent: r.UserAgent()}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.Address = at.Addr().Unmap()
	}
	return c
}

// Anybody is embedded in the input of operations that come before a sign-in.
type Anybody struct{ Client access.Client }

// Resolve takes what ServePublic found out about the caller.
func (c *Anybody) Resolve(ctx huma.Context) []error {
	client, ok := ctx.Context().Value(clientKey{}).(access.Client)
	if !ok {
		return []error{problem.New(problem.Denied, "sign-in-remote", "Sign-in is offered over HTTPS only.").
			WithMend("Ask the node's HTTPS address; `foundry login` does.")}
	}
	c.Client = client
	return nil
}

// signInPaths are the operations that a caller who is nobody yet may ask for.
var signInPaths = map[string]bool{"/api/v1/signin": true, "/api/v1/signin/factor": true, "/api/v1/invitation/accept": true}

// enrolmentPaths are open to a session that must still enrol a second factor.
var enrolmentPaths = map[string]bool{"/api/v1/session": true, "/api/v1/session/totp": true, "/api/v1/session/totp/confirm": true}

type accept struct {
	Anybody
	Body struct {
		Token    string `json:"token" maxLength:"200" doc:"From the invitation."`
		Name     string `json:"name,omitempty" maxLength:"200" doc:"Default: the name in the invitation."`
		Password string `json:"password" maxLength:"1024"`
	}
}

type confirmTOTP struct {
	Caller
	Body struct {
		Ceremony string `json:"ceremony"`
		Code     string `json:"code" maxLength:"64"`
	}
}

type signIn struct {
	Anybody
	Body struct {
		Email    string `json:"email" maxLength:"320"`
		Password string `json:"password" maxLength:"1024"`
	}
}

type signInFactor struct {
	Anybody
	Body struct {
		Ceremony string        `json:"ceremony" doc:"From the step before."`
		Factor   access.Factor `json:"factor" enum:"totp,recovery"`
		Code     string        `json:"code" maxLength:"64"`
	}
}

type stepUp struct {
	Caller
	Anybody
	Body struct {
		Code string `json:"code" maxLength:"64" doc:"Of the authenticator app."`
	}
}

type enter struct {
	Caller
	Body struct {
		Organisation string `json:"organisation" doc:"Name or id; empty: the platform."`
	}
}

// Identity is who a session belongs to.
type Identity struct {
	Person       access.Person `json:"person"`
	Organisation string        `json:"organisation,omitempty" doc:"That the session acts in; empty: the platform."`
	Roles        []string      `json:"roles"`
	SecondFactor *time.Time    `json:"second_factor_at,omitempty"`
}

func (a *API) signIn() {
	register(a, http.MethodPost, "/signin", "sign-in", "Begin to sign in with address and password", func(ctx context.Context, in *signIn) (access.Progress, error) {
		if a.Door.Away() {
			return a.Door.SignInPassword(ctx, in.Client, in.Body.Email, in.Body.Password)
		}
		return a.People.SignInPassword(ctx, in.Client, in.Body.Email, in.Body.Password)
	})
	register(a, http.MethodPost, "/signin/factor", "sign-in-factor", "Show the second factor", func(ctx context.Context, in *signInFactor) (access.SignedIn, error) {
		switch ours := outage.Ours(in.Body.Ceremony); {
		case ours && in.Body.Factor == access.FactorRecovery:
			return a.Door.SignInRecovery(ctx, in.Client, in.Body.Ceremony, in.Body.Code)
		case ours:
			return a.Door.SignInTOTP(ctx, in.Client, in.Body.Ceremony, in.Body.Code)
		case in.Body.Factor == access.FactorRecovery:
			return a.People.SignInRecovery(ctx, in.Client, in.Body.Ceremony, in.Body.Code)
		}
		return a.People.SignInTOTP(ctx, in.Client, in.Body.Ceremony, in.Body.Code)
	})
	register(a, http.MethodPost, "/invitation/accept", "invitation-accept", "Accept an invitation as somebody who is new here", func(ctx context.Context, in *accept) (access.SignedIn, error) {
		return a.People.Accept(ctx, in.Client, in.Body.Token, access.Acceptance{Name: in.Body.Name, Password: in.Body.Password})
	})
	register(a, http.MethodPost, "/session/totp", "totp-begin", "Begin to enrol an authenticator app", func(ctx context.Context, in *struct{ Caller }) (access.TOTPEnrolment, error) {
		return a.People.BeginTOTP(ctx, in.Principal)
	})
	register(a, http.MethodPost, "/session/totp/confirm", "totp-confirm", "Enrol the authenticator app with its first code", func(ctx context.Context, in *confirmTOTP) (access.Enrolled, error) {
		return a.People.ConfirmTOTP(ctx, in.Principal, in.Body.Ceremony, in.Body.Code)
	})
	register(a, http.MethodPost, "/session/step-up", "session-step-up", "Show a second factor again, for administrative acts", func(ctx context.Context, in *stepUp) (access.SignedIn, error) {
		if in.Principal.Away {
			return a.Door.StepUpTOTP(ctx, in.Principal, in.Client, in.Body.Code)
		}
		return a.People.StepUpTOTP(ctx, in.Principal, in.Client, in.Body.Code)
	})
	register(a, http.MethodPost, "/session/enter", "session-enter", "Act in another organisation", func(ctx context.Context, in *enter) (access.SignedIn, error) {
		org := uuid.Nil
		if name := in.Body.Organisation; name != "" {
			d := a.Verifier.Directory()
			if o := d.OrganisationNamed(name); o != nil {
				org = o.ID
			} else if id, err := uuid.Parse(name); err == nil {
				org = id
			} else {
				return access.SignedIn{}, problem.New(problem.NotFound, "organisation-unknown", "You have no membership in an organisation of that name.").WithField("organisation").
					WithMend("`foundry whoami` lists your memberships.")
			}
		}
		return a.People.Enter(ctx, in.Principal, org)
	})
	register(a, http.MethodGet, "/session", "session-show", "Show who is signed in", func(ctx context.Context, in *struct{ Caller }) (Identity, error) {
		read := a.People.Me
		if in.Principal.Away {
			read = a.Door.Me
		}
		me, err := read(ctx, in.Principal)
		if err != nil {
			return Identity{}, err
		}
		id := Identity{Person: me, Roles: []string{}}
		for _, role := range in.Principal.Roles.List() {
			id.Roles = append(id.Roles, role.String())
		}
		if o := a.Verifier.Directory().Organisation(in.Principal.Organisation); o != nil {
			id.Organisation = o.Name
		}
		if at := in.Principal.SecondFactor; !at.IsZero() {
			id.SecondFactor = &at
		}
		return id, nil
	})
	register(a, http.MethodDelete, "/session", "session-end", "Sign out", func(ctx context.Context, in *struct{ Caller }) (struct{}, error) {
		if in.Principal.Away {
			return struct{}{}, a.Door.SignOut(ctx, in.Principal)
		}
		return struct{}{}, a.People.SignOut(ctx, in.Principal)
	})
}
