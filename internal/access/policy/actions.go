package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/principal"
)

// trait is what policies ask about an action beside who holds it. Each is a
// group of actions in the schema.
type trait uint16

const (
	read           trait = 1 << iota // changes nothing
	administrative                   // needs a second factor no older than StepUpAge
	clientData                       // what an organisation's people and models did and said: staff need a grant
	auditLog                         // client data where the log is an organisation's
	own                              // everybody may do it to what is theirs (Resource.Owner)
	shared                           // about the platform, yet open to organisations
	localAlways                      // the local socket may do it in production too
	nodeAlways                       // the node does it by itself, in production too
	away                             // who signed in while the database was down may do it
)

// traits names the groups, as in the schema and the reference.
var traits = []struct {
	trait trait
	group string
	says  string
}{
	{read, "read", "changes nothing"},
	{administrative, "administrative", "needs a second factor no older than 15 minutes"},
	{clientData, "client-data", "staff of the platform need a grant"},
	{auditLog, "audit-log", "staff of the platform need a grant for the log of an organisation"},
	{own, "own", "everybody may do it to what is their own"},
	{shared, "shared", "about the platform, yet open to organisations"},
	{localAlways, "local-always", "the local socket may do it in production too"},
	{nodeAlways, "node-always", "the node does it by itself in production too"},
	{away, "away", "who signed in while the database was down may do it"},
}

// rule is one action and the roles that may do it: the one table from which
// the schema, the entities and the reference are made.
type rule struct {
	action Action
	says   string
	traits trait
	roles  principal.Roles
}

// Who does what. Shorthands of roles, by what they are for.
var (
	reads    = principal.RolesOf(principal.Viewer, principal.Developer, principal.Operator, principal.Approver, principal.Auditor, principal.Administrator)
	develops = principal.RolesOf(principal.Developer, principal.Administrator)
	operates = principal.RolesOf(principal.Operator, principal.Administrator)
	inspects = principal.RolesOf(principal.Auditor, principal.Administrator)
	approves = principal.RolesOf(principal.Approver, principal.Administrator)
	governs  = principal.RolesOf(principal.Administrator)

	platform = principal.RolesOf(principal.PlatformOperator, principal.PlatformSecurity, principal.PlatformAdministrator)
	runs     = principal.RolesOf(principal.PlatformOperator, principal.PlatformAdministrator)
	secures  = principal.RolesOf(principal.PlatformSecurity)
	watches  = principal.RolesOf(principal.PlatformSecurity, principal.PlatformAdministrator)
	heads    = principal.RolesOf(principal.PlatformAdministrator)
	everyone = reads | platform
	nobody   = principal.Roles(0)
)

var rules = slices.Concat(gatewayRules, peopleRules, securityRules, platformRules, continuityRules)

// gatewayRules are about organisations and the model requests of their applications.
var gatewayRules = []rule{
	{"organisation.list", "see which organisations there are; members see their own", read, everyone},
	{"organisation.read", "see an organisation", read, everyone},
	{"organisation.create", "make an organisation", administrative | nodeAlways, runs},
	{"organisation.change", "rename an organisation", administrative, runs},
	{"organisation.suspend", "suspend an organisation: its keys stop working", administrative, runs | secures},
	{"organisation.resume", "end the suspension of an organisation", administrative, runs},
	{"organisation.remove", "remove an organisation", administrative, runs},

	{"key.list", "see API keys, never their secrets", read, everyone},
	{"key.create", "make an API key", nodeAlways, develops | operates},
	{"key.revoke", "end an API key", nodeAlways, develops | operates | platform},

	{"policy.read", "see where an organisation's data may go", read, everyone},
	{"policy.set", "change where an organisation's data may go", administrative | nodeAlways, operates | runs},
	{"budget.list", "see budgets and what is spent", read, reads | runs},
	{"budget.set", "set a budget", administrative, operates | runs},
	{"budget.remove", "remove a budget", administrative, operates | runs},
	{"usage.read", "see sums of requests, tokens and cost", read, reads | runs},
	{"overview.read", "see the overview", read, everyone},
	{"route.explain", "ask where a request would go, and why", read, reads | runs},

	{"request.list", "see which model requests were made", read | clientData, reads},
	{"request.read", "see one model request and why it went where it went", read | clientData, reads},
	{"refusal.list", "see which requests were refused", read | clientData, reads},
	{"refusal.read", "see why a request was refused", read | clientData, reads},
	{"transfer.list", "see the register of transfers", read | clientData, reads},

	{"playground.use", "try models in the console", 0, develops | operates},
	{"model.list", "see which models there are", read | shared, everyone},
	{"model.call", "call a model with an API key", 0, nobody},
}

// peopleRules are about people, how they sign in, and what they hold.
var peopleRules = []rule{
	{"person.list", "see who has an account", read, inspects | watches},
	{"person.read", "see a person's account", read | own, inspects | watches},
	{"person.bootstrap", "make the first administrator of an installation that has none", localAlways, nobody},
	{"person.invite", "invite a person", administrative, governs | heads},
	{"person.create", "make an account", administrative, governs | heads},
	{"person.change", "change a person's account", administrative, governs | heads},
	{"person.lock", "lock an account", administrative | nodeAlways, governs | watches},
	{"person.unlock", "release a locked account", administrative | nodeAlways, governs | watches},
	{"person.reset", "reset how a person signs in", administrative, governs | heads},
	{"person.deactivate", "end an account with its sessions, keys, passkeys and invitations", administrative, governs | watches},
	{"person.reactivate", "open an account again", administrative, governs | heads},

	{"account.read", "see one's own account", read | own | away, nobody},
	{"account.change", "change one's own account", own, nobody},
	{"password.change", "change one's own password", own, nobody},
	{"totp.enrol", "set up one's own code generator", own, nobody},
	{"totp.remove", "remove one's own code generator", own, nobody},
	{"passkey.list", "see one's own passkeys", read | own, nobody},
	{"passkey.add", "add a passkey of one's own", own, nobody},
	{"passkey.rename", "rename a passkey of one's own", own, nobody},
	{"passkey.remove", "remove a passkey of one's own", own, nobody},
	{"recovery.renew", "make new recovery codes of one's own", own, nobody},

	{"membership.list", "see who holds which role", read | own, inspects | watches},
	{"membership.add", "give a person a role", administrative, governs | heads},
	{"membership.change", "change a person's roles", administrative, governs | heads},
	{"membership.set", "set a person's roles", administrative, governs | heads},
	{"membership.remove", "take a person's roles away", administrative, governs | heads},

	{"session.list", "see where a person is signed in", read | own, inspects | watches},
	{"session.revoke", "sign a person out", administrative | nodeAlways, governs | watches},
	{"session.end", "sign out", own | away, nobody},

	{"invitation.list", "see open invitations", read, inspects | watches},
	{"invitation.create", "invite somebody", administrative, governs | heads},
	{"invitation.resend", "send an invitation again", administrative, governs | heads},
	{"invitation.revoke", "withdraw an invitation", administrative | nodeAlways, governs | watches},

	{"service-account.list", "see service accounts", read, reads | watches},
	{"service-account.create", "make a service account", administrative, governs},
	{"service-account.change", "change a service account", administrative, governs},
	{"service-account.deactivate", "end a service account and its keys", administrative, governs | watches},
}

// securityRules are about access to client data, keys, proof and controls.
var securityRules = []rule{
	{"grant.list", "see which staff were given access to client data", read, inspects | approves | platform},
	{"grant.read", "see one grant and what was done under it", read, inspects | approves | platform},
	{"grant.request", "ask for access to client data, with a reason and a ticket", administrative, platform},
	{"grant.approve", "approve access to client data that somebody else asked for", administrative, approves | secures},
	{"grant.reject", "refuse access to client data", administrative, approves | secures},
	{"grant.review", "look at what was done after the glass was broken", administrative, approves | secures},
	{"grant.revoke", "end access to client data at once", administrative | nodeAlways, approves | watches},
	{"grant.rule", "say who may approve access to client data", administrative, governs},
	{"register.read", "see who has which access, since when and why", read, inspects | watches},
	{"register.compare", "compare the register of access with what is so", nodeAlways, secures},
	{"register.review", "start a review of who has which access", administrative, governs | secures},
	{"register.confirm", "confirm or withdraw an access in a review", administrative, governs | secures},
	{"register.export", "take the register of access along", read, inspects | watches},

	{"audit.list", "read the audit log", read | auditLog, inspects | watches},
	{"audit.read", "read one entry of the audit log", read | auditLog, inspects | watches},
	{"audit.follow", "read the audit log as it grows", read | auditLog, inspects | watches},
	{"audit.prove", "prove an entry of the audit log", read | auditLog, inspects | watches},
	{"audit.verify", "verify the audit log", read | auditLog, inspects | watches},
	{"audit.export", "take the audit log along", read | auditLog, inspects | watches},
	{"audit.checkpoint", "sign a checkpoint of the audit log", nodeAlways, secures},
	{"audit.erase", "erase the body of an entry, which leaves an entry itself", administrative, secures},

	{"keys.status", "see which keys encrypt what", read, inspects | watches},
	{"keys.storage", "see whether volumes, swap and core dumps are protected", read, platform},
	{"keys.rotate", "make a new key and encrypt with it", administrative | nodeAlways, secures},
	{"keys.rewrap", "wrap the keys under another key-encryption key", administrative, secures},
	{"keys.search", "search the installation's files for a canary", administrative | nodeAlways, secures},
	{"keys.shred", "ask that an organisation's keys be destroyed", administrative, governs | secures},
	{"keys.approve", "approve that keys be destroyed which somebody else asked for", administrative, governs | secures},
	{"keys.restore", "undo the destruction of keys while it can be undone", administrative, governs | secures},

	{"controls.list", "see which controls pass", read, inspects | platform},
	{"controls.read", "see a control and its evidence", read, inspects | platform},
	{"controls.run", "run a control now", nodeAlways, platform},
	{"controls.attest", "answer for a control that no machine can check", administrative, secures},
	{"controls.retire", "expect no more evidence of a node that is gone", administrative, secures},
	{"evidence.list", "see what was observed", read, inspects | platform},
	{"evidence.read", "see one observation", read, inspects | platform},
	{"evidence.export", "take evidence along", read, inspects | watches},
}

// platformRules are about the installation itself.
var platformRules = []rule{
	{"console.open", "open the console", shared | read | away, everyone},
	{"console.link", "make a one-time sign-in link for the console", 0, nobody},
	{"status.read", "see how the node does", read | localAlways | away, platform},
	{"profile.take", "take a processor or memory profile of the node: code, no data", read | localAlways, runs},
	{"break-glass.open", "get in when nobody else can, for a short time and with an alarm", localAlways, nobody},
	{"break-glass.read", "see whether the emergency kit is current, and who broke the glass", read | localAlways, platform},
	{"break-glass.look", "read the copies of the emergency kit where they lie", nodeAlways, platform},
	{"break-glass.brief", "print the briefing, which names the contacts and holders", administrative, watches},
	{"break-glass.create", "ask for a new recovery key, and see its shares once", administrative, secures},
	{"break-glass.approve", "approve a new recovery key that somebody else asked for", administrative, watches},
	{"break-glass.attest", "say that the emergency contacts were called and are right", administrative, watches},
	{"break-glass.drill", "note a restore that was made with the kit and the shares alone", localAlways, platform},
	{"break-glass.review", "look at what was done after the glass was broken", administrative, watches},
	{"provider.list", "see the providers of models", read | shared, everyone},
	{"provider.set", "change a provider", administrative, runs},
	{"provider.probe", "test a provider now", nodeAlways, runs},
	{"authorisation.list", "see roles, permissions and policies", read | shared, everyone},
	{"authorisation.explain", "ask what a role may do, and why", read | shared, everyone},
	{"authorisation.check", "check a policy file", read | shared, everyone},
	{"notify.list", "see messages and whether they arrived", read, platform},
	{"notify.test", "send a test message", administrative, runs},
	{"notify.retry", "send a message again", administrative | nodeAlways, runs},
	{"notify.set", "change whom messages go to, or who stands in on call", administrative, runs},
	{"notify.ack", "take a call", 0, platform},
}

// continuityRules are about backups and recovery.
var continuityRules = []rule{
	{"backup.read", "see backups, drills and what could be restored", read, platform},
	{"backup.run", "make a backup now", nodeAlways, runs},
	{"backup.drill", "restore a backup apart and prove it", nodeAlways, platform},
	{"backup.verify", "check the repositories of backups", nodeAlways, platform},
	{"backup.probe", "try whether a target of backups can be reached and written", nodeAlways, platform},
	{"backup.fetch", "fetch a mirror of a code repository now", nodeAlways, runs},
	{"backup.prove", "clone a mirror of a code repository, check it out and build it", nodeAlways, platform},
	{"backup.push", "bring a mirror of a code repository to another server", administrative, runs},
	{"backup.expire", "remove backups that are older than the retention", administrative | nodeAlways, runs},
	{"backup.hold", "keep backups from being removed", administrative, watches},
	{"backup.release", "end a hold on backups", administrative, watches},

	{"incident.read", "see incidents, their timelines and clocks", read | localAlways | away, platform},
	{"incident.open", "open an incident", away, platform},
	{"incident.append", "write into an incident's timeline", away, platform},
	{"incident.decide", "take a decision in an incident", administrative | away, platform},
	{"incident.approve", "approve what an incident asks two people for", administrative | away, platform},
	{"incident.assess", "assess whether an incident touches personal data", administrative | away, watches},
	{"incident.notice", "send a notice of an incident", administrative | away, platform},
	{"incident.close", "close an incident after its review", administrative | away, platform},

	{"exercise.read", "see which exercises of the plan were held, what came of them, and what they left to do", read | localAlways, platform},
	{"exercise.run", "hand in an exercise that was held, and say what became of what it left to do", 0, platform},

	{"recovery.read", "see recovery plans, what they would do, and how recoveries stand", read | localAlways | away, platform},
	{"recovery.start", "start a recovery of the plan", administrative | nodeAlways | away, platform},
	{"recovery.act", "say what a step of a recovery waits for, try it again or skip it", away, platform},
	{"recovery.approve", "approve a step of a recovery", administrative | away, platform},
	{"recovery.abandon", "give a recovery up", administrative | away, platform},

	{"fleet.read", "see the nodes of the fleet, who answers, and whether anything can be decided", read | localAlways | away, platform},
	{"fleet.invite", "invite a node into the fleet, or revoke an invitation", administrative | away, runs},
	{"fleet.drain", "take work away from a node of the fleet, or give it back", administrative | away, runs},
	{"fleet.certify", "make the certificate of a program that stands beside a node, and see its secrets", administrative, runs},
	{"fleet.remove", "remove a node from the fleet for good", administrative | away, runs},
	{"fleet.marks", "make one-way marks of what the fleet must not share with another", administrative, runs},
	{"fleet.take-over", "recover, on the node that holds its bundle, a node that was lost", administrative | nodeAlways | away, runs},
	{"database.change", "have the database's cluster follow its promises, or a member copy the leader's data anew", administrative, runs},
	{"fleet.snapshot", "write the fleet's store into a file of the node", away, runs},

	{"plan.read", "see the continuity plan, its findings, margins and registers", read | localAlways | away, platform},
	{"plan.submit", "hand in a continuity plan", administrative, platform},
	{"plan.decide", "approve or reject a continuity plan", administrative, platform},
	{"plan.acknowledge", "say that one has read the continuity plan", 0, platform},
	{"plan.confirm", "say that something of the plan's registers was done", 0, platform},
	{"plan.review", "say what a review of the plan has found", administrative, watches},
}

// byName finds a rule; it never changes.
var byName = func() map[Action]*rule {
	m := make(map[Action]*rule, len(rules))
	for i := range rules {
		m[rules[i].action] = &rules[i]
	}
	return m
}()

// Type is the type of what the action is done to: its noun.
func (a Action) Type() string {
	noun, _, _ := strings.Cut(string(a), ".")
	return noun
}

// Known reports whether there is such an action.
func (a Action) Known() bool { return byName[a] != nil }

// Administrative reports whether the action needs a fresh second factor.
func (a Action) Administrative() bool { return a.has(administrative) }

// ClientData reports whether staff of the platform need a grant for the
// action; for the audit log only that of an organisation.
func (a Action) ClientData() bool { return a.has(clientData | auditLog) }

// Away reports whether who signed in while the database was down may do it, if
// their role may.
func (a Action) Away() bool { return a.has(away) }

// Read reports whether the action changes nothing.
func (a Action) Read() bool { return a.has(read) }

func (a Action) has(t trait) bool {
	r := byName[a]
	return r != nil && r.traits&t != 0
}

// Actions lists all actions, in order of their names.
func Actions() []Action { return slices.Sorted(maps.Keys(byName)) }

// Permission is one row of the reference: an action and who holds it.
type Permission struct {
	Action Action   `json:"action"`
	Says   string   `json:"says"`
	Traits []string `json:"traits,omitempty"`
	Roles  []string `json:"roles"`
}

// Permissions lists every action with the roles that hold it, in order of
// their names.
func Permissions() []Permission {
	var out []Permission
	for _, a := range Actions() {
		r := byName[a]
		p := Permission{Action: a, Says: r.says, Roles: []string{}}
		for _, t := range traits {
			if r.traits&t.trait != 0 {
				p.Traits = append(p.Traits, t.group)
			}
		}
		for _, role := range r.roles.List() {
			p.Roles = append(p.Roles, role.String())
		}
		out = append(out, p)
	}
	return out
}

// size is how many actions a role holds: what makes one role less than another.
func size(role principal.Role) (n int) {
	for i := range rules {
		if rules[i].roles.Has(role) {
			n++
		}
	}
	return n
}
