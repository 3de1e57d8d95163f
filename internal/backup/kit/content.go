package kit

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// ContentVersion is the version of the kit's content. A reader refuses one that
// is newer than it knows: it could leave out what a recovery needs.
const ContentVersion = 1

// Content is everything that a recovery on a bare machine needs, apart from the
// backups themselves. All of it is secret as a whole.
type Content struct {
	Version int       `json:"version"`
	Header  Header    `json:"header"` // as in the file's first line
	Made    time.Time `json:"made"`

	Foundry    string   `json:"foundry"`    // version of the program that made it
	PostgreSQL int      `json:"postgresql"` // major version of the private cluster; 0: the database is elsewhere
	Packages   []string `json:"packages"`   // Debian packages that have to be installed
	Node       Node     `json:"node"`

	KEKs          []KEK             `json:"keks"`          // the one in force first
	Files         []File            `json:"files"`         // of the data directory, by relative path: keyring, authority, audit keys, node
	Configuration []File            `json:"configuration"` // the file the node was started with, and its policies, by absolute path
	Settings      string            `json:"settings"`      // the node's settings as it understood them, YAML
	Secrets       []Secret          `json:"secrets,omitempty"`
	Passphrases   map[string][]byte `json:"passphrases"` // of repositories, by PassphraseName
	Targets       []Target          `json:"targets"`

	Audit     Audit           `json:"audit"`
	Expected  json.RawMessage `json:"expected,omitempty"` // what is known of the database from outside: package backup's
	Threshold int             `json:"threshold"`
	Shares    int             `json:"shares"`
	Holders   []string        `json:"holders,omitempty"` // who keeps which share, in the order of the shares
	Contacts  []Contact       `json:"contacts,omitempty"`
	Briefing  string          `json:"briefing,omitempty"`
}

// Node says which node made the kit.
type Node struct {
	Number  uint32 `json:"number"`
	Name    string `json:"name"`
	Mode    string `json:"mode"`
	Country string `json:"country"`
	DataDir string `json:"data_dir"` // there; paths below it move with it
	URL     string `json:"url"`
}

// KEK is a key-encryption key.
type KEK struct {
	Provider    string `json:"provider"` // file, age or credential
	Place       string `json:"place"`
	Fingerprint string `json:"fingerprint"`
	Key         []byte `json:"key"`
}

// File is a file of the node.
type File struct {
	Path string      `json:"path"`
	Mode fs.FileMode `json:"mode"`
	Body []byte      `json:"body"`
}

// Secret is a secret that the configuration names by its place.
type Secret struct {
	Field string `json:"field"` // setting, for example "providers[0].key"
	File  string `json:"file,omitempty"`
	Name  string `json:"credential,omitempty"` // of systemd
	Value []byte `json:"value"`
}

// Target is a place of backups with what is needed to reach it.
type Target struct {
	Config     target.Config `json:"config"`
	S3Key      string        `json:"s3_key,omitempty"`
	S3Secret   string        `json:"s3_secret,omitempty"`
	SFTPKey    string        `json:"sftp_key,omitempty"`
	CA         []byte        `json:"ca,omitempty"`          // what Config.S3.CA held
	KnownHosts []byte        `json:"known_hosts,omitempty"` // what Config.SFTP.KnownHosts held
}

// Audit is what a restored audit log has to be consistent with.
type Audit struct {
	Origin     string   `json:"origin"`
	Keys       []string `json:"keys"`       // public, as of golang.org/x/mod/sumdb/note
	Checkpoint string   `json:"checkpoint"` // signed note, the newest there was
}

// Contact is somebody to call.
type Contact struct {
	Name     string    `json:"name" yaml:"name"`
	Role     string    `json:"role" yaml:"role"` // what they are for: holds share 2; decides; the hosting company
	Phone    string    `json:"phone,omitempty" yaml:"phone"`
	Mail     string    `json:"mail,omitempty" yaml:"mail"`
	Attested time.Time `json:"attested,omitzero" yaml:"attested"` // when this was last found right
}

// PassphraseName is under which the passphrase of an engine's repository at a
// target is kept.
func PassphraseName(target, engine string) string { return target + "/" + engine }

// mostContent bounds a kit: none is nearly so large.
const mostContent = 32 << 20

// Validate refuses what a recovery must not act on.
func (c Content) Validate() error {
	if c.Version < 1 || c.Version > ContentVersion {
		return problem.New(problem.Unsupported, "kit-version", fmt.Sprintf("The kit's content has version %d, and this program knows versions up to %d.", c.Version, ContentVersion)).
			WithMend("Use Foundry " + c.Foundry + " or newer.")
	}
	if len(c.KEKs) == 0 {
		return problem.New(problem.Invalid, "kit-no-key", "The kit holds no key-encryption key.").WithMend("Use another kit: one lies at every target.")
	}
	for _, k := range c.KEKs {
		if len(k.Key) != keyBytes {
			return problem.New(problem.Invalid, "kit-key", fmt.Sprintf("The key-encryption key %s in the kit has %d bytes, not %d.", k.Fingerprint, len(k.Key), keyBytes)).
				WithMend("Use another kit: one lies at every target.")
		}
	}
	for _, f := range c.Files {
		if !filepath.IsLocal(f.Path) || f.Path != filepath.Clean(f.Path) {
			return problem.New(problem.Invalid, "kit-path", fmt.Sprintf("The kit would write outside the data directory: %q.", f.Path)).WithMend("Do not use this kit: Foundry makes none such.")
		}
		if f.Mode&^fs.ModePerm != 0 {
			return problem.New(problem.Invalid, "kit-mode", fmt.Sprintf("The kit would write %q with mode %v.", f.Path, f.Mode)).WithMend("Do not use this kit: Foundry makes none such.")
		}
	}
	return nil
}

// File returns a file of the data directory.
func (c Content) File(path string) ([]byte, bool) {
	i := slices.IndexFunc(c.Files, func(f File) bool { return f.Path == path })
	if i < 0 {
		return nil, false
	}
	return c.Files[i].Body, true
}

// Wipe clears the keys. Strings cannot be.
func (c Content) Wipe() {
	for _, k := range c.KEKs {
		clear(k.Key)
	}
	for _, p := range c.Passphrases {
		clear(p)
	}
	for _, s := range c.Secrets {
		clear(s.Value)
	}
}

// String names the kit and nothing that is in it.
func (c Content) String() string { return "kit " + c.Header.String() }

// GoString names the kit and nothing that is in it.
func (c Content) GoString() string { return c.String() }

// Inventory says in words what is in the kit, without any of it.
func (c Content) Inventory() []string {
	out := []string{fmt.Sprintf("%d key-encryption keys", len(c.KEKs)), fmt.Sprintf("%d files of keys, authority and audit log", len(c.Files)),
		fmt.Sprintf("%d files of the configuration", len(c.Configuration)), fmt.Sprintf("%d secrets that the configuration names", len(c.Secrets)),
		fmt.Sprintf("%d passphrases of repositories", len(c.Passphrases))}
	var names []string
	for _, t := range c.Targets {
		names = append(names, t.Config.Name)
	}
	if len(names) == 0 {
		return append(out, "no target of backups")
	}
	return append(out, "targets with their credentials: "+strings.Join(names, ", "))
}

// Extract writes everything in the kit into a directory, in the clear, for
// whoever has to do by hand what no program can.
func (c Content) Extract(dir string) (files []string, err error) {
	put := func(name string, body []byte) {
		path := filepath.Join(dir, name)
		files = append(files, path)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, body, 0o600))
	}
	for i, k := range c.KEKs {
		put(fmt.Sprintf("kek-%d", i), []byte(base64.StdEncoding.EncodeToString(k.Key)+"\n"))
	}
	for _, f := range c.Files {
		put(filepath.Join("data", f.Path), f.Body)
	}
	for _, f := range c.Configuration {
		put(filepath.Join("configuration", filepath.Base(f.Path)), f.Body)
	}
	for _, s := range c.Secrets {
		put(filepath.Join("secrets", strings.NewReplacer("/", "-", "\x00", "-").Replace(s.Field)), s.Value)
	}
	for name, p := range c.Passphrases {
		put(filepath.Join("passphrases", strings.ReplaceAll(name, "/", "-")), append(slices.Clone(p), '\n'))
	}
	put("settings.yaml", []byte(c.Settings))
	rest := c
	rest.KEKs, rest.Files, rest.Configuration, rest.Secrets, rest.Passphrases, rest.Settings = nil, nil, nil, nil, nil, ""
	text, merr := json.MarshalIndent(rest, "", "  ")
	put("kit.json", text)
	return files, errors.Join(err, merr)
}
