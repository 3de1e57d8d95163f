//go:build faults

package db_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

// pair is a primary with a standby that has everything which was acknowledged,
// as somebody else than Foundry keeps them.
type pair struct {
	t         *testing.T
	c         *db.Cluster // of the primary's programs and files
	dir       string      // of the standby
	one, two  string      // ports
	superuser *pgx.Conn
}

// server runs a program of PostgreSQL as the user of the servers.
func (p *pair) server(program string, args ...string) {
	p.t.Helper()
	info, err := os.Stat(p.c.DataDir())
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(p.c.BinDir(), program), args...)
	cmd.Dir = "/"
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("%s %v: %v: %s", program, args, err, out)
	}
}

func startPair(t *testing.T) *pair {
	t.Helper()
	o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
	o.Superuser = true
	p := &pair{t: t, c: start(t, o), one: freePort(t), two: freePort(t)}
	if err := db.Migrate(t.Context(), p.c.Config(), dbtest.Log(t)); err != nil {
		t.Fatal(err)
	}
	stop(t, p.c)
	hba := filepath.Join(dbtest.Dir(t), "pg_hba.conf")
	if err := os.WriteFile(hba, []byte("host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.dir = filepath.Join(dbtest.Dir(t), "standby")
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(p.c.DataDir())
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(p.dir, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	run := func(data, port string) {
		p.server("pg_ctl", "start", "-w", "-s", "-l", "/dev/null", "-D", data, "-o", "-c config_file="+filepath.Join(o.Dir, "etc", "postgresql.conf")+" -c data_directory="+data+
			" -c listen_addresses=127.0.0.1 -c port="+port+" -c unix_socket_directories= -c logging_collector=off -c max_wal_senders=4 -c hba_file="+hba)
		t.Cleanup(func() { // whichever of them still runs
			cmd := exec.Command(filepath.Join(p.c.BinDir(), "pg_ctl"), "stop", "-s", "-m", "immediate", "-D", data)
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{}
			if os.Geteuid() == 0 {
				cmd.SysProcAttr.Credential = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
			}
			_ = cmd.Run()
		})
	}
	run(p.c.DataDir(), p.one)
	p.server("pg_basebackup", "-D", p.dir, "-h", "127.0.0.1", "-p", p.one, "-U", "foundry_bootstrap", "-R", "-X", "stream", "-c", "fast")
	run(p.dir, p.two)
	if p.superuser, err = pgx.Connect(t.Context(), "host=127.0.0.1 port="+p.one+" dbname=postgres user=foundry_bootstrap sslmode=disable"); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{`ALTER SYSTEM SET synchronous_standby_names = '*'`, `SELECT pg_reload_conf()`} {
		if _, err := p.superuser.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, "the standby confirms every commit", func() bool {
		var n int
		err := p.superuser.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'`).Scan(&n)
		return err == nil && n == 1
	})
	return p
}

// The primary of two servers is killed while gateways write, and the standby is
// promoted: whoever names both goes to the one that can be written, and nothing
// that was acknowledged is lost.
func TestWhoNamesSeveralServersFollowsTheOneThatIsPromoted(t *testing.T) {
	p := startPair(t)
	d := dbtest.Open(t, db.Config{DSN: "host=127.0.0.1,127.0.0.1 port=" + p.one + "," + p.two + " dbname=foundry target_session_attrs=read-write sslmode=disable", Epochs: &db.Epochs{}})
	waitHealthy(t, d)
	run(t, d, db.Migrator, things)

	var acknowledged sync.Map
	var written atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	org := uuid.New()
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for ctx.Err() == nil {
				note := uuid.NewString()
				switch err := add(ctx, d, org, org, note); {
				case err == nil:
					acknowledged.Store(note, true)
					written.Add(1)
				case ctx.Err() != nil, errors.Is(err, db.ErrCommitUnknown):
				case errors.Is(err, db.ErrUnavailable):
					_ = d.WaitHealthy(ctx)
				default:
					t.Errorf("writing: %v", err)
					return
				}
			}
		})
	}
	more := func(what string, n int64) {
		t.Helper()
		from := written.Load()
		wait(t, what, func() bool { return written.Load() >= from+n })
	}
	more("the primary takes writes", 200)
	began := time.Now()
	p.server("pg_ctl", "stop", "-s", "-m", "immediate", "-D", p.c.DataDir())
	wait(t, "the loss is seen", func() bool { return !d.Healthy() })
	p.server("pg_ctl", "promote", "-w", "-s", "-D", p.dir)
	more("the promoted one takes writes", 200)
	t.Logf("%d writes; the promoted one took them %s after the kill", written.Load(), time.Since(began).Round(time.Millisecond))
	cancel()
	writers.Wait()

	has := map[string]bool{}
	if err := d.Read(t.Context(), func(tx pgx.Tx) error {
		rows, err := tx.Query(t.Context(), "select note from things")
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, note := range all {
			has[note] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	lost := 0
	acknowledged.Range(func(note, _ any) bool {
		if !has[note.(string)] {
			lost++
		}
		return true
	})
	if lost > 0 {
		t.Errorf("%d of %d acknowledged writes are lost", lost, written.Load())
	}
}
