package kit

import (
	_ "embed" // the templates
	"fmt"
	htmltemplate "html/template"
	"strings"
	"text/template"
	"time"

	"github.com/boombuler/barcode/qr"
)

// Page is what is printed around a share, or as the briefing.
type Page struct {
	Installation string // how people call it
	Set          SetID
	Created      time.Time
	Threshold    int
	Shares       int
	Holder       string   // of this share
	Holders      []string // of all, in the order of the shares
	Contacts     []Contact
	Places       []string // where copies of the kit lie
	Foundry      string
	PostgreSQL   int
	Packages     []string
	Briefing     string
}

//go:embed page/share.html
var shareHTML string

//go:embed page/share.txt
var shareText string

//go:embed page/briefing.html
var briefingHTML string

//go:embed page/briefing.txt
var briefingText string

// sheet is a page of a share.
type sheet struct {
	Page
	Share Share
	Line  string
	Words []numbered
	Code  htmltemplate.HTML
}

type numbered struct {
	Number int
	Word   string
}

// shareSheet lays out one share.
func shareSheet(p Page, s Share) sheet {
	out := sheet{Page: p, Share: s, Line: s.Text()}
	for i, w := range s.Words() {
		out.Words = append(out.Words, numbered{i + 1, w})
	}
	return out
}

// ShareHTML is the page of one share, to be printed: no script, nothing that is
// loaded from elsewhere.
func ShareHTML(p Page, s Share) ([]byte, error) {
	out := shareSheet(p, s)
	code, err := svg(out.Line)
	if err != nil {
		return nil, err
	}
	out.Code = code
	return html("share", shareHTML, out)
}

// ShareText is the page of one share as plain text.
func ShareText(p Page, s Share) ([]byte, error) { return text("share", shareText, shareSheet(p, s)) }

// BriefingHTML is the page for whoever has to recover: it holds no secret.
func BriefingHTML(p Page) ([]byte, error) { return html("briefing", briefingHTML, p) }

// BriefingText is the briefing as plain text.
func BriefingText(p Page) ([]byte, error) { return text("briefing", briefingText, p) }

func html(name, body string, data any) ([]byte, error) {
	t, err := htmltemplate.New(name).Funcs(pageFuncs).Parse(body)
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	err = t.Execute(&out, data)
	return []byte(out.String()), err
}

func text(name, body string, data any) ([]byte, error) {
	t, err := template.New(name).Funcs(pageFuncs).Parse(body)
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	err = t.Execute(&out, data)
	return []byte(out.String()), err
}

var pageFuncs = map[string]any{
	"day":   func(t time.Time) string { return t.UTC().Format("2 January 2006") },
	"next":  func(i int) int { return i + 1 },
	"join":  func(list []string) string { return strings.Join(list, " ") },
	"words": func() int { return shareWords },
	"rows":  rows,
}

// rows lays words out in lines of four, for plain text.
func rows(words []numbered) (lines []string) {
	var line strings.Builder
	for i, w := range words {
		fmt.Fprintf(&line, "%4d. %-10s", w.Number, w.Word)
		if i%4 == 3 {
			lines = append(lines, strings.TrimRight(line.String(), " "))
			line.Reset()
		}
	}
	return lines
}

// svg draws a QR code (ISO/IEC 18004) with error correction Q: a quarter of it
// may be unreadable, as on a page that was folded.
func svg(content string) (htmltemplate.HTML, error) {
	code, err := qr.Encode(content, qr.Q, qr.AlphaNumeric)
	if err != nil {
		return "", fmt.Errorf("drawing the QR code: %w", err)
	}
	const quiet = 4 // modules that have to stay empty around it
	size := code.Bounds().Dx()
	var path strings.Builder
	for y := range size {
		for x := range size {
			if r, _, _, _ := code.At(x, y).RGBA(); r == 0 {
				fmt.Fprintf(&path, "M%d %dh1v1h-1z", x+quiet, y+quiet)
			}
		}
	}
	// Numbers and letters of the alphabet of paths only: nothing to escape.
	return htmltemplate.HTML(fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="QR code of this share" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h%dv%dH0z"/><path d="%s"/></svg>`,
		size+2*quiet, size+2*quiet, size+2*quiet, size+2*quiet, path.String())), nil
}

// FileName is what a kit is called at a target.
func FileName(set SetID) string { return "foundry-kit-" + set.String() + ".age" }
