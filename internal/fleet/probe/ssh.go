package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// errSeen ends a handshake after the ways in were seen.
var errSeen = errors.New("seen")

// ssh asks a server for the ways in that it offers (RFC 4252 section 5.2), by
// the method "none" alone: no key and no password is tried. A server that lets
// "none" in is as bad as one with passwords.
func (l *look) ssh(ctx context.Context) finding {
	p, err := l.resolve(ctx, l.t.Host, l.t.Port)
	if err != nil {
		return because(err, "Resolving")
	}
	conn, err := l.dial(ctx, p)
	if err != nil {
		return because(err, "Connecting")
	}
	defer conn.Close()
	var offered []string
	var banner string
	key, judged := "", error(nil)
	config := &ssh.ClientConfig{
		User: l.t.word("user", "probe"),
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
			key = ssh.FingerprintSHA256(k)
			if want := l.t.word("host-key", ""); want != "" && want != key {
				judged = failed(HostKey, "%s has the key %s, not the one that is pinned.", l.t.place(), key)
			}
			return judged
		},
		BannerCallback: func(string) error { return nil },
		AuthCallback: func(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
			offered, banner = c.AllowedMethods, string(c.Metadata.ServerVersion())
			return nil, errSeen
		},
		ClientVersion: "SSH-2.0-foundry-probe",
	}
	// A server that sends a banner for ever is ended by the conn's deadline,
	// and what it may send before is bounded here.
	client, channels, requests, err := ssh.NewClientConn(&meteredConn{Conn: conn, left: 256 << 10}, p.host, config)
	if err == nil {
		go ssh.DiscardRequests(requests)
		go func() {
			for c := range channels {
				_ = c.Reject(ssh.Prohibited, "")
			}
		}()
		_ = client.Close()
		return bad(AuthMethods, "%s lets anybody in without any proof.", l.t.place())
	}
	l.fact("banner", banner)
	l.fact("host_key", key)
	switch {
	case judged != nil:
		return because(judged, "")
	case errors.Is(err, errMetered):
		return bad(TooMuch, "%s says more than a greeting.", l.t.place())
	case !errors.Is(err, errSeen):
		if code, why := classify(err); code != Protocol {
			return bad(code, "%s does not get to the question who asks: %s.", l.t.place(), why)
		}
		return bad(Protocol, "What answers at %s is not an SSH server that can be spoken with.", l.t.place())
	}
	l.fact("methods", strings.Join(offered, ", "))
	allowed := commas(l.t.word("allow", "publickey"))
	var wrong []string
	for _, m := range offered {
		if !slices.Contains(allowed, m) {
			wrong = append(wrong, clean(m, 40))
		}
	}
	if len(wrong) > 0 {
		return bad(AuthMethods, "%s offers %s; only %s is allowed.", l.t.place(), strings.Join(wrong[:min(len(wrong), 8)], ", "), strings.Join(allowed, ", "))
	}
	return good("%s offers %s only.", l.t.place(), strings.Join(offered, ", "))
}

var errMetered = errors.New("more than is read")

// meteredConn reads no more than it may.
type meteredConn struct {
	net.Conn
	left int
}

func (c *meteredConn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, fmt.Errorf("reading: %w", errMetered)
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}
