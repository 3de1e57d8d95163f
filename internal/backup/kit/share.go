package kit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

// Share is one part of the recovery key, as one person keeps it.
type Share struct {
	Set       SetID
	Index     int // 1 to 255: which share this is
	Threshold int // how many are needed
	value     [keyBytes]byte
}

// String hides the value.
func (s Share) String() string {
	return fmt.Sprintf("share %d of set %s (%d needed)", s.Index, s.Set, s.Threshold)
}

// GoString hides the value.
func (s Share) GoString() string { return s.String() }

// A share is written as 44 bytes: version, set (4), threshold, index, value
// (32), and the first 5 bytes of the SHA-256 of all that, so that it is exactly
// 32 words of 11 bits. 40 bits of checksum are enough to find the one word that
// was mistyped by trying all (65504 candidates, of which one in 17 million
// sheets has a second).
const (
	shareVersion  = 1
	checkBytes    = 5
	shareBytes    = 7 + keyBytes + checkBytes
	shareWords    = shareBytes * 8 / wordBits
	shareHeadline = "FOUNDRY-SHARE-1-"
)

func check(body []byte) []byte {
	sum := sha256.Sum256(append([]byte("foundry share v1\n"), body...))
	return sum[:checkBytes]
}

func (s Share) bytes() []byte {
	b := make([]byte, 0, shareBytes)
	b = append(b, shareVersion)
	b = append(b, s.Set[:]...)
	b = append(b, byte(s.Threshold), byte(s.Index))
	b = append(b, s.value[:]...)
	return append(b, check(b)...)
}

func shareFrom(b []byte) (s Share, whole bool) {
	if len(b) != shareBytes || !bytes.Equal(check(b[:shareBytes-checkBytes]), b[shareBytes-checkBytes:]) {
		return s, false
	}
	copy(s.Set[:], b[1:])
	s.Threshold, s.Index = int(b[5]), int(b[6])
	copy(s.value[:], b[7:])
	return s, true
}

// sound refuses what is whole but was not made by this version.
func (s Share) sound(version byte) (Share, error) {
	switch {
	case version != shareVersion:
		return Share{}, problem.New(problem.Unsupported, "share-version", fmt.Sprintf("The share has version %d, and this program knows version %d.", version, shareVersion)).
			WithMend("Use the version of Foundry that is named on the briefing page, or a newer one.")
	case s.Index == 0 || s.Threshold < LeastThreshold:
		return Share{}, problem.New(problem.Invalid, "share-senseless", "The share is whole, but it was not made by Foundry.").WithMend("Use another share.")
	}
	return s, nil
}

// Words is the share as words that can be read out and typed.
func (s Share) Words() []string { return toWords(s.bytes()) }

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// Text is the share as one line of capital letters and digits, as it stands in
// the QR code.
func (s Share) Text() string { return shareHeadline + encoding.EncodeToString(s.bytes()) }

// ParseShare reads a share from whatever holds it: its words, with or without
// their numbers, its line, or the whole page that was printed.
func ParseShare(text string) (Share, error) {
	if len(text) > 1<<20 {
		return Share{}, problem.New(problem.TooLarge, "share-large", "This is far longer than a share.").WithMend("Give one share, or the page it was printed on.")
	}
	upper := strings.ToUpper(text)
	if at := strings.Index(upper, shareHeadline); at >= 0 {
		line := upper[at+len(shareHeadline):]
		if end := strings.IndexAny(line, "\n<"); end >= 0 { // the page may be the HTML one
			line = line[:end]
		}
		return parseLine(line)
	}
	return ParseWords(strings.Fields(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return ' ' // numbers, dots, commas, line breaks between the words
	}, text)))
}

func parseLine(line string) (Share, error) {
	line = strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z' || r >= '2' && r <= '7':
			return r
		case r == '0': // no digit of base32: what it looks like is meant
			return 'O'
		case r == '1':
			return 'I'
		case r == '8':
			return 'B'
		}
		return -1
	}, line)
	raw, err := encoding.DecodeString(line)
	if err != nil || len(raw) != shareBytes {
		return Share{}, problem.New(problem.Invalid, "share-line", fmt.Sprintf("The line of the share has %d characters, not %d.", len(line), encoding.EncodedLen(shareBytes))).
			WithMend("Copy the whole line that begins with " + shareHeadline + ", or type the words.")
	}
	s, whole := shareFrom(raw)
	if !whole {
		return Share{}, problem.New(problem.Invalid, "share-mistyped", "A character of the share's line is wrong: its checksum does not fit.").
			WithMend("Scan the QR code again, or type the words, where the wrong one can be named.")
	}
	return s.sound(raw[0])
}

// ParseWords reads a share from its words. A word that is not in the list, or
// the one word that was mistaken for another, is named by its number.
func ParseWords(words []string) (Share, error) {
	numbers := make([]uint16, 0, shareWords)
	for i, w := range words {
		n, ok := wordNumber(w)
		if !ok {
			e := problem.New(problem.Invalid, "share-word", fmt.Sprintf("Word %d, %q, is not in the list of words.", i+1, w)).WithField(fmt.Sprintf("word %d", i+1))
			if near := NearestWords(w); len(near) > 0 {
				return Share{}, e.WithMend("Did you mean " + orList(near) + "?")
			}
			return Share{}, e.WithMend("Look at the page again; every word is in the list of BIP-39.")
		}
		numbers = append(numbers, n)
	}
	if len(numbers) != shareWords {
		e := problem.New(problem.Invalid, "share-length", fmt.Sprintf("A share has %d words, and these are %d.", shareWords, len(numbers))).WithField("words")
		if n := wordInserted(numbers); n > 0 {
			return Share{}, e.WithMend(fmt.Sprintf("Word %d, %q, is one too many.", n, list[numbers[n-1]]))
		}
		if n := wordMissing(numbers); n > 0 {
			return Share{}, e.WithMend(fmt.Sprintf("Word %d of the page was left out.", n))
		}
		return Share{}, e.WithMend("Compare the numbers beside the words with those on the page.")
	}
	raw := fromNumbers(numbers)
	s, whole := shareFrom(raw)
	if whole {
		return s.sound(raw[0])
	}
	if n, meant := wordMistaken(numbers); n > 0 {
		return Share{}, problem.New(problem.Invalid, "share-mistyped", fmt.Sprintf("Word %d, %q, is not the word on the page.", n, list[numbers[n-1]])).
			WithField(fmt.Sprintf("word %d", n)).WithMend(fmt.Sprintf("It should be %q.", list[meant]))
	}
	if n := wordsSwapped(numbers); n > 0 {
		return Share{}, problem.New(problem.Invalid, "share-mistyped", fmt.Sprintf("Words %d and %d stand in the wrong order.", n, n+1)).
			WithField(fmt.Sprintf("word %d", n)).WithMend("Exchange them.")
	}
	return Share{}, problem.New(problem.Invalid, "share-mistyped", "More than one word of this share is wrong: its checksum does not fit.").WithField("words").
		WithMend("Read every word again from the page, with its number.")
}

func wholeNumbers(numbers []uint16) bool {
	_, whole := shareFrom(fromNumbers(numbers))
	return whole
}

// wordMistaken finds the one word (from 1) that has to be another.
func wordMistaken(numbers []uint16) (n int, meant uint16) {
	try := slices.Clone(numbers)
	for i := range try {
		for w := range uint16(len(list)) {
			if try[i] = w; wholeNumbers(try) {
				return i + 1, w
			}
		}
		try[i] = numbers[i]
	}
	return 0, 0
}

// wordsSwapped finds the first of two neighbours that stand in the wrong order.
func wordsSwapped(numbers []uint16) int {
	try := slices.Clone(numbers)
	for i := range len(try) - 1 {
		try[i], try[i+1] = try[i+1], try[i]
		if wholeNumbers(try) {
			return i + 1
		}
		try[i], try[i+1] = try[i+1], try[i]
	}
	return 0
}

func wordInserted(numbers []uint16) int {
	if len(numbers) != shareWords+1 {
		return 0
	}
	for i := range numbers {
		if wholeNumbers(slices.Delete(slices.Clone(numbers), i, i+1)) {
			return i + 1
		}
	}
	return 0
}

// wordMissing finds where one word was left out, by trying every word at every
// place.
func wordMissing(numbers []uint16) int {
	if len(numbers) != shareWords-1 {
		return 0
	}
	for i := range shareWords {
		try := slices.Insert(slices.Clone(numbers), i, 0)
		for w := range uint16(len(list)) {
			if try[i] = w; wholeNumbers(try) {
				return i + 1
			}
		}
	}
	return 0
}
