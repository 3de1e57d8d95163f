package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/scenario"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// people makes the organisation that asks, and those who ask and write.
func (r *runner) people(ctx context.Context) error {
	first := r.lab.gateways()
	if len(first) == 0 {
		return errors.New("the fleet has no gateway")
	}
	policy := sovereignty.Policy{Regime: sovereignty.RegimeEU, Home: sovereignty.SetOf("FI"), Allowed: sovereignty.EEA(), ThirdParties: true,
		Highest: sovereignty.Internal, RequireNoRetention: sovereignty.Confidential,
		Ceilings: sovereignty.Ceilings{Own: sovereignty.Restricted, Near: sovereignty.Restricted, Elsewhere: sovereignty.Public}}
	organisation := func(name string) any { return map[string]any{"name": name, "policy": policy} }
	var key struct{ Token string }
	err := poll(ctx, 60*time.Second, func() error {
		if err := first[0].call(ctx, "POST", "/organisations", organisation("clients"), nil); err != nil {
			return err
		}
		return first[0].call(ctx, "POST", "/keys", map[string]any{"organisation": "clients", "name": "load"}, &key)
	})
	if err != nil {
		return err
	}
	client, err := trusting(r.o.Authority(first[0].data()), 5*time.Second)
	if err != nil {
		return err
	}
	r.lab.crowd = &crowd{gateways: first, key: key.Token, client: client, room: make(chan struct{}, 256)}
	r.lab.writer = &writer{gateways: first, prefix: "w", body: organisation}
	return nil
}

// product does what people do by the product's own interface.
func (r *runner) product(ctx context.Context, a scenario.Act) (string, error) {
	n := r.lab.anyone(ctx)
	if n == nil {
		return "", errors.New("no node with a majority answers")
	}
	switch a.Verb {
	case "declare":
		r.begin()
		r.moment(time.Now(), "event", "declare", "", "Somebody declares an incident: "+a.Args["title"])
		_, err := n.run(ctx, "incident", "open", a.Args["title"], "--category", "security-incident")
		return "", err
	case "recover":
		_, err := n.run(ctx, "recovery", "start", a.Args["plan"], "--incident", "latest")
		return "", err
	case "tell":
		return "", r.tell(ctx, n, a)
	case "approve", "decide", "say":
		return r.answer(ctx, n, a)
	case "isolate":
		other := r.lab.node(a.Args["node"])
		if !r.lab.net.spaces {
			return "", errNoSpaces
		}
		r.begin()
		r.hurt[other.name], r.away[other.name] = true, true
		r.moment(time.Now(), "event", "isolate", other.name, fmt.Sprintf("Somebody has %s cut off.", other.name))
		_, err := n.run(ctx, "recovery", "start", quarantineOf(other.name), "--incident", "latest", "--words", "Somebody may be in there.")
		return "", err
	}
	return "", fmt.Errorf("this sandbox cannot %s", a.Verb)
}

// tell has a notice written and sent, as the person would whom the plan names.
func (r *runner) tell(ctx context.Context, n *node, a scenario.Act) error {
	id := "told-" + strings.ToLower(rand.Text()[:6])
	args := []string{"incident", "notice", "draft", "latest", id, "--to", a.Args["client"], "--field", "nature=" + a.Args["words"],
		"--field", "data-affected=What was written shortly before is being counted.", "--field", "remediation=The platform moves to its standby.", "--field", "contact=" + mailOf("operator")}
	if _, err := n.run(ctx, args...); err != nil {
		return err
	}
	r.moment(time.Now(), "done", "tell", a.Args["client"], "A notice to "+a.Args["client"]+" is handed to the mail.")
	_, err := n.run(ctx, "incident", "notice", "send", "latest", id)
	return err
}

// mailOf is where a person of the sandbox is written to.
func mailOf(name string) string { return name + "@" + zone }

// answer is what a person says to a step that waits.
func (r *runner) answer(ctx context.Context, n *node, a scenario.Act) (string, error) {
	for _, run := range r.lab.seen.view().runs {
		for _, s := range run.Steps {
			if s.Name != a.Args["step"] && s.Kind != a.Args["step"] {
				continue
			}
			verb := map[string]string{"approve": "approve", "decide": "decide", "say": "say"}[a.Verb]
			args := []string{"recovery", verb, run.ID, s.Name}
			if words := a.Args["words"]; words != "" {
				args = append(args, "--words", words)
			}
			_, err := n.run(ctx, args...)
			return "", err
		}
	}
	return "", fmt.Errorf("no recovery has a step %s", a.Args["step"])
}

// database is the fleet's database as a node sees it.
func (n *node) database(ctx context.Context) (d struct {
	State string `json:"state"`
	Words string `json:"words"`
	Epoch int64  `json:"epoch"`
}, err error,
) {
	var s struct {
		Database struct{ Fleet json.RawMessage }
	}
	if err := n.call(ctx, "GET", "/status", nil, &s); err != nil {
		return d, err
	}
	if len(s.Database.Fleet) == 0 {
		return d, errors.New("it follows no database of the fleet")
	}
	return d, json.Unmarshal(s.Database.Fleet, &d)
}

// fencedIn says whether a node knows that it may not write.
func fencedIn(n *node) (bool, string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	d, err := n.database(ctx)
	if err != nil {
		return false, err.Error()
	}
	return d.State == "fenced", d.State + ": " + d.Words
}
