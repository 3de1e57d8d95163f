// Package dnstest starts a real name server for tests, and holds the suite that
// every provider of zones passes.
package dnstest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/continuity/dns"
)

// patience bounds every wait for a server.
const patience = time.Minute

// Knot is a primary name server (Knot DNS) with one zone, example.eu, and two
// keys: one may update, the other is known and may not.
type Knot struct {
	t       testing.TB
	Addr    string // host:port, UDP and TCP
	Zone    string
	dir     string
	cmd     *exec.Cmd
	secrets map[string]string // base64, by the key's name
}

// Start starts a server, or skips the test where there is none to start.
func Start(t testing.TB) *Knot {
	t.Helper()
	program, err := exec.LookPath("knotd")
	if err != nil {
		program = "/usr/sbin/knotd"
		if _, err := os.Stat(program); err != nil {
			t.Skip("knotd is missing: run scripts/setup test")
		}
	}
	k := &Knot{t: t, Zone: "example.eu", dir: t.TempDir(), secrets: map[string]string{}}
	for _, name := range []string{"mover", "reader"} {
		b := make([]byte, 32)
		_, _ = rand.Read(b)
		k.secrets[name] = base64.StdEncoding.EncodeToString(b)
	}
	k.write("zone", `$ORIGIN example.eu.
$TTL 300
@ SOA ns.example.eu. hostmaster.example.eu. 1 3600 600 86400 30
@ NS ns.example.eu.
ns A 127.0.0.1
api 60 A 192.0.2.1
www 60 A 192.0.2.1
www 60 AAAA 2001:db8::1
alias CNAME api.example.eu.
`)
	// A port that is free now may be taken when the server wants it: it is tried
	// again with another.
	for range 5 {
		k.Addr = freeAddr(t)
		if k.run(program) {
			return k
		}
	}
	t.Fatal("the name server did not start")
	return nil
}

func (k *Knot) write(name, text string) string {
	path := filepath.Join(k.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
	return path
}

func (k *Knot) run(program string) bool {
	k.Stop()
	host, port, _ := net.SplitHostPort(k.Addr)
	conf := k.write("knot.conf", fmt.Sprintf(`server:
    rundir: %[1]q
    listen: %[2]s@%[3]s
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: %[1]q
log:
  - target: stderr
    any: warning
key:
  - id: mover
    algorithm: hmac-sha256
    secret: %[4]s
  - id: reader
    algorithm: hmac-sha512
    secret: %[5]s
acl:
  - id: move
    key: mover
    action: update
zone:
  - domain: example.eu
    file: zone
    storage: %[1]q
    acl: move
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: changes
`, k.dir, host, port, k.secrets["mover"], k.secrets["reader"]))
	k.cmd = exec.Command(program, "-c", conf)
	log, err := os.Create(filepath.Join(k.dir, "log"))
	if err != nil {
		k.t.Fatal(err)
	}
	defer log.Close()
	k.cmd.Stderr, k.cmd.Stdout = log, log
	if err := k.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = k.cmd.Wait() }()
	k.t.Cleanup(func() { k.Stop(); <-ended })
	for end := time.Now().Add(patience); time.Now().Before(end); {
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			k.t.Logf("the name server ended: %s", text)
			return false
		case <-time.After(20 * time.Millisecond):
		}
		q := new(mdns.Msg).SetQuestion("example.eu.", mdns.TypeSOA)
		if a, _, err := (&mdns.Client{Net: "tcp"}).Exchange(q, k.Addr); err == nil && len(a.Answer) == 1 {
			return true
		}
	}
	return false
}

// Stop kills the server.
func (k *Knot) Stop() {
	if k.cmd != nil && k.cmd.Process != nil {
		_ = k.cmd.Process.Kill()
	}
}

// Provider speaks to the server as one of its keys.
func (k *Knot) Provider(key string) *dns.Update {
	p := &dns.Update{Server: k.Addr, KeyName: key, Secret: config.Secret{File: k.Secret(k.secrets[key])}, Timeout: 20 * time.Second}
	if key == "reader" {
		p.Algorithm = "hmac-sha512"
	}
	return p
}

// Secret writes a secret into a file of its own.
func (k *Knot) Secret(text string) string {
	f, err := os.CreateTemp(k.dir, "secret-")
	if err != nil {
		k.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text + "\n"); err != nil {
		k.t.Fatal(err)
	}
	return f.Name()
}

// Values asks the server, without a key, what everybody sees.
func (k *Knot) Values(name, kind string) string {
	k.t.Helper()
	q := new(mdns.Msg).SetQuestion(mdns.Fqdn(name), mdns.StringToType[kind])
	a, _, err := (&mdns.Client{Net: "tcp", Timeout: patience}).ExchangeContext(context.Background(), q, k.Addr)
	if err != nil {
		k.t.Fatal(err)
	}
	var out []string
	for _, r := range a.Answer {
		if r.Header().Rrtype == mdns.StringToType[kind] {
			out = append(out, strings.TrimPrefix(r.String(), r.Header().String()))
		}
	}
	return strings.Join(out, " ")
}

func freeAddr(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
