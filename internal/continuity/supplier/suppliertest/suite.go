package suppliertest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/supplier"
)

// World is a supplier with the server 321, which is on and tells its power.
type World struct {
	Machines supplier.Machines
	Sim      *Simulator
	On, Off  string // the supplier's own words
	Button   string // path part of the act
	Wrong    supplier.Machines
}

// quick waits for nothing, and lets a clock go on.
func quick() supplier.Options {
	now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	return supplier.Options{Patience: 10 * time.Second, Every: time.Second, Apart: 5 * time.Second,
		Clock: func() time.Time { return now },
		Wait: func(ctx context.Context, d time.Duration) error {
			now = now.Add(d)
			return ctx.Err()
		}}
}

// Suite is what every supplier must do.
func Suite(t *testing.T, open func(t *testing.T, clock func() time.Time) World) {
	for name, test := range map[string]func(*testing.T, World, supplier.Options){
		"a receipt is given for a server that was read back as off twice": func(t *testing.T, w World, o supplier.Options) {
			r, err := supplier.SwitchOff(t.Context(), w.Machines, "321", o)
			if err != nil || r.First.Power != supplier.Off || r.Second.Power != supplier.Off || r.Second.At.Sub(r.First.At) < 5*time.Second || r.Already || w.Sim.Word(321) != w.Off {
				t.Fatalf("%+v, %v", r, err)
			}
			if f := r.Facts(); f["state"] != "off" || f["supplier_says"] != w.Off || f["server"] != "321" {
				t.Errorf("%v", f)
			}
		},
		"a server that goes off slowly is waited for": func(t *testing.T, w World, o supplier.Options) {
			w.Sim.Slow = 3
			if r, err := supplier.SwitchOff(t.Context(), w.Machines, "321", o); err != nil || r.Second.Power != supplier.Off {
				t.Fatalf("%+v, %v", r, err)
			}
		},
		"a supplier that says done and has not done it gives no receipt": func(t *testing.T, w World, o supplier.Options) {
			w.Sim.Break(Fault{Method: "POST", Lie: true, Always: true})
			if _, err := supplier.SwitchOff(t.Context(), w.Machines, "321", o); !errors.Is(err, supplier.ErrNotOff) {
				t.Fatal(err)
			}
			if w.Sim.Count("POST") != 3 {
				t.Errorf("asked %d times", w.Sim.Count("POST"))
			}
		},
		"a server that is on again at the second look is switched off again": func(t *testing.T, w World, o supplier.Options) {
			w.Sim.Bounce = 1
			r, err := supplier.SwitchOff(t.Context(), w.Machines, "321", o)
			if err != nil || w.Sim.Count("POST") != 2 || w.Sim.Word(321) != w.Off {
				t.Fatalf("%+v, %v, asked %d times", r, err, w.Sim.Count("POST"))
			}
		},
		"one that never stays off gives no receipt": func(t *testing.T, w World, o supplier.Options) {
			w.Sim.Bounce = 100
			if _, err := supplier.SwitchOff(t.Context(), w.Machines, "321", o); !errors.Is(err, supplier.ErrNotOff) {
				t.Fatal(err)
			}
		},
		"a server that is off already is not touched": func(t *testing.T, w World, o supplier.Options) {
			w.Sim.Set(321, w.Off)
			r, err := supplier.SwitchOff(t.Context(), w.Machines, "321", o)
			if err != nil || !r.Already || w.Sim.Count("POST") != 0 || w.Sim.Word(321) != w.Off {
				t.Fatalf("%+v, %v, %v", r, err, w.Sim.Calls())
			}
		},
		"an answer that is lost is no failure: what counts is read back": func(t *testing.T, w World, o supplier.Options) {
			w.Sim.Break(Fault{Method: "POST", Lose: true})
			if r, err := supplier.SwitchOff(t.Context(), w.Machines, "321", o); err != nil || r.Second.Power != supplier.Off {
				t.Fatalf("%+v, %v", r, err)
			}
		},
		"an act that is answered 503 may have been done: it is read back": func(t *testing.T, w World, o supplier.Options) {
			w.Sim.Break(Fault{Method: "POST", Status: 503, Code: "unavailable"})
			if r, err := supplier.SwitchOff(t.Context(), w.Machines, "321", o); err != nil || r.Second.Power != supplier.Off {
				t.Fatalf("%+v, %v", r, err)
			}
		},
		"a question that is answered 503 or lost is asked again": func(t *testing.T, w World, o supplier.Options) {
			w.Sim.Break(Fault{Method: "GET", Status: 503, Code: "unavailable"})
			w.Sim.Break(Fault{Method: "GET", Lose: true, After: 2})
			if _, err := supplier.SwitchOff(t.Context(), w.Machines, "321", o); err != nil {
				t.Fatal(err)
			}
		},
		"what refuses is not asked again": func(t *testing.T, w World, o supplier.Options) {
			w.Sim.Break(Fault{Method: "POST", Status: http.StatusForbidden, Code: "forbidden", Always: true})
			if _, err := supplier.SwitchOff(t.Context(), w.Machines, "321", o); !errors.Is(err, supplier.ErrRefused) {
				t.Fatal(err)
			}
			if w.Sim.Count("POST") != 1 {
				t.Errorf("asked %d times", w.Sim.Count("POST"))
			}
		},
		"wrong credentials are shown once and never again": func(t *testing.T, w World, o supplier.Options) {
			for range 5 {
				if _, err := supplier.SwitchOff(t.Context(), w.Wrong, "321", o); !errors.Is(err, supplier.ErrKey) {
					t.Fatal(err)
				}
			}
			if n := len(w.Sim.Calls()); n != 1 {
				t.Errorf("shown %d times", n)
			}
		},
		"a server that the supplier does not have is none": func(t *testing.T, w World, o supplier.Options) {
			if _, err := supplier.SwitchOff(t.Context(), w.Machines, "999", o); !errors.Is(err, supplier.ErrAbsent) {
				t.Fatal(err)
			}
		},
		"what is no number of a server comes into no path": func(t *testing.T, w World, o supplier.Options) {
			for _, id := range []string{"", "0", "-1", "321/actions/reset", "../321", "321?x=1", " 321", "0321"} {
				if _, err := supplier.SwitchOff(t.Context(), w.Machines, id, o); err == nil {
					t.Errorf("%q was switched off", id)
				}
			}
			if len(w.Sim.Calls()) != 0 {
				t.Errorf("%v", w.Sim.Calls())
			}
		},
		"a supplier that hangs is left when nobody waits any more": func(t *testing.T, w World, o supplier.Options) {
			hang, reached := make(chan struct{}), make(chan struct{})
			defer close(hang)
			w.Sim.Break(Fault{Method: "GET", Hang: hang, Reached: reached})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				<-reached
				cancel()
			}()
			if _, err := supplier.SwitchOff(ctx, w.Machines, "321", o); !errors.Is(err, supplier.ErrUnreachable) {
				t.Fatal(err)
			}
		},
		"no error holds a credential": func(t *testing.T, w World, o supplier.Options) {
			_, err := supplier.SwitchOff(t.Context(), w.Wrong, "321", o)
			if err == nil || strings.Contains(err.Error(), "wrong-secret") {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := quick()
			test(t, open(t, o.Clock), o)
		})
	}
}
