package access

import (
	"strings"
)

// Tokens of people have the form of API keys (see token.go) with prefixes of
// their own, and tags under keys of their own: none passes for another.
const (
	sessionPrefix    = "fds_"
	invitationPrefix = "fdi_"
)

// mintAs makes a token of another kind.
func (m *mac) mintAs(prefix4 string) (token, selector, secret string) {
	token, selector, secret = m.mint()
	return prefix4 + token[len(prefix):], selector, secret
}

// splitAs checks the shape of a token of another kind and returns its parts.
func splitAs(prefix4, token string) (selector, secret, tag string, ok bool) {
	if len(token) != tokenLength || !strings.HasPrefix(token, prefix4) {
		return "", "", "", false
	}
	body := token[len(prefix4):]
	return body[:selectorLength], body[selectorLength : selectorLength+secretLength], body[selectorLength+secretLength:], true
}
