package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// Store answers questions about what has been shipped. The platform's
// operators see every organisation; a principal of an organisation sees its
// own rows, because the database shows it no others.
type Store struct {
	db    *db.DB
	guard *access.Guard
}

// NewStore returns a store over d. What the guard denies, it does not show.
func NewStore(d *db.DB, g *access.Guard) *Store { return &Store{db: d, guard: g} }

// view runs fn, which reads what belongs to org, under the role that p may
// read with: one that sees all organisations only for the platform's own. The
// zero org is p's, or all of them where p acts for the platform.
func (s *Store) view(ctx context.Context, p principal.Principal, action policy.Action, org uuid.UUID, target string, fn func(tx pgx.Tx) error) error {
	if org == uuid.Nil {
		org = p.Organisation
	}
	if err := s.guard.Authorise(ctx, p, action, policy.Resource{ID: target, Organisation: org}); err != nil {
		return err
	}
	if p.Organisation != uuid.Nil {
		return s.db.Org(ctx, p.Organisation, fn)
	}
	return s.db.Read(ctx, fn)
}

// maxPage bounds every list.
const maxPage = 500

// pageSize returns a limit within bounds; zero is 50.
func pageSize(asked int) int {
	if asked <= 0 {
		return 50
	}
	return min(asked, maxPage)
}

// cursor is where a page of a list in order of time ended.
type cursor struct {
	micros int64
	id     RequestID
	n      int
}

// String renders it for a client to hand back; it says nothing secret.
func (c cursor) String() string {
	return strconv.FormatInt(c.micros, 36) + "." + strconv.Itoa(c.n) + "." + c.id.String()
}

// parseCursor reads it. The empty cursor is the newest end.
func parseCursor(text string) (cursor, error) {
	if text == "" {
		return cursor{micros: 1 << 55, id: RequestID{Node: 1<<32 - 1, Boot: 1<<32 - 1, Seq: 1<<63 - 1}}, nil
	}
	at, rest, _ := strings.Cut(text, ".")
	n, id, _ := strings.Cut(rest, ".")
	micros, err := strconv.ParseInt(at, 36, 64)
	number, errN := strconv.ParseInt(n, 10, 16)
	request, errID := ParseRequestID(id)
	if err != nil || errN != nil || errID != nil || micros > 1<<55 || micros < -1<<55 {
		return cursor{}, problem.New(problem.Invalid, "cursor", "That is not a page of this list.").WithField("after").
			WithMend("Leave it out to begin at the newest.")
	}
	return cursor{micros: micros, id: request, n: int(number)}, nil
}

// bounds returns the bounds of a filter in a form that SQL compares with.
func bounds(from, to time.Time) (time.Time, time.Time) {
	if to.IsZero() {
		to = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return from, to
}

// requestColumns are those of request_log, in the order that scanRequest reads.
const requestColumns = `l.node, l.boot, l.seq, l.admitted_at, l.organisation_id, l.api_key, l.endpoint, l.model, l.tier, l.class, l.stream,
	l.provider, l.provider_model, l.own, l.jurisdiction, l.controller, l.leaves_eea, l.restricted, l.safeguard, l.state, COALESCE(l.status, 0),
	l.input_tokens, l.output_tokens, l.cached_tokens, l.cache_write_tokens, l.reasoning_tokens, l.usage_known,
	l.reserved_nano, l.cost_nano, l.held, l.currency, l.latency_us, l.first_token_us, l.ended_at, l.tries, l.decision`

func scanRequest(r pgx.CollectableRow) (RequestRow, error) {
	var (
		out             RequestRow
		node, boot, seq int64
		class           int16
		latency, first  int64
		ended           *time.Time
		tries, decision []byte
	)
	err := r.Scan(&node, &boot, &seq, &out.At, &out.Organisation, &out.Key, &out.Endpoint, &out.Model, &out.Tier, &class, &out.Stream,
		&out.Provider, &out.ProviderModel, &out.Own, &out.Jurisdiction, &out.Controller, &out.LeavesEEA, &out.Restricted, &out.Safeguard, &out.State, &out.Status,
		&out.InputTokens, &out.OutputTokens, &out.CachedTokens, &out.CacheWrite, &out.Reasoning, &out.UsageKnown,
		&out.ReservedNano, &out.CostNano, &out.Held, &out.Currency, &latency, &first, &ended, &tries, &decision)
	if err != nil {
		return out, err
	}
	out.ID = requestID(node, boot, seq)
	out.Class = sovereignty.DataClass(class).String()
	out.Latency, out.FirstToken = time.Duration(latency)*time.Microsecond, time.Duration(first)*time.Microsecond
	if ended != nil {
		out.EndedAt = ended.UTC()
	}
	out.At = out.At.UTC()
	copy(out.Decision[:], decision)
	if tries != nil {
		err = json.Unmarshal(tries, &out.Tries)
	}
	return out, err
}

func requestID(node, boot, seq int64) RequestID {
	return RequestID{Node: uint32(node), Boot: uint32(boot), Seq: uint64(seq)}
}

// Requests lists requests, newest first, and returns the cursor of the next
// page; empty when there is none. The join with organisations lets one index
// serve the lists of one organisation and of all of them.
func (s *Store) Requests(ctx context.Context, p principal.Principal, f RequestFilter) ([]RequestRow, string, error) {
	c, err := parseCursor(f.After)
	if err != nil {
		return nil, "", err
	}
	from, to := bounds(f.From, f.To)
	limit := pageSize(f.Limit)
	var out []RequestRow
	err = s.view(ctx, p, "request.list", f.Organisation, "", func(tx pgx.Tx) (err error) {
		rows, _ := tx.Query(ctx, `SELECT `+requestColumns+` FROM organisations o CROSS JOIN LATERAL (
				SELECT * FROM request_log r WHERE r.organisation_id = o.id
				   AND r.admitted_at >= $1 AND r.admitted_at < $2 AND r.admitted_at <= $3
				   AND (r.admitted_at, r.node, r.boot, r.seq) < ($3, $4, $5, $6)
				   AND ($7 = '' OR r.api_key = $7) AND ($8 = '' OR r.model = $8) AND ($9 = '' OR r.provider = $9) AND ($10 = '' OR r.state = $10)
				   AND ($13 = 0 OR r.class = $13)
				 ORDER BY r.admitted_at DESC, r.node DESC, r.boot DESC, r.seq DESC LIMIT $11
			) l WHERE ($12::uuid IS NULL OR o.id = $12)
			ORDER BY l.admitted_at DESC, l.node DESC, l.boot DESC, l.seq DESC LIMIT $11`,
			from, to, time.UnixMicro(c.micros), int64(c.id.Node), int64(c.id.Boot), int64(c.id.Seq),
			f.Key, f.Model, f.Provider, f.State, limit+1, nullable(f.Organisation), int16(f.Class))
		out, err = pgx.CollectRows(rows, scanRequest)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("listing requests: %w", err)
	}
	next := ""
	if len(out) > limit {
		out = out[:limit]
		last := out[limit-1]
		next = cursor{micros: last.At.UnixMicro(), id: last.ID}.String()
	}
	return out, next, nil
}

func nullable(org uuid.UUID) *uuid.UUID {
	if org == uuid.Nil {
		return nil
	}
	return &org
}

// Request returns one request with all its destinations and the decision that
// allowed it; the decision is nil if its trace has not been shipped.
func (s *Store) Request(ctx context.Context, p principal.Principal, id RequestID) (RequestRow, *sovereignty.Decision, error) {
	var row RequestRow
	var body []byte
	err := s.view(ctx, p, "request.read", uuid.Nil, id.String(), func(tx pgx.Tx) (err error) {
		place := []any{int64(id.Node), int64(id.Boot), int64(id.Seq)}
		rows, _ := tx.Query(ctx, `SELECT `+requestColumns+` FROM request_log l WHERE l.node = $1 AND l.boot = $2 AND l.seq = $3`, place...)
		if row, err = pgx.CollectExactlyOneRow(rows, scanRequest); err != nil {
			return err
		}
		rows, _ = tx.Query(ctx, `SELECT 1 AS n, admitted_at AS at, provider, provider_model, own, jurisdiction, controller, leaves_eea, restricted, safeguard
			FROM requests WHERE node = $1 AND boot = $2 AND seq = $3
			UNION ALL SELECT n, at, provider, provider_model, own, jurisdiction, controller, leaves_eea, restricted, safeguard
			FROM request_attempts WHERE node = $1 AND boot = $2 AND seq = $3 ORDER BY n`, place...)
		if row.Attempts, err = pgx.CollectRows(rows, pgx.RowToStructByPos[AttemptRow]); err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `SELECT body FROM decisions WHERE organisation_id = $1 AND hash = $2`, row.Organisation, row.Decision[:]).Scan(&body)
		if errors.Is(err, pgx.ErrNoRows) {
			err = nil
		}
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return row, nil, problem.New(problem.NotFound, "request-unknown", "There is no such request.").WithField("id").
			WithMend("A request shows up here about a second after it began; one that was refused is in the list of refusals.")
	}
	if err != nil || body == nil {
		return row, nil, err
	}
	d, err := sovereignty.ParseDecision(body)
	if err != nil {
		return row, nil, fmt.Errorf("reading the decision of %s: %w", id, err)
	}
	return row, &d, nil
}

// Decision returns a stored decision of an organisation, for a refusal.
func (s *Store) Decision(ctx context.Context, p principal.Principal, org uuid.UUID, hash [16]byte) (*sovereignty.Decision, error) {
	var body []byte
	err := s.view(ctx, p, "refusal.read", org, "", func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT body FROM decisions WHERE organisation_id = $1 AND hash = $2`, org, hash[:]).Scan(&body)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, problem.New(problem.NotFound, "decision-unknown", "There is no such decision.")
	}
	if err != nil {
		return nil, fmt.Errorf("reading a decision: %w", err)
	}
	d, err := sovereignty.ParseDecision(body)
	if err != nil {
		return nil, fmt.Errorf("reading a decision: %w", err)
	}
	return &d, nil
}
