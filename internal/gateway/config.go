package gateway

import (
	"fmt"
	"regexp"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// Config is what an operator writes about models. The zero value works:
// providers are then found on the machine (Ollama) or built in (simulator).
type Config struct {
	Currency      string            `yaml:"currency,omitempty" json:"currency,omitempty" jsonschema:"description=ISO 4217 code of the ledger. Default EUR.,pattern=^[A-Z]{3}$"`
	ExchangeRates map[string]string `yaml:"exchange_rates,omitempty" json:"exchange_rates,omitempty" jsonschema:"description=How much one unit of another currency is worth in the ledger's currency\\, as a decimal: {USD: \"0.92\"}."`
	Providers     []ProviderConfig  `yaml:"providers,omitempty" json:"providers,omitempty" jsonschema:"description=Where models are served."`
	Models        []ModelConfig     `yaml:"models,omitempty" json:"models,omitempty" jsonschema:"description=Logical model names and their routes. Without any\\, every provider's model is offered under its own name."`
	Limits        LimitsConfig      `yaml:"limits,omitempty" json:"limits,omitempty" jsonschema:"description=Bounds of this node."`
}

// Validate reports the first thing that contradicts itself, naming the field.
// What single values may be is checked where they are used.
func (c Config) Validate() error {
	providers := map[string]bool{}
	var names []string
	for i, p := range c.Providers {
		if !nameRule.MatchString(p.Name) {
			return problem.New(problem.Invalid, "provider-name", fmt.Sprintf("%q is not a valid name.", p.Name)).
				WithField(fmt.Sprintf("providers[%d].name", i)).WithMend("Use 1 to 63 lower-case letters, digits and dashes.")
		}
		if providers[p.Name] {
			return problem.New(problem.Invalid, "provider-twice", fmt.Sprintf("Two providers are named %q.", p.Name)).
				WithField(fmt.Sprintf("providers[%d].name", i)).WithMend("Give each a name of its own.")
		}
		providers[p.Name] = true
		names = append(names, p.Name)
	}
	models := map[string]bool{}
	for i, m := range c.Models {
		field := fmt.Sprintf("models[%d]", i)
		if m.Name == "" || models[m.Name] {
			return problem.New(problem.Invalid, "model-name", fmt.Sprintf("%q is empty or used twice.", m.Name)).
				WithField(field + ".name").WithMend("Give each logical model a name of its own.")
		}
		models[m.Name] = true
		if len(m.Routes) == 0 {
			return problem.New(problem.Invalid, "model-routes", fmt.Sprintf("The model %q has no route.", m.Name)).
				WithField(field + ".routes").WithMend("Name at least one provider.")
		}
		for j, r := range m.Routes {
			if !providers[r.Provider] {
				e := problem.New(problem.Invalid, "route-provider", fmt.Sprintf("There is no provider %q.", r.Provider)).
					WithField(fmt.Sprintf("%s.routes[%d].provider", field, j)).WithMend("Name one of the providers of this file.")
				if near := config.Nearest(r.Provider, names); near != "" {
					e.Mend = fmt.Sprintf("Did you mean %q?", near)
				}
				return e
			}
			if r.Weight < 0 {
				return problem.New(problem.Invalid, "route-weight", "A weight cannot be negative.").WithField(fmt.Sprintf("%s.routes[%d].weight", field, j))
			}
		}
	}
	return nil
}

var nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// LimitsConfig bounds what a node takes on.
type LimitsConfig struct {
	InFlight     int             `yaml:"in_flight,omitempty" json:"in_flight,omitempty" jsonschema:"description=Requests answered at once; more are shed with 503. Default 4096."`
	BodyBytes    int64           `yaml:"body_bytes,omitempty" json:"body_bytes,omitempty" jsonschema:"description=Largest request body. Default 33554432 (32 MiB)."`
	BodyMemory   int64           `yaml:"body_memory,omitempty" json:"body_memory,omitempty" jsonschema:"description=Bytes of request bodies held at once; more are shed with 503. Default 268435456 (256 MiB)."`
	JournalBytes int64           `yaml:"journal_bytes,omitempty" json:"journal_bytes,omitempty" jsonschema:"description=Largest size of the journal on disk while the database is away. Default 4294967296 (4 GiB)."`
	FallbackCalm config.Duration `yaml:"fallback_calm,omitempty" json:"fallback_calm,omitzero" jsonschema:"type=string,description=How long the fleet's own models must have answered again before a fallback to others counts as over. Default 1m."`
	SnapshotAge  config.Duration `yaml:"snapshot_age,omitempty" json:"snapshot_age,omitempty" jsonschema:"description=How long keys and policies are trusted while the database is away. Default 15m."`
}

// ProviderConfig is one place where models are served, with the facts that
// sovereignty decisions rest on. What is not stated fails closed.
type ProviderConfig struct {
	Name            string                `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z0-9][a-z0-9-]{0\\,62}$,description=Unique name."`
	Kind            string                `yaml:"kind" json:"kind" jsonschema:"required,enum=ollama,enum=openai,enum=anthropic,enum=mistral,enum=openai-compatible,enum=simulator"`
	BaseURL         string                `yaml:"base_url,omitempty" json:"base_url,omitempty" jsonschema:"description=Root of the API\\, without /v1. Each kind but openai-compatible has a default."`
	APIKey          config.Secret         `yaml:"api_key,omitempty" json:"api_key,omitempty"`
	CA              string                `yaml:"ca,omitempty" json:"ca,omitempty" jsonschema:"description=PEM file of the authority that signed the provider's certificate\\, when it is a private one."`
	ClientCert      string                `yaml:"client_certificate,omitempty" json:"client_certificate,omitempty" jsonschema:"description=PEM file with the certificate that this node shows to the provider: mutual TLS 1.3\\, as an inference node of Foundry's asks for. With client_key and ca."`
	ClientKey       config.Secret         `yaml:"client_key,omitempty" json:"client_key,omitzero"`
	Node            string                `yaml:"node,omitempty" json:"node,omitempty" jsonschema:"description=Name of the node of this fleet\\, with the role inference\\, that the provider is: both show the fleet's certificates\\, and no file has to be named."`
	Health          string                `yaml:"health,omitempty" json:"health,omitempty" jsonschema:"description=Path at which the provider says how it is\\, as an inference node of Foundry's does; off for none. Default /health for an Ollama that is reached by mutual TLS."`
	Proxy           string                `yaml:"proxy,omitempty" json:"proxy,omitempty" jsonschema:"description=URL of an HTTP CONNECT proxy for egress."`
	Own             *bool                 `yaml:"own,omitempty" json:"own,omitempty" jsonschema:"description=True for models of the fleet itself\\, on its own servers."`
	Controller      string                `yaml:"controller,omitempty" json:"controller,omitempty" jsonschema:"description=ISO 3166-1 code of the jurisdiction that controls the provider."`
	Processing      []string              `yaml:"processing,omitempty" json:"processing,omitempty" jsonschema:"description=ISO 3166-1 codes of every place where requests are processed."`
	SubProcessors   []SubProcessorConfig  `yaml:"sub_processors,omitempty" json:"sub_processors,omitempty"`
	NoSubProcessors bool                  `yaml:"no_sub_processors,omitempty" json:"no_sub_processors,omitempty" jsonschema:"description=States that the provider uses none."`
	Retention       *RetentionConfig      `yaml:"retention,omitempty" json:"retention,omitempty"`
	Safeguards      []SafeguardConfig     `yaml:"safeguards,omitempty" json:"safeguards,omitempty" jsonschema:"description=Transfer instruments in place with this provider."`
	Models          []ProviderModelConfig `yaml:"models,omitempty" json:"models,omitempty" jsonschema:"description=Prices and limits by model. Models that the provider lists itself are added when discover is on."`
	Discover        *bool                 `yaml:"discover,omitempty" json:"discover,omitempty" jsonschema:"description=Ask the provider which models it has. Default true for the fleet's own\\, false otherwise."`
	Concurrency     int                   `yaml:"concurrency,omitempty" json:"concurrency,omitempty" jsonschema:"description=Calls at once. Default 64 (own) or 256."`
	Queue           int                   `yaml:"queue,omitempty" json:"queue,omitempty" jsonschema:"description=Calls waiting for a free place before they are sent elsewhere or shed. Default twice the concurrency."`
	Timeouts        TimeoutsConfig        `yaml:"timeouts,omitempty" json:"timeouts,omitempty"`
	Circuit         CircuitConfig         `yaml:"circuit,omitempty" json:"circuit,omitempty"`
}

// SubProcessorConfig is a company that the provider passes requests to.
type SubProcessorConfig struct {
	Name         string `yaml:"name" json:"name" jsonschema:"required"`
	Jurisdiction string `yaml:"jurisdiction" json:"jurisdiction" jsonschema:"required,description=ISO 3166-1 code."`
	Purpose      string `yaml:"purpose,omitempty" json:"purpose,omitempty"`
}

// RetentionConfig says how long the provider keeps requests, and by which contract.
type RetentionConfig struct {
	Days     *int        `yaml:"days" json:"days" jsonschema:"required,description=0: nothing is kept."`
	Contract string      `yaml:"contract,omitempty" json:"contract,omitempty" jsonschema:"description=Reference of the contract that says so."`
	Signed   config.Date `yaml:"signed,omitempty" json:"signed,omitzero" jsonschema:"type=string,format=date"`
	Expires  config.Date `yaml:"expires,omitempty" json:"expires,omitzero" jsonschema:"type=string,format=date"`
}

// SafeguardConfig is a transfer instrument.
type SafeguardConfig struct {
	Instrument string      `yaml:"instrument" json:"instrument" jsonschema:"required,enum=uk-adequacy,enum=uk-us-bridge,enum=idta,enum=uk-addendum,enum=eu-scc,enum=eu-adequacy,enum=eu-us-dpf"`
	Reference  string      `yaml:"reference" json:"reference" jsonschema:"required,description=Where the signed instrument is filed."`
	Covers     []string    `yaml:"covers" json:"covers" jsonschema:"required,description=ISO 3166-1 codes."`
	Expires    config.Date `yaml:"expires,omitempty" json:"expires,omitzero" jsonschema:"type=string,format=date"`
}

// ProviderModelConfig is one model of a provider.
type ProviderModelConfig struct {
	Name      string       `yaml:"name" json:"name" jsonschema:"required"`
	Tier      string       `yaml:"tier,omitempty" json:"tier,omitempty" jsonschema:"enum=bulk,enum=routine,enum=standard,enum=frontier"`
	Price     *PriceConfig `yaml:"price,omitempty" json:"price,omitempty"`
	Context   int64        `yaml:"context,omitempty" json:"context,omitempty" jsonschema:"description=Tokens of input and output together. Default 131072."`
	MaxOutput int64        `yaml:"max_output,omitempty" json:"max_output,omitempty" jsonschema:"description=Most tokens of one answer. Default: the context."`
}

// PriceConfig is the price of a million tokens, as decimals in quotes.
type PriceConfig struct {
	Currency    string `yaml:"currency,omitempty" json:"currency,omitempty" jsonschema:"pattern=^[A-Z]{3}$,description=ISO 4217. Default: the ledger's."`
	Input       string `yaml:"input" json:"input" jsonschema:"required"`
	Output      string `yaml:"output" json:"output" jsonschema:"required"`
	CachedInput string `yaml:"cached_input,omitempty" json:"cached_input,omitempty" jsonschema:"description=Default: the input price."`
	CacheWrite  string `yaml:"cache_write,omitempty" json:"cache_write,omitempty" jsonschema:"description=Default: the input price."`
}

// TimeoutsConfig bounds every phase of a call.
type TimeoutsConfig struct {
	Connect       config.Duration `yaml:"connect,omitempty" json:"connect,omitempty" jsonschema:"type=string,description=Default 5s."`
	FirstByte     config.Duration `yaml:"first_byte,omitempty" json:"first_byte,omitempty" jsonschema:"type=string,description=Default 2m."`
	BetweenChunks config.Duration `yaml:"between_chunks,omitempty" json:"between_chunks,omitempty" jsonschema:"type=string,description=Default 2m."`
	Total         config.Duration `yaml:"total,omitempty" json:"total,omitempty" jsonschema:"type=string,description=Default 30m."`
}

// CircuitConfig says when a provider is left alone, and for how long.
type CircuitConfig struct {
	Failures int             `yaml:"failures,omitempty" json:"failures,omitempty" jsonschema:"description=Failures in a row (or half of the calls in the window) that open the circuit. Default 5."`
	Window   config.Duration `yaml:"window,omitempty" json:"window,omitempty" jsonschema:"type=string,description=Default 30s."`
	Cooldown config.Duration `yaml:"cooldown,omitempty" json:"cooldown,omitempty" jsonschema:"type=string,description=Default 10s; then one call probes."`
}

// ModelConfig is a logical model name and where it may be answered.
type ModelConfig struct {
	Name   string        `yaml:"name" json:"name" jsonschema:"required,description=What clients ask for."`
	Tier   string        `yaml:"tier,omitempty" json:"tier,omitempty" jsonschema:"enum=bulk,enum=routine,enum=standard,enum=frontier,description=Bulk and routine work goes to the fleet's own models first."`
	Routes []RouteConfig `yaml:"routes" json:"routes" jsonschema:"required,minItems=1"`
}

// RouteConfig is one way to answer a logical model.
type RouteConfig struct {
	Provider string `yaml:"provider" json:"provider" jsonschema:"required"`
	Model    string `yaml:"model,omitempty" json:"model,omitempty" jsonschema:"description=The provider's own name for the model. Default: the logical name."`
	Order    int    `yaml:"order,omitempty" json:"order,omitempty" jsonschema:"description=Lower is tried first. Default: as written."`
	Weight   int    `yaml:"weight,omitempty" json:"weight,omitempty" jsonschema:"description=Share among routes of the same order. Default 1."`
}
