package credential

import (
	"math"
	"slices"
	"strings"
	"unicode"
)

// The estimate: a password is cut into pieces, each worth as many guesses as
// somebody needs who tries the likely ones first, and the cut that is worth
// least counts. The kinds of pieces are those of D. Wheeler, "zxcvbn:
// low-budget password strength estimation", USENIX Security 2016. All numbers
// are decimal logarithms of guesses.

// perCharacter is what a character is worth that belongs to nothing known:
// ten guesses, since nobody's choice is as even as the keyboard.
const perCharacter = 1.0

// estimate reports how many guesses a password is worth, as a power of ten.
func estimate(password string, about []string) float64 {
	e := &estimator{text: []rune(password), folded: foldRunes(password), about: map[string]bool{}}
	for _, a := range about {
		e.about[a] = true
	}
	e.rank()
	return e.best(0, len(e.text))
}

type estimator struct {
	text   []rune
	folded []rune // in lower case, rune by rune
	about  map[string]bool
	ranks  map[string]int
	known  map[string]float64 // of what is repeated
}

func foldRunes(s string) []rune {
	out := []rune(s)
	for i, r := range out {
		out[i] = unicode.ToLower(r)
	}
	return out
}

// Lengths of words that are looked up.
const (
	shortestWord = 3
	longestWord  = 20
)

// forms are the texts that a piece may be a disguise of, with what the
// disguise is worth.
func forms(piece string) map[string]float64 {
	out := map[string]float64{}
	offer := func(text string, worth float64) {
		if old, ok := out[text]; !ok || worth < old {
			out[text] = worth
		}
	}
	offer(piece, 0)
	reversed := []rune(piece)
	slices.Reverse(reversed)
	offer(string(reversed), math.Log10(2))
	for _, s := range []*strings.Replacer{substitutions, substitutionsL} {
		offer(s.Replace(piece), math.Log10(4))
	}
	return out
}

// rank looks every piece that may be a word up in the lists, at once: they are
// read through, not kept.
func (e *estimator) rank() {
	e.ranks = map[string]int{}
	for i := range e.folded {
		for j := i + shortestWord; j <= min(i+longestWord, len(e.folded)); j++ {
			for form := range forms(string(e.folded[i:j])) {
				e.ranks[form] = 0
			}
		}
	}
	lookUp(e.ranks, allLists)
}

// best is the worth of the cheapest cut of the runes from i to j.
func (e *estimator) best(i, j int) float64 {
	worth := make([]float64, j-i+1)
	for end := i + 1; end <= j; end++ {
		least := worth[end-1-i] + perCharacter
		for begin := i; begin <= end-shortestWord; begin++ {
			least = min(least, worth[begin-i]+e.piece(begin, end))
		}
		worth[end-i] = least
	}
	return worth[j-i]
}

// piece is the worth of the runes from i to j as one piece.
func (e *estimator) piece(i, j int) float64 {
	text, folded := e.text[i:j], e.folded[i:j]
	worth := min(sequence(folded), walk(folded), date(folded), e.word(text, folded))
	return min(worth, e.repeated(i, j))
}

// word is the worth of a word of the lists, or of one about the owner.
func (e *estimator) word(text, folded []rune) float64 {
	worth := math.Inf(1)
	for form, disguise := range forms(string(folded)) {
		if e.about[form] {
			worth = min(worth, disguise)
		}
		if rank := e.ranks[form]; rank > 0 {
			worth = min(worth, disguise+math.Log10(float64(rank)))
		}
	}
	if !slices.Equal(text, folded) {
		worth += math.Log10(2) // a capital: mostly the first letter, or all
	}
	return worth
}

// repeated is the worth of a text that is one shorter text over and over. The
// shortest such text is none itself, so this ends.
func (e *estimator) repeated(i, j int) float64 {
	folded := e.folded[i:j]
	for n := 1; n <= len(folded)/2; n++ {
		if len(folded)%n != 0 || !slices.Equal(folded[n:], folded[:len(folded)-n]) {
			continue
		}
		if e.known == nil {
			e.known = map[string]float64{}
		}
		block := string(folded[:n])
		worth, ok := e.known[block]
		if !ok {
			worth = e.best(i, i+n)
			e.known[block] = worth
		}
		return worth + math.Log10(float64(len(folded)/n))
	}
	return math.Inf(1)
}

// sequence is the worth of characters that follow each other: abcd, 9876.
func sequence(text []rune) float64 {
	step := text[1] - text[0]
	if step != 1 && step != -1 {
		return math.Inf(1)
	}
	for i := range text[1:] {
		if text[i+1]-text[i] != step {
			return math.Inf(1)
		}
	}
	first := 26.0
	if unicode.IsDigit(text[0]) {
		first = 10
	}
	return math.Log10(first * 2 * float64(len(text)))
}

// Keys of common keyboards, row by row, and with the shift key held.
var keyboards = [][2][4]string{
	{{"1234567890-=", "qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./"}, {"!@#$%^&*()_+", "qwertyuiop{}", `asdfghjkl:"`, "zxcvbnm<>?"}},
	{{"1234567890ß", "qwertzuiopü+", "asdfghjklöä#", "yxcvbnm,.-"}, {`!"§$%&/()=?`, "qwertzuiopü*", "asdfghjklöä'", "yxcvbnm;:_"}},
	{{"&é\"'(-è_çà)=", "azertyuiop^$", "qsdfghjklmù*", "wxcvbn,;:!"}, {"1234567890°+", "azertyuiop¨£", "qsdfghjklm%µ", "wxcvbn?./§"}},
}

type place struct{ row, column int }

func (p place) step(q place) place { return place{q.row - p.row, q.column - p.column} }

// next reports whether a step leads to a neighbouring key: each row stands
// half a key further right than the one above.
func (p place) next() bool {
	switch p.row {
	case 0:
		return p.column == 1 || p.column == -1
	case 1:
		return p.column == 0 || p.column == -1
	case -1:
		return p.column == 0 || p.column == 1
	}
	return false
}

func onKeyboard(layers [2][4]string, r rune) (place, bool) {
	for _, rows := range layers {
		for row, keys := range rows {
			if column := slices.Index([]rune(keys), r); column >= 0 {
				return place{row, column}, true
			}
		}
	}
	return place{}, false
}

// walk is the worth of neighbouring keys, one after the other.
func walk(text []rune) float64 {
	if len(text) < 4 {
		return math.Inf(1) // too short to tell from chance
	}
	worth := math.Inf(1)
	for _, layers := range keyboards {
		worth = min(worth, walkOn(layers, text))
	}
	return worth
}

func walkOn(layers [2][4]string, text []rune) float64 {
	at, ok := onKeyboard(layers, text[0])
	if !ok {
		return math.Inf(1)
	}
	turns, last := 0, place{}
	for _, r := range text[1:] {
		to, ok := onKeyboard(layers, r)
		step := at.step(to)
		if !ok || !step.next() {
			return math.Inf(1)
		}
		if step != last {
			turns++
		}
		at, last = to, step
	}
	const keys, neighbours = 47, 4.6
	return math.Log10(keys*float64(len(text))) + float64(turns)*math.Log10(neighbours)
}

// date is the worth of a year or a day: digits, perhaps with a sign between.
func date(text []rune) float64 {
	if len(text) < 4 || len(text) > 10 {
		return math.Inf(1)
	}
	var digits []int
	signs := 0
	for _, r := range text {
		switch {
		case r >= '0' && r <= '9':
			digits = append(digits, int(r-'0'))
		case strings.ContainsRune(" -./_", r):
			signs++
		default:
			return math.Inf(1)
		}
	}
	number := func(from, to int) (n int) {
		for _, d := range digits[from:to] {
			n = 10*n + d
		}
		return n
	}
	day := func(a, b int) bool { return a >= 1 && b >= 1 && (a <= 31 && b <= 12 || a <= 12 && b <= 31) }
	year := func(n int) bool { return n >= 1900 && n < 2060 }
	const years, days = 160, 372
	switch {
	case len(digits) == 4 && signs == 0 && year(number(0, 4)):
		return math.Log10(years)
	case len(digits) == 6 && signs <= 2 && (day(number(0, 2), number(2, 4)) || day(number(2, 4), number(4, 6))):
		return math.Log10(100 * days * 2)
	case len(digits) == 8 && signs <= 2 && (year(number(4, 8)) && day(number(0, 2), number(2, 4)) || year(number(0, 4)) && day(number(4, 6), number(6, 8))):
		return math.Log10(years * days * 2)
	}
	return math.Inf(1)
}
