package fleet

import (
	"slices"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/probe"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/plan"
)

const shopPlan = `
version: 1
organisation: {name: Shop}
nodes:
  - {name: one}
  - {name: two}
  - {name: night, isolated: true}
functions:
  - name: shop
    host: [one]
    probes:
      - {name: page, kind: https, target: "https://shop.example.org/"}
      - {name: unit, kind: systemd, target: shop.service}
  - name: till
    host: [two]
    probes: [{name: port, kind: tcp, target: "two:5432", from: [one]}]
  - name: alone
    host: [night]
    probes: [{name: page, kind: https, target: "https://night.example.org/"}]
  - {name: unseen, host: [two]}
scenarios:
  - {name: one-lost, kind: node-loss, loses: [one], confirm_within: 15 s}
  - {name: two-lost, kind: node-loss, loses: [two], confirm_within: 2 s}
  - {name: alone-lost, kind: node-loss, loses: [alone], confirm_within: 30 min}
`

func TestAPlanSaysWhoLooksAndHowSoonALossIsConfirmed(t *testing.T) {
	t.Parallel()
	p, err := plan.Parse("shop.yaml", []byte(shopPlan))
	if err != nil {
		t.Fatal(err)
	}
	type wanted struct {
		from    []string
		confirm time.Duration
	}
	want := map[string]wanted{
		"function/shop":   {[]string{"one", "two"}, 15 * time.Second},
		"function/till":   {[]string{"one"}, quickest}, // no quicker, whatever the plan says
		"function/alone":  {[]string{"night"}, 0},      // the fleet's own time is sooner
		"function/unseen": {nil, quickest},
		"node/one":        {nil, 15 * time.Second},
		"node/two":        {nil, quickest},
	}
	for _, s := range subjectsOf(&p.File, []string{"night", "one", "two"}) {
		w, ok := want[s.Name]
		if !ok || !slices.Equal(s.From, w.from) || s.Confirm != w.confirm {
			t.Errorf("%s is looked at by %v and confirmed within %s; want %v and %s", s.Name, s.From, s.Confirm, w.from, w.confirm)
		}
		delete(want, s.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	if got := subjectsOf(nil, []string{"one"}); got != nil {
		t.Errorf("without a plan: %v", got)
	}
}

func TestWhatOnlySomethingAliveCanAnswerIsKnownByTheCodesOfProbes(t *testing.T) {
	t.Parallel()
	for _, code := range []probe.Code{probe.BadCert, probe.TLSVersion, probe.BadStatus, probe.BadContent, probe.BadRedirect, probe.TooMuch, probe.Protocol, probe.ReadOnly,
		probe.NotStandby, probe.Lag, probe.Starting, probe.Busy, probe.Credentials, probe.AuthMethods, probe.HostKey} {
		if !verdict.Answered(string(code)) {
			t.Errorf("%s comes from something that answers", code)
		}
	}
	for _, code := range []probe.Code{"", probe.Timeout, probe.Refused, probe.Reset, probe.NoRoute, probe.NoName, probe.TLSFailed, probe.NotActive, probe.NoControl} {
		if verdict.Answered(string(code)) {
			t.Errorf("%q shows nobody alive", code)
		}
	}
}

const outsidePlan = `
version: 1
organisation: {name: Shop}
nodes:
  - {name: one}
  - {name: two}
  - {name: night, isolated: true}
functions:
  - {name: mill, host: [one], probes: [{name: page, kind: https, target: "https://shop.example.org/"}]}
watches:
  - name: mill
    probes:
      - {name: page, kind: https, target: "https://mill.example.net/"}
      - {name: port, kind: tcp, target: "one:443", from: [two]}
      - {name: database, kind: postgresql, target: "mill.example.net:5432"}
`

// What another fleet is called, and where it says that it is, makes it neither
// a node nor a function of this one; and it is looked at by what is public.
func TestAnotherFleetIsLookedAtFromOutsideAndIsNothingOfThisOne(t *testing.T) {
	t.Parallel()
	p, err := plan.Parse("shop.yaml", []byte(outsidePlan))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"one": {"outside mill/page"}, "two": {"outside mill/page", "outside mill/port"}, "night": nil}
	for node, names := range want {
		var got []string
		for _, spec := range probe.FromPlan(&p.File, node) {
			if spec.Outside == "" {
				continue
			}
			got = append(got, spec.Name)
			if spec.Function != "" || spec.Node != "" || spec.Outside != "mill" {
				t.Errorf("%+v", spec)
			}
		}
		if !slices.Equal(got, names) {
			t.Errorf("%s looks by %q", node, got)
		}
	}
	for _, s := range subjectsOf(&p.File, []string{"night", "one", "two"}) {
		if s.Name == verdict.Outside("mill") && (!slices.Equal(s.From, []string{"one", "two"}) || len(s.Hosts) > 0) || s.Name == verdict.Function("mill") && !slices.Equal(s.From, []string{"one", "two"}) {
			t.Errorf("%+v", s)
		}
	}
}
