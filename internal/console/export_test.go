package console

import (
	"net/http"
	"time"
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
