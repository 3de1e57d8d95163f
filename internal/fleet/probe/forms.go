package probe

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/missionopsai/foundry/internal/plan"
)

var (
	hostForm   = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?$`)
	unitForm   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9:_.\\@-]{0,254}$`)
	refForm    = regexp.MustCompile(`^(HEAD|refs/[A-Za-z0-9][A-Za-z0-9_.+/-]{0,199})$`)
	methodForm = regexp.MustCompile(`^[a-z][a-z0-9@.-]{0,63}$`)
	userForm   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$`)
	printForm  = regexp.MustCompile(`^SHA256:[A-Za-z0-9+/]{43}$`)
	dbForm     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$`)
	statusForm = regexp.MustCompile(`^[1-5]([0-9][0-9]|xx)$`)
)

// nameForm takes letters and digits of any script and _, then . + - too: 1 to
// 150 characters. As a regular expression it weighs 3 MB for as long as the
// process lives, because each repetition has the tables of Unicode.
func nameForm(name string) bool {
	n := 0
	for _, r := range name {
		if !unicode.IsLetter(r) && !unicode.IsNumber(r) && r != '_' && (n == 0 || r != '.' && r != '+' && r != '-') {
			return false
		}
		n++
	}
	return n > 0 && n <= 150
}

// hostName takes a name or an address.
func hostName(host string) error {
	if _, ok := literal(host); ok || hostForm.MatchString(host) && !strings.Contains(host, "..") {
		return nil
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r > 127 }) {
		return fmt.Errorf("%q has letters that DNS does not know; write it as xn--…", clean(host, 80))
	}
	return fmt.Errorf("%q is no host name and no address", clean(host, 80))
}

func hostNames(value string) error {
	for _, h := range commas(value) {
		if err := hostName(strings.TrimPrefix(h, "*.")); err != nil {
			return err
		}
	}
	return nil
}

// splitHost reads HOST, HOST:PORT, [V6] or [V6]:PORT; port is 0 without one.
func splitHost(s string) (host string, port uint16, err error) {
	host = s
	switch i := strings.LastIndexByte(s, ':'); {
	case strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]"):
		host = s[1 : len(s)-1]
	case i >= 0:
		if _, ok := literal(s); ok { // an IPv6 address without brackets
			return "", 0, fmt.Errorf("write an IPv6 address in brackets: [%s]", s)
		}
		digits := ""
		if host, digits, err = net.SplitHostPort(s); err != nil {
			return "", 0, fmt.Errorf("%q is not of the form host:port", clean(s, 80))
		}
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || n == 0 {
			return "", 0, fmt.Errorf("%q is no port", clean(digits, 20))
		}
		port = uint16(n)
	}
	return host, port, hostName(host)
}

func hostPort(t *Target, address string) (err error) {
	if strings.Contains(address, "://") {
		return errors.New("this kind takes a host and a port, not a URL")
	}
	t.Host, t.Port, err = splitHost(address)
	return err
}

func hostMaybePort(value string) error { _, _, err := splitHost(value); return err }

func controls(value string) error {
	for _, c := range commas(value) {
		if _, port, err := splitHost(c); err != nil {
			return err
		} else if port == 0 {
			return fmt.Errorf("%q names no port", clean(c, 80))
		}
	}
	return nil
}

// readURL reads a URL whose scheme is one of those named.
func readURL(address string, schemes ...string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Opaque != "" || u.Scheme == "":
		return nil, errors.New("this is no URL") // the parser's own words repeat what was written
	case !slices.Contains(schemes, u.Scheme):
		return nil, fmt.Errorf("%s:// is not looked at, but %s://", clean(u.Scheme, 20), strings.Join(schemes, "://, "))
	case u.User != nil && (u.Scheme != "ssh" || func() bool { _, secret := u.User.Password(); return secret }()):
		return nil, errors.New("the URL has a credential in it, and results would show it")
	case u.Fragment != "" || strings.Contains(address, "#"):
		return nil, errors.New("the URL has a # in it")
	case u.Port() != "" && func() bool { n, err := strconv.ParseUint(u.Port(), 10, 16); return err != nil || n == 0 }():
		return nil, fmt.Errorf("%q is no port", clean(u.Port(), 20))
	}
	if u.Scheme != "file" {
		if err := hostName(u.Hostname()); err != nil {
			return nil, err
		}
	}
	return u, nil
}

func webURL(t *Target, address string) (err error) {
	if t.URL, err = readURL(address, "https", "http"); err != nil {
		return err
	}
	t.Host, t.Port = t.URL.Hostname(), urlPort(t.URL)
	return nil
}

func urlPort(u *url.URL) uint16 {
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		return uint16(n)
	}
	return map[string]uint16{"https": 443, "http": 80, "ssh": 22, "git": 9418}[u.Scheme]
}

func gitURL(t *Target, address string) (err error) {
	if t.URL, err = readURL(address, "https", "ssh", "http", "git", "file"); err != nil {
		return err
	}
	switch {
	case t.URL.RawQuery != "" || t.URL.Path == "" || t.URL.Path == "/":
		return errors.New("this is not the address of a repository")
	case t.URL.Scheme == "file" && t.URL.Host != "":
		return errors.New("file:// has no host")
	case strings.HasPrefix(t.URL.Hostname(), "-") || strings.HasPrefix(t.URL.User.Username(), "-"):
		return errors.New("a name begins with a dash")
	}
	t.Host, t.Port = t.URL.Hostname(), urlPort(t.URL)
	return nil
}

func nodeOrURL(t *Target, address string) (err error) {
	if !strings.Contains(address, "://") {
		return plainName(t, address)
	}
	if t.URL, err = readURL(address, "https", "http"); err != nil {
		return err
	}
	if t.URL.RawQuery != "" {
		return errors.New("the URL has a query")
	}
	t.Host, t.Port = t.URL.Hostname(), urlPort(t.URL)
	return nil
}

func dnsName(t *Target, address string) error {
	if _, ok := literal(address); ok {
		return errors.New("this is an address, not a name")
	}
	if err := hostName(strings.TrimPrefix(address, "*.")); err != nil {
		return err
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(address, "."), ".") {
		if len(label) > 63 {
			return errors.New("a part between two dots has more than 63 letters (RFC 1035)")
		}
	}
	t.Host = strings.TrimSuffix(address, ".")
	return nil
}

// postgresAddress reads HOST[:PORT][/DATABASE], or a directory with a socket.
func postgresAddress(t *Target, address string) (err error) {
	if strings.HasPrefix(address, "/") {
		t.Host = address
		if i := strings.LastIndexByte(address, ':'); i > 0 {
			digits, database, has := strings.Cut(address[i+1:], "/")
			n, err := strconv.ParseUint(digits, 10, 16)
			if err != nil || n == 0 {
				return fmt.Errorf("%q is no port", clean(digits, 20))
			}
			if has && !dbForm.MatchString(database) {
				return fmt.Errorf("%q is no name of a database", clean(database, 80))
			}
			t.Host, t.Port, t.Rest = address[:i], uint16(n), database
		}
		if path.Clean(t.Host) != t.Host || t.Host == "/" || strings.Contains(t.Host, ",") {
			return errors.New("this is no directory of a socket")
		}
		return nil
	}
	if strings.Contains(address, "://") || strings.Contains(address, "@") {
		return errors.New("this kind takes a host, a port and a database, not a connection string")
	}
	host, database, has := strings.Cut(address, "/")
	if has && !dbForm.MatchString(database) {
		return fmt.Errorf("%q is no name of a database", clean(database, 80))
	}
	t.Rest = database
	t.Host, t.Port, err = splitHost(host)
	return err
}

func unitName(t *Target, address string) error {
	if !unitForm.MatchString(address) {
		return fmt.Errorf("%q is no unit", clean(address, 80))
	}
	if t.Rest = address; !strings.Contains(address, ".") {
		t.Rest += ".service"
	}
	return nil
}

func absolutePath(t *Target, address string) error {
	if t.Rest = path.Clean(address); !strings.HasPrefix(address, "/") {
		return errors.New("the path does not begin with /")
	}
	return nil
}

func plainName(t *Target, address string) error {
	if t.Rest = address; !nameForm(address) {
		return fmt.Errorf("%q is no name", clean(address, 80))
	}
	return nil
}

func oneOf(values ...string) func(string) error {
	return func(v string) error {
		if slices.Contains(values, v) {
			return nil
		}
		return fmt.Errorf("it is one of %s", strings.Join(values, ", "))
	}
}

func number(low, high int) func(string) error {
	return func(v string) error {
		if n, err := strconv.Atoi(v); err != nil || n < low || n > high || v[0] == '+' {
			return fmt.Errorf("it is a number from %d to %d", low, high)
		}
		return nil
	}
}

func text(v string) error {
	if len(v) > 512 {
		return errors.New("it has more than 512 bytes")
	}
	return nil
}

// matching takes what matches; each element of it where it is a list.
func matching(form *regexp.Regexp, what string, list bool) func(string) error {
	return func(v string) error {
		values := []string{v}
		if list {
			values = commas(v)
		}
		for _, one := range values {
			if !form.MatchString(one) {
				return fmt.Errorf("%q is no %s", clean(one, 80), what)
			}
		}
		if len(values) == 0 {
			return fmt.Errorf("there is no %s", what)
		}
		return nil
	}
}

var (
	statuses    = matching(statusForm, "HTTP status", true)
	methods     = matching(methodForm, "authentication method", true)
	userName    = matching(userForm, "user name", false)
	fingerprint = matching(printForm, "fingerprint of the form SHA256:…", false)
)

func refName(v string) error {
	if !refForm.MatchString(v) || strings.Contains(v, "..") || strings.Contains(v, "//") {
		return errors.New("it is HEAD or begins with refs/, such as refs/heads/main")
	}
	return nil
}

func follow(v string) error {
	if v == "none" || v == "same-host" {
		return nil
	}
	return hostNames(v)
}

func span(v string) error {
	s, err := plan.ParseSpan(v)
	switch {
	case err != nil:
		return err
	case !s.Known() || s.Longest() <= 0:
		return errors.New("it is no length of time")
	}
	return nil
}

func size(v string) error { _, err := plan.ParseSize(v); return err }

func percentOnly(v string) error {
	if n, err := strconv.ParseFloat(strings.TrimSuffix(v, "%"), 64); !strings.HasSuffix(v, "%") || err != nil || !(n >= 0 && n <= 100) {
		return errors.New("it is a part such as 10%")
	}
	return nil
}

func percentOrSize(v string) error {
	if strings.HasSuffix(v, "%") {
		return percentOnly(v)
	}
	return size(v)
}
