// Package inferencetest makes what tests of an inference node need.
package inferencetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Certificates writes an authority and, for each name, a certificate of it
// with its key into a directory: authority.pem, NAME.pem and NAME.key. They
// are good for a day, at both ends of a connection over loopback.
func Certificates(t testing.TB, dir string, names ...string) {
	t.Helper()
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var authority *x509.Certificate
	var signer *ecdsa.PrivateKey
	for i, name := range append([]string{"authority"}, names...) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
		if i == 0 {
			c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage, authority, signer = true, true, x509.KeyUsageCertSign, nil, c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, authority, key.Public(), signer)
		if err == nil && i == 0 {
			authority, err = x509.ParseCertificate(der)
		}
		if err != nil {
			t.Fatal(err)
		}
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".pem", "CERTIFICATE", der)
		write(name+".key", "PRIVATE KEY", secret)
	}
}
