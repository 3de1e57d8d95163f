package sandbox

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/miekg/dns"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/problem"
)

// models is a simulator of a supplier of models, or of the fleet's own model
// server, which can be broken.
type models struct {
	addr   string
	server *http.Server
	broken atomic.Bool
}

func newModels(addr string, format simulator.Format) (*models, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	m := &models{addr: l.Addr().String()}
	answers := simulator.New(simulator.Options{Format: format, FirstByte: 5 * time.Millisecond, Forget: true})
	m.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.broken.Load() {
			http.Error(w, `{"error":{"message":"broken on purpose","type":"server_error"}}`, http.StatusServiceUnavailable)
			return
		}
		answers.ServeHTTP(w, r)
	})}
	go func() { _ = m.server.Serve(l) }()
	return m, nil
}

func (m *models) close() { _ = m.server.Close() }

// mailbox is a sink for mail: it takes what comes and sends nothing on.
type mailbox struct {
	host   string
	port   string
	ca     string // file that its clients trust it by
	server *smtp.Server
	broken atomic.Bool

	mu  sync.Mutex
	got []letter
}

// letter is what the sink keeps of a message.
type letter struct {
	At time.Time
	To []string
}

func newMailbox(dir, host string) (*mailbox, error) {
	cert, text, err := selfSigned(host)
	if err != nil {
		return nil, err
	}
	ca, err := file(dir, "mail.pem", text)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return nil, err
	}
	m := &mailbox{host: host, port: port, ca: ca}
	m.server = smtp.NewServer(m)
	m.server.Domain, m.server.TLSConfig = zone, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	m.server.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	go func() { _ = m.server.Serve(l) }()
	return m, nil
}

// NewSession implements smtp.Backend.
func (m *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) {
	if m.broken.Load() {
		return nil, &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "broken on purpose"}
	}
	return &delivery{box: m}, nil
}

type delivery struct {
	box *mailbox
	to  []string
}

func (d *delivery) Mail(string, *smtp.MailOptions) error { return nil }
func (d *delivery) Rcpt(to string, _ *smtp.RcptOptions) error {
	d.to = append(d.to, to)
	return nil
}
func (d *delivery) Data(r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	d.box.mu.Lock()
	defer d.box.mu.Unlock()
	d.box.got = append(d.box.got, letter{time.Now(), d.to})
	return nil
}
func (d *delivery) Reset()        { d.to = nil }
func (d *delivery) Logout() error { return nil }

func (m *mailbox) close() { _ = m.server.Close() }

// names is a primary name server (Knot DNS) with the sandbox's zone.
type names struct {
	addr   string
	dir    string
	secret string
	proc   process
}

// zone of a sandbox, and the name in it that clients use.
const (
	zone     = "sandbox.test"
	hostname = "ai." + zone
)

func newNames(dir, addr, points string) (*names, error) {
	program, err := exec.LookPath("knotd")
	if err != nil {
		program = "/usr/sbin/knotd"
		if _, err := os.Stat(program); err != nil {
			return nil, problem.New(problem.Unavailable, "sandbox-dns", "The name server that the sandbox moves names in is missing: knotd.").WithMend("Install the package knot.")
		}
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	n := &names{addr: addr, dir: dir, secret: base64.StdEncoding.EncodeToString(raw)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	_, err = file(dir, "zone", fmt.Sprintf("$ORIGIN %s.\n$TTL 5\n@ SOA ns.%[1]s. hostmaster.%[1]s. 1 3600 600 86400 5\n@ NS ns.%[1]s.\nns A %[2]s\n%[3]s. 5 A %[4]s\n", zone, host, hostname, points))
	if err != nil {
		return nil, err
	}
	conf, err := file(dir, "knot.conf", fmt.Sprintf(`server:
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
acl:
  - id: move
    key: mover
    action: update
zone:
  - domain: %[5]s
    file: zone
    storage: %[1]q
    acl: move
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: changes
`, dir, host, port, n.secret, zone))
	if err != nil {
		return nil, err
	}
	if _, err := file(dir, "mover.key", n.secret+"\n"); err != nil {
		return nil, err
	}
	if err := n.proc.start(exec.Command(program, "-c", conf)); err != nil {
		return nil, err
	}
	for until := time.Now().Add(20 * time.Second); ; {
		if _, err := n.points(); err == nil {
			return n, nil
		} else if time.Now().After(until) || !n.proc.runs() {
			n.close()
			return nil, fmt.Errorf("the sandbox's name server does not answer: %w: %s", err, n.proc.log.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (n *names) key() string { return filepath.Join(n.dir, "mover.key") }
func (n *names) close()      { n.proc.kill() }

// points is where the clients' name points to.
func (n *names) points() (string, error) {
	q := new(dns.Msg)
	q.SetQuestion(hostname+".", dns.TypeA)
	c := dns.Client{Timeout: 500 * time.Millisecond}
	r, _, err := c.Exchange(q, n.addr)
	if err != nil {
		return "", err
	}
	for _, rr := range r.Answer {
		if a, ok := rr.(*dns.A); ok {
			return a.A.String(), nil
		}
	}
	return "", errors.New("the name has no address")
}
