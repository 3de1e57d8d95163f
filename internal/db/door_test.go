package db_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

// authorityOfTests is a fleet's authority, as far as PostgreSQL sees of it.
type authorityOfTests struct {
	t      *testing.T
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newAuthority(t *testing.T) *authorityOfTests {
	a := &authorityOfTests{t: t, serial: 1}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fleet"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, _ = x509.ParseCertificate(der)
	return a
}

func (a *authorityOfTests) issue(name string) tls.Certificate {
	a.serial++
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name},
		DNSNames: []string{name + ".test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *authorityOfTests) revoked(serials ...*big.Int) []byte {
	list := &x509.RevocationList{Number: big.NewInt(a.serial), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func pemOf(c tls.Certificate) (cert, key []byte) {
	private, _ := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

// Only a gateway's certificate, of this fleet and not revoked, becomes the
// roles that gateways use, and no other role.
func TestOnlyGatewaysOfTheFleetComeInFromOutside(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	server, gateway, removed := ours.issue("node-1"), ours.issue("node-2"), ours.issue("node-3")
	cert, key := pemOf(server)
	port := freePort(t)
	entry := db.Entry{Certificate: cert, Key: key, Authority: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ours.cert.Raw}), Revoked: ours.revoked(), Admitted: []string{"node-2", "node-3"}}
	o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
	o.Door = &db.Door{Listen: net.JoinHostPort("127.0.0.1", port), Private: filepath.Join(o.Dir, "run"), Entry: entry}
	c := start(t, o)
	t.Cleanup(func() { stop(t, c) })
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	dial := func(role string, encrypt *tls.Config) (*pgx.Conn, error) {
		cc, err := pgx.ParseConfig("host=127.0.0.1 port=" + port + " dbname=foundry sslmode=disable user=" + role)
		if err != nil {
			t.Fatal(err)
		}
		cc.TLSConfig = encrypt
		return pgx.ConnectConfig(t.Context(), cc)
	}
	as := func(c ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: pool, ServerName: "node-1.test", Certificates: c, MinVersion: tls.VersionTLS12}
	}
	for _, role := range db.RemoteRoles {
		conn, err := dial(string(role), as(gateway))
		if err != nil {
			t.Fatalf("%s: %v", role, err)
		}
		_ = conn.Close(t.Context())
	}
	old := as(gateway)
	old.MaxVersion = tls.VersionTLS12
	for name, try := range map[string]struct {
		role string
		by   *tls.Config
	}{
		"the migrator":              {"foundry_migrator", as(gateway)},
		"who backs up":              {"foundry_backup", as(gateway)},
		"the superuser":             {"foundry_bootstrap", as(gateway)},
		"a witness":                 {"foundry_app", as(ours.issue("witness"))},
		"another fleet's node":      {"foundry_app", as(others.issue("node-2"))},
		"nobody's certificate":      {"foundry_app", as()},
		"no encryption":             {"foundry_app", nil},
		"TLS 1.2":                   {"foundry_app", old},
		"a name that is a pattern":  {"foundry_app", as(ours.issue("/.*"))},
		"a name that begins theirs": {"foundry_app", as(ours.issue("node-22"))},
	} {
		if conn, err := dial(try.role, try.by); err == nil {
			t.Errorf("%s came in", name)
			_ = conn.Close(t.Context())
		}
	}
	// A node that is removed: its session ends, and there is no other.
	inside, err := dial("foundry_app", as(removed))
	if err != nil {
		t.Fatal(err)
	}
	entry.Revoked, entry.Admitted = ours.revoked(removed.Leaf.SerialNumber), []string{"node-2"}
	if err := c.Admit(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	if _, err := inside.Exec(t.Context(), "select 1"); err == nil {
		t.Error("the session of a removed node goes on")
	}
	for end := time.Now().Add(time.Minute); ; {
		conn, err := dial("foundry_app", as(removed))
		if err != nil {
			break
		}
		_ = conn.Close(t.Context())
		if time.Now().After(end) {
			t.Fatal("a removed node still comes in")
		}
		<-time.After(50 * time.Millisecond)
	}
	if n, err := strconv.Atoi(c.Port()); err != nil || strconv.Itoa(n) != port {
		t.Errorf("port %q", c.Port())
	}
	if conn, err := dial("foundry_app", as(gateway)); err != nil {
		t.Errorf("the gateway that stays is refused: %v", err)
	} else {
		_ = conn.Close(t.Context())
	}
}

// A database of a lower epoch than the gateway has heard of is refused, and the
// gateway goes to the other within the next heartbeat when it is told to turn.
func TestAFormerPrimaryIsRefusedAndTheNewOneFound(t *testing.T) {
	cfg := dbtest.Config(t)
	if err := db.TakeEpoch(t.Context(), cfg, 3, "node-1"); err != nil {
		t.Fatal(err)
	}
	if err := db.TakeEpoch(t.Context(), cfg, 2, "node-1"); err == nil {
		t.Error("an epoch below the database's own was taken")
	}
	cfg.Epochs = &db.Epochs{}
	cfg.Epochs.Raise(4)
	d, err := db.Open(t.Context(), cfg, dbtest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	if d.Healthy() {
		t.Fatal("a former primary is used")
	}
	base := cfg
	base.Epochs = nil
	if err := db.TakeEpoch(t.Context(), base, 4, "node-1"); err != nil {
		t.Fatal(err)
	}
	d.Turn()
	if err := d.WaitHealthy(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg.Epochs.Raise(5)
	d.Turn()
	for end := time.Now().Add(time.Minute); d.Healthy(); {
		if time.Now().After(end) {
			t.Fatal("it is still used after it had a successor")
		}
		<-time.After(10 * time.Millisecond)
	}
}
