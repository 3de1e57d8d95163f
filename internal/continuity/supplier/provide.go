package supplier

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"text/template"

	"github.com/missionopsai/foundry/internal/problem"
)

// Server is a server of a supplier.
type Server struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Power     Power             `json:"power"`
	Addresses []string          `json:"addresses,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// Price is what a server costs, as its supplier says: decimals, with taxes.
type Price struct {
	Monthly  string `json:"monthly"`
	Hourly   string `json:"hourly"`
	Currency string `json:"currency"`
}

// String is the price in words.
func (p Price) String() string {
	return fmt.Sprintf("%s %s a month at most, %s an hour", p.Currency, short(p.Monthly), short(p.Hourly))
}

// short cuts a decimal to four places.
func short(d string) string {
	whole, part, _ := strings.Cut(d, ".")
	if part = strings.TrimRight(part[:min(len(part), 4)], "0"); part == "" {
		return whole
	}
	return whole + "." + part
}

// Within says whether a price is at most as high as allowed, which is an amount
// in the supplier's currency.
func (p Price) Within(most string) error {
	limit, ok := new(big.Rat).SetString(most)
	cost, known := new(big.Rat).SetString(p.Monthly)
	switch {
	case most == "" || !ok || limit.Sign() < 0:
		return problem.New(problem.Denied, "supplier-cost-unbounded", "Nobody has said what a server may cost, so none is ordered.").WithField("provision.max_monthly").WithMend("Write the highest price of a month, for example max_monthly: \"60.00\".").Wrap(ErrCost)
	case !known:
		return problem.New(problem.Upstream, "supplier-price", "The supplier does not say what it costs, so it is not ordered.").Wrap(ErrCost)
	case cost.Cmp(limit) > 0:
		return problem.New(problem.Denied, "supplier-cost", fmt.Sprintf("It costs %s; %s is allowed.", p, most)).WithField("provision.max_monthly").WithMend("Choose a smaller type, or allow more.").Wrap(ErrCost)
	}
	return nil
}

// Wanted is a server that shall be there.
type Wanted struct {
	Name     string // unique in the project: the same name is the same server
	Order    string // of which order it is; a server of that name that is of another is somebody else's
	Type     string
	Image    string
	Location string
	Keys     []string // names of SSH keys of the project
	UserData string
	Most     string // of a month, in the supplier's currency
}

// orderLabel says on a server which order it came from.
const orderLabel = "foundry-order"

// Price says what a server would cost.
func (c *Cloud) Price(ctx context.Context, w Wanted) (Price, error) {
	a, err := c.call(ctx, http.MethodGet, "/server_types?name="+url.QueryEscape(w.Type), nil)
	if err != nil {
		return Price{}, err
	}
	currency, err := c.call(ctx, http.MethodGet, "/pricing", nil)
	if err != nil {
		return Price{}, err
	}
	for _, t := range a.Types {
		for _, p := range t.Prices {
			if t.Name == w.Type && p.Location == w.Location && currency.Pricing != nil {
				return Price{Monthly: p.Monthly.Gross, Hourly: p.Hourly.Gross, Currency: currency.Pricing.Currency}, nil
			}
		}
	}
	return Price{}, problem.New(problem.NotFound, "supplier-type", fmt.Sprintf("Hetzner Cloud has no server of type %.40q in %.40q.", w.Type, w.Location)).
		WithField("provision.type").WithMend("Compare the types and locations in the project's console.").Wrap(ErrAbsent)
}

// Provide sees to it that a server is there, and gives it: a server of the order
// that is there already is that server, so doing it twice is doing it once.
func (c *Cloud) Provide(ctx context.Context, w Wanted) (s Server, made bool, err error) {
	if err := w.check(); err != nil {
		return s, false, err
	}
	s, err = c.own(ctx, w)
	if err == nil || !errors.Is(err, ErrAbsent) {
		return s, false, err
	}
	price, err := c.Price(ctx, w)
	if err != nil {
		return s, false, err
	}
	if err := price.Within(w.Most); err != nil {
		return s, false, err
	}
	a, err := c.call(ctx, http.MethodPost, "/servers", map[string]any{"name": w.Name, "server_type": w.Type, "image": w.Image, "location": w.Location,
		"ssh_keys": w.Keys, "user_data": w.UserData, "start_after_create": true, "labels": map[string]string{orderLabel: w.Order}})
	switch {
	case errors.Is(err, ErrUnknown):
		// The answer was lost. The name is unique: if it is there, it is ours.
		if s, found := c.own(ctx, w); found == nil {
			return s, true, nil
		}
		return s, false, err
	case err != nil:
		// Another leader may have been faster.
		if s, found := c.own(ctx, w); found == nil {
			return s, false, nil
		}
		return s, false, err
	case a.Server == nil || a.Server.Name != w.Name:
		return s, false, c.door.garbled(http.MethodPost)
	}
	if err := c.finish(ctx, a.Action); err != nil {
		return a.Server.server(), true, err
	}
	s, err = c.own(ctx, w)
	return s, true, err
}

// own finds the server of an order.
func (c *Cloud) own(ctx context.Context, w Wanted) (Server, error) {
	s, err := c.Find(ctx, w.Name)
	if err == nil && s.Labels[orderLabel] != w.Order {
		return Server{}, problem.New(problem.Conflict, "supplier-name-taken", "The project has a server "+w.Name+" that this order did not make: it is left alone.").
			WithMend("Rename or remove it in the project's console, or take it by hand.").Wrap(ErrRefused)
	}
	return s, err
}

var (
	nameRule  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	orderRule = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`) // as labels may be
	wordRule  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
)

func (w Wanted) check() error {
	for _, f := range []struct {
		field, value string
		rule         *regexp.Regexp
	}{{"name", w.Name, nameRule}, {"order", w.Order, orderRule}, {"provision.type", w.Type, wordRule}, {"provision.image", w.Image, wordRule}, {"provision.location", w.Location, wordRule}} {
		if !f.rule.MatchString(f.value) {
			return problem.New(problem.Invalid, "supplier-wanted", fmt.Sprintf("%.60q cannot be ordered.", f.value)).WithField(f.field).WithMend("Use letters, digits and dashes, as the project's console writes it.")
		}
	}
	return nil
}

// Setup is what a new server does at its first start.
type Setup struct {
	Binary string // https address of the program
	SHA256 string // of it
	Token  string // of its invitation: used once, and worth nothing afterwards
	Roles  string // separated by commas
	Config string // of the node, in YAML
}

// script is run by cloud-init as root at the first start. The token does not
// stand in the list of processes. It does stay in the user data, which the
// supplier keeps: so it is worth nothing once it was used or has run out.
var script = template.Must(template.New("").Parse(`#!/bin/sh
set -eu
umask 077
id foundry >/dev/null 2>&1 || useradd --system --home-dir /var/lib/foundry --create-home --shell /usr/sbin/nologin foundry
install -d -m 0755 /etc/foundry
cd "$(mktemp -d)"
for try in 1 2 3 4 5 6; do
  curl -fsSL --proto '=https' --tlsv1.2 -o foundry '{{.Binary}}' && break
  sleep 10
done
echo '{{.SHA256}}  foundry' | sha256sum -c -
install -m 0755 foundry /usr/local/bin/foundry
base64 -d > /etc/foundry/foundry.yaml <<'FILE'
{{.Config64}}
FILE
chown root:foundry /etc/foundry/foundry.yaml
chmod 0640 /etc/foundry/foundry.yaml
setpriv --reuid foundry --regid foundry --init-groups /usr/local/bin/foundry node join - --config /etc/foundry/foundry.yaml <<'FILE'
{{.Token}}
FILE
cat > /etc/systemd/system/foundry.service <<'FILE'
[Unit]
Description=Foundry
After=network-online.target
Wants=network-online.target
[Service]
User=foundry
ExecStart=/usr/local/bin/foundry serve --config /etc/foundry/foundry.yaml --role {{.Roles}}
Restart=always
RestartSec=2
[Install]
WantedBy=multi-user.target
FILE
systemctl daemon-reload
systemctl enable --now foundry.service
`))

var (
	binaryRule = regexp.MustCompile(`^https://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?$`)
	sumRule    = regexp.MustCompile(`^[0-9a-f]{64}$`)
	tokenRule  = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	rolesRule  = regexp.MustCompile(`^[a-z]+(,[a-z]+)*$`)
)

// UserData writes the script. What it is made of is checked, so that nothing of
// it is read as a command.
func (s Setup) UserData() (string, error) {
	for _, f := range []struct {
		field, value string
		rule         *regexp.Regexp
	}{{"provision.binary", s.Binary, binaryRule}, {"provision.sha256", s.SHA256, sumRule}, {"token", s.Token, tokenRule}, {"provision.roles", s.Roles, rolesRule}} {
		if !f.rule.MatchString(f.value) {
			return "", problem.New(problem.Invalid, "supplier-setup", "What a new server would be set up with is missing, or has characters that it cannot have.").WithField(f.field)
		}
	}
	var out strings.Builder
	if err := script.Execute(&out, map[string]string{"Binary": s.Binary, "SHA256": s.SHA256, "Token": s.Token, "Roles": s.Roles, "Config64": wrapped(s.Config)}); err != nil {
		return "", err
	}
	if out.Len() > 32<<10 { // the interface's bound on user_data
		return "", problem.New(problem.TooLarge, "supplier-setup-large", "What a new server would be set up with is larger than 32 KiB.").WithField("provision.config")
	}
	return out.String(), nil
}
