package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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

// call asks the node's local interface and decodes its answer.
func (a *app) call(ctx context.Context, method, path string, in, out any) error {
	abs, err := filepath.Abs(a.dir())
	if err != nil {
		return err
	}
	socket := daemon.SocketPath(abs)
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://foundry"+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return unreachable(a.dir(), socket, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return unreachable(a.dir(), socket, err)
	}
	if resp.StatusCode >= 400 {
		return decodeProblem(resp, text)
	}
	if out == nil || len(text) == 0 {
		return nil
	}
	return json.Unmarshal(text, out)
}

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
