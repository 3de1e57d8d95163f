package db

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// RestoredOptions say where a restored copy lies and how its server runs.
type RestoredOptions struct {
	Dir      string            // holds data, which a backup engine restored; log, etc and run are made beside it
	BinDir   string            // empty: the server found on this machine of the major version that made the data
	User     string            // as ClusterOptions.User
	Log      *slog.Logger      // nil: silent
	Settings map[string]string // over what a copy is given; none of apartSettings
	// Live says that the copy is to become the live database: what it writes
	// is forced to disk, and every WAL segment from its new timeline on is kept
	// for the archive (archive_mode=on without a command), so that the archive
	// has no gap once StartCluster gives it a command again.
	Live bool
}

// apartSettings keep a restored copy from touching anything of the server that
// it is a copy of. They are given on the command line, over whatever stands in
// the copy's own postgresql.auto.conf.
var apartSettings = map[string]string{
	"archive_mode":              "off", // two servers that archive into one repository destroy it
	"archive_command":           "",
	"archive_library":           "",
	"primary_conninfo":          "",
	"primary_slot_name":         "",
	"listen_addresses":          "",
	"recovery_target_action":    "promote", // a copy that pauses or stops at its target could not be asked anything
	"hot_standby":               "off",     // otherwise it needs as many connections as the original
	"shared_preload_libraries":  "",
	"session_preload_libraries": "",
	"local_preload_libraries":   "",
}

// ownSettings say where a copy is reached and by whom, and where it writes its
// log. They are on the command line for the same reason.
var ownSettings = []string{"port", "unix_socket_directories", "unix_socket_permissions", "hba_file", "ident_file",
	"logging_collector", "log_directory", "log_statement", "log_min_error_statement", "lc_messages"}

// copySettings bound what a copy takes of the machine. Nothing of it has to
// survive, hence no fsync.
var copySettings = map[string]string{
	"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "autovacuum": "off",
	"shared_buffers": "32MB", "max_connections": "20", "max_worker_processes": "2", "max_wal_senders": "0",
	"maintenance_work_mem": "32MB", "work_mem": "4MB", "max_wal_size": "256MB", "min_wal_size": "80MB",
	"log_filename": "postgresql.log", "log_rotation_age": "0", "log_truncate_on_rotation": "off",
}

// StartRestored starts the server of a restored data directory, apart from any
// other: no TCP, a socket and a log of its own, archiving off. It returns when
// the copy has replayed its log up to its target and takes connections. The
// roles are left as they were restored.
func StartRestored(ctx context.Context, o RestoredOptions) (*Cluster, error) {
	c := &Cluster{o: ClusterOptions{Dir: o.Dir, BinDir: o.BinDir, User: o.User, Log: o.Log, Settings: map[string]string{}}, log: o.Log}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	given := copySettings
	if o.Live {
		given = map[string]string{"autovacuum": "off"}
	}
	maps.Copy(c.o.Settings, given)
	maps.Copy(c.o.Settings, o.Settings)
	for _, name := range slices.Sorted(maps.Keys(apartSettings)) {
		value := apartSettings[name]
		if o.Live && name == "archive_mode" {
			value = "on"
		}
		c.args = append(c.args, "-c", name+"="+value)
	}
	if err := c.prepareRestored(ctx); err != nil {
		if c.held != nil {
			_ = c.held.Close()
		}
		return nil, err
	}
	start := time.Now()
	c.life.begin(c)
	if err := c.waitReady(ctx); err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		_ = c.Stop(stop)
		return nil, err
	}
	c.log.Info("restored copy is ready", "postgresql", c.srv.major, "pid", c.PID(), "took", time.Since(start))
	return c, nil
}

// prepareRestored is prepare for a directory that must hold a copy already.
func (c *Cluster) prepareRestored(ctx context.Context) (err error) {
	if c.who, err = findAccount(c.o.User); err != nil {
		return err
	}
	dir, err := filepath.Abs(c.o.Dir)
	if err != nil {
		return err
	}
	made, err := dataMajor(filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	if made == 0 {
		return problem.New(problem.NotFound, "copy-empty", "There is no database in "+filepath.Join(dir, "data")+": nothing was restored.").
			WithMend("The engine reported success all the same; look at the repository with `foundry backup verify`.")
	}
	if c.srv, err = findServer(ctx, c.o.BinDir, made); err != nil {
		return err
	}
	if c.at, err = makeLayout(c.o, c.who, c.log); err != nil {
		return err
	}
	if c.held, err = c.at.acquire(); err != nil {
		return err
	}
	if err = c.who.reachable(ctx, c.srv.dir, c.at.dir); err != nil {
		return err
	}
	me, err := user.LookupId(strconv.Itoa(os.Geteuid()))
	if err != nil {
		return err
	}
	if err = writeSettings(c.at, c.who, me.Username, c.o); err != nil {
		return err
	}
	own := serverSettings(c.at)
	for _, name := range ownSettings {
		c.args = append(c.args, "-c", name+"="+own[name])
	}
	if err = stopSurvivors(ctx, c.at.data); err != nil {
		return err
	}
	if err = waitForDeparted(ctx, c.at.data); err != nil {
		return err
	}
	return clearStaleLocks(c.at.data, c.at.run, c.at.port)
}

// Program runs one program of the server's installation as the server's user,
// in the cluster's directory, and returns what it wrote.
func (c *Cluster) Program(ctx context.Context, name string, args ...string) (string, error) {
	return c.who.run(ctx, c.srv.dir, name, c.at.dir, "", args...)
}

// ServerLog returns the end of what a restored copy's server has written.
func (c *Cluster) ServerLog(most int64) string {
	f, err := os.Open(filepath.Join(c.at.log, "postgresql.log"))
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(f, most))
	return string(bytes.ToValidUTF8(text, []byte("?")))
}

// RemoveRestored stops whatever still works in a restored copy and removes
// its directory. A copy whose supervisor lives is left alone, with an error of
// code "cluster-held".
func RemoveRestored(ctx context.Context, dir string) error {
	l := layout{lock: filepath.Join(dir, "lock"), dir: dir, data: filepath.Join(dir, "data")}
	if _, err := os.Lstat(dir); os.IsNotExist(err) {
		return nil
	}
	held, err := l.acquire()
	if err != nil {
		return err
	}
	defer held.Close()
	if err := stopSurvivors(ctx, l.data); err != nil {
		return err
	}
	// The short socket directory of a path that is too long lies elsewhere.
	if text, err := os.ReadFile(filepath.Join(dir, "etc", "postgresql.conf")); err == nil {
		if run := settingOf(string(text), "unix_socket_directories"); run != "" && filepath.Dir(run) != dir {
			_ = os.Remove(filepath.Join(run, socketName(socketPort)))
			_ = os.Remove(filepath.Join(run, socketName(socketPort)+".lock"))
			_ = os.Remove(run)
		}
	}
	if err := os.RemoveAll(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
		return fileProblem(dir, err)
	}
	return nil
}

// settingOf reads a setting from a file that writeSettings wrote.
func settingOf(text, name string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" = '"); ok {
			return strings.TrimSuffix(strings.TrimRight(rest, "\n"), "'")
		}
	}
	return ""
}
