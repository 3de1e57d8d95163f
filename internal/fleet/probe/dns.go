package probe

import (
	"bufio"
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// typeCAA is certification authority authorization (RFC 8659), which the
// library has no name for.
const typeCAA dnsmessage.Type = 257

var dnsTypes = map[string]dnsmessage.Type{"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "CNAME": dnsmessage.TypeCNAME, "MX": dnsmessage.TypeMX,
	"NS": dnsmessage.TypeNS, "TXT": dnsmessage.TypeTXT, "SOA": dnsmessage.TypeSOA, "CAA": typeCAA}

// dns asks a resolver for a name, and where the target says so each server of
// its zone.
func (l *look) dns(ctx context.Context) finding {
	servers, err := l.nameservers(ctx)
	if err != nil {
		return because(err, "Finding a server")
	}
	if len(servers) == 0 {
		return unknown(NotAvailable, "This machine names no server to ask.")
	}
	types := []string{"A", "AAAA"}
	if t := l.t.word("type", ""); t != "" {
		types = []string{t}
	}
	var a dnsAnswer
	var asked string
	for _, asked = range types {
		if a, err = l.askAny(ctx, servers, l.t.Host, dnsTypes[asked]); err != nil {
			return because(err, "Asking for "+l.t.Host)
		}
		if len(a.values) > 0 || a.rcode != dnsmessage.RCodeSuccess {
			break
		}
	}
	if f := l.judgeAnswer("", asked, a); !f.ok {
		return f
	}
	l.fact("answer", strings.Join(a.values, ", "))
	l.fact("server", a.server)
	if l.t.yes("each") {
		return l.eachServer(ctx, servers, asked, a.values)
	}
	return good("%s resolves to %s.", l.t.Host, clean(strings.Join(a.values, ", "), 160))
}

// judgeAnswer compares an answer with what is expected. by names who gave it.
func (l *look) judgeAnswer(by, asked string, a dnsAnswer) finding {
	prefix := ""
	if by != "" {
		prefix = by + ": "
	}
	switch want := l.t.list("answer"); {
	case a.rcode == dnsmessage.RCodeNameError:
		return bad(NoName, "%sThere is no name %s.", prefix, l.t.Host)
	case a.rcode != dnsmessage.RCodeSuccess:
		return bad(BadStatus, "%sThe question for %s is answered with %s.", prefix, l.t.Host, strings.TrimPrefix(a.rcode.String(), "RCode"))
	case len(a.values) == 0:
		return bad(NoName, "%s%s has no records of type %s.", prefix, l.t.Host, asked)
	case len(want) > 0 && !slices.Equal(normalised(want), normalised(a.values)):
		return bad(BadAnswer, "%s%s resolves to %s, not to %s.", prefix, l.t.Host, clean(strings.Join(a.values, ", "), 120), clean(strings.Join(want, ", "), 120))
	}
	return good("")
}

// normalised makes answers comparable: names without their last dot and in
// small letters, addresses in their short form, in order.
func normalised(values []string) []string {
	out := make([]string, 0, len(values))
	for _, v := range values {
		v = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(v), "."))
		if a, ok := literal(v); ok {
			v = a.String()
		}
		out = append(out, v)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// nameservers are who is asked, as addresses with ports.
func (l *look) nameservers(ctx context.Context) (out []netip.AddrPort, err error) {
	if s := l.t.word("server", ""); s != "" {
		host, port, _ := splitHost(s) // checked when it was read
		if port == 0 {
			port = 53
		}
		p, err := l.resolve(ctx, host, port)
		if err != nil {
			return nil, err
		}
		for _, a := range p.addrs {
			out = append(out, netip.AddrPortFrom(a, port))
		}
		return out, nil
	}
	for _, s := range l.env.Nameservers {
		if a, err := netip.ParseAddrPort(s); err == nil {
			out = append(out, a)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	f, err := os.Open("/etc/resolv.conf")
	if err != nil {
		return nil, nil // none is said by the caller
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan() && len(out) < 3; {
		if fields := strings.Fields(s.Text()); len(fields) >= 2 && fields[0] == "nameserver" {
			if a, err := netip.ParseAddr(fields[1]); err == nil {
				out = append(out, netip.AddrPortFrom(a, 53))
			}
		}
	}
	return out, nil
}

// zoneServer is one address of one server of a zone.
type zoneServer struct {
	name string
	addr netip.AddrPort
	err  error
}

// eachServer asks every server of the zone. Each must answer for itself (with
// authority), and the same.
func (l *look) eachServer(ctx context.Context, resolvers []netip.AddrPort, asked string, values []string) finding {
	servers, zone, err := l.zoneServers(ctx, resolvers)
	if err != nil {
		return because(err, "Finding the servers of the zone")
	}
	l.fact("zone", zone)
	findings := make([]finding, len(servers))
	var wait sync.WaitGroup
	for i, s := range servers {
		wait.Go(func() {
			if s.err != nil {
				findings[i] = because(s.err, "Resolving "+s.name)
				return
			}
			by := s.name + " (" + s.addr.Addr().String() + ")"
			a, err := exchangeDNS(ctx, s.addr, l.t.Host, dnsTypes[asked], false)
			switch f := l.judgeAnswer(by, asked, a); {
			case err != nil:
				code, why := classify(err)
				findings[i] = bad(code, "%s does not answer for %s: %s.", by, l.t.Host, why)
			case !a.authoritative:
				findings[i] = bad(Disagree, "%s does not answer for %s with authority.", by, l.t.Host)
			case !f.ok:
				findings[i] = f
			case !slices.Equal(normalised(a.values), normalised(values)):
				findings[i] = bad(Disagree, "%s says that %s is %s; the resolver says %s.", by, l.t.Host, clean(strings.Join(a.values, ", "), 100), clean(strings.Join(values, ", "), 100))
			default:
				findings[i] = good("")
			}
		})
	}
	wait.Wait()
	for _, f := range findings {
		if !f.ok {
			return f
		}
	}
	return good("%s resolves to %s, by each of the %d addresses of its zone's servers.", l.t.Host, clean(strings.Join(values, ", "), 120), len(servers))
}

// zoneServers finds who answers for a name: the NS records of the nearest name
// above it that has some.
func (l *look) zoneServers(ctx context.Context, resolvers []netip.AddrPort) ([]zoneServer, string, error) {
	for zone := l.t.Host; zone != ""; {
		a, err := l.askAny(ctx, resolvers, zone, dnsmessage.TypeNS)
		if err != nil {
			return nil, "", err
		}
		if len(a.values) > 0 {
			return l.serverAddresses(ctx, resolvers, a.values[:min(len(a.values), 13)]), zone, nil
		}
		_, zone, _ = strings.Cut(zone, ".")
	}
	return nil, "", failed(NoName, "No zone with servers holds %s.", l.t.Host)
}

func (l *look) serverAddresses(ctx context.Context, resolvers []netip.AddrPort, names []string) (out []zoneServer) {
	port := l.env.nsPort
	if port == 0 {
		port = 53
	}
	for _, name := range names {
		var addrs []netip.Addr
		var why error
		if l.env.Address != nil {
			if at, ok := l.env.Address(name); ok {
				if a, ok := literal(at); ok {
					addrs = append(addrs, a)
				}
			}
		}
		for _, t := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
			if len(addrs) > 0 {
				break // one family is enough: a machine without the other could not ask there
			}
			a, err := l.askAny(ctx, resolvers, name, t)
			if err != nil {
				why = err
				continue
			}
			for _, v := range a.values[:min(len(a.values), 4)] {
				if ip, ok := literal(v); ok && !ip.IsLoopback() && !ip.IsUnspecified() && !ip.IsLinkLocalUnicast() && !ip.IsMulticast() {
					addrs = append(addrs, ip)
				}
			}
		}
		if len(addrs) == 0 {
			if why == nil {
				why = failed(NoName, "The zone's server %s has no address that can be asked.", clean(name, 80))
			}
			out = append(out, zoneServer{name: name, err: why})
		}
		for _, a := range addrs {
			out = append(out, zoneServer{name: name, addr: netip.AddrPortFrom(a, port)})
		}
	}
	return out
}

// askAny asks one resolver after the other until one answers.
func (l *look) askAny(ctx context.Context, servers []netip.AddrPort, name string, t dnsmessage.Type) (a dnsAnswer, err error) {
	for i, s := range servers {
		one, cancel := share(ctx, len(servers)-i)
		a, err = exchangeDNS(one, s, name, t, true)
		cancel()
		if err == nil {
			return a, nil
		}
		code, why := classify(err)
		err = failed(code, "The server %s does not answer the question for %s: %s.", s, name, why)
		if ctx.Err() != nil {
			break
		}
	}
	return a, err
}
