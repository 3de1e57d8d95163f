package probe

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

// maxTarget bounds a target's text.
const maxTarget = 2048

// Target is a target that was read: an address, and words of what is expected.
//
//	https://app.example.org/healthz status=200 contains="all is well"
//
// A value with spaces stands in double quotes; in them, \" is a quote and \\ a
// backslash. There is no place for a credential in a target.
type Target struct {
	Kind Signal
	Host string   // of the address, without brackets; "" where the kind has none
	Port uint16   // 0 where the kind has none
	URL  *url.URL // of kinds that have one
	Rest string   // database, unit, path, name: what the kind is about, if not a host

	words map[string]string
}

// Parse reads a target of a kind. Its errors are problems that say how to
// write it.
func Parse(kind Signal, written string) (Target, error) {
	g := grammarOf(kind)
	if g == nil {
		var names []string
		for _, g := range grammars {
			names = append(names, string(g.Kind))
		}
		e := problem.New(problem.Invalid, "probe-kind", fmt.Sprintf("%q is no kind of probe.", clean(string(kind), 40))).WithField("kind").WithMend("Write one of " + strings.Join(names, ", ") + ".")
		if near := config.Nearest(string(kind), names); near != "" {
			e.Mend = "Did you mean " + near + "?"
		}
		return Target{}, e
	}
	bad := func(format string, args ...any) (Target, error) {
		return Target{}, problem.New(problem.Invalid, "probe-target", fmt.Sprintf(format, args...)).WithField("target").WithMend(fmt.Sprintf("Write %s, for example: %s", g.Address, g.Example))
	}
	if len(written) > maxTarget {
		return bad("A target is at most %d bytes long.", maxTarget)
	}
	if !utf8.ValidString(written) || strings.ContainsFunc(written, unicode.IsControl) {
		return bad("A target is one line of readable text.")
	}
	address, rest, _ := strings.Cut(strings.TrimSpace(written), " ")
	if address == "" {
		return bad("The target is empty.")
	}
	t := Target{Kind: kind, words: map[string]string{}}
	if err := g.form(&t, address); err != nil {
		return bad("%s", sentence(err))
	}
	if t.Port == 0 && t.Host != "" && t.URL == nil && kind != DNS {
		if t.Port = g.port; t.Port == 0 {
			return bad("%q names no port.", clean(address, 80))
		}
	}
	for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
		name, value, left, err := nextWord(rest)
		if err != nil {
			return bad("%s", sentence(err))
		}
		if rest = left; t.words[name] != "" {
			return bad("%s= is there twice.", name)
		}
		if err := g.take(&t, name, value); err != nil {
			return bad("%s", sentence(err))
		}
	}
	if err := t.together(); err != nil {
		return bad("%s", sentence(err))
	}
	return t, nil
}

// take checks a word and keeps it.
func (g *Grammar) take(t *Target, name, value string) error {
	w := g.word(name)
	if w == nil {
		var names []string
		for _, w := range g.Words {
			names = append(names, w.Name)
		}
		switch near := config.Nearest(name, names); {
		case len(names) == 0:
			return fmt.Errorf("a target of kind %s has nothing after its address", g.Kind)
		case near != "":
			return fmt.Errorf("%s= means nothing for %s; did you mean %s=", clean(name, 40), g.Kind, near)
		default:
			return fmt.Errorf("%s= means nothing for %s, which knows %s", clean(name, 40), g.Kind, strings.Join(names, ", "))
		}
	}
	if value == "" {
		return fmt.Errorf("%s= has no value", name)
	}
	if err := w.check(value); err != nil {
		return fmt.Errorf("%s=%s: %w", name, clean(value, 80), err)
	}
	t.words[name] = value
	return nil
}

// together checks words that need each other.
func (t *Target) together() error {
	switch {
	case t.words["send"] != "" && t.words["protocol"] != "udp":
		return fmt.Errorf("send= needs protocol=udp")
	case t.Kind == HTTPS && t.words["plaintext"] == "yes" && t.URL.Scheme != "http":
		return fmt.Errorf("plaintext= is for http://")
	case t.words["lag"] != "" && t.words["role"] != "standby", t.words["bytes"] != "" && t.words["role"] != "standby":
		return fmt.Errorf("lag= and bytes= need role=standby")
	case t.words["each"] == "yes" && (t.words["server"] != "" || t.words["at"] != ""):
		return fmt.Errorf("each=yes and a server of your own choice exclude each other")
	}
	return nil
}

// nextWord cuts name=value off.
func nextWord(s string) (name, value, rest string, err error) {
	name, s, ok := strings.Cut(s, "=")
	if !ok || strings.ContainsAny(name, " \"") || name == "" {
		first, _, _ := strings.Cut(name, " ")
		return "", "", "", fmt.Errorf("%q is no word of the form name=value", clean(first, 80))
	}
	if !strings.HasPrefix(s, `"`) {
		value, rest, _ = strings.Cut(s, " ")
		if strings.Contains(value, `"`) {
			return "", "", "", fmt.Errorf("%s= has a quote inside; quote all of it", clean(name, 40))
		}
		return name, value, rest, nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
			b.WriteByte(s[i])
		case c == '"':
			if rest = s[i+1:]; rest != "" && rest[0] != ' ' {
				return "", "", "", fmt.Errorf("something follows the closing quote of %s=", clean(name, 40))
			}
			return name, b.String(), rest, nil
		default:
			b.WriteByte(c)
		}
	}
	return "", "", "", fmt.Errorf("the quote of %s= is not closed", clean(name, 40))
}

// String writes the target so that Parse reads it to the same one. The query
// of a URL, which some put a token in, is left out.
func (t Target) String() string {
	var b strings.Builder
	b.WriteString(t.place())
	if g := grammarOf(t.Kind); g != nil {
		for _, w := range g.Words {
			if v, ok := t.words[w.Name]; ok {
				b.WriteString(" " + w.Name + "=")
				if strings.ContainsAny(v, " \"") {
					v = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
				}
				b.WriteString(v)
			}
		}
	}
	return b.String()
}

// place is the address alone, for sentences.
func (t Target) place() string {
	switch {
	case t.URL != nil:
		u := *t.URL
		u.RawQuery, u.Fragment, u.RawFragment, u.ForceQuery = "", "", "", false
		return u.String()
	case t.Kind == PostgreSQL:
		place := net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
		if strings.HasPrefix(t.Host, "/") {
			place = t.Host + ":" + strconv.Itoa(int(t.Port))
		}
		if t.Rest != "" {
			place += "/" + t.Rest
		}
		return place
	case t.Host != "" && t.Port != 0:
		return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
	case t.Host != "":
		return t.Host
	}
	return t.Rest
}

// word is a word's value, or another where it was not said.
func (t Target) word(name, otherwise string) string {
	if v, ok := t.words[name]; ok {
		return v
	}
	return otherwise
}

func (t Target) yes(name string) bool { return t.words[name] == "yes" }

func (t Target) number(name string) int {
	n, _ := strconv.Atoi(t.words[name]) // checked when it was read
	return n
}

func (t Target) span(name string, otherwise time.Duration) time.Duration {
	s, err := plan.ParseSpan(t.words[name])
	if err != nil {
		return otherwise
	}
	return s.Longest()
}

// list is a value with commas.
func (t Target) list(name string) []string { return commas(t.words[name]) }

func commas(value string) (out []string) {
	for v := range strings.SplitSeq(value, ",") {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}

// clean makes text from outside fit for a sentence: readable, on one line,
// and at most n bytes.
func clean(s string, n int) string {
	cut := len(s) > n
	if cut {
		s = s[:n]
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError || r == '\t' || r == '\r' || r == '\n':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if s = strings.Join(strings.Fields(s), " "); cut {
		s += "…"
	}
	return s
}

// sentence begins a fragment with a capital and ends it with a full stop.
func sentence(err error) string {
	s := err.Error()
	if s == "" {
		return ""
	}
	if s[0] >= 'a' && s[0] <= 'z' && !strings.ContainsAny(strings.SplitN(s, " ", 2)[0], "=/") {
		s = strings.ToUpper(s[:1]) + s[1:]
	}
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

// literal is the address that a host is written as, if it is one.
func literal(host string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(host)
	return a.Unmap(), err == nil
}
