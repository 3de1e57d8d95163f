package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func (a *app) node() *cobra.Command {
	return group("node", "Work with the nodes of the fleet",
		a.nodeStatus(), a.nodeList(), a.nodeReadiness(), a.nodeInvite(), a.nodeInvitations(), a.nodeJoin(), a.nodeDrain(), a.nodeRemove(), a.nodeSnapshot(), a.nodeRecover())
}

func (a *app) fleetStatus(ctx context.Context) (s member.Status, err error) {
	return s, a.call(ctx, http.MethodGet, "/api/v1/fleet", nil, &s)
}

func (a *app) nodeStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show how the fleet is, as this node sees it", Args: exactly(),
		Long: `Says who answers, whether anything can be decided, and what to do when not.
The command fails with exit code 69 while there is no majority.`,
		Example: "  foundry node status\n  foundry node status --json | jq .words",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.fleetStatus(cmd.Context())
			if err != nil {
				return err
			}
			err = a.print(s, func(w io.Writer) {
				fmt.Fprintf(w, "%s\n\n", s.Words)
				for _, warning := range s.Warnings {
					fmt.Fprintf(w, "! %s\n", warning)
				}
				if s.Leader != "" {
					fmt.Fprintf(w, "Leader\t%s (epoch %d)\n", s.Leader, s.Epoch)
				}
				fmt.Fprintf(w, "Members\t%d, of which %d answer\n", s.Voters, s.Answer)
				fmt.Fprintf(w, "Store\t%.1f of %d MB, revision %d\n", float64(s.Bytes)/(1<<20), s.Quota>>20, s.Revision)
				if s.Snapshot.IsZero() {
					fmt.Fprintln(w, "Snapshot\tnone since this node started")
				} else {
					fmt.Fprintf(w, "Snapshot\t%s\n", s.Snapshot.Local().Format(time.DateTime))
				}
				fmt.Fprintf(w, "Certificate\tuntil %s; renewed by itself\n", s.Expires.Local().Format(time.DateOnly))
			})
			if err == nil && !s.Majority {
				err = standingError{problem.Unavailable.Exit()}
			}
			return err
		},
	}
}

func (a *app) nodeList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the nodes of the fleet", Args: exactly(), Example: "  foundry node list\n  foundry node list --json | jq '.[].name'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.fleetStatus(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(s.Nodes, func(w io.Writer) {
				fmt.Fprintln(w, "NAME\tROLES\tVERSION\tSTATE")
				for _, n := range s.Nodes {
					name := n.Name
					if n.Self {
						name += " (this node)"
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", name, rolesLine(n.Roles), n.Version, n.Words)
				}
			})
		},
	}
}

func rolesLine(roles []member.Role) string {
	out := make([]string, len(roles))
	for i, r := range roles {
		out[i] = string(r)
	}
	return strings.Join(out, ",")
}

func (a *app) nodeInvite() *cobra.Command {
	var roles string
	c := &cobra.Command{
		Use: "invite NAME", Short: "Invite a node into the fleet", Args: exactly("NAME"),
		Long: `Prints one token. It lets one node join, under this name and with these roles,
once and within an hour. Whoever holds it can take the place that it is for:
bring it to the other machine as you would a password.`,
		Example: "  foundry node invite node-2 --roles gateway,fleet\n  foundry node invite witness-1 --roles witness",
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := daemon.ParseRoles(roles)
			if err != nil {
				return err
			}
			var i member.Invited
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/fleet/invitations", map[string]any{"name": args[0], "roles": list}, &i); err != nil {
				return err
			}
			return a.print(i, func(w io.Writer) {
				fmt.Fprintf(w, "%s\n\nIt works once, for %s, until %s. On that machine:\n\n  %s node join TOKEN --config FILE\n  %s serve --config FILE --role %s\n",
					i.Token, i.Name, i.Expires.Local().Format(time.TimeOnly), self(), self(), rolesLine(i.Roles))
			})
		},
	}
	c.Flags().StringVar(&roles, "roles", "gateway,fleet", "what the node will do: of gateway, fleet, inference; or witness alone")
	return c
}

func (a *app) nodeInvitations() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List invitations", Args: exactly(), Example: "  foundry node invitations list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []member.Invitation
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/fleet/invitations", nil, &all); err != nil {
				return err
			}
			return a.print(all, func(w io.Writer) {
				if len(all) == 0 {
					fmt.Fprintln(w, "There are none. `foundry node invite NAME` makes one.")
					return
				}
				fmt.Fprintln(w, "INVITATION\tNODE\tROLES\tSTATE\tREFUSED\tMADE")
				for _, i := range all {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", i.Selector, i.Name, rolesLine(i.Roles), i.State(time.Now()), i.Refused, i.Made.Local().Format(time.DateTime))
				}
			})
		},
	}
	revoke := &cobra.Command{
		Use: "revoke INVITATION", Short: "Revoke an invitation that was not used", Args: exactly("INVITATION"), Example: "  foundry node invitations revoke q7mzk2aybc",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.call(cmd.Context(), http.MethodDelete, "/api/v1/fleet/invitations/"+url.PathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			return a.print(map[string]any{"invitation": args[0], "revoked": true}, func(w io.Writer) { fmt.Fprintf(w, "The invitation %s is revoked.\n", args[0]) })
		},
	}
	return group("invitations", "See and revoke invitations", list, revoke)
}

// offlineMember opens what a node is in the fleet while nothing runs there.
func (a *app) offlineMember(file string) (o member.Options, unlock func(), err error) {
	cfg, unlock, err := a.heldDir(file)
	if err != nil {
		return o, nil, err
	}
	if o, err = a.memberOf(cfg); err != nil {
		unlock()
		return o, nil, err
	}
	return o, unlock, nil
}

// heldDir is the configuration of a node whose data directory nobody else uses
// until unlock.
func (a *app) heldDir(file string) (cfg daemon.Config, unlock func(), err error) {
	if cfg, err = a.load(file); err != nil {
		return cfg, nil, err
	}
	if cfg.DataDir == "" {
		cfg.DataDir = a.dir()
	}
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return cfg, nil, err
	}
	unlock, err = daemon.HoldDataDir(cfg.DataDir)
	return cfg, unlock, err
}

func (a *app) memberOf(cfg daemon.Config) (o member.Options, err error) {
	ring, err := daemon.OpenKeyring(cfg, a.askPassphrase)
	if err != nil {
		return o, err
	}
	o = cfg.MemberOptions(nil, a.version, ring)
	o.Name = cfg.Fleet.Name
	return o, nil
}

func (a *app) nodeJoin() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "join TOKEN", Short: "Join a fleet with an invitation", Args: exactly("TOKEN"),
		Long: `Uses an invitation and fills the folder fleet of this node's data directory,
while no node runs on it. Afterwards start the node with the roles that it was
invited with. TOKEN may be - to be read from standard input, so that it does
not stand in the list of processes.

A gateway that takes over from others by the plan in force, on a data directory
that is new, also gets their keys and their certificate authority, so that it
can work on their database. A join that is refused or interrupted leaves nothing
behind.`,
		Example: "  foundry node join fdn_… --config /etc/foundry/foundry.yaml\n  foundry node join - --config /etc/foundry/foundry.yaml < invitation",
		RunE: func(cmd *cobra.Command, args []string) error {
			token := args[0]
			if token == "-" {
				text, err := io.ReadAll(io.LimitReader(a.in, 8<<10))
				if err != nil {
					return err
				}
				token, _, _ = strings.Cut(strings.TrimSpace(string(text)), "\n")
			}
			j, err := a.joinWith(cmd.Context(), file, token)
			if err != nil {
				return err
			}
			return a.print(j, func(w io.Writer) {
				fmt.Fprintf(w, "This node is %s in the fleet of %s.\n\nStart it:\n\n  %s serve --config FILE --role %s\n", j.Name, strings.Join(j.Nodes, ", "), self(), rolesLine(j.Roles))
				switch {
				case j.Keys:
					fmt.Fprintln(w, "\nIt has the keys and the certificate authority of the other gateways: name their database in its configuration.")
				case slices.Contains(j.Roles, member.Gateway):
					fmt.Fprintf(w, "\n%s\n", daemon.KeysNotGiven(j.Why))
				}
			})
		},
	}
	c.Flags().StringVar(&file, "config", "", "configuration file (YAML) of this node")
	return c
}

// joinWith joins, and leaves nothing behind when that fails.
func (a *app) joinWith(ctx context.Context, file, token string) (j member.Joined, err error) {
	cfg, unlock, err := a.heldDir(file)
	if err != nil {
		return j, err
	}
	defer unlock()
	at, err := daemon.BeginJoin(cfg.DataDir)
	if err != nil {
		return j, err
	}
	defer func() { err = errors.Join(err, at.End(err == nil)) }()
	o, err := a.memberOf(cfg)
	if err != nil {
		return j, err
	}
	if at.Fresh { // nil: it has keys of its own
		o.Take = daemon.TakeKeys(cfg, a.askPassphrase)
	}
	return member.Join(ctx, o, token)
}

func (a *app) nodeDrain() *cobra.Command {
	var undo bool
	c := &cobra.Command{
		Use: "drain NAME", Short: "Take work away from a node, before it is stopped or mended", Args: exactly("NAME"),
		Long:    "The node leads nothing any more and is given no work. It goes on voting.",
		Example: "  foundry node drain node-2\n  foundry node drain node-2 --undo",
		RunE: func(cmd *cobra.Command, args []string) error {
			var n member.Node
			if err := a.call(cmd.Context(), http.MethodPut, "/api/v1/fleet/nodes/"+url.PathEscape(args[0])+"/draining", map[string]bool{"draining": !undo}, &n); err != nil {
				return err
			}
			return a.print(n, func(w io.Writer) {
				if n.Draining {
					fmt.Fprintf(w, "%s leads nothing and is given no work. `foundry node drain %s --undo` gives it back.\n", n.Name, n.Name)
				} else {
					fmt.Fprintf(w, "%s is given work again.\n", n.Name)
				}
			})
		},
	}
	c.Flags().BoolVar(&undo, "undo", false, "give work back")
	return c
}

func (a *app) nodeRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Remove a node from the fleet for good", Args: exactly("NAME"),
		Long: `Takes the node's vote away and every certificate it has. The node may be down.
To come back it needs a new invitation and an empty folder fleet. One that was
away meanwhile is told when it starts, by a list that the fleet signed.`,
		Example: "  foundry node remove node-2",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.call(cmd.Context(), http.MethodDelete, "/api/v1/fleet/nodes/"+url.PathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			return a.print(map[string]any{"node": args[0], "removed": true}, func(w io.Writer) {
				fmt.Fprintf(w, "%s is removed: it has no vote, and its certificates no longer count.\n", args[0])
			})
		},
	}
}

func (a *app) nodeSnapshot() *cobra.Command {
	return &cobra.Command{
		Use: "snapshot", Short: "Write the fleet's store into a file of this node", Args: exactly(),
		Long:    "Every member does so by itself once an hour; this makes one now. What is\nsecret in it is sealed.",
		Example: "  foundry node snapshot",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var t member.Taken
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/fleet/snapshots", nil, &t); err != nil {
				return err
			}
			return a.print(t, func(w io.Writer) { fmt.Fprintln(w, t.Path) })
		},
	}
}

func (a *app) nodeRecover() *cobra.Command {
	var file, shot string
	var data bool
	c := &cobra.Command{
		Use: "recover", Short: "Found the fleet again on this node, when most members are lost", Args: exactly(),
		Long: `For the loss of the majority, and for nothing else: afterwards this node is the
only member, and the lost ones have to be invited again. It refuses while most
members answer. Run it on one surviving node, while no node runs on its data
directory. What was there is kept beside it.

Prefer --from-data: it has what this node knew last. Use --snapshot when that
does not start.`,
		Example: "  foundry node recover --from-data --config /etc/foundry/foundry.yaml\n  foundry node recover --snapshot /var/lib/foundry/fleet/snapshots/20260312T031500.000Z.snapshot",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, unlock, err := a.offlineMember(file)
			if err != nil {
				return err
			}
			defer unlock()
			o.Name = ""
			r, err := member.Recover(cmd.Context(), o, member.Recovery{Snapshot: shot, FromData: data})
			if err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) {
				fmt.Fprintf(w, "%s is a fleet of one now. Every epoch from now on is above %d.\n", r.Node, r.Revision)
				if len(r.Lost) > 0 {
					fmt.Fprintf(w, "Lost, to be invited again: %s. Their certificates no longer count.\n", strings.Join(r.Lost, ", "))
				}
				fmt.Fprintf(w, "The store as it was: %s\n\nStart the node as before.\n", r.Kept)
			})
		},
	}
	c.Flags().StringVar(&file, "config", "", "configuration file (YAML) of this node")
	c.Flags().StringVar(&shot, "snapshot", "", "recover from this file")
	c.Flags().BoolVar(&data, "from-data", false, "recover from what this node's disk has")
	c.MarkFlagsOneRequired("snapshot", "from-data")
	c.MarkFlagsMutuallyExclusive("snapshot", "from-data")
	return c
}

func (a *app) serve() *cobra.Command {
	var file, roles, https, http string
	c := &cobra.Command{
		Use: "serve", Short: "Run some of a node's roles as a process", Args: exactly(),
		Long: `Runs the roles that are named, and nothing else, so that upgrading one of them
touches no other:

  gateway    the API, the console and the jobs
  fleet      a vote, probes, and what recovers
  witness    a vote and probes for a company with two servers; nothing else
  inference  the front of a model server on this machine

Each process has a data directory of its own. One that is neither the first
member nor alone joins first, with ` + "`foundry node join`" + `.`,
		Example: "  foundry serve --config /etc/foundry/foundry.yaml --role gateway,fleet\n  foundry serve --config /etc/foundry/witness.yaml --role witness",
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := daemon.ParseRoles(roles)
			if err != nil {
				return err
			}
			cfg, err := a.load(file)
			if err != nil {
				return err
			}
			if https != "" {
				cfg.Listen.HTTPS = https
			}
			if http != "" {
				cfg.Listen.HTTP = http
			}
			return a.runRoles(cmd.Context(), cfg, list)
		},
	}
	c.Flags().StringVar(&file, "config", "", "configuration file (YAML)")
	c.Flags().StringVar(&roles, "role", "", "roles, separated by commas: gateway, fleet, inference; or witness alone")
	c.Flags().StringVar(&https, "https", "", "address of the TLS 1.3 listener of a gateway")
	c.Flags().StringVar(&http, "http", "", "address that redirects to HTTPS; off for none")
	_ = c.MarkFlagRequired("role")
	return c
}

func (a *app) runRoles(ctx context.Context, cfg daemon.Config, roles []member.Role) error {
	return a.runProcess(ctx, cfg, func(ctx context.Context, o daemon.Options) (*daemon.Daemon, error) {
		return daemon.Serve(ctx, o, roles)
	})
}

// greetMember says what runs, where there is no gateway.
func (a *app) greetMember(d *daemon.Daemon, took time.Duration) {
	m := d.Member()
	if m == nil {
		_ = a.print(map[string]any{"address": d.Inference().Address(), "roles": []member.Role{member.Inference}, "data_dir": d.DataDir(), "ready_ms": took.Milliseconds(), "pid": os.Getpid()}, func(w io.Writer) {
			fmt.Fprintf(w, "In front of an Ollama after %.1f s.\n\n  Address\t%s\n  Data\t%s\n", took.Seconds(), d.Inference().Address(), d.DataDir())
		})
		return
	}
	s := m.Status(context.Background())
	_ = a.print(map[string]any{"node": m.Name(), "roles": m.Roles(), "data_dir": d.DataDir(), "ready_ms": took.Milliseconds(), "words": s.Words, "pid": os.Getpid()}, func(w io.Writer) {
		fmt.Fprintf(w, "%s runs with the roles %s after %.1f s.\n%s\n\n  Data\t%s\n", m.Name(), rolesLine(m.Roles()), took.Seconds(), s.Words, d.DataDir())
	})
}
