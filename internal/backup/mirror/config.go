// Package mirror knows how Git repositories are mirrored to this node, how old
// a mirror is, whether one that was restored works, and how it is brought to
// another server.
//
// A server that is mirrored is not trusted: it may lose its history, be forced
// to another one, or be taken over. So what a mirror once held stays in it,
// below refs/foundry/, and nothing that a server sends is ever run.
package mirror

import (
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// Config is one repository to be mirrored, as configured.
type Config struct {
	Name       string          `yaml:"name" json:"name" jsonschema:"pattern=^[A-Za-z0-9][A-Za-z0-9._+-]{0\\,149}$,description=Name of the mirror\\, and of its directory."`
	URL        string          `yaml:"url" json:"url" jsonschema:"description=Address of the repository: https:// or ssh://. Without a password."`
	User       string          `yaml:"user,omitempty" json:"user,omitempty" jsonschema:"description=Who signs in over https. Default git."`
	Password   config.Secret   `yaml:"password,omitempty" json:"password,omitzero"`
	Key        config.Secret   `yaml:"key,omitempty" json:"key,omitzero"`
	KnownHosts string          `yaml:"known_hosts,omitempty" json:"known_hosts,omitempty" jsonschema:"description=File with the SSH server's key\\, as of ssh-keyscan."`
	CA         string          `yaml:"ca,omitempty" json:"ca,omitempty" jsonschema:"description=PEM file with the authority of the server's certificate. Default: those of the system."`
	MaxAge     config.Duration `yaml:"max_age,omitempty" json:"max_age,omitempty" jsonschema:"description=How old the last successful fetch may be. Default 26h."`
	MaxMB      int64           `yaml:"max_mb,omitempty" json:"max_mb,omitempty" jsonschema:"minimum=0,description=How large the mirror may become. Default 20480."`
	Private    bool            `yaml:"private,omitempty" json:"private,omitempty" jsonschema:"description=The server stands in a private network or on this machine. Refused otherwise."`
	Build      []string        `yaml:"build,omitempty" json:"build,omitempty" jsonschema:"description=Program and arguments that build what is checked out\\, for the proof of a restored mirror. Not a shell's text."`
}

// Repository is a repository with its credentials read. It prints as its name.
type Repository struct {
	Config
	password string
	key      string
	hosts    string // pinned keys of the SSH server, instead of the file KnownHosts
	ca       string // PEM of the authority, instead of the file CA
}

// String is the repository's name.
func (r Repository) String() string { return r.Name }

// GoString hides the credentials.
func (r Repository) GoString() string { return "mirror.Repository{" + r.Name + "}" }

// Default bounds.
const (
	defaultMaxAge = 26 * time.Hour
	defaultMaxMB  = 20 << 10
)

// Oldest is how old the last fetch may be.
func (c Config) Oldest() time.Duration { return c.MaxAge.Or(defaultMaxAge) }

func (c Config) maxBytes() int64 {
	if c.MaxMB == 0 {
		return defaultMaxMB << 20
	}
	return c.MaxMB << 20
}

var (
	mirrorName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,149}$`)
	urlHost    = regexp.MustCompile(`^[A-Za-z0-9._:-]+$`) // a name or an address; net/url lets quotes pass
	urlPath    = regexp.MustCompile(`^/[A-Za-z0-9._~+@%/-]+$`)
)

// Open checks a configuration and reads its credentials. field names the
// setting in errors, for example "backup.mirrors[0]". development also takes
// file:// addresses.
func Open(c Config, field string, development bool) (Repository, error) {
	if err := c.validate(field, development); err != nil {
		return Repository{}, err
	}
	r := Repository{Config: c}
	var err error
	if r.password, err = c.Password.Read(field + ".password"); err != nil {
		return Repository{}, err
	}
	if r.key, err = c.Key.Read(field + ".key"); err != nil {
		return Repository{}, err
	}
	if strings.ContainsAny(r.password, "\r\n\x00") {
		return Repository{}, problem.New(problem.Invalid, "mirror-password", "The password is more than one line.").WithField(field + ".password")
	}
	return r, nil
}

// Credentials are what a repository is reached with, for once: given with a
// request, not read from files of this machine.
type Credentials struct{ Password, Key, KnownHosts, CA string }

// OpenWith checks an address with the credentials for it.
func OpenWith(c Config, with Credentials, development bool) (Repository, error) {
	// What validate looks for is that something is there.
	given := config.Secret{File: "given"}
	if with.Password != "" {
		c.Password = given
	}
	if with.Key != "" {
		c.Key = given
	}
	if with.KnownHosts != "" {
		c.KnownHosts = "given"
	}
	if err := c.validate("to", development); err != nil {
		return Repository{}, err
	}
	if strings.ContainsAny(with.Password, "\r\n\x00") {
		return Repository{}, problem.New(problem.Invalid, "mirror-password", "The password is more than one line.").WithField("password").WithMend("Give the password alone.")
	}
	c.Password, c.Key, c.KnownHosts, c.CA = config.Secret{}, config.Secret{}, "", ""
	return Repository{Config: c, password: with.Password, key: with.Key, hosts: with.KnownHosts, ca: with.CA}, nil
}

func (c Config) validate(field string, development bool) error {
	bad := func(at, detail, mend string) error {
		return problem.New(problem.Invalid, "mirror-config", detail).WithField(field + at).WithMend(mend)
	}
	if !mirrorName.MatchString(c.Name) || strings.Contains(c.Name, "..") || strings.HasSuffix(c.Name, ".git") || strings.HasSuffix(c.Name, ".lock") {
		return bad(".name", "This is not a name for a mirror.", "Use letters, digits, dots, dashes and underscores; no .git at the end.")
	}
	u, err := c.address()
	if err != nil {
		return bad(".url", "This is not the address of a repository.", "Write https://host/path.git or ssh://user@host/path.git.")
	}
	if _, secret := u.User.Password(); secret || u.Scheme == "https" && u.User != nil {
		return bad(".url", "The address has credentials in it.", "Name them as user and password, the latter in a file.")
	}
	switch {
	case u.Scheme == "file" && development && u.Host == "":
	case u.Scheme == "https" && !c.Key.Set():
	case u.Scheme == "ssh" && c.KnownHosts != "" && c.Key.Set() && !c.Password.Set():
	case u.Scheme == "ssh":
		return bad(".known_hosts", "A repository over SSH needs a key and the pinned key of its server, and no password.", "Set key and known_hosts.")
	default:
		return bad(".url", "Repositories are mirrored over https and ssh only.", "Write https://host/path.git or ssh://user@host/path.git.")
	}
	for i, arg := range c.Build {
		if arg == "" && i == 0 || strings.ContainsRune(arg, 0) {
			return bad(".build", "The build command is not a program with its arguments.", `Write a list, for example ["make", "build"].`)
		}
	}
	return nil
}

// address reads the URL. What passes has nothing that Git or ssh takes for
// more than an address.
func (c Config) address() (*url.URL, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" || !urlPath.MatchString(u.EscapedPath()) ||
		strings.HasPrefix(u.Hostname(), "-") || u.Host != "" && !urlHost.MatchString(u.Hostname()) || u.Host == "" && u.Scheme != "file" {
		return nil, problem.New(problem.Invalid, "mirror-url", "This is not the address of a repository.").Wrap(err)
	}
	return u, nil
}
