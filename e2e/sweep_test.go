package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/principal"
)

// about says in whose organisation an operation is decided.
type about int

const (
	aboutTarget   about = iota // in that of the thing that the request names
	aboutRow                   // likewise, but other organisations' things are not there: 404
	aboutCaller                // where the caller acts, whatever is named
	aboutPlatform              // on the platform
	aboutNothing               // what is not there, which to an organisation is another's
	aboutSession               // one's own session or account: whoever has one
	aboutSignIn                // before there is a session
)

// demand is how an operation is asked for. Paths and bodies are filled in from
// a realm: what they name is there.
type demand struct {
	action policy.Action
	about  about
	path   string // without /api/v1
	body   string
	fresh  func(*stage, *testing.T, *realm) realm // makes what an allowed act ends
	never  bool                                   // too slow to be let through: only denials are tried
	leaver bool                                   // ends the session that asks
	own    bool                                   // whoever asked for the thing may do it too
	others bool                                   // whoever asked for the thing may not do it
	blind  bool                                   // staff are denied before it is known whose the thing is
}

func with(change func(*stage, *testing.T, *realm, *realm)) func(*stage, *testing.T, *realm) realm {
	return func(s *stage, t *testing.T, r *realm) realm {
		copied := *r
		change(s, t, r, &copied)
		return copied
	}
}

var (
	freshKey        = with(func(s *stage, t *testing.T, r, c *realm) { c.key = s.newKey(t, r) })
	freshBudget     = with(func(s *stage, t *testing.T, r, c *realm) { c.budget = s.newBudget(t, r) })
	freshInvitation = with(func(s *stage, t *testing.T, r, c *realm) { c.invitation = s.invite(t, r) })
	freshAccount    = with(func(s *stage, t *testing.T, r, c *realm) { c.service = s.account(t, r) })
	freshGrant      = with(func(s *stage, t *testing.T, r, c *realm) { c.grant = s.askFor(t, r) })
)

// demands has a line for every operation of the interface. The sweep fails on
// one that is missing.
var demands = map[string]demand{
	"organisation-create": {action: "organisation.create", about: aboutPlatform, path: "/organisations", body: `{"name":"{name}"}`},
	"organisation-list":   {action: "organisation.list", about: aboutCaller, path: "/organisations"},
	"organisation-show":   {action: "organisation.read", path: "/organisations/{org}"},
	"policy-set":          {action: "policy.set", path: "/organisations/{org}/policy", body: `{"regime":"EU","home":"FI","allowed":["EEA"],"highest":"internal","third_parties":true}`},
	"key-create":          {action: "key.create", path: "/keys", body: `{"organisation":"{org}","name":"{name}"}`},
	"key-list":            {action: "key.list", path: "/keys?organisation={org}"},
	"key-revoke":          {action: "key.revoke", path: "/keys/{key}", fresh: freshKey},
	"budget-set":          {action: "budget.set", path: "/budgets", body: `{"organisation":"{org}","period":"day","limit":"500.00"}`},
	"budget-list":         {action: "budget.list", about: aboutCaller, path: "/budgets"},
	"budget-remove":       {action: "budget.remove", about: aboutRow, path: "/budgets/{budget}", fresh: freshBudget},
	"usage":               {action: "usage.read", path: "/usage?organisation={org}&group_by=day"},
	"route-explain":       {action: "route.explain", path: "/route?organisation={org}&model=none"},
	"request-list":        {action: "request.list", path: "/requests?organisation={org}"},
	"request-show":        {action: "request.read", about: aboutRow, path: "/requests/{request}", blind: true},
	"refusal-list":        {action: "refusal.list", path: "/refusals?organisation={org}"},
	"transfer-list":       {action: "transfer.list", path: "/transfers?organisation={org}"},

	"status":       {action: "status.read", about: aboutPlatform, path: "/status"},
	"console-link": {action: "console.link", about: aboutPlatform, path: "/console/links"},

	"authorisation-roles":    {action: "authorisation.list", about: aboutPlatform, path: "/authorisation/roles"},
	"authorisation-policies": {action: "authorisation.list", about: aboutPlatform, path: "/authorisation/policies"},
	"authorisation-explain":  {action: "authorisation.explain", about: aboutPlatform, path: "/authorisation/explain?role=viewer&action=key.list"},

	"audit-list":          {action: "audit.list", path: "/audit?organisation={org}&limit=1"},
	"audit-prove":         {action: "audit.prove", path: "/audit/entries/{entry}/proof"},
	"audit-prove-request": {action: "audit.prove", about: aboutRow, path: "/audit/requests/{request}/proof"},
	"audit-checkpoint":    {action: "audit.verify", about: aboutCaller, path: "/audit/checkpoint"},
	"audit-consistency":   {action: "audit.verify", about: aboutCaller, path: "/audit/consistency?size=1"},
	"audit-keys":          {action: "audit.verify", about: aboutCaller, path: "/audit/keys"},
	"audit-verify":        {action: "audit.verify", about: aboutPlatform, path: "/audit/verifications", body: `{}`},
	"audit-export":        {action: "audit.export", path: "/audit/export?organisation={org}"},

	"encryption-status": {action: "keys.status", about: aboutCaller, path: "/encryption"},
	"storage-status":    {action: "keys.storage", about: aboutPlatform, path: "/encryption/storage"},
	"keys-rotate":       {action: "keys.rotate", path: "/encryption/rotations", body: `{"organisation":"{org}"}`},
	"keys-rotation":     {action: "keys.status", path: "/encryption/rotations/{org}"},
	"keys-rewrap":       {action: "keys.rewrap", about: aboutPlatform, path: "/encryption/rewraps", body: `{}`},
	"keys-canary":       {action: "keys.search", about: aboutPlatform, path: "/encryption/canaries", never: true},
	"shred-list":        {action: "keys.status", about: aboutCaller, path: "/encryption/shreds"},
	"shred-request":     {action: "keys.shred", path: "/encryption/shreds", body: `{"organisation":"{org}","reason":"the contract has ended"}`},
	"shred-approve":     {action: "keys.approve", about: aboutNothing, path: "/encryption/shreds/{other}/approvals"},
	"shred-cancel":      {action: "keys.restore", about: aboutNothing, path: "/encryption/shreds/{other}"},
	"keys-hold":         {action: "keys.restore", path: "/encryption/holds/{org}", body: `{"reason":"a lawsuit"}`},
	"keys-release":      {action: "keys.shred", path: "/encryption/holds/{org}"},

	"control-list":     {action: "controls.list", about: aboutCaller, path: "/controls"},
	"control-show":     {action: "controls.read", about: aboutCaller, path: "/controls/O-08"},
	"control-evidence": {action: "evidence.list", about: aboutCaller, path: "/controls/O-08/evidence"},
	"control-run":      {action: "controls.run", about: aboutPlatform, path: "/control-runs", body: `{"controls":["O-10"]}`},
	"control-run-show": {action: "controls.read", about: aboutCaller, path: "/control-runs/{other}"},
	"control-attest":   {action: "controls.attest", about: aboutPlatform, path: "/controls/O-07.escrow/attestations", body: `{"owner":"platform-security","statement":"It is in the safe."}`},
	"control-retire":   {action: "controls.retire", about: aboutPlatform, path: "/control-scopes/node:4711"},

	"notify-list":  {action: "notify.list", about: aboutPlatform, path: "/notifications"},
	"notify-show":  {action: "notify.list", about: aboutPlatform, path: "/notifications/{other}"},
	"notify-retry": {action: "notify.retry", about: aboutPlatform, path: "/notifications/{other}/retry"},
	"notify-test":  {action: "notify.test", about: aboutPlatform, path: "/notifications/test", body: `{"to":"somebody@example.org"}`},
	"alarm-list":   {action: "notify.list", about: aboutPlatform, path: "/alarms"},

	"oncall-show":     {action: "notify.list", about: aboutPlatform, path: "/oncall"},
	"oncall-override": {action: "notify.set", about: aboutPlatform, path: "/oncall/overrides", body: `{"person":"lead","until":"2199-01-01T00:00:00Z"}`},
	"oncall-ack":      {action: "notify.ack", about: aboutPlatform, path: "/oncall/pages/{other}/ack"},

	"grant-request":    {action: "grant.request", path: "/grants", body: `{"organisation":"{org}","scopes":["requests"],"reason":"a look at what went wrong","ticket":"T-1"}`},
	"break-glass-open": {action: "break-glass.open", path: "/grants/break-glass", body: `{"organisation":"{org}","person":"{person}","scopes":["requests"],"reason":"a look at what went wrong","ticket":"T-1"}`},
	"grant-list":       {action: "grant.list", path: "/grants?organisation={org}"},
	"grant-show":       {action: "grant.read", about: aboutRow, path: "/grants/{grant}"},
	"grant-approve":    {action: "grant.approve", about: aboutRow, path: "/grants/{grant}/approve", body: `{}`, fresh: freshGrant, others: true},
	"grant-reject":     {action: "grant.reject", about: aboutRow, path: "/grants/{grant}/reject", body: `{}`, fresh: freshGrant},
	"grant-end":        {action: "grant.revoke", about: aboutRow, path: "/grants/{grant}/end", body: `{}`, fresh: freshGrant, own: true},
	"grant-review":     {action: "grant.review", about: aboutRow, path: "/grants/{grant}/review", body: `{"note":"nothing else was read"}`, fresh: freshGrant, others: true},
	"grant-rule":       {action: "grant.list", path: "/organisations/{org}/grant-rule"},
	"grant-rule-set":   {action: "grant.rule", path: "/organisations/{org}/grant-rule", body: `{"approvers":"either"}`},

	"register-read":    {action: "register.read", path: "/access/register?organisation={org}"},
	"register-compare": {action: "register.compare", about: aboutPlatform, path: "/access/compare"},
	"review-list":      {action: "register.read", path: "/access/reviews?organisation={org}"},
	"review-start":     {action: "register.review", path: "/access/reviews", body: `{"organisation":"{org}","title":"{name}"}`},
	"review-show":      {action: "register.read", about: aboutRow, path: "/access/reviews/{review}"},
	"review-confirm":   {action: "register.confirm", about: aboutRow, path: "/access/reviews/{review}/results", body: `{"kind":"key","entry":"none","result":"keep"}`},

	"person-list":       {action: "person.list", path: "/people?organisation={org}"},
	"person-show":       {action: "person.read", path: "/people/{person}?organisation={org}"},
	"person-roles":      {action: "membership.set", path: "/people/{person}/roles", body: `{"organisation":"{org}","roles":["viewer"]}`},
	"person-unlock":     {action: "person.unlock", path: "/people/{person}/unlock"},
	"person-recover":    {action: "person.reset", path: "/people/{person}/recover"},
	"person-footprint":  {action: "person.read", path: "/people/{person}/footprint"},
	"person-deactivate": {action: "person.deactivate", path: "/people/{person}/deactivate", body: `{"keep":["not-a-key"]}`},
	"person-bootstrap":  {action: "person.bootstrap", about: aboutPlatform, path: "/people/bootstrap", body: `{"email":"second@example.org","name":"Second"}`},
	"person-invite":     {action: "person.invite", path: "/invitations", body: `{"organisation":"{org}","email":"{name}@example.org","name":"New","roles":["viewer"]}`},
	"invitation-list":   {action: "invitation.list", path: "/invitations?organisation={org}"},
	"invitation-revoke": {action: "invitation.revoke", path: "/invitations/{invitation}", fresh: freshInvitation},
	"invitation-resend": {action: "invitation.resend", path: "/invitations/{invitation}/resend", fresh: freshInvitation},
	"session-list":      {action: "session.list", path: "/sessions?person={person}"},
	"session-revoke":    {action: "session.revoke", path: "/sessions/{session}"},

	"session-revoke-all":         {action: "session.revoke", path: "/people/{person}/sessions"},
	"service-account-create":     {action: "service-account.create", path: "/service-accounts", body: `{"organisation":"{org}","name":"{name}"}`},
	"service-account-list":       {action: "service-account.list", path: "/service-accounts?organisation={org}"},
	"service-account-assign":     {action: "service-account.change", path: "/service-accounts/{service}/keys", body: `{"key":"{key}"}`},
	"service-account-deactivate": {action: "service-account.deactivate", path: "/service-accounts/{service}", fresh: freshAccount},

	"backup-status":     {action: "backup.read", about: aboutPlatform, path: "/backup-status"},
	"backup-calendar":   {action: "backup.read", about: aboutPlatform, path: "/backup-calendar?days=3"},
	"backup-targets":    {action: "backup.read", about: aboutPlatform, path: "/backup-targets"},
	"backup-list":       {action: "backup.read", about: aboutPlatform, path: "/backups"},
	"backup-show":       {action: "backup.read", about: aboutPlatform, path: "/backups/nothing"},
	"backup-jobs":       {action: "backup.read", about: aboutPlatform, path: "/backup-jobs"},
	"backup-job":        {action: "backup.read", about: aboutPlatform, path: "/backup-jobs/{other}"},
	"backup-drills":     {action: "backup.read", about: aboutPlatform, path: "/backup-drills"},
	"backup-drill-show": {action: "backup.read", about: aboutPlatform, path: "/backup-drills/{other}"},
	"backup-holds":      {action: "backup.read", about: aboutPlatform, path: "/backup-holds"},
	"backup-run":        {action: "backup.run", about: aboutPlatform, path: "/backups", body: `{"targets":["nowhere"]}`},
	"backup-drill":      {action: "backup.drill", about: aboutPlatform, path: "/backup-drills", body: `{"target":"nowhere"}`},
	"backup-verify":     {action: "backup.verify", about: aboutPlatform, path: "/backup-checks", body: `{"targets":["nowhere"]}`},
	"backup-expire":     {action: "backup.expire", about: aboutPlatform, path: "/backup-expiries", body: `{"targets":["nowhere"]}`},
	"backup-hold":       {action: "backup.hold", about: aboutPlatform, path: "/backup-holds", body: `{"label":"nothing","reason":"evidence in a dispute","ticket":"T-1"}`},
	"backup-release":    {action: "backup.release", about: aboutPlatform, path: "/backup-holds/{other}/release", body: `{"reason":"the dispute is settled"}`},

	"backup-probe":            {action: "backup.probe", about: aboutPlatform, path: "/backup-probes", body: `{"targets":["nowhere"]}`},
	"fleet-picture":           {action: "fleet.read", about: aboutPlatform, path: "/fleet/picture"},
	"fleet-readiness":         {action: "fleet.read", about: aboutPlatform, path: "/fleet/readiness"},
	"fleet-losses":            {action: "fleet.read", about: aboutPlatform, path: "/fleet/losses"},
	"fleet-marks":             {action: "fleet.marks", about: aboutPlatform, path: "/fleet/marks"},
	"database-reconcile":      {action: "recovery.act", about: aboutPlatform, path: "/fleet/database/reconciliations", body: `{"dir":"nothing"}`},
	"fleet-status":            {action: "fleet.read", about: aboutPlatform, path: "/fleet"},
	"fleet-invitation-list":   {action: "fleet.read", about: aboutPlatform, path: "/fleet/invitations"},
	"fleet-invite":            {action: "fleet.invite", about: aboutPlatform, path: "/fleet/invitations", body: `{"name":"node-2","roles":["fleet"]}`},
	"fleet-invitation-revoke": {action: "fleet.invite", about: aboutPlatform, path: "/fleet/invitations/nothing"},
	"fleet-drain":             {action: "fleet.drain", about: aboutPlatform, path: "/fleet/nodes/nothing/draining", body: `{"draining":true}`},
	"fleet-remove":            {action: "fleet.remove", about: aboutPlatform, path: "/fleet/nodes/nothing"},
	"fleet-snapshot":          {action: "fleet.snapshot", about: aboutPlatform, path: "/fleet/snapshots"},

	"patroni-status":       {action: "fleet.read", about: aboutPlatform, path: "/database/patroni"},
	"patroni-configure":    {action: "fleet.certify", about: aboutPlatform, path: "/database/patroni/nodes/nothing", body: `{"address":"10.0.0.1","key":"AA==","dir":"/etc/patroni","data":"/var/lib/postgresql/foundry"}`},
	"patroni-enforce":      {action: "database.change", about: aboutPlatform, path: "/database/patroni/strict"},
	"patroni-reinitialise": {action: "database.change", about: aboutPlatform, path: "/database/patroni/nodes/nothing/reinitialise"},

	"incident-list":     {action: "incident.read", about: aboutPlatform, path: "/incidents"},
	"incident-show":     {action: "incident.read", about: aboutPlatform, path: "/incidents/inc-nothing"},
	"incident-timeline": {action: "incident.read", about: aboutPlatform, path: "/incidents/inc-nothing/timeline"},
	"incident-export":   {action: "incident.read", about: aboutPlatform, path: "/incidents/inc-nothing/export"},
	"incident-evidence": {action: "incident.read", about: aboutPlatform, path: "/incidents/inc-nothing/vault/00"},
	"incident-open":     {action: "incident.open", about: aboutPlatform, path: "/incidents", body: `{"title":"for the sweep of the tests","mode":"desktop"}`},
	"incident-append":   {action: "incident.append", about: aboutPlatform, path: "/incidents/inc-nothing/entries", body: `{"kind":"note","body":{"words":"for the sweep of the tests"}}`},
	"incident-keep":     {action: "incident.append", about: aboutPlatform, path: "/incidents/inc-nothing/vault", body: `{"n":0,"bytes":"AA==","last":true}`},
	"incident-decide":   {action: "incident.decide", about: aboutPlatform, path: "/incidents/inc-nothing/decisions", body: `{"about":"wait","words":"for the sweep of the tests"}`},
	"incident-approve":  {action: "incident.approve", about: aboutPlatform, path: "/incidents/inc-nothing/approvals", body: `{"of":1,"approve":true}`},
	"incident-assess":   {action: "incident.assess", about: aboutPlatform, path: "/incidents/inc-nothing/assessments", body: `{"personal_data":false,"risk":"unlikely","words":"for the sweep of the tests"}`},
	"incident-notice":   {action: "incident.notice", about: aboutPlatform, path: "/incidents/inc-nothing/notices", body: `{"notice":"n","step":"released"}`},
	"incident-close":    {action: "incident.close", about: aboutPlatform, path: "/incidents/inc-nothing/closing", body: `{}`},

	"recovery-list":          {action: "recovery.read", about: aboutPlatform, path: "/recoveries"},
	"recovery-plans":         {action: "recovery.read", about: aboutPlatform, path: "/recovery-plans"},
	"recovery-preview":       {action: "recovery.read", about: aboutPlatform, path: "/recovery-previews", body: `{"plan":"nothing"}`},
	"recovery-start":         {action: "recovery.start", about: aboutPlatform, path: "/recoveries", body: `{"plan":"nothing","incident":"inc-nothing"}`},
	"recovery-status":        {action: "recovery.read", about: aboutPlatform, path: "/recoveries/rec-nothing"},
	"recovery-abandon":       {action: "recovery.abandon", about: aboutPlatform, path: "/recoveries/rec-nothing/abandon", body: `{"words":"for the sweep of the tests"}`},
	"recovery-approve":       {action: "recovery.approve", about: aboutPlatform, path: "/recoveries/rec-nothing/steps/s/approve", body: `{}`},
	"recovery-decide":        {action: "recovery.act", about: aboutPlatform, path: "/recoveries/rec-nothing/steps/s/decide", body: `{}`},
	"recovery-say":           {action: "recovery.act", about: aboutPlatform, path: "/recoveries/rec-nothing/steps/s/say", body: `{}`},
	"recovery-retry":         {action: "recovery.act", about: aboutPlatform, path: "/recoveries/rec-nothing/steps/s/retry", body: `{}`},
	"exercise-list":          {action: "exercise.read", about: aboutPlatform, path: "/exercises"},
	"exercise-submit":        {action: "exercise.run", about: aboutPlatform, path: "/exercises", body: `{"bundle":"eA=="}`},
	"exercise-show":          {action: "exercise.read", about: aboutPlatform, path: "/exercises/exc-nothing"},
	"exercise-report":        {action: "exercise.read", about: aboutPlatform, path: "/exercises/exc-nothing/report"},
	"exercise-actions":       {action: "exercise.read", about: aboutPlatform, path: "/exercise-actions"},
	"exercise-action-change": {action: "exercise.run", about: aboutPlatform, path: "/exercises/exc-nothing/actions/gap-1", body: `{"words":"for the sweep of the tests","done":true}`},

	"recovery-skip": {action: "recovery.act", about: aboutPlatform, path: "/recoveries/rec-nothing/steps/s/skip", body: `{}`},

	"backup-mirror-list":  {action: "backup.read", about: aboutPlatform, path: "/backup-mirrors"},
	"backup-mirror-show":  {action: "backup.read", about: aboutPlatform, path: "/backup-mirrors/nothing"},
	"backup-mirror-fetch": {action: "backup.fetch", about: aboutPlatform, path: "/backup-mirrors/nothing/fetches"},
	"backup-mirror-prove": {action: "backup.prove", about: aboutPlatform, path: "/backup-mirrors/nothing/proofs"},
	"backup-mirror-push":  {action: "backup.push", about: aboutPlatform, path: "/backup-mirrors/nothing/pushes", body: `{"to":"https://example.org/a.git","reason":"the old server burned down"}`},

	"plan-standing":    {action: "plan.read", about: aboutPlatform, path: "/plan"},
	"plan-whatif":      {action: "plan.read", about: aboutPlatform, path: "/plan/whatif?lose=nothing"},
	"plan-revisions":   {action: "plan.read", about: aboutPlatform, path: "/plan/revisions"},
	"plan-show":        {action: "plan.read", about: aboutPlatform, path: "/plan/revisions/{other}"},
	"plan-register":    {action: "plan.read", about: aboutPlatform, path: "/plan/register"},
	"plan-submit":      {action: "plan.submit", about: aboutPlatform, path: "/plan/revisions", body: `{"text":"version: 2","note":"not a plan"}`},
	"plan-decide":      {action: "plan.decide", about: aboutPlatform, path: "/plan/revisions/{other}/decisions", body: `{"approve":true}`},
	"plan-acknowledge": {action: "plan.acknowledge", about: aboutPlatform, path: "/plan/acknowledgements", body: `{"hash":"0"}`},
	"plan-confirm":     {action: "plan.confirm", about: aboutPlatform, path: "/plan/register", body: `{"entry":"nothing"}`},
	"plan-review":      {action: "plan.review", about: aboutPlatform, path: "/plan/reviews/{other}", body: `{"finding":"nothing has changed"}`},

	"emergency-look":        {action: "break-glass.look", about: aboutPlatform, path: "/emergency/looks"},
	"emergency-brief":       {action: "break-glass.brief", about: aboutPlatform, path: "/emergency/briefing"},
	"emergency-show":        {action: "break-glass.read", about: aboutPlatform, path: "/emergency"},
	"emergency-key-request": {action: "break-glass.create", about: aboutPlatform, path: "/emergency/keys", body: `{"threshold":2,"shares":3,"reason":"the holder of a share has left"}`},
	"emergency-key-decide":  {action: "break-glass.approve", about: aboutPlatform, path: "/emergency/keys/{other}/decision", body: `{"approve":true}`},
	"emergency-key-make":    {action: "break-glass.create", about: aboutPlatform, path: "/emergency/keys/{other}/shares"},
	"emergency-challenge":   {action: "break-glass.open", about: aboutPlatform, path: "/emergency/challenges"},
	"emergency-open":        {action: "break-glass.open", about: aboutPlatform, path: "/emergency/openings", body: `{"nonce":"n","proof":"p","shares":[1,2],"scope":"operate","reason":"nobody else can get in"}`},
	"emergency-review":      {action: "break-glass.review", about: aboutPlatform, path: "/emergency/openings/{other}/review", body: `{"finding":"nothing else was done","justified":true}`},
	"emergency-drill":       {action: "break-glass.drill", about: aboutPlatform, path: "/emergency/drills", body: `{"set":"00000000","by_contact":false,"outcome":"inconclusive","reason":"a rehearsal","seconds":1,"kit_made_at":"2026-01-01T00:00:00Z","evidence":""}`},
	"emergency-attest":      {action: "break-glass.attest", about: aboutPlatform, path: "/emergency/attestations", body: `{"briefed":true}`},
	"emergency-end":         {about: aboutSession, path: "/emergency/session"},

	"sign-in":           {about: aboutSignIn, path: "/signin", body: `{}`},
	"sign-in-factor":    {about: aboutSignIn, path: "/signin/factor", body: `{}`},
	"invitation-accept": {about: aboutSignIn, path: "/invitation/accept", body: `{}`},
	"totp-begin":        {about: aboutSession, path: "/session/totp"},
	"totp-confirm":      {about: aboutSession, path: "/session/totp/confirm", body: `{}`},
	"session-step-up":   {about: aboutSession, path: "/session/step-up", body: `{}`},
	"session-enter":     {about: aboutSession, path: "/session/enter", body: `{"organisation":"{other}"}`},
	"session-show":      {about: aboutSession, path: "/session"},
	"session-end":       {about: aboutSession, path: "/session", leaver: true},
}

// side is where something is: an index into the realms, or the platform.
type side int

const platform side = -1

// caller is who asks: a person with one role, or a token that is no session.
type caller struct {
	name string
	who  *somebody
	role principal.Role
	home side
	key  bool // an API key: opens the gateway and nothing else
}

// callers lists one of every kind.
func (s *stage) callers() (all []caller) {
	for _, role := range principal.AllRoles() {
		c := caller{name: role.String(), role: role, who: s.realms[0].people[role]}
		if role.Platform() {
			c.who, c.home = s.staff[role], platform
		}
		all = append(all, c)
	}
	return append(all, caller{name: "nobody", who: &somebody{w: s.world}},
		caller{name: "an API key", who: &somebody{w: s.world, token: s.realms[0].token}, key: true},
		caller{name: "a service account", who: &somebody{w: s.world, token: s.service}, key: true})
}

// person reports whether the caller has a session.
func (c caller) person() bool { return c.who.id != "" }

// ruling is what the table of roles says, read here once more and not by the
// code that is under test: the policies in internal/access/policy/policies say
// the same in Cedar.
type ruling struct {
	allowed bool
	policy  string // that denies
	nearest string // role that would do; empty: none
}

// book is the table of roles.
type book map[policy.Action]policy.Permission

func rulebook() book {
	b := book{}
	for _, p := range policy.Permissions() {
		b[p.Action] = p
	}
	return b
}

// may is whether a role at home somewhere may do it at a place.
func (b book) may(a policy.Action, role principal.Role, home, at side) (bool, string) {
	p := b[a]
	is := func(trait string) bool { return slices.Contains(p.Traits, trait) }
	held := slices.Contains(p.Roles, role.String())
	switch {
	case !role.Platform() && home != at && !(is("shared") && at == platform):
		return false, "own-organisation-only"
	case role.Platform() && is("client-data"):
		return false, "client-data-needs-a-grant"
	case role.Platform() && is("audit-log") && at != platform:
		return false, "client-audit-log-needs-a-grant"
	case !held:
		return false, policy.DefaultPolicy
	}
	return true, ""
}

// rule says what must come of it, and which role a denial must point to: of
// those that would do, first where the caller is at home, then on the
// platform, then where the thing is, the one that may do least.
func (b book) rule(a policy.Action, role principal.Role, home, at side) ruling {
	ok, by := b.may(a, role, home, at)
	r := ruling{allowed: ok, policy: by}
	for _, from := range []side{home, platform, at} {
		least := 1 << 30
		for _, other := range principal.AllRoles() {
			if other.Platform() != (from == platform) {
				continue
			}
			if ok, _ := b.may(a, other, from, at); ok && b.size(other) < least {
				least, r.nearest = b.size(other), other.String()
			}
		}
		if r.nearest != "" {
			break
		}
	}
	return r
}

func (b book) size(role principal.Role) (n int) {
	for _, p := range b {
		if slices.Contains(p.Roles, role.String()) {
			n++
		}
	}
	return n
}

// operations lists id → method of what the node says that it serves.
func (s *stage) operations(t *testing.T) map[string]string {
	t.Helper()
	resp, err := s.local.Get("http://node/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
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

// denials counts what every person was denied, by act.
type denials map[string]map[policy.Action]int

func (d denials) count(person string, a policy.Action) {
	if d[person] == nil {
		d[person] = map[policy.Action]int{}
	}
	d[person][a]++
}

// TestEveryOperationIsOpenToWhomTheTableOfRolesSays asks for every operation
// of the interface over HTTPS, with the session of a person in each role, for
// the own organisation and another, and with what is no session. Every denial
// names the policy and the nearest role, and is in the audit log once.
func TestEveryOperationIsOpenToWhomTheTableOfRolesSays(t *testing.T) {
	s := onStage(t)
	b, served, denied := rulebook(), s.operations(t), denials{}
	began := time.Now()
	asked := 0
	if len(served) < 90 {
		t.Fatalf("%d operations", len(served))
	}
	for _, id := range slices.Sorted(maps.Keys(served)) {
		d, ok := demands[id]
		if !ok {
			t.Errorf("%s has no entry: say what it is authorised as, and how to ask for it", id)
			continue
		}
		if _, known := b[d.action]; !known && d.about != aboutSession && d.about != aboutSignIn {
			t.Errorf("%s is authorised as %q, which is in no table", id, d.action)
			continue
		}
		for _, c := range s.callers() {
			for at := range s.realms {
				asked++
				s.demand(t, b, served[id], id, d, c, side(at), denied)
			}
		}
	}
	t.Logf("%d operations, %d requests in %s", len(served), asked, time.Since(began).Round(time.Millisecond))
	s.audited(t, denied)
}

// demand asks once, and compares.
func (s *stage) demand(t *testing.T, b book, method, id string, d demand, c caller, at side, denied denials) {
	t.Helper()
	decided := at
	switch d.about {
	case aboutCaller:
		decided = c.home
	case aboutPlatform:
		decided = platform
	case aboutNothing:
		decided = 1
	}
	if d.blind && c.role.Platform() {
		decided = platform
	}
	want := b.rule(d.action, c.role, c.home, decided)
	if c.role == principal.PlatformOperator { // who asked for every grant
		want.allowed = want.allowed || d.own
		if d.others {
			want = ruling{policy: "four-eyes"}
		}
	}
	hidden := d.about == aboutRow && !c.role.Platform() && c.home != at
	r := *s.realms[at]
	if c.person() && want.allowed {
		if d.never {
			return
		}
		if d.fresh != nil {
			r = d.fresh(s, t, s.realms[at])
		}
	}
	who := c.who
	if d.leaver && c.person() {
		if at != 0 || c.role != principal.Viewer {
			return
		}
		who = s.realms[0].people[principal.Administrator].hire(t, s.realms[0].name, principal.Viewer)
	}
	var in any
	if d.body != "" {
		in = json.RawMessage(r.fill(d.body))
	}
	status, text := who.ask(t, method, r.fill(d.path), in, nil)
	what := fmt.Sprintf("%s by %s on %s", id, c.name, r.name)
	switch {
	case status >= 500:
		t.Errorf("%s: %d %s", what, status, text)
	case d.about == aboutSignIn:
		if status != http.StatusUnprocessableEntity {
			t.Errorf("%s, with nothing: %d %s", what, status, text)
		}
	case !c.person():
		if status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", what, status, text)
		}
	case d.about == aboutSession:
		if status == http.StatusUnauthorized || status == http.StatusForbidden {
			t.Errorf("%s: %d %s", what, status, text)
		}
	case d.about == aboutNothing && c.role.Platform():
		if status != http.StatusNotFound {
			t.Errorf("%s, which is not there: %d %s", what, status, text)
		}
	case hidden:
		home := b.rule(d.action, c.role, c.home, c.home)
		if status == http.StatusForbidden && !home.allowed {
			denied.count(who.id, d.action)
		} else if status != http.StatusNotFound {
			t.Errorf("%s, which is not there for them: %d %s", what, status, text)
		}
	case want.allowed:
		if status == http.StatusUnauthorized || status == http.StatusForbidden {
			t.Errorf("%s is denied, and the table of roles allows %s: %s", what, d.action, text)
		}
	case status != http.StatusForbidden:
		t.Errorf("%s is answered %d, and the table of roles denies %s: %s", what, status, d.action, text)
	default:
		denied.count(who.id, d.action)
		explains(t, what, want, text)
	}
}

// explains checks what a denial says.
func explains(t *testing.T, what string, want ruling, text string) {
	t.Helper()
	var p struct{ Detail, Code, Mend string }
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Errorf("%s: %s", what, text)
		return
	}
	if !strings.Contains(p.Detail, fmt.Sprintf("%q", want.policy)) {
		t.Errorf("%s does not name the policy %s: %s", what, want.policy, text)
	}
	if nearest := "role " + want.nearest + " "; want.nearest != "" && !strings.Contains(p.Mend, nearest) && !strings.Contains(p.Mend, strings.TrimSpace(nearest)+" in") {
		t.Errorf("%s does not name the role %s: %s", what, want.nearest, text)
	}
	if want.nearest == "" && !strings.Contains(p.Mend, "No role allows this") && !strings.Contains(p.Mend, "foundry grant request") {
		t.Errorf("%s does not say that no role would do: %s", what, text)
	}
}

// audited compares the denials with those in the audit log, which is read by
// who may.
func (s *stage) audited(t *testing.T, denied denials) {
	t.Helper()
	for person, want := range denied {
		reader, org := s.realms[0].people[principal.Auditor], s.realms[0].name
		for _, staff := range s.staff {
			if staff.id == person {
				reader, org = s.staff[principal.PlatformSecurity], "platform"
			}
		}
		var got map[policy.Action]int
		eventually(t, "the denials of "+person, func() (bool, string) {
			var rows []struct {
				Act     string
				Details struct{ Times int }
			}
			reader.do(t, "GET", "/audit?limit=1000&outcome=denied&actor=person:"+person+"&organisation="+org, nil, &rows)
			got = map[policy.Action]int{}
			total, sum := 0, 0
			for _, r := range rows {
				n := max(r.Details.Times, 1)
				got[policy.Action(r.Act)] += n
				total += n
			}
			for _, n := range want {
				sum += n
			}
			return total >= sum, fmt.Sprintf("%d of %d: %v, want %v", total, sum, got, want)
		})
		if !maps.Equal(got, want) {
			for a := range rulebook() {
				if got[a] != want[a] {
					t.Errorf("%s was denied %s %d times, and the audit log has %d", person, a, want[a], got[a])
				}
			}
		}
	}
}

// TestTheGatewayIsOpenToKeysAlone: no session, however mighty, calls a model.
func TestTheGatewayIsOpenToKeysAlone(t *testing.T) {
	s := onStage(t)
	bodies := map[string]string{
		wire.ChatCompletions.Path(): `{"model":"simulator-chat","messages":[{"role":"user","content":"hello"}]}`,
		wire.Messages.Path():        `{"model":"simulator-chat","max_tokens":5,"messages":[{"role":"user","content":"hello"}]}`,
		wire.CountTokens.Path():     `{"model":"simulator-chat","messages":[{"role":"user","content":"hello"}]}`,
		wire.Embeddings.Path():      `{"model":"simulator-embed","input":"hello"}`,
		wire.Responses.Path():       `{"model":"simulator-chat","input":"hello"}`,
		"/v1/models":                "",
		"/v1/models/simulator-chat": "",
	}
	for path, body := range bodies {
		for _, c := range s.callers() {
			method := http.MethodPost
			if body == "" {
				method = http.MethodGet
			}
			for _, header := range []string{"Authorization", "X-Api-Key"} {
				req, err := http.NewRequestWithContext(t.Context(), method, s.base+path, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				value := c.who.token
				if header == "Authorization" {
					value = "Bearer " + value
				}
				req.Header.Set(header, value)
				req.Header.Set("Content-Type", "application/json")
				resp, err := s.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				text, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				refused := resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden
				if refused == c.key || resp.StatusCode >= 500 {
					t.Errorf("%s %s by %s (%s): %d %s", method, path, c.name, header, resp.StatusCode, text)
				}
			}
		}
	}
}
