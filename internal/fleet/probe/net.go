package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// failure is an error whose cause is known.
type failure struct {
	code  Code
	words string // a whole sentence
}

func (f *failure) Error() string { return f.words }

func failed(code Code, format string, args ...any) error {
	return &failure{code, fmt.Sprintf(format, args...)}
}

// because turns an error into a finding. doing is what was tried, as the
// beginning of a sentence: "Connecting to 192.0.2.1:443".
func because(err error, doing string) finding {
	var known *failure
	if errors.As(err, &known) {
		return bad(known.code, "%s", known.words)
	}
	code, why := classify(err)
	return bad(code, "%s: %s.", doing, why)
}

// classify names the cause of a network error in words of its own: the text
// of an error may repeat what was sent.
func classify(err error) (Code, string) {
	var ne net.Error
	var name *net.DNSError
	switch {
	case errors.Is(err, context.Canceled):
		return Stopped, "broken off from this side"
	case errors.As(err, &name):
		switch {
		case name.IsNotFound:
			return NoName, "there is no such name"
		case name.IsTimeout:
			return NoName, "the resolver did not answer in time"
		}
		return NoName, "the resolver could not answer"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT), errors.As(err, &ne) && ne.Timeout():
		return Timeout, "no answer in time"
	case errors.Is(err, syscall.ENOENT):
		return NoName, "it is not there"
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused, "the connection was refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.ENETDOWN), errors.Is(err, syscall.EHOSTDOWN):
		return NoRoute, "there is no way to it"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return NoRoute, "a firewall does not let it pass"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe), errors.Is(err, net.ErrClosed):
		return Reset, "the connection was closed"
	}
	return Protocol, "what it says is not understood"
}

// place is where a target's host is looked for.
type place struct {
	host  string       // as it is resolved and, mostly, named in certificates
	also  string       // the plan's name of the node, where that is another
	addrs []netip.Addr // none for a socket
	port  uint16
}

func (p place) at(a netip.Addr) string { return netip.AddrPortFrom(a, p.port).String() }

// resolve finds the addresses of a host: a node of the plan where the
// environment knows it, a name or an address otherwise. It is done once per
// look, so that what was checked is what is asked.
//
// A public name that leads to this machine or to what hangs on the same cable
// is not asked: whoever runs that name's DNS would choose what is looked at.
func (l *look) resolve(ctx context.Context, host string, port uint16) (place, error) {
	p := place{host: host, port: port}
	if at := l.t.word("at", ""); at != "" && l.t.Host == host {
		var other uint16
		host, other, _ = splitHost(at) // checked when it was read
		if other != 0 {
			p.port = other
		}
		addrs, err := l.lookup(ctx, host, true)
		p.addrs = addrs
		return p, err
	}
	trusted := false
	if l.env.Address != nil {
		if is, ok := l.env.Address(host); ok {
			p.also, p.host, host, trusted = host, is, is, true
		}
	}
	addrs, err := l.lookup(ctx, host, trusted)
	p.addrs = addrs
	return p, err
}

// lookup resolves a name, in the family that the target wants.
func (l *look) lookup(ctx context.Context, host string, trusted bool) ([]netip.Addr, error) {
	family := "ip" + l.t.word("ip", "")
	if a, ok := literal(host); ok {
		if family == "ip4" && !a.Is4() || family == "ip6" && a.Is4() {
			return nil, failed(NoName, "%s is no address of IPv%s.", host, l.t.word("ip", ""))
		}
		return []netip.Addr{a}, nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, family, host)
	if err != nil {
		code, why := classify(err)
		return nil, failed(code, "%s cannot be resolved: %s.", host, why)
	}
	var addrs []netip.Addr
	for _, a := range found {
		if a = a.Unmap(); !slices.Contains(addrs, a) && len(addrs) < 16 {
			addrs = append(addrs, a)
		}
	}
	return addrs, rebound(host, addrs, trusted)
}

// rebound refuses addresses of this machine and its own cable that a public
// name gives.
func rebound(host string, addrs []netip.Addr, trusted bool) error {
	if trusted || ownName(host) {
		return nil
	}
	for _, a := range addrs {
		if a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() {
			return failed(NoName, "%s resolves to %s, which is this machine or its own network, and is not asked.", host, a)
		}
	}
	return nil
}

// ownName reports whether a name is this machine's by definition (RFC 6761)
// or by its own configuration: one without a dot is in no public DNS.
func ownName(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || !strings.Contains(host, ".")
}

// dial connects to the first address that takes the connection. Time is
// shared out, so that one dead address does not use up what the next needs.
func (l *look) dial(ctx context.Context, p place) (net.Conn, error) {
	var last error = failed(NoName, "%s has no address.", p.host)
	for i, a := range p.addrs {
		one, cancel := ctx, context.CancelFunc(func() {})
		if deadline, ok := ctx.Deadline(); ok && i < len(p.addrs)-1 {
			one, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(p.addrs)-i))
		}
		conn, err := dialer.DialContext(one, "tcp", p.at(a))
		cancel()
		if err == nil {
			l.fact("address", p.at(a))
			return bound(ctx, conn), nil
		}
		code, why := classify(err)
		last = failed(code, "%s cannot be connected to: %s.", p.at(a), why)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

var dialer = net.Dialer{KeepAlive: -1}

// boundConn ends with its context: nothing that a server does or leaves undone
// keeps a look longer than that.
type boundConn struct {
	net.Conn
	release func() bool
}

func bound(ctx context.Context, conn net.Conn) net.Conn {
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	return &boundConn{conn, context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })}
}

func (c *boundConn) Close() error { c.release(); return c.Conn.Close() }

func (l *look) tcp(ctx context.Context) finding {
	p, err := l.resolve(ctx, l.t.Host, l.t.Port)
	if err != nil {
		return because(err, "Resolving")
	}
	conn, err := l.dial(ctx, p)
	if err != nil {
		return because(err, "Connecting")
	}
	defer conn.Close()
	return good("%s takes connections.", l.t.place())
}
