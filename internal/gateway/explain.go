package gateway

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// Explanation is what would happen to a request, found out without calling
// anything.
type Explanation struct {
	Allowed  bool                 `json:"allowed"`
	Text     []string             `json:"text"` // the decision in sentences
	Order    []Step               `json:"order"`
	Decision sovereignty.Decision `json:"decision"`
	Refusal  *problem.Error       `json:"refusal,omitempty"`

	// Fallbacks are what it costs the organisation that the fleet's own models
	// are away, or were within a day. Explain does not fill it in.
	Fallbacks []ledger.FallbackRow `json:"fallbacks,omitempty"`
}

// Step is one destination in the order of trying.
type Step struct {
	Provider   string `json:"provider"`
	Model      string `json:"model"`
	Circuit    string `json:"circuit"`    // closed, open or half-open
	Translated bool   `json:"translated"` // the provider speaks another dialect
}

// Explain decides as a request of an organisation would be decided now.
// Empty class, endpoint and features take their defaults.
func (g *Gateway) Explain(o *access.Organisation, model, class, endpoint, features string) (Explanation, error) {
	return g.explain(o, model, class, endpoint, features, g.table.Load())
}

func (g *Gateway) explain(o *access.Organisation, model, class, endpoint, features string, table *routeTable) (Explanation, error) {
	ep := wire.ChatCompletions
	if endpoint != "" {
		var ok bool
		if ep, ok = endpoints[endpoint]; !ok {
			return Explanation{}, problem.New(problem.Invalid, "endpoint", fmt.Sprintf("%q is not an endpoint.", endpoint)).
				WithField("endpoint").WithMend("Use a path such as /v1/chat/completions or /v1/messages.")
		}
	}
	var asked sovereignty.DataClass
	if class != "" {
		var err error
		if asked, err = sovereignty.ParseDataClass(class); err != nil {
			return Explanation{}, problem.New(problem.Invalid, "data-class", fmt.Sprintf("%q is not a data class.", class)).
				WithField("class").WithMend("Use public, internal, confidential or restricted.")
		}
	}
	policy := g.Policy(o.ID)
	a := ask{model: model, endpoint: ep, class: sovereignty.StricterClass(0, asked, policy.Highest)}
	if features != "" {
		list := strings.Split(features, ",")
		slices.Sort(list)
		a.features = strings.Join(slices.Compact(list), ",")
	}
	p, err := g.decide(policy, o.Name, a, table, g.Clock())
	if err != nil {
		return Explanation{}, err
	}
	out := Explanation{Allowed: p.refusal == nil, Text: strings.Split(strings.TrimRight(p.decision.Text(), "\n"), "\n"), Decision: p.decision, Refusal: p.refusal, Order: []Step{}}
	for _, h := range p.hops {
		out.Order = append(out.Order, Step{h.provider.Name, h.model, h.provider.breaker.State().String(), translated(h.provider, ep)})
	}
	if len(table.drained) > 0 {
		out.Text = append(out.Text, "Taken out of use on every gateway: "+strings.Join(slices.Sorted(maps.Keys(table.drained)), ", ")+".")
	}
	return out, nil
}

// Amount reads a decimal amount of the ledger's currency as nano-units.
func (g *Gateway) Amount(text string) (int64, error) {
	nano, err := g.exchange.nano("amount", text, "", maxAmount)
	if err != nil {
		return 0, problem.From(err).WithField("limit").WithMend(`Write a decimal such as "250.00", in ` + g.exchange.currency + ".")
	}
	return nano, nil
}
