package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// tenants is the immutable picture of who may call and under which policy.
type tenants struct {
	takenAt  time.Time
	callers  map[string]*caller // by key selector
	policies map[uuid.UUID]sovereignty.Policy
}

// caller is a key with everything a request of it needs.
type caller struct {
	key     string
	org     uuid.UUID
	orgName string
	floor   sovereignty.DataClass
	policy  sovereignty.Policy
	account *ledger.Account
	plans   planCache
}

// snapshot is what is sealed on disk, so that the gateway can start and go on
// without a database.
type snapshot struct {
	Records  access.Records                   `json:"records"`
	Policies map[uuid.UUID]sovereignty.Policy `json:"policies"`
	Budgets  []ledger.Budget                  `json:"budgets"`
}

const (
	refreshEvery   = 30 * time.Second       // longest age of the picture while the database answers
	heartbeatEvery = 500 * time.Millisecond // how soon a revocation is heard
	snapshotLabel  = "foundry gateway snapshot v1"
)

// follow keeps the picture current: on every change that the database
// announces, and every refreshEvery in any case.
func (g *Gateway) follow(ctx context.Context) {
	changed := make(chan struct{}, 1)
	g.background.Go(func() {
		g.DB.Listen(ctx, heartbeatEvery, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	})
	// Well within the age at which keys are no longer trusted, however short:
	// with the database there, that age must never be reached.
	tick := time.NewTicker(max(min(refreshEvery, g.limits.snapshotAge/3), heartbeatEvery))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
		if err := g.Refresh(ctx); err != nil && ctx.Err() == nil {
			g.Log.Warn("keys and policies were not refreshed", "error", err, "age", g.Age().Round(time.Second).String())
		}
	}
}

// Refresh reads keys and policies now. Refreshes do not overlap: one that read
// earlier must not replace the picture of one that read later, or a revoked
// key would open again.
func (g *Gateway) Refresh(ctx context.Context) error {
	g.refreshing.Lock()
	defer g.refreshing.Unlock()
	var s snapshot
	asOf := g.Clock() // before reading: what changes meanwhile is not in the picture
	err := g.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		if s.Records, err = access.Load(ctx, tx); err != nil {
			return err
		}
		s.Policies, err = loadPolicies(ctx, tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("reading keys and policies: %w", err)
	}
	// The picture's age is measured by this node's clock, so that a database
	// with another clock cannot make it look fresh.
	s.Records.TakenAt = asOf
	g.use(s) // at once: a revocation waits for nothing else
	if err := g.Budgets.Refresh(ctx); err != nil {
		return fmt.Errorf("reading budgets: %w", err)
	}
	s.Budgets = g.Budgets.Definitions()
	if err := g.save(s); err != nil {
		// What was read is in force; only a start without a database would
		// find an older picture.
		g.Log.Error("the snapshot of keys and policies was not saved", "error", err)
	}
	return nil
}

// use replaces the picture. Decisions already made are kept for keys whose
// policy did not change.
func (g *Gateway) use(s snapshot) {
	old := g.tenants.Load()
	directory := access.NewDirectory(s.Records, g.Verifier.Directory())
	next := &tenants{takenAt: s.Records.TakenAt, callers: make(map[string]*caller, len(s.Records.Keys)), policies: s.Policies}
	for _, k := range directory.Keys() {
		org := directory.Organisation(k.Organisation)
		policy, ok := s.Policies[k.Organisation]
		if !ok {
			policy = sovereignty.DefaultPolicy()
		}
		c := &caller{key: k.ID, org: k.Organisation, orgName: org.Name, floor: sovereignty.DataClass(k.ClassFloor), policy: policy,
			account: g.Budgets.Account(k.Organisation, k.ID, ledger.Limits{RequestsPerMinute: k.RequestsPerMinute, TokensPerMinute: k.TokensPerMinute})}
		if was := old.callers[k.ID]; was != nil && samePolicy(was.policy, policy) {
			c.plans.plans.Store(was.plans.plans.Load())
		}
		next.callers[k.ID] = c
	}
	// The directory is replaced last: a key that verifies is in tenants.
	g.tenants.Store(next)
	g.Verifier.Use(directory)
}

func samePolicy(a, b sovereignty.Policy) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// Age is how old the picture of keys and policies is.
func (g *Gateway) Age() time.Duration { return g.Clock().Sub(g.tenants.Load().takenAt) }

// Restore takes the picture from disk, for a start without a database.
func (g *Gateway) Restore() error {
	if g.Snapshot == "" {
		return nil
	}
	sealed, err := os.ReadFile(g.Snapshot)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the snapshot: %w", err)
	}
	body, err := g.Open(sealed, []byte(snapshotLabel))
	if err != nil {
		return problem.New(problem.Internal, "snapshot-unreadable", "The snapshot of keys and policies does not open: "+g.Snapshot+".").
			WithMend("Delete it; it is made again from the database.").Wrap(err)
	}
	var s snapshot
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("reading the snapshot: %w", err)
	}
	g.Budgets.Load(s.Budgets)
	g.use(s)
	return nil
}

// save seals the picture to disk, replacing the old one in one step.
func (g *Gateway) save(s snapshot) error {
	if g.Snapshot == "" {
		return nil
	}
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("writing the snapshot: %w", err)
	}
	sealed, err := g.Seal(body, []byte(snapshotLabel))
	if err != nil {
		return fmt.Errorf("sealing the snapshot: %w", err)
	}
	if err := durable.Replace(g.Snapshot, sealed, 0o600); err != nil {
		return fmt.Errorf("writing the snapshot: %w", err)
	}
	return nil
}

// SnapshotLimit is the age beyond which keys are not trusted any more.
func (g *Gateway) SnapshotLimit() time.Duration { return g.limits.snapshotAge }
