package probe

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// startSSHD gives each connection to an OpenSSH server of its own.
func startSSHD(t *testing.T, settings string) (port, fingerprint string) {
	t.Helper()
	program, err := exec.LookPath("sshd")
	if err != nil {
		program = "/usr/sbin/sshd"
	}
	if _, err := os.Stat(program); err != nil {
		t.Skip("this machine has no sshd")
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	host, config := filepath.Join(dir, "host"), filepath.Join(dir, "sshd_config")
	for path, text := range map[string]string{host: string(pem.EncodeToMemory(block)), config: "HostKey " + host + "\nPidFile none\nUsePAM no\nStrictModes no\n" + settings} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port = serveTCP(t, func(conn net.Conn) {
		f, err := conn.(*net.TCPConn).File()
		if err != nil {
			return
		}
		defer f.Close()
		cmd := exec.Command(program, "-i", "-e", "-f", config)
		cmd.Stdin, cmd.Stdout = f, f
		_ = cmd.Run()
	})
	return port, ssh.FingerprintSHA256(key)
}

func TestAnSSHServerMustNotOfferPasswords(t *testing.T) {
	for _, c := range []struct {
		name, settings, words string
		code                  Code
		says                  string
	}{
		{"keys only", "PasswordAuthentication no\nKbdInteractiveAuthentication no\n", "", "", "offers publickey only"},
		{"passwords", "PasswordAuthentication yes\nKbdInteractiveAuthentication no\n", "", AuthMethods, "offers password; only publickey is allowed"},
		{"questions", "PasswordAuthentication no\nKbdInteractiveAuthentication yes\n", "", AuthMethods, "keyboard-interactive"},
		{"passwords for those who are allowed to", "PasswordAuthentication yes\nKbdInteractiveAuthentication no\n", " allow=publickey,password", "", ""},
		{"passwords for one user", "PasswordAuthentication no\nKbdInteractiveAuthentication no\nMatch User backup\nPasswordAuthentication yes\n", " user=backup", AuthMethods, "password"},
	} {
		t.Run(c.name, func(t *testing.T) {
			port, print := startSSHD(t, c.settings)
			r := expect(t, SSH, "127.0.0.1:"+port+c.words, Env{}, c.code)
			if !strings.Contains(r.Words, c.says) {
				t.Fatalf("says %q, not %q", r.Words, c.says)
			}
			if !strings.HasPrefix(r.Facts["banner"], "SSH-2.0-OpenSSH") || r.Facts["host_key"] != print || r.Facts["methods"] == "" {
				t.Fatal(r.Facts)
			}
		})
	}
}

func TestAnSSHServerIsKnownByItsKey(t *testing.T) {
	port, print := startSSHD(t, "PasswordAuthentication no\nKbdInteractiveAuthentication no\n")
	expect(t, SSH, "127.0.0.1:"+port+" host-key="+print, Env{}, "")
	expect(t, SSH, "127.0.0.1:"+port+" host-key=SHA256:"+strings.Repeat("A", 43), Env{}, HostKey)
}

func TestAnSSHServerThatLetsAnybodyInIsTheWorst(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	port := serveTCP(t, func(conn net.Conn) {
		if c, _, _, err := ssh.NewServerConn(conn, config); err == nil {
			_ = c.Wait()
		}
	})
	if r := expect(t, SSH, "127.0.0.1:"+port, Env{}, AuthMethods); !strings.Contains(r.Words, "lets anybody in") {
		t.Fatal(r.Words)
	}
	expect(t, SSH, "127.0.0.1:"+closedPort(t), Env{}, Refused)
	expectWithin(t, SSH, "127.0.0.1:"+silentPort(t), Env{}, 300*time.Millisecond, Timeout)
	web := serveWeb(t, "127.0.0.1:0", nil, nil)
	if r := Run(t.Context(), Spec{Name: "p", Kind: SSH, Target: "127.0.0.1:" + web, Timeout: generous}, Env{}); r.OK || r.Code != Protocol && r.Code != Reset {
		t.Fatalf("%+v", r)
	}
}
