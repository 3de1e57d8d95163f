package probe

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serveTLS runs Go's own TLS server.
func serveTLS(t testing.TB, c *tls.Config) string {
	return serveTCP(t, func(conn net.Conn) {
		s := tls.Server(conn, c)
		if s.Handshake() == nil {
			_, _ = s.Read(make([]byte, 1))
		}
	})
}

func TestOldVersionsOfTLSMustBeRefused(t *testing.T) {
	a := newAuthority(t)
	cert := a.issue(nil, "localhost", "node-7.example.org")
	e := Env{Roots: a.roots()}
	serve := func(least, most uint16, suites ...uint16) string {
		return "localhost:" + serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: least, MaxVersion: most, CipherSuites: suites})
	}
	modern, until12, until10, only12 := serve(tls.VersionTLS13, 0), serve(tls.VersionTLS12, 0), serve(tls.VersionTLS10, 0), serve(tls.VersionTLS12, tls.VersionTLS12)
	for _, c := range []struct {
		target string
		code   Code
		says   string
	}{
		{modern, "", "refuses everything below TLS 1.3"},
		{modern + " min=1.2", "", "refuses everything below TLS 1.2"},
		{modern + " days=90", "", ""},
		{modern + " days=91", BadCert, ""},
		{modern + " name=node-7.example.org", "", ""},
		{modern + " name=node-8.example.org", BadCert, "not for node-8"},
		{until12, TLSVersion, "accepts TLS 1.2."},
		{until12 + " min=1.2", "", ""},
		{until10, TLSVersion, "accepts TLS 1.0, TLS 1.1, TLS 1.2."},
		{until10 + " min=1.2", TLSVersion, "accepts TLS 1.0, TLS 1.1."},
		{only12, TLSVersion, "chooses TLS 1.2"},
		{only12 + " min=1.2", "", ""},
	} {
		if r := expect(t, TLS, c.target, e, c.code); !strings.Contains(r.Words, c.says) {
			t.Errorf("%s says %q, not %q", c.target, r.Words, c.says)
		}
	}
	r := expect(t, TLS, modern, e, "")
	if r.Facts["group"] == "" || !strings.Contains(r.Facts["refused"], "TLS 1.2: alert 70") {
		t.Error(r.Facts)
	}
}

// startOpenSSL runs the TLS server of OpenSSL.
func startOpenSSL(t *testing.T, cert tls.Certificate, options ...string) (port string) {
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("this machine has no openssl")
	}
	dir := t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	path := filepath.Join(dir, "cert.pem")
	if err := os.WriteFile(path, both, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, append([]string{"s_server", "-accept", "127.0.0.1:0", "-cert", path, "-key", path, "-www"}, options...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for s := bufio.NewScanner(out); s.Scan(); {
		if at, ok := strings.CutPrefix(s.Text(), "ACCEPT "); ok {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return at[strings.LastIndexByte(at, ':')+1:]
		}
	}
	t.Fatal("openssl s_server did not start")
	return ""
}

func TestAServerOfAnotherMakeIsSeenThroughToo(t *testing.T) {
	a := newAuthority(t)
	e := Env{Roots: a.roots()}
	cert := a.issue(nil, "localhost")
	if r := expect(t, TLS, "localhost:"+startOpenSSL(t, cert, "-cipher", "ALL:@SECLEVEL=0"), e, TLSVersion); !strings.Contains(r.Words, "accepts TLS 1.0, TLS 1.1, TLS 1.2.") {
		t.Error(r.Words)
	}
	expect(t, TLS, "localhost:"+startOpenSSL(t, cert, "-tls1_3"), e, "")
	expect(t, TLS, "localhost:"+startOpenSSL(t, cert, "-tls1_2", "-cipher", "ECDHE+AESGCM")+" min=1.2", e, "")
	// A server that has only what Go would never offer is not one that refuses.
	expect(t, TLS, "localhost:"+startOpenSSL(t, cert, "-no_tls1_3", "-no_tls1_2", "-cipher", "ALL:@SECLEVEL=0")+" min=1.2", e, TLSVersion)
}

func TestWhatFollowsAnOfferIsReadOrIsNoTLS(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes []byte
		want  reply
	}{
		{"nothing", nil, reply{words: "closed"}},
		{"an alert", []byte{21, 3, 1, 0, 2, 2, 70}, reply{words: "alert 70"}},
		{"a greeting", []byte{22, 3, 1, 0, 74, 2, 0, 0, 70, 3, 1}, reply{true, "TLS 1.0"}},
		{"another message", []byte{22, 3, 1, 0, 74, 1, 0, 0, 70, 3, 1}, reply{words: "no TLS"}},
		{"a page", []byte("HTTP/1.1 400 Bad Request"), reply{words: "no TLS"}},
	} {
		if got := readReply(c.bytes); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestAnOfferThatNobodyAnswersIsInconclusive(t *testing.T) {
	a := newAuthority(t)
	cert := a.issue(nil, "localhost")
	first := make(chan struct{}, 1)
	first <- struct{}{}
	port := serveTCP(t, func(conn net.Conn) {
		select {
		case <-first: // shakes hands once, and is deaf afterwards
			s := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
			_ = s.Handshake()
			_, _ = s.Read(make([]byte, 1))
		default:
			_, _ = io.Copy(io.Discard, conn)
		}
	})
	r := Run(t.Context(), Spec{Name: "p", Kind: TLS, Target: "localhost:" + port, Timeout: 2 * time.Second}, Env{Roots: a.roots()})
	if r.OK {
		t.Fatalf("%+v", r)
	}
}

func FuzzTLSReply(f *testing.F) {
	f.Add([]byte{22, 3, 1, 0, 74, 2, 0, 0, 70, 3, 1})
	f.Add([]byte{21, 3, 1, 0, 2, 2, 70})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r := readReply(b); r.words == "" {
			t.Fatal("no words")
		}
	})
}
