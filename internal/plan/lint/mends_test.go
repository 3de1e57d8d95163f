package lint_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/lint"
)

// mends takes back each mend of the mended example: pairs of what stands there
// and what would stand there without it. A mended plan in which nothing is
// found could also be one in which nothing is looked for.
var mends = []struct {
	rule  string
	edits []string // old, new, old, new …; each old once or more
}{
	{"count-contradicts", []string{`equals: "6"`, `equals: "5"`}},
	{"rpo-unreachable", []string{"    continuous: 5 min\n", ""}},
	{"no-margin-to-mtd", []string{"    mtd: 4h\n    rto: 2h\n", "    mtd: 4h\n    rto: 4h\n"}},
	{"rto-spends-anothers-mtd", []string{"operators: [on-call, deputy]\n  approvers", "operators: [on-call]\n  approvers", "operators: [nightingale-on-call, deputy]", "operators: [on-call]"}},
	{"promise-contradicts-plan", []string{"of: [client-facing], at_most: 8h", "of: [client-facing], at_most: 4h"}},
	{"function-without-rpo", []string{"    rto: 8h\n    rpo: 24h\n", "    rto: 8h\n"}},
	{"planned-only-promise", []string{"    rto: 8h\n    rpo: 24h\n", "    rto: 8h\n", "at_most: 24h, when: always", "at_most: 24h, when: planned"}},
	{"rto-not-derivable", []string{"kind: rebuild, takes: 1h,", "kind: rebuild,"}},
	{"dependency-slower-than-dependent", []string{"    rto: 3h\n", "    rto: 24h\n", "host: [node-1, node-2]", "host: [node-1]", "fallbacks:\n      - {node: node-2, state: warm, data: replica, lag: 1 min, serves: any, takes: 30 min, rehearsed: 2026-09-29}\n    ", ""}},
	{"runbook-lost-with-node", []string{"stored_in: [gitea], printed: true", "stored_in: [gitea]", "host: [node-1, node-2]", "host: [node-1]"}},
	{"channel-slower-than-notice", []string{"    channels:\n      - {kind: status-page, function: status-page}\n      - {kind: telephone}\n    states: [nature, remediation, contact]", "    channels: [{kind: mail, function: email}]\n    states: [nature, remediation, contact]"}},
	{"validation-blocks-critical", []string{"after: [validate-platform], takes: 6 min", "after: [validate-platform, validate-client-facing], takes: 6 min", "after: [start], takes: 15 min", "after: [start]"}},
	{"function-without-host", []string{"    rpo: 24h\n    host: [node-2]\n", "    rpo: 24h\n"}},
	{"staging-slower-than-patch", []string{"    rto: 4h\n    host: [node-2]", "    rto: 23h\n    host: [node-2]", "critical: 24h\n", "critical: 12h\n"}},
	{"recovery-tool-unplaced", []string{"    suppliers: [vault-host]\n    fallbacks:\n      - {node: node-2, state: warm, data: replica, lag: 6h, serves: any, takes: 15 min, rehearsed: 2026-09-30}\n", ""}},
	{"certificate-needs-dns", []string{"challenge: dns-01, copied_to: [node-2]", "challenge: http-01"}},
	{"function-uncovered", []string{"    fallbacks:\n      - {node: node-4, state: warm, data: replica, lag: 1 min, serves: any, takes: 20 min, rehearsed: 2026-09-30}\n", "", "    functions: [nightingale]\n    onto: [node-4]", "    functions: [showroom]\n    onto: [node-4]"}},
	{"fallback-contradicts-node", []string{"    serves: any\n    spare: true\n    control_plane: foundry", "    serves: non-critical\n    spare: true\n    control_plane: foundry"}},
	{"fallback-other-stack", []string{"roles: [gateway, fleet, database, showroom]\n    stack: systemd+caddy", "roles: [gateway, fleet, database, showroom]\n    stack: compose+traefik", ", rehearsed: 2026-09-29}", "}"}},
	{"fallback-without-data", []string{"data: replica, lag: 1 min, serves: any, takes: 30 min", "data: none, serves: any, takes: 30 min"}},
	{"one-supplier", []string{"supplier: second-host\n    site: paris", "supplier: hetzner\n    site: falkenstein", "supplier: third-host, site: amsterdam,", "supplier: hetzner, site: falkenstein,"}},
	{"backup-not-immutable", []string{"immutable: true", "immutable: false"}},
	{"cold-provisioning-unguaranteed", []string{"    onto: [node-2] #", "    #", "name: promote-database, kind: promote, after: [fence], takes: 2 min, by: [on-call], node: node-2,", "name: promote-database, kind: provision, after: [fence], by: [on-call], supplier: hetzner,", "fallbacks:\n      - {node: node-2, state: warm, data: replica, lag: 1 min, serves: any, takes: 30 min, rehearsed: 2026-09-29}\n    ", ""}},
	{"site-concentration", []string{"host: [node-1, node-2]", "host: [node-1]", "fallbacks:\n      - {node: node-2, state: warm, data: replica, lag: 1 min, serves: any, takes: 30 min, rehearsed: 2026-09-29}\n    ", ""}},
	{"supplier-unlisted", []string{"    provides: [inference]\n    critical: true", "    provides: [inference]"}},
	{"data-without-backup", []string{"data: [mail, credentials, client-contacts]", "data: [credentials, client-contacts]", "functions: [email, password-manager, status-page]", "functions: [password-manager, status-page]"}},
	{"no-fencing", []string{"      - {name: fence, kind: fence, takes: 3 min, by: [on-call], node: node-1, runbook: node-1-lost}\n", "", "after: [fence], takes: 2 min", "after: [confirm], takes: 2 min"}},
	{"no-failback", []string{"kind: failback", "kind: watch"}},
	{"no-reconciliation", []string{"kind: reconcile", "kind: watch"}},
	{"supplier-judges-itself", []string{"      - {kind: probe, by: node-2}\n      - {kind: peer, by: node-6}\n", "      - {kind: ssh, by: on-call}\n"}},
	{"clock-without-start", []string{"    confirm_within: 15 min\n", ""}},
	{"rto-start-undefined", []string{"    rto_from: detection\n    recovery: [node-1]\n", "    recovery: [node-1]\n"}},
	{"notice-conflict", []string{"  - name: incident-to-clients\n    event: security-incident", "  - name: incident-to-clients\n    event: outage", "    within: 24h\n    from: awareness", "    within: 24h\n    from: confirmation", "states: [nature, data-affected, remediation, contact]", "states: [nature, remediation, contact]"}},
	{"vague-period", []string{"kind: access-review, every: quarterly", "kind: access-review, every: regularly"}},
	{"duty-conflict", []string{"test_every: weekly", "test_every: quarterly"}},
	{"acknowledgement-slower-than-fix", []string{"acknowledge_within: 12h", "acknowledge_within: 2 business days"}},
	{"review-without-deadline", []string{"kind: post-incident-review, within: 10 days,", "kind: post-incident-review,"}},
	{"desktop-proves-nothing", []string{"proves: [decisions, contacts]", "proves: [decisions, contacts, rto]"}},
	{"retention-ambiguous", []string{"    keep_at_least: 90 days\n    delete_after: 100 days\n", "    keep: 90 days\n"}},
	{"tls-floor-undefined", []string{`{for: clients, uses: "1.3", minimum: "1.3", refuses: ["1.0", "1.1", "1.2"]`, `{for: clients, uses: "1.3", refuses: ["1.0", "1.1"]`}},
	{"mail-tls-uncovered", []string{`    - {for: mail, uses: "1.3", minimum: "1.2", refuses: ["1.0", "1.1"]}` + "\n", ""}},
	{"hashing-unquantified", []string{"work_factor: 12, ", ""}},
	{"hashing-truncates", []string{", prehash: sha-256", ""}},
	{"cipher-without-mode", []string{"algorithm: aes-256-xts", "algorithm: aes-256"}},
	{"fallback-leaves-jurisdiction", []string{"{supplier: mistral, state: hot, data: none, automatic: true, consent: all-clients", "{supplier: anthropic, state: hot, data: none, automatic: true"}},
	{"node-without-country", []string{"{name: falkenstein, supplier: hetzner, country: DE}", "{name: falkenstein, supplier: hetzner}"}},
	{"supplier-contradicts-promise", []string{"one_of: [hetzner, second-host, third-host, inference-host]", "one_of: [hetzner]"}},
	{"isolated-node-shared", []string{"control_plane: nightingale", "control_plane: foundry"}},
	{"all-credentials-one-person", []string{"    credentials: scoped\n    holds: [share 3 of the recovery key]", "    credentials: all"}},
	{"one-person-every-role", []string{"operators: [on-call, deputy]\n  approvers: [director]", "operators: [ceo]\n  approvers: [ceo]"}},
	{"no-cover-inside-mtd", []string{"operators: [nightingale-on-call, deputy]", "operators: [ceo]"}},
	{"root-cause-unbounded", []string{"restore_after: containment\n  root_cause_within: 7 days", "restore_after: root-cause"}},
	{"dwell-exceeds-retention", []string{"dwell_time: 60 days", "dwell_time: 200 days"}},
	{"claim-contradicts", []string{"  - {name: uk-gdpr,", "  - {name: principles, standard: cyber-essentials, status: aligned, kind: alignment, owner: ceo}\n  - {name: uk-gdpr,"}},
	{"document-undated", []string{"    title: Security Policy\n    version: \"2.0\"\n    date: 2026-10-12\n    owner: ceo\n", "    title: Security Policy\n"}},
}

func TestEveryMendIsNeeded(t *testing.T) {
	const path = examples + "missionops-fixed/fleet.yaml"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var comments strings.Builder
	for line := range strings.Lines(string(text)) {
		if _, comment, ok := strings.Cut(line, "# "); ok {
			comments.WriteString(comment)
		}
	}
	for _, m := range mends {
		t.Run(m.rule, func(t *testing.T) {
			broken := string(text)
			for i := 0; i < len(m.edits); i += 2 {
				if !strings.Contains(broken, m.edits[i]) {
					t.Fatalf("the example does not say %q", m.edits[i])
				}
				broken = strings.ReplaceAll(broken, m.edits[i], m.edits[i+1])
			}
			p, err := plan.Parse(path, []byte(broken))
			if err != nil {
				t.Fatal(err)
			}
			report := lint.Check(p, lint.Options{Now: today})
			if !slices.ContainsFunc(report.Findings, func(f lint.Finding) bool { return f.Rule == m.rule }) {
				t.Errorf("without its mend, %s finds nothing; found is %v", m.rule, rules(report))
			}
			if !strings.Contains(comments.String(), m.rule) {
				t.Errorf("no comment of the example says what was mended for %s", m.rule)
			}
		})
	}
	for _, a := range audit {
		if !slices.ContainsFunc(mends, func(m struct {
			rule  string
			edits []string
		}) bool {
			return m.rule == a.rule
		}) {
			t.Errorf("no mend of %s (%s) is taken back", a.rule, a.number)
		}
	}
}

func rules(r *lint.Report) (out []string) {
	for _, f := range r.Findings {
		out = append(out, f.Rule)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
