package dns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// Prepare reads what the zones hold and says what a cutover would do. It
// changes nothing: it is the dry run. A cutover that must not be made (an older
// epoch, another one of the same epoch) is refused here, before any zone moves.
func (m *Mover) Prepare(ctx context.Context, c Cutover) (Plan, error) {
	sets, err := sorted(c.Sets)
	if err != nil {
		return Plan{}, err
	}
	if c.Epoch == 0 {
		return Plan{}, problem.New(problem.Invalid, "dns-epoch", "A cutover needs the epoch of its decision.").WithField("epoch")
	}
	p := Plan{Epoch: c.Epoch}
	for _, group := range m.grouped(sets) {
		z, err := m.zone(group.zone)
		if err != nil {
			return Plan{}, err
		}
		zp, err := m.prepare(ctx, z, c.Epoch, group.sets)
		if err != nil {
			return Plan{}, err
		}
		p.Zones = append(p.Zones, zp)
	}
	return p, nil
}

type group struct {
	zone string
	sets []Set
}

// grouped parts sets by their zones; a name of no zone has a group of its own,
// whose zone is its name.
func (m *Mover) grouped(sets []Set) (out []group) {
	for _, s := range sets {
		name := s.Name
		if z, ok := m.zoneOf(s.Name); ok {
			name = z.Name
		}
		i := slices.IndexFunc(out, func(g group) bool { return g.zone == name })
		if i < 0 {
			out, i = append(out, group{zone: name}), len(out)
		}
		out[i].sets = append(out[i].sets, s)
	}
	return out
}

func (m *Mover) prepare(ctx context.Context, z Zone, epoch uint64, want []Set) (ZonePlan, error) {
	names, keys := questions(want)
	have, err := z.Provider.Read(ctx, z.Name, keys)
	if err != nil {
		return ZonePlan{}, err
	}
	zp := ZonePlan{Zone: z.Name}
	of := fingerprint(want)
	ours := 0
	for _, name := range names {
		before := pick(have, Key{Name: epochPrefix + name, Type: "TXT"})
		mine, err := fence(name, before, epoch, of)
		if err != nil {
			return ZonePlan{}, err
		}
		if mine {
			ours++
		}
		zp.Epochs = append(zp.Epochs, Change{Before: before, After: Set{Key: before.Key, TTL: epochTTL, Values: []string{epochText(epoch, of)}}})
	}
	asWanted := true
	for _, s := range want {
		before := pick(have, s.Key)
		asWanted = asWanted && before.Same(s)
		zp.Changes = append(zp.Changes, Change{Before: before, After: s})
	}
	if err := aliases(names, have, want); err != nil {
		return ZonePlan{}, err
	}
	zp.Done = ours == len(names) && asWanted
	if ours == len(names) && !asWanted && z.Provider.Atomic() {
		return ZonePlan{}, problem.New(problem.Conflict, "dns-changed-since", fmt.Sprintf("Epoch %d has moved the names in %s, and somebody has changed them since.", epoch, z.Name)).
			WithMend("Look at the zone; move the names again with a newer epoch if they shall move.").Wrap(ErrLostRace)
	}
	return zp, nil
}

// questions are the names of a cutover, and the sets to read for them.
func questions(want []Set) (names []string, keys []Key) {
	for _, s := range want {
		if !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
			keys = append(keys, Key{epochPrefix + s.Name, "TXT"})
			for _, t := range movable {
				keys = append(keys, Key{s.Name, t})
			}
		}
	}
	return names, keys
}

func pick(sets []Set, k Key) Set {
	for _, s := range sets {
		if s.Key == k {
			return s
		}
	}
	return Set{Key: k}
}

// fence compares a name's epoch record with a cutover. mine: the same cutover
// has written it.
func fence(name string, record Set, epoch uint64, of string) (mine bool, err error) {
	if len(record.Values) == 0 {
		return false, nil
	}
	at, by, ok := parseEpoch(record.Values[0])
	switch {
	case len(record.Values) > 1 || !ok:
		return false, problem.New(problem.Conflict, "dns-epoch-foreign", "The record "+record.Name+" is not one that a cutover has written.").
			WithMend("Remove it by hand, if nobody else needs it, and try again.").Wrap(ErrLostRace)
	case at > epoch:
		return false, problem.New(problem.Conflict, "dns-epoch-stale", fmt.Sprintf("%s was moved by epoch %d, which is newer than %d: this cutover has been overtaken.", name, at, epoch)).
			WithMend("Look at what the newer decision was; move the name again only with a newer epoch.").Wrap(ErrStale)
	case at == epoch && by != of:
		return false, problem.New(problem.Conflict, "dns-epoch-used", fmt.Sprintf("Epoch %d has moved %s to something else already.", epoch, name)).
			WithMend("One epoch makes one cutover: take a new epoch for another one.").Wrap(ErrEpochUsed)
	}
	return at == epoch, nil
}

// aliases refuses what would leave an alias beside other records: a name server
// ignores such a part of an update without a word (RFC 2136 section 3.4.2.2).
func aliases(names []string, have, want []Set) error {
	for _, name := range names {
		var alias, addresses bool
		for _, t := range movable {
			s := pick(have, Key{name, t})
			if i := slices.IndexFunc(want, func(w Set) bool { return w.Key == s.Key }); i >= 0 {
				s = want[i]
			}
			if len(s.Values) > 0 {
				alias, addresses = alias || t == "CNAME", addresses || t != "CNAME"
			}
		}
		if alias && addresses {
			return problem.New(problem.Conflict, "dns-alias", name+" would be an alias and have addresses at once, which no zone allows (RFC 1034, 3.6.2).").
				WithMend("Let the cutover remove the other sets of the name: give them without values.").Wrap(ErrAlias)
		}
	}
	return nil
}

// State says what became of a zone.
type State string

const (
	Moved    State = "moved"
	Already  State = "already" // it was so: an earlier attempt made it
	NotMoved State = "not-moved"
	Partly   State = "partly"  // some sets have moved: of a provider that changes one at a time
	Unknown  State = "unknown" // an update was sent, and nobody could be asked what became of it
)

// Outcome is what became of one zone.
type Outcome struct {
	Zone     string        `json:"zone"`
	State    State         `json:"state"`
	Attempts int           `json:"attempts"`
	At       time.Time     `json:"at"`
	Took     time.Duration `json:"took_ns"`
	Reason   string        `json:"reason,omitempty"` // of NotMoved and Unknown
}

// Receipt says what became of every zone of a plan: a cutover over several
// zones is several acts, and may be half made.
type Receipt struct {
	Epoch uint64    `json:"epoch"`
	Zones []Outcome `json:"zones"`
}

// Complete reports whether every zone has moved.
func (r Receipt) Complete() bool {
	return !slices.ContainsFunc(r.Zones, func(o Outcome) bool { return o.State != Moved && o.State != Already })
}

// Apply makes a cutover. It tries every zone, whatever became of the others,
// and returns the first error beside the receipt. Applying the same plan again
// finishes what was cut short.
func (m *Mover) Apply(ctx context.Context, p Plan) (Receipt, error) {
	r := Receipt{Epoch: p.Epoch}
	var errs []error
	for _, zp := range p.Zones {
		began := m.clock()
		o := Outcome{Zone: zp.Zone, State: NotMoved}
		z, err := m.zone(zp.Zone)
		if err == nil {
			o.State, o.Attempts, err = m.apply(ctx, z, p.Epoch, zp)
		}
		o.At = m.clock()
		o.Took = o.At.Sub(began)
		if err != nil {
			o.Reason = problem.From(err).Detail
			errs = append(errs, err)
		}
		m.log.Info("a zone was to be moved", "zone", zp.Zone, "epoch", p.Epoch, "state", o.State, "attempts", o.Attempts, "took", o.Took)
		r.Zones = append(r.Zones, o)
	}
	return r, errors.Join(errs...)
}

// apply swaps one zone. After every failure it looks: what the zone says counts
// more than what was answered.
func (m *Mover) apply(ctx context.Context, z Zone, epoch uint64, zp ZonePlan) (State, int, error) {
	changes := append(slices.Clone(zp.Epochs), zp.Changes...)
	if !z.Provider.Atomic() && !zp.Done {
		// Where nobody compares and swaps for us, what an earlier run of this plan
		// has made is told from what this one makes by looking first.
		found, err := m.found(ctx, z, epoch, zp)
		zp.Done = err == nil && found == asWanted
	}
	doubt := false // an update may be on its way
	for n := 1; ; n++ {
		var err error
		if !zp.Done || n > 1 || doubt {
			err = z.Provider.Swap(ctx, z.Name, changes)
		}
		found, lookErr := m.found(ctx, z, epoch, zp)
		switch {
		case lookErr == nil && found == asWanted && zp.Done && n == 1:
			return Already, n, nil
		case lookErr == nil && found == asWanted && errors.Is(err, ErrLostRace) && !doubt:
			return Already, n, nil // an earlier run of this plan
		case lookErr == nil && found == asWanted:
			return Moved, n, nil
		case lookErr == nil && found == overtaken:
			return NotMoved, n, overtakenBy(z, epoch)
		}
		doubt = doubt || errors.Is(err, ErrUnknown) || err == nil
		last := err
		if last == nil || lookErr != nil && errors.Is(err, ErrUnknown) {
			last = lookErr
		}
		if n < m.attempts && retryable(err, lookErr, z.Provider.Atomic()) {
			select {
			case <-ctx.Done():
			case <-time.After(m.pause(n)):
				continue
			}
		}
		if doubt && lookErr != nil {
			return Unknown, n, unknownOutcome(z.Name, last)
		}
		if found == halfWay {
			return Partly, n, problem.New(problem.Unavailable, "dns-half-moved", "Some names in "+z.Name+" have moved and others have not: the provider changes one set at a time, and failed between two.").
				WithMend("Apply the same plan again to finish, or prepare the way back with a newer epoch.").Wrap(err)
		}
		if err == nil {
			err = problem.New(problem.Upstream, "dns-not-made", "The provider of "+z.Name+" says that the update was made, and the zone says that it was not.").Wrap(ErrUnknown)
		}
		return NotMoved, n, err
	}
}

// retryable reports whether it makes sense to send the same update again. It is
// safe always: the update itself says what must be there before it.
func retryable(err, lookErr error, atomic bool) bool {
	if err == nil || errors.Is(err, ErrUnknown) || errors.Is(err, ErrUnreachable) {
		return true
	}
	return lookErr != nil && (errors.Is(lookErr, ErrUnreachable) || errors.Is(lookErr, ErrUnknown)) || errors.Is(err, ErrLostRace) && !atomic
}

func unknownOutcome(zone string, err error) error {
	return problem.New(problem.Unavailable, "dns-outcome-unknown", "An update of "+zone+" was sent, and nobody could be asked whether it was made: the names may or may not have moved.").
		WithMend("Apply the same plan again when the server answers: it moves nothing twice.").Wrap(errors.Join(ErrUnknown, err))
}

// finding is what a look at a zone shows.
type finding int

const (
	asBefore  finding = iota // or anything else: not moved
	asWanted                 // this cutover was made
	overtaken                // by a newer one
	halfWay                  // some of it was made
)

// found looks at a zone, even where the caller's time is over: for as long as
// one question may take.
func (m *Mover) found(ctx context.Context, z Zone, epoch uint64, zp ZonePlan) (finding, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*m.timeout)
	defer cancel()
	var keys []Key
	for _, c := range append(slices.Clone(zp.Epochs), zp.Changes...) {
		keys = append(keys, c.After.Key)
	}
	have, err := z.Provider.Read(ctx, z.Name, keys)
	if err != nil {
		return asBefore, err
	}
	wanted, some := true, false
	for _, c := range append(slices.Clone(zp.Epochs), zp.Changes...) {
		made := pick(have, c.After.Key).Same(c.After)
		wanted, some = wanted && made, some || made && !c.Before.Same(c.After)
	}
	if wanted {
		return asWanted, nil
	}
	for _, c := range zp.Epochs {
		if v := pick(have, c.After.Key).Values; len(v) > 0 {
			if at, _, ok := parseEpoch(v[0]); ok && at > epoch {
				return overtaken, nil
			}
		}
	}
	if some && !z.Provider.Atomic() {
		return halfWay, nil
	}
	return asBefore, nil
}

func overtakenBy(z Zone, epoch uint64) error {
	detail := fmt.Sprintf("A newer cutover than epoch %d has moved names in %s: this one was not made.", epoch, z.Name)
	mend := "Look at what the newer decision was."
	if !z.Provider.Atomic() {
		detail = fmt.Sprintf("A newer cutover than epoch %d is moving names in %s.", epoch, z.Name)
		mend = "This provider cannot refuse the older of two by itself: apply the newer cutover once more, so that what it wrote stands."
	}
	return problem.New(problem.Conflict, "dns-epoch-stale", detail).WithMend(mend).Wrap(ErrStale)
}
