package target_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/backup/targettest"
	"github.com/missionopsai/foundry/internal/problem"
)

// everyKind runs a test against a real target of each kind.
func everyKind(t *testing.T, test func(t *testing.T, at target.Target)) {
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		test(t, target.Target{Config: target.Config{Name: "disk", Kind: target.Directory, Path: t.TempDir()}})
	})
	t.Run("s3", func(t *testing.T) {
		t.Parallel()
		s := targettest.StartS3(t)
		s.Bucket(t, "backups")
		test(t, s.Open(t, "bucket", "backups"))
	})
	t.Run("sftp", func(t *testing.T) {
		t.Parallel()
		s := targettest.StartSSH(t)
		at := s.Open(t, "box")
		if err := os.Mkdir(at.Path, 0o700); err != nil {
			t.Fatal(err)
		}
		test(t, at)
	})
}

func open(t *testing.T, at target.Target) target.Store {
	t.Helper()
	s, err := at.Store(t.Context())
	if err != nil {
		t.Fatalf("%v (%v)", err, errors.Unwrap(err))
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func code(err error) string {
	var p *problem.Error
	if errors.As(err, &p) {
		return p.Code
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestAFileAtATargetIsWrittenWholeReadListedAndRemoved(t *testing.T) {
	t.Parallel()
	everyKind(t, func(t *testing.T, at target.Target) {
		s := open(t, at)
		names := []string{"kit.age", "a/b/deep", "a/other", "with space+and%25é"}
		for _, text := range []string{"first", "and the second, longer"} {
			for _, name := range names {
				if err := s.Put(t.Context(), name, []byte(name+text)); err != nil {
					t.Fatalf("%s: %v (%v)", name, err, errors.Unwrap(err))
				}
				r, err := s.Open(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(r)
				if err != nil || string(got) != name+text || r.Close() != nil {
					t.Errorf("%s holds %q (%v)", name, got, err)
				}
			}
		}
		list := func(prefix string, want ...string) {
			t.Helper()
			files, err := s.List(t.Context(), prefix)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range files {
				got = append(got, f.Name)
				if want := int64(len(f.Name + "and the second, longer")); f.Size != want || f.Modified.IsZero() {
					t.Errorf("%s: %d bytes of %v, want %d", f.Name, f.Size, f.Modified, want)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("below %q: %q, want %q", prefix, got, want)
			}
		}
		list("", "a/b/deep", "a/other", "kit.age", "with space+and%25é")
		list("a/", "a/b/deep", "a/other")
		list("a/b/d", "a/b/deep")
		list("nothing")
		for range 2 { // the second time it is not there
			if err := s.Delete(t.Context(), "a/b/deep"); err != nil {
				t.Error(err)
			}
		}
		list("a/", "a/other")
		if _, err := s.Open(t.Context(), "a/b/deep"); code(err) != "target-file-missing" {
			t.Errorf("reading a file that is not there: %v", err)
		}
	})
}

func TestNoNameLeavesTheTargetsPath(t *testing.T) {
	t.Parallel()
	everyKind(t, func(t *testing.T, at target.Target) {
		s := open(t, at)
		for _, name := range []string{"", ".", "..", "../x", "/etc/passwd", "a/../../x", "a//b", "a/", "a\x00b", `a\b`} {
			_, err := s.Open(t.Context(), name)
			for what, err := range map[string]error{"read": err, "written": s.Put(t.Context(), name, nil), "deleted": s.Delete(t.Context(), name)} {
				if code(err) != "target-file-name" {
					t.Errorf("%q is %s: %v", name, what, err)
				}
			}
		}
	})
}

func TestATargetThatIsAwayIsGoneAndNotEmpty(t *testing.T) {
	t.Parallel()
	t.Run("a mount that is not there", func(t *testing.T) {
		t.Parallel()
		s := open(t, target.Target{Config: target.Config{Name: "disk", Kind: target.Directory, Path: filepath.Join(t.TempDir(), "absent")}})
		_, err := s.List(t.Context(), "")
		_, opened := s.Open(t.Context(), "x")
		for what, err := range map[string]error{"list": err, "open": opened, "put": s.Put(t.Context(), "x", nil), "delete": s.Delete(t.Context(), "x")} {
			if code(err) != "target-gone" {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	t.Run("a bucket's server that stopped", func(t *testing.T) {
		t.Parallel()
		server := targettest.StartS3(t)
		s := open(t, server.Open(t, "bucket", "backups"))
		server.Stop()
		if _, err := s.List(t.Context(), ""); code(err) != "target-gone" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a session that was cut", func(t *testing.T) {
		t.Parallel()
		server := targettest.StartSSH(t)
		proxy := targettest.StartProxy(t, "127.0.0.1:"+port(server.Port))
		at := server.Open(t, "box")
		at.SFTP.Port, at.SFTP.KnownHosts = proxy.Port, server.KnownAt(t, proxy.Port)
		s := open(t, at)
		proxy.Refuse()
		if err := s.Put(t.Context(), "x", nil); code(err) != "target-gone" {
			t.Errorf("a put: %v", err)
		}
		if _, err := at.Store(t.Context()); code(err) != "target-gone" {
			t.Errorf("another session: %v", err)
		}
	})
}

func TestACancelledContextIsNotAMissingTarget(t *testing.T) {
	t.Parallel()
	everyKind(t, func(t *testing.T, at target.Target) {
		s := open(t, at)
		if err := s.Put(t.Context(), "x", nil); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.List(ctx, ""); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}
