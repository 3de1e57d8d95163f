package access

import (
	"testing"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
)

// What an administrator has sent out does not outlive the role: otherwise who
// is about to be removed leaves a door open for themselves.
func TestWhoMayNoLongerInviteHasNoOpenInvitations(t *testing.T) {
	w := newCompany(t)
	other, err := CreateOrganisation(ctx, w.d, w.guard, operator, "other")
	w.must(err)
	w.join("root@example.org", uuid.Nil, principal.PlatformAdministrator)
	vera := w.join("vera@example.org", w.org.ID, principal.Viewer)
	for name, c := range map[string]struct {
		org, invitesTo uuid.UUID
		before, after  principal.Roles
	}{
		"an administrator who becomes a viewer":              {w.org.ID, w.org.ID, principal.RolesOf(principal.Administrator), principal.RolesOf(principal.Viewer)},
		"an administrator who leaves":                        {w.org.ID, w.org.ID, principal.RolesOf(principal.Administrator), 0},
		"staff of the platform that invites to the platform": {uuid.Nil, uuid.Nil, principal.RolesOf(principal.PlatformAdministrator), principal.RolesOf(principal.PlatformOperator)},
		"staff of the platform that invites to a client":     {uuid.Nil, other.ID, principal.RolesOf(principal.PlatformAdministrator), principal.RolesOf(principal.PlatformOperator)},
	} {
		m := w.join(uuid.NewString()+"@example.org", c.org, c.before.List()...)
		role := principal.Administrator
		if c.invitesTo == uuid.Nil {
			role = principal.PlatformAdministrator
		}
		_, token, err := w.people.Invite(ctx, m.in.Principal, NewInvitation{Organisation: c.invitesTo, Email: "back-" + uuid.NewString() + "@example.org", Name: "Back Door", Roles: principal.RolesOf(role)})
		w.must(err)
		links := []string{token}
		if c.org == w.org.ID {
			_, link, err := w.people.Recover(ctx, m.in.Principal, vera.id)
			w.must(err)
			links = append(links, link)
		}
		_, err = w.people.SetRoles(ctx, operator, c.org, m.id, c.before)
		w.must(err)
		if _, _, err := w.people.OpenInvitation(ctx, w.client(), token); err != nil {
			t.Errorf("%s: the invitation ended although the role is the same: %v", name, err)
		}
		_, err = w.people.SetRoles(ctx, operator, c.org, m.id, c.after)
		w.must(err)
		for _, link := range links {
			if _, err := w.people.Accept(ctx, w.client(), link, Acceptance{Password: otherGood}); err == nil {
				t.Errorf("%s: a link outlived the role", name)
			}
		}
	}
}

// Who leaves an organisation takes no key along: those of service accounts are
// the organisation's and stay, and so do keys elsewhere.
func TestWhoLeavesAnOrganisationTakesNoKeyAlong(t *testing.T) {
	w := newCompany(t)
	other, err := CreateOrganisation(ctx, w.d, w.guard, operator, "other")
	w.must(err)
	dora := w.join("dora@example.org", w.org.ID, principal.Developer)
	_, token, err := w.people.Invite(ctx, operator, NewInvitation{Organisation: other.ID, Email: dora.email, Name: "Dora", Roles: principal.RolesOf(principal.Developer)})
	w.must(err)
	v := NewVerifier(macKey)
	make := func(p principal.Principal, org uuid.UUID, name string) Key {
		t.Helper()
		k, _, err := v.CreateKey(ctx, w.d, w.guard, p, NewKey{Organisation: org, Name: name})
		w.must(err)
		return k
	}
	own, service := make(dora.in.Principal, w.org.ID, "own"), make(dora.in.Principal, w.org.ID, "service")
	robot, err := w.people.CreateServiceAccount(ctx, operator, w.org.ID, "robot")
	w.must(err)
	w.must(w.people.AssignKey(ctx, operator, robot.ID, service.ID))
	there, err := w.people.Join(ctx, dora.in.Principal, token)
	w.must(err)
	elsewhere := make(there.Principal, other.ID, "elsewhere")
	anothers := make(operator, w.org.ID, "anothers")

	_, err = w.people.SetRoles(ctx, operator, w.org.ID, dora.id, principal.RolesOf(principal.Viewer))
	w.must(err)
	if n := w.count(`SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL`); n != 0 {
		t.Errorf("%d keys ended with a change of roles", n)
	}
	_, err = w.people.SetRoles(ctx, operator, w.org.ID, dora.id, 0)
	w.must(err)
	for _, c := range []struct {
		key   Key
		ended int
	}{{own, 1}, {service, 0}, {elsewhere, 0}, {anothers, 0}} {
		if n := w.count(`SELECT count(*) FROM api_keys WHERE id = $1 AND revoked_at IS NOT NULL`, c.key.ID); n != c.ended {
			t.Errorf("%s: ended %d, want %d", c.key.Name, n, c.ended)
		}
	}
	if n := w.count(`SELECT count(*) FROM audit WHERE act = 'membership.remove' AND details->'keys' = jsonb_build_array($1::text)`, own.ID); n != 1 {
		t.Errorf("%d entries name the key", n)
	}
}
