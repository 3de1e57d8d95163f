package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/evidence"
)

// A verification that nobody waits for rests three times as long as it works:
// it takes a quarter of one core, reads a few thousand entries at a time, and
// leaves the rest of the node to clients.
const (
	verifyRest    = 3
	verifyRestMax = 10 * time.Second // however slow one step was
)

// pace returns what to call after each step of a long work. It waits, or
// returns when ctx ends.
func pace(ctx context.Context, now func() time.Time, wait func(context.Context, time.Duration)) func() {
	began := now()
	return func() {
		wait(ctx, min(verifyRest*now().Sub(began), verifyRestMax))
		began = now()
	}
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// verifyLog reads the whole audit log again and computes its tree (O-17.verify).
func (d *Daemon) verifyLog(ctx context.Context, progress func(string)) ([]evidence.Finding, error) {
	step := pace(ctx, time.Now, rest)
	r, err := d.auditLog.Verify(ctx, audit.VerifyOptions{Progress: func(done, total int64) {
		progress(fmt.Sprintf("%d of %d leaves", done, total))
		step()
	}})
	if err != nil {
		return nil, err
	}
	return []evidence.Finding{verified(r)}, nil
}

// verified is the evidence of a verification.
func verified(r audit.Report) evidence.Finding {
	f := evidence.Finding{Subject: "the whole log", Result: evidence.Pass, NotCovered: []string{"checkpoints that others keep: `foundry audit verify --checkpoint` compares those"},
		Covered: []string{fmt.Sprintf("%d leaves, %d entries, %d batches of the ledger with %d rows, %d checkpoints", r.Size, r.Entries, r.Batches, r.Rows, r.Checkpoints)}}
	f.Raw, _ = json.Marshal(r) // of plain fields
	if !r.OK {
		f.Result = evidence.Fail
		f.Reason = fmt.Sprintf("%d things are wrong.", r.Count)
		if len(r.Findings) > 0 {
			f.Reason += " The first: " + r.Findings[0].What
		}
		f.Reason += " `foundry audit verify` shows them; the runbook is docs/runbooks/audit-verify-fails.md."
		return f
	}
	f.Reason = fmt.Sprintf("Nothing was changed in %d entries and %d rows.", r.Entries, r.Rows)
	return f
}
