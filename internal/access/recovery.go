package access

import "time"

// TOTPEnrolment is what an authenticator app is given. URI is what the QR code
// holds (otpauth://totp/…); Secret is for typing. Both are shown once.
type TOTPEnrolment struct {
	Ceremony string    `json:"ceremony"`
	URI      string    `json:"uri"`
	Secret   string    `json:"secret"`
	Expires  time.Time `json:"expires"`
}

// Enrolled is the outcome of enrolling a second factor: the session with a new
// token, and, with the first factor ever, recovery codes, shown once.
type Enrolled struct {
	SignedIn SignedIn `json:"signed_in"`
	Codes    []string `json:"recovery_codes,omitempty"`
}
