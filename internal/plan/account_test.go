package plan_test

import (
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/plan"
)

func TestAnAccountIsAnAddressOrAnIdAndOnePersons(t *testing.T) {
	t.Parallel()
	people := func(a, b string) string {
		return "version: 1\norganisation: {name: x, approvers: [a, b]}\npeople:\n  - {name: a, account: \"" + a + "\"}\n  - {name: b, account: \"" + b + "\"}\n"
	}
	for text, says := range map[string]string{
		people("a@x.example", "019ab0e2-0c5e-7000-8000-000000000001"): "",
		people("a@x.example", "not an account"):                       "This is no account.",
		people("a@x.example", "@x.example"):                           "This is no account.",
		people("a@x.example", "A@X.example"):                          `People "a" and "b" have one account.`,
	} {
		_, err := plan.Parse("fleet.yaml", []byte(text))
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: got %v, want %q", text, err, says)
		}
	}
}

func TestADifferenceTellsNobodysAccount(t *testing.T) {
	t.Parallel()
	of := func(account string) *plan.Plan {
		p, err := plan.Parse("fleet.yaml", []byte("version: 1\norganisation: {name: x}\npeople: [{name: a"+account+"}]\n"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	none, one, two := of(""), of(", account: needle@x.example"), of(", account: other@x.example")
	for _, c := range []struct {
		before, after *plan.Plan
		says          string
	}{{none, one, "is tied to an account now"}, {one, two, "is another account's now"}, {two, none, "is tied to no account any more"}} {
		changes := plan.Diff(c.before, c.after)
		if len(changes) != 1 || !changes[0].Review || !strings.Contains(changes[0].Sentence, c.says) || strings.Contains(changes[0].Sentence+changes[0].Old+changes[0].New, "example") {
			t.Errorf("%+v", changes)
		}
	}
}

func TestAChangedRunbookIsADifferenceThatAsksForAReview(t *testing.T) {
	t.Parallel()
	of := func(text string) *plan.Plan {
		p, err := plan.Parse("fleet.yaml", []byte("version: 1\norganisation: {name: x}\nrunbooks: [{name: lost, file: lost.md}]\n"))
		if err != nil {
			t.Fatal(err)
		}
		if text != "" {
			p.Books = map[string][]byte{"lost": []byte(text)}
		}
		return p
	}
	for _, c := range []struct{ before, after, says string }{{"a", "b", "its text is another"}, {"", "b", "its text is there now"}, {"a", "", "is not there any more"}} {
		changes := plan.Diff(of(c.before), of(c.after))
		if len(changes) != 1 || !changes[0].Review || !strings.Contains(changes[0].Sentence, `Runbook "lost"`) || !strings.Contains(changes[0].Sentence, c.says) {
			t.Errorf("%+v", changes)
		}
	}
	if changes := plan.Diff(of("a"), of("a")); len(changes) != 0 {
		t.Errorf("%+v", changes)
	}
}

func TestAPromiseMayBeMadeOfAGroupOfWhichThePlanSaysNothingYet(t *testing.T) {
	t.Parallel()
	of := func(subject, bound, group string) string {
		return "version: 1\norganisation: {name: x}\nsuppliers: [{name: lab, provides: [inference]}]\nnodes: [{name: one, roles: [gateway]}]\ncommitments: [{name: c, subject: " + subject + ", " + bound + ", of: [" + group + "]}]\n"
	}
	for text, ok := range map[string]bool{
		of("supplier.retains-data", `equals: "no"`, "inference"): true,
		of("remote-access.password", `equals: "no"`, "gateway"):  true,
		of("notice.within", "at_most: 2h", "outage"):             true,
		of("supplier.retains-data", `equals: "no"`, "gateway"):   false,
		of("supplier.retains-data", `equals: "no"`, "inferense"): false,
	} {
		if _, err := plan.Parse("fleet.yaml", []byte(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
