// Package policy knows who may do what: it turns roles, policies in Cedar and
// the facts of one request into a decision, and says why. It only decides; it
// stores nothing and asks nobody.
//
// What is not permitted is denied, and so is what cannot be decided: Cedar
// itself skips a `forbid` whose condition fails to evaluate, which would
// allow; here any such error denies (docs/decisions/0009-authorisation.md).
package policy

import (
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
)

// Action is what somebody wants to do: noun.verb, the name that the act has
// in the audit log. Actions lists all there are.
type Action string

// Resource is what an act is done to.
type Resource struct {
	Type         string    // the action's noun when empty
	ID           string    // may be empty: a list, or something yet to be made
	Organisation uuid.UUID // whose it is; zero: the platform's, or everybody's
	Owner        string    // id of the person it belongs to, or who asked for it; empty: nobody
}

// Modes of operation. Any other is not decided about.
const (
	Development = "development"
	Production  = "production"
)

// Request is a question to the engine.
type Request struct {
	Principal principal.Principal
	Action    Action
	Resource  Resource
	Now       time.Time
	Mode      string
}

// Codes of decisions that are not plain denials.
const (
	CodeDenied        = "access-denied"        // a policy forbids it, or none permits it
	CodeStepUp        = "step-up-required"     // allowed once a second factor is shown again
	CodeUnknownAction = "action-unknown"       // no such action: denied
	CodeInvalid       = "request-invalid"      // does not validate against the schema: denied
	CodeFault         = "policy-not-evaluated" // a policy failed to evaluate: denied
)

// Decision is the answer, and why.
type Decision struct {
	Allowed bool
	Code    string // empty when allowed
	StepUp  bool   // would be allowed with a second factor shown within StepUpAge
	Policy  string // id of the policy that decided; DefaultPolicy when none did
	Reason  string // its reason, one sentence

	// Nearest is the role with the fewest permissions that would allow this,
	// where one would; Elsewhere: held in the organisation that was asked
	// about, and not where the principal acts.
	Nearest    principal.Role
	HasNearest bool
	Elsewhere  bool
}

// DefaultPolicy stands in for a policy's id where no policy permits an act.
const DefaultPolicy = "default-deny"
