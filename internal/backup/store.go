package backup

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

// onPlatform runs fn in a transaction of the application about the platform.
func (b *Backups) onPlatform(ctx context.Context, fn func(tx pgx.Tx) error) error {
	return b.o.DB.Org(ctx, uuid.Nil, fn)
}

const runColumns = `id, job, kind, subject, target, engine, type, state, actor, node, started_at, heard_at, ended_at, done, total, what, label, code, reason, mend, drill, gone, kept, dry_run, scheduled`

func scanRun(row pgx.CollectableRow) (r Run, err error) {
	err = row.Scan(&r.ID, &r.Job, &r.Kind, &r.Subject, &r.Target, &r.Engine, &r.Type, &r.State, &r.By, &r.Node, &r.Started, &r.Heard, &r.Ended,
		&r.Progress.Done, &r.Progress.Total, &r.Progress.What, &r.Label, &r.Code, &r.Reason, &r.Mend, &r.Drill, &r.Gone, &r.Kept, &r.DryRun, &r.Scheduled)
	return r, err
}

// errBusy means that such a run is being made already, by whatever process.
func errBusy(r *Run) error {
	return problem.New(problem.Conflict, "backup-running", fmt.Sprintf("A %s of the %s at %s is running already.", r.Kind, r.Subject, r.Target)).
		WithMend("Wait for it: `foundry backup list --runs` shows how far it is.")
}

// claim enters a run. One of its kind, subject and target that somebody makes
// already is an error of code "backup-running": an index decides, across
// processes. The transaction goes on after it.
func (b *Backups) claim(ctx context.Context, tx pgx.Tx, r *Run) error {
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `INSERT INTO backup_runs (id, job, kind, subject, target, engine, type, state, actor, scheduled, node, boot, dry_run)
			VALUES ($1, $2, $3, $4, $5, $6, $7, 'running', $8, $9, $10, $11, $12) RETURNING started_at, heard_at`,
			r.ID, r.Job, r.Kind, r.Subject, r.Target, r.Engine, r.Type, r.By, r.Scheduled, r.Node, b.o.Boot, r.DryRun).Scan(&r.Started, &r.Heard)
	})
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == "23505" {
		return errBusy(r)
	}
	return err
}

// hear notes how far a run is.
func (b *Backups) hear(ctx context.Context, r *Run) error {
	return b.onPlatform(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE backup_runs SET heard_at = now(), done = $2, total = $3, what = $4, label = $5, type = $6 WHERE id = $1 AND state = 'running'`,
			r.ID, r.Progress.Done, r.Progress.Total, r.Progress.What, r.Label, r.Type)
		return err
	})
}

// finish ends a run in tx.
func finish(ctx context.Context, tx pgx.Tx, r *Run) error {
	return tx.QueryRow(ctx, `UPDATE backup_runs SET state = $2, heard_at = now(), ended_at = now(), done = $3, total = $4, what = $5, label = $6, code = $7, reason = $8, mend = $9, drill = $10, gone = $11, kept = $12, type = $13
		WHERE id = $1 RETURNING ended_at`, r.ID, r.State, r.Progress.Done, r.Progress.Total, r.Progress.What, r.Label, r.Code, r.Reason, r.Mend, r.Drill, notNil(r.Gone), notNil(r.Kept), r.Type).Scan(&r.Ended)
}

// silence is when a run of another node counts as dead: every run says
// something every few seconds.
const silence = 10 * time.Minute

// endStale ends the runs that nobody makes any more: of this node's earlier
// starts, and of nodes that fell silent.
func (b *Backups) endStale(ctx context.Context) (ended []Run, err error) {
	err = b.onPlatform(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `UPDATE backup_runs SET state = 'interrupted', ended_at = now(), code = 'interrupted',
				reason = CASE WHEN node = $1 THEN 'The node ended before the run did.' ELSE 'The node that made it fell silent.' END,
				mend = 'The schedule does it again.'
			WHERE state = 'running' AND (node = $1 AND boot <> $2 OR heard_at < now() - $3::interval AND NOT (node = $1 AND boot = $2)) RETURNING `+runColumns, b.o.Node, b.o.Boot, silence)
		if err != nil {
			return err
		}
		ended, err = pgx.CollectRows(rows, scanRun)
		return err
	})
	return ended, err
}

func readRuns(ctx context.Context, tx pgx.Tx, where string, args ...any) ([]Run, error) {
	rows, err := tx.Query(ctx, `SELECT `+runColumns+` FROM backup_runs `+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanRun)
}

// histories reads what the schedule needs, by subject and target.
func (b *Backups) histories(ctx context.Context) (out map[[2]string]history, err error) {
	out = map[[2]string]history{}
	err = b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT subject, target,
				coalesce(max(ended_at) FILTER (WHERE kind = 'backup' AND state = 'done'), '-infinity') AS done,
				coalesce(max(ended_at) FILTER (WHERE kind = 'backup' AND state = 'done' AND type = 'full'), '-infinity'),
				coalesce(max(started_at) FILTER (WHERE kind = 'backup'), '-infinity'),
				count(*) FILTER (WHERE kind = 'backup' AND state IN ('failed', 'interrupted') AND started_at > coalesce(
					(SELECT max(d.started_at) FROM backup_runs d WHERE d.subject = r.subject AND d.target = r.target AND d.kind = 'backup' AND d.state = 'done'), '-infinity')),
				bool_or(state = 'running' AND kind IN ('backup', 'drill')),
				coalesce(max(ended_at) FILTER (WHERE kind = 'drill'), '-infinity'),
				count(*) FILTER (WHERE kind = 'drill')
			FROM backup_runs r GROUP BY subject, target`)
		if err != nil {
			return err
		}
		var subject, target string
		var done, full, try, drill pgtype.Timestamptz
		var h history
		_, err = pgx.ForEachRow(rows, []any{&subject, &target, &done, &full, &try, &h.Failures, &h.Running, &drill, &h.Drills}, func() error {
			h.LastDone, h.LastFull, h.LastTry, h.LastDrill = finite(done), finite(full), finite(try), finite(drill)
			out[[2]string{subject, target}] = h
			return nil
		})
		return err
	})
	return out, err
}

// finite is a time, with the zero time for -infinity.
func finite(t pgtype.Timestamptz) time.Time {
	if t.InfinityModifier != pgtype.Finite {
		return time.Time{}
	}
	return t.Time
}

const pointColumns = `subject, target, engine, label, type, started_at, stopped_at, timeline, start_lsn, stop_lsn, start_wal, stop_wal, bytes, stored, requires, row_count, broken, gone_at, gone_why,
	coalesce((SELECT d.outcome FROM backup_drills d WHERE d.target = p.target AND d.engine = p.engine AND d.label = p.label ORDER BY d.started_at DESC LIMIT 1), ''),
	(SELECT max(d.ended_at) FROM backup_drills d WHERE d.target = p.target AND d.engine = p.engine AND d.label = p.label AND d.outcome = 'pass'),
	(SELECT d.id FROM backup_drills d WHERE d.target = p.target AND d.engine = p.engine AND d.label = p.label ORDER BY d.started_at DESC LIMIT 1)`

func scanPoint(row pgx.CollectableRow) (p Point, err error) {
	err = row.Scan(&p.Subject, &p.Target, &p.Engine, &p.Label, &p.Type, &p.Started, &p.Stopped, &p.Timeline, &p.StartLSN, &p.StopLSN, &p.StartWAL, &p.StopWAL,
		&p.Bytes, &p.Stored, &p.Requires, &p.Rows, &p.Broken, &p.Gone, &p.GoneWhy, &p.Outcome, &p.Proven, &p.Drill)
	return p, err
}

func readPoints(ctx context.Context, tx pgx.Tx, where string, args ...any) ([]Point, error) {
	rows, err := tx.Query(ctx, `SELECT `+pointColumns+` FROM backup_points p `+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanPoint)
}

// catalogue notes what a repository says it has. What it has no more stays, as
// gone; why says so.
func (b *Backups) catalogue(ctx context.Context, subject Subject, target, name string, points []engine.Point, why string) error {
	labels := make([]string, 0, len(points))
	for _, p := range points {
		labels = append(labels, p.Label)
	}
	return b.onPlatform(ctx, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		for _, p := range points {
			batch.Queue(`INSERT INTO backup_points (target, engine, label, subject, type, started_at, stopped_at, timeline, start_lsn, stop_lsn, start_wal, stop_wal, bytes, stored, requires, broken)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
				ON CONFLICT (target, engine, label) DO UPDATE SET seen_at = now(), broken = excluded.broken, stored = excluded.stored, gone_at = NULL, gone_why = ''`,
				target, name, p.Label, subject, string(p.Type), p.Started, p.Stopped, int64(p.Timeline), p.StartLSN, p.StopLSN, p.StartWAL, p.StopWAL, p.Bytes, p.Stored, notNil(p.Requires), p.Broken)
		}
		batch.Queue(`UPDATE backup_points p SET gone_at = now(), gone_why = CASE WHEN $4 = $5 AND `+plannedToGo+` THEN $6 ELSE $4 END
			WHERE target = $1 AND engine = $2 AND gone_at IS NULL AND label <> ALL ($3)`, target, name, labels, why, whyLost, whyPlanned)
		return tx.SendBatch(ctx, batch).Close()
	})
}

// Why points are gone.
const (
	whyLost    = "The repository has it no more, and nothing that ran here removed it."
	whyPlanned = "Expired by a run that noted only that it was about to."
)

// plannedToGo is whether a run of ours was about to remove a point p: one that
// was killed may have done so and not noted it.
const plannedToGo = `EXISTS (SELECT FROM backup_runs r WHERE r.target = p.target AND r.engine = p.engine AND NOT r.dry_run AND p.label = ANY (r.gone))`

// notePlanned notes what a run is about to remove.
func (b *Backups) notePlanned(ctx context.Context, run uuid.UUID, labels []string) error {
	return b.onPlatform(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE backup_runs SET gone = $2 WHERE id = $1`, run, labels)
		return err
	})
}

// vanished lists the points that the catalogue has and a repository has not,
// and that no run of ours was about to remove.
func (b *Backups) vanished(ctx context.Context, t task, points []engine.Point) (lost []string, err error) {
	labels := make([]string, 0, len(points))
	for _, p := range points {
		labels = append(labels, p.Label)
	}
	err = b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT label FROM backup_points p WHERE target = $1 AND engine = $2 AND gone_at IS NULL AND label <> ALL ($3) AND NOT `+plannedToGo+` ORDER BY stopped_at`, t.target.Name, t.engine.Name(), labels)
		if err != nil {
			return err
		}
		lost, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return lost, err
}

const drillColumns = `id, run, record, hash, signer`

func scanDrill(row pgx.CollectableRow) (d Drill, err error) {
	var record, hash []byte
	var id, run uuid.UUID
	var signer string
	if err = row.Scan(&id, &run, &record, &hash, &signer); err != nil {
		return d, err
	}
	if err = json.Unmarshal(record, &d); err != nil {
		return d, fmt.Errorf("the record of drill %s: %w", id, err)
	}
	d.ID, d.Run, d.Evidence, d.Signer = id, run, fmt.Sprintf("%x", hash), signer
	return d, nil
}

func readDrills(ctx context.Context, tx pgx.Tx, where string, args ...any) ([]Drill, error) {
	rows, err := tx.Query(ctx, `SELECT `+drillColumns+` FROM backup_drills d `+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanDrill)
}

const holdColumns = `id, target, label, from_at, until_at, reason, ticket, actor, placed_at, released_at, released_by, release_reason`

func scanHold(row pgx.CollectableRow) (h Hold, err error) {
	err = row.Scan(&h.ID, &h.Target, &h.Label, &h.From, &h.Until, &h.Reason, &h.Ticket, &h.By, &h.Placed, &h.Released, &h.ReleasedBy, &h.ReleaseReason)
	return h, err
}

func readHolds(ctx context.Context, tx pgx.Tx, where string, args ...any) ([]Hold, error) {
	rows, err := tx.Query(ctx, `SELECT `+holdColumns+` FROM backup_holds `+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanHold)
}

// writeSentinel writes the next sentinel. Ids have no gaps: two writers at
// once collide, and one of them fails.
func (b *Backups) writeSentinel(ctx context.Context) (s scratch.Sentinel, err error) {
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	err = b.onPlatform(ctx, func(tx pgx.Tx) error {
		// One after the other, here and on other nodes: numbers and times are
		// in the order in which they are committed.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtext('backup_sentinels'))`); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `INSERT INTO backup_sentinels (id, nonce) SELECT coalesce(max(id), 0) + 1, $1 FROM backup_sentinels
			RETURNING id, at, wal_lsn::text, nonce`, nonce).Scan(&s.ID, &s.At, &s.LSN, &s.Nonce)
	})
	return s, err
}

// keptLonger is how long sentinels and notes outlive the retention.
const keptLonger = 10 * 24 * time.Hour

// prune removes sentinels, notes and measurements that nothing can be compared
// with any more. The oldest go first, so that those left have no gap.
func (b *Backups) prune(ctx context.Context) error {
	return b.onPlatform(ctx, func(tx pgx.Tx) error {
		for _, q := range []string{
			`DELETE FROM backup_sentinels WHERE id <= (SELECT max(id) - 2 FROM backup_sentinels WHERE at < now() - $1::interval)`,
			`DELETE FROM backup_notes WHERE until_at < now() - $1::interval`,
			`DELETE FROM backup_space WHERE at < now() - $1::interval`,
		} {
			if _, err := tx.Exec(ctx, q, b.o.Config.keep()+keptLonger); err != nil {
				return err
			}
		}
		return nil
	})
}

// sentinelsUntil reads the last sentinels that were written by a moment, and
// a few after it.
func sentinelsUntil(ctx context.Context, d *db.DB, at time.Time, most int) (out []scratch.Sentinel, err error) {
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT id, at, wal_lsn::text, nonce FROM (
				(SELECT * FROM backup_sentinels WHERE at <= $1 ORDER BY id DESC LIMIT $2) UNION
				(SELECT * FROM backup_sentinels WHERE at > $1 ORDER BY id LIMIT 30)) s ORDER BY id`, at, most)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[scratch.Sentinel])
		return err
	})
	return out, err
}

// noteCounts counts every table and keeps the counts.
func (b *Backups) noteCounts(ctx context.Context) (scratch.Note, error) {
	n, err := scratch.Count(ctx, b.o.DB)
	if err != nil {
		return n, err
	}
	counts, err := json.Marshal(n.Rows)
	if err != nil {
		return n, err
	}
	return n, b.onPlatform(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO backup_notes (at, until_at, wal_lsn, counts, grows) VALUES ($1, $2, $3::pg_lsn, $4, $5)`, n.At, n.Until, n.LSN, counts, notNil(n.Grows))
		return err
	})
}

// notesAround reads the counts from before and after a moment.
func notesAround(ctx context.Context, d *db.DB, at time.Time) (out []scratch.Note, err error) {
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT at, until_at, wal_lsn::text, counts, grows FROM (
				(SELECT * FROM backup_notes WHERE until_at <= $1 ORDER BY id DESC LIMIT 3) UNION
				(SELECT * FROM backup_notes WHERE until_at > $1 ORDER BY id LIMIT 3)) n ORDER BY id`, at)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (n scratch.Note, err error) {
			err = row.Scan(&n.At, &n.Until, &n.LSN, &n.Rows, &n.Grows)
			return n, err
		})
		return err
	})
	return out, err
}

func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
