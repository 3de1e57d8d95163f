package target_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/backup/targettest"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestEveryRefusalOfAnSFTPServerSaysWhatToMend(t *testing.T) {
	t.Parallel()
	server := targettest.StartSSH(t)
	other := targettest.StartSSH(t)
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for name, c := range map[string]struct {
		change func(*target.Target)
		code   string
	}{
		"a forged host key": {func(at *target.Target) {
			forged := filepath.Join(t.TempDir(), "known")
			_ = os.WriteFile(forged, []byte(strings.ReplaceAll(read(other.KnownHosts), port(other.Port), port(server.Port))), 0o600)
			at.SFTP.KnownHosts = forged
		}, "target-host-key"},
		"a host key that is pinned for another host": {func(at *target.Target) { at.SFTP.KnownHosts = other.KnownHosts }, "target-known-hosts"},
		"no pinned host key":                         {func(at *target.Target) { at.SFTP.KnownHosts = "" }, "target-known-hosts"},
		"a file of pinned keys that is not there":    {func(at *target.Target) { at.SFTP.KnownHosts = "/nowhere" }, "target-known-hosts"},
		"a key that the server does not know":        {func(at *target.Target) { at.SFTPKey = read(targettest.StrangerKey(t)) }, "target-credentials"},
		"a key that is no key":                       {func(at *target.Target) { at.SFTPKey = "secret" }, "target-key"},
		"a key for something else":                   {func(at *target.Target) { at.SFTPKey = read(server.GitKey) }, "target-no-sftp"},
		"nobody listens":                             {func(at *target.Target) { at.SFTP.Port, at.SFTP.KnownHosts = 1, server.KnownAt(t, 1) }, "target-gone"},
	} {
		t.Run(name, func(t *testing.T) {
			at := server.Open(t, "box")
			c.change(&at)
			_, err := at.Store(t.Context())
			if p := problem.From(err); p.Code != c.code || p.Mend == "" {
				t.Errorf("got %s: %v (%v), want %s with a mend", p.Code, err, p.Err, c.code)
			}
		})
	}
}

func TestAHashedKnownHostsFilePinsToo(t *testing.T) {
	t.Parallel()
	server := targettest.StartSSH(t)
	at := server.Open(t, "box")
	hashed := filepath.Join(t.TempDir(), "known")
	line := knownhosts.HashHostname(knownhosts.Normalize("127.0.0.1:"+port(server.Port))) + " " + server.HostKey + "\n"
	if err := os.WriteFile(hashed, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	at.SFTP.KnownHosts = hashed
	open(t, at)
}

func TestAReadOnlyAccountCannotWrite(t *testing.T) {
	t.Parallel()
	server := targettest.StartSSH(t)
	at := server.Open(t, "box")
	at.Path = server.Root
	if err := open(t, at).Put(t.Context(), "kept", []byte("x")); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(server.ReadKey)
	if err != nil {
		t.Fatal(err)
	}
	at.SFTPKey = string(key)
	s := open(t, at)
	if files, err := s.List(t.Context(), ""); err != nil || len(files) != 1 {
		t.Errorf("reading: %v %v", files, err)
	}
	if err := s.Put(t.Context(), "new", nil); code(err) != "target-denied" {
		t.Errorf("writing: %v", err)
	}
}

func TestTheServerSaysHowMuchIsFree(t *testing.T) {
	t.Parallel()
	server := targettest.StartSSH(t)
	at := server.Open(t, "not-made-yet")
	s, err := target.DialSFTP(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	free, total, err := s.Space()
	if err != nil || free <= 0 || total < free {
		t.Errorf("%d of %d free: %v", free, total, err)
	}
	at.QuotaGB = 3
	if free, total, err := at.Space(t.Context()); err != nil || free != 3<<30 || total != free {
		t.Errorf("with a quota, %d of %d free: %v", free, total, err)
	}
}
