package sovereignty

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestMain draws a thousand cases for each property, not rapid's hundred,
// unless told otherwise.
func TestMain(m *testing.M) {
	_ = flag.Set("rapid.checks", "1000")
	flag.Parse()
	os.Exit(m.Run())
}

// allowedOrders names the allowed candidates by their distinct order.
func allowedOrders(d Decision) []int {
	var out []int
	for _, a := range d.Allowed {
		out = append(out, a.Order)
	}
	return out
}

func subset(a, b []int) bool {
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}

func TestNoInputYieldsAProviderOutsideThePolicyNorRefusesOneInside(t *testing.T) {
	allowed, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		policy, req, candidates := drawPolicy(t), drawRequest(t), drawCandidates(t)
		d := Decide(policy, req, candidates)
		if len(d.Considered) != len(candidates) {
			t.Fatalf("%d of %d considered", len(d.Considered), len(candidates))
		}
		for _, c := range d.Considered {
			want := oraclePermits(policy, req, candidates[c.Index].Provider)
			if c.Allowed != want || want != slices.Contains(allowedOrders(d), c.Order) {
				t.Fatalf("the oracle says %v\n%s", want, d.Text())
			}
			if want {
				allowed++
			} else {
				refused++
			}
		}
		for _, a := range d.Allowed {
			v := candidates[a.Index].Provider
			if !d.Allows(v.Name, "m", req.At) || (!d.ValidUntil().IsZero() && d.Allows(v.Name, "m", d.ValidUntil())) {
				t.Fatal("Allows contradicts the decision or outlives it")
			}
		}
		if (d.Refusal() == nil) != (len(d.Allowed) > 0) || (d.Outcome == OutcomeAllowed) != (len(d.Allowed) > 0) {
			t.Fatal("the outcome does not follow from what is allowed")
		}
		readsBack(t, d)
	})
	t.Logf("%d candidates allowed, %d refused", allowed, refused)
	if allowed == 0 || refused == 0 {
		t.Errorf("the generator draws only one kind: %d allowed, %d refused", allowed, refused)
	}
}

func TestATransferThatIsAllowedIsCoveredInDate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy, req, candidates := drawPolicy(t), drawRequest(t), drawCandidates(t)
		d := Decide(policy, req, candidates)
		for _, c := range d.Considered {
			for _, cover := range c.Transfer.Cover {
				if !cover.Expires.IsZero() && !req.At.Before(cover.Expires) || cover.Reference == "" || !slices.Contains(c.Transfer.Destinations, cover.Destination) {
					t.Fatalf("cover does not count: %+v", cover)
				}
			}
		}
		for _, a := range d.Allowed {
			tr := a.Transfer
			leaves, restricted := false, 0
			for _, j := range tr.Destinations {
				leaves = leaves || !oneOf(j, oracleEEA)
				if policy.Regime == RegimeUK && j != "GB" || policy.Regime == RegimeEU && !oneOf(j, oracleEEA) {
					restricted++
				}
			}
			if tr.LeavesEEA != leaves || tr.Restricted != (restricted > 0) {
				t.Fatalf("leaves %v, restricted %v: %+v", leaves, restricted, tr)
			}
			if len(tr.Cover) != restricted || (tr.Safeguard != nil) != (restricted > 0) {
				t.Fatalf("%d third countries, %d covered, safeguard %v", restricted, len(tr.Cover), tr.Safeguard)
			}
		}
	})
}

func TestAddingACandidateChangesNoneOfTheOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy, req, candidates := drawPolicy(t), drawRequest(t), drawCandidates(t)
		before := Decide(policy, req, candidates)
		extra := Candidate{Provider: drawProvider(t), Model: "extra", Order: rapid.IntRange(-1, 6).Draw(t, "order")}
		after := Decide(policy, req, append(slices.Clone(candidates), extra))
		after.Considered = slices.DeleteFunc(after.Considered, func(c Considered) bool { return c.Model == "extra" })
		after.Allowed = slices.DeleteFunc(after.Allowed, func(a Allowed) bool { return a.Model == "extra" })
		if fmt.Sprintf("%+v", stripped(before)) != fmt.Sprintf("%+v", stripped(after)) {
			t.Fatalf("was\n%s\nis\n%s", before.Text(), after.Text())
		}
	})
}

// stripped renders what a decision says of each candidate.
func stripped(d Decision) []string {
	var out []string
	for _, c := range d.Considered {
		cover := c.Transfer
		cover.Safeguard = nil
		out = append(out, fmt.Sprintf("%s %d %v %v %v %+v", c.Provider, c.Order, c.Zone, c.Allowed, cover, c.Checks))
	}
	return append(out, fmt.Sprint(allowedOrders(d)))
}

func TestTheOrderOfTheCandidatesDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy, req, candidates := drawPolicy(t), drawRequest(t), drawCandidates(t)
		shuffled := slices.Clone(candidates)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		a, b := Decide(policy, req, candidates), Decide(policy, req, shuffled)
		if a.Hash() != b.Hash() {
			t.Fatalf("one order gives\n%s\nanother\n%s", a.Text(), b.Text())
		}
		for i := range b.Considered {
			if p := shuffled[b.Considered[i].Index].Provider; p != candidates[a.Considered[i].Index].Provider {
				t.Fatal("Index points at another candidate")
			}
		}
	})
}

func TestRaisingTheClassNeverAddsAProvider(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy, req, candidates := drawPolicy(t), drawRequest(t), drawCandidates(t)
		var last []int
		for class := Public; class <= Restricted; class++ {
			req.Class = class
			now := allowedOrders(Decide(policy, req, candidates))
			if class > Public && !subset(now, last) {
				t.Fatalf("%s data may go to %v, laxer data only to %v", class, now, last)
			}
			last = now
		}
	})
}

func TestRemovingAJurisdictionNeverAddsAProvider(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy, req, candidates := drawPolicy(t), drawRequest(t), drawCandidates(t)
		before := allowedOrders(Decide(policy, req, candidates))
		gone := drawPlace(t)
		policy.Allowed = policy.Allowed.Without(gone)
		after := allowedOrders(Decide(policy, req, candidates))
		if !subset(after, before) {
			t.Fatalf("without %s: %v, with: %v", gone, after, before)
		}
		policy.Home = policy.Home.Without(gone)
		if !subset(allowedOrders(Decide(policy, req, candidates)), after) {
			t.Fatalf("without %s at home more is allowed than %v", gone, after)
		}
	})
}

func TestADecisionHoldsExactlyUntilItSays(t *testing.T) {
	bounded := 0
	rapid.Check(t, func(t *rapid.T) {
		policy, req, candidates := drawPolicy(t), drawRequest(t), drawCandidates(t)
		d := Decide(policy, req, candidates)
		until := d.ValidUntil()
		later := req
		if until.IsZero() {
			later.At = req.At.Add(time.Duration(rapid.Int64Range(0, int64(250*365*24*time.Hour)).Draw(t, "later")))
			if !bytes.Equal(Decide(policy, later, candidates).JSON(), d.JSON()) {
				t.Fatalf("valid for ever, and yet another at %s", later.At)
			}
			return
		}
		bounded++
		if !until.After(req.At) {
			t.Fatalf("valid until %s, decided at %s", until, req.At)
		}
		later.At = until.Add(-1)
		if e := Decide(policy, later, candidates); e.Hash() != d.Hash() {
			t.Fatalf("just before %s it is already\n%s\nwas\n%s", until, e.Text(), d.Text())
		}
		later.At = until
		if e := Decide(policy, later, candidates); e.Hash() == d.Hash() {
			t.Fatalf("at %s nothing changed:\n%s", until, e.Text())
		}
	})
	if bounded == 0 {
		t.Error("no decision drawn had an end")
	}
}

func TestNearerCandidatesOfEqualOrderComeFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy, req, candidates := drawPolicy(t), drawRequest(t), drawCandidates(t)
		for i := range candidates {
			candidates[i].Order = rapid.IntRange(0, 1).Draw(t, "order")
		}
		d := Decide(policy, req, candidates)
		for i := 1; i < len(d.Allowed); i++ {
			a, b := d.Allowed[i-1], d.Allowed[i]
			rank := map[Zone]int{ZoneOwn: 0, ZoneHome: 1, ZoneEEA: 2, ZoneElsewhere: 3}
			if a.Order > b.Order || a.Order == b.Order && rank[a.Zone] > rank[b.Zone] {
				t.Fatalf("%s before %s", a.Zone, b.Zone)
			}
		}
	})
}

func TestADecisionKeepsNothingOfItsInput(t *testing.T) {
	a := everyRulePasses()
	candidates := []Candidate{{Provider: &a.provider, Model: "m"}}
	d := Decide(a.policy, a.request, candidates)
	before := d.JSON()
	a.provider.Name, a.provider.Processing[0], a.provider.SubProcessors[0].Name = "x", "FR", "x"
	a.provider.Safeguards[0], a.request.Features[0], a.policy.AllowedFeatures[0] = Safeguard{}, "x", "x"
	candidates[0].Model = "x"
	if !bytes.Equal(before, d.JSON()) {
		t.Errorf("changing the input changed the decision:\n%s", d.JSON())
	}
}
