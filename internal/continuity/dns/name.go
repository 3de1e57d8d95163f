package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

// Types that are moved. MX and the like stay where they are: mail follows
// names, not addresses.
var movable = []string{"A", "AAAA", "CNAME"}

const (
	maxSets   = 100
	maxValues = 20
	maxTTL    = 86400
)

// absolute gives a name in lower case without its final dot (RFC 1035 section
// 2.3.4: 63 bytes a label, 255 in all, of which the epoch's label takes 15).
func absolute(field, name string) (string, error) {
	n := strings.ToLower(strings.TrimSuffix(name, "."))
	bad := n == "" || len(n) > 253-len(epochPrefix)
	for label := range strings.SplitSeq(n, ".") {
		bad = bad || label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") ||
			strings.ContainsFunc(label, func(r rune) bool {
				return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_')
			})
	}
	if bad || strings.HasPrefix(n, epochPrefix) {
		return "", problem.New(problem.Invalid, "dns-name", fmt.Sprintf("%.80q is no name that can be moved.", name)).WithField(field).
			WithMend("Write it in full and in ASCII, for example api.example.eu; wildcards are not moved.")
	}
	return n, nil
}

// normal checks a set and gives it in the one form that is compared: lower
// case, addresses in their shortest form, values in order and once each.
func normal(field string, s Set) (Set, error) {
	name, err := absolute(field+".name", s.Name)
	if err != nil {
		return s, err
	}
	out := Set{Key: Key{Name: name, Type: strings.ToUpper(s.Type)}, TTL: s.TTL}
	bad := func(code, detail string) (Set, error) {
		return s, problem.New(problem.Invalid, code, detail).WithField(field)
	}
	if !slices.Contains(movable, out.Type) {
		return bad("dns-type", fmt.Sprintf("Sets of type %.20q are not moved; those of %s are.", s.Type, strings.Join(movable, ", ")))
	}
	if len(s.Values) > maxValues || out.Type == "CNAME" && len(s.Values) > 1 {
		return bad("dns-values", "The set has more values than it may have.")
	}
	if len(s.Values) > 0 && (s.TTL < 1 || s.TTL > maxTTL) {
		return bad("dns-ttl", fmt.Sprintf("The TTL is not from 1 to %d seconds.", maxTTL))
	}
	for _, v := range s.Values {
		v, err := value(field, out.Type, v)
		if err != nil {
			return s, err
		}
		out.Values = append(out.Values, v)
	}
	slices.Sort(out.Values)
	if out.Values = slices.Compact(out.Values); len(out.Values) == 0 {
		out.TTL = 0
	}
	return out, nil
}

func value(field, kind, v string) (string, error) {
	if kind == "CNAME" {
		return absolute(field+".values", v)
	}
	a, err := netip.ParseAddr(v)
	if err != nil || a.Zone() != "" || a.Is4() != (kind == "A") || a.IsUnspecified() || a.IsMulticast() {
		return "", problem.New(problem.Invalid, "dns-address", fmt.Sprintf("%.60q is no address for a set of type %s.", v, kind)).WithField(field + ".values")
	}
	return a.String(), nil
}

// sorted checks all sets of a cutover and puts them in order.
func sorted(sets []Set) (out []Set, err error) {
	if len(sets) == 0 || len(sets) > maxSets {
		return nil, problem.New(problem.Invalid, "dns-sets", fmt.Sprintf("A cutover moves from 1 to %d sets.", maxSets)).WithField("sets")
	}
	for i, s := range sets {
		field := fmt.Sprintf("sets[%d]", i)
		n, err := normal(field, s)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o Set) bool { return o.Key == n.Key }) {
			return nil, problem.New(problem.Invalid, "dns-set-twice", "The set "+n.Type+" of "+n.Name+" is given twice.").WithField(field)
		}
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b Set) int { return strings.Compare(a.Name+" "+a.Type, b.Name+" "+b.Type) })
	return out, nil
}
