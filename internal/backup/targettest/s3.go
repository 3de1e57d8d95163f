package targettest

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/config"
)

// S3Version is the release of the S3 server that scripts/setup builds.
const S3Version = "v1.8.0"

// S3 is a running S3 server: versitygw on a directory, behind TLS with an
// authority of its own.
type S3 struct {
	Endpoint    string // 127.0.0.1:port
	Region      string
	Key, Secret string
	CA          string // PEM file
	Root        string // holds every bucket as a directory, and every object as a file

	program, dir, cert, key string
	port                    int
	p                       process
}

// program finds the server where scripts/setup puts it.
func s3Program(t testing.TB) string {
	t.Helper()
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			missing(t, "The S3 server for tests (versitygw "+S3Version+")")
		}
		cache = filepath.Join(home, ".cache")
	}
	path := filepath.Join(cache, "foundry", "versitygw-"+S3Version)
	if _, err := os.Stat(path); err != nil {
		missing(t, "The S3 server for tests (versitygw "+S3Version+")")
	}
	return path
}

// StartS3 starts a server with no bucket, for the length of a test.
func StartS3(t testing.TB) *S3 { return StartS3In(t, Dir(t)) }

// StartS3In is StartS3 with its files in a given directory.
func StartS3In(t testing.TB, dir string) *S3 {
	t.Helper()
	s := &S3{
		Region: "us-east-1", Key: "AKTARGETTEST", Secret: "targettest-secret-1b6f0e4d",
		Root: filepath.Join(dir, "buckets"), program: s3Program(t), dir: dir,
	}
	for _, d := range []string{"buckets", "versions", "attributes"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.CA, s.cert, s.key = certificate(t, Dir(t))
	s.port = onFreePort(t, &s.p, func(port int) *exec.Cmd { return s.command(port) })
	s.Endpoint = "127.0.0.1:" + strconv.Itoa(s.port)
	return s
}

func (s *S3) command(port int, extra ...string) *exec.Cmd {
	args := append([]string{"--port", "127.0.0.1:" + strconv.Itoa(port), "--cert", s.cert, "--key", s.key, "--quiet"}, extra...)
	args = append(args, "posix", "--versioning-dir", filepath.Join(s.dir, "versions"), "--sidecar", filepath.Join(s.dir, "attributes"), s.Root)
	cmd := exec.Command(s.program, args...)
	cmd.Env = []string{"ROOT_ACCESS_KEY=" + s.Key, "ROOT_SECRET_KEY=" + s.Secret, "HOME=" + s.dir}
	return cmd
}

// Stop kills the server; Restart starts it again at the same address.
func (s *S3) Stop() { s.p.end() }

// Restart starts the server again, with arguments such as --readonly.
func (s *S3) Restart(t testing.TB, extra ...string) {
	t.Helper()
	s.p.end()
	if !s.p.begin(t, s.command(s.port, extra...), s.Endpoint) {
		t.Fatalf("the S3 server ends at once: %s", s.p.text())
	}
}

// Bucket makes a bucket.
func (s *S3) Bucket(t testing.TB, name string) { s.make(t, name, nil) }

// LockedBucket makes a bucket with versions and object lock; a default
// retention of some days, if any.
func (s *S3) LockedBucket(t testing.TB, name string, days int) {
	t.Helper()
	s.make(t, name, http.Header{"X-Amz-Bucket-Object-Lock-Enabled": {"true"}})
	if days == 0 {
		return
	}
	body := `<ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><ObjectLockEnabled>Enabled</ObjectLockEnabled>` +
		`<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>` + strconv.Itoa(days) + `</Days></DefaultRetention></Rule></ObjectLockConfiguration>`
	s.do(t, target.S3Request{Method: http.MethodPut, Bucket: name, Query: map[string]string{"object-lock": ""}, Body: []byte(body)})
}

// LockEnds lets the default retention of a bucket of LockedBucket be over: the
// server counts it from when it was set.
func (s *S3) LockEnds(t testing.TB, name string) {
	t.Helper()
	path := filepath.Join(s.dir, "attributes", name, "meta", "bucket-lock")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lock map[string]any
	if err := json.Unmarshal(text, &lock); err != nil {
		t.Fatal(err)
	}
	lock["CreatedAt"] = time.Now().AddDate(-1, 0, 0).UTC()
	if text, err = json.Marshal(lock); err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s *S3) make(t testing.TB, name string, h http.Header) {
	t.Helper()
	s.do(t, target.S3Request{Method: http.MethodPut, Bucket: name, Header: h})
}

func (s *S3) do(t testing.TB, r target.S3Request) {
	t.Helper()
	c, err := target.NewS3(s.Open(t, "setup", r.Bucket))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answer, err := c.Do(context.Background(), r)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.Bucket, err)
	}
	_ = answer.Body.Close()
}

// Target is a target in a bucket, with the secrets in files.
func (s *S3) Target(t testing.TB, name, bucket string) target.Config {
	t.Helper()
	dir := t.TempDir()
	return target.Config{Name: name, Kind: target.S3Bucket, Path: name, Country: "DE", S3: &target.S3Config{
		Endpoint: s.Endpoint, Region: s.Region, Bucket: bucket, CA: s.CA,
		Key: config.Secret{File: write(t, dir, "key", s.Key, 0o600)}, Secret: config.Secret{File: write(t, dir, "secret", s.Secret, 0o600)},
	}}
}

// Open is Target with its secrets read.
func (s *S3) Open(t testing.TB, name, bucket string) target.Target {
	t.Helper()
	return target.Target{Config: s.Target(t, name, bucket), S3Key: s.Key, S3Secret: s.Secret}
}
