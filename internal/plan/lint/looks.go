package lint

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// conditions are the kinds of probes that say whether something is as it must
// be, and nothing about whether it is there.
var conditions = []string{"disk", "backup-age", "unreachable"}

// looks are the kinds of probes by which a loss can be confirmed: two of them
// must not fail for one cause. TLS is half of HTTPS, and what is connected to
// at one port ends with whatever listens there.
func looks(probes []plan.Probe) (kinds []string, independent bool) {
	type look struct{ kind, ends string }
	var seen []look
	for _, p := range probes {
		if slices.Contains(conditions, p.Kind) {
			continue
		}
		l := look{p.Kind, endOf(p)}
		if l.kind == "tls" {
			l.kind = "https"
		}
		for _, x := range seen {
			independent = independent || x.kind != l.kind && (l.ends == "" || x.ends != l.ends)
		}
		seen, kinds = append(seen, l), append(kinds, p.Kind)
	}
	slices.Sort(kinds)
	return slices.Compact(kinds), independent
}

// defaultPorts are those of targets that name none.
var defaultPorts = map[string]string{"https": "443", "tls": "443", "smtp": "25", "ssh": "22", "postgresql": "5432", "git": "443", "model": "443"}

// endOf is where a probe connects to, HOST:PORT; "" where it does not say.
func endOf(p plan.Probe) string {
	address, _, _ := strings.Cut(strings.TrimSpace(p.Target), " ")
	port := defaultPorts[p.Kind]
	switch scheme, rest, ok := strings.Cut(address, "://"); {
	case ok:
		if address = rest; scheme == "http" {
			port = "80"
		}
	case p.Kind == "dns", p.Kind == "systemd", strings.HasPrefix(address, "/"):
		return ""
	}
	address, _, _ = strings.Cut(address, "/")
	if i := strings.LastIndexByte(address, ':'); i > strings.LastIndexByte(address, ']') {
		return strings.ToLower(address)
	}
	if port == "" {
		return ""
	}
	return strings.ToLower(address) + ":" + port
}

func oneKindOfProbe(c *Context) {
	report := func(path, subject, name string, probes []plan.Probe, what string) {
		kinds, independent := looks(probes)
		if len(kinds) == 0 || independent {
			return
		}
		by := listed(kinds)
		if len(kinds) > 1 {
			by += ", which end at one place,"
		}
		c.Report(path, subject, "%q is looked at by %s alone: that it is lost can be suspected and never confirmed%s.", name, by, what)
	}
	for i := range c.Functions {
		f := &c.Functions[i]
		what := ""
		if len(f.Host) > 0 {
			what = fmt.Sprintf(" while %s", does(f.Host, "its node lives", "one of its nodes lives"))
		}
		report(at("functions", i, "probes"), about("function", f.Name), f.Name, f.Probes, what)
	}
	for i := range c.Watches {
		w := &c.Watches[i]
		report(at("watches", i, "probes"), about("watch", w.Name), w.Name, w.Probes, ", so that nobody is called")
	}
}

// publicKinds are the kinds by which anybody may look at another fleet.
var publicKinds = []string{"https", "tcp", "tls", "dns", "smtp", "ssh"}

func watchNotPublic(c *Context) {
	for i := range c.Watches {
		w := &c.Watches[i]
		for j, p := range w.Probes {
			path := at("watches", i, fmt.Sprintf("probes[%d]", j))
			host := hostOfEnd(endOf(p))
			ip, _ := netip.ParseAddr(host)
			switch {
			case !slices.Contains(publicKinds, p.Kind):
				c.Report(path+".kind", about("watch", w.Name), "%q looks at another fleet by %s, for which it would need something of that fleet.", p.Name, p.Kind)
			case strings.Contains(p.Target, "@"):
				c.Report(path+".target", about("watch", w.Name), "%q looks at another fleet with a name or password in its target.", p.Name)
			case c.Node(host) != nil:
				c.Report(path+".target", about("watch", w.Name), "%q looks at %q, which is a node of this fleet.", p.Name, host)
			case ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast():
				c.Report(path+".target", about("watch", w.Name), "%q looks at %s, which is no public address: a network would join the two fleets.", p.Name, host)
			}
		}
	}
}

func hostOfEnd(ends string) string {
	if i := strings.LastIndexByte(ends, ':'); i >= 0 {
		ends = ends[:i]
	}
	return strings.Trim(ends, "[]")
}
