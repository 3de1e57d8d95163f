package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/problem"
)

// dir is the data directory that the command is about.
func (a *app) dir() string {
	if a.dataDir != "" {
		return a.dataDir
	}
	return "var"
}

// call asks the node and decodes its answer: as the person who signed in with
// `foundry login`, or else over the local socket as the operating system's
// user.
func (a *app) call(ctx context.Context, method, path string, in, out any) error {
	s, err := a.session()
	if err != nil {
		return err
	}
	if s != nil {
		return a.remote(ctx, s, method, path, in, out)
	}
	return a.local(ctx, method, path, in, out)
}

// local asks the node that runs on the data directory over its socket.
func (a *app) local(ctx context.Context, method, path string, in, out any) error {
	abs, err := filepath.Abs(a.dir())
	if err != nil {
		return err
	}
	socket := daemon.SocketPath(abs)
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	return exchange(ctx, client, method, "http://foundry"+path, os.Getenv("FOUNDRY_EMERGENCY"), in, out, func(err error) error { return unreachable(a.dir(), socket, err) })
}

// remote asks a server over HTTPS in the name of a session.
func (a *app) remote(ctx context.Context, s *savedSession, method, path string, in, out any) error {
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if s.Authority != "" {
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM([]byte(s.Authority))
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment},
		// A token goes to the server it was made for and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return exchange(ctx, client, method, s.Server+path, s.Token, in, out, func(err error) error {
		return problem.New(problem.Unavailable, "server-unreachable", "The server does not answer: "+reason(err)+".").
			WithMend("Check the address " + s.Server + ", the network and, with --ca, the certificate authority.").Wrap(err)
	})
}

func reason(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err.Error()
	}
	return err.Error()
}

// exchange sends one request and decodes the answer.
func exchange(ctx context.Context, client *http.Client, method, address, token string, in, out any, failed func(error) error) error {
	defer client.CloseIdleConnections()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return failed(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, longestAnswer))
	if err != nil {
		return failed(err)
	}
	if resp.StatusCode >= 300 {
		return decodeProblem(resp, text)
	}
	if out == nil || len(text) == 0 {
		return nil
	}
	return json.Unmarshal(text, out)
}

// longestAnswer bounds what a server can make the command read.
const longestAnswer = 256 << 20

func unreachable(dir, socket string, err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return problem.New(problem.Denied, "socket-denied", "This user may not talk to the node: "+socket+".").
			WithMend("Run the command as the user who runs the node, or as root.").Wrap(err)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return problem.New(problem.Unavailable, "node-missing", fmt.Sprintf("No node runs on the data directory %s.", dir)).
			WithMend("Start one with `foundry up`, or name another with --data-dir.").Wrap(err)
	}
	return problem.New(problem.Unavailable, "node-unreachable", "The node does not answer: "+err.Error()+".").
		WithMend("See what `foundry status` and the node's log say.").Wrap(err)
}

// decodeProblem turns problem details back into the error they came from.
func decodeProblem(resp *http.Response, text []byte) error {
	var d struct {
		Type, Detail, Code, Field, Mend, ID string
		Errors                              []struct{ Message, Location string }
	}
	if json.Unmarshal(text, &d) != nil || d.Detail == "" {
		return problem.New(problem.Internal, "answer", fmt.Sprintf("The node answered %s.", resp.Status))
	}
	e := problem.New(problem.KindOf(d.Type, resp.StatusCode), d.Code, d.Detail)
	e.Field, e.Mend, e.ID = d.Field, d.Mend, d.ID
	if len(d.Errors) > 0 { // from validation of the input's shape
		e.Field, e.Detail = d.Errors[0].Location, sentence(d.Errors[0].Message)
	}
	return e
}
