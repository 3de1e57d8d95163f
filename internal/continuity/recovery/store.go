package recovery

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

// Paths below the fleet's prefix. They hold ids and names of plans alone.
const (
	pathRuns  = "recoveries/"
	pathPlans = "recovery-plans/"
)

func pathRun(id string) string  { return pathRuns + id }
func pathPlan(id string) string { return pathPlans + id }

// pathOnce keeps an incident from having two runs of one recovery plan.
func pathOnce(incident, name string) string { return "recovery-of/" + incident + "/" + name }

// frozen is the plan that a run goes by, whatever comes into force meanwhile.
type frozen struct {
	Hash   string `json:"hash"`
	Packed []byte `json:"packed"` // text and runbooks, by gzip
}

type packed struct {
	Text  string            `json:"text"`
	Books map[string]string `json:"runbooks,omitempty"`
}

// largestPacked bounds what is frozen: etcd takes requests of up to 1.5 MiB.
const largestPacked = 1 << 20

func freeze(p *plan.Plan) (frozen, error) {
	all := packed{Text: string(p.Text), Books: map[string]string{}}
	for name, text := range p.Books {
		all.Books[name] = string(text)
	}
	body, err := json.Marshal(all)
	if err != nil {
		return frozen{}, err
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err = w.Write(body); err == nil {
		err = w.Close()
	}
	if err != nil {
		return frozen{}, err
	}
	if out.Len() > largestPacked {
		return frozen{}, problem.New(problem.TooLarge, "recovery-plan-size", fmt.Sprintf("The plan is %d KiB when it is packed, over the %d KiB that the fleet keeps for a run.", out.Len()>>10, largestPacked>>10)).WithMend("Shorten its runbooks.")
	}
	return frozen{p.Hash(), out.Bytes()}, nil
}

func (f frozen) thaw() (*plan.Plan, error) {
	r, err := gzip.NewReader(bytes.NewReader(f.Packed))
	if err != nil {
		return nil, fmt.Errorf("unpacking the plan of a recovery: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(r, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("unpacking the plan of a recovery: %w", err)
	}
	var all packed
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, fmt.Errorf("reading the plan of a recovery: %w", err)
	}
	p, err := plan.Parse("fleet.yaml", []byte(all.Text))
	if err != nil {
		return nil, err
	}
	if len(all.Books) > 0 {
		books := map[string][]byte{}
		for name, text := range all.Books {
			books[name] = []byte(text)
		}
		if err := p.SetBooks(books); err != nil {
			return nil, err
		}
	}
	if p.Hash() != f.Hash {
		return nil, problem.New(problem.Conflict, "recovery-plan-changed", "The plan that the run goes by is not the one that it was started with.")
	}
	return p, nil
}

// planOf reads the plan that a run goes by.
func planOf(ctx context.Context, s *member.Store, id string) (*plan.Plan, error) {
	e, err := s.Get(ctx, pathPlan(id))
	if err != nil {
		return nil, err
	}
	var f frozen
	if err := e.Decode(&f); err != nil {
		return nil, err
	}
	return f.thaw()
}

// read reads a run, as most of the fleet has it, and its revision.
func read(ctx context.Context, s *member.Store, id string) (Run, int64, error) {
	e, err := s.Get(ctx, pathRun(id))
	if errors.Is(err, member.ErrAbsent) {
		return Run{}, 0, ErrUnknown
	}
	if err != nil {
		return Run{}, 0, err
	}
	var r Run
	return r, e.Revision, e.Decode(&r)
}

// lookPatience is how long most of the fleet has for an answer to somebody who
// waits only so long: time is left for what this node has.
const lookPatience = 3 * time.Second

// list reads all runs, the newest first. Where most of the fleet does not
// answer they are as this node has them: stale.
func list(ctx context.Context, s *member.Store) (out []Run, stale bool, err error) {
	within, cancel := ctx, context.CancelFunc(func() {})
	if until, set := ctx.Deadline(); set && time.Until(until) > lookPatience {
		within, cancel = context.WithTimeout(ctx, lookPatience)
	}
	all, _, err := s.List(within, pathRuns)
	cancel()
	if errors.Is(err, member.ErrNoMajority) && ctx.Err() == nil {
		all, _, err = s.ListLocal(ctx, pathRuns)
		stale = true
	}
	if err != nil {
		return nil, stale, err
	}
	for _, e := range all {
		var r Run
		if err := e.Decode(&r); err != nil {
			return nil, stale, err
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Run) int {
		if c := b.Started.Compare(a.Started); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out, stale, nil
}

// PlanOf says by which plan a run goes, for nodes that get its orders. Of a run
// that has ended nothing is carried out any more.
func PlanOf(s *member.Store) func(ctx context.Context, id string) (hash string, err error) {
	return func(ctx context.Context, id string) (string, error) {
		r, _, err := read(ctx, s, id)
		switch {
		case errors.Is(err, ErrUnknown):
			return "", member.ErrAbsent
		case err != nil:
			return "", err
		case !r.Ended.IsZero():
			return "", member.ErrAbsent
		}
		return r.Plan, nil
	}
}
