package kit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/missionopsai/foundry/internal/problem"
)

// A kit file is a line of text and an age file (age-encryption.org/v1):
//
//	foundry-kit 1 set=8 hex digits created=RFC 3339 fingerprint=16 hex digits\n
//	age-encryption.org/v1 …
//
// Encrypted is the HMAC-SHA-256, by the recovery key's authenticator, of the
// line and of the content, and then the content as JSON.
const fileMagic = "foundry-kit 1 "

// Header is what everybody who has the file can read.
type Header struct {
	Set         SetID     `json:"set"`
	Created     time.Time `json:"created"`
	Fingerprint string    `json:"fingerprint"` // of the recipient
}

// String is the header as it stands in the file, without the magic.
func (h Header) String() string {
	return fmt.Sprintf("set=%s created=%s fingerprint=%s", h.Set, h.Created.UTC().Format(time.RFC3339), h.Fingerprint)
}

func (h Header) line() string { return fileMagic + h.String() + "\n" }

// mostHeader is longer than any first line.
const mostHeader = 256

// ReadHeader reads the first line of a kit, without a key. It is not
// authenticated before the kit is opened.
func ReadHeader(file []byte) (Header, error) {
	h, _, err := cutHeader(file)
	return h, err
}

func cutHeader(file []byte) (h Header, rest []byte, err error) {
	end := bytes.IndexByte(file[:min(len(file), mostHeader)], '\n')
	if !bytes.HasPrefix(file, []byte("foundry-kit ")) || end < 0 {
		return h, nil, problem.New(problem.Invalid, "kit-none", "This is no emergency kit of Foundry.").WithField("kit").
			WithMend("A kit is a file named foundry-kit-….age, and begins with the words foundry-kit. One lies at every target.")
	}
	line := string(file[:end+1])
	if !strings.HasPrefix(line, fileMagic) {
		return h, nil, problem.New(problem.Unsupported, "kit-version", "The kit was made by a newer Foundry: its first line is not known here.").WithField("kit").
			WithMend("Use a newer version of this program.")
	}
	for _, pair := range strings.Fields(line[len(fileMagic):]) {
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "set":
			err = h.Set.UnmarshalText([]byte(value))
		case "created":
			h.Created, err = time.Parse(time.RFC3339, value)
		case "fingerprint":
			h.Fingerprint = value
		}
		if err != nil {
			break
		}
	}
	if err != nil || h.line() != line {
		return h, nil, damaged("its first line is not as Foundry writes it", err)
	}
	return h, file[end+1:], nil
}

func damaged(what string, cause error) error {
	return problem.New(problem.Invalid, "kit-damaged", "The kit is damaged: "+what+".").WithField("kit").
		WithMend("Use another copy: one lies at every target, and where the operator keeps one.").Wrap(cause)
}

// Recipient is what the node keeps of the recovery key: enough to make kits,
// not to read them.
type Recipient struct {
	Public        string // age1…
	Authenticator []byte // Key.Authenticator
}

// Set names the shares that open what is made for the recipient.
func (r Recipient) Set() SetID { return setOf(r.Public) }

// Seal makes a kit file.
func (r Recipient) Seal(c Content, now time.Time) ([]byte, error) {
	to, err := age.ParseX25519Recipient(r.Public)
	if err != nil {
		return nil, fmt.Errorf("reading the recipient of the kit: %w", err)
	}
	c.Version, c.Made = ContentVersion, now.UTC().Truncate(time.Second)
	c.Header = Header{Set: r.Set(), Created: c.Made, Fingerprint: Fingerprint(r.Public)}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	defer clear(body)
	var out bytes.Buffer
	out.WriteString(c.Header.line())
	w, err := age.Encrypt(&out, to)
	if err != nil {
		return nil, fmt.Errorf("encrypting the kit: %w", err)
	}
	for _, part := range [][]byte{mac(r.Authenticator, c.Header, body), body} {
		if _, err := w.Write(part); err != nil {
			return nil, fmt.Errorf("encrypting the kit: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encrypting the kit: %w", err)
	}
	return out.Bytes(), nil
}

func mac(key []byte, h Header, body []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(h.line()))
	m.Write(body)
	return m.Sum(nil)
}

// Open reads a kit. The errors tell a kit of another key from a damaged one,
// and from one that Foundry did not make.
func Open(file []byte, k *Key) (Content, error) {
	var c Content
	h, rest, err := cutHeader(file)
	if err != nil {
		return c, err
	}
	if h.Set != k.Set() {
		return c, problem.New(problem.Invalid, "kit-wrong", fmt.Sprintf("The shares are of set %s, and the kit is of set %s.", k.Set(), h.Set)).WithField("kit").
			WithMend("Take the kit whose name has the set of the shares, or the shares whose pages name the set of the kit.")
	}
	r, err := age.Decrypt(bytes.NewReader(rest), k.identity)
	var mismatch *age.NoIdentityMatchError
	if errors.As(err, &mismatch) {
		return c, problem.New(problem.Invalid, "kit-wrong", "The kit names the set of the shares, but it is encrypted to another key.").WithField("kit").
			WithMend("Somebody changed it, or it is damaged. Use another copy: one lies at every target.").Wrap(err)
	}
	if err != nil {
		return c, damaged("it is no whole age file", err)
	}
	body, err := io.ReadAll(io.LimitReader(r, mostContent+1))
	defer clear(body)
	if err != nil || len(body) > mostContent || len(body) < sha256.Size {
		return c, damaged("it does not decrypt to its end", err)
	}
	sum, body := body[:sha256.Size], body[sha256.Size:]
	if !hmac.Equal(sum, mac(k.Authenticator(), h, body)) {
		return c, problem.New(problem.Denied, "kit-forged", "The kit is encrypted to the right key, but no node that belongs to it made it.").WithField("kit").
			WithMend("Do not use it: it could lead the recovery to somebody else's data. Use another copy, and find out who can write to where this one lay.")
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return c, damaged("its content cannot be read", err)
	}
	return c, c.Validate()
}
