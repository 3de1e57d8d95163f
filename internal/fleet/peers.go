package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/probe"
)

// seldom is how often peers are looked at by other ways than their Foundry's
// door while that answers. Where it does not, they are looked at at once.
const seldom = 10 * time.Second

// Door is a port of a node, at the address that the fleet knows it by.
type Door struct {
	Kind probe.Signal `json:"kind"`
	Port uint16       `json:"port"`
}

// hostOf is the address that the fleet knows a node by.
func hostOf(n member.Node) string {
	for _, a := range []string{n.Addresses.Clients, n.Addresses.Peers, n.Addresses.Join} {
		if host, _, err := net.SplitHostPort(a); err == nil && host != "" {
			return host
		}
	}
	return ""
}

// look is how a door of a node is looked at. Whatever answers there shows that
// the node lives: a certificate that is not trusted here does too.
func (d Door) look(n member.Node) (spec probe.Spec, ok bool) {
	host := hostOf(n)
	if host == "" || d.Port == 0 {
		return spec, false
	}
	at := net.JoinHostPort(host, strconv.Itoa(int(d.Port)))
	switch d.Kind {
	case probe.HTTPS:
		return probe.Spec{Kind: d.Kind, Target: "https://" + at + "/"}, true
	case probe.TCP, probe.SSH, probe.SMTP:
		return probe.Spec{Kind: d.Kind, Target: at}, true
	}
	return spec, false
}

// looks are the ways in which a node is looked at beside its door.
func (s *Service) looks(n member.Node) (out []probe.Spec) {
	if n.Name == s.m.Name() {
		return nil
	}
	var specs []probe.Spec
	if s.o.Look != nil {
		specs = s.o.Look(n)
	}
	for _, d := range s.doors[n.Name] {
		if spec, ok := d.look(n); ok {
			specs = append(specs, spec)
		}
	}
	taken := map[string]bool{}
	for _, spec := range specs {
		spec.Node, spec.Function = n.Name, ""
		spec.Name = "node " + n.Name + " " + string(spec.Kind)
		if taken[spec.Name] {
			spec.Name += " " + spec.Target
		}
		if taken[spec.Name] {
			continue
		}
		taken[spec.Name] = true
		if spec.Every == 0 {
			spec.Every = seldom
		}
		if spec.Timeout == 0 {
			spec.Timeout = 2 * time.Second
		}
		out = append(out, spec)
	}
	return out
}

// ends is where a target is connected to.
func ends(t probe.Target) string {
	host, port := t.Host, t.Port
	if t.URL != nil {
		host = t.URL.Hostname()
		if p, err := strconv.ParseUint(t.URL.Port(), 10, 16); err == nil {
			port = uint16(p)
		} else if port == 0 {
			port = 443
		}
	}
	if host == "" || port == 0 {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// pings are the looks at peers that are under way.
type pings struct {
	mu    sync.Mutex
	busy  map[string]bool
	tried map[probe.Spec]bool
	all   sync.WaitGroup
}

// again reports whether a way was tried before, and notes that it is now.
func (p *pings) again(spec probe.Spec) (before bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before = p.tried[spec]
	p.tried[spec] = true
	return before
}

func (p *pings) wait() { p.all.Wait() }

// start runs f unless the one before it still does.
func (p *pings) start(name string, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy[name] {
		return
	}
	p.busy[name] = true
	p.all.Go(func() {
		defer func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.busy, name)
		}()
		f()
	})
}

// pinging knocks at the door of every other member.
func (s *Service) pinging(ctx context.Context) {
	every(ctx, s.o.Every, nil, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, n := range s.nodes {
			if n.Name != s.m.Name() && n.Addresses.Clients != "" {
				s.pings.start(n.Name, func() { s.ping(ctx, n) })
			}
		}
	})
}

// ping is a whole handshake: the right node holds the key of its certificate.
// Where it fails, the other ways to that node are tried at once.
func (s *Service) ping(ctx context.Context, n member.Node) {
	timeout := min(max(s.o.Every, 500*time.Millisecond), time.Second)
	one, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := s.o.Now()
	d := tls.Dialer{Config: s.m.ClientTLS(n.Name)}
	conn, err := d.DialContext(one, "tcp", n.Addresses.Clients)
	if err == nil {
		_ = conn.Close()
	}
	if ctx.Err() != nil {
		return
	}
	s.Tell(probe.Result{Probe: "node " + n.Name + " peer", Node: n.Name, Signal: probe.Peer, At: began, Took: s.o.Now().Sub(began), OK: err == nil, Code: causeOf(err)})
	s.mu.Lock()
	looks := s.looks(n)
	if err == nil {
		// It is there: the moment to find out by which other ways it is seen.
		looks = slices.DeleteFunc(looks, func(spec probe.Spec) bool { return s.pings.again(spec) })
	}
	s.mu.Unlock()
	for _, spec := range looks {
		s.pings.start(spec.Name, func() { _, _ = s.runner.Look(ctx, spec.Name) })
	}
}

func causeOf(err error) probe.Code {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var alert tls.AlertError
	var timeout net.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &invalid):
		return probe.BadCert
	case errors.As(err, &alert):
		return probe.TLSFailed
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return probe.Timeout
	}
	return probe.Refused
}
