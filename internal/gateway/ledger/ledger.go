// Package ledger knows what was asked, where it went, what it cost, and what
// may still be spent.
//
// Every request leaves two events in the journal: its admission, before any
// byte goes up, and its outcome. The journal is the truth; the [Shipper]
// copies it into PostgreSQL, exactly once, whenever PostgreSQL is there.
// [Budgets] keeps spending under its limits with leases that are taken from
// the database ahead of need, so that admitting a request touches memory only.
// [Store] answers what the console and the command line ask.
//
// Money is int64 nano-units of a currency (1e-9 EUR); tokens are int64.
package ledger

import (
	"encoding/base32"
	"encoding/binary"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

// RequestID names a request for ever: the place of its admission in the
// journal of one boot of one node.
type RequestID struct {
	Node, Boot uint32
	Seq        uint64
}

const requestPrefix = "req_"

// Lower case, and strict: RFC 4648 base32 of 16 bytes is 26 digits and two
// spare bits, which must be zero, so that an id has one spelling.
var requestDigits = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// String returns "req_" and 26 lower-case base32 digits.
func (id RequestID) String() string {
	var text [30]byte
	copy(text[:], requestPrefix)
	id.digits(text[4:])
	return string(text[:])
}

// AppendTo appends what String returns, without allocating.
func (id RequestID) AppendTo(dst []byte) []byte {
	var digits [26]byte
	id.digits(digits[:])
	return append(append(dst, requestPrefix...), digits[:]...)
}

func (id RequestID) digits(dst []byte) {
	var raw [16]byte
	binary.BigEndian.PutUint32(raw[0:], id.Node)
	binary.BigEndian.PutUint32(raw[4:], id.Boot)
	binary.BigEndian.PutUint64(raw[8:], id.Seq)
	requestDigits.Encode(dst, raw[:])
}

// MarshalText renders String.
func (id RequestID) MarshalText() ([]byte, error) { return id.AppendTo(nil), nil }

// ParseRequestID reads what String wrote, and nothing else.
func ParseRequestID(text string) (RequestID, error) {
	var raw [16]byte
	digits, found := strings.CutPrefix(text, requestPrefix)
	if found && len(digits) == 26 {
		if n, err := requestDigits.Decode(raw[:], []byte(digits)); err == nil && n == len(raw) {
			id := RequestID{
				Node: binary.BigEndian.Uint32(raw[0:]),
				Boot: binary.BigEndian.Uint32(raw[4:]),
				Seq:  binary.BigEndian.Uint64(raw[8:]),
			}
			if id.String() == text {
				return id, nil
			}
		}
	}
	return RequestID{}, problem.New(problem.Invalid, "request-id", "That is not a request id.").WithField("id").
		WithMend("A request id is req_ and 26 lower-case letters and digits, as in the x-request-id header of the answer.")
}

// UnmarshalText reads what MarshalText wrote.
func (id *RequestID) UnmarshalText(text []byte) error {
	parsed, err := ParseRequestID(string(text))
	if err == nil {
		*id = parsed
	}
	return err
}
