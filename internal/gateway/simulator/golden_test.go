package simulator

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestTheWireFormatsAreTheGoldenOnes replays testdata/*.golden: a format, a
// path and a body, then "----------", then the answer's body byte for byte.
func TestTheWireFormatsAreTheGoldenOnes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".golden"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			request, want, _ := strings.Cut(string(text), "----------\n")
			lines := strings.SplitN(request, "\n", 3)
			s := New(Options{Format: Format(lines[0]), Now: fixedNow, Chunks: 3})
			got := ask(s, "POST", lines[1], lines[2]).Body.String() + "\n"
			if *update {
				if err := os.WriteFile(file, []byte(request+"----------\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
