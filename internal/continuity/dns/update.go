package dns

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// Update changes zones by dynamic update (RFC 2136), signed with a shared key
// (TSIG, RFC 8945), over TCP: an update is one message and must not be cut.
type Update struct {
	Server    string // host:port of the zone's primary
	KeyName   string
	Algorithm string        // hmac-sha256 (default) or hmac-sha512
	Secret    config.Secret // in base64, as in the server's own configuration
	Timeout   time.Duration // of one exchange; 0: 5 s
	Clock     func() time.Time
}

// fudge is how far clocks may be apart (RFC 8945 section 10).
const fudge = 300

var algorithms = map[string]string{"": mdns.HmacSHA256, "hmac-sha256": mdns.HmacSHA256, "hmac-sha512": mdns.HmacSHA512}

// Atomic implements Provider: a server applies all of an update or nothing (RFC
// 2136 section 3.7).
func (*Update) Atomic() bool { return true }

// Check implements Provider.
func (u *Update) Check() error {
	if host, _, err := net.SplitHostPort(u.Server); err != nil || host == "" {
		return problem.New(problem.Invalid, "dns-server", "The name server is missing or has no port.").WithField("server").WithMend("Write for example 192.0.2.53:53.")
	}
	if _, ok := algorithms[u.Algorithm]; !ok {
		return problem.New(problem.Invalid, "dns-algorithm", fmt.Sprintf("%.40q is no algorithm that updates are signed with.", u.Algorithm)).WithField("algorithm").WithMend("Use hmac-sha256 or hmac-sha512.")
	}
	if _, err := absolute("key", u.KeyName); err != nil {
		return problem.New(problem.Invalid, "dns-key-name", "The name of the key is missing or is no name.").WithField("key")
	}
	_, err := u.secret()
	return err
}

func (u *Update) secret() (map[string]string, error) {
	text, err := u.Secret.Read("secret")
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) < 16 {
		return nil, problem.New(problem.Invalid, "dns-key-weak", "The key is not in base64 or is shorter than 128 bits.").WithField("secret").
			WithMend("Make one with `tsig-keygen -a hmac-sha256` or `keymgr -t`, and give the server and this node the same.")
	}
	return map[string]string{mdns.CanonicalName(u.KeyName): text}, nil
}

// Read implements Provider.
func (u *Update) Read(ctx context.Context, zone string, keys []Key) ([]Set, error) {
	if err := u.holds(ctx, zone); err != nil {
		return nil, err
	}
	out := make([]Set, 0, len(keys))
	for _, k := range keys {
		q := new(mdns.Msg).SetQuestion(mdns.Fqdn(k.Name), mdns.StringToType[k.Type])
		q.RecursionDesired = false
		a, _, err := u.exchange(ctx, zone, q)
		if err != nil {
			return nil, err
		}
		if !a.Authoritative {
			return nil, notAuthority(u.Server, zone)
		}
		out = append(out, setOf(k, a.Answer))
	}
	return out, nil
}

// holds reports whether the server has this very zone. One that has the zone
// above answers for its names as well, and refuses their update only once
// another zone has moved.
func (u *Update) holds(ctx context.Context, zone string) error {
	a, _, err := u.exchange(ctx, zone, new(mdns.Msg).SetQuestion(mdns.Fqdn(zone), mdns.TypeSOA))
	if err != nil {
		return err
	}
	for _, r := range a.Answer {
		if h := r.Header(); a.Authoritative && h.Rrtype == mdns.TypeSOA && strings.EqualFold(h.Name, mdns.Fqdn(zone)) {
			return nil
		}
	}
	return notAuthority(u.Server, zone)
}

func notAuthority(server, zone string) error {
	return problem.New(problem.Upstream, "dns-not-authority", server+" does not answer for the zone "+zone+" by its own authority.").
		WithMend("Name the zone's primary server, and the zone as it is cut.").Wrap(ErrRefused)
}

// Swap implements Provider.
func (u *Update) Swap(ctx context.Context, zone string, changes []Change) error {
	m := new(mdns.Msg).SetUpdate(mdns.Fqdn(zone))
	for _, c := range changes {
		before, err := records(c.Before)
		if err != nil {
			return err
		}
		// What must be there (RFC 2136 section 2.4.2), or must not (2.4.3).
		if len(before) == 0 {
			m.RRsetNotUsed([]mdns.RR{header(c.Before.Key)})
			continue
		}
		for _, r := range before {
			r.Header().Ttl = 0
		}
		m.Used(before)
	}
	for _, c := range changes {
		if c.Before.Same(c.After) && c.Before.TTL == c.After.TTL {
			continue
		}
		after, err := records(c.After)
		if err != nil {
			return err
		}
		m.RemoveRRset([]mdns.RR{header(c.After.Key)})
		m.Insert(after)
	}
	_, sent, err := u.exchange(ctx, zone, m)
	if err != nil && sent == inDoubt {
		return problem.New(problem.Unavailable, "dns-outcome-unknown", "The connection to "+u.Server+" was lost after an update of "+zone+" was sent.").Wrap(fmt.Errorf("%w: %w", ErrUnknown, err))
	}
	return err
}

// sending says how far a message came.
type sending int

const (
	notSent  sending = iota
	inDoubt          // it was sent, and what came back proves nothing
	answered         // by somebody who has the key, or by a refusal
)

// exchange signs, sends and checks one message.
func (u *Update) exchange(ctx context.Context, zone string, m *mdns.Msg) (*mdns.Msg, sending, error) {
	secret, err := u.secret()
	if err != nil {
		return nil, notSent, err
	}
	timeout, now := u.Timeout, time.Now
	if timeout <= 0 {
		timeout = 5 * time.Second
	}
	if u.Clock != nil {
		now = u.Clock
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Server)
	if err != nil {
		return nil, notSent, unreachable(u.Server, err)
	}
	defer raw.Close()
	deadline, _ := ctx.Deadline()
	_ = raw.SetDeadline(deadline)
	defer context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })()
	c := &mdns.Conn{Conn: raw, TsigSecret: secret}
	m.SetTsig(mdns.CanonicalName(u.KeyName), algorithms[u.Algorithm], fudge, now().Unix())
	// Once the first byte is on its way, nothing but an answer tells what became of it.
	if err := c.WriteMsg(m); err != nil {
		return nil, inDoubt, unreachable(u.Server, err)
	}
	a, err := c.ReadMsg()
	if a == nil {
		return nil, inDoubt, unreachable(u.Server, err)
	}
	if a.Id != m.Id || !a.Response || a.Opcode != m.Opcode {
		return nil, inDoubt, forged(u.Server)
	}
	if problem := u.refusal(zone, a, now()); problem != nil {
		return a, answered, problem
	}
	if err != nil || a.IsTsig() == nil {
		return nil, inDoubt, forged(u.Server)
	}
	return a, answered, nil
}

func header(k Key) mdns.RR {
	return &mdns.ANY{Hdr: mdns.RR_Header{Name: mdns.Fqdn(k.Name), Rrtype: mdns.StringToType[k.Type], Class: mdns.ClassINET}}
}

// records are a set as records.
func records(s Set) (out []mdns.RR, err error) {
	h := mdns.RR_Header{Name: mdns.Fqdn(s.Name), Rrtype: mdns.StringToType[s.Type], Class: mdns.ClassINET, Ttl: s.TTL}
	for _, v := range s.Values {
		switch s.Type {
		case "CNAME":
			out = append(out, &mdns.CNAME{Hdr: h, Target: mdns.Fqdn(v)})
		case "TXT":
			out = append(out, &mdns.TXT{Hdr: h, Txt: []string{v}})
		case "A", "AAAA":
			a, err := netip.ParseAddr(v)
			if err != nil {
				return nil, problem.New(problem.Invalid, "dns-address", fmt.Sprintf("%.60q is no address.", v)).WithField("values")
			}
			if s.Type == "A" {
				out = append(out, &mdns.A{Hdr: h, A: a.AsSlice()})
			} else {
				out = append(out, &mdns.AAAA{Hdr: h, AAAA: a.AsSlice()})
			}
		}
	}
	return out, nil
}

// setOf picks a set out of an answer.
func setOf(k Key, answer []mdns.RR) Set {
	s := Set{Key: k}
	for _, r := range answer {
		h := r.Header()
		if !strings.EqualFold(strings.TrimSuffix(h.Name, "."), k.Name) || mdns.TypeToString[h.Rrtype] != k.Type {
			continue
		}
		s.TTL = h.Ttl
		switch r := r.(type) {
		case *mdns.A:
			if a, ok := netip.AddrFromSlice(r.A); ok {
				s.Values = append(s.Values, a.Unmap().String())
			}
		case *mdns.AAAA:
			if a, ok := netip.AddrFromSlice(r.AAAA); ok {
				s.Values = append(s.Values, a.String())
			}
		case *mdns.CNAME:
			s.Values = append(s.Values, strings.ToLower(strings.TrimSuffix(r.Target, ".")))
		case *mdns.TXT:
			s.Values = append(s.Values, strings.Join(r.Txt, ""))
		}
	}
	slices.Sort(s.Values)
	return s
}
