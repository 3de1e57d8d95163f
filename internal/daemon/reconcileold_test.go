//go:build faults

package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/gateway/journal"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// primary is a node as far as its database knows it: a server, a journal, and
// the audit log's sequencer.
type primary struct {
	t       *testing.T
	dir     string
	ring    *keys.Keyring
	node    node
	cluster *db.Cluster
	db      *db.DB
	log     *audit.Log
	journal *journal.Journal
	shipper *ledger.Shipper
}

func (p *primary) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// startPrimary starts it in a directory, with the keys of the installation.
func startPrimary(t *testing.T, dir string, ring *keys.Keyring) *primary {
	t.Helper()
	p := &primary{t: t, dir: dir, ring: ring}
	var err error
	p.cluster, err = db.StartCluster(t.Context(), db.ClusterOptions{Dir: filepath.Join(dir, "postgres"), Settings: dbtest.Hasty})
	p.must(err)
	t.Cleanup(func() { _ = p.cluster.Stop(context.Background()) })
	p.must(db.Migrate(t.Context(), p.cluster.Config(), nil))
	p.db, err = db.Open(t.Context(), p.cluster.Config(), nil)
	p.must(err)
	p.must(p.db.WaitHealthy(t.Context()))
	t.Cleanup(p.db.Close)
	p.node, err = nextBoot(dir)
	p.must(err)
	p.log, err = audit.OpenLog(audit.Options{DB: p.db, Dir: filepath.Join(dir, "audit"), Node: p.node.Number, Seal: ring.Seal, Open: ring.Open})
	p.must(err)
	p.journal, err = journal.Open(filepath.Join(dir, "journal"), journal.Options{Node: p.node.Number, Boot: p.node.Boot, Seal: ring.Seal, Open: ring.Open, SegmentBytes: 1 << 20})
	p.must(err)
	p.shipper = ledger.NewShipper(p.journal, p.db, ledger.ShipperOptions{Node: p.node.Number, Boot: p.node.Boot, Seal: ring.Seal})
	return p
}

// kill ends the server as a power cut does.
func (p *primary) kill() {
	p.db.Close()
	p.must(p.journal.Close(p.t.Context()))
	p.must(p.cluster.Fence(p.t.Context()))
}

func (p *primary) act(target string) {
	p.t.Helper()
	p.must(p.db.Org(p.t.Context(), uuid.Nil, func(tx pgx.Tx) error {
		return audit.Append(p.t.Context(), tx, principal.Principal{Kind: principal.System}, uuid.Nil, "test.act", target, nil)
	}))
}

func (p *primary) sequence() {
	p.t.Helper()
	_, err := p.log.Sequence(p.t.Context())
	p.must(err)
}

func (p *primary) journalled(record []byte) uint64 {
	p.t.Helper()
	ticket, err := p.journal.Append(record)
	p.must(err)
	p.must(ticket.Wait(p.t.Context()))
	return p.journal.Durable()
}

func (p *primary) ship() {
	p.t.Helper()
	p.must(p.shipper.Flush(p.t.Context()))
}

func admission(at time.Time) []byte {
	return ledger.AppendAdmission(nil, &ledger.Admission{At: at, Organisation: uuid.New(), Key: "k", Endpoint: wire.ChatCompletions, Model: "m", Tier: "t", Provider: "p", ProviderModel: "pm", Jurisdiction: "FI", Controller: "FI", ReservedNano: 7, Currency: "EUR"})
}

// digestOf is what a directory holds, with the times at which it was changed.
func digestOf(t *testing.T, dir string) (out [sha256.Size]byte) {
	t.Helper()
	h := sha256.New()
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		body, err := os.ReadFile(path)
		h.Write([]byte(path + info.ModTime().String()))
		h.Write(body)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// A primary is lost with its disk and another goes on from a backup. When the
// disk comes back, exactly what the other lacks is listed, and the disk is left
// as it was.
func TestWhatOnlyTheDiskOfTheOldPrimaryHasIsListed(t *testing.T) {
	base := dbtest.Dir(t)
	old, next := filepath.Join(base, "old"), filepath.Join(base, "next")
	for _, dir := range []string{old, next} {
		if err := os.Mkdir(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	ring, err := OpenKeyring(Config{DataDir: old}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()

	one := startPrimary(t, old, ring)
	one.act("shared-1")
	one.act("shared-2")
	open := one.journalled(admission(now)) // its outcome comes after the backup
	one.ship()
	one.sequence()
	one.kill()
	if err := copyOld(t.Context(), filepath.Join(old, "postgres", "data"), filepath.Join(base, "backup"), base); err != nil {
		t.Fatal(err)
	}

	one = startPrimary(t, old, ring)
	outcome := ledger.AppendOutcome(nil, &ledger.Outcome{Seq: open, Boot: one.node.Boot - 1, At: now, Result: ledger.OK, Status: 200, Provider: "p", ProviderModel: "pm", CostNano: 5})
	one.journalled(outcome)
	lost := one.journalled(admission(now))
	one.ship()
	one.act("lost-1")
	one.sequence()
	one.act("lost-2") // and the power fails before it has a place in the tree
	unshipped := one.journalled(admission(now))
	one.kill()

	if err := os.MkdirAll(filepath.Join(next, "postgres"), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(base, "backup"), filepath.Join(next, "postgres", "data")); err != nil {
		t.Fatal(err)
	}
	two := startPrimary(t, next, ring)
	two.act("after")
	two.sequence()
	two.journalled(admission(now))
	two.ship()

	before := digestOf(t, old)
	o := reconciling{db: two.db, base: filepath.Join(base, "scratch"), seal: ring.Seal, open: ring.Open}
	r, err := reconcileOld(t.Context(), o, old)
	if err != nil {
		t.Fatal(err)
	}
	if digestOf(t, old) != before {
		t.Error("the old disk was changed")
	}
	if entries, _ := os.ReadDir(o.base); len(entries) > 0 {
		t.Errorf("the copy was left: %v", entries)
	}
	checkReconciled(t, r, one.node.Number)
	for _, e := range r.Ledger.Events {
		if e.Kind == "request" && (uint64(e.Seq) != lost || !e.Journal) {
			t.Errorf("%+v, not %d in the journal", e, lost)
		}
	}
	if p := r.Ledger.Indeterminate; len(p) != 1 || uint64(p[0].Seq) != open {
		t.Errorf("indeterminate: %+v, not %d", p, open)
	}
	if n := len(r.Journal.Events); n == 0 || uint64(r.Journal.Events[n-1].Seq) != unshipped {
		t.Errorf("the journal: %+v", r.Journal)
	}

	// The same after a rejoin put it aside, which has no journal; and what is none.
	aside := filepath.Join(base, "postgres.aside")
	if err := os.Rename(filepath.Join(old, "postgres"), aside); err != nil {
		t.Fatal(err)
	}
	if again, err := reconcileOld(t.Context(), o, aside); err != nil || again.Acts != r.Acts || again.Ledger.Count != r.Ledger.Count || again.Journal != nil || len(again.Notes) != 1 {
		t.Errorf("put aside: %+v, %v", again, err)
	}
	for dir, code := range map[string]string{base: "reconcile-empty", next: "reconcile-running"} {
		if _, err := reconcileOld(t.Context(), o, dir); problem.From(err).Code != code {
			t.Errorf("%s: %v", dir, err)
		}
	}
	other := dbtest.New(t) // never one with it
	if _, err := reconcileOld(t.Context(), reconciling{db: other, base: o.base, seal: ring.Seal, open: ring.Open}, aside); problem.From(err).Code != "database-another" {
		t.Errorf("another installation's: %v", err)
	}
}

func checkReconciled(t *testing.T, r *api.Reconciliation, node uint32) {
	t.Helper()
	var acts bytes.Buffer
	for _, e := range r.Audit {
		acts.WriteString(e.Target + " ")
	}
	if acts.String() != "lost-1 lost-2 " || r.Acts != 2 {
		t.Errorf("lost acts: %q (%d)", acts.String(), r.Acts)
	}
	if r.Fork.Shared == 0 || r.Fork.Shared >= r.Fork.Old || r.Fork.Shared >= r.Fork.New || r.Fork.At.IsZero() {
		t.Errorf("where they parted: %+v", r.Fork)
	}
	if r.Ledger.Count != 2 || len(r.Ledger.Events) != 2 { // a request, and an outcome
		t.Errorf("lost events: %+v", r.Ledger)
	}
	if j := r.Journal; j == nil || j.Records != 3 || j.Requests != 2 || j.Outcomes != 1 || r.Node != node {
		t.Errorf("journal: %+v of node %d", j, r.Node)
	}
}
