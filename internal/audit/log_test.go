package audit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

func TestTheDatabaseAndThisProgramHashTheSame(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := uuid.New()
	for i, details := range []any{
		nil, map[string]any{"b": 1, "a": []any{true, nil, 1.5, "ü\n\t\"\\"}}, map[string]any{"n": 1e30, "s": 0.1, "": "\u0000"},
		strings.Repeat("long ", 5000), []int{1, 2}, "x", 12345678901234567,
	} {
		act(t, d, org, "test.act", fmt.Sprintf("target\x00 %d\tü\xff", i), details)
	}
	act(t, d, uuid.Nil, "test.platform", "", nil)
	l := openLog(t, options(d, t.TempDir()))
	drain(t, l)
	err := d.Read(t.Context(), func(tx pgx.Tx) error {
		rows, err := Find(t.Context(), d, Filter{})
		if err != nil || len(rows) != 8 {
			t.Errorf("%d entries, %v", len(rows), err)
		}
		for _, r := range rows {
			s, _, stored, err := readSealed(t.Context(), tx, r.ID)
			if err != nil {
				return err
			}
			if s.leafHash() != stored {
				t.Errorf("entry %q %s: the database hashed it to %v, this program to %v", s.Target, s.Details, stored, s.leafHash())
			}
			if len(s.Salt) != 16 {
				t.Errorf("a salt of %d bytes", len(s.Salt))
			}
			if err := s.check(); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEntriesThatAreOlderThanTheTreeJoinItFirst(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	d, root := dbtest.Open(t, cfg), dbtest.Superuser(t, cfg)
	// As the migration finds them: rows and no queue.
	if _, err := root.Exec(t.Context(), `ALTER TABLE audit DISABLE TRIGGER audit_enqueue`); err != nil {
		t.Fatal(err)
	}
	act(t, d, uuid.New(), "key.create", "k", map[string]string{"a": "b"})
	migration, err := os.ReadFile("../db/migrations/0007_audit_tree.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(migration), "-- What is there already joins the tree first.\n")
	backfill, _, _ := strings.Cut(rest, ";")
	if _, err := root.Exec(t.Context(), `ALTER TABLE audit ENABLE TRIGGER audit_enqueue; `+backfill); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, options(d, t.TempDir()))
	drain(t, l)
	if r := verify(t, l); !r.OK || r.Entries != 1 {
		t.Errorf("got %+v", r)
	}
}

var errCrash = errors.New("the sequencer crashes here")

var steps = []string{"begun", "taken", "inserted", "signed", "committed", "filed"}

// TestWhateverCrashesTheTreeFollowsEveryCheckpoint drives two nodes on one
// database through appends, passes and crashes at every step, and keeps every
// checkpoint that anybody ever saw.
func TestWhateverCrashesTheTreeFollowsEveryCheckpoint(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	d, root := dbtest.Open(t, cfg), dbtest.Superuser(t, cfg)
	rapid.Check(t, func(rt *rapid.T) {
		if _, err := root.Exec(context.Background(), `TRUNCATE audit, audit_queue, audit_leaves, audit_nodes, audit_checkpoints, audit_keys`); err != nil {
			rt.Fatal(err)
		}
		base, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		open := func(node int) *Log {
			o := options(d, filepath.Join(base, fmt.Sprint(node)))
			o.Node, o.Batch = uint32(node), 40
			l, err := OpenLog(o)
			if err != nil {
				rt.Fatal(err)
			}
			return l
		}
		nodes := []*Log{open(1), open(2)}
		var seen []Checkpoint
		appended := 0
		for range rapid.IntRange(3, 40).Draw(rt, "steps") {
			i := rapid.IntRange(0, 1).Draw(rt, "node")
			switch rapid.IntRange(0, 5).Draw(rt, "act") {
			case 0, 1, 2:
				n := rapid.IntRange(1, 90).Draw(rt, "entries")
				appendMany(rt, d, n)
				appended += n
			case 3, 4:
				if _, err := nodes[i].Sequence(context.Background()); err != nil {
					rt.Fatal(err)
				}
			case 5:
				step := rapid.SampledFrom(steps).Draw(rt, "step")
				nodes[i].fault = func(at string) error {
					if at == step {
						return errCrash
					}
					return nil
				}
				_, err := nodes[i].Sequence(context.Background())
				if err != nil && !errors.Is(err, errCrash) {
					rt.Fatal(err)
				}
				nodes[i].fault = func(string) error { return nil }
				if rapid.Bool().Draw(rt, "restart") {
					nodes[i] = open(i + 1)
				}
			}
			if c, err := nodes[i].Checkpoint(); err == nil {
				seen = append(seen, c)
			}
		}
		for _, l := range nodes {
			drain(rt, l)
		}
		final, err := nodes[1].Checkpoint()
		if err != nil || final.Size != int64(appended) {
			rt.Fatalf("the tree has %d leaves of %d (%v)", final.Size, appended, err)
		}
		err = d.Read(context.Background(), func(tx pgx.Tx) error {
			for _, c := range seen {
				if c.Size == 0 {
					continue
				}
				p, err := tlog.ProveTree(final.Size, c.Size, treeReader(context.Background(), tx))
				if err != nil {
					return err
				}
				if err := tlog.CheckTree(p, final.Size, final.Root, c.Size, c.Root); err != nil {
					return fmt.Errorf("the tree of %d does not follow a checkpoint over %d: %w", final.Size, c.Size, err)
				}
			}
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
		for _, l := range nodes {
			if r, err := l.Verify(context.Background(), VerifyOptions{}); err != nil || !r.OK || r.Entries != int64(appended) || r.Waiting != 0 {
				rt.Fatalf("%+v, %v", r, err)
			}
		}
	})
}

// appendMany appends entries in a few transactions.
func appendMany(t interface{ Fatal(...any) }, d *db.DB, n int) {
	records := make([]*record, n)
	for i := range records {
		r, err := newRecord(who, uuid.UUID{byte(i % 3)}, "test.many", fmt.Sprint(i), Done, map[string]int{"n": rand.Int()})
		if err != nil {
			t.Fatal(err)
		}
		records[i] = r
	}
	err := d.As(context.Background(), db.App, func(tx pgx.Tx) error { return insertRecords(context.Background(), tx, records) })
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnEntryThatCommitsLateIsNotPassedOver(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	l := openLog(t, options(d, t.TempDir()))
	org := uuid.New()
	early, committed := make(chan struct{}), make(chan error, 1)
	finish := make(chan struct{})
	go func() {
		committed <- d.Org(context.Background(), org, func(tx pgx.Tx) error {
			err := Append(context.Background(), tx, who, org, "test.early", "", nil)
			close(early)
			<-finish
			return err
		})
	}()
	<-early
	act(t, d, org, "test.late", "", nil) // a later id, committed first
	drain(t, l)
	close(finish)
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	drain(t, l)
	if r := verify(t, l); !r.OK || r.Entries != 2 || r.Waiting != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestTwoNodesThatRaceMakeOneTree(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	a, b := openLog(t, options(d, t.TempDir())), openLog(t, options(d, t.TempDir()))
	a.o.Batch, b.o.Batch = 7, 11
	appendMany(t, d, 500)
	var both sync.WaitGroup
	for _, l := range []*Log{a, b} {
		both.Go(func() {
			for range 60 {
				if _, err := l.Sequence(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	both.Wait()
	drain(t, a)
	drain(t, b)
	for _, l := range []*Log{a, b} {
		if r := verify(t, l); !r.OK || r.Entries != 500 {
			t.Errorf("got %+v", r)
		}
	}
}

func TestADatabaseOlderThanTheLogIsRefusedAndNotForked(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	d, root := dbtest.Open(t, cfg), dbtest.Superuser(t, cfg)
	dir := t.TempDir()
	l := openLog(t, options(d, dir))
	appendMany(t, d, 300)
	drain(t, l)
	before, _ := l.Checkpoint()
	appendMany(t, d, 50)
	drain(t, l)
	// What a restore of an older backup leaves.
	if _, err := root.Exec(t.Context(), `DELETE FROM audit WHERE id IN (SELECT ref FROM audit_leaves WHERE leaf >= $1)`, before.Size); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Exec(t.Context(), `DELETE FROM audit_leaves WHERE leaf >= $1`, before.Size); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Exec(t.Context(), `UPDATE audit_checkpoints SET size = $1, root = $2, note = $3`, before.Size, before.Root[:], before.Note); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*Log{l, openLog(t, options(d, dir))} { // running on, and restarted
		appendMany(t, d, 10)
		_, err := l.Sequence(t.Context())
		if code := codeOf(err); code != "audit-tree-behind" {
			t.Fatalf("got %v", err)
		}
		if s := l.Status(); s.Code != "audit-tree-behind" || s.Failure == "" {
			t.Errorf("status %+v", s)
		}
		if r := verify(t, l); r.OK {
			t.Error("verification passed")
		}
	}
	// Even grown beyond what was signed, it is another tree.
	if _, err := root.Exec(t.Context(), `WITH q AS (DELETE FROM audit_queue RETURNING *) INSERT INTO audit_leaves
		SELECT $1 + row_number() OVER () - 1, kind, ref, hash FROM q`, before.Size); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Exec(t.Context(), `INSERT INTO audit_leaves SELECT 320 + n, 1, gen_random_uuid(), sha256(int4send(n)) FROM generate_series(0, 40) n`); err != nil {
		t.Fatal(err)
	}
	_, err := l.Sequence(t.Context())
	if code := codeOf(err); code != "audit-tree-forked" {
		t.Errorf("got %v", err)
	}
}

func TestANodeOnAnotherDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, options(dbtest.New(t), dir))
	drain(t, l)
	cfg := dbtest.Config(t) // a copy of the same template: another name makes it another tree
	if _, err := dbtest.Superuser(t, cfg).Exec(t.Context(), `UPDATE audit_log SET id = gen_random_uuid()`); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, options(dbtest.Open(t, cfg), dir))
	_, err := l.Sequence(t.Context())
	if code := codeOf(err); code != "audit-tree-other" {
		t.Errorf("got %v", err)
	}
}

func TestTheSequencerMayDoNothingElse(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	l := openLog(t, options(d, t.TempDir()))
	appendMany(t, d, 3)
	drain(t, l)
	for _, q := range []string{
		`SELECT * FROM audit`, `INSERT INTO audit_queue VALUES (1, gen_random_uuid(), sha256(''))`, `UPDATE audit_queue SET kind = 2`,
		`UPDATE audit_leaves SET hash = sha256('')`, `DELETE FROM audit_leaves`, `DELETE FROM audit_nodes`, `UPDATE audit_nodes SET n = 1`,
		`DELETE FROM audit_checkpoints`, `UPDATE audit_keys SET node = 9`, `UPDATE audit_log SET id = gen_random_uuid()`, `SELECT * FROM requests`,
		`SELECT * FROM journal_batches`, `SELECT audit_erase(gen_random_uuid(), gen_random_uuid())`,
	} {
		if err := d.As(t.Context(), db.Sequencer, func(tx pgx.Tx) error { _, err := tx.Exec(t.Context(), q); return err }); err == nil {
			t.Errorf("the sequencer may: %s", q)
		}
	}
	for _, q := range []string{`DELETE FROM audit_queue`, `SELECT * FROM audit_queue`, `INSERT INTO audit_queue VALUES (1, gen_random_uuid(), sha256(''))`,
		`SELECT * FROM audit_leaves`, `UPDATE audit SET details = '{}'`, `DELETE FROM audit`, `SELECT audit_enqueue()`} {
		if err := d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error { _, err := tx.Exec(t.Context(), q); return err }); err == nil {
			t.Errorf("the application may: %s", q)
		}
	}
	if err := db.CheckRoles(t.Context(), d); err != nil {
		t.Error(err)
	}
}

func TestALostKeyOrADamagedFileStopsTheLogAndNothingIsMadeAnew(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	for name, damage := range map[string]struct {
		code string
		do   func(dir string) error
	}{
		"no key":         {"audit-key-missing", func(dir string) error { return os.Remove(filepath.Join(dir, logKeyFile)) }},
		"no witness key": {"audit-key-missing", func(dir string) error { return os.Remove(filepath.Join(dir, witnessKeyFile)) }},
		"key of another place": {"audit-key-unreadable", func(dir string) error {
			return os.Rename(filepath.Join(dir, witnessKeyFile), filepath.Join(dir, logKeyFile))
		}},
		"damaged checkpoint": {"audit-file-damaged", func(dir string) error { return os.WriteFile(filepath.Join(dir, newestFile), []byte("{"), 0o600) }},
		"damaged history":    {"audit-file-damaged", func(dir string) error { return os.WriteFile(filepath.Join(dir, historyFile), []byte("{\n"), 0o600) }},
	} {
		dir := t.TempDir()
		drain(t, openLog(t, options(d, dir)))
		if err := damage.do(dir); err != nil {
			t.Fatal(err)
		}
		_, err := OpenLog(options(d, dir))
		if code := codeOf(err); code != damage.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHalfALineInTheHistoryIsWhatACrashLeavesAndIsMended(t *testing.T) {
	t.Parallel()
	d, dir, c := dbtest.New(t), t.TempDir(), newClock()
	o := options(d, dir)
	o.Clock = c.now
	drain(t, openLog(t, o))
	path := filepath.Join(dir, historyFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(whole, `{"origin":"half`...), 0o600); err != nil {
		t.Fatal(err)
	}
	c.advance(2 * time.Hour)
	l := openLog(t, o)
	drain(t, l)
	history, torn, err := l.book.history()
	if err != nil || torn || len(history) != 2 {
		t.Errorf("%d checkpoints, torn %v, %v", len(history), torn, err)
	}
	if err := l.CheckHistory(t.Context()); err != nil {
		t.Error(err)
	}
	for _, name := range []string{logKeyFile, witnessKeyFile, newestFile, historyFile} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestAnIdleLogSignsOnceAnHour(t *testing.T) {
	t.Parallel()
	d, c := dbtest.New(t), newClock()
	o := options(d, t.TempDir())
	o.Clock = c.now
	l := openLog(t, o)
	drain(t, l)
	first, _ := l.Checkpoint()
	c.advance(time.Minute)
	drain(t, l)
	if again, _ := l.Checkpoint(); again.Note != first.Note {
		t.Error("it signed again though nothing happened")
	}
	c.advance(time.Hour)
	drain(t, l)
	if again, _ := l.Checkpoint(); !again.At.Equal(c.now()) || again.Size != 0 {
		t.Errorf("got %+v", again)
	}
}
