package daemon

import (
	"fmt"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/console"
)

// Mend says what to do about the fleet's database as it is; empty: nothing.
func (f *FleetDatabase) Mend() string {
	switch {
	case f == nil:
		return ""
	case f.State == DatabaseFenced && strings.Contains(f.Words, "rejoins"):
		return "What only this disk has: foundry database reconcile, on a node that uses the fleet's database. Then stop this node, run foundry database rejoin, and start it."
	case f.State == DatabaseFenced:
		return "Stop this node, run foundry database rejoin, and start it: the fleet says whether it may run the database again."
	case f.State == DatabaseWaiting:
		return "Bring most members of the fleet back: foundry node status says who answers."
	case f.State == DatabaseNone:
		return "Start the node that was the primary, or recover it on another: foundry recovery plans. Gateways keep what they answer in their journals meanwhile."
	}
	return ""
}

// Lines are how the fleet's database is, as two columns for a terminal.
func (f *FleetDatabase) Lines(now time.Time) (out [][2]string) {
	if f == nil {
		return nil
	}
	primary := f.Primary
	if primary == "" {
		primary = "nobody"
	}
	out = append(out, [2]string{"Fleet's database", fmt.Sprintf("%s: %s, epoch %d", f.State, primary, f.Epoch)}, [2]string{"", f.Words})
	if f.Own > 0 && f.Own != f.Epoch {
		out = append(out, [2]string{"", fmt.Sprintf("The data on this node are of epoch %d.", f.Own)})
	}
	if f.State == DatabasePrimary {
		lease := "The fleet has one voter: the database runs here without end."
		if left := f.Until.Sub(now); !f.Until.IsZero() && left < 24*time.Hour {
			lease = fmt.Sprintf("Without another answer of the fleet it stops here in %s.", max(0, left).Round(100*time.Millisecond))
		}
		out = append(out, [2]string{"", lease})
	}
	if r := f.Reshipped; r != nil {
		replayed, lost := r.Count()
		out = append(out, [2]string{"", fmt.Sprintf("Of this gateway's journal it lacked %d records when it came: %d were shipped again, %d are in no journal any more.", replayed+lost, replayed, lost)})
	}
	if mend := f.Mend(); mend != "" {
		out = append(out, [2]string{"", mend})
	}
	return out
}

// consoleDatabase is the same for the console.
func (d *Daemon) consoleDatabase() *console.FleetDatabase {
	f := d.FleetDatabase()
	if f == nil {
		return nil
	}
	out := &console.FleetDatabase{State: f.State, Words: f.Words, Primary: f.Primary, Epoch: f.Epoch, Own: f.Own, Until: f.Until, Next: f.Next}
	if f.Reshipped != nil {
		replayed, lost := f.Reshipped.Count()
		out.Lacked, out.Gone = replayed+lost, lost
	}
	return out
}
