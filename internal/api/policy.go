package api

import (
	"encoding/json"

	"github.com/danielgtaylor/huma/v2"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// policyDocument is a policy as it was sent. The sovereignty package reads it,
// strictly, and names what is wrong: a schema made from Go's types would want
// its sets of countries as objects.
type policyDocument json.RawMessage

// UnmarshalJSON keeps the document as it is.
func (d *policyDocument) UnmarshalJSON(text []byte) error {
	*d = append((*d)[:0], text...)
	return nil
}

// Schema describes a policy no further than as an object.
func (policyDocument) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Description: "An organisation's policy: regime, home, allowed, third_parties, highest, ceilings, require_no_retention and allowed_features."}
}

// policy reads the document; without one it is the default policy.
func (d policyDocument) policy() (sovereignty.Policy, error) {
	if len(d) == 0 || string(d) == "null" {
		return sovereignty.DefaultPolicy(), nil
	}
	return sovereignty.ParsePolicy(d)
}
