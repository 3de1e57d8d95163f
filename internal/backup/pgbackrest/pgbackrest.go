// Package pgbackrest knows how the database and its WAL are kept with pgBackRest.
//
// Every target has a configuration, a lock, a spool and a log of its own, with
// one repository: several repositories in one configuration wait for each
// other (archive-push reports a segment safe when the slowest has it, and a
// stanza cannot be made while one of them is away). What is written here was
// measured with pgBackRest 2.45; docs/decisions has the numbers.
package pgbackrest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

// Name is the engine's name.
const Name = "pgbackrest"

// stanza is pgBackRest's name for the cluster inside a repository.
const stanza = "foundry"

// Server is a running private cluster.
type Server struct {
	Data, Socket string
	Port         string // names the socket; empty: 5432
}

// Of is the server of a cluster.
func Of(c *db.Cluster) Server {
	return Server{Data: c.DataDir(), Socket: c.SocketDir(), Port: c.Port()}
}

// Options say what the engine works with.
type Options struct {
	Program    string            // empty: found on this machine
	Targets    []target.Target   // where finished WAL segments go, all of them; SFTP is not possible
	Passphrase engine.Passphrase // of each repository
	Runtime    *engine.Runtime   // for configurations, which hold passphrases and keys
	// Dir is the engine's own directory for locks, spools and logs, for example
	// <data-dir>/pgbackrest. The server's account has to be able to reach it.
	Dir     string
	Account db.Account
	// Server is the running cluster; false: there is none now. nil: never, as
	// with an external database, of which pgBackRest would need the files.
	Server    func() (Server, bool)
	Processes int    // default 2
	Compress  string // zst (default), lz4, gz or none
	Clock     func() time.Time
	Log       *slog.Logger
}

// Engine keeps a private cluster in repositories at targets.
type Engine struct {
	o       Options
	runtime *engine.Runtime

	mu      sync.Mutex
	written map[string]conf // by target

	histories map[string]map[uint32]uint64 // of timelines: see history
}

type conf struct{ path, text, passphrase string }

// New finds the program and writes the configuration of every target, so that
// WAL can be archived as soon as the cluster starts.
func New(ctx context.Context, o Options) (*Engine, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Processes <= 0 {
		o.Processes = 2
	}
	if o.Compress == "" {
		o.Compress = "zst"
	}
	if o.Program == "" {
		path, err := exec.LookPath("pgbackrest")
		if err != nil {
			return nil, problem.New(problem.Unavailable, "engine-missing", "There is no pgBackRest on this machine.").
				WithMend("Install it: on Debian or Ubuntu with `apt-get install pgbackrest`, or `scripts/setup`.").Wrap(err)
		}
		o.Program = path
	}
	uid, gid := o.Account.IDs()
	runtime, err := o.Runtime.Sub(Name, uid, gid)
	if err != nil {
		return nil, err
	}
	if err := o.Account.Reaches(runtime.Dir()); err != nil {
		return nil, err
	}
	e := &Engine{o: o, runtime: runtime, written: map[string]conf{}, histories: map[string]map[uint32]uint64{}}
	for _, t := range o.Targets {
		if _, err := e.configure(ctx, t); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Name is "pgbackrest".
func (e *Engine) Name() string { return Name }

// usable refuses targets that this engine cannot use.
func usable(t target.Target) error {
	switch {
	case t.Kind == target.SFTPHost:
		return problem.New(problem.Unsupported, "engine-kind", "The database cannot be backed up to "+t.Name+": this pgBackRest has no SFTP.").
			WithField("backup.targets").WithMend("Give the database a directory or an S3 bucket, and say engines: [restic] for this target.")
	case !t.Serves(Name):
		return problem.New(problem.Invalid, "engine-not-for", "The target "+t.Name+" is not for the database.").
			WithField("backup.targets").WithMend("Add pgbackrest to its engines.")
	}
	return nil
}

// configure writes the configuration for a target where it changed.
func (e *Engine) configure(ctx context.Context, t target.Target) (conf, error) {
	if err := usable(t); err != nil {
		return conf{}, err
	}
	passphrase, err := e.o.Passphrase(ctx, t)
	if err != nil {
		return conf{}, err
	}
	text, err := e.configuration(t, passphrase)
	if err != nil {
		return conf{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.written[t.Name]
	if c.text == text {
		return c, nil
	}
	for _, dir := range []string{e.dir(t), e.dir(t, "lock"), e.dir(t, "spool"), e.dir(t, "log")} {
		if err := e.o.Account.Mkdir(dir); err != nil {
			return conf{}, err
		}
	}
	if err := e.o.Account.Reaches(e.dir(t)); err != nil {
		return conf{}, err
	}
	path, err := e.runtime.Write(t.Name+".conf", text)
	if err != nil {
		return conf{}, err
	}
	c = conf{path, text, passphrase}
	e.written[t.Name] = c
	return c, nil
}

func (e *Engine) dir(t target.Target, below ...string) string {
	return filepath.Join(append([]string{e.o.Dir, t.Name}, below...)...)
}

// configuration is the configuration file of a target.
func (e *Engine) configuration(t target.Target, passphrase string) (string, error) {
	type option struct{ name, value string }
	all := []option{
		{"repo1-path", repositoryPath(t)},
		{"repo1-cipher-type", "aes-256-cbc"},
		{"repo1-cipher-pass", passphrase},
		{"repo1-bundle", "y"},
		{"lock-path", e.dir(t, "lock")},
		{"log-path", e.dir(t, "log")},
		{"spool-path", e.dir(t, "spool")},
		{"log-level-file", "off"}, // it would grow for ever
		{"compress-type", e.o.Compress},
		{"process-max", fmt.Sprint(e.o.Processes)},
		{"start-fast", "y"},
		{"archive-timeout", "120"}, // how long a backup waits for its own WAL to arrive
		// What goes is decided by Expire alone, point by point.
		{"expire-auto", "n"},
		{"repo1-retention-full-type", "count"},
		{"repo1-retention-full", "9999999"},
	}
	if e.o.Compress == "zst" {
		all = append(all, option{"compress-level", "1"})
	}
	if t.Kind == target.S3Bucket {
		region, style := t.S3.Region, t.S3.Style
		if region == "" {
			region = "us-east-1"
		}
		if style == "" {
			style = "path"
		}
		all = append(all, option{"repo1-type", "s3"}, option{"repo1-s3-endpoint", t.S3.Endpoint}, option{"repo1-s3-bucket", t.S3.Bucket},
			option{"repo1-s3-region", region}, option{"repo1-s3-uri-style", style},
			option{"repo1-s3-key", t.S3Key}, option{"repo1-s3-key-secret", t.S3Secret}, option{"io-timeout", "30"})
		if t.S3.CA != "" {
			all = append(all, option{"repo1-storage-ca-file", t.S3.CA})
		}
	}
	var b strings.Builder
	b.WriteString("[global]\n")
	for _, o := range all {
		if strings.ContainsAny(o.value, "\r\n\x00") {
			return "", problem.New(problem.Invalid, "engine-value", "A value for the target "+t.Name+" has a line break in it.").WithField("backup.targets")
		}
		fmt.Fprintf(&b, "%s=%s\n", o.name, o.value)
	}
	// Asynchronous, so that many segments are pushed at a time; a push that
	// hangs is given up soon, since PostgreSQL asks again. Never
	// archive-push-queue-max: it drops WAL and reports success.
	b.WriteString("\n[global:archive-push]\narchive-async=y\narchive-timeout=10\n")
	return b.String(), nil
}

// repositoryPath is where the repository lies at the target.
func repositoryPath(t target.Target) string {
	if t.Kind == target.S3Bucket {
		return "/" + strings.TrimPrefix(filepath.Join(t.Path, Name), "/")
	}
	return filepath.Join(t.Path, Name)
}

// ArchiveCommand is archive_command for a data directory (db.Archive): it
// pushes a segment to every target at once, each by a process of its own, and
// succeeds when all have it. One that hangs or is away keeps PostgreSQL from
// forgetting the segment, and does not keep the others waiting.
//
// PostgreSQL asks for the oldest segment until it is safe everywhere. A target
// that has it already would answer from its spool and push nothing newer: on
// failure that answer (<segment>.ok) is removed, so that the next try pushes
// to that target all that is ready. It finds the old one there by checksum.
func (e *Engine) ArchiveCommand(data string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var start, wait, forget strings.Builder
	n := 0
	for _, t := range e.o.Targets {
		c, ok := e.written[t.Name]
		if !ok {
			continue
		}
		args := []string{e.o.Program, "--config=" + c.path, "--stanza=" + stanza, "--pg1-path=" + data, "--log-level-console=off", "--log-level-stderr=warn", "archive-push"}
		for _, a := range args {
			start.WriteString(shellQuote(a) + " ")
		}
		fmt.Fprintf(&start, "%%p & p%d=$!; ", n)
		fmt.Fprintf(&wait, "wait $p%d || r=1; ", n)
		forget.WriteString(" " + shellQuote(e.dir(t, "spool", "archive", stanza, "out")+"/") + "%f.ok")
		n++
	}
	if n == 0 {
		return ""
	}
	return start.String() + "r=0; " + wait.String() + "[ $r = 0 ] || rm -f" + forget.String() + "; exit $r"
}

// shellQuote quotes a word for sh, and for PostgreSQL, which replaces %p, %f
// and %%.
func shellQuote(word string) string {
	return "'" + strings.NewReplacer(`'`, `'\''`, `%`, `%%`).Replace(word) + "'"
}

// server is the running cluster, or why there is none.
func (e *Engine) server() (Server, error) {
	if e.o.Server == nil {
		return Server{}, problem.New(problem.Unsupported, "engine-external", "The database is an external server: pgBackRest needs the database's own files, on this machine.").
			WithField("database.dsn").WithMend("Have whoever runs that server back it up, or move to a private cluster (leave database.dsn out).")
	}
	s, ok := e.o.Server()
	if !ok {
		return Server{}, problem.New(problem.Unavailable, "engine-database", "The database is not running, so no backup of it can begin.").
			WithMend("Start the node with `foundry up`.").WithRetry(10 * time.Second)
	}
	return s, nil
}

// connection are the options by which pgBackRest reaches the running cluster.
func (s Server) connection() []string {
	return []string{"--pg1-path=" + s.Data, "--pg1-socket-path=" + s.Socket, "--pg1-port=" + cmp.Or(s.Port, "5432"), "--pg1-user=" + string(db.Backup), "--pg1-database=" + db.MaintenanceDatabase}
}

// run runs one command on a target's repository.
func (e *Engine) run(ctx context.Context, t target.Target, line func(string), args ...string) (engine.Output, error) {
	c, err := e.configure(ctx, t)
	if err != nil {
		return engine.Output{}, err
	}
	if err := present(t); err != nil {
		return engine.Output{}, err
	}
	out, err := e.child(t, c, line, args...).Run(ctx)
	if err != nil && ctx.Err() != nil {
		return out, err
	}
	if err != nil {
		if away := present(t); away != nil {
			return out, away // gone meanwhile: what pgBackRest says follows from that
		}
		return out, e.judgeKey(ctx, t, failure(t, out, err))
	}
	return out, nil
}

// present tells a directory that is away from one that is empty.
func present(t target.Target) error { return t.There() }

// writable refuses a directory that nothing can be written to, before a
// backup begins and waits for WAL that cannot arrive.
func writable(t target.Target) error {
	if t.Kind != target.Directory {
		return nil
	}
	const readOnly, least = 0x1, 1 << 20 // ST_RDONLY of statvfs(3), which Linux gives in f_flags
	var fs syscall.Statfs_t
	switch err := syscall.Statfs(t.Path, &fs); {
	case err != nil:
		return present(t)
	case fs.Flags&readOnly != 0:
		return failure(t, engine.Output{Last: []string{"ERROR: Read-only file system"}}, errors.New("statfs"))
	case fs.Bavail*uint64(fs.Bsize) < least: //nolint:unconvert // the types differ between systems
		return failure(t, engine.Output{Last: []string{"ERROR: No space left on device"}}, errors.New("statfs"))
	}
	return nil
}

// blocked explains a backup that failed or waited in vain for its WAL: by the
// state of the target, for which pgBackRest's words are not always the system's,
// and by what the pushes to it ended with, which pgBackRest leaves in its spool.
func (e *Engine) blocked(ctx context.Context, t target.Target, err error) error {
	var p *problem.Error
	if !errors.As(err, &p) || p.Code != "engine-archive" && p.Code != "engine-failed" {
		return err
	}
	if werr := writable(t); werr != nil {
		return werr
	}
	if t.Kind == target.S3Bucket { // pgBackRest tries again for so long that it never says what the server said
		bound, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		var why *problem.Error
		if _, perr := t.Probe(bound); errors.As(perr, &why) && bound.Err() == nil {
			return perr
		}
	}
	if p.Code == "engine-failed" {
		return err
	}
	files, _ := filepath.Glob(filepath.Join(e.dir(t, "spool", "archive", stanza, "out"), "*.error")) // the pattern is well-formed
	for _, path := range files {
		text, rerr := os.ReadFile(path)
		if rerr != nil || len(text) == 0 {
			continue
		}
		var known *problem.Error
		why := failure(t, engine.Output{Last: strings.Split("ERROR: "+string(text), "\n")}, err)
		if errors.As(why, &known) && known.Code != "engine-failed" && known.Code != "engine-archive" {
			return why
		}
	}
	return err
}

// hold takes the lock of a target that every run which changes the
// repository holds: counting points and then removing others must be one step.
// pgBackRest's own lock covers only one command. The kernel lets go of it when
// the process ends, however it ends.
func (e *Engine) hold(t target.Target) (release func(), err error) {
	f, err := tryLock(filepath.Join(e.o.Dir, t.Name+".lock"))
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, locked(t)
	case err != nil:
		return nil, fmt.Errorf("locking the target %s: %w", t.Name, err)
	}
	// Let go by name, not by closing: a program that another goroutine starts
	// at this moment has a copy of the file until it is another program.
	return func() { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN); _ = f.Close() }, nil
}

// turn waits until no backup of the cluster runs to any target: pgBackRest
// takes a lock in the database and refuses a second one.
func (e *Engine) turn(ctx context.Context) (release func(), err error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		f, err := tryLock(filepath.Join(e.o.Dir, "cluster.lock"))
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking the cluster for a backup: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func locked(t target.Target) *problem.Error {
	return problem.New(problem.Conflict, "engine-locked", "Another run works on the database's backups at "+t.Name+".").
		WithMend("Wait for it to end; `foundry backup list` shows it.").WithRetry(time.Minute)
}
