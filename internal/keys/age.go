package keys

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/missionopsai/foundry/internal/problem"
)

// AgeOptions say how a KEK lies in an age file (age-encryption.org/v1).
type AgeOptions struct {
	File       string   // the KEK, encrypted to the recipients; made where there is none
	Recipients []string // age1…: this node, the nodes that take over, and escrow
	Identity   string   // a file of identities; may itself be encrypted with a passphrase
	// Passphrase unlocks the identity file. It is asked for only where the
	// file is encrypted: an operator types it, or a credential holds it. The
	// caller wipes the answer.
	Passphrase func(ctx context.Context) ([]byte, error)
}

// Age gives a key from a file that is encrypted to age recipients.
//
// The KEK, not each keyset, is encrypted by age: age says for whom a file is,
// not by whom, so that whoever knows the recipients and can write to the
// database could slip a keyset of his own under. The wrap by the KEK is
// authenticated.
func Age(o AgeOptions) Provider { return &ageProvider{o} }

type ageProvider struct{ o AgeOptions }

func (p *ageProvider) Name() string  { return "age" }
func (p *ageProvider) Place() string { return p.o.File }

func (p *ageProvider) Load(ctx context.Context) ([][]byte, error) {
	var bodies [][]byte
	for _, path := range []string{p.o.File, p.o.File + nextSuffix} {
		body, err := readPrivate(path, 0o077)
		if path != p.o.File && errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, unreadable(path, err)
		}
		bodies = append(bodies, body)
	}
	identities, err := p.unlock(ctx)
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for _, body := range bodies {
		key, err := p.decrypt(body, identities)
		if err != nil {
			return nil, err
		}
		all = append(all, key)
	}
	return all, nil
}

func (p *ageProvider) decrypt(body []byte, identities []age.Identity) ([]byte, error) {
	r, err := age.Decrypt(unarmored(body), identities...)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none):
		return nil, problem.New(problem.Denied, "age-identity", p.o.File+" is not encrypted to any identity of "+p.o.Identity+".").
			WithField("keys.age.identity").WithMend("Give the identity of one of its recipients, or restore the file from escrow: docs/runbooks/kek-lost.md.")
	case err != nil:
		return nil, problem.New(problem.Invalid, "age-file", p.o.File+" is no whole age file.").WithField("keys.age.file").
			WithMend("Restore it from escrow: docs/runbooks/kek-lost.md.")
	}
	text, err := io.ReadAll(io.LimitReader(r, largest))
	defer clear(text)
	if err != nil {
		return nil, problem.New(problem.Invalid, "age-file", p.o.File+" was truncated or changed.").WithField("keys.age.file").
			WithMend("Restore it from escrow: docs/runbooks/kek-lost.md.")
	}
	return parseKEK(p.o.File, text)
}

// unlock reads the identities, after asking for their passphrase if they have one.
func (p *ageProvider) unlock(ctx context.Context) ([]age.Identity, error) {
	body, err := readPrivate(p.o.Identity, 0o027)
	if err != nil {
		return nil, unreadable(p.o.Identity, err)
	}
	defer clear(body)
	text := body
	if encrypted(body) {
		if text, err = p.withPassphrase(ctx, body); err != nil {
			return nil, err
		}
		defer clear(text)
	}
	identities, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil || len(identities) == 0 { // the cause would quote the line
		return nil, problem.New(problem.Invalid, "age-identity-format", p.o.Identity+" holds no age identity.").WithField("keys.age.identity").
			WithMend("Make one with: age-keygen | age -p > " + p.o.Identity)
	}
	return identities, nil
}

func (p *ageProvider) withPassphrase(ctx context.Context, body []byte) ([]byte, error) {
	if p.o.Passphrase == nil {
		return nil, problem.New(problem.Unavailable, "age-locked", p.o.Identity+" is locked with a passphrase, and there is nobody to ask for it.").
			WithField("keys.age.passphrase").WithMend("Start the node on a terminal, or give the passphrase as a credential.")
	}
	phrase, err := p.o.Passphrase(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(phrase)
	id, err := age.NewScryptIdentity(string(bytes.TrimRight(phrase, "\r\n")))
	if err != nil {
		return nil, wrongPassphrase(p.o.Identity)
	}
	r, err := age.Decrypt(unarmored(body), id)
	if err != nil {
		return nil, wrongPassphrase(p.o.Identity)
	}
	text, err := io.ReadAll(io.LimitReader(r, largest))
	if err != nil {
		return nil, wrongPassphrase(p.o.Identity)
	}
	return text, nil
}

func wrongPassphrase(path string) error {
	return problem.New(problem.Denied, "age-passphrase", "The passphrase does not unlock "+path+", or the file is damaged.").
		WithField("keys.age.passphrase").WithMend("Try again with the right one.")
}

// encrypted reports whether a file is an age file, armoured or not.
func encrypted(body []byte) bool {
	return bytes.HasPrefix(body, []byte("age-encryption.org/")) || isArmored(body)
}

func isArmored(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte(armor.Header))
}

func unarmored(body []byte) io.Reader {
	if isArmored(body) {
		return armor.NewReader(bytes.NewReader(body))
	}
	return bytes.NewReader(body)
}

func (p *ageProvider) make(dir, making string) (Provider, error) {
	if exists(p.o.File) {
		return p, nil
	}
	o := p.o
	if filepath.Dir(p.o.File) == dir {
		o.File = filepath.Join(making, filepath.Base(p.o.File))
	}
	kek := freshKEK()
	defer clear(kek)
	body, err := p.encrypt(kek)
	if err != nil {
		return nil, err
	}
	return Age(o), writeNew(o.File, body)
}

func (p *ageProvider) encrypt(kek []byte) ([]byte, error) {
	recipients, err := age.ParseRecipients(strings.NewReader(strings.Join(p.o.Recipients, "\n")))
	if err != nil || len(recipients) == 0 {
		return nil, problem.New(problem.Invalid, "age-recipients", "The recipients of the key-encryption key cannot be read.").
			WithField("keys.age.recipients").WithMend("Write each as age-keygen prints it: age1….").Wrap(err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipients...)
	if err != nil {
		return nil, problem.New(problem.Invalid, "age-recipients", "The recipients of the key-encryption key cannot be used together.").
			WithField("keys.age.recipients").Wrap(err)
	}
	text := encodeKEK(kek)
	defer clear(text)
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (p *ageProvider) Next(ctx context.Context) ([]byte, error) {
	path := p.o.File + nextSuffix
	if !exists(path) {
		kek := freshKEK()
		defer clear(kek)
		body, err := p.encrypt(kek)
		if err != nil {
			return nil, err
		}
		if err := replace(path, body); err != nil {
			return nil, err
		}
	}
	all, err := p.Load(ctx)
	if err != nil {
		return nil, err
	}
	clear(all[0])
	return all[1], nil
}

func (p *ageProvider) Promote(_ context.Context, retired string) (string, error) {
	return promoteFile(p.o.File, retired)
}

// Check lets the encrypted KEK lie anywhere, and an identity that is encrypted
// too; a bare identity may not lie with the data.
func (p *ageProvider) Check(dataDir string) error {
	body, err := readPrivate(p.o.Identity, 0o027)
	if err != nil {
		return unreadable(p.o.Identity, err)
	}
	defer clear(body)
	if encrypted(body) {
		return nil
	}
	if err := apart(p.o.Identity, dataDir); err != nil {
		e := problem.From(err)
		e.Field = "keys.age.identity"
		return e.WithMend("Lock it with a passphrase (age -p), or keep it on another volume or in a systemd credential.")
	}
	return nil
}
