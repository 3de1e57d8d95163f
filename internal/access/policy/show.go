package policy

import "github.com/cedar-policy/cedar-go"

// Policy is a policy as people read it.
type Policy struct {
	ID      string `json:"id"`
	Effect  string `json:"effect"` // permit or forbid
	Reason  string `json:"reason"`
	File    string `json:"file"` // and line
	Builtin bool   `json:"builtin"`
	Text    string `json:"text"`
}

// Policies lists the policies in the order in which they are read.
func (e *Engine) Policies() []Policy {
	out := make([]Policy, len(e.policies))
	for i, n := range e.policies {
		effect := "forbid"
		if n.policy.Effect() == cedar.Permit {
			effect = "permit"
		}
		out[i] = Policy{ID: n.id, Effect: effect, Reason: n.reason, File: n.file, Builtin: n.builtin, Text: n.text}
	}
	return out
}
