package inference

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// TLS is a node's own certificate and whom it believes, in memory.
type TLS struct {
	Certificate func() (*tls.Certificate, error)   // asked at every handshake
	Authority   func() *x509.CertPool              // whose certificates count, asked at every handshake
	Verify      func(peer *x509.Certificate) error // refuses what the authority signed and the fleet no longer wants; may be nil

	// Server stands for all of these: the configuration of a listener for nodes
	// of the fleet, asked for at every handshake.
	Server func() *tls.Config
	// Admit has the last word on who is at the other end of a connection that
	// was verified; may be nil.
	Admit func(*tls.ConnectionState) error
}

// set reports whether there is anything.
func (t TLS) set() bool { return t.Server != nil || t.Certificate != nil && t.Authority != nil }

// listener is what a listener shows and believes at this moment.
func (t TLS) listener() (*tls.Config, error) {
	if t.Server != nil {
		if c := t.Server(); c != nil {
			return c.Clone(), nil
		}
		return nil, errors.New("this node is in no fleet")
	}
	cert, err := t.Certificate()
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{*cert}, ClientCAs: t.Authority()}, nil
}

// serverTLS is TLS 1.3 that every client has to show a certificate for.
func serverTLS(c Config, own TLS, log *slog.Logger) (*tls.Config, error) {
	if c.Certificate != "" {
		pair := &Pair{Certificate: c.Certificate, Key: c.Key, Authority: c.ClientCA, Field: "inference", Log: log}
		if err := pair.Check(); err != nil {
			return nil, err
		}
		own = pair.TLS()
	}
	if !own.set() {
		return nil, problem.New(problem.Invalid, "inference-tls", "This node has no certificate for gateways to know it by.").WithField("inference").
			WithMend("Let the node join the fleet, or give inference.certificate, inference.key and inference.client_ca.")
	}
	// Every handshake asks anew: certificates are renewed and nodes removed
	// while this process runs. Without tickets, no connection lives on a
	// certificate that was good earlier.
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		out, err := own.listener()
		if err != nil {
			return nil, err
		}
		if out.ClientCAs == nil { // nil would mean every authority of this machine
			out.ClientCAs = x509.NewCertPool()
		}
		inner := out.VerifyConnection
		out.VerifyConnection = func(s tls.ConnectionState) error {
			if inner != nil {
				if err := inner(s); err != nil {
					return err
				}
			}
			return c.admits(own, &s)
		}
		out.MinVersion, out.ClientAuth, out.SessionTicketsDisabled, out.NextProtos = tls.VersionTLS13, tls.RequireAndVerifyClientCert, true, []string{"http/1.1"}
		return out, nil
	}, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return nil, errors.New("no handshake begins without a configuration of its own")
	}}, nil
}

// admits refuses a verified connection of somebody who may not call.
func (c Config) admits(own TLS, s *tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("no certificate was shown")
	}
	peer := s.PeerCertificates[0]
	if len(c.Clients) > 0 && !named(peer, c.Clients) {
		return errors.New("the certificate has none of the names that may call")
	}
	if own.Verify != nil {
		if err := own.Verify(peer); err != nil {
			return err
		}
	}
	if own.Admit != nil {
		return own.Admit(s)
	}
	return nil
}

func named(c *x509.Certificate, names []string) bool {
	return slices.Contains(names, c.Subject.CommonName) || slices.ContainsFunc(c.DNSNames, func(n string) bool { return slices.Contains(names, n) })
}

// Pair is a certificate, its key and an authority in files. They are read
// again after they changed: certificates are renewed without a restart.
type Pair struct {
	Certificate string
	Key         config.Secret
	Authority   string
	Field       string // of the configuration, for errors
	Log         *slog.Logger

	mu      sync.Mutex
	changed [3]time.Time
	cert    *tls.Certificate
	pool    *x509.CertPool
}

// Check reads the files.
func (p *Pair) Check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.read()
}

// TLS is what the files hold whenever it is asked for.
func (p *Pair) TLS() TLS {
	return TLS{
		Certificate: func() (*tls.Certificate, error) { cert, _, err := p.current(); return cert, err },
		Authority: func() *x509.CertPool {
			_, pool, err := p.current()
			if err != nil {
				return x509.NewCertPool() // nobody
			}
			return pool
		},
	}
}

// current reads the files again if one of them changed. Files that do not
// belong together leave what was read before in force: a renewal writes them
// one after the other.
func (p *Pair) current() (*tls.Certificate, *x509.CertPool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.times() != p.changed || p.cert == nil {
		if err := p.read(); err != nil {
			if p.cert == nil {
				return nil, nil, err
			}
			if p.Log != nil {
				p.Log.Warn("a changed certificate cannot be used; the one before stays", "file", p.Certificate, "error", err)
			}
		}
	}
	return p.cert, p.pool, nil
}

func (p *Pair) times() (out [3]time.Time) {
	key, _ := p.Key.Path(p.Field + ".key")
	for i, path := range [3]string{p.Certificate, key, p.Authority} {
		if info, err := os.Stat(path); err == nil {
			out[i] = info.ModTime()
		}
	}
	return out
}

func (p *Pair) read() error {
	times := p.times()
	bad := func(field, path string, err error) error {
		return problem.New(problem.Invalid, "tls-files", "It cannot be used: "+path+".").WithField(p.Field + "." + field).
			WithMend("Give PEM files; the certificate and its key must belong together.").Wrap(err)
	}
	chain, err := os.ReadFile(p.Certificate)
	if err != nil {
		return bad("certificate", p.Certificate, err)
	}
	key, err := p.Key.Read(p.Field + ".key")
	if err != nil {
		return err
	}
	cert, err := tls.X509KeyPair(chain, []byte(key))
	if err != nil {
		return bad("certificate", p.Certificate, err)
	}
	pem, err := os.ReadFile(p.Authority)
	if err != nil {
		return bad("ca", p.Authority, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return bad("ca", p.Authority, nil)
	}
	p.cert, p.pool, p.changed = &cert, pool, times
	return nil
}
