package access

import (
	"encoding/json"
	"time"
)

// Passkey is a WebAuthn credential of a person, without its key.
type Passkey struct {
	ID         string     `json:"id"` // base64url of the credential id
	Name       string     `json:"name"`
	Synced     bool       `json:"synced"` // may exist on several devices of its owner
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at,omitempty"`
	Cloned     bool       `json:"cloned"` // its counter went backwards: refused until removed
}

// PasskeyChallenge is what the browser is asked. Options is the argument of
// PublicKeyCredential.parseCreationOptionsFromJSON or
// parseRequestOptionsFromJSON (its publicKey member); Ceremony comes back with
// the browser's answer.
type PasskeyChallenge struct {
	Ceremony string          `json:"ceremony"`
	Options  json.RawMessage `json:"options"`
	Expires  time.Time       `json:"expires"`
}
