package simulator

import (
	"context"
	"net"
	"net/http"
)

// Listen returns an in-process listener and the function that dials it. No
// TCP port is opened; deadlines work on both ends.
func Listen() (l net.Listener, dial func(ctx context.Context) (net.Conn, error)) { return nil, nil }

// Serve serves s on l with HTTP/1.1 in the background. Close the server to stop.
func Serve(l net.Listener, s *Simulator) *http.Server { return &http.Server{Handler: s} }
