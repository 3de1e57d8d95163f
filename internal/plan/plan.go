// Package plan knows the fleet file: the organisation, its nodes, functions,
// suppliers, promises, scenarios and recovery plans, as one strict YAML
// document, and what follows from it: who depends on what, what falls when
// something is lost, how long recovery takes.
//
// It is pure: it reads what it is given and asks no clock, network or
// database. What is wrong with a plan is in the package lint.
package plan

import (
	"github.com/missionopsai/foundry/internal/config"
)

// File is a fleet file as written. Every list is of named things; names are
// unique in their list, and a field with a `ref` tag holds names of that list.
// The order of a list says nothing unless its field is tagged `ordered`.
type File struct {
	Version      int            `yaml:"version" json:"version" jsonschema:"required,enum=1" jsonschema_description:"Version of this format; 1."`
	Organisation Organisation   `yaml:"organisation" json:"organisation" jsonschema:"required"`
	Documents    []Document     `yaml:"documents,omitempty" json:"documents,omitempty" jsonschema_description:"The documents that this plan comes from or publishes: policies, plans, contracts."`
	People       []Person       `yaml:"people,omitempty" json:"people,omitempty"`
	Sites        []Site         `yaml:"sites,omitempty" json:"sites,omitempty"`
	Suppliers    []Supplier     `yaml:"suppliers,omitempty" json:"suppliers,omitempty"`
	Nodes        []Node         `yaml:"nodes,omitempty" json:"nodes,omitempty"`
	Functions    []Function     `yaml:"functions,omitempty" json:"functions,omitempty"`
	Watches      []Watch        `yaml:"watches,omitempty" json:"watches,omitempty" jsonschema_description:"Other fleets of which this one looks at public endpoints from outside, to call its own people when they fail. The two share nothing: the other fleet does not count what is seen here."`
	Data         []DataClass    `yaml:"data,omitempty" json:"data,omitempty" jsonschema_description:"Classes of data, and what happens to each."`
	Backups      []Backup       `yaml:"backups,omitempty" json:"backups,omitempty"`
	Clients      []Client       `yaml:"clients,omitempty" json:"clients,omitempty"`
	Notices      []Notice       `yaml:"notices,omitempty" json:"notices,omitempty" jsonschema_description:"Who must be told what by when."`
	Scenarios    []Scenario     `yaml:"scenarios,omitempty" json:"scenarios,omitempty"`
	Recovery     []RecoveryPlan `yaml:"recovery,omitempty" json:"recovery,omitempty" jsonschema_description:"Recovery plans: ordered steps that bring functions back."`
	Runbooks     []Runbook      `yaml:"runbooks,omitempty" json:"runbooks,omitempty"`
	Security     Security       `yaml:"security,omitempty" json:"security,omitzero"`
	Duties       []Duty         `yaml:"duties,omitempty" json:"duties,omitempty" jsonschema_description:"What is done again and again: reviews, exercises, updates, tests."`
	Claims       []Claim        `yaml:"claims,omitempty" json:"claims,omitempty" jsonschema_description:"Standards, certificates and insurance claimed."`
	Commitments  []Commitment   `yaml:"commitments,omitempty" json:"commitments,omitempty" jsonschema_description:"Each promise made in a policy, contract or claim, in a form that can be compared."`
	Suppress     []Suppression  `yaml:"suppress,omitempty" json:"suppress,omitempty" jsonschema_description:"Findings that are accepted for a time."`
}

// Organisation is whose plan this is.
type Organisation struct {
	Name         string   `yaml:"name" json:"name" jsonschema:"required"`
	Registration string   `yaml:"registration,omitempty" json:"registration,omitempty"`
	Country      string   `yaml:"country,omitempty" json:"country,omitempty" is:"country" jsonschema_description:"ISO 3166-1 code of its seat, such as GB."`
	Home         []string `yaml:"home,omitempty" json:"home,omitempty" is:"countries" jsonschema_description:"Countries where its data may be without more ado: ISO 3166-1 codes, or EEA, EU."`
	Operators    []string `yaml:"operators,omitempty" json:"operators,omitempty" ref:"person" jsonschema_description:"Who operates the systems, and recovers functions that name nobody."`
	Owner        string   `yaml:"owner,omitempty" json:"owner,omitempty" ref:"person" jsonschema_description:"Who owns the plan and answers for it."`
	Approvers    []string `yaml:"approvers,omitempty" json:"approvers,omitempty" ref:"person" jsonschema_description:"Who approves the plan; not the owner alone."`
	Approvals    int      `yaml:"approvals,omitempty" json:"approvals,omitempty" jsonschema:"minimum=1,maximum=5" jsonschema_description:"How many different people have to approve a plan; 1 when left out."`
	Remote       *bool    `yaml:"remote_first,omitempty" json:"remote_first,omitempty" jsonschema_description:"Whether nobody needs to be at a certain place to work."`
	Source       []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Source names a clause of a document: "bcp 4.1", where bcp is the name of one
// of the plan's documents.
type Source string

// Document is a text that the plan comes from, or publishes.
type Document struct {
	Name        string      `yaml:"name" json:"name" jsonschema:"required"`
	Title       string      `yaml:"title,omitempty" json:"title,omitempty"`
	Version     string      `yaml:"version,omitempty" json:"version,omitempty"`
	Date        config.Date `yaml:"date,omitempty" json:"date,omitzero"`
	Owner       string      `yaml:"owner,omitempty" json:"owner,omitempty" ref:"person"`
	ApprovedBy  []string    `yaml:"approved_by,omitempty" json:"approved_by,omitempty" ref:"person"`
	ReviewEvery Span        `yaml:"review_every,omitempty" json:"review_every,omitzero"`
	Reviewed    config.Date `yaml:"reviewed,omitempty" json:"reviewed,omitzero"`
	Acknowledge []string    `yaml:"acknowledge,omitempty" json:"acknowledge,omitempty" ref:"person" jsonschema_description:"Who must have read it."`
	Source      []Source    `yaml:"source,omitempty" json:"source,omitempty"`
}

// Person is somebody the plan counts on. Names are roles or initials where a
// plan is published: the file holds no more of a person than it needs.
type Person struct {
	Name        string   `yaml:"name" json:"name" jsonschema:"required"`
	Title       string   `yaml:"title,omitempty" json:"title,omitempty"`
	Account     string   `yaml:"account,omitempty" json:"account,omitempty" is:"account" jsonschema_description:"With which this person signs in to the platform: an e-mail address, or the id that foundry person list shows. Whoever approves or reads the plan is known by it."`
	Outside     bool     `yaml:"outside,omitempty" json:"outside,omitempty" jsonschema_description:"A contractor or contact who is not of the organisation."`
	Deputies    []string `yaml:"deputies,omitempty" json:"deputies,omitempty" ordered:"true" ref:"person" jsonschema_description:"Who takes over, in this order."`
	Reachable   string   `yaml:"reachable,omitempty" json:"reachable,omitempty" jsonschema:"enum=always,enum=office-hours,enum=best-effort" jsonschema_description:"When somebody answers: always (24 × 7), office-hours, best-effort."`
	Credentials string   `yaml:"credentials,omitempty" json:"credentials,omitempty" jsonschema:"enum=all,enum=scoped,enum=none" jsonschema_description:"What this person can open: all of it, what the tasks need, nothing."`
	Holds       []string `yaml:"holds,omitempty" json:"holds,omitempty" jsonschema_description:"What is in this person's keeping: a share of the recovery key, a token."`
	Contract    Contract `yaml:"contract,omitempty" json:"contract,omitzero" jsonschema_description:"For somebody outside: what obliges them to come."`
	CheckIn     Span     `yaml:"check_in,omitempty" json:"check_in,omitzero" jsonschema_description:"How often this person says that they are there; a missed check-in calls the deputy."`
	AwayAfter   Span     `yaml:"away_after,omitempty" json:"away_after,omitzero" jsonschema_description:"After which absence the next in line, such as a contractor, is engaged."`
	Briefed     Date     `yaml:"briefed,omitempty" json:"briefed,omitzero" jsonschema_description:"When this person last practised the part."`
	Source      []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Contract is an agreement with an end.
type Contract struct {
	Reference string `yaml:"reference,omitempty" json:"reference,omitempty"`
	Until     Date   `yaml:"until,omitempty" json:"until,omitzero"`
	Notice    Span   `yaml:"notice,omitempty" json:"notice,omitzero" jsonschema_description:"How long before its end it must be renewed or given up."`
	Owner     string `yaml:"owner,omitempty" json:"owner,omitempty" ref:"person"`
}

// Date is a calendar day in UTC, 2026-12-31.
type Date = config.Date

// Commitment is one promise, in a form that can be compared with other
// promises and with what the plan says of itself. Exactly one bound is given.
type Commitment struct {
	Name     string   `yaml:"name" json:"name" jsonschema:"required"`
	Subject  string   `yaml:"subject" json:"subject" jsonschema:"required" jsonschema_description:"What is promised, from the list of subjects: foundry plan subjects."`
	Of       []string `yaml:"of,omitempty" json:"of,omitempty" jsonschema_description:"Names of the functions, nodes, backups, suppliers or clients it is promised of; none means all."`
	AtMost   Bound    `yaml:"at_most,omitempty" json:"at_most,omitzero"`
	AtLeast  Bound    `yaml:"at_least,omitempty" json:"at_least,omitzero"`
	Equals   Bound    `yaml:"equals,omitempty" json:"equals,omitzero"`
	OneOf    []string `yaml:"one_of,omitempty" json:"one_of,omitempty"`
	NoneOf   []string `yaml:"none_of,omitempty" json:"none_of,omitempty"`
	When     string   `yaml:"when,omitempty" json:"when,omitempty" jsonschema:"enum=always,enum=planned,enum=unplanned,enum=where-required" jsonschema_description:"In which circumstances the promise holds; always when left out."`
	From     string   `yaml:"from,omitempty" json:"from,omitempty" jsonschema:"enum=start,enum=detection,enum=awareness,enum=confirmation,enum=scope-known,enum=containment" jsonschema_description:"What starts the clock of a promise about time."`
	Quote    string   `yaml:"quote,omitempty" json:"quote,omitempty" jsonschema_description:"The words of the promise."`
	Evidence []string `yaml:"evidence,omitempty" json:"evidence,omitempty" jsonschema_description:"What shows that it is kept: ids of controls, such as O-29, or names of duties."`
	Source   []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Suppression accepts findings of a rule for a time.
type Suppression struct {
	Rule   string `yaml:"rule" json:"rule" jsonschema:"required" jsonschema_description:"Id of the rule."`
	At     string `yaml:"at,omitempty" json:"at,omitempty" jsonschema_description:"Name of the thing the finding is about; left out, every finding of the rule."`
	Reason string `yaml:"reason" json:"reason" jsonschema:"required"`
	By     string `yaml:"by" json:"by" jsonschema:"required" ref:"person"`
	Until  Date   `yaml:"until" json:"until" jsonschema:"required" jsonschema_description:"Last day on which it is accepted."`
}
