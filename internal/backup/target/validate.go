package target

import (
	"fmt"
	"net"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// kindsFor are the kinds of target that each engine can use.
var kindsFor = map[string][]string{
	"pgbackrest": {Directory, S3Bucket}, // Debian's has no SFTP
	"restic":     {Directory, S3Bucket, SFTPHost},
}

var (
	namePattern   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	bucketPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	userPattern   = regexp.MustCompile(`^[A-Za-z0-9._][A-Za-z0-9._-]{0,63}$`)
)

// reserved are names that files beside those of the targets have.
var reserved = []string{"cluster"}

// Validate reports the first thing that is wrong.
func (c Config) Validate(field string) error {
	bad := func(at, code, detail, mend string) error {
		return problem.New(problem.Invalid, code, detail).WithField(field + at).WithMend(mend)
	}
	switch {
	case !namePattern.MatchString(c.Name):
		return bad(".name", "target-name", fmt.Sprintf("%q is no name of a target.", c.Name), "Use up to 31 small letters, digits and hyphens, beginning with a letter.")
	case slices.Contains(reserved, c.Name):
		return bad(".name", "target-name", fmt.Sprintf("A target cannot be named %q.", c.Name), "Choose another name.")
	case c.Kind == Directory && (c.S3 != nil || c.SFTP != nil),
		c.Kind == S3Bucket && (c.S3 == nil || c.SFTP != nil),
		c.Kind == SFTPHost && (c.SFTP == nil || c.S3 != nil):
		return bad(".kind", "target-kind", fmt.Sprintf("A target of kind %s has just its own section.", c.Kind), "Give s3: for a bucket, sftp: for an SFTP server, and neither for a directory.")
	case strings.ContainsFunc(c.Path, control):
		return bad(".path", "target-path", "The path has control characters.", "Choose another path.")
	case c.QuotaGB < 0:
		return bad(".quota_gb", "target-quota", "A quota is not negative.", "Leave it out where there is none.")
	}
	for i, name := range c.Engines {
		at := fmt.Sprintf(".engines[%d]", i)
		kinds, known := kindsFor[name]
		if !known {
			return bad(at, "target-engine", fmt.Sprintf("There is no engine %q.", name), "Use pgbackrest (the database) and restic (files).")
		}
		if !slices.Contains(kinds, c.Kind) && c.kindKnown() {
			return bad(at, "target-engine-kind", fmt.Sprintf("%s cannot use a target of kind %s.", name, c.Kind), "Give the database a directory or an S3 bucket.")
		}
	}
	if c.Country != "" {
		if _, err := sovereignty.ParseJurisdiction(c.Country); err != nil {
			return bad(".country", "target-country", fmt.Sprintf("%q is no country.", c.Country), "Write the ISO 3166-1 code, such as FI.")
		}
	}
	if err := c.Lock.validate(c.Kind, bad); err != nil {
		return err
	}
	return c.validateKind(bad)
}

type refuse = func(at, code, detail, mend string) error

func (c Config) kindKnown() bool {
	return slices.Contains([]string{Directory, S3Bucket, SFTPHost}, c.Kind)
}

func (c Config) validateKind(bad refuse) error {
	switch c.Kind {
	case Directory:
		if !filepath.IsAbs(c.Path) || filepath.Clean(c.Path) == "/" {
			return bad(".path", "target-path", fmt.Sprintf("%q is no absolute path of a directory.", c.Path), "Name the directory that the other disk or machine is mounted at.")
		}
		return nil
	case S3Bucket:
		return c.S3.validate(c.Path, bad)
	case SFTPHost:
		return c.SFTP.validate(c.Path, bad)
	}
	return bad(".kind", "target-kind", fmt.Sprintf("There is no kind of target %q.", c.Kind), "Use directory, s3 or sftp.")
}

func (s S3Config) validate(below string, bad refuse) error {
	host, port, err := net.SplitHostPort(s.Endpoint)
	if err != nil {
		host, port = s.Endpoint, "443"
	}
	n, perr := strconv.Atoi(port)
	switch {
	case host == "" || strings.ContainsAny(host, "/@ ") || strings.ContainsFunc(host, control) || perr != nil || n < 1 || n > 65535:
		return bad(".s3.endpoint", "target-endpoint", fmt.Sprintf("%q is no host name with an optional port.", s.Endpoint), "Write for example s3.example.eu or 192.0.2.7:9000, without https://.")
	case !bucketPattern.MatchString(s.Bucket):
		return bad(".s3.bucket", "target-bucket", fmt.Sprintf("%q is no name of a bucket.", s.Bucket), "Use 3 to 63 small letters, digits, dots and hyphens.")
	case s.Style != "" && s.Style != "path" && s.Style != "host":
		return bad(".s3.style", "target-style", fmt.Sprintf("%q is no style of addresses.", s.Style), "Use path or host.")
	case strings.Contains("/"+below+"/", "/../"):
		return bad(".path", "target-path", "A path in a bucket has no .. in it.", "Write the beginning of the keys, such as foundry.")
	case !s.Key.Set() || !s.Secret.Set():
		return bad(".s3.key", "target-key", "A bucket needs an access key and its secret.", "Name a file or a systemd credential for each of key and secret.")
	case s.CA != "" && !filepath.IsAbs(s.CA):
		return bad(".s3.ca", "target-ca", "The file of the authority has no absolute path.", "Write the whole path.")
	}
	return nil
}

func (s SFTPConfig) validate(below string, bad refuse) error {
	switch {
	case s.Host == "" || strings.ContainsAny(s.Host, "/@ \"'\\") || strings.HasPrefix(s.Host, "-") || strings.ContainsFunc(s.Host, control):
		return bad(".sftp.host", "target-host", fmt.Sprintf("%q is no host name.", s.Host), "Write the name or address of the server; the port has its own field.")
	case s.Port < 0 || s.Port > 65535:
		return bad(".sftp.port", "target-port", "The port is not one.", "Leave it out for 22.")
	case !userPattern.MatchString(s.User):
		return bad(".sftp.user", "target-user", fmt.Sprintf("%q is no user name.", s.User), "Name the user at the server.")
	case !path.IsAbs(below) && below != "" && strings.Contains("/"+below+"/", "/../"):
		return bad(".path", "target-path", "A path at a server has no .. in it.", "Write the whole path.")
	case below == "":
		return bad(".path", "target-path", "A path at the server is missing.", "Name a directory of its own for the backups.")
	case !s.Key.Set():
		return bad(".sftp.key", "target-key", "An SFTP server needs a private key; passwords are not used.", "Name a file or a systemd credential that holds it.")
	case s.KnownHosts == "":
		return bad(".sftp.known_hosts", "target-known-hosts", "The server's own key is not known, so another machine could take its place.", "Write what `ssh-keyscan HOST` says into a file, compare it with the server's, and name the file.")
	}
	return nil
}

func (l *LockConfig) validate(kind string, bad refuse) error {
	switch {
	case l == nil:
		return nil
	case l.Mode != ObjectLock && l.Mode != AppendOnly:
		return bad(".lock.mode", "target-lock", fmt.Sprintf("%q is no mode of a lock.", l.Mode), "Use object-lock or append-only.")
	case l.Mode == ObjectLock && kind != S3Bucket:
		return bad(".lock.mode", "target-lock-kind", "Only a bucket has an object lock.", "Use append-only where the server keeps this node from deleting.")
	case l.Mode == ObjectLock && l.Days < 1:
		return bad(".lock.days", "target-lock-days", "An object lock holds for some days.", "Write the days that the bucket keeps every version.")
	case l.Days < 0:
		return bad(".lock.days", "target-lock-days", "Days are not negative.", "Leave them out.")
	}
	return nil
}

func control(r rune) bool { return r < ' ' || r == 0x7f }
