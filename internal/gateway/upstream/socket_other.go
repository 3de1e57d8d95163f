//go:build !unix

package upstream

import "syscall"

// watch cannot look at a socket without reading here: a stale connection is
// found when it is used.
type watch struct{ one [1]byte }

func (w *watch) bind() {}

func (w *watch) poll(syscall.RawConn) (readable, broken bool) { return false, false }
