package member

import (
	"context"
	"encoding/pem"
	"os"
	"time"
)

// Material is what another program on this machine needs to take this node's
// place at the end of a connection: a certificate with its key, the authority
// whose nodes it may trust, and the list of those that it may not (PEM).
type Material struct{ Certificate, Key, Authority, Revoked []byte }

// Material reads it from this node's directory. The caller wipes the key.
func (m *Member) Material() (out Material, err error) {
	if out.Certificate, err = os.ReadFile(m.files.path(certFile)); err != nil {
		return out, unusable(m.files.path(certFile), err)
	}
	private, err := m.files.open(keyFile)
	if err != nil {
		return out, err
	}
	defer clear(private)
	list, err := m.files.readRevoked()
	if err != nil {
		return out, err
	}
	out.Key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	out.Revoked = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})
	out.Authority = m.tls.authority.pem
	return out, nil
}

// Alone says whether this node is the only member of its fleet, so that nobody
// else can be chosen for anything.
func (m *Member) Alone() bool {
	return m.etcd() != nil && len(m.etcd().Server.Cluster().Members()) == 1
}

// Renew asks the fleet for more of a lease's time, beside what keeps it: ttl
// counts from when it was asked for. gone: the fleet has ended it.
func (m *Member) Renew(ctx context.Context, l *Lease) (ttl time.Duration, gone bool, err error) {
	r, err := m.client.KeepAliveOnce(ctx, l.id)
	switch {
	case isGone(err):
		return 0, true, nil
	case err != nil:
		return 0, false, worded(err)
	}
	return time.Duration(r.TTL) * time.Second, r.TTL <= 0, nil
}
