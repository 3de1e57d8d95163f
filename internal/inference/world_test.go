package inference

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/simulator"
)

// patience is how long anything may take that ought to happen soon.
const patience = 60 * time.Second

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert = a.sign(t, tpl, tpl, key).Leaf
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(t testing.TB, tpl, parent *x509.Certificate, key *ecdsa.PrivateKey) *tls.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// issue makes a certificate for a name, usable at both ends.
func (a *authority) issue(t testing.TB, name string, change func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<60))
	tpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name, "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if change != nil {
		change(tpl)
	}
	return a.sign(t, tpl, a.cert, key)
}

// world is a front with a simulated Ollama behind it.
type world struct {
	*Front
	authority *authority
	ollama    *simulator.Simulator
	server    *http.Server
	log       *lockedBuffer
	url       string
}

// newWorld starts one. change may be nil.
func newWorld(t testing.TB, change func(*Options)) *world {
	t.Helper()
	w := &world{authority: newAuthority(t), log: &lockedBuffer{}, ollama: simulator.New(simulator.Options{Format: simulator.Ollama, Commands: true})}
	behind, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.server = simulator.Serve(behind, w.ollama)
	t.Cleanup(func() { _ = w.ollama.Close(); _ = w.server.Close() })
	own := w.authority.issue(t, "inference-1", nil)
	o := Options{Config: Config{Listen: "127.0.0.1:0", Ollama: "http://" + behind.Addr().String()}, Version: "test",
		TLS: TLS{Certificate: func() (*tls.Certificate, error) { return own, nil }, Authority: func() *x509.CertPool { return w.authority.pool }},
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&o)
	}
	if w.Front, err = Start(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := w.Stop(ctx); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	w.url = "https://" + w.Address()
	return w
}

// client is a gateway with a certificate; nil: with none.
func (w *world) client(t testing.TB, cert *tls.Certificate) *http.Client {
	t.Helper()
	c := &tls.Config{RootCAs: w.authority.pool}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	tr := &http.Transport{TLSClientConfig: c, MaxIdleConnsPerHost: 100}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 2 * patience}
}

func (w *world) gateway(t testing.TB) *http.Client {
	return w.client(t, w.authority.issue(t, "gateway-1", nil))
}

func chat(text string, stream bool) string {
	return fmt.Sprintf(`{"model":"simulator-chat","stream":%t,"messages":[{"role":"user","content":%q}]}`, stream, text)
}

func post(t testing.TB, c *http.Client, url, body string) *http.Response {
	t.Helper()
	resp, err := c.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// eventually waits for a condition that nothing signals.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waiting for " + what)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tree writes files below a directory that stands in for /.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		full := root + "/" + path
		if err := os.MkdirAll(full[:strings.LastIndexByte(full, '/')], 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func newWorldTLS(t testing.TB) TLS {
	a := newAuthority(t)
	own := a.issue(t, "inference-1", nil)
	return TLS{Certificate: func() (*tls.Certificate, error) { return own, nil }, Authority: func() *x509.CertPool { return a.pool }}
}
