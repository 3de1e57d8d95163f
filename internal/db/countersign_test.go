package db_test

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

// unwatched is a cluster whose watchdog is stopped, as all of a machine's
// processes may be: what holds after its deadline holds without it.
func unwatched(t *testing.T) (*db.Cluster, *db.DB) {
	t.Helper()
	o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
	var dog *exec.Cmd
	o.Watchdog = func() *exec.Cmd {
		dog = watchdogOf(filepath.Join(o.Dir, "data"))
		return dog
	}
	c := start(t, o)
	if err := db.Migrate(t.Context(), c.Config(), nil); err != nil {
		t.Fatal(err)
	}
	signal := func(sig syscall.Signal) {
		if err := dog.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	d, err := db.Open(t.Context(), c.Config(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Close()
		c.Extend(db.Forever) // what the watchdog reads when it goes on
		signal(syscall.SIGCONT)
		stop(t, c)
	})
	return c, d
}

func write(ctx context.Context, d *db.DB) error {
	return d.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT pg_logical_emit_message(true, 'test', 'x')`)
		return err
	})
}

func TestNoCommitIsAcknowledgedAfterTheDeadlineThoughTheServerGoesOn(t *testing.T) {
	c, d := unwatched(t)
	if err := write(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	c.Extend(db.Now())
	pid := c.PID()
	waiting := make(chan error, 1)
	go func() { waiting <- write(context.Background(), d) }()
	select {
	case err := <-waiting:
		t.Fatalf("a commit ended after the deadline: %v", err)
	case <-time.After(2 * time.Second):
	}
	c.Extend(db.Forever)
	select {
	case err := <-waiting:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the commit is not acknowledged though the deadline was moved")
	}
	if c.PID() != pid {
		t.Fatal("the server was ended: nothing was tried")
	}
}

// PostgreSQL acknowledges a commit whose wait is cancelled, with a warning.
func TestACommitThatNobodyCountersignedIsNotTakenForOne(t *testing.T) {
	c, d := unwatched(t)
	c.Extend(db.Now())
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := write(ctx, d); !errors.Is(err, db.ErrCommitUnknown) {
		t.Fatalf("%v", err)
	}
}

func TestAServerThatDiesIsCountersignedAgain(t *testing.T) {
	c := guarded(t, db.Forever)
	d, err := db.Open(t.Context(), c.Config(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	pid := c.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; {
		if err := write(t.Context(), d); err == nil && c.PID() != pid {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
		<-time.After(20 * time.Millisecond)
	}
	stop(t, c)
}

// Only the process that keeps the deadline may be the one that signs, and
// where there is no deadline nobody may.
func TestNobodySignsWhereThereIsNoDeadline(t *testing.T) {
	c := start(t, options(t, filepath.Join(dbtest.Dir(t), "postgres")))
	for _, parameters := range []string{"", " replication=true"} {
		conn, err := pgx.Connect(t.Context(), c.Config().DSN+parameters+" user="+string(db.Countersigner))
		if err == nil {
			_ = conn.Close(t.Context())
			t.Errorf("somebody came in as the countersigner%s", parameters)
		}
	}
	stop(t, c)
}

func TestThePlaceInTheLogThatAServerHasSent(t *testing.T) {
	for _, c := range []struct {
		name, body string
		upto       uint64
		asked, bad bool
	}{
		{"log", "w" + "\x00\x00\x00\x01\x00\x00\x00\x02" + strings.Repeat("x", 16) + "abc", 1<<32 + 5, false, false},
		{"a keepalive", "k" + "\x00\x00\x00\x00\x00\x00\x00\x09" + strings.Repeat("x", 8) + "\x00", 9, false, false},
		{"a keepalive that asks", "k" + "\x00\x00\x00\x00\x00\x00\x00\x09" + strings.Repeat("x", 8) + "\x01", 9, true, false},
		{"half of one", "k\x00", 0, false, true},
		{"nothing", "", 0, false, true},
		{"something else", strings.Repeat("z", 40), 0, false, true},
	} {
		upto, asked, err := db.ReadSent([]byte(c.body))
		if upto != c.upto || asked != c.asked || (err != nil) != c.bad {
			t.Errorf("%s: %d %v %v", c.name, upto, asked, err)
		}
	}
	for text, want := range map[string]uint64{"0/0": 0, "16/B374D848": 0x16<<32 | 0xB374D848} {
		if at, err := db.ParseLSN(text); at != want || err != nil {
			t.Errorf("%s: %d %v", text, at, err)
		}
	}
	for _, text := range []string{"", "1", "1/", "/1", "1/2/3", "g/1", "100000000/0"} {
		if at, err := db.ParseLSN(text); err == nil {
			t.Errorf("%q was read as %d", text, at)
		}
	}
}

func FuzzWhatAServerSends(f *testing.F) {
	f.Add([]byte("k\x00\x00\x00\x00\x00\x00\x00\x09xxxxxxxx\x01"))
	f.Add([]byte("w"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, asked, err := db.ReadSent(body); asked && (err != nil || body[0] != 'k') {
			t.Fatal(err)
		}
	})
}
