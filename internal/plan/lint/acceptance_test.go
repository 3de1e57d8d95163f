package lint_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/plan/lint"
)

// audit is what a careful auditor found in the two documents by hand, before
// there was a linter: the number of the finding, the rule that should find it
// and a place that it must be about, with names for positions. Several places
// of one line are each to be found; a place is found too by a finding about
// something in it.
var audit = []struct {
	number, says, rule string
	about              []string
}{
	{"1", "five nodes claimed, four described", "count-contradicts", []string{"commitments[five-nodes]"}},
	{"2", "a daily backup cannot keep an RPO of 24 h", "rpo-unreachable", []string{"backups[client-data]"}},
	{"3a", "full restoration at the MTD leaves no margin", "no-margin-to-mtd", []string{"scenarios[node-1-failure].restore_within"}},
	{"3b", "4 h spent on the platform are the NHS platform's whole MTD", "rto-spends-anothers-mtd", []string{"functions[production-platform].rto", "functions[nightingale].mtd"}},
	{"4", "one blanket RTO contradicts the table", "promise-contradicts-plan", []string{"commitments[blanket-rto]", "functions[client-facing].rto"}},
	{"5a", "functions with no RPO", "function-without-rpo", []string{"functions[production-platform]", "functions[nightingale]", "functions[email]"}},
	{"5b", "a promise for planned scenarios leaves unplanned ones out", "planned-only-promise", []string{"commitments[blanket-rpo]"}},
	{"6", "the RTO cannot be derived", "rto-not-derivable", []string{"functions[production-platform].rto"}},
	{"7a", "a 4 h function restores from a 24 h function", "dependency-slower-than-dependent", []string{"functions[production-platform]", "functions[nightingale]"}},
	{"7b", "runbooks lie on the node that fails", "runbook-lost-with-node", []string{"runbooks[critical-procedures]"}},
	{"8", "mail is back after 8 h, clients are told within 2 h", "channel-slower-than-notice", []string{"notices[outage-to-clients]"}},
	{"9", "validating everything lets slow functions block critical ones", "validation-blocks-critical", []string{"recovery[node-1].steps[validate]"}},
	{"10a", "functions with no host", "function-without-host", []string{"functions[email]", "functions[development]"}},
	{"10b", "staging is back after 48 h, a critical patch is due after 24 h", "staging-slower-than-patch", []string{"security.patching"}},
	{"11", "nobody knows where the tools of recovery run, or they are on the lost node", "recovery-tool-unplaced", []string{"functions[password-manager]", "functions[incident-log]", "functions[gitea]"}},
	{"12", "certificates need DNS before DNS may move", "certificate-needs-dns", []string{"functions[client-facing]"}},
	{"13", "the tightest RTO has no fallback, backup or scenario", "function-uncovered", []string{"functions[nightingale]"}},
	{"14a", "a node for what is not critical carries what is", "fallback-contradicts-node", []string{"functions[client-facing]"}},
	{"14b", "the fallback has another stack", "fallback-other-stack", []string{"functions[client-facing].fallbacks[0]"}},
	{"14c", "the fallback has no data", "fallback-without-data", []string{"functions[client-facing].fallbacks[0]"}},
	{"15a", "primary, fallback and backup with one supplier", "one-supplier", []string{"suppliers[hetzner]"}},
	{"15b", "nothing makes backups immutable", "backup-not-immutable", []string{"backups[client-data]"}},
	{"16", "nobody guarantees a new node inside the RTO", "cold-provisioning-unguaranteed", []string{"recovery[node-1].steps[provide-node]"}},
	{"17", "one site holds platform, database and repository", "site-concentration", []string{"sites[helsinki]"}},
	{"18", "suppliers used but not listed", "supplier-unlisted", []string{"suppliers[openai]", "suppliers[mistral]", "suppliers[inference-host]"}},
	{"19", "data with no stated backup", "data-without-backup", []string{"data[mail]", "data[nightingale-data]", "data[credentials]", "data[incident-records]"}},
	{"20a", "nothing fences the old node", "no-fencing", []string{"recovery[node-1]"}},
	{"20b", "nothing brings it back", "no-failback", []string{"functions[client-facing].fallbacks[0]"}},
	{"21", "nobody reconciles lost writes", "no-reconciliation", []string{"recovery[node-1]"}},
	{"22", "the failed supplier's own status page is the signal", "supplier-judges-itself", []string{"scenarios[node-1-failure]"}},
	{"23a", "confirmation has no deadline", "clock-without-start", []string{"notices[outage-to-clients]"}},
	{"23b", "nothing says when the RTO starts", "rto-start-undefined", []string{"scenarios[node-1-failure]"}},
	{"24", "several notice rules for one event", "notice-conflict", []string{"notices[incident-to-clients]", "notices[impact-to-clients]"}},
	{"25a", "regular with no period", "vague-period", []string{"duties[access-review]", "backups[database]", "duties[client-updates]"}},
	{"25b", "two periods for one duty", "duty-conflict", []string{"duties[backup-restore-test]", "duties[database-restore-test]"}},
	{"26", "acknowledged after the fix is due", "acknowledgement-slower-than-fix", []string{"security.disclosure"}},
	{"27a", "a review with no deadline", "review-without-deadline", []string{"duties[post-incident-review]"}},
	{"27b", "talking through proves no RTO", "desktop-proves-nothing", []string{"duties[desktop-exercise]"}},
	{"28", "retention is neither least nor most", "retention-ambiguous", []string{"backups[client-data].keep"}},
	{"29a", "whether TLS 1.2 is answered is not said", "tls-floor-undefined", []string{"security.tls"}},
	{"29b", "SMTP is not covered", "mail-tls-uncovered", []string{"functions[email]"}},
	{"30a", "the work factor has no number", "hashing-unquantified", []string{"security.hashing"}},
	{"30b", "bcrypt reads 72 bytes of a session token", "hashing-truncates", []string{"security.hashing"}},
	{"31", "a cipher without mode", "cipher-without-mode", []string{"security.encryption"}},
	{"32", "a fallback leaves the jurisdiction by itself, and tries home last", "fallback-leaves-jurisdiction", []string{"functions[inference]"}},
	{"33a", "nodes with no country", "node-without-country", []string{"nodes[node-2]", "nodes[node-3]", "nodes[node-5]"}},
	{"33b", "a node with another supplier, against all", "supplier-contradicts-promise", []string{"commitments[hosted-by-hetzner]", "nodes[node-5]"}},
	{"34", "an isolated node in a shared control plane", "isolated-node-shared", []string{"nodes[node-3]"}},
	{"35", "all credentials to one person, against least privilege", "all-credentials-one-person", []string{"people[emergency-contact]"}},
	{"36a", "one person is operator, owner and approver", "one-person-every-role", []string{"people[ceo]"}},
	{"36b", "nobody covers the MTD", "no-cover-inside-mtd", []string{"functions[nightingale]"}},
	{"37a", "restoring waits for a root cause with no deadline", "root-cause-unbounded", []string{"security.restore_after"}},
	{"37b", "an intruder may be there longer than backups are kept", "dwell-exceeds-retention", []string{"backups[client-data]"}},
	{"38", "a certificate held in one document and aimed at in the other", "claim-contradicts", []string{"claims[cyber-essentials-held]", "claims[cyber-essentials-principles]"}},
	{"39", "a document with no date, version, owner and cycle", "document-undated", []string{"documents[policy]"}},
}

func TestTheLinterFindsWhatTheAuditorFound(t *testing.T) {
	p := example(t, "missionops")
	report := lint.Check(p, lint.Options{Now: today})
	found := map[string][]string{} // rule → places
	for _, f := range append(report.Findings, report.Suppressed...) {
		for _, path := range append([]string{f.At}, f.Also...) {
			found[f.Rule] = append(found[f.Rule], named(p, path))
		}
	}
	known := map[string]bool{}
	for _, r := range lint.Rules() {
		known[r.ID] = true
	}
	for _, a := range audit {
		t.Run(a.number+" "+a.says, func(t *testing.T) {
			if !known[a.rule] {
				t.Fatalf("there is no rule %s", a.rule)
			}
			for _, place := range a.about {
				if !slices.ContainsFunc(found[a.rule], func(at string) bool { return within(at, place) }) {
					t.Errorf("%s finds nothing about %s; it found %v", a.rule, place, found[a.rule])
				}
			}
		})
	}
	numbers := map[string]bool{}
	for _, a := range audit {
		numbers[strings.TrimRight(a.number, "abc")] = true
	}
	for n := 1; n <= 39; n++ {
		if !numbers[fmt.Sprint(n)] {
			t.Errorf("finding %d is not in the table", n)
		}
	}
}

// Who reads a finding wants to know which sentence of which document to change.
func TestFindingsOfTheTranscriptionNameTheirClauses(t *testing.T) {
	for _, f := range lint.Check(example(t, "missionops"), lint.Options{Now: today}).Findings {
		if len(f.Clauses) == 0 && f.Rule != "document-undated" { // of a document as a whole
			t.Errorf("%s of %s at %s names no clause", f.Rule, f.Subject, f.At)
		}
	}
}

// within reports whether a path is a place or something in it.
func within(path, place string) bool {
	rest, ok := strings.CutPrefix(path, place)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

func TestNothingIsFoundInTheMendedPlans(t *testing.T) {
	for _, name := range []string{"missionops-fixed", "three", "single"} {
		t.Run(name, func(t *testing.T) {
			report := lint.Check(example(t, name), lint.Options{Now: today})
			for _, f := range report.Findings {
				t.Errorf("%s (%s): %s %s", f.Rule, f.Severity, f.Message, f.At)
			}
			if name != "single" && len(report.Suppressed) > 0 {
				t.Errorf("%d findings are suppressed: a mended plan has none to suppress", len(report.Suppressed))
			}
			if name == "single" && len(report.Suppressed) == 0 {
				t.Error("a company of one has findings that it can only accept")
			}
		})
	}
}

// The whole report is kept, so that a change of a rule shows what else it
// changes.
func TestTheReportOfTheTranscriptionIsKept(t *testing.T) {
	p := example(t, "missionops")
	p.Path = "examples/missionops/fleet.yaml"
	var out strings.Builder
	if err := lint.Check(p, lint.Options{Now: today}).Text(&out, p, lint.Style{Brief: true}); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/missionops.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(golden); err != nil || string(want) != out.String() {
		t.Errorf("the report is not %s (-update rewrites it; then read what changed): %v", golden, err)
	}
}
