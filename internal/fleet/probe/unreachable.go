package probe

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"
)

// unreachable passes only if the target cannot be connected to while something
// else can be: a node without a network reaches nothing, and that proves
// nothing of the wall around another.
func (l *look) unreachable(ctx context.Context) finding {
	p, err := l.resolve(ctx, l.t.Host, l.t.Port)
	if err != nil {
		return unknown(codeOf(err), "Whether %s can be reached is not known: %s", l.t.place(), because(err, "Resolving").words)
	}
	reserve := ctx
	if deadline, ok := ctx.Deadline(); ok { // leaves time for the control
		var cancel context.CancelFunc
		reserve, cancel = context.WithTimeout(ctx, time.Until(deadline)*2/3)
		defer cancel()
	}
	type seen struct {
		how string
		f   finding
	}
	controlled := make(chan string, 1)
	go func() { controlled <- l.control(ctx) }()
	var results []seen
	for _, a := range p.addrs { // one way in is enough to fail
		how, f := l.connects(reserve, p.at(a))
		results = append(results, seen{how, f})
		if f.code == Reachable {
			l.fact("address", p.at(a))
			return f
		}
	}
	control := <-controlled
	if len(results) == 0 {
		return unknown(NoName, "%s has no address.", l.t.Host)
	}
	if i := slices.IndexFunc(results, func(s seen) bool { return s.f.unknown }); i >= 0 {
		return results[i].f
	}
	l.fact("how", results[0].how)
	if control == "" {
		return unknown(NoControl, "%s cannot be connected to, but neither can anything that should be: this node may be without a network.", l.t.place())
	}
	l.fact("control", control)
	return good("%s cannot be connected to (%s), while %s can.", l.t.place(), results[0].how, control)
}

// control is an address that takes connections now, or "".
func (l *look) control(ctx context.Context) string {
	all := append(l.t.list("control"), l.env.Control...)
	all = slices.DeleteFunc(all, func(c string) bool { return c == l.t.place() })
	found := make(chan string, len(all))
	for _, c := range all {
		go func() {
			host, port, err := splitHost(c)
			if err != nil || port == 0 {
				found <- ""
				return
			}
			other := *l
			other.facts, other.t.words = map[string]string{}, nil
			p, err := other.resolve(ctx, host, port)
			if err == nil {
				var conn net.Conn
				if conn, err = other.dial(ctx, p); err == nil {
					conn.Close()
					found <- c
					return
				}
			}
			found <- ""
		}()
	}
	for range all {
		if c := <-found; c != "" {
			return c
		}
	}
	return ""
}

// connects tries one address. A code of Reachable says that it worked.
func (l *look) connects(ctx context.Context, address string) (how string, f finding) {
	if l.t.word("protocol", "tcp") == "udp" {
		return l.connectsUDP(ctx, address)
	}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		conn.Close()
		return "", bad(Reachable, "%s takes connections, and must not be reachable from here.", l.t.place())
	}
	return refusal(err)
}

// refusal names how a connection did not come about.
func refusal(err error) (string, finding) {
	switch code, _ := classify(err); code {
	case Refused, Reset:
		return "refused", finding{}
	case Timeout:
		return "no answer", finding{}
	case NoRoute:
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			return "", unknown(NotAvailable, "This machine cannot make a connection of that kind.")
		}
		return "no way there", finding{}
	case Stopped:
		return "", unknown(Stopped, "The look was broken off before anything was known.")
	}
	return "", unknown(NotAvailable, "This machine could not try.")
}

// datagrams are what a live server of a protocol answers: a query for the root
// of DNS, a client's packet of NTP, a binding request of STUN (RFC 1035, RFC
// 5905, RFC 8489).
var datagrams = map[string]string{
	"dns":  "4f5001000001000000000000" + "00" + "00020001",
	"ntp":  "23" + strings.Repeat("00", 47),
	"stun": "00010000" + "2112a442" + "466f756e6472795072626521",
}

// connectsUDP sends a datagram. Silence says something only where a live
// server would have answered.
func (l *look) connectsUDP(ctx context.Context, address string) (string, finding) {
	conn, err := dialer.DialContext(ctx, "udp", address)
	if err != nil {
		return refusal(err)
	}
	conn = bound(ctx, conn)
	defer conn.Close()
	kind := l.t.word("send", "")
	payload, err := hex.DecodeString(datagrams[kind])
	if err != nil || len(payload) == 0 {
		payload = []byte{0}
	}
	buf := make([]byte, 512)
	for range 3 { // datagrams get lost
		if _, err = conn.Write(payload); err != nil {
			break
		}
		deadline := time.Now().Add(500 * time.Millisecond)
		if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
			deadline = end
		}
		_ = conn.SetReadDeadline(deadline)
		if _, err = conn.Read(buf); err == nil {
			return "", bad(Reachable, "%s answers over UDP, and must not be reachable from here.", l.t.place())
		}
		if code, _ := classify(err); code != Timeout || ctx.Err() != nil {
			break
		}
	}
	how, f := refusal(err)
	if how == "no answer" && kind == "" {
		return "", unknown(Timeout, "%s does not answer over UDP, which a server that does not understand the question does not, either; say send=.", l.t.place())
	}
	return how, f
}
