package gateway

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// two providers have the same model, and one has another of its own.
func two(t *testing.T) *Gateway {
	third := own("abroad", "m")
	third.Own, third.NoSubProcessors = nil, true
	third.Retention = &RetentionConfig{Days: new(int), Contract: "C", Signed: day(2020), Expires: day(2090)}
	third.Models[0].Price = &PriceConfig{Input: "0.25", Output: "1.00"}
	g := newGateway(t, Config{Providers: []ProviderConfig{own("home", "m", "only"), third}})
	g.Log = slog.New(slog.DiscardHandler)
	return g
}

func first(t *testing.T, g *Gateway, policy sovereignty.Policy, model string) (string, error) {
	t.Helper()
	p, err := g.decide(policy, "o", ask{model: model, endpoint: wire.ChatCompletions, class: sovereignty.Public}, g.table.Load(), time.Now())
	switch {
	case err != nil:
		return "", err
	case p.refusal != nil:
		return "", p.refusal
	}
	return p.hops[0].provider.Name, nil
}

func TestAProviderThatIsTakenOutOfUseGetsNoRequestUntilItIsGivenBack(t *testing.T) {
	g := two(t)
	policy := sovereignty.DefaultPolicy()
	policy.ThirdParties = true
	for _, step := range []struct {
		out  []string
		want string
	}{{nil, "home"}, {[]string{"home"}, "abroad"}, {[]string{"home"}, "abroad"}, {nil, "home"}} {
		g.Drain(step.out)
		if got, err := first(t, g, policy, "m"); err != nil || got != step.want {
			t.Errorf("without %v: %q, %v, want %q", step.out, got, err, step.want)
		}
	}
}

func TestASwitchOpensNoWayThatAPolicyCloses(t *testing.T) {
	g := two(t)
	policy := sovereignty.DefaultPolicy() // no third parties
	policy.ThirdParties = false
	g.Drain([]string{"home"})
	if got, err := first(t, g, policy, "m"); err == nil {
		t.Fatalf("went to %q", got)
	}
	policy.ThirdParties = true
	if _, err := first(t, g, policy, "only"); problem.From(err).Code != "providers-drained" || problem.From(err).Kind != problem.Unavailable {
		t.Fatalf("a model that nobody else has: %v", err)
	}
}

func TestWhatIsOutOfUseStaysSoWhenModelsAreFoundAnew(t *testing.T) {
	g := two(t)
	g.Drain([]string{"home"})
	before := g.table.Load()
	g.rebuild()
	if g.table.Load() == before || !slices.Equal(g.Drained(), []string{"home"}) {
		t.Fatalf("%v", g.Drained())
	}
}

func TestASwitchIsShownForEveryOrganisationBeforeItIsMade(t *testing.T) {
	g := two(t)
	open, closed := sovereignty.DefaultPolicy(), sovereignty.DefaultPolicy()
	open.ThirdParties, closed.ThirdParties = true, false
	a, b := &access.Organisation{ID: uuid.New(), Name: "alpha"}, &access.Organisation{ID: uuid.New(), Name: "beta"}
	tenants := *g.tenants.Load()
	tenants.policies = map[uuid.UUID]sovereignty.Policy{a.ID: open, b.ID: closed}
	g.tenants.Store(&tenants)

	effects := g.Switch([]*access.Organisation{a, b}, []string{"home"})
	got := map[string]Effect{}
	for _, e := range effects {
		got[e.Organisation+" "+e.Model] = e
	}
	if len(got) != 4 {
		t.Fatalf("%+v", effects)
	}
	if e := got["alpha m"]; e.Now != "home" || e.Then != "abroad" || e.Cost != "nothing now, 0.25 EUR in and 1.00 EUR out then" {
		t.Errorf("alpha m: %+v", e)
	}
	if e := got["beta m"]; e.Now != "home" || e.Then != "" || len(e.Refused) == 0 || e.Refused[0].Why == "" {
		t.Errorf("beta m: %+v", e)
	}
	if e := got["alpha only"]; e.Then != "" || len(e.Refused) == 0 {
		t.Errorf("alpha only: %+v", e)
	}
	if len(g.Drained()) != 0 {
		t.Error("a dry run took something out of use")
	}
	// What is shown is what then happens.
	g.Drain([]string{"home"})
	for name, o := range map[string]*access.Organisation{"alpha": a, "beta": b} {
		for _, model := range []string{"m", "only"} {
			x, err := g.Explain(o, model, "public", "", "")
			then, e := "", got[fmt.Sprintf("%s %s", name, model)]
			if err == nil && x.Allowed {
				then = x.Order[0].Provider
			}
			if then != e.Then {
				t.Errorf("%s %s goes to %q; %q was shown", name, model, then, e.Then)
			}
		}
	}
	if len(g.Switch([]*access.Organisation{a, b}, []string{"nobody"})) != 0 {
		t.Error("a provider that there is not has an effect")
	}
}
