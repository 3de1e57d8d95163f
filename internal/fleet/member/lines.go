package member

import (
	"context"
	"net"
	"sync"
)

// lines are the connections of a process that dials the members. Members ask
// at every call whether the certificate of its connection still counts, and a
// connection keeps the one that it began with: it has to begin anew when the
// certificate is renewed, or it is of no use when the old one runs out.
type lines struct {
	mu   sync.Mutex
	open map[*line]bool
}

type line struct {
	net.Conn
	of *lines
}

func (l *lines) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	one := &line{conn, l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.open = map[*line]bool{}
	}
	l.open[one] = true
	return one, nil
}

func (l *line) Close() error {
	l.of.mu.Lock()
	delete(l.of.open, l)
	l.of.mu.Unlock()
	return l.Conn.Close()
}

// renew ends every connection: whoever uses them dials again.
func (l *lines) renew() {
	l.mu.Lock()
	open := l.open
	l.open = nil
	l.mu.Unlock()
	for one := range open {
		_ = one.Conn.Close()
	}
}
