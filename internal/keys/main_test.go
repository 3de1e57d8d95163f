package keys

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/principal"
	"golang.org/x/sys/unix"
)

// TestMain also is the child process that tests kill at a named step.
func TestMain(m *testing.M) {
	if dsn := os.Getenv("KEYS_TEST_DSN"); dsn != "" {
		victim(dsn)
		return
	}
	if os.Getenv("KEYS_TEST_DUMPS") != "" {
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
		if err := ForbidDumps(); err != nil {
			fmt.Println(err)
		}
		core, dumpable, _ := ownLimits()
		fmt.Println(core, dumpable, Node{}.Dumps().State)
		return
	}
	dbtest.Main(m)
}

// world is a database with a table of clients' notes, and a keyring.
type world struct {
	t     testing.TB
	cfg   db.Config
	db    *db.DB
	dir   string // of the keys
	vault *Vault
	audit *entries
}

// entries are what was audited, committed or not.
type entries struct {
	mu   sync.Mutex
	list []string
}

func (e *entries) add(s string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, s)
}

func (e *entries) count(s string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.list {
		if x == s {
			n++
		}
	}
	return n
}

// audited writes entries like package audit, which lies above this one.
func audited(e *entries) (o VaultOptions) {
	o.Audit = func(ctx context.Context, tx pgx.Tx, p principal.Principal, org uuid.UUID, act, target string, _ any) error {
		e.add(act)
		_, err := tx.Exec(ctx, `INSERT INTO audit (id, organisation_id, actor, act, target, outcome) VALUES ($1, $2, $3, $4, $5, 'done')`,
			uuid.Must(uuid.NewV7()), org, p.String(), act, target)
		return err
	}
	o.Deny = func(ctx context.Context, d *db.DB, p principal.Principal, org uuid.UUID, act, target string, _ any) error {
		e.add("denied " + act)
		return nil
	}
	return o
}

var (
	notes   = Column{Table: "notes", Column: "body", Keys: []string{"ward", "id"}, Organisation: "organisation_id"}
	secrets = Column{Table: "secrets", Column: "seed", Keys: []string{"id"}, Installation: true, Organisation: "organisation_id"}
)

// schema is two tables of other packages: one sealed for its organisation, one
// for the installation.
const schema = `
CREATE TABLE notes (organisation_id uuid NOT NULL, ward text NOT NULL, id bigint NOT NULL, body bytea, PRIMARY KEY (organisation_id, ward, id));
CREATE TABLE secrets (organisation_id uuid NOT NULL, id uuid PRIMARY KEY, seed bytea);
DO $$ DECLARE t text; BEGIN FOREACH t IN ARRAY ARRAY['notes', 'secrets'] LOOP
	EXECUTE format('ALTER TABLE %1$I ENABLE ROW LEVEL SECURITY; ALTER TABLE %1$I FORCE ROW LEVEL SECURITY;
	CREATE POLICY app ON %1$I TO foundry_app USING (organisation_id = foundry_organisation()) WITH CHECK (organisation_id = foundry_organisation());
	CREATE POLICY migrator ON %1$I TO foundry_migrator USING (true) WITH CHECK (true);
	CREATE POLICY reader ON %1$I FOR SELECT TO foundry_reader USING (true);
	GRANT SELECT, INSERT, UPDATE ON %1$I TO foundry_app; GRANT SELECT ON %1$I TO foundry_reader', t);
END LOOP; END $$`

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, cfg: dbtest.Config(t), dir: filepath.Join(t.TempDir(), "keys"), audit: &entries{}}
	w.db = dbtest.Open(t, w.cfg)
	if _, err := w.db.Pool(db.Migrator).Exec(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	w.vault = w.newVault(nil)
	return w
}

// newVault is another node, or the same one started again.
func (w *world) newVault(change func(*VaultOptions)) *Vault {
	w.t.Helper()
	ring, err := Open(Options{Dir: w.dir})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.vaultOf(ring, change)
}

func (w *world) vaultOf(ring *Keyring, change func(*VaultOptions)) *Vault {
	o := audited(w.audit)
	o.DB, o.Keyring, o.Columns = w.db, ring, []Column{notes, secrets}
	if change != nil {
		change(&o)
	}
	v := NewVault(o)
	v.settle = 100 * time.Millisecond
	return v
}

func noteAt(ward, id string) Place { return Place{"notes", "body", Row(ward, id)} }

// note seals a text and stores it.
func (w *world) note(v *Vault, org uuid.UUID, ward, id, text string) {
	w.t.Helper()
	ctx := context.Background()
	sealed, err := v.Seal(ctx, org, noteAt(ward, id), []byte(text))
	if err == nil {
		err = w.db.Org(ctx, org, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO notes VALUES ($1, $2, $3::text::bigint, $4) ON CONFLICT (organisation_id, ward, id) DO UPDATE SET body = excluded.body`, org, ward, id, sealed)
			return err
		})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// read opens a stored text.
func (w *world) read(v *Vault, org uuid.UUID, ward, id string) (string, error) {
	w.t.Helper()
	ctx := context.Background()
	var sealed []byte
	err := w.db.Org(ctx, org, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT body FROM notes WHERE ward = $1 AND id = $2::text::bigint`, ward, id).Scan(&sealed)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := v.Open(ctx, org, noteAt(ward, id), sealed)
	return string(text), err
}

func (w *world) reads(v *Vault, org uuid.UUID, ward, id, want string) {
	w.t.Helper()
	if got, err := w.read(v, org, ward, id); err != nil || got != want {
		w.t.Errorf("%s/%s: got %q, %v; want %q", ward, id, got, err, want)
	}
}

func kill() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
