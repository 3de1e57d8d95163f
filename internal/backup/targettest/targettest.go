// Package targettest knows how to stand up real servers for tests of backups:
// an S3 server, an SSH server that speaks SFTP, a Git server over HTTPS and
// SSH, and a proxy that cuts, slows and resets what goes to them.
//
// Every server listens on the loopback address, on a port of its own, and ends
// with its test. A program that is missing skips the test and says what
// installs it: scripts/setup test.
package targettest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for a server.
const patience = 30 * time.Second

// missing skips a test that needs what is not installed.
func missing(t testing.TB, what string) {
	t.Helper()
	t.Skip(what + " is not installed. Run: scripts/setup test")
}

// Dir makes a directory for a test that other accounts may pass through, so
// that a server which runs as another user can reach what is in it.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "foundry-target-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// write puts a file there and returns its path.
func write(t testing.TB, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// process is a server that a test started.
type process struct {
	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	said strings.Builder
}

// begin starts a server and waits until it takes connections at addr. An
// address in use, which another test may have taken meanwhile, is reported.
func (p *process) begin(t testing.TB, cmd *exec.Cmd, addr string) bool {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = locked{p}, locked{p}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", cmd.Path, err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
	t.Cleanup(p.end)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return false
		case <-ctx.Done():
			t.Fatalf("%s does not listen: %s", cmd.Path, p.text())
		case <-tick.C:
		}
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			return true
		}
	}
}

// end kills the server and waits for it.
func (p *process) end() {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.cmd = nil
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	<-done
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// locked collects what a server says.
type locked struct{ p *process }

func (l locked) Write(b []byte) (int, error) {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	return l.p.said.Write(b)
}

// freePort is a port that was free a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// onFreePort starts a server on a free port, on another one if it is taken meanwhile.
func onFreePort(t testing.TB, p *process, command func(port int) *exec.Cmd) int {
	t.Helper()
	for range 5 {
		port := freePort(t)
		if p.begin(t, command(port), net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) {
			return port
		}
	}
	t.Fatalf("the server ends at once: %s", p.text())
	return 0
}

// certificate makes an authority and a server certificate for the loopback
// address, and returns the paths of three PEM files.
func certificate(t testing.TB, dir string) (ca, cert, key string) {
	t.Helper()
	caKey, caDER := issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "foundry test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}, nil, nil)
	parent, err := x509.ParseCertificate(caDER)
	if err != nil {
		t.Fatal(err)
	}
	leafKey, leafDER := issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost", "*.localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, parent, caKey)
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return write(t, dir, "ca.pem", encode("CERTIFICATE", caDER), 0o644),
		write(t, dir, "cert.pem", encode("CERTIFICATE", leafDER), 0o644),
		write(t, dir, "key.pem", encode("PRIVATE KEY", der), 0o600)
}

func issue(t testing.TB, c, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}
