package probe

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsAnswer is what a server said of one name and type.
type dnsAnswer struct {
	server        string
	rcode         dnsmessage.RCode
	authoritative bool
	values        []string
}

var errNonsense = errors.New("no answer to the question")

// share gives a part of the time that ctx has left.
func share(ctx context.Context, parts int) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok && parts > 1 {
		return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(parts))
	}
	return context.WithCancel(ctx)
}

// exchangeDNS asks one server over UDP, and over TCP where the answer does not
// fit (RFC 1035, RFC 7766). What does not answer the question that was asked
// is passed over: anybody can send a datagram.
func exchangeDNS(ctx context.Context, server netip.AddrPort, name string, t dnsmessage.Type, recurse bool) (dnsAnswer, error) {
	query, id, err := question(name, t, recurse)
	if err != nil {
		return dnsAnswer{}, err
	}
	m, err := overUDP(ctx, server, query, id)
	if err == nil && m.Truncated {
		m, err = overTCP(ctx, server, query, id)
	}
	if err != nil {
		return dnsAnswer{}, err
	}
	a := dnsAnswer{server: server.String(), rcode: m.RCode, authoritative: m.Authoritative}
	for _, r := range m.Answers {
		if r.Header.Type == t && len(a.values) < 64 { // aliases on the way are no answer to the question
			if v := recordValue(r); v != "" {
				a.values = append(a.values, v)
			}
		}
	}
	return a, nil
}

func question(name string, t dnsmessage.Type, recurse bool) (query []byte, id uint16, err error) {
	n, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return nil, 0, failed(NoName, "%s is no name that can be asked for.", clean(name, 80))
	}
	var random [2]byte
	_, _ = rand.Read(random[:])
	id = binary.BigEndian.Uint16(random[:])
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: recurse})
	b.EnableCompression()
	edns := dnsmessage.ResourceHeader{}
	err = errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{Name: n, Type: t, Class: dnsmessage.ClassINET}), b.StartAdditionals(),
		edns.SetEDNS0(1232, dnsmessage.RCodeSuccess, false), b.OPTResource(edns, dnsmessage.OPTResource{}))
	if err != nil {
		return nil, 0, failed(NoName, "%s is no name that can be asked for.", clean(name, 80))
	}
	query, err = b.Finish()
	return query, id, err
}

func overUDP(ctx context.Context, server netip.AddrPort, query []byte, id uint16) (dnsmessage.Message, error) {
	raw, err := dialer.DialContext(ctx, "udp", server.String())
	if err != nil {
		return dnsmessage.Message{}, err
	}
	conn := bound(ctx, raw)
	defer conn.Close()
	buf := make([]byte, 4096)
	wait := time.Second // then asks again: datagrams get lost
	for {
		if _, err := conn.Write(query); err != nil {
			return dnsmessage.Message{}, err
		}
		until := time.Now().Add(wait)
		if end, ok := ctx.Deadline(); ok && end.Before(until) {
			until = end
		}
		_ = conn.SetReadDeadline(until)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				var ne net.Error
				if errors.As(err, &ne) && ne.Timeout() && ctx.Err() == nil {
					break
				}
				return dnsmessage.Message{}, err
			}
			if m, err := readDNS(buf[:n], query, id); err == nil {
				return m, nil
			}
		}
	}
}

func overTCP(ctx context.Context, server netip.AddrPort, query []byte, id uint16) (dnsmessage.Message, error) {
	raw, err := dialer.DialContext(ctx, "tcp", server.String())
	if err != nil {
		return dnsmessage.Message{}, err
	}
	conn := bound(ctx, raw)
	defer conn.Close()
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
		return dnsmessage.Message{}, err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return dnsmessage.Message{}, err
	}
	body := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, body); err != nil {
		return dnsmessage.Message{}, err
	}
	return readDNS(body, query, id)
}

// readDNS reads an answer to a query, and nothing else.
func readDNS(body, query []byte, id uint16) (dnsmessage.Message, error) {
	var m, q dnsmessage.Message
	if err := m.Unpack(body); err != nil {
		return m, errNonsense
	}
	if err := q.Unpack(query); err != nil || m.ID != id || !m.Response || len(m.Questions) != 1 {
		return m, errNonsense
	}
	if got, want := m.Questions[0], q.Questions[0]; got.Type != want.Type || got.Class != want.Class || !strings.EqualFold(got.Name.String(), want.Name.String()) {
		return m, errNonsense
	}
	return m, nil
}

// recordValue writes a record as targets name it.
func recordValue(r dnsmessage.Resource) string {
	bare := func(n dnsmessage.Name) string { return strings.TrimSuffix(n.String(), ".") }
	switch b := r.Body.(type) {
	case *dnsmessage.AResource:
		return netip.AddrFrom4(b.A).String()
	case *dnsmessage.AAAAResource:
		return netip.AddrFrom16(b.AAAA).String()
	case *dnsmessage.CNAMEResource:
		return bare(b.CNAME)
	case *dnsmessage.NSResource:
		return bare(b.NS)
	case *dnsmessage.MXResource:
		return fmt.Sprintf("%d %s", b.Pref, bare(b.MX))
	case *dnsmessage.TXTResource:
		return clean(strings.Join(b.TXT, ""), 255)
	case *dnsmessage.SOAResource:
		return fmt.Sprintf("%s %d", bare(b.NS), b.Serial)
	case *dnsmessage.UnknownResource:
		if b.Type == typeCAA && len(b.Data) > 2 && len(b.Data) > 2+int(b.Data[1]) {
			tag := b.Data[2 : 2+int(b.Data[1])]
			return clean(fmt.Sprintf("%d %s %s", b.Data[0], tag, b.Data[2+int(b.Data[1]):]), 255)
		}
	}
	return ""
}
