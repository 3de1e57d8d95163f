package upstream

import (
	"net"

	"golang.org/x/sys/unix"
)

// unacknowledged tells whether it is certain that the peer's kernel had taken
// nothing beyond the first before bytes written to this socket when the segment
// that ended the connection left the peer. Only meaningful after a clean end
// (FIN or a close_notify alert), whose segment carries the acknowledgement as of
// then. A reset proves nothing: data may have been read and not acknowledged yet.
//
// The kernel counts the SYN as one byte. Earlier requests were answered, so
// their bytes were acknowledged: any other count (a kernel or sandbox that does
// not keep it) is no proof.
func (cn *conn) unacknowledged(before int64) bool {
	if _, ok := cn.m.Conn.(*net.TCPConn); !ok || cn.socket == nil || before == 0 {
		return false
	}
	var info *unix.TCPInfo
	var err error
	if cn.socket.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}) != nil || err != nil {
		return false
	}
	return info.Bytes_acked == uint64(before)+1
}
