package daemon

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/problem"
)

const (
	authorityLife  = 10 * 365 * 24 * time.Hour
	leafLife       = 90 * 24 * time.Hour
	authorityLabel = "foundry local authority key v1"
	leafRenewal    = 30 * 24 * time.Hour // before its end
	clockError     = 24 * time.Hour      // by which this clock, or a client's, may be wrong
)

// authority is the local certificate authority, made on first start. Its key
// is sealed with the keyring: whoever copies the data directory without the
// KEK cannot sign.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// AuthorityFile is where the local authority's certificate is, for clients.
func AuthorityFile(dataDir string) string { return filepath.Join(dataDir, "ca", "ca.pem") }

func openAuthority(dataDir string, ring *keys.Keyring, now time.Time) (*authority, error) {
	dir := filepath.Join(dataDir, "ca")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unusable(dir, err)
	}
	certPEM, err := os.ReadFile(AuthorityFile(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return makeAuthority(dataDir, ring, now)
	}
	if err != nil {
		return nil, unusable(AuthorityFile(dataDir), err)
	}
	sealed, err := os.ReadFile(filepath.Join(dir, "ca.key.sealed"))
	if err != nil {
		return nil, unusable(filepath.Join(dir, "ca.key.sealed"), err)
	}
	keyPEM, err := ring.Open(sealed, []byte(authorityLabel))
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.X509KeyPair(certPEM, keyPEM)
	}
	if err != nil {
		return nil, problem.New(problem.Internal, "ca-damaged", "The local certificate authority in "+dir+" is damaged.").
			WithMend("Restore it from a backup, or delete the folder to get a new one that clients must then trust.").Wrap(err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, problem.New(problem.Internal, "ca-damaged", "The local certificate authority's key cannot sign.")
	}
	return &authority{pair.Leaf, signer, certPEM}, nil
}

func makeAuthority(dataDir string, ring *keys.Keyring, now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the authority's key: %w", err)
	}
	host, _ := os.Hostname()
	tpl := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Foundry local authority " + host, Organization: []string{"Foundry"}},
		NotBefore: now.Add(-clockError), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the authority: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("writing the authority's key: %w", err)
	}
	dir := filepath.Join(dataDir, "ca")
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	// The certificate is written last: it is what says that the pair is whole.
	sealed, err := ring.Seal(keyPEM, []byte(authorityLabel))
	if err != nil {
		return nil, fmt.Errorf("sealing the authority's key: %w", err)
	}
	if err := replaceFile(filepath.Join(dir, "ca.key.sealed"), sealed, 0o600); err != nil {
		return nil, err
	}
	if err := replaceFile(AuthorityFile(dataDir), certPEM, 0o644); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert, key, certPEM}, nil
}

// issue makes a server certificate for names and addresses.
func (a *authority) issue(names []string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a server key: %w", err)
	}
	tpl := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: names[0]}, NotBefore: now.Add(-clockError), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tpl.IPAddresses = append(tpl.IPAddresses, ip)
		} else {
			tpl.DNSNames = append(tpl.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("signing a server certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // never fails (crypto/rand)
	}
	return n
}

// certificates serves the certificate of the moment: the authority's, renewed
// in time and kept in memory only, or an operator's own, read again when its
// file changes.
type certificates struct {
	mu      sync.Mutex
	current *tls.Certificate
	changed time.Time
	own     [2]string // certificate and key files; empty: the authority issues
	issuer  *authority
	names   []string
	now     func() time.Time
	log     *slog.Logger
}

func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own[0] != "" {
		return c.reload()
	}
	now := c.now()
	if c.current == nil || now.After(c.current.Leaf.NotAfter.Add(-leafRenewal)) || now.Before(c.current.Leaf.NotBefore.Add(clockError/2)) {
		cert, err := c.issuer.issue(c.names, now)
		if err != nil {
			return nil, err
		}
		c.current = cert
	}
	return c.current, nil
}

// reload reads the operator's files again after they changed. A bad pair is
// logged and the last good one stays in use.
func (c *certificates) reload() (*tls.Certificate, error) {
	info, err := os.Stat(c.own[0])
	if err == nil && c.current != nil && info.ModTime().Equal(c.changed) {
		return c.current, nil
	}
	pair, lerr := tls.LoadX509KeyPair(c.own[0], c.own[1])
	if err != nil || lerr != nil {
		if c.current == nil {
			return nil, problem.New(problem.Invalid, "tls-certificate", "The certificate or its key cannot be used: "+c.own[0]+".").
				WithField("tls.certificate").WithMend("Both must be PEM files that belong together.").Wrap(errors.Join(err, lerr))
		}
		c.log.Error("the new certificate cannot be used; the old one stays", "file", c.own[0], "error", errors.Join(err, lerr))
		return c.current, nil
	}
	c.current, c.changed = &pair, info.ModTime()
	return c.current, nil
}

// serverNames are the names a certificate of the local authority carries.
func serverNames(address string, extra []string) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil && host != "" {
		names = append(names, host)
	}
	if host, _, err := net.SplitHostPort(address); err == nil && host != "" && !net.ParseIP(host).IsUnspecified() {
		names = append(names, host)
	}
	names = append(names, extra...)
	slices.Sort(names[3:])
	return slices.Compact(names)
}

// tlsConfig accepts TLS 1.3 and nothing older (policy section 3; RFC 8446).
// Every TLS 1.3 key exchange has forward secrecy.
func tlsConfig(c *certificates) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: c.get, NextProtos: []string{"h2", "http/1.1"}}
}
