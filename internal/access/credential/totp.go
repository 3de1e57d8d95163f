package credential

import (
	"crypto/subtle"
	"fmt"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
)

// Parameters of one-time codes (RFC 6238). SHA-1, 30 seconds and six digits
// are the only ones that every authenticator app reads; HMAC-SHA-1 is not hurt
// by collisions of SHA-1.
const (
	totpPeriod = 30 * time.Second
	totpDigits = 6
	totpSecret = 20 // bytes: RFC 4226 recommends 160 bits
	totpSkew   = 1  // steps to either side, for clocks that differ and people who type slowly
)

// NewTOTP makes a secret and the URI that an authenticator app reads.
func NewTOTP(issuer, account string) (secret, uri string, err error) {
	key, err := totp.Generate(totp.GenerateOpts{Issuer: issuer, AccountName: account, SecretSize: totpSecret})
	if err != nil {
		return "", "", fmt.Errorf("making a TOTP secret: %w", err)
	}
	return key.Secret(), key.URL(), nil
}

// StepAt is the time step of a moment.
func StepAt(at time.Time) int64 { return at.Unix() / int64(totpPeriod/time.Second) }

// CheckTOTP finds the time step whose code this is, among the present one and
// its neighbours, and only after the last that was used: who stores the step
// and asks with it next time accepts no code twice (RFC 6238, 5.2). Every step
// is computed whatever matches.
func CheckTOTP(secret, code string, now time.Time, last int64) (step int64, ok bool) {
	code = strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return -1
		}
		return r
	}, code)
	if len(code) != totpDigits {
		return 0, false
	}
	present := StepAt(now)
	for s := present - totpSkew; s <= present+totpSkew; s++ {
		want, err := hotp.GenerateCodeCustom(secret, uint64(max(s, 0)), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return 0, false
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 && s > last && !ok {
			step, ok = s, true
		}
	}
	return step, ok
}
