package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// ParseRoles reads a list of roles as people write it.
func ParseRoles(text string) (roles []member.Role, err error) {
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(roles, member.Role(name)) {
			roles = append(roles, member.Role(name))
		}
	}
	return roles, member.CheckRoles(roles)
}

// Serve starts a process with some of the roles. With the role gateway it is
// a node as [Start] makes it; without, it has no database, no gateway and no
// console, and answers on its local socket only.
func Serve(ctx context.Context, o Options, roles []member.Role) (*Daemon, error) {
	if err := member.CheckRoles(roles); err != nil {
		return nil, err
	}
	if slices.Contains(roles, member.Inference) && slices.Contains(roles, member.Gateway) {
		return nil, problem.New(problem.Unsupported, "role-alone", "The role inference does not run in one process with a gateway.").WithField("role").WithMend("Start it beside it with `foundry serve --role inference`.")
	}
	if slices.Contains(roles, member.Database) && !slices.Contains(roles, member.Gateway) {
		return nil, problem.New(problem.Unsupported, "role-database-alone", "The role database runs with the role gateway only: what backs a database up, archives its log and proves its audit log is in a gateway.").WithField("role").
			WithMend("Start it with `foundry serve --role gateway,fleet,database`.")
	}
	if o.Config.inferenceAlone(roles) {
		return startInferenceAlone(ctx, o, roles)
	}
	if slices.Contains(roles, member.Gateway) {
		o.Roles = roles
		return Start(ctx, o)
	}
	if o.Config.Fleet.Off {
		return nil, problem.New(problem.Invalid, "fleet-off", "A process with these roles is nothing but its fleet.").WithField("fleet.off").WithMend("Remove fleet.off from the configuration.")
	}
	return startMember(ctx, o, roles)
}

// startMember brings up a member and nothing else.
func startMember(ctx context.Context, o Options, roles []member.Role) (_ *Daemon, err error) {
	d := newDaemon(o)
	d.roles = roles
	if err := d.config.checkMember(); err != nil {
		return nil, err
	}
	d.life, d.stop = context.WithCancel(context.Background())
	d.serving, d.cut = context.WithCancelCause(context.Background())
	defer func() {
		if err != nil {
			_ = d.Stop(context.WithoutCancel(ctx))
		}
	}()
	if d.config.DataDir, err = prepareDir(d.config.DataDir); err != nil {
		return nil, err
	}
	if d.lock, err = takeLock(d.config.DataDir, d.clock()); err != nil {
		return nil, err
	}
	if err := d.openKeys(); err != nil {
		return nil, err
	}
	if err := d.listenUnix("local", SocketPath(d.config.DataDir), 0o600); err != nil {
		return nil, err
	}
	if err := d.lock.describe(holder{PID: os.Getpid(), Since: d.started}); err != nil {
		return nil, err
	}
	if err := d.startFleet(ctx); err != nil {
		return nil, err
	}
	if err := d.awaitFleet(ctx); err != nil {
		return nil, err
	}
	if err := d.makeMemberDesk(); err != nil {
		return nil, err
	}
	if err := d.makeLookout(ctx); err != nil {
		return nil, err
	}
	if err := d.makeIncidents(ctx); err != nil {
		return nil, err
	}
	if err := d.makeWorld(ctx); err != nil {
		return nil, err
	}
	if d.mayRunDatabase() {
		if err := d.runFleetDatabase(ctx); err != nil {
			return nil, err
		}
	}
	if err := d.makePatroni(ctx); err != nil {
		return nil, err
	}
	if err := d.makeRecovery(ctx); err != nil {
		return nil, err
	}
	d.runLookout(d.life)
	d.runRecovery(d.life)
	d.runPatroni(d.life)
	d.runWorld(d.life)
	d.runIncidents(d.life)
	if slices.Contains(roles, member.Inference) {
		if err := d.startInference(ctx); err != nil {
			return nil, err
		}
	}
	d.running.Go(func() { holdMemory(d.life) })
	d.running.Go(func() {
		select {
		case <-d.life.Done():
		case <-d.Member().Done():
			if err := d.Member().Stop(context.Background()); err != nil {
				d.failed <- err
			}
		}
	})
	d.serveMember(api.NewNode(d.version, d.desk, d.window, d.incident, d.recovery, d.patroni, d.log))
	d.settle()
	return d, nil
}

// checkMember is Check for a process without a gateway.
func (c Config) checkMember() error {
	if c.Mode != Development && c.Mode != Production {
		return problem.New(problem.Invalid, "mode", c.Mode+" is not a mode.").WithField("mode").WithMend("Use development or production.")
	}
	if c.Mode == Production && !c.Keys.KEK.Set() && c.Keys.Age == nil {
		return problem.New(problem.Denied, "kek-missing", "In production the key-encryption key must come from outside the data directory.").WithField("keys.kek").
			WithMend("Give it as a systemd credential (keys: {kek: {credential: foundry-kek}}) or as a file on another volume.")
	}
	if err := c.checkKeys(); err != nil {
		return err
	}
	if err := c.Continuity.check(); err != nil {
		return err
	}
	if err := c.Database.checkPatroni(c.Fleet.Off); err != nil {
		return err
	}
	return c.checkFleet()
}

// makeMemberDesk makes the desk of a process without a database: nobody can
// sign in here, so whoever may open the socket, which only the node's user and
// root can, acts. Every act stands in the fleet's list with the user id, and
// comes into the audit log from there by way of a gateway.
func (d *Daemon) makeMemberDesk() error {
	engine, err := policy.Load()
	if err != nil {
		return err
	}
	d.desk = &member.Desk{Member: d.Member, May: func(_ context.Context, p principal.Principal, action policy.Action, target string) error {
		if p.Kind == principal.Local && (p.UID == 0 || p.UID == os.Geteuid()) {
			return nil
		}
		if engine.Decide(policy.Request{Principal: p, Action: action, Resource: policy.Resource{ID: target}, Now: d.clock(), Mode: d.config.Mode}).Allowed {
			return nil
		}
		return problem.New(problem.Denied, "local-user", "Only the user who runs this node, and root, may do this here.")
	}}
	return nil
}

// serveMember answers on the local socket.
func (d *Daemon) serveMember(a *api.API) {
	for _, s := range d.servers {
		s.http = &http.Server{ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytes, ErrorLog: quietLog(d.log),
			ConnContext: peerContext, BaseContext: func(net.Listener) context.Context { return d.serving },
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				p, ok := r.Context().Value(peerKey{}).(principal.Principal)
				switch {
				case !ok:
					problem.Write(w, problem.New(problem.Unauthenticated, "peer-unknown", "The caller's user id could not be read."))
				case r.URL.Path == "/healthz":
					d.healthz(w, r)
				default:
					a.Serve(w, r, p)
				}
			})}
		l := s.listener
		d.running.Go(func() {
			if err := s.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
				d.failed <- err
			}
		})
	}
}

// newDaemon is what every process begins with.
func newDaemon(o Options) *Daemon {
	d := &Daemon{config: o.Config.withDefaults(), version: o.Version, log: o.Log, clock: o.Clock, passphrase: o.Passphrase, failed: make(chan error, 4)}
	if d.clock == nil {
		d.clock = time.Now
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.logWatch = evidence.WatchLog(d.log.Handler())
	d.log = slog.New(d.logWatch)
	d.started = d.clock()
	d.roles, d.rules, d.watchdog = o.Roles, o.rules, o.Watchdog
	return d
}

// Gateway says whether this process answers clients.
func (d *Daemon) Gateway() bool { return len(d.roles) == 0 || slices.Contains(d.roles, member.Gateway) }

// HoldDataDir takes a data directory for work on it while no node runs there.
func HoldDataDir(dir string) (release func(), err error) {
	if dir, err = prepareDir(dir); err != nil {
		return nil, err
	}
	l, err := takeLock(dir, time.Now())
	if err != nil {
		return nil, err
	}
	return l.release, nil
}
