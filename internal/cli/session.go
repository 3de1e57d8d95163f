package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/problem"
)

// savedSession is a sign-in that `foundry login` made and later commands use.
type savedSession struct {
	Server    string    `json:"server"`              // https://host:port
	DataDir   string    `json:"data_dir,omitempty"`  // of the node on this machine that the server is; empty: another machine's
	Authority string    `json:"authority,omitempty"` // PEM of the certificate authority; empty: the system's
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
}

// sessionFile is where sign-ins are kept, for their owner only.
func sessionFile() (string, error) {
	if path := os.Getenv("FOUNDRY_SESSIONS"); path != "" {
		return path, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", problem.New(problem.Invalid, "session-home", "There is no place to keep a session: "+err.Error()+".").
			WithMend("Set HOME, or FOUNDRY_SESSIONS to a file for the session.")
	}
	return filepath.Join(dir, "foundry", "sessions.json"), nil
}

// savedSessions reads the sign-ins of this user. A file that others could read
// or write is not believed.
func savedSessions() ([]savedSession, error) {
	path, err := sessionFile()
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, problem.New(problem.Denied, "session-mode", fmt.Sprintf("%s has mode %04o: others can use your session.", path, mode)).
			WithMend("Sign out with `foundry logout`, run: chmod 0600 " + path + ", and sign in again.")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []savedSession
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, problem.New(problem.Invalid, "session-file", path+" is damaged.").WithMend("Delete it and run `foundry login`.").Wrap(err)
	}
	return all, nil
}

// saveSession keeps a sign-in in place of the one for the same server; one
// without a token is forgotten.
func saveSession(one savedSession) error {
	all, err := savedSessions()
	if err != nil {
		return err
	}
	now := time.Now()
	all = slices.DeleteFunc(all, func(s savedSession) bool { return s.Server == one.Server || !now.Before(s.ExpiresAt) })
	if one.Token != "" {
		all = append(all, one)
	}
	path, err := sessionFile()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return durable.Replace(path, append(text, '\n'), 0o600)
}

// session finds the sign-in that the command uses: for --server, or for the
// node of the data directory. Nil: none, so the local socket is asked.
func (a *app) session() (*savedSession, error) {
	all, err := savedSessions()
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(a.dir())
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for _, s := range all {
		if (a.server != "" && s.Server == a.server || a.server == "" && s.DataDir == dir) && now.Before(s.ExpiresAt) {
			return &s, nil
		}
	}
	if a.server != "" {
		return nil, problem.New(problem.Unauthenticated, "session-missing", "You are not signed in to "+a.server+".").
			WithMend("Run `foundry login --server " + a.server + "`.")
	}
	return nil, nil
}
