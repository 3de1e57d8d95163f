package simulator

import (
	"unicode"
	"unicode/utf8"
)

// maxToken bounds a token in bytes. Every token has at least one byte, so a
// text never counts more tokens than bytes.
const maxToken = 8

// nextToken returns the length of the first token of a text that is not empty.
func nextToken(text string) int {
	end, word := 0, false
	for end < len(text) {
		r, size := utf8.DecodeRuneInString(text[end:])
		space := unicode.IsSpace(r)
		if end > 0 && (end+size > maxToken || space && word) {
			break
		}
		word = word || !space
		end += size
	}
	return end
}

// Tokens cuts a text into the simulator's tokens. Joined they are the text.
func Tokens(text string) []string {
	var list []string
	for text != "" {
		n := nextToken(text)
		list = append(list, text[:n])
		text = text[n:]
	}
	return list
}

// CountTokens is len(Tokens(text)) without the slice.
func CountTokens(text string) int {
	count := 0
	for text != "" {
		text = text[nextToken(text):]
		count++
	}
	return count
}

// What a request costs beyond its text.
const (
	messageTokens      = 3 // a message's role and borders
	conversationTokens = 3 // the turn that is about to be written
	toolTokens         = 8 // a tool definition's borders
)

// imageTokens is the flat price of an image: OpenAI's documented 85 for low
// detail, and for the rest one typical value per vendor.
func imageTokens(f Format, detail string) int {
	switch {
	case f == Anthropic:
		return 1568
	case f == OpenAI && detail == "low":
		return 85
	case f == OpenAI:
		return 765
	}
	return 1024
}
