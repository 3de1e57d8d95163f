package notify

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// Channels is the notify section of the configuration: ways beside mail, what
// each of them needs to work, and who is on call.
type Channels struct {
	// MailNeeds names functions of the continuity plan without which mail is not
	// a way to reach anybody.
	MailNeeds []string     `yaml:"mail_needs,omitempty" json:"mail_needs,omitempty" jsonschema:"maxItems=20,description=Functions of the continuity plan without which mail reaches nobody. While one of them is down\\, people are called by their next channel."`
	Webhooks  []Webhook    `yaml:"webhooks,omitempty" json:"webhooks,omitempty" jsonschema:"maxItems=20,description=Receivers of signed messages over HTTPS (Standard Webhooks). Each gets every alarm unless it only calls people."`
	OnCall    *RotaConfig  `yaml:"oncall,omitempty" json:"oncall,omitempty"`
	People    []RotaPerson `yaml:"people,omitempty" json:"people,omitempty" jsonschema:"maxItems=50,description=Who can be on call."`
}

// Webhook is a receiver.
type Webhook struct {
	Name     string          `yaml:"name" json:"name" jsonschema:"description=Lower-case letters\\, digits and dashes."`
	URL      string          `yaml:"url" json:"url" jsonschema:"description=An https address."`
	Secret   config.Secret   `yaml:"secret" json:"secret" jsonschema:"description=whsec_ and 24 to 64 bytes in base64. The receiver has the same."`
	Previous config.Secret   `yaml:"previous,omitempty" json:"previous,omitzero" jsonschema:"description=The secret before\\, while receivers change over: both sign."`
	CA       string          `yaml:"ca,omitempty" json:"ca,omitempty" jsonschema:"description=PEM file with the authority of the receiver's certificate. Default: those of the system."`
	TLS      string          `yaml:"tls,omitempty" json:"tls,omitempty" jsonschema:"enum=1.3,enum=1.2,description=Oldest version that is spoken. Default 1.3."`
	Networks []string        `yaml:"networks,omitempty" json:"networks,omitempty" jsonschema:"maxItems=20,description=Private networks in which the receiver may be\\, for example 10.1.0.0/16. Without them only public addresses are connected to."`
	Needs    []string        `yaml:"needs,omitempty" json:"needs,omitempty" jsonschema:"maxItems=20,description=Functions of the continuity plan without which it reaches nobody."`
	Only     string          `yaml:"only,omitempty" json:"only,omitempty" jsonschema:"enum=pages,description=pages: it calls the people who name it\\, and gets no other alarm."`
	Timeout  config.Duration `yaml:"timeout,omitempty" json:"timeout,omitzero"`
}

// RotaConfig is who is on call when.
type RotaConfig struct {
	TimeZone string          `yaml:"time_zone" json:"time_zone" jsonschema:"description=Name of the IANA time zone\\, for example Europe/Berlin."`
	First    config.Date     `yaml:"first" json:"first" jsonschema:"description=Day of a hand-over to the first of the order."`
	At       string          `yaml:"at,omitempty" json:"at,omitempty" jsonschema:"description=Time of day of hand-overs. Default 09:00."`
	Weeks    int             `yaml:"weeks,omitempty" json:"weeks,omitempty" jsonschema:"minimum=1,maximum=8,description=Length of a turn. Default 1."`
	Order    []string        `yaml:"order" json:"order" jsonschema:"minItems=1,maxItems=50,description=Names of people\\, in turn."`
	Escalate config.Duration `yaml:"escalate,omitempty" json:"escalate,omitzero" jsonschema:"description=How long a call waits for somebody to take it before the next person\\, and then everybody\\, is called. Default 10m."`
}

// RotaPerson is who can be called. Name is a handle, which stands in logs and
// in the audit log: not a person's name.
type RotaPerson struct {
	Name     string   `yaml:"name" json:"name" jsonschema:"description=A handle for logs\\, for example lead or ops-2: lower-case letters\\, digits and dashes."`
	Email    string   `yaml:"email,omitempty" json:"email,omitempty"`
	Channels []string `yaml:"channels,omitempty" json:"channels,omitempty" jsonschema:"maxItems=5,description=mail\\, or the name of a webhook\\, in the order of preference. Default mail."`
}

const (
	defaultEscalate = 10 * time.Minute
	minEscalate     = time.Minute
	mailChannel     = "mail"
	hookChannel     = "webhook:"
)

var handle = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// Validate reports the first thing that is wrong.
func (c Channels) Validate() error {
	var names []string
	for i, h := range c.Webhooks {
		field := fmt.Sprintf("notify.webhooks[%d]", i)
		if err := h.validate(field); err != nil {
			return err
		}
		if slices.Contains(names, h.Name) {
			return bad("notify-twice", "Two webhooks have this name.", field+".name")
		}
		names = append(names, h.Name)
	}
	var people []string
	for i, p := range c.People {
		field := fmt.Sprintf("notify.people[%d]", i)
		if !handle.MatchString(p.Name) || slices.Contains(people, p.Name) {
			return bad("notify-handle", "The name is not a handle, or two people have it.", field+".name").WithMend("Use lower-case letters, digits and dashes, for example ops-2.")
		}
		people = append(people, p.Name)
		if p.Email != "" {
			if _, err := ParseAddress(field+".email", p.Email); err != nil {
				return err
			}
		}
		for _, ch := range p.channels() {
			if ch == mailChannel && p.Email == "" || ch != mailChannel && !slices.Contains(names, ch) {
				return bad("notify-channel", fmt.Sprintf("%q is no way to reach this person.", ch), field+".channels").WithMend("Name mail, with an email address, or one of notify.webhooks.")
			}
		}
	}
	if c.OnCall == nil {
		return nil
	}
	for _, p := range c.OnCall.Order {
		if !slices.Contains(people, p) {
			return bad("notify-order", fmt.Sprintf("%q is in the order, and not among notify.people.", p), "notify.oncall.order")
		}
	}
	if d := time.Duration(c.OnCall.Escalate); d != 0 && (d < minEscalate || d > 24*time.Hour) {
		return bad("notify-escalate", "A call waits from 1m to 24h.", "notify.oncall.escalate")
	}
	_, err := c.OnCall.rota()
	return err
}

func bad(code, detail, field string) *problem.Error {
	return problem.New(problem.Invalid, code, detail).WithField(field)
}

func (p RotaPerson) channels() []string {
	if len(p.Channels) == 0 {
		return []string{mailChannel}
	}
	return p.Channels
}

// rota reads a rota.
func (c RotaConfig) rota() (Rota, error) {
	r := Rota{first: c.First.Time, weeks: max(c.Weeks, 1), order: c.Order}
	zone, err := time.LoadLocation(c.TimeZone)
	if err != nil || c.TimeZone == "" || c.TimeZone == "Local" {
		return r, bad("notify-time-zone", "There is no such time zone.", "notify.oncall.time_zone").WithMend("Use a name of the IANA database, for example Europe/Berlin.")
	}
	r.zone = zone
	at := c.At
	if at == "" {
		at = "09:00"
	}
	clock, err := time.Parse("15:04", at)
	if err != nil {
		return r, bad("notify-at", "The time of hand-overs is not one.", "notify.oncall.at").WithMend("Write for example 09:00.")
	}
	r.hour, r.min = clock.Hour(), clock.Minute()
	switch {
	case r.first.IsZero():
		return r, bad("notify-first", "The day of the first hand-over is missing.", "notify.oncall.first")
	case c.Weeks < 0 || c.Weeks > 8:
		return r, bad("notify-weeks", "A turn is from 1 to 8 weeks long.", "notify.oncall.weeks")
	case len(c.Order) == 0:
		return r, bad("notify-order", "Nobody is in the order.", "notify.oncall.order")
	}
	return r, nil
}

func (h Webhook) validate(field string) error {
	u, err := url.Parse(h.URL)
	switch {
	case !handle.MatchString(h.Name) || h.Name == mailChannel:
		return bad("webhook-name", "The name is missing or not one.", field+".name").WithMend("Use lower-case letters, digits and dashes.")
	case err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || len(h.URL) > 2000:
		return bad("webhook-url", "The address is not an https address, or holds a user or a fragment.", field+".url")
	case h.TLS != "" && h.TLS != "1.3" && h.TLS != "1.2":
		return bad("webhook-tls", "Only TLS 1.3 and 1.2 are spoken.", field+".tls")
	case h.Only != "" && h.Only != "pages":
		return bad("webhook-only", fmt.Sprintf("%q is nothing that a webhook can be for.", h.Only), field+".only").WithMend("Use pages, or leave it out.")
	case h.Timeout != 0 && (time.Duration(h.Timeout) < time.Second || time.Duration(h.Timeout) > time.Minute):
		return bad("webhook-timeout", "A timeout is from 1s to 1m.", field+".timeout")
	}
	for i, n := range h.Networks {
		if p, err := netip.ParsePrefix(n); err != nil || p.Bits() < 8 || p != p.Masked() {
			return bad("webhook-network", fmt.Sprintf("%.50q is no network of at most a /8.", n), fmt.Sprintf("%s.networks[%d]", field, i)).WithMend("Write for example 10.1.0.0/16.")
		}
	}
	if _, err := h.keys(field); err != nil {
		return err
	}
	_, err = h.roots(field)
	return err
}

// broken reports whether a way needs something that is down.
func broken(needs, down []string) bool {
	return slices.ContainsFunc(needs, func(n string) bool {
		return slices.ContainsFunc(down, func(d string) bool { return strings.EqualFold(d, n) })
	})
}

// needs are what a channel needs.
func (c Channels) needs(channel string) []string {
	if channel == mailChannel {
		return c.MailNeeds
	}
	for _, h := range c.Webhooks {
		if h.Name == channel {
			return h.Needs
		}
	}
	return nil
}

// Choose gives the channel by which somebody is reached while some functions
// are down: the first of theirs that does not depend on them. Where all do,
// each is tried: nobody knows which of them still works.
func (c Channels) Choose(channels, down []string) []string {
	for _, ch := range channels {
		if !broken(c.needs(ch), down) {
			return []string{ch}
		}
	}
	return channels
}

func (c Channels) person(name string) (RotaPerson, bool) {
	for _, p := range c.People {
		if p.Name == name {
			return p, true
		}
	}
	return RotaPerson{}, false
}

func (c Channels) webhook(channel string) (Webhook, bool) {
	for _, h := range c.Webhooks {
		if hookChannel+h.Name == channel {
			return h, true
		}
	}
	return Webhook{}, false
}
