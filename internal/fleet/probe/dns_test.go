package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// zone is a DNS server with the records of one zone, over UDP and TCP.
type zone struct {
	t         *testing.T
	records   map[string][]dnsmessage.ResourceBody // by name and type: "a.example. A"
	authority bool
	truncate  bool // over UDP
	rcode     dnsmessage.RCode
	mangle    func([]byte) [][]byte // what is sent in place of an answer over UDP
}

// serve listens on one port of an address, with both protocols.
func (z *zone) serve(ip string, port int) (at netip.AddrPort) {
	z.t.Helper()
	var l net.Listener
	var u net.PacketConn
	var err error
	for range 50 { // a port that is free for one protocol need not be for the other
		if l, err = net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr(ip), uint16(port)).String()); err != nil {
			continue
		}
		at = netip.MustParseAddrPort(l.Addr().String())
		if u, err = net.ListenPacket("udp", at.String()); err == nil {
			break
		}
		l.Close()
	}
	if err != nil {
		z.t.Fatal(err)
	}
	var done sync.WaitGroup
	z.t.Cleanup(func() { l.Close(); u.Close(); done.Wait() })
	done.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			answers := [][]byte{z.answer(buf[:n], true)}
			if z.mangle != nil {
				answers = z.mangle(answers[0])
			}
			for _, a := range answers {
				_, _ = u.WriteTo(a, from)
			}
		}
	})
	done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			done.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(generous))
				var length [2]byte
				if _, err := io.ReadFull(conn, length[:]); err != nil {
					return
				}
				q := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(conn, q); err != nil {
					return
				}
				a := z.answer(q, false)
				_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
			})
		}
	})
	return at
}

func (z *zone) answer(query []byte, udp bool) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	out := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: z.authority, RCode: z.rcode}, Questions: m.Questions}
	known := false
	for key, bodies := range z.records {
		name, kind, _ := strings.Cut(key, " ")
		if !strings.EqualFold(name, q.Name.String()) {
			continue
		}
		known = true
		if dnsTypes[kind] != q.Type && kind != "CNAME" {
			continue
		}
		for _, b := range bodies {
			t := dnsTypes[kind]
			out.Answers = append(out.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: t, Class: dnsmessage.ClassINET, TTL: 60}, Body: b})
		}
	}
	if !known && z.rcode == 0 {
		out.RCode = dnsmessage.RCodeNameError
	}
	if udp && z.truncate {
		out.Truncated, out.Answers = true, nil
	}
	b, err := out.Pack()
	if err != nil {
		z.t.Error(err)
	}
	return b
}

func a(ips ...string) (out []dnsmessage.ResourceBody) {
	for _, ip := range ips {
		out = append(out, &dnsmessage.AResource{A: netip.MustParseAddr(ip).As4()})
	}
	return out
}

func records() map[string][]dnsmessage.ResourceBody {
	name := dnsmessage.MustNewName
	return map[string][]dnsmessage.ResourceBody{
		"app.example.test. A":     a("192.0.2.10", "192.0.2.11"),
		"six.example.test. AAAA":  {&dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::10").As16()}},
		"www.example.test. CNAME": {&dnsmessage.CNAMEResource{CNAME: name("app.example.test.")}},
		"example.test. NS":        {&dnsmessage.NSResource{NS: name("ns1.example.test.")}, &dnsmessage.NSResource{NS: name("ns2.example.test.")}},
		"example.test. MX":        {&dnsmessage.MXResource{Pref: 10, MX: name("mail.example.test.")}},
		"example.test. TXT":       {&dnsmessage.TXTResource{TXT: []string{"v=spf1 ", "-all"}}},
		"example.test. SOA":       {&dnsmessage.SOAResource{NS: name("ns1.example.test."), MBox: name("a.example.test."), Serial: 2026112301}},
		"example.test. CAA":       {&dnsmessage.UnknownResource{Type: typeCAA, Data: append([]byte{0, 5}, "issueca.example"...)}},
	}
}

func TestANameResolvesToWhatIsExpected(t *testing.T) {
	z := &zone{t: t, records: records()}
	e := Env{Nameservers: []string{z.serve("127.0.0.1", 0).String()}}
	refusing := &zone{t: t, rcode: dnsmessage.RCodeRefused}
	for _, c := range []struct {
		target string
		code   Code
		says   string
	}{
		{"app.example.test", "", "192.0.2.10, 192.0.2.11"},
		{"app.example.test answer=192.0.2.11,192.0.2.10", "", ""},
		{"app.example.test answer=192.0.2.10", BadAnswer, "not to 192.0.2.10"},
		{"six.example.test", "", "2001:db8::10"},
		{"six.example.test answer=2001:0db8:0::10", "", ""},
		{"six.example.test type=A", NoName, "no records of type A"},
		{"www.example.test type=CNAME answer=APP.example.test.", "", ""},
		{"example.test type=MX answer=\"10 mail.example.test\"", "", ""},
		{"example.test type=NS answer=ns2.example.test,ns1.example.test", "", ""},
		{"example.test type=TXT answer=\"v=spf1 -all\"", "", ""},
		{"example.test type=SOA", "", "2026112301"},
		{"example.test type=CAA", "", "0 issue ca.example"},
		{"gone.example.test", NoName, "There is no name"},
		{"app.example.test server=127.0.0.1:" + portOf(net.TCPAddrFromAddrPort(refusing.serve("127.0.0.1", 0))), BadStatus, "Refused"},
	} {
		if r := expect(t, DNS, c.target, e, c.code); !strings.Contains(r.Words, c.says) {
			t.Errorf("%s says %q, not %q", c.target, r.Words, c.says)
		}
	}
	t.Run("the server of these tests is understood by Go's own resolver, too", func(t *testing.T) {
		resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, e.Nameservers[0])
		}}
		got, err := resolver.LookupHost(t.Context(), "app.example.test.")
		if err != nil || len(got) != 2 {
			t.Fatal(got, err)
		}
	})
	t.Run("an answer that does not fit is asked for again over TCP", func(t *testing.T) {
		z := &zone{t: t, records: records(), truncate: true}
		expect(t, DNS, "app.example.test", Env{Nameservers: []string{z.serve("127.0.0.1", 0).String()}}, "")
	})
	t.Run("the next resolver is asked where the first is dead", func(t *testing.T) {
		expect(t, DNS, "app.example.test", Env{Nameservers: []string{"127.0.0.1:" + closedPort(t), e.Nameservers[0]}}, "")
		expect(t, DNS, "app.example.test", Env{Nameservers: []string{"127.0.0.1:" + closedPort(t)}}, Refused)
	})
}

func TestEachServerOfAZoneMustAnswerAndTheSame(t *testing.T) {
	resolver := &zone{t: t, records: records()}
	e := Env{Nameservers: []string{resolver.serve("127.0.0.1", 0).String()}}
	pair := func(t *testing.T, second *zone) Env {
		e := e
		first := &zone{t: t, records: records(), authority: true}
		at := first.serve("127.0.0.1", 0)
		if second != nil {
			second.t = t
			second.serve("127.0.0.2", int(at.Port()))
		}
		e.nsPort = at.Port()
		e.Address = func(n string) (string, bool) {
			ip, ok := map[string]string{"ns1.example.test": "127.0.0.1", "ns2.example.test": "127.0.0.2"}[n]
			return ip, ok
		}
		return e
	}
	other := records()
	other["app.example.test. A"] = a("192.0.2.66")
	without := records()
	delete(without, "app.example.test. A")
	for _, c := range []struct {
		name   string
		second *zone
		code   Code
		says   string
	}{
		{"both answer", &zone{records: records(), authority: true}, "", "each of the 2 addresses"},
		{"one says something else", &zone{records: other, authority: true}, Disagree, "192.0.2.66"},
		{"one does not know the name", &zone{records: without, authority: true}, NoName, "ns2.example.test (127.0.0.2)"},
		{"one is not responsible", &zone{records: records()}, Disagree, "with authority"},
		{"one is away", nil, Refused, "ns2.example.test (127.0.0.2) does not answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if r := expect(t, DNS, "app.example.test each=yes", pair(t, c.second), c.code); !strings.Contains(r.Words, c.says) {
				t.Fatalf("says %q, not %q", r.Words, c.says)
			}
		})
	}
	t.Run("a zone's server at this machine's own address is not asked", func(t *testing.T) {
		r := records()
		r["ns1.example.test. A"], r["ns2.example.test. A"] = a("127.0.0.1"), a("169.254.169.254")
		z := &zone{t: t, records: r}
		e := Env{Nameservers: []string{z.serve("127.0.0.1", 0).String()}}
		if r := expect(t, DNS, "app.example.test each=yes", e, NoName); !strings.Contains(r.Words, "no address that can be asked") {
			t.Fatal(r.Words)
		}
	})
}

func TestAServerThatAnswersNonsenseIsPassedOver(t *testing.T) {
	forge := func(change func(*dnsmessage.Message)) func([]byte) []byte {
		return func(b []byte) []byte {
			var m dnsmessage.Message
			if m.Unpack(b) != nil {
				return nil
			}
			change(&m)
			out, _ := m.Pack()
			return out
		}
	}
	nonsense := map[string]func([]byte) []byte{
		"nothing":             func([]byte) []byte { return nil },
		"noise":               func([]byte) []byte { return []byte("not a message at all, but long enough for a header") },
		"another number":      forge(func(m *dnsmessage.Message) { m.ID++ }),
		"a question":          forge(func(m *dnsmessage.Message) { m.Response = false }),
		"another name":        forge(func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("evil.test.") }),
		"another type":        forge(func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeTXT }),
		"no question":         forge(func(m *dnsmessage.Message) { m.Questions = nil }),
		"half of it":          func(b []byte) []byte { return b[:len(b)/2] },
		"a pointer to itself": func(b []byte) []byte { return append(b[:12:12], 0xc0, 12, 0, 1, 0, 1) },
	}
	for name, change := range nonsense {
		t.Run(name, func(t *testing.T) {
			before := &zone{t: t, records: records(), mangle: func(b []byte) [][]byte { return [][]byte{change(b), b} }}
			expect(t, DNS, "app.example.test", Env{Nameservers: []string{before.serve("127.0.0.1", 0).String()}}, "")
			only := &zone{t: t, records: records(), mangle: func(b []byte) [][]byte { return [][]byte{change(b)} }}
			expectWithin(t, DNS, "app.example.test", Env{Nameservers: []string{only.serve("127.0.0.1", 0).String()}}, 300*time.Millisecond, Timeout)
		})
	}
}

func FuzzDNSAnswer(f *testing.F) {
	query, id, err := question("app.example.test", dnsmessage.TypeA, true)
	if err != nil {
		f.Fatal(err)
	}
	z := &zone{records: records()}
	f.Add(z.answer(query, false))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := readDNS(body, query, id)
		if err != nil {
			if !errors.Is(err, errNonsense) {
				t.Fatal(err)
			}
			return
		}
		for _, r := range m.Answers {
			if v := recordValue(r); strings.ContainsAny(v, "\r\n\x00") && len(v) > 4096 {
				t.Fatalf("%q", v)
			}
		}
	})
}
