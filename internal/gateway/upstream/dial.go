package upstream

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"
)

// dialer opens connections to one upstream. Names are resolved each time, and
// net.Dialer tries the addresses as RFC 8305 (Happy Eyeballs) says.
type dialer struct {
	dial    func(ctx context.Context) (net.Conn, error)
	address string      // host:port of the upstream
	tls     *tls.Config // nil for plain text
	proxy   *url.URL
	timeout time.Duration
}

// connect opens one connection within the connect timeout and before total.
func (d *dialer) connect(ctx context.Context, total time.Duration) (*conn, error) {
	limit := d.timeout
	kind := ErrTimeoutConnect
	if total > 0 {
		if left := total - mono(); limit == 0 || left < limit {
			limit, kind = max(left, 1), ErrTimeoutTotal
		}
	}
	bounded := ctx
	if limit > 0 {
		var stop context.CancelFunc
		bounded, stop = context.WithTimeout(ctx, limit)
		defer stop()
	}
	cn, err := d.open(bounded)
	if err == nil {
		return cn, nil
	}
	switch {
	case ctx.Err() != nil:
		return nil, contextError(ctx, false)
	case bounded.Err() != nil:
		return nil, unsent(kind, "while connecting", nil)
	}
	var known *Error
	if errors.As(err, &known) {
		return nil, known
	}
	return nil, unsent(ErrConnect, "", err)
}

func (d *dialer) open(ctx context.Context) (*conn, error) {
	raw, err := d.socket(ctx)
	if err != nil {
		return nil, err
	}
	m := &meter{Conn: raw}
	if d.proxy != nil {
		if err := d.tunnel(ctx, m); err != nil {
			_ = raw.Close()
			return nil, err
		}
	}
	cn := newConn(m)
	if d.tls == nil {
		return cn, nil
	}
	secure := tls.Client(m, d.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, unsent(ErrTLS, tlsDetail(err), err)
	}
	if p := secure.ConnectionState().NegotiatedProtocol; p != "" && p != "http/1.1" {
		_ = raw.Close()
		return nil, unsent(ErrTLS, "the server chose a protocol that was not offered", nil)
	}
	cn.nc, cn.tls = secure, secure
	return cn, nil
}

func (d *dialer) socket(ctx context.Context) (net.Conn, error) {
	if d.dial != nil {
		return d.dial(ctx)
	}
	address := d.address
	if d.proxy != nil {
		address = hostPort(d.proxy)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

func tlsDetail(err error) string {
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) {
		return "the server does not speak TLS on this port"
	}
	return ""
}

// tunnel asks the proxy to CONNECT (RFC 9110 section 9.3.6).
func (d *dialer) tunnel(ctx context.Context, m *meter) error {
	stop := context.AfterFunc(ctx, func() { _ = m.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	request := "CONNECT " + d.address + " HTTP/1.1\r\nHost: " + d.address + "\r\n"
	if user := d.proxy.User; user != nil {
		password, _ := user.Password()
		pair := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		request += "Proxy-Authorization: Basic " + pair + "\r\n"
	}
	if _, err := m.Write([]byte(request + "\r\n")); err != nil {
		return unsent(ErrConnect, "the egress proxy closed the connection", err)
	}
	buf, n := make([]byte, 16<<10), 0
	for n < len(buf) {
		k, err := m.Read(buf[n:])
		if k == 0 {
			return unsent(ErrConnect, "the egress proxy did not answer CONNECT", err)
		}
		end, bad := headEnd(buf[:n+k], n)
		n += k
		if bad != nil {
			return unsent(ErrConnect, "the egress proxy's answer is not HTTP", bad)
		}
		if end > 0 {
			return tunnelAnswer(buf[:n], end)
		}
	}
	return unsent(ErrConnect, "the egress proxy's answer is too long", nil)
}

func tunnelAnswer(b []byte, end int) error {
	var h head
	if err := h.parse(b[:end]); err != nil {
		return unsent(ErrConnect, "the egress proxy's answer is not HTTP", err)
	}
	if h.status/100 != 2 {
		return unsent(ErrConnect, fmt.Sprintf("the egress proxy refused with status %d", h.status), nil)
	}
	if end != len(b) {
		return unsent(ErrConnect, "the egress proxy sent bytes before the tunnel was used", nil)
	}
	return nil
}

// hostPort adds the scheme's port where the URL has none.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}
