package plan

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Span is a length of time as plans write it: "4h", "30 days", "2 business
// days", "24 x 7" is none. A word such as "regularly" is kept as written and
// bounds nothing: documents say such things, and the linter says so.
//
// A business day counts as eight working hours for nothing: spans in business
// days compare by their longest calendar length (two of them may cross a
// weekend and a public holiday: see Longest).
type Span struct {
	text     string
	d        time.Duration
	business int    // business days; d is then zero
	vague    string // the word, where no number is given
}

// vagueWords are the words that documents use in place of a number.
var vagueWords = []string{"regularly", "promptly", "immediately", "as soon as possible", "without undue delay", "periodically", "as needed", "continuously", "where required", "unspecified"}

const (
	day  = 24 * time.Hour
	week = 7 * day
	// year is 365 days and month 30.44: what periods in plans mean, and "30
	// days" is never "a month".
	year  = 365 * day
	month = year / 12
)

var spanUnits = map[string]time.Duration{
	"s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"d": day, "day": day, "days": day,
	"w": week, "week": week, "weeks": week,
	"month": month, "months": month, "quarter": year / 4, "quarters": year / 4,
	"y": year, "year": year, "years": year,
}

var spanNames = map[string]time.Duration{"hourly": time.Hour, "daily": day, "weekly": week, "monthly": month, "quarterly": year / 4, "yearly": year, "annually": year}

// ParseSpan reads a span.
func ParseSpan(text string) (Span, error) {
	bad := func(why string) (Span, error) {
		return Span{}, fmt.Errorf("%q is not a length of time%s; write for example 90s, 15 min, 4h, 1h30m, 30 days, 2 business days, quarterly, or a word such as %q where no number is promised", text, why, vagueWords[0])
	}
	s := strings.Join(strings.Fields(strings.ToLower(text)), " ")
	if slices.Contains(vagueWords, s) {
		return Span{text: s, vague: s}, nil
	}
	if d, ok := spanNames[s]; ok {
		return Span{text: s, d: d}, nil
	}
	for _, unit := range []string{" business days", " business day", " working days", " working day"} {
		if n, ok := strings.CutSuffix(s, unit); ok {
			v, err := strconv.Atoi(n)
			if err != nil || v < 1 || v > 1000 {
				return bad("")
			}
			return Span{text: s, business: v}, nil
		}
	}
	total, rest := time.Duration(0), strings.ReplaceAll(s, " ", "")
	if rest == "" {
		return bad("")
	}
	last := time.Duration(math.MaxInt64)
	for rest != "" {
		i := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if i <= 0 {
			return bad("")
		}
		j := strings.IndexAny(rest[i:], "0123456789.")
		if j < 0 {
			j = len(rest) - i
		}
		unit, ok := spanUnits[rest[i:i+j]]
		if !ok {
			return bad(fmt.Sprintf(" (%q is no unit)", rest[i:i+j]))
		}
		if unit >= last {
			return bad(" (units go from long to short, each once)")
		}
		n, err := strconv.ParseFloat(rest[:i], 64)
		if err != nil || n*float64(unit) > float64(100*year) || total > 100*year {
			return bad(" (it is out of range)")
		}
		total, rest, last = total+time.Duration(n*float64(unit)), rest[i+j:], unit
	}
	return Span{text: s, d: total}, nil
}

// SpanOf makes a span of a duration.
func SpanOf(d time.Duration) Span { return Span{text: FormatDuration(d), d: d} }

// UnmarshalText reads a span.
func (s *Span) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSpan(string(text))
	return err
}

// MarshalText writes the span as it was written.
func (s Span) MarshalText() ([]byte, error) { return []byte(s.text), nil }

// String is the span as it was written.
func (s Span) String() string { return s.text }

// IsZero reports that nothing was written.
func (s Span) IsZero() bool { return s.text == "" }

// Vague is the word that stands in place of a number, or "".
func (s Span) Vague() string { return s.vague }

// BusinessDays is how many, or 0 for a span in calendar time.
func (s Span) BusinessDays() int { return s.business }

// Known reports whether the span bounds anything: it was written, with a number.
func (s Span) Known() bool { return !s.IsZero() && s.vague == "" }

// Longest is the most calendar time that the span can take. A business day
// may be followed by a weekend and a holiday on each side of it: n business
// days are at most n days, plus two for each begun working week, plus two
// holidays. It is zero for a span that is not Known.
func (s Span) Longest() time.Duration {
	if s.business > 0 {
		return time.Duration(s.business+2*((s.business+4)/5)+2) * day
	}
	return s.d
}

// FormatDuration writes a duration as plans do: 90s, 4h, 1h30m, 30d.
func FormatDuration(d time.Duration) string {
	if d < 0 {
		return "-" + FormatDuration(-d)
	}
	if d < time.Second {
		return d.String()
	}
	var out strings.Builder
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if n := d / u.unit; n > 0 {
			fmt.Fprintf(&out, "%d%s", n, u.name)
			d -= n * u.unit
		}
	}
	return out.String()
}

// Size is an amount of data in bytes, written "120 GB" (10⁹) or "120 GiB" (2³⁰).
type Size struct {
	text  string
	bytes int64
}

var sizeUnits = map[string]float64{"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "pb": 1e15, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40, "pib": 1 << 50}

// ParseSize reads a size.
func ParseSize(text string) (Size, error) {
	s := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(text)), " ", "")
	i := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if i > 0 {
		if unit, ok := sizeUnits[s[i:]]; ok {
			if n, err := strconv.ParseFloat(s[:i], 64); err == nil && n*unit < 1<<62 {
				return Size{text: strings.TrimSpace(text), bytes: int64(n * unit)}, nil
			}
		}
	}
	return Size{}, fmt.Errorf("%q is not a size; write for example 500 MB, 120 GB or 2 TiB", text)
}

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSize(string(text))
	return err
}

// MarshalText writes the size as it was written.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.text), nil }

// String is the size as it was written.
func (s Size) String() string { return s.text }

// Bytes is the size.
func (s Size) Bytes() int64 { return s.bytes }

// IsZero reports that nothing was written.
func (s Size) IsZero() bool { return s.text == "" }

// Bound is what a commitment promises: a length of time, a number or a word,
// as the subject asks.
type Bound string

// IsZero reports that nothing was written.
func (b Bound) IsZero() bool { return b == "" }
