package upstream

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"time"
)

const (
	defaultMaxConns       = 512
	defaultIdleTimeout    = 55 * time.Second
	defaultMaxHeaderBytes = 64 << 10
)

// parseBase checks a base URL and returns its path prefix without a final slash.
func parseBase(base string) (*url.URL, string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, "", errors.New("the base URL of the upstream cannot be parsed") // err quotes it, with a password if there is one
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, "", errors.New("the base URL of the upstream must begin with http:// or https://")
	case u.Hostname() == "":
		return nil, "", errors.New("the base URL of the upstream has no host")
	case u.User != nil:
		return nil, "", errors.New("the base URL of the upstream holds credentials; send them as a header")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, "", errors.New("the base URL of the upstream must end with its path: no query, no fragment")
	}
	prefix := strings.TrimRight(u.EscapedPath(), "/")
	if !printable(prefix) || !printable(u.Host) {
		return nil, "", errors.New("the base URL of the upstream has a character that cannot be sent")
	}
	return u, prefix, nil
}

// secure returns the TLS configuration for host: at least TLS 1.2, HTTP/1.1
// only, sessions resumed.
func secure(c *tls.Config, host string) (*tls.Config, error) {
	if c == nil {
		c = &tls.Config{}
	}
	c = c.Clone()
	c.MinVersion = cmp.Or(c.MinVersion, tls.VersionTLS12)
	if c.MinVersion < tls.VersionTLS12 {
		return nil, errors.New("TLS below version 1.2 is not offered to an upstream")
	}
	c.ServerName = cmp.Or(c.ServerName, host)
	c.NextProtos = []string{"http/1.1"}
	if c.ClientSessionCache == nil {
		c.ClientSessionCache = tls.NewLRUClientSessionCache(16)
	}
	return c, nil
}

// renderHeader renders the fields that every request carries.
func renderHeader(host string, h http.Header) ([]byte, []string, error) {
	b := []byte("Host: " + host + "\r\n")
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		for _, value := range h[name] {
			if err := checkField(name, value); err != nil {
				return nil, nil, err
			}
			b = append(b, name+": "+value+"\r\n"...)
		}
	}
	for i, name := range names {
		names[i] = strings.ToLower(name)
	}
	return b, names, nil
}

// reserved are the fields that decide where a message ends and what becomes of
// the connection, and Accept-Encoding: answers are wanted as they are.
var reserved = []string{
	"host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection",
	"te", "trailer", "upgrade", "expect", "accept-encoding",
}

// checkField refuses what would let a value end its header line. The value is
// not quoted: it may be a credential.
func checkField(name, value string) error {
	for i := range len(name) {
		if !isToken[name[i]] {
			return fmt.Errorf("the header name %q is malformed", name)
		}
	}
	if name == "" {
		return errors.New("a header has no name")
	}
	for _, r := range reserved {
		if equalFold(name, r) {
			return fmt.Errorf("the header %s is set by the client itself", name)
		}
	}
	for i := range len(value) {
		if !fieldByte(value[i]) {
			return fmt.Errorf("the value of header %s has a control character", name)
		}
	}
	return nil
}

// checkLine refuses a method or path that would end the request line early.
func checkLine(method, path string) error {
	for i := range len(method) {
		if !isToken[method[i]] {
			return errors.New("the method is malformed")
		}
	}
	if method == "" || method == http.MethodConnect {
		return errors.New("the method is malformed")
	}
	if path == "" || path[0] != '/' || !printable(path) {
		return errors.New("the path must begin with / and be escaped")
	}
	return nil
}

// printable: visible ASCII without a fragment mark.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '#' {
			return false
		}
	}
	return true
}
