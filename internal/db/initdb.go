package db

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// run runs one program of the server's installation to its end, as the
// server's user, and returns all it wrote.
func (a account) run(ctx context.Context, bin, program, dir, stdin string, args ...string) (string, error) {
	// The thread must live as long as the child: see attributes.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, program), args...)
	cmd.Dir = dir
	cmd.Env = serverEnvironment()
	cmd.Stdin = strings.NewReader(stdin)
	cmd.SysProcAttr = a.attributes()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// serverEnvironment keeps PGDATA, PGPORT, PGOPTIONS and the shell's language
// away from the server.
func serverEnvironment() []string {
	return []string{"LC_ALL=C", "HOME=/", "PATH=" + os.Getenv("PATH")}
}

// create makes the data directory, whole or not at all: initdb and the roles
// go into data.new, which then takes the name data.
func (c *Cluster) create(ctx context.Context) error {
	if err := removeUnfinished(c.at.next); err != nil {
		return err
	}
	if err := c.who.mkdir(c.at.next); err != nil {
		return err
	}
	start := time.Now()
	args := []string{"-D", c.at.next, "-U", superuser, "--data-checksums", "--encoding=UTF8", "--no-instructions",
		"--auth-local=peer", "--auth-host=reject", "--lc-messages=C", "--lc-collate=C"}
	if c.o.Settings["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	// C.UTF-8 knows letters beyond ASCII and sorts by code point, so that an
	// index survives a change of the C library; musl and old systems lack it.
	out, err := c.who.run(ctx, c.srv.dir, "initdb", c.at.next, "", append(args, "--locale=C.UTF-8")...)
	if err != nil && strings.Contains(out, "invalid locale name") {
		out, err = c.who.run(ctx, c.srv.dir, "initdb", c.at.next, "", append(args, "--no-locale")...)
	}
	if err != nil {
		err = startProblem(ctx, c.at.dir, "initdb", out, err)
		_ = removeUnfinished(c.at.next)
		return err
	}
	if err := c.bootstrap(ctx, c.at.next); err != nil {
		_ = removeUnfinished(c.at.next)
		return err
	}
	if err := os.Rename(c.at.next, c.at.data); err != nil {
		return fileProblem(c.at.data, err)
	}
	c.log.Info("made the database cluster", "dir", c.at.data, "postgresql", c.srv.major, "took", time.Since(start))
	return syncDir(c.at.dir)
}

// bootstrap makes roles and database in single-user mode: no superuser ever
// has to be reachable over the socket for it.
func (c *Cluster) bootstrap(ctx context.Context, data string) error {
	if err := c.single(ctx, data, slices.Concat(privateStatements(), databaseStatements(databaseName))); err != nil {
		return err
	}
	return replaceFile(c.rolesMark(), rolesSum(), c.who.gid)
}

// refreshRoles brings the roles of an older release's cluster up to date.
func (c *Cluster) refreshRoles(ctx context.Context) error {
	if mark, err := os.ReadFile(c.rolesMark()); err == nil && string(mark) == rolesSum() {
		return nil
	}
	if err := c.single(ctx, c.at.data, privateStatements()); err != nil {
		return err
	}
	return replaceFile(c.rolesMark(), rolesSum(), c.who.gid)
}

// privateStatements make the roles of a private cluster.
func privateStatements() []string {
	return slices.Concat(roleStatements(), backupStatements(), countersignStatements())
}

// rolesMark is a file that says which roles were made.
func (c *Cluster) rolesMark() string { return filepath.Join(c.at.etc, "roles.sum") }

func rolesSum() string {
	sum := sha256.Sum256([]byte(strings.Join(privateStatements(), ";\n")))
	return hex.EncodeToString(sum[:]) + "\n"
}

// single runs statements as the superuser on a server that nobody can reach.
func (c *Cluster) single(ctx context.Context, data string, statements []string) error {
	var script strings.Builder
	for _, s := range statements {
		script.WriteString(s + ";\n\n") // how -j ends a command
	}
	args := []string{"--single", "-j", "-D", data, "-c", "exit_on_error=on", "-c", "log_min_messages=error",
		"-c", "log_error_verbosity=terse", "-c", "logging_collector=off", "-c", "lc_messages=C"}
	if c.o.Archive != nil {
		// Segments that wait for the archiver stay. A server that archives
		// nothing takes them for waste, and the archive would have a gap.
		args = append(args, "-c", "archive_mode=on", "-c", "archive_command=")
	}
	out, err := c.who.run(ctx, c.srv.dir, "postgres", data, script.String(), append(args, "postgres")...)
	if err != nil {
		return startProblem(ctx, c.at.dir, "making the database roles", out, err)
	}
	return nil
}

// startProblem is diagnose, unless the caller gave up.
func startProblem(ctx context.Context, dir, what, out string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	return diagnose(dir, what, out, err)
}

// removeUnfinished removes what an interrupted create left. It never was in
// use: a data directory gets its name only when it is complete.
func removeUnfinished(next string) error {
	// An initdb whose parent was killed removes its directory: it must not
	// remove ours.
	waitUntil(context.Background(), 5*time.Second, func() bool {
		left := serverProcesses(next)
		killAll(left, syscall.SIGKILL)
		return len(left) == 0
	})
	if err := os.RemoveAll(next); err != nil {
		return fileProblem(next, err)
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fileProblem(dir, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fileProblem(dir, err)
	}
	return nil
}

func killAll(pids []int, sig syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig) // it may be gone already
	}
}
