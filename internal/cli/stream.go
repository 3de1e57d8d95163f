package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"github.com/missionopsai/foundry/internal/daemon"
)

// stream asks the node for an answer that may be long, and reads it as it
// comes. Whoever reads must be able to tell that it is whole.
func (a *app) stream(ctx context.Context, method, path string, in any, read func(io.Reader) error) error {
	s, err := a.session()
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(a.dir())
	if err != nil {
		return err
	}
	socket := daemon.SocketPath(abs)
	address, transport := "http://foundry", &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	if s != nil {
		config := &tls.Config{MinVersion: tls.VersionTLS13}
		if s.Authority != "" {
			config.RootCAs = x509.NewCertPool()
			config.RootCAs.AppendCertsFromPEM([]byte(s.Authority))
		}
		address, transport = s.Server, &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment}
	}
	defer transport.CloseIdleConnections()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, address+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if s != nil {
		req.Header.Set("Authorization", "Bearer "+s.Token)
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return unreachable(a.dir(), socket, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			return unreachable(a.dir(), socket, err)
		}
		return decodeProblem(resp, text)
	}
	return read(resp.Body)
}

// progressBar shows on a terminal how far long work is. Elsewhere it shows nothing.
type progressBar struct {
	to    io.Writer
	what  string
	shown time.Time
	on    bool
}

func (a *app) progressBar(what string) *progressBar {
	f, ok := a.err.(interface{ Fd() uintptr })
	return &progressBar{to: a.err, what: what, on: ok && !a.json && term.IsTerminal(int(f.Fd()))}
}

func (b *progressBar) show(done, total int64) {
	if !b.on || time.Since(b.shown) < 100*time.Millisecond {
		return
	}
	b.shown = time.Now()
	if total <= 0 {
		fmt.Fprintf(b.to, "\r\033[K%s %d", b.what, done)
		return
	}
	const width = 30
	full := int(width * min(done, total) / total)
	fmt.Fprintf(b.to, "\r\033[K%s [%-*s] %d %%", b.what, width, "##############################"[:full], 100*done/total)
}

func (b *progressBar) end() {
	if b.on {
		fmt.Fprint(b.to, "\r\033[K")
	}
}
