package mirror

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// shared is address space that providers share among customers (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// reachable says whether a server may be asked at an address. Where clouds
// keep the machine's own credentials (169.254.0.0/16, fe80::/10) never is.
func reachable(a netip.Addr, private bool) bool {
	a = a.Unmap()
	switch {
	case !a.IsValid(), a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast(), a == netip.MustParseAddr("fd00:ec2::254"):
		return false
	case a.IsLoopback(), a.IsPrivate(), shared.Contains(a):
		return private
	}
	return a.IsGlobalUnicast()
}

// resolve finds an address for a host that may be asked, so that Git can be
// told to ask there and nowhere else: a name may lead elsewhere a moment later.
func resolve(ctx context.Context, host string, private bool) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, problem.New(problem.Unavailable, "mirror-gone", "The server "+host+" has no address.").
			WithField("url").WithMend("Check the name, and this machine's resolver; the next run tries again.").WithRetry(time.Minute).Wrap(err)
	}
	for _, a := range addresses {
		if reachable(a, private) {
			return a.Unmap(), nil
		}
	}
	return netip.Addr{}, forbidden(host)
}

func forbidden(host string) error {
	return problem.New(problem.Denied, "mirror-address", "The server "+host+" stands in a private network or on this machine. It was not asked.").
		WithField("url").WithMend("If that is meant, set private: true.")
}

var errForbidden = errors.New("address not allowed")

// dialer refuses, at the moment of connecting, every address that may not be asked.
func dialer(private bool) *net.Dialer {
	return &net.Dialer{Timeout: 20 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || !reachable(at.Addr(), private) {
			return errForbidden
		}
		return nil
	}}
}
