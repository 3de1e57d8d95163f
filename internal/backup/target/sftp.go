package target

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/missionopsai/foundry/internal/problem"
)

// SFTP is one session on an SFTP server whose host key is pinned: a server
// that shows another one is refused, and none is ever learned by connecting.
type SFTP struct {
	t      Target
	conn   *ssh.Client
	client *sftp.Client
	stop   func() bool
}

const sftpTimeout = 20 * time.Second

// Port is the port, 22 unless another is given.
func (c SFTPConfig) PortOr22() int {
	if c.Port == 0 {
		return 22
	}
	return c.Port
}

// DialSFTP opens a session. When ctx ends, so does it.
func DialSFTP(ctx context.Context, t Target) (*SFTP, error) {
	if t.SFTP == nil {
		return nil, problem.New(problem.Invalid, "target-kind", "The target "+t.Name+" is not an SFTP server.")
	}
	signer, err := ssh.ParsePrivateKey([]byte(t.SFTPKey + "\n"))
	if err != nil {
		return nil, problem.New(problem.Invalid, "target-key", "The private key for the target "+t.Name+" cannot be read.").
			WithField("sftp.key").WithMend("Name an OpenSSH private key without a passphrase, of mode 0600.").Wrap(err)
	}
	verify, algorithms, err := t.hostKeys()
	if err != nil {
		return nil, err
	}
	addr := net.JoinHostPort(t.SFTP.Host, strconv.Itoa(t.SFTP.PortOr22()))
	conn, err := (&net.Dialer{Timeout: sftpTimeout}).DialContext(ctx, "tcp", addr)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, gone(t.Name, "sftp.host", err)
	}
	_ = conn.SetDeadline(time.Now().Add(sftpTimeout)) // for the handshake
	c, channels, requests, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		User: t.SFTP.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: verify, HostKeyAlgorithms: algorithms,
	})
	if err != nil {
		_ = conn.Close()
		return nil, t.handshake(ctx, err)
	}
	_ = conn.SetDeadline(time.Time{})
	s := &SFTP{t: t, conn: ssh.NewClient(c, channels, requests)}
	if s.client, err = sftp.NewClient(s.conn, sftp.UseConcurrentWrites(true)); err != nil {
		_ = s.conn.Close()
		return nil, problem.New(problem.Unsupported, "target-no-sftp", "The target "+t.Name+" lets this user in but offers no SFTP.").
			WithField("sftp.host").WithMend("Switch SFTP on for the account at the server.").Wrap(err)
	}
	s.stop = context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	return s, nil
}

// hostKeys reads the pinned keys. The server is asked for a key of a pinned
// kind only: one of another kind would look like a forged one.
func (t Target) hostKeys() (verify ssh.HostKeyCallback, algorithms []string, err error) {
	verify, err = knownhosts.New(t.SFTP.KnownHosts)
	if t.SFTP.KnownHosts == "" || err != nil {
		return nil, nil, problem.New(problem.Invalid, "target-known-hosts", "The host key of the target "+t.Name+" is not pinned: its known_hosts file cannot be read.").
			WithField("sftp.known_hosts").WithMend("Ask whoever runs the server for its key, and write it to a file as ssh-keyscan would.").Wrap(err)
	}
	addr := net.JoinHostPort(t.SFTP.Host, strconv.Itoa(t.SFTP.PortOr22()))
	var ke *knownhosts.KeyError
	if err := verify(addr, &net.TCPAddr{}, nobody{}); errors.As(err, &ke) {
		for _, want := range ke.Want {
			if algorithm := want.Key.Type(); algorithm == ssh.KeyAlgoRSA {
				algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
			} else {
				algorithms = append(algorithms, algorithm)
			}
		}
	}
	if len(algorithms) == 0 {
		return nil, nil, problem.New(problem.Invalid, "target-known-hosts", "The known_hosts file of the target "+t.Name+" has no key for "+knownhosts.Normalize(addr)+".").
			WithField("sftp.known_hosts").WithMend("Ask whoever runs the server for its key, and add the line.")
	}
	return verify, algorithms, nil
}

// nobody is a key that no file holds: asking for it lists those that it does.
type nobody struct{}

func (nobody) Type() string                        { return "none" }
func (nobody) Marshal() []byte                     { return nil }
func (nobody) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }

func (t Target) handshake(ctx context.Context, err error) error {
	var ke *knownhosts.KeyError
	var re *knownhosts.RevokedError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &ke), errors.As(err, &re), strings.Contains(err.Error(), "no common algorithm for host key"):
		return problem.New(problem.Denied, "target-host-key", "The server of the target "+t.Name+" shows another host key than the pinned one. Nothing was sent.").
			WithField("sftp.known_hosts").WithMend("Find out why: only if whoever runs the server confirms a new key, write it to the file.").Wrap(err)
	case strings.Contains(err.Error(), "unable to authenticate"):
		return problem.New(problem.Unauthenticated, "target-credentials", "The target "+t.Name+" does not let this user in with this key.").
			WithField("sftp.key").WithMend("Add its public key to the account's authorized_keys at the server.").Wrap(err)
	}
	return gone(t.Name, "sftp.host", err)
}

// Close ends the session.
func (s *SFTP) Close() error {
	s.stop()
	return errors.Join(ignoreClosed(s.client.Close()), ignoreClosed(s.conn.Close()))
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (s *SFTP) at(name string) string { return path.Join(s.t.Path, name) }

// List implements Store.
func (s *SFTP) List(ctx context.Context, prefix string) (files []File, err error) {
	if _, err := s.client.Stat(s.t.Path); err != nil {
		return nil, s.explain(err)
	}
	walk := s.client.Walk(s.t.Path)
	for walk.Step() {
		if err := walk.Err(); err != nil {
			return nil, s.explain(err)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(walk.Path(), strings.TrimSuffix(s.t.Path, "/")), "/")
		switch info := walk.Stat(); {
		case info.IsDir():
			if name != "" && !strings.HasPrefix(name+"/", prefix) && !strings.HasPrefix(prefix, name+"/") {
				walk.SkipDir()
			}
		case info.Mode().IsRegular() && strings.HasPrefix(name, prefix):
			files = append(files, File{Name: name, Size: info.Size(), Modified: info.ModTime()})
		}
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files, context.Cause(ctx)
}

// Open implements Store.
func (s *SFTP) Open(_ context.Context, name string) (io.ReadCloser, error) {
	if err := fileName(name); err != nil {
		return nil, err
	}
	f, err := s.client.Open(s.at(name))
	if err != nil {
		return nil, s.explain(err)
	}
	return f, nil
}

// Put implements Store.
func (s *SFTP) Put(_ context.Context, name string, content []byte) error {
	if err := fileName(name); err != nil {
		return err
	}
	final := s.at(name)
	if err := s.client.MkdirAll(path.Dir(final)); err != nil {
		return s.explain(err)
	}
	next := path.Join(path.Dir(final), ".foundry-"+path.Base(final)+".new")
	f, err := s.client.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return s.explain(err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = s.client.PosixRename(next, final)
	}
	if err != nil {
		_ = s.client.Remove(next)
		return s.explain(err)
	}
	return nil
}

// Delete implements Store.
func (s *SFTP) Delete(_ context.Context, name string) error {
	if err := fileName(name); err != nil {
		return err
	}
	if err := s.client.Remove(s.at(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.explain(err)
	}
	return nil
}

// Space is what the server says of the file system below the target's path,
// if it knows the statvfs@openssh.com extension.
func (s *SFTP) Space() (free, total int64, err error) {
	v, err := s.statVFS()
	if err != nil {
		return 0, 0, err
	}
	return int64(v.Frsize * v.Bavail), int64(v.Frsize * v.Blocks), nil
}

func (s *SFTP) statVFS() (*sftp.StatVFS, error) {
	if _, ok := s.client.HasExtension("statvfs@openssh.com"); !ok {
		return nil, problem.New(problem.Unsupported, "space-unknown", "The target "+s.t.Name+" does not say how much is free there.").
			WithField("quota_gb").WithMend("Set quota_gb to what may be stored there.")
	}
	at := s.t.Path
	for {
		v, err := s.client.StatVFS(at)
		switch {
		case err == nil:
			return v, nil
		case errors.Is(err, fs.ErrNotExist) && path.Dir(at) != at:
			at = path.Dir(at) // not made yet
		default:
			return nil, s.explain(err)
		}
	}
}

// Refused says why the server refuses to write so many bytes: the protocol has
// no status for a full disk or a read-only one, OpenSSH says "failure" to both.
func (s *SFTP) Refused(bytes int64, cause error) error {
	const readOnlyFlag = 1 // SSH2_FXE_STATVFS_ST_RDONLY, PROTOCOL 3.4 of OpenSSH
	if v, err := s.statVFS(); err == nil && v.Flag&readOnlyFlag != 0 {
		return readOnly(s.t.Name).Wrap(cause)
	} else if err == nil && int64(v.Frsize*v.Bavail) < bytes {
		return full(s.t.Name).Wrap(cause)
	}
	return problem.New(problem.Upstream, "target-refused", "The target "+s.t.Name+" refuses to write, and does not say why.").
		WithMend("Look at the server: a quota, or a disk that fails.").Wrap(cause)
}

// explain turns a status of the protocol into what to do about it.
func (s *SFTP) explain(err error) error {
	var status *sftp.StatusError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fileMissing(s.t.Name).Wrap(err)
	case errors.Is(err, fs.ErrPermission):
		return denied(s.t.Name, "The account may not do that there.").Wrap(err)
	case errors.As(err, &status):
		return s.Refused(1<<20, err)
	}
	return gone(s.t.Name, "sftp.host", err)
}
