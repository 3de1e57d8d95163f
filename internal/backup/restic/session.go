package restic

import (
	"context"
	"crypto/rand"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// session is what one or more runs at one target share: the files with their
// secrets, which are there for no longer than the session.
type session struct {
	e       *Engine
	t       target.Target
	program string
	env     []string
	args    []string // options that every command takes
	redact  []string
	tmp     string
}

// with opens a session, uses it and removes its secrets.
func (e *Engine) with(ctx context.Context, t target.Target, use func(*session) error) (err error) {
	if err := t.There(); err != nil {
		return err
	}
	s := &session{e: e, t: t}
	if s.program, err = program(e.o.Binary, "restic", "restic"); err != nil {
		return err
	}
	pass, err := e.o.Passphrase(ctx, t)
	if err != nil {
		return err
	}
	rt, err := e.o.Runtime.Sub("restic-"+t.Name+"-"+rand.Text()[:8], -1, -1)
	if err != nil {
		return err
	}
	defer rt.Close()
	if s.tmp, err = os.MkdirTemp(filepath.Join(e.o.State, "tmp"), "run-"); err != nil {
		return problem.New(problem.Unavailable, "engine-state", "The directory "+e.o.State+" for running restic cannot be written.").
			WithMend("Make it writable for the user that runs foundry; is its disk full?").Wrap(err)
	}
	defer os.RemoveAll(s.tmp)
	if err := s.secrets(rt, pass); err != nil {
		return err
	}
	return use(s)
}

// secrets writes what restic needs into files in memory. Neither a command
// line nor an environment ever holds one.
func (s *session) secrets(rt *engine.Runtime, pass string) error {
	password, err := rt.Write("password", pass)
	if err != nil {
		return err
	}
	s.redact = []string{pass, s.t.S3Secret}
	s.env = []string{
		"RESTIC_PASSWORD_FILE=" + password, "RESTIC_CACHE_DIR=" + filepath.Join(s.e.o.State, "cache"), "TMPDIR=" + s.tmp, "HOME=" + s.tmp,
		"RESTIC_PROGRESS_FPS=2", "GOMAXPROCS=" + strconv.Itoa(s.e.o.Processes),
	}
	where, err := s.where(rt)
	if err != nil {
		return err
	}
	file, err := rt.Write("repository", where)
	if err != nil {
		return err
	}
	s.env = append(s.env, "RESTIC_REPOSITORY_FILE="+file)
	return nil
}

// bucketName is what may stand in the address of a bucket (AWS's rules, and
// the upper case that older buckets have).
var bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,62}$`)

var regionName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// where is the repository's address in restic's terms.
func (s *session) where(rt *engine.Runtime) (string, error) {
	switch s.t.Kind {
	case target.S3Bucket:
		return s.whereS3(rt)
	case target.SFTPHost:
		return s.whereSFTP(rt)
	}
	if !filepath.IsAbs(s.t.Path) {
		return "", problem.New(problem.Invalid, "target-path", "The path of the target "+s.t.Name+" is not absolute.").WithField("path").WithMend("Write it from the root, beginning with /.")
	}
	return filepath.Join(s.t.Path, s.e.o.Repository), nil
}

func (s *session) whereS3(rt *engine.Runtime) (string, error) {
	c := s.t.S3
	if strings.ContainsAny(s.t.S3Key+s.t.S3Secret, "\r\n") || !bucketName.MatchString(c.Bucket) {
		return "", problem.New(problem.Invalid, "target-s3", "The bucket or the credentials of the target "+s.t.Name+" are not well formed.").WithField("s3.bucket")
	}
	credentials, err := rt.Write("credentials", "[default]\naws_access_key_id = "+s.t.S3Key+"\naws_secret_access_key = "+s.t.S3Secret+"\n")
	if err != nil {
		return "", err
	}
	s.env = append(s.env, "AWS_SHARED_CREDENTIALS_FILE="+credentials, "AWS_EC2_METADATA_DISABLED=true")
	lookup := "path"
	if c.Style == "host" {
		lookup = "dns"
	}
	s.args = append(s.args, "-o", "s3.bucket-lookup="+lookup)
	if c.Region != "" {
		if !regionName.MatchString(c.Region) {
			return "", problem.New(problem.Invalid, "target-region", "This is not the name of a region: "+strconv.Quote(c.Region)+".").WithField("s3.region")
		}
		s.args = append(s.args, "-o", "s3.region="+c.Region)
	}
	if c.CA != "" {
		s.args = append(s.args, "--cacert", c.CA)
	}
	return "s3:https://" + c.Endpoint + "/" + c.Bucket + "/" + strings.TrimPrefix(path.Join("/", s.t.Path, s.e.o.Repository), "/"), nil
}

func (s *session) whereSFTP(rt *engine.Runtime) (string, error) {
	c := s.t.SFTP
	ssh, err := program(s.e.o.SSH, "ssh", "openssh-client")
	if err != nil {
		return "", err
	}
	known, err := os.ReadFile(c.KnownHosts)
	if err != nil {
		return "", problem.New(problem.Invalid, "target-known-hosts", "The host key of the target "+s.t.Name+" is not pinned: its known_hosts file cannot be read.").
			WithField("sftp.known_hosts").WithMend("Ask whoever runs the server for its key, and write it to a file as ssh-keyscan would.").Wrap(err)
	}
	client := target.SSHClient{Host: c.Host, Port: c.Port, User: c.User}
	if client.KeyFile, err = rt.Write("key", strings.TrimSpace(s.t.SFTPKey)+"\n"); err != nil {
		return "", err
	}
	if client.KnownHosts, err = rt.Write("known_hosts", string(known)); err != nil {
		return "", err
	}
	text, err := client.Config()
	if err != nil {
		return "", err
	}
	config, err := rt.Write("ssh_config", text)
	if err != nil {
		return "", err
	}
	// The option's value is read as CSV, then split at spaces outside quotes, and
	// run without a shell. Nothing in it comes from the target's configuration.
	if strings.ContainsAny(ssh+config, "\"',\\") {
		return "", problem.New(problem.Invalid, "runtime-unusable", "A path for running restic has quotes, commas or backslashes in it: "+config+".").
			WithField("backup.runtime").WithMend("Name a directory without them.")
	}
	s.args = append(s.args, "-o", "sftp.command='"+ssh+"' -F '"+config+"' "+target.SSHAlias+" -s sftp")
	return "sftp:" + target.SSHAlias + ":" + path.Join(s.t.Path, s.e.o.Repository), nil
}
