package credential

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"
)

// RFC 6238, appendix B, the last six digits of the SHA-1 column.
func TestCodesAreThoseOfTheStandard(t *testing.T) {
	secret := base32.StdEncoding.EncodeToString([]byte("12345678901234567890"))
	for at, code := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037"} {
		if step, ok := CheckTOTP(secret, code, time.Unix(at, 0), 0); !ok || step != at/30 {
			t.Errorf("at %d: %d %v", at, step, ok)
		}
	}
}

func TestACodeCountsOneStepToEitherSideAndNeverAgain(t *testing.T) {
	secret := base32.StdEncoding.EncodeToString([]byte("12345678901234567890"))
	at := time.Unix(1111111109, 0)
	step := at.Unix() / 30
	for offset, want := range map[int]bool{-2: false, -1: true, 0: true, 1: true, 2: false} {
		if _, ok := CheckTOTP(secret, "081804", at.Add(time.Duration(offset)*30*time.Second), 0); ok != want {
			t.Errorf("%d steps away: %v", offset, ok)
		}
	}
	if _, ok := CheckTOTP(secret, "081804", at, step); ok {
		t.Error("a code counts again")
	}
	if _, ok := CheckTOTP(secret, "081804", at.Add(30*time.Second), step+1); ok {
		t.Error("an earlier code counts after a later one")
	}
	for _, wrong := range []string{"", "08180", "0818041", "08180x", "081805", strings.Repeat("0", 1000)} {
		if _, ok := CheckTOTP(secret, wrong, at, 0); ok {
			t.Errorf("%q counts", wrong)
		}
	}
	if _, ok := CheckTOTP(secret, "081 804", at, 0); !ok {
		t.Error("as people type it")
	}
}

func TestANewSecretIsLongAndItsURIReadable(t *testing.T) {
	secret, uri, err := NewTOTP("Foundry", "anna@example.org")
	if err != nil || len(secret) != 32 || !strings.HasPrefix(uri, "otpauth://totp/Foundry:anna@example.org?") || !strings.Contains(uri, "secret="+secret) {
		t.Fatalf("%s %v", uri, err)
	}
}

func TestRecoveryCodesAreReadAsTheyAreTyped(t *testing.T) {
	h := hasher(t, 1)
	shown, stored, err := h.NewRecoveryCodes()
	if err != nil || len(shown) != RecoveryCodes || len(stored) != RecoveryCodes {
		t.Fatalf("%d %d %v", len(shown), len(stored), err)
	}
	for _, typed := range []string{shown[0], strings.ToUpper(shown[0]), strings.ReplaceAll(shown[0], "-", ""), " " + strings.ReplaceAll(shown[0], "-", " ")} {
		selector, secret, ok := SplitRecoveryCode(typed)
		if !ok || selector != stored[0].Selector || !h.CheckRecoveryCode(stored[0].Hash, secret) {
			t.Errorf("%q is not read", typed)
		}
	}
	_, other, _ := SplitRecoveryCode(shown[1])
	if h.CheckRecoveryCode(stored[0].Hash, other) || h.CheckRecoveryCode("", other) {
		t.Error("another code opens")
	}
	for _, bad := range []string{"", "abc", "abcde-abcde-abcde-abcd1", strings.Repeat("a", 100)} {
		if _, _, ok := SplitRecoveryCode(bad); ok {
			t.Errorf("%q is read", bad)
		}
	}
}

func FuzzSplitRecoveryCode(f *testing.F) {
	f.Add("abcde-abcde-abcde-abcde")
	f.Add("ABCDE ABCDE")
	f.Fuzz(func(t *testing.T, text string) {
		if selector, secret, ok := SplitRecoveryCode(text); ok && len(selector)+len(secret) != recoveryLength {
			t.Fatalf("%q gave %q %q", text, selector, secret)
		}
	})
}

// The standard library's arithmetic of a code (RFC 4226, 5.3) beside the
// package's: whatever is typed, it counts exactly if it is the code of a step
// that may be used.
func FuzzCheckTOTP(f *testing.F) {
	const secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	f.Add("081804", int64(1111111109), int64(0))
	f.Add("081 804", int64(1111111109), int64(37037036))
	f.Add("0-8-1 8 0 4", int64(0), int64(-5))
	f.Add("０８１８０４", int64(1111111109), int64(0))
	key := []byte("12345678901234567890")
	f.Fuzz(func(t *testing.T, typed string, at, last int64) {
		at &= 1<<40 - 1
		step, ok := CheckTOTP(secret, typed, time.Unix(at, 0), last)
		code := strings.NewReplacer(" ", "", "-", "").Replace(typed)
		want, found := int64(0), false
		for s := at/30 - 1; s <= at/30+1 && !found; s++ {
			m := hmac.New(sha1.New, key)
			_ = binary.Write(m, binary.BigEndian, max(s, 0))
			sum := m.Sum(nil)
			n := binary.BigEndian.Uint32(sum[sum[19]&15:]) & 0x7fffffff % 1_000_000
			if s > last && code == fmt.Sprintf("%06d", n) {
				want, found = s, true
			}
		}
		if ok != found || step != want {
			t.Errorf("%q at %d after %d: %d %v, want %d %v", typed, at, last, step, ok, want, found)
		}
	})
}
