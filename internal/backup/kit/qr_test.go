package kit

import (
	"errors"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	drawnSVG  = regexp.MustCompile(`<svg [^>]*viewBox="0 0 (\d+) (\d+)"[^>]*><path fill="#fff" d="[^"]*"/><path d="([^"]*)"/></svg>`)
	drawnCell = regexp.MustCompile(`M(\d+) (\d+)h1v1h-1z`)
)

// printed draws the code of a page as a printer does: pixels to a module.
func printed(t *testing.T, page []byte, pixels int) *image.Gray {
	t.Helper()
	all := drawnSVG.FindAllSubmatch(page, -1)
	if len(all) != 1 {
		t.Fatalf("the page has %d codes", len(all))
	}
	m := all[0]
	size, err := strconv.Atoi(string(m[1]))
	if err != nil || string(m[1]) != string(m[2]) {
		t.Fatalf("the code measures %s × %s", m[1], m[2])
	}
	out := image.NewGray(image.Rect(0, 0, size*pixels, size*pixels))
	for i := range out.Pix {
		out.Pix[i] = 255
	}
	cells := drawnCell.FindAllSubmatch(m[3], -1)
	if drawn := drawnCell.ReplaceAll(m[3], nil); len(drawn) > 0 {
		t.Fatalf("the path has more than modules: %q", drawn)
	}
	for _, c := range cells {
		x, _ := strconv.Atoi(string(c[1]))
		y, _ := strconv.Atoi(string(c[2]))
		if x < 4 || y < 4 || x >= size-4 || y >= size-4 {
			t.Fatalf("a module stands in the quiet zone, at %d, %d", x, y)
		}
		for dy := range pixels {
			for dx := range pixels {
				out.SetGray(x*pixels+dx, y*pixels+dy, color.Gray{})
			}
		}
	}
	return out
}

// scanned reads the codes in a picture with zbarimg, which shares no code with
// what draws them.
func scanned(t *testing.T, picture image.Image) []string {
	t.Helper()
	zbar, err := exec.LookPath("zbarimg")
	if err != nil {
		t.Skip("zbarimg is not installed: make setup-test does")
	}
	path := filepath.Join(t.TempDir(), "page.png")
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(png.Encode(f, picture), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), zbar, "--quiet", "--raw", "--nodbus", "-Sdisable", "-Sqrcode.enable", path)
	text, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 4 { // it found none
		return nil
	}
	if err != nil {
		t.Fatalf("zbarimg: %v", err)
	}
	return strings.Split(strings.TrimRight(string(text), "\n"), "\n")
}

// worn are what happens to paper.
var worn = map[string]func(*image.Gray) image.Image{
	"fresh": func(g *image.Gray) image.Image { return g },
	"lying on its side": func(g *image.Gray) image.Image {
		b := g.Bounds()
		out := image.NewGray(b)
		for y := range b.Dy() {
			for x := range b.Dx() {
				out.SetGray(b.Dy()-1-y, x, g.GrayAt(x, y))
			}
		}
		return out
	},
	"with a stain": func(g *image.Gray) image.Image {
		b := g.Bounds()
		from, until := b.Dx()*45/100, b.Dx()*62/100
		for y := from; y < until; y++ {
			for x := from; x < until; x++ {
				g.SetGray(x, y, color.Gray{Y: 90})
			}
		}
		return g
	},
	"faded": func(g *image.Gray) image.Image {
		for i, p := range g.Pix {
			g.Pix[i] = 120 + p/3
		}
		return g
	},
}

// Every printed page is scanned, and what comes of it is the share: its line,
// its words, and the key when enough are put together.
func TestTheCodesOfPrintedPagesAreTheShares(t *testing.T) {
	t.Parallel()
	for name, wear := range worn {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, shares := newShares(t, 3, 5)
			var read []Share
			for i, s := range shares {
				page, err := ShareHTML(somePage(key), s)
				if err != nil {
					t.Fatal(err)
				}
				found := scanned(t, wear(printed(t, page, 5)))
				if len(found) != 1 || found[0] != s.Text() {
					t.Fatalf("share %d scans as %q", i+1, found)
				}
				got, err := ParseShare(found[0])
				if err != nil || strings.Join(got.Words(), " ") != strings.Join(s.Words(), " ") {
					t.Fatalf("share %d: %v, %v", i+1, got, err)
				}
				read = append(read, got)
			}
			again, err := Combine(read[2:])
			if err != nil || again.Recipient() != key.Recipient() {
				t.Errorf("the scanned shares make another key: %v", err)
			}
		})
	}
}
