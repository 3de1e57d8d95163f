package sovereignty

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const textWidth = 96

// Text tells the decision in plain English, for a terminal.
func (d Decision) Text() string {
	var b strings.Builder
	line := func(s, first, rest string) { b.WriteString(wrap(s, first, rest)); b.WriteByte('\n') }
	line(d.summary(), "", "")
	for i := range d.Allowed {
		t := &d.Allowed[i].Target
		line(t.name()+". "+t.Transfer.Text(d.Regime), "  "+strconv.Itoa(i+1)+". ", "     ")
	}
	if !d.until.IsZero() {
		line("This holds to "+end(d.until)+"; then a contract or safeguard looked at here lapses or begins.", "", "")
	}
	for i := range d.Considered {
		c := &d.Considered[i]
		b.WriteByte('\n')
		line(c.verdict(), "", "")
		for _, check := range c.Checks {
			mark := "  [--]  "
			switch check.Result {
			case Pass:
				mark = "  [yes] "
			case Fail:
				mark = "  [NO]  "
			}
			line(clean(check.Sentence)+" ("+string(check.Rule)+")", mark, "        ")
			if check.Mend != "" {
				line("What would allow it: "+clean(check.Mend), "        ", "        ")
			}
		}
	}
	return b.String()
}

func (d Decision) summary() string {
	var b strings.Builder
	if d.Outcome == OutcomeAllowed {
		b.WriteString("Allowed. ")
	} else {
		b.WriteString("Refused. ")
	}
	b.WriteString("The request")
	if d.Organisation != "" {
		b.WriteString(" of organisation " + shown(d.Organisation))
	}
	if d.Model != "" {
		b.WriteString(" for model " + shown(d.Model))
	}
	b.WriteString(" carries " + d.Class.String() + " data. ")
	n, all := len(d.Allowed), len(d.Considered)
	switch {
	case all == 0:
		b.WriteString("No provider is set up to answer it.")
	case n == 0 && all == 1:
		b.WriteString("The only candidate may not be used, so the request goes nowhere.")
	case n == 0:
		b.WriteString("None of " + strconv.Itoa(all) + " candidates may be used, so the request goes nowhere.")
	default:
		b.WriteString(strconv.Itoa(n) + " of " + strconv.Itoa(all) + plural(all, " candidate", " candidates") + " may be used" +
			plural(n, ":", ", tried in this order:"))
	}
	return b.String()
}

// name identifies a target in a sentence; a simulation always says so.
func (t *Target) name() string {
	name := shown(t.Provider)
	if t.Provider == "" {
		name = "(unnamed)"
	}
	if t.Model != "" {
		name += " with model " + shown(t.Model)
	}
	if t.Simulated {
		name += " [SIMULATED: no model answers]"
	}
	return name
}

func (c *Considered) verdict() string {
	if c.Allowed {
		return c.name() + " may be used."
	}
	n := c.failures()
	return c.name() + " may not be used: " + strconv.Itoa(n) + plural(n, " rule says no.", " rules say no.")
}

// Text says in sentences where the data goes and under which cover.
func (t *Transfer) Text(r Regime) string {
	var b strings.Builder
	if len(t.Destinations) > 0 {
		b.WriteString("Data reaches " + places(t.Destinations) + ". ")
	}
	if t.LeavesEEA {
		b.WriteString("It leaves the EEA. ")
	} else {
		b.WriteString("Nothing leaves the EEA. ")
	}
	switch {
	case !t.Restricted:
		b.WriteString("Under " + r.Law() + " this is no restricted transfer.")
	case t.Safeguard != nil:
		b.WriteString("Under " + r.Law() + " this is a restricted transfer, covered by " + t.Safeguard.Instrument.Title() + " (" + shown(t.Safeguard.Reference) + ")")
		for _, c := range t.Cover {
			if c.Instrument != t.Safeguard.Instrument || c.Reference != t.Safeguard.Reference {
				b.WriteString(" and others")
				break
			}
		}
		b.WriteString(".")
	default:
		b.WriteString("Under " + r.Law() + " this is a restricted transfer without cover.")
	}
	return b.String()
}

// clean replaces what cannot be printed: a stored decision is outside data.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// wrap breaks a sentence into lines of textWidth, the first line and the rest
// with their own indent. A word longer than that stands alone.
func wrap(s, first, rest string) string {
	var b strings.Builder
	b.WriteString(first)
	col := utf8.RuneCountInString(first)
	start := true
	for word := range strings.FieldsSeq(s) {
		n := utf8.RuneCountInString(word)
		switch {
		case start:
		case col+1+n > textWidth:
			b.WriteString("\n" + rest)
			col = utf8.RuneCountInString(rest)
		default:
			b.WriteByte(' ')
			col++
		}
		b.WriteString(word)
		col += n
		start = false
	}
	return b.String()
}
