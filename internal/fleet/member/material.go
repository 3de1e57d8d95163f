package member

import (
	"context"
	"encoding/pem"
	"errors"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
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
//
// etcd renews a lease in the memory of its leader, without asking a majority. A
// leader that was cut off, or stopped for a moment, takes itself for the leader
// for up to twice the time of an election, and renews what its successor counts
// from before. So a renewal counts only when a majority answers after it, in the
// term in which it was asked for: who led then led throughout.
func (m *Member) Renew(ctx context.Context, l *Lease) (ttl time.Duration, gone bool, err error) {
	r, err := m.client.KeepAliveOnce(ctx, l.id)
	switch {
	case isGone(err):
		return 0, true, nil
	case err != nil:
		return 0, false, worded(err)
	case r.TTL <= 0:
		return 0, true, nil
	}
	after, err := m.client.Get(ctx, Prefix+"nodes/", clientv3.WithCountOnly()) // linearizable: a majority answers
	if err != nil {
		return 0, false, worded(err)
	}
	if r.RaftTerm == 0 || after.Header.RaftTerm != r.RaftTerm {
		return 0, false, errTermPassed
	}
	return time.Duration(r.TTL) * time.Second, false, nil
}

var errTermPassed = errors.New("the fleet has had another leader since the lease was renewed")
