package member

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/missionopsai/foundry/internal/problem"
)

const (
	actsHead   = "acts-head"
	actsPrefix = "acts/"
)

// head is where the list of acts ends.
type head struct {
	Number int64  `json:"number"`
	Hash   string `json:"hash"`
}

func actPath(n int64) string { return fmt.Sprintf("%s%020d", actsPrefix, n) }

func (a Act) hash() string {
	body, _ := json.Marshal(a) // plain fields only
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// act enters what was done, or refused, into the fleet's list. What it tells
// has happened already: a list that cannot be written is logged, and is no
// reason to call the act failed.
func (m *Member) act(ctx context.Context, a Act) {
	a.At, a.Node = m.clock().UTC(), m.o.Name
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callPatience)
	defer cancel()
	number, err := m.enter(ctx, a)
	if err != nil {
		m.log.Error("an act of the fleet was not entered into its list", "act", a.Act, "target", a.Target, "error", err)
	}
	a.Number = number
	if m.o.Note != nil {
		m.o.Note(a)
	}
}

// Enter enters what was done into the fleet's list, for who must know that it
// stands there before they go on.
func (m *Member) Enter(ctx context.Context, a Act) error {
	a.At, a.Node = m.clock().UTC(), m.o.Name
	ctx, cancel := bounded(ctx)
	defer cancel()
	number, err := m.enter(ctx, a)
	if a.Number = number; err == nil && m.o.Note != nil {
		m.o.Note(a)
	}
	return err
}

func (m *Member) enter(ctx context.Context, a Act) (int64, error) {
	for {
		var h head
		e, err := m.store.Get(ctx, actsHead)
		if err == nil {
			err = e.Decode(&h)
		}
		if err != nil && !errors.Is(err, ErrAbsent) {
			return 0, err
		}
		a.Number, a.Previous = h.Number+1, h.Hash
		_, err = m.store.PutAll(ctx, []Write{{actPath(a.Number), a}, {actsHead, head{a.Number, a.hash()}}}, IfRevision(actsHead, e.Revision), IfAbsent(actPath(a.Number)))
		if !errors.Is(err, ErrChanged) || ctx.Err() != nil {
			return a.Number, err
		}
	}
}

// Acts lists what was done, the oldest first, from the one after a number on,
// and checks that each follows from the one before it.
func (m *Member) Acts(ctx context.Context, after int64) ([]Act, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	entries, _, err := m.store.List(ctx, actsPrefix)
	if err != nil {
		return nil, err
	}
	var out []Act
	previous := ""
	for n, e := range entries {
		var a Act
		if err := e.Decode(&a); err != nil {
			return nil, err
		}
		if n > 0 && a.Previous != previous {
			return nil, problem.New(problem.Internal, "fleet-acts-broken", fmt.Sprintf("The fleet's list of acts is broken at number %d.", a.Number)).
				WithMend("Somebody changed it outside Foundry. Compare it with the audit log and with a snapshot.")
		}
		previous = a.hash()
		if a.Number > after {
			out = append(out, a)
		}
	}
	return out, nil
}

// Anchor gives every act that is not in the audit log yet to enter, in order,
// and remembers how far it came. An act may be given twice, with the same
// number, when a node dies in between; never not at all. Only one node
// anchors at a time.
func (m *Member) Anchor(ctx context.Context, enter func(Act) error) error {
	var done head
	e, err := m.store.Get(ctx, "acts-anchored")
	if err == nil {
		err = e.Decode(&done)
	}
	if err != nil && !errors.Is(err, ErrAbsent) {
		return err
	}
	acts, err := m.Acts(ctx, done.Number)
	if err != nil || len(acts) == 0 {
		return err
	}
	for _, a := range acts {
		if err := enter(a); err != nil {
			return err
		}
		revision, err := m.store.Put(ctx, "acts-anchored", head{a.Number, a.hash()}, IfRevision("acts-anchored", e.Revision))
		if err != nil {
			return err
		}
		e.Revision = revision
	}
	return nil
}
