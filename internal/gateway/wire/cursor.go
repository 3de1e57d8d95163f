package wire

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds nesting. Real requests stay below 30; common parsers give up
// somewhere between 100 (Jackson: 1000, Python: 1000, Ollama's: 10000) and
// overflow, and a body that one of them refuses must not be forwarded.
const maxDepth = 128

// fault is why a document is not acceptable JSON. The zero fault is none.
type fault uint8

const (
	faultNone fault = iota
	faultEnd
	faultSyntax
	faultControl
	faultEscape
	faultSurrogate
	faultNUL
	faultUTF8
	faultNumber
	faultRange
	faultDepth
	faultTrailing
	faultBOM
	faultSemantic // the scan's own error says what is wrong
)

// cursor reads JSON (RFC 8259) from front to back. It is strict where lenient
// parsers differ from each other. Its first fault is sticky: every method
// returns the "no more" value after it, so loops end by themselves.
//
// lax is for answers, which are passed through and decide nothing: there,
// bytes that are not UTF-8, escaped NULs and lone surrogates are accepted,
// because small servers emit them when a token ends inside a character.
type cursor struct {
	b     []byte
	i     int
	depth int
	fault fault
	lax   bool
}

func (c *cursor) fail(f fault) {
	if c.fault == faultNone {
		if f == faultSyntax && c.i >= len(c.b) {
			f = faultEnd
		}
		c.fault = f
	}
}

// ws skips insignificant white space. It is small enough to be inlined: most
// bodies have none.
func (c *cursor) ws() {
	if c.i < len(c.b) && c.b[c.i] <= ' ' {
		c.spaces()
	}
}

func (c *cursor) spaces() {
	for c.i < len(c.b) {
		switch c.b[c.i] {
		case ' ', '\n', '\t', '\r':
			c.i++
		default:
			return
		}
	}
}

// peek returns the first byte of the next value, or zero at a fault or the end.
func (c *cursor) peek() byte {
	if c.fault != faultNone {
		return 0
	}
	if c.i >= len(c.b) {
		c.fail(faultEnd)
		return 0
	}
	return c.b[c.i]
}

// open enters an object or an array, whose opening byte is at the cursor, and
// reports whether it has a first member.
func (c *cursor) open(closing byte) bool {
	c.i++
	if c.depth++; c.depth > maxDepth {
		c.fail(faultDepth)
		return false
	}
	c.ws()
	if c.i < len(c.b) && c.b[c.i] == closing {
		c.i++
		c.depth--
		return false
	}
	return true
}

// next moves past a member and reports whether another follows.
func (c *cursor) next(closing byte) bool {
	if c.fault != faultNone {
		return false
	}
	c.ws()
	if c.i < len(c.b) {
		switch c.b[c.i] {
		case ',':
			c.i++
			c.ws()
			return true
		case closing:
			c.i++
			c.depth--
			return false
		}
	}
	c.fail(faultSyntax)
	return false
}

// key reads a member's name and its colon, and stops at the value. The bytes
// are raw: escaped reports whether they hold an escape sequence.
func (c *cursor) key() (name []byte, escaped bool) {
	if c.peek() != '"' {
		c.fail(faultSyntax)
		return nil, false
	}
	s, escaped := c.str()
	c.ws()
	if c.fault != faultNone || c.i >= len(c.b) || c.b[c.i] != ':' {
		c.fail(faultSyntax)
		return nil, false
	}
	c.i++
	c.ws()
	return c.b[s.Start:s.End], escaped
}

const (
	swarOnes = 0x0101010101010101
	swarHigh = 0x8080808080808080
)

// str reads the string whose quote is at the cursor and returns what is
// between the quotes. Eight bytes are tested at a time for a quote, a
// backslash, a control character or a byte outside ASCII; the lowest flagged
// byte is exact because a borrow can only come from a flagged byte below.
func (c *cursor) str() (s Span, escaped bool) {
	b, i := c.b, c.i+1
	s.Start = i
	for {
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			m := ((w - swarOnes*0x20) | ((w ^ swarOnes*'"') - swarOnes) | ((w ^ swarOnes*'\\') - swarOnes) | w) & swarHigh
			if m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		if i >= len(b) {
			c.i = len(b)
			c.fail(faultEnd)
			return s, escaped
		}
		switch ch := b[i]; {
		case ch == '"':
			s.End = i
			c.i = i + 1
			return s, escaped
		case ch == '\\':
			escaped = true
			n := c.escape(i)
			if n == 0 {
				return s, escaped
			}
			i += n
		case ch < 0x20:
			c.i = i
			c.fail(faultControl)
			return s, escaped
		case ch >= utf8.RuneSelf:
			for i < len(b) && b[i] >= utf8.RuneSelf {
				r, n := utf8.DecodeRune(b[i:])
				if r == utf8.RuneError && n == 1 && !c.lax {
					c.i = i
					c.fail(faultUTF8)
					return s, escaped
				}
				i += n
			}
		default:
			i++
		}
	}
}

func (c *cursor) digits() bool {
	start := c.i
	for c.i < len(c.b) && c.b[c.i]-'0' <= 9 {
		c.i++
	}
	return c.i > start
}

// number reads a number. One that a 64-bit float cannot hold is a fault:
// parsers turn it into an error, infinity or zero, each as it likes.
func (c *cursor) number() (s Span) {
	s.Start = c.i
	if c.b[c.i] == '-' {
		c.i++
	}
	first := c.i
	if !c.digits() {
		c.fail(faultSyntax)
		return s
	}
	if c.b[first] == '0' && c.i > first+1 {
		c.fail(faultNumber)
		return s
	}
	if c.i < len(c.b) && c.b[c.i] == '.' {
		c.i++
		if !c.digits() {
			c.fail(faultSyntax)
			return s
		}
	}
	exponent := c.i < len(c.b) && c.b[c.i]|0x20 == 'e'
	if exponent {
		c.i++
		if c.i < len(c.b) && (c.b[c.i] == '+' || c.b[c.i] == '-') {
			c.i++
		}
		if !c.digits() {
			c.fail(faultSyntax)
			return s
		}
	}
	s.End = c.i
	if exponent || s.End-s.Start > 300 {
		if _, err := strconv.ParseFloat(string(c.b[s.Start:s.End]), 64); err != nil {
			c.fail(faultRange)
		}
	}
	return s
}

// literal reads true, false or null.
func (c *cursor) literal(word string) {
	if len(c.b)-c.i >= len(word) && string(c.b[c.i:c.i+len(word)]) == word {
		c.i += len(word)
		return
	}
	if len(c.b)-c.i < len(word) && string(c.b[c.i:]) == word[:len(c.b)-c.i] {
		c.fail(faultEnd)
	}
	c.fail(faultSyntax)
}

// skip reads any value and returns its range.
func (c *cursor) skip() (s Span) {
	s.Start = c.i
	switch ch := c.peek(); {
	case ch == '"':
		c.str()
	case ch == '{':
		for more := c.open('}'); more; more = c.next('}') {
			c.key()
			c.skip()
		}
	case ch == '[':
		for more := c.open(']'); more; more = c.next(']') {
			c.skip()
		}
	default:
		c.scalar(ch)
	}
	s.End = c.i
	return s
}

// scalar reads a number or a literal that starts with ch.
func (c *cursor) scalar(ch byte) {
	switch {
	case ch == 't':
		c.literal("true")
	case ch == 'f':
		c.literal("false")
	case ch == 'n':
		c.literal("null")
	case ch == '-' || ch-'0' <= 9:
		c.number()
	default:
		c.fail(faultSyntax)
	}
}

// end requires that nothing follows the document.
func (c *cursor) end() {
	if c.ws(); c.fault == faultNone && c.i < len(c.b) {
		c.fail(faultTrailing)
	}
}
