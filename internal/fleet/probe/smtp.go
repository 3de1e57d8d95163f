package probe

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// maxTalk bounds what is read of a conversation in lines.
const maxTalk = 16 << 10

// smtp greets a mail server and takes leave (RFC 5321, RFC 3207, RFC 8314). It
// names no sender and no recipient.
func (l *look) smtp(ctx context.Context) finding {
	p, err := l.resolve(ctx, l.t.Host, l.t.Port)
	if err != nil {
		return because(err, "Resolving")
	}
	mode := l.t.word("tls", "starttls")
	if l.t.Port == 465 {
		mode = l.t.word("tls", "implicit")
	}
	conn, err := l.dial(ctx, p)
	if err != nil {
		return because(err, "Connecting")
	}
	defer conn.Close()
	talk := net.Conn(conn)
	if mode == "implicit" {
		if talk, err = secured(l.secure(ctx, conn, l.asks(p))); err != nil {
			return because(err, "The TLS handshake")
		}
	}
	c := converse(talk)
	banner, err := c.expect(220)
	if err != nil {
		return c.because(l, err, "greets")
	}
	l.fact("banner", banner)
	offers, err := c.ask("EHLO probe.invalid", 250)
	if err != nil {
		return c.because(l, err, "answers EHLO")
	}
	if mode == "starttls" {
		if !offered(offers, "STARTTLS") {
			return bad(TLSVersion, "%s does not offer STARTTLS.", l.t.place())
		}
		if _, err := c.ask("STARTTLS", 220); err != nil {
			return c.because(l, err, "answers STARTTLS")
		}
		// What came in the clear after the answer must not count as said under
		// TLS (CVE-2011-0411).
		if c.r.Buffered() > 0 {
			return bad(Protocol, "%s says more in the clear after it agreed to encrypt.", l.t.place())
		}
		secure, err := l.secure(ctx, conn, l.asks(p))
		if err != nil {
			return because(err, "The TLS handshake")
		}
		c = converse(secure)
		if offers, err = c.ask("EHLO probe.invalid", 250); err != nil {
			return c.because(l, err, "answers EHLO under TLS")
		}
	}
	if mode == "none" && offered(offers, "STARTTLS") {
		l.fact("starttls", "offered")
	}
	_, _ = c.ask("QUIT", 221)
	return good("%s takes mail%s.", l.t.place(), l.certWords())
}

func offered(lines, extension string) bool {
	for line := range strings.SplitSeq(lines, "\n") {
		if word, _, _ := strings.Cut(line, " "); strings.EqualFold(word, extension) {
			return true
		}
	}
	return false
}

// conversation is lines with codes, as mail servers speak.
type conversation struct {
	w    io.Writer
	r    *bufio.Reader
	left *io.LimitedReader
}

func converse(conn net.Conn) *conversation {
	left := &io.LimitedReader{R: conn, N: maxTalk}
	return &conversation{w: conn, r: bufio.NewReaderSize(left, 2<<10), left: left}
}

// errCode is an answer with another code.
type errCode struct {
	code int
	text string
}

func (e *errCode) Error() string { return fmt.Sprintf("%d", e.code) }

var errTalk = errors.New("no answer of this protocol")

func (c *conversation) ask(line string, want int) (string, error) {
	if _, err := io.WriteString(c.w, line+"\r\n"); err != nil {
		return "", err
	}
	return c.expect(want)
}

// expect reads an answer, of several lines perhaps (RFC 5321 section 4.2.1).
func (c *conversation) expect(want int) (string, error) {
	var lines []string
	for range 100 {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return "", err
		}
		line = strings.TrimRight(line, "\r\n")
		if len(line) < 3 || len(line) > 3 && line[3] != '-' && line[3] != ' ' {
			return "", errTalk
		}
		code, err := strconv.Atoi(line[:3])
		if err != nil || code < 200 || code > 599 {
			return "", errTalk
		}
		lines = append(lines, strings.TrimSpace(line[min(4, len(line)):]))
		if len(line) == 3 || line[3] == ' ' {
			if code != want {
				return "", &errCode{code, lines[0]}
			}
			return strings.Join(lines, "\n"), nil
		}
	}
	return "", errTalk
}

// because explains why a conversation ended early.
func (c *conversation) because(l *look, err error, does string) finding {
	var code *errCode
	switch {
	case errors.As(err, &code) && (code.code == 421 || code.code == 450 || code.code == 451):
		return bad(Busy, "%s says %d: it takes nothing for now.", l.t.place(), code.code)
	case errors.As(err, &code):
		return bad(BadStatus, "%s %s with %d.", l.t.place(), does, code.code)
	case c.left.N <= 0:
		return bad(TooMuch, "%s talks more than %d KiB.", l.t.place(), maxTalk>>10)
	case errors.Is(err, errTalk):
		return bad(Protocol, "What answers at %s is not a mail server.", l.t.place())
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) {
		return bad(Protocol, "What answers at %s breaks off TLS.", l.t.place())
	}
	kind, why := classify(err)
	return bad(kind, "%s does not say what it should: %s.", l.t.place(), why)
}
