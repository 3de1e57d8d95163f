package credential

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/text/unicode/norm"
)

// Limits of a password (NIST SP 800-63B-4, 3.1.1: length and a blocklist, no
// rules of composition, nothing that expires).
const (
	MinPasswordLength = 12   // characters
	MaxPasswordBytes  = 1024 // UTF-8, so that hashing is bounded
)

// leastGuesses is how many guesses a password must be worth, as a power of
// ten: with bcrypt's cost and the pepper in the hands of whoever guesses, some
// decades of one processor core.
const leastGuesses = 10.0

// judged is how many characters are estimated: the time for it grows faster
// than the length does.
const judged = 64

// guessedGzip holds what is guessed first, one a line, most common first, with
// an empty line between the lists: the 30,000 most common passwords of zxcvbn
// 4.4.2, then English words, names of women and men and surnames of zxcvbn-go
// (both MIT; © 2012-2016 Dan Wheeler and Dropbox, Inc.; © Nathan Button).
//
//go:embed guessed.txt.gz
var guessedGzip []byte

const (
	passwordsOnly = 1
	allLists      = 5
)

// lookUp sets the rank of every text that stands in one of the first lists.
// The lists are read through each time, some milliseconds beside bcrypt's
// hundreds, and not kept: a password is set rarely, and no other process or
// moment should pay for it.
func lookUp(ranks map[string]int, lists int) {
	r, err := gzip.NewReader(bytes.NewReader(guessedGzip))
	if err != nil {
		panic(err) // it is part of the binary, and a test reads it
	}
	lines := bufio.NewScanner(r)
	for rank := 1; lines.Scan(); rank++ {
		line := lines.Bytes()
		if len(line) == 0 {
			if lists--; lists == 0 {
				return
			}
			rank = 0
			continue
		}
		if known, ok := ranks[string(line)]; ok && (known == 0 || rank < known) {
			ranks[string(line)] = rank
		}
	}
	if err := lines.Err(); err != nil {
		panic(err)
	}
}

// CheckPassword refuses a password that others would guess. about is what is
// known of its owner: address, name, organisation.
func CheckPassword(password string, about ...string) error {
	password = norm.NFC.String(password)
	switch {
	case len(password) > MaxPasswordBytes:
		return refusal("password-long", fmt.Sprintf("The password is longer than %d bytes.", MaxPasswordBytes), "Use a shorter one.")
	case !utf8.ValidString(password):
		return refusal("password-encoding", "The password is not valid UTF-8 text.", "Type it as text.")
	case strings.ContainsFunc(password, unicode.IsControl):
		return refusal("password-control", "The password holds a control character.", "Type it as text; spaces are welcome.")
	case utf8.RuneCountInString(password) < MinPasswordLength:
		return refusal("password-short", fmt.Sprintf("The password is shorter than %d characters.", MinPasswordLength),
			"Use several words that have nothing to do with each other.")
	case Common(password):
		return refusal("password-common", "The password is one of the most common ones, or built on one.",
			"Use several words that have nothing to do with each other.")
	}
	runes := []rune(password)
	if len(runes) > judged {
		runes = runes[:judged]
	}
	if estimate(string(runes), inputs(about)) < leastGuesses {
		return refusal("password-weak", "The password would be guessed too soon.",
			"Use several words that have nothing to do with each other, and nothing that is known about you.")
	}
	return nil
}

func refusal(code, detail, mend string) error {
	return problem.New(problem.Invalid, code, detail).WithField("password").WithMend(mend)
}

// inputs splits what is known of the owner into the words it is made of.
func inputs(about []string) []string {
	out := []string{"foundry"}
	for _, a := range about {
		if a = strings.ToLower(a); a == "" {
			continue
		}
		out = append(out, a)
		for _, w := range strings.FieldsFunc(a, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			if len(w) > 2 {
				out = append(out, w)
			}
		}
	}
	return out
}

// Common reports whether a password is a common one, as it is, or once case,
// the usual substitutions, a decoration of digits and signs at its ends and
// repetition are taken away.
func Common(password string) bool {
	ranks := map[string]int{}
	for _, form := range []string{strings.ToLower(password), plain(password)} {
		if form == "" {
			return true // nothing but digits and signs
		}
		ranks[form], ranks[unrepeated(form)] = 0, 0
	}
	lookUp(ranks, passwordsOnly)
	for _, rank := range ranks {
		if rank > 0 {
			return true
		}
	}
	return false
}

// What letters are written as. 1 and ! stand for either of two.
var (
	substitutions  = strings.NewReplacer("@", "a", "4", "a", "3", "e", "0", "o", "1", "i", "!", "i", "$", "s", "5", "s", "7", "t")
	substitutionsL = strings.NewReplacer("@", "a", "4", "a", "3", "e", "0", "o", "1", "l", "!", "l", "$", "s", "5", "s", "7", "t")
)

// plain undoes what people do to a word to make it look like a password.
func plain(password string) string {
	lower := strings.ToLower(password)
	trimmed := strings.TrimFunc(lower, func(r rune) bool { return !unicode.IsLetter(r) })
	return substitutions.Replace(trimmed)
}

// unrepeated is the shortest text that the text is a repetition of.
func unrepeated(text string) string {
	for n := 1; n <= len(text)/2; n++ {
		if len(text)%n == 0 && strings.Repeat(text[:n], len(text)/n) == text {
			return text[:n]
		}
	}
	return text
}
