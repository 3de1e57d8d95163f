package dns

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// Hetzner changes zones of Hetzner Cloud through its interface (Zones and RRSets,
// https://docs.hetzner.cloud/reference/cloud). The older one at dns.hetzner.com
// is not spoken: it knows single records only, so that every change of a set
// would be seen half made.
//
// The interface changes one set at a time and cannot be told what must be there
// before it. The epoch's record is therefore written first and looked at again
// before each set: an older cutover stops as soon as it sees a newer one, and
// where both wrote at the same moment it says so.
type Hetzner struct {
	Endpoint string        // default https://api.hetzner.cloud/v1
	Token    config.Secret // of a project, with write access
	Client   *http.Client  // nil: TLS 1.3, no redirects
	Timeout  time.Duration // of one request; 0: 10 s
	// Poll is how often a change that is under way is asked for; 0: 500 ms.
	Poll time.Duration
}

const hetznerEndpoint = "https://api.hetzner.cloud/v1"

// Atomic implements Provider.
func (*Hetzner) Atomic() bool { return false }

// Check implements Provider.
func (h *Hetzner) Check() error {
	if u, err := url.Parse(h.endpoint()); err != nil || u.Scheme != "https" || u.Host == "" {
		return problem.New(problem.Invalid, "dns-endpoint", "The provider's address is no https address.").WithField("endpoint")
	}
	_, err := h.Token.Read("token")
	return err
}

func (h *Hetzner) endpoint() string {
	if h.Endpoint != "" {
		return strings.TrimSuffix(h.Endpoint, "/")
	}
	return hetznerEndpoint
}

// The parts of the interface's messages that are used.
type (
	hetznerRecord struct {
		Value string `json:"value"`
	}
	hetznerSet struct {
		Name    string          `json:"name"`
		Type    string          `json:"type"`
		TTL     *uint32         `json:"ttl"` // null: the zone's
		Records []hetznerRecord `json:"records"`
	}
	hetznerAction struct {
		ID     int64         `json:"id"`
		Status string        `json:"status"` // running, success or error
		Error  *hetznerError `json:"error"`
	}
	hetznerError struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	hetznerAnswer struct {
		Set    *hetznerSet    `json:"rrset"`
		Action *hetznerAction `json:"action"`
		Error  *hetznerError  `json:"error"`
	}
)

// Read implements Provider.
func (h *Hetzner) Read(ctx context.Context, zone string, keys []Key) ([]Set, error) {
	out := make([]Set, 0, len(keys))
	for _, k := range keys {
		a, status, err := h.call(ctx, http.MethodGet, rrset(zone, k), nil)
		switch {
		case err == nil && a.Set != nil:
			out = append(out, a.Set.set(k))
		case status == http.StatusNotFound:
			out = append(out, Set{Key: k})
		case err == nil:
			return nil, problem.New(problem.Upstream, "dns-answer", "Hetzner's answer has no record set.").Wrap(ErrUnreachable)
		default:
			return nil, err
		}
	}
	return out, nil
}

func (s *hetznerSet) set(k Key) Set {
	out := Set{Key: k}
	if s.TTL != nil {
		out.TTL = *s.TTL
	}
	for _, r := range s.Records {
		v := strings.ToLower(strings.TrimSuffix(r.Value, "."))
		if k.Type == "TXT" {
			v = unquoted(r.Value)
		}
		out.Values = append(out.Values, v)
	}
	slices.Sort(out.Values)
	return out
}

// unquoted joins the strings of a TXT record; ours have neither quotes nor
// backslashes in them.
func unquoted(v string) string {
	var b strings.Builder
	for i, part := range strings.Split(v, `"`) {
		if i%2 == 1 || !strings.Contains(v, `"`) {
			b.WriteString(part)
		}
	}
	return b.String()
}

func hetznerRecords(s Set) (out []hetznerRecord) {
	for _, v := range s.Values {
		switch s.Type {
		case "TXT":
			v = `"` + v + `"`
		case "CNAME":
			v += "."
		}
		out = append(out, hetznerRecord{v})
	}
	return out
}

// rrset is the path of a set: its name is relative to the zone.
func rrset(zone string, k Key) string {
	return "/zones/" + url.PathEscape(zone) + "/rrsets/" + url.PathEscape(relative(zone, k.Name)) + "/" + k.Type
}

func relative(zone, name string) string {
	if name == zone {
		return "@"
	}
	return strings.TrimSuffix(name, "."+zone)
}

// Swap implements Provider. What an earlier, shorter run of the same changes
// has made is left as it is.
func (h *Hetzner) Swap(ctx context.Context, zone string, changes []Change) error {
	keys := make([]Key, len(changes))
	for i, c := range changes {
		keys[i] = c.After.Key
	}
	have, err := h.Read(ctx, zone, keys)
	if err != nil {
		return err
	}
	for i, c := range changes {
		if !have[i].Same(c.Before) && !have[i].Same(c.After) {
			return lostRace(zone)
		}
	}
	var written []Change // epochs that this cutover holds
	for i, c := range changes {
		if c.After.Type == "TXT" {
			written = append(written, c)
		} else if err := h.holds(ctx, zone, written); err != nil {
			return err
		}
		if have[i].Same(c.After) && have[i].TTL == c.After.TTL {
			continue
		}
		if err := h.write(ctx, zone, have[i], c.After, written); err != nil {
			return err
		}
	}
	return h.holds(ctx, zone, written)
}

func lostRace(zone string) error {
	return problem.New(problem.Conflict, "dns-lost-race", "The zone "+zone+" is no longer as it was when the cutover was prepared.").
		WithMend("Prepare the cutover again, and look at what has changed.").Wrap(ErrLostRace)
}

// holds reports whether the records that fence are still this cutover's.
func (h *Hetzner) holds(ctx context.Context, zone string, written []Change) error {
	for _, c := range written {
		have, err := h.Read(ctx, zone, []Key{c.After.Key})
		if err != nil {
			return err
		}
		if !have[0].Same(c.After) {
			return lostRace(zone)
		}
	}
	return nil
}

// write makes one set as it shall be.
func (h *Hetzner) write(ctx context.Context, zone string, have, want Set, written []Change) error {
	path := rrset(zone, want.Key)
	switch {
	case len(want.Values) == 0:
		return h.act(ctx, zone, http.MethodDelete, path, nil)
	case len(have.Values) == 0:
		ttl := want.TTL
		return h.act(ctx, zone, http.MethodPost, "/zones/"+url.PathEscape(zone)+"/rrsets",
			hetznerSet{Name: relative(zone, want.Name), Type: want.Type, TTL: &ttl, Records: hetznerRecords(want)})
	}
	// The TTL first: a new address must not be kept for as long as the old one.
	if have.TTL != want.TTL {
		if err := h.act(ctx, zone, http.MethodPost, path+"/actions/change_ttl", map[string]uint32{"ttl": want.TTL}); err != nil {
			return err
		}
		if want.Type != "TXT" {
			if err := h.holds(ctx, zone, written); err != nil {
				return err
			}
		}
	}
	if have.Same(want) {
		return nil
	}
	return h.act(ctx, zone, http.MethodPost, path+"/actions/set_records", map[string]any{"records": hetznerRecords(want)})
}

// act asks for a change and waits until it is made.
func (h *Hetzner) act(ctx context.Context, zone, method, path string, body any) error {
	a, status, err := h.call(ctx, method, path, body)
	if method == http.MethodDelete && status == http.StatusNotFound {
		return nil // somebody else has removed it: so it shall be
	}
	if err != nil {
		return err
	}
	pause := h.Poll
	if pause <= 0 {
		pause = 500 * time.Millisecond
	}
	for a.Action != nil && a.Action.Status == "running" {
		select {
		case <-ctx.Done():
			return unsure(zone, ctx.Err())
		case <-time.After(pause):
		}
		if a, _, err = h.call(ctx, http.MethodGet, fmt.Sprintf("/actions/%d", a.Action.ID), nil); err != nil {
			return unsure(zone, err)
		}
	}
	if a.Action == nil {
		return unsure(zone, errors.New("no action in the answer"))
	}
	if a.Action.Status != "success" {
		return problem.New(problem.Upstream, "dns-provider-failed", "Hetzner began a change in "+zone+" and could not make it"+because(a.Action.Error)).
			WithMend("Apply the plan again; look at the project's console if it fails again.").Wrap(ErrUnreachable)
	}
	return nil
}

func because(e *hetznerError) string {
	if e == nil {
		return "."
	}
	return fmt.Sprintf(" (%.60s).", e.Code)
}

func unsure(zone string, err error) error {
	return problem.New(problem.Unavailable, "dns-outcome-unknown", "A change in "+zone+" was asked for, and Hetzner's answer was lost.").Wrap(fmt.Errorf("%w: %w", ErrUnknown, err))
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// call makes one request. status is 0 where no answer came.
func (h *Hetzner) call(ctx context.Context, method, path string, body any) (a hetznerAnswer, status int, err error) {
	token, err := h.Token.Read("token")
	if err != nil {
		return a, 0, err
	}
	timeout := h.Timeout
	if timeout <= 0 {
		timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return a, 0, err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, h.endpoint()+path, in)
	if err != nil {
		return a, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := h.client().Do(req)
	if err != nil {
		return a, 0, lost(method, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return a, 0, lost(method, err)
	}
	if err := json.Unmarshal(text, &a); err != nil && res.StatusCode < 300 {
		return a, 0, lost(method, err)
	}
	return a, res.StatusCode, hetznerRefusal(method, res, a.Error)
}

// lost is a request whose answer did not come: a question can be asked again, a
// change may have been made.
func lost(method string, err error) error {
	cause := ErrUnreachable
	if method != http.MethodGet {
		cause = ErrUnknown
	}
	return problem.New(problem.Unavailable, "dns-unreachable", "Hetzner's interface cannot be reached, or its answer was lost.").Wrap(fmt.Errorf("%w: %w", cause, err))
}

// hetznerRefusal says in words what an answer means; nil: it agreed.
func hetznerRefusal(method string, res *http.Response, e *hetznerError) error {
	if res.StatusCode < 300 {
		return nil
	}
	code := ""
	if e != nil {
		code = e.Code
	}
	made := func(kind problem.Kind, rule, detail, mend string, cause error) error {
		return problem.New(kind, rule, fmt.Sprintf("%s (%d %.60s).", detail, res.StatusCode, code)).WithMend(mend).Wrap(cause)
	}
	switch {
	case res.StatusCode == http.StatusUnauthorized:
		return made(problem.Denied, "dns-key-wrong", "Hetzner does not accept the token", "Make a new one in the project's console, with write access.", ErrKey)
	case res.StatusCode == http.StatusForbidden:
		return made(problem.Denied, "dns-refused", "Hetzner refuses: the token may only read, or the set is protected", "Use a token with write access, and take the protection away.", ErrRefused)
	case code == "uniqueness_error":
		return made(problem.Conflict, "dns-lost-race", "Somebody else has made the record set first", "Prepare the cutover again.", ErrLostRace)
	case res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusLocked, res.StatusCode == http.StatusConflict:
		return made(problem.Unavailable, "dns-busy", "Hetzner is busy with this zone, or was asked too often", "Apply the plan again in a minute.", ErrUnreachable)
	case res.StatusCode >= 500 && method != http.MethodGet:
		return made(problem.Unavailable, "dns-outcome-unknown", "Hetzner's interface failed while it changed the zone", "Apply the plan again.", ErrUnknown)
	case res.StatusCode >= 500:
		return made(problem.Unavailable, "dns-server-failure", "Hetzner's interface fails", "Look at the provider's status, and apply the plan again.", ErrUnreachable)
	case res.StatusCode == http.StatusNotFound:
		return made(problem.NotFound, "dns-not-authority", "The token's project has no such zone or record set", "Compare the zone's name and the project.", ErrRefused)
	}
	return made(problem.Upstream, "dns-refused", "Hetzner refuses the change", "Look at the zone in the project's console.", ErrRefused)
}

var hetznerClient = &http.Client{
	Transport:     &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13}, ForceAttemptHTTP2: true, Proxy: http.ProxyFromEnvironment},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (h *Hetzner) client() *http.Client {
	if h.Client != nil {
		return h.Client
	}
	return hetznerClient
}
