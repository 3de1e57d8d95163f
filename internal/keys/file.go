package keys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/missionopsai/foundry/internal/problem"
)

// largest bounds what is read from a key file: none is larger.
const largest = 64 << 10

// File gives a key from a file with 32 bytes in base64 that only its owner may
// read. In development it lies with the data; production refuses that.
func File(path string) Provider { return &fileProvider{path: path} }

type fileProvider struct{ path string }

func (p *fileProvider) Name() string  { return "file" }
func (p *fileProvider) Place() string { return p.path }

func (p *fileProvider) Load(context.Context) ([][]byte, error) {
	var all [][]byte
	for _, path := range []string{p.path, p.path + nextSuffix} {
		text, err := readPrivate(path, 0o077)
		if path != p.path && errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, unreadable(path, err)
		}
		key, err := parseKEK(path, text)
		clear(text)
		if err != nil {
			return nil, err
		}
		all = append(all, key)
	}
	return all, nil
}

func (p *fileProvider) make(dir, making string) (Provider, error) {
	if filepath.Dir(p.path) != dir || exists(p.path) {
		return p, nil // somebody else's to make
	}
	path := filepath.Join(making, filepath.Base(p.path))
	kek := freshKEK()
	defer clear(kek)
	return File(path), writeNew(path, encodeKEK(kek))
}

// nextSuffix names the key that is to follow.
const nextSuffix = ".next"

func (p *fileProvider) Next(context.Context) ([]byte, error) {
	path := p.path + nextSuffix
	if !exists(path) {
		kek := freshKEK()
		defer clear(kek)
		if err := replace(path, encodeKEK(kek)); err != nil {
			return nil, err
		}
	}
	text, err := readPrivate(path, 0o077)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer clear(text)
	return parseKEK(path, text)
}

func (p *fileProvider) Promote(_ context.Context, retired string) (string, error) {
	return promoteFile(p.path, retired)
}

// promoteFile keeps the file in force under another name, then moves the next
// one over it. Killed in between, it is done again.
func promoteFile(path, retired string) (string, error) {
	if !exists(path + nextSuffix) {
		return "", nil
	}
	kept := path + ".retired-" + retired
	if err := os.Link(path, kept); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", unreadable(kept, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return "", err
	}
	if err := os.Rename(path+nextSuffix, path); err != nil {
		return "", unreadable(path, err)
	}
	return kept, syncDir(filepath.Dir(path))
}

func (p *fileProvider) Check(dataDir string) error {
	return apart(p.path, dataDir)
}

// Credential gives a key that systemd put into a ramfs for this service
// (LoadCredential=, or LoadCredentialEncrypted= for one that is sealed to the
// machine's TPM; systemd.exec(5)). Dir is $CREDENTIALS_DIRECTORY.
func Credential(dir, name string) Provider {
	return &credentialProvider{filepath.Join(dir, filepath.Base(name))}
}

type credentialProvider struct{ path string }

func (p *credentialProvider) Name() string  { return "credential" }
func (p *credentialProvider) Place() string { return filepath.Base(p.path) }

func (p *credentialProvider) Load(context.Context) ([][]byte, error) {
	// systemd gives it to the service's user by an access list, which shows in
	// the bits of the group; nobody else gets through the directory.
	text, err := readPrivate(p.path, 0o027)
	if err != nil {
		return nil, unreadable(p.path, err)
	}
	defer clear(text)
	key, err := parseKEK("The credential "+p.Place(), text)
	if err != nil {
		return nil, err
	}
	return [][]byte{key}, nil
}

func (p *credentialProvider) Next(context.Context) ([]byte, error) {
	return nil, problem.New(problem.Unsupported, "kek-not-ours", "The key-encryption key is a credential of systemd, which Foundry cannot replace.").
		WithField("keys.kek").WithMend("Make a new credential, name the old one under keys.previous, restart, and run `foundry keys rewrap` without --new.")
}

func (p *credentialProvider) Promote(context.Context, string) (string, error) { return "", nil }

func (p *credentialProvider) Check(dataDir string) error { return apart(p.path, dataDir) }

// readPrivate reads a file that must belong to this user or to root, and on
// which none of the forbidden mode bits may be set.
func readPrivate(path string, forbidden fs.FileMode) ([]byte, error) {
	if err := private(path, forbidden); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, largest))
}

func private(path string, forbidden fs.FileMode) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if perm := info.Mode().Perm(); perm&forbidden != 0 {
		return problem.New(problem.Invalid, "kek-mode", fmt.Sprintf("%s has mode %04o: others can read the key material.", path, perm)).
			WithMend("Run: chmod 0600 " + path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() && !rootInspects(path, st.Uid) {
		return problem.New(problem.Invalid, "kek-owner", fmt.Sprintf("%s belongs to the user %d, who could read and replace it.", path, st.Uid)).
			WithMend(fmt.Sprintf("Run: chown %d %s", os.Geteuid(), path))
	}
	return nil
}

// rootInspects allows root to read what the service's own user keeps in its own
// directory, as the command line does.
func rootInspects(path string, owner uint32) bool {
	info, err := os.Stat(filepath.Dir(path))
	if err != nil || os.Geteuid() != 0 {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == owner
}

// closedDir refuses a directory of key material that others can enter or
// change.
func closedDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return unreadable(dir, err)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return problem.New(problem.Invalid, "keys-mode", fmt.Sprintf("%s has mode %04o: others can enter the directory of the keys.", dir, perm)).
			WithMend("Run: chmod 0700 " + dir)
	}
	return nil
}

// apart refuses a KEK that lies on the data's volume. A systemd credential
// lies on a ramfs of its own and passes.
func apart(kek, data string) error {
	a, err := os.Stat(kek)
	if err != nil {
		return unreadable(kek, err)
	}
	b, err := os.Stat(data)
	if err != nil {
		return unreadable(data, err)
	}
	sa, okA := a.Sys().(*syscall.Stat_t)
	sb, okB := b.Sys().(*syscall.Stat_t)
	if !okA || !okB || sa.Dev == sb.Dev {
		return problem.New(problem.Denied, "kek-on-data-volume", "In production the key-encryption key may not lie on the volume of the data: "+kek+".").
			WithField("keys.kek").WithMend("Give it as a systemd credential (keys.kek: {credential: foundry-kek}) or as a file on another volume.")
	}
	return nil
}
