package db

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/problem"
)

// Door is where nodes of the fleet reach a private cluster from outside: over
// TLS 1.3, with certificates on both sides.
type Door struct {
	Listen string // host:port; PostgreSQL's socket is named by the same port
	// Private is a directory, in memory where there is one, that only the
	// server's user reads: the key lies there.
	Private string
	Entry
}

// Entry is who may come in, and by what they are known. It changes while the
// server runs.
type Entry struct {
	Certificate []byte   // of this node, PEM
	Key         []byte   // of it, PEM
	Authority   []byte   // of the fleet, PEM: whose certificates count
	Revoked     []byte   // certificates that count no more, PEM
	Admitted    []string // names of the nodes that may come in: those with a gateway
}

// RemoteRoles are the roles that a gateway on another node takes. The schema is
// changed only where the server runs.
var RemoteRoles = []Role{App, Shipper, Reader, Sequencer}

// doorFiles are where PostgreSQL reads it.
func (d *Door) files(etc string) map[string]string {
	return map[string]string{"ssl_cert_file": filepath.Join(etc, "server.pem"), "ssl_key_file": filepath.Join(d.Private, "server.key"),
		"ssl_ca_file": filepath.Join(etc, "fleet.pem"), "ssl_crl_file": filepath.Join(etc, "revoked.pem")}
}

func (d *Door) settings(l layout) (map[string]string, error) {
	if d == nil {
		return nil, nil
	}
	host, port, err := net.SplitHostPort(d.Listen)
	if err != nil || host == "" {
		return nil, problem.New(problem.Invalid, "database-listen", fmt.Sprintf("%q is no address to listen at.", d.Listen)).WithField("database.listen").WithMend("Write it as 10.0.0.1:8493.")
	}
	s := map[string]string{"listen_addresses": host, "port": port, "ssl": "on", "ssl_min_protocol_version": "TLSv1.3", "ssl_passphrase_command": "",
		"max_connections": "200", // several gateways
		// A gateway that is gone without a word gives its place back.
		"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3", "tcp_user_timeout": "20000",
		"authentication_timeout": "10s"}
	for name, path := range d.files(l.etc) {
		s[name] = path
	}
	return s, nil
}

// hba admits nodes by their certificate, and nobody by anything else.
func (d *Door) hba() string {
	if d == nil {
		return ""
	}
	names := make([]string, len(RemoteRoles))
	for i, r := range RemoteRoles {
		names[i] = string(r)
	}
	return fmt.Sprintf("hostssl %s %s all cert map=fleet\nhost all all all reject\n", databaseName, strings.Join(names, ","))
}

// ident says which certificates may become these roles.
func (e Entry) ident() string {
	var b strings.Builder
	for _, name := range slices.Sorted(slices.Values(e.Admitted)) {
		if !nodeName.MatchString(name) {
			continue // could be read as a pattern
		}
		for _, r := range RemoteRoles {
			fmt.Fprintf(&b, "fleet \"%s\" %s\n", name, r)
		}
	}
	return b.String()
}

// nodeName is what a node may be called.
var nodeName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// place writes certificate, key and lists.
func (d *Door) place(l layout, who account) error {
	if d == nil {
		return nil
	}
	at := d.files(l.etc)
	for name, text := range map[string][]byte{"ssl_cert_file": d.Certificate, "ssl_ca_file": d.Authority, "ssl_crl_file": d.Revoked} {
		if err := replaceFile(at[name], string(text), who.gid); err != nil {
			return err
		}
	}
	return placeKey(at["ssl_key_file"], d.Key, who)
}

// placeKey writes a key that only the server's user may read: PostgreSQL
// refuses any other.
func placeKey(path string, text []byte, who account) error {
	next := path + ".new"
	_ = os.Remove(next)
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fileProblem(path, err)
	}
	_, err = f.Write(text)
	if err == nil && who.switched {
		err = f.Chown(who.uid, who.gid)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return fileProblem(path, err)
	}
	return nil
}

// Admit changes who may come in and with what, while the server runs: renewed
// certificates, nodes that came, and nodes that went, whose sessions end.
func (c *Cluster) Admit(ctx context.Context, e Entry) error {
	if c.o.Door == nil {
		return nil
	}
	c.o.Door.Entry = e
	if err := c.o.Door.place(c.at, c.who); err != nil {
		return err
	}
	if err := c.writeAccess(); err != nil {
		return err
	}
	c.life.signal(syscall.SIGHUP)
	return c.expel(ctx, e.Admitted)
}

// distinguished finds the node's name in what PostgreSQL says of a certificate
// (X509_NAME_oneline: /OU=gateway/CN=node-1).
var distinguished = regexp.MustCompile(`/CN=([^/]+)`)

// expel ends the sessions of nodes that are not admitted (any more). A role may
// end its own sessions.
func (c *Cluster) expel(ctx context.Context, admitted []string) error {
	for _, role := range RemoteRoles {
		if err := c.expelAs(ctx, role, admitted); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) expelAs(ctx context.Context, role Role, admitted []string) error {
	pc, err := c.Config().withDefaults().pool(role)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, pc.ConnConfig)
	if err != nil {
		return unavailable(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	type session struct {
		PID  int32
		Name string
	}
	rows, _ := conn.Query(ctx, `SELECT s.pid, s.client_dn FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE s.client_dn IS NOT NULL AND a.usename = current_user`)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[session])
	if err != nil {
		return fmt.Errorf("listing who is in the database: %w", err)
	}
	for _, s := range all {
		if m := distinguished.FindStringSubmatch(s.Name); m != nil && slices.Contains(admitted, m[1]) {
			continue
		}
		c.log.Warn("a node is not admitted to the database any more: its session ends", "certificate", s.Name)
		if _, err := conn.Exec(ctx, `SELECT pg_terminate_backend($1)`, s.PID); err != nil {
			return fmt.Errorf("ending a session: %w", err)
		}
	}
	return nil
}
