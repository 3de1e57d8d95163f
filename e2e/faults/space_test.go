//go:build faults

package faults

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/missionopsai/foundry/internal/gateway/simulator"
)

// disk is a small file system of its own.
func disk(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	dir := tempDir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=0711"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fill takes all the space there is, and returns how to give it back.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 4096; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// With its disk full a node loses nothing that it acknowledged: the database
// stops, what does not fit into the journal is refused, and all goes on by
// itself when there is space again. A start on the full disk says so.
func TestAFullDiskLosesNothing(t *testing.T) {
	t.Parallel()
	dir := disk(t, "320m")
	v := newVendor(t, simulator.Options{})
	n := newNodeIn(t, dir, thirdParty(v, ""))
	n.start()
	org, key := n.newClient()
	l := newLoad(n, key.Token, 100)
	l.begin()
	l.flows(t)
	free := fill(t, dir)
	full := time.Now()
	// Somebody writes to the database until it has no log to write to.
	go func() {
		conn, err := pgx.Connect(t.Context(), "host="+filepath.Join(n.data(), "postgres", "run")+" port=5432 sslmode=disable dbname=foundry user=foundry_migrator")
		if err == nil {
			_, _ = conn.Exec(t.Context(), "create table burn as select g, repeat(md5(g::text), 20) from generate_series(1, 200000) g")
			_ = conn.Close(t.Context())
		}
	}()
	pass(brief(8 * time.Second))
	during := l.since(full)
	for _, a := range during {
		if a.status != http.StatusOK && a.status != http.StatusServiceUnavailable {
			t.Errorf("on a full disk a request was answered %d %s (%v)", a.status, a.code, a.err)
			break
		}
	}
	t.Logf("on the full disk: %s", tally(during))
	var restarts int
	eventually(t, "the database to suffer from the full disk", func() (bool, string) {
		restarts = n.status().Database.Restarts
		return strings.Contains(n.log.String(), "shipping the journal failed") || restarts > 0, "it does not"
	})
	free()
	back := eventually(t, "the node to recover", func() (bool, string) {
		r, err := n.readiness()
		return err == nil && r.Database && r.Queue < 500 && r.Journal == "ok", fmt.Sprintf("%+v, %v", r, err)
	})
	t.Logf("recovered %s after there was space; the database server was started again %d times", back.Round(time.Millisecond), restarts)
	l.flows(t)
	l.end()
	n.settled()
	l.audit(t, org, v, false)

	// A kill, and a start on a disk that is full.
	n.kill()
	free = fill(t, dir)
	err := n.tryStart()
	if err == nil {
		t.Fatal("a node started on a full disk")
	}
	if n.code != 69 || !strings.Contains(err.Error(), "disk-full") {
		t.Errorf("a start on a full disk: %v", err)
	}
	free()
	n.start()
	n.settled()
	l.begin()
	l.flows(t)
	l.end()
	n.settled()
	l.audit(t, org, v, true)
}

// rss is a process's memory in MiB: now, or at its peak.
func rss(t *testing.T, pid int, field string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib >> 10
		}
	}
	t.Fatalf("/proc/%d/status has no %s", pid, field)
	return 0
}

// slowBody is a request's body of which the last byte comes when all others
// are on their way.
type slowBody struct {
	*bytes.Reader
	gate <-chan struct{}
}

func (s *slowBody) Read(p []byte) (int, error) {
	if s.Len() == 1 {
		<-s.gate
	} else if len(p) >= s.Len() {
		p = p[:s.Len()-1]
	}
	return s.Reader.Read(p)
}

// Large bodies beyond what may be held at once are shed, not collected until
// the node dies.
func TestLargeBodiesAreShedInsteadOfCollected(t *testing.T) {
	t.Parallel()
	const size, limit, clients = 5 << 20, 64 << 20, 200
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: simulator.NewBench(0), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	n := newNode(t, thirdParty(&vendor{url: "http://" + l.Addr().String()}, fmt.Sprintf("limits: {body_memory: %d}", limit)))
	n.start()
	_, key := n.newClient()
	body := []byte(`{"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "` + strings.Repeat("x", size) + `"}]}`)
	if a := n.ask(t.Context(), key.Token, "m", firstNumber, false, "Hello"); a.status != http.StatusOK {
		t.Fatalf("%+v", a)
	}
	before := rss(t, n.cmd.Process.Pid, "VmHWM")
	gate := make(chan struct{})
	var once sync.Once
	open := func() { once.Do(func() { close(gate) }) }
	defer open()
	var mu sync.Mutex
	counts := map[string]int{}
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			req, err := http.NewRequest(http.MethodPost, n.url+"/v1/chat/completions", &slowBody{bytes.NewReader(body), gate})
			if err != nil {
				t.Error(err)
				return
			}
			req.ContentLength = int64(len(body))
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Authorization", "Bearer "+key.Token)
			what := ""
			resp, err := n.client.Do(req)
			if err != nil {
				what = "transport: " + err.Error()
			} else {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				what = fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("X-Foundry-Problem"))
				if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
					what += " without Retry-After"
				}
			}
			mu.Lock()
			defer mu.Unlock()
			counts[what]++
		})
	}
	// A client that is still sending may find the connection closed before it
	// reads why.
	shed := func() int {
		mu.Lock()
		defer mu.Unlock()
		n := counts["503 body-memory"]
		for what, count := range counts {
			if strings.HasPrefix(what, "transport") {
				n += count
			}
		}
		return n
	}
	const fit = limit / size
	eventually(t, "the bodies that do not fit to be shed", func() (bool, string) {
		return shed() >= clients-fit-1, fmt.Sprint(shed())
	})
	open()
	all.Wait()
	peak := rss(t, n.cmd.Process.Pid, "VmHWM")
	t.Logf("%v; peak memory %d MiB, %d MiB before", counts, peak, before)
	if counts["200 "] == 0 || counts["503 body-memory"] < clients/2 || counts["200 "]+shed() != clients {
		t.Errorf("%v; want some answered and the others shed", counts)
	}
	// A body is held twice where the model has another name upstream, and the
	// collector lets garbage grow to as much again.
	if peak > before+5*limit>>20 {
		t.Errorf("peak memory %d MiB, %d MiB before, though bodies may hold %d MiB", peak, before, limit>>20)
	}
	if a := n.ask(t.Context(), key.Token, "m", firstNumber+1, false, "Hello"); a.status != http.StatusOK {
		t.Errorf("afterwards: %+v", a)
	}
}

// Connections that do nothing cost little and keep nobody out.
func TestIdleConnectionsCostLittle(t *testing.T) {
	t.Parallel()
	connections := 1000
	if testing.Short() {
		connections = 300
	}
	v := newVendor(t, simulator.Options{})
	n := newNode(t, thirdParty(v, ""))
	n.start()
	_, key := n.newClient()
	if a := n.ask(t.Context(), key.Token, "m", firstNumber, false, "Hello"); a.status != http.StatusOK {
		t.Fatalf("%+v", a)
	}
	before := rss(t, n.cmd.Process.Pid, "VmRSS")
	trusted := n.client.Transport.(*http.Transport).TLSClientConfig
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range connections {
		c, err := tls.Dial("tcp", strings.TrimPrefix(n.url, "https://"), trusted)
		if err != nil {
			t.Fatalf("connection %d: %v", len(open)+1, err)
		}
		open = append(open, c)
	}
	if a := n.ask(t.Context(), key.Token, "m", firstNumber+1, false, "Hello"); a.status != http.StatusOK {
		t.Errorf("beside %d idle connections: %+v", connections, a)
	}
	now := rss(t, n.cmd.Process.Pid, "VmRSS")
	t.Logf("%d idle TLS connections: %d MiB before, %d MiB now", connections, before, now)
	if each := (now - before) << 10 / connections; each > 100 {
		t.Errorf("an idle connection costs %d KiB", each)
	}
}
