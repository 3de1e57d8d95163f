package scenario

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/missionopsai/foundry/internal/plan"
)

// Bounds of a scenario.
const (
	maxText  = 256 << 10
	maxLines = 4000
	maxLine  = 2000 // bytes
	maxDepth = 4
)

// word is one word of a line.
type word struct {
	text   string
	quoted bool
	place  plan.Place
}

// line is a line with its words, and the lines of its block.
type line struct {
	words []word
	block []*line
	open  bool // it has a block, which may be empty
	place plan.Place
	text  string
}

func (r *reader) bad(p plan.Place, code, detail, mend string) {
	r.mistakes.List = append(r.mistakes.List, plan.Mistake{Code: code, Detail: detail, Mend: mend, Place: p})
}

// lines reads the whole text as nested lines.
func (r *reader) lines(text string) []*line {
	var root line
	stack := []*line{&root}
	for n, raw := range strings.Split(text, "\n") {
		raw = strings.TrimSuffix(raw, "\r")
		if n >= maxLines {
			r.bad(plan.Place{Line: n + 1, Column: 1, Length: 1}, "scenario-size", "The scenario has more than 4,000 lines.", "Is it the right file?")
			return root.block
		}
		if len(raw) > maxLine {
			r.bad(plan.Place{Line: n + 1, Column: 1, Length: 1}, "scenario-size", "The line has more than 2,000 bytes.", "Say it in several.")
			continue
		}
		words, ok := r.words(raw, n+1)
		if !ok || len(words) == 0 {
			continue
		}
		last := &words[len(words)-1]
		if !last.quoted && words[0].text == "}" {
			if len(words) > 1 {
				r.bad(words[1].place, "scenario-brace", "Something follows a closing brace.", "Put it on a line of its own.")
			}
			if len(stack) == 1 {
				r.bad(words[0].place, "scenario-brace", "This brace closes nothing.", "Remove it, or open the block that it ends.")
				continue
			}
			stack = stack[:len(stack)-1]
			continue
		}
		l := &line{place: words[0].place, text: strings.TrimSpace(raw)}
		if !last.quoted && last.text == "{" {
			l.open, words = true, words[:len(words)-1]
		}
		l.words = words
		if len(words) == 0 {
			r.bad(l.place, "scenario-brace", "A block begins without a name.", "Write what it is before the brace: step \"…\" {")
		}
		at := stack[len(stack)-1]
		at.block = append(at.block, l)
		if l.open {
			if len(stack) > maxDepth {
				r.bad(l.place, "scenario-depth", "Blocks lie too deep in each other.", "Steps hold lines, and no blocks.")
				return root.block
			}
			stack = append(stack, l)
		}
	}
	if len(stack) > 1 {
		r.bad(stack[len(stack)-1].place, "scenario-brace", "This block is never closed.", "Close it by a line with }.")
	}
	return root.block
}

// words reads one line. A # outside of quotes begins a comment.
func (r *reader) words(raw string, n int) (out []word, ok bool) {
	at := func(i, end int) plan.Place {
		return plan.Place{Line: n, Column: utf8.RuneCountInString(raw[:i]) + 1, Length: max(1, utf8.RuneCountInString(raw[i:end]))}
	}
	for i := 0; i < len(raw); {
		c, size := utf8.DecodeRuneInString(raw[i:])
		switch {
		case c == utf8.RuneError && size == 1:
			r.bad(at(i, i+1), "scenario-encoding", "This is no UTF-8.", "Save the file as UTF-8.")
			return nil, false
		case c == ' ' || c == '\t':
			i += size
		case c == '#':
			return out, true
		case c == '"':
			text, next, good := quoted(raw, i)
			if !good {
				r.bad(at(i, len(raw)), "scenario-quote", "These quotes are not closed in their line.", `Close them; a quote inside is written \".`)
				return nil, false
			}
			out = append(out, word{text, true, at(i, next)})
			i = next
		case c == '{' || c == '}':
			out = append(out, word{string(c), false, at(i, i+1)})
			i++
		case unicode.IsControl(c):
			r.bad(at(i, i+size), "scenario-encoding", "There is a control character.", "Remove it.")
			return nil, false
		default:
			end := i + strings.IndexFunc(raw[i:]+" ", func(c rune) bool { return strings.ContainsRune(" \t\"{}#", c) || unicode.IsControl(c) })
			out = append(out, word{raw[i:end], false, at(i, end)})
			i = end
		}
	}
	return out, true
}

// quoted reads a text in quotes that begins at i, where \" and \\ are the only
// escapes.
func quoted(raw string, i int) (text string, next int, ok bool) {
	var b strings.Builder
	for j := i + 1; j < len(raw); j++ {
		switch c := raw[j]; {
		case c == '"':
			return b.String(), j + 1, utf8.ValidString(b.String())
		case c == '\\' && j+1 < len(raw) && (raw[j+1] == '"' || raw[j+1] == '\\'):
			j++
			b.WriteByte(raw[j])
		case c < ' ' || c == 0x7f:
			return "", 0, false
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, false
}
