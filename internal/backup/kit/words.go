package kit

import (
	_ "embed" // the list
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

// list is the English list of BIP-39: 2048 words in alphabetical order, no two
// of which begin with the same four letters.
//
//go:embed words/english.txt
var listText string

var list = strings.Fields(listText)

const (
	wordBits        = 11
	decisiveLetters = 4
)

// toWords writes bytes, whose bits are a multiple of 11, as words.
func toWords(b []byte) (out []string) {
	var held, bits uint32
	for _, c := range b {
		held, bits = held<<8|uint32(c), bits+8
		if bits >= wordBits {
			bits -= wordBits
			out = append(out, list[held>>bits&(1<<wordBits-1)])
		}
	}
	return out
}

func fromNumbers(numbers []uint16) []byte {
	out := make([]byte, 0, len(numbers)*wordBits/8)
	var held, bits uint32
	for _, n := range numbers {
		held, bits = held<<wordBits|uint32(n), bits+wordBits
		for bits >= 8 {
			bits -= 8
			out = append(out, byte(held>>bits))
		}
	}
	return out
}

// wordNumber finds a word by its whole, or by four letters or more of its
// beginning, which name one word of the list only.
func wordNumber(word string) (uint16, bool) {
	word = strings.ToLower(word)
	i, exact := slices.BinarySearch(list, word)
	if exact {
		return uint16(i), true
	}
	if len(word) >= decisiveLetters && i < len(list) && strings.HasPrefix(list[i], word) {
		return uint16(i), true
	}
	return 0, false
}

// Word gives the whole of a word that was typed, or of which four letters or
// more were. The error offers the nearest words.
func Word(typed string) (string, error) {
	if n, ok := wordNumber(typed); ok {
		return list[n], nil
	}
	e := problem.New(problem.Invalid, "share-word", fmt.Sprintf("%q is not in the list of words.", typed)).WithField("word")
	if near := NearestWords(typed); len(near) > 0 {
		return "", e.WithMend("Did you mean " + orList(near) + "?")
	}
	if begun := Complete(typed); len(typed) > 0 && len(begun) > 0 && len(begun) <= 6 {
		return "", e.WithMend("Did you mean " + orList(begun) + "?")
	}
	return "", e.WithMend("Look at the page again; four letters of a word are enough.")
}

// Complete gives the words of the list that begin so.
func Complete(prefix string) []string {
	prefix = strings.ToLower(prefix)
	from, _ := slices.BinarySearch(list, prefix)
	to := from
	for to < len(list) && strings.HasPrefix(list[to], prefix) {
		to++
	}
	return slices.Clone(list[from:to])
}

// WordCount is how many words a share has.
const WordCount = shareWords

// NearestWords gives the words of the list that differ least from what was
// typed: at most three, and none that differ by more than two letters.
func NearestWords(typed string) (near []string) {
	typed = strings.ToLower(typed)
	for least := 1; least <= 2 && len(near) == 0; least++ {
		for _, w := range list {
			if len(near) < 3 && distance(typed, w) <= least {
				near = append(near, w)
			}
		}
	}
	return near
}

// distance counts the letters to insert, leave out, exchange, or swap with
// their neighbour (Damerau and Levenshtein, without overlaps).
func distance(a, b string) int {
	if d := len(a) - len(b); d > 2 || d < -2 {
		return 3
	}
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		row, above := rows[i%3], rows[(i+2)%3]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], rows[(i+1)%3][j-2]+1)
			}
		}
	}
	return rows[len(a)%3][len(b)]
}

func orList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
}
