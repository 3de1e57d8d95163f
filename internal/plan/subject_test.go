package plan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/plan"
)

const library = `
version: 1
organisation: {name: A library, country: NL, remote_first: false}
sites:
  - {name: cellar, country: NL}
suppliers:
  - {name: rack, jurisdiction: DE, provides: [hosting]}
nodes:
  - {name: shelf, supplier: rack, country: DE, roles: [database]}
  - {name: desk, site: cellar, remote_access: {by: [vpn], password: true}}
functions:
  - {name: catalogue, mtd: 2 days, rto: 8h, rpo: 24h, host: [shelf]}
  - {name: lending, mtd: 1 day, rto: 4h, host: [desk]}
backups:
  - {name: nightly, functions: [catalogue], every: daily, keep: 30 days, to: [{node: desk, immutable: true}, {country: FR}]}
  - {name: log, functions: [lending], every: weekly, continuous: 5m, keep_at_least: 14 days}
clients:
  - {name: school, functions: [lending]}
duties:
  - {name: fire drill, kind: exercise, every: yearly, form: desktop}
security:
  encryption: {algorithm: aes-256-gcm}
`

func TestThePlanSaysItsOwnValues(t *testing.T) {
	p, err := plan.Parse("library.yaml", []byte(library))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ subject, of, want string }{
		{"function.rto", "", "catalogue=8h@functions[0].rto lending=4h@functions[1].rto"},
		{"function.rto", "school", "lending=4h@functions[1].rto"},
		{"function.rto", "shelf", "catalogue=8h@functions[0].rto"},
		{"function.rpo", "lending", ""},
		{"nodes.count", "", "=2@nodes"},
		{"hosting.country", "", "shelf=DE@nodes[0].country desk=NL@nodes[1].site"},
		{"hosting.jurisdiction", "", "shelf=DE@nodes[0].supplier"},
		{"hosting.supplier", "database", "shelf=rack@nodes[0].supplier"},
		{"backup.interval", "", "nightly=daily@backups[0].every log=5m@backups[1].continuous"},
		{"backup.retention", "", "nightly=30 days@backups[0].keep log=14 days@backups[1].keep_at_least"},
		{"backup.country", "catalogue", "nightly=NL@backups[0].to[0].node nightly=FR@backups[0].to[1].country"},
		{"backup.immutable", "", "nightly=yes@backups[0].to[0].immutable"},
		{"backup.encryption", "log", "log=aes-256-gcm@security.encryption.algorithm"},
		{"remote-access.methods", "", "desk=vpn@nodes[1].remote_access.by[0] desk=ssh-password@nodes[1].remote_access.password"},
		{"exercise.interval", "", "fire drill=yearly@duties[0].every"},
		{"remote-first", "", "=no@organisation.remote_first"},
		{"no.such-thing", "", ""},
	} {
		var got []string
		for _, v := range p.Says(c.subject, c.of) {
			got = append(got, v.Of+"="+v.Text+"@"+v.Path)
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s of %q: got %q, want %q", c.subject, c.of, text, c.want)
		}
	}
}

func TestAPromiseIsComparedWithAValue(t *testing.T) {
	for _, c := range []struct {
		name, subject string
		promise       plan.Commitment
		value         string
		kept, ok      bool
	}{
		{"a shorter time keeps a bound", "function.rto", plan.Commitment{AtMost: "4h"}, "90 min", true, true},
		{"the bound itself keeps it", "function.rto", plan.Commitment{AtMost: "24h"}, "1 day", true, true},
		{"a longer time breaks it", "function.rto", plan.Commitment{AtMost: "4h"}, "8h", false, true},
		{"two business days may be a long weekend", "notice.within", plan.Commitment{AtMost: "72h"}, "2 business days", false, true},
		{"a vague value cannot be compared", "backup.interval", plan.Commitment{AtMost: "24h"}, "regularly", false, false},
		{"a vague promise cannot be compared", "backup.interval", plan.Commitment{AtMost: "regularly"}, "24h", false, false},
		{"a vague promise of an exact time neither", "backup.interval", plan.Commitment{Equals: "regularly"}, "24h", false, false},
		{"longer retention keeps a minimum", "backup.retention", plan.Commitment{AtLeast: "30 days"}, "5 weeks", true, true},
		{"a month is not 30 days", "backup.retention", plan.Commitment{Equals: "30 days"}, "1 month", false, true},
		{"versions compare by their parts", "tls.minimum", plan.Commitment{AtLeast: "1.9"}, "1.10", true, true},
		{"a lower version breaks a floor", "tls.minimum", plan.Commitment{AtLeast: "1.3"}, "1.2", false, true},
		{"a count is exact", "nodes.count", plan.Commitment{Equals: "5"}, "4", false, true},
		{"a country of the EEA is in the EEA", "hosting.country", plan.Commitment{OneOf: []string{"EEA"}}, "NO", true, true},
		{"a country of the EEA may be outside of the EU", "hosting.country", plan.Commitment{OneOf: []string{"EU"}}, "NO", false, true},
		{"a forbidden country breaks a promise", "hosting.jurisdiction", plan.Commitment{NoneOf: []string{"US"}}, "US", false, true},
		{"another country keeps it", "hosting.jurisdiction", plan.Commitment{NoneOf: []string{"US", "CN"}}, "CH", true, true},
		{"a cipher with its mode is that cipher", "storage.encryption", plan.Commitment{Equals: "AES-256"}, "aes-256-gcm", true, true},
		{"a weaker cipher is not", "storage.encryption", plan.Commitment{Equals: "aes-256"}, "aes-128-gcm", false, true},
		{"yes is true", "admin.mfa", plan.Commitment{Equals: "true"}, "yes", true, true},
		{"no is not", "admin.mfa", plan.Commitment{Equals: "yes"}, "no", false, true},
		{"a forbidden method breaks a promise", "remote-access.methods", plan.Commitment{NoneOf: []string{"ssh-password"}}, "ssh-password", false, true},
		{"a supplier is named", "hosting.supplier", plan.Commitment{Equals: "rack"}, "cloud", false, true},
		{"no bound promises nothing", "function.rto", plan.Commitment{}, "4h", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, found := plan.SubjectNamed(c.subject)
			if !found {
				t.Fatalf("no subject %s", c.subject)
			}
			if kept, ok := s.Keeps(&c.promise, plan.Value{Text: c.value}); kept != c.kept || ok != c.ok {
				t.Errorf("%s against %s: kept %v, comparable %v", c.promise.Promise(), c.value, kept, ok)
			}
		})
	}
}

func TestSubjectsAreInOrderAndSayWhatTheyAre(t *testing.T) {
	all := plan.Subjects()
	if !slices.IsSortedFunc(all, func(a, b plan.Subject) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("subjects are not in the order of their names: they cannot be found")
	}
	for i, s := range all {
		if i > 0 && all[i-1].Name == s.Name {
			t.Errorf("%s is there twice", s.Name)
		}
		if s.Says == "" || s.Unit == "" {
			t.Errorf("%s does not say what it is", s.Name)
		}
	}
}

func TestABoundIsValidForItsUnit(t *testing.T) {
	for _, c := range []struct {
		unit  plan.Unit
		bound plan.Bound
		valid bool
	}{
		{plan.Time, "4h", true}, {plan.Time, "regularly", true}, {plan.Time, "4 fortnights", false},
		{plan.Count, "5", true}, {plan.Count, "-1", false}, {plan.Count, "five", false},
		{plan.Version, "1.3", true}, {plan.Version, "1.x", false},
		{plan.Countries, "EEA", true}, {plan.Countries, "UK", false},
		{plan.YesNo, "yes", true}, {plan.YesNo, "maybe", false},
		{plan.Words, "anything", true}, {plan.Suppliers, "anyone", true},
	} {
		if err := c.unit.Valid(c.bound); (err == nil) != c.valid {
			t.Errorf("%s %q: %v", c.unit, c.bound, err)
		}
	}
}
