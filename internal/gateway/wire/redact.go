package wire

import (
	"encoding/base64"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	redacted     = "[redacted]"
	redactInput  = 8 << 10 // bytes of the text that are looked at
	redactOutput = 2 << 10 // bytes of the text that remain
	fragment     = 10      // bytes in a row of a secret that give too much away
)

// credentials are the shapes that are removed whoever they belong to. Order
// matters: the header forms take the rest of what they introduce. A shape is
// only tried on text that holds one of its hints, in lower case, because a
// storm of 429s should not cost more than the requests did.
var credentials = []struct {
	hints []string
	shape *regexp.Regexp
	by    string
}{
	{[]string{"private key"},
		regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)`), redacted},
	// scheme://user:password@host
	{[]string{"://"},
		regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s/@"'<>]+@`), "${1}" + redacted + "@"},
	{[]string{"authorization"},
		regexp.MustCompile(`(?i)(authorization\\?["']?\s*[:=]\s*\\?["']?)(?:(?:bearer|basic|token|digest)\s+)?[^\s"'\\,;}\]]+`), "${1}" + redacted},
	{[]string{"bearer", "basic"},
		regexp.MustCompile(`(?i)\b(bearer|basic)\s+[a-z0-9._~+/=*-]{6,}`), "${1} " + redacted},
	// x-api-key: anything; "api_key": "anything"; api_key=anything
	{[]string{"key", "secret", "token", "passw", "sig"},
		regexp.MustCompile(`(?i)((?:api[_-]?key|access[_-]?key(?:[_-]?id)?|secret(?:[_-]?(?:access[_-]?)?key)?|(?:access|refresh|id|auth|session)[_-]?token|password|passwd|signature|sig)\\?["']?\s*[:=]\s*\\?["']?)[^\s"'\\,;&}\]]+`), "${1}" + redacted},
	{[]string{"cookie"},
		regexp.MustCompile(`(?i)(cookie\\?["']?\s*:\s*)[^"]+`), "${1}" + redacted},
	// JSON Web Token
	{[]string{"eyj"},
		regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?`), redacted},
	// vendors' prefixes, also where the vendor has starred out the middle
	{[]string{"sk-", "sk_", "pk-", "pk_", "rk_", "gsk_", "xai-", "hf_", "r8_", "nvapi-", "pplx-", "sess-", "fdy", "fnd", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "dop_v1_", "ya29"},
		regexp.MustCompile(`\b(?:sk|pk|rk|gsk|xai|hf|r8|nvapi|pplx|sess|fdy|fnd|gh[pousr]|github_pat|glpat|xox[abprs]|dop_v1|ya29)[-_.][A-Za-z0-9*._-]{6,}`), redacted},
	{[]string{"aiza"}, regexp.MustCompile(`\bAIza[A-Za-z0-9_-]{20,}`), redacted},
	{[]string{"akia", "asia", "aroa", "aida", "agpa", "anpa", "anva", "abia", "acca"},
		regexp.MustCompile(`\b(?:AKIA|ASIA|AROA|AIDA|AGPA|ANPA|ANVA|ABIA|ACCA)[A-Z0-9]{12,}`), redacted},
	{[]string{"***"}, regexp.MustCompile(`[A-Za-z0-9_-]*\*{3,}[A-Za-z0-9*]*`), redacted},
}

// Redact makes text from an upstream fit to show and to log: the given secrets
// and any ten bytes in a row of them (also URL-encoded or in base64), and
// whatever has the shape of a credential, become "[redacted]"; control
// characters become spaces; at most 2 KiB remain. It errs on the side of
// removing too much.
func Redact(text string, secrets ...string) string {
	text = bounded(plain(text), redactInput)
	for _, s := range secrets {
		for _, form := range forms(s) {
			text = withoutSecret(text, form)
		}
	}
	lower := strings.ToLower(text)
	for _, c := range credentials {
		if slices.ContainsFunc(c.hints, func(hint string) bool { return strings.Contains(lower, hint) }) {
			text = c.shape.ReplaceAllString(text, c.by)
		}
	}
	return bounded(withoutRuns(text), redactOutput)
}

// withoutRuns replaces what has no shape but length: 32 hexadecimal digits, or
// 40 characters of base64, in a row.
func withoutRuns(text string) string {
	var b strings.Builder
	from, start, hexOnly := 0, 0, true
	for i := 0; i <= len(text); i++ {
		if i < len(text) && isBase64[text[i]] {
			hexOnly = hexOnly && isHex(text[i])
			continue
		}
		if n := i - start; n >= 40 || n >= 32 && hexOnly {
			b.WriteString(text[from:start])
			b.WriteString(redacted)
			from = i
		}
		start, hexOnly = i+1, true
	}
	if from == 0 {
		return text
	}
	b.WriteString(text[from:])
	return b.String()
}

func isHex(ch byte) bool {
	return ch >= '0' && ch <= '9' || ch >= 'a' && ch <= 'f' || ch >= 'A' && ch <= 'F'
}

// isBase64 marks the letters of both alphabets of base64 (RFC 4648).
var isBase64 = func() (set [256]bool) {
	for _, ch := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-=") {
		set[ch] = true
	}
	return set
}()

// plain replaces control characters, format characters (which reorder or hide
// text) and bytes that are not UTF-8.
func plain(text string) string {
	if len(text) > 2*redactInput {
		text = text[:2*redactInput]
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD")))
}

// bounded cuts text at n bytes. What a cut leaves of the last word goes too,
// because it may be the head of a credential too short to be recognised.
func bounded(text string, n int) string {
	if len(text) <= n {
		return text
	}
	text = text[:n]
	for len(text) > 0 && !utf8.ValidString(text[max(0, len(text)-utf8.UTFMax):]) && !utf8.FullRuneInString(lastRune(text)) {
		text = text[:len(text)-1]
	}
	return text[:strings.LastIndexAny(text, " \t")+1] + "…"
}

// lastRune returns text from its last rune's first byte on.
func lastRune(text string) string {
	i := len(text) - 1
	for i > 0 && !utf8.RuneStart(text[i]) {
		i--
	}
	return text[i:]
}

// forms lists the spellings in which a secret may come back.
func forms(s string) []string {
	if s = plain(s); s == "" {
		return nil
	}
	list := []string{s}
	if q := url.QueryEscape(s); q != s {
		list = append(list, q)
	}
	if len(s) >= fragment {
		// Each alignment within a longer base64 text, without the ends that
		// depend on the neighbours.
		for shift := range 3 {
			enc := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\x00", shift) + s))
			enc = strings.TrimRight(enc, "=")
			if cut := []int{0, 2, 3}[shift]; len(enc) > cut+fragment+1 {
				list = append(list, enc[cut:len(enc)-1], strings.NewReplacer("+", "-", "/", "_").Replace(enc[cut:len(enc)-1]))
			}
		}
	}
	return list
}

// withoutSecret replaces a secret, and any run of at least fragment bytes that
// it shares with text.
func withoutSecret(text, secret string) string {
	text = strings.ReplaceAll(text, secret, redacted)
	if len(secret) <= fragment || len(text) < fragment {
		return text
	}
	grams := make(map[string]bool, len(secret))
	for i := 0; i+fragment <= len(secret); i++ {
		grams[secret[i:i+fragment]] = true
	}
	var b strings.Builder
	from := 0
	for i := 0; i+fragment <= len(text); {
		if !grams[text[i:i+fragment]] {
			i++
			continue
		}
		b.WriteString(text[from:i])
		b.WriteString(redacted)
		for i+fragment <= len(text) && grams[text[i:i+fragment]] {
			i++
		}
		i += fragment - 1
		from = i
	}
	if from == 0 {
		return text
	}
	b.WriteString(text[from:])
	return b.String()
}
