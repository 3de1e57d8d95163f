package sovereignty

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// quote shows untrusted text: escaped, in quotation marks, at most 40 bytes.
func quote(s string) string {
	if len(s) > 40 {
		return strconv.Quote(strings.ToValidUTF8(s[:40], "")) + "…"
	}
	return strconv.Quote(s)
}

// printable reports whether s is valid UTF-8 without control characters, so
// that it cannot forge lines in a trace or drive a terminal.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func isName(s string) bool { return s != "" && len(s) <= 64 && printable(s) }
func isText(s string) bool { return len(s) <= 200 && printable(s) }

// shown makes recorded text fit for a sentence.
func shown(s string) string {
	if isText(s) {
		return s
	}
	return quote(s)
}

// isFeature reports whether s could be the name of a request feature: letters,
// digits, dot, underscore, hyphen.
func isFeature(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-' {
			continue
		}
		return false
	}
	return true
}

// list joins words as in a sentence: "a", "a and b", "a, b and c".
func list(words []string) string {
	switch n := len(words); n {
	case 0:
		return ""
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
}

// places names countries in a sentence; a code that is none is quoted.
func places(js []Jurisdiction) string {
	switch len(js) {
	case 0:
		return "nowhere"
	case 1:
		return js[0].Label()
	case 2:
		return js[0].Label() + " and " + js[1].Label()
	}
	words := make([]string, len(js))
	for i, j := range js {
		words[i] = j.Label()
	}
	return list(words)
}

func codes(js []Jurisdiction) string {
	words := make([]string, len(js))
	for i, j := range js {
		words[i] = string(j)
		if !j.Valid() {
			words[i] = j.Label()
		}
	}
	return list(words)
}

const (
	dayLayout    = "2 January 2006"
	momentLayout = "2 January 2006, 15:04:05 MST"
)

func midnight(t time.Time) bool { return t.Equal(t.Truncate(24 * time.Hour)) }

// day writes the first day on which something counts, with the time only if it
// is not midnight UTC.
func day(t time.Time) string {
	if midnight(t) {
		return t.UTC().Format(dayLayout)
	}
	return t.UTC().Format(momentLayout)
}

// end writes the moment from which something no longer counts as a person
// would say it: midnight UTC is the end of the day before.
func end(t time.Time) string {
	if midnight(t) {
		return "the end of " + t.UTC().AddDate(0, 0, -1).Format(dayLayout)
	}
	return t.UTC().Format(momentLayout)
}

// unique sorts and removes duplicates, in a new slice.
func unique(js []Jurisdiction) []Jurisdiction {
	out := slices.Clone(js)
	slices.Sort(out)
	return slices.Compact(out)
}
