package lint

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// edition is the year of a standard's edition.
var edition = regexp.MustCompile(`(\d) ?[:–-] ?(19|20)\d\d$`)

// standard is the name of a standard without its spelling: ISO/IEC 27001:2022
// and iso-27001 are one.
func standard(name string) string {
	s := edition.ReplaceAllString(strings.ToLower(strings.TrimSpace(name)), "$1")
	s = strings.NewReplacer("/iec", "", "iec ", "", " ", "", "-", "", "_", "").Replace(s)
	return s
}

// claimant is who a claim speaks of: the organisation, unless it names a
// supplier who does not merely issue or insure.
func (c *Context) claimant(m *plan.Claim) string {
	s := c.Supplier(m.Supplier)
	if s == nil || slices.Contains(s.Provides, "certification") || slices.Contains(s.Provides, "insurance") {
		return ""
	}
	return m.Supplier
}

func claimContradicts(c *Context) {
	groups, keys := map[string][]int{}, []string(nil)
	for i := range c.Claims {
		m := &c.Claims[i]
		key := standard(m.Standard) + "\x00" + c.claimant(m)
		if groups[key] == nil {
			keys = append(keys, key)
		}
		groups[key] = append(groups[key], i)
	}
	for _, key := range keys {
		c.oneClaim(groups[key])
	}
}

// oneClaim reports claims of one standard that cannot all be true. That one
// is aligned with a standard and works towards its certificate is consistent;
// to hold it and work towards it, or merely be aligned, is not.
func (c *Context) oneClaim(group []int) {
	slices.SortFunc(group, func(a, b int) int { return strings.Compare(c.Claims[a].Name, c.Claims[b].Name) })
	for _, i := range group {
		held := &c.Claims[i]
		if held.Status != "held" {
			continue
		}
		var words, names, paths []string
		severity := Warning
		for _, j := range group {
			other := &c.Claims[j]
			if other.Status == "held" || other.Scope != "" && held.Scope != "" && other.Scope != held.Scope {
				continue
			}
			names, paths = append(names, other.Name), append(paths, at("claims", j, "status"))
			words = append(words, fmt.Sprintf("%s in %q", strings.ReplaceAll(other.Status, "-", " "), other.Name))
			if other.Status != "aligned" {
				severity = Error
			}
		}
		if len(words) > 0 {
			c.Report(at("claims", i, "status"), these("claim", "claims", append(names, held.Name)), "%q is claimed as held in %q, and as %s.", held.Standard, held.Name, listed(words)).With(paths...).As(severity)
		}
	}
}

func claimWithoutEnd(c *Context) {
	for i := range c.Claims {
		m := &c.Claims[i]
		if m.Status == "held" && m.Until.IsZero() && m.Kind != "alignment" && m.Kind != "attestation" {
			f := c.Report(at("claims", i), about("claim", m.Name), "%q is claimed as held in %q, which does not say until when.", m.Standard, m.Name)
			if c.claimant(m) != "" {
				f.As(Note).Saying("Write until: as the supplier's certificate says, and ask for the next one then.")
			}
		}
	}
}

func documentUndated(c *Context) {
	for i := range c.Documents {
		d := &c.Documents[i]
		var missing []string
		if d.Date.IsZero() {
			missing = append(missing, "date")
			if d.Version == "" {
				missing = append(missing, "version")
			}
		}
		if d.Owner == "" {
			missing = append(missing, "owner")
		}
		if d.ReviewEvery.IsZero() {
			missing = append(missing, "review cycle")
		}
		if len(missing) > 0 {
			c.Report(at("documents", i), about("document", d.Name), "Document %q has no %s.", d.Name, strings.Join(missing, ", no "))
		}
	}
}
