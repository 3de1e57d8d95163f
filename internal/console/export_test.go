package console

import (
	"context"
	"net/http"
	"time"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/principal"
)

// FleetAlone serves the page of the fleet for a fleet that a test made up:
// states that take a quarter of an hour of partitions to come about.
func FleetAlone(f *Fleet, now time.Time) http.Handler {
	c := &Console{Options: Options{Fleet: f, Mode: "production", Clock: func() time.Time { return now }}, assets: loadAssets()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+toStatic+"/{hash}/{name}", c.assets.serve)
	mux.HandleFunc("GET "+toFleet, func(w http.ResponseWriter, r *http.Request) {
		v := &visit{c: c, w: w, r: r, nonce: newNonce(), now: now}
		if err := c.fleetPage(r.Context(), v); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	return mux
}

// Night is what a test has the page Command see.
type Night struct {
	Fleet      *Fleet
	Timelines  func() ([]*incident.Timeline, error)
	Recoveries func() ([]recovery.Shown, error)
	Database   bool
	Now        time.Time
}

// CommandAlone serves the page for the night of a test's making: clocks that
// are nearly out, votes that are gone.
func CommandAlone(n Night) http.Handler {
	c := &Console{Options: Options{Fleet: n.Fleet, Mode: "production", Clock: func() time.Time { return n.Now }}, assets: loadAssets()}
	c.eyes = eyes{database: func() bool { return n.Database },
		timelines: func(context.Context, principal.Principal) ([]*incident.Timeline, map[string]error, error) {
			all, err := n.Timelines()
			return all, nil, err
		},
		runs: func(context.Context, principal.Principal) ([]recovery.Shown, error) { return n.Recoveries() }}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+toStatic+"/{hash}/{name}", c.assets.serve)
	alone := func(path string, show func(v *visit) error) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			v := &visit{c: c, w: w, r: r, nonce: newNonce(), now: n.Now}
			v.secure()
			if err := show(v); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	everything := func(policy.Action) bool { return true }
	alone(toIncidents+"/{id}", func(v *visit) error {
		all, _ := n.Timelines()
		d := incidentData{v: v, now: n.Now, t: all[0], brief: all[0].Brief(n.Now), may: everything}
		d.cut(0)
		return v.show(page{Title: d.t.State.Title, Live: true}, incidentBody(d))
	})
	alone(toRecoveries+"/{id}", func(v *visit) error {
		all, _ := n.Recoveries()
		return v.show(page{Title: all[0].Title, Live: true}, runBody(runData{v: v, now: n.Now, run: all[0], may: everything}))
	})
	alone(toCommand, func(v *visit) error { return c.commandPage(v.r.Context(), v) })
	return mux
}
