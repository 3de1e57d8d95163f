package console_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/console"
	"github.com/missionopsai/foundry/internal/principal"
)

// about says whose thing a route touches.
type about int

const (
	ofTheOrganisation about = iota // that the address names
	ofTheCaller                    // where the caller acts: the address names nothing
	ofThePlatform
	ofOneself
)

// swept is how the sweep opens a route: what it is authorised as, whose thing
// it is about, and where that differs from the pattern, its query. In both,
// {org} is the name of an organisation, {key} a key of it; whatever else
// stands in braces is an id of nothing.
type swept struct {
	action policy.Action
	about  about
	query  string
	costly bool // opened only where it must be denied: it would change something
}

const ofOrg = "?organisation={org}"

// pagesAndActs is the table that every route must be in. Add a line with
// every route.
var pagesAndActs = map[string]swept{
	"GET /console/":              {"console.open", ofThePlatform, "nowhere", false},
	"GET /console/{$}":           {"overview.read", ofTheCaller, "", false},
	"GET /console/events":        {"console.open", ofThePlatform, "", true}, // a stream: it does not end
	"POST /console/sign-out":     {"session.end", ofOneself, "", true},
	"GET /console/providers":     {"provider.list", ofThePlatform, "", false},
	"GET /console/explain":       {"route.explain", ofTheOrganisation, ofOrg, false},
	"GET /console/playground":    {"playground.use", ofTheOrganisation, ofOrg, false},
	"GET /console/usage":         {"usage.read", ofTheOrganisation, ofOrg, false},
	"GET /console/usage.csv":     {"usage.read", ofTheOrganisation, ofOrg, false},
	"GET /console/requests":      {"request.list", ofTheOrganisation, ofOrg, false},
	"GET /console/refusals":      {"refusal.list", ofTheOrganisation, ofOrg, false},
	"GET /console/transfers":     {"transfer.list", ofTheOrganisation, ofOrg, false},
	"GET /console/controls":      {"controls.list", ofTheCaller, "", false},
	"GET /console/messages":      {"notify.list", ofTheCaller, "", false},
	"GET /console/encryption":    {"keys.status", ofTheCaller, "", false},
	"GET /console/audit":         {"audit.list", ofTheOrganisation, ofOrg, false},
	"GET /console/people":        {"person.list", ofTheOrganisation, ofOrg, false},
	"GET /console/fleet":         {"fleet.read", ofTheCaller, "", false},
	"GET /console/command":       {"incident.read", ofTheCaller, "", false},
	"GET /console/incidents":     {"incident.read", ofTheCaller, "", false},
	"GET /console/backups":       {"backup.read", ofTheCaller, "", false},
	"GET /console/transfers.csv": {"transfer.list", ofTheOrganisation, ofOrg, false},

	"POST /console/playground/chat/{organisation}":    {"playground.use", ofTheOrganisation, "", true},
	"GET /console/requests/{id}":                      {"request.read", ofTheOrganisation, ofOrg, false},
	"GET /console/requests/{id}/proof":                {"audit.prove", ofTheOrganisation, ofOrg, false},
	"GET /console/requests/{id}/proof.json":           {"audit.prove", ofTheOrganisation, ofOrg, false},
	"GET /console/refusals/{organisation}/{hash}":     {"refusal.read", ofTheOrganisation, "", false},
	"GET /console/organisations":                      {"organisation.list", ofTheCaller, "", false},
	"POST /console/organisations":                     {"organisation.create", ofTheCaller, "", false},
	"GET /console/organisations/{name}":               {"organisation.read", ofTheOrganisation, "", false},
	"POST /console/organisations/{name}/keys":         {"key.create", ofTheOrganisation, "", false},
	"POST /console/organisations/{name}/budgets":      {"budget.set", ofTheOrganisation, "", false},
	"GET /console/organisations/{name}/policy":        {"policy.set", ofTheOrganisation, "", false},
	"POST /console/organisations/{name}/policy":       {"policy.set", ofTheOrganisation, "", true},
	"GET /console/keys/{id}/revoke":                   {"key.revoke", ofTheOrganisation, "", false},
	"POST /console/keys/{id}/revoke":                  {"key.revoke", ofTheOrganisation, "", false},
	"GET /console/account":                            {"account.read", ofOneself, "", false},
	"POST /console/account/sessions/{session}/end":    {"session.end", ofOneself, "", true},
	"POST /console/account/sessions/end-others":       {"session.end", ofOneself, "", true},
	"GET /console/account/password":                   {"password.change", ofOneself, "", false},
	"POST /console/account/password":                  {"password.change", ofOneself, "", true},
	"GET /console/account/passkeys/{passkey}":         {"passkey.rename", ofOneself, "", false},
	"POST /console/account/passkeys/{passkey}":        {"passkey.rename", ofOneself, "", true},
	"POST /console/account/passkeys/{passkey}/remove": {"passkey.remove", ofOneself, "", true},
	"GET /console/account/recovery-codes":             {"recovery.renew", ofOneself, "", false},
	"POST /console/account/recovery-codes":            {"recovery.renew", ofOneself, "", true},
	"POST /console/account/authenticator/remove":      {"totp.remove", ofOneself, "", true},
	"GET /console/account/places":                     {"account.read", ofOneself, "", false},
	"POST /console/account/places":                    {"account.read", ofOneself, "", true},
	"GET /console/account/join":                       {"account.read", ofOneself, "", false},
	"POST /console/account/join":                      {"account.change", ofOneself, "", true},
	"GET /console/account/second-factor":              {"account.read", ofOneself, "", false},
	"GET /console/account/authenticator":              {"totp.enrol", ofOneself, "", true}, // each time a new one
	"POST /console/account/authenticator":             {"totp.enrol", ofOneself, "", true},
	"POST /console/account/passkeys/begin":            {"passkey.add", ofOneself, "", true},
	"POST /console/account/passkeys":                  {"passkey.add", ofOneself, "", true},
	"GET /console/step-up":                            {"account.read", ofOneself, "", false},
	"POST /console/step-up":                           {"account.read", ofOneself, "", true},
	"POST /console/step-up/passkey/begin":             {"account.read", ofOneself, "", true},
	"POST /console/step-up/passkey":                   {"account.read", ofOneself, "", true},

	"GET /console/people/invite":                           {"person.invite", ofTheOrganisation, ofOrg, false},
	"POST /console/people/invite":                          {"person.invite", ofTheOrganisation, ofOrg, false},
	"GET /console/people/{person}":                         {"person.read", ofTheOrganisation, ofOrg, false},
	"POST /console/people/{person}/roles":                  {"membership.set", ofTheOrganisation, ofOrg, false},
	"POST /console/people/{person}/unlock":                 {"person.unlock", ofTheOrganisation, ofOrg, false},
	"POST /console/people/{person}/recover":                {"person.reset", ofTheOrganisation, ofOrg, false},
	"POST /console/people/{person}/sign-out":               {"session.revoke", ofTheOrganisation, ofOrg, false},
	"GET /console/people/{person}/deactivate":              {"person.deactivate", ofTheOrganisation, ofOrg, false},
	"POST /console/people/{person}/deactivate":             {"person.deactivate", ofTheOrganisation, ofOrg, false},
	"POST /console/people/invitations/{invitation}/revoke": {"invitation.revoke", ofTheOrganisation, ofOrg, false},
	"POST /console/people/invitations/{invitation}/resend": {"invitation.resend", ofTheOrganisation, ofOrg, false},
	"GET /console/service-accounts":                        {"service-account.list", ofTheOrganisation, ofOrg, false},
	"POST /console/service-accounts":                       {"service-account.create", ofTheOrganisation, ofOrg, false},
	"GET /console/service-accounts/{account}":              {"service-account.list", ofTheOrganisation, ofOrg, false},
	"POST /console/service-accounts/{account}/keys":        {"service-account.change", ofTheOrganisation, ofOrg, false},
	"GET /console/service-accounts/{account}/deactivate":   {"service-account.deactivate", ofTheOrganisation, ofOrg, false},
	"POST /console/service-accounts/{account}/deactivate":  {"service-account.deactivate", ofTheOrganisation, ofOrg, false},
	"GET /console/audit/log":                               {"audit.verify", ofTheOrganisation, ofOrg, false},
	"POST /console/audit/log/verify":                       {"audit.verify", ofThePlatform, "", true},
	"GET /console/audit/{entry}":                           {"audit.read", ofTheOrganisation, ofOrg, false},
	"GET /console/audit/{entry}/proof":                     {"audit.prove", ofTheOrganisation, ofOrg, false},
	"GET /console/audit/{entry}/proof.json":                {"audit.prove", ofTheOrganisation, ofOrg, false},
	"GET /console/audit/export":                            {"audit.export", ofTheOrganisation, ofOrg, false},
	"GET /console/audit/export.tsv":                        {"audit.export", ofTheOrganisation, ofOrg, false},
	"GET /console/staff-access":                            {"grant.list", ofTheOrganisation, ofOrg, false},
	"POST /console/staff-access":                           {"grant.request", ofTheOrganisation, ofOrg, false},
	"GET /console/staff-access/rule":                       {"grant.rule", ofTheOrganisation, ofOrg, false},
	"POST /console/staff-access/rule":                      {"grant.rule", ofTheOrganisation, ofOrg, false},
	"GET /console/staff-access/{grant}":                    {"grant.read", ofTheOrganisation, ofOrg, false},
	"POST /console/staff-access/{grant}/approve":           {"grant.approve", ofTheOrganisation, ofOrg, false},
	"POST /console/staff-access/{grant}/reject":            {"grant.reject", ofTheOrganisation, ofOrg, false},
	"POST /console/staff-access/{grant}/end":               {"grant.list", ofTheOrganisation, ofOrg, false},
	"POST /console/staff-access/{grant}/review":            {"grant.review", ofTheOrganisation, ofOrg, false},
	"GET /console/access-register":                         {"register.read", ofTheOrganisation, ofOrg, false},
	"POST /console/access-register/compare":                {"register.compare", ofTheOrganisation, ofOrg, true},
	"GET /console/access-register/reviews/{review}":        {"register.read", ofTheOrganisation, ofOrg, false},
	"POST /console/access-register/reviews":                {"register.read", ofTheOrganisation, ofOrg, true},
	"POST /console/access-register/reviews/{review}":       {"register.read", ofTheOrganisation, ofOrg, false},
	"POST /console/encryption/{organisation}/rotate":       {"keys.rotate", ofTheOrganisation, "", true},
	"GET /console/encryption/{organisation}/shred":         {"keys.shred", ofTheOrganisation, "", false},
	"POST /console/encryption/{organisation}/shred":        {"keys.shred", ofTheOrganisation, "", false},
	"GET /console/encryption/{organisation}/hold":          {"keys.restore", ofTheOrganisation, "", false},
	"POST /console/encryption/{organisation}/hold":         {"keys.restore", ofTheOrganisation, "", false},
	"GET /console/encryption/{organisation}/release":       {"keys.shred", ofTheOrganisation, "", false},
	"POST /console/encryption/{organisation}/release":      {"keys.shred", ofTheOrganisation, "", false},
	"GET /console/encryption/rewrap":                       {"keys.rewrap", ofThePlatform, "", false},
	"POST /console/encryption/rewrap":                      {"keys.rewrap", ofThePlatform, "", false},
	"GET /console/encryption/canary":                       {"keys.storage", ofThePlatform, "", false},
	"POST /console/encryption/canary":                      {"keys.search", ofThePlatform, "", true},
	"GET /console/shreds/{shred}":                          {"keys.status", ofTheCaller, "", false},
	"POST /console/shreds/{shred}/approve":                 {"keys.status", ofTheCaller, "", false},
	"POST /console/shreds/{shred}/cancel":                  {"keys.status", ofTheCaller, "", false},
	"POST /console/controls/run":                           {"controls.run", ofTheCaller, "", true},
	"GET /console/controls/{control}":                      {"controls.read", ofTheCaller, "", false},
	"POST /console/controls/{control}/run":                 {"controls.run", ofTheCaller, "", true},
	"GET /console/controls/{control}/attest":               {"controls.attest", ofThePlatform, "", false},
	"POST /console/controls/{control}/attest":              {"controls.attest", ofThePlatform, "", false},
	"POST /console/messages/{message}/retry":               {"notify.retry", ofTheCaller, "", false},
	"POST /console/backups/targets/probe":                  {"backup.probe", ofTheCaller, "", true},
	"GET /console/backups/kit":                             {"break-glass.read", ofTheCaller, "", false},
	"POST /console/backups/kit/look":                       {"break-glass.look", ofTheCaller, "", false},
	"GET /console/backups/kit/briefing":                    {"break-glass.brief", ofTheCaller, "", false},
	"GET /console/backups/kit/briefing.html":               {"break-glass.brief", ofTheCaller, "", false},
	"GET /console/backups/kit/instructions/{sheet}":        {"break-glass.read", ofTheCaller, "", false},
	"GET /console/backups/kit/openings/{opening}":          {"break-glass.read", ofTheCaller, "", false},
	"POST /console/backups/kit/openings/{opening}/review":  {"break-glass.review", ofTheCaller, "", false},
	"GET /console/backups/mirrors":                         {"backup.read", ofTheCaller, "", false},
	"GET /console/backups/mirrors/{mirror}":                {"backup.read", ofTheCaller, "", false},
	"POST /console/backups/mirrors/{mirror}/fetch":         {"backup.fetch", ofTheCaller, "", false},
	"POST /console/backups/mirrors/{mirror}/prove":         {"backup.prove", ofTheCaller, "", false},
	"GET /console/backups/mirrors/{mirror}/push":           {"backup.push", ofTheCaller, "", false},
	"POST /console/backups/mirrors/{mirror}/push":          {"backup.push", ofTheCaller, "", false},

	"GET /console/incidents/{id}":           {"incident.read", ofTheCaller, "", false},
	"GET /console/incidents/{id}/export":    {"incident.read", ofTheCaller, "", false},
	"POST /console/incidents/{id}/note":     {"incident.append", ofTheCaller, "", false},
	"POST /console/incidents/{id}/phase":    {"incident.append", ofTheCaller, "", false},
	"POST /console/incidents/{id}/decision": {"incident.decide", ofTheCaller, "", false},
	"POST /console/incidents/{id}/approval": {"incident.approve", ofTheCaller, "", false},
	"GET /console/exercises":                {"exercise.read", ofTheCaller, "", false},
	"GET /console/exercises/{id}":           {"exercise.read", ofTheCaller, "", false},
	"GET /console/exercises/{id}/report":    {"exercise.read", ofTheCaller, "", false},
	"GET /console/recoveries/{id}":          {"recovery.read", ofTheCaller, "", false},
	"POST /console/recoveries/{id}/approve": {"recovery.approve", ofTheCaller, "", false},
	"POST /console/recoveries/{id}/decide":  {"recovery.act", ofTheCaller, "", false},
	"POST /console/recoveries/{id}/say":     {"recovery.act", ofTheCaller, "", false},
	"POST /console/recoveries/{id}/retry":   {"recovery.act", ofTheCaller, "", false},

	"GET /console/plan":                               {"plan.read", ofTheCaller, "", false},
	"GET /console/plan/new":                           {"plan.submit", ofTheCaller, "", false},
	"POST /console/plan/new":                          {"plan.submit", ofTheCaller, "", false},
	"POST /console/plan/read":                         {"plan.acknowledge", ofTheCaller, "", false},
	"GET /console/plan/revisions/{revision}":          {"plan.read", ofTheCaller, "", false},
	"POST /console/plan/revisions/{revision}/approve": {"plan.decide", ofTheCaller, "", false},
	"GET /console/plan/revisions/{revision}/reject":   {"plan.decide", ofTheCaller, "", false},
	"POST /console/plan/revisions/{revision}/reject":  {"plan.decide", ofTheCaller, "", false},
	"GET /console/plan/register/{entry}":              {"plan.confirm", ofTheCaller, "", false},
	"POST /console/plan/register/{entry}":             {"plan.confirm", ofTheCaller, "", false},
	"GET /console/plan/reviews/{review}":              {"plan.review", ofTheCaller, "", false},
	"POST /console/plan/reviews/{review}":             {"plan.review", ofTheCaller, "", false},
	"POST /console/backups/run":                       {"backup.run", ofTheCaller, "", true},
	"POST /console/backups/verify":                    {"backup.verify", ofTheCaller, "", true},
	"GET /console/backups/points":                     {"backup.read", ofTheCaller, "", false},
	"GET /console/backups/drill":                      {"backup.drill", ofTheCaller, "", false},
	"POST /console/backups/drill":                     {"backup.drill", ofTheCaller, "", true},
	"GET /console/backups/expire":                     {"backup.expire", ofTheCaller, "", false},
	"POST /console/backups/expire":                    {"backup.expire", ofTheCaller, "", true},
	"GET /console/backups/hold":                       {"backup.hold", ofTheCaller, "", false},
	"POST /console/backups/hold":                      {"backup.hold", ofTheCaller, "", true},
	"GET /console/backups/holds/{hold}/release":       {"backup.release", ofTheCaller, "", false},
	"POST /console/backups/holds/{hold}/release":      {"backup.release", ofTheCaller, "", true},
	"GET /console/backups/jobs/{job}":                 {"backup.read", ofTheCaller, "", false},
	"GET /console/backups/drills/{drill}":             {"backup.read", ofTheCaller, "", false},
}

// notThere are the acts on a person or an invitation, whose organisation only
// the database knows: somebody of an organisation learns nothing about an id
// that is not theirs.
var notThere = map[string]bool{
	"POST /console/people/{person}/unlock": true, "POST /console/people/{person}/recover": true, "POST /console/people/{person}/sign-out": true,
	"POST /console/people/invitations/{invitation}/resend": true, "POST /console/people/invitations/{invitation}/revoke": true,
}

// A route that the table does not have fails, whoever added it.
func TestEveryRouteOfTheConsoleIsSwept(t *testing.T) {
	served := map[string]bool{}
	for _, r := range console.New(console.Options{}).Routes() {
		served[r.Pattern] = true
		switch s, known := pagesAndActs[r.Pattern]; {
		case !known:
			t.Errorf("%s is not in the table: say what it is authorised as", r.Pattern)
		case r.Action != s.action && !(r.Action == "grant.list" && strings.HasSuffix(r.Pattern, "/end")):
			t.Errorf("%s asks for %q, and the table says %q", r.Pattern, r.Action, s.action)
		case !s.action.Known():
			t.Errorf("%s: %q is no action", r.Pattern, s.action)
		}
	}
	for pattern := range pagesAndActs {
		if !served[pattern] {
			t.Errorf("%s is in the table and not served", pattern)
		}
	}
}

// sweeper opens routes as somebody and compares with what the policies say.
type sweeper struct {
	w        *world
	policies *policy.Engine
	own      uuid.UUID            // the organisation of those who belong to one
	ids      map[string]uuid.UUID // of organisations
	keys     map[string]string    // a key of each
	asked    int
}

// Every route × every role × own and other organisation, over real sessions:
// what the policies deny is denied, and what they allow is not.
func TestEveryRouteAsksThePolicies(t *testing.T) {
	w := office(t)
	engine, err := policy.Load()
	if err != nil {
		t.Fatal(err)
	}
	s := &sweeper{w: w, policies: engine, ids: map[string]uuid.UUID{}, keys: map[string]string{}}
	var orgs []struct {
		ID   uuid.UUID
		Name string
	}
	w.ask200(t, http.MethodGet, "/organisations", nil, &orgs)
	for _, o := range orgs {
		var keys []struct{ ID string }
		w.ask200(t, http.MethodGet, "/keys?organisation="+o.Name, nil, &keys)
		if s.ids[o.Name] = o.ID; len(keys) > 0 {
			s.keys[o.Name] = keys[0].ID
		}
	}
	s.own = s.ids["st-mary-hospital"]
	for _, role := range principal.AllRoles() {
		who := role.String()
		if !role.Platform() {
			who = "st-mary-hospital/" + who
		}
		p := w.colleague(t, who)
		for pattern, one := range pagesAndActs {
			s.open(t, p, role, pattern, one, "st-mary-hospital", false)
			if one.about == ofTheOrganisation {
				s.open(t, p, role, pattern, one, "harbour-authority", false)
			}
		}
	}
	// A quarter of an hour after the second factor was shown.
	w.offset.Store(int64(16 * time.Minute))
	defer w.offset.Store(0)
	for _, role := range principal.AllRoles() {
		who := role.String()
		if !role.Platform() {
			who = "st-mary-hospital/" + who
		}
		for pattern, one := range pagesAndActs {
			if one.action.Administrative() {
				s.open(t, w.colleague(t, who), role, pattern, one, "st-mary-hospital", true)
			}
		}
	}
	t.Logf("%d routes, %d questions", len(pagesAndActs), s.asked)
}

// address fills a pattern in.
func (s *sweeper) address(pattern string, one swept, org string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	fill := strings.NewReplacer("{$}", "", "{name}", org, "{organisation}", org, "{org}", org, "/keys/{id}", "/keys/"+s.keys[org],
		"{id}", "req_"+strings.Repeat("a", 26), "{hash}", strings.Repeat("0", 32), "{control}", "O-08",
		"{passkey}", "none", "{session}", "none", "{invitation}", "aaaaaaaaaa", "{person}", uuid.NewString(), "{account}", uuid.NewString(), "{entry}", uuid.NewString(),
		"{grant}", uuid.NewString(), "{review}", uuid.NewString(), "{shred}", uuid.NewString(), "{message}", uuid.NewString(), "{sheet}", "bare-machine", "{opening}", uuid.NewString(), "{mirror}", "nothing", "{hold}", uuid.NewString(), "{job}", uuid.NewString(), "{drill}", uuid.NewString())
	return method, fill.Replace(path + one.query)
}

func (s *sweeper) open(t *testing.T, p *colleague, role principal.Role, pattern string, one swept, org string, stale bool) {
	t.Helper()
	now := time.Now()
	who := principal.Principal{Kind: principal.Person, ID: p.id, Session: "s", Roles: principal.RolesOf(role), SecondFactor: now}
	if !role.Platform() {
		who.Organisation = s.own
	}
	if stale {
		who.SecondFactor = now.Add(-16 * time.Minute)
	}
	on := policy.Resource{Organisation: s.ids[org]}
	switch one.about {
	case ofThePlatform:
		on.Organisation = uuid.Nil
	case ofTheCaller:
		on.Organisation = who.Organisation
	case ofOneself:
		on.Organisation, on.ID, on.Owner = who.Organisation, who.ID, who.ID
	}
	want := s.policies.Decide(policy.Request{Principal: who, Action: one.action, Resource: on, Now: now, Mode: policy.Development})
	if one.costly && want.Allowed {
		return
	}
	s.asked++
	method, path := s.address(pattern, one, org)
	status, header, body := p.do(t, method, path, "")
	name := fmt.Sprintf("%s %s by %s", method, path, role)
	stepUp := status == http.StatusSeeOther && strings.HasPrefix(header.Get("Location"), "/console/step-up?") || status == http.StatusForbidden && strings.Contains(body, "<h1>Show your second factor</h1>")
	refused := status == http.StatusForbidden && strings.Contains(body, "<h1>Not allowed</h1>") && strings.Contains(body, "policy ") || status == http.StatusForbidden && strings.Contains(body, "<h1>Access to client data</h1>")
	// What is not there is denied like what is another's; the node of this
	// test makes no backups.
	beyond := refused && notThere[pattern] || status == http.StatusServiceUnavailable && strings.Contains(path, "/backups")
	switch {
	case want.Allowed && beyond:
	case status >= 500:
		t.Errorf("%s answers %d", name, status)
	case status == http.StatusSeeOther && strings.HasPrefix(header.Get("Location"), "/console/sign-in"):
		t.Fatalf("%s: the session has ended", name)
	case want.Allowed && (refused || stepUp):
		t.Errorf("%s is denied, and the policies allow %s on %s: %d", name, one.action, on.Organisation, status)
	case want.StepUp && !stepUp:
		t.Errorf("%s answers %d without the second factor, and %s needs it", name, status, one.action)
	case !want.Allowed && !want.StepUp && status != http.StatusForbidden && status != http.StatusNotFound:
		t.Errorf("%s answers %d, and the policies deny %s (%s)", name, status, one.action, want.Policy)
	}
}
