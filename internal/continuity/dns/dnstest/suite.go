package dnstest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/dns"
)

// World is a provider with a zone, in which api.<zone> has the address
// 192.0.2.1 with a TTL of 60 seconds, and nothing else is.
type World struct {
	Provider dns.Provider
	Zone     string
}

// Mover makes a mover for a world.
func (w World) Mover(t testing.TB) *dns.Mover {
	t.Helper()
	m, err := dns.New(dns.Options{Zones: []dns.Zone{{Name: w.Zone, Provider: w.Provider}}, Pause: func(int) time.Duration { return time.Millisecond }, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (w World) set(name string, values ...string) dns.Set {
	s := dns.Set{Key: dns.Key{Name: name + "." + w.Zone, Type: "A"}, TTL: 30, Values: values}
	if len(values) == 0 {
		s.TTL = 0
	}
	return s
}

func (w World) read(t testing.TB, names ...string) string {
	t.Helper()
	var keys []dns.Key
	for _, n := range names {
		keys = append(keys, dns.Key{Name: n + "." + w.Zone, Type: "A"})
	}
	have, err := w.Provider.Read(t.Context(), w.Zone, keys)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range have {
		out = append(out, strings.Join(s.Values, ","))
	}
	return strings.Join(out, " ")
}

// move prepares and applies.
func (w World) move(t testing.TB, epoch uint64, sets ...dns.Set) (dns.Plan, dns.Receipt, error) {
	t.Helper()
	m := w.Mover(t)
	p, err := m.Prepare(t.Context(), dns.Cutover{Epoch: epoch, Sets: sets})
	if err != nil {
		return p, dns.Receipt{}, err
	}
	r, err := m.Apply(t.Context(), p)
	return p, r, err
}

// Suite is what every provider of zones must do.
func Suite(t *testing.T, open func(t *testing.T) World) {
	for name, test := range map[string]func(*testing.T, World){
		"reading says what is there and what is not":               reads,
		"a swap replaces, adds and removes":                        swaps,
		"a swap of what has changed meanwhile changes nothing":     keeps,
		"a dry run changes nothing and says what was there":        dryRun,
		"an older epoch is refused":                                older,
		"another cutover of the same epoch is refused":             sameEpoch,
		"the same cutover twice is one":                            twice,
		"what was there before can be put back":                    back,
		"a plan that was prepared before a newer cutover loses":    overtaken,
		"of two cutovers that race, the zone holds all of one":     race,
		"an alias is not left beside addresses":                    alias,
		"a cutover that removes a name removes it and can restore": removes,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func reads(t *testing.T, w World) {
	have, err := w.Provider.Read(t.Context(), w.Zone, []dns.Key{{Name: "none." + w.Zone, Type: "A"}, {Name: "api." + w.Zone, Type: "A"}, {Name: "api." + w.Zone, Type: "AAAA"}})
	if err != nil || len(have) != 3 || len(have[0].Values) != 0 || fmt.Sprint(have[1].Values) != "[192.0.2.1]" || have[1].TTL != 60 || len(have[2].Values) != 0 {
		t.Fatal(have, err)
	}
}

func swaps(t *testing.T, w World) {
	was := dns.Set{Key: w.set("api").Key, TTL: 60, Values: []string{"192.0.2.1"}}
	six := dns.Set{Key: dns.Key{Name: "new." + w.Zone, Type: "AAAA"}, TTL: 30, Values: []string{"2001:db8::7"}}
	name := dns.Set{Key: dns.Key{Name: "other." + w.Zone, Type: "CNAME"}, TTL: 30, Values: []string{"api." + w.Zone}}
	err := w.Provider.Swap(t.Context(), w.Zone, []dns.Change{{Before: was, After: w.set("api", "192.0.2.7", "192.0.2.8")}, {Before: dns.Set{Key: six.Key}, After: six}, {Before: dns.Set{Key: name.Key}, After: name}})
	if err != nil || w.read(t, "api") != "192.0.2.7,192.0.2.8" {
		t.Fatal(w.read(t, "api"), err)
	}
	have, err := w.Provider.Read(t.Context(), w.Zone, []dns.Key{w.set("api").Key, six.Key, name.Key})
	if err != nil || have[0].TTL != 30 || !have[1].Same(six) || !have[2].Same(name) {
		t.Fatal(have, err)
	}
	if err := w.Provider.Swap(t.Context(), w.Zone, []dns.Change{{Before: have[0], After: w.set("api")}}); err != nil || w.read(t, "api") != "" {
		t.Fatal(w.read(t, "api"), err)
	}
}

func keeps(t *testing.T, w World) {
	new := dns.Change{Before: w.set("new"), After: w.set("new", "192.0.2.9")}
	for name, c := range map[string]dns.Change{
		"another value": {Before: w.set("api", "192.0.2.99"), After: w.set("api", "192.0.2.7")},
		"it is there":   {Before: w.set("api"), After: w.set("api", "192.0.2.7")},
		"it is gone":    {Before: w.set("none", "192.0.2.1"), After: w.set("none", "192.0.2.7")},
	} {
		err := w.Provider.Swap(t.Context(), w.Zone, []dns.Change{new, c})
		if !errors.Is(err, dns.ErrLostRace) || w.read(t, "api", "new", "none") != "192.0.2.1  " {
			t.Errorf("%s: %v, %q", name, err, w.read(t, "api", "new", "none"))
		}
	}
}

func dryRun(t *testing.T, w World) {
	p, err := w.Mover(t).Prepare(t.Context(), dns.Cutover{Epoch: 7, Sets: []dns.Set{w.set("api", "192.0.2.7"), w.set("new", "192.0.2.7")}})
	if err != nil || w.read(t, "api", "new") != "192.0.2.1 " {
		t.Fatal(err)
	}
	ch := p.Zones[0].Changes
	if len(ch) != 2 || fmt.Sprint(ch[0].Before.Values, ch[0].Before.TTL, ch[1].Before.Values) != "[192.0.2.1] 60 []" || p.Zones[0].Done {
		t.Errorf("%+v", p)
	}
}

func older(t *testing.T, w World) {
	if _, r, err := w.move(t, 7, w.set("api", "192.0.2.7")); err != nil || !r.Complete() {
		t.Fatal(r, err)
	}
	_, _, err := w.move(t, 6, w.set("api", "192.0.2.6"))
	if !errors.Is(err, dns.ErrStale) || w.read(t, "api") != "192.0.2.7" {
		t.Fatal(w.read(t, "api"), err)
	}
}

func sameEpoch(t *testing.T, w World) {
	if _, _, err := w.move(t, 7, w.set("api", "192.0.2.7")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.move(t, 7, w.set("api", "192.0.2.8")); !errors.Is(err, dns.ErrEpochUsed) || w.read(t, "api") != "192.0.2.7" {
		t.Fatal(w.read(t, "api"), err)
	}
}

func twice(t *testing.T, w World) {
	p, first, err := w.move(t, 7, w.set("api", "192.0.2.7"))
	if err != nil || first.Zones[0].State != dns.Moved {
		t.Fatal(first, err)
	}
	// The executor died before it knew: it applies the plan that it kept.
	again, err := w.Mover(t).Apply(t.Context(), p)
	if err != nil || again.Zones[0].State != dns.Already {
		t.Fatalf("%+v %v", again, err)
	}
	// It died before it kept the plan: it prepares again.
	_, third, err := w.move(t, 7, w.set("api", "192.0.2.7"))
	if err != nil || third.Zones[0].State != dns.Already {
		t.Fatalf("%+v %v", third, err)
	}
}

func back(t *testing.T, w World) {
	p, _, err := w.move(t, 7, w.set("api", "192.0.2.7"), w.set("new", "192.0.2.7"))
	if err != nil || w.read(t, "api", "new") != "192.0.2.7 192.0.2.7" {
		t.Fatal(err)
	}
	if _, _, err := w.move(t, 7, p.Back(7).Sets...); !errors.Is(err, dns.ErrEpochUsed) {
		t.Errorf("back under the same epoch: %v", err)
	}
	if _, _, err := w.move(t, 8, p.Back(8).Sets...); err != nil || w.read(t, "api", "new") != "192.0.2.1 " {
		t.Fatal(w.read(t, "api", "new"), err)
	}
	have, err := w.Provider.Read(t.Context(), w.Zone, []dns.Key{w.set("api").Key})
	if err != nil || have[0].TTL != 60 {
		t.Errorf("the TTL was not put back: %+v %v", have, err)
	}
}

func overtaken(t *testing.T, w World) {
	m := w.Mover(t)
	slow, err := m.Prepare(t.Context(), dns.Cutover{Epoch: 7, Sets: []dns.Set{w.set("api", "192.0.2.7")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.move(t, 8, w.set("api", "192.0.2.8")); err != nil {
		t.Fatal(err)
	}
	r, err := m.Apply(t.Context(), slow)
	if !errors.Is(err, dns.ErrStale) || r.Zones[0].State != dns.NotMoved || w.read(t, "api") != "192.0.2.8" {
		t.Fatalf("%+v %v %s", r, err, w.read(t, "api"))
	}
}

func race(t *testing.T, w World) {
	m := w.Mover(t)
	var plans []dns.Plan
	for n := range 4 {
		v := fmt.Sprintf("192.0.2.%d", 10+n)
		p, err := m.Prepare(t.Context(), dns.Cutover{Epoch: uint64(10 + n), Sets: []dns.Set{w.set("api", v), w.set("new", v)}})
		if err != nil {
			t.Fatal(err)
		}
		plans = append(plans, p)
	}
	var wg sync.WaitGroup
	won := make([]bool, len(plans))
	for i, p := range plans {
		wg.Go(func() {
			r, _ := m.Apply(t.Context(), p)
			won[i] = r.Complete()
		})
	}
	wg.Wait()
	if !w.Provider.Atomic() {
		// Whoever won, the newest decision prepared anew stands whole.
		if _, _, err := w.move(t, 20, w.set("api", "192.0.2.20"), w.set("new", "192.0.2.20")); err != nil || w.read(t, "api", "new") != "192.0.2.20 192.0.2.20" {
			t.Fatal(w.read(t, "api", "new"), err)
		}
		return
	}
	wins := 0
	for i, ok := range won {
		if v := fmt.Sprintf("192.0.2.%d", 10+i); ok {
			wins++
			if w.read(t, "api", "new") != v+" "+v {
				t.Errorf("epoch %d says that it won, and the zone holds %s", 10+i, w.read(t, "api", "new"))
			}
		}
	}
	if wins != 1 {
		t.Errorf("%d of the cutovers won: %v", wins, won)
	}
}

func alias(t *testing.T, w World) {
	cname := dns.Set{Key: dns.Key{Name: "api." + w.Zone, Type: "CNAME"}, TTL: 30, Values: []string{"elsewhere." + w.Zone}}
	if _, _, err := w.move(t, 7, cname); !errors.Is(err, dns.ErrAlias) || w.read(t, "api") != "192.0.2.1" {
		t.Fatal(err)
	}
	if _, r, err := w.move(t, 7, cname, w.set("api")); err != nil || !r.Complete() {
		t.Fatal(r, err)
	}
	have, err := w.Provider.Read(t.Context(), w.Zone, []dns.Key{cname.Key})
	if err != nil || !have[0].Same(cname) {
		t.Fatal(have, err)
	}
}

func removes(t *testing.T, w World) {
	p, r, err := w.move(t, 7, w.set("api"))
	if err != nil || !r.Complete() || w.read(t, "api") != "" {
		t.Fatal(r, err)
	}
	if _, _, err := w.move(t, 8, p.Back(8).Sets...); err != nil || w.read(t, "api") != "192.0.2.1" {
		t.Fatal(err)
	}
}
