package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/continuity/dns"
	"github.com/missionopsai/foundry/internal/continuity/host"
	"github.com/missionopsai/foundry/internal/continuity/supplier"
	"github.com/missionopsai/foundry/internal/problem"
)

// ContinuityConfig says how a recovery may act on the world from this node. Left
// out, it may do nothing but what is Foundry's own, and asks people for the rest.
type ContinuityConfig struct {
	Allow     host.Config       `yaml:"allow,omitempty" json:"allow,omitzero" jsonschema:"description=What steps of a recovery may do on this machine. Nothing by default."`
	DNS       DNSConfig         `yaml:"dns,omitempty" json:"dns,omitzero"`
	Suppliers []supplier.Config `yaml:"suppliers,omitempty" json:"suppliers,omitempty" jsonschema:"description=Suppliers of the plan\\, and what Foundry may do with them. Every node that may lead the fleet needs them."`
}

// DNSConfig says which names a recovery moves, and how.
type DNSConfig struct {
	Zones     []ZoneConfig        `yaml:"zones,omitempty" json:"zones,omitempty"`
	Addresses map[string][]string `yaml:"addresses,omitempty" json:"addresses,omitempty" jsonschema:"description=Addresses at which clients reach each node of the plan: {node-2: [192.0.2.2\\, \"2001:db8::2\"]}. The names of a function get those of the node that takes over."`
	Resolvers []string            `yaml:"resolvers,omitempty" json:"resolvers,omitempty" jsonschema:"description=Resolvers\\, host:port\\, that are asked besides the zones' own servers what clients see."`
	TTL       config.Duration     `yaml:"ttl,omitempty" json:"ttl,omitzero" jsonschema:"type=string,description=Of names whose function has no dns_ttl in the plan. Default 1m."`
	Visible   config.Duration     `yaml:"visible,omitempty" json:"visible,omitzero" jsonschema:"type=string,description=How long it is waited until every server of a zone says the new. Default 2m."`
	Patience  config.Duration     `yaml:"patience,omitempty" json:"patience,omitzero" jsonschema:"type=string,description=How long a step goes on asking a name server that does not answer\\, before somebody is needed. At most 5m\\, as long as checks count. Default 4m."`
}

// ZoneConfig is a zone that a recovery may change.
type ZoneConfig struct {
	Name        string        `yaml:"name" json:"name" jsonschema:"required,description=For example example.eu."`
	Provider    string        `yaml:"provider" json:"provider" jsonschema:"required,enum=rfc2136,enum=hetzner"`
	Server      string        `yaml:"server,omitempty" json:"server,omitempty" jsonschema:"description=Of rfc2136: the zone's primary\\, host:port."`
	KeyName     string        `yaml:"key_name,omitempty" json:"key_name,omitempty" jsonschema:"description=Of rfc2136: the name of the TSIG key."`
	Algorithm   string        `yaml:"algorithm,omitempty" json:"algorithm,omitempty" jsonschema:"enum=hmac-sha256,enum=hmac-sha512,description=Default hmac-sha256."`
	Key         config.Secret `yaml:"key,omitempty" json:"key,omitzero"`
	Token       config.Secret `yaml:"token,omitempty" json:"token,omitzero"`
	Endpoint    string        `yaml:"endpoint,omitempty" json:"endpoint,omitempty" jsonschema:"description=Of hetzner: root of the interface\\, where it is not the supplier's own."`
	Authorities []string      `yaml:"authorities,omitempty" json:"authorities,omitempty" jsonschema:"description=The zone's name servers\\, host:port. Default: those that its NS records name."`
}

// check reports the first thing that cannot work. It asks nobody.
func (c ContinuityConfig) check() error {
	at := func(err error, path string) error {
		e := problem.From(err)
		e.Field = strings.TrimSuffix(path+"."+e.Field, ".")
		return e
	}
	if err := c.Allow.Validate(); err != nil {
		return at(err, "continuity.allow")
	}
	nodes, names := map[string]string{}, map[string]bool{}
	for i, s := range c.Suppliers {
		path := fmt.Sprintf("continuity.suppliers[%d]", i)
		if err := s.Validate(); err != nil {
			return at(err, path)
		}
		if names[s.Name] {
			return problem.New(problem.Invalid, "supplier-twice", fmt.Sprintf("The supplier %q stands there twice.", s.Name)).WithField(path + ".name")
		}
		names[s.Name] = true
		for node := range s.Servers {
			if nodes[node] != "" {
				return problem.New(problem.Invalid, "supplier-node-twice", fmt.Sprintf("%s is said to be a server of %s and of %s.", node, nodes[node], s.Name)).WithField(path + ".servers." + node)
			}
			nodes[node] = s.Name
		}
	}
	return c.DNS.check()
}

func (c DNSConfig) check() error {
	for i, z := range c.Zones {
		if z.Provider != "rfc2136" && z.Provider != "hetzner" {
			return problem.New(problem.Invalid, "dns-provider", fmt.Sprintf("%.40q is no way to change a zone.", z.Provider)).WithField(fmt.Sprintf("continuity.dns.zones[%d].provider", i)).WithMend("Use rfc2136 or hetzner.")
		}
	}
	for node, list := range c.Addresses {
		if _, err := addresses(list); err != nil || len(list) == 0 {
			return problem.New(problem.Invalid, "dns-address", fmt.Sprintf("%q are no addresses.", list)).WithField("continuity.dns.addresses." + node).WithMend("Write IP addresses, not names.")
		}
	}
	if c.TTL != 0 && (time.Duration(c.TTL) < time.Second || time.Duration(c.TTL) > 24*time.Hour) {
		return problem.New(problem.Invalid, "dns-ttl", "Names that a recovery moves are kept by others between 1s and 24h.").WithField("continuity.dns.ttl")
	}
	if time.Duration(c.Patience) > 5*time.Minute {
		return problem.New(problem.Invalid, "dns-patience", "After five minutes the checks of a recovery count no more, and names may not move by them.").WithField("continuity.dns.patience").WithMend("Write 5m or less.")
	}
	return nil
}

// addresses sorts addresses by family.
func addresses(list []string) (out map[string][]string, err error) {
	out = map[string][]string{}
	for _, text := range list {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return nil, problem.New(problem.Invalid, "dns-address", fmt.Sprintf("%.60q is no address.", text))
		}
		kind := "AAAA"
		if a = a.Unmap(); a.Is4() {
			kind = "A"
		}
		if !slices.Contains(out[kind], a.String()) {
			out[kind] = append(out[kind], a.String())
		}
	}
	return out, nil
}

// mover opens the zones.
func (c DNSConfig) mover(o dns.Options) (*dns.Mover, error) {
	for _, z := range c.Zones {
		zone := dns.Zone{Name: z.Name, Authorities: z.Authorities}
		if z.Provider == "hetzner" {
			zone.Provider = &dns.Hetzner{Endpoint: z.Endpoint, Token: z.Token}
		} else {
			zone.Provider = &dns.Update{Server: z.Server, KeyName: z.KeyName, Algorithm: z.Algorithm, Secret: z.Key}
		}
		o.Zones = append(o.Zones, zone)
	}
	o.Resolvers = c.Resolvers
	return dns.New(o)
}

// supplierOf is the supplier whose server a node is.
func (c ContinuityConfig) supplierOf(node string) (s supplier.Config, server string, found bool) {
	for _, s := range c.Suppliers {
		if id, ok := s.Servers[node]; ok {
			return s, id, true
		}
	}
	return s, "", false
}

// supplierNamed is a supplier by the name that the plan gives it.
func (c ContinuityConfig) supplierNamed(name string) (supplier.Config, bool) {
	for _, s := range c.Suppliers {
		if s.Name == name {
			return s, true
		}
	}
	return supplier.Config{Name: name}, false
}
