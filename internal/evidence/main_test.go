package evidence

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// unsealed stands in for the keyring where sealing is not what is tested.
func unsealed(b, _ []byte) ([]byte, error) { return b, nil }

func signer(t testing.TB) *Signer {
	t.Helper()
	s, err := OpenSigner(t.TempDir(), unsealed, unsealed)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// clock is set by the test.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

// check is a control with a collector.
func check(id string, collect Collect) Control {
	return Control{ID: id, Title: "a promise", Source: "a clause", Checks: "something", Collector: "test", Version: "1",
		Every: time.Hour, Fresh: 3 * time.Hour, Timeout: 2 * time.Second, Collect: collect}
}

func runner(t testing.TB, d *db.DB, node uint32, clock func() time.Time, controls ...Control) *Runner {
	t.Helper()
	r, err := NewRunner(Options{DB: d, Controls: controls, Signer: signer(t), Node: node, Mode: "development", Log: dbtest.Log(t), Clock: clock,
		Look: 10 * time.Millisecond, Jitter: func(d time.Duration) time.Duration { return d }})
	if err != nil {
		t.Fatal(err)
	}
	if err := register(t.Context(), d, r.Signer, node); err != nil {
		t.Fatal(err)
	}
	return r
}

// saying is a collector that always says the same.
func saying(f ...Finding) Collect {
	return func(context.Context, func(string)) ([]Finding, error) { return f, nil }
}

func good() Finding {
	return Finding{Subject: "it", Result: Pass, Reason: "It is well.", Covered: []string{"all of it"}, Raw: []byte("raw")}
}

// listening starts a TLS server with a setting; it answers every request with
// 200 and a ticket.
func listening(t testing.TB, change func(*tls.Config)) Listener {
	t.Helper()
	return listeningWith(t, change, false, time.Now().Add(90*24*time.Hour))
}

func listeningWith(t testing.TB, change func(*tls.Config), useRSA bool, until time.Time) Listener {
	t.Helper()
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageKeyEncipherment}
	var key any
	var public any
	if useRSA {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		key, public = k, &k.PublicKey
	} else {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, public = k, &k.PublicKey
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	if change != nil {
		change(config)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(dialTimeout))
				if _, err := c.Read(make([]byte, 1024)); err == nil {
					_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
				}
			}()
		}
	}()
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return Listener{Name: "https", Address: l.Addr().String(), Server: "localhost", Roots: pool}
}

// nobody is an address where nothing listens.
func nobody(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// look runs a collector and returns the worst result, and what it said.
func look(t testing.TB, c Collect) (Result, []Finding) {
	t.Helper()
	found, err := c(t.Context(), func(string) {})
	if err != nil {
		return Inconclusive, []Finding{unclear("error", err.Error())}
	}
	if len(found) == 0 {
		return Inconclusive, nil
	}
	return worstResult(found), found
}
