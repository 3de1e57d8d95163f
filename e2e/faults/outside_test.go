//go:build faults

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/keys"
)

// installation is a node whose database outlives it, so that a test can hold
// the node at a step, kill it there, and look at what it left behind.
type installation struct {
	*node
	t     *testing.T
	cfg   db.Config
	admin *pgx.Conn // a superuser, whom row-level security does not bind
	plain map[uuid.UUID]string
	watch *pgx.Conn
}

func newInstallation(t *testing.T, configuration string) *installation {
	t.Helper()
	cfg := dbtest.Config(t)
	i := &installation{t: t, cfg: cfg, plain: map[uuid.UUID]string{}}
	i.node = newNode(t, fmt.Sprintf("database: {dsn: %q}\n%s", cfg.DSN, configuration))
	i.admin, i.watch = dbtest.Superuser(t, cfg), dbtest.Superuser(t, cfg)
	return i
}

func (i *installation) exec(sql string, args ...any) {
	i.t.Helper()
	if _, err := i.watch.Exec(i.t.Context(), sql, args...); err != nil {
		i.t.Fatalf("%s: %v", sql, err)
	}
}

// count asks the database for a number.
func (i *installation) count(sql string, args ...any) (n int) {
	i.t.Helper()
	if err := i.watch.QueryRow(i.t.Context(), sql, args...).Scan(&n); err != nil {
		i.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// entries counts what the audit log has of an act that was done.
func (i *installation) entries(org uuid.UUID, act string) int {
	i.t.Helper()
	return i.count(`SELECT count(*) FROM audit WHERE organisation_id = $1 AND act = $2 AND outcome = 'done'`, org, act)
}

func (i *installation) wantEntries(org uuid.UUID, act string, want int) {
	i.t.Helper()
	if got := i.entries(org, act); got != want {
		i.t.Errorf("the audit log has %d entries of %s, want %d", got, act, want)
	}
}

// barrier is where a node stops when it comes there.
const barrier = 4711

// holdAt makes whoever reaches one of the steps wait inside the database. A
// step is what a trigger says of itself: its time, event, table and condition.
// An AFTER step is when its transaction commits; the server then ends that,
// whether or not whoever asked for it still lives.
func (i *installation) holdAt(steps ...string) {
	i.t.Helper()
	i.exec(`CREATE OR REPLACE FUNCTION held() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS
		$$ BEGIN PERFORM pg_advisory_xact_lock_shared(` + fmt.Sprint(barrier) + `); RETURN NEW; END $$`)
	i.exec(`GRANT EXECUTE ON FUNCTION held() TO public`)
	for n, step := range steps {
		when, condition, _ := strings.Cut(step, " WHEN ")
		if condition != "" {
			condition = "WHEN (" + condition + ")"
		}
		kind, commit := "TRIGGER", ""
		if strings.HasPrefix(when, "AFTER") {
			kind, commit = "CONSTRAINT TRIGGER", "DEFERRABLE INITIALLY DEFERRED"
		}
		i.exec(fmt.Sprintf("CREATE %s zz_held_%d %s %s FOR EACH ROW %s EXECUTE FUNCTION held()", kind, n, when, commit, condition))
	}
	if _, err := i.admin.Exec(i.t.Context(), "SELECT pg_advisory_lock($1)", barrier); err != nil {
		i.t.Fatal(err)
	}
}

// held waits until so many are held at once.
func (i *installation) held(want int) {
	i.t.Helper()
	eventually(i.t, "the node to come to where it is held", func() (bool, string) {
		n := i.count(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, barrier)
		return n >= want, fmt.Sprintf("%d of %d", n, want)
	})
}

// release lets everybody go on, and takes the steps away. Transactions of a
// node that was killed meanwhile find nobody there, and are rolled back.
func (i *installation) release() {
	i.t.Helper()
	if _, err := i.admin.Exec(i.t.Context(), "SELECT pg_advisory_unlock_all()"); err != nil {
		i.t.Fatal(err)
	}
	i.exec(`DROP FUNCTION held() CASCADE`) // waits for transactions that were held
}

// killHeld kills the node where it is held, and lets what it left come to rest.
func (i *installation) killHeld(count int) {
	i.t.Helper()
	i.held(count)
	i.kill()
	i.release()
}

// said is what a command printed, and how it ended.
type said struct {
	out, err string
	code     int
}

// command is a command of the CLI that acts on this node.
func (n *node) command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, append([]string{"--data-dir", n.data()}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+n.dir, "FOUNDRY_SESSIONS="+n.sessions)
	return cmd
}

// run runs a command to its end.
func (n *node) run(args ...string) said {
	var out, text bytes.Buffer
	cmd := n.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &text
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return said{err: err.Error(), code: -1}
	}
	return said{out.String(), text.String(), cmd.ProcessState.ExitCode()}
}

// say is run for a command that must succeed.
func (n *node) say(args ...string) string {
	n.t.Helper()
	s := n.run(args...)
	if s.code != 0 {
		n.t.Fatalf("foundry %s: exit code %d: %s", strings.Join(args, " "), s.code, s.err)
	}
	return s.out
}

// began is a command under way.
type began struct {
	cmd  *exec.Cmd
	done chan said
}

// begin starts a command, whose end may be waited for.
func (n *node) begin(args ...string) *began {
	n.t.Helper()
	var out, text bytes.Buffer
	b := &began{cmd: n.command(args...), done: make(chan said, 1)}
	b.cmd.Stdout, b.cmd.Stderr = &out, &text
	if err := b.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	go func() {
		_ = b.cmd.Wait()
		b.done <- said{out.String(), text.String(), b.cmd.ProcessState.ExitCode()}
	}()
	n.t.Cleanup(func() { _ = b.cmd.Process.Signal(syscall.SIGKILL) })
	return b
}

// lost is how a command must end whose node was killed: with a clear word, and
// no success.
func (b *began) lost(t *testing.T) {
	t.Helper()
	select {
	case s := <-b.done:
		if s.code != 69 || !strings.Contains(s.err, "node") || strings.Contains(s.err, "panic") {
			t.Errorf("a command whose node was killed ended with %d: %s%s", s.code, s.out, s.err)
		}
	case <-time.After(patience):
		t.Error("a command whose node was killed does not end")
	}
}

func (i *installation) encryption() (s api.EncryptionStatus) {
	i.t.Helper()
	text := i.say("keys", "status", "--json")
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		i.t.Fatalf("%v: %s", err, text)
	}
	return s
}

// keyset is the status of one keyset.
func (i *installation) keyset(org uuid.UUID) api.KeysetStatus {
	i.t.Helper()
	for _, k := range i.encryption().Keysets {
		if k.Organisation == org {
			return k
		}
	}
	i.t.Fatalf("no keyset of %s", org)
	return api.KeysetStatus{}
}

// vault is another process that has the same keys and the same database, and
// remembers nothing of what the keys were before.
func (i *installation) vault() (*keys.Vault, *db.DB) {
	i.t.Helper()
	var cfg daemon.Config
	if err := config.Load(i.config, &cfg); err != nil {
		i.t.Fatal(err)
	}
	cfg.DataDir = i.data()
	ring, err := daemon.OpenKeyring(cfg, nil)
	if err != nil {
		i.t.Fatalf("the keyring does not open: %v", err)
	}
	ctx, cancel := context.WithTimeout(i.t.Context(), patience)
	defer cancel()
	d, err := db.Open(ctx, i.cfg, slog.New(slog.DiscardHandler))
	if err == nil {
		i.t.Cleanup(d.Close)
		err = d.WaitHealthy(ctx)
	}
	if err != nil {
		i.t.Fatal(err)
	}
	return keys.NewVault(keys.VaultOptions{DB: d, Keyring: ring, Columns: access.SealedColumns(), Audit: audit.Append, Deny: audit.Deny}), d
}

func at(org, id uuid.UUID) keys.Place {
	return keys.Place{Table: "keyset_canaries", Column: "sealed", Row: keys.Row(org.String(), id.String())}
}

// organisation makes an organisation, by its name and id. Without a name it is
// the installation itself.
func (i *installation) organisation() (string, uuid.UUID) {
	i.t.Helper()
	name := unique("org")
	i.must("POST", "/organisations", map[string]any{"name": name}, nil)
	id := uuid.MustParse(i.orgID(name))
	return name, id
}

// seal stores values that the keyset of an organisation has sealed.
func (i *installation) seal(org uuid.UUID, values int) {
	i.t.Helper()
	v, d := i.vault()
	defer d.Close()
	ids, sealed := make([]uuid.UUID, values), make([][]byte, values)
	for n := range values {
		ids[n] = uuid.New()
		i.plain[ids[n]] = "a secret of " + ids[n].String()
		var err error
		if sealed[n], err = v.Seal(i.t.Context(), org, at(org, ids[n]), []byte(i.plain[ids[n]])); err != nil {
			i.t.Fatal(err)
		}
	}
	i.exec(`INSERT INTO keyset_canaries (organisation_id, id, sealed) SELECT $1, id, sealed FROM unnest($2::uuid[], $3::bytea[]) t (id, sealed)`, org, ids, sealed)
	if err := v.FlushCounts(i.t.Context()); err != nil {
		i.t.Fatal(err)
	}
}

// opens reports how many sealed values of an organisation open, and how many
// do not. One that opens must be what was sealed.
func (i *installation) opens(org uuid.UUID) (open, shut int, why error) {
	i.t.Helper()
	v, d := i.vault()
	defer d.Close()
	rows, err := i.watch.Query(i.t.Context(), `SELECT id, sealed FROM keyset_canaries WHERE organisation_id = $1`, org)
	if err != nil {
		i.t.Fatal(err)
	}
	var id uuid.UUID
	var sealed []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &sealed}, func() error {
		text, err := v.Open(i.t.Context(), org, at(org, id), sealed)
		switch {
		case err != nil:
			shut, why = shut+1, err
		case string(text) != i.plain[id]:
			i.t.Errorf("%s opens to something else", id)
		default:
			open++
		}
		return nil
	})
	if err != nil {
		i.t.Fatal(err)
	}
	return open, shut, why
}

// allOpen wants every sealed value of an organisation to open.
func (i *installation) allOpen(org uuid.UUID, values int) {
	i.t.Helper()
	if open, shut, why := i.opens(org); open != values || shut != 0 {
		i.t.Errorf("%d values open and %d do not (%v), want all %d", open, shut, why, values)
	}
}

// auditor keeps what an auditor would: the log's public key and checkpoints.
type auditor struct {
	n     *node
	dir   string
	vkey  string
	kept  []string // files
	sizes []int64
}

func newAuditor(t testing.TB, n *node) *auditor {
	t.Helper()
	a := &auditor{n: n, dir: t.TempDir()}
	eventually(t, "the audit log to have a key", func() (bool, string) {
		var list []audit.PublicKey
		err := n.call("GET", "/api/v1/audit/keys", nil, &list)
		for _, k := range list {
			if k.Role == "log" {
				a.vkey = k.VKey
			}
		}
		return a.vkey != "", fmt.Sprint(err)
	})
	return a
}

// keep takes the newest checkpoint along, if the node gives one.
func (a *auditor) keep() {
	var c audit.Checkpoint
	if err := a.n.call("GET", "/api/v1/audit/checkpoint", nil, &c); err != nil || len(a.sizes) > 0 && c.Size == a.sizes[len(a.sizes)-1] {
		return
	}
	path := filepath.Join(a.dir, fmt.Sprintf("checkpoint-%d", len(a.kept)))
	if err := os.WriteFile(path, []byte(c.Note), 0o600); err == nil {
		a.kept, a.sizes = append(a.kept, path), append(a.sizes, c.Size)
	}
}

// verify wants the log to be sound: as the node reads it, and in an export
// that is read with the public key alone. Both must contain every checkpoint
// that was kept.
func (a *auditor) verify(t testing.TB) {
	t.Helper()
	var kept []string
	for _, path := range a.kept {
		kept = append(kept, "--checkpoint", path)
	}
	if s := a.n.run(append([]string{"audit", "verify"}, kept...)...); s.code != 0 {
		t.Errorf("the audit log does not verify: %s%s", s.out, s.err)
	}
	export := filepath.Join(a.dir, unique("export"))
	a.n.say("audit", "export", "--output", export)
	if s := a.n.run(append([]string{"audit", "verify", "--offline", export, "--key", a.vkey}, kept...)...); s.code != 0 {
		t.Errorf("an export of the audit log does not verify: %s%s", s.out, s.err)
	}
}
