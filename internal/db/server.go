package db

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// MinimumMajor is the oldest PostgreSQL that Foundry works with: views with
// security_invoker and a public schema closed by default came with 15.
const MinimumMajor = 15

// server is an installed PostgreSQL server.
type server struct {
	dir   string
	major int
}

// findServer picks the server to run: the one in dir, or the newest on this
// machine. For a data directory that exists, only its own major version will do.
func findServer(ctx context.Context, dir string, dataMajor int) (server, error) {
	dirs := []string{dir}
	if dir == "" {
		dirs = serverDirs(ctx)
	}
	var found []server
	for _, d := range dirs {
		if major, err := serverMajor(ctx, d); err == nil {
			found = append(found, server{d, major})
		}
	}
	slices.SortStableFunc(found, func(a, b server) int { return b.major - a.major })
	return choose(found, dir, dataMajor)
}

func choose(found []server, dir string, dataMajor int) (server, error) {
	if len(found) == 0 {
		where := "on this machine"
		if dir != "" {
			where = "in " + dir
		}
		return server{}, problem.New(problem.Unavailable, "server-missing", "There is no PostgreSQL server (the programs postgres and initdb) "+where+".").
			WithMend(fmt.Sprintf("Install one, on Debian or Ubuntu with `apt-get install postgresql`; it has to be version %d or newer.", MinimumMajor))
	}
	for _, s := range found {
		if dataMajor == s.major && s.major >= MinimumMajor || dataMajor == 0 && s.major >= MinimumMajor {
			return s, nil
		}
	}
	var majors []string
	for _, s := range found {
		majors = append(majors, strconv.Itoa(s.major))
	}
	have := strings.Join(slices.Compact(majors), " and ")
	if dataMajor >= MinimumMajor {
		return server{}, problem.New(problem.Conflict, "cluster-major", fmt.Sprintf(
			"The database was made by PostgreSQL %d, and this machine has PostgreSQL %s.", dataMajor, have)).
			WithMend(fmt.Sprintf("Install postgresql-%d beside it, or move the data with pg_upgrade after a backup.", dataMajor))
	}
	if dataMajor > 0 {
		return server{}, problem.New(problem.Unsupported, "server-too-old", fmt.Sprintf(
			"The database was made by PostgreSQL %d, which is too old: Foundry needs %d or newer.", dataMajor, MinimumMajor)).
			WithMend("Move the data to a newer version with pg_upgrade, after a backup.")
	}
	return server{}, problem.New(problem.Unsupported, "server-too-old", fmt.Sprintf(
		"PostgreSQL %s is too old: Foundry needs %d or newer.", have, MinimumMajor)).
		WithMend(fmt.Sprintf("Install postgresql-%d or newer (Debian 12 has 15, apt.postgresql.org has all).", MinimumMajor))
}

// serverDirs lists where servers are found: on the PATH, where Debian and
// Red Hat put them, and where pg_config says.
func serverDirs(ctx context.Context) []string {
	var dirs []string
	if p, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			p = real
		}
		dirs = append(dirs, filepath.Dir(p))
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql@*/bin"} {
		match, _ := filepath.Glob(pattern) // the patterns are well-formed
		dirs = append(dirs, match...)
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

func serverMajor(ctx context.Context, dir string) (int, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0, err
	}
	m := versionText.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("%s/postgres --version printed %q", dir, out)
	}
	return strconv.Atoi(string(m[1]))
}

// dataMajor reads which major version made a data directory; 0 if there is none yet.
func dataMajor(data string) (int, error) {
	text, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err == nil {
		if major, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			return major, nil
		}
		return 0, damaged(data, "its file PG_VERSION holds no version", nil)
	}
	entries, derr := os.ReadDir(data)
	switch {
	case os.IsNotExist(derr) || derr == nil && len(entries) == 0:
		return 0, nil
	case os.IsPermission(err):
		return 0, unreadable(data, err)
	case derr != nil:
		return 0, fileProblem(data, derr)
	}
	return 0, damaged(data, "its file PG_VERSION is missing", err)
}

// HasServer says whether this machine has a server that Foundry could run: in
// dir, or anywhere when it is empty.
func HasServer(ctx context.Context, dir string) error {
	_, err := findServer(ctx, dir, 0)
	return err
}
