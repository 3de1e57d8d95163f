package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"hash"
	"strings"
	"sync"
)

// A token is prefix ‖ selector ‖ secret ‖ tag, in lower-case base32.
//
//	fdy_ ssssssssss kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk tttttttttttttttt
//
// The selector (50 bits) names the row, the secret (160 bits) is what the row
// keeps a bcrypt of, and the tag (80 bits of HMAC-SHA256) lets a forgery die
// without a look-up or a bcrypt.
const (
	prefix         = "fdy_"
	selectorLength = 10
	secretLength   = 32
	tagLength      = 16
	tokenLength    = len(prefix) + selectorLength + secretLength + tagLength
)

const alphabet = "abcdefghijklmnopqrstuvwxyz234567"

var encoding = base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)

// mac is a pool of HMAC-SHA256 states under one key.
type mac struct{ pool sync.Pool }

func newMAC(key []byte) *mac {
	key = append([]byte(nil), key...)
	return &mac{pool: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

func (m *mac) sum(text string) (out [sha256.Size]byte) {
	h := m.pool.Get().(hash.Hash)
	h.Reset()
	var buf [64]byte
	h.Write(append(buf[:0], text...))
	h.Sum(out[:0])
	m.pool.Put(h)
	return out
}

// tag returns the token's tag for selector ‖ secret.
func (m *mac) tag(body string) string {
	sum := m.sum(body)
	return encoding.EncodeToString(sum[:tagLength*5/8])
}

// mint makes a new token.
func (m *mac) mint() (token, selector, secret string) {
	var raw [(selectorLength + secretLength + 2) * 5 / 8]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	body := encoding.EncodeToString(raw[:])[:selectorLength+secretLength]
	return prefix + body + m.tag(body), body[:selectorLength], body[selectorLength:]
}

// split checks a token's shape and returns its parts.
func split(token string) (selector, secret, tag string, ok bool) {
	if len(token) != tokenLength || !strings.HasPrefix(token, prefix) {
		return "", "", "", false
	}
	body := token[len(prefix):]
	return body[:selectorLength], body[selectorLength : selectorLength+secretLength], body[selectorLength+secretLength:], true
}

// genuine reports whether the tag was made by this installation.
func (m *mac) genuine(selector, secret, tag string) bool {
	var body [selectorLength + secretLength]byte
	copy(body[:], selector)
	copy(body[selectorLength:], secret)
	sum := m.sum(string(body[:]))
	var want [tagLength]byte
	encoding.Encode(want[:], sum[:tagLength*5/8])
	return subtle.ConstantTimeCompare(want[:], []byte(tag)) == 1
}
