package probe

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// generous is a timeout that a machine under any load keeps, for looks that
// are to succeed.
const generous = time.Minute

var quiet = log.New(io.Discard, "", 0)

// authority signs certificates for a test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), KeyUsage: x509.KeyUsageCertSign}
	a.key = a.newKey()
	a.cert = a.sign(template, template, &a.key.PublicKey, a.key)
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template, parent *x509.Certificate, public any, key *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

func (a *authority) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// rootsFile is the authority's certificate in a file.
func (a *authority) rootsFile() string {
	path := filepath.Join(a.t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// issue makes a certificate for names and addresses, changed as is wanted.
func (a *authority) issue(change func(*x509.Certificate), names ...string) tls.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: time.Now().Add(-24 * time.Hour),
		NotAfter: time.Now().Add(90*24*time.Hour + time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	if change != nil {
		change(template)
	}
	key := a.newKey()
	leaf := a.sign(template, a.cert, &key.PublicKey, a.key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// serveWeb runs a real web server on an address for the length of a test; with
// a certificate over TLS.
func serveWeb(t testing.TB, address string, cert *tls.Certificate, handler http.HandlerFunc) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handler, ReadHeaderTimeout: time.Hour, ErrorLog: quiet}
	var done sync.WaitGroup
	done.Go(func() {
		if cert != nil {
			s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
			_ = s.ServeTLS(l, "", "")
			return
		}
		_ = s.Serve(l)
	})
	t.Cleanup(func() { _ = s.Close(); done.Wait() })
	return portOf(l.Addr())
}

func portOf(a net.Addr) string {
	_, port, _ := net.SplitHostPort(a.String())
	return port
}

// serveTCP gives each connection to a function, and closes it afterwards.
func serveTCP(t testing.TB, handle func(net.Conn)) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			done.Go(func() { handle(conn); conn.Close() })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		done.Wait()
	})
	return portOf(l.Addr())
}

// closedPort is a port of this machine that nobody listens on: it is held by a
// connection's own end, so that nobody else gets it, either.
func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
	conn, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return portOf(conn.LocalAddr())
}

// silentPort takes connections and says nothing.
func silentPort(t testing.TB) string {
	return serveTCP(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
}

func hasIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// expect looks once, and holds the result against a code ("" for good).
func expect(t testing.TB, kind Signal, target string, e Env, code Code) Result {
	t.Helper()
	return expectWithin(t, kind, target, e, generous, code)
}

func expectWithin(t testing.TB, kind Signal, target string, e Env, timeout time.Duration, code Code) Result {
	t.Helper()
	r := Run(t.Context(), Spec{Name: "p", Function: "f", Kind: kind, Target: target, Timeout: timeout}, e)
	if r.Code != code || r.OK != (code == "") {
		t.Fatalf("%s %s: got %q (ok %v, inconclusive %v): %s %v, want %q", kind, target, r.Code, r.OK, r.Inconclusive, r.Words, r.Facts, code)
	}
	if r.Words == "" || r.At.IsZero() || r.Signal != kind || r.Probe != "p" || r.Function != "f" {
		t.Fatalf("the result lacks something: %+v", r)
	}
	return r
}
