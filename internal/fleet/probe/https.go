package probe

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what is read of one answer.
const (
	maxHeaders   = 64 << 10
	maxBody      = 256 << 10
	maxRedirects = 5
)

// web looks at a page. A fresh connection is made every time: what a kept one
// hides (a full accept queue, a new certificate, a moved name) is what a probe
// is for.
func (l *look) web(ctx context.Context) finding {
	if l.t.URL.Scheme == "http" && !l.t.yes("plaintext") {
		return l.toHTTPS(ctx)
	}
	u := l.t.URL
	seen := map[string]bool{}
	for hop := 0; ; hop++ {
		p, err := l.resolve(ctx, u.Hostname(), urlPort(u))
		if err != nil {
			return because(err, "Resolving")
		}
		if hop == 0 && l.t.yes("each") {
			if f := l.everyAddress(ctx, u, p); !f.ok {
				return f
			}
		}
		a, err := l.get(ctx, u, p)
		if err != nil {
			return because(err, "Asking "+l.t.place())
		}
		l.fact("status", strconv.Itoa(a.status))
		next, f := l.redirect(u, a)
		if next == nil {
			if f.code == "" {
				f = l.page(a)
			}
			return f
		}
		if seen[next.String()] || hop >= maxRedirects {
			return bad(BadRedirect, "%s leads in a circle, or to more than %d places.", l.t.place(), maxRedirects)
		}
		seen[next.String()] = true
		u = next
		l.fact("redirects", strconv.Itoa(hop+1))
	}
}

// everyAddress asks each address of the name: several gateways behind one name
// answer at once, and one that is gone is lost requests.
func (l *look) everyAddress(ctx context.Context, u *url.URL, p place) finding {
	for _, addr := range p.addrs {
		one := p
		one.addrs = []netip.Addr{addr}
		a, err := l.get(ctx, u, one)
		if err != nil {
			return because(err, "Asking "+addr.String())
		}
		if next, f := l.redirect(u, a); next == nil && f.code == "" {
			f = l.page(a)
			if !f.ok {
				f.words = addr.String() + ": " + f.words
				return f
			}
		}
	}
	l.fact("addresses", strconv.Itoa(len(p.addrs)))
	return good("")
}

// answer is what a server said.
type answer struct {
	status   int
	location string
	body     []byte
	cut      bool // there is more than was read
	readErr  error
}

// get asks once for a page.
func (l *look) get(ctx context.Context, u *url.URL, p place) (answer, error) {
	return l.exchange(ctx, u, p, http.MethodGet, nil, nil, nil)
}

// exchange sends one request on a connection of its own and reads a bounded answer.
func (l *look) exchange(ctx context.Context, u *url.URL, p place, method string, header http.Header, body []byte, extra *asked) (answer, error) {
	conn, err := l.dial(ctx, p)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	if u.Scheme == "https" {
		a := l.asks(p)
		if extra != nil {
			a = *extra
		}
		a.alpn = []string{"http/1.1"}
		if conn, err = secured(l.secure(ctx, conn, a)); err != nil {
			return answer{}, err
		}
	}
	req := &http.Request{Method: method, URL: u, Host: u.Host, Header: http.Header{"User-Agent": {"foundry-probe"}, "Accept": {"*/*"}, "Accept-Encoding": {"identity"}}, Close: true}
	for k, v := range header {
		req.Header[k] = v
	}
	if body != nil {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	if err := req.WithContext(ctx).Write(conn); err != nil {
		return answer{}, err
	}
	return l.readAnswer(conn, req)
}

// readAnswer reads what a server says to a request, up to a bound.
func (l *look) readAnswer(from io.Reader, req *http.Request) (answer, error) {
	limited := &io.LimitedReader{R: from, N: maxHeaders}
	r := bufio.NewReaderSize(limited, 4<<10)
	res, err := readHead(r, req)
	if err != nil {
		if limited.N <= 0 {
			return answer{}, failed(TooMuch, "The headers of %s are longer than %d KiB.", l.t.place(), maxHeaders>>10)
		}
		if code, why := classify(err); code != Protocol {
			return answer{}, failed(code, "%s did not answer: %s.", l.t.place(), why)
		}
		return answer{}, failed(Protocol, "What %s answers is not HTTP.", l.t.place())
	}
	defer res.Body.Close()
	limited.N = maxBody + maxHeaders
	a := answer{status: res.StatusCode, location: res.Header.Get("Location")}
	a.body, a.readErr = io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if a.cut = len(a.body) > maxBody; a.cut {
		a.body = a.body[:maxBody]
	}
	return a, nil
}

// secured makes a nil *tls.Conn a nil interface.
func secured[C net.Conn](c C, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

// readHead reads the answer's head, after at most a few interim ones (RFC 9110
// section 15.2).
func readHead(r *bufio.Reader, req *http.Request) (*http.Response, error) {
	for range 5 {
		res, err := http.ReadResponse(r, req)
		if err != nil || res.StatusCode >= 200 {
			return res, err
		}
		if res.StatusCode == http.StatusSwitchingProtocols {
			break
		}
	}
	return nil, errors.New("no final answer")
}

// redirect says where an answer leads: nil where it is to be judged itself. A
// finding with a code ends the look.
func (l *look) redirect(from *url.URL, a answer) (*url.URL, finding) {
	policy := l.t.word("follow", "same-host")
	if !slices.Contains([]int{301, 302, 303, 307, 308}, a.status) || policy == "none" || l.statusGood(a.status) && l.t.word("status", "") != "" {
		return nil, finding{}
	}
	to, err := from.Parse(a.location)
	if err != nil || a.location == "" || to.Host == "" && to.Opaque == "" {
		return nil, bad(BadRedirect, "%s redirects to no address.", l.t.place())
	}
	to.Fragment, to.User = "", nil
	l.fact("redirect_host", to.Host)
	switch same := strings.EqualFold(to.Hostname(), from.Hostname()) && (urlPort(to) == urlPort(from) || from.Scheme == "http" && to.Scheme == "https"); {
	case to.Scheme != "https" && to.Scheme != "http" || to.Host == "":
		return nil, bad(BadRedirect, "%s redirects to something that is no page.", l.t.place())
	case from.Scheme == "https" && to.Scheme != "https":
		return nil, bad(BadRedirect, "%s redirects from https to http.", l.t.place())
	case same:
	case policy == "same-host":
		return nil, bad(BadRedirect, "%s redirects to %s, and other hosts are not followed.", l.t.place(), clean(to.Host, 80))
	case !slices.ContainsFunc(commas(policy), func(h string) bool { return strings.EqualFold(h, to.Hostname()) }) && !strings.EqualFold(to.Hostname(), l.t.Host):
		return nil, bad(BadRedirect, "%s redirects to %s, which is not one of those that are followed.", l.t.place(), clean(to.Host, 80))
	}
	return to, finding{}
}

// statusGood reports whether a status is one that the target expects.
func (l *look) statusGood(status int) bool {
	for _, want := range commas(l.t.word("status", "2xx")) {
		if want == strconv.Itoa(status) || strings.HasSuffix(want, "xx") && want[0] == byte('0'+status/100) {
			return true
		}
	}
	return false
}

// page judges what was answered.
func (l *look) page(a answer) finding {
	if !l.statusGood(a.status) {
		return bad(BadStatus, "%s answers %d %s.", l.t.place(), a.status, strings.ToLower(http.StatusText(a.status)))
	}
	contains, lacks := l.t.word("contains", ""), l.t.word("lacks", "")
	found := contains != "" && bytes.Contains(a.body, []byte(contains))
	switch {
	case lacks != "" && bytes.Contains(a.body, []byte(lacks)):
		return bad(BadContent, "%s answers %d with a page that has what must not be in it.", l.t.place(), a.status)
	case a.readErr != nil && !found:
		code, why := classify(a.readErr)
		if code == Protocol {
			why = "its length is not what it says"
		}
		return bad(code, "%s answers %d, but its page does not come to an end: %s.", l.t.place(), a.status, why)
	case contains != "" && !found && a.cut:
		return bad(BadContent, "%s answers %d, but what was expected is not in the first %d KiB of the page.", l.t.place(), a.status, maxBody>>10)
	case contains != "" && !found:
		return bad(BadContent, "%s answers %d, but what was expected is not in the page.", l.t.place(), a.status)
	}
	return good("%s answers %d%s.", l.t.place(), a.status, l.certWords())
}

func (l *look) certWords() string {
	if days := l.facts["certificate_days"]; days != "" {
		return fmt.Sprintf(" over %s; its certificate holds for %s days", l.facts["tls"], days)
	}
	return ""
}

// toHTTPS looks whether plain HTTP leads to https, for good (301 or 308).
func (l *look) toHTTPS(ctx context.Context) finding {
	p, err := l.resolve(ctx, l.t.Host, l.t.Port)
	if err != nil {
		return because(err, "Resolving")
	}
	a, err := l.get(ctx, l.t.URL, p)
	if err != nil {
		return because(err, "Asking "+l.t.place())
	}
	l.fact("status", strconv.Itoa(a.status))
	to, err := l.t.URL.Parse(a.location)
	policy := l.t.word("follow", "same-host")
	switch {
	case a.status != http.StatusMovedPermanently && a.status != http.StatusPermanentRedirect:
		return bad(BadRedirect, "%s answers %d in the clear instead of redirecting to https for good (301 or 308).", l.t.place(), a.status)
	case err != nil || a.location == "" || to.Scheme != "https" || to.Hostname() == "":
		return bad(BadRedirect, "%s redirects, but not to https.", l.t.place())
	case !strings.EqualFold(to.Hostname(), l.t.Host) && !slices.ContainsFunc(commas(policy), func(h string) bool { return strings.EqualFold(h, to.Hostname()) }):
		return bad(BadRedirect, "%s redirects to another host, %s.", l.t.place(), clean(to.Hostname(), 80))
	}
	return good("%s redirects to https with %d.", l.t.place(), a.status)
}
