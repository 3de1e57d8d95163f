//go:build faults

package faults

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/keys"
)

// shred reads a request to shred as the node has it now.
func (i *installation) shred(id uuid.UUID) api.Shred {
	i.t.Helper()
	var all []api.Shred
	i.must("GET", "/encryption/shreds", nil, &all)
	for _, s := range all {
		if s.ID == id {
			return s
		}
	}
	i.t.Fatalf("there is no request %s", id)
	return api.Shred{}
}

// wholeOrGone wants either every value of an organisation to open and no entry
// to say that its keys are destroyed, or none to open and one entry to say so.
func (i *installation) wholeOrGone(org uuid.UUID, values int) (gone bool) {
	i.t.Helper()
	open, shut, why := i.opens(org)
	done := i.entries(org, "keys.shred.execute")
	switch {
	case open == values && shut == 0 && done == 0:
		return false
	case open == 0 && shut == values && done == 1:
		return true
	}
	i.t.Errorf("%d values open and %d do not (%v), and the audit log has %d entries of the destruction", open, shut, why, done)
	return false
}

// Killed at every step between the request and the destruction, the shredding
// of an organisation's keys is never half done, never early, and is in the
// audit log once.
func TestAShreddingOfARealNodeIsKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	const values = 25
	i := newInstallation(t, "keys: {shred: {undo: 1h}}\n")
	i.start()
	keeper := newAuditor(t, i.node)
	name, org := i.organisation()
	other, spared := i.organisation()
	i.seal(org, values)
	i.seal(spared, values)
	asks, first, second := i.person(t, "", "platform-security"), i.person(t, "", "platform-security"), i.person(t, "", "platform-security")

	// lost begins an act, kills the node in the middle of it and starts it again.
	lost := func(step string, by *somebody, method, path string, in any) {
		t.Helper()
		i.holdAt(step)
		answered := make(chan int, 1)
		go func() { status, _ := by.ask(method, path, in, nil); answered <- status }()
		i.killHeld(1)
		if status := <-answered; status != 0 {
			t.Errorf("%s was answered %d by a node that was killed", path, status)
		}
		if i.wholeOrGone(org, values) {
			t.Error("the keys are gone before the window has ended")
		}
		i.start()
	}
	request := map[string]string{"organisation": name, "reason": "contract ended, ticket 4711"}
	lost("BEFORE INSERT ON audit WHEN NEW.act = 'keys.shred.request'", asks, "POST", "/encryption/shreds", request)
	var s api.Shred
	asks.must(t, "POST", "/encryption/shreds", request, &s)
	approve := "/encryption/shreds/" + s.ID.String() + "/approvals"
	for n, by := range []*somebody{first, second} {
		lost("BEFORE INSERT ON audit WHEN NEW.act = 'keys.shred.approve'", by, "POST", approve, nil)
		if now := i.shred(s.ID); now.State != keys.ShredRequested || n == 0 && now.FirstApprover != "" || now.SecondApprover != "" {
			t.Errorf("an approval that was not committed counts: %+v", now)
		}
		if n == 0 {
			by.must(t, "POST", approve, nil, &s)
			continue
		}
		// Committed, though nobody was told.
		i.holdAt("AFTER INSERT ON audit WHEN NEW.act = 'keys.shred.approve'")
		go by.ask("POST", approve, nil, nil)
		i.killHeld(1)
	}
	i.start()
	// Another, whose destruction was approved and then cancelled: it stays so,
	// though its window ends while the node is away.
	var cancelled api.Shred
	asks.must(t, "POST", "/encryption/shreds", map[string]string{"organisation": other, "reason": "contract ended, ticket 4712"}, &cancelled)
	for _, by := range []*somebody{first, second} {
		by.must(t, "POST", "/encryption/shreds/"+cancelled.ID.String()+"/approvals", nil, nil)
	}
	second.must(t, "DELETE", "/encryption/shreds/"+cancelled.ID.String(), nil, nil)
	i.kill()
	wrapped := i.wrappedKeys(org)

	// The window ends while the node is away; the destruction is killed before
	// it begins to count, and then while it is being committed.
	if i.wholeOrGone(org, values) {
		t.Error("the keys are gone before the window has ended")
	}
	i.exec(`UPDATE keyset_shreds SET execute_after = execute_after - interval '1 hour'`)
	for _, step := range []string{
		"BEFORE UPDATE ON keysets WHEN NEW.wrapped IS NULL",
		"BEFORE UPDATE ON keyset_shreds WHEN NEW.state = 'executed'",
		"BEFORE INSERT ON audit WHEN NEW.act = 'keys.shred.execute'",
	} {
		i.holdAt(step)
		i.start()
		i.killHeld(1)
		if i.wholeOrGone(org, values) {
			t.Errorf("%s: a destruction that was not committed took the keys", step)
		}
	}
	i.holdAt("AFTER INSERT ON audit WHEN NEW.act = 'keys.shred.execute'")
	i.start()
	i.killHeld(1)
	if !i.wholeOrGone(org, values) {
		t.Error("the destruction was committed, and the values open")
	}
	i.start()
	if !i.wholeOrGone(org, values) {
		t.Error("what was destroyed opens again after a start")
	}
	i.allOpen(spared, values)
	if now := i.shred(cancelled.ID); now.State != keys.ShredCancelled {
		t.Errorf("%+v", now)
	}
	i.wantEntries(spared, "keys.shred.cancel", 1)
	i.wantEntries(spared, "keys.shred.execute", 0)
	if now := i.shred(s.ID); now.State != keys.ShredExecuted || now.Statement == nil || now.Statement.Values["keyset_canaries.sealed"] != values {
		t.Errorf("%+v", now)
	}
	if k := i.keyset(org); k.DestroyedAt == nil {
		t.Errorf("%+v", k)
	}
	for act, want := range map[string]int{"keys.shred.request": 1, "keys.shred.approve": 2, "keys.shred.execute": 1} {
		i.wantEntries(org, act, want)
	}
	eventually(t, "the wrapped keys to leave the database's files", func() (bool, string) {
		return !i.inHeap(wrapped), "the table's file still holds them"
	})
	keeper.verify(t)
}

// wrappedKeys is an organisation's keyset as it is stored.
func (i *installation) wrappedKeys(org uuid.UUID) (wrapped []byte) {
	i.t.Helper()
	if err := i.watch.QueryRow(i.t.Context(), `SELECT wrapped FROM keysets WHERE organisation_id = $1`, org).Scan(&wrapped); err != nil {
		i.t.Fatal(err)
	}
	return wrapped
}

// inHeap reports whether bytes lie in the file of the table of keysets.
func (i *installation) inHeap(secret []byte) bool {
	i.t.Helper()
	i.exec("CHECKPOINT")
	var file []byte
	if err := i.watch.QueryRow(i.t.Context(), `SELECT pg_read_binary_file(pg_relation_filepath('keysets'))`).Scan(&file); err != nil {
		i.t.Fatal(fmt.Errorf("reading the table's file: %w", err))
	}
	return bytes.Contains(file, secret)
}
