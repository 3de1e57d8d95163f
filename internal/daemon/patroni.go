package daemon

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/patroni"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/problem"
)

// PatroniConfig says that the database of database.dsn is kept by Patroni, with
// the fleet's store as its own.
type PatroniConfig struct {
	Scope     string `yaml:"scope,omitempty" json:"scope,omitempty" jsonschema:"description=What Patroni calls the cluster. Default foundry."`
	Listen    string `yaml:"listen,omitempty" json:"listen,omitempty" jsonschema:"description=Where this node opens the fleet's store for Patroni\\, host:port: the keys of its cluster and nothing else. For nodes with the role fleet. Default: the host of fleet.listen.clients and port 8494."`
	Advertise string `yaml:"advertise,omitempty" json:"advertise,omitempty" jsonschema:"description=The same address as Patroni on other nodes sees it. Default: listen\\, on the host of fleet.advertise.clients."`
}

// patroniPort is where a node opens the fleet's store for Patroni.
const patroniPort = "8494"

const (
	patroniEvery = 2 * time.Second
	// patroniOffice names who writes into the database that its epoch has begun.
	patroniOffice = "patroni-epoch"
	patroniRecord = "database/patroni"
)

// checkPatroni reports the first thing in database.patroni that is wrong.
func (c DatabaseConfig) checkPatroni(fleetOff bool) error {
	p := c.Patroni
	if p == nil {
		return nil
	}
	switch {
	case fleetOff:
		return problem.New(problem.Invalid, "patroni-fleet-off", "Without a fleet there is no store for Patroni.").WithField("database.patroni").WithMend("Remove fleet.off, or database.patroni.")
	case c.Fleet:
		return problem.New(problem.Invalid, "patroni-twice", "The database is either kept by Foundry in the fleet or by Patroni.").WithField("database.patroni").WithMend("Remove database.fleet or database.patroni.")
	case p.Scope != "" && !patroni.Word(p.Scope):
		return problem.New(problem.Invalid, "patroni-scope", fmt.Sprintf("%q cannot be the name of a cluster.", p.Scope)).WithField("database.patroni.scope").WithMend("Use 1 to 40 lower-case letters, digits and hyphens.")
	}
	for field, at := range map[string]string{"listen": p.Listen, "advertise": p.Advertise} {
		host, port, err := net.SplitHostPort(at)
		if n, perr := strconv.Atoi(port); at != "" && (err != nil || host == "" || perr != nil || n < 1 || n > 65535) {
			return problem.New(problem.Invalid, "patroni-listen", fmt.Sprintf("%q is no address to listen at.", at)).WithField("database.patroni." + field).WithMend("Write it as 10.0.0.1:8494.")
		}
	}
	return nil
}

// patroniDoors are where this node opens the fleet's store, and how others reach
// that; empty: nowhere.
func (c Config) patroniDoors() (listen, advertise string) {
	p := c.Database.Patroni
	beside := func(clients, port string) string {
		if host, _, err := net.SplitHostPort(clients); err == nil {
			return net.JoinHostPort(host, port)
		}
		return ""
	}
	listen = cmp.Or(p.Listen, beside(c.Fleet.Listen.Clients, patroniPort))
	_, port, _ := net.SplitHostPort(listen)
	return listen, cmp.Or(p.Advertise, beside(c.Fleet.Advertise.Clients, port), listen)
}

// patronis is what this process does about a database that Patroni keeps.
type patronis struct {
	patroni     *patroni.Desk
	patroniLook *patroni.Watch // nil: Patroni keeps none
	patroniDoor string
}

// databaseRecord is which epoch of the database goes with which leader.
type databaseRecord struct {
	Leader   string    `json:"leader"`
	Timeline int64     `json:"timeline"`
	System   string    `json:"system"`
	Epoch    int64     `json:"epoch"`
	Since    time.Time `json:"since"`
}

// makePatroni makes what looks at Patroni, and opens the fleet's store for it
// on a node that can.
func (d *Daemon) makePatroni(ctx context.Context) error {
	if d.desk == nil {
		d.makeDesk()
	}
	d.patroni = &patroni.Desk{Scope: patroni.DefaultScope, Nodes: d.desk}
	c, m := d.config.Database.Patroni, d.Member()
	if c == nil || m == nil {
		return nil
	}
	d.patroni.Scope = cmp.Or(c.Scope, patroni.DefaultScope)
	var mu sync.Mutex
	kept := map[string]*http.Client{}
	reach := func(node string) *tls.Config {
		return m.ServiceClientTLS(member.Service{Name: patroni.Service, Node: node})
	}
	d.patroniLook = &patroni.Watch{
		Store: &patroni.Store{Client: m.Client(), Scope: d.patroni.Scope}, Clock: d.clock, OldTLS: reach,
		Client: &patroni.Client{
			Secret: func(ctx context.Context) (string, error) {
				s, err := patroni.ReadSecrets(ctx, m.Store(), d.patroni.Scope)
				return s.API, err
			},
			HTTP: func(node string) *http.Client {
				mu.Lock()
				defer mu.Unlock()
				if kept[node] == nil {
					kept[node] = &http.Client{Transport: &http.Transport{TLSClientConfig: reach(node), MaxIdleConnsPerHost: 1, IdleConnTimeout: 10 * time.Second},
						CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
				}
				return kept[node]
			}},
	}
	d.patroniLook.More = func(s *patroni.Status) { s.Door, s.Epoch = d.patroniDoor, d.epochs.Highest() }
	d.patroni.Watch = d.patroniLook
	return d.openPatroniDoor(ctx, m)
}

// openPatroniDoor opens it on a node that holds the fleet's authority: whoever
// dials shows a certificate of it, and sees one.
func (d *Daemon) openPatroniDoor(ctx context.Context, m *member.Member) error {
	listen, advertise := d.config.patroniDoors()
	if !m.CanIssue() || listen == "" {
		return nil
	}
	var hosts []string
	for _, at := range []string{advertise, listen} {
		if host, _, err := net.SplitHostPort(at); err == nil && !net.ParseIP(host).IsUnspecified() {
			hosts = append(hosts, host)
		}
	}
	c, err := m.ServiceTLS(patroni.Service, hosts)
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return problem.From(taken("patroni", listen, err)).WithField("database.patroni.listen")
	}
	door := &patroni.Door{Client: m.Client(), Scope: d.patroni.Scope, Log: d.log, Doors: func(ctx context.Context) ([]string, error) { return patroni.Doors(ctx, m) },
		Who: func(cs *tls.ConnectionState) (string, bool) {
			s, ok := m.Service(cs)
			return s.Node, ok && s.Name == patroni.Service
		}}
	s := &http.Server{Handler: door.Handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytes, ErrorLog: quietLog(d.log),
		BaseContext: func(net.Listener) context.Context { return d.life }}
	d.patroniDoor = advertise
	d.running.Go(func() {
		if err := s.Serve(tls.NewListener(l, c)); err != nil && !errors.Is(err, http.ErrServerClosed) {
			d.failed <- fmt.Errorf("the door of the fleet's store for Patroni ended: %w", err)
		}
	})
	d.running.Go(func() {
		<-d.life.Done()
		_ = s.Close()
	})
	d.running.Go(func() {
		told := false
		repeat(d.life, time.Minute, nil, "the fleet does not know where Patroni finds its store on this node", func(ctx context.Context) error {
			if told {
				return nil
			}
			err := patroni.OpenDoor(ctx, m.Store(), m.Name(), advertise)
			told = err == nil
			return err
		}, d)
	})
	return nil
}

// runPatroni looks at Patroni until ctx ends, goes with its leader, and keeps
// the epoch.
func (d *Daemon) runPatroni(ctx context.Context) {
	if d.patroniLook == nil {
		return
	}
	d.running.Go(func() {
		leader := ""
		d.patroniLook.Run(ctx, patroniEvery, func(s patroni.Status, err error) {
			d.raiseEpoch(ctx)
			if err == nil && s.Leader != "" && s.Leader != leader {
				d.log.Info("the database has a leader", "leader", s.Leader, "timeline", s.Timeline, "before", leader)
				leader = s.Leader
				d.followLeader(s)
			}
		})
	})
	if d.Gateway() && d.config.Database.DSN != "" {
		d.running.Go(func() { repeat(ctx, time.Second, nil, "the database's epoch is not kept", d.keepEpoch, d) })
	}
}

// raiseEpoch takes over the fleet's epoch of the database: connections to one of
// a lower are refused from then on.
func (d *Daemon) raiseEpoch(ctx context.Context) {
	one, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	if r, _, err := d.patroniRecord(one); err == nil {
		d.epochs.Raise(r.Epoch)
	}
}

// followLeader cuts the connections to a server that leads no longer, so that
// the one that does is looked for at once and not when the old one is silent.
func (d *Daemon) followLeader(s patroni.Status) {
	if d.db == nil {
		return
	}
	m, ok := s.Member(s.Leader)
	at, known := d.db.At()
	if ok && known && at != net.JoinHostPort(m.Host, strconv.Itoa(m.Port)) {
		d.db.Turn()
	}
}

func (d *Daemon) patroniRecord(ctx context.Context) (r databaseRecord, revision int64, err error) {
	e, err := d.Member().Store().Get(ctx, patroniRecord)
	if errors.Is(err, member.ErrAbsent) {
		return r, 0, nil
	}
	if err == nil {
		err = e.Decode(&r)
	}
	return r, e.Revision, err
}

// keepEpoch begins a new epoch of the database whenever another leads, for as
// long as this gateway is the one that does. It is written into the database
// first: it is the newest one that gateways go by, and until the fleet knows it
// they go on with both.
func (d *Daemon) keepEpoch(ctx context.Context) error {
	term, err := d.Member().Lead(ctx, patroniOffice)
	if err != nil {
		return err
	}
	defer func() {
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = term.Resign(one)
	}()
	for ctx.Err() == nil {
		if err := d.stepEpoch(ctx, term); err != nil {
			d.log.Debug("the database's epoch is not the leader's yet", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-term.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
	return nil
}

// stepEpoch brings record and database to the leader of this moment.
func (d *Daemon) stepEpoch(ctx context.Context, term *member.Term) error {
	s := d.patroniLook.Latest()
	m, ok := s.Member(s.Leader)
	if !ok || s.Stale != "" || !m.Works() || m.Timeline == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, revision, err := d.patroniRecord(ctx)
	if err != nil || r.System == s.System && r.Timeline == m.Timeline {
		return err
	}
	leads, server, err := d.patroniLook.Client.Leads(ctx, m)
	if err != nil || !leads || server.Timeline != m.Timeline {
		return err
	}
	cfg, err := d.databaseConfig(ctx)
	if err != nil {
		return err
	}
	next := databaseRecord{s.Leader, m.Timeline, s.System, max(r.Epoch, d.epochs.Highest()) + 1, d.clock().UTC()}
	if next.Epoch, err = db.BeginEpoch(ctx, cfg, next.Epoch, s.Leader, m.Timeline); err != nil {
		return err
	}
	if _, err := d.Member().Store().Put(ctx, patroniRecord, next, member.IfRevision(patroniRecord, revision), member.During(term)); err != nil {
		return err
	}
	d.epochs.Raise(next.Epoch)
	d.log.Info("an epoch of the database has begun", "epoch", next.Epoch, "leader", next.Leader, "timeline", next.Timeline)
	return nil
}

// PatroniStatus is the cluster as this node saw it last; nil: Patroni keeps no
// database here.
func (d *Daemon) PatroniStatus() *patroni.Status {
	if d.patroniLook == nil {
		return nil
	}
	s := d.patroniLook.Latest()
	return &s
}

// patroniControl is O-33.patroni; nil: there is none to look at.
func (d *Daemon) patroniControl() evidence.Collect {
	if d.config.Database.Patroni == nil {
		return nil
	}
	return func(ctx context.Context, _ func(string)) ([]evidence.Finding, error) {
		if d.patroniLook == nil {
			return nil, errors.New("nothing looks at Patroni on this node yet")
		}
		s, err := d.patroniLook.Look(ctx)
		if err != nil {
			return nil, err
		}
		var out []evidence.Finding
		for _, f := range s.Findings {
			x := evidence.Finding{Subject: "patroni " + s.Scope + ": " + f.ID, Result: evidence.Pass, Reason: f.Words, Covered: []string{"what the cluster's store and the members' REST API say"}, NotCovered: s.NotSeen}
			if !f.OK {
				x.Result, x.Reason = evidence.Fail, f.Words+" "+f.Mend
			}
			out = append(out, x)
		}
		return out, nil
	}
}
