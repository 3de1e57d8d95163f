package patroni

import (
	"bytes"
	"cmp"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"github.com/missionopsai/foundry/internal/problem"
)

// Secrets are what the members of a cluster, and Foundry, share.
type Secrets struct {
	API         string `json:"api"`         // of [User], over the REST API
	Replication string `json:"replication"` // of the database role replicator
	Rewind      string `json:"rewind"`      // of the database role rewind
}

// NewSecrets makes them.
func NewSecrets() Secrets {
	one := func() string {
		b := make([]byte, 24)
		_, _ = rand.Read(b) // never fails (crypto/rand)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	return Secrets{one(), one(), one()}
}

// Files in the directory of a node's configuration.
const (
	FileConfig      = "patroni.yml"
	FileCertificate = "patroni.pem"
	FileKey         = "patroni.key"
	FileAuthority   = "authority.pem"
	FileOpenSSL     = "openssl.cnf"
)

// OpenSSL has Patroni's REST API, and what it asks others, speak TLS 1.3 and
// nothing older: Patroni 3.0 has no setting of its own for it. It is named by
// the environment variable OPENSSL_CONF.
const OpenSSL = `openssl_conf = foundry
[foundry]
ssl_conf = ssl
[ssl]
system_default = tls
[tls]
MinProtocol = TLSv1.3
`

// Node is one server of a cluster, as it is configured.
type Node struct {
	Name     string   // of the node in the fleet, and of the member in the cluster
	Scope    string   // default [DefaultScope]
	Address  string   // by which other nodes reach this one
	Port     int      // of PostgreSQL; default 5432
	APIPort  int      // default 8008
	Dir      string   // where the files lie
	Data     string   // of PostgreSQL
	Bin      string   // of PostgreSQL; empty: as found in PATH
	Socket   string   // directory; default /var/run/postgresql
	Stores   []string // doors of the fleet's store: host:port
	Networks []string // from where others may sign in; default everywhere
	Secrets  Secrets
}

func (n Node) withDefaults() Node {
	n.Scope, n.Port, n.APIPort, n.Socket = cmp.Or(n.Scope, DefaultScope), cmp.Or(n.Port, 5432), cmp.Or(n.APIPort, 8008), cmp.Or(n.Socket, "/var/run/postgresql")
	if len(n.Networks) == 0 {
		n.Networks = []string{"0.0.0.0/0", "::/0"}
	}
	return n
}

// check reports the first thing that cannot be written.
func (n Node) check() error {
	bad := func(field, what, mend string) error {
		return problem.New(problem.Invalid, "patroni-"+field, what).WithField(field).WithMend(mend)
	}
	for field, dir := range map[string]string{"dir": n.Dir, "data": n.Data, "socket": n.Socket} {
		if !filepath.IsAbs(dir) || strings.ContainsAny(dir, "\"\n") {
			return bad(field, fmt.Sprintf("%q is no absolute path.", dir), "Write it from the root, for example /var/lib/postgresql/15/foundry.")
		}
	}
	switch {
	case !Word(n.Scope):
		return bad("scope", fmt.Sprintf("%q cannot be the name of a cluster.", n.Scope), "Use 1 to 40 lower-case letters, digits and hyphens.")
	case n.Address == "" || strings.ContainsAny(n.Address, "\"/\n ") || net.ParseIP(n.Address) != nil && net.ParseIP(n.Address).IsUnspecified():
		return bad("address", fmt.Sprintf("Other nodes cannot reach %q.", n.Address), "Give the address or host name of this node: --address 10.0.0.1.")
	case len(n.Stores) == 0:
		return bad("stores", "No node of the fleet opens the door of its store for Patroni.", "Write database: {patroni: {}} into the configuration of the nodes with the role fleet, and restart them.")
	case n.Port < 1 || n.Port > 65535 || n.APIPort < 1 || n.APIPort > 65535 || n.Port == n.APIPort:
		return bad("port", "The ports of PostgreSQL and of the REST API are two different ones from 1 to 65535.", "Leave them out for 5432 and 8008.")
	}
	for _, c := range n.Networks {
		if _, _, err := net.ParseCIDR(c); err != nil {
			return bad("networks", fmt.Sprintf("%q is no network.", c), "Write it as 10.0.0.0/24.")
		}
	}
	return nil
}

// Word says whether something can be the name of a cluster.
func Word(s string) bool {
	ok := s != "" && len(s) <= 40 && s[0] != '-'
	for _, c := range s {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	return ok
}

//go:embed patroni.yml.tmpl
var configText string

var configTemplate = template.Must(template.New("patroni.yml").Funcs(template.FuncMap{
	// A string of JSON is one of YAML (YAML 1.2, 1.3).
	"q": func(v any) (string, error) {
		b, err := json.Marshal(v)
		return string(b), err
	},
	"at":   func(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) },
	"file": filepath.Join,
}).Parse(configText))

// Config is the text of patroni.yml.
func (n Node) Config() ([]byte, error) {
	n = n.withDefaults()
	if err := n.check(); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err := configTemplate.Execute(&out, n)
	return out.Bytes(), err
}
