package plan_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/plan"
)

func TestADrawingIsWellFormedAndSaysStatesInWords(t *testing.T) {
	t.Parallel()
	p := parse(t, strings.Replace(laboratory, "name: archive}", `name: '<script>"&'}`, 1))
	o := falls(t, p, "one")
	for name, d := range map[string]plan.Drawing{
		"alone":   {Standalone: true},
		"a loss":  {Outcome: &o, Standalone: true},
		"in page": {Outcome: &o, Link: func(t plan.Thing) string { return "/whatif?lose=" + t.Kind + "&x" }},
	} {
		svg := p.Graph().SVG(d)
		x := xml.NewDecoder(bytes.NewReader(svg))
		for {
			if _, err := x.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		text := string(svg)
		if strings.Contains(text, "<script") || strings.Contains(text, " style=") {
			t.Errorf("%s: what the plan says became markup", name)
		}
		if d.Outcome != nil && (!strings.Contains(text, "carried by two") || !strings.Contains(text, "<desc id=\"plan-graph-desc\">database is down")) {
			t.Errorf("%s: the states are not said in words", name)
		}
		if (d.Link != nil) != strings.Contains(text, `<a href="/whatif?lose=node&amp;x"`) {
			t.Errorf("%s: links", name)
		}
	}
}
