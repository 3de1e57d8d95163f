package fleet

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

// planPath is where the plan in force lies in the fleet's store, so that nodes
// without a database watch by it, and every node when the database is away.
const planPath = "plan"

// largestPlan bounds the packed text: etcd takes requests of up to 1.5 MiB.
const largestPlan = 1 << 20

// InForce is the plan that the fleet watches by.
type InForce struct {
	Hash     string    `json:"hash"`
	Revision string    `json:"revision"` // id
	Since    time.Time `json:"since"`    // when it came into force
	Packed   []byte    `json:"packed"`   // its text, by gzip
	// Books are the texts of its runbooks by name, as JSON by gzip: a step of a
	// recovery says at night what its runbook says, on any node. A member of an
	// earlier version leaves them out and reads over them.
	Books []byte `json:"runbooks,omitempty"`
}

// PublishPlan tells the fleet which plan is in force. Of two that came into
// force one after the other the later one stays, whichever node is faster to
// tell; books are the texts of its runbooks, by name.
func PublishPlan(ctx context.Context, store *member.Store, hash, revision string, since time.Time, text []byte, books map[string]string) error {
	packed, err := pack(text)
	if err != nil {
		return err
	}
	var packedBooks []byte
	if len(books) > 0 {
		body, err := json.Marshal(books)
		if err != nil {
			return err
		}
		if packedBooks, err = pack(body); err != nil {
			return err
		}
	}
	if size := len(packed) + len(packedBooks); size > largestPlan {
		return problem.New(problem.TooLarge, "fleet-plan-size", fmt.Sprintf("The plan in force and its runbooks are %d KiB when they are packed, over the %d KiB that the fleet keeps.", size>>10, largestPlan>>10)).
			WithMend("Nodes without a database watch by the plan before it. Shorten the plan, or its runbooks.")
	}
	var held InForce
	_, err = store.Update(ctx, planPath, &held, func() error {
		same := held.Revision == revision && (len(held.Books) > 0 || len(packedBooks) == 0) // a member of an earlier version tells no runbooks
		if same || held.Since.After(since) {
			return errKept
		}
		held = InForce{Hash: hash, Revision: revision, Since: since.UTC(), Packed: packed, Books: packedBooks}
		return nil
	})
	if errors.Is(err, errKept) {
		return nil
	}
	return err
}

func pack(text []byte) ([]byte, error) {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func unpack(packed []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, 5<<20)) // a plan is read up to 4 MiB
}

var errKept = errors.New("what is there stays")

// Planned is the plan that the fleet watches by, as this node last heard.
type Planned struct {
	store   *member.Store
	log     *slog.Logger
	changed func()
	now     atomic.Pointer[planned]
}

type planned struct {
	InForce
	plan *plan.Plan
}

// NewPlanned follows the plan of the fleet; changed is called when it is
// another, and may be nil.
func NewPlanned(store *member.Store, log *slog.Logger, changed func()) *Planned {
	if changed == nil {
		changed = func() {}
	}
	return &Planned{store: store, log: log, changed: changed}
}

// Plan is the plan in force; nil: there is none, or it is not known yet.
func (p *Planned) Plan() *plan.Plan {
	if now := p.now.Load(); now != nil {
		return now.plan
	}
	return nil
}

// File is the same, for who needs only what it says.
func (p *Planned) File() *plan.File {
	if now := p.Plan(); now != nil {
		return &now.File
	}
	return nil
}

// Read takes over the plan as this member has it. It needs no majority: a
// plan that may be old is better than none in the night in which most of the
// fleet is away.
func (p *Planned) Read(ctx context.Context) error {
	e, err := p.store.GetLocal(ctx, planPath)
	if errors.Is(err, member.ErrAbsent) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.take(e)
}

func (p *Planned) take(e member.Entry) error {
	var in InForce
	if err := e.Decode(&in); err != nil {
		return err
	}
	if held := p.now.Load(); held != nil && held.Revision == in.Revision && len(held.Books) == len(in.Books) {
		return nil
	}
	text, err := unpack(in.Packed)
	if err != nil {
		return fmt.Errorf("unpacking the plan in force: %w", err)
	}
	read, err := plan.Parse("fleet.yaml", text)
	if err != nil {
		return err // written by a newer member: what was there stays
	}
	if read.Books, err = booksOf(in.Books); err != nil {
		p.log.Warn("the runbooks of the plan in force cannot be read; the plan holds without them", "error", err)
	}
	p.now.Store(&planned{in, read})
	p.changed()
	return nil
}

// Run follows the plan until ctx ends.
func (p *Planned) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := p.follow(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn("the plan that the fleet watches by cannot be followed; this node goes on by the one before", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(3 * time.Second):
		}
	}
}

func (p *Planned) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e, err := p.store.Get(ctx, planPath)
	switch {
	case errors.Is(err, member.ErrAbsent):
	case err != nil:
		return err
	default:
		if err := p.take(e); err != nil {
			return err
		}
	}
	for event := range p.store.Watch(ctx, planPath, e.Revision) {
		switch {
		case event.Err != nil:
			return event.Err
		case event.Deleted || event.Path != planPath: // the prefix may be of another value
		default:
			if err := p.take(event.Entry); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// booksOf reads the runbooks that came with a plan. Their steps were checked when
// the plan was handed in.
func booksOf(packed []byte) (map[string][]byte, error) {
	if len(packed) == 0 {
		return nil, nil
	}
	body, err := unpack(packed)
	if err != nil {
		return nil, err
	}
	var texts map[string]string
	if err := json.Unmarshal(body, &texts); err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for name, text := range texts {
		out[name] = []byte(text)
	}
	return out, nil
}
