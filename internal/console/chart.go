package console

import (
	"fmt"
	"math"
	"strconv"
)

// A chart is a row of bars, each of one or two parts that are stacked. It is
// drawn on the server in units of its own (one wide per bar, a hundred high)
// and stretched by the browser, so that it fits a phone; its labels are text.
type chart struct {
	Title, Text string   // name, and what it shows in a sentence
	Unit        string   // of the axis
	Bars        []bar    // oldest first
	Series      []string // names of a bar's parts
	Ticks       []string // labels along the axis, evenly spread
	Format      func(int64) string
	Head        string // of the table's first column
}

type bar struct {
	Label  string
	Values [2]int64
}

func (c chart) top() int64 {
	var m int64
	for _, b := range c.Bars {
		m = max(m, b.Values[0]+b.Values[1])
	}
	return niceTop(m)
}

// niceTop rounds up to 1, 2 or 5 times a power of ten.
func niceTop(m int64) int64 {
	if m <= 1 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(float64(m))))
	for _, f := range []float64{1, 2, 5, 10} {
		if float64(m) <= f*power {
			return int64(f * power)
		}
	}
	return m
}

func (c chart) view() string { return fmt.Sprintf("0 0 %d 100", max(len(c.Bars), 1)) }

// rect is one part of a bar, in the chart's units.
type rect struct{ x, y, w, h, class string }

func (c chart) rects() []rect {
	var out []rect
	top := float64(c.top())
	for i, b := range c.Bars {
		base := 100.0
		for s, v := range b.Values {
			if v <= 0 {
				continue
			}
			h := math.Max(float64(v)/top*100, 0.75)
			base -= h
			out = append(out, rect{units(float64(i) + 0.12), units(base), "0.76", units(h), series(s)})
		}
	}
	return out
}

func units(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }

// grid draws the lines at the top, the middle and the bottom.
func (c chart) grid() string {
	w := strconv.Itoa(max(len(c.Bars), 1))
	return "M0 .5H" + w + "M0 50H" + w + "M0 99.5H" + w
}

func series(i int) string { return "s" + strconv.Itoa(i) }

// share is a part of a whole as a percentage with one decimal, for bars.
func share(part, whole int64) string {
	if whole <= 0 || part <= 0 {
		return "0"
	}
	return strconv.FormatFloat(math.Min(float64(part)/float64(whole)*100, 100), 'f', 1, 64)
}
