package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/missionopsai/foundry/internal/problem"
)

// Sight is what one server says of one set.
type Sight struct {
	Zone      string        `json:"zone"`
	Key       Key           `json:"key"`
	Server    string        `json:"server"`
	Authority bool          `json:"authority"` // otherwise a resolver, which keeps what it once heard
	At        time.Time     `json:"at"`
	Took      time.Duration `json:"took_ns"`
	Seen      bool          `json:"seen"` // it says what the cutover wants
	Values    []string      `json:"values,omitempty"`
	// Remaining seconds for which the server's answer may be kept by others.
	// Where a resolver still says the old, so long will it do so at most.
	Remaining uint32 `json:"remaining_seconds"`
	Error     string `json:"error,omitempty"`
}

// Visibility is what all servers say of a plan.
type Visibility struct {
	Authorities bool          `json:"authorities"` // every one was reached and says the new
	Resolvers   bool          `json:"resolvers"`   // so does every resolver
	Stale       time.Duration `json:"stale_ns"`    // for how long a resolver may still say the old
	After       time.Duration `json:"after_ns"`    // since Await began, until every authority said the new
	Sights      []Sight       `json:"sights"`
}

// Await looks again and again until every authority says what the plan wants,
// or ctx ends; it returns the last look either way, and an error if some
// authority still does not.
func (m *Mover) Await(ctx context.Context, p Plan, every time.Duration) (Visibility, error) {
	began := m.clock()
	for {
		v, err := m.Look(ctx, p)
		if err == nil && v.Authorities {
			v.After = m.clock().Sub(began)
			return v, nil
		}
		select {
		case <-ctx.Done():
			if err != nil {
				return v, err
			}
			return v, problem.New(problem.Timeout, "dns-not-visible", "Not every authoritative server answers with the new addresses yet"+behind(v)+".").
				WithMend("Look whether the zone's secondaries are told of changes (NOTIFY) and can transfer it.").Wrap(ctx.Err())
		case <-time.After(every):
		}
	}
}

func behind(v Visibility) string {
	for _, s := range v.Sights {
		if s.Authority && !s.Seen {
			return " (" + s.Server + ")"
		}
	}
	return ""
}

// Look asks every authority and then every resolver once for every set of a
// plan.
func (m *Mover) Look(ctx context.Context, p Plan) (Visibility, error) {
	v := Visibility{Authorities: true, Resolvers: true}
	for _, zp := range p.Zones {
		z, err := m.zone(zp.Zone)
		if err != nil {
			return v, err
		}
		authorities, err := m.authorities(ctx, z)
		if err != nil {
			return v, err
		}
		for _, c := range zp.Changes {
			for _, server := range authorities {
				s := m.look(ctx, z.Name, server, true, c.After)
				v.Authorities = v.Authorities && s.Seen
				v.Sights = append(v.Sights, s)
			}
		}
	}
	for _, zp := range p.Zones {
		for _, c := range zp.Changes {
			for _, server := range m.resolvers {
				s := m.look(ctx, zp.Zone, server, false, c.After)
				if !s.Seen {
					v.Stale = max(v.Stale, time.Duration(s.Remaining)*time.Second)
				}
				v.Resolvers = v.Resolvers && s.Seen
				v.Sights = append(v.Sights, s)
			}
		}
	}
	return v, nil
}

func (m *Mover) look(ctx context.Context, zone, server string, authority bool, want Set) Sight {
	s := Sight{Zone: zone, Key: want.Key, Server: server, Authority: authority, At: m.clock()}
	a, err := m.ask(ctx, server, want.Name, mdns.StringToType[want.Type], !authority)
	s.Took = m.clock().Sub(s.At)
	switch {
	case err != nil:
		s.Error = "No answer."
		return s
	case a.Rcode != mdns.RcodeSuccess && a.Rcode != mdns.RcodeNameError:
		s.Error = "It answers " + mdns.RcodeToString[a.Rcode] + "."
		return s
	case authority && !a.Authoritative:
		s.Error = "It is no authority for the zone."
		return s
	}
	got := setOf(want.Key, a.Answer)
	s.Values, s.Remaining = got.Values, got.TTL
	if len(got.Values) == 0 {
		s.Remaining = negative(a)
	}
	s.Seen = slices.Equal(got.Values, want.Values)
	return s
}

// negative is how long "there is none" may be kept (RFC 2308 section 5).
func negative(a *mdns.Msg) uint32 {
	for _, r := range a.Ns {
		if soa, ok := r.(*mdns.SOA); ok {
			return min(soa.Hdr.Ttl, soa.Minttl)
		}
	}
	return 0
}

// ask asks over UDP, as most of the world does, and over TCP where the answer
// was cut.
func (m *Mover) ask(ctx context.Context, server, name string, kind uint16, recurse bool) (*mdns.Msg, error) {
	q := new(mdns.Msg).SetQuestion(mdns.Fqdn(name), kind)
	q.RecursionDesired = recurse
	q.SetEdns0(1232, false)
	for _, network := range []string{"udp", "tcp"} {
		c := mdns.Client{Net: network, Timeout: m.timeout}
		a, _, err := c.ExchangeContext(ctx, q, server)
		if err != nil {
			return nil, err
		}
		if !a.Truncated {
			return a, nil
		}
	}
	return nil, errors.New("the answer was cut over TCP as well")
}

// authorities are the servers of a zone: those that are configured, or those
// that its NS records name, each at every address.
func (m *Mover) authorities(ctx context.Context, z Zone) ([]string, error) {
	if len(z.Authorities) > 0 {
		return z.Authorities, nil
	}
	var last error
	for _, resolver := range m.resolvers {
		a, err := m.ask(ctx, resolver, z.Name, mdns.TypeNS, true)
		if err != nil {
			last = err
			continue
		}
		var out []string
		for _, r := range a.Answer {
			if ns, ok := r.(*mdns.NS); ok {
				out = append(out, m.addresses(ctx, resolver, ns.Ns)...)
			}
		}
		if len(out) > 0 {
			return out, nil
		}
	}
	return nil, problem.New(problem.Unavailable, "dns-authorities", fmt.Sprintf("The authoritative servers of %s could not be found out.", z.Name)).
		WithMend("Name them in the configuration, or name a resolver that answers.").Wrap(last)
}

func (m *Mover) addresses(ctx context.Context, resolver, host string) (out []string) {
	for _, kind := range []uint16{mdns.TypeA, mdns.TypeAAAA} {
		a, err := m.ask(ctx, resolver, host, kind, true)
		if err != nil {
			continue
		}
		for _, r := range a.Answer {
			switch r := r.(type) {
			case *mdns.A:
				out = append(out, net.JoinHostPort(r.A.String(), "53"))
			case *mdns.AAAA:
				out = append(out, net.JoinHostPort(r.AAAA.String(), "53"))
			}
		}
	}
	return out
}
