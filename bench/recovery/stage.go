//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// stage is a node with a private cluster and one repository, as on a small
// server; only that both are on one disk.
type stage struct {
	dir     string
	program string
	node    *exec.Cmd
	data    string // data directory of the node
	address string
	key     string // API key
	kit     string
	written int64            // rows of earlier rounds that are still there
	peaks   map[string]int64 // resident memory of processes of Foundry, bytes, by what they did

	// How to run pgBackRest by hand: what Foundry gives it.
	config  string
	server  string // directory of PostgreSQL's programs
	account *syscall.Credential
}

const settings = `node: {country: FI, supplier: here, account: primary}
listen: {https: "%[1]s", http: "off"}
backup:
  daily_at: "%[2]s"
  archive_timeout: 30s
  targets:
    - {name: offsite, kind: directory, path: %[3]s, supplier: elsewhere, account: backups, host: other, country: DE}
`

// open starts the node, and waits for the backups that it begins by itself.
func (s *stage) open(ctx context.Context) error {
	s.data = filepath.Join(s.dir, "node")
	repository := filepath.Join(s.dir, "offsite")
	if err := os.Mkdir(repository, 0o755); err != nil {
		return err
	}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.account = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(repository, uid, gid); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		return err
	}
	s.address = l.Addr().String()
	_ = l.Close()
	// Not while it is measured.
	later := time.Now().UTC().Add(12 * time.Hour).Format("15:04")
	text := fmt.Sprintf(settings, s.address, later, repository)
	if err := os.WriteFile(filepath.Join(s.dir, "foundry.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	if err := s.up(ctx, s.data); err != nil {
		return err
	}
	out, err := s.foundry(ctx, "key", "create", "--org", "default", "--name", "bench", "--json")
	if err != nil {
		return err
	}
	var made struct{ Token string }
	if err := json.Unmarshal(out, &made); err != nil || made.Token == "" {
		return fmt.Errorf("making a key: unexpected answer %q", out)
	}
	s.key = made.Token
	if err := s.find(repository); err != nil {
		return err
	}
	return s.idle(ctx)
}

// find finds what the node made for pgBackRest, and the server that it runs.
func (s *stage) find(repository string) error {
	found, _ := filepath.Glob("/dev/shm/foundry-*/pgbackrest/offsite.conf")
	more, _ := filepath.Glob("/run/foundry-*/pgbackrest/offsite.conf")
	for _, path := range append(found, more...) {
		if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte(repository)) {
			s.config = path
		}
	}
	if s.config == "" {
		return errors.New("the node's configuration of pgBackRest was not found")
	}
	text, err := os.ReadFile(filepath.Join(s.data, "postgres", "data", "postmaster.pid"))
	if err != nil {
		return err
	}
	pid, _, _ := strings.Cut(string(text), "\n")
	program, err := os.Readlink(filepath.Join("/proc", pid, "exe"))
	s.server = filepath.Dir(program)
	return err
}

// up starts a node on a data directory and waits until it is ready.
func (s *stage) up(ctx context.Context, data string) error {
	config := filepath.Join(s.dir, "foundry.yaml")
	if data != s.data {
		config = filepath.Join(data, "foundry.yaml")
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "node.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.node = exec.Command(s.program, "up", "--json", "--config", config, "--data-dir", data)
	s.node.Stderr = log
	ready, err := s.node.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.node.Start(); err != nil {
		return err
	}
	first := make(chan error, 1)
	go func() {
		first <- json.NewDecoder(ready).Decode(&struct{}{})
		_, _ = io.Copy(io.Discard, ready)
	}()
	select {
	case err = <-first:
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(5 * time.Minute):
		err = errors.New("it was not ready in time")
	}
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("starting the node: %w\n%s", err, text[max(0, len(text)-2000):])
	}
	return nil
}

func (s *stage) close() {
	if s.node != nil && s.node.Process != nil {
		_ = s.node.Process.Signal(syscall.SIGTERM)
		_ = s.node.Wait()
	}
}

// foundry gives the running node a command, and returns what it printed.
func (s *stage) foundry(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.program, append([]string{"--data-dir", s.data}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := s.watch(cmd, strings.Join(args[:min(2, len(args))], " "))
	if err != nil {
		return out, fmt.Errorf("foundry %s: %w: %s", strings.Join(args, " "), err, &stderr)
	}
	return out, nil
}

// watch runs a command to its end, and notes its largest resident set and the
// node's, not those of the engines that they start.
func (s *stage) watch(cmd *exec.Cmd, name string) ([]byte, error) {
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			s.remember(name, cmd.Process)
			if s.node != nil {
				s.remember("up", s.node.Process)
			}
			select {
			case <-ended:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	err := cmd.Wait()
	close(ended)
	<-watched
	return out.Bytes(), err
}

func (s *stage) remember(name string, p *os.Process) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid))
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			s.peaks[name] = max(s.peaks[name], kb*1024)
		}
	}
}

// spent is the processor time of a process and of all that it started and that
// has ended.
func spent(p *os.Process) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // the name may have blanks
	ticks := 0
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime; proc(5)
		n, _ := strconv.Atoi(f)
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ, on every Linux
}

// idle waits until no backup or drill runs.
func (s *stage) idle(ctx context.Context) error {
	for {
		out, err := s.foundry(ctx, "backup", "status", "--json")
		var status struct {
			Newest  *struct{} `json:"newest"`
			Running []any     `json:"running"`
		}
		if err == nil && json.Unmarshal(out, &status) == nil && len(status.Running) == 0 && status.Newest != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// socket is the directory of the server's socket.
func (s *stage) socket() (string, error) {
	text, err := os.ReadFile(filepath.Join(s.data, "postgres", "data", "postmaster.pid"))
	if err != nil {
		return "", err
	}
	lines := strings.Split(string(text), "\n") // the fifth is the socket's directory
	if len(lines) < 5 {
		return "", errors.New("the server is not running")
	}
	return strings.TrimSpace(lines[4]), nil
}

// connect signs in as a role of the node's; the kernel vouches for the user.
func (s *stage) connect(ctx context.Context, role string) (*pgx.Conn, error) {
	socket, err := s.socket()
	if err != nil {
		return nil, err
	}
	return pgx.Connect(ctx, fmt.Sprintf("host=%s port=5432 user=%s dbname=foundry sslmode=disable", socket, role))
}

// fill makes the data: rows that compress about as text does.
func (s *stage) fill(ctx context.Context, scale int) error {
	fmt.Fprintln(os.Stderr, "recovery: filling the database")
	c, err := s.connect(ctx, "foundry_migrator")
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	// Where Foundry's own tables are, so that their rows are counted too.
	for _, statement := range []string{
		`SET statement_timeout = 0`,
		`CREATE TABLE public.bench_fill (id bigint PRIMARY KEY, body text NOT NULL)`,
		`CREATE TABLE public.bench_writes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), body text NOT NULL)`,
	} {
		if _, err := c.Exec(ctx, statement); err != nil {
			return err
		}
	}
	for i := range scale { // 15 MB at a time
		if _, err := c.Exec(ctx, `INSERT INTO public.bench_fill SELECT $1::bigint * 50000 + n, md5(random()::text) || md5(random()::text) || repeat(md5(n::text), 6) FROM generate_series(1, 50000) n`, i); err != nil {
			return err
		}
	}
	// Otherwise the server does it by itself, while it is measured.
	_, err = c.Exec(ctx, `VACUUM (FREEZE, ANALYZE) public.bench_fill`)
	return err
}

// size is that of the database.
func (s *stage) size(ctx context.Context) (n int64, err error) {
	c, err := s.connect(ctx, "foundry_migrator")
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	err = c.QueryRow(ctx, `SELECT pg_database_size(current_database())`).Scan(&n)
	return n, err
}

// answers asks the node for a model's answer until one comes.
func (s *stage) answers(ctx context.Context, data string) error {
	client := &http.Client{Transport: insecure(), Timeout: 5 * time.Second}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.address+"/v1/chat/completions",
			strings.NewReader(`{"model":"routine","messages":[{"role":"user","content":"Hello"}]}`))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+s.key)
		req.Header.Set("Content-Type", "application/json")
		if res, err := client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			if res.StatusCode != http.StatusServiceUnavailable {
				return fmt.Errorf("the recovered node answers %d", res.StatusCode)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// run runs a program to its end.
func run(ctx context.Context, argv ...string) error {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", argv[0], err, out)
	}
	return nil
}
