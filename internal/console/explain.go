package console

import (
	"cmp"
	"strings"

	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// endpoints that the route explainer offers.
var endpoints = []struct{ path, text string }{
	{"/v1/chat/completions", "Chat completion (OpenAI)"}, {"/v1/messages", "Message (Anthropic)"},
	{"/v1/embeddings", "Embedding"}, {"/v1/responses", "Response (OpenAI)"},
}

type explainData struct {
	v       *visit
	choices choices
	form    form
	answer  *gateway.Explanation
}

// explain decides as a request would be decided now, and calls nothing.
func (c *Console) explain(v *visit) error {
	q := v.r.URL.Query()
	f := form{values: map[string]string{}}
	for _, name := range []string{"organisation", "model", "class", "endpoint", "features"} {
		f.values[name] = strings.TrimSpace(q.Get(name))
	}
	d := explainData{v: v, choices: c.choices(v), form: f}
	if f.value("model") == "" && len(d.choices.Models) > 0 {
		d.form.values["model"] = d.choices.Models[0]
	}
	p := page{Title: "Where may it go?", Path: toExplain}
	if q.Get("model") != "" {
		answer, err := c.explained(f)
		if err != nil {
			e := problem.From(err)
			if e.Kind == problem.Internal {
				return err
			}
			d.form.problem, p.Status = e, e.Kind.Status()
		} else {
			d.answer = &answer
		}
	}
	return v.show(p, explainBody(d))
}

func (c *Console) explained(f form) (gateway.Explanation, error) {
	o, err := c.organisationNamed(f.value("organisation"))
	if err != nil {
		return gateway.Explanation{}, err
	}
	features := strings.Join(strings.FieldsFunc(f.value("features"), func(r rune) bool { return r == ',' || r == ' ' }), ",")
	return c.Gateway.Explain(o, f.value("model"), f.value("class"), cmp.Or(f.value("endpoint"), endpoints[0].path), features)
}

func nowhere(sovereignty.Target) bool { return false }

func circuitWord(circuit string) state {
	switch circuit {
	case "closed":
		return state{ok, "Ready"}
	case "open":
		return state{bad, "Left alone after failures"}
	}
	return state{info, "On trial"}
}
