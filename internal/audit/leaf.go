package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"
)

// What is hashed. An auditor's own program can do the same; the bytes are:
//
// An entry, version 1 (integers big endian):
//
//	1 byte    0x01
//	16 bytes  id
//	8 bytes   at, microseconds since 1970-01-01T00:00:00Z, signed
//	16 bytes  organisation (zero: the platform itself)
//	          actor, act, target, outcome: for each 4 bytes length, then UTF-8
//	32 bytes  commitment to the body: SHA-256(salt ‖ body)
//
// body is the text of the entry's details as PostgreSQL writes jsonb, salt is
// 16 random bytes of the entry's own. Without the salt a short body could be
// guessed from its commitment.
//
// A shipped batch of the gateway's journal, version 1:
//
//	1 byte    0x02
//	4 bytes   node
//	4 bytes   boot
//	8 bytes   first sequence number
//	8 bytes   last sequence number
//	4 bytes   number of records
//	4 bytes   length of the digest, then the digest: SHA-256 over the records
//	32 bytes  root of the tree over the rows that it stored (or nothing)
//
// The leaf's hash is SHA-256(0x00 ‖ bytes), a node's SHA-256(0x01 ‖ left ‖
// right), and the tree is RFC 6962's (RFC 9162, 2.1.1).
//
// The database computes the same when a row is inserted (migration 0007): two
// implementations that must agree, which a test compares.
const (
	leafEntry = 0x01
	leafBatch = 0x02
)

// kinds of leaves, as stored.
const (
	kindEntry = 1
	kindBatch = 2
)

// Sealed is an entry with what its leaf is made from.
type Sealed struct {
	Entry
	Salt       []byte    // nil: the body was erased
	Commitment tlog.Hash // of an erased body
}

// commit is the commitment to a body.
func commit(salt, body []byte) tlog.Hash {
	buf := make([]byte, 0, 512)
	return sha256.Sum256(append(append(buf, salt...), body...))
}

// leafHash is the hash that stands in the tree for the entry.
func (s *Sealed) leafHash() tlog.Hash {
	c := s.Commitment
	if s.Salt != nil {
		c = commit(s.Salt, s.Details)
	}
	buf := make([]byte, 0, 512)
	buf = append(buf, 0, leafEntry)
	buf = append(buf, s.ID[:]...)
	buf = binary.BigEndian.AppendUint64(buf, uint64(s.At.UnixMicro()))
	buf = append(buf, s.Organisation[:]...)
	for _, text := range [...]string{s.Actor, s.Act, s.Target, s.Outcome} {
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(text)))
		buf = append(buf, text...)
	}
	return sha256.Sum256(append(buf, c[:]...))
}

// Batch is a shipped batch of the gateway's journal, as its leaf holds it.
type Batch struct {
	Node   uint32 `json:"node"`
	Boot   uint32 `json:"boot"`
	First  uint64 `json:"first_seq"`
	Last   uint64 `json:"last_seq"`
	Events uint32 `json:"events"`
	Digest []byte `json:"digest"` // SHA-256 over its records
	Root   []byte `json:"root"`   // of the tree over its rows; empty: an older release shipped it
}

// Ref is how the tree names the batch.
func (b *Batch) Ref() (ref uuid.UUID) {
	binary.BigEndian.PutUint32(ref[0:], b.Node)
	binary.BigEndian.PutUint32(ref[4:], b.Boot)
	binary.BigEndian.PutUint64(ref[8:], b.First)
	return ref
}

// LeafHash is the hash that stands in the tree for the batch.
func (b *Batch) LeafHash() tlog.Hash {
	buf := make([]byte, 0, 128)
	ref := b.Ref()
	buf = append(append(buf, 0, leafBatch), ref[:]...)
	buf = binary.BigEndian.AppendUint64(buf, b.Last)
	buf = binary.BigEndian.AppendUint32(buf, b.Events)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(b.Digest)))
	return sha256.Sum256(append(append(buf, b.Digest...), b.Root...))
}

// check refuses what the encoding cannot hold without ambiguity.
func (s *Sealed) check() error {
	if s.At.Nanosecond()%1000 != 0 {
		return fmt.Errorf("the time of entry %s is finer than microseconds", s.ID)
	}
	if s.At.Before(time.Unix(-1<<40, 0)) || s.At.After(time.Unix(1<<40, 0)) {
		return fmt.Errorf("the time of entry %s is out of range", s.ID)
	}
	return nil
}
