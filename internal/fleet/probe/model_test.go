package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/simulator"
)

func TestAModelMustAnswerWithText(t *testing.T) {
	sim := simulator.New(simulator.Options{Format: simulator.OpenAICompatible, APIKey: "sk-hunter2"})
	port := serveWeb(t, "127.0.0.1:0", nil, sim.ServeHTTP)
	base := "http://localhost:" + port + "/v1"
	key := func(k string) Env {
		return Env{Login: func(context.Context, Spec) (Login, bool, error) { return Login{Password: k}, k != "", nil }}
	}
	for _, c := range []struct {
		target string
		e      Env
		code   Code
	}{
		{base, key("sk-hunter2"), ""},
		{base + " model=" + simulator.DefaultModels(simulator.OpenAICompatible)[0], key("sk-hunter2"), ""},
		{base + " model=not-there", key("sk-hunter2"), BadStatus},
		{base, key("sk-wrong"), Credentials},
		{base, key(""), Credentials},
		{"http://localhost:" + closedPort(t) + "/v1", Env{}, Refused},
	} {
		if r := expect(t, Model, c.target, c.e, c.code); strings.Contains(fmt.Sprint(r), "hunter2") {
			t.Errorf("a result shows a key: %+v", r)
		}
	}
	t.Run("a node of the plan is asked where the environment says", func(t *testing.T) {
		e := Env{Model: func(_ context.Context, node string) (Endpoint, error) {
			if node != "node-5" {
				return Endpoint{}, errors.New("not here")
			}
			return Endpoint{URL: base, Key: "sk-hunter2"}, nil
		}}
		expect(t, Model, "node-5", e, "")
		for _, target := range []string{"node-6", "node-5"} {
			if target == "node-5" {
				e = Env{}
			}
			if r := Run(t.Context(), Spec{Name: "p", Kind: Model, Target: target}, e); !r.Inconclusive || r.Code != NotAvailable {
				t.Fatalf("%+v", r)
			}
		}
	})
}

func TestAModelThatSaysNothingDoesNotWork(t *testing.T) {
	say := func(body string, status int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		t.Cleanup(s.Close)
		return s.URL + "/v1 model=m"
	}
	for _, c := range []struct {
		name, body string
		status     int
		code       Code
	}{
		{"text", `{"choices":[{"message":{"content":"Yes"}}]}`, 200, ""},
		{"a thought", `{"choices":[{"message":{"content":"","reasoning":"Hm"}}]}`, 200, ""},
		{"no text", `{"choices":[{"message":{"content":"  "}}]}`, 200, NoText},
		{"no choice", `{"choices":[]}`, 200, NoText},
		{"no JSON", `<html>`, 200, NoText},
		{"busy", `{}`, 429, Busy},
		{"overloaded", `{}`, 503, Busy},
		{"broken", `{}`, 500, BadStatus},
		{"too long", strings.Repeat(" ", maxBody+1), 200, TooMuch},
		{"elsewhere", ``, 302, BadStatus},
	} {
		if r := expect(t, Model, say(c.body, c.status), Env{}, c.code); c.name == "text" && strings.Contains(fmt.Sprint(r), "Yes") {
			t.Errorf("a result shows what the model said: %+v", r)
		}
	}
	expectWithin(t, Model, "http://localhost:"+silentPort(t)+"/v1 model=m", Env{}, 300*time.Millisecond, Timeout)
}

func TestAModelBehindMutualTLSIsAskedWithTheNodesCertificate(t *testing.T) {
	a := newAuthority(t)
	server, client := a.issue(nil, "node-5"), a.issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "node-1")
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"choices":[{"message":{"content":"Yes"}}]}`)
	}))
	s.Config.ErrorLog = quiet
	s.TLS = &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.roots(), MinVersion: tls.VersionTLS13}
	s.StartTLS()
	t.Cleanup(s.Close)
	endpoint := Endpoint{URL: s.URL + "/v1", Model: "m", TLS: &tls.Config{RootCAs: a.roots(), ServerName: "node-5", Certificates: []tls.Certificate{client}}}
	e := Env{Model: func(context.Context, string) (Endpoint, error) { return endpoint, nil }}
	expect(t, Model, "node-5", e, "")
	endpoint.TLS.Certificates = nil
	if r := Run(t.Context(), Spec{Name: "p", Kind: Model, Target: "node-5", Timeout: generous}, e); r.OK {
		t.Fatalf("%+v", r)
	}
	endpoint.TLS = &tls.Config{RootCAs: newAuthority(t).roots(), ServerName: "node-5", Certificates: []tls.Certificate{client}}
	expect(t, Model, "node-5", e, BadCert)
}

func FuzzModelAnswer(f *testing.F) {
	f.Add([]byte(`{"choices":[{"message":{"content":"Yes"}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) { saysText(b) })
}
