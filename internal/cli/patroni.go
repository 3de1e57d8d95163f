package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/continuity/patroni"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func (a *app) patroni() *cobra.Command {
	return group("patroni", "Work with a database that Patroni keeps", a.patroniStatus(), a.patroniConfig(), a.patroniEnforce(), a.patroniReinitialise())
}

func (a *app) patroniStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show who leads, who has everything, and which promises the cluster keeps", Args: exactly(),
		Long: `Looks at the cluster's store and at every member's REST API. The command fails
with exit code 69 while a promise is not kept.`,
		Example: "  foundry database patroni status\n  foundry database patroni status --json | jq '.findings[] | select(.ok | not)'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s patroni.Status
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/database/patroni", nil, &s); err != nil {
				return err
			}
			return a.showPatroni(s)
		},
	}
}

func (a *app) showPatroni(s patroni.Status) error {
	err := a.print(s, func(w io.Writer) {
		if s.Stale != "" {
			fmt.Fprintf(w, "! %s\n  What follows is of %s.\n\n", s.Stale, s.At.Local().Format(time.DateTime))
		}
		fmt.Fprintf(w, "%s\n\n", s.Words)
		if len(s.Members) > 0 {
			fmt.Fprintln(w, "MEMBER\tROLE\tSTATE\tTIMELINE\tBEHIND\tADDRESS")
			for _, m := range s.Members {
				behind := "-"
				if m.Lag != nil {
					behind = fmt.Sprintf("%d bytes", *m.Lag)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s:%d\n", m.Name, m.Role, m.State, m.Timeline, behind, m.Host, m.Port)
			}
			fmt.Fprintln(w)
		}
		for _, f := range s.Findings {
			fmt.Fprintf(w, "%s\t%s\n", map[bool]string{true: "ok", false: "NO"}[f.OK], strings.TrimSpace(f.Words+" "+f.Mend))
		}
		for _, n := range s.NotSeen {
			fmt.Fprintf(w, "not looked at\t%s\n", n)
		}
	})
	for _, f := range s.Findings {
		if err == nil && !f.OK {
			return standingError{problem.Unavailable.Exit()}
		}
	}
	return err
}

func (a *app) patroniEnforce() *cobra.Command {
	return &cobra.Command{
		Use: "enforce", Short: "Have the cluster lose nothing that was acknowledged", Args: exactly(),
		Long: `Sets, over Patroni's REST API: synchronous_mode and synchronous_mode_strict, so
that a write is acknowledged when a standby has it and never without one, and
failsafe_mode, so that the leader goes on when the fleet's store is away.
Without a standby in step, writes wait from then on.`,
		Example: "  foundry database patroni enforce",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s patroni.Status
			if err := a.call(cmd.Context(), http.MethodPut, "/api/v1/database/patroni/strict", nil, &s); err != nil {
				return err
			}
			return a.showPatroni(s)
		},
	}
}

func (a *app) patroniReinitialise() *cobra.Command {
	return &cobra.Command{
		Use: "reinitialise NODE", Short: "Have a member throw its data away and copy the leader's", Args: exactly("NODE"),
		Long: `For a member that does not come back by itself: a leader that was replaced
follows the new one again without help, where what it wrote can be rewound. What
only this member has is lost: keep it first, if it may be evidence. A leader
copies nothing.`,
		Example: "  foundry database patroni reinitialise node-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/database/patroni/nodes/"+url.PathEscape(args[0])+"/reinitialise", nil, nil); err != nil {
				return err
			}
			return a.print(map[string]string{"node": args[0], "state": "asked"}, func(w io.Writer) {
				fmt.Fprintf(w, "%s copies the leader's data. `foundry database patroni status` shows when it follows.\n", args[0])
			})
		},
	}
}

func (a *app) patroniConfig() *cobra.Command {
	var node, dir string
	n := api.PatroniNode{}
	c := &cobra.Command{
		Use: "config", Short: "Write the configuration of Patroni for a node", Args: exactly(),
		Long: `Writes patroni.yml, a key with a certificate of the fleet, and the settings of
TLS into a directory of the node that you are on. The fleet's own store is
Patroni's too, through a door that opens the keys of its cluster and nothing
else. Synchronous mode is strict and failsafe mode is on; passwords are scram;
everything between machines is TLS 1.3; the superuser signs in on the machine
only. The key does not leave it. The certificate counts for 90 days: run the
command again before, and reload Patroni.

The files belong to whoever runs Patroni: chown them.`,
		Example: "  foundry database patroni config --node node-1 --address 10.0.0.1 --dir /etc/patroni\n  chown -R postgres: /etc/patroni",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if node == "" || n.Address == "" {
				return problem.New(problem.Invalid, "patroni-node", "Say which node it is for, and by which address others reach it.").WithField("node").WithMend("For example: --node node-1 --address 10.0.0.1.")
			}
			for _, p := range []*string{&dir, &n.Data} {
				at, err := filepath.Abs(*p)
				if err != nil {
					return err
				}
				*p = at
			}
			n.Dir = dir
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				return err
			}
			if n.Key, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
				return err
			}
			private, err := x509.MarshalPKCS8PrivateKey(key)
			if err != nil {
				return err
			}
			var out patroni.Configured
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/database/patroni/nodes/"+url.PathEscape(node), n, &out); err != nil {
				return err
			}
			if err := writePatroni(dir, out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})); err != nil {
				return err
			}
			config := filepath.Join(dir, patroni.FileConfig)
			return a.print(map[string]string{"node": node, "config": config, "openssl": filepath.Join(dir, patroni.FileOpenSSL)}, func(w io.Writer) {
				fmt.Fprintf(w, "Written: %s, with its key, certificates and %s.\n\n  chown -R postgres: %s\n  OPENSSL_CONF=%s patroni %s\n", config, patroni.FileOpenSSL, dir, filepath.Join(dir, patroni.FileOpenSSL), config)
			})
		},
	}
	c.Flags().StringVar(&node, "node", "", "name of the node in the fleet")
	c.Flags().StringVar(&n.Address, "address", "", "address or host name by which other nodes reach it")
	c.Flags().StringVar(&dir, "dir", "/etc/patroni", "where the files are written")
	c.Flags().StringVar(&n.Data, "data", "/var/lib/postgresql/foundry", "where PostgreSQL's data will lie")
	c.Flags().StringVar(&n.Bin, "bin", "", "where PostgreSQL's programs are (default: as found in PATH)")
	c.Flags().StringVar(&n.Socket, "socket", "", "directory of PostgreSQL's socket (default /var/run/postgresql)")
	c.Flags().IntVar(&n.Port, "port", 0, "port of PostgreSQL (default 5432)")
	c.Flags().IntVar(&n.APIPort, "api-port", 0, "port of the REST API (default 8008)")
	c.Flags().StringSliceVar(&n.Networks, "network", nil, "from where others may sign in, for example 10.0.0.0/24 (default: everywhere)")
	return c
}

// writePatroni writes the files so that their owner alone can read them. The
// key and its certificate go together: the key is first, as whoever reloads
// reads both.
func writePatroni(dir string, c patroni.Configured, key []byte) error {
	unwritable := func(err error) error {
		return problem.New(problem.Denied, "patroni-dir", fmt.Sprintf("Nothing can be written into %s.", dir)).WithField("dir").WithMend("Name another directory with --dir, or run this as its owner.").Wrap(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return unwritable(err)
	}
	for _, f := range []struct {
		name string
		text []byte
	}{{patroni.FileKey, key}, {patroni.FileCertificate, []byte(c.Certificate)}, {patroni.FileAuthority, []byte(c.Authority)}, {patroni.FileOpenSSL, []byte(c.OpenSSL)}, {patroni.FileConfig, []byte(c.Config)}} {
		path := filepath.Join(dir, f.name)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return unwritable(err) // its owner and mode would stay
		}
		if err := os.WriteFile(path, f.text, 0o600); err != nil {
			return unwritable(err)
		}
	}
	return nil
}
