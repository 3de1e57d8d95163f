package patroni

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// Client speaks to the REST API of the members of a cluster.
type Client struct {
	// HTTP is how to reach one member and no other: where its address is said by
	// others, its certificate is what shows that it is the one.
	HTTP func(member string) *http.Client
	// Secret is the password of [User], which what changes something needs.
	Secret func(ctx context.Context) (string, error)
}

// User may change things over the REST API.
const User = "foundry"

// callPatience bounds one call that changes nothing.
const callPatience = 3 * time.Second

// ErrAway says that a member does not answer.
var ErrAway = problem.New(problem.Unavailable, "patroni-away", "Patroni does not answer on that node.").
	WithMend("Look at the service patroni there, and at its log.")

// Cluster asks a member how the cluster is.
func (c *Client) Cluster(ctx context.Context, m Member) (Cluster, error) {
	_, body, err := c.call(ctx, http.MethodGet, m, "/cluster", nil)
	if err != nil {
		return Cluster{}, err
	}
	return ParseCluster(body)
}

// Server asks a member how it is itself.
func (c *Client) Server(ctx context.Context, m Member) (Server, error) {
	_, body, err := c.call(ctx, http.MethodGet, m, "/patroni", nil)
	if err != nil {
		return Server{}, err
	}
	return ParseServer(body)
}

// Leads asks a member whether it is the leader and holds the key: GET /leader
// answers 200 then and nothing else does.
func (c *Client) Leads(ctx context.Context, m Member) (bool, Server, error) {
	status, body, err := c.call(ctx, http.MethodGet, m, "/leader", nil)
	if err != nil {
		return false, Server{}, err
	}
	s, err := ParseServer(body)
	return status == http.StatusOK, s, err
}

// Settings asks a member for the dynamic configuration.
func (c *Client) Settings(ctx context.Context, m Member) (Settings, error) {
	status, body, err := c.call(ctx, http.MethodGet, m, "/config", nil)
	if err != nil {
		return Settings{}, err
	}
	if status != http.StatusOK {
		return Settings{}, refused("/config", status, body)
	}
	return ParseSettings(body)
}

// Set changes the dynamic configuration of all members.
func (c *Client) Set(ctx context.Context, m Member, changes map[string]any) error {
	return c.change(ctx, http.MethodPatch, m, "/config", changes)
}

// Failover asks for another leader where there is none that works. Patroni
// itself refuses a candidate that does not have everything.
func (c *Client) Failover(ctx context.Context, m Member, candidate string) error {
	return c.change(ctx, http.MethodPost, m, "/failover", map[string]any{"candidate": candidate})
}

// Switchover has a leader that works hand over. An empty candidate leaves the
// choice to Patroni.
func (c *Client) Switchover(ctx context.Context, m Member, leader, candidate string) error {
	body := map[string]any{"leader": leader}
	if candidate != "" {
		body["candidate"] = candidate
	}
	return c.change(ctx, http.MethodPost, m, "/switchover", body)
}

// Reinitialise has a member throw its data away and copy the leader's.
func (c *Client) Reinitialise(ctx context.Context, m Member) error {
	return c.change(ctx, http.MethodPost, m, "/reinitialize", map[string]any{"force": true})
}

func (c *Client) change(ctx context.Context, method string, m Member, path string, body map[string]any) error {
	status, answer, err := c.call(ctx, method, m, path, body)
	if err != nil {
		return err
	}
	if status < 200 || status > 299 {
		return refused(path, status, answer)
	}
	return nil
}

func refused(path string, status int, body []byte) error {
	words := strings.TrimSpace(string(body))
	if len(words) > 300 || strings.ContainsAny(words, "<>\n") {
		words = http.StatusText(status)
	}
	kind := problem.Upstream
	if status == http.StatusPreconditionFailed || status == http.StatusConflict || status == http.StatusServiceUnavailable {
		kind = problem.Conflict
	}
	return problem.New(kind, "patroni-refused", fmt.Sprintf("Patroni refused %s: %d %s", path, status, words)).
		WithMend("`foundry database patroni status` shows who leads and who may follow.")
}

// call does one. Statuses are the caller's: GET /leader says no by 503.
func (c *Client) call(ctx context.Context, method string, m Member, path string, body any) (int, []byte, error) {
	at, err := url.Parse(m.API)
	if err != nil || at.Scheme != "https" || at.Host == "" {
		return 0, nil, problem.New(problem.Invalid, "patroni-plain", fmt.Sprintf("%s says that its REST API is at %q, which is no https address.", m.Name, m.API)).
			WithMend("Configure restapi with a certificate: `foundry database patroni config` does.")
	}
	within := callPatience
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		content, within = bytes.NewReader(text), time.Minute // Patroni answers a switchover when it is done
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, "https://"+at.Host+path, content)
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		secret, err := c.Secret(ctx)
		if err != nil {
			return 0, nil, err
		}
		q.Header.Set("Content-Type", "application/json")
		q.SetBasicAuth(User, secret)
	}
	a, err := c.HTTP(m.Name).Do(q)
	if err != nil {
		return 0, nil, fmt.Errorf("%w (%s: %w)", ErrAway, m.Name, err)
	}
	defer func() { _ = a.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(a.Body, mostAnswer))
	if err != nil {
		return 0, nil, fmt.Errorf("%w (%s: %w)", ErrAway, m.Name, err)
	}
	return a.StatusCode, text, nil
}
