//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/simulator"
)

// runProxy is the reference in Go: what a gateway starts from that must look
// at the body before it knows where a request goes. Arguments: certificate,
// key, then for each pair of upstreams the plain address, the TLS address and
// the upstream's URL.
func runProxy(ctx context.Context, args []string) error {
	if len(args) < 5 || len(args)%3 != 2 {
		return fmt.Errorf("proxy: unexpected arguments %q", args)
	}
	transport := &http.Transport{MaxIdleConns: 512, MaxIdleConnsPerHost: 512, DisableCompression: true}
	failed := make(chan error, len(args))
	for rest := args[2:]; len(rest) > 0; rest = rest[3:] {
		upstream, err := url.Parse(rest[2])
		if err != nil {
			return err
		}
		handler := readFirst(&httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(upstream) }})
		plain, err := net.Listen("tcp", rest[0])
		if err != nil {
			return err
		}
		secure, err := net.Listen("tcp", rest[1])
		if err != nil {
			return err
		}
		server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
		go func() { failed <- server.Serve(plain) }()
		go func() { failed <- server.ServeTLS(secure, args[0], args[1]) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func readFirst(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		next.ServeHTTP(w, r)
	})
}

// runFlushing is an upstream that sends every event of a stream by itself.
func runFlushing(ctx context.Context, address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: flushed(simulator.NewBench(0)), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func flushed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(&eventWriter{w, w.(http.Flusher)}, r) })
}

// eventWriter takes a whole stream and sends it event by event.
type eventWriter struct {
	http.ResponseWriter
	flusher http.Flusher
}

func (w *eventWriter) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		n := bytes.Index(p[done:], []byte("\n\n")) + 2
		if n == 1 {
			n = len(p) - done
		}
		if _, err := w.ResponseWriter.Write(p[done : done+n]); err != nil {
			return done, err
		}
		if done += n; done < len(p) || n < len(p) {
			w.flusher.Flush()
		}
	}
	return len(p), nil
}
