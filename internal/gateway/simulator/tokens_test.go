package simulator

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTokensAreCutWhereTheRuleSays(t *testing.T) {
	for text, want := range map[string][]string{
		"":                         nil,
		"Hello":                    {"Hello"},
		"Hello there":              {"Hello", " there"},
		" leading":                 {" leading"},
		"extraordinarily":          {"extraord", "inarily"},
		"a\n\nb":                   {"a", "\n\nb"},
		"trailing ":                {"trailing", " "},
		"          ten spaces":     {"        ", "  ten", " spaces"},
		"Grüße aus Köln":           {"Grüße", " aus", " Köln"},
		"\u65e5\u672c\u8a9e":       {"\u65e5\u672c", "\u8a9e"},
		"\U0001f9ea\U0001f9ea\xff": {"\U0001f9ea\U0001f9ea", "\xff"},
	} {
		if got := Tokens(text); !slices.Equal(got, want) {
			t.Errorf("Tokens(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestTokensJoinToTheTextAndAreNeverMoreThanItsBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z \n]{0,80}`), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "text")
		list := Tokens(text)
		if strings.Join(list, "") != text {
			t.Fatalf("%q joins to %q", list, strings.Join(list, ""))
		}
		if len(list) != CountTokens(text) || len(list) > len(text) {
			t.Fatalf("%d tokens, %d counted, of %d bytes", len(list), CountTokens(text), len(text))
		}
		for _, token := range list {
			if token == "" || len(token) > maxToken {
				t.Fatalf("token %q has %d bytes", token, len(token))
			}
		}
	})
}
