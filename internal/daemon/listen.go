package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/lane"
	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/sys/unix"
)

// server is one listener and what answers on it.
type server struct {
	name     string
	listener net.Listener
	http     *http.Server
	lane     *lane.Server // in front of http where model requests come in; nil elsewhere
}

func (s *server) stop(ctx context.Context) error {
	if s.http == nil {
		return s.listener.Close()
	}
	shutdown, end := s.http.Shutdown, s.http.Close
	if s.lane != nil {
		shutdown, end = s.lane.Shutdown, s.lane.Close
	}
	err := shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return end() // clients that do not even read the error
	}
	return err
}

// listen takes every address before anything slow begins, so that a taken
// port is reported at once.
func (d *Daemon) listen(ctx context.Context) error {
	add := func(name, network, address string) error {
		l, err := (&net.ListenConfig{}).Listen(ctx, network, address)
		if err != nil {
			return taken(name, address, err)
		}
		d.servers = append(d.servers, &server{name: name, listener: l})
		return nil
	}
	if err := add("https", "tcp", d.config.Listen.HTTPS); err != nil {
		return err
	}
	if a := d.config.Listen.HTTP; a != "off" {
		if err := add("http", "tcp", a); err != nil {
			return err
		}
	}
	if a, unixSocket := strings.CutPrefix(d.config.Listen.Proxy, "unix:"); unixSocket {
		if err := d.listenUnix("proxy", a, 0o660); err != nil {
			return err
		}
	} else if a != "" {
		if err := add("proxy", "tcp", a); err != nil {
			return err
		}
	}
	if err := d.listenUnix("local", SocketPath(d.config.DataDir), 0o600); err != nil {
		return err
	}
	return d.lock.describe(holder{PID: os.Getpid(), Since: d.started, URL: d.URL()})
}

// SocketPath is the local socket of the node that runs on a data directory.
func SocketPath(dataDir string) string { return filepath.Join(dataDir, "foundry.sock") }

// listenUnix makes a Unix socket. A file left by a process that was killed is
// removed: the data directory's lock says that nobody uses it.
func (d *Daemon) listenUnix(name, path string, mode fs.FileMode) error {
	if len(path) > 107 { // sun_path of unix(7)
		return problem.New(problem.Invalid, "socket-path", fmt.Sprintf("The path of the socket is longer than the 107 bytes that Linux allows: %s.", path)).
			WithMend("Choose a shorter --data-dir.")
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
		_ = os.Remove(path)
	}
	// The socket is never more open than mode: Linux gives the file the mode that
	// the socket has when it is bound. A umask is the whole process's, and what
	// else is made in that moment would get it too.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), uint32(mode)) })
		return errors.Join(err, failed)
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err == nil {
		err = os.Chmod(path, mode) // what the umask has taken away
	}
	if err != nil {
		return taken(name, path, err)
	}
	d.servers = append(d.servers, &server{name: name, listener: l})
	return nil
}

func taken(name, address string, err error) error {
	e := problem.New(problem.Unavailable, "address-unusable", fmt.Sprintf("Cannot listen on %s: %s.", address, plainReason(err))).Wrap(err)
	flag := map[string]string{"https": "--https", "http": "--http", "proxy": "listen.proxy"}[name]
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		e.Kind, e.Code, e.Detail = problem.Conflict, "address-taken", fmt.Sprintf("The address %s is taken by another process.", address)
		return e.WithMend("Stop that process, or choose another address with " + flag + ".")
	case errors.Is(err, syscall.EACCES):
		return e.WithMend("Ports below 1024 need CAP_NET_BIND_SERVICE; or choose another address with " + flag + ".")
	}
	return e.WithMend("Check the address given with " + flag + ".")
}

func (d *Daemon) httpsAddress() string { return d.Address("https") }

// Address is what a listener (https, http, proxy or local) is bound to; empty
// if there is none of that name.
func (d *Daemon) Address(name string) string {
	for _, s := range d.servers {
		if s.name == name {
			return s.listener.Addr().String()
		}
	}
	return ""
}

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 120 * time.Second
	headerBytes   = 32 << 10
)

// serve starts answering on every listener.
func (d *Daemon) serve() {
	for _, s := range d.servers {
		s.http = &http.Server{ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytes, ErrorLog: quietLog(d.log),
			BaseContext: func(net.Listener) context.Context { return d.serving }}
		s.http.RegisterOnShutdown(d.console.Close) // its event streams would outlast the drain
		l := s.listener
		switch s.name {
		case "https":
			s.http.Handler = d.public(true)
			s.http.TLSConfig = tlsConfig(d.certificates())
		case "http":
			s.http.Handler = d.redirect()
		case "proxy":
			s.http.Handler = d.public(false)
		case "local":
			s.http.Handler = d.local()
			s.http.ConnContext = peerContext
		}
		serve := s.http.Serve
		if s.name == "https" || s.name == "proxy" {
			s.lane = lane.New(s.http)
			serve = s.lane.Serve
		}
		d.running.Go(func() {
			if err := serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
				d.failed <- fmt.Errorf("listening on %s ended: %w", s.name, err)
			}
		})
	}
}
