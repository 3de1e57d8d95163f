package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/gateway/upstream"
	"github.com/missionopsai/foundry/internal/inference/inferencetest"
)

// authorityIn reads the authority that inferencetest wrote into a directory.
func authorityIn(t testing.TB, dir string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "authority.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("no certificate")
	}
	return pool
}

func certificateIn(t testing.TB, dir, name string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// The library's own check is off where the fleet's certificates are shown:
// what stands in its place must refuse all that it would refuse.
func TestANodeOfTheFleetIsReachedAndNobodyInItsPlace(t *testing.T) {
	t.Parallel()
	ours, theirs := t.TempDir(), t.TempDir()
	inferencetest.Certificates(t, ours, "gateway", "node")
	inferencetest.Certificates(t, theirs, "node")
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"status":"ok"}`)) })
	serve := func(dir string) string {
		s := httptest.NewUnstartedServer(answer)
		s.TLS = &tls.Config{Certificates: []tls.Certificate{certificateIn(t, dir, "node")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorityIn(t, ours)}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.URL
	}
	right, wrong := serve(ours), serve(theirs)
	fleet := func(serverName string, verify func(tls.ConnectionState) error) func(string) *tls.Config {
		return func(node string) *tls.Config {
			if node != "node" {
				return nil
			}
			gateway := certificateIn(t, ours, "gateway")
			return &tls.Config{RootCAs: authorityIn(t, ours), ServerName: serverName, VerifyConnection: verify,
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &gateway, nil }}
		}
	}
	removed := func(tls.ConnectionState) error { return errors.New("it was removed") }
	for _, test := range []struct {
		name, url, node string
		fleet           func(string) *tls.Config
		ok              bool
	}{
		{"the node", right, "node", fleet("127.0.0.1", nil), true},
		{"a certificate of another authority", wrong, "node", fleet("127.0.0.1", nil), false},
		{"another node of the fleet", right, "node", fleet("other.node.fleet.foundry", nil), false},
		{"a node that was removed", right, "node", fleet("127.0.0.1", removed), false},
		{"before this node is in a fleet", right, "elsewhere", fleet("127.0.0.1", nil), false},
		{"without a fleet", right, "node", nil, false},
		{"a fleet that names nobody", right, "node", fleet("", nil), false},
	} {
		own := true
		p, err := newProvider(ProviderConfig{Name: "home", Kind: "ollama", BaseURL: test.url, Node: test.node, Own: &own, Controller: "FI", Processing: []string{"FI"}}, mustExchange(t), nil, test.fleet, time.Now)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		_, err = p.list(t.Context())
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
		if !test.ok && !errors.Is(err, upstream.ErrConnect) {
			t.Errorf("%s: something was sent before it was refused: %v", test.name, err)
		}
	}
}

func mustExchange(t testing.TB) *exchange {
	t.Helper()
	e, err := newExchange("", nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestALostInferenceNodeIsOutOfUseUntilItSaysThatItIsBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	inferencetest.Certificates(t, dir, "gateway", "node")
	var status atomic.Value
	status.Store("ok")
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"status":%q,"words":"So it is.","models":[{"name":"m"}]}`, status.Load())
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificateIn(t, dir, "node")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorityIn(t, dir)}
	s.StartTLS()
	defer s.Close()
	own := true
	p, err := newProvider(ProviderConfig{Name: "home", Kind: "ollama", BaseURL: s.URL, Own: &own, Controller: "FI", Processing: []string{"FI"},
		ClientCert: filepath.Join(dir, "gateway.pem"), ClientKey: config.Secret{File: filepath.Join(dir, "gateway.key")}, CA: filepath.Join(dir, "authority.pem")}, mustExchange(t), nil, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	look := func() {
		_, err := p.list(t.Context())
		p.judgeFront(err)
	}
	expect := func(when string, want upstream.State) {
		t.Helper()
		if got := p.Circuit(); got != want {
			t.Errorf("%s the circuit is %s, want %s", when, got, want)
		}
	}
	look()
	expect("while it is well", upstream.Closed)
	p.unreachable()
	expect("after a connection that could not be made", upstream.Open)
	if after := p.breaker.RetryAfter(); after < frontHeld/2 {
		t.Errorf("a client's request would try it again after %s", after)
	}
	look()
	expect("once it answers", upstream.Closed)
	status.Store("ollama-away")
	look()
	expect("while its Ollama is away", upstream.Open)
	if h := p.Front(); h == nil || h.Ready() {
		t.Errorf("what it said: %+v", h)
	}
	status.Store("ok")
	look()
	expect("once its Ollama is back", upstream.Closed)
	slow := &upstream.Error{Kind: upstream.ErrTimeoutFirstByte}
	p.judgeFront(slow)
	expect("after one answer that took too long", upstream.Closed)
	p.judgeFront(context.DeadlineExceeded)
	expect("after two in a row", upstream.Open)
	look()
	expect("in the end", upstream.Closed)
}
