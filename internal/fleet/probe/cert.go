package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// asked is what a TLS server is held to.
type asked struct {
	name  string   // of the certificate; sent to the server where it is no address
	also  string   // another name that is good as well; may be empty
	names []string // further names, all of which it must hold
	min   uint16
	days  int
	alpn  []string
	extra *tls.Config // client certificate and roots of an endpoint; may be nil
}

func (l *look) asks(p place) asked {
	a := asked{name: p.host, also: p.also, names: l.t.list("names"), days: l.t.number("days"), min: tls.VersionTLS12}
	if n := l.t.word("name", ""); n != "" {
		a.name, a.also = n, ""
	}
	if l.t.word("min", l.t.word("tls", "")) == "1.3" {
		a.min = tls.VersionTLS13
	}
	return a
}

// errCertificate ends a handshake after the certificate was judged.
var errCertificate = errors.New("the certificate is not good")

// secure shakes hands, judges the certificate itself (so that a bad one is
// told in words) and notes what it saw.
func (l *look) secure(ctx context.Context, conn net.Conn, a asked) (*tls.Conn, error) {
	var judged error
	c := &tls.Config{}
	if a.extra != nil {
		c = a.extra.Clone()
	}
	roots := c.RootCAs
	if roots == nil {
		roots = l.env.Roots
	}
	c.ServerName, c.MinVersion, c.MaxVersion, c.NextProtos = a.name, a.min, 0, a.alpn
	c.SessionTicketsDisabled, c.ClientSessionCache = true, nil
	// The certificate is judged below, by the same rules and in more words.
	c.InsecureSkipVerify, c.VerifyPeerCertificate = true, nil
	c.VerifyConnection = func(s tls.ConnectionState) error {
		l.fact("tls", tls.VersionName(s.Version))
		l.fact("cipher", tls.CipherSuiteName(s.CipherSuite))
		if s.CurveID != 0 {
			l.fact("group", s.CurveID.String())
		}
		if judged = l.judge(s.PeerCertificates, roots, a); judged != nil {
			return errCertificate
		}
		return nil
	}
	t := tls.Client(conn, c)
	err := t.HandshakeContext(ctx)
	if err == nil {
		return t, nil
	}
	if judged != nil {
		return nil, judged
	}
	code, why := classify(err)
	var alert *net.OpError // crypto/tls keeps the type of an alert to itself
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &record):
		return nil, failed(Protocol, "%s does not speak TLS.", l.t.place())
	case strings.Contains(err.Error(), "protocol version not supported"), strings.Contains(err.Error(), "unsupported protocol version"):
		return nil, failed(TLSVersion, "%s does not offer %s or newer.", l.t.place(), tls.VersionName(a.min))
	case errors.As(err, &alert) && alert.Op == "remote error":
		return nil, failed(TLSFailed, "%s broke the TLS handshake off: %s.", l.t.place(), clean(strings.TrimPrefix(alert.Err.Error(), "tls: "), 80))
	case code == Protocol:
		return nil, failed(TLSFailed, "The TLS handshake with %s failed.", l.t.place())
	}
	return nil, failed(code, "The TLS handshake with %s failed: %s.", l.t.place(), why)
}

// judge checks a chain as browsers do (RFC 5280, RFC 6125), then what the
// target asks for beyond.
func (l *look) judge(chain []*x509.Certificate, roots *x509.CertPool, a asked) error {
	if len(chain) == 0 {
		return failed(BadCert, "%s shows no certificate.", l.t.place())
	}
	leaf, now := chain[0], l.env.now()
	left := leaf.NotAfter.Sub(now)
	l.fact("certificate_until", leaf.NotAfter.UTC().Format(time.RFC3339))
	l.fact("certificate_days", strconv.Itoa(int(left/(24*time.Hour))))
	l.fact("certificate_issuer", leaf.Issuer.CommonName)
	l.fact("certificate_names", strings.Join(certNames(leaf), ", "))
	switch {
	case left < 0:
		return failed(BadCert, "The certificate of %s expired at %s.", l.t.place(), leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return failed(BadCert, "The certificate of %s is valid only from %s.", l.t.place(), leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:min(len(chain), 10)] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now}); err != nil {
		var unknown x509.UnknownAuthorityError
		var invalid x509.CertificateInvalidError
		switch {
		case errors.As(err, &unknown) && len(chain) == 1:
			return failed(BadCert, "The certificate of %s is not signed by an authority that is trusted here, and no intermediate certificate comes with it.", l.t.place())
		case errors.As(err, &unknown):
			return failed(BadCert, "The certificate of %s is not signed by an authority that is trusted here.", l.t.place())
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
			return failed(BadCert, "A certificate in the chain of %s is expired.", l.t.place())
		}
		return failed(BadCert, "The certificate chain of %s does not hold.", l.t.place())
	}
	if err := leaf.VerifyHostname(a.name); err != nil && (a.also == "" || leaf.VerifyHostname(a.also) != nil) {
		return failed(BadCert, "The certificate of %s is for %s, not for %s.", l.t.place(), clean(strings.Join(certNames(leaf), ", "), 120), a.name)
	}
	for _, name := range a.names {
		if leaf.VerifyHostname(name) != nil && !slices.Contains(leaf.DNSNames, name) {
			return failed(BadCert, "The certificate of %s is not for %s.", l.t.place(), name)
		}
	}
	if need := time.Duration(a.days) * 24 * time.Hour; left < need {
		return failed(BadCert, "The certificate of %s expires in %d days; %d are wanted.", l.t.place(), int(left/(24*time.Hour)), a.days)
	}
	return nil
}

func certNames(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames[:min(len(c.DNSNames), 8)])
	for _, ip := range c.IPAddresses[:min(len(c.IPAddresses), 4)] {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		names = append(names, "nobody")
	}
	return names
}
