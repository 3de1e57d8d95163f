package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// The oracle says whether a place may get a request, from the rules as the
// documentation states them and with lists of its own. It shares no code with
// the decision.

const (
	oracleEEA = "DE FI FR SE NL IE"
	oracleDay = "2026-11-22" // records in places lapse months before or years after
)

func among(words, code string) bool { return slices.Contains(strings.Fields(words), code) }

func oracleAllows(p sovereignty.Policy, v place, class sovereignty.DataClass, features []string) bool {
	where := append(slices.Clone(v.processing), v.subs...)
	for _, j := range append(slices.Clone(where), v.controller) {
		if !p.Allowed.Has(sovereignty.Jurisdiction(j)) {
			return false
		}
	}
	for _, f := range features {
		if !slices.Contains(p.AllowedFeatures, f) {
			return false
		}
	}
	ceiling := p.Ceilings.Near
	if v.own {
		ceiling = p.Ceilings.Own
	} else {
		where = append(where, v.controller)
		for _, j := range where {
			if !among(oracleEEA, j) && !p.Home.Has(sovereignty.Jurisdiction(j)) {
				ceiling = p.Ceilings.Elsewhere
			}
		}
		if !p.ThirdParties {
			return false
		}
		if class >= p.RequireNoRetention && (v.days > 0 || v.contract <= oracleDay) {
			return false
		}
	}
	return class <= ceiling && oracleLawful(p.Regime, v, where)
}

// oracleLawful asks of every destination that is abroad for the exporter
// whether something on record covers it.
func oracleLawful(regime sovereignty.Regime, v place, where []string) bool {
	for _, j := range where {
		adequate, contracts := among(oracleEEA+" GB", j), "eu-scc"
		if regime == sovereignty.RegimeUK {
			contracts = "idta uk-addendum"
			if j == "US" {
				contracts += " uk-us-bridge"
			}
		}
		covered := adequate
		for _, s := range v.safeguards {
			covered = covered || among(contracts, s.Instrument) && slices.Contains(s.Covers, j) && s.Expires.Format("2006-01-02") > oracleDay
		}
		if !covered {
			return false
		}
	}
	return true
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// somePolicy draws a policy that is valid.
func somePolicy(r *rand.Rand) sovereignty.Policy {
	p := open()
	p.Regime = pick(r, sovereignty.RegimeEU, sovereignty.RegimeUK)
	p.Allowed = pick(r, sovereignty.EEA(), sovereignty.SetOf("DE", "FI"), open().Allowed, sovereignty.EEA().With("US"), sovereignty.EEA().With("GB"), sovereignty.SetOf("FI", "US", "IE"))
	p.Home = sovereignty.SetOf("FI")
	if r.IntN(4) == 0 && p.Allowed.Has("US") {
		p.Home = p.Home.With("US")
	}
	p.ThirdParties = r.IntN(5) > 0
	c := []sovereignty.DataClass{0, 1, 2, 3, 4}
	ceilings := []sovereignty.DataClass{pick(r, c...), pick(r, c...), pick(r, c...)}
	if r.IntN(2) == 0 {
		ceilings = []sovereignty.DataClass{pick(r, c[2:]...), 4, 4}
	}
	slices.Sort(ceilings)
	p.Ceilings = sovereignty.Ceilings{Elsewhere: ceilings[0], Near: ceilings[1], Own: ceilings[2]}
	p.Highest, p.RequireNoRetention = pick(r, c[1:]...), pick(r, c[1:]...)
	p.AllowedFeatures = pick(r, nil, []string{"store"}, []string{"image_url"}, []string{"store", "image_url"})
	return p
}

// trial is one random request under a random policy.
type trial struct {
	question
	class    sovereignty.DataClass
	features []string
	routes   []string
	faults   map[string]string
}

func someTrial(r *rand.Rand, p sovereignty.Policy, floor sovereignty.DataClass) trial {
	m := mixtures[r.IntN(len(mixtures))]
	t := trial{routes: m.places, faults: map[string]string{}}
	t.question = question{model: m.name, mark: fmt.Sprintf("mark-%d-end", serial.Add(1)), stream: r.IntN(2) == 0, header: map[string]string{},
		dialect: pick(r, wire.OpenAI, wire.Anthropic)}
	t.class = max(floor, p.Highest)
	if asked := pick(r, 0, 1, 2, 3, 4); asked > 0 {
		t.header[gateway.ClassHeader] = sovereignty.DataClass(asked).String()
		t.class = max(floor, sovereignty.DataClass(asked))
	}
	if t.dialect == wire.OpenAI && r.IntN(4) == 0 {
		t.extra, t.features = map[string]any{"store": true}, []string{"store"}
	}
	for _, name := range m.places {
		if r.IntN(2) == 0 {
			t.faults[name] = pick(r, "500", "429", "404", "quotes-key", "early-close", "cut", "cut chunk=3", "error-event", "malformed-json", "wrong-content-type", "503", "no-done", "trailing-garbage")
		}
	}
	return t
}

func TestNoRequestEverArrivesWhereThePolicyForbidsIt(t *testing.T) {
	t.Parallel()
	w := abroad.get(t)
	const workers, policies, trials = 12, 5, 5
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var wg sync.WaitGroup
	var mu sync.Mutex
	counts := map[string]int{}
	for n := range workers {
		r := rand.New(rand.NewPCG(seed, uint64(n)))
		floor := pick(r, sovereignty.DataClass(0), sovereignty.Public, sovereignty.Internal, sovereignty.Confidential)
		org := w.org(t, open())
		options := map[string]any{}
		if floor > 0 {
			options["class_floor"] = floor.String()
		}
		token := w.key(t, org, options).Token
		wg.Go(func() {
			for range policies {
				p := somePolicy(r)
				if err := w.call("PUT", "/organisations/"+org+"/policy", p, nil); err != nil {
					t.Error(err)
					return
				}
				for range trials {
					what := w.try(t, token, org, p, someTrial(r, p, floor))
					mu.Lock()
					counts[what]++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%v", counts)
	for _, what := range []string{"refused", "answered", "answered by a fallback", "failed"} {
		if counts[what] < 10 {
			t.Errorf("only %d trials were %s: the trials do not try enough", counts[what], what)
		}
	}
	w.register(t)
}

// try makes one trial and says what became of it.
func (w *world) try(t *testing.T, token, org string, p sovereignty.Policy, tr trial) string {
	for name, fault := range tr.faults {
		board.want(tr.mark, name, fault)
	}
	var allowed []string
	for _, name := range tr.routes {
		if oracleAllows(p, placeNamed(name), tr.class, tr.features) {
			allowed = append(allowed, name)
		}
	}
	r, err := w.ask(t.Context(), token, tr.question)
	if err != nil {
		t.Error(err)
		return "lost"
	}
	about := fmt.Sprintf("%s data to %s, faults %v, features %v, under %+v\nallowed %v: %s", tr.class, tr.model, tr.faults, tr.features, p, allowed, r)
	at := board.at(tr.mark)
	for _, name := range at {
		if !slices.Contains(allowed, name) {
			t.Errorf("arrived at %s, which is forbidden: %s", name, about)
		}
	}
	if len(allowed) == 0 {
		if r.status != 403 {
			t.Errorf("nobody may answer: %s", about)
		}
		return "refused"
	}
	if r.status == 403 {
		t.Errorf("refused although somebody may answer: %s", about)
	}
	switch {
	case r.status == 200 && r.complete && len(at) > 1:
		return "answered by a fallback"
	case r.status == 200 && r.complete:
		if len(at) != 1 {
			t.Errorf("answered, but arrived nowhere: %s", about)
		}
		return "answered"
	case r.status == 200 && !r.errEvent:
		t.Errorf("a stream ended without end or error: %s", about)
	}
	return "failed"
}

// register checks that whatever arrived outside the EEA is in the register.
func (w *world) register(t *testing.T) {
	t.Helper()
	w.shipped(t)
	var requests []ledger.RequestRow
	for after := ""; ; {
		var page api.Requests
		w.must(t, "GET", "/requests?limit=500&after="+after, nil, &page)
		requests = append(requests, page.Requests...)
		if after = page.Next; after == "" {
			break
		}
	}
	entered := map[string]bool{}
	for after := ""; ; {
		var page api.Transfers
		w.must(t, "GET", "/transfers?limit=500&after="+after, nil, &page)
		for _, row := range page.Transfers {
			entered[row.ID.String()+row.Provider] = true
			if row.Restricted && row.Safeguard == "" {
				t.Errorf("a restricted transfer without a safeguard: %+v", row)
			}
		}
		if after = page.Next; after == "" {
			break
		}
	}
	outside := 0
	for _, r := range requests {
		for _, try := range append(r.Tries, ledger.Try{Provider: r.Provider}) {
			i := slices.IndexFunc(places, func(p place) bool { return p.name == try.Provider })
			p := places[i]
			away := false
			for _, j := range append(append(slices.Clone(p.processing), p.subs...), p.controller) {
				away = away || !among(oracleEEA, j)
			}
			if away && try.Reason != "not-translatable" && !entered[r.ID.String()+try.Provider] {
				t.Errorf("request %s went to %s, which the register does not say (%+v)", r.ID, try.Provider, r.Tries)
			}
			if away {
				outside++
			}
		}
	}
	if outside < 20 {
		t.Errorf("only %d transfers happened", outside)
	}
}
