package supplier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// Cloud is a project of Hetzner Cloud
// (https://docs.hetzner.cloud/reference/cloud): servers, actions, prices.
type Cloud struct {
	Endpoint string        // default https://api.hetzner.cloud/v1
	Token    config.Secret // of the project, with write access
	Client   *http.Client
	Timeout  time.Duration // of one request; 0: 15 s
	Poll     time.Duration // of an action that is under way; 0: 1 s
	Clock    func() time.Time

	once sync.Once
	door door
}

const cloudEndpoint = "https://api.hetzner.cloud/v1"

func (c *Cloud) open() *door {
	c.once.Do(func() {
		c.door = door{who: "Hetzner Cloud", base: c.Endpoint, client: c.Client, timeout: c.Timeout}
		if c.door.base == "" {
			c.door.base = cloudEndpoint
		}
		if c.Poll <= 0 {
			c.Poll = time.Second
		}
		if c.Clock == nil {
			c.Clock = time.Now
		}
	})
	return &c.door
}

// Check implements Machines.
func (c *Cloud) Check() error {
	if err := c.open().check(); err != nil {
		return err
	}
	_, err := c.Token.Read("token")
	return err
}

// The parts of the interface's messages that are used.
type (
	cloudServer struct {
		ID     int64             `json:"id"`
		Name   string            `json:"name"`
		Status string            `json:"status"`
		Labels map[string]string `json:"labels"`
		Net    struct {
			V4 *struct {
				IP string `json:"ip"`
			} `json:"ipv4"`
			V6 *struct {
				IP string `json:"ip"`
			} `json:"ipv6"`
		} `json:"public_net"`
	}
	cloudAction struct {
		ID     int64       `json:"id"`
		Status string      `json:"status"` // running, success or error
		Error  *cloudError `json:"error"`
	}
	cloudError struct {
		Code string `json:"code"`
	}
	cloudType struct {
		Name   string       `json:"name"`
		Prices []cloudPrice `json:"prices"`
	}
	cloudPrice struct {
		Location string `json:"location"`
		Monthly  amount `json:"price_monthly"`
		Hourly   amount `json:"price_hourly"`
	}
	amount struct {
		Gross string `json:"gross"` // decimal
	}
	cloudAnswer struct {
		Server  *cloudServer  `json:"server"`
		Servers []cloudServer `json:"servers"`
		Action  *cloudAction  `json:"action"`
		Types   []cloudType   `json:"server_types"`
		Pricing *struct {
			Currency string `json:"currency"`
		} `json:"pricing"`
		Error *cloudError `json:"error"`
	}
)

// Power implements Machines.
func (c *Cloud) Power(ctx context.Context, server string) (Reading, error) {
	s, err := c.server(ctx, server)
	if err != nil {
		return Reading{Power: Indeterminate}, err
	}
	return Reading{Power: cloudPower(s.Status), Says: s.Status, At: c.Clock()}, nil
}

// cloudPower reads the status of a server. Only "off" is off: a server that is
// stopping still writes.
func cloudPower(status string) Power {
	switch status {
	case "off":
		return Off
	case "running":
		return On
	case "initializing", "starting", "stopping", "deleting", "rebuilding", "migrating":
		return Changing
	}
	return Indeterminate // among them "unknown", which the interface has as a status
}

func (c *Cloud) server(ctx context.Context, id string) (*cloudServer, error) {
	if err := number(id); err != nil {
		return nil, err
	}
	a, err := c.call(ctx, http.MethodGet, "/servers/"+id, nil)
	if err != nil {
		return nil, err
	}
	if a.Server == nil || strconv.FormatInt(a.Server.ID, 10) != id {
		return nil, c.door.garbled(http.MethodGet)
	}
	return a.Server, nil
}

// number wants the number of a server, so that nothing else comes into a path.
func number(id string) error {
	if n, err := strconv.ParseInt(id, 10, 64); err != nil || n <= 0 || strconv.FormatInt(n, 10) != id {
		return problem.New(problem.Invalid, "supplier-server", fmt.Sprintf("%.40q is not the number of a server.", id)).WithField("servers").
			WithMend("Write the number that the supplier's console shows, in digits.")
	}
	return nil
}

// Act implements Machines.
func (c *Cloud) Act(ctx context.Context, server string, act Act) error {
	if err := number(server); err != nil {
		return err
	}
	verb, ok := map[Act]string{PowerOff: "poweroff", PowerOn: "poweron", Reset: "reset"}[act]
	if !ok {
		return problem.New(problem.Unsupported, "supplier-act", fmt.Sprintf("%.20q cannot be done to a server.", act))
	}
	a, err := c.call(ctx, http.MethodPost, "/servers/"+server+"/actions/"+verb, nil)
	if err != nil {
		return err
	}
	return c.finish(ctx, a.Action)
}

// finish waits until an action has ended.
func (c *Cloud) finish(ctx context.Context, a *cloudAction) error {
	if a == nil || a.ID == 0 {
		return c.door.garbled(http.MethodPost)
	}
	for a.Status == "running" {
		if err := wait(ctx, c.Poll); err != nil {
			return c.door.lost(http.MethodPost, err)
		}
		next, err := c.call(ctx, http.MethodGet, fmt.Sprintf("/actions/%d", a.ID), nil)
		switch {
		case errors.Is(err, ErrBusy), errors.Is(err, ErrUnreachable):
			continue // it goes on without us
		case err != nil:
			return c.door.lost(http.MethodPost, err)
		case next.Action == nil:
			return c.door.garbled(http.MethodPost)
		}
		a = next.Action
	}
	if a.Status == "success" {
		return nil
	}
	code := ""
	if a.Error != nil {
		code = a.Error.Code
	}
	// It was begun: how far it came, only the server's status says.
	return problem.New(problem.Upstream, "supplier-failed", fmt.Sprintf("Hetzner Cloud began it and could not end it (%.40s).", code)).
		WithMend("Look at the server in the project's console.").Wrap(ErrUnknown)
}

func (c *Cloud) call(ctx context.Context, method, path string, body any) (a cloudAnswer, err error) {
	d := c.open()
	token, err := c.Token.Read("token")
	if err != nil {
		return a, err
	}
	r := request{method: method, path: path, kind: "application/json", proof: token, authorise: func(q *http.Request) { q.Header.Set("Authorization", "Bearer "+token) }}
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return a, err
		}
		r.body = string(text)
	}
	res, text, err := d.call(ctx, r)
	if err != nil {
		return a, err
	}
	bad := json.Unmarshal(text, &a)
	if res.StatusCode < 300 {
		if bad != nil {
			return cloudAnswer{}, d.garbled(method)
		}
		return a, nil
	}
	code := ""
	if a.Error != nil {
		code = a.Error.Code
	}
	return cloudAnswer{}, d.refusal(method, res.StatusCode, code, retryAfter(res.Header, c.Clock()))
}

// retryAfter reads when the interface may be asked again: RateLimit-Reset is a
// time in Unix seconds.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if n, err := strconv.Atoi(h.Get("Retry-After")); err == nil && n > 0 {
		return min(time.Duration(n)*time.Second, 5*time.Minute)
	}
	if at, err := strconv.ParseInt(h.Get("RateLimit-Reset"), 10, 64); err == nil && at > 0 {
		return max(0, min(time.Unix(at, 0).Sub(now), 5*time.Minute))
	}
	return 0
}

// Find looks for a server by its name.
func (c *Cloud) Find(ctx context.Context, name string) (Server, error) {
	a, err := c.call(ctx, http.MethodGet, "/servers?name="+url.QueryEscape(name), nil)
	if err != nil {
		return Server{}, err
	}
	for i := range a.Servers {
		if a.Servers[i].Name == name {
			return a.Servers[i].server(), nil
		}
	}
	return Server{}, problem.New(problem.NotFound, "supplier-absent", "Hetzner Cloud has no server "+name+".").Wrap(ErrAbsent)
}

func (s *cloudServer) server() Server {
	out := Server{ID: strconv.FormatInt(s.ID, 10), Name: s.Name, Power: cloudPower(s.Status), Labels: s.Labels}
	if s.Net.V4 != nil {
		out.Addresses = append(out.Addresses, s.Net.V4.IP)
	}
	if s.Net.V6 != nil {
		out.Addresses = append(out.Addresses, s.Net.V6.IP)
	}
	return out
}
