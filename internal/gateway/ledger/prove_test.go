package ledger

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
)

// anchoredLog is the audit log of a database, with the ledger in it.
func anchoredLog(t *testing.T, d *db.DB) *audit.Log {
	t.Helper()
	seal, open := seals()
	p := NewProofs(d)
	l, err := audit.OpenLog(audit.Options{DB: d, Dir: t.TempDir(), Node: 1, Seal: seal, Open: open, Batches: p.Batches, CheckRows: p.Check, Log: dbtest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(t.Context()) })
	return l
}

func sequence(t *testing.T, l *audit.Log) {
	t.Helper()
	for {
		n, err := l.Sequence(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

// story ships what can happen to requests, over several batches and two boots,
// and returns one whose outcome came in a later batch, and one of a refusal.
func story(t *testing.T, d *db.DB) (orgs []uuid.UUID, late, merged RequestID) {
	t.Helper()
	orgs = makeOrganisations(t, d, 2)
	n := newNode(t, d, t.TempDir(), 5, newExpectation())
	t.Cleanup(func() { n.stop() })
	merged = n.admit(admission(orgs[0], false))
	n.finish(merged, outcome(1234))
	late = n.admit(admission(orgs[1], true))
	n.admit(admission(orgs[0], false)) // lost: its node stops
	n.refuse(&Refusal{At: time.Now(), Organisation: orgs[0], Key: "k", Endpoint: wire.Messages, Model: "m", Rule: "class-ceiling", Status: 403})
	n.flush()
	n.attempt(late, &Attempt{At: time.Now(), N: 2, Provider: "anthropic", ProviderModel: "claude", Jurisdiction: "US", Controller: "US", LeavesEEA: true})
	n.flush()
	o := outcome(777)
	o.Tries = []Try{{Provider: "openai", Status: 500, Reason: "<&\u2028>"}, {Provider: "anthropic", Status: 200, Duration: time.Second}}
	n.finish(late, o)
	n.raw([]byte{kindOutcome, version, 0xff}) // to be set aside
	n.flush()
	n.admit(admission(orgs[1], true))
	n.reboot()
	n.sweep() // the outcome of the one that was lost is of another boot than its admission
	for range 40 {
		n.finish(n.admit(admission(orgs[0], false)), outcome(5))
	}
	n.flush()
	return orgs, late, merged
}

func TestARequestIsProvenWithEveryRowItHas(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	orgs, late, merged := story(t, d)
	l := anchoredLog(t, d)
	sequence(t, l)
	keys, err := l.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := NewProofs(d)
	for id, want := range map[RequestID][]string{
		late:   {"requests", "request_attempts", "request_outcomes", "transfers"},
		merged: {"requests", "transfers"},
	} {
		rows, err := p.Request(t.Context(), id, uuid.Nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.ProveRows(t.Context(), id.String(), rows)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := audit.CheckBundle(text, []string{keys[0].VKey})
		var tables []string
		for _, p := range got.Proofs {
			tables = append(tables, p.Row.Table)
		}
		if err != nil || !slices.Equal(tables, want) {
			t.Errorf("%v, %v; want %v", tables, err, want)
		}
		// The cost is in the row in PostgreSQL's binary form; another is not proven.
		cost := slices.IndexFunc(got.Proofs[0].Row.Cells, func(c audit.Cell) bool { return c.Column == "reserved_nano" })
		hex := *got.Proofs[0].Row.Cells[cost].Hex
		if got.Proofs[0].Row.Cells[cost].Text != "5000" || hex != "0000000000001388" {
			t.Errorf("reserved %+v", got.Proofs[0].Row.Cells[cost])
		}
		if _, _, err := audit.CheckBundle([]byte(strings.Replace(string(text), hex, "0000000000001387", 1)), []string{keys[0].VKey}); err == nil {
			t.Error("another cost passed")
		}
	}
	if _, err := p.Request(t.Context(), late, orgs[0]); problem.From(err).Code != "request-unknown" {
		t.Errorf("another organisation's request was proven: %v", err)
	}
	if _, err := p.Request(t.Context(), late, orgs[1]); err != nil {
		t.Error(err)
	}
	if _, err := p.Request(t.Context(), RequestID{Node: 9}, uuid.Nil); problem.From(err).Code != "request-unknown" {
		t.Errorf("got %v", err)
	}
}

func TestWhoeverHoldsTheDatabaseCannotChangeTheLedger(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql  string
		want []string
	}{
		"nothing":                       {`SELECT 1`, nil},
		"a cost is lowered":             {`UPDATE requests SET cost_nano = 1 WHERE seq = 1 AND boot = 1`, []string{"row-changed", "rows-removed"}},
		"a destination is another":      {`UPDATE transfers SET destination = 'DE' WHERE seq = 1 AND boot = 1`, []string{"row-changed", "rows-removed"}},
		"an outcome is another":         {`UPDATE request_outcomes SET tries = NULL WHERE tries IS NOT NULL`, []string{"row-changed", "rows-removed"}},
		"an attempt is removed":         {`DELETE FROM request_attempts`, []string{"rows-removed"}},
		"a transfer is removed":         {`DELETE FROM transfers WHERE seq = 1 AND boot = 1`, []string{"rows-removed"}},
		"a refusal is removed":          {`DELETE FROM refusals`, []string{"rows-removed"}},
		"a rejected record is removed":  {`DELETE FROM journal_rejects`, []string{"rows-removed"}},
		"a request is invented":         {`INSERT INTO requests SELECT 5, 1, 9999, admitted_at, organisation_id, reserved_nano, class, stream, own, leaves_eea, restricted, decision, api_key, endpoint, model, tier, provider, provider_model, jurisdiction, controller, safeguard, currency FROM requests LIMIT 1`, []string{"row-outside"}},
		"a request is put into a batch": {`INSERT INTO requests SELECT 5, 1, 2, admitted_at, organisation_id, reserved_nano, class, stream, own, leaves_eea, restricted, decision, api_key, endpoint, model, tier, provider, provider_model, jurisdiction, controller, safeguard, currency FROM requests LIMIT 1`, []string{"row-changed"}},
		"a batch is removed":            {`DELETE FROM journal_batches WHERE boot = 2`, []string{"batch-missing", "row-outside"}},
		"a batch and its rows":          {`DELETE FROM journal_batches WHERE boot = 2; DELETE FROM requests WHERE boot = 2; DELETE FROM transfers WHERE batch_boot = 2; DELETE FROM request_outcomes WHERE batch_boot = 2`, []string{"batch-missing"}},
		"a batch forgets its rows":      {`UPDATE journal_batches SET row_hashes = '' WHERE boot = 2; DELETE FROM requests WHERE boot = 2; DELETE FROM transfers WHERE batch_boot = 2; DELETE FROM request_outcomes WHERE batch_boot = 2`, []string{"batch-changed"}},
		"a batch forgets that it had":   {`UPDATE journal_batches SET row_hashes = NULL, root = NULL, salt = NULL WHERE boot = 2`, []string{"batch-changed"}},
		"a batch's digest is another":   {`UPDATE journal_batches SET digest = sha256('') WHERE boot = 2`, []string{"batch-changed"}},
		"a batch is slipped in":         {`ALTER TABLE journal_batches DISABLE TRIGGER ALL; INSERT INTO journal_batches (node, boot, first_seq, last_seq, events, digest) VALUES (6, 1, 1, 1, 1, '')`, []string{"batch-outside"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := dbtest.Config(t)
			d := dbtest.Open(t, cfg)
			story(t, d)
			l := anchoredLog(t, d)
			sequence(t, l)
			if _, err := dbtest.Superuser(t, cfg).Exec(t.Context(), c.sql); err != nil {
				t.Fatal(err)
			}
			r, err := l.Verify(t.Context(), audit.VerifyOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range r.Findings {
				if !slices.Contains(got, f.Code) {
					got = append(got, f.Code)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("found %v, want %v: %+v", got, c.want, r.Findings)
			}
			if c.want == nil && (!r.OK || r.Batches < 4 || r.Rows < 90) {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestAnExportHoldsTheBatchesAndShowsNoneToAnOrganisation(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	orgs, _, _ := story(t, d)
	l := anchoredLog(t, d)
	sequence(t, l)
	keys, err := l.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]audit.ExportOptions{"all": {}, "one organisation": {Organisation: &orgs[0]}} {
		var text strings.Builder
		if err := l.Export(t.Context(), &text, o); err != nil {
			t.Fatal(err)
		}
		r, err := audit.VerifyArchive(t.Context(), strings.NewReader(text.String()), audit.ArchiveOptions{Keys: []string{keys[0].VKey}})
		if err != nil || !r.OK || (r.Batches == 0) != (o.Organisation != nil) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}
