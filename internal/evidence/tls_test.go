package evidence

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func at(l Listener) func() []Listener { return func() []Listener { return []Listener{l} } }

// Each row removes a defence; the control has to notice.
func TestTheTLSControlsFailWhenADefenceIsRemoved(t *testing.T) {
	sound := listening(t, nil)
	old := func(min, max uint16) Listener {
		return listeningWith(t, func(c *tls.Config) {
			c.MinVersion, c.MaxVersion = min, max
			c.CipherSuites = allSuites()
		}, true, time.Now().Add(90*24*time.Hour))
	}
	upTo12 := old(tls.VersionTLS12, tls.VersionTLS12)
	gone := Listener{Name: "https", Address: nobody(t), Server: "localhost", Roots: sound.Roots}
	staticRSA := listeningWith(t, func(c *tls.Config) {
		c.MinVersion, c.MaxVersion, c.CipherSuites = tls.VersionTLS12, tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
	}, true, time.Now().Add(90*24*time.Hour))
	misnamed := sound
	misnamed.Server = "elsewhere.example"
	for _, tc := range []struct {
		name    string
		collect Collect
		want    Result
		says    string
	}{
		{"TLS 1.3", TLS13(at(sound), time.Now), Pass, "TLS 1.3"},
		{"TLS 1.2 at most", TLS13(at(upTo12), time.Now), Fail, "TLS 1.2"},
		{"a certificate that ends in an hour", TLS13(at(listeningWith(t, nil, false, time.Now().Add(time.Hour))), time.Now), Fail, "ends at"},
		{"a certificate for another name", TLS13(at(misnamed), time.Now), Fail, "handshake failed"},
		{"nobody there", TLS13(at(gone), time.Now), Inconclusive, "cannot be reached"},
		{"no listener at all", TLS13(func() []Listener { return nil }, time.Now), Inconclusive, ""},

		{"old versions refused", OldTLS(at(sound)), Pass, "alert protocol_version"},
		{"1.0 and newer accepted", OldTLS(at(old(tls.VersionTLS10, tls.VersionTLS13))), Fail, "accepts TLS 1.0, TLS 1.1, TLS 1.2"},
		{"1.1 and newer accepted", OldTLS(at(old(tls.VersionTLS11, tls.VersionTLS13))), Fail, "accepts TLS 1.1, TLS 1.2"},
		{"1.2 accepted", OldTLS(at(old(tls.VersionTLS12, tls.VersionTLS13))), Fail, "accepts TLS 1.2"},
		{"refused because nobody is there", OldTLS(at(gone)), Inconclusive, "say nothing"},

		{"forward secrecy", ForwardSecrecy(at(sound)), Pass, "resumed session"},
		{"static RSA", ForwardSecrecy(at(staticRSA)), Fail, "without an ephemeral key"},
		{"nobody there for forward secrecy", ForwardSecrecy(at(gone)), Inconclusive, "cannot be reached"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, found := look(t, tc.collect)
			if got != tc.want {
				t.Fatalf("%s, want %s: %+v", got, tc.want, found)
			}
			if len(found) > 0 && !strings.Contains(found[0].Reason, tc.says) {
				t.Errorf("it says %q, not %q", found[0].Reason, tc.says)
			}
			if got == Pass && (len(found[0].Covered) == 0 || len(found[0].NotCovered) == 0) {
				t.Error("it does not say what it covered and what not")
			}
		})
	}
}

// The client must really offer what the check claims to offer: each offer
// alone succeeds with a server that accepts it alone.
func TestEveryOldVersionIsReallyOffered(t *testing.T) {
	for _, v := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12} {
		l := listeningWith(t, func(c *tls.Config) { c.MinVersion, c.MaxVersion, c.CipherSuites = v, v, allSuites() }, true, time.Now().Add(90*24*time.Hour))
		answer, err := offer(t.Context(), l, v)
		if err != nil {
			t.Fatal(err)
		}
		if r := readReply(answer); !r.accepted || binary.BigEndian.Uint16(answer[9:]) != v {
			t.Errorf("%s: %s", tls.VersionName(v), r.words)
		}
	}
	hello, err := clientHello(tls.VersionTLS10, "localhost")
	if err != nil || bytes.Contains(hello, []byte{0, 43}) && binary.BigEndian.Uint16(hello[9:]) > tls.VersionTLS10 {
		t.Errorf("the offer of TLS 1.0 offers more: %v", err)
	}
}

// An offer without key shares differs from a complete one in nothing else: the
// complete one is accepted.
func TestOnlyTheMissingKeyShareIsRefused(t *testing.T) {
	l := listening(t, nil)
	whole, err := clientHello(tls.VersionTLS13, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	same, err := editExtensions(whole, func(_ uint16, b []byte) ([]byte, bool) { return b, true })
	if err != nil || !bytes.Equal(whole, same) {
		t.Fatalf("rewriting changes it: %v", err)
	}
	answer, err := exchange(t.Context(), l, same)
	if err != nil || !readReply(answer).accepted {
		t.Fatalf("a complete offer is refused: %x %v", answer, err)
	}
	answer, err = withoutKeyShare(t.Context(), l)
	if err != nil || readReply(answer).accepted {
		t.Errorf("%x %v", answer, err)
	}
}

func TestASilentServerIsNotTakenForARefusal(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := offer(ctx, Listener{Name: "x", Address: l.Addr().String(), Server: "localhost"}, tls.VersionTLS10); err == nil {
		t.Error("no error")
	}
}

func TestTheRedirectControlFailsWhenSomethingIsServedInPlain(t *testing.T) {
	serve := func(h http.HandlerFunc) func() (string, string) {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return func() (string, string) { return strings.TrimPrefix(s.URL, "http://"), "localhost:8443" }
	}
	to := func(code int, where func(*http.Request) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", where(r))
			w.WriteHeader(code)
		}
	}
	https := func(r *http.Request) string { return "https://localhost:8443" + r.URL.RequestURI() }
	for _, tc := range []struct {
		name    string
		address func() (string, string)
		want    Result
	}{
		{"308 to the same path", serve(to(308, https)), Pass},
		{"301 to the same path", serve(to(301, https)), Pass},
		{"a temporary redirect", serve(to(302, https)), Fail},
		{"to plain HTTP", serve(to(308, func(r *http.Request) string { return "http://localhost:8443" + r.URL.RequestURI() })), Fail},
		{"to another path", serve(to(308, func(*http.Request) string { return "https://localhost:8443/" })), Fail},
		{"to a port where nothing is", serve(to(308, func(r *http.Request) string { return "https://localhost:1" + r.URL.RequestURI() })), Fail},
		{"serving the page", serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) }), Fail},
		{"redirecting only the front page", serve(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/" {
				w.WriteHeader(200)
				return
			}
			to(308, https)(w, r)
		}), Fail},
		{"redirecting and serving", serve(func(w http.ResponseWriter, r *http.Request) {
			to(308, https)(w, r)
			_, _ = w.Write(bytes.Repeat([]byte("x"), 5000))
		}), Fail},
		{"nobody there", func() (string, string) { return nobody(t), "localhost:8443" }, Inconclusive},
		{"no plain listener", func() (string, string) { return "", "localhost:8443" }, Pass},
	} {
		if got, found := look(t, Redirect(tc.address)); got != tc.want {
			t.Errorf("%s: %s, want %s: %+v", tc.name, got, tc.want, found)
		}
	}
}

func FuzzReadReply(f *testing.F) {
	f.Add([]byte{21, 3, 1, 0, 2, 2, 70})
	f.Add([]byte{22, 3, 1, 0, 6, 2, 0, 0, 2, 3, 1})
	f.Add([]byte{21})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r := readReply(b); len(b) > 0 && b[0] != recordAlert && !r.accepted || r.words == "" {
			t.Errorf("%x: %+v", b, r)
		}
	})
}

func FuzzEditExtensions(f *testing.F) {
	hello, err := clientHello(tls.VersionTLS13, "localhost")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(hello)
	f.Add(hello[:60])
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := editExtensions(b, func(_ uint16, body []byte) ([]byte, bool) { return body, true })
		if err == nil && len(out) != len(b) {
			t.Errorf("%d bytes became %d", len(b), len(out))
		}
	})
}
