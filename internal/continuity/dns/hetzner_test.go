package dns_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/continuity/dns"
	"github.com/missionopsai/foundry/internal/continuity/dns/hetznersim"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestHetznersAnswersAreSaidInWords(t *testing.T) {
	for name, c := range map[string]struct {
		fault hetznersim.Fault
		want  error
		code  string
	}{
		"the token is wrong":         {hetznersim.Fault{Method: "POST", Status: 401, Code: "unauthorized", Always: true}, dns.ErrKey, "dns-key-wrong"},
		"the token may only read":    {hetznersim.Fault{Method: "POST", Status: 403, Code: "forbidden", Always: true}, dns.ErrRefused, "dns-refused"},
		"it is asked too often":      {hetznersim.Fault{Method: "POST", Status: 429, Code: "rate_limit_exceeded", Always: true}, dns.ErrUnreachable, "dns-busy"},
		"the zone is a secondary":    {hetznersim.Fault{Method: "POST", Status: 422, Code: "incorrect_zone_mode", Always: true}, dns.ErrRefused, "dns-refused"},
		"it fails while it changes":  {hetznersim.Fault{Method: "POST", Status: 500, Code: "server_error", Always: true}, dns.ErrUnknown, "dns-outcome-unknown"},
		"it begins and cannot do it": {hetznersim.Fault{Method: "POST", Fail: true, Always: true}, dns.ErrUnreachable, "dns-provider-failed"},
	} {
		h, sim := simulated(t)
		m := mover(t, h, func(o *dns.Options) { o.Attempts = 2 })
		plan := prepared(t, m, 7, to("api.example.eu", "192.0.2.7"))
		sim.Break(c.fault)
		r, err := m.Apply(t.Context(), plan)
		if !errors.Is(err, c.want) || code(err) != c.code || r.Zones[0].State != dns.NotMoved || problem.From(err).Mend == "" && c.code != "dns-outcome-unknown" {
			t.Errorf("%s: %q %v %+v", name, code(err), err, r)
		}
		if strings.Contains(err.Error(), "token-of-the-test") {
			t.Errorf("%s: the token is in the error", name)
		}
	}
}

func TestAnAnswerOfHetznersThatIsLostIsFoundOutByLooking(t *testing.T) {
	for after := range 3 { // the epoch, the TTL, the address
		h, sim := simulated(t)
		m := mover(t, h)
		plan := prepared(t, m, 7, to("api.example.eu", "192.0.2.7"))
		sim.Break(hetznersim.Fault{Method: "POST", After: after, Lose: true})
		r, err := m.Apply(t.Context(), plan)
		if err != nil || r.Zones[0].State != dns.Moved {
			t.Errorf("after %d: %+v %v", after, r, err)
		}
	}
}

func TestACutoverThatHetznerMadeHalfIsSaidAndFinishedLater(t *testing.T) {
	h, sim := simulated(t)
	m := mover(t, h, func(o *dns.Options) { o.Attempts = 2 })
	plan := prepared(t, m, 7, to("api.example.eu", "192.0.2.7"), to("new.example.eu", "192.0.2.7"))
	sim.Break(hetznersim.Fault{Method: "POST", Path: "set_records", Status: 423, Code: "locked", Always: true})
	r, err := m.Apply(t.Context(), plan)
	if r.Zones[0].State != dns.Partly || code(err) != "dns-half-moved" {
		t.Fatalf("%+v %v", r, err)
	}
	sim.Mend()
	again, err := m.Prepare(t.Context(), dns.Cutover{Epoch: 7, Sets: []dns.Set{to("api.example.eu", "192.0.2.7"), to("new.example.eu", "192.0.2.7")}})
	if err != nil || again.Zones[0].Done {
		t.Fatal(again, err)
	}
	if r, err = m.Apply(t.Context(), plan); err != nil || r.Zones[0].State != dns.Moved {
		t.Fatalf("%+v %v", r, err)
	}
}

// A newer cutover is made while an older one is between its own two writes.
func TestAnOlderCutoverStopsWhenHetznerShowsItANewerOne(t *testing.T) {
	// Before its second write it looks again, and stops; a newer one that comes
	// between that look and the write is overwritten, which is said.
	for path, stands := range map[string]string{"change_ttl": "192.0.2.8", "set_records": "192.0.2.7"} {
		h, sim := simulated(t)
		old := prepared(t, mover(t, h), 7, to("api.example.eu", "192.0.2.7"))
		newer := mover(t, h)
		sim.Break(hetznersim.Fault{Method: "POST", Path: path, Do: func() {
			if r, err := newer.Apply(t.Context(), prepared(t, newer, 8, to("api.example.eu", "192.0.2.8"))); err != nil || !r.Complete() {
				t.Errorf("%+v %v", r, err)
			}
		}})
		r, err := mover(t, h).Apply(t.Context(), old)
		if !errors.Is(err, dns.ErrStale) || r.Complete() || !strings.Contains(err.Error(), "cannot refuse the older of two by itself") {
			t.Fatalf("%+v %v", r, err)
		}
		have, err := h.Read(t.Context(), "example.eu", []dns.Key{{Name: "api.example.eu", Type: "A"}})
		if err != nil || have[0].Values[0] != stands {
			t.Fatal(path, have, err)
		}
		// What the error says to do mends it.
		if r, err := newer.Apply(t.Context(), prepared(t, newer, 8, to("api.example.eu", "192.0.2.8"))); err != nil || !r.Complete() {
			t.Fatalf("%+v %v", r, err)
		}
		if have, err = h.Read(t.Context(), "example.eu", []dns.Key{{Name: "api.example.eu", Type: "A"}}); err != nil || have[0].Values[0] != "192.0.2.8" {
			t.Fatal(path, have, err)
		}
	}
}

func TestHetznerIsAskedOverHTTPSOnlyAndNotRedirected(t *testing.T) {
	h, _ := simulated(t)
	h.Endpoint = strings.Replace(h.Endpoint, "https", "http", 1)
	if h.Check() == nil {
		t.Error("http is accepted")
	}
	h, sim := simulated(t)
	sim.Break(hetznersim.Fault{Status: http.StatusFound, Code: "moved"})
	if _, err := h.Read(t.Context(), "example.eu", []dns.Key{{Name: "api.example.eu", Type: "A"}}); err == nil {
		t.Error("a redirect is an answer")
	}
}
