package inference

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// exposed is an error if something listens on the Ollama's port at an address
// that other machines reach.
func (f *Front) exposed(ctx context.Context) error {
	port, err := strconv.ParseUint(f.target.Port(), 10, 16)
	if err != nil {
		return err
	}
	open, read := listeners(f.o.Machine.root(), uint16(port))
	if !read { // no /proc: knock at every address of this machine
		open = knock(ctx, uint16(port))
	}
	if len(open) == 0 {
		return nil
	}
	return problem.New(problem.Denied, "ollama-exposed", fmt.Sprintf("The Ollama's port %d listens on %s, where other machines reach it without any authentication.",
		port, strings.Join(open, ", "))).WithField("inference.ollama").
		WithMend(fmt.Sprintf("Set OLLAMA_HOST=127.0.0.1:%d in its unit (systemctl edit ollama) and restart it.", port))
}

// tcpListen is the state of a listening socket in /proc/net/tcp (TCP_LISTEN,
// include/net/tcp_states.h).
const tcpListen = "0A"

// listeners reads from /proc/net at which addresses that are not loopback
// something listens on a port; read is false where neither table can be read.
func listeners(root string, port uint16) (open []string, read bool) {
	for _, name := range []string{"tcp", "tcp6"} {
		f, err := os.Open(root + "/proc/net/" + name)
		if err != nil {
			continue
		}
		read = true
		open = append(open, parseListeners(f, port)...)
		_ = f.Close()
	}
	slices.Sort(open)
	return slices.Compact(open), read
}

func parseListeners(table io.Reader, port uint16) (open []string) {
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != tcpListen {
			continue
		}
		ip, at, ok := parseEndpoint(fields[1])
		if ok && at == port && !ip.IsLoopback() {
			open = append(open, ip.String())
		}
	}
	return open
}

// parseEndpoint reads ADDRESS:PORT as /proc/net/tcp writes it: the address as
// 32-bit words in the byte order of the machine (little-endian wherever
// Foundry runs), the port as a hexadecimal number.
func parseEndpoint(text string) (net.IP, uint16, bool) {
	address, at, ok := strings.Cut(text, ":")
	raw, err := hex.DecodeString(address)
	port, perr := strconv.ParseUint(at, 16, 16)
	if !ok || err != nil || perr != nil || len(raw) != net.IPv4len && len(raw) != net.IPv6len {
		return nil, 0, false
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	return net.IP(raw), uint16(port), true
}

// knock finds out by connecting.
func knock(ctx context.Context, port uint16) (open []string) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addresses {
		n, ok := a.(*net.IPNet)
		if !ok || n.IP.IsLoopback() || n.IP.IsLinkLocalUnicast() {
			continue
		}
		d := net.Dialer{Timeout: time.Second}
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(n.IP.String(), strconv.Itoa(int(port))))
		if err == nil {
			_ = conn.Close()
			open = append(open, n.IP.String())
		}
	}
	return open
}
