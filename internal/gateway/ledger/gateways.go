package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// GatewayOptions configure NewGateways.
type GatewayOptions struct {
	Node, Boot uint32
	Trusts     time.Duration // how long this node answers without the database
	Version    string
	Budgets    *Budgets
	Log        *slog.Logger // nil discards
	// Replaced is called when another process runs under this node's number;
	// this one has to end.
	Replaced func(error)

	// Authority is the fingerprint of the local authority by which clients know
	// this gateway; empty where it has a certificate of an operator's own.
	Authority string
	// Differs is called when other gateways that answer are known by another
	// authority, whenever those are others; with none when all are known by one.
	Differs func(nodes []uint32)
}

// Gateways knows which gateways work on the database, and gives back what lost
// ones had leased.
type Gateways struct {
	db       *db.DB
	o        GatewayOptions
	instance uuid.UUID
	peers    atomic.Int32
	differ   atomic.Pointer[[]uint32]
	heard    time.Time // when this node was last written down
	reaped   time.Time
}

const (
	beatEvery    = 2 * time.Second
	peerAge      = 10 * time.Second // after which a gateway does not count as answering
	reapEvery    = 5 * time.Second
	reapMargin   = 10 * time.Second // beyond what a lost gateway trusts: its last beat may be older than its last refresh
	takeoverWait = time.Minute      // after which a number may be taken by a boot that is not higher
)

// NewGateways returns what Run keeps up to date.
func NewGateways(d *db.DB, o GatewayOptions) *Gateways {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Gateways{db: d, o: o, instance: uuid.New()}
}

// Peers is how many other gateways answered lately.
func (g *Gateways) Peers() int { return int(g.peers.Load()) }

// Differ are the other gateways that answer and are known by another authority:
// a client that trusts this one's does not trust theirs.
func (g *Gateways) Differ() []uint32 {
	if nodes := g.differ.Load(); nodes != nil {
		return *nodes
	}
	return nil
}

// Run says that this gateway lives, until ctx ends.
func (g *Gateways) Run(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		if g.db.Healthy() {
			if err := g.Beat(ctx); err != nil && ctx.Err() == nil {
				g.o.Log.Debug("this gateway was not written down", "error", err)
			}
			if time.Since(g.reaped) >= reapEvery {
				g.reaped = time.Now()
				if err := g.Release(ctx); err != nil && ctx.Err() == nil {
					g.o.Log.Warn("what lost gateways had leased was not given back", "error", err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Beat says once that this gateway lives.
func (g *Gateways) Beat(ctx context.Context) error {
	// Whoever was not heard of for as long as it may go on by itself has been
	// given up: what it had leased may be others' by now.
	if !g.heard.IsZero() && time.Since(g.heard) > g.o.Trusts {
		g.o.Budgets.forfeit()
	}
	asked := time.Now()
	var mine bool
	var peers int32
	var differ []uint32
	err := g.db.Org(ctx, uuid.Nil, func(tx pgx.Tx) (err error) {
		mine, peers, differ, err = beat(ctx, tx, g)
		return err
	})
	if err != nil {
		return err
	}
	if !mine {
		if g.o.Replaced != nil {
			g.o.Replaced(errReplaced(g.o.Node))
		}
		return nil
	}
	g.heard = asked
	g.peers.Store(peers)
	if !slices.Equal(g.Differ(), differ) {
		g.differ.Store(&differ)
		if g.o.Differs != nil {
			g.o.Differs(differ)
		}
	}
	return nil
}

func errReplaced(node uint32) error {
	return problem.New(problem.Conflict, "node-twice", fmt.Sprintf("Another process runs as node %d: two under one number would overwrite each other's ledger.", node)).
		WithMend("If the data directory was copied, delete node.json and the directory journal in the copy before its first start.")
}

// beat enters this process as the one that runs under its node's number: it
// is there already, or it is the later start, or the other has long been silent.
func beat(ctx context.Context, tx pgx.Tx, g *Gateways) (mine bool, peers int32, differ []uint32, err error) {
	tag, err := tx.Exec(ctx, `INSERT INTO gateways AS g (node, boot, instance, trusts, version, authority) VALUES ($1, $2, $3, $4, $5, $7)
		ON CONFLICT (node) DO UPDATE SET boot = excluded.boot, instance = excluded.instance, trusts = excluded.trusts, version = excluded.version, authority = excluded.authority, seen_at = now(),
			started_at = CASE WHEN g.instance = excluded.instance THEN g.started_at ELSE now() END
		WHERE g.instance = excluded.instance OR g.boot < excluded.boot OR g.seen_at < now() - $6::interval`,
		int64(g.o.Node), int64(g.o.Boot), g.instance, g.o.Trusts, g.o.Version, takeoverWait, g.o.Authority)
	if err != nil {
		return false, 0, nil, fmt.Errorf("writing this gateway down: %w", err)
	}
	var nodes []int64
	err = tx.QueryRow(ctx, `SELECT count(*)::integer, coalesce(array_agg(node ORDER BY node) FILTER (WHERE $3 <> '' AND authority NOT IN ('', $3)), '{}')
		FROM gateways WHERE node <> $1 AND seen_at > now() - $2::interval`, int64(g.o.Node), peerAge, g.o.Authority).Scan(&peers, &nodes)
	for _, n := range nodes {
		differ = append(differ, uint32(n))
	}
	return tag.RowsAffected() == 1, peers, differ, err
}

// Leave says that this gateway stops in order: it has given back its leases.
func (g *Gateways) Leave(ctx context.Context) error {
	return g.db.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE gateways SET seen_at = '-infinity' WHERE node = $1 AND instance = $2`, int64(g.o.Node), g.instance)
		return err
	})
}

// lostLease is what a lost gateway had leased of a budget.
type lostLease struct {
	budget, org uuid.UUID
	start       time.Time
	node, boot  int64
}

// lostGateway says in SQL that a gateway can admit nothing any more.
const lostGateway = `g.seen_at > '-infinity' AND g.seen_at < now() - g.trusts - $1::interval`

// Release gives back what gateways had leased that have been silent for longer
// than they may go on without the database, but for what they reported as
// spent. What they spent and did not report is charged when they come back, or
// their journal is shipped: by at most what is given back here, a budget can
// then be overspent. It is in the audit log how much that was.
func (g *Gateways) Release(ctx context.Context) error {
	var lost []lostLease
	err := g.db.Read(ctx, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `SELECT l.budget_id, l.organisation_id, l.period_start, l.node, l.boot FROM budget_leases l JOIN gateways g USING (node)
			WHERE l.closed_at IS NULL AND l.granted_nano > l.spent_nano AND l.node <> $2 AND `+lostGateway+` ORDER BY l.budget_id, l.node, l.boot`, reapMargin, int64(g.o.Node))
		var err error
		lost, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (l lostLease, err error) {
			return l, r.Scan(&l.budget, &l.org, &l.start, &l.node, &l.boot)
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("looking for leases of lost gateways: %w", err)
	}
	var errs []error
	for _, l := range lost {
		errs = append(errs, g.db.Org(ctx, l.org, func(tx pgx.Tx) error { return release(ctx, tx, l) }))
	}
	return errors.Join(errs...)
}

func release(ctx context.Context, tx pgx.Tx, l lostLease) error {
	if _, err := tx.Exec(ctx, `SELECT FROM budgets WHERE id = $1 FOR UPDATE`, l.budget); err != nil {
		return err
	}
	var given int64
	err := tx.QueryRow(ctx, `WITH was AS (SELECT granted_nano - spent_nano AS left FROM budget_leases WHERE budget_id = $2 AND period_start = $3 AND node = $4 AND boot = $5)
		UPDATE budget_leases l SET granted_nano = l.spent_nano FROM gateways g, was
		WHERE l.budget_id = $2 AND l.period_start = $3 AND l.node = $4 AND l.boot = $5 AND l.closed_at IS NULL AND l.granted_nano > l.spent_nano
		  AND g.node = l.node AND `+lostGateway+` RETURNING was.left`, reapMargin, l.budget, l.start, l.node, l.boot).Scan(&given)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // it is back, or another gateway was first
	}
	if err != nil {
		return fmt.Errorf("giving back the lease of a lost gateway: %w", err)
	}
	return audit.Append(ctx, tx, principal.Node("budgets"), l.org, "budget.release", l.budget.String(), map[string]any{
		"period_start": l.start, "node": l.node, "boot": l.boot, "given_back_nano": given})
}

// forfeit lets go of what is leased and not reserved: the database may have
// given it to others.
func (b *Budgets) forfeit() {
	b.leasing.Lock()
	defer b.leasing.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.defs {
		for _, w := range [...]*window{p.past.Load(), p.current.Load(), p.next.Load()} {
			if w != nil {
				w.drain(1 << 62)
			}
		}
	}
}
