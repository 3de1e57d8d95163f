package api

import (
	"context"
	"net/http"
	"time"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/problem"
)

// Reconciliation is what a database that was left has and the fleet's lacks. It
// names writes and says nothing of what was asked or answered.
type Reconciliation struct {
	Made     time.Time `json:"made"`
	Dir      string    `json:"dir"`       // where the old disk is
	Node     uint32    `json:"node"`      // whose it was; 0: it does not say
	OldEpoch int64     `json:"old_epoch"` // in which it was the primary's; 0: it does not say
	Epoch    int64     `json:"epoch"`     // of the database that goes on; 0: no fleet counts them

	Fork  audit.Fork   `json:"fork"`
	Audit []audit.Lost `json:"audit"` // entries that only the old one has, the oldest first
	Acts  int          `json:"acts"`  // how many there are

	Ledger  ledger.Lost  `json:"ledger"`
	Journal *ledger.Tail `json:"journal,omitempty"` // what the journal beside it holds and the fleet's database lacks; null: there is none

	Notes []string `json:"notes,omitempty"` // what could not be looked at, and why
}

// reconcile registers the comparison of a database that was left.
func (a *API) reconcile() {
	register(a, http.MethodPost, "/fleet/database/reconciliations", "database-reconcile", "List what a database that was left has and the fleet's lacks", func(ctx context.Context, in *struct {
		Caller
		Body struct {
			Dir     string `json:"dir" doc:"Directory on the node that is asked: a data directory, or what foundry database rejoin put aside."`
			Scratch string `json:"scratch,omitempty" doc:"Directory on that node for a copy of the database. Default: that of the backups' drills."`
		}
	}) (*Reconciliation, error) {
		if a.Reconcile == nil {
			return nil, problem.New(problem.Unsupported, "reconcile-nothing", "This process has no database to compare with.").WithMend("Ask a node with the role gateway.")
		}
		return a.Reconcile(ctx, in.Principal, in.Body.Dir, in.Body.Scratch)
	})
}
