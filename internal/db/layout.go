package db

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/missionopsai/foundry/internal/problem"
)

// account is the operating-system user that runs the server.
type account struct {
	uid, gid int
	name     string
	switched bool // this process is root and becomes that user for the server
}

// findAccount picks who runs the server. PostgreSQL refuses to run as root.
func findAccount(name string) (account, error) {
	euid := os.Geteuid()
	if euid != 0 {
		me, err := user.LookupId(strconv.Itoa(euid))
		if err != nil {
			return account{}, problem.New(problem.Unsupported, "user-unknown", fmt.Sprintf(
				"The user id %d has no name, and PostgreSQL needs one to know who connects.", euid)).
				WithMend("Run Foundry as a user with an entry in /etc/passwd.").Wrap(err)
		}
		if name != "" && name != me.Username {
			return account{}, problem.New(problem.Denied, "user-switch", fmt.Sprintf(
				"Only root can run the database as %s; this is %s.", name, me.Username)).WithMend("Leave the user out.")
		}
		return accountOf(me, false)
	}
	names := []string{name}
	if name == "" {
		names = []string{"postgres", "nobody"}
	}
	for _, n := range names {
		u, err := user.Lookup(n)
		if err != nil {
			continue
		}
		a, err := accountOf(u, true)
		if err == nil && a.uid == 0 {
			return a, problem.New(problem.Unsupported, "user-root", "PostgreSQL refuses to run as root.").
				WithMend("Name an unprivileged user to run it as.")
		}
		return a, err
	}
	return account{}, problem.New(problem.Invalid, "user-unknown", fmt.Sprintf(
		"There is no user named %s to run the database as.", strings.Join(names, " or "))).
		WithMend("Create it, for example with `adduser --system --group postgres`, or name another.")
}

func accountOf(u *user.User, switched bool) (account, error) {
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return account{}, err
	}
	gid, err := strconv.Atoi(u.Gid)
	return account{uid, gid, u.Username, switched}, err
}

// layout is where a cluster keeps its things. When this process is root, Dir
// and etc belong to root, and root writes only there: in a directory of the
// server's user it could be led astray by symbolic links.
type layout struct {
	dir  string // everything below
	data string // PGDATA, the server's, 0700
	next string // a data directory in the making
	log  string // the server's, 0700
	etc  string // configuration, written anew at every start
	run  string // the socket, the server's, 0700
	lock string // held by the process that supervises the server
	port string // names the socket
}

// makeLayout makes what is missing, and explains what is in the way.
func makeLayout(o ClusterOptions, who account, log *slog.Logger) (layout, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return layout{}, err
	}
	mode := fs.FileMode(0o700)
	if who.switched {
		mode = 0o711 // the server's user has to pass through
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return layout{}, fileProblem(dir, err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return layout{}, fileProblem(o.Dir, err)
	}
	if err := ownedBy(dir, os.Geteuid()); err != nil {
		return layout{}, err
	}
	l := layout{dir: dir, data: filepath.Join(dir, "data"), next: filepath.Join(dir, "data.new"),
		log: filepath.Join(dir, "log"), etc: filepath.Join(dir, "etc"), lock: filepath.Join(dir, "lock"), port: socketPort}
	if o.Door != nil {
		if _, l.port, err = net.SplitHostPort(o.Door.Listen); err != nil {
			return layout{}, problem.New(problem.Invalid, "database-listen", fmt.Sprintf("%q is no address to listen at.", o.Door.Listen)).WithField("database.listen").WithMend("Write it as 10.0.0.1:8493.")
		}
	}
	if err := os.Mkdir(l.etc, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return layout{}, fileProblem(l.etc, err)
	}
	if err := os.Chown(l.etc, -1, who.gid); err != nil {
		return layout{}, fileProblem(l.etc, err)
	}
	if err := who.mkdir(l.log); err != nil {
		return layout{}, err
	}
	if _, err := os.Lstat(l.data); err == nil {
		if err := ownedBy(l.data, who.uid); err != nil {
			return layout{}, err
		}
	}
	l.run, err = socketDir(o.SocketDir, dir, who, log)
	return l, err
}

// mkdir makes a directory that only the server's user may enter.
func (a account) mkdir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	switch {
	case errors.Is(err, fs.ErrExist):
		return ownedBy(dir, a.uid)
	case err != nil:
		return fileProblem(dir, err)
	}
	if a.switched {
		if err := os.Lchown(dir, a.uid, a.gid); err != nil {
			return fileProblem(dir, err)
		}
	}
	return nil
}

// ownedBy checks that a path is a directory of one user.
func ownedBy(dir string, uid int) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fileProblem(dir, err)
	}
	owner := -1
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		owner = int(st.Uid)
	}
	switch {
	case !info.IsDir():
		return problem.New(problem.Conflict, "cluster-dir", dir+" is not a directory.").
			WithMend("Move it away, or choose another data directory.")
	case owner != uid:
		return problem.New(problem.Denied, "cluster-owner", fmt.Sprintf(
			"The directory %s belongs to %s, but has to belong to %s.", dir, userName(owner), userName(uid))).
			WithMend(fmt.Sprintf("Start Foundry as the user it was made by, or choose another data directory, or, if it was only restored by the wrong user, `chown -R %s %s`.", userName(uid), dir))
	}
	return nil
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "user id " + strconv.Itoa(uid)
}

// socketPathLimit is the longest path of a Unix socket: sun_path in unix(7)
// has 108 bytes, one of them the terminating zero.
const (
	socketPathLimit = 107
	longestPort     = "65535"
)

// socketPort names the socket of a server that listens nowhere else.
const socketPort = "5432"

func socketName(port string) string { return ".s.PGSQL." + port }

// socketDir makes the directory of the socket. A path that is too long, or
// has a comma (which separates hosts in connection strings), is replaced by a
// short one outside the data directory.
func socketDir(wanted, dir string, who account, log *slog.Logger) (string, error) {
	if wanted == "" {
		wanted = filepath.Join(dir, "run")
	}
	wanted, err := filepath.Abs(wanted)
	if err != nil {
		return "", err
	}
	if len(wanted)+1+len(socketName(longestPort)) <= socketPathLimit && !strings.Contains(wanted, ",") {
		return wanted, who.mkdir(wanted)
	}
	base := os.TempDir()
	if x := os.Getenv("XDG_RUNTIME_DIR"); x != "" && !who.switched {
		base = x
	}
	if len(base) > 60 || strings.Contains(base, ",") {
		base = "/tmp"
	}
	sum := sha256.Sum256([]byte(dir))
	short := filepath.Join(base, "foundry-"+hex.EncodeToString(sum[:5]))
	if err := who.mkdir(short); err != nil {
		// Somebody else's directory of that name: never use it.
		if short, err = os.MkdirTemp(base, "foundry-"); err != nil {
			return "", fileProblem(base, err)
		}
		if err := os.Lchown(short, who.uid, who.gid); err != nil {
			return "", fileProblem(short, err)
		}
	}
	log.Warn("the path of the database socket is too long for a Unix socket, using a short one", "wanted", wanted, "used", short)
	return short, nil
}

// reachable checks that the server's user can run the server in the data
// directory, by doing so: permissions, ACLs and containers all count.
func (a account) reachable(ctx context.Context, bin, dir string) error {
	_, err := a.run(ctx, bin, "postgres", dir, "", "--version")
	if err == nil || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, path := range []string{dir, bin} {
		if blocked := a.blockedAt(path); blocked != "" {
			return closedTo(a.name, blocked, path).Wrap(err)
		}
	}
	return problem.New(problem.Denied, "cluster-unreachable", fmt.Sprintf(
		"The database cannot be run as %s in %s: %v.", a.name, dir, err)).
		WithMend("Run Foundry as an unprivileged user, or name another user to run the database as.").Wrap(err)
}

func closedTo(name, blocked, path string) *problem.Error {
	return problem.New(problem.Denied, "cluster-unreachable", fmt.Sprintf(
		"The database runs as %s, who may not pass through %s on the way to %s.", name, blocked, path)).
		WithMend(fmt.Sprintf("Choose a directory elsewhere, such as below /var/lib/foundry, or allow it with `chmod o+x %s`.", blocked))
}

// blockedAt names the topmost directory on the way that the permission bits
// close to the account.
func (a account) blockedAt(path string) string {
	var up []string
	for p := path; ; p = filepath.Dir(p) {
		up = append(up, p)
		if p == filepath.Dir(p) {
			break
		}
	}
	for i := len(up) - 1; i >= 0; i-- {
		info, err := os.Stat(up[i])
		if err != nil {
			continue
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		bit := fs.FileMode(0o001)
		switch {
		case int(st.Uid) == a.uid:
			bit = 0o100
		case int(st.Gid) == a.gid:
			bit = 0o010
		}
		if info.Mode().Perm()&bit == 0 {
			return up[i]
		}
	}
	return ""
}
