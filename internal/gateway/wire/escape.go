package wire

import "unicode/utf8"

// escape checks the escape sequence at i and returns its length, a surrogate
// pair being one sequence; zero is a fault.
func (c *cursor) escape(i int) int {
	c.i = i
	if i+1 >= len(c.b) {
		c.i = len(c.b)
		c.fail(faultEnd)
		return 0
	}
	switch c.b[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
	default:
		c.fail(faultEscape)
		return 0
	}
	u := hex4(c.b[i+2:])
	switch {
	case u < 0:
		c.fail(faultEscape)
		return 0
	case c.lax:
		return 6
	case u == 0:
		c.fail(faultNUL)
		return 0
	case u < 0xd800 || u > 0xdfff:
		return 6
	case u <= 0xdbff && i+7 < len(c.b) && c.b[i+6] == '\\' && c.b[i+7] == 'u':
		if lo := hex4(c.b[i+8:]); lo >= 0xdc00 && lo <= 0xdfff {
			return 12
		}
	}
	c.fail(faultSurrogate)
	return 0
}

// hex4 reads four hexadecimal digits; -1 if there are not four.
func hex4(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	var r rune
	for _, ch := range b[:4] {
		switch {
		case ch >= '0' && ch <= '9':
			r = r<<4 | rune(ch-'0')
		case ch >= 'a' && ch <= 'f':
			r = r<<4 | rune(ch-'a'+10)
		case ch >= 'A' && ch <= 'F':
			r = r<<4 | rune(ch-'A'+10)
		default:
			return -1
		}
	}
	return r
}

// appendUnescaped appends the text of a checked string. Lone surrogates,
// which only a lax cursor lets pass, become U+FFFD.
func appendUnescaped(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			dst = append(dst, raw[i])
			i++
			continue
		}
		switch ch := raw[i+1]; ch {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := hex4(raw[i+2:])
			if i+11 < len(raw) && r >= 0xd800 && r <= 0xdbff && raw[i+6] == '\\' && raw[i+7] == 'u' {
				if lo := hex4(raw[i+8:]); lo >= 0xdc00 && lo <= 0xdfff {
					r = (r-0xd800)<<10 + (lo - 0xdc00) + 0x10000
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
			i += 4
		default:
			dst = append(dst, ch)
		}
		i += 2
	}
	return dst
}
