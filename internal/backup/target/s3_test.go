package target_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/backup/targettest"
	"github.com/missionopsai/foundry/internal/problem"
)

func port(p int) string { return strconv.Itoa(p) }

func TestEveryRefusalOfABucketSaysWhatToMend(t *testing.T) {
	t.Parallel()
	server := targettest.StartS3(t)
	server.Bucket(t, "backups")
	for name, c := range map[string]struct {
		change func(*target.Target)
		code   string
	}{
		"a wrong secret":         {func(t *target.Target) { t.S3Secret = "guess" }, "target-credentials"},
		"an unknown key":         {func(t *target.Target) { t.S3Key = "AKNOBODY" }, "target-credentials"},
		"a bucket that is not":   {func(t *target.Target) { t.S3.Bucket = "elsewhere" }, "target-bucket-missing"},
		"an unknown authority":   {func(t *target.Target) { t.S3.CA = "" }, "target-certificate"},
		"an authority of no use": {func(t *target.Target) { t.S3.CA = "/dev/null" }, "target-ca"},
		"another region":         {func(t *target.Target) { t.S3.Region = "mars-1" }, "target-region"},
	} {
		t.Run(name, func(t *testing.T) {
			at := server.Open(t, "bucket", "backups")
			c.change(&at)
			var err error
			if s, serr := at.Store(t.Context()); serr != nil {
				err = serr
			} else {
				_, err = s.List(t.Context(), "")
			}
			p := problem.From(err)
			if p.Code != c.code || p.Mend == "" {
				t.Errorf("got %s: %v (%v), want %s with a mend", p.Code, err, p.Err, c.code)
			}
		})
	}
}

func TestAReadOnlyServerIsNamedWhenWritten(t *testing.T) {
	t.Parallel()
	server := targettest.StartS3(t)
	server.Bucket(t, "backups")
	at := server.Open(t, "bucket", "backups")
	if err := open(t, at).Put(t.Context(), "kept", []byte("x")); err != nil {
		t.Fatal(err)
	}
	server.Restart(t, "--readonly")
	s := open(t, at)
	if files, err := s.List(t.Context(), ""); err != nil || len(files) != 1 {
		t.Errorf("reading: %v %v", files, err)
	}
	if err := s.Put(t.Context(), "new", []byte("x")); code(err) != "target-denied" {
		t.Errorf("writing: %v", err)
	}
}

func TestALockedBucketTakesFilesAndKeepsTheirVersions(t *testing.T) {
	t.Parallel()
	server := targettest.StartS3(t)
	server.LockedBucket(t, "locked", 1)
	s := open(t, server.Open(t, "bucket", "locked"))
	for _, text := range []string{"one", "two"} {
		if err := s.Put(t.Context(), "kit", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(t.Context(), "kit"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), "kit"); code(err) != "target-file-missing" {
		t.Errorf("behind its marker: %v", err)
	}
	kept := 0
	_ = filepath.WalkDir(filepath.Join(filepath.Dir(server.Root), "versions"), func(_ string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			kept++
		}
		return err
	})
	if kept < 2 {
		t.Errorf("%d versions are kept, want both", kept)
	}
}

func TestAListingOfManyPagesIsReadWhole(t *testing.T) {
	t.Parallel()
	server := targettest.StartS3(t)
	server.Bucket(t, "backups")
	dir := filepath.Join(server.Root, "backups", "bucket", "many")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 1203 {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := open(t, server.Open(t, "bucket", "backups")).List(t.Context(), "many/")
	if err != nil || len(files) != 1203 {
		t.Errorf("%d files: %v", len(files), err)
	}
}

// The published example of AWS Signature Version 4 for S3, "GET Bucket Lifecycle"
// and "GET Object" (docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html).
func TestSignaturesAreThoseOfThePublishedExamples(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, rng, want string }{
		{"https://examplebucket.s3.amazonaws.com/?lifecycle=", "", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
		{"https://examplebucket.s3.amazonaws.com/test.txt", "bytes=0-9", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
		{"https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J", "", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
	} {
		r, err := http.NewRequest(http.MethodGet, c.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.rng != "" {
			r.Header.Set("Range", c.rng)
		}
		target.SignExample(r)
		if got := r.Header.Get("Authorization"); got[len(got)-64:] != c.want {
			t.Errorf("%s: %s, want %s", c.url, got, c.want)
		}
	}
}
