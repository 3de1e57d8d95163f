package notify

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// Config is the mail section of the configuration. The zero value holds
// messages and sends none.
type Config struct {
	From   string   `yaml:"from,omitempty" json:"from,omitempty" jsonschema:"description=Sender of every message\\, for example Foundry <foundry@example.eu>."`
	Relays []Relay  `yaml:"relays,omitempty" json:"relays,omitempty" jsonschema:"maxItems=4,description=Submission servers\\, tried in this order. Without one\\, messages are held and shown by foundry notify list."`
	Alarms []string `yaml:"alarms,omitempty" json:"alarms,omitempty" jsonschema:"maxItems=20,description=Who is told of alarms of the platform."`
	Locale string   `yaml:"locale,omitempty" json:"locale,omitempty" jsonschema:"enum=en,enum=de,description=Language of messages to people who chose none. Default en."`
	// How long the same alarm is counted instead of sent again.
	AlarmWindow config.Duration `yaml:"alarm_window,omitempty" json:"alarm_window,omitzero"`
}

// Relay is a submission server.
type Relay struct {
	Host     string          `yaml:"host" json:"host" jsonschema:"description=Name or address of the server."`
	Port     int             `yaml:"port,omitempty" json:"port,omitempty" jsonschema:"minimum=1,maximum=65535,description=Default 587 for starttls and 465 for implicit."`
	TLS      string          `yaml:"tls,omitempty" json:"tls,omitempty" jsonschema:"enum=starttls,enum=implicit,enum=none,description=Default starttls. none is for a loopback server in development only."`
	CA       string          `yaml:"ca,omitempty" json:"ca,omitempty" jsonschema:"description=PEM file with the authority of the server's certificate. Default: those of the system."`
	Name     string          `yaml:"name,omitempty" json:"name,omitempty" jsonschema:"description=Name in the server's certificate\\, where it differs from host."`
	Username string          `yaml:"username,omitempty" json:"username,omitempty" jsonschema:"description=For AUTH; without one\\, the server takes mail from this machine by its address."`
	Password config.Secret   `yaml:"password,omitempty" json:"password,omitzero"`
	Timeout  config.Duration `yaml:"timeout,omitempty" json:"timeout,omitzero"`
}

// Ways of protecting the connection to a relay.
const (
	StartTLS    = "starttls" // RFC 3207
	ImplicitTLS = "implicit" // RFC 8314 section 3.3
	PlainText   = "none"
)

const (
	maxRelays      = 4
	maxRecipients  = 20
	defaultTimeout = 30 * time.Second
	defaultWindow  = time.Hour
)

// Validate reports the first thing that is wrong. production forbids what
// development tolerates.
func (c Config) Validate(production bool) error {
	if len(c.Relays) > maxRelays {
		return problem.New(problem.Invalid, "mail-relays", fmt.Sprintf("More than %d relays are given.", maxRelays)).WithField("mail.relays")
	}
	if len(c.Relays) > 0 && c.From == "" {
		return problem.New(problem.Invalid, "mail-from", "A relay is given, but no sender.").WithField("mail.from").
			WithMend("Write for example from: Foundry <foundry@example.eu>, an address that your relay accepts.")
	}
	if c.From != "" {
		if _, err := ParseAddress("mail.from", c.From); err != nil {
			return err
		}
	}
	if c.Locale != "" && !slices.Contains(Locales, c.Locale) {
		return problem.New(problem.Invalid, "mail-locale", fmt.Sprintf("There are no messages in %q.", c.Locale)).WithField("mail.locale").WithMend("Use one of: " + strings.Join(Locales, ", ") + ".")
	}
	if len(c.Alarms) > maxRecipients {
		return problem.New(problem.Invalid, "mail-alarms", fmt.Sprintf("More than %d addresses are given.", maxRecipients)).WithField("mail.alarms").WithMend("Use the address of a list.")
	}
	for i, a := range c.Alarms {
		if _, err := ParseAddress(fmt.Sprintf("mail.alarms[%d]", i), a); err != nil {
			return err
		}
	}
	for i, r := range c.Relays {
		if err := r.validate(fmt.Sprintf("mail.relays[%d]", i), production); err != nil {
			return err
		}
	}
	return nil
}

func (r Relay) validate(field string, production bool) error {
	switch {
	case r.Host == "" || len(r.Host) > 253 || strings.ContainsAny(r.Host, " /:@\r\n\t") && net.ParseIP(r.Host) == nil:
		return problem.New(problem.Invalid, "mail-host", "The relay's host is missing or is no host name.").WithField(field + ".host").WithMend("Write for example host: smtp.example.eu; the port has its own field.")
	case r.Port < 0 || r.Port > 65535:
		return problem.New(problem.Invalid, "mail-port", "The port is not one.").WithField(field + ".port")
	case r.TLS != "" && r.TLS != StartTLS && r.TLS != ImplicitTLS && r.TLS != PlainText:
		return problem.New(problem.Invalid, "mail-tls", fmt.Sprintf("%q is no way of protecting the connection.", r.TLS)).WithField(field + ".tls").WithMend("Use starttls or implicit.")
	case r.TLS == PlainText && (production || !loopback(r.Host)):
		return problem.New(problem.Denied, "mail-plaintext", "Mail holds personal data and sign-in links: it is not sent unencrypted, except to a loopback server in development.").
			WithField(field + ".tls").WithMend("Use starttls or implicit.")
	case r.TLS == PlainText && r.Username != "":
		return problem.New(problem.Denied, "mail-plaintext-password", "A password is not sent over an unencrypted connection.").WithField(field + ".username")
	case (r.Username == "") != !r.Password.Set():
		return problem.New(problem.Invalid, "mail-login-half", "A user name and a password come together.").WithField(field).WithMend("Give both username and password, or neither.")
	case strings.ContainsAny(r.Username, "\r\n\x00"):
		return problem.New(problem.Invalid, "mail-username", "The user name has control characters.").WithField(field + ".username")
	case r.Timeout != 0 && (time.Duration(r.Timeout) < time.Second || time.Duration(r.Timeout) > 10*time.Minute):
		return problem.New(problem.Invalid, "mail-timeout", "A timeout is from 1s to 10m.").WithField(field + ".timeout")
	}
	if r.CA != "" {
		if _, err := r.roots(field); err != nil {
			return err
		}
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// roots are the authorities to trust; nil: those of the system.
func (r Relay) roots(field string) (*x509.CertPool, error) {
	if r.CA == "" {
		return nil, nil
	}
	text, err := os.ReadFile(r.CA)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		return nil, problem.New(problem.Invalid, "mail-ca", "The file does not hold a certificate in PEM form: "+r.CA+".").WithField(field + ".ca").Wrap(err)
	}
	return pool, nil
}

// address is where to connect to.
func (r Relay) address() string {
	port := r.Port
	if port == 0 {
		port = map[string]int{ImplicitTLS: 465}[r.TLS]
	}
	if port == 0 {
		port = 587
	}
	return net.JoinHostPort(r.Host, fmt.Sprint(port))
}

// tlsConfig wants TLS 1.2 or newer: outside servers are not ours to raise to
// 1.3 (RFC 9325 section 3.1.1).
func (r Relay) tlsConfig() (*tls.Config, error) {
	roots, err := r.roots("mail.relays")
	if err != nil {
		return nil, err
	}
	name := r.Name
	if name == "" {
		name = r.Host
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: name}, nil
}

func (r Relay) timeout() time.Duration { return r.Timeout.Or(defaultTimeout) }

// attempt bounds one attempt over all relays.
func (c Config) attempt() time.Duration {
	sum := 5 * time.Second
	for _, r := range c.Relays {
		sum += r.timeout()
	}
	return sum
}
