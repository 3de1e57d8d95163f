package ledger

import (
	"time"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/sovereignty"
)

// RequestFilter selects requests, newest first. Zero fields select everything.
type RequestFilter struct {
	From, To     time.Time // admitted in [From, To)
	Organisation uuid.UUID
	Key          string
	Model        string
	Provider     string
	State        string // one of the States
	Class        sovereignty.DataClass
	Limit        int    // at most 500; 0: 50
	After        string // the cursor that the page before returned
}

// The states of a request.
const (
	StateInFlight = "in flight"       // admitted, and its node is still running it
	StateUnknown  = "outcome unknown" // admitted, and its node stopped before the end was known
	StateOK       = "ok"              // otherwise the state is the result's name
)

// RequestRow is one request as the console lists it.
type RequestRow struct {
	ID            RequestID     `json:"id"`
	At            time.Time     `json:"at"`
	Organisation  uuid.UUID     `json:"organisation"`
	Key           string        `json:"key"`
	Endpoint      string        `json:"endpoint"`
	Model         string        `json:"model"`
	Tier          string        `json:"tier"`
	Class         string        `json:"class"`
	Stream        bool          `json:"stream"`
	Provider      string        `json:"provider"` // where it was answered, or where it is now
	ProviderModel string        `json:"provider_model"`
	Own           bool          `json:"own"`
	Jurisdiction  string        `json:"jurisdiction"`
	Controller    string        `json:"controller"`
	LeavesEEA     bool          `json:"leaves_eea"`
	Restricted    bool          `json:"restricted"`
	Safeguard     string        `json:"safeguard,omitempty"`
	State         string        `json:"state"`
	Status        int           `json:"status,omitempty"`
	InputTokens   int64         `json:"input_tokens"`
	OutputTokens  int64         `json:"output_tokens"`
	CachedTokens  int64         `json:"cached_tokens"`
	CacheWrite    int64         `json:"cache_write_tokens"`
	Reasoning     int64         `json:"reasoning_tokens"`
	UsageKnown    bool          `json:"usage_known"`
	ReservedNano  int64         `json:"reserved_nano"`
	CostNano      int64         `json:"cost_nano"`
	Held          bool          `json:"held"`
	Currency      string        `json:"currency"`
	Latency       time.Duration `json:"latency_ns"`
	FirstToken    time.Duration `json:"first_token_ns"`
	EndedAt       time.Time     `json:"ended_at,omitzero"`
	Tries         []Try         `json:"tries,omitempty"`
	Attempts      []AttemptRow  `json:"attempts,omitempty"` // every destination on record, the first too; only from Request
	Decision      [16]byte      `json:"-"`
}

// AttemptRow is one destination after the first.
type AttemptRow struct {
	N             int       `json:"n"`
	At            time.Time `json:"at"`
	Provider      string    `json:"provider"`
	ProviderModel string    `json:"provider_model"`
	Own           bool      `json:"own"`
	Jurisdiction  string    `json:"jurisdiction"`
	Controller    string    `json:"controller"`
	LeavesEEA     bool      `json:"leaves_eea"`
	Restricted    bool      `json:"restricted"`
	Safeguard     string    `json:"safeguard,omitempty"`
}

// RefusalRow is one request that was denied.
type RefusalRow struct {
	ID           RequestID `json:"id"`
	At           time.Time `json:"at"`
	Organisation uuid.UUID `json:"organisation"`
	Key          string    `json:"key"`
	Endpoint     string    `json:"endpoint"`
	Model        string    `json:"model"`
	Class        string    `json:"class"`
	Rule         string    `json:"rule"`
	Status       int       `json:"status"`
	Decision     [16]byte  `json:"-"`
}

// TransferFilter selects rows of the transfer register, newest first.
type TransferFilter struct {
	From, To     time.Time
	Organisation uuid.UUID
	Provider     string
	Destination  string // jurisdiction
	Limit        int
	After        string
}

// TransferRow is one entry of the transfer register: data that left the EEA,
// or a restricted transfer under the exporter's regime.
type TransferRow struct {
	ID            RequestID `json:"id"`
	N             int       `json:"n"` // 1: the first destination
	At            time.Time `json:"at"`
	Organisation  uuid.UUID `json:"organisation"`
	Key           string    `json:"key"`
	Class         string    `json:"class"`
	Provider      string    `json:"provider"`
	ProviderModel string    `json:"provider_model"`
	Destination   string    `json:"destination"`
	Controller    string    `json:"controller"`
	LeavesEEA     bool      `json:"leaves_eea"`
	Restricted    bool      `json:"restricted"`
	Safeguard     string    `json:"safeguard"`
	Decision      [16]byte  `json:"-"`
}

// Grouping is what usage is summed by.
type Grouping string

const (
	ByDay          Grouping = "day"
	ByHour         Grouping = "hour"
	ByModel        Grouping = "model"
	ByOrganisation Grouping = "organisation"
	ByJurisdiction Grouping = "jurisdiction"
	ByProvider     Grouping = "provider"
	ByKey          Grouping = "key"
)

// UsageFilter selects usage by the time of admission, in whole hours (the
// last two hours in whole minutes). To is exclusive; zero is now.
type UsageFilter struct {
	From, To     time.Time
	Organisation uuid.UUID
	GroupBy      Grouping
}

// UsageRow is the sum over one group and one currency.
type UsageRow struct {
	Group        string `json:"group"`
	Currency     string `json:"currency"`
	Requests     int64  `json:"requests"` // that have ended
	Errors       int64  `json:"errors"`
	Refusals     int64  `json:"refusals"`
	Unknown      int64  `json:"unknown"`
	InputTokens  int64  `json:"input_tokens"`
	OutputTokens int64  `json:"output_tokens"`
	CachedTokens int64  `json:"cached_tokens"`
	CostNano     int64  `json:"cost_nano"`
	HeldNano     int64  `json:"held_nano"` // of CostNano, for unknown outcomes
}

// Minute is one point of the overview's series.
type Minute struct {
	At       time.Time `json:"at"`
	Requests int64     `json:"requests"`
	Errors   int64     `json:"errors"`
	Refusals int64     `json:"refusals"`
}

// Amount is money in one currency.
type Amount struct {
	Currency string `json:"currency"`
	Nano     int64  `json:"nano"`
}

// Overview is the console's first page.
type Overview struct {
	At        time.Time     `json:"at"`
	Minutes   []Minute      `json:"minutes"` // the last 60, oldest first
	Requests  int64         `json:"requests"`
	Errors    int64         `json:"errors"`
	Refusals  int64         `json:"refusals"`
	P50       time.Duration `json:"p50_ns"` // latency of the last hour, to within 10 %
	P95       time.Duration `json:"p95_ns"`
	CostToday []Amount      `json:"cost_today"` // since midnight UTC
	Unknown   int64         `json:"unknown"`    // outcomes of the last 24 hours that are unknown
	HeldToday []Amount      `json:"held_today"`
	Alarms    []AlarmRow    `json:"alarms"`    // of periods that are not over
	Rejected  int64         `json:"rejected"`  // journal records set aside, ever; platform only
	Transfers int64         `json:"transfers"` // of the last 24 hours
	Fallbacks []FallbackRow `json:"fallbacks"` // that are not over
}

// AlarmRow is one alarm that was raised.
type AlarmRow struct {
	Budget
	PeriodStart time.Time `json:"period_start"`
	SpentNano   int64     `json:"spent_nano"`
	RaisedAt    time.Time `json:"raised_at"`
}

// BudgetRow is a budget and what has become of it in the current period.
type BudgetRow struct {
	Budget
	PeriodStart time.Time `json:"period_start"`
	PeriodEnd   time.Time `json:"period_end,omitzero"`
	SpentNano   int64     `json:"spent_nano"`  // settled, as the nodes last reported
	LeasedNano  int64     `json:"leased_nano"` // held by nodes and not spent
	Alarmed     bool      `json:"alarmed"`
}
