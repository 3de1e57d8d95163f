package incident

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

const (
	// MaxPart is how large one part of a file is that a node keeps.
	MaxPart = 512 << 10
	// MaxKept is how large such a file may be.
	MaxKept = 1 << 30
)

// Keep is where a node keeps evidence that is too large for a timeline: sealed
// in parts, under its hash, and only ever added to. Removing files is nobody's
// act here: a legal hold has nothing to stop.
type Keep struct {
	Dir  string
	Node string
	Seal func(plaintext, associated []byte) ([]byte, error)
	Open func(sealed, associated []byte) ([]byte, error)
}

// Kept is what a node has of a file.
type Kept struct {
	Upload string `json:"upload"`
	Hash   string `json:"sha256,omitempty"` // when it is whole, as it was read again
	Size   int64  `json:"size"`
	Place  string `json:"place,omitempty"`
}

// Part is one part of a file.
type Part struct {
	Bytes []byte `json:"bytes"`
	Last  bool   `json:"last"`
}

var (
	uploadName = regexp.MustCompile(`^[A-Z2-7]{26}$`)
	hashName   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func errKeep(code, detail, mend string) error {
	return problem.New(problem.Invalid, code, detail).WithMend(mend)
}

// A kept file is its upload's name and a line feed, and then each part: the
// length of its sealed bytes (4 bytes, big endian), and those. Associated with
// each are the upload, its number, and whether it is the last: parts can
// neither be exchanged nor left out.
func associated(upload string, n int, last bool) []byte {
	return fmt.Appendf(nil, "incident evidence\x00%s\x00%d\x00%t", upload, n, last)
}

// Add appends a part; upload is empty for the first. The last one has all of it
// read again, and gives its hash and place.
func (k *Keep) Add(incident, upload string, n int, part []byte, last bool) (Kept, error) {
	if !plainID(incident) {
		return Kept{}, ErrUnknown
	}
	dir := filepath.Join(k.Dir, incident)
	flags := os.O_WRONLY | os.O_APPEND
	switch {
	case len(part) > MaxPart || !last && len(part) == 0:
		return Kept{}, errKeep("evidence-part", "A part holds up to 512 KiB.", "Send it in smaller parts.")
	case upload == "" && n == 0:
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return Kept{}, err
		}
		upload = rand.Text()
		flags |= os.O_CREATE | os.O_EXCL
	case !uploadName.MatchString(upload):
		return Kept{}, errKeep("evidence-upload", "There is no such upload.", "Begin again with the first part.")
	}
	path := filepath.Join(dir, upload+".part")
	if n > 0 {
		have, size, err := k.read(path, upload, nil)
		if err != nil || have != n {
			return Kept{}, errKeep("evidence-order", "This part does not follow the one before.", "Begin again with the first part.")
		}
		if size+int64(len(part)) > MaxKept {
			return Kept{}, errKeep("evidence-large", "A node keeps files up to 1 GiB.", "Leave it where it is, and say where.")
		}
	}
	sealed, err := k.Seal(part, associated(upload, n, last))
	if err != nil {
		return Kept{}, err
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(sealed)))
	if n == 0 {
		frame = append([]byte(upload+"\n"), frame...)
	}
	if err := appendTo(path, flags, append(frame, sealed...), last); err != nil {
		return Kept{}, fmt.Errorf("keeping evidence: %w", err)
	}
	if !last {
		return Kept{Upload: upload}, nil
	}
	h := sha256.New()
	_, size, err := k.read(path, upload, h)
	if err != nil {
		return Kept{}, err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	if err := os.Rename(path, filepath.Join(dir, sum)); err != nil {
		return Kept{}, fmt.Errorf("keeping evidence: %w", err)
	}
	return Kept{Upload: upload, Hash: sum, Size: size, Place: "node:" + k.Node}, nil
}

func appendTo(path string, flags int, b []byte, sync bool) error {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if sync && err == nil {
		err = f.Sync()
	}
	if c := f.Close(); err == nil {
		err = c
	}
	return err
}

// read opens every part in turn. Where it has no last one, upload says whose it
// is, and it may go on.
func (k *Keep) read(path, upload string, to io.Writer) (parts int, size int64, err error) {
	err = k.each(path, func(name string, n int, sealed []byte) (bool, error) {
		if upload != "" && name != upload {
			return true, ErrBroken
		}
		if to == nil { // count alone: what is in them is opened at the end
			parts++
			size += int64(len(sealed))
			return false, nil
		}
		part, last, err := k.open(name, n, sealed)
		if err != nil {
			return true, err
		}
		parts++
		size += int64(len(part))
		_, err = to.Write(part)
		return last, err
	})
	return parts, size, err
}

func (k *Keep) open(name string, n int, sealed []byte) (part []byte, last bool, err error) {
	for _, last := range []bool{false, true} {
		if part, err = k.Open(sealed, associated(name, n, last)); err == nil {
			return part, last, nil
		}
	}
	return nil, false, broken("Evidence that lies here is not what was kept.", err)
}

// each gives every sealed part to do, until it says that it was the last.
func (k *Keep) each(path string, do func(name string, n int, sealed []byte) (bool, error)) error {
	f, err := os.Open(path)
	if err != nil {
		return problem.New(problem.NotFound, "evidence-unknown", "This node does not keep such evidence.").WithMend("The entry says where it lies: ask that node.").Wrap(err)
	}
	defer f.Close()
	head := make([]byte, 27)
	if _, err := io.ReadFull(f, head); err != nil || !uploadName.Match(head[:26]) {
		return broken("Evidence that lies here cannot be read.", err)
	}
	name := string(head[:26])
	for n := 0; ; n++ {
		var length [4]byte
		if _, err := io.ReadFull(f, length[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return broken("Evidence that lies here is cut off.", err)
		}
		size := binary.BigEndian.Uint32(length[:])
		if size > MaxPart+1024 {
			return broken("Evidence that lies here cannot be read.", nil)
		}
		sealed := make([]byte, size)
		if _, err := io.ReadFull(f, sealed); err != nil {
			return broken("Evidence that lies here is cut off.", err)
		}
		last, err := do(name, n, sealed)
		if err != nil || last {
			return err
		}
	}
}

// Get opens one part of a kept file.
func (k *Keep) Get(incident, hash string, n int) (p Part, err error) {
	if !plainID(incident) || !hashName.MatchString(hash) {
		return p, ErrUnknown
	}
	found := false
	err = k.each(filepath.Join(k.Dir, incident, hash), func(name string, i int, sealed []byte) (bool, error) {
		if i < n {
			return false, nil
		}
		found = true
		p.Bytes, p.Last, err = k.open(name, i, sealed)
		return true, err
	})
	if err == nil && !found {
		err = broken("Evidence that lies here is cut off.", nil)
	}
	return p, err
}

func plainID(id string) bool {
	return strings.HasPrefix(id, "inc-") && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && len(id) <= 100
}

// Keep adds a part of a file to what this node keeps.
func (w *Window) Keep(ctx context.Context, p principal.Principal, id, upload string, n int, part []byte, last bool) (Kept, error) {
	id, err := w.open(ctx, p, id)
	if err != nil {
		return Kept{}, err
	}
	return w.Large.Add(id, upload, n, part, last)
}

// Evidence reads one part of what an entry holds, or this node keeps.
func (w *Window) Evidence(ctx context.Context, p principal.Principal, id, hash string, n int) (Part, error) {
	t, err := w.Timeline(ctx, p, id)
	if err != nil {
		return Part{}, err
	}
	i := slices.IndexFunc(t.State.Evidence, func(h Held) bool { return h.Hash == hash })
	if i < 0 {
		return Part{}, problem.New(problem.NotFound, "evidence-unknown", "The incident has no such evidence.").WithMend("`foundry incident show --json` lists it.")
	}
	if h := t.State.Evidence[i]; h.Place == "" {
		e, _ := t.Entries[h.Entry-1].Read().(*Evidence)
		return Part{Bytes: e.Bytes, Last: true}, nil
	}
	if w.Large == nil {
		return Part{}, ErrNone
	}
	return w.Large.Get(t.State.ID, hash, n)
}

// open finds an incident that somebody may write into.
func (w *Window) open(ctx context.Context, p principal.Principal, id string) (string, error) {
	if err := w.there(); err != nil {
		return "", err
	}
	if w.Large == nil {
		return "", ErrNone
	}
	if err := w.Book.may(ctx, p, "incident.append", id); err != nil {
		return "", err
	}
	if id == Latest {
		t, err := w.Timeline(ctx, p, id)
		if err != nil {
			return "", err
		}
		return t.State.ID, nil
	}
	t, err := w.Book.load(ctx, id)
	switch {
	case err != nil:
		return "", err
	case !t.State.ClosedAt.IsZero():
		return "", ErrOver
	}
	return id, nil
}
