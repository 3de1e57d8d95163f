package plan

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Drawing is how a graph is drawn.
type Drawing struct {
	Outcome    *Outcome           // marks what is lost and what falls; may be nil
	Link       func(Thing) string // address of a thing, or ""; may be nil
	Standalone bool               // with its own colours, for a file; a page brings its own
}

// Measures of a drawing, in pixels.
const (
	boxWidth, boxHeight = 156, 34
	gapAcross, gapDown  = 38, 12
	margin, headHeight  = 16, 28
	longestLabel        = 21 // characters
)

// columns of a drawing, from what the organisation does to what it stands on.
var columns = []struct{ kind, title string }{
	{KindPerson, "People"}, {KindFunction, "Functions"}, {KindNode, "Nodes"}, {KindSite, "Sites"}, {KindBackup, "Backups"}, {KindSupplier, "Suppliers"},
}

type box struct {
	Thing
	x, y int
	mark string // class of its state
	word string // its state, for those who see no colour
}

// SVG draws the graph: a column for each kind of thing, what needs it to the
// left of it. The drawing has a title and a description; every box says its
// state in a word, not by colour alone.
func (g *Graph) SVG(d Drawing) []byte {
	boxes, width, height := g.place(d.Outcome)
	var out bytes.Buffer
	role := "img"
	if d.Link != nil {
		role = "group" // an image holds no links
	}
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" class="plan-graph" role="%s" aria-labelledby="plan-graph-title plan-graph-desc" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="13">`, role, width, height, width, height)
	fmt.Fprintf(&out, "\n<title id=\"plan-graph-title\">%s</title><desc id=\"plan-graph-desc\">%s</desc>\n", escape(g.heading(d.Outcome)), escape(g.description(d.Outcome)))
	if d.Standalone {
		out.WriteString(standaloneStyle)
	}
	x := margin
	for _, c := range columns {
		if !slices.ContainsFunc(g.Things, func(t Thing) bool { return t.Kind == c.kind }) {
			continue
		}
		fmt.Fprintf(&out, `<text class="head" x="%d" y="%d" font-weight="600">%s</text>`+"\n", x, margin+12, c.title)
		x += boxWidth + gapAcross
	}
	for _, e := range g.Edges {
		from, to := boxes[e.From], boxes[e.To]
		if from == nil || to == nil {
			continue
		}
		out.WriteString(line(e, from, to))
	}
	for _, t := range g.Things {
		if b := boxes[t]; b != nil {
			b.write(&out, d.Link)
		}
	}
	out.WriteString("</svg>\n")
	return out.Bytes()
}

const standaloneStyle = `<style>
.plan-graph{color-scheme:light dark;background:light-dark(#fff,#16181d)}
.plan-graph text{fill:light-dark(#1b1f24,#e6e8eb)} .plan-graph .head,.plan-graph .word{fill:light-dark(#57606a,#a0a8b3)}
.plan-graph rect{fill:light-dark(#f6f8fa,#20242b);stroke:light-dark(#8c959f,#6b7480)}
.plan-graph path{fill:none;stroke:light-dark(#afb8c1,#4a525d)} .plan-graph path.fallback,.plan-graph path.backup{stroke-dasharray:4 3}
.plan-graph .lost rect{stroke:light-dark(#b42318,#ff7b72);stroke-width:2.5} .plan-graph .down rect{fill:light-dark(#fdecea,#4a1d1a);stroke:light-dark(#b42318,#ff7b72);stroke-width:2}
.plan-graph .degraded rect,.plan-graph .unstaffed rect,.plan-graph .unplaced rect{fill:light-dark(#fff6e0,#40320f);stroke:light-dark(#946200,#e3b341);stroke-width:2}
.plan-graph .carried rect{fill:light-dark(#e6f4ea,#173322);stroke:light-dark(#1a7f37,#56d364);stroke-width:2}
</style>
`

// place gives every thing its box.
func (g *Graph) place(o *Outcome) (boxes map[Thing]*box, width, height int) {
	boxes = map[Thing]*box{}
	x, tallest := margin, 0
	for _, c := range columns {
		n := 0
		for _, t := range g.inColumn(c.kind, boxes) {
			b := &box{Thing: t, x: x, y: margin + headHeight + n*(boxHeight+gapDown)}
			b.mark, b.word = markOf(t, o)
			boxes[t] = b
			n++
		}
		if n > 0 {
			x += boxWidth + gapAcross
			tallest = max(tallest, n)
		}
	}
	return boxes, max(x-gapAcross+margin, 2*margin+boxWidth), margin*2 + headHeight + max(tallest, 1)*(boxHeight+gapDown)
}

// inColumn orders the things of a kind by the mean height of what already
// stands to their left and needs them, so that lines cross less.
func (g *Graph) inColumn(kind string, boxes map[Thing]*box) []Thing {
	var out []Thing
	sum, count := map[Thing]int{}, map[Thing]int{}
	for _, t := range g.Things {
		if t.Kind == kind {
			out = append(out, t)
		}
	}
	add := func(t, other Thing) {
		if b := boxes[other]; b != nil && t.Kind == kind {
			sum[t] += b.y
			count[t]++
		}
	}
	for _, e := range g.Edges {
		add(e.To, e.From)
		add(e.From, e.To)
	}
	mean := func(t Thing) int {
		if count[t] == 0 {
			return 1 << 30
		}
		return sum[t] / count[t]
	}
	slices.SortStableFunc(out, func(a, b Thing) int { return mean(a) - mean(b) })
	return out
}

func markOf(t Thing, o *Outcome) (mark, word string) {
	if o == nil {
		return "", ""
	}
	if slices.Contains(o.Lost, t) || slices.Contains(o.Also, t) {
		return "lost", "lost"
	}
	if t.Kind == KindBackup && slices.Contains(o.Backups, t.Name) {
		return "lost", "lost"
	}
	if t.Kind == KindFunction {
		for i := range o.Functions {
			if f := &o.Functions[i]; f.Name == t.Name {
				if f.By != "" {
					return string(f.State), fmt.Sprintf("%s by %s", f.State, f.By)
				}
				return string(f.State), string(f.State)
			}
		}
	}
	return "", ""
}

// line draws an edge: from the side of one box to the side of the other, in a
// bow beside the column when both stand in one.
func line(e Edge, from, to *box) string {
	class := ""
	if e.Why == "fallback" || e.Why == "backup" {
		class = ` class="` + e.Why + `" stroke-dasharray="4 3"`
	}
	y1, y2 := from.y+boxHeight/2, to.y+boxHeight/2
	if from.x == to.x {
		x := from.x + boxWidth
		return fmt.Sprintf(`<path%s fill="none" stroke="#8c959f" d="M%d %dC%d %d %d %d %d %d"/>`+"\n", class, x, y1, x+gapAcross/2, y1, x+gapAcross/2, y2, x, y2)
	}
	x1, x2 := from.x+boxWidth, to.x
	if to.x < from.x {
		x1, x2 = from.x, to.x+boxWidth
	}
	bend := (x2 - x1) / 2
	return fmt.Sprintf(`<path%s fill="none" stroke="#8c959f" d="M%d %dC%d %d %d %d %d %d"/>`+"\n", class, x1, y1, x1+bend, y1, x2-bend, y2, x2, y2)
}

func (b *box) write(out *bytes.Buffer, link func(Thing) string) {
	address := ""
	if link != nil {
		address = link(b.Thing)
	}
	if address != "" {
		fmt.Fprintf(out, `<a href="%s">`, escape(address))
	}
	fmt.Fprintf(out, `<g class="%s"><title>%s</title>`, strings.TrimSpace("box "+b.mark), escape(strings.TrimSpace(b.String()+" "+b.word)))
	fmt.Fprintf(out, `<rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="#f6f8fa" stroke="#8c959f"/>`, b.x, b.y, boxWidth, boxHeight)
	y := b.y + boxHeight/2 + 5
	if b.word != "" {
		y = b.y + 15
		fmt.Fprintf(out, `<text class="word" x="%d" y="%d" font-size="11">%s</text>`, b.x+10, b.y+28, escape(cut(b.word)))
	}
	fmt.Fprintf(out, `<text x="%d" y="%d">%s</text></g>`, b.x+10, y, escape(cut(b.Name)))
	if address != "" {
		out.WriteString("</a>")
	}
	out.WriteString("\n")
}

func (g *Graph) heading(o *Outcome) string {
	if o == nil || len(o.Lost) == 0 {
		return "Who depends on what"
	}
	var names []string
	for _, t := range o.Lost {
		names = append(names, t.String())
	}
	return "What falls without " + strings.Join(names, ", ")
}

func (g *Graph) description(o *Outcome) string {
	if o != nil && len(o.Lost) > 0 {
		var words []string
		for _, f := range o.Functions {
			words = append(words, fmt.Sprintf("%s is %s", f.Name, f.State))
		}
		if len(words) == 0 {
			return "No function is touched."
		}
		return strings.Join(words, "; ") + "."
	}
	count := map[string]int{}
	for _, t := range g.Things {
		count[t.Kind]++
	}
	var words []string
	for _, c := range columns {
		if count[c.kind] > 0 {
			words = append(words, fmt.Sprintf("%d %s", count[c.kind], strings.ToLower(c.title)))
		}
	}
	return strings.Join(words, ", ") + "; lines lead from a thing to what it needs, dashed ones to fallbacks and backups."
}

func cut(text string) string {
	if utf8.RuneCountInString(text) <= longestLabel {
		return text
	}
	return string([]rune(text)[:longestLabel-1]) + "…"
}

func escape(text string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(text))
	return out.String()
}
