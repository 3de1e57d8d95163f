package keys

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
)

// victim is the child process: it does one act, and dies at a named step.
func victim(dsn string) {
	ctx := context.Background()
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	d, err := db.Open(ctx, db.Config{DSN: dsn}, slog.New(slog.DiscardHandler))
	fail(err)
	ring, err := Open(Options{Dir: os.Getenv("KEYS_TEST_DIR")})
	fail(err)
	o := audited(&entries{})
	o.DB, o.Keyring, o.Columns = d, ring, []Column{notes, secrets}
	at, org := os.Getenv("KEYS_TEST_STEP"), uuid.MustParse(os.Getenv("KEYS_TEST_ORG"))
	o.Step = func(step string) {
		if step == at {
			kill()
		}
	}
	v := NewVault(o)
	switch os.Getenv("KEYS_TEST_ACT") {
	case "rotate":
		_, err = v.Rotate(ctx, principal.Node("test"), org)
	case "rotate-files":
		_, err = v.RotateFiles(ctx, principal.Node("test"))
	case "rewrap":
		_, err = v.Rewrap(ctx, principal.Node("test"), true)
	case "shred":
		err = v.ShredDue(ctx)
	}
	fail(err)
}

// killAt runs an act in a process of its own that dies by SIGKILL at a step.
func (w *world) killAt(act, step string, org uuid.UUID) {
	w.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "KEYS_TEST_DSN="+w.cfg.DSN, "KEYS_TEST_DIR="+w.dir, "KEYS_TEST_ACT="+act, "KEYS_TEST_STEP="+step, "KEYS_TEST_ORG="+org.String())
	var said strings.Builder
	cmd.Stderr = &said
	err := cmd.Run()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		w.t.Fatalf("%s was not killed at %s: %v %s", act, step, err, said.String())
	}
}
