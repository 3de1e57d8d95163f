package member

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	certLife      = 90 * 24 * time.Hour
	clockError    = 24 * time.Hour // by which another node's clock may be wrong
	revokedLife   = 10 * 365 * 24 * time.Hour
)

// Names in certificates. A member proves that it may vote, any node that it
// belongs to the fleet, and each who it is.
const (
	memberName = "member.fleet.foundry"
	nodeName   = "node.fleet.foundry"
	nameSuffix = ".node.fleet.foundry"
)

// authority is the fleet's own certificate authority. Nodes with the role
// fleet hold its key; to all others it is a certificate to trust.
type authority struct {
	cert *x509.Certificate
	pem  []byte
	key  crypto.Signer // nil: this node cannot sign
	life time.Duration // of the certificates of nodes; 0: certLife
}

func (a *authority) lasts() time.Duration { return cmp.Or(a.life, certLife) }

// renewal is how long before its end a certificate is renewed: a third of its
// life, which is at 60 of 90 days.
func (a *authority) renewal() time.Duration { return a.lasts() / 3 }

func makeAuthority(fleet string, now time.Time) (*authority, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making the fleet authority's key: %w", err)
	}
	tpl := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Foundry fleet " + fleet, Organization: []string{"Foundry"}},
		NotBefore: now.Add(-clockError), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("signing the fleet's authority: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("writing the fleet authority's key: %w", err)
	}
	a, err := readAuthority(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), private)
	return a, private, err
}

// readAuthority reads the certificate and, where there is one, the key (PKCS #8).
func readAuthority(certPEM, private []byte) (*authority, error) {
	block, _ := pem.Decode(certPEM)
	if block == nil {
		return nil, problem.New(problem.Internal, "fleet-authority", "The certificate of the fleet's authority is damaged.").WithMend("Restore the folder fleet from the backup.")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the fleet's authority: %w", err)
	}
	a := &authority{cert: cert, pem: certPEM}
	if private == nil {
		return a, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("reading the fleet authority's key: %w", err)
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok || !signer.PublicKey.Equal(cert.PublicKey) {
		return nil, problem.New(problem.Internal, "fleet-authority", "The key of the fleet's authority does not belong to its certificate.").WithMend("Restore the folder fleet from the backup.")
	}
	a.key = signer
	return a, nil
}

// fingerprint is what an invitation pins.
func (a *authority) fingerprint() [sha256.Size]byte { return sha256.Sum256(a.cert.Raw) }

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// tagKey authenticates invitations, so that a forged one dies without a look-up.
func (a *authority) tagKey() ([]byte, error) {
	k, ok := a.key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, cannotSign()
	}
	scalar, err := k.Bytes()
	if err != nil {
		return nil, err
	}
	defer clear(scalar)
	return hkdf.Key(sha256.New, scalar, nil, "foundry fleet invitation tag", sha256.Size)
}

func cannotSign() error {
	return problem.New(problem.Unsupported, "fleet-no-authority", "This node does not hold the key of the fleet's authority.").
		WithMend("Ask a node with the role fleet.")
}

// issue makes the certificate of a node for its public key.
func (a *authority) issue(name string, roles []Role, public crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	if a.key == nil {
		return nil, cannotSign()
	}
	names := []string{nodeName, name + nameSuffix}
	if Votes(roles) {
		names = append(names, memberName)
	}
	units := make([]string, len(roles))
	for i, r := range roles {
		units[i] = string(r)
	}
	slices.Sort(units)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name, OrganizationalUnit: units}, DNSNames: names,
		NotBefore: now.Add(-clockError), NotAfter: now.Add(a.lasts()), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %s: %w", name, err)
	}
	return x509.ParseCertificate(der)
}

// revoke signs the list of certificates that no longer count (RFC 5280,
// section 5).
func (a *authority) revoke(number int64, issued []Issued, now time.Time) ([]byte, error) {
	if a.key == nil {
		return nil, cannotSign()
	}
	tpl := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: now.Add(-clockError), NextUpdate: now.Add(revokedLife)}
	for _, i := range issued {
		n, ok := new(big.Int).SetString(i.Serial, 16)
		if !ok {
			return nil, fmt.Errorf("%q is not the serial number of a certificate", i.Serial)
		}
		tpl.RevokedCertificateEntries = append(tpl.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: now})
	}
	der, err := x509.CreateRevocationList(rand.Reader, tpl, a.cert, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing the fleet's list of revoked certificates: %w", err)
	}
	return der, nil
}

// revoked checks a list and reads its serial numbers.
func (a *authority) revoked(der []byte) (map[string]bool, error) {
	list, err := x509.ParseRevocationList(der)
	if err == nil {
		err = list.CheckSignatureFrom(a.cert)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the fleet's list of revoked certificates: %w", err)
	}
	out := map[string]bool{}
	for _, e := range list.RevokedCertificateEntries {
		out[e.SerialNumber.Text(16)] = true
	}
	return out, nil
}

func issuedAs(c *x509.Certificate) Issued { return Issued{c.SerialNumber.Text(16), c.NotAfter.UTC()} }

// holder reads who a certificate of the fleet is for.
func holder(c *x509.Certificate) (name string, roles []Role, ok bool) {
	if !slices.Contains(c.DNSNames, nodeName) || !slices.Contains(c.DNSNames, c.Subject.CommonName+nameSuffix) {
		return "", nil, false
	}
	for _, u := range c.Subject.OrganizationalUnit {
		roles = append(roles, Role(u))
	}
	return c.Subject.CommonName, roles, true
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // never fails (crypto/rand)
	}
	return n
}

// CheckName says whether a node may be called so: as a plan may call it, and
// as a certificate can carry it (RFC 1123).
func CheckName(name string) error {
	ok := name != "" && len(name) <= 40 && !strings.HasPrefix(name, "-") && !strings.HasSuffix(name, "-")
	for _, c := range name {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return problem.New(problem.Invalid, "node-name", fmt.Sprintf("%q cannot be the name of a node.", name)).WithField("name").
			WithMend("Use 1 to 40 lower-case letters, digits and hyphens, for example node-2.")
	}
	return nil
}

// CheckRoles says whether a node may have these roles.
func CheckRoles(roles []Role) error {
	if len(roles) == 0 {
		return problem.New(problem.Invalid, "node-roles", "A node has at least one role.").WithField("roles").WithMend("Choose of gateway, fleet, database, inference and witness.")
	}
	for _, r := range roles {
		if !slices.Contains([]Role{Gateway, Fleet, Inference, Witness, Database}, r) {
			return problem.New(problem.Invalid, "node-roles", fmt.Sprintf("%q is not a role.", r)).WithField("roles").WithMend("Choose of gateway, fleet, database, inference and witness.")
		}
	}
	if slices.Contains(roles, Witness) && len(slices.Compact(slices.Sorted(slices.Values(roles)))) > 1 {
		return problem.New(problem.Invalid, "witness-alone", "A witness is nothing else: it holds no material to recover with.").WithField("roles").
			WithMend("Give it the role witness alone, or the role fleet.")
	}
	return nil
}
