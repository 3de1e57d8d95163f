package console

import (
	"net/url"

	"github.com/a-h/templ"
	"github.com/google/uuid"
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
)

func requestLink(id ledger.RequestID) templ.SafeURL {
	return templ.SafeURL(toRequests + "/" + id.String())
}

func organisationLink(name string) templ.SafeURL {
	return templ.SafeURL(toOrganisations + "/" + url.PathEscape(name))
}

func decisionLink(org uuid.UUID, hash [16]byte) templ.SafeURL {
	return templ.SafeURL(toRefusals + "/" + org.String() + "/" + hexText(hash))
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

// place is an item of the menu.
type place struct{ name, path string }

// menu lists the pages that exist, in their four groups.
var menu = []struct {
	group  string
	places []place
}{
	{"Command", []place{{"Overview", toOverview}, {"Requests", toRequests}, {"Providers and models", toProviders}}},
	{"Canvas", []place{{"Playground", toPlayground}}},
	{"Foundry", []place{{"Organisations and keys", toOrganisations}, {"Usage and cost", toUsage}}},
	{"Assurance", []place{{"Where may it go?", toExplain}, {"Transfer register", toTransfers}, {"Refusals", toRefusals}, {"Audit log", toAudit}}},
}
