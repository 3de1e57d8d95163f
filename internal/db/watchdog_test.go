package db_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

const dogVariable = "FOUNDRY_DB_TEST_WATCHDOG"

// watchdogOf runs this test binary as the watchdog of a directory.
func watchdogOf(data string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), dogVariable+"="+data)
	return cmd
}

func watchAndExit(data string) {
	if err := db.Watchdog(context.Background(), data, os.Stdin, os.Stdout); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

func guarded(t *testing.T, until db.Moment) *db.Cluster {
	t.Helper()
	o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
	o.Until = until
	o.Watchdog = func() *exec.Cmd { return watchdogOf(filepath.Join(o.Dir, "data")) }
	return start(t, o)
}

func gone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); syscall.Kill(pid, 0) == nil; {
		if time.Now().After(end) {
			t.Fatalf("the server, process %d, goes on", pid)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// The supervisor of this test is not told that time is over in any other way
// than by the deadline: what ends the server is the watchdog.
func TestAServerEndsAtItsDeadlineAndStartsAgainWhenItMoves(t *testing.T) {
	c := guarded(t, db.Forever)
	first := c.PID()
	c.Extend(db.Now().Add(time.Millisecond))
	gone(t, first)
	c.Extend(db.Forever)
	for end := time.Now().Add(time.Minute); c.PID() == 0 || c.PID() == first; {
		if time.Now().After(end) {
			t.Fatal("the server does not start again")
		}
		<-time.After(20 * time.Millisecond)
	}
	stop(t, c)
}

func TestAFencedServerStaysDown(t *testing.T) {
	c := guarded(t, db.Forever)
	pid := c.PID()
	if err := c.Fence(context.Background()); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	if c.PID() != 0 {
		t.Fatal("it was started again")
	}
}

func TestAWatchdogWithoutAServerSaysThatItWatchesAndGoes(t *testing.T) {
	var out bytes.Buffer
	if err := db.Watchdog(context.Background(), dbtest.Dir(t), bytes.NewReader([]byte("1\nnonsense\n")), &out); err != nil || out.String() != "watching\n" {
		t.Fatalf("%q %v", out.String(), err)
	}
}
