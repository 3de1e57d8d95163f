package policy

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// lockedOut refuses a set of policies under which an administrative act that
// the built-in policies allow to some role is allowed to nobody: each such act
// must stay open to every platform administrator who holds it, and to at least
// one role otherwise, with a second factor shown just now. The people asked
// about have ids that no policy names: a set that lets in one named person
// only locks everybody out the day that person is away.
func (e *Engine) lockedOut() error {
	var (
		stranger     = "someone-" + uuid.NewString()
		organisation = uuid.New()
		now          = time.Unix(1<<31, 0)
	)
	allowed := func(a Action, role principal.Role) Decision {
		p := principal.Principal{Kind: principal.Person, ID: stranger, Roles: principal.RolesOf(role), SecondFactor: now}
		r := Resource{Organisation: organisation, Owner: "another"}
		if !role.Platform() {
			p.Organisation = organisation
		} else if byName[a].roles&memberRoles == 0 {
			r.Organisation = uuid.Nil
		}
		return e.Decide(Request{Principal: p, Action: a, Resource: r, Now: now, Mode: Production})
	}
	for _, a := range Actions() {
		holders := byName[a].roles.List()
		if !a.Administrative() || len(holders) == 0 {
			continue
		}
		var blocked Decision
		open := false
		for _, role := range holders {
			d := allowed(a, role)
			open = open || d.Allowed
			if !d.Allowed && (blocked.Policy == "" || role == principal.PlatformAdministrator) {
				blocked = d
			}
			if !d.Allowed && role == principal.PlatformAdministrator {
				open = false
				break
			}
		}
		if !open {
			n := e.find(blocked.Policy)
			return problem.New(problem.Invalid, "policy-lock-out",
				fmt.Sprintf("%s: with the policy %q nobody could %s (%s) any more.", n.file, n.id, byName[a].says, a)).WithField("policies").
				WithMend("Leave administrative acts to the platform administrator: add `unless { principal in Role::\"platform-administrator\" }`.")
		}
	}
	return nil
}
