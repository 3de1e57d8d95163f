package wire

import (
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

// otherCase draws a spelling of a key that folds to it.
func otherCase(t *rapid.T, key string) string {
	var b strings.Builder
	for _, r := range key {
		for range rapid.IntRange(0, 3).Draw(t, "fold") {
			r = unicode.SimpleFold(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Whatever encoding/json would match to a significant key is refused, at every
// level at which keys are interpreted.
func TestNoSpellingOfASignificantKeyPasses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SampledFrom(significant).Draw(t, "key")
		other := otherCase(t, key)
		if !strings.EqualFold(key, other) {
			t.Fatalf("%q is no spelling of %q", other, key)
		}
		if rapid.Bool().Draw(t, "separators") {
			other = strings.ReplaceAll(other, "_", rapid.SampledFrom([]string{"", "-", "_", "__"}).Draw(t, "separator"))
		}
		for _, frame := range []string{
			`{"model":"m",KEY:1}`,
			`{"model":"m","stream_options":{KEY:1}}`,
			`{"model":"m","messages":[{KEY:1}]}`,
			`{"model":"m","messages":[{"content":[{KEY:1}]}]}`,
			`{"model":"m","messages":[{"content":[{"image_url":{KEY:1}}]}]}`,
			`{"model":"m","tools":[{KEY:1}]}`,
		} {
			var r Request
			err := Scan(ChatCompletions, []byte(strings.Replace(frame, "KEY", `"`+other+`"`, 1)), &r)
			if got := codeOf(err); other != key && got != "json-ambiguous-key" {
				t.Fatalf("%s with %q for %q: %q", frame, other, key, got)
			} else if other == key && got == "json-ambiguous-key" {
				t.Fatalf("%s refuses %q itself", frame, key)
			}
		}
	})
}

func TestFoldedKeysStayApart(t *testing.T) {
	if len(folded) != len(significant) {
		t.Fatalf("%d significant keys fold to %d", len(significant), len(folded))
	}
	for _, c := range []struct{ in, want string }{
		{"max_tokens", "maxtokens"}, {"MaxTokens", "maxtokens"}, {"ſtore", "store"}, {"\u212aey", "key"},
		{"É", string(smallestFold('é'))}, {"ß", string(smallestFold('ß'))}, {"a-b_c", "abc"}, {"", ""},
	} {
		if got := string(appendFolded(nil, []byte(c.in))); got != c.want {
			t.Errorf("%q folds to %q, want %q", c.in, got, c.want)
		}
	}
}

func TestPathsNameWhatTheClientSent(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{`{"model":"m","messages":[{},{"content":[{},{},{"type":"image_url","image_url":{"url":"http://x"}}]}]}`, "messages[1].content[2].image_url.url"},
		{`{"model":"m","messages":[{"content":[[{"image_url":"http://x"}]]}]}`, "messages[0].content[0][0].image_url"},
		{`{"model":"m","messages":[{"x\u002ey":{"z":{"file_id":"f"}}}]}`, "messages[0].x.y.z.file_id"},
		{`{"model":"m","tools":[{"type":"function","function":{}},{"type":"mcp"}]}`, "tools[1].type"},
		{`{"model":"m","messages":[{"content":"` + strings.Repeat("x", 99) + `","` + strings.Repeat("k", 200) + `":{"file_id":1}}]}`, "messages[0]." + strings.Repeat("k", maxHead) + ".file_id"},
		// The bound falls within an escape, a surrogate pair, a character.
		{`{"model":"m","messages":[{"` + strings.Repeat("k", 127) + `\n":{"file_id":1}}]}`, "messages[0]." + strings.Repeat("k", 127) + ".file_id"},
		{`{"model":"m","messages":[{"` + strings.Repeat("k", 120) + `\ud83d\ude00":{"file_id":1}}]}`, "messages[0]." + strings.Repeat("k", 120) + "\ufffd.file_id"},
		{`{"model":"m","messages":[{"` + strings.Repeat("k", 127) + `é":{"file_id":1}}]}`, "messages[0]." + strings.Repeat("k", 127) + "\ufffd.file_id"},
	} {
		r := scanned(t, ChatCompletions, c.body)
		if len(r.Risky) != 1 || r.Risky[0].Path != c.want {
			t.Errorf("%s: %v, want %s", c.body, r.Risky, c.want)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for ep := ChatCompletions; ep <= CountTokens; ep++ {
		if !ep.Valid() || !strings.HasPrefix(ep.Path(), "/v1/") || ep.String() == "unknown" || ep.Dialect().String() == "unknown" {
			t.Errorf("%d: %s %s %s", ep, ep, ep.Path(), ep.Dialect())
		}
	}
	for _, ep := range []Endpoint{0, CountTokens + 1} {
		if ep.Valid() || ep.Path() != "" || ep.Dialect() != 0 || ep.String() != "unknown" {
			t.Errorf("%d is taken for an endpoint", ep)
		}
	}
}
