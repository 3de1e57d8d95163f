package targettest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy passes TCP connections on to a server, and misbehaves when told to.
type Proxy struct {
	Addr string // 127.0.0.1:port
	Port int

	upstream string
	listener net.Listener
	mu       sync.Mutex
	conns    map[net.Conn]bool
	refuse   bool
	rate     int           // bytes a second and direction; 0: as fast as it goes
	left     int64         // bytes until the cut; negative: never
	changed  chan struct{} // closed when something changes
	cuts     int
}

// StartProxy starts a proxy in front of a server, for the length of a test.
func StartProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{
		Addr: l.Addr().String(), Port: l.Addr().(*net.TCPAddr).Port, upstream: upstream, listener: l,
		conns: map[net.Conn]bool{}, left: -1, changed: make(chan struct{}),
	}
	go p.accept()
	t.Cleanup(func() { _ = l.Close(); p.Refuse() })
	return p
}

// Refuse resets every connection, and each new one at once: the server is gone.
func (p *Proxy) Refuse() { p.set(func() { p.refuse = true; p.reset() }) }

// Reset resets every connection; new ones are served.
func (p *Proxy) Reset() { p.set(p.reset) }

// Slow lets so many bytes a second pass in each direction of each connection.
func (p *Proxy) Slow(rate int) { p.set(func() { p.rate = rate }) }

// CutAfter lets so many more bytes pass, in all, and then refuses.
func (p *Proxy) CutAfter(bytes int64) { p.set(func() { p.left = bytes }) }

// Heal behaves again.
func (p *Proxy) Heal() { p.set(func() { p.refuse, p.rate, p.left = false, 0, -1 }) }

// Cuts is how often connections were reset because of CutAfter.
func (p *Proxy) Cuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

// reset ends every connection with a RST rather than a FIN.
func (p *Proxy) reset() {
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
	clear(p.conns)
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(client)
	}
}

func (p *Proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.upstream)
	p.mu.Lock()
	if err != nil || p.refuse {
		p.conns[client] = true
		p.reset1(client)
		if server != nil {
			_ = server.Close()
		}
		p.mu.Unlock()
		return
	}
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	go p.pass(server, client)
	p.pass(client, server)
}

func (p *Proxy) reset1(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
	delete(p.conns, c)
}

func (p *Proxy) pass(to, from net.Conn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !p.allow(n) {
			return
		}
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				err = werr
			}
		}
		if err != nil {
			if tcp, ok := to.(*net.TCPConn); ok && err == io.EOF {
				_ = tcp.CloseWrite()
			} else {
				_ = to.Close()
			}
			p.mu.Lock()
			delete(p.conns, from)
			p.mu.Unlock()
			return
		}
	}
}

// allow waits as long as n bytes take, and reports whether they may pass.
func (p *Proxy) allow(n int) bool {
	p.mu.Lock()
	if p.left >= 0 {
		if p.left -= int64(n); p.left < 0 {
			p.left, p.refuse = 0, true
			p.cuts++
			p.reset()
			p.mu.Unlock()
			return false
		}
	}
	rate, changed := p.rate, p.changed
	p.mu.Unlock()
	if rate > 0 {
		pause := time.NewTimer(time.Duration(n) * time.Second / time.Duration(rate))
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-changed:
		}
	}
	return true
}
