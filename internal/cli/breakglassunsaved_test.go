package cli

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestSharesThatNobodyHasAreSaidWithWhatToDo(t *testing.T) {
	made := backup.MadeKey{Set: "ed393171", Threshold: 2, Shares: []backup.MadeShare{{Index: 1}, {Index: 2}}}
	dir := filepath.Join(t.TempDir(), "gone")
	_, err := writeShares(dir, made)
	if err == nil {
		t.Fatal("shares are written to a directory that is not there")
	}
	p := problem.From(unsaved(made, dir, err))
	if p.Code != "shares-unsaved" || !strings.Contains(p.Detail, "in force") || !strings.Contains(p.Detail, dir) || !strings.Contains(p.Mend, "breakglass create") {
		t.Errorf("%+v", p)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	denied := problem.New(problem.Denied, "access-denied", "No.").WithMend("Ask.")
	for name, c := range map[string]struct {
		ctx  context.Context
		err  error
		code string
	}{
		"the node refused":   {t.Context(), denied, "access-denied"},
		"the line was cut":   {t.Context(), problem.New(problem.Unavailable, "server-unreachable", "It does not answer."), "shares-unanswered"},
		"somebody gave up":   {ended, context.Canceled, "shares-unanswered"},
		"it took too long":   {t.Context(), problem.New(problem.Timeout, "timeout", "It took too long."), "shares-unanswered"},
		"it was not allowed": {t.Context(), problem.New(problem.Conflict, "break-glass-waiting", "Not yet."), "break-glass-waiting"},
	} {
		p := problem.From(unanswered(c.ctx, c.err))
		if p.Code != c.code || c.code == "shares-unanswered" && !strings.Contains(p.Mend, "breakglass status") {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
