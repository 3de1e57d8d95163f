package console

import (
	"net/url"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
)

// Where the pages are. Every address in a template comes from here: templ
// checks href, but not the attributes that fetch.
const (
	toOverview      = "/console/"
	toStatic        = "/console/static"
	toSignIn        = "/console/sign-in"
	toSignOut       = "/console/sign-out"
	toTheme         = "/console/theme"
	toEvents        = "/console/events"
	toRequests      = "/console/requests"
	toUsage         = "/console/usage"
	toTransfers     = "/console/transfers"
	toRefusals      = "/console/refusals"
	toProviders     = "/console/providers"
	toOrganisations = "/console/organisations"
	toKeys          = "/console/keys"
	toExplain       = "/console/explain"
	toPlayground    = "/console/playground"
	toAudit         = "/console/audit"

	toSecond        = "/console/sign-in/second-factor"
	toInvitation    = "/invitation"
	toAccount       = "/console/account"
	toPassword      = "/console/account/password"
	toPasskeys      = "/console/account/passkeys"
	toAuthenticator = "/console/account/authenticator"
	toRecovery      = "/console/account/recovery-codes"
	toEnrol         = "/console/account/second-factor"
	toPlaces        = "/console/account/places"
	toJoin          = "/console/account/join"
	toStepUp        = "/console/step-up"
	toPeople        = "/console/people"
	toServices      = "/console/service-accounts"
	toGrants        = "/console/staff-access"
	toRegister      = "/console/access-register"
	toEncryption    = "/console/encryption"
	toControls      = "/console/controls"
	toOutbox        = "/console/messages"
)

// requestLink is a request's page. For staff under a grant it names the
// organisation: without it nobody could say which grant opens the page.
func requestLink(v *visit, id ledger.RequestID, org uuid.UUID) templ.SafeURL {
	if v.who().Grant != uuid.Nil {
		return with(toRequests+"/"+id.String(), "organisation", v.c.names().organisation(org))
	}
	return templ.SafeURL(toRequests + "/" + id.String())
}

func organisationLink(name string) templ.SafeURL {
	return templ.SafeURL(toOrganisations + "/" + url.PathEscape(name))
}

func decisionLink(org uuid.UUID, hash [16]byte) templ.SafeURL {
	return templ.SafeURL(toRefusals + "/" + org.String() + "/" + hexText(hash))
}

func passkeyLink(id string) templ.SafeURL {
	return templ.SafeURL(toPasskeys + "/" + url.PathEscape(id))
}

func sessionLink(id string) templ.SafeURL {
	return templ.SafeURL(toAccount + "/sessions/" + url.PathEscape(id))
}

func policyLink(name string) templ.SafeURL { return organisationLink(name) + "/policy" }

func revokeLink(key string) templ.SafeURL {
	return templ.SafeURL(toKeys + "/" + url.PathEscape(key) + "/revoke")
}

// with adds query parameters, leaving out empty ones: with(path, "a", "1").
func with(path string, pairs ...string) templ.SafeURL {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return templ.SafeURL(path)
	}
	return templ.SafeURL(path + "?" + q.Encode())
}

// place is an item of the menu: shown to whoever may open it.
type place struct {
	name, path string
	needs      policy.Action
	shared     bool
}

// menu lists the pages that exist, in their four groups.
var menu = []struct {
	group  string
	places []place
}{
	{"Command", []place{{"Overview", toOverview, "overview.read", false}, {"Command", toCommand, "incident.read", false}, {"Incidents", toIncidents, "incident.read", false}, {"Fleet", toFleet, "fleet.read", false}, {"Backups and recovery", toBackups, "backup.read", false}, {"Emergency kit", toKit, "break-glass.read", false}, {"Continuity plan", toPlan, "plan.read", false}, {"Exercises", toExercises, "exercise.read", false}, {"Requests", toRequests, "request.list", false}, {"Providers and models", toProviders, "provider.list", true}}},
	{"Canvas", []place{{"Playground", toPlayground, "playground.use", false}}},
	{"Foundry", []place{{"Organisations and keys", toOrganisations, "organisation.list", false}, {"People and roles", toPeople, "person.list", false}, {"Staff access", toGrants, "grant.list", false}, {"Encryption", toEncryption, "keys.status", false}, {"Usage and cost", toUsage, "usage.read", false}}},
	{"Assurance", []place{{"Where may it go?", toExplain, "route.explain", false}, {"Transfer register", toTransfers, "transfer.list", false}, {"Refusals", toRefusals, "refusal.list", false}, {"Access register", toRegister, "register.read", false},
		{"Controls", toControls, "controls.list", false}, {"Audit log", toAudit, "audit.list", false}, {"Messages", toOutbox, "notify.list", false}}},
}

// open lists the places of a group that the visitor may open. Client data is
// listed for staff too: the page says how to get a grant.
func (v *visit) open(places []place) (out []place) {
	for _, to := range places {
		org := v.who().Organisation
		if to.shared {
			org = uuid.Nil
		}
		if v.may(to.needs, org) || v.own() && v.who().Platform() && !v.who().Away && to.needs.ClientData() {
			out = append(out, to)
		}
	}
	return out
}
