package daemon

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/problem"
)

func ring(t *testing.T, dir string) *keys.Keyring {
	t.Helper()
	k, err := keys.Open(keys.Options{Dir: filepath.Join(dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTheAuthorityLastsAndItsKeyIsSealed(t *testing.T) {
	dir := t.TempDir()
	k := ring(t, dir)
	now := time.Now()
	a, err := openAuthority(dir, k, now)
	if err != nil {
		t.Fatal(err)
	}
	b, err := openAuthority(dir, k, now)
	if err != nil || !bytes.Equal(a.cert.Raw, b.cert.Raw) {
		t.Fatalf("a second start made another authority: %v", err)
	}
	cert, err := b.issue(serverNames("10.0.0.7:8443", []string{"ai.example.org"}), now)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "10.0.0.7", "ai.example.org"} {
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "ca", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if block, _ := pem.Decode(text); block != nil && block.Type == "PRIVATE KEY" || bytes.Contains(text, []byte("PRIVATE")) {
			t.Errorf("%s holds a private key in the clear", f)
		}
	}
	if _, err := openAuthority(dir, ring(t, t.TempDir()), now); problem.From(err).Code != "ca-damaged" {
		t.Errorf("another keyring opened the authority's key: %v", err)
	}
}

func TestCertificatesAreRenewedBeforeTheyEnd(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	a, err := openAuthority(dir, ring(t, dir), now)
	if err != nil {
		t.Fatal(err)
	}
	c := &certificates{issuer: a, names: []string{"localhost"}, now: func() time.Time { return now }, log: slog.New(slog.DiscardHandler)}
	first, err := c.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(leafLife - leafRenewal - time.Minute)
	if same, _ := c.get(nil); same != first {
		t.Error("renewed too early")
	}
	now = now.Add(2 * time.Minute)
	if again, _ := c.get(nil); again == first || !again.Leaf.NotAfter.After(first.Leaf.NotAfter) {
		t.Error("not renewed in time")
	}
}

func TestAnOwnCertificateIsReadAgainWhenItChangesAndABadOneIsNot(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	a, err := openAuthority(dir, ring(t, dir), now)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := filepath.Join(dir, "own.pem"), filepath.Join(dir, "own.key")
	write := func(at time.Time) *tls.Certificate {
		cert, err := a.issue([]string{"own.example.org"}, at)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600),
			os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o644), os.Chtimes(certFile, at, at)); err != nil {
			t.Fatal(err)
		}
		return cert
	}
	c := &certificates{own: [2]string{certFile, keyFile}, now: time.Now, log: slog.New(slog.DiscardHandler)}
	if _, err := c.get(nil); problem.From(err).Code != "tls-certificate" {
		t.Fatalf("a missing certificate: %v", err)
	}
	one := write(now)
	if got, err := c.get(nil); err != nil || !bytes.Equal(got.Certificate[0], one.Certificate[0]) {
		t.Fatalf("%v", err)
	}
	two := write(now.Add(time.Second))
	if got, _ := c.get(nil); !bytes.Equal(got.Certificate[0], two.Certificate[0]) {
		t.Fatal("a renewed certificate was not read")
	}
	if err := errors.Join(os.WriteFile(certFile, []byte("junk"), 0o644), os.Chtimes(certFile, now.Add(time.Minute), now.Add(time.Minute))); err != nil {
		t.Fatal(err)
	}
	if got, err := c.get(nil); err != nil || !bytes.Equal(got.Certificate[0], two.Certificate[0]) {
		t.Fatalf("a bad file took the good certificate away: %v", err)
	}
}

func TestBootNumbersOnlyGrowAndADamagedIdentityIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	a, err := nextBoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := nextBoot(dir)
	if err != nil || b.Number != a.Number || b.Boot != a.Boot+1 || a.Number == 0 {
		t.Fatalf("%+v %+v %v", a, b, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "node.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := nextBoot(dir); problem.From(err).Code != "node-file" {
		t.Fatalf("%v", err)
	}
}

func TestTheSecondToComeLearnsWhoHoldsTheDirectory(t *testing.T) {
	dir := t.TempDir()
	l, err := takeLock(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.describe(holder{PID: 4242, Since: time.Now(), URL: "https://localhost:8443"}); err != nil {
		t.Fatal(err)
	}
	_, err = takeLock(dir, time.Now())
	if p := problem.From(err); p.Code != "data-dir-held" || !strings.Contains(p.Detail, "4242") || !strings.Contains(p.Detail, "https://localhost:8443") {
		t.Fatalf("%v", err)
	}
	l.release()
	again, err := takeLock(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	again.release()
}

func TestOllamaHostIsReadAsOllamaReadsIt(t *testing.T) {
	for in, want := range map[string]string{
		"": "http://127.0.0.1:11434", "0.0.0.0": "http://127.0.0.1:11434", "gpu-1": "http://gpu-1:11434", "gpu-1:8000": "http://gpu-1:8000",
		"https://gpu-1": "https://gpu-1:443", "http://[::1]:9": "http://[::1]:9", "://": "",
	} {
		if got := ollamaURL(in); got != want {
			t.Errorf("OLLAMA_HOST=%q: %q, want %q", in, got, want)
		}
	}
}

func TestARemoteOllamaIsNotTheFleetsOwnUnlessToldSo(t *testing.T) {
	for base, want := range map[string]bool{"": true, "http://127.0.0.1:11434": true, "http://localhost:1": true, "http://gpu.example.org:11434": false} {
		p := gateway.ProviderConfig{Name: "o", Kind: "ollama", BaseURL: base}
		homeFacts(&p, "FI")
		if *p.Own != want {
			t.Errorf("%q: own is %v", base, *p.Own)
		}
		if want && (p.Controller != "FI" || len(p.Processing) != 1) || !want && p.Controller != "" {
			t.Errorf("%q: facts %+v", base, p)
		}
	}
}

func TestRedirectKeepsMethodAndNeverFollowsAStrangeHost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	d := &Daemon{servers: []*server{{name: "https", listener: l}}}
	for _, c := range []struct {
		host, target string
		status       int
		location     string
	}{
		{"localhost:8080", "/v1/models?x=1", 308, "https://localhost:" + port + "/v1/models?x=1"},
		{"[::1]:8080", "/", 308, "https://[::1]:" + port + "/"},
		{"evil.example/@", "/", 400, ""},
		{"a b", "/", 400, ""},
		{"", "/", 400, ""},
	} {
		r := httptest.NewRequest(http.MethodPost, "http://x"+c.target, nil)
		r.Host = c.host
		w := httptest.NewRecorder()
		d.redirect().ServeHTTP(w, r)
		if got := w.Header().Get("Location"); w.Code != c.status || got != c.location {
			t.Errorf("%q: %d %q, want %d %q", c.host, w.Code, got, c.status, c.location)
		}
		if w.Header().Get("Strict-Transport-Security") != "" {
			t.Error("HSTS over plain HTTP means nothing (RFC 6797 section 7.2)")
		}
	}
}

func TestProductionRefusesWhatDevelopmentTolerates(t *testing.T) {
	kek := KeysConfig{KEK: config.Secret{Credential: "foundry-kek"}}
	for name, c := range map[string]struct {
		config Config
		field  string
	}{
		"no country":                {Config{Mode: Production}, "node.country"},
		"no KEK of its own":         {Config{Mode: Production, Node: NodeConfig{Country: "FI"}}, "keys.kek"},
		"no such mode":              {Config{Mode: "prod"}, "mode"},
		"no such country":           {Config{Node: NodeConfig{Country: "UK"}}, "node.country"},
		"half a certificate":        {Config{TLS: TLSConfig{Certificate: "/x"}}, "tls"},
		"the other half":            {Config{TLS: TLSConfig{Key: config.Secret{File: "/x"}}}, "tls"},
		"an open proxy listener":    {Config{Listen: ListenConfig{Proxy: "0.0.0.0:80"}}, "listen.proxy"},
		"a named proxy listener":    {Config{Listen: ListenConfig{Proxy: "example.org:80"}}, "listen.proxy"},
		"a database in the clear":   {Config{Mode: Production, Node: NodeConfig{Country: "FI"}, Keys: kek, Database: DatabaseConfig{DSN: "host=db1.example.org dbname=x sslmode=disable"}}, "database.dsn"},
		"a database without a name": {Config{Mode: Production, Node: NodeConfig{Country: "FI"}, Keys: kek, Database: DatabaseConfig{DSN: "host=db1.example.org dbname=x sslmode=require"}}, "database.dsn"},
		"an unknown role":           {Config{Database: DatabaseConfig{Passwords: map[string]config.Secret{"foundry_ap": {}}}}, "database.passwords.foundry_ap"},
	} {
		if p := problem.From(c.config.Check()); p == nil || p.Field != c.field {
			t.Errorf("%s: %v", name, p)
		}
	}
	for _, dsn := range []string{"host=/run/postgresql dbname=x", "host=127.0.0.1 dbname=x", "host=db1.example.org dbname=x sslmode=verify-full"} {
		if err := (Config{Mode: Production, Node: NodeConfig{Country: "FI"}, Keys: kek, Database: DatabaseConfig{DSN: dsn}}).Check(); err != nil {
			t.Errorf("%s: %v", dsn, err)
		}
	}
	if err := (Config{}).Check(); err != nil {
		t.Errorf("the zero configuration: %v", err)
	}
}
