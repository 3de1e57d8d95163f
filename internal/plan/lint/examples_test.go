package lint_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/plan"
)

const examples = "../../../examples/"

func example(t *testing.T, name string) *plan.Plan {
	t.Helper()
	p, err := plan.Load(examples + name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// clauses reads a document of the example: its clauses by number, such as
// "4.1". A clause ends where the next of the same depth or above begins.
func clauses(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(examples, "missionops/documents", file))
	if err != nil {
		t.Fatal(err)
	}
	heading := regexp.MustCompile(`^(\d+)\.(\d+)? [A-Z]`)
	out, top, sub := map[string]string{}, "", ""
	for line := range strings.Lines(string(text)) {
		if m := heading.FindStringSubmatch(line); m != nil {
			top, sub = m[1], ""
			if m[2] != "" {
				sub = m[1] + "." + m[2]
			}
		}
		out[top] += line
		if sub != "" {
			out[sub] += line
		}
	}
	return out
}

func documents(t *testing.T) map[string]map[string]string {
	return map[string]map[string]string{"bcp": clauses(t, "business-continuity-plan.txt"), "policy": clauses(t, "security-policy.txt")}
}

// A transcription is faithful when its quotes are the documents' words, stand
// in the clauses that it names, and no clause is left out.
func TestTheTranscriptionQuotesItsDocuments(t *testing.T) {
	p, texts := example(t, "missionops"), documents(t)
	for _, c := range p.Commitments {
		if c.Quote == "" || len(c.Source) == 0 {
			t.Errorf("%s has no quote or no source", c.Name)
			continue
		}
		for _, source := range c.Source {
			document, clause, _ := strings.Cut(string(source), " ")
			if !strings.Contains(texts[document][clause], c.Quote) {
				t.Errorf("%s: %q does not stand in %s", c.Name, c.Quote, source)
			}
		}
	}
}

func TestTheTranscriptionCitesEveryClauseAndNoOther(t *testing.T) {
	p, texts := example(t, "missionops"), documents(t)
	cited := map[string]bool{}
	walk(reflect.ValueOf(p.File), "", func(path string, v reflect.Value) {
		if source, ok := v.Interface().(plan.Source); ok {
			document, clause, _ := strings.Cut(string(source), " ")
			if texts[document][clause] == "" {
				t.Errorf("%s cites %s, which is no clause", path, source)
			}
			cited[string(source)] = true
			cited[document+" "+strings.Split(clause, ".")[0]] = true
		}
	})
	for document, all := range texts {
		for clause := range all {
			if clause != "" && !cited[document+" "+clause] && (document != "policy" || clause != "10") { // how to reach the company
				t.Errorf("nothing of %s %s is in the transcription", document, clause)
			}
		}
	}
}

// named writes names in place of positions: functions[nightingale].rto.
func named(p *plan.Plan, path string) string {
	out, v := "", reflect.ValueOf(p.File)
	for i, part := range strings.Split(path, ".") {
		field, rest, _ := strings.Cut(part, "[")
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return path
		}
		if v = fieldNamed(v, field); !v.IsValid() {
			return path
		}
		if i > 0 {
			out += "."
		}
		out += field
		if rest != "" {
			var n int
			if _, err := fmt.Sscanf(rest, "%d]", &n); err != nil || v.Kind() != reflect.Slice || n >= v.Len() {
				return path
			}
			v = v.Index(n)
			label := fmt.Sprint(n)
			if v.Kind() == reflect.Struct {
				if name := v.FieldByName("Name"); name.IsValid() && name.String() != "" {
					label = name.String()
				}
			}
			out += "[" + label + "]"
		}
	}
	return out
}

func fieldNamed(v reflect.Value, name string) reflect.Value {
	for i := range v.NumField() {
		if tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ","); tag == name {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

// walk visits every value that is written in the file, with its path in names.
func walk(v reflect.Value, path string, visit func(string, reflect.Value)) {
	if !v.IsValid() || v.IsZero() {
		return
	}
	if v.CanInterface() {
		visit(path, v)
	}
	switch v.Kind() {
	case reflect.Pointer:
		walk(v.Elem(), path, visit)
	case reflect.Slice:
		for i := range v.Len() {
			label := fmt.Sprint(i)
			if item := v.Index(i); item.Kind() == reflect.Struct {
				if name := item.FieldByName("Name"); name.IsValid() && name.String() != "" {
					label = name.String()
				}
			}
			walk(v.Index(i), path+"["+label+"]", visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ","); tag != "" {
				walk(v.Field(i), strings.TrimPrefix(path+"."+tag, "."), visit)
			}
		}
	}
}

// obligations is where the transcription holds what the two documents oblige
// the company to: a path that must be written, and what it says.
var obligations = []struct{ id, path, says string }{
	{"O-01", "commitments[hosted-in-germany-or-finland].one_of[0]", "DE"},
	{"O-01", "sites[helsinki].country", "FI"},
	{"O-02", "commitments[no-american-cloud].none_of[0]", "US"},
	{"O-03", "commitments[client-data-stays].one_of[0]", "EEA"},
	{"O-04", "commitments[inference-retains-nothing].equals", "no"},
	{"O-05", "commitments[transfers-under-idta].equals", "idta"},
	{"O-06", "security.encryption.algorithm", "aes-256"},
	{"O-07", "commitments[keys-apart].equals", "yes"},
	{"O-08", "commitments[client-traffic-tls].equals", "1.3"},
	{"O-09", "security.tls[0].refuses[1]", "1.1"},
	{"O-10", "commitments[https-only].equals", "yes"},
	{"O-11", "commitments[forward-secrecy].equals", "yes"},
	{"O-12", "security.hashing[0].algorithm", "bcrypt"},
	{"O-13", "commitments[never-in-plaintext].equals", "no"},
	{"O-14", "duties[access-review].every", "regularly"},
	{"O-15", "commitments[administrators-second-factor].equals", "yes"},
	{"O-16", "commitments[clients-have-roles].equals", "yes"},
	{"O-17", "commitments[access-logged].equals", "yes"},
	{"O-18", "nodes[node-1].remote_access.by[1]", "ssh-key"},
	{"O-19", "commitments[no-ssh-password].equals", "no"},
	{"O-20", "duties[vulnerability-assessment].every", "regularly"},
	{"O-21", "security.patching.critical", "24h"},
	{"O-22", "commitments[dependencies-monitored].equals", "yes"},
	{"O-23", "security.patching.staging", "development"},
	{"O-24", "recovery[cyber-incident].steps[find-root-cause].kind", "investigate"},
	{"O-24", "recovery[cyber-incident].steps[review].kind", "review"},
	{"O-25", "notices[incident-to-clients].within", "72h"},
	{"O-26", "notices[incident-to-clients].states[1]", "data-affected"},
	{"O-27", "commitments[investigations].equals", "yes"},
	{"O-28", "duties[post-incident-review].on[0]", "incident"},
	{"O-29", "backups[client-data].every", "daily"},
	{"O-30", "backups[client-data].keep", "30 days"},
	{"O-31", "backups[client-data].to[separate].supplier", "hetzner"},
	{"O-32", "duties[backup-restore-test].every", "regularly"},
	{"O-33", "commitments[blanket-rto].at_most", "4h"},
	{"O-33", "commitments[blanket-rpo].at_most", "24h"},
	{"O-34", "security.disclosure.acknowledge_within", "2 business days"},
	{"O-35", "security.disclosure.update_every", "unspecified"},
	{"O-36", "commitments[safe-harbour].equals", "yes"},
	{"O-37", "claims[iso-27001].status", "in-progress"},
	{"O-38", "functions[production-platform].rto", "4h"},
	{"O-38", "functions[client-facing].rto", "8h"},
	{"O-38", "functions[nightingale].mtd", "4h"},
	{"O-38", "functions[email].mtd", "48h"},
	{"O-38", "functions[gitea].rto", "24h"},
	{"O-38", "functions[development].mtd", "7 days"},
	{"O-39", "commitments[no-premises].equals", "yes"},
	{"O-40", "commitments[five-nodes].equals", "5"},
	{"O-41", "functions[client-facing].hostnames[0]", "cmd.missionopsai.com"},
	{"O-41", "functions[gitea].hostnames[0]", "git.missionopsai.com"},
	{"O-42", "functions[client-facing].fallbacks[0].node", "node-2"},
	{"O-43", "nodes[node-3].isolated", "true"},
	{"O-44", "functions[inference].fallbacks[2].supplier", "mistral"},
	{"O-46", "functions[production-platform].restored_from[0]", "gitea"},
	{"O-47", "backups[code].to[off-site].name", "off-site"},
	{"O-48", "duties[database-restore-test].every", "quarterly"},
	{"O-49", "scenarios[node-1-failure].signals[1].kind", "ssh"},
	{"O-50", "notices[outage-to-clients].within", "2h"},
	{"O-51", "recovery[node-1].steps[assess-node-2].node", "node-2"},
	{"O-52", "recovery[node-1].steps[provide-node].supplier", "hetzner"},
	{"O-53", "recovery[node-1].steps[restore].uses[0]", "gitea"},
	{"O-54", "recovery[node-1].steps[validate].runbook", "validation-checklist"},
	{"O-54", "recovery[node-1].steps[redirect-dns].kind", "dns"},
	{"O-55", "scenarios[node-1-failure].restore_within", "24h"},
	{"O-55", "commitments[node-1-rto].at_most", "4h"},
	{"O-56", "recovery[key-person].steps[open-credentials].uses[0]", "password-manager"},
	{"O-57", "duties[contact-review].every", "annually"},
	{"O-58", "people[emergency-contact].credentials", "all"},
	{"O-59", "people[ceo].away_after", "7 days"},
	{"O-60", "runbooks[critical-procedures].review_every", "quarterly"},
	{"O-61", "recovery[cyber-incident].steps[isolate].takes", "immediately"},
	{"O-62", "recovery[cyber-incident].steps[preserve-evidence].kind", "capture"},
	{"O-63", "notices[incident-to-ceo].to", "ceo"},
	{"O-64", "notices[breach-to-ico].within", "72h"},
	{"O-65", "notices[impact-to-clients].within", "as soon as possible"},
	{"O-66", "security.restore_after", "root-cause"},
	{"O-67", "claims[cyber-essentials-held].status", "held"},
	{"O-67", "claims[cyber-insurance].cover", "25000 GBP"},
	{"O-68", "duties[supplier-review].every", "annually"},
	{"O-68", "suppliers[brevo].critical", "true"},
	{"O-69", "recovery[reroute-models].steps[change-routing].kind", "switch"},
	{"O-70", "recovery[migrate-hosting].steps[migrate].kind", "rebuild"},
	{"O-71", "organisation.remote_first", "true"},
	{"O-72", "clients[nhs].notify_within", "unspecified"},
	{"O-73", "functions[incident-log].kind", "incident-log"},
	{"O-74", "duties[client-updates].every", "regularly"},
	{"O-75", "duties[post-incident-review].kind", "post-incident-review"},
	{"O-76", "duties[desktop-exercise].form", "desktop"},
	{"O-77", "duties[desktop-exercise].close_within", "1 year"},
	{"O-78", "duties[plan-review].on[2]", "people-change"},
	{"O-79", "documents[bcp].acknowledge[1]", "staff"},
	{"O-80", "documents[bcp].approved_by[0]", "ceo"},
}

func TestEveryObligationOfTheDocumentsIsInTheTranscription(t *testing.T) {
	p := example(t, "missionops")
	written := map[string]string{}
	walk(reflect.ValueOf(p.File), "", func(path string, v reflect.Value) {
		for v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if s, ok := v.Interface().(fmt.Stringer); ok {
			written[path] = s.String()
		} else if v.Kind() != reflect.Struct && v.Kind() != reflect.Slice {
			written[path] = fmt.Sprint(v.Interface())
		}
	})
	var ids []string
	for _, o := range obligations {
		ids = append(ids, o.id)
		if got, ok := written[o.path]; !ok || got != o.says {
			t.Errorf("%s: %s says %q, not %q", o.id, o.path, got, o.says)
		}
	}
	for n := 1; n <= 80; n++ {
		id := fmt.Sprintf("O-%02d", n)
		if !slices.Contains(ids, id) && id != "O-45" { // "with cost implications" sets no limit that could be written
			t.Errorf("%s is nowhere", id)
		}
	}
}
