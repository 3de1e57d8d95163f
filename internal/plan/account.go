package plan

import (
	"fmt"
	"regexp"
	"strings"
)

// accountPattern is what the schema allows: an address or an id. It is as
// strict as an editor can be; the platform knows the accounts.
const accountPattern = `^([^@\s]+@[^@\s]+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$`

var accountForm = regexp.MustCompile(accountPattern)

func isAccount(text string) bool { return len(text) <= 254 && accountForm.MatchString(text) }

// resolveAccounts refuses one account for two people: the second voice would
// be the first one's.
func (p *Plan) resolveAccounts(r *reader) {
	whose := map[string]string{}
	for i := range p.People {
		x := &p.People[i]
		if x.Account == "" {
			continue
		}
		account := strings.ToLower(x.Account)
		if other, taken := whose[account]; taken && !r.full() {
			r.wrong(nodeAt(r.root, fmt.Sprintf("people[%d].account", i)), "plan-account", fmt.Sprintf("People %q and %q have one account.", short(other), short(x.Name)), "Give each the account that is theirs alone, or make them one person.")
			continue
		}
		whose[account] = x.Name
	}
}

// Approvers lists the people who approve the plan and have an account, by
// account.
func (p *Plan) Approvers() map[string]string {
	out := map[string]string{}
	for _, name := range p.Organisation.Approvers {
		if x := p.Person(name); x != nil && x.Account != "" {
			out[x.Account] = x.Name
		}
	}
	return out
}
