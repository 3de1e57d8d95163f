package console

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// number groups digits with narrow no-break spaces (ISO 80000-1), which read
// the same in every European language.
func number(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "\u2212", digits[1:]
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteRune('\u202f')
		}
		b.WriteRune(d)
	}
	return sign + b.String()
}

// plural counts things: plural(2, "key", "keys").
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// span renders a duration with the digits that matter.
func span(d time.Duration) string {
	switch {
	case d <= 0:
		return "–"
	case d < time.Millisecond:
		return fmt.Sprintf("%.2f ms", float64(d)/1e6)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", math.Round(float64(d)/1e6))
	case d < time.Minute:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return age(d)
}

// age renders how long ago something was, in its largest unit or two.
func age(d time.Duration) string {
	d = max(d, 0).Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func clock(t time.Time) string   { return t.UTC().Format("15:04:05") }
func stamp(t time.Time) string   { return t.UTC().Format("2 Jan 2006, 15:04:05") }
func day(t time.Time) string     { return t.UTC().Format("2 January 2006") }
func machine(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// moment is short for today and dated for other days.
func moment(t, now time.Time) string {
	if t.UTC().Format(time.DateOnly) == now.UTC().Format(time.DateOnly) {
		return clock(t)
	}
	return t.UTC().Format("2 Jan, 15:04:05")
}

// labelOf names a row by its moment, for those who hear a link without its
// row. It holds what moment shows, letter by letter (WCAG 2.2, 2.5.3).
func labelOf(what string, t, now time.Time) string {
	shown := moment(t, now)
	if full := stamp(t); strings.Contains(full, shown) {
		return what + " of " + full
	}
	return what + " of " + shown + " (" + t.UTC().Format("2006") + ")"
}

// lastDay is the date in a paper whose validity ends at midnight t.
func lastDay(t time.Time) string { return day(t.Add(-time.Second)) }

// money renders an amount for reading: two decimals, or as many as a smaller
// amount needs to show two digits. Downloads carry the exact amount.
func money(nano int64, currency string) string {
	if currency == "" {
		return "–"
	}
	amount := math.Abs(float64(nano)) / 1e9
	sign := ""
	if nano < 0 {
		sign = "\u2212"
	}
	digits := 2
	switch {
	case amount == 0 || amount >= 1:
	case amount >= 0.01:
		digits = 4
	default: // two digits that count
		digits = min(9, int(-math.Floor(math.Log10(amount)))+1)
	}
	text := strconv.FormatFloat(amount, 'f', digits, 64)
	whole, rest, _ := strings.Cut(text, ".")
	if n, err := strconv.ParseInt(whole, 10, 64); err == nil {
		whole = number(n)
	}
	return sign + whole + "." + rest + "\u00a0" + currency
}

// cost is money in a column: four decimals, and the currency only where it is
// not the column's.
func cost(nano int64, currency, column string) string {
	text := strconv.FormatFloat(float64(nano)/1e9, 'f', 4, 64)
	if nano > 0 && nano < 100_000 {
		text = "< 0.0001"
	}
	if currency != column && currency != "" {
		text += "\u00a0" + currency
	}
	return text
}

func amounts(list []ledger.Amount, fallback string) string {
	if len(list) == 0 {
		return money(0, fallback)
	}
	var parts []string
	for _, a := range list {
		parts = append(parts, money(a.Nano, a.Currency))
	}
	return strings.Join(parts, " + ")
}

func country(code string) string {
	if code == "" {
		return "not recorded"
	}
	return strings.TrimPrefix(sovereignty.Jurisdiction(code).Label(), "the ")
}

// inCountry is a country as it stands in a sentence: "the United States (US)".
func inCountry(code string) string {
	if code == "" {
		return "a country that is not recorded"
	}
	return sovereignty.Jurisdiction(code).Label()
}

func countries(list []sovereignty.Jurisdiction) string {
	var parts []string
	for _, j := range list {
		parts = append(parts, country(string(j)))
	}
	if len(parts) == 0 {
		return "not recorded"
	}
	return strings.Join(parts, ", ")
}

func hexText(hash [16]byte) string { return hex.EncodeToString(hash[:]) }

// sentences joins what was wrapped for a terminal and cuts it into sentences.
func sentences(text string) []string {
	text = strings.Join(strings.Fields(text), " ")
	var out []string
	for text != "" {
		one, rest, found := strings.Cut(text, ". ")
		if found {
			one += "."
		}
		out, text = append(out, one), rest
	}
	return out
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func yes(b bool) string {
	if b {
		return "Yes"
	}
	return "No"
}

// names turns ids into the names that people use, as of one moment.
type names struct {
	directory *access.Directory
	keys      map[string]*access.Key
}

func (c *Console) names() names {
	n := names{c.Verifier.Directory(), map[string]*access.Key{}}
	for _, k := range n.directory.Keys() {
		n.keys[k.ID] = k
	}
	return n
}

func (n names) organisation(id uuid.UUID) string {
	if id == uuid.Nil {
		return "platform"
	}
	if o := n.directory.Organisation(id); o != nil {
		return o.Name
	}
	return id.String()
}

func (n names) key(selector string) string {
	if k := n.keys[selector]; k != nil {
		return k.Name
	}
	return selector
}

// state is a status: a shape, a word and a colour.
type state struct{ kind, word string }

const (
	ok   = "ok"   // tick in a circle
	warn = "warn" // triangle
	bad  = "bad"  // octagon
	info = "info" // arrow
	idle = "idle" // dashed circle
)

// outcomes says what the states of a request mean to a reader.
var outcomes = map[string]struct {
	state
	meaning string
}{
	"ok":                 {state{ok, "Answered"}, "The answer was delivered in full."},
	ledger.StateInFlight: {state{info, "In flight"}, "The request was admitted and its node is still working on it."},
	ledger.StateUnknown:  {state{warn, "Outcome unknown"}, "The node stopped before the end was known. The cost that was reserved is held."},
	"upstream-error":     {state{bad, "Provider error"}, "Every provider that was tried answered with an error."},
	"timeout":            {state{bad, "Timed out"}, "No provider answered in time."},
	"client-gone":        {state{idle, "Caller left"}, "The caller closed the connection. What was produced until then is billed."},
	"stream-broken":      {state{bad, "Stream broken"}, "The provider cut the stream after part of the answer had been sent. The caller was told."},
	"shed":               {state{warn, "Shed"}, "It was admitted and then dropped under load, before anything was sent to a provider."},
	"rejected":           {state{warn, "Rejected"}, "The provider refused the request itself, as malformed or too large."},
	"failed":             {state{bad, "Failed"}, "Something went wrong on this side after admission."},
}

// outcomeOrder is the order in filters.
var outcomeOrder = []string{"ok", ledger.StateInFlight, ledger.StateUnknown, "upstream-error", "timeout", "stream-broken", "client-gone", "rejected", "shed", "failed"}

func outcome(name string) state {
	if s, found := outcomes[name]; found {
		return s.state
	}
	return state{idle, capital(name)}
}

func outcomeMeaning(name string) string { return outcomes[name].meaning }

// endpointNames are the endpoints in words.
var endpointNames = map[string]string{"/v1/chat/completions": "Chat completion", "/v1/messages": "Message", "/v1/embeddings": "Embedding",
	"/v1/responses": "Response", "/v1/messages/count_tokens": "Token count", "chat-completions": "Chat completion", "messages": "Message",
	"embeddings": "Embedding", "responses": "Response", "count-tokens": "Token count"}

func endpointName(e string) string {
	if n, found := endpointNames[e]; found {
		return n
	}
	return e
}

// slug makes an element id of a title.
func slug(title string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(title))
}
