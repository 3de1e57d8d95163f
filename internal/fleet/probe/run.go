package probe

import (
	"context"
	"time"
)

// Run looks once, within the timeout of the spec or of ctx, whichever is
// shorter. It never panics on what it is sent, and always returns.
func Run(ctx context.Context, s Spec, e Env) Result {
	return Result{Probe: s.Name, Function: s.Function, Node: s.Node, Signal: s.Kind, At: e.now(), Inconclusive: true, Code: NotAvailable, Words: "Not built yet."}
}

// DefaultTimeout is how long a look of a kind may take where nothing says.
func DefaultTimeout(kind Signal) time.Duration { return 3 * time.Second }
