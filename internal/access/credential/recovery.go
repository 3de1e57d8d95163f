package credential

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
)

// A recovery code is twenty characters of base32 in groups of five: a selector
// of five, so that one attempt costs one bcrypt and not ten, and a secret of
// fifteen (75 bits).
const (
	RecoveryCodes          = 10
	recoverySelectorLength = 5
	recoveryLength         = 20
)

// RecoveryCode is a code as it is stored.
type RecoveryCode struct {
	Selector string
	Hash     string
}

var recoveryEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewRecoveryCodes makes a set: what is shown once, and what is stored.
func (h *Hasher) NewRecoveryCodes() (shown []string, stored []RecoveryCode, err error) {
	taken := map[string]bool{}
	for len(shown) < RecoveryCodes {
		var raw [13]byte
		_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
		code := strings.ToLower(recoveryEncoding.EncodeToString(raw[:]))[:recoveryLength]
		if taken[code[:recoverySelectorLength]] {
			continue
		}
		taken[code[:recoverySelectorLength]] = true
		hash, err := h.HashSecret(code[recoverySelectorLength:])
		if err != nil {
			return nil, nil, fmt.Errorf("a recovery code: %w", err)
		}
		stored = append(stored, RecoveryCode{code[:recoverySelectorLength], hash})
		shown = append(shown, code[:5]+"-"+code[5:10]+"-"+code[10:15]+"-"+code[15:])
	}
	return shown, stored, nil
}

// SplitRecoveryCode reads a code as people type it: any case, with or without
// dashes and spaces.
func SplitRecoveryCode(text string) (selector, secret string, ok bool) {
	if len(text) > 64 {
		return "", "", false
	}
	var b strings.Builder
	for _, r := range strings.ToLower(text) {
		switch {
		case r == '-' || r == ' ':
		case r >= 'a' && r <= 'z' || r >= '2' && r <= '7':
			b.WriteRune(r)
		default:
			return "", "", false
		}
	}
	code := b.String()
	if len(code) != recoveryLength {
		return "", "", false
	}
	return code[:recoverySelectorLength], code[recoverySelectorLength:], true
}

// CheckRecoveryCode compares a code's secret with its hash. An empty hash
// costs as much as a wrong code.
func (h *Hasher) CheckRecoveryCode(hash, secret string) bool {
	known := hash != ""
	if !known {
		hash = h.secretDecoy
	}
	return h.compare([]byte(hash), []byte(secret)) == nil && known
}
