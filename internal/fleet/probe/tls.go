package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
)

// tls checks the certificate with a real handshake, then that every version
// below the lowest allowed one is refused. The offers of old versions are
// written byte by byte: what this process's TLS library would not offer, it
// could not find either.
func (l *look) tls(ctx context.Context) finding {
	p, err := l.resolve(ctx, l.t.Host, l.t.Port)
	if err != nil {
		return because(err, "Resolving")
	}
	a := l.asks(p)
	least := uint16(tls.VersionTLS13)
	if l.t.word("min", "1.3") == "1.2" {
		least = tls.VersionTLS12
	}
	// A server that speaks only an old version is told apart from one that
	// does not answer by the offers below, so the handshake takes 1.2, too.
	a.min = tls.VersionTLS12
	conn, err := l.dial(ctx, p)
	if err != nil {
		return because(err, "Connecting")
	}
	c, err := l.secure(ctx, conn, a)
	conn.Close()
	if err != nil {
		return because(err, "The TLS handshake")
	}
	if v := c.ConnectionState().Version; v < least {
		return bad(TLSVersion, "%s chooses %s where %s is offered, too.", l.t.place(), tls.VersionName(v), tls.VersionName(tls.VersionTLS13))
	}
	var accepted, refused []string
	for _, o := range offers(least) {
		r, err := l.offer(ctx, p, a.name, o)
		if err != nil {
			return unknown(codeOf(err), "%s answers TLS, but what it says to an offer of %s is not known: %s", l.t.place(), o.name, sentence(err))
		}
		if r.accepted {
			accepted = append(accepted, o.name)
		} else {
			refused = append(refused, o.name+": "+r.words)
		}
	}
	l.fact("refused", strings.Join(refused, "; "))
	if len(accepted) > 0 {
		l.fact("accepted", strings.Join(accepted, ", "))
		return bad(TLSVersion, "%s accepts %s.", l.t.place(), strings.Join(accepted, ", "))
	}
	return good("%s refuses everything below %s; its certificate holds for %s days.", l.t.place(), tls.VersionName(least), l.facts["certificate_days"])
}

func codeOf(err error) Code {
	if f := because(err, ""); f.code != "" {
		return f.code
	}
	return Protocol
}

// tlsOffer is one offer that must be refused.
type tlsOffer struct {
	name    string
	version uint16
	suites  []uint16
}

// offers are what must be refused where least is the lowest version allowed.
func offers(least uint16) []tlsOffer {
	out := []tlsOffer{
		{"TLS 1.0", tls.VersionTLS10, oldSuites},
		{"TLS 1.1", tls.VersionTLS11, oldSuites},
	}
	if least > tls.VersionTLS12 {
		return append(out, tlsOffer{"TLS 1.2", tls.VersionTLS12, append(newSuites, oldSuites...)})
	}
	return append(out, tlsOffer{"TLS 1.2 without forward secrecy", tls.VersionTLS12, staticSuites})
}

// Cipher suites by their numbers in the IANA registry: those without an
// ephemeral key, all that TLS 1.0 and 1.1 know and servers still take, and
// those that came with TLS 1.2.
var (
	staticSuites = []uint16{0x002f, 0x0035, 0x003c, 0x003d, 0x009c, 0x009d, 0x0041, 0x0084, 0x000a, 0x0004, 0x0005}
	oldSuites    = append([]uint16{0xc009, 0xc00a, 0xc013, 0xc014, 0xc008, 0xc012, 0xc007, 0xc011, 0x0033, 0x0039, 0x0032, 0x0038, 0x0016, 0x0045, 0x0088}, staticSuites...)
	newSuites    = []uint16{0xc02b, 0xc02c, 0xc02f, 0xc030, 0xcca8, 0xcca9, 0x009e, 0x009f, 0xccaa, 0xc023, 0xc024, 0xc027, 0xc028, 0x0067, 0x006b, 0xc09e, 0xc09f, 0xc0ac, 0xc0ad}
)

// offer sends the first message of a handshake and reads what comes back.
func (l *look) offer(ctx context.Context, p place, name string, o tlsOffer) (reply, error) {
	conn, err := l.dial(ctx, p)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	if _, ok := literal(name); ok {
		name = ""
	}
	if _, err := conn.Write(clientHello(o.version, o.suites, name)); err != nil {
		return reply{}, err
	}
	head := make([]byte, 5)
	if n, err := io.ReadFull(conn, head); err != nil {
		if code, why := classify(err); code == Timeout || code == Stopped {
			return reply{}, failed(code, "%s", why)
		}
		if n > 0 {
			return reply{words: "cut off"}, nil
		}
		return reply{words: "closed"}, nil
	}
	body := make([]byte, min(int(head[3])<<8|int(head[4]), 64))
	n, err := io.ReadFull(conn, body)
	if code, why := classify(err); err != nil && (code == Timeout || code == Stopped) {
		return reply{}, failed(code, "%s", why)
	}
	return readReply(append(head, body[:n]...)), nil
}

// reply is what a server says to an offer.
type reply struct {
	accepted bool
	words    string
}

// readReply reads the first record of a server: a ServerHello goes on with the
// handshake, anything else does not (RFC 5246 sections 6.2.1 and 7.4.1.3).
func readReply(b []byte) reply {
	switch {
	case len(b) < 5:
		return reply{words: "closed"}
	case b[0] == 21 && len(b) >= 7:
		return reply{words: fmt.Sprintf("alert %d", b[6])}
	case b[0] == 22 && len(b) >= 11 && b[5] == 2:
		return reply{accepted: true, words: tls.VersionName(uint16(b[9])<<8 | uint16(b[10]))}
	}
	return reply{words: "no TLS"}
}

// clientHello is the first record of a handshake as clients of that version
// sent it: without supported_versions, where a server would look instead of at
// the old field (RFC 8446 section 4.2.1).
func clientHello(version uint16, suites []uint16, name string) []byte {
	u16 := func(b []byte, n int) []byte { return append(b, byte(n>>8), byte(n)) }
	vector := func(b, v []byte) []byte { return append(u16(b, len(v)), v...) }
	var ext []byte
	if name != "" {
		ext = vector(u16(ext, 0), vector(nil, append([]byte{0}, vector(nil, []byte(name))...)))
	}
	ext = vector(u16(ext, 10), vector(nil, []byte{0, 29, 0, 23, 0, 24, 0, 25})) // groups
	ext = vector(u16(ext, 11), []byte{1, 0})                                    // uncompressed points
	if version >= tls.VersionTLS12 {
		ext = vector(u16(ext, 13), vector(nil, []byte{4, 3, 8, 4, 4, 1, 5, 3, 8, 5, 5, 1, 8, 6, 6, 1, 2, 1, 2, 3, 2, 2}))
	}
	ext = vector(u16(ext, 0xff01), []byte{0}) // secure renegotiation
	hello := u16(nil, int(version))
	for i := range 32 { // no key depends on it
		hello = append(hello, byte(0x40+i))
	}
	hello = append(hello, 0) // no session
	var list []byte
	for _, s := range suites {
		list = u16(list, int(s))
	}
	hello = append(vector(hello, list), 1, 0) // no compression
	hello = vector(hello, ext)
	message := append([]byte{1, 0}, vector(nil, hello)...) // ClientHello, three bytes of length
	return vector([]byte{22, 3, 1}, message)
}
