// Package evidence knows what was observed, when, by what, until when it
// counts, signed.
//
// A control is a promise with a check. Each run of a check leaves observations
// that are signed with the node's key, and whose hashes go into the audit log
// in the same transaction: the log's Merkle tree then proves that nobody wrote
// them afterwards. Evidence is never corrected, only superseded.
//
// A control is never green because nothing ran (invariant 11): without fresh
// evidence it is overdue; a collector that fails, hangs or looked at nothing
// makes it inconclusive; and a failure stands until a newer run passed.
package evidence

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/google/uuid"
)

// Result is what one observation says.
type Result string

const (
	Pass         Result = "pass"
	Fail         Result = "fail"
	Inconclusive Result = "inconclusive" // it could not be found out
)

// State is how a control stands.
type State string

const (
	Passing State = "pass"
	Failing State = "fail"
	Overdue State = "overdue" // no fresh evidence
	Unclear State = "inconclusive"
)

// States lists every state, the worst last.
var States = []State{Passing, Unclear, Overdue, Failing}

// Control is a promise that is checked.
type Control struct {
	ID     string // e.g. "O-08"
	Title  string // the promise, in a few words
	Source string // the clause it comes from
	Checks string // what is checked, in one sentence

	Collector string        // who looks
	Version   string        // of the collector: changed whenever it looks differently
	Every     time.Duration // how often it looks
	Fresh     time.Duration // how long what it saw counts; more than Every
	Timeout   time.Duration // how long it may take
	PerNode   bool          // every node looks for itself; otherwise one of them does

	// Collect looks. Nil where no machine can: the control then wants an
	// attestation by an owner, which counts for Fresh at most.
	Collect Collect
}

// Collect looks, and says what it saw. progress may be called at any time with
// a few words. An error, a panic or the end of ctx make the run inconclusive.
type Collect func(ctx context.Context, progress func(string)) ([]Finding, error)

// Attested reports whether people answer for the control, not a machine.
func (c *Control) Attested() bool { return c.Collect == nil }

// Finding is what a collector saw of one subject.
type Finding struct {
	Subject    string // what was looked at, e.g. "https 127.0.0.1:8443"; no personal data
	Result     Result
	Reason     string    // in words: one sentence
	Covered    []string  // precisely what was looked at; a pass that covers nothing is none
	NotCovered []string  // what was not
	Effective  time.Time // when it was so; zero: when it was observed
	Until      time.Time // when it stops counting, where that is before the control says; in the past: it is overdue

	Raw      []byte // what was seen, as bytes; kept up to MaxRaw, otherwise only its hash
	RawPlace string // where larger raw bytes are
}

// MaxRaw is how many raw bytes are kept with an observation.
const MaxRaw = 16 << 10

// Observation is a signed finding.
type Observation struct {
	ID           uuid.UUID `json:"id"`
	Organisation uuid.UUID `json:"organisation"`
	Run          uuid.UUID `json:"run"`
	Control      string    `json:"control"`
	Scope        string    `json:"scope,omitempty"` // node:N, or empty for the fleet
	Subject      string    `json:"subject"`
	Result       Result    `json:"result"`
	Reason       string    `json:"reason"`
	Covered      []string  `json:"covered"`
	NotCovered   []string  `json:"not_covered"`
	Observed     time.Time `json:"observed_at"`
	Effective    time.Time `json:"effective_at"`
	Expires      time.Time `json:"expires_at"`
	Collector    string    `json:"collector"`
	Version      string    `json:"collector_version"`
	Mode         string    `json:"mode"`            // development or production
	Owner        string    `json:"owner,omitempty"` // of an attestation
	RawHash      HexBytes  `json:"raw_sha256"`
	RawPlace     string    `json:"raw_place,omitempty"`
	Raw          []byte    `json:"raw,omitempty"`
	Hash         HexBytes  `json:"sha256"` // of the signed statement; in the audit log
	Signer       string    `json:"signer"`
	Signature    []byte    `json:"signature"`
}

// attestation is the collector of observations that a person stands for.
const attestation = "attestation"

// rawHash is what stands for a finding's raw bytes.
func rawHash(raw []byte) []byte {
	sum := sha256.Sum256(raw)
	return sum[:]
}
