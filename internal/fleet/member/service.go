package member

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// serviceSuffix ends the names of programs that stand beside a node and are
// none: their certificates are of the fleet's authority, and no door of the
// fleet lets them in.
const serviceSuffix = ".service.fleet.foundry"

// reserved ends every name that a certificate may carry only because of what
// its holder is.
const reserved = ".fleet.foundry"

// doorLife is how long the certificate of a door for programs counts. It lies
// in memory, and another is made when half of it has passed.
const doorLife = 7 * 24 * time.Hour

// Service is who is at the other end of a connection made with
// [Member.ServiceTLS]: a program, and the node that it stands beside.
type Service struct{ Name, Node string }

// Service reads it; false: it is none, or its certificate no longer counts. A
// connection may be older than that: whoever serves one asks again.
func (m *Member) Service(cs *tls.ConnectionState) (Service, bool) {
	if cs == nil || len(cs.VerifiedChains) == 0 || m.tls.unrevoked(*cs) != nil || m.clock().After(cs.PeerCertificates[0].NotAfter) {
		return Service{}, false
	}
	return serviceOf(cs.PeerCertificates[0])
}

func serviceOf(c *x509.Certificate) (Service, bool) {
	node, name, ok := strings.Cut(c.Subject.CommonName, ".") // no node has a dot in its name
	if !ok || slices.Contains(c.DNSNames, nodeName) || !slices.Contains(c.DNSNames, node+"."+name+serviceSuffix) {
		return Service{}, false
	}
	return Service{name, node}, true
}

// issueService makes the certificate of a program. hosts are the names and
// addresses under which it answers.
func (a *authority) issueService(s Service, public crypto.PublicKey, hosts []string, now time.Time, life time.Duration) (*x509.Certificate, error) {
	if a.key == nil {
		return nil, cannotSign()
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: s.Node + "." + s.Name}, DNSNames: []string{s.Node + "." + s.Name + serviceSuffix},
		NotBefore: now.Add(-clockError), NotAfter: now.Add(life), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range hosts {
		switch ip := net.ParseIP(h); {
		case ip != nil && !ip.IsUnspecified():
			t.IPAddresses = append(t.IPAddresses, ip)
		case ip != nil || !hostName(h) || strings.HasSuffix(strings.ToLower(h)+".", reserved+"."):
			return nil, problem.New(problem.Invalid, "service-host", fmt.Sprintf("%q is no name or address under which a program of this node can answer.", h)).WithField("hosts").
				WithMend("Give the host names and addresses by which the other nodes reach this one.")
		default:
			t.DNSNames = append(t.DNSNames, strings.ToLower(h))
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %s: %w", t.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// hostName says whether a certificate can name a host so (RFC 1123).
func hostName(h string) bool {
	if h == "" || len(h) > 253 {
		return false
	}
	for l := range strings.SplitSeq(h, ".") {
		ok := l != "" && len(l) <= 63 && l[0] != '-' && l[len(l)-1] != '-'
		for _, c := range l {
			ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-')
		}
		if !ok {
			return false
		}
	}
	return true
}

// Issue makes the certificate of a program that stands beside a node, for a key
// that the caller keeps. It is taken out of use with the node's own. by is who
// asks, as kind and id.
func (m *Member) Issue(ctx context.Context, by string, s Service, public crypto.PublicKey, hosts []string) (cert, authority []byte, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if k, ok := public.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return nil, nil, problem.New(problem.Invalid, "node-key", "The key is not an ECDSA key on P-256.").WithField("key")
	}
	if CheckName(s.Name) != nil {
		return nil, nil, problem.New(problem.Invalid, "service-name", fmt.Sprintf("%q is no name of a program.", s.Name)).WithField("service")
	}
	if _, err := m.Node(ctx, s.Node); err != nil {
		return nil, nil, err
	}
	c, err := m.tls.authority.issueService(s, public, hosts, m.clock(), m.tls.authority.lasts())
	if err != nil {
		return nil, nil, err
	}
	var n Node
	_, err = m.store.Update(ctx, "nodes/"+s.Node, &n, func() error {
		if n.Name == "" {
			return noNode(s.Node)
		}
		n.Issued = append(n.Issued, issuedAs(c))
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	m.act(ctx, Act{By: by, Act: "node.certify", Target: s.Node, Details: map[string]string{"service": s.Name, "hosts": strings.Join(hosts, " "), "serial": c.SerialNumber.Text(16), "until": c.NotAfter.UTC().Format(time.RFC3339)}})
	return certPEM(c), m.tls.authority.pem, nil
}

// Note enters something into the fleet's list that was done beside it, so that
// it comes into the audit log from any node, and without the database.
func (m *Member) Note(ctx context.Context, a Act) { m.act(ctx, a) }

// CanIssue says whether this node holds the key of the fleet's authority.
func (m *Member) CanIssue() bool { return m.tls.authority.key != nil }

// ServiceTLS is for a listener that answers programs of one kind, beside nodes
// of the fleet, and nobody else: TLS 1.3, with a certificate on both sides. It
// shows a certificate for hosts, for programs that know their servers by
// address only.
func (m *Member) ServiceTLS(service string, hosts []string) (*tls.Config, error) {
	d := &serviceDoor{m: m, hosts: hosts, as: Service{service + "-door", m.o.Name}}
	if _, err := d.certificate(nil); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: m.tls.authority.pool(), GetCertificate: d.certificate,
		SessionTicketsDisabled: true, // each connection shows that its certificate counts still
		VerifyConnection: func(cs tls.ConnectionState) error {
			if s, ok := serviceOf(cs.PeerCertificates[0]); !ok || s.Name != service {
				return errNoService
			}
			return m.tls.unrevoked(cs)
		},
	}, nil
}

var errNoService = problem.New(problem.Denied, "service-only", "This door is for another program.").WithMend("Nodes of the fleet use the doors under fleet.listen.")

// ServiceClientTLS is for reaching a program beside a node: as this node.
func (m *Member) ServiceClientTLS(s Service) *tls.Config {
	c := m.tls.dial(s.Node + "." + s.Name + serviceSuffix)
	c.VerifyConnection = m.tls.unrevoked
	return c
}

// serviceDoor keeps the certificate of a door.
type serviceDoor struct {
	m     *Member
	hosts []string
	as    Service

	mu   sync.Mutex
	pair *tls.Certificate
}

func (d *serviceDoor) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.m.clock()
	if d.pair != nil && now.Before(d.pair.Leaf.NotAfter.Add(-doorLife/2)) {
		return d.pair, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c, err := d.m.tls.authority.issueService(d.as, key.Public(), d.hosts, now, doorLife)
	if err != nil {
		return nil, err
	}
	d.pair = &tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
	return d.pair, nil
}
