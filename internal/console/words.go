package console

import (
	"slices"
	"strings"

	"github.com/a-h/templ"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

func stateOf(kind, word string) state { return state{kind, word} }

func contains(list []string, one string) bool { return slices.Contains(list, one) }

func nextPage(q requestQuery, after string) templ.SafeURL {
	if after == "" {
		return ""
	}
	return templ.SafeURL(q.page(after))
}

func answeredBy(r ledger.RequestRow) string {
	if r.Own {
		return "the fleet’s own " + r.Provider
	}
	return r.Provider + ", controlled from " + country(r.Controller)
}

func tokenNote(r ledger.RequestRow) string {
	switch {
	case r.State == ledger.StateInFlight:
		return "known when it ends"
	case !r.UsageKnown:
		return "estimated: the provider told none"
	case r.CachedTokens > 0:
		return number(r.CachedTokens) + " of them read from a cache"
	}
	return "as the provider counted"
}

func costNote(r ledger.RequestRow) string {
	switch {
	case r.Held:
		return "what was reserved, because the real cost is unknown"
	case r.State == ledger.StateInFlight:
		return money(r.ReservedNano, r.Currency) + " reserved"
	}
	return "reserved before: " + money(r.ReservedNano, r.Currency)
}

func streamed(stream bool) string {
	if stream {
		return ", streamed"
	}
	return ", in one piece"
}

func safeguardText(r ledger.RequestRow) string {
	if !r.Restricted {
		return "None needed"
	}
	return capital(safeguard(r.Safeguard))
}

func statusText(status int) string {
	if status == 0 {
		return "None yet"
	}
	return number(int64(status))
}

// summary says in one sentence what a decision came to.
func summary(d sovereignty.Decision) string {
	n, all := int64(len(d.Allowed)), int64(len(d.Considered))
	class := d.Class.String() + " data"
	switch {
	case all == 0:
		return "No provider is set up to answer a request for " + d.Model + "."
	case n == 0:
		return "None of " + plural(all, "place", "places") + " may receive " + class + " of " + d.Organisation + ", so the request goes nowhere."
	}
	var order []string
	for _, a := range d.Allowed {
		order = append(order, a.Provider)
	}
	out := plural(n, "place", "places") + " of " + number(all) + " may receive " + class + " of " + d.Organisation
	if n == 1 {
		return out + ": " + order[0] + "."
	}
	return out + ", tried in this order: " + strings.Join(order, ", then ") + "."
}

func lower(s string) string { return strings.ToLower(s) }

func older(q registerQuery, path, after string) templ.SafeURL {
	if after == "" {
		return ""
	}
	return templ.SafeURL(q.page(path, after))
}

// otherRules are the rules on this page that are not about sovereignty, so
// that they can be chosen.
func otherRules(d refusalsData) []string {
	var out []string
	add := func(rule string) {
		if rule != "" && sovereignty.Rule(rule).Question() == "" && !contains(out, rule) {
			out = append(out, rule)
		}
	}
	add(d.query.Rule)
	for _, r := range d.rows {
		add(r.Rule)
	}
	return out
}

func tierText(tier string) string {
	if tier == "" {
		return "–"
	}
	return tier
}

// described ties a field to its hint and to what is wrong with it.
func described(f form, name, hint string) templ.Attributes {
	var by []string
	out := templ.Attributes{}
	if hint != "" {
		by = append(by, name+"-hint")
	}
	if f.wrong(name) != nil {
		by = append(by, name+"-wrong")
		out["aria-invalid"], out["autofocus"] = "true", true
	}
	if len(by) > 0 {
		out["aria-describedby"] = strings.Join(by, " ")
	}
	return out
}

// joined puts parts that are there after one another.
func joined(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), ". ")
}

// sentence makes a sentence of an error's text.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return capital(strings.TrimSuffix(text, ".")) + "."
}

// transferText says why a call is in the register.
func transferText(leaves, restricted bool) string {
	switch {
	case leaves && restricted:
		return "left EEA, restricted"
	case leaves:
		return "left EEA"
	}
	return "restricted"
}

// commaList puts names into one line, or says that there are none.
func commaList(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ", ")
}
