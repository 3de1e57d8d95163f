package daemon

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/principal"
)

// about says whose thing an operation of the sweep touches.
type about int

const (
	ofTheOrganisation about = iota // that the request names: {org} or something of it
	ofTheCaller                    // where the caller acts: the request names nothing
	ofThePlatform
	ofNobody // before or about one's own sign-in: no role decides
)

// swept is how the sweep asks for an operation of the administrative
// interface. In path and body, {org} is the name of an organisation, {orgid},
// {key}, {budget}, {other} and {name} are its id, things of it, an id of
// nothing, and a name that is free.
type swept struct {
	action policy.Action
	about  about
	path   string // without /api/v1
	body   string
	costly bool // asked for only where it must be denied
}

// operations is the table that every operation must be in. Add a line with
// every operation: what it is authorised as, and a request that gets that far.
var operations = map[string]swept{
	"organisation-create": {"organisation.create", ofThePlatform, "/organisations", `{"name":"{name}"}`, false},
	"organisation-list":   {"organisation.list", ofTheCaller, "/organisations", "", false},
	"organisation-show":   {"organisation.read", ofTheOrganisation, "/organisations/{org}", "", false},
	"policy-set":          {"policy.set", ofTheOrganisation, "/organisations/{org}/policy", `{"regime":"EU","home":"FI","allowed":["EEA"],"highest":"internal"}`, false},
	"key-create":          {"key.create", ofTheOrganisation, "/keys", `{"organisation":"{org}","name":"{name}"}`, false},
	"key-list":            {"key.list", ofTheOrganisation, "/keys?organisation={org}", "", false},
	"key-revoke":          {"key.revoke", ofTheOrganisation, "/keys/{key}", "", false},
	"budget-set":          {"budget.set", ofTheOrganisation, "/budgets", `{"organisation":"{org}","period":"day","limit":"5.00"}`, false},
	"budget-list":         {"budget.list", ofTheCaller, "/budgets", "", false},
	"budget-remove":       {"budget.remove", ofTheOrganisation, "/budgets/{budget}", "", false},
	"usage":               {"usage.read", ofTheOrganisation, "/usage?organisation={org}&group_by=day", "", false},
	"route-explain":       {"route.explain", ofTheOrganisation, "/route?organisation={org}&model=none", "", false},
	"request-list":        {"request.list", ofTheOrganisation, "/requests?organisation={org}", "", false},
	"request-show":        {"request.read", ofTheCaller, "/requests/req_aaaaaaiaaaaaaaqaaaaaaaaaae", "", false},
	"refusal-list":        {"refusal.list", ofTheOrganisation, "/refusals?organisation={org}", "", false},
	"transfer-list":       {"transfer.list", ofTheOrganisation, "/transfers?organisation={org}", "", false},

	"status":       {"status.read", ofThePlatform, "/status", "", false},
	"console-link": {"console.link", ofThePlatform, "/console/links", "", false},

	"backup-status":     {"backup.read", ofThePlatform, "/backup-status", "", false},
	"backup-calendar":   {"backup.read", ofThePlatform, "/backup-calendar", "", false},
	"backup-targets":    {"backup.read", ofThePlatform, "/backup-targets", "", false},
	"backup-list":       {"backup.read", ofThePlatform, "/backups", "", false},
	"backup-show":       {"backup.read", ofThePlatform, "/backups/nothing", "", false},
	"backup-jobs":       {"backup.read", ofThePlatform, "/backup-jobs", "", false},
	"backup-job":        {"backup.read", ofThePlatform, "/backup-jobs/{other}", "", false},
	"backup-drills":     {"backup.read", ofThePlatform, "/backup-drills", "", false},
	"backup-drill-show": {"backup.read", ofThePlatform, "/backup-drills/{other}", "", false},
	"backup-holds":      {"backup.read", ofThePlatform, "/backup-holds", "", false},
	"backup-run":        {"backup.run", ofThePlatform, "/backups", `{"targets":["nowhere"]}`, false},
	"backup-drill":      {"backup.drill", ofThePlatform, "/backup-drills", `{"target":"nowhere"}`, false},
	"backup-verify":     {"backup.verify", ofThePlatform, "/backup-checks", `{"targets":["nowhere"]}`, false},
	"backup-probe":      {"backup.probe", ofThePlatform, "/backup-probes", `{"targets":["nowhere"]}`, false},
	"backup-expire":     {"backup.expire", ofThePlatform, "/backup-expiries", `{"targets":["nowhere"]}`, false},
	"backup-hold":       {"backup.hold", ofThePlatform, "/backup-holds", `{"label":"nothing","reason":"for the sweep of the tests","ticket":"T-1"}`, false},
	"backup-release":    {"backup.release", ofThePlatform, "/backup-holds/{other}/release", `{"reason":"for the sweep of the tests"}`, false},

	"fleet-picture":           {"fleet.read", ofThePlatform, "/fleet/picture", "", false},
	"fleet-readiness":         {"fleet.read", ofThePlatform, "/fleet/readiness", "", false},
	"fleet-losses":            {"fleet.read", ofThePlatform, "/fleet/losses", "", false},
	"fleet-marks":             {"fleet.marks", ofThePlatform, "/fleet/marks", "", false},
	"database-reconcile":      {"recovery.act", ofThePlatform, "/fleet/database/reconciliations", `{"dir":"nothing"}`, false},
	"fleet-status":            {"fleet.read", ofThePlatform, "/fleet", "", false},
	"fleet-invitation-list":   {"fleet.read", ofThePlatform, "/fleet/invitations", "", false},
	"fleet-invite":            {"fleet.invite", ofThePlatform, "/fleet/invitations", `{"name":"node-2","roles":["fleet"]}`, false},
	"fleet-invitation-revoke": {"fleet.invite", ofThePlatform, "/fleet/invitations/nothing", "", false},
	"fleet-drain":             {"fleet.drain", ofThePlatform, "/fleet/nodes/nothing/draining", `{"draining":true}`, false},
	"fleet-remove":            {"fleet.remove", ofThePlatform, "/fleet/nodes/nothing", "", false},
	"fleet-snapshot":          {"fleet.snapshot", ofThePlatform, "/fleet/snapshots", "", false},

	"patroni-status":       {"fleet.read", ofThePlatform, "/database/patroni", "", false},
	"patroni-configure":    {"fleet.certify", ofThePlatform, "/database/patroni/nodes/nothing", `{"address":"10.0.0.1","key":"AA==","dir":"/etc/patroni","data":"/var/lib/postgresql/foundry"}`, false},
	"patroni-enforce":      {"database.change", ofThePlatform, "/database/patroni/strict", "", false},
	"patroni-reinitialise": {"database.change", ofThePlatform, "/database/patroni/nodes/nothing/reinitialise", "", false},

	"incident-list":     {"incident.read", ofThePlatform, "/incidents", "", false},
	"incident-show":     {"incident.read", ofThePlatform, "/incidents/inc-nothing", "", false},
	"incident-timeline": {"incident.read", ofThePlatform, "/incidents/inc-nothing/timeline", "", false},
	"incident-export":   {"incident.read", ofThePlatform, "/incidents/inc-nothing/export", "", false},
	"incident-evidence": {"incident.read", ofThePlatform, "/incidents/inc-nothing/vault/00", "", false},
	"incident-open":     {"incident.open", ofThePlatform, "/incidents", `{"title":"for the sweep of the tests","mode":"desktop"}`, false},
	"incident-append":   {"incident.append", ofThePlatform, "/incidents/inc-nothing/entries", `{"kind":"note","body":{"words":"for the sweep of the tests"}}`, false},
	"incident-keep":     {"incident.append", ofThePlatform, "/incidents/inc-nothing/vault", `{"n":0,"bytes":"AA==","last":true}`, false},
	"incident-decide":   {"incident.decide", ofThePlatform, "/incidents/inc-nothing/decisions", `{"about":"wait","words":"for the sweep of the tests"}`, false},
	"incident-approve":  {"incident.approve", ofThePlatform, "/incidents/inc-nothing/approvals", `{"of":1,"approve":true}`, false},
	"incident-assess":   {"incident.assess", ofThePlatform, "/incidents/inc-nothing/assessments", `{"personal_data":false,"risk":"unlikely","words":"for the sweep of the tests"}`, false},
	"incident-notice":   {"incident.notice", ofThePlatform, "/incidents/inc-nothing/notices", `{"notice":"n","step":"released"}`, false},
	"incident-close":    {"incident.close", ofThePlatform, "/incidents/inc-nothing/closing", `{}`, false},

	"recovery-list":          {"recovery.read", ofThePlatform, "/recoveries", "", false},
	"recovery-plans":         {"recovery.read", ofThePlatform, "/recovery-plans", "", false},
	"recovery-preview":       {"recovery.read", ofThePlatform, "/recovery-previews", `{"plan":"nothing"}`, false},
	"recovery-start":         {"recovery.start", ofThePlatform, "/recoveries", `{"plan":"nothing","incident":"inc-nothing"}`, false},
	"recovery-status":        {"recovery.read", ofThePlatform, "/recoveries/rec-nothing", "", false},
	"recovery-abandon":       {"recovery.abandon", ofThePlatform, "/recoveries/rec-nothing/abandon", `{"words":"for the sweep of the tests"}`, false},
	"recovery-approve":       {"recovery.approve", ofThePlatform, "/recoveries/rec-nothing/steps/s/approve", `{}`, false},
	"recovery-decide":        {"recovery.act", ofThePlatform, "/recoveries/rec-nothing/steps/s/decide", `{}`, false},
	"recovery-say":           {"recovery.act", ofThePlatform, "/recoveries/rec-nothing/steps/s/say", `{}`, false},
	"recovery-retry":         {"recovery.act", ofThePlatform, "/recoveries/rec-nothing/steps/s/retry", `{}`, false},
	"exercise-list":          {"exercise.read", ofThePlatform, "/exercises", "", false},
	"exercise-submit":        {"exercise.run", ofThePlatform, "/exercises", `{"bundle":"eA=="}`, false},
	"exercise-show":          {"exercise.read", ofThePlatform, "/exercises/exc-nothing", "", false},
	"exercise-report":        {"exercise.read", ofThePlatform, "/exercises/exc-nothing/report", "", false},
	"exercise-actions":       {"exercise.read", ofThePlatform, "/exercise-actions", "", false},
	"exercise-action-change": {"exercise.run", ofThePlatform, "/exercises/exc-nothing/actions/gap-1", `{"words":"for the sweep of the tests","done":true}`, false},

	"recovery-skip": {"recovery.act", ofThePlatform, "/recoveries/rec-nothing/steps/s/skip", `{}`, false},

	"backup-mirror-list":  {"backup.read", ofThePlatform, "/backup-mirrors", "", false},
	"backup-mirror-show":  {"backup.read", ofThePlatform, "/backup-mirrors/nothing", "", false},
	"backup-mirror-fetch": {"backup.fetch", ofThePlatform, "/backup-mirrors/nothing/fetches", "", false},
	"backup-mirror-prove": {"backup.prove", ofThePlatform, "/backup-mirrors/nothing/proofs", "", false},
	"backup-mirror-push":  {"backup.push", ofThePlatform, "/backup-mirrors/nothing/pushes", `{"to":"https://example.org/a.git","reason":"for the sweep of the tests"}`, false},

	"plan-standing":    {"plan.read", ofThePlatform, "/plan", "", false},
	"plan-whatif":      {"plan.read", ofThePlatform, "/plan/whatif?lose=nothing", "", false},
	"plan-revisions":   {"plan.read", ofThePlatform, "/plan/revisions", "", false},
	"plan-show":        {"plan.read", ofThePlatform, "/plan/revisions/{other}", "", false},
	"plan-register":    {"plan.read", ofThePlatform, "/plan/register", "", false},
	"plan-submit":      {"plan.submit", ofThePlatform, "/plan/revisions", `{"text":"version: 2","note":"for the sweep of the tests"}`, false},
	"plan-decide":      {"plan.decide", ofThePlatform, "/plan/revisions/{other}/decisions", `{"approve":true}`, false},
	"plan-acknowledge": {"plan.acknowledge", ofThePlatform, "/plan/acknowledgements", `{"hash":"0"}`, false},
	"plan-confirm":     {"plan.confirm", ofThePlatform, "/plan/register", `{"entry":"nothing"}`, false},
	"plan-review":      {"plan.review", ofThePlatform, "/plan/reviews/{other}", `{"finding":"for the sweep of the tests"}`, false},

	"emergency-look":        {"break-glass.look", ofThePlatform, "/emergency/looks", "", false},
	"emergency-brief":       {"break-glass.brief", ofThePlatform, "/emergency/briefing", "", false},
	"emergency-show":        {"break-glass.read", ofThePlatform, "/emergency", "", false},
	"emergency-key-request": {"break-glass.create", ofThePlatform, "/emergency/keys", `{"threshold":2,"shares":3,"reason":"for the sweep of the tests"}`, false},
	"emergency-key-decide":  {"break-glass.approve", ofThePlatform, "/emergency/keys/{other}/decision", `{"approve":true}`, false},
	"emergency-key-make":    {"break-glass.create", ofThePlatform, "/emergency/keys/{other}/shares", "", false},
	"emergency-challenge":   {"break-glass.open", ofThePlatform, "/emergency/challenges", "", false},
	"emergency-open":        {"break-glass.open", ofThePlatform, "/emergency/openings", `{"nonce":"n","proof":"p","shares":[1,2],"scope":"operate","reason":"for the sweep of the tests"}`, false},
	"emergency-end":         {"", ofNobody, "/emergency/session", "", false},
	"emergency-review":      {"break-glass.review", ofThePlatform, "/emergency/openings/{other}/review", `{"finding":"for the sweep of the tests","justified":true}`, false},
	"emergency-drill":       {"break-glass.drill", ofThePlatform, "/emergency/drills", `{"set":"00000000","by_contact":false,"outcome":"inconclusive","reason":"sweep","seconds":1,"kit_made_at":"2026-01-01T00:00:00Z","evidence":""}`, false},
	"emergency-attest":      {"break-glass.attest", ofThePlatform, "/emergency/attestations", `{"briefed":true}`, false},

	"authorisation-roles":    {"authorisation.list", ofThePlatform, "/authorisation/roles", "", false},
	"authorisation-policies": {"authorisation.list", ofThePlatform, "/authorisation/policies", "", false},
	"authorisation-explain":  {"authorisation.explain", ofThePlatform, "/authorisation/explain?role=viewer&action=key.list", "", false},

	"audit-list":          {"audit.list", ofTheOrganisation, "/audit?organisation={org}", "", false},
	"audit-prove":         {"audit.prove", ofTheCaller, "/audit/entries/{other}/proof", "", true},
	"audit-prove-request": {"audit.prove", ofTheCaller, "/audit/requests/req_aaaaaaiaaaaaaaqaaaaaaaaaae/proof", "", true},
	"audit-checkpoint":    {"audit.read", ofTheCaller, "/audit/checkpoint", "", true},
	"audit-consistency":   {"audit.verify", ofTheCaller, "/audit/consistency?size=1", "", true},
	"audit-keys":          {"audit.read", ofTheCaller, "/audit/keys", "", true},
	"audit-verify":        {"audit.verify", ofTheCaller, "/audit/verify", `{}`, true},
	"audit-export":        {"audit.export", ofTheOrganisation, "/audit/export?organisation={org}", "", true},

	"encryption-status": {"keys.status", ofTheCaller, "/encryption", "", false},
	"storage-status":    {"keys.storage", ofThePlatform, "/encryption/storage", "", true},
	"keys-rotate":       {"keys.rotate", ofTheOrganisation, "/encryption/rotations", `{"organisation":"{org}"}`, true},
	"keys-rotation":     {"keys.status", ofTheOrganisation, "/encryption/rotations/{org}", "", false},
	"keys-rewrap":       {"keys.rewrap", ofThePlatform, "/encryption/rewraps", `{}`, true},
	"keys-canary":       {"keys.search", ofThePlatform, "/encryption/canaries", "", true},
	"shred-list":        {"keys.status", ofTheCaller, "/encryption/shreds", "", false},
	"shred-request":     {"keys.shred", ofTheOrganisation, "/encryption/shreds", `{"organisation":"{org}","reason":"a test of denials"}`, true},
	"shred-approve":     {"keys.approve", ofTheCaller, "/encryption/shreds/{other}/approvals", "", true},
	"shred-cancel":      {"keys.restore", ofTheCaller, "/encryption/shreds/{other}", "", true},
	"keys-hold":         {"keys.restore", ofTheOrganisation, "/encryption/holds/{org}", `{"reason":"a test"}`, true},
	"keys-release":      {"keys.shred", ofTheOrganisation, "/encryption/holds/{org}", "", true},

	"control-list":     {"controls.list", ofTheCaller, "/controls", "", false},
	"control-show":     {"controls.read", ofTheCaller, "/controls/O-08", "", false},
	"control-evidence": {"evidence.list", ofTheCaller, "/controls/O-08/evidence", "", false},
	"control-run":      {"controls.run", ofThePlatform, "/control-runs", `{}`, true},
	"control-run-show": {"controls.read", ofTheCaller, "/control-runs/{other}", "", false},
	"control-attest":   {"controls.attest", ofThePlatform, "/controls/O-08/attestations", `{"owner":"security","statement":"a test of denials"}`, true},
	"control-retire":   {"controls.retire", ofThePlatform, "/control-scopes/{other}", "", true},

	"notify-list":  {"notify.list", ofThePlatform, "/notifications", "", false},
	"notify-show":  {"notify.list", ofThePlatform, "/notifications/{other}", "", false},
	"notify-retry": {"notify.retry", ofThePlatform, "/notifications/{other}/retry", "", true},
	"notify-test":  {"notify.test", ofThePlatform, "/notifications/test", `{"to":"someone@example.org"}`, true},
	"alarm-list":   {"notify.list", ofThePlatform, "/alarms", "", false},

	"oncall-show":     {"notify.list", ofThePlatform, "/oncall", "", false},
	"oncall-override": {"notify.set", ofThePlatform, "/oncall/overrides", `{"person":"lead","until":"2199-01-01T00:00:00Z"}`, true},
	"oncall-ack":      {"notify.ack", ofThePlatform, "/oncall/pages/{other}/ack", "", true},

	"grant-request":    {"grant.request", ofTheOrganisation, "/grants", `{"organisation":"{org}","scopes":["requests"],"reason":"a test of who is denied","ticket":"T-1"}`, true},
	"break-glass-open": {"break-glass.open", ofThePlatform, "/grants/break-glass", `{"organisation":"{org}","person":"{other}","scopes":["requests"],"reason":"a test of who is denied","ticket":"T-1"}`, true},
	"grant-list":       {"grant.list", ofTheOrganisation, "/grants?organisation={org}", "", false},
	"grant-show":       {"grant.read", ofTheCaller, "/grants/{other}", "", true},
	"grant-approve":    {"grant.approve", ofTheCaller, "/grants/{other}/approve", `{}`, true},
	"grant-reject":     {"grant.reject", ofTheCaller, "/grants/{other}/reject", `{}`, true},
	"grant-end":        {"grant.revoke", ofTheCaller, "/grants/{other}/end", `{}`, true},
	"grant-review":     {"grant.review", ofTheCaller, "/grants/{other}/review", `{}`, true},
	"grant-rule":       {"grant.list", ofTheOrganisation, "/organisations/{org}/grant-rule", "", false},
	"grant-rule-set":   {"grant.rule", ofTheOrganisation, "/organisations/{org}/grant-rule", `{"approvers":"either"}`, true},

	"register-read":    {"register.read", ofTheOrganisation, "/access/register?organisation={org}", "", true},
	"register-compare": {"register.compare", ofThePlatform, "/access/compare", "", true},
	"review-list":      {"register.read", ofTheOrganisation, "/access/reviews?organisation={org}", "", true},
	"review-start":     {"register.review", ofTheOrganisation, "/access/reviews", `{"organisation":"{org}","title":"a test of denials"}`, true},
	"review-show":      {"register.read", ofTheCaller, "/access/reviews/{other}", "", true},
	"review-confirm":   {"register.confirm", ofTheCaller, "/access/reviews/{other}/results", `{"kind":"x","entry":"x","result":"keep"}`, true},

	"person-list":       {"person.list", ofTheOrganisation, "/people?organisation={org}", "", false},
	"person-show":       {"person.read", ofTheOrganisation, "/people/{other}?organisation={org}", "", false},
	"person-roles":      {"membership.set", ofTheOrganisation, "/people/{other}/roles", `{"organisation":"{org}","roles":["viewer"]}`, true},
	"person-unlock":     {"person.unlock", ofTheCaller, "/people/{other}/unlock", "", true},
	"person-recover":    {"person.reset", ofTheCaller, "/people/{other}/recover", "", true},
	"person-footprint":  {"person.read", ofTheCaller, "/people/{other}/footprint", "", true},
	"person-deactivate": {"person.deactivate", ofTheCaller, "/people/{other}/deactivate", `{}`, true},
	"person-bootstrap":  {"person.bootstrap", ofThePlatform, "/people/bootstrap", `{"email":"first@example.org","name":"First"}`, true},
	"person-invite":     {"person.invite", ofTheOrganisation, "/invitations", `{"organisation":"{org}","email":"somebody@example.org","name":"Somebody","roles":["viewer"]}`, true},
	"invitation-list":   {"invitation.list", ofTheOrganisation, "/invitations?organisation={org}", "", false},
	"invitation-revoke": {"invitation.revoke", ofTheCaller, "/invitations/aaaaaaaaaa", "", true},
	"invitation-resend": {"invitation.resend", ofTheCaller, "/invitations/aaaaaaaaaa/resend", "", true},
	"session-list":      {"session.list", ofTheCaller, "/sessions?person={other}", "", true},
	"session-revoke":    {"session.revoke", ofTheCaller, "/sessions/aaaaaaaaaa", "", true},

	"session-revoke-all":         {"session.revoke", ofTheCaller, "/people/{other}/sessions", "", true},
	"service-account-create":     {"service-account.create", ofTheOrganisation, "/service-accounts", `{"organisation":"{org}","name":"{name}"}`, true},
	"service-account-list":       {"service-account.list", ofTheOrganisation, "/service-accounts?organisation={org}", "", false},
	"service-account-assign":     {"service-account.change", ofTheCaller, "/service-accounts/{other}/keys", `{"key":"{key}"}`, true},
	"service-account-deactivate": {"service-account.deactivate", ofTheCaller, "/service-accounts/{other}", "", true},

	"sign-in": {"", ofNobody, "", "", true}, "sign-in-factor": {"", ofNobody, "", "", true}, "invitation-accept": {"", ofNobody, "", "", true},
	"totp-begin": {"", ofNobody, "", "", true}, "totp-confirm": {"", ofNobody, "", "", true}, "session-step-up": {"", ofNobody, "", "", true},
	"session-enter": {"", ofNobody, "", "", true}, "session-show": {"", ofNobody, "", "", true}, "session-end": {"", ofNobody, "", "", true},
}

// place is an organisation of the sweep and what belongs to it.
type place struct {
	id                uuid.UUID
	name, key, budget string
}

// caller is somebody of the sweep.
type caller struct {
	name string
	who  principal.Principal
}

func callers(own uuid.UUID) (out []caller) {
	person := principal.Principal{Kind: principal.Person, ID: uuid.NewString(), Session: "s", SecondFactor: time.Now()}
	for _, role := range principal.AllRoles() {
		p := person
		p.Roles = principal.RolesOf(role)
		if !role.Platform() {
			p.Organisation = own
		}
		out = append(out, caller{role.String(), p})
		stale := p
		stale.SecondFactor = time.Now().Add(-time.Hour)
		out = append(out, caller{role.String() + " long after a second factor", stale})
		if role.Platform() {
			p.Organisation, p.Grant = own, uuid.New()
			out = append(out, caller{role.String() + " under a grant", p})
		}
	}
	nobody := person
	nobody.Organisation = own
	forged := nobody
	forged.Roles = principal.RolesOf(principal.PlatformAdministrator)
	return append(out, caller{"a person without a role", nobody}, caller{"a person with a forged role", forged},
		caller{"an API key", principal.Principal{Kind: principal.Key, ID: "abcdefghij", Organisation: own}}, caller{"somebody unknown", principal.Principal{}})
}

// started is a node in development with two organisations.
func started(t *testing.T) (*Daemon, [2]place) {
	t.Helper()
	root := t.TempDir()
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		var err error
		if root, err = os.MkdirTemp("/dev/shm", "foundry-sweep-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(root) })
	}
	if err := os.Chmod(root, 0o711); err != nil {
		t.Fatal(err)
	}
	d, err := Start(t.Context(), Options{Config: Config{DataDir: filepath.Join(root, "d"), Listen: ListenConfig{HTTPS: "127.0.0.1:0", HTTP: "off"}}, Version: "sweep", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Stop(t.Context()) })
	operator := principal.Principal{Kind: principal.Local, UID: 1000}
	var places [2]place
	for i, name := range []string{"own", "other"} {
		o, err := access.CreateOrganisation(t.Context(), d.db, d.guard, operator, name)
		if err != nil {
			t.Fatal(err)
		}
		k, _, err := d.verifier.CreateKey(t.Context(), d.db, d.guard, operator, access.NewKey{Organisation: o.ID, Name: "app"})
		if err != nil {
			t.Fatal(err)
		}
		places[i] = place{id: o.ID, name: name, key: k.ID}
		places[i].budget = makeBudget(t, d, o.ID)
	}
	if err := d.gateway.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d, places
}

func makeBudget(t *testing.T, d *Daemon, org uuid.UUID) string {
	t.Helper()
	b := ledger.Budget{Organisation: org, Period: ledger.Total, LimitNano: 1e9, Currency: d.gateway.Currency()}
	err := d.db.Org(t.Context(), org, func(tx pgx.Tx) (err error) {
		b, err = ledger.NewStore(d.db, d.guard).SetBudget(t.Context(), tx, principal.Principal{Kind: principal.Local}, b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.ID.String()
}

// operationsServed lists id → method of every operation there is.
func operationsServed(t *testing.T, d *Daemon) map[string]string {
	t.Helper()
	text, err := d.api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			ID string `yaml:"operationId"`
		} `yaml:"paths"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, methods := range doc.Paths {
		for method, op := range methods {
			out[op.ID] = strings.ToUpper(method)
		}
	}
	return out
}

// guardCodes are the codes of a denial by the policies.
var guardCodes = []string{policy.CodeDenied, policy.CodeStepUp, policy.CodeUnknownAction, policy.CodeInvalid, policy.CodeFault}

// Every operation × every role × own and other organisation: what the
// policies deny is denied, and what they allow is not.
func TestEveryOperationAsksThePolicies(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a node")
	}
	d, places := started(t)
	served := operationsServed(t, d)
	for id := range operations {
		if served[id] == "" {
			t.Logf("the table has an operation that is not served: %s", id)
		}
	}
	asked := 0
	for _, id := range slices.Sorted(maps.Keys(served)) {
		s, ok := operations[id]
		if !ok {
			t.Errorf("%s is not in the table of operations: say what it is authorised as", id)
			continue
		}
		if s.about == ofNobody {
			continue
		}
		if !s.action.Known() {
			t.Errorf("%s is authorised as %q, which is no action", id, s.action)
			continue
		}
		for _, c := range callers(places[0].id) {
			for _, target := range places {
				asked += d.sweep(t, served[id], id, s, c, target)
			}
		}
	}
	t.Logf("%d operations, %d questions", len(served), asked)
}

// sweep asks once, and compares the answer with what the policies say.
func (d *Daemon) sweep(t *testing.T, method, id string, s swept, c caller, target place) int {
	t.Helper()
	r := policy.Resource{Organisation: target.id}
	switch s.about {
	case ofThePlatform:
		r.Organisation = uuid.Nil
	case ofTheCaller:
		r.Organisation = c.who.Organisation
	}
	want := d.guard.Decide(c.who, s.action, r)
	if want.Allowed && s.costly {
		return 0
	}
	fill := strings.NewReplacer("{org}", target.name, "{orgid}", target.id.String(), "{key}", target.key, "{budget}", target.budget,
		"{other}", uuid.NewString(), "{name}", fmt.Sprintf("n-%s", uuid.NewString()[:13]))
	req := httptest.NewRequest(method, "/api/v1"+fill.Replace(s.path), strings.NewReader(fill.Replace(s.body)))
	if s.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	d.api.Serve(w, req, c.who)
	var answer struct{ Code string }
	_ = json.Unmarshal(w.Body.Bytes(), &answer)
	denied := w.Code == http.StatusForbidden && slices.Contains(guardCodes, answer.Code)
	switch {
	case w.Code >= 500:
		t.Errorf("%s by %s on %s: %d %s", id, c.name, target.name, w.Code, w.Body)
	case want.Allowed && denied:
		t.Errorf("%s by %s on %s is denied, and the policies allow %s: %s", id, c.name, target.name, s.action, w.Body)
	case !want.Allowed && w.Code < 400:
		t.Errorf("%s by %s on %s is answered %d, and the policies deny %s (%s)", id, c.name, target.name, w.Code, s.action, want.Policy)
	case !want.Allowed && w.Code != http.StatusForbidden && w.Code != http.StatusNotFound:
		t.Errorf("%s by %s on %s: the answer %d comes before it is authorised: %s", id, c.name, target.name, w.Code, w.Body)
	}
	return 1
}

func TestEveryPageOfTheConsoleHasAnAction(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a node")
	}
	d, _ := started(t)
	routes := d.console.Routes()
	if len(routes) < 20 {
		t.Fatalf("%d routes", len(routes))
	}
	for _, r := range routes {
		if r.Action == "" && !slices.Contains(withoutAction, r.Pattern) {
			t.Errorf("%s has no action", r.Pattern)
		}
		if r.Action != "" && !r.Action.Known() {
			t.Errorf("%s asks for %q, which is no action", r.Pattern, r.Action)
		}
		if r.Action != "" && strings.HasPrefix(r.Pattern, "POST ") && r.Action.Read() && !slices.Contains(readsByForm, r.Action) && !slices.Contains(judgedBelow, r.Pattern) {
			t.Errorf("%s changes something as %q, which changes nothing", r.Pattern, r.Action)
		}
	}
}

// judgedBelow are the acts on something whose organisation only its row knows:
// the page asks whether such things may be seen, and the act itself is
// authorised with the row's organisation, as the sweep of the operations checks.
var judgedBelow = []string{
	"POST /console/staff-access/{grant}/end",
	"POST /console/access-register/reviews", "POST /console/access-register/reviews/{review}",
	"POST /console/shreds/{shred}/approve", "POST /console/shreds/{shred}/cancel",
}

// readsByForm are the readings that a form asks for, and what is about one's
// own session: the second factor that is shown again is itself the check.
var readsByForm = []policy.Action{"account.read", "audit.verify", "route.explain"}

// withoutAction are the routes that are about nothing but the session itself.
var withoutAction = []string{}

// An action that the policies do not know is denied to everybody; better to
// hear of it here.
func TestEveryActionThatIsAskedForExists(t *testing.T) {
	asked := regexp.MustCompile(`(?:Authorise|Decide|may|organisation|filter|keyset|onShred|mayRead|auditScope|view)\([^"\n]*"([a-z-]+\.[a-z-]+)"`)
	seen := 0
	err := filepath.WalkDir("..", func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range asked.FindAllStringSubmatch(string(text), -1) {
			if seen++; !policy.Action(m[1]).Known() {
				t.Errorf("%s asks for %q, which is no action", path, m[1])
			}
		}
		return err
	})
	if err != nil || seen < 40 {
		t.Errorf("%d questions found, %v", seen, err)
	}
}
