package evidence

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Listener is an own address that answers with TLS.
type Listener struct {
	Name    string // e.g. "https"
	Address string // to dial
	Server  string // name to ask for and to verify
	Roots   *x509.CertPool
}

func (l Listener) subject() string { return l.Name + " " + l.Address }

// tlsVersions are what is offered, one at a time. SSL 3.0 is no version that
// Go's client speaks: its offer is a TLS 1.0 one with the number changed.
var tlsVersions = []struct {
	version uint16
	name    string
}{{0x0300, "SSL 3.0"}, {tls.VersionTLS10, "TLS 1.0"}, {tls.VersionTLS11, "TLS 1.1"}, {tls.VersionTLS12, "TLS 1.2"}}

const (
	dialTimeout   = 5 * time.Second
	certificateOK = 7 * 24 * time.Hour // less life than this needs a person
)

// TLS13 checks that every listener completes a TLS 1.3 handshake with a
// certificate that holds (O-08).
func TLS13(listeners func() []Listener, now func() time.Time) Collect {
	return eachListener(listeners, func(ctx context.Context, l Listener) Finding {
		f := Finding{Subject: l.subject(), Covered: []string{"one complete handshake that offered TLS 1.2 and 1.3", "the certificate's chain, name and term"},
			NotCovered: []string{"what stands between this node and its clients: a proxy, a load balancer", "listeners that are not this node's"}}
		state, err := handshake(ctx, l, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: l.Roots, ServerName: l.Server, Time: now})
		if err != nil {
			return failedHandshake(f, err)
		}
		leaf := state.PeerCertificates[0]
		f.Raw = leaf.Raw
		switch {
		case state.Version != tls.VersionTLS13:
			return f.fail(fmt.Sprintf("It chose %s.", tls.VersionName(state.Version)))
		case leaf.NotAfter.Sub(now()) < certificateOK:
			return f.fail(fmt.Sprintf("TLS 1.3, but its certificate ends at %s.", leaf.NotAfter.UTC().Format(time.RFC3339)))
		}
		return f.pass(fmt.Sprintf("It chose TLS 1.3 (%s); its certificate holds until %s.", tls.CipherSuiteName(state.CipherSuite), leaf.NotAfter.UTC().Format(time.DateOnly)))
	})
}

// OldTLS checks that every listener refuses SSL 3.0 and TLS 1.0 to 1.2 (O-09).
// The offers are real first messages of a handshake, written byte by byte, so
// that no setting of this process's TLS library can quietly weaken the check.
func OldTLS(listeners func() []Listener) Collect {
	return eachListener(listeners, func(ctx context.Context, l Listener) Finding {
		f := Finding{Subject: l.subject(), NotCovered: []string{"SSL 2.0", "what stands between this node and its clients"}}
		// A listener that is gone refuses everything.
		if _, err := handshake(ctx, l, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, ServerName: l.Server}); err != nil {
			f.Subject = l.subject()
			f.Result, f.Reason = Inconclusive, "It does not answer TLS 1.3 either, so its refusals say nothing: "+sentence(err)
			return f
		}
		var accepted, words []string
		for _, v := range tlsVersions {
			answer, err := offer(ctx, l, v.version)
			if err != nil {
				f.Result, f.Reason = Inconclusive, fmt.Sprintf("Offering %s did not work: %s", v.name, sentence(err))
				return f
			}
			f.Covered = append(f.Covered, "an offer of "+v.name+" alone")
			f.Raw = append(f.Raw, answer...)
			r := readReply(answer)
			words = append(words, v.name+": "+r.words)
			if r.accepted {
				accepted = append(accepted, v.name)
			}
		}
		if len(accepted) > 0 {
			return f.fail("It accepts " + strings.Join(accepted, ", ") + ".")
		}
		return f.pass("It refuses every older version. " + strings.Join(words, "; ") + ".")
	})
}

// ForwardSecrecy checks that every handshake, a resumed one too, agrees on a
// fresh key by (EC)DHE, and that an offer without one is refused (O-11).
func ForwardSecrecy(listeners func() []Listener) Collect {
	return eachListener(listeners, func(ctx context.Context, l Listener) Finding {
		f := Finding{Subject: l.subject(), NotCovered: []string{"a resumption that offers psk_ke only with a valid ticket", "what stands between this node and its clients"}}
		config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: l.Roots, ServerName: l.Server, ClientSessionCache: tls.NewLRUClientSessionCache(1),
			CipherSuites: allSuites()} // the weak ones too: the server must be the one who does not choose them
		first, err := handshake(ctx, l, config)
		if err != nil {
			return failedHandshake(f, err)
		}
		f.Covered = append(f.Covered, "a full handshake that also offered suites without forward secrecy")
		if !ephemeral(first) {
			return f.fail(fmt.Sprintf("It chose %s without an ephemeral key.", tls.CipherSuiteName(first.CipherSuite)))
		}
		reason := fmt.Sprintf("%s with %s.", tls.VersionName(first.Version), first.CurveID)
		again, err := handshake(ctx, l, config)
		if err != nil {
			return failedHandshake(f, err)
		}
		if again.DidResume {
			f.Covered = append(f.Covered, "a resumed handshake")
			if !ephemeral(again) {
				return f.fail("A resumed session has no ephemeral key.")
			}
			reason += fmt.Sprintf(" A resumed session used %s again.", again.CurveID)
		} else {
			f.NotCovered = append(f.NotCovered, "a resumed handshake: the server gave no ticket")
		}
		answer, err := withoutKeyShare(ctx, l)
		if err != nil {
			f.Result, f.Reason = Inconclusive, "An offer without key exchange did not work: "+sentence(err)
			return f
		}
		f.Covered, f.Raw = append(f.Covered, "a TLS 1.3 offer without (EC)DHE groups and key shares, with psk_ke as the only mode"), answer
		r := readReply(answer)
		if r.accepted {
			return f.fail("It goes on with a handshake that has no (EC)DHE key share.")
		}
		return f.pass(reason + " Without a key share: " + r.words + ".")
	})
}

// ephemeral reports whether the handshake used (EC)DHE.
func ephemeral(s tls.ConnectionState) bool { return s.CurveID != 0 }

func allSuites() (ids []uint16) {
	for _, s := range tls.InsecureCipherSuites() {
		ids = append(ids, s.ID)
	}
	for _, s := range tls.CipherSuites() {
		ids = append(ids, s.ID)
	}
	return ids
}

// eachListener looks at all listeners. None is a failure of the wiring, not a
// pass.
func eachListener(listeners func() []Listener, look func(context.Context, Listener) Finding) Collect {
	return func(ctx context.Context, progress func(string)) (out []Finding, err error) {
		for _, l := range listeners() {
			progress(l.subject())
			out = append(out, look(ctx, l))
		}
		return out, ctx.Err()
	}
}

func (f Finding) fail(reason string) Finding { f.Result, f.Reason = Fail, reason; return f }

func (f Finding) pass(reason string) Finding { f.Result, f.Reason = Pass, reason; return f }

// failedHandshake tells a listener that refuses (a failure) from one that
// cannot be reached.
func failedHandshake(f Finding, err error) Finding {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		f.Result, f.Reason, f.Covered = Inconclusive, "It cannot be reached: "+sentence(err), nil
		return f
	}
	return f.fail("The handshake failed: " + sentence(err))
}

func handshake(ctx context.Context, l Listener, config *tls.Config) (tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Address)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	c := tls.Client(conn, config)
	if err := c.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, err
	}
	state := c.ConnectionState()
	if state.Version == tls.VersionTLS13 && config.ClientSessionCache != nil {
		// The ticket comes after the handshake, with the first bytes read.
		_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: "+l.Server+"\r\nConnection: close\r\n\r\n")
		_, _ = c.Read(make([]byte, 1))
	}
	return state, nil
}

// offer sends the first message of a handshake that offers one version only,
// and reads what comes back first.
func offer(ctx context.Context, l Listener, version uint16) ([]byte, error) {
	hello, err := clientHello(max(version, tls.VersionTLS10), l.Server)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint16(hello[9:], version)
	// A client of those days knows no supported_versions: with it, the server
	// would look there and not at the old field.
	hello, err = editExtensions(hello, func(id uint16, body []byte) ([]byte, bool) { return body, id != extVersions })
	if err != nil {
		return nil, err
	}
	return exchange(ctx, l, hello)
}

// withoutKeyShare offers TLS 1.3 with nothing to agree on a fresh key by, and
// resumption by pre-shared key alone (psk_ke, RFC 8446 section 4.2.9).
func withoutKeyShare(ctx context.Context, l Listener) ([]byte, error) {
	hello, err := clientHello(tls.VersionTLS13, l.Server)
	if err != nil {
		return nil, err
	}
	hello, err = editExtensions(hello, func(id uint16, body []byte) ([]byte, bool) {
		switch id {
		case extKeyShare, extGroups:
			return nil, false
		case extPSKModes:
			return []byte{1, 0}, true
		}
		return body, true
	})
	if err != nil {
		return nil, err
	}
	return exchange(ctx, l, hello)
}

// exchange sends bytes and reads one record, or what there is of it.
func exchange(ctx context.Context, l Listener, hello []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if _, err := conn.Write(hello); err != nil {
		return nil, err
	}
	head := make([]byte, 5)
	n, err := io.ReadFull(conn, head)
	if err != nil {
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			return nil, fmt.Errorf("no answer within %s", dialTimeout)
		}
		return head[:n], nil // closed without a word
	}
	body := make([]byte, min(int(binary.BigEndian.Uint16(head[3:])), 512))
	n, _ = io.ReadFull(conn, body)
	return append(head, body[:n]...), nil
}

// clientHello makes the first message of a handshake that offers one version.
func clientHello(version uint16, server string) ([]byte, error) {
	near, far := net.Pipe()
	defer far.Close()
	_ = far.SetDeadline(time.Now().Add(dialTimeout))
	go func() {
		c := tls.Client(near, &tls.Config{MinVersion: version, MaxVersion: version, ServerName: server, CipherSuites: allSuites()})
		_ = c.Handshake() // ends when the pipe closes
		near.Close()
	}()
	head := make([]byte, 5)
	if _, err := io.ReadFull(far, head); err != nil {
		return nil, fmt.Errorf("making an offer: %w", err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(far, body); err != nil {
		return nil, fmt.Errorf("making an offer: %w", err)
	}
	hello := append(head, body...)
	if len(hello) < 43 || hello[0] != recordHandshake || hello[5] != 1 {
		return nil, errors.New("making an offer: it is no ClientHello")
	}
	// In TLS 1.3 the version stands in an extension, and the old field says 1.2.
	if want := min(version, tls.VersionTLS12); binary.BigEndian.Uint16(hello[9:]) != want {
		return nil, fmt.Errorf("making an offer: it offers %#x, not %#x", hello[9:11], want)
	}
	return hello, nil
}

const (
	recordAlert     = 21
	recordHandshake = 22
	extGroups       = 10
	extVersions     = 43
	extKeyShare     = 51
	extPSKModes     = 45
)

// editExtensions rewrites the extensions of a ClientHello record (RFC 8446
// section 4.1.2) and mends the lengths around them.
func editExtensions(record []byte, edit func(id uint16, body []byte) ([]byte, bool)) ([]byte, error) {
	bad := errors.New("the offer cannot be read")
	at := 5 + 4 + 2 + 32 // record header, handshake header, version, random
	skip := func(size int) bool {
		if at+size > len(record) {
			return false
		}
		n := int(record[at])
		if size == 2 {
			n = int(binary.BigEndian.Uint16(record[at:]))
		}
		at += size + n
		return at <= len(record)
	}
	if len(record) < at || !skip(1) || !skip(2) || !skip(1) || at+2 > len(record) { // session, suites, compression
		return nil, bad
	}
	out, rest := append([]byte(nil), record[:at]...), record[at+2:]
	if int(binary.BigEndian.Uint16(record[at:])) != len(rest) {
		return nil, bad
	}
	var list []byte
	for len(rest) > 0 {
		if len(rest) < 4 || len(rest) < 4+int(binary.BigEndian.Uint16(rest[2:])) {
			return nil, bad
		}
		id, n := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		if body, keep := edit(id, rest[4:4+n]); keep {
			list = binary.BigEndian.AppendUint16(list, id)
			list = binary.BigEndian.AppendUint16(list, uint16(len(body)))
			list = append(list, body...)
		}
		rest = rest[4+n:]
	}
	out = append(binary.BigEndian.AppendUint16(out, uint16(len(list))), list...)
	binary.BigEndian.PutUint16(out[3:], uint16(len(out)-5))
	n := len(out) - 9
	out[6], out[7], out[8] = byte(n>>16), byte(n>>8), byte(n)
	return out, nil
}

// reply is what a server's first bytes mean.
type reply struct {
	accepted bool
	words    string
}

// readReply reads the first record of a server's answer (RFC 8446 sections 5.1
// and 6). Anything but an alert or a closed connection counts as going on.
func readReply(b []byte) reply {
	switch {
	case len(b) == 0:
		return reply{false, "closed without an answer"}
	case b[0] == recordAlert && len(b) >= 7:
		return reply{false, "refused with alert " + alertName(b[6])}
	case b[0] == recordAlert:
		return reply{false, "refused with half an alert"}
	case b[0] == recordHandshake && len(b) >= 11:
		return reply{true, fmt.Sprintf("accepted (message %d, version %#x)", b[5], b[9:11])}
	}
	return reply{true, "answered with something that is no alert"}
}

// alertName is the name of an alert (RFC 8446 section 6.2).
func alertName(n byte) string {
	names := map[byte]string{40: "handshake_failure", 47: "illegal_parameter", 50: "decode_error", 70: "protocol_version", 71: "insufficient_security", 86: "inappropriate_fallback", 109: "missing_extension"}
	if name, ok := names[n]; ok {
		return name
	}
	return fmt.Sprint(n)
}
