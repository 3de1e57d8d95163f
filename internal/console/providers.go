package console

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/upstream"
	"github.com/missionopsai/foundry/internal/inference"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

type providersData struct {
	v         *visit
	providers []*gateway.Provider
	models    []gateway.ModelInfo
}

func (c *Console) providers(v *visit) error {
	return v.show(page{Title: "Providers and models", Path: toProviders, Live: true}, providersBody(providersData{v, c.Gateway.Providers(), c.Gateway.Models()}))
}

// health is a provider's condition in one status.
func health(p *gateway.Provider) state {
	h := p.Health()
	switch {
	case p.Circuit() == upstream.Open:
		return state{bad, "Left alone"}
	case p.Circuit() == upstream.HalfOpen:
		return state{info, "On trial"}
	case h == nil:
		return state{idle, "Not probed yet"}
	case !h.OK:
		return state{warn, "Not answering"}
	}
	return state{ok, "Answering"}
}

func circuitText(p *gateway.Provider) string {
	return map[upstream.State]string{upstream.Closed: "Closed: calls pass", upstream.Open: "Open: it kept failing, and is left alone for a while",
		upstream.HalfOpen: "Half-open: one call tries whether it is back"}[p.Circuit()]
}

// frontText says how an inference node is doing, by its own word.
func frontText(h *inference.Health) string {
	text := fmt.Sprintf("%s in flight, %s waiting (about %s), %s loaded of %s", number(int64(h.Queue.InFlight)), number(int64(h.Queue.Length)),
		span(time.Duration(h.Queue.WaitMs)*time.Millisecond), number(int64(len(h.Loaded))), plural(int64(len(h.Models)), "model", "models"))
	if !h.Ready() {
		return h.Words
	}
	for _, g := range h.GPU.List {
		text += fmt.Sprintf("; %s", g.Name)
		if g.Busy >= 0 {
			text += fmt.Sprintf(" %d %% busy", g.Busy)
		}
	}
	return text
}

func probeText(p *gateway.Provider, now time.Time) string {
	h := p.Health()
	switch {
	case h == nil:
		return "Not yet"
	case h.OK:
		return span(h.Latency) + ", " + age(now.Sub(h.At)) + " ago"
	}
	return age(now.Sub(h.At)) + " ago: " + h.Error
}

func retentionText(r sovereignty.Retention, own bool) string {
	switch {
	case own:
		return "The fleet’s own: as the platform’s policy says"
	case r.None:
		return "Keeps nothing"
	case r.Days > 0:
		return "Keeps requests for " + plural(int64(r.Days), "day", "days")
	}
	return "Not recorded: counts against it"
}

// contractState says whether a dated record counts now.
func contractState(c sovereignty.Contract, now time.Time) (state, string) {
	switch {
	case c.Reference == "":
		return state{idle, "No contract"}, "None on record"
	case !c.Signed.IsZero() && now.Before(c.Signed):
		return state{warn, "Not in force"}, c.Reference + ", from " + day(c.Signed)
	case !c.Expires.IsZero() && !now.Before(c.Expires):
		return state{bad, "Expired"}, c.Reference + ", ended with " + lastDay(c.Expires)
	case !c.Expires.IsZero() && c.Expires.Sub(now) < 30*24*time.Hour:
		return state{warn, "Ends soon"}, c.Reference + ", to the end of " + lastDay(c.Expires)
	case c.Expires.IsZero():
		return state{ok, "In date"}, c.Reference
	}
	return state{ok, "In date"}, c.Reference + ", to the end of " + lastDay(c.Expires)
}

func safeguardState(s sovereignty.Safeguard, now time.Time) state {
	switch {
	case s.Expires.IsZero():
		return state{warn, "No end recorded: does not count"}
	case !now.Before(s.Expires):
		return state{bad, "Expired " + lastDay(s.Expires)}
	}
	return state{ok, "To the end of " + lastDay(s.Expires)}
}

func subProcessors(f *sovereignty.Provider) string {
	switch {
	case len(f.SubProcessors) > 0:
		out := ""
		for i, s := range f.SubProcessors {
			if i > 0 {
				out += "; "
			}
			out += s.Name + " in " + s.Jurisdiction.Label()
			if s.Purpose != "" {
				out += " (" + s.Purpose + ")"
			}
		}
		return out
	case f.NoSubProcessors:
		return "None, as the provider states"
	case f.Own:
		return "None recorded"
	}
	return "Not recorded: counts against it"
}

// priced lists a provider's models by name.
func priced(p *gateway.Provider) []*gateway.ProviderModel {
	var out []*gateway.ProviderModel
	for _, m := range p.Models() {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *gateway.ProviderModel) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func price(m *gateway.ProviderModel, nano int64) string {
	if !m.Priced {
		return "–"
	}
	return strings.Replace(ledger.Money(nano, m.Price.Currency), " ", "\u00a0", 1)
}

func kindName(k gateway.Kind) string {
	return map[gateway.Kind]string{gateway.Ollama: "Ollama", gateway.OpenAI: "OpenAI", gateway.Anthropic: "Anthropic", gateway.Mistral: "Mistral",
		gateway.OpenAICompatible: "OpenAI-compatible", gateway.SimulatorKind: "Built-in simulator"}[k]
}
