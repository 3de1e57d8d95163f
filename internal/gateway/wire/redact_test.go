package wire

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// fake joins the pieces of a made-up credential, so that no scanner takes this
// file for a leak.
func fake(pieces ...string) string { return strings.Join(pieces, "") }

func TestRedactRemovesWhatLooksLikeACredential(t *testing.T) {
	jwt := fake("eyJhbGciOiJIUzI1NiJ9", ".eyJzdWIiOiIxMjM0In0.", "dBjftJeZ4CVPmB92K27uhb")
	for _, c := range []struct{ name, text, gone, stays string }{
		{"OpenAI's key", "Incorrect API key provided: " + fake("sk-", "abcdefghijklmnop") + ". See the page.", "abcdefgh", "Incorrect API key provided"},
		{"a project key", fake("sk-proj-", "Ab1_Cd2-Ef3"), "Ab1_Cd2", ""},
		{"a key starred out", "key sk-ab********yz99 is wrong", "yz99", "is wrong"},
		{"Anthropic's key", "x " + fake("sk-ant-", "api03-AAAA_bbbb") + " y", "bbbb", "y"},
		{"a bearer token", "Authorization: Bearer abc.def-ghi", "abc.def", "Authorization"},
		{"a bearer token in JSON", `{"authorization":"Bearer abc.def-ghi","model":"m"}`, "abc.def", `"model":"m"`},
		{"a bearer token in escaped JSON", `{\"Authorization\": \"Bearer abc.def-ghi\", \"model\": \"m\"}`, "abc.def", `\"model\"`},
		{"basic authentication", "sent Basic dXNlcjpwYXNz now", "dXNlcjpwYXNz", "now"},
		{"x-api-key", "x-api-key: 12345", "12345", "x-api-key"},
		{"api_key in a query", "GET /v1?api_key=12345&model=m failed", "12345", "model=m"},
		{"apiKey in JSON", `{"apiKey":"12345"}`, "12345", "apiKey"},
		{"a password", "password = hunter2, sorry", "hunter2", "sorry"},
		{"a client secret", "client_secret=abcde", "abcde", ""},
		{"a URL with a user", "could not reach https://user:pa55@host.example/path", "pa55", "host.example/path"},
		{"a URL with a token as user", "postgres://tok3n@db.example", "tok3n", "db.example"},
		{"an AWS key", "id " + fake("AKIA", "IOSFODNN7EXAMPLE"), "IOSFODNN7", "id"},
		{"an AWS secret", "aws_secret_access_key=abc/def", "abc/def", ""},
		{"an AWS session", "X-Amz-Signature=00ff&x=1", "00ff", "x=1"},
		{"a Google key", "key " + fake("AIza", "SyA1234567890abcdefghijklmnopqrstuv"), "SyA1234", "key"},
		{"a GitHub token", fake("ghp_", "abcdefghijklmnop1234"), "abcdefgh", ""},
		{"a JSON Web Token", "token " + jwt + " expired", "dBjftJeZ4", "expired"},
		{"a cookie", "Set-Cookie: session=abc; Path=/", "session=abc", ""},
		{"a private key", "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY----- end", "MIIEow", "end"},
		{"a private key cut short", "-----BEGIN PRIVATE KEY-----\nMIIEow", "MIIEow", ""},
		{"forty characters without meaning", "id " + strings.Repeat("aB3", 14), "aB3aB3", "id"},
		{"thirty-two hexadecimal digits", "id " + strings.Repeat("0a", 16), "0a0a", "id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Redact(c.text)
			if strings.Contains(got, c.gone) || !strings.Contains(got, c.stays) || !strings.Contains(got, redacted) {
				t.Fatalf("got %q", got)
			}
		})
	}
}

func TestRedactLeavesPlainText(t *testing.T) {
	for _, text := range []string{
		"The model `mistral-small-latest` does not exist or you do not have access to it.",
		"This model's maximum context length is 128000 tokens. However, your messages resulted in 130512 tokens.",
		"Invalid value: 'x'. Supported values are: 'auto', 'none'.",
		"Rate limit reached for gpt-4o in organization on tokens per min (TPM): Limit 30000, Used 29000. Please try again in 2.5s.",
		"messages.0.content: expected a string (request req_011CSHoEeqs5C35K2UUqR7Fy)",
		"See https://docs.example/errors#rate-limits for more. Überlastet — 過負荷.",
		"",
	} {
		if got := Redact(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestRedactRemovesKnownSecretsInAnySpelling(t *testing.T) {
	secret := "My+Known/Secret=Value&42"
	for name, text := range map[string]string{
		"plain":        "you sent " + secret + "!",
		"twice":        secret + secret,
		"in a query":   "k=" + url.QueryEscape(secret),
		"in base64":    "b " + base64.StdEncoding.EncodeToString([]byte(secret)),
		"as Basic":     "b " + base64.StdEncoding.EncodeToString([]byte("user:"+secret)),
		"as Basic, 2":  "b " + base64.URLEncoding.EncodeToString([]byte("a:"+secret)),
		"first ten":    "you sent " + secret[:fragment],
		"last ten":     "you sent " + secret[len(secret)-fragment:],
		"its head":     "you sent My+Known/Secret…",
		"its tail":     "…Secret=Value&42",
		"with its end": "xxMy+Known/Secret=Value&4x",
	} {
		got := Redact(text, "", secret)
		for i := 0; i+fragment <= len(secret); i++ {
			if strings.Contains(got, secret[i:i+fragment]) {
				t.Errorf("%s: %q", name, got)
				break
			}
		}
		if !strings.Contains(got, redacted) {
			t.Errorf("%s: nothing redacted in %q", name, got)
		}
	}
	if got := Redact("a pin 1234 here", "1234"); got != "a pin [redacted] here" {
		t.Errorf("a short secret: %q", got)
	}
}

func TestRedactBoundsAndCleans(t *testing.T) {
	if got := Redact(strings.Repeat("word ", 10_000)); len(got) > redactOutput+4 || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes", len(got))
	}
	if got := Redact("a\x1b[31mred\r\nforged: line\u202e\x00\xff"); strings.ContainsAny(got, "\x1b\r\n\u202e\x00") || !utf8.ValidString(got) {
		t.Errorf("%q", got)
	}
	// A credential across the cut must not leave its head behind.
	key := fake("sk-", strings.Repeat("Q", 60))
	for n := redactInput - 70; n < redactInput+5; n += 3 {
		long := strings.Repeat(key+" ", 1000)[:n-n%(len(key)+1)]
		if got := Redact(long + strings.Repeat("x ", (n-len(long))/2) + key); strings.Contains(got, "QQ") {
			t.Fatalf("at %d: %q", n, got)
		}
	}
}

func BenchmarkRedact(b *testing.B) {
	text := "Incorrect API key provided: " + fake("sk-", "abcdefghijklmnop") + ". You can find your API key at https://platform.example/account/api-keys."
	b.ReportAllocs()
	for b.Loop() {
		Redact(text, "another-secret-of-some-length")
	}
}
