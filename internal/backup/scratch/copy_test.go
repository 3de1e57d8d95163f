package scratch_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/backup/scratch/scratchtest"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// world is a database that archives, with a point and what is known of it.
type world struct {
	*scratchtest.Plain
	t      *testing.T
	db     *db.DB
	target target.Target
	point  engine.Point
	e      scratch.Expected
	base   string
}

// sentinel writes a sentinel and some rows.
func (w *world) sentinel() scratch.Sentinel {
	w.t.Helper()
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce)
	var s scratch.Sentinel
	err := w.db.Org(w.t.Context(), uuid.Nil, func(tx pgx.Tx) error {
		if err := audit.Append(w.t.Context(), tx, principal.Node("test"), uuid.Nil, "test.act", "x", nil); err != nil {
			return err
		}
		return tx.QueryRow(w.t.Context(), `INSERT INTO backup_sentinels (id, nonce) SELECT coalesce(max(id), 0) + 1, $1 FROM backup_sentinels
			RETURNING id, at, wal_lsn::text, nonce`, nonce).Scan(&s.ID, &s.At, &s.LSN, &s.Nonce)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.e.Sentinels = append(w.e.Sentinels, s)
	return s
}

func (w *world) note() {
	w.t.Helper()
	n, err := scratch.Count(w.t.Context(), w.db)
	if err != nil {
		w.t.Fatal(err)
	}
	w.e.Notes = append(w.e.Notes, n)
}

// newWorld writes, backs up, and writes over several segments.
func newWorld(t *testing.T) *world {
	t.Helper()
	p, d := scratchtest.New(t)
	w := &world{Plain: p, t: t, db: d, target: scratchtest.Target(t, "one"), base: filepath.Join(dbtest.Dir(t), "scratch")}
	ctx := t.Context()
	w.sentinel()
	w.note()
	if err := p.Prepare(ctx, w.target); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.point, err = p.Backup(ctx, w.target, engine.BackupRequest{}, nil); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.sentinel()
		p.WaitArchived(t)
	}
	w.e.Reach, w.e.StartWAL = w.e.Sentinels[len(w.e.Sentinels)-1].At, w.point.StartWAL
	w.e.ReachLSN = w.e.Sentinels[len(w.e.Sentinels)-1].LSN
	return w
}

// prove restores, starts and proves, as a drill does.
func (w *world) prove(at time.Time) (scratch.Proof, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Minute)
	defer cancel()
	place, err := scratch.Make(w.base)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() {
		if err := place.Remove(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	if _, err := w.Restore(ctx, w.target, engine.RestoreRequest{Label: w.point.Label, Time: at, To: place.Data()}, nil); err != nil {
		w.t.Fatal(err)
	}
	return w.open(ctx, place, at)
}

func (w *world) open(ctx context.Context, place *scratch.Place, at time.Time) (scratch.Proof, error) {
	s, err := scratch.Start(ctx, scratch.Options{Dir: place.Dir, Log: dbtest.Log(w.t)})
	if err != nil {
		return scratch.Proof{}, err
	}
	defer func() {
		if err := s.Stop(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	e := w.e
	e.At, e.Slack = at, 10*time.Millisecond // nothing here takes longer to commit
	if !at.IsZero() {
		e.Reach, e.ReachLSN = time.Time{}, ""
		for _, s := range e.Sentinels {
			if !s.At.After(at) {
				e.ReachLSN = s.LSN
			}
		}
	}
	e.Archive.Names, err = w.Segments(ctx, w.target)
	if err != nil {
		w.t.Fatal(err)
	}
	return s.Prove(ctx, e, nil)
}

func check(p scratch.Proof, name string) scratch.Check {
	i := slices.IndexFunc(p.Checks, func(c scratch.Check) bool { return c.Name == name })
	if i < 0 {
		return scratch.Check{}
	}
	return p.Checks[i]
}

func TestAWholeBackupIsProvenToItsEndAndToAMoment(t *testing.T) {
	w := newWorld(t)
	p, err := w.prove(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Outcome != scratch.Pass || p.Rows == 0 || !p.Recovered.Equal(w.e.Sentinels[len(w.e.Sentinels)-1].At) {
		t.Fatalf("%+v", p)
	}
	for _, c := range p.Checks {
		t.Logf("%-16s %-5s %5.3f s %s", c.Name, c.Outcome, c.Seconds, c.Reason)
	}
	left, err := os.ReadDir(w.base)
	if err != nil || len(left) != 0 {
		t.Fatalf("left behind: %v %v", left, err)
	}
	// A moment between two sentinels: what came later must not be there.
	middle := w.e.Sentinels[2].At.Add(w.e.Sentinels[3].At.Sub(w.e.Sentinels[2].At) / 2)
	if p, err = w.prove(middle); err != nil {
		t.Fatal(err)
	}
	if c := check(p, scratch.CheckSentinels); p.Outcome != scratch.Pass || !p.Recovered.Equal(w.e.Sentinels[2].At) {
		t.Fatalf("%s %s; %+v", p.Outcome, p.Reason, c)
	}
}

// What is read while a copy is restored, and the rest, is what PostgreSQL's own
// program counts, with the same result.
func TestPagesReadAlongTheRestoreAreThoseOfPostgreSQL(t *testing.T) {
	w := newWorld(t)
	place, err := scratch.Make(w.base)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = place.Remove(context.Background()) }()
	pages := scratch.ReadPages(place.Data())
	defer pages.Close()
	if _, err := w.Restore(t.Context(), w.target, engine.RestoreRequest{Label: w.point.Label, To: place.Data()}, nil); err != nil {
		t.Fatal(err)
	}
	s, err := scratch.Start(t.Context(), scratch.Options{Dir: place.Dir, Log: dbtest.Log(t), Pages: pages})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop(t.Context()) }()
	p, err := s.Prove(t.Context(), w.e, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Program(t.Context(), "pg_checksums", "--check")
	blocks := regexp.MustCompile(`Blocks scanned:\s+(\d+)`).FindStringSubmatch(out)
	if c := check(p, scratch.CheckPages); err != nil || blocks == nil || c.Outcome != scratch.Pass || c.Reason != "All "+blocks[1]+" pages match their checksums." {
		t.Errorf("%+v; PostgreSQL says %q, %v", c, out, err)
	}
}

func TestTheCopyIsApartFromWhatItIsACopyOf(t *testing.T) {
	w := newWorld(t)
	before, err := w.Segments(t.Context(), w.target)
	if err != nil {
		t.Fatal(err)
	}
	place, err := scratch.Make(w.base)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Restore(t.Context(), w.target, engine.RestoreRequest{To: place.Data()}, nil); err != nil {
		t.Fatal(err)
	}
	// What was set in the original with ALTER SYSTEM comes along.
	auto := filepath.Join(place.Data(), "postgresql.auto.conf")
	text, err := os.ReadFile(auto)
	if err != nil {
		t.Fatal(err)
	}
	hostile := string(text) + "archive_mode = 'on'\narchive_command = 'cp %p " + w.Archive + "/hostile-%f'\nlisten_addresses = '*'\nport = '5999'\nunix_socket_directories = '/tmp'\n"
	if err := os.WriteFile(auto, []byte(hostile), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := scratch.Start(t.Context(), scratch.Options{Dir: place.Dir, Log: dbtest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	err = s.DB().Read(t.Context(), func(tx pgx.Tx) error {
		for _, name := range []string{"archive_mode", "listen_addresses", "port"} {
			var v string
			if err := tx.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&v); err != nil {
				return err
			}
			settings[name] = v
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if settings["archive_mode"] != "off" || settings["listen_addresses"] != "" || settings["port"] != "5432" { // and its socket is where it was found
		t.Fatalf("%v", settings)
	}
	if err := errors.Join(s.Stop(t.Context()), place.Remove(t.Context())); err != nil {
		t.Fatal(err)
	}
	after, err := w.Segments(t.Context(), w.target)
	if err != nil || slices.ContainsFunc(after, func(n string) bool { return strings.HasPrefix(n, "hostile") || strings.HasPrefix(n, "00000002") }) {
		t.Fatalf("the copy archived: %v, before %v (%v)", after, before, err)
	}
}

func TestDamageIsNeverGreen(t *testing.T) {
	w := newWorld(t)
	repository := filepath.Join(w.target.Path, w.point.Label)
	for _, c := range []struct {
		name   string
		damage func(t *testing.T) (undo func())
		want   scratch.Outcome // of the proof; empty: the copy does not even start
		check  string
		says   string
		code   string
	}{
		{name: "the last segment that was archived is removed", damage: w.hide(-1), want: scratch.Fail, check: scratch.CheckSentinels, says: "are lost"},
		{name: "a segment in between is removed", damage: w.hide(-3), want: scratch.Fail, check: scratch.CheckLog, says: "is missing"},
		{name: "the backup's own segment is removed", damage: w.hideName(w.point.StartWAL), code: "copy-log-missing"},
		{name: "a byte of a table is flipped", damage: w.flip(repository, w.table("schema_migrations"), 8100), want: scratch.Fail, check: scratch.CheckPages, says: "do not match"},
		{name: "the control file is flipped", damage: w.flip(repository, "global/pg_control", 40), code: "copy-damaged"},
		{name: "a table's file is gone", damage: w.move(filepath.Join(repository, w.table("schema_migrations"))), want: scratch.Fail, check: scratch.CheckRows, says: "cannot be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			undo := c.damage(t)
			defer undo()
			w.t = t
			p, err := w.prove(time.Time{})
			if c.want == "" {
				var e *problem.Error
				if !errors.As(err, &e) || e.Code != c.code && e.Code != "cluster-damaged" {
					t.Fatalf("%v, want %s (proof: %s)", err, c.code, p.Reason)
				}
				t.Log(e)
				return
			}
			if err != nil {
				t.Fatalf("%v (%v)", err, errors.Unwrap(err))
			}
			if got := check(p, c.check); p.Outcome != c.want || got.Outcome != c.want || !strings.Contains(got.Reason, c.says) {
				t.Fatalf("%s: %s; %s: %+v", p.Outcome, p.Reason, c.check, got)
			}
			t.Log(p.Reason)
		})
	}
}

// table is where the rows of a table lie.
func (w *world) table(name string) (path string) {
	w.t.Helper()
	err := w.db.Read(w.t.Context(), func(tx pgx.Tx) error {
		return tx.QueryRow(w.t.Context(), `SELECT pg_relation_filepath($1::regclass)`, name).Scan(&path)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) hide(n int) func(*testing.T) func() {
	return func(t *testing.T) func() {
		all, err := w.Segments(t.Context(), w.target)
		if err != nil {
			t.Fatal(err)
		}
		// From the last that holds something wanted on: the server may have
		// archived idle segments since.
		last := segmentOf(w.t, w.e.ReachLSN)
		at := slices.Index(all, last)
		all = all[:at+1]
		if n == -1 {
			var undo []func()
			for _, f := range entriesFrom(t, w.Archive, last) {
				undo = append(undo, w.move(filepath.Join(w.Archive, f))(t))
			}
			return func() {
				for _, u := range undo {
					u()
				}
			}
		}
		return w.move(filepath.Join(w.Archive, all[len(all)+n]))(t)
	}
}

func segmentOf(t *testing.T, lsn string) string {
	t.Helper()
	n, err := scratch.ParseLSN(lsn)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ToUpper(strings.Join([]string{"00000001", "00000000", hex8(n / scratch.SegmentBytes)}, ""))
}

func hex8(n uint64) string {
	const digits = "0123456789ABCDEF"
	out := make([]byte, 8)
	for i := 7; i >= 0; i-- {
		out[i], n = digits[n%16], n/16
	}
	return string(out)
}

func entriesFrom(t *testing.T, dir, name string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() >= name {
			out = append(out, e.Name())
		}
	}
	return out
}

func (w *world) hideName(name string) func(*testing.T) func() {
	return w.move(filepath.Join(w.Archive, name))
}

// move takes a file away and gives it back.
func (w *world) move(path string) func(*testing.T) func() {
	return func(t *testing.T) func() {
		away := filepath.Join(w.base, "..", filepath.Base(path)+".away")
		if err := os.Rename(path, away); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := os.Rename(away, path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// flip changes one bit of a file, and changes it back.
func (w *world) flip(dir, file string, at int64) func(*testing.T) func() {
	turn := func(t *testing.T) {
		f, err := os.OpenFile(filepath.Join(dir, file), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0x10
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	return func(t *testing.T) func() { turn(t); return func() { turn(t) } }
}

func TestAnEmptyOrForeignDatabaseIsNeverGreen(t *testing.T) {
	w := newWorld(t)
	// A database that is healthy in every way, and not ours.
	other, _ := scratchtest.New(t)
	tg := scratchtest.Target(t, "other")
	if err := other.Prepare(t.Context(), tg); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Backup(t.Context(), tg, engine.BackupRequest{}, nil); err != nil {
		t.Fatal(err)
	}
	other.WaitArchived(t)
	place, err := scratch.Make(w.base)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = place.Remove(context.Background()) }()
	if _, err := other.Restore(t.Context(), tg, engine.RestoreRequest{To: place.Data()}, nil); err != nil {
		t.Fatal(err)
	}
	p, err := w.open(t.Context(), place, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if c := check(p, scratch.CheckSentinels); p.Outcome != scratch.Fail || !strings.Contains(c.Reason, "stale or empty") {
		t.Fatalf("%s %s", p.Outcome, p.Reason)
	}

	// Nothing at all.
	empty, err := scratch.Make(w.base)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = empty.Remove(context.Background()) }()
	if _, err := scratch.Start(t.Context(), scratch.Options{Dir: empty.Dir}); err == nil || problem.From(err).Code != "copy-empty" {
		t.Fatalf("%v", err)
	}
}

func TestAMomentBehindTheEndOfTheLogIsSaidToBeSo(t *testing.T) {
	w := newWorld(t)
	_, err := w.prove(time.Now().Add(time.Hour))
	if e := problem.From(err); e.Code != "copy-short" {
		t.Fatalf("%v", err)
	}
}

const victim = "FOUNDRY_SCRATCH_VICTIM"

// TestVictim is the process that is killed below.
func TestVictim(t *testing.T) {
	base := os.Getenv(victim)
	if base == "" {
		t.Skip("runs as a child of another test")
	}
	place, err := scratch.Make(base)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", "-T", filepath.Join(base, "restored"), place.Data()).CombinedOutput(); err != nil {
		t.Fatalf("%s %v", out, err)
	}
	if os.Getenv(victim+"_START") != "" {
		if _, err := scratch.Start(t.Context(), scratch.Options{Dir: place.Dir}); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = os.Stdout.WriteString("ready " + place.Dir + "\n")
	select {}
}

func TestWhatAKilledProcessLeavesIsRemovedAndWhatALivingOneHasIsNot(t *testing.T) {
	w := newWorld(t)
	if err := os.MkdirAll(w.base, 0o711); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Restore(t.Context(), w.target, engine.RestoreRequest{To: filepath.Join(w.base, "restored")}, nil); err != nil {
		t.Fatal(err)
	}
	for _, start := range []string{"", "1"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestVictim$")
		cmd.Env = append(os.Environ(), victim+"="+w.base, victim+"_START="+start)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		dir := ""
		for dir == "" && lines.Scan() {
			_, after, ok := strings.Cut(lines.Text(), "ready ")
			if ok {
				dir = after
			}
		}
		if dir == "" {
			t.Fatal("the child said nothing")
		}
		if removed, err := scratch.Sweep(t.Context(), w.base, nil); err != nil || len(removed) != 0 {
			t.Fatalf("swept a copy that somebody works on: %v %v", removed, err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		removed, err := scratch.Sweep(t.Context(), w.base, dbtest.Log(t))
		if err != nil || len(removed) != 1 || removed[0] != dir {
			t.Fatalf("removed %v, want %s (%v)", removed, dir, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("still there: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(w.base, "restored")); err != nil {
		t.Fatalf("swept what is not a copy: %v", err)
	}
}
