package incident

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/incident/clock"
)

// PDF writes the incident as a document to print and file. It is for reading,
// as the page is; what proves is the archive, whose head stands on every sheet.
// The file is PDF 1.4 (ISO 32000-1) with the standard fonts, which every reader
// has: nothing in it is fetched, run or embedded.
func PDF(to io.Writer, t *Timeline, zone *time.Location, now time.Time) error {
	if zone == nil {
		zone = time.UTC
	}
	s := t.State
	d := &document{foot: fmt.Sprintf("%s   entry %d   %s", s.ID, s.Head.N, s.Head.Hash)}
	d.line(bold, 16, 0, s.Title)
	if s.Mode != Real {
		d.line(bold, 11, 0, fmt.Sprintf("An exercise (%s): this is not real.", s.Mode))
	}
	if t.Stale {
		d.line(bold, 11, 0, "As one node has it: most of the fleet did not answer.")
	}
	at := func(x time.Time) string { return stamp(x) + " (" + x.In(zone).Format("15:04 MST") + ")" }
	d.pair("Incident", s.ID)
	d.pair("Category", string(s.Category))
	d.pair("Phase", fmt.Sprintf("%s, since %s", s.Phase, at(s.Since)))
	d.pair("Opened", at(s.OpenedAt)+" by "+s.OpenedBy)
	d.pair("Written", at(now))
	for _, r := range Roles {
		if s.Roles[r] != "" {
			d.pair(strings.ToUpper(string(r[0]))+string(r[1:]), s.Roles[r])
		}
	}
	d.pair("Reached", orNothing(append(append(append([]string{}, s.Scope.Nodes...), s.Scope.Functions...), s.Scope.Clients...)))
	d.clocks(s, now)
	d.rest(s)
	d.line(bold, 12, 10, "Timeline")
	for i := range t.Entries {
		e := &t.Entries[i]
		d.line(bold, 8, 4, fmt.Sprintf("%d   %s   %s   %s on %s", e.N, stamp(e.At), e.Kind, e.By, e.Node))
		d.line(plain, 9, 0, Describe(*e))
	}
	return d.write(to, s.Title, now)
}

func (d *document) clocks(s *State, now time.Time) {
	d.line(bold, 12, 10, "Clocks")
	list := s.Clocks(now)
	if len(list) == 0 {
		d.line(plain, 9, 0, NoPlan)
	}
	for _, r := range list {
		words := fmt.Sprintf("%s   %s: %s", strings.ToUpper(string(r.State)), r.ID, r.Title)
		if !r.Due.IsZero() {
			words += ", due " + stamp(r.Due)
		}
		if r.State == clock.Running {
			words += ", " + r.Left.Round(time.Minute).String() + " left"
		}
		if r.Ended != nil {
			words += fmt.Sprintf(", ended at %s by entry %d", stamp(r.Ended.At), r.Ended.Entry)
		}
		d.line(plain, 9, 0, words)
	}
}

// rest are the lists that not every incident has.
func (d *document) rest(s *State) {
	head := func(n int, words string) {
		if n > 0 {
			d.line(bold, 12, 10, words)
		}
	}
	head(len(s.Notices), "Notices")
	for _, n := range s.Notices {
		state := string(n.Step)
		if n.Unclear {
			state = "indeterminate"
		}
		d.line(plain, 9, 0, tidy(fmt.Sprintf("%s to %s %s: %s %s %s (entry %d)", n.ID, n.Audience, n.To, state, n.Channel, n.Receipt, n.Entry)))
	}
	head(len(s.Decisions), "Decisions")
	for _, x := range s.Decisions {
		state := "waits"
		if x.Approved {
			state = "stands"
		}
		d.line(plain, 9, 0, tidy(fmt.Sprintf("Entry %d about %s %s %s: %s For: %s. Against: %s.", x.Entry, x.About, x.Target, state, x.Words, orNothing(x.For), orNothing(x.Against))))
	}
	head(len(s.Evidence), "Evidence")
	for _, x := range s.Evidence {
		d.line(plain, 9, 0, tidy(fmt.Sprintf("Entry %d: %s, %s of %s, %d bytes, SHA-256 %s %s", x.Entry, x.Name, x.Capture, named(x.Target), x.Size, x.Hash, x.Place)))
	}
	if s.Review != nil {
		head(1, "Review")
		for _, x := range [][2]string{{"Cause", s.Review.Cause}, {"Went well", s.Review.Went}, {"Went badly", s.Review.Failed}, {"Lessons", s.Review.Lessons}, {"No actions", s.Review.NoActions}} {
			if x[1] != "" {
				d.pair(x[0], x[1])
			}
		}
	}
	head(len(s.Actions), "Actions")
	for _, x := range s.Actions {
		state := "open"
		if !x.Done.IsZero() {
			state = "done " + stamp(x.Done) + ", shown by " + x.Shown
		}
		d.line(plain, 9, 0, tidy(fmt.Sprintf("%s: %s, by %s until %s: %s", x.ID, x.Title, x.Owner, x.Due.UTC().Format(time.DateOnly), state)))
	}
}

// A4 in points, with its margins.
const (
	sheetWidth, sheetHeight = 595, 842
	margin                  = 50
	plain, bold             = "F1", "F2"
)

// document lays lines out on sheets.
type document struct {
	sheets []*bytes.Buffer
	y      float64 // of the line that was written last
	foot   string
}

func (d *document) pair(name, value string) { d.line(plain, 9, 0, name+": "+value) }

// line writes words, broken where they reach the margin.
func (d *document) line(font string, size, above float64, words string) {
	const leading = 1.35
	for i, row := range wrapped(encoded(words), size, sheetWidth-2*margin, font == bold) {
		if i == 0 {
			d.y -= above
		}
		if len(d.sheets) == 0 || d.y-size*leading < margin+16 {
			d.sheets, d.y = append(d.sheets, &bytes.Buffer{}), sheetHeight-margin
		}
		d.y -= size * leading
		fmt.Fprintf(d.sheets[len(d.sheets)-1], "BT /%s %g Tf 1 0 0 1 %d %.1f Tm (%s) Tj ET\n", font, size, margin, d.y, escaped(row))
	}
}

// write puts the sheets into a file (ISO 32000-1, 7.5).
func (d *document) write(to io.Writer, title string, now time.Time) error {
	var out bytes.Buffer
	var at []int
	object := func(format string, args ...any) {
		at = append(at, out.Len())
		fmt.Fprintf(&out, "%d 0 obj\n", len(at))
		fmt.Fprintf(&out, format, args...)
		out.WriteString("\nendobj\n")
	}
	out.WriteString("%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
	const first = 6 // of the sheets: before them catalogue, tree, two fonts, information
	var kids []string
	for i := range d.sheets {
		kids = append(kids, fmt.Sprintf("%d 0 R", first+2*i))
	}
	object("<< /Type /Catalog /Pages 2 0 R /Lang (en) /ViewerPreferences << /DisplayDocTitle true >> >>")
	object("<< /Type /Pages /Kids [%s] /Count %d >>", strings.Join(kids, " "), len(kids))
	object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
	object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>")
	object("<< /Title (%s) /Producer (Foundry) /CreationDate (D:%s) >>", escaped(encoded(title)), now.UTC().Format("20060102150405Z"))
	for i, s := range d.sheets {
		fmt.Fprintf(s, "BT /F1 7 Tf 1 0 0 1 %d %d Tm (%s) Tj ET\n", margin, margin-16, escaped(encoded(fmt.Sprintf("%s   sheet %d of %d", d.foot, i+1, len(d.sheets)))))
		object("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> /Contents %d 0 R >>", sheetWidth, sheetHeight, first+2*i+1)
		object("<< /Length %d >>\nstream\n%s\nendstream", s.Len(), s.Bytes())
	}
	xref := out.Len()
	fmt.Fprintf(&out, "xref\n0 %d\n0000000000 65535 f \n", len(at)+1)
	for _, n := range at {
		fmt.Fprintf(&out, "%010d 00000 n \n", n)
	}
	fmt.Fprintf(&out, "trailer\n<< /Size %d /Root 1 0 R /Info 5 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(at)+1, xref)
	_, err := to.Write(out.Bytes())
	return err
}

// escaped writes the bytes of a string in parentheses (7.3.4.2).
func escaped(text []byte) string {
	var out strings.Builder
	for _, c := range text {
		switch {
		case c == '(' || c == ')' || c == '\\':
			out.WriteByte('\\')
			out.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&out, "\\%03o", c)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// windows are the characters that WinAnsiEncoding has beyond Latin-1.
var windows = map[rune]byte{'€': 0x80, '‚': 0x82, '„': 0x84, '…': 0x85, '†': 0x86, '‰': 0x89, 'Š': 0x8a, '‹': 0x8b, 'Œ': 0x8c, 'Ž': 0x8e,
	'‘': 0x91, '’': 0x92, '“': 0x93, '”': 0x94, '•': 0x95, '–': 0x96, '—': 0x97, '™': 0x99, 'š': 0x9a, '›': 0x9b, 'œ': 0x9c, 'ž': 0x9e, 'Ÿ': 0x9f}

// encoded puts text into WinAnsiEncoding. A character that it lacks is named
// by its number: a reader must see that something stood there.
func encoded(text string) (out []byte) {
	for _, r := range text {
		b, special := windows[r]
		switch {
		case r == '→':
			out = append(out, "->"...)
		case special:
			out = append(out, b)
		case r >= ' ' && r <= '~', r >= 0xa0 && r <= 0xff:
			out = append(out, byte(r))
		case r == '\n', r == '\r', r == '\t':
			out = append(out, ' ')
		default:
			out = append(out, fmt.Sprintf("[U+%04X]", r)...)
		}
	}
	return out
}

// widths are those of Helvetica from the space to the tilde, in thousandths of
// its size (Adobe's metrics of the standard fonts).
var widths = [...]int{278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278,
	556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556,
	1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556,
	333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584}

// wide is how wide a character is at most.
func wide(c byte, size float64, heavy bool) float64 {
	w := 1000
	if c >= ' ' && c <= '~' {
		w = widths[c-' ']
	} else if c >= 0xe0 {
		w = 611
	}
	if heavy {
		w += 60
	}
	return float64(w) * size / 1000
}

// wrapped breaks text at spaces, and a word that is longer than a row anywhere.
func wrapped(text []byte, size, limit float64, heavy bool) (rows [][]byte) {
	var row []byte
	used, space := 0.0, -1
	for _, c := range text {
		if c == ' ' {
			space = len(row)
		}
		row = append(row, c)
		if used += wide(c, size, heavy); used <= limit || len(row) == 1 {
			continue
		}
		cut := len(row) - 1
		if space > 0 {
			cut = space
		}
		rows = append(rows, row[:cut])
		row = bytes.TrimLeft(bytes.Clone(row[cut:]), " ")
		used, space = 0, -1
		for i, x := range row {
			used += wide(x, size, heavy)
			if x == ' ' {
				space = i
			}
		}
	}
	return append(rows, row)
}
