package audit

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db/dbtest"
)

func verify(t testing.TB, l *Log) Report {
	t.Helper()
	r, err := l.Verify(t.Context(), VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func codes(r Report) (out []string) {
	for _, f := range r.Findings {
		if !slices.Contains(out, f.Code) {
			out = append(out, f.Code)
		}
	}
	slices.Sort(out)
	return out
}

// TestWhoeverHoldsTheDatabaseCannotChangeThePast does what a database
// administrator can, and looks whether verification says what was done.
func TestWhoeverHoldsTheDatabaseCannotChangeThePast(t *testing.T) {
	t.Parallel()
	const entry = `(SELECT ref FROM audit_leaves WHERE leaf = 100)`
	for name, c := range map[string]struct {
		sql  []string
		want []string
	}{
		"nothing":                               {nil, nil},
		"an act is renamed":                     {[]string{`UPDATE audit SET act = 'key.create' WHERE id = ` + entry}, []string{"entry-changed"}},
		"an actor is another":                   {[]string{`UPDATE audit SET actor = 'person:somebody-else' WHERE id = ` + entry}, []string{"entry-changed"}},
		"a denial becomes an act":               {[]string{`UPDATE audit SET outcome = 'denied' WHERE id = ` + entry}, []string{"entry-changed"}},
		"a body is another":                     {[]string{`UPDATE audit SET details = '{"n": 1}' WHERE id = ` + entry}, []string{"entry-changed"}},
		"a salt is another":                     {[]string{`UPDATE audit SET salt = '\x00' WHERE id = ` + entry}, []string{"entry-changed"}},
		"a time moves by a microsecond":         {[]string{`UPDATE audit SET at = at + interval '1 microsecond' WHERE id = ` + entry}, []string{"entry-changed"}},
		"an entry moves to another's log":       {[]string{`UPDATE audit SET organisation_id = gen_random_uuid() WHERE id = ` + entry}, []string{"entry-changed"}},
		"an entry gets another id":              {[]string{`UPDATE audit SET id = gen_random_uuid() WHERE id = ` + entry}, []string{"entry-missing", "entry-outside"}},
		"an entry is removed":                   {[]string{`DELETE FROM audit WHERE id = ` + entry}, []string{"entry-missing"}},
		"an entry and its leaf are removed":     {[]string{`DELETE FROM audit WHERE id = ` + entry, `DELETE FROM audit_leaves WHERE leaf = 100`}, []string{"leaf-missing"}},
		"the entries' end is removed":           {[]string{`DELETE FROM audit WHERE id IN (SELECT ref FROM audit_leaves WHERE leaf >= 550)`}, []string{"entry-missing"}},
		"the end is removed with its leaves":    {[]string{`DELETE FROM audit WHERE id IN (SELECT ref FROM audit_leaves WHERE leaf >= 550)`, `DELETE FROM audit_leaves WHERE leaf >= 550`}, []string{"tail-removed"}},
		"the end and every checkpoint in it":    {[]string{`DELETE FROM audit WHERE id IN (SELECT ref FROM audit_leaves WHERE leaf >= 550)`, `DELETE FROM audit_leaves WHERE leaf >= 550`, `DELETE FROM audit_checkpoints`}, []string{"tail-removed"}},
		"everything is removed":                 {[]string{`TRUNCATE audit, audit_leaves, audit_nodes, audit_checkpoints, audit_queue`}, []string{"tail-removed"}},
		"two entries are swapped in the tree":   {[]string{`ALTER TABLE audit_leaves DROP CONSTRAINT audit_leaves_ref_kind_key`, `UPDATE audit_leaves a SET ref = b.ref, hash = b.hash, kind = b.kind FROM audit_leaves b WHERE a.leaf + b.leaf = 201 AND a.leaf IN (100, 101)`}, []string{"node-changed", "root-differs"}},
		"two entries swap their bodies":         {[]string{`UPDATE audit a SET details = b.details, salt = b.salt FROM audit b, audit_leaves x, audit_leaves y WHERE a.id = x.ref AND b.id = y.ref AND x.leaf + y.leaf = 201 AND x.leaf IN (100, 101)`}, []string{"entry-changed"}},
		"an entry and its hash are another":     {[]string{`UPDATE audit SET act = 'x' WHERE id = ` + entry, `UPDATE audit_leaves SET hash = (SELECT sha256('\x0001'::bytea || uuid_send(id) || int8send((extract(epoch FROM at) * 1000000)::bigint) || uuid_send(organisation_id) || int4send(length(actor)) || actor::bytea || int4send(length(act)) || act::bytea || int4send(length(target)) || target::bytea || int4send(length(outcome)) || outcome::bytea || sha256(salt || convert_to(details::text, 'UTF8'))) FROM audit WHERE id = ref) WHERE leaf = 100`}, []string{"node-changed", "root-differs"}},
		"a node is another":                     {[]string{`UPDATE audit_nodes SET hash = sha256('') WHERE n = 1`}, []string{"node-changed"}},
		"a node is removed":                     {[]string{`DELETE FROM audit_nodes WHERE n = 1`}, []string{"node-changed"}},
		"an entry is slipped in":                {[]string{`ALTER TABLE audit DISABLE TRIGGER audit_enqueue`, `INSERT INTO audit (id, organisation_id, actor, act, outcome) VALUES (gen_random_uuid(), gen_random_uuid(), 'a', 'b', 'done')`}, []string{"entry-outside"}},
		"an entry is slipped into the tree":     {[]string{`ALTER TABLE audit DISABLE TRIGGER audit_enqueue`, `INSERT INTO audit_leaves SELECT max(leaf) + 1, 1, gen_random_uuid(), sha256('') FROM audit_leaves`}, []string{"entry-missing"}},
		"a body is erased without an act":       {[]string{`UPDATE audit SET commitment = sha256(salt || convert_to(details::text, 'UTF8')), salt = NULL, details = '{}' WHERE id = ` + entry}, []string{"erased-without-act"}},
		"a checkpoint is of another size":       {[]string{`UPDATE audit_checkpoints SET size = size - 1`}, []string{"checkpoint-forged"}},
		"a checkpoint is of another root":       {[]string{`UPDATE audit_checkpoints SET root = sha256('')`}, []string{"checkpoint-forged"}},
		"a checkpoint's text is another":        {[]string{`UPDATE audit_checkpoints SET note = replace(note, E'\n600\n', E'\n599\n')`}, []string{"checkpoint-forged"}},
		"the tree has another name":             {[]string{`UPDATE audit_log SET id = gen_random_uuid()`}, []string{"checkpoint-none", "checkpoint-other", "tree-other"}},
		"the queue is emptied and entries lost": {[]string{`INSERT INTO audit (id, organisation_id, actor, act, outcome) VALUES (gen_random_uuid(), gen_random_uuid(), 'a', 'b', 'done')`, `DELETE FROM audit_queue`}, []string{"entry-outside"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := dbtest.Config(t)
			d, root := dbtest.Open(t, cfg), dbtest.Superuser(t, cfg)
			l := openLog(t, options(d, t.TempDir()))
			appendMany(t, d, 600)
			drain(t, l)
			for _, q := range c.sql {
				if _, err := root.Exec(t.Context(), q); err != nil {
					t.Fatal(q, err)
				}
			}
			r := verify(t, l)
			if got := codes(r); !slices.Equal(got, c.want) || r.OK != (len(c.want) == 0) {
				t.Errorf("found %v, want %v; %+v", got, c.want, r.Findings)
			}
			if s := l.Status(); s.Sound != r.OK || s.Verified.IsZero() {
				t.Errorf("the status says %+v", s)
			}
		})
	}
}

func TestACheckpointThatSomebodyKeptElsewhereIsComparedToo(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	d := dbtest.Open(t, cfg)
	dir := t.TempDir()
	l := openLog(t, options(d, dir))
	appendMany(t, d, 70)
	drain(t, l)
	kept, _ := l.Checkpoint()
	appendMany(t, d, 7)
	drain(t, l)
	if r, err := l.Verify(t.Context(), VerifyOptions{Checkpoints: []string{kept.Note}}); err != nil || !r.OK {
		t.Errorf("%+v, %v", r, err)
	}
	// Whoever holds the machine removes the end and every trace on it.
	root := dbtest.Superuser(t, cfg)
	for _, q := range []string{`DELETE FROM audit WHERE id IN (SELECT ref FROM audit_leaves WHERE leaf >= 60)`, `DELETE FROM audit_leaves WHERE leaf >= 60`, `DELETE FROM audit_checkpoints`} {
		if _, err := root.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{newestFile, historyFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	l = openLog(t, options(d, dir))
	drain(t, l)
	if r := verify(t, l); !r.OK { // on the machine nothing is to be seen
		t.Errorf("%+v", r)
	}
	r, err := l.Verify(t.Context(), VerifyOptions{Checkpoints: []string{kept.Note}})
	if err != nil || !slices.Equal(codes(r), []string{"tail-removed"}) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAnErasedBodyVerifiesOnlyWithItsErasure(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	d := dbtest.Open(t, cfg)
	l := openLog(t, options(d, t.TempDir()))
	org := uuid.New()
	secret := act(t, d, org, "person.invite", "x", map[string]string{"name": "forget me"})
	other := act(t, d, uuid.New(), "person.suspend", "x", nil)
	drain(t, l)
	erase := func(in, what uuid.UUID) error {
		return d.Org(t.Context(), in, func(tx pgx.Tx) error { return Erase(t.Context(), tx, who, in, what, "request 17") })
	}
	if err := erase(org, other); err == nil {
		t.Error("another organisation's entry was erased")
	}
	if err := d.Org(t.Context(), org, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `SELECT audit_erase($1, $1)`, secret)
		return err
	}); err == nil {
		t.Error("a body was erased without an entry that says so")
	}
	if err := erase(org, secret); err != nil {
		t.Fatal(err)
	}
	if err := erase(org, secret); codeOf(err) != "audit-entry-unknown" {
		t.Errorf("erased twice: %v", err)
	}
	drain(t, l)
	r := verify(t, l)
	if !r.OK || r.Erased != 1 || r.Entries != 3 {
		t.Errorf("got %+v", r)
	}
	rows, err := Find(t.Context(), d, Filter{Act: "person.invite"})
	if err != nil || len(rows) != 1 || !rows[0].Erased || string(rows[0].Details) != "{}" {
		t.Errorf("%+v, %v", rows, err)
	}
	b, err := l.Prove(t.Context(), secret)
	if err != nil || b.Proofs[0].Entry.Commitment == "" || b.Proofs[0].Entry.Body != "" {
		t.Errorf("%+v, %v", b, err)
	}
	if _, err := dbtest.Superuser(t, cfg).Exec(context.Background(), `UPDATE audit SET details = '{"name": "somebody else"}' WHERE id = $1`, secret); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, l); !slices.Equal(codes(r), []string{"entry-changed"}) {
		t.Errorf("got %+v", r)
	}
}
