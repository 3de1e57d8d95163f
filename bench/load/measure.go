//go:build linux

package load

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

func clientTLS(o *Options) (*tls.Config, error) {
	if len(o.CA) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(o.CA) {
		return nil, errors.New("the authority is no PEM certificate")
	}
	return &tls.Config{RootCAs: pool, ServerName: o.Name, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}, nil
}

// quantiles sorts its argument.
func quantiles(times []time.Duration) Quantiles {
	if len(times) == 0 {
		return Quantiles{}
	}
	slices.Sort(times)
	at := func(q float64) time.Duration { return times[min(len(times)-1, int(q*float64(len(times))))] }
	return Quantiles{P50: at(0.50), P90: at(0.90), P99: at(0.99), Max: times[len(times)-1]}
}

// used is the processor time of this process so far, in seconds.
func used() float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
