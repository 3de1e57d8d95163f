package notify

import (
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/net/idna"
)

// Bounds of an address (RFC 5321 section 4.5.3.1) and of a display name.
const (
	maxLocal  = 64
	maxDomain = 255
	maxPath   = 254
	maxName   = 120
)

// Address is who a message goes to. Email has its domain in ASCII (RFC 5891)
// and lower case; its local part is as it was given.
type Address struct {
	Name  string `json:"name,omitempty"`
	Email string `json:"email"`
}

// ParseAddress reads "name@example.eu" or "Name <name@example.eu>". field
// names the input in errors; the errors never repeat the address.
func ParseAddress(field, text string) (Address, error) {
	if len(text) > maxPath+maxName+8 || strings.ContainsFunc(text, forbidden) || !utf8.ValidString(text) {
		return Address{}, badAddress(field, "It is too long or has characters that no address may have")
	}
	parsed, err := mail.ParseAddress(text)
	if err != nil {
		return Address{}, badAddress(field, "It is not a mail address")
	}
	return NewAddress(field, parsed.Name, parsed.Address)
}

// NewAddress checks a name and an address that come apart.
func NewAddress(field, name, email string) (Address, error) {
	if !utf8.ValidString(name) || len(name) > maxName || strings.ContainsFunc(name, forbidden) {
		return Address{}, badAddress(field, "The name is too long or has control characters")
	}
	at := strings.LastIndexByte(email, '@')
	if at <= 0 || at == len(email)-1 || !utf8.ValidString(email) || len(email) > maxPath {
		return Address{}, badAddress(field, "It is not a mail address")
	}
	local, domain := email[:at], email[at+1:]
	// Quoted local parts are allowed by RFC 5321 and used by nobody but
	// attackers: what they may hold (spaces, angle brackets, a second @) is
	// read differently by every relay.
	if len(local) > maxLocal || strings.ContainsFunc(local, notLocal) || strings.HasPrefix(local, ".") || strings.HasSuffix(local, ".") || strings.Contains(local, "..") {
		return Address{}, badAddress(field, "The part before the @ has characters that are not used in addresses")
	}
	ascii, err := registrable.ToASCII(strings.ToLower(strings.TrimSuffix(domain, ".")))
	ascii = strings.TrimSuffix(ascii, ".") // an ideographic full stop has become one
	if err != nil || len(ascii) > maxDomain || !strings.Contains(ascii, ".") && ascii != "localhost" || strings.ContainsFunc(ascii, notDomain) {
		return Address{}, badAddress(field, "The part after the @ is not a domain name")
	}
	if len(local)+1+len(ascii) > maxPath {
		return Address{}, badAddress(field, "It is too long")
	}
	return Address{Name: name, Email: local + "@" + ascii}, nil
}

var registrable = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true))

// Unicode reports whether the address needs a relay with SMTPUTF8 (RFC 6531).
func (a Address) Unicode() bool {
	return strings.ContainsFunc(a.Email, func(r rune) bool { return r > unicode.MaxASCII })
}

// Domain is what stands after the @.
func (a Address) Domain() string { return a.Email[strings.LastIndexByte(a.Email, '@')+1:] }

// forbidden are characters that could end a header or hide in one: control
// characters, line and paragraph separators, and directional overrides.
func forbidden(r rune) bool {
	return r == utf8.RuneError || unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
}

// notLocal is what no unquoted local part holds (RFC 5322 atext, RFC 6531).
func notLocal(r rune) bool {
	if r > unicode.MaxASCII {
		return forbidden(r) || unicode.IsSpace(r)
	}
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".!#$%&'*+-/=?^_`{|}~", r))
}

func notDomain(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.')
}

func badAddress(field, why string) error {
	return problem.New(problem.Invalid, "mail-address", "This address cannot be written to: "+lowerFirst(why)+".").
		WithField(field).WithMend("Write it as name@example.eu, or as Name <name@example.eu>.")
}

func lowerFirst(s string) string {
	return strings.ToLower(s[:1]) + s[1:]
}

// String shows the address; it is personal data and does not belong into logs.
func (a Address) String() string {
	if a.Name == "" {
		return a.Email
	}
	return fmt.Sprintf("%s <%s>", a.Name, a.Email)
}
