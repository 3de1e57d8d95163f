package targettest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/config"
)

// SSH is a running OpenSSH server with a host key of its own and one user, who
// has three keys: one for SFTP only, one for SFTP without writing, one for Git only.
type SSH struct {
	Host       string
	Port       int
	User       string
	HostKey    string // as in an authorized_keys file: type and base64
	KnownHosts string // file that pins the host key
	KeyFile    string // private key, SFTP only
	ReadKey    string // private key, SFTP read-only
	GitKey     string // private key, Git only, below Root
	Root       string // a directory for what is stored

	p process
}

// StartSSH starts a server for the length of a test.
func StartSSH(t testing.TB) *SSH {
	t.Helper()
	program, err := exec.LookPath("sshd")
	if err != nil {
		program = "/usr/sbin/sshd"
	}
	if _, err := os.Stat(program); err != nil {
		missing(t, "The SSH server (openssh-server)")
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // where sshd lets its unprivileged part work
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := Dir(t)
	s := &SSH{Host: "127.0.0.1", User: me.Username, Root: filepath.Join(dir, "root")}
	if err := os.Mkdir(s.Root, 0o700); err != nil {
		t.Fatal(err)
	}
	host, hostPublic := sshKey(t, dir, "host")
	s.HostKey = hostPublic
	var authorised strings.Builder
	allow := func(name, command string) string {
		path, public := sshKey(t, dir, name)
		fmt.Fprintf(&authorised, "restrict,command=%q %s\n", command, public)
		return path
	}
	s.KeyFile = allow("sftp", "internal-sftp -d "+s.Root)
	s.ReadKey = allow("sftp-read", "internal-sftp -R -d "+s.Root)
	s.GitKey = allow("git", "cd "+s.Root+" && exec git-shell -c \"$SSH_ORIGINAL_COMMAND\"")
	keys := write(t, dir, "authorized_keys", authorised.String(), 0o600)
	s.Port = onFreePort(t, &s.p, func(port int) *exec.Cmd {
		settings := write(t, dir, "sshd_config", fmt.Sprintf(`ListenAddress 127.0.0.1:%d
HostKey %s
PidFile none
AuthorizedKeysFile %s
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
MaxStartups 100
PrintMotd no
`, port, host, keys), 0o600)
		return exec.Command(program, "-D", "-e", "-f", settings)
	})
	s.KnownHosts = write(t, dir, "known_hosts", s.known(s.Port), 0o644)
	return s
}

// known is the line of a known_hosts file for a port.
func (s *SSH) known(port int) string { return fmt.Sprintf("[127.0.0.1]:%d %s\n", port, s.HostKey) }

// KnownAt pins the same host key at another port, for example a proxy's.
func (s *SSH) KnownAt(t testing.TB, port int) string {
	t.Helper()
	return write(t, t.TempDir(), "known_hosts", s.known(port), 0o644)
}

// sshKey makes a key pair and returns the private key's file and the public key's line.
func sshKey(t testing.TB, dir, name string) (path, public string) {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "foundry test")
	if err != nil {
		t.Fatal(err)
	}
	line, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, dir, name+".key", string(pem.EncodeToMemory(block)), 0o600), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line)))
}

// StrangerKey makes a private key that the server does not know.
func StrangerKey(t testing.TB) (path string) {
	t.Helper()
	path, _ = sshKey(t, t.TempDir(), "stranger")
	return path
}

// Stop kills the listening server. Sessions that are open go on.
func (s *SSH) Stop() { s.p.end() }

// Target is a target below Root.
func (s *SSH) Target(t testing.TB, name string) target.Config {
	t.Helper()
	return target.Config{Name: name, Kind: target.SFTPHost, Path: filepath.Join(s.Root, name), Country: "DE", SFTP: &target.SFTPConfig{
		Host: s.Host, Port: s.Port, User: s.User, Key: config.Secret{File: s.KeyFile}, KnownHosts: s.KnownHosts,
	}}
}

// Open is Target with its key read.
func (s *SSH) Open(t testing.TB, name string) target.Target {
	t.Helper()
	key, err := os.ReadFile(s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return target.Target{Config: s.Target(t, name), SFTPKey: string(key)}
}
