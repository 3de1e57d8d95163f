package principal

import (
	"fmt"
	"strings"
)

// Role is a named set of permissions. The first six are held in one
// organisation, the others on the platform.
type Role uint8

const (
	Viewer        Role = iota // reads the organisation's usage, requests and settings
	Developer                 // makes and revokes API keys, runs models and workflows
	Operator                  // changes budgets, limits and policies
	Approver                  // answers requests for approval
	Auditor                   // reads everything of the organisation, the audit log included; changes nothing
	Administrator             // people, roles and everything above

	PlatformOperator      // runs nodes, providers and organisations; sees no client data without a grant
	PlatformSecurity      // keys, audit, access register, controls; approves staff grants
	PlatformAdministrator // people and roles of the platform, and everything an operator does

	roleCount
)

var roleNames = [roleCount]string{"viewer", "developer", "operator", "approver", "auditor", "administrator",
	"platform-operator", "platform-security", "platform-administrator"}

// String is the role's stable name.
func (r Role) String() string {
	if r >= roleCount {
		return fmt.Sprintf("role-%d", uint8(r))
	}
	return roleNames[r]
}

// Platform reports whether the role is held on the platform, not in an organisation.
func (r Role) Platform() bool { return r >= PlatformOperator }

// Administrative reports whether the role demands a second factor at sign-in
// (security policy, section 4: MFA for all administrative access).
func (r Role) Administrative() bool { return r == Administrator || r == Operator || r.Platform() }

// ParseRole finds a role by its name.
func ParseRole(name string) (Role, bool) {
	for r, n := range roleNames {
		if n == name {
			return Role(r), true
		}
	}
	return 0, false
}

// AllRoles lists every role.
func AllRoles() []Role {
	all := make([]Role, roleCount)
	for r := range all {
		all[r] = Role(r)
	}
	return all
}

// Roles is a set of roles.
type Roles uint16

// RolesOf makes a set.
func RolesOf(roles ...Role) (s Roles) {
	for _, r := range roles {
		s |= 1 << r
	}
	return s
}

// Has reports whether a role is in the set.
func (s Roles) Has(r Role) bool { return s&(1<<r) != 0 }

// List lists the set in order.
func (s Roles) List() (out []Role) {
	for r := range roleCount {
		if s.Has(r) {
			out = append(out, r)
		}
	}
	return out
}

// Administrative reports whether any role of the set demands a second factor.
func (s Roles) Administrative() bool {
	for _, r := range s.List() {
		if r.Administrative() {
			return true
		}
	}
	return false
}

// String lists the names, separated by commas.
func (s Roles) String() string {
	var names []string
	for _, r := range s.List() {
		names = append(names, r.String())
	}
	return strings.Join(names, ",")
}
