package simulator

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Listen returns an in-process listener and the function that dials it. No
// TCP port is opened and nothing appears in the file system: every dial is a
// connected pair of Unix sockets, so buffers and deadlines are the kernel's.
// Closing the listener makes later dials fail.
func Listen() (l net.Listener, dial func(ctx context.Context) (net.Conn, error)) {
	p := &pairs{accepted: make(chan net.Conn), closed: make(chan struct{})}
	return p, p.dial
}

// pairs hands the far ends of dialled pairs to Accept.
type pairs struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

type address struct{}

func (address) Network() string { return "in-process" }
func (address) String() string  { return "foundry-simulator" }

func (p *pairs) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pairs) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pairs) Addr() net.Addr { return address{} }

func (p *pairs) dial(ctx context.Context) (net.Conn, error) {
	select {
	case <-p.closed:
		return nil, fmt.Errorf("dialling the simulator: %w", net.ErrClosed)
	default:
	}
	near, far, err := pair()
	if err != nil {
		return nil, fmt.Errorf("dialling the simulator: %w", err)
	}
	select {
	case p.accepted <- far:
		return near, nil
	case <-p.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = near.Close()
	_ = far.Close()
	return nil, fmt.Errorf("dialling the simulator: %w", err)
}

// Serve serves s on l with HTTP/1.1 in the background, until the server is
// closed. A request's header must arrive within ten seconds.
func Serve(l net.Listener, s *Simulator) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, Protocols: protocols}
	go func() { _ = server.Serve(l) }() // ends with ErrServerClosed
	return server
}
