package console

import (
	"fmt"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/survivor"
)

// FleetDatabase is the fleet's own database, as this node sees it.
type FleetDatabase struct {
	State, Words string
	Primary      string    // who runs it, as last heard
	Epoch, Own   int64     // of the fleet, and of the data on this node; 0: it has none
	Until        time.Time // until when this node may run it without another answer of the fleet; zero: without end
	Next         string    // what to do; empty: nothing
	Lacked, Gone uint64    // records of this gateway's journal that the newest primary lacked, and those that are in no journal any more
}

var databaseStates = map[string]state{
	"primary": {ok, "Runs here"}, "follows": {ok, "Uses it"}, "starting": {info, "Starting"},
	"none": {bad, "Runs nowhere"}, "fenced": {warn, "Kept down"}, "waiting": {warn, "Waits for the fleet"},
}

func databaseState(name string) state {
	if s, known := databaseStates[name]; known {
		return s
	}
	return state{idle, "Not known"}
}

func databaseEpoch(n int64) string {
	if n == 0 {
		return "in no epoch yet"
	}
	return fmt.Sprintf("in epoch %d", n)
}

func databaseOwn(f *FleetDatabase) string {
	switch {
	case f.Own == 0:
		return "it has no data of it"
	case f.Own != f.Epoch:
		return fmt.Sprintf("its data are of epoch %d", f.Own)
	}
	return "its data are the fleet's"
}

func databaseLeft(f *FleetDatabase, now time.Time) string {
	switch {
	case f.State != "primary":
		return "No"
	case f.Until.IsZero() || f.Until.Sub(now) > 24*time.Hour:
		return "Without end"
	}
	return max(0, f.Until.Sub(now)).Round(time.Second).String()
}

func databaseLeftNote(f *FleetDatabase) string {
	switch {
	case f.State != "primary":
		return "it holds no lease"
	case f.Until.IsZero():
		return "the fleet has one voter"
	}
	return "more, without another answer of the fleet"
}

// backedWords say of who is ready what it found of the backups.
func backedWords(r survivor.Readiness) string {
	if r.Backing == nil || r.Backing.External || r.Backing.Reaches.IsZero() {
		return ""
	}
	return fmt.Sprintf(", and found backups at %s that reached to %s", r.Backing.Target, r.Backing.Reaches.UTC().Format("2006-01-02 15:04 UTC"))
}
