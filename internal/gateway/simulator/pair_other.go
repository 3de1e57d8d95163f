//go:build !unix

package simulator

import "net"

// pair falls back to an unbuffered pipe where there are no socket pairs.
func pair() (near, far net.Conn, err error) {
	near, far = net.Pipe()
	return near, far, nil
}
