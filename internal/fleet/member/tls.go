package member

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"

	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/sys/unix"
)

// tlsFiles is this node's certificate, its key, and what it refuses.
//
// etcd reads certificate and key from files at every handshake. The key lies
// sealed on the disk, so the files that etcd is given are in memory
// (memfd_create(2)) and gone with the process.
type tlsFiles struct {
	authority *authority
	pair      atomic.Pointer[tls.Certificate]
	revoked   atomic.Pointer[map[string]bool]
	memory    *os.File // certificate and key, PEM
	crl       string   // the path of the list
}

func openTLS(f *files, a *authority) (*tlsFiles, error) {
	fd, err := unix.MemfdCreate("foundry-fleet", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a file in memory: %w", err)
	}
	t := &tlsFiles{authority: a, memory: os.NewFile(uintptr(fd), "foundry-fleet"), crl: f.path(revokedFile)}
	if err := t.load(f); err != nil {
		return nil, errors.Join(err, t.memory.Close())
	}
	der, err := os.ReadFile(t.crl)
	if err != nil {
		return nil, errors.Join(unusable(t.crl, err), t.memory.Close())
	}
	return t, t.refuse(der)
}

// load reads the node's certificate and key from its directory.
func (t *tlsFiles) load(f *files) error {
	certPEM, err := os.ReadFile(f.path(certFile))
	if err != nil {
		return unusable(f.path(certFile), err)
	}
	private, err := f.open(keyFile)
	if err != nil {
		return err
	}
	defer clear(private)
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	defer clear(keyPEM)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return problem.New(problem.Internal, "fleet-certificate", "The node's certificate and its key do not belong together.").WithMend("Restore the folder fleet from the backup.").Wrap(err)
	}
	both := slices.Concat(certPEM, keyPEM)
	defer clear(both)
	if err := t.memory.Truncate(0); err != nil {
		return err
	}
	if _, err := t.memory.WriteAt(both, 0); err != nil {
		return err
	}
	t.pair.Store(&pair)
	return nil
}

// path is where etcd reads certificate and key.
func (t *tlsFiles) path() string { return fmt.Sprintf("/proc/self/fd/%d", t.memory.Fd()) }

// refuse takes a new list of revoked certificates.
func (t *tlsFiles) refuse(der []byte) error {
	list, err := t.authority.revoked(der)
	if err != nil {
		return err
	}
	t.revoked.Store(&list)
	return nil
}

func (t *tlsFiles) leaf() *x509.Certificate { return t.pair.Load().Leaf }

var errRevoked = problem.New(problem.Denied, "node-removed", "This node was removed from the fleet: its certificate no longer counts.").
	WithMend("Invite it again with `foundry node invite`, and join from an empty directory.")

// verify refuses who is no node of the fleet, though its authority knows it,
// and who was removed. It runs after the chain was verified.
func (t *tlsFiles) verify(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) > 0 {
		if _, _, ok := holder(cs.PeerCertificates[0]); !ok {
			return errNoNode
		}
	}
	return t.unrevoked(cs)
}

var errNoNode = problem.New(problem.Denied, "node-only", "Whoever shows this certificate is no node of the fleet.").
	WithMend("A program beside a node uses the door that was made for it.")

// unrevoked refuses who was removed.
func (t *tlsFiles) unrevoked(cs tls.ConnectionState) error {
	for _, c := range cs.PeerCertificates {
		if (*t.revoked.Load())[c.SerialNumber.Text(16)] {
			return errRevoked
		}
	}
	return nil
}

func (t *tlsFiles) server(auth tls.ClientAuthType) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: auth, ClientCAs: t.authority.pool(), VerifyConnection: t.verify,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return t.chain(), nil },
	}
}

func (t *tlsFiles) dial(serverName string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: t.authority.pool(), ServerName: serverName, VerifyConnection: t.verify,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.pair.Load(), nil },
	}
}

// chain is the certificate with its authority, which a node that joins sees
// for the first time and compares with the pinned fingerprint.
func (t *tlsFiles) chain() *tls.Certificate {
	p := *t.pair.Load()
	p.Certificate = [][]byte{p.Leaf.Raw, t.authority.cert.Raw}
	return &p
}

// ServerTLS is for a listener that answers nodes of the fleet and nobody
// else: TLS 1.3, with a certificate on both sides, and not of a removed node.
func (m *Member) ServerTLS() *tls.Config { return m.tls.server(tls.RequireAndVerifyClientCert) }

// ClientTLS is for reaching one node of the fleet and no other.
func (m *Member) ClientTLS(node string) *tls.Config { return m.tls.dial(node + nameSuffix) }

// Peer says which node is at the other end of a connection made with
// [Member.ServerTLS] or [Member.ClientTLS].
func Peer(cs *tls.ConnectionState) (name string, roles []Role, ok bool) {
	if cs == nil || len(cs.VerifiedChains) == 0 {
		return "", nil, false
	}
	return holder(cs.PeerCertificates[0])
}

// newKey makes the key of a node and returns it as PKCS #8 too.
func newKey() (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making the node's key: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("writing the node's key: %w", err)
	}
	return key, private, nil
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// pair reads the node's certificate with its key.
func (f *files) pair(private []byte) (tls.Certificate, error) {
	text, err := os.ReadFile(f.path(certFile))
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	defer clear(keyPEM)
	return tls.X509KeyPair(text, keyPEM)
}

func publicOf(private []byte) (crypto.PublicKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("reading the node's key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the node's key cannot sign")
	}
	return signer.Public(), nil
}

const (
	nextKeyFile  = "node.key.sealed.next"
	nextCertFile = "node.pem.next"
)

// replacePair takes a new key and its certificate. They are two files: both
// lie there under other names first, and a node that died between the two
// renames finishes at its next start.
func (f *files) replacePair(private, cert []byte) error {
	sealed, err := f.ring.Seal(private, label(keyFile))
	if err != nil {
		return fmt.Errorf("sealing the node's new key: %w", err)
	}
	if err := replaceFile(f.path(nextKeyFile), sealed); err != nil {
		return err
	}
	if err := replaceFile(f.path(nextCertFile), cert); err != nil {
		return err
	}
	return f.finishPair()
}

// finishPair ends a replacement of key and certificate that was begun.
func (f *files) finishPair() error {
	if _, err := os.Stat(f.path(nextCertFile)); err != nil {
		_ = os.Remove(f.path(nextKeyFile)) // begun, and nothing was promised yet
		return nil
	}
	if _, err := os.Stat(f.path(nextKeyFile)); err == nil {
		if err := os.Rename(f.path(nextKeyFile), f.path(keyFile)); err != nil {
			return unusable(f.path(keyFile), err)
		}
	}
	if err := os.Rename(f.path(nextCertFile), f.path(certFile)); err != nil {
		return unusable(f.path(certFile), err)
	}
	return durable.SyncDir(f.dir)
}
