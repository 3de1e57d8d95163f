package incident

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// Hash is SHA-256, in hexadecimal where it is shown.
type Hash [sha256.Size]byte

// String is the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes hexadecimal digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads 64 lower-case hexadecimal digits.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) || !bytes.Equal(text, bytes.ToLower(text)) {
		return errors.New("a hash has 64 hexadecimal digits")
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// Entry is one line of a timeline. Its own fields never change: what a newer
// release has to say more goes into the body, which is kept as it was written.
type Entry struct {
	Incident string          `json:"incident"`
	N        int             `json:"n"`  // from 1, without gaps
	ID       string          `json:"id"` // random: the same act written twice is two entries, and one that was written by a call that failed is found again
	At       time.Time       `json:"at"` // UTC, microseconds: when it was written
	By       string          `json:"by"` // a principal, as in the audit log: no personal data
	Node     string          `json:"node"`
	Kind     Kind            `json:"kind"`
	Body     json.RawMessage `json:"body"`
	Prev     Hash            `json:"prev"` // of the entry before; zero for the first
	Hash     Hash            `json:"hash"`
}

// MaxBody is how large an entry may be. The fleet's store takes a megabyte at
// most; what is larger lies elsewhere, and its hash here.
const MaxBody = 128 << 10

// entryMagic is the first line of what is hashed: it keeps the hash from
// meaning anything elsewhere, and names the encoding.
const entryMagic = "foundry incident entry v1\n"

// sum is the entry's hash: SHA-256 over the magic and then, each after its
// length (8 bytes, big endian), the hash before, incident, number, id, time in
// microseconds since 1970, by, node, kind, and the body's bytes.
func (e *Entry) sum() Hash {
	h := sha256.New()
	h.Write([]byte(entryMagic))
	put := func(p []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	number := func(n int64) {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(n))
		put(b[:])
	}
	put(e.Prev[:])
	put([]byte(e.Incident))
	number(int64(e.N))
	put([]byte(e.ID))
	number(e.At.UnixMicro())
	for _, s := range []string{e.By, e.Node, string(e.Kind)} {
		put([]byte(s))
	}
	put(e.Body)
	return Hash(h.Sum(nil))
}

// link makes the entry that follows another; before is nil for the first.
func link(before *Entry, id string, at time.Time, by, node string, kind Kind, body any) (Entry, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return Entry{}, fmt.Errorf("writing an entry of incident %s: %w", id, err)
	}
	if len(raw) > MaxBody {
		return Entry{}, problem.New(problem.TooLarge, "incident-entry-large", fmt.Sprintf("An entry holds at most %d KiB.", MaxBody>>10)).
			WithMend("Put what is larger into the evidence, by its hash and where it lies.")
	}
	e := Entry{Incident: id, N: 1, ID: rand.Text(), At: at.UTC().Truncate(time.Microsecond), By: by, Node: node, Kind: kind, Body: raw}
	if before != nil {
		e.N, e.Prev = before.N+1, before.Hash
	}
	e.Hash = e.sum()
	return e, nil
}

// Encode writes the entry as its one line of JSON.
func (e *Entry) Encode() ([]byte, error) { return json.Marshal(e) }

// Decode reads a line that Encode wrote. Any other spelling of the same is
// refused, so that there is one text for each entry, and a flipped byte is
// found whatever it meant.
func Decode(line []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return Entry{}, broken("A line is no entry.", err)
	}
	again, err := e.Encode()
	if err != nil || !bytes.Equal(again, line) {
		return Entry{}, broken(fmt.Sprintf("Entry %d is not written as Foundry writes it.", e.N), err)
	}
	return e, nil
}

func broken(detail string, err error) error {
	return &problem.Error{Kind: ErrBroken.Kind, Code: ErrBroken.Code, Detail: detail, Mend: ErrBroken.Mend, Err: errors.Join(ErrBroken, err)}
}

// Verify checks a whole timeline: one incident, numbers without gaps, every
// hash, and that each entry names the one before.
func Verify(entries []Entry) error {
	var prev Hash
	for i := range entries {
		e := &entries[i]
		switch {
		case e.N != i+1:
			return broken(fmt.Sprintf("Entry %d is missing or out of its place.", i+1), nil)
		case e.Incident != entries[0].Incident:
			return broken(fmt.Sprintf("Entry %d is of another incident.", e.N), nil)
		case e.Prev != prev:
			return broken(fmt.Sprintf("Entry %d does not follow the one before it.", e.N), nil)
		case e.Hash != e.sum():
			return broken(fmt.Sprintf("Entry %d is not what was written.", e.N), nil)
		}
		prev = e.Hash
	}
	if len(entries) > 0 && entries[0].Kind != KindOpened {
		return broken("The timeline does not begin with the opening.", nil)
	}
	return nil
}
