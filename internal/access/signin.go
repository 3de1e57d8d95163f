package access

import "time"

// Factor names what a person can show.
type Factor string

// Factors of a sign-in.
const (
	FactorPassword Factor = "password"
	FactorTOTP     Factor = "totp"
	FactorPasskey  Factor = "passkey"
	FactorRecovery Factor = "recovery"
)

// Progress is where a sign-in stands after the password. Either SignedIn is
// set, or Ceremony is the handle of the next step, which must show one of
// Factors before Expires.
type Progress struct {
	SignedIn *SignedIn `json:"signed_in,omitempty"`
	Ceremony string    `json:"ceremony,omitempty"`
	Factors  []Factor  `json:"factors,omitempty"`
	Expires  time.Time `json:"expires,omitzero"`
}
