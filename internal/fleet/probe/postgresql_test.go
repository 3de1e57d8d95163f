package probe

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

// server is a PostgreSQL server of a test, which may be copied to a standby.
type server struct {
	t        *testing.T
	bin, dir string // programs; sockets and data
	who      *syscall.Credential
	stop     map[string]func()
}

// newServer makes a primary with a role, watcher, that may connect and
// nothing else, and starts it on port 5432 of a socket.
func newServer(t *testing.T) *server {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		t.Skip("this machine has no PostgreSQL server")
	}
	account, err := db.FindAccount("")
	if err != nil {
		t.Skip(err)
	}
	s := &server{t: t, bin: filepath.Dir(found[len(found)-1]), dir: filepath.Join(dbtest.Dir(t), "pair"), who: account.Credential(), stop: map[string]func(){}}
	if err := account.Mkdir(s.dir); err != nil {
		t.Fatal(err)
	}
	s.run("initdb", "-D", "primary", "-A", "trust", "-U", "maker", "--no-sync", "--no-locale", "-E", "UTF8")
	s.start("primary", 5432)
	for _, text := range []string{"create role watcher login", "create database app", "revoke all on database app from public", "grant connect on database app to watcher"} {
		s.sql(text)
	}
	return s
}

func (s *server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "HOME=/nonexistent"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.who}
	return cmd
}

func (s *server) run(program string, args ...string) {
	s.t.Helper()
	if out, err := s.command(program, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

func (s *server) start(name string, port int) {
	s.t.Helper()
	cmd := s.command("postgres", "-D", name, "-k", s.dir, "-p", fmt.Sprint(port), "-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB",
		"-c", "dynamic_shared_memory_type=mmap", "-c", "shared_memory_type=mmap", "-c", "max_connections=20")
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	s.stop[name] = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // a fast shutdown
		select {
		case <-ended:
		case <-time.After(generous):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	})
	s.t.Cleanup(s.stop[name])
	s.until(fmt.Sprintf("%s:%d", s.dir, port), Env{}, func(r Result) bool { return r.OK })
}

func (s *server) sql(text string) {
	s.t.Helper()
	s.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", s.dir, "-p", "5432", "-U", "maker", "-d", "postgres", "-c", text)
}

// until looks again and again until the result is as wanted.
func (s *server) until(target string, e Env, wanted func(Result) bool) {
	s.t.Helper()
	limit, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		r := Run(limit, Spec{Name: "p", Kind: PostgreSQL, Target: target, Timeout: generous}, e)
		if wanted(r) {
			return
		}
		select {
		case <-tick.C:
		case <-limit.Done():
			s.t.Fatalf("%s did not come to be as wanted: %+v", target, r)
		}
	}
}

func TestADatabaseAndItsStandbyAreSeenAsWhatTheyAre(t *testing.T) {
	s := newServer(t)
	e := Env{Login: func(context.Context, Spec) (Login, bool, error) { return Login{User: "watcher"}, true, nil }}
	primary, standby := s.dir+":5432/app", s.dir+":5433/app"
	for _, c := range []struct {
		words string
		e     Env
		code  Code
		says  string
	}{
		{"", Env{}, "", "not known without a login"},
		{" role=primary", Env{}, Credentials, "not known without a login"},
		{"", e, "", "answers queries"},
		{" role=primary", e, "", "takes commits"},
		{" role=standby", e, NotStandby, "follows nobody"},
	} {
		if r := expect(t, PostgreSQL, primary+c.words, c.e, c.code); !strings.Contains(r.Words, c.says) {
			t.Errorf("%q says %q, not %q", c.words, r.Words, c.says)
		}
	}
	expect(t, PostgreSQL, s.dir+":5432/gone", e, BadAnswer)
	stranger := Env{Login: func(context.Context, Spec) (Login, bool, error) {
		return Login{User: "nobody_at_all", Password: "hunter2"}, true, nil
	}}
	if r := expect(t, PostgreSQL, primary, stranger, Credentials); strings.Contains(fmt.Sprint(r), "hunter2") || strings.Contains(fmt.Sprint(r), "nobody_at_all") {
		t.Errorf("a result shows a credential: %+v", r)
	}

	s.run("pg_basebackup", "-h", s.dir, "-p", "5432", "-U", "maker", "-D", "standby", "-R", "-X", "stream", "-c", "fast", "--no-sync")
	s.start("standby", 5433)
	s.sql("create table t (n int)")
	s.until(standby+" role=standby lag=1h bytes=16MB", e, func(r Result) bool { return r.OK && r.Facts["receiving"] == "true" })
	expect(t, PostgreSQL, standby+" role=primary", e, ReadOnly)
	expect(t, PostgreSQL, standby, e, "")

	// A primary that waits for a standby that is lost takes no commit, however
	// well it answers queries.
	s.sql("alter system set synchronous_standby_names = 'nobody'")
	s.sql("select pg_reload_conf()")
	s.until(primary+" role=any", e, func(r Result) bool { return r.OK })
	if r := lookBriefly(t, primary+" role=primary", e); r.Code != ReadOnly || !strings.Contains(r.Words, "takes no commit") {
		t.Errorf("%+v", r)
	}
	s.sql("alter system reset synchronous_standby_names")
	s.sql("select pg_reload_conf()")
	s.sql("alter role watcher set default_transaction_read_only = on")
	expect(t, PostgreSQL, primary+" role=primary", e, ReadOnly)
	expect(t, PostgreSQL, primary, e, "")

	s.stop["primary"]()
	expect(t, PostgreSQL, primary, e, NoName) // the socket went with it
	s.until(standby+" role=standby lag=1s", e, func(r Result) bool { return r.Code == Lag && r.Facts["receiving"] == "false" })
}

// lookBriefly looks until the server says that commits wait: a configuration
// is read anew some time after it was asked for.
func lookBriefly(t *testing.T, target string, e Env) (r Result) {
	for range 100 {
		if r = Run(t.Context(), Spec{Name: "p", Kind: PostgreSQL, Target: target, Timeout: 3 * time.Second}, e); !r.OK && strings.Contains(r.Words, "commit") {
			break
		}
	}
	return r
}

func TestAStandbyIsHeldAgainstItsLag(t *testing.T) {
	look := func(words string) *look {
		target, err := Parse(PostgreSQL, "node-2:5432 "+words)
		if err != nil {
			t.Fatal(err)
		}
		return &look{t: target, facts: map[string]string{}}
	}
	for _, c := range []struct {
		name, words string
		s           standing
		code        Code
		says        string
	}{
		{"one that follows", "role=standby lag=30s bytes=16MB", standing{recovery: true, receiving: true}, "", "follows its primary"},
		{"one that is behind", "role=standby lag=30s", standing{recovery: true, receiving: true, seconds: 95}, Lag, "1m35s behind; 30s is allowed"},
		{"one that receives nothing", "role=standby lag=30s", standing{recovery: true, seconds: 95}, Lag, "receives nothing"},
		{"one with much to replay", "role=standby bytes=16MB", standing{recovery: true, receiving: true, bytes: 17e6}, Lag, "17000000 bytes"},
		{"one that has replayed nothing", "role=standby lag=30s", standing{recovery: true, seconds: -1}, Lag, "not known"},
		{"a primary", "role=standby", standing{}, NotStandby, "follows nobody"},
	} {
		l := look(c.words)
		f := l.standby(c.s, "standby")
		if f.code != c.code || !strings.Contains(f.words, c.says) || f.unknown != (c.s.seconds < 0) {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

func TestADatabaseThatStartsOrIsNoneIsToldApart(t *testing.T) {
	message := func(kind byte, body string) []byte {
		n := len(body) + 4
		return append([]byte{kind, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, body...)
	}
	for _, c := range []struct {
		name string
		says []byte
		code Code
	}{
		{"a question for a password", message('R', "\x00\x00\x00\x0a"), ""},
		{"a refusal of strangers", message('E', "SFATAL\x00C28000\x00Mno\x00\x00"), ""},
		{"no such database", message('E', "SFATAL\x00C3D000\x00Mno\x00\x00"), ""},
		{"starting", message('E', "SFATAL\x00C57P03\x00Mthe database system is starting up\x00\x00"), Starting},
		{"full", message('E', "SFATAL\x00C53300\x00Mtoo many clients\x00\x00"), Busy},
		{"an error without a code", message('E', "SFATAL\x00\x00"), Protocol},
		{"a web page", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), Protocol},
		{"a length without end", []byte{'R', 0x7f, 0xff, 0xff, 0xff}, Protocol},
		{"half a message", message('R', "\x00\x00\x00\x0a")[:6], Reset},
	} {
		t.Run(c.name, func(t *testing.T) {
			port := serveTCP(t, func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 1024))
				_, _ = conn.Write(c.says)
			})
			expect(t, PostgreSQL, "localhost:"+port, Env{}, c.code)
		})
	}
	expect(t, PostgreSQL, "localhost:"+closedPort(t), Env{}, Refused)
	expectWithin(t, PostgreSQL, "localhost:"+silentPort(t), Env{}, 300*time.Millisecond, Timeout)
	login := Env{Login: func(context.Context, Spec) (Login, bool, error) {
		return Login{User: "u", Password: "hunter2"}, true, nil
	}}
	expectWithin(t, PostgreSQL, "localhost:"+silentPort(t), login, 300*time.Millisecond, Timeout)
	expect(t, PostgreSQL, "/nonexistent/socket:5432", login, NoName)
}

func TestAPasswordIsNotGivenToWhoeverAnswers(t *testing.T) {
	var got []byte
	done := make(chan struct{})
	port := serveTCP(t, func(conn net.Conn) {
		defer close(done)
		_, _ = conn.Read(make([]byte, 1024))
		_, _ = conn.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3}) // a password in the clear, please
		b := make([]byte, 1024)
		n, _ := conn.Read(b)
		got = b[:n]
	})
	login := Env{Login: func(context.Context, Spec) (Login, bool, error) {
		return Login{User: "u", Password: "hunter2"}, true, nil
	}}
	r := Run(t.Context(), Spec{Name: "p", Kind: PostgreSQL, Target: "localhost:" + port, Timeout: generous}, login)
	<-done
	if r.OK || strings.Contains(string(got), "hunter2") {
		t.Fatalf("%+v; the server got %q", r, got)
	}
}

func FuzzPostgreSQL(f *testing.F) {
	f.Add(byte('E'), []byte("SFATAL\x00C57P03\x00\x00"))
	f.Add(byte('R'), []byte{0, 0, 0, 10})
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		l := &look{t: Target{Kind: PostgreSQL, Host: "h", Port: 1}, facts: map[string]string{}}
		if got := l.postgresFirst(kind, body); got.words == "" || got.ok && got.code != "" {
			t.Fatalf("%+v", got)
		}
	})
}
