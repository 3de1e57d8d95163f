package member

import (
	"bytes"
	"fmt"
	"io"

	"filippo.io/age"
	"github.com/missionopsai/foundry/internal/problem"
)

// newIdentity makes a node's age identity: ML-KEM-768 with X25519, so that
// what is sealed to a node today stays shut in the age of quantum computers.
func newIdentity() (identity, recipient string, err error) {
	i, err := age.GenerateHybridIdentity()
	if err != nil {
		return "", "", fmt.Errorf("making the node's age identity: %w", err)
	}
	return i.String(), i.Recipient().String(), nil
}

// SealTo encrypts by age to a node's recipient (see [Node]).
func SealTo(recipient string, plaintext []byte) ([]byte, error) {
	r, err := age.ParseHybridRecipient(recipient)
	if err != nil {
		return nil, problem.New(problem.Invalid, "node-recipient", "The node's age recipient cannot be read.").WithField("recipient").Wrap(err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r)
	if err == nil {
		_, err = w.Write(plaintext)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encrypting to a node: %w", err)
	}
	return out.Bytes(), nil
}

func openSealed(identity string, sealed []byte) ([]byte, error) {
	i, err := age.ParseHybridIdentity(identity)
	if err != nil {
		return nil, fmt.Errorf("reading the node's age identity: %w", err)
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), i)
	if err != nil {
		return nil, problem.New(problem.Invalid, "not-for-this-node", "This was not encrypted to this node.").Wrap(err)
	}
	return io.ReadAll(r)
}

// OpenOwn opens what was encrypted to this node's recipient.
func (m *Member) OpenOwn(sealed []byte) ([]byte, error) { return m.files.openOwn(sealed) }

func (f *files) openOwn(sealed []byte) ([]byte, error) {
	identity, err := f.open(identityFile)
	if err != nil {
		return nil, err
	}
	defer clear(identity)
	return openSealed(string(identity), sealed)
}

// Recipient is this node's age recipient.
func (m *Member) Recipient() (string, error) {
	identity, err := m.files.open(identityFile)
	if err != nil {
		return "", err
	}
	defer clear(identity)
	i, err := age.ParseHybridIdentity(string(identity))
	if err != nil {
		return "", fmt.Errorf("reading the node's age identity: %w", err)
	}
	return i.Recipient().String(), nil
}
