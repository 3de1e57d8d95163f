package api

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Invitation is an invitation; with its token when it was just made.
type Invitation struct {
	access.Invitation
	Status string `json:"status" doc:"open, accepted, revoked or expired."`
	Token  string `json:"token,omitempty" doc:"Shown once, when the invitation is made."`
	URL    string `json:"url,omitempty" doc:"Where it is accepted; shown once."`
}

// Account is a service account with its organisation's name.
type Account struct {
	access.ServiceAccount
	OrganisationName string `json:"organisation_name"`
}

type inOrganisation struct {
	Caller
	Organisation string `query:"organisation" doc:"Name or id. Default: the caller's own, or the platform."`
}

type aPerson struct {
	Caller
	ID           uuid.UUID `path:"id"`
	Organisation string    `query:"organisation" doc:"Name or id. Default: the caller's own, or the platform."`
}

type newInvitation struct {
	Caller
	Body struct {
		Organisation string   `json:"organisation,omitempty" doc:"Name or id. Default: the caller's own, or the platform."`
		Email        string   `json:"email" maxLength:"254"`
		Name         string   `json:"name" maxLength:"200"`
		Roles        []string `json:"roles" doc:"For an organisation: viewer, developer, operator, approver, auditor, administrator. For the platform: platform-operator, platform-security, platform-administrator."`
	}
}

type newAdministrator struct {
	Caller
	Body struct {
		Email string `json:"email" maxLength:"254"`
		Name  string `json:"name" maxLength:"200"`
	}
}

type newRoles struct {
	Caller
	ID   uuid.UUID `path:"id"`
	Body struct {
		Organisation string   `json:"organisation,omitempty" doc:"Name or id. Default: the caller's own, or the platform."`
		Roles        []string `json:"roles" doc:"All that the member may be; none ends the membership."`
	}
}

type endPerson struct {
	Caller
	ID   uuid.UUID `path:"id"`
	Body struct {
		Keep []string `json:"keep,omitempty" doc:"Ids of API keys of the person that stay valid."`
	}
}

type listSessions struct {
	Caller
	Person string `query:"person" doc:"Id. Default: the caller."`
}

type newServiceAccount struct {
	Caller
	Body struct {
		Organisation string `json:"organisation,omitempty" doc:"Name or id. Default: the caller's own."`
		Name         string `json:"name"`
	}
}

type assignKey struct {
	Caller
	ID   uuid.UUID `path:"id"`
	Body struct {
		Key string `json:"key" doc:"Id of an API key of the same organisation."`
	}
}

type byUUID struct {
	Caller
	ID uuid.UUID `path:"id"`
}

// Ended says how much an act ended.
type Ended struct {
	Sessions int `json:"sessions,omitempty"`
	Keys     int `json:"keys,omitempty"`
}

// Done is the answer of an act that has nothing to say.
type Done struct {
	Done bool `json:"done"`
}

func parseRoles(names []string) (out principal.Roles, err error) {
	for _, n := range names {
		r, ok := principal.ParseRole(n)
		if !ok {
			return 0, problem.New(problem.Invalid, "role-unknown", "There is no role "+n+".").WithField("roles").
				WithMend("Roles are viewer, developer, operator, approver, auditor and administrator in an organisation, and platform-operator, platform-security and platform-administrator.")
		}
		out |= principal.RolesOf(r)
	}
	return out, nil
}

func (a *API) invitation(i access.Invitation, token string) Invitation {
	out := Invitation{Invitation: i, Status: i.Status(time.Now()), Token: token}
	if token != "" {
		out.URL = a.People.InvitationURL(token)
	}
	return out
}

func (a *API) people() {
	register(a, http.MethodGet, "/people", "person-list", "List people", func(ctx context.Context, in *inOrganisation) ([]access.Person, error) {
		org, err := a.filter(ctx, in.Principal, "person.list", in.Organisation)
		if err != nil {
			return nil, err
		}
		return a.People.List(ctx, in.Principal, org)
	})
	register(a, http.MethodGet, "/people/{id}", "person-show", "Show a person", func(ctx context.Context, in *aPerson) (access.Person, error) {
		org, err := a.filter(ctx, in.Principal, "person.read", in.Organisation)
		if err != nil {
			return access.Person{}, err
		}
		return a.People.Show(ctx, in.Principal, org, in.ID)
	})
	register(a, http.MethodPut, "/people/{id}/roles", "person-roles", "Replace what a member may be; no roles end the membership", func(ctx context.Context, in *newRoles) (access.Membership, error) {
		roles, err := parseRoles(in.Body.Roles)
		if err != nil {
			return access.Membership{}, err
		}
		org, err := a.filter(ctx, in.Principal, "membership.set", in.Body.Organisation)
		if err != nil {
			return access.Membership{}, err
		}
		return a.People.SetRoles(ctx, in.Principal, org, in.ID, roles)
	})
	register(a, http.MethodPost, "/people/{id}/unlock", "person-unlock", "Release a locked account", func(ctx context.Context, in *byUUID) (Done, error) {
		err := a.People.Unlock(ctx, in.Principal, in.ID)
		return Done{err == nil}, err
	})
	register(a, http.MethodPost, "/people/{id}/recover", "person-recover", "Make a link with which a person chooses anew how to sign in", func(ctx context.Context, in *byUUID) (Invitation, error) {
		i, token, err := a.People.Recover(ctx, in.Principal, in.ID)
		if err != nil {
			return Invitation{}, err
		}
		return a.invitation(i, token), nil
	})
	register(a, http.MethodGet, "/people/{id}/footprint", "person-footprint", "Show what deactivating a person would end", func(ctx context.Context, in *byUUID) (access.Footprint, error) {
		return a.People.Footprint(ctx, in.Principal, in.ID)
	})
	register(a, http.MethodPost, "/people/{id}/deactivate", "person-deactivate", "End a person with sessions, passkeys, invitations and API keys", func(ctx context.Context, in *endPerson) (access.Footprint, error) {
		out, err := a.People.Deactivate(ctx, in.Principal, in.ID, in.Body.Keep...)
		if err == nil {
			a.refresh(ctx)
		}
		return out, err
	})
	a.invitations()
	a.sessions()
	a.serviceAccounts()
}

func (a *API) invitations() {
	register(a, http.MethodPost, "/people/bootstrap", "person-bootstrap", "Invite the first platform administrator", func(ctx context.Context, in *newAdministrator) (Invitation, error) {
		i, token, err := a.People.Bootstrap(ctx, in.Principal, in.Body.Email, in.Body.Name)
		if err != nil {
			return Invitation{}, err
		}
		return a.invitation(i, token), nil
	})
	register(a, http.MethodPost, "/invitations", "person-invite", "Invite a person", func(ctx context.Context, in *newInvitation) (Invitation, error) {
		roles, err := parseRoles(in.Body.Roles)
		if err != nil {
			return Invitation{}, err
		}
		org, err := a.filter(ctx, in.Principal, "person.invite", in.Body.Organisation)
		if err != nil {
			return Invitation{}, err
		}
		i, token, err := a.People.Invite(ctx, in.Principal, access.NewInvitation{Organisation: org, Email: in.Body.Email, Name: in.Body.Name, Roles: roles})
		if err != nil {
			return Invitation{}, err
		}
		return a.invitation(i, token), nil
	})
	register(a, http.MethodGet, "/invitations", "invitation-list", "List invitations", func(ctx context.Context, in *inOrganisation) ([]Invitation, error) {
		org, err := a.filter(ctx, in.Principal, "invitation.list", in.Organisation)
		if err != nil {
			return nil, err
		}
		list, err := a.People.Invitations(ctx, in.Principal, org)
		out := []Invitation{}
		for _, i := range list {
			out = append(out, a.invitation(i, ""))
		}
		return out, err
	})
	register(a, http.MethodDelete, "/invitations/{id}", "invitation-revoke", "Withdraw an invitation", func(ctx context.Context, in *byID) (Done, error) {
		err := a.People.RevokeInvitation(ctx, in.Principal, in.ID)
		return Done{err == nil}, err
	})
	register(a, http.MethodPost, "/invitations/{id}/resend", "invitation-resend", "Put a new invitation in the place of an open one", func(ctx context.Context, in *byID) (Invitation, error) {
		i, token, err := a.People.ResendInvitation(ctx, in.Principal, in.ID)
		if err != nil {
			return Invitation{}, err
		}
		return a.invitation(i, token), nil
	})
}

func (a *API) sessions() {
	register(a, http.MethodGet, "/sessions", "session-list", "List open sessions of a person", func(ctx context.Context, in *listSessions) ([]access.Session, error) {
		if in.Person == "" {
			return a.People.MySessions(ctx, in.Principal)
		}
		person, err := uuid.Parse(in.Person)
		if err != nil {
			return nil, problem.New(problem.Invalid, "person-id", "This is not a person's id.").WithField("person").WithMend("`foundry person list` shows them.")
		}
		return a.People.ListSessions(ctx, in.Principal, person)
	})
	register(a, http.MethodDelete, "/sessions/{id}", "session-revoke", "End a session", func(ctx context.Context, in *byID) (Done, error) {
		err := a.People.RevokeSession(ctx, in.Principal, in.ID)
		return Done{err == nil}, err
	})
	register(a, http.MethodDelete, "/people/{id}/sessions", "session-revoke-all", "End all sessions of a person", func(ctx context.Context, in *byUUID) (Ended, error) {
		n, err := a.People.RevokeSessions(ctx, in.Principal, in.ID)
		return Ended{Sessions: n}, err
	})
}

func (a *API) serviceAccounts() {
	show := func(s access.ServiceAccount) Account {
		out := Account{ServiceAccount: s}
		if o := a.Verifier.Directory().Organisation(s.Organisation); o != nil {
			out.OrganisationName = o.Name
		}
		return out
	}
	register(a, http.MethodPost, "/service-accounts", "service-account-create", "Make a service account", func(ctx context.Context, in *newServiceAccount) (Account, error) {
		org, err := a.filter(ctx, in.Principal, "service-account.create", in.Body.Organisation)
		if err != nil {
			return Account{}, err
		}
		if org == uuid.Nil {
			return Account{}, problem.New(problem.Invalid, "organisation-missing", "A service account belongs to an organisation.").WithField("organisation").WithMend("Name one; `foundry org list` shows them.")
		}
		s, err := a.People.CreateServiceAccount(ctx, in.Principal, org, in.Body.Name)
		if err != nil {
			return Account{}, err
		}
		return show(s), nil
	})
	register(a, http.MethodGet, "/service-accounts", "service-account-list", "List service accounts of an organisation", func(ctx context.Context, in *inOrganisation) ([]Account, error) {
		org, err := a.filter(ctx, in.Principal, "service-account.list", in.Organisation)
		if err != nil {
			return nil, err
		}
		list, err := a.People.ServiceAccounts(ctx, in.Principal, org)
		out := []Account{}
		for _, s := range list {
			out = append(out, show(s))
		}
		return out, err
	})
	register(a, http.MethodPost, "/service-accounts/{id}/keys", "service-account-assign", "Give an API key to a service account", func(ctx context.Context, in *assignKey) (Done, error) {
		err := a.People.AssignKey(ctx, in.Principal, in.ID, in.Body.Key)
		return Done{err == nil}, err
	})
	register(a, http.MethodDelete, "/service-accounts/{id}", "service-account-deactivate", "End a service account and its API keys", func(ctx context.Context, in *byUUID) (Ended, error) {
		n, err := a.People.DeactivateServiceAccount(ctx, in.Principal, in.ID)
		if err == nil {
			a.refresh(ctx)
		}
		return Ended{Keys: n}, err
	})
}
