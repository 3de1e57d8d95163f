package sovereignty

import (
	"strconv"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// Provider is what is on record about whoever would answer a request.
//
// Nothing is assumed: a provider with no controlling jurisdiction, no
// processing location, no word about sub-processors or none about retention is
// refused until somebody records it.
type Provider struct {
	Name      string `json:"name" yaml:"name"`
	Own       bool   `json:"own,omitempty" yaml:"own,omitempty"`             // the fleet's own models
	Simulated bool   `json:"simulated,omitempty" yaml:"simulated,omitempty"` // built in, in this process, calls nobody; must be Own

	// Controller is where whoever controls the provider can be compelled: for
	// a subsidiary, the parent's country. For the fleet's own models, the
	// operator's.
	Controller    Jurisdiction   `json:"controller,omitempty" yaml:"controller,omitempty"`
	Processing    []Jurisdiction `json:"processing,omitempty" yaml:"processing,omitempty"`
	SubProcessors []SubProcessor `json:"sub_processors,omitempty" yaml:"sub_processors,omitempty"`
	// NoSubProcessors records that there are none. An empty list alone means,
	// for a third party, that nobody has looked.
	NoSubProcessors bool `json:"no_sub_processors,omitempty" yaml:"no_sub_processors,omitempty"`

	Retention  Retention   `json:"retention,omitzero" yaml:"retention,omitempty"`
	Safeguards []Safeguard `json:"safeguards,omitempty" yaml:"safeguards,omitempty"`
}

// SubProcessor is another company the provider passes data to (GDPR art. 28(2)).
type SubProcessor struct {
	Name         string       `json:"name" yaml:"name"`
	Jurisdiction Jurisdiction `json:"jurisdiction" yaml:"jurisdiction"`
	Purpose      string       `json:"purpose,omitempty" yaml:"purpose,omitempty"`
}

// Retention is how long the provider keeps what it is sent, and the contract
// that says so. With neither None nor Days, it is unknown.
type Retention struct {
	None     bool     `json:"none,omitempty" yaml:"none,omitempty"`
	Days     int      `json:"days,omitempty" yaml:"days,omitempty"`
	Contract Contract `json:"contract,omitzero" yaml:"contract,omitempty"`
}

// Contract is a dated record. It counts from Signed on and before Expires. Where
// a paper says "until 31 January", Expires is midnight at the start of 1
// February, UTC, and traces say "the end of 31 January".
type Contract struct {
	Reference string    `json:"reference,omitempty" yaml:"reference,omitempty"`
	Signed    time.Time `json:"signed,omitzero" yaml:"signed,omitempty"`
	Expires   time.Time `json:"expires,omitzero" yaml:"expires,omitempty"`
}

// Instrument is what makes a transfer to a third country lawful.
type Instrument string

const (
	UKAdequacy Instrument = "uk-adequacy"  // UK adequacy regulations (UK GDPR art. 45A; DPA 2018 Sch. 21)
	UKUSBridge Instrument = "uk-us-bridge" // UK Extension to the EU-US DPF (SI 2023/1028); recipient certified
	IDTA       Instrument = "idta"         // International Data Transfer Agreement (DPA 2018 s. 119A, in force 21 March 2022)
	UKAddendum Instrument = "uk-addendum"  // Addendum to the EU SCCs (DPA 2018 s. 119A)
	EUSCC      Instrument = "eu-scc"       // standard contractual clauses ((EU) 2021/914)
	EUAdequacy Instrument = "eu-adequacy"  // Commission decision (GDPR art. 45)
	EUUSDPF    Instrument = "eu-us-dpf"    // EU-US Data Privacy Framework ((EU) 2023/1795); recipient certified
)

// Safeguard is a transfer record: the instrument, where it is written down,
// which destinations it covers and when it stops counting. One without a
// reference, a destination or an expiry covers nothing.
type Safeguard struct {
	Instrument Instrument `json:"instrument" yaml:"instrument"`
	Reference  string     `json:"reference" yaml:"reference"`
	Covers     Set        `json:"covers" yaml:"covers"`
	Expires    time.Time  `json:"expires,omitzero" yaml:"expires,omitempty"`
}

// Validate reports what is malformed or contradicts itself in the record. It
// says nothing about what is missing: Decide refuses that, with reasons.
func (p Provider) Validate() error {
	if !isName(p.Name) {
		return invalid("provider-name", "name", "A provider needs a name of at most 64 printable characters.", "")
	}
	if p.Simulated && !p.Own {
		return invalid("provider-simulated", "simulated", "A simulated provider runs in this process, so it is the fleet's own.", "Set own: true.")
	}
	if p.Controller != "" && !p.Controller.Valid() {
		return unknownCountry("controller", p.Controller)
	}
	for i, j := range p.Processing {
		if !j.Valid() {
			return unknownCountry(at("processing", i), j)
		}
	}
	if err := p.validateSubProcessors(); err != nil {
		return err
	}
	if err := p.Retention.validate(); err != nil {
		return err
	}
	for i, s := range p.Safeguards {
		if err := s.validate(at("safeguards", i)); err != nil {
			return err
		}
	}
	return nil
}

func (p Provider) validateSubProcessors() error {
	if p.NoSubProcessors && len(p.SubProcessors) > 0 {
		return invalid("provider-sub-processors", "no_sub_processors", "The record lists sub-processors and also says there are none.", "Keep one of the two.")
	}
	for i, s := range p.SubProcessors {
		if !isName(s.Name) {
			return invalid("provider-sub-processors", at("sub_processors", i)+".name", "A sub-processor needs a name of at most 64 printable characters.", "")
		}
		if !s.Jurisdiction.Valid() {
			return unknownCountry(at("sub_processors", i)+".jurisdiction", s.Jurisdiction)
		}
	}
	return nil
}

func (r Retention) validate() error {
	c := r.Contract
	switch {
	case r.None && r.Days != 0:
		return invalid("provider-retention", "retention", "Retention cannot be none and a number of days.", "Keep one of the two.")
	case r.Days < 0:
		return invalid("provider-retention", "retention.days", "Days of retention cannot be negative.", "Use none: true if nothing is kept.")
	case c.Reference != "" && !isText(c.Reference):
		return invalid("provider-contract", "retention.contract.reference", "A reference has at most 200 printable characters.", "")
	case c.Reference != "" && (c.Signed.IsZero() || c.Expires.IsZero()):
		return invalid("provider-contract", "retention.contract", "A contract record needs the date it was signed and the date it expires.", "For a contract without an end, use the date of its next review.")
	case !c.Expires.IsZero() && !c.Expires.After(c.Signed):
		return invalid("provider-contract", "retention.contract.expires", "The contract expires before it is signed.", "")
	}
	return nil
}

func (s Safeguard) validate(field string) error {
	info, ok := instruments[s.Instrument]
	switch {
	case !ok:
		return invalid("safeguard-instrument", field+".instrument", quote(string(s.Instrument))+" is not a transfer instrument.",
			"Use uk-adequacy, uk-us-bridge, idta, uk-addendum, eu-scc, eu-adequacy or eu-us-dpf.")
	case s.Reference == "" || !isText(s.Reference):
		return invalid("safeguard-reference", field+".reference", "A safeguard needs a reference of at most 200 printable characters.",
			"Name the signed document, or the certification and where it is listed.")
	case s.Covers.Empty():
		return invalid("safeguard-covers", field+".covers", "A safeguard needs the destinations it covers.", "")
	case !info.reaches.IsZero() && !info.reaches.Contains(s.Covers):
		return invalid("safeguard-covers", field+".covers", info.title+" cannot cover all of "+s.Covers.String()+".",
			"It reaches "+info.reaches.String()+".")
	case s.Expires.IsZero():
		return invalid("safeguard-expires", field+".expires", "A safeguard needs a date from which it no longer counts.",
			"For an agreement without an end, use the date of its next review.")
	}
	return nil
}

func invalid(code, field, detail, mend string) *problem.Error {
	return problem.New(problem.Invalid, code, detail).WithField(field).WithMend(mend)
}

func unknownCountry(field string, j Jurisdiction) *problem.Error {
	_, err := ParseJurisdiction(string(j))
	return problem.From(err).WithField(field)
}

func at(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }
