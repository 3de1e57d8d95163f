package backup

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/backup/scratch/scratchtest"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// lost is a node that was lost: what is left of it are the repository, the
// archive, the kit and the shares.
type lost struct {
	Points  []engine.Point
	Target  target.Target
	Archive string
	Kit     []byte
	Texts   []string // of the shares
	Rows    int      // sentinels
	Size    int64    // of the audit tree
	Newest  time.Time
	Between time.Time // a moment after the backup with sentinels on both sides

	shares []kit.Share
	key    *kit.Key
	server *scratchtest.Plain
	db     *db.DB
	old    string
}

// cp restores what scratchtest.Plain backed up, in another process too.
type cp struct{ *lost }

func (cp) Name() string                                                { return "plain" }
func (cp) Prepare(context.Context, target.Target) error                { return nil }
func (cp) Check(context.Context, target.Target, engine.Progress) error { return nil }
func (c cp) Points(context.Context, target.Target) ([]engine.Point, error) {
	return c.lost.Points, nil
}
func (cp) Backup(context.Context, target.Target, engine.BackupRequest, engine.Progress) (engine.Point, error) {
	return engine.Point{}, errors.New("not here")
}
func (cp) Expire(context.Context, target.Target, engine.ExpireRequest) (engine.Expired, error) {
	return engine.Expired{}, errors.New("not here")
}

func (c cp) Restore(ctx context.Context, t target.Target, r engine.RestoreRequest, p engine.Progress) (out engine.Restored, err error) {
	if entries, err := os.ReadDir(r.To); err == nil && len(entries) > 0 {
		return out, problem.New(problem.Conflict, "restore-not-empty", "not empty")
	}
	p.Tell(0, 100, "restoring")
	if text, err := exec.CommandContext(ctx, "cp", "-a", "-T", filepath.Join(t.Path, r.Label), r.To).CombinedOutput(); err != nil {
		return out, fmt.Errorf("cp: %s: %w", text, err)
	}
	p.Tell(100, 100, "restored")
	conf := "restore_command = 'cp " + c.lost.Archive + "/%f %p'\nrecovery_target_action = 'promote'\n"
	if !r.Time.IsZero() {
		conf += "recovery_target_time = '" + r.Time.UTC().Format("2006-01-02 15:04:05.000000-07") + "'\n"
	}
	f, err := os.OpenFile(filepath.Join(r.To, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return out, err
	}
	_, err = f.WriteString(conf)
	signal := filepath.Join(r.To, "recovery.signal")
	err = errors.Join(err, f.Close(), os.WriteFile(signal, nil, 0o600), exec.Command("chown", "--reference", r.To, signal).Run())
	return engine.Restored{Point: c.lost.Points[slices.IndexFunc(c.lost.Points, func(p engine.Point) bool { return p.Label == r.Label })], Bytes: 100}, err
}

func (l *lost) engines(context.Context, []target.Target, kit.Content, string) (RecoveryEngines, error) {
	return RecoveryEngines{Database: cp{l}, Archive: func(context.Context, target.Target) (scratch.Archive, time.Time, error) {
		entries, err := os.ReadDir(l.Archive)
		a := scratch.Archive{}
		var newest time.Time
		for _, e := range entries {
			a.Names = append(a.Names, e.Name())
			if info, err := e.Info(); err == nil && info.ModTime().After(newest) {
				newest = info.ModTime()
			}
		}
		return a, newest, err
	}}, nil
}

// loseNode runs a node's database, backs it up, writes on, and loses it.
func loseNode(t *testing.T) *lost {
	t.Helper()
	plain, d := scratchtest.New(t)
	l := &lost{Target: scratchtest.Target(t, "offsite"), Archive: plain.Archive, server: plain, db: d, old: dbtest.Dir(t)}
	ring, err := keys.Open(keys.Options{Dir: filepath.Join(l.old, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.OpenSigner(filepath.Join(l.old, "evidence"), ring.Seal, ring.Open); err != nil {
		t.Fatal(err)
	}
	log, err := audit.OpenLog(audit.Options{DB: d, Dir: filepath.Join(l.old, "audit"), Node: 7, Seal: ring.Seal, Open: ring.Open})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close(context.Background()) })
	if err := os.WriteFile(filepath.Join(l.old, "node.json"), []byte(`{"number":7,"boot":3}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	org := uuid.New()
	admin(t, plain, `INSERT INTO organisations (id, name) VALUES ($1, 'a')`, org)
	column := keys.Column{Table: "people", Column: "email_sealed", Keys: []string{"id"}}
	vault := keys.NewVault(keys.VaultOptions{DB: d, Keyring: ring, Columns: []keys.Column{column}, Audit: audit.Append, Deny: audit.Deny})
	if _, err := vault.Seal(t.Context(), org, keys.Place{Table: column.Table, Column: column.Column, Row: "r"}, []byte("x")); err != nil {
		t.Fatal(err)
	}
	acts := func(n int) {
		for i := range n {
			if err := d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error {
				return audit.Append(t.Context(), tx, principal.Node("test"), uuid.Nil, "test.act", fmt.Sprint(i), nil)
			}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := log.Sequence(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	acts(5)
	l.sentinels(t, 3)
	note, err := scratch.Count(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.Prepare(t.Context(), l.Target); err != nil {
		t.Fatal(err)
	}
	point, err := plain.Backup(t.Context(), l.Target, engine.BackupRequest{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Points = []engine.Point{point}
	l.sentinels(t, 2)
	l.Between = l.now(t)
	l.sentinels(t, 2)
	acts(4)
	c, err := log.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	l.Size = c.Size
	archived := plain.WaitArchived(t)
	l.makeKit(t, note, archived)
	return l
}

// admin runs a statement as superuser.
func admin(t *testing.T, p *scratchtest.Plain, sql string, args ...any) {
	t.Helper()
	if err := p.Admin(t.Context(), func(c *pgx.Conn) error { _, err := c.Exec(t.Context(), sql, args...); return err }); err != nil {
		t.Fatal(err)
	}
}

func (l *lost) now(t *testing.T) (at time.Time) {
	t.Helper()
	if err := l.db.Read(t.Context(), func(tx pgx.Tx) error { return tx.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&at) }); err != nil {
		t.Fatal(err)
	}
	return at
}

func (l *lost) sentinels(t *testing.T, n int) {
	t.Helper()
	for range n {
		l.Rows++
		if err := l.db.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error {
			return tx.QueryRow(t.Context(), `INSERT INTO backup_sentinels (id, nonce) VALUES ($1, $2) RETURNING at`, l.Rows, []byte(fmt.Sprintf("%016d", l.Rows))).Scan(&l.Newest)
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// makeKit makes what people keep.
func (l *lost) makeKit(t *testing.T, note scratch.Note, archived string) {
	t.Helper()
	var err error
	if l.key, err = kit.NewKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if l.shares, err = l.key.Split(2, 3, rand.Reader); err != nil {
		t.Fatal(err)
	}
	for _, s := range l.shares {
		l.Texts = append(l.Texts, s.Text())
	}
	noted := Noted{At: l.Newest, Archived: archived, Notes: []scratch.Note{note}}
	if err := l.db.Read(t.Context(), func(tx pgx.Tx) error {
		rows, err := tx.Query(t.Context(), `SELECT id, at, wal_lsn::text, nonce FROM backup_sentinels ORDER BY id`)
		if err != nil {
			return err
		}
		noted.Sentinels, err = pgx.CollectRows(rows, pgx.RowToStructByPos[scratch.Sentinel])
		return err
	}); err != nil {
		t.Fatal(err)
	}
	c := l.content(t)
	if c.Expected, err = json.Marshal(noted); err != nil {
		t.Fatal(err)
	}
	if l.Kit, err = (kit.Recipient{Public: l.key.Recipient(), Authenticator: l.key.Authenticator()}).Seal(c, time.Now()); err != nil {
		t.Fatal(err)
	}
}

func (l *lost) content(t *testing.T) kit.Content {
	t.Helper()
	kek, err := os.ReadFile(filepath.Join(l.old, "keys", "kek"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(kek)))
	if err != nil {
		t.Fatal(err)
	}
	c := kit.Content{Foundry: "v0.0.0-test", PostgreSQL: 15, Packages: []string{"postgresql-15"}, Node: kit.Node{Number: 7, Name: "node7", Mode: "development", DataDir: l.old},
		KEKs: []kit.KEK{{Provider: "file", Key: raw}}, Targets: []kit.Target{{Config: l.Target.Config}}}
	err = filepath.WalkDir(l.old, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "kek" {
			return err
		}
		body, err := os.ReadFile(path)
		rel, _ := filepath.Rel(l.old, path)
		c.Files = append(c.Files, kit.File{Path: rel, Mode: 0o600, Body: body})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (l *lost) options(t testing.TB, dir string) RecoverOptions {
	return RecoverOptions{Kit: l.Kit, Shares: l.shares[1:], DataDir: dir, Version: "v0.0.0-test", Engines: l.engines, Log: dbtest.Log(t)}
}

// whole checks that a recovered directory has everything, as a node would see it.
func (l *lost) whole(t *testing.T, dir string, sentinels int) {
	t.Helper()
	c, err := db.StartCluster(t.Context(), db.ClusterOptions{Dir: filepath.Join(dir, "postgres"), Log: dbtest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Stop(context.Background()) }()
	d := dbtest.Open(t, c.Config())
	defer d.Close()
	var rows int
	if err := d.Read(t.Context(), func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), `SELECT count(*) FROM backup_sentinels`).Scan(&rows)
	}); err != nil {
		t.Fatal(err)
	}
	if rows != sentinels {
		t.Errorf("there are %d sentinels, want %d", rows, sentinels)
	}
	ring, err := keys.Open(keys.Options{Dir: filepath.Join(dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := keys.NewVault(keys.VaultOptions{DB: d, Keyring: ring}).OpenAll(t.Context()); err != nil || n != 1 {
		t.Errorf("%d keysets open, %v", n, err)
	}
}

func outcomes(r *Recovery) string {
	var b strings.Builder
	for _, c := range r.Proof.Checks {
		fmt.Fprintf(&b, "%s: %s: %s\n", c.Name, c.Outcome, c.Reason)
	}
	return b.String()
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var p *problem.Error
	if !errors.As(err, &p) || p.Code != code {
		t.Errorf("got %v, want the problem %s", err, code)
		return
	}
	if p.Mend == "" {
		t.Errorf("%s does not say what to do", code)
	}
}

func TestALostNodeComesBackFromKitSharesAndTarget(t *testing.T) {
	l := loseNode(t)
	t.Run("a dry run says what would be lost and changes nothing", func(t *testing.T) {
		dir := filepath.Join(dbtest.Dir(t), "new")
		o := l.options(t, dir)
		o.DryRun = true
		r, err := Recover(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Target != "offsite" || r.Point.Label != l.Points[0].Label || r.Reaches.Before(l.Points[0].Stopped) || r.Lost < 0 {
			t.Errorf("it says %+v", r)
		}
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Error("it made the data directory")
		}
	})
	t.Run("the newest point, proven, fenced until activated", func(t *testing.T) {
		dir := filepath.Join(dbtest.Dir(t), "new")
		r, err := Recover(t.Context(), l.options(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		if r.Proof == nil || r.Proof.Outcome != scratch.Pass || len(r.Proof.Checks) < 8 {
			t.Fatalf("the proof:\n%s", outcomes(r))
		}
		if !r.Recovered.Equal(l.Newest) {
			t.Errorf("it came to %s, want %s", r.Recovered, l.Newest)
		}
		f, err := ReadFence(dir)
		if err != nil || f == nil {
			t.Fatalf("it is not fenced: %v", err)
		}
		signed, err := os.ReadFile(r.Evidence)
		if err != nil {
			t.Fatal(err)
		}
		text, _, err := evidence.VerifyText(string(signed))
		if err != nil || !strings.Contains(text, "\nproof: pass\n") || !strings.Contains(text, "recovered point: "+stamp(l.Newest)) {
			t.Errorf("the evidence, %v:\n%s", err, text)
		}
		if n := readNode(t, dir); n.Number != 7 || n.Boot <= 3 {
			t.Errorf("the node is %+v: a start's number could be used twice", n)
		}
		_, err = Recover(t.Context(), l.options(t, dir))
		wantCode(t, err, "recovery-done")
		if _, err := Activate(t.Context(), ActivateOptions{DataDir: dir}); err != nil {
			t.Fatal(err)
		}
		if f, err := ReadFence(dir); f != nil || err != nil {
			t.Errorf("it is still fenced: %v, %v", f, err)
		}
		l.whole(t, dir, l.Rows)
		_, err = Recover(t.Context(), l.options(t, dir))
		wantCode(t, err, "recovery-activated")
	})
	t.Run("an earlier moment", func(t *testing.T) {
		dir := filepath.Join(dbtest.Dir(t), "new")
		o := l.options(t, dir)
		o.At = l.Between
		r, err := Recover(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Proof.Outcome == scratch.Fail || r.Recovered.After(l.Between) || !r.AuditBehind {
			t.Errorf("the proof:\n%s", outcomes(r))
		}
		if _, err := Activate(t.Context(), ActivateOptions{DataDir: dir, Unproven: true, Reason: "the moment before the mistake"}); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "recovery", "audit", "newest.json")); err != nil {
			t.Errorf("the checkpoints of entries that are lost were not kept: %v", err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "audit", "newest.json")); err == nil {
			t.Error("they would keep the log from going on")
		}
		l.whole(t, dir, l.Rows-2)
	})
	t.Run("a log with a hole is no proof, and not activated by mistake", func(t *testing.T) {
		dir := filepath.Join(dbtest.Dir(t), "new")
		hole := *l
		hole.Archive = filepath.Join(dbtest.Dir(t), "archive")
		if out, err := exec.Command("cp", "-a", l.Archive, hole.Archive).CombinedOutput(); err != nil {
			t.Fatalf("%s", out)
		}
		removeSegmentAfter(t, hole.Archive, l.Points[0].StopWAL)
		r, err := Recover(t.Context(), hole.options(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		if r.Proof.Outcome != scratch.Fail {
			t.Errorf("it is green on a hole:\n%s", outcomes(r))
		}
		_, err = Activate(t.Context(), ActivateOptions{DataDir: dir})
		wantCode(t, err, "recovery-unproven")
		_, err = Activate(t.Context(), ActivateOptions{DataDir: dir, Unproven: true, Reason: "short"})
		wantCode(t, err, "recovery-reason")
		if f, _ := ReadFence(dir); f == nil {
			t.Error("the fence is gone")
		}
	})
}

func readNode(t *testing.T, dir string) (n struct{ Number, Boot uint32 }) {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(dir, "node.json"))
	if err == nil {
		err = json.Unmarshal(body, &n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// removeSegmentAfter removes the segment that follows one.
func removeSegmentAfter(t *testing.T, archive, segment string) {
	t.Helper()
	entries, err := os.ReadDir(archive)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if len(e.Name()) == 24 && e.Name() > segment {
			if err := os.Remove(filepath.Join(archive, e.Name())); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("there is no segment to remove")
}

func TestARecoveryRefusesWhatItMustNotTouch(t *testing.T) {
	l := loseNode(t)
	other := func(f func(*RecoverOptions, string)) (string, error) {
		dir := filepath.Join(dbtest.Dir(t), "new")
		o := l.options(t, dir)
		f(&o, dir)
		_, err := Recover(t.Context(), o)
		return dir, err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, dry := range []bool{false, true} {
		_, err := other(func(o *RecoverOptions, dir string) {
			o.DryRun = dry
			must(os.MkdirAll(filepath.Join(dir, "postgres", "data"), 0o755))
		})
		wantCode(t, err, "recovery-not-empty")
	}
	dir, err := other(func(_ *RecoverOptions, dir string) {
		must(os.MkdirAll(dir, 0o755))
		held, err := holdDirectory(dir) // as a node would
		must(err)
		t.Cleanup(func() { _ = held.Close() })
	})
	wantCode(t, err, "recovery-running")
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("it left %v in a directory that a node uses", entries)
	}
	_, err = other(func(o *RecoverOptions, _ string) { o.Shares = o.Shares[:1] })
	wantCode(t, err, "shares-few")
	_, err = other(func(o *RecoverOptions, _ string) { o.Target = "elsewhere" })
	wantCode(t, err, "target-unknown")
	_, err = other(func(o *RecoverOptions, _ string) { o.At = time.Now().Add(time.Hour) })
	wantCode(t, err, "recovery-future")
	_, err = other(func(o *RecoverOptions, _ string) { o.At = l.Points[0].Stopped.Add(-time.Hour) })
	wantCode(t, err, "recovery-no-point")
	strangers, err := kit.NewKey(rand.Reader)
	must(err)
	wrong, err := strangers.Split(2, 2, rand.Reader)
	must(err)
	_, err = other(func(o *RecoverOptions, _ string) { o.Shares = wrong })
	wantCode(t, err, "kit-wrong")
	_, err = other(func(o *RecoverOptions, _ string) { o.Kit = o.Kit[:len(o.Kit)-9] })
	wantCode(t, err, "kit-damaged")
	production := l.content(t)
	production.Node.Mode = "production"
	sealed, err := (kit.Recipient{Public: l.key.Recipient(), Authenticator: l.key.Authenticator()}).Seal(production, time.Now())
	must(err)
	// What is refused has begun nothing: the right command is taken afterwards.
	dir, err = other(func(o *RecoverOptions, _ string) { o.Kit = sealed })
	wantCode(t, err, "recovery-kek")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("without --kek it began %s", dir)
	}
	dir, err = other(func(o *RecoverOptions, dir string) { o.Kit, o.KEK = sealed, filepath.Join(filepath.Dir(dir), "kek") })
	wantCode(t, err, "kek-on-data-volume")
	for _, path := range []string{dir, filepath.Join(filepath.Dir(dir), "kek")} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("with the key on the volume of the data it wrote %s", path)
		}
	}
	absent := l.content(t)
	absent.PostgreSQL = 99
	sealed, err = (kit.Recipient{Public: l.key.Recipient(), Authenticator: l.key.Authenticator()}).Seal(absent, time.Now())
	must(err)
	_, err = other(func(o *RecoverOptions, _ string) { o.Kit = sealed })
	wantCode(t, err, "recovery-programs")
}

// The helper process that is killed: it recovers, and says where it is.
func TestHelperRecovers(t *testing.T) {
	file := os.Getenv("FOUNDRY_TEST_RECOVER")
	if file == "" {
		t.Skip("run by another test, as a process of its own")
	}
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var l lost
	if err := json.Unmarshal(body, &l); err != nil {
		t.Fatal(err)
	}
	for _, text := range l.Texts[:2] {
		s, err := kit.ParseShare(text)
		if err != nil {
			t.Fatal(err)
		}
		l.shares = append(l.shares, s)
	}
	o := l.options(t, os.Getenv("FOUNDRY_TEST_DIR"))
	o.Shares = l.shares
	o.Log = slog.New(slog.DiscardHandler)
	told := bufio.NewReader(os.Stdin)
	o.Progress = func(step string, done, total int64, what string) {
		fmt.Printf("AT %s/%s\n", step, what)
		_, _ = told.ReadByte() // goes on when it is told to, or is killed here
	}
	r, err := Recover(t.Context(), o)
	if err != nil {
		fmt.Printf("ERROR %v\n", err)
		return
	}
	fmt.Printf("DONE %s\n", r.Proof.Outcome)
}

// Killed at every place that it names, once, a recovery goes on and comes to
// the same end.
func TestARecoveryThatIsKilledAnywhereGoesOn(t *testing.T) {
	l := loseNode(t)
	work := dbtest.Dir(t)
	dir := filepath.Join(work, "new")
	body, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(work, "lost.json")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	killed := map[string]bool{}
	for range 60 {
		at, end := runUntilKilled(t, file, dir, killed)
		if end != "" {
			if end != "DONE pass" {
				t.Fatalf("it ended with %q after it was killed at %v", end, killed)
			}
			break
		}
		if f, err := ReadFence(dir); len(killed) > 1 && (err != nil || f == nil) {
			t.Fatalf("killed at %s, the node is not fenced: %v", at, err)
		}
	}
	for _, step := range RecoverySteps {
		if !slices.ContainsFunc(mapKeys(killed), func(k string) bool { return strings.HasPrefix(k, step+"/") }) {
			t.Errorf("it was never killed at the step %q", step)
		}
	}
	r, err := Activate(t.Context(), ActivateOptions{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Recovered.Equal(l.Newest) {
		t.Errorf("it came to %s, want %s", r.Recovered, l.Newest)
	}
	l.whole(t, dir, l.Rows)
}

func mapKeys(m map[string]bool) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

// runUntilKilled runs the helper until it comes to a place where it was not
// killed yet, or to its end.
func runUntilKilled(t *testing.T, file, dir string, killed map[string]bool) (at, end string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperRecovers$", "-test.v") //nolint:gosec // this test itself
	cmd.Env = append(os.Environ(), "FOUNDRY_TEST_RECOVER="+file, "FOUNDRY_TEST_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	tell, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		if place, ok := strings.CutPrefix(line, "AT "); ok && at == "" && !killed[place] {
			killed[place], at = true, place
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		} else if ok && at == "" {
			if _, err := tell.Write([]byte("\n")); err != nil {
				t.Fatal(err)
			}
		}
		if strings.HasPrefix(line, "DONE ") || strings.HasPrefix(line, "ERROR ") {
			end = line
		}
	}
	if at == "" && end == "" {
		t.Fatal("the helper ended without a word")
	}
	return at, end
}
