//go:build faults

package patroni_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/patroni"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// lab is three members of a fleet with a door each, and a Patroni with its
// PostgreSQL beside some of them, all real.
type lab struct {
	t       *testing.T
	fleet   *membertest.Fleet
	doors   []*http.Server
	at      []string // of the doors
	nodes   []*labNode
	secrets patroni.Secrets
	user    *user.User
	dir     string
	pass    string // of Foundry's roles
}

type labNode struct {
	patroni.Node
	process *exec.Cmd
	ended   chan struct{}
}

func startLab(t *testing.T, nodes int) *lab {
	t.Helper()
	for _, program := range []string{"patroni", "psql"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs " + program + ": apt-get install --no-install-recommends patroni postgresql")
		}
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to run PostgreSQL as another user")
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Skip("there is no user postgres")
	}
	l := &lab{t: t, user: u, secrets: patroni.NewSecrets(), pass: "of-a-test-" + strconv.Itoa(os.Getpid()), fleet: membertest.Start(t, 3), doors: make([]*http.Server, 3)}
	l.dir = t.TempDir()
	// The user postgres has to come through.
	for d := l.dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l.at = membertest.Free(t, 3)
	for i := range 3 {
		l.openDoor(i)
	}
	t.Cleanup(func() {
		for _, s := range l.doors {
			if s != nil {
				_ = s.Close()
			}
		}
	})
	for i := range nodes {
		l.addNode(i)
	}
	return l
}

func (l *lab) openDoor(i int) {
	l.t.Helper()
	m := l.fleet.Members[i]
	host, _, _ := net.SplitHostPort(l.at[i])
	c, err := m.ServiceTLS(patroni.Service, []string{host})
	if err != nil {
		l.t.Fatal(err)
	}
	d := patroni.Door{Client: m.Client(), Scope: patroni.DefaultScope, Doors: func(context.Context) ([]string, error) { return l.at, nil }, Who: func(cs *tls.ConnectionState) (string, bool) {
		s, ok := m.Service(cs)
		return s.Node, ok
	}}
	listener, err := tls.Listen("tcp", l.at[i], c)
	if err != nil {
		l.t.Fatal(err)
	}
	s := &http.Server{Handler: d.Handler(), ReadHeaderTimeout: 5 * time.Second}
	l.doors[i] = s
	go func() { _ = s.Serve(listener) }()
}

// killMember ends a member of the fleet and its door as if by kill -9.
func (l *lab) killMember(i int) {
	l.t.Helper()
	_ = l.doors[i].Close()
	l.doors[i] = nil
	l.fleet.Kill(l.t, i)
}

// addNode makes the configuration of a node and starts its Patroni.
func (l *lab) addNode(i int) {
	l.t.Helper()
	free := membertest.Free(l.t, 2)
	host, port, _ := net.SplitHostPort(free[0])
	_, api, _ := net.SplitHostPort(free[1])
	dir := filepath.Join(l.dir, fmt.Sprint("node", i+1))
	socket, err := os.MkdirTemp("", "pat") // a path of a socket has 107 bytes at most
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = os.RemoveAll(socket) })
	bin, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	n := &labNode{Node: patroni.Node{Name: fmt.Sprint("node", i+1), Address: host, Port: atoi(port), APIPort: atoi(api), Dir: dir, Data: filepath.Join(dir, "data"), Socket: socket,
		Bin: bin[len(bin)-1], Stores: l.at, Networks: []string{"127.0.0.0/8"}, Secrets: l.secrets}}
	l.nodes = append(l.nodes, n)
	cert, key, authority := l.certify(n.Name, host)
	config, err := n.Config()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		l.t.Fatal(err)
	}
	for name, text := range map[string][]byte{patroni.FileConfig: config, patroni.FileCertificate: cert, patroni.FileKey: key, patroni.FileAuthority: authority, patroni.FileOpenSSL: []byte(patroni.OpenSSL)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
	uid, gid := atoi(l.user.Uid), atoi(l.user.Gid)
	for _, d := range []string{dir, socket} {
		err := filepath.Walk(d, func(path string, _ os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			return os.Chown(path, uid, gid)
		})
		if err != nil {
			l.t.Fatal(err)
		}
	}
	l.start(n)
	l.t.Cleanup(func() {
		l.kill(n)
		if l.t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "patroni.log"))
			l.t.Logf("%s:\n%s", n.Name, text[max(0, len(text)-6000):])
		}
	})
}

// certify gets a certificate from the fleet, as an operator does.
func (l *lab) certify(node, host string) (cert, private, authority []byte) {
	l.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		l.t.Fatal(err)
	}
	cert, authority, err = l.member().Issue(l.t.Context(), "person:test", member.Service{Name: patroni.Service, Node: node}, key.Public(), []string{host})
	if err != nil {
		l.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		l.t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), authority
}

// member is one that lives.
func (l *lab) member() *member.Member {
	for _, m := range l.fleet.Members {
		if m != nil {
			return m
		}
	}
	return nil
}

func (l *lab) start(n *labNode) {
	l.t.Helper()
	log, err := os.OpenFile(filepath.Join(n.Dir, "patroni.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		l.t.Fatal(err)
	}
	defer log.Close()
	c := exec.Command("patroni", filepath.Join(n.Dir, patroni.FileConfig))
	c.Env = append(os.Environ(), "OPENSSL_CONF="+filepath.Join(n.Dir, patroni.FileOpenSSL), "HOME="+n.Dir)
	c.Dir, c.Stdout, c.Stderr = n.Dir, log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: uint32(atoi(l.user.Uid)), Gid: uint32(atoi(l.user.Gid))}}
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	n.process, n.ended = c, make(chan struct{})
	go func(ended chan struct{}) { _ = c.Wait(); close(ended) }(n.ended)
}

// kill ends a node's Patroni and PostgreSQL with SIGKILL, and waits until they
// are gone.
func (l *lab) kill(n *labNode) {
	if n.process == nil {
		return
	}
	_ = syscall.Kill(-n.process.Process.Pid, syscall.SIGKILL)
	<-n.ended
	n.process = nil
	text, err := os.ReadFile(filepath.Join(n.Data, "postmaster.pid"))
	if err != nil {
		return
	}
	pid := atoi(strings.SplitN(string(text), "\n", 2)[0])
	if pid > 1 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		for syscall.Kill(pid, 0) == nil {
			time.Sleep(5 * time.Millisecond) // it is nobody's child here
		}
	}
}

func atoi(s string) int { n, _ := strconv.Atoi(strings.TrimSpace(s)); return n }

// sql runs statements on a node as its superuser, over the socket.
func (l *lab) sql(n *labNode, database, statements string) (string, error) {
	c := exec.Command("psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", n.Socket, "-p", strconv.Itoa(n.Port), "-U", "postgres", "-d", database, "-f", "-")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(atoi(l.user.Uid)), Gid: uint32(atoi(l.user.Gid))}}
	c.Dir, c.Stdin = "/", strings.NewReader(statements)
	var out, bad bytes.Buffer
	c.Stdout, c.Stderr = &out, &bad
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, bad.String())
	}
	return strings.TrimSpace(out.String()), nil
}

func (l *lab) node(name string) *labNode {
	for _, n := range l.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

func (l *lab) store() *patroni.Store {
	return &patroni.Store{Client: l.member().Client(), Scope: patroni.DefaultScope}
}

var withPrefix = clientv3.WithPrefix()

// tlsOf is how this process reaches the Patroni of a node.
func (l *lab) tlsOf(node string) *tls.Config {
	return l.member().ServiceClientTLS(member.Service{Name: patroni.Service, Node: node})
}

func (l *lab) client() *patroni.Client {
	m := l.member()
	var mu sync.Mutex
	kept := map[string]*http.Client{}
	return &patroni.Client{Secret: func(context.Context) (string, error) { return l.secrets.API, nil }, HTTP: func(node string) *http.Client {
		mu.Lock()
		defer mu.Unlock()
		if kept[node] == nil {
			kept[node] = &http.Client{Transport: &http.Transport{TLSClientConfig: m.ServiceClientTLS(member.Service{Name: patroni.Service, Node: node}), DisableKeepAlives: true}}
		}
		return kept[node]
	}}
}

// leads waits until a member other than not leads, with a standby that has
// everything, and says which.
func (l *lab) leads(not string) patroni.Picture {
	l.t.Helper()
	var p patroni.Picture
	membertest.Await(l.t, "a leader with a standby in step, other than "+not, func(ctx context.Context) bool {
		var err error
		for _, n := range l.nodes {
			select {
			case <-n.ended:
				if n.process != nil {
					l.t.Fatalf("the Patroni of %s has ended", n.Name)
				}
			default:
			}
		}
		p, err = l.store().Picture(ctx)
		if err != nil || p.Leader == "" || p.Leader == not || p.SyncOf != p.Leader || len(p.Standbys) == 0 {
			return false
		}
		m, _ := p.Member(p.Leader)
		return m.Works()
	})
	return p
}

// prepare makes Foundry's roles and database on the leader.
func (l *lab) prepare(leader string) {
	l.t.Helper()
	statements := db.RolesSQL()
	for _, r := range db.Roles {
		statements += fmt.Sprintf("ALTER ROLE %s PASSWORD '%s';\n", r, l.pass)
	}
	if _, err := l.sql(l.node(leader), "postgres", statements); err != nil {
		l.t.Fatal(err)
	}
	// Who asks all servers at once is refused by one that has not heard of the
	// roles yet.
	membertest.Await(l.t, "every server knows the roles", func(context.Context) bool {
		for _, n := range l.nodes {
			out, err := l.sql(n, "postgres", "SELECT count(*) FROM pg_authid WHERE rolname LIKE 'foundry_%' AND rolpassword IS NOT NULL AND EXISTS (SELECT FROM pg_database WHERE datname = 'foundry')")
			if err != nil || out != strconv.Itoa(len(db.Roles)) {
				return false
			}
		}
		return true
	})
}

// dsn is the connection string of a gateway.
func (l *lab) dsn() string {
	var hosts, ports []string
	for _, n := range l.nodes {
		hosts, ports = append(hosts, n.Address), append(ports, strconv.Itoa(n.Port))
	}
	return fmt.Sprintf("host=%s port=%s dbname=foundry sslmode=verify-full sslrootcert=%s target_session_attrs=read-write",
		strings.Join(hosts, ","), strings.Join(ports, ","), filepath.Join(l.nodes[0].Dir, patroni.FileAuthority))
}

func (l *lab) config() db.Config {
	c := db.Config{DSN: l.dsn(), Users: map[db.Role]db.Login{}, Epochs: &db.Epochs{}}
	for _, r := range db.Roles {
		c.Users[r] = db.Login{Password: l.pass}
	}
	return c
}
