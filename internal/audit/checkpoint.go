package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/missionopsai/foundry/internal/problem"
)

// Checkpoint says what the tree was at a size, signed.
type Checkpoint struct {
	Origin string    `json:"origin"`
	Size   int64     `json:"size"`
	Root   tlog.Hash `json:"root"`
	Note   string    `json:"note"` // the signed text: C2SP tlog-checkpoint
	At     time.Time `json:"at,omitzero"`
}

// checkpointText is what is signed (https://c2sp.org/tlog-checkpoint): the
// origin, the size and the root, a line each.
func checkpointText(origin string, size int64, root tlog.Hash) string {
	return origin + "\n" + strconv.FormatInt(size, 10) + "\n" + base64.StdEncoding.EncodeToString(root[:]) + "\n"
}

// parseCheckpoint reads a checkpoint whose signatures were checked. Extension
// lines are allowed and ignored, as the specification says.
func parseCheckpoint(text string) (c Checkpoint, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[0] == "" {
		return c, fmt.Errorf("a checkpoint has at least three lines")
	}
	c.Origin = lines[0]
	c.Size, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil || c.Size < 0 || c.Size > 1<<60 || strconv.FormatInt(c.Size, 10) != lines[1] {
		return c, fmt.Errorf("%q is no tree size", lines[1])
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(raw) != len(c.Root) || base64.StdEncoding.EncodeToString(raw) != lines[2] { // it passes over carriage returns
		return c, fmt.Errorf("%q is no root hash", lines[2])
	}
	copy(c.Root[:], raw)
	return c, nil
}

// PublicKey is a public key of the log.
type PublicKey struct {
	Role  string    `json:"role"` // log or witness
	Node  uint32    `json:"node"`
	VKey  string    `json:"vkey"` // name+hash+key, as x/mod/sumdb/note writes it
	Since time.Time `json:"since,omitzero"`
}

// Roles of a key.
const (
	RoleLog     = "log"
	RoleWitness = "witness"
)

// Signature types of C2SP signed-note: 1 is Ed25519, 4 an Ed25519 cosignature
// with a timestamp (https://c2sp.org/tlog-cosignature).
const (
	algEd25519     = 1
	algCosignature = 4
)

// keyHash is the key id of C2SP signed-note.
func keyHash(name string, alg byte, key ed25519.PublicKey) uint32 {
	h := sha256.New()
	h.Write([]byte(name + "\n"))
	h.Write(append([]byte{alg}, key...))
	return binary.BigEndian.Uint32(h.Sum(nil))
}

func formatVKey(name string, alg byte, key ed25519.PublicKey) string {
	return fmt.Sprintf("%s+%08x+%s", name, keyHash(name, alg, key), base64.StdEncoding.EncodeToString(append([]byte{alg}, key...)))
}

// verifier checks signatures of one key. It implements note.Verifier for both
// types.
type verifier struct {
	name string
	hash uint32
	alg  byte
	key  ed25519.PublicKey
}

// ParseKey reads a public key as `foundry audit keys` prints it.
func ParseKey(vkey string) (note.Verifier, error) { return parseVKey(vkey) }

func parseVKey(vkey string) (*verifier, error) {
	bad := problem.New(problem.Invalid, "audit-key", "That is not a public key of an audit log.").WithField("key").
		WithMend("It looks like name+12345678+base64, as `foundry audit keys` prints it.")
	name, rest, ok1 := strings.Cut(vkey, "+")
	id, text, ok2 := strings.Cut(rest, "+")
	hash, err1 := strconv.ParseUint(id, 16, 32)
	raw, err2 := base64.StdEncoding.Strict().DecodeString(text)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || fmt.Sprintf("%08x", hash) != id || len(raw) != 1+ed25519.PublicKeySize || name == "" || strings.ContainsAny(name, " \n\t") {
		return nil, bad
	}
	v := &verifier{name: name, hash: uint32(hash), alg: raw[0], key: ed25519.PublicKey(raw[1:])}
	if v.alg != algEd25519 && v.alg != algCosignature || v.vkey() != vkey { // one spelling, and the hash that follows from it
		return nil, bad
	}
	return v, nil
}

func (v *verifier) Name() string    { return v.name }
func (v *verifier) KeyHash() uint32 { return v.hash }

// Verify implements note.Verifier.
func (v *verifier) Verify(msg, sig []byte) bool {
	if v.alg == algEd25519 {
		return ed25519.Verify(v.key, msg, sig)
	}
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	return ed25519.Verify(v.key, cosigned(binary.BigEndian.Uint64(sig), msg), sig[8:])
}

func cosigned(at uint64, msg []byte) []byte {
	return append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", at), msg...)
}

// signer signs with one key. It implements note.Signer for both types.
type signer struct {
	verifier
	private ed25519.PrivateKey
	now     func() time.Time
}

func newSigner(name string, alg byte, seed []byte, now func() time.Time) *signer {
	private := ed25519.NewKeyFromSeed(seed)
	public := private.Public().(ed25519.PublicKey)
	return &signer{verifier{name, keyHash(name, alg, public), alg, public}, private, now}
}

func (v *verifier) vkey() string { return formatVKey(v.name, v.alg, v.key) }

// Sign implements note.Signer.
func (s *signer) Sign(msg []byte) ([]byte, error) {
	if s.alg == algEd25519 {
		return ed25519.Sign(s.private, msg), nil
	}
	at := uint64(s.now().Unix())
	return append(binary.BigEndian.AppendUint64(nil, at), ed25519.Sign(s.private, cosigned(at, msg))...), nil
}

// Cosigner signs a checkpoint that the log has signed, after checking it by
// its own lights, and returns its signature line ("— name base64\n"). A
// cosigner on the same machine proves nothing against who controls the
// machine; one on another node does.
type Cosigner func(checkpoint []byte) (line []byte, err error)

// openCheckpoint checks a signed checkpoint against the keys that are trusted
// and returns what it says. At least one of the log's own keys must have
// signed: a witness alone vouches for nothing.
func openCheckpoint(signed string, trusted []*verifier) (c Checkpoint, by []*verifier, err error) {
	list := make([]note.Verifier, len(trusted))
	for i, v := range trusted {
		list[i] = v
	}
	n, err := note.Open([]byte(signed), note.VerifierList(list...))
	if err != nil {
		return c, nil, err
	}
	if c, err = parseCheckpoint(n.Text); err != nil {
		return c, nil, err
	}
	c.Note = signed
	log := false
	for _, sig := range n.Sigs {
		for _, v := range trusted {
			if v.name == sig.Name && v.hash == sig.Hash {
				by = append(by, v)
				log = log || v.alg == algEd25519
			}
		}
	}
	if !log {
		return c, nil, fmt.Errorf("none of the log's own keys signed the checkpoint")
	}
	return c, by, nil
}

// signCheckpoint signs a tree, and has the cosigners sign it too. One that
// fails is left out and named.
func signCheckpoint(origin string, size int64, root tlog.Hash, s *signer, cosigners []Cosigner) (c Checkpoint, failed []error, err error) {
	signed, err := note.Sign(&note.Note{Text: checkpointText(origin, size, root)}, s)
	if err != nil {
		return c, nil, fmt.Errorf("signing a checkpoint: %w", err)
	}
	all := signed
	for _, cosign := range cosigners {
		line, err := cosign(signed)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if !bytes.HasPrefix(line, []byte("— ")) || bytes.Count(line, []byte("\n")) != 1 || !bytes.HasSuffix(line, []byte("\n")) {
			failed = append(failed, fmt.Errorf("a cosigner answered with no signature line"))
			continue
		}
		all = append(all, line...)
	}
	return Checkpoint{Origin: origin, Size: size, Root: root, Note: string(all), At: s.now()}, failed, nil
}

// cosigner is the local witness. It remembers the largest tree it signed and
// refuses a smaller one, or another of the same size.
func (s *signer) cosigner(log *verifier) Cosigner {
	var last Checkpoint
	return func(checkpoint []byte) ([]byte, error) {
		c, _, err := openCheckpoint(string(checkpoint), []*verifier{log})
		if err != nil {
			return nil, err
		}
		if last.Note != "" && (c.Size < last.Size || c.Size == last.Size && c.Root != last.Root) {
			return nil, fmt.Errorf("the witness signed a tree of %d leaves that this one of %d does not follow", last.Size, c.Size)
		}
		text := checkpoint[:bytes.LastIndex(checkpoint, []byte("\n\n"))+1] // there is one, or it would not have opened
		sig, err := s.Sign(text)
		if err != nil {
			return nil, err
		}
		last = c
		raw := append(binary.BigEndian.AppendUint32(nil, s.hash), sig...)
		return []byte("— " + s.name + " " + base64.StdEncoding.EncodeToString(raw) + "\n"), nil
	}
}
