package daemon

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/notify"
)

// fallbackTold makes heard that requests go elsewhere because the fleet's own
// models are away, and at the end what that cost. It is called in the
// transaction that writes it down: either both happen or neither.
func (d *Daemon) fallbackTold(ctx context.Context, tx pgx.Tx, f ledger.Fallback) error {
	if d.outbox == nil {
		return errors.New("the outbox is not open yet") // tried again
	}
	facts := map[string]string{"provider": f.Provider, "began": inMail(f.Began), "next": "foundry route explain"}
	severity, code := notify.Warning, "fallback-began."
	if !f.Ended.IsZero() {
		severity, code = notify.Info, "fallback-ended."
		facts["ended"], facts["requests"] = inMail(f.Ended), strconv.FormatInt(f.Requests, 10)
		facts["organisations"], facts["cost"] = strconv.Itoa(f.Organisations), sumText(f.Cost)
		facts["cost-at-home"] = "0"
	}
	// Each fallback is an alarm of its own: the sum at its end must not be
	// counted silently into the one before.
	_, err := d.outbox.Alarm(ctx, tx, severity, code+f.ID.String(), uuid.Nil, facts)
	if err == nil {
		d.log.Warn("requests that the fleet's own models come first for", "provider", f.Provider, "ended", !f.Ended.IsZero(), "requests", f.Requests, "cost", sumText(f.Cost))
	}
	return err
}

func sumText(sums []ledger.Amount) string {
	var parts []string
	for _, a := range sums {
		parts = append(parts, ledger.Money(a.Nano, a.Currency))
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, ", ")
}
