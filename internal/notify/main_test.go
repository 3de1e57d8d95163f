package notify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

// TestMain turns the test binary into a sender when it is told to.
func TestMain(m *testing.M) {
	if dsn := os.Getenv("NOTIFY_TEST_SENDER"); dsn != "" {
		sendUntilKilled(dsn, os.Getenv("NOTIFY_TEST_RELAY"))
		return
	}
	dbtest.Main(m)
}

// patience bounds every wait in these tests.
const patience = 30 * time.Second

// seal stands in for the keyring: it binds a value to its place and hides it.
func seal(_ context.Context, org uuid.UUID, table, column, row string, b []byte) ([]byte, error) {
	sum := sha256.Sum256([]byte(org.String() + table + column + row))
	out := append(sum[:], b...)
	for i := range out[32:] {
		out[32+i] ^= sum[i%32]
	}
	return out, nil
}

func open(ctx context.Context, org uuid.UUID, table, column, row string, b []byte) ([]byte, error) {
	sum := sha256.Sum256([]byte(org.String() + table + column + row))
	if len(b) < 32 || !bytes.Equal(b[:32], sum[:]) {
		return nil, fmt.Errorf("it does not open here")
	}
	out, err := seal(ctx, org, table, column, row, b[32:])
	if err != nil {
		return nil, err
	}
	return out[32:], nil
}

func keyed(b []byte) []byte { sum := sha256.Sum256(append([]byte("key"), b...)); return sum[:] }

func outbox(t testing.TB, relays ...Relay) *Outbox {
	t.Helper()
	b, err := New(Options{Config: Config{From: "Foundry <foundry@example.eu>", Relays: relays, Alarms: []string{"ops@example.eu"}}, Seal: seal, Open: open, Hash: keyed})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func invitation(org uuid.UUID, to string) Message {
	return Message{Organisation: org, Template: Invitation, To: Address{Email: to},
		Fields: map[string]string{"organisation": "st-mary", "roles": "administrator", "link": "https://ai.example.eu/invitation/abc", "expires": "2026-12-01 12:00 UTC"}}
}

// put enqueues and commits.
func put(t testing.TB, d *db.DB, b *Outbox, m Message) (id uuid.UUID) {
	t.Helper()
	err := d.Org(t.Context(), m.Organisation, func(tx pgx.Tx) (err error) {
		id, err = b.Enqueue(t.Context(), tx, m)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// sending runs a sender until the test ends, without waiting between attempts
// for longer than a moment.
func sending(t testing.TB, d *db.DB, b *Outbox) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.Send(ctx, SenderOptions{DB: d, Log: dbtest.Log(t), Look: 20 * time.Millisecond, Wait: func(int) time.Duration { return 20 * time.Millisecond }})
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// await waits until a message is as it should be.
func await(t testing.TB, d *db.DB, b *Outbox, id uuid.UUID, what string, ok func(Notification) bool) Notification {
	t.Helper()
	for end := time.Now().Add(patience); ; <-time.After(10 * time.Millisecond) {
		n, err := b.Show(t.Context(), d, id)
		if err != nil {
			t.Fatal(err)
		}
		if ok(n) {
			return n
		}
		if time.Now().After(end) {
			t.Fatalf("waiting until it is %s: %+v", what, n)
		}
	}
}

func is(s State) func(Notification) bool { return func(n Notification) bool { return n.State == s } }

// server is a real SMTP server (aiosmtpd) in a process of its own.
type server struct {
	t      testing.TB
	folder string
	port   int
	cert   string
	kept   chan struct{}
	cmd    *exec.Cmd
}

// startServer starts a server; flags as of testdata/relay.py.
func startServer(t testing.TB, flags ...string) *server {
	t.Helper()
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import aiosmtpd").Run(); err != nil {
		t.Skip("python3-aiosmtpd is missing: run scripts/setup test")
	}
	s := &server{t: t, folder: t.TempDir(), kept: make(chan struct{}, 1000)}
	args := append([]string{"testdata/relay.py", s.folder}, flags...)
	s.cert = filepath.Join(s.folder, "cert.pem")
	if !contains(flags, "--plain") {
		certificate(t, s.cert, filepath.Join(s.folder, "key.pem"))
		args = append(args, "--cert", s.cert, "--key", filepath.Join(s.folder, "key.pem"))
	} else {
		args = without(args, "--plain")
	}
	s.cmd = exec.Command(python, args...)
	s.cmd.Stderr = t.Output()
	in, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() })
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the mail server did not start")
	}
	if s.port, err = strconv.Atoi(strings.TrimPrefix(lines.Text(), "port ")); err != nil {
		t.Fatal(err)
	}
	go func() {
		for lines.Scan() {
			s.kept <- struct{}{}
		}
	}()
	return s
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func without(list []string, s string) (out []string) {
	for _, v := range list {
		if v != s {
			out = append(out, v)
		}
	}
	return out
}

// relay is the configuration that reaches the server.
func (s *server) relay() Relay {
	return Relay{Host: "127.0.0.1", Name: "relay.example.eu", Port: s.port, CA: s.cert, Timeout: config.Duration(5 * time.Second)}
}

// received reads everything the server has accepted.
func (s *server) received() (all []*mail.Message) {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.folder, "*.eml"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range files {
		body, err := os.ReadFile(f)
		if err != nil {
			s.t.Fatal(err)
		}
		m, err := mail.ReadMessage(bytes.NewReader(body))
		if err != nil {
			s.t.Fatalf("what was received is no message: %v\n%s", err, body)
		}
		all = append(all, m)
	}
	return all
}

// ids are the distinct Message-IDs received.
func (s *server) ids() map[string]int {
	out := map[string]int{}
	for _, m := range s.received() {
		out[m.Header.Get("Message-Id")]++
	}
	return out
}

// certificate makes a self-signed one for relay.example.eu.
func certificate(t testing.TB, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay.example.eu"}, DNSNames: []string{"relay.example.eu"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// simulator is a scripted stand-in for a relay that misbehaves: it is no mail
// server. Each connection gets the next script (the last one again and again),
// a list of answers: to the connection, then to each line. "hang" stops
// answering, "drop" closes, "dot-drop" reads a message to its final dot and
// closes without a word.
type simulator struct {
	net.Listener
	connections chan int
}

func simulate(t testing.TB, scripts ...[]string) (*simulator, Relay) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &simulator{l, make(chan int, 1000)}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.connections <- n
			go play(c, scripts[min(n, len(scripts)-1)])
		}
	}()
	return s, Relay{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, TLS: PlainText, Timeout: config.Duration(2 * time.Second)}
}

func play(c net.Conn, script []string) {
	defer c.Close()
	r := bufio.NewReader(c)
	for i, answer := range script {
		if i > 0 {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if strings.HasPrefix(line, "QUIT") {
				answer = "221 bye"
			}
		}
		switch {
		case answer == "hang":
			_, _ = io.Copy(io.Discard, c)
			return
		case answer == "drop":
			return
		case strings.HasPrefix(answer, "dot-"):
			for {
				line, err := r.ReadString('\n')
				if err != nil || line == ".\r\n" {
					break
				}
			}
			switch answer {
			case "dot-drop":
				return
			case "dot-hang":
				_, _ = io.Copy(io.Discard, r)
				return
			}
			answer = strings.TrimPrefix(answer, "dot-")
		}
		_, _ = io.WriteString(c, answer+"\r\n")
	}
	for { // polite to the end
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if strings.HasPrefix(line, "QUIT") {
			_, _ = io.WriteString(c, "221 bye\r\n")
			return
		}
	}
}

// polite is a script up to the answer to DATA.
func polite(rest ...string) []string {
	return append([]string{"220 relay.example.eu simulator", "250-relay.example.eu\r\n250 8BITMIME", "250 2.1.0 ok", "250 2.1.5 ok", "354 go on"}, rest...)
}
