// Package dns knows how names are moved from a place that was lost to the one
// that replaces it: at most once for an epoch, never back to an older one, and
// with what was there before in hand.
//
// Every name that is moved carries a TXT record, _foundry-epoch.<name>, which
// says which epoch moved it and to what. A cutover compares it and swaps it in
// the same act: where the provider can (RFC 2136, update prerequisites), the
// server itself refuses a cutover that a newer one has overtaken, a replayed
// update, and the slower of two.
//
// The order of use is Prepare, keep the plan, Apply, Await. A plan that was
// kept can be applied again after a crash: the same cutover twice is one.
package dns

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// What can go wrong. Errors of this package wrap one of them.
var (
	ErrStale       = errors.New("a newer epoch has moved this name")
	ErrEpochUsed   = errors.New("this epoch has moved this name to something else")
	ErrLostRace    = errors.New("the zone changed between reading and writing")
	ErrAlias       = errors.New("an alias and addresses do not go together")
	ErrKey         = errors.New("the server does not accept the key")
	ErrClock       = errors.New("the clocks are too far apart")
	ErrRefused     = errors.New("the server refuses")
	ErrUnreachable = errors.New("the server cannot be reached")
	ErrUnknown     = errors.New("nobody knows whether the update was made")
)

// Key names a record set.
type Key struct {
	Name string `json:"name"` // absolute, in lower case, without the final dot
	Type string `json:"type"` // A, AAAA, CNAME or TXT
}

// Set is a record set: all records of a name and a type.
type Set struct {
	Key
	TTL    uint32   `json:"ttl"`              // seconds
	Values []string `json:"values,omitempty"` // in order; none: there is no such set
}

// Same reports whether two sets hold the same records; their TTL may differ.
func (s Set) Same(o Set) bool { return s.Key == o.Key && slices.Equal(s.Values, o.Values) }

// Change replaces a set by another of the same key.
type Change struct {
	Before Set `json:"before"`
	After  Set `json:"after"`
}

// Provider changes zones. There are two: Update speaks to a name server (RFC
// 2136), Hetzner to a supplier's interface. Both pass the suite in dnstest.
type Provider interface {
	// Read asks the provider itself, not a resolver. It gives one set for each
	// key, in their order.
	Read(ctx context.Context, zone string, keys []Key) ([]Set, error)

	// Swap makes all changes, on the condition that the zone still holds what
	// stands before them; otherwise it makes none and returns ErrLostRace.
	// ErrUnknown means that they may have been made.
	Swap(ctx context.Context, zone string, changes []Change) error

	// Atomic reports whether the provider itself compares and swaps everything
	// in one act. Where it does not, a lost race is found by looking again, and
	// a cutover that was cut short is finished by being applied again.
	Atomic() bool

	// Check reports what an operator has set up wrongly, without asking anybody.
	Check() error
}

// Zone is a zone whose names may be moved.
type Zone struct {
	Name     string
	Provider Provider
	// Authorities are its name servers, as host:port. None: those that the
	// zone's NS records name, found through the resolvers.
	Authorities []string
}

// Options make a mover.
type Options struct {
	Zones     []Zone
	Resolvers []string // host:port, asked by Look and Await besides the authorities
	Log       *slog.Logger
	Clock     func() time.Time

	// Attempts bounds how often an update is sent whose outcome is not known or
	// whose server was not reached; 0: 4.
	Attempts int
	// Pause before attempt n+1 (n from 1); nil: from 250 ms, doubling.
	Pause func(n int) time.Duration
	// Timeout of one question to a server or resolver; 0: 3 s.
	Timeout time.Duration
}

// Mover moves names. Safe for concurrent use.
type Mover struct {
	zones     []Zone
	resolvers []string
	log       *slog.Logger
	clock     func() time.Time
	attempts  int
	pause     func(n int) time.Duration
	timeout   time.Duration
}

// New makes a mover.
func New(o Options) (*Mover, error) {
	m := &Mover{zones: slices.Clone(o.Zones), resolvers: o.Resolvers, log: o.Log, clock: o.Clock, attempts: o.Attempts, pause: o.Pause, timeout: o.Timeout}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if m.clock == nil {
		m.clock = time.Now
	}
	if m.attempts <= 0 {
		m.attempts = 4
	}
	if m.pause == nil {
		m.pause = func(n int) time.Duration { return min(250*time.Millisecond<<min(n-1, 5), 8*time.Second) }
	}
	if m.timeout <= 0 {
		m.timeout = 3 * time.Second
	}
	for i := range m.zones {
		z := &m.zones[i]
		name, err := absolute(fmt.Sprintf("zones[%d].name", i), z.Name)
		if err != nil {
			return nil, err
		}
		z.Name = name
		if slices.ContainsFunc(m.zones[:i], func(o Zone) bool { return o.Name == name }) {
			return nil, problem.New(problem.Invalid, "dns-zone-twice", "The zone "+name+" is given twice.").WithField(fmt.Sprintf("zones[%d].name", i))
		}
		if err := z.Provider.Check(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Cutover says where names shall point to.
type Cutover struct {
	// Epoch of the decision: a revision of the fleet's store. Newer decisions
	// have higher ones.
	Epoch uint64 `json:"epoch"`
	// Sets as they shall be. A set without values is removed.
	Sets []Set `json:"sets"`
}

// Plan is a cutover beside what it replaces. Keep it before it is applied: it
// is what puts names back, and what a resumed executor applies again.
type Plan struct {
	Epoch uint64     `json:"epoch"`
	Zones []ZonePlan `json:"zones"`
}

// ZonePlan is the part of a plan that one zone gets, in one act where its
// provider can.
type ZonePlan struct {
	Zone    string   `json:"zone"`
	Done    bool     `json:"done"`   // it is so already: this cutover was made before
	Epochs  []Change `json:"epochs"` // the records that fence
	Changes []Change `json:"changes"`
}

// Back is the cutover that puts everything back as it was found. It is a
// cutover like any other and needs an epoch of its own.
func (p Plan) Back(epoch uint64) Cutover {
	c := Cutover{Epoch: epoch}
	for _, z := range p.Zones {
		for _, ch := range z.Changes {
			c.Sets = append(c.Sets, ch.Before)
		}
	}
	return c
}

// epochPrefix starts the name of the record that fences a name.
const epochPrefix = "_foundry-epoch."

// epochTTL is short, though nobody but the provider is asked for the record.
const epochTTL = 60

// fingerprint tells two cutovers of one epoch apart: it is over everything that
// a zone shall hold.
func fingerprint(sets []Set) string {
	h := sha256.New()
	for _, s := range sets {
		fmt.Fprintf(h, "%s %s %d %q\n", s.Name, s.Type, s.TTL, s.Values)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// epochText is the content of the record.
func epochText(epoch uint64, of string) string {
	return fmt.Sprintf("foundry-epoch=%d of=%s", epoch, of)
}

// parseEpoch reads the record. Anything else than what epochText writes is not
// ours: ok is false.
func parseEpoch(text string) (epoch uint64, of string, ok bool) {
	n, err := fmt.Sscanf(text, "foundry-epoch=%d of=%s", &epoch, &of)
	return epoch, of, err == nil && n == 2 && text == epochText(epoch, of)
}

// zoneOf finds the zone that a name belongs to: the longest that ends it.
func (m *Mover) zoneOf(name string) (Zone, bool) {
	var best Zone
	for _, z := range m.zones {
		if (name == z.Name || strings.HasSuffix(name, "."+z.Name)) && len(z.Name) > len(best.Name) {
			best = z
		}
	}
	return best, best.Name != ""
}

func (m *Mover) zone(name string) (Zone, error) {
	for _, z := range m.zones {
		if z.Name == name {
			return z, nil
		}
	}
	return Zone{}, problem.New(problem.Invalid, "dns-zone-unknown", "No provider is set up for the zone "+name+".").WithMend("Add the zone and its provider to the configuration.")
}
