package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// The sentinels of this package, for errors.Is. ErrTLS and ErrTimeoutConnect
// are also ErrConnect; every ErrTimeout… is also ErrTimeout.
var (
	// ErrTimeout is matched by every timeout of this package.
	ErrTimeout = errors.New("the upstream took too long")
	// ErrConnect means no usable connection could be made. Nothing was sent.
	ErrConnect = errors.New("cannot connect to the upstream")
	// ErrTLS means the TLS handshake failed, which with TLS 1.3 can show (a
	// refused client certificate) only after the request was written.
	ErrTLS = fmt.Errorf("TLS handshake failed: %w", ErrConnect)
	// ErrTimeoutConnect means dialling, the proxy or TLS took longer than Timeouts.Connect.
	ErrTimeoutConnect error = &timeoutSentinel{"timeout while connecting to the upstream", ErrConnect}
	// ErrTimeoutFirstByte means no complete response head arrived in time.
	ErrTimeoutFirstByte error = &timeoutSentinel{"timeout waiting for the upstream's answer to begin", nil}
	// ErrTimeoutBetweenChunks means the body stalled.
	ErrTimeoutBetweenChunks error = &timeoutSentinel{"timeout waiting for more of the upstream's answer", nil}
	// ErrTimeoutTotal means the whole call took longer than Timeouts.Total.
	ErrTimeoutTotal error = &timeoutSentinel{"the upstream call exceeded its total time", nil}
	// ErrProtocol means the upstream sent something that is not acceptable HTTP/1.1.
	ErrProtocol = errors.New("the upstream broke the HTTP protocol")
	// ErrReset means the upstream closed or reset the connection before its answer was complete.
	ErrReset = errors.New("the upstream closed the connection early")
	// ErrOverloaded means too many callers wait for a connection already, or
	// this one waited longer than Timeouts.Queue. Nothing was sent.
	ErrOverloaded = errors.New("too many calls to the upstream are waiting")
	// ErrClosed means the Client was closed. Nothing was sent.
	ErrClosed = errors.New("the upstream client is closed")
	// ErrRequest means the caller's method, path or header cannot be sent safely. Nothing was sent.
	ErrRequest = errors.New("the request cannot be sent")
)

// timeoutSentinel is a sentinel that is also ErrTimeout and, when set, parent.
type timeoutSentinel struct {
	text   string
	parent error
}

func (t *timeoutSentinel) Error() string { return t.text }
func (t *timeoutSentinel) Timeout() bool { return true }
func (t *timeoutSentinel) Is(target error) bool {
	return target == ErrTimeout || (t.parent != nil && target == t.parent)
}

// Error is what Do and Response.Read return when a call fails. Its text holds
// no header and no body byte of the request or the answer.
type Error struct {
	// Kind is one of the package's sentinels, or the context's error.
	Kind error
	// Cause is the error underneath, or nil.
	Cause error
	// Detail says what was found, in the package's own words.
	Detail string

	sent bool
	cut  bool // the body ended early
}

func (e *Error) Error() string {
	text := e.Kind.Error()
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap gives errors.Is and errors.As both the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// Is makes every body that was cut short an io.ErrUnexpectedEOF, also one that
// was cut by a reset.
func (e *Error) Is(target error) bool { return e.cut && target == io.ErrUnexpectedEOF }

// Timeout makes the error a net.Error in spirit.
func (e *Error) Timeout() bool {
	return errors.Is(e.Kind, ErrTimeout) || errors.Is(e.Kind, context.DeadlineExceeded)
}

// Sent tells whether any byte of the request may have reached the upstream.
// False means that a retry elsewhere cannot be billed twice. An error that this
// package did not make is taken as sent; a nil error was sent, too.
func Sent(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return e.sent
	}
	return true
}

func unsent(kind error, detail string, cause error) *Error {
	return &Error{Kind: kind, Detail: detail, Cause: cause}
}
