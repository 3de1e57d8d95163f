package supplier

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// Config is what an operator writes about one supplier of the plan.
type Config struct {
	Name      string            `yaml:"name" json:"name" jsonschema:"required,description=Name of the supplier in the continuity plan."`
	Kind      string            `yaml:"kind,omitempty" json:"kind,omitempty" jsonschema:"enum=hetzner-cloud,enum=hetzner-robot,description=Which interface it has. Left out: none that Foundry speaks."`
	Endpoint  string            `yaml:"endpoint,omitempty" json:"endpoint,omitempty" jsonschema:"description=Root of the interface\\, where it is not the supplier's own."`
	Token     config.Secret     `yaml:"token,omitempty" json:"token,omitzero"`
	User      string            `yaml:"user,omitempty" json:"user,omitempty" jsonschema:"description=Of hetzner-robot: the user of the web service."`
	Password  config.Secret     `yaml:"password,omitempty" json:"password,omitzero"`
	Servers   map[string]string `yaml:"servers,omitempty" json:"servers,omitempty" jsonschema:"description=Number of the server that each node of the plan is: {node-1: \"123456\"}. Only these can be switched."`
	Providers []string          `yaml:"providers,omitempty" json:"providers,omitempty" jsonschema:"description=Providers of models\\, as this file names them\\, that are this supplier's: what a switch of suppliers takes out of use. Default: the provider of the same name."`
	Provision *Provision        `yaml:"provision,omitempty" json:"provision,omitempty" jsonschema:"description=How a new server is ordered. Without it people order it."`
}

// Provision says what may be ordered.
type Provision struct {
	Type       string   `yaml:"type" json:"type" jsonschema:"required,description=For example cpx41."`
	Image      string   `yaml:"image,omitempty" json:"image,omitempty" jsonschema:"description=Default debian-12."`
	Location   string   `yaml:"location" json:"location" jsonschema:"required,description=For example hel1."`
	MaxMonthly string   `yaml:"max_monthly" json:"max_monthly" jsonschema:"required,description=Highest price of a month with taxes\\, as a decimal in the supplier's currency. What costs more is not ordered."`
	SSHKeys    []string `yaml:"ssh_keys,omitempty" json:"ssh_keys,omitempty" jsonschema:"description=Names of keys of the project."`
	Binary     string   `yaml:"binary" json:"binary" jsonschema:"required,description=https address from which a new server gets this program."`
	SHA256     string   `yaml:"sha256" json:"sha256" jsonschema:"required,description=Its SHA-256\\, in hexadecimal digits."`
	Roles      []string `yaml:"roles,omitempty" json:"roles,omitempty" jsonschema:"description=Of the new node. Default gateway and fleet."`
	Config     string   `yaml:"config,omitempty" json:"config,omitempty" jsonschema:"description=File with the configuration that the new node gets."`
}

// Validate reports the first thing that cannot work. It asks nobody.
func (c Config) Validate() error {
	if c.Name == "" {
		return problem.New(problem.Invalid, "supplier-name", "A supplier has the name that the plan gives it.").WithField("name")
	}
	if !slices.Contains([]string{"", "hetzner-cloud", "hetzner-robot"}, c.Kind) {
		e := problem.New(problem.Invalid, "supplier-kind", fmt.Sprintf("%.40q is no interface of a supplier.", c.Kind)).WithField("kind").WithMend("Use hetzner-cloud or hetzner-robot, or leave it out.")
		if near := config.Nearest(c.Kind, []string{"hetzner-cloud", "hetzner-robot"}); near != "" {
			e.Mend = fmt.Sprintf("Did you mean %q?", near)
		}
		return e
	}
	if c.Kind == "" && (len(c.Servers) > 0 || c.Provision != nil) {
		return problem.New(problem.Invalid, "supplier-kind-missing", "Servers are switched and ordered through an interface, and none is named.").WithField("kind").WithMend("Use hetzner-cloud or hetzner-robot.")
	}
	seen := map[string]string{}
	for node, id := range c.Servers {
		if err := number(id); err != nil {
			return problem.From(err).WithField("servers." + node)
		}
		if other, twice := seen[id]; twice {
			return problem.New(problem.Invalid, "supplier-server-twice", fmt.Sprintf("%s and %s cannot be the same server: fencing one would switch the other off.", min(node, other), max(node, other))).WithField("servers")
		}
		seen[id] = node
	}
	if p := c.Provision; p != nil {
		return c.checkProvision(p)
	}
	return nil
}

func (c Config) checkProvision(p *Provision) error {
	if c.Kind != "hetzner-cloud" {
		return problem.New(problem.Unsupported, "supplier-provision", "Servers are ordered by program from hetzner-cloud only: a dedicated server is bought by a person, and installed through the rescue system.").WithField("provision")
	}
	if err := p.Wanted("n", "o", "").check(); err != nil {
		return err
	}
	if err := (Price{Monthly: "0"}).Within(p.MaxMonthly); err != nil {
		return err
	}
	_, err := p.Setup("t", "").UserData()
	return err
}

// Wanted is the server that a node would get.
func (p *Provision) Wanted(name, order, userData string) Wanted {
	image := p.Image
	if image == "" {
		image = "debian-12"
	}
	return Wanted{Name: name, Order: order, Type: p.Type, Image: image, Location: p.Location, Keys: p.SSHKeys, UserData: userData, Most: p.MaxMonthly}
}

// RoleNames are the roles of the new node.
func (p *Provision) RoleNames() []string {
	if len(p.Roles) == 0 {
		return []string{"gateway", "fleet"}
	}
	return p.Roles
}

// Setup is how the new node sets itself up.
func (p *Provision) Setup(token, config string) Setup {
	return Setup{Binary: p.Binary, SHA256: p.SHA256, Token: token, Roles: strings.Join(p.RoleNames(), ","), Config: config}
}

// Machines opens the interface; nil: the supplier has none.
func (c Config) Machines() Machines {
	switch c.Kind {
	case "hetzner-cloud":
		return &Cloud{Endpoint: c.Endpoint, Token: c.Token}
	case "hetzner-robot":
		return &Robot{Endpoint: c.Endpoint, User: c.User, Password: c.Password}
	}
	return nil
}

// Owns says whether a provider of models is this supplier's.
func (c Config) Owns(provider string) bool {
	if len(c.Providers) == 0 {
		return provider == c.Name
	}
	return slices.Contains(c.Providers, provider)
}

// wrapped is a text in base64, in lines.
func wrapped(text string) string {
	all := base64.StdEncoding.EncodeToString([]byte(text))
	var lines []string
	for len(all) > 76 {
		lines, all = append(lines, all[:76]), all[76:]
	}
	return strings.Join(append(lines, all), "\n")
}
