package probe

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestAPageIsJudgedByStatusContentAndWhereItLeads(t *testing.T) {
	a := newAuthority(t)
	cert := a.issue(nil, "localhost", "127.0.0.1", "www.example.org")
	elsewhere := serveWeb(t, "127.0.0.1:0", &cert, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "elsewhere") })
	port := serveWeb(t, "127.0.0.1:0", &cert, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			fmt.Fprint(w, "all is well")
		case "/broken":
			http.Error(w, "the database is away", http.StatusInternalServerError)
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
		case "/large":
			fmt.Fprint(w, strings.Repeat("x", maxBody), "needle")
		case "/chunks":
			for range 10 {
				fmt.Fprint(w, "part ")
				w.(http.Flusher).Flush()
			}
		case "/to-ok":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/circle":
			http.Redirect(w, r, "/circle", http.StatusFound)
		case "/deeper":
			http.Redirect(w, r, r.URL.Path+"?n="+r.URL.Query().Get("n")+"x", http.StatusFound)
		case "/away":
			http.Redirect(w, r, "https://127.0.0.1:"+elsewhere+"/", http.StatusFound)
		case "/other-port":
			http.Redirect(w, r, "https://localhost:"+elsewhere+"/", http.StatusFound)
		case "/down":
			http.Redirect(w, r, "http://localhost/", http.StatusFound)
		case "/script":
			w.Header().Set("Location", "javascript:alert(1)")
			w.WriteHeader(http.StatusFound)
		case "/nowhere":
			w.WriteHeader(http.StatusFound)
		case "/host":
			fmt.Fprint(w, r.Host, " ", r.UserAgent())
		}
	})
	e := Env{Roots: a.roots()}
	base := "https://localhost:" + port
	for _, c := range []struct {
		target string
		code   Code
		says   string
	}{
		{"/ok", "", "answers 200 over TLS 1.3; its certificate holds for 90 days"},
		{"/ok status=200,204 contains=well lacks=away days=14 tls=1.3", "", ""},
		{"/ok contains=ill", BadContent, "not in the page"},
		{"/ok lacks=well", BadContent, "must not be in it"},
		{"/ok status=204", BadStatus, "200 ok"},
		{"/broken", BadStatus, "500 internal server error"},
		{"/broken status=5xx contains=database", "", ""},
		{"/empty", "", "204"},
		{"/large", "", ""},
		{"/large contains=needle", BadContent, "first 256 KiB"},
		{"/chunks contains=part", "", ""},
		{"/to-ok contains=well", "", ""},
		{"/to-ok follow=none", BadStatus, "302"},
		{"/to-ok status=302", "", "302"},
		{"/circle", BadRedirect, "circle"},
		{"/deeper", BadRedirect, "more than 5"},
		{"/away", BadRedirect, "other hosts are not followed"},
		{"/away follow=elsewhere.example.org", BadRedirect, "not one of those"},
		{"/away follow=127.0.0.1 contains=elsewhere", "", ""},
		{"/other-port", BadRedirect, "other hosts are not followed"},
		{"/down", BadRedirect, "https to http"},
		{"/script", BadRedirect, "no page"},
		{"/nowhere", BadRedirect, "no address"},
		{"/ok days=91", BadCert, "expires in 90 days; 91 are wanted"},
		{"/ok names=www.example.org", "", ""},
		{"/ok names=www.example.org,mail.example.org", BadCert, "not for mail.example.org"},
	} {
		t.Run(c.target, func(t *testing.T) {
			r := expect(t, HTTPS, base+c.target, e, c.code)
			if !strings.Contains(r.Words, c.says) {
				t.Fatalf("says %q, not %q", r.Words, c.says)
			}
		})
	}
	t.Run("a name is asked for at another address before it moves there", func(t *testing.T) {
		r := expect(t, HTTPS, "https://www.example.org/host contains=www.example.org at=127.0.0.1:"+port, e, "")
		if r.Facts["address"] != "127.0.0.1:"+port {
			t.Fatal(r.Facts)
		}
	})
	t.Run("a node of the plan is asked where the environment says, and may be named as either in its certificate", func(t *testing.T) {
		e := e
		e.Address = func(node string) (string, bool) { return "127.0.0.1", node == "node-7" }
		expect(t, HTTPS, "https://node-7:"+port+"/ok", e, "")
	})
	t.Run("every address of a name is asked", func(t *testing.T) {
		expect(t, HTTPS, base+"/ok each=yes ip=4", e, "")
	})
	t.Run("facts say what was seen and hold nothing of the page", func(t *testing.T) {
		r := expect(t, HTTPS, base+"/ok?token=hunter2", e, "")
		for _, f := range []string{"status", "address", "tls", "cipher", "group", "certificate_until", "certificate_days", "certificate_issuer", "certificate_names"} {
			if r.Facts[f] == "" {
				t.Errorf("no fact %s", f)
			}
		}
		if all := fmt.Sprintf("%+v", r); strings.Contains(all, "hunter2") || strings.Contains(all, "all is well") {
			t.Fatalf("a result shows what it should not: %s", all)
		}
	})
}

func TestACertificateThatDoesNotHoldIsToldInWords(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	e := Env{Roots: a.roots()}
	ok := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }
	for _, c := range []struct {
		name string
		by   *authority
		make func(*x509.Certificate)
		host []string
		says string
	}{
		{"expired", a, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, []string{"localhost"}, "expired at"},
		{"not yet valid", a, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, []string{"localhost"}, "valid only from"},
		{"of another authority", stranger, nil, []string{"localhost"}, "not signed by an authority that is trusted here"},
		{"for another name", a, nil, []string{"other.example.org"}, "is for other.example.org, not for localhost"},
		{"for nobody", a, nil, nil, "is for nobody"},
		{"for clients only", a, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, []string{"localhost"}, "does not hold"},
		{"with the name of a bell", a, func(c *x509.Certificate) { c.Subject.CommonName = "x\x07y\n" }, []string{"localhost"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cert := c.by.issue(c.make, c.host...)
			port := serveWeb(t, "127.0.0.1:0", &cert, ok)
			code := BadCert
			if c.says == "" {
				code = ""
			}
			if r := expect(t, HTTPS, "https://localhost:"+port, e, code); !strings.Contains(r.Words, c.says) {
				t.Fatalf("says %q, not %q", r.Words, c.says)
			}
		})
	}
	t.Run("by the clock that is given", func(t *testing.T) {
		cert := a.issue(nil, "localhost")
		port := serveWeb(t, "127.0.0.1:0", &cert, ok)
		later := e
		later.Now = func() time.Time { return time.Now().Add(91 * 24 * time.Hour) }
		expect(t, HTTPS, "https://localhost:"+port, later, BadCert)
	})
}

func TestPlainHTTPMustLeadToHTTPSForGood(t *testing.T) {
	port := serveWeb(t, "127.0.0.1:0", nil, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/301":
			http.Redirect(w, r, "https://"+r.Host+"/", http.StatusMovedPermanently)
		case "/308":
			http.Redirect(w, r, "https://localhost/", http.StatusPermanentRedirect)
		case "/302":
			http.Redirect(w, r, "https://localhost/", http.StatusFound)
		case "/http":
			http.Redirect(w, r, "http://localhost/", http.StatusMovedPermanently)
		case "/away":
			http.Redirect(w, r, "https://evil.example/", http.StatusMovedPermanently)
		default:
			fmt.Fprint(w, "in the clear")
		}
	})
	for path, code := range map[string]Code{"/301": "", "/308": "", "/302": BadRedirect, "/http": BadRedirect, "/away": BadRedirect, "/": BadRedirect,
		"/away follow=evil.example": "", "/ plaintext=yes contains=clear": ""} {
		expect(t, HTTPS, "http://localhost:"+port+path, Env{}, code)
	}
}

func TestPagesAreAskedForOverIPv6(t *testing.T) {
	if !hasIPv6() {
		t.Skip("this machine has no IPv6")
	}
	a := newAuthority(t)
	cert := a.issue(nil, "localhost", "::1")
	port := serveWeb(t, "[::1]:0", &cert, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	e := Env{Roots: a.roots()}
	expect(t, HTTPS, "https://[::1]:"+port+"/ ip=6", e, "")
	expect(t, HTTPS, "https://[::1]:"+port+"/ ip=4", e, NoName)
	expect(t, TCP, "[::1]:"+port, e, "")
}

func TestAServerThatIsNotThereIsToldFromOneThatIsSilentOrSpeaksOtherwise(t *testing.T) {
	expect(t, HTTPS, "https://localhost:"+closedPort(t), Env{}, Refused)
	expectWithin(t, HTTPS, "https://localhost:"+silentPort(t), Env{}, 300*time.Millisecond, Timeout)
	expect(t, TCP, "localhost:"+closedPort(t), Env{}, Refused)
	port := serveWeb(t, "127.0.0.1:0", nil, func(http.ResponseWriter, *http.Request) {})
	expect(t, HTTPS, "https://localhost:"+port, Env{}, Protocol)
	expect(t, TCP, "127.0.0.1:"+port, Env{}, "")
}
