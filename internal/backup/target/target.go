// Package target knows where backups go, and whether that is apart from the data.
package target

import (
	"log/slog"
	"net/netip"
	"slices"

	"github.com/missionopsai/foundry/internal/config"
)

// Kinds of target.
const (
	Directory = "directory"
	S3Bucket  = "s3"
	SFTPHost  = "sftp"
)

// Config is one place for backups, as configured.
type Config struct {
	Name     string      `yaml:"name" json:"name" jsonschema:"pattern=^[a-z][a-z0-9-]{0\\,30}$,description=Short name\\, part of paths at the target: do not change it later."`
	Kind     string      `yaml:"kind" json:"kind" jsonschema:"enum=directory,enum=s3,enum=sftp"`
	Path     string      `yaml:"path,omitempty" json:"path,omitempty" jsonschema:"description=Directory\\, or the beginning of every key in a bucket\\, or the path on the SFTP host."`
	S3       *S3Config   `yaml:"s3,omitempty" json:"s3,omitempty"`
	SFTP     *SFTPConfig `yaml:"sftp,omitempty" json:"sftp,omitempty"`
	Supplier string      `yaml:"supplier,omitempty" json:"supplier,omitempty" jsonschema:"description=Who runs it. Compared with node.supplier. Required in production."`
	Account  string      `yaml:"account,omitempty" json:"account,omitempty" jsonschema:"description=The account or contract there. Compared with node.account. Required in production."`
	Host     string      `yaml:"host,omitempty" json:"host,omitempty" jsonschema:"description=Machine that holds a directory\\, where it is a network file system. Others name it by themselves."`
	Country  string      `yaml:"country,omitempty" json:"country,omitempty" jsonschema:"description=ISO 3166-1 code of the country it stands in. Required in production."`
	Engines  []string    `yaml:"engines,omitempty" json:"engines,omitempty" jsonschema:"description=What it is for: pgbackrest (the database)\\, restic (files). Default: every engine that can use this kind."`
	QuotaGB  int64       `yaml:"quota_gb,omitempty" json:"quota_gb,omitempty" jsonschema:"minimum=0,description=How much may be stored there\\, where the target itself cannot say."`
	Lock     *LockConfig `yaml:"lock,omitempty" json:"lock,omitempty"`
}

// S3Config says how to reach a bucket.
type S3Config struct {
	Endpoint string        `yaml:"endpoint" json:"endpoint" jsonschema:"description=Host name\\, with :port where it is not 443. Always TLS."`
	Region   string        `yaml:"region,omitempty" json:"region,omitempty" jsonschema:"description=Default us-east-1\\, which servers without regions expect."`
	Bucket   string        `yaml:"bucket" json:"bucket"`
	Style    string        `yaml:"style,omitempty" json:"style,omitempty" jsonschema:"enum=path,enum=host,description=Where the bucket stands in an address. Default path."`
	Key      config.Secret `yaml:"key,omitempty" json:"key,omitzero"`
	Secret   config.Secret `yaml:"secret,omitempty" json:"secret,omitzero"`
	CA       string        `yaml:"ca,omitempty" json:"ca,omitempty" jsonschema:"description=PEM file with the authority of the server's certificate. Default: those of the system."`
}

// SFTPConfig says how to reach an SFTP server.
type SFTPConfig struct {
	Host       string        `yaml:"host" json:"host"`
	Port       int           `yaml:"port,omitempty" json:"port,omitempty" jsonschema:"minimum=1,maximum=65535,description=Default 22."`
	User       string        `yaml:"user" json:"user"`
	Key        config.Secret `yaml:"key,omitempty" json:"key,omitzero"`
	KnownHosts string        `yaml:"known_hosts,omitempty" json:"known_hosts,omitempty" jsonschema:"description=File with the host's key\\, as of ssh-keyscan."`
}

// LockConfig says what the target itself keeps from being deleted.
type LockConfig struct {
	Mode string `yaml:"mode" json:"mode" jsonschema:"enum=object-lock,enum=append-only,description=object-lock: the bucket keeps every version for some days\\, whoever deletes it. append-only: this node's credential may add but not delete."`
	Days int    `yaml:"days,omitempty" json:"days,omitempty" jsonschema:"minimum=0,description=For how long\\, with object-lock."`
}

// Modes of a lock.
const (
	ObjectLock = "object-lock"
	AppendOnly = "append-only"
)

// Target is a place for backups with its credentials read. It prints as its
// name, never with a secret.
type Target struct {
	Config
	S3Key, S3Secret string // access key id and its secret
	SFTPKey         string // private key, PEM

	addresses []netip.Addr // of the server, when it was opened
	keeper    *keeper      // nil: nobody remembers it
}

// String is the target's name.
func (t Target) String() string { return t.Name }

// GoString hides the credentials.
func (t Target) GoString() string { return "target.Target{" + t.Name + "}" }

// LogValue hides the credentials.
func (t Target) LogValue() slog.Value { return slog.StringValue(t.Name) }

// Serves reports whether the target is for an engine, and its kind is one that
// the engine can use.
func (t Target) Serves(engine string) bool {
	if kinds, known := kindsFor[engine]; known && !slices.Contains(kinds, t.Kind) {
		return false
	}
	return len(t.Engines) == 0 || slices.Contains(t.Engines, engine)
}

// Open checks a configuration and reads its credentials. field names the
// setting in errors, for example "backup.targets[0]".
func Open(c Config, field string) (Target, error) {
	if err := c.Validate(field); err != nil {
		return Target{}, err
	}
	t := Target{Config: c}
	var err error
	if c.S3 != nil {
		if t.S3Key, err = c.S3.Key.Read(field + ".s3.key"); err != nil {
			return Target{}, err
		}
		if t.S3Secret, err = c.S3.Secret.Read(field + ".s3.secret"); err != nil {
			return Target{}, err
		}
	}
	if c.SFTP != nil {
		if t.SFTPKey, err = c.SFTP.Key.Read(field + ".sftp.key"); err != nil {
			return Target{}, err
		}
	}
	t.lookup()
	return t, nil
}
