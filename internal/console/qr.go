package console

import (
	"fmt"
	"strings"

	"github.com/boombuler/barcode/qr"
)

// qrPath draws a QR code as the path of an SVG, with its width in modules. It
// is made on the server: the secret in it never meets a script.
func qrPath(content string) (path string, width int, err error) {
	code, err := qr.Encode(content, qr.M, qr.Auto)
	if err != nil {
		return "", 0, fmt.Errorf("drawing a QR code: %w", err)
	}
	width = code.Bounds().Dx()
	var b strings.Builder
	for y := range width {
		for x := 0; x < width; x++ {
			from := x
			for x < width && dark(code.At(x, y)) {
				x++
			}
			if x > from {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", from, y, x-from, x-from)
			}
		}
	}
	return b.String(), width, nil
}

func dark(c interface{ RGBA() (r, g, b, a uint32) }) bool {
	r, _, _, _ := c.RGBA()
	return r < 0x8000
}
