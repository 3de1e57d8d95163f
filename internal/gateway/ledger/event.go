package ledger

import (
	"time"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// Admission is written before a request's first byte goes up: who asks for
// what, where it will go first, why that is allowed, and what is reserved.
type Admission struct {
	At            time.Time
	Organisation  uuid.UUID
	Key           string // selector
	Endpoint      wire.Endpoint
	Model         string // the logical name asked for
	Tier          string
	Class         sovereignty.DataClass
	Stream        bool
	Decision      [16]byte // sovereignty.Decision.Hash
	Provider      string
	ProviderModel string
	Own           bool // a model of the fleet itself
	Jurisdiction  sovereignty.Jurisdiction
	Controller    sovereignty.Jurisdiction
	LeavesEEA     bool
	Restricted    bool   // a restricted transfer under the exporter's regime
	Safeguard     string // instrument and reference
	ReservedNano  int64
	Currency      string
}

// Attempt is written before a request's first byte goes to another provider or
// model than the one it went to before. The last destination is the one that
// the outcome is about.
type Attempt struct {
	Seq           uint64 // of the admission, in this boot
	At            time.Time
	N             int // 2 for the second destination, and so on; the admission is the first
	Provider      string
	ProviderModel string
	Own           bool
	Jurisdiction  sovereignty.Jurisdiction
	Controller    sovereignty.Jurisdiction
	LeavesEEA     bool
	Restricted    bool
	Safeguard     string
}

// Result says how a request ended. Values are stored: append only.
type Result uint8

const (
	OK            Result = iota + 1
	UpstreamError        // every provider tried answered with an error
	Timeout              // no provider answered in time
	ClientGone           // the client left; what was produced until then is billed
	StreamBroken         // the upstream cut the stream after content had been sent
	Unknown              // the node stopped before the outcome was known
	Shed                 // admitted, then dropped under load before anything went up
	Rejected             // the provider refused the request itself (a 4xx)
	Failed               // a fault on this side after admission
)

var results = [...]string{
	OK: "ok", UpstreamError: "upstream-error", Timeout: "timeout", ClientGone: "client-gone",
	StreamBroken: "stream-broken", Unknown: "unknown", Shed: "shed", Rejected: "rejected", Failed: "failed",
}

// String returns the result's stable name, or "other" for one that this
// binary does not know.
func (r Result) String() string {
	if r == 0 || int(r) >= len(results) {
		return "other"
	}
	return results[r]
}

// Error reports whether the request failed through no act of its client.
func (r Result) Error() bool { return r != OK && r != ClientGone && r != Rejected }

// Try is one call to a provider, as the outcome remembers it.
type Try struct {
	Provider string        `json:"provider"`
	Status   int           `json:"status,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Duration time.Duration `json:"duration_ns"`
}

// Outcome is written once for every admission.
type Outcome struct {
	Seq           uint64 // of the admission
	Boot          uint32 // of the admission, if it is an earlier one; 0: this boot
	At            time.Time
	Result        Result
	Status        int // HTTP status the client got; 0: none
	Provider      string
	ProviderModel string
	Usage         wire.Usage
	UsageKnown    bool // false: tokens are estimated
	Held          bool // the cost is what was reserved, because the real one is unknown
	CostNano      int64
	Latency       time.Duration // until the last byte of the answer
	FirstToken    time.Duration // zero: there was none
	Tries         []Try
}

// Refusal is a request that was denied by policy, budget or limit. It has no
// admission.
type Refusal struct {
	At           time.Time
	Organisation uuid.UUID
	Key          string
	Endpoint     wire.Endpoint
	Model        string
	Class        sovereignty.DataClass
	Decision     [16]byte // zero where no decision was reached
	Rule         string   // the problem's code
	Status       int
}

// Trace is the decision that admissions and refusals cite by hash. It is in
// the journal once per boot, before the first event that cites it.
type Trace struct {
	Hash         [16]byte
	Organisation uuid.UUID
	JSON         []byte
}

// Newer is a record that a newer binary wrote: kept, not understood.
type Newer struct {
	Kind, Version byte
	Record        []byte
}
