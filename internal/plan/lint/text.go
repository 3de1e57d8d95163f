package lint

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/missionopsai/foundry/internal/plan"
)

// Style is how a report is written.
type Style struct {
	Color      bool // with the escape sequences of a terminal
	Suppressed bool // what the plan accepts, too
	Brief      bool // without why and how to mend
}

// Colours of a terminal, by what is written in them.
const (
	colorReset = "\x1b[0m"
	colorBold  = "\x1b[1m"
	colorDim   = "\x1b[2m"
	colorMend  = "\x1b[36m"
)

var colorOf = map[Severity]string{Error: "\x1b[1;31m", Warning: "\x1b[1;33m", Note: "\x1b[1;34m"}

// Width of what is wrapped, and the longest line of the file that is shown in full.
const (
	textWidth    = 100
	excerptWidth = 120
)

// printer writes a report and keeps the first error.
type printer struct {
	w     io.Writer
	style Style
	err   error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// in wraps text in a colour, if there is one.
func (p *printer) in(color, text string) string {
	if !p.style.Color || text == "" {
		return text
	}
	return color + text + colorReset
}

// Text writes a report as compilers do: the place, what is wrong, the line
// with a mark under the value, and what to do.
func (r *Report) Text(w io.Writer, p *plan.Plan, style Style) error {
	out := &printer{w: w, style: style}
	why := map[string]string{}
	for _, rule := range Rules() {
		why[rule.ID] = rule.Why
	}
	for _, f := range r.Findings {
		out.finding(r.Path, p, f, why[f.Rule])
	}
	if style.Suppressed {
		for _, f := range r.Suppressed {
			out.finding(r.Path, p, f, why[f.Rule])
		}
	}
	out.printf("%s\n", r.summary(p))
	return out.err
}

func (out *printer) finding(path string, p *plan.Plan, f Finding, why string) {
	severity := f.Severity.String()
	if f.Suppressed != nil {
		severity = "accepted " + severity
	}
	out.printf("%s: %s %s %s\n", out.in(colorBold, position(path, f.Place)), out.in(colorOf[f.Severity], severity+":"), out.in(colorBold, clean(f.Message)), out.in(colorDim, "["+f.Rule+"]"))
	out.excerpts(p.Line, excerpt{f.Place, '^', clean(f.Subject)}, also(p, f)...)
	if !out.style.Brief {
		out.labelled("why", why, "")
		out.labelled("mend", f.Mend, colorMend)
	}
	for _, a := range f.Assumes {
		out.labelled("assumes", a, "")
	}
	if len(f.Clauses) > 0 {
		out.labelled("clauses", strings.Join(f.Clauses, "; "), "")
	}
	if s := f.Suppressed; s != nil {
		out.labelled("accepted", fmt.Sprintf("by %s until %s: %s", s.By, s.Until.Format("2006-01-02"), s.Reason), "")
	}
	out.printf("\n")
}

func position(path string, at plan.Place) string {
	if at.Line == 0 {
		return path
	}
	return fmt.Sprintf("%s:%d:%d", path, at.Line, at.Column)
}

// excerpt is a place with what is written beside its mark.
type excerpt struct {
	at   plan.Place
	mark rune
	says string
}

// also are the other places of a finding, each line once.
func also(p *plan.Plan, f Finding) (out []excerpt) {
	seen := map[plan.Place]bool{f.Place: true}
	for _, path := range f.Also {
		if at := p.At(path); at.Line > 0 && !seen[at] {
			seen[at] = true
			out = append(out, excerpt{at, '-', ""})
		}
	}
	return out
}

// maxAlso bounds how many other places are shown; all are in the JSON.
const maxAlso = 4

func (out *printer) excerpts(line func(int) string, first excerpt, rest ...excerpt) {
	if first.at.Line == 0 {
		return
	}
	more := 0
	if len(rest) > maxAlso {
		more, rest = len(rest)-maxAlso, rest[:maxAlso]
	}
	width := len(fmt.Sprint(first.at.Line))
	for _, e := range rest {
		width = max(width, len(fmt.Sprint(e.at.Line)))
	}
	for _, e := range append([]excerpt{first}, rest...) {
		text, column, length := window(line(e.at.Line), e.at)
		color := colorDim
		if e.mark == '^' {
			color = colorOf[Error]
		}
		mark := strings.TrimRight(strings.Repeat(string(e.mark), length)+" "+e.says, " ")
		out.printf("  %s %s\n", out.in(colorDim, fmt.Sprintf("%*d |", width, e.at.Line)), text)
		out.printf("  %s %s%s\n", out.in(colorDim, fmt.Sprintf("%*s |", width, "")), strings.Repeat(" ", column), out.in(color, mark))
	}
	if more > 0 {
		out.printf("  %*s   and %d more places\n", width, "", more)
	}
}

// window is the part of a line that is shown, and where the mark goes.
func window(line string, at plan.Place) (text string, column, length int) {
	runes := []rune(clean(line))
	column, length = min(at.Column-1, len(runes)), max(at.Length, 1)
	from := 0
	if len(runes) > excerptWidth && column > excerptWidth/2 {
		from = min(column-excerptWidth/3, len(runes)-excerptWidth)
	}
	to := min(len(runes), from+excerptWidth)
	text, column = string(runes[from:to]), column-from
	if from > 0 {
		text, column = "…"+text, column+1
	}
	if to < len(runes) {
		text += "…"
	}
	return strings.TrimRight(text, " "), column, min(length, max(1, to-from-column+1))
}

// clean keeps what a plan says from steering a terminal: a tab is one space, as
// columns count it, and other control characters are marked.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return '\uFFFD'
		}
		return r
	}, s)
}

// labelled writes a paragraph behind a word.
func (out *printer) labelled(word, text, color string) {
	if text == "" {
		return
	}
	indent := strings.Repeat(" ", len(word)+4)
	var line strings.Builder
	for _, w := range strings.Fields(clean(text)) {
		if line.Len() > 0 && len(indent)+line.Len()+1+len(w) > textWidth {
			out.printf("%s\n", out.lead(word, indent)+out.in(color, line.String()))
			word = ""
			line.Reset()
		}
		if line.Len() > 0 {
			line.WriteByte(' ')
		}
		line.WriteString(w)
	}
	out.printf("%s\n", out.lead(word, indent)+out.in(color, line.String()))
}

func (out *printer) lead(word, indent string) string {
	if word == "" {
		return indent
	}
	return "  " + out.in(colorBold, word+":") + " "
}

// summary closes a report.
func (r *Report) summary(p *plan.Plan) string {
	var parts []string
	for s := Error; ; s-- {
		n := 0
		for _, f := range r.Findings {
			if f.Severity == s {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, count(n, s.String()))
		}
		if s == Note {
			break
		}
	}
	what := "nothing found"
	if len(parts) > 0 {
		what = join(parts)
	}
	if n := len(r.Suppressed); n > 0 {
		what += fmt.Sprintf("; %d accepted by the plan", n)
	}
	return fmt.Sprintf("%s: %s in %s, %s and %s.", clean(r.Path), what, count(len(p.Functions), "function"), count(len(p.Nodes), "node"), count(len(p.Commitments), "commitment"))
}

func count(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

func join(parts []string) string {
	if len(parts) < 2 {
		return strings.Join(parts, "")
	}
	return strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1]
}

// TextMistakes writes why a text is no plan, or no scenario, in the same form.
func TextMistakes(w io.Writer, m *plan.Mistakes, style Style) error {
	out := &printer{w: w, style: style}
	for _, x := range m.List {
		out.printf("%s: %s %s %s\n", out.in(colorBold, position(m.File, x.Place)), out.in(colorOf[Error], "error:"), out.in(colorBold, clean(x.Detail)), out.in(colorDim, "["+x.Code+"]"))
		var rest []excerpt
		if x.Also != nil {
			rest = append(rest, excerpt{*x.Also, '-', ""})
		}
		out.excerpts(m.Line, excerpt{x.Place, '^', ""}, rest...)
		out.labelled("mend", x.Mend, colorMend)
		out.printf("\n")
	}
	all := fmt.Sprint(len(m.List) + m.More)
	if m.Abandoned {
		all = "more than " + all
	}
	if all == "1" {
		out.printf("%s: this is no %s yet: 1 mistake.\n", m.File, cmp.Or(m.Of, "plan"))
	} else {
		out.printf("%s: this is no %s yet: %s mistakes%s.\n", m.File, cmp.Or(m.Of, "plan"), all, map[bool]string{true: fmt.Sprintf(", the first %d are shown", len(m.List))}[m.More > 0])
	}
	return out.err
}
