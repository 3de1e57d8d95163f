// Package config knows how a configuration file is read strictly, and how its
// mistakes are shown: the line, the column, the rule and the nearest valid
// name. It does not know what any field means.
package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// Secret names where a secret is kept. A secret itself never stands in a
// configuration file.
type Secret struct {
	File       string `yaml:"file,omitempty" json:"file,omitempty" jsonschema:"description=Path of a file that holds the secret. Only its owner may read it."`
	Credential string `yaml:"credential,omitempty" json:"credential,omitempty" jsonschema:"description=Name of a systemd credential (LoadCredential=)."`
}

// Set reports whether a place is named.
func (s Secret) Set() bool { return s.File != "" || s.Credential != "" }

// Path is the file that holds the secret. field names the setting in errors.
func (s Secret) Path(field string) (string, error) {
	switch {
	case s.File != "" && s.Credential != "":
		return "", problem.New(problem.Invalid, "secret-twice", "Both a file and a credential are given.").WithField(field).WithMend("Keep one of them.")
	case s.Credential != "":
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", problem.New(problem.Invalid, "credentials-directory", "A systemd credential is named, but this process was not started by systemd with credentials.").
				WithField(field).WithMend("Add LoadCredential=" + s.Credential + ":… to the unit, or use file: instead.")
		}
		return filepath.Join(dir, filepath.Base(s.Credential)), nil
	default:
		return s.File, nil
	}
}

// Read returns the secret without surrounding white space.
func (s Secret) Read(field string) (string, error) {
	path, err := s.Path(field)
	if err != nil || path == "" {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", problem.New(problem.Invalid, "secret-missing", "The secret's file cannot be read: "+path+".").WithField(field).
			WithMend("Create it with mode 0600, owned by the user that runs foundry.").Wrap(err)
	}
	if s.File != "" && info.Mode().Perm()&0o077 != 0 {
		return "", problem.New(problem.Invalid, "secret-mode", fmt.Sprintf("%s has mode %04o: others can read the secret.", path, info.Mode().Perm())).
			WithField(field).WithMend("Run: chmod 0600 " + path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", problem.New(problem.Invalid, "secret-missing", "The secret's file cannot be read: "+path+".").WithField(field).Wrap(err)
	}
	return strings.TrimSpace(string(text)), nil
}

// Duration is a time span written as in Go: 300ms, 5s, 10m, 4h.
type Duration time.Duration

// UnmarshalText parses a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration; write for example 300ms, 5s, 10m or 4h", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes a duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Or returns the duration, or fallback when it is not set.
func (d Duration) Or(fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return time.Duration(d)
}

// Date is a calendar day, 2026-12-31, in UTC. As an expiry it means the end of that day.
type Date struct{ time.Time }

// UnmarshalText parses a date.
func (d *Date) UnmarshalText(text []byte) error {
	t, err := time.Parse(time.DateOnly, string(text))
	if err != nil {
		return fmt.Errorf("%q is not a date; write it as 2026-12-31", text)
	}
	d.Time = t
	return nil
}

// MarshalText writes a date.
func (d Date) MarshalText() ([]byte, error) { return []byte(d.Format(time.DateOnly)), nil }

// End is the last instant of the day; the zero time stays zero.
func (d Date) End() time.Time {
	if d.IsZero() {
		return time.Time{}
	}
	return d.AddDate(0, 0, 1)
}
