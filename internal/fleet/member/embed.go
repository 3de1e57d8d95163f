package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"google.golang.org/grpc"
)

const (
	heartbeat = 50 * time.Millisecond // a lost leader is replaced within a second
	election  = 500 * time.Millisecond
	quota     = 256 << 20 // bytes that the store may take
	kept      = "10000"   // revisions that can be watched from
	// nowhere stands for the door of a fleet of one, which has none. etcd wants
	// an address to tell members apart; nobody can ever reach this one.
	nowhere = "127.0.0.1:1"
)

// smallSegments keeps a member's log at megabytes: etcd would reserve 128 MB
// of disk for the first entry.
var smallSegments = sync.OnceFunc(func() { wal.SegmentSizeBytes = 8 << 20 })

func peerURL(a Addresses) url.URL {
	host := a.Peers
	if host == "" {
		host = nowhere
	}
	return url.URL{Scheme: "https", Host: host}
}

// server says how this node's etcd runs.
func (m *Member) server(r record) *embed.Config {
	smallSegments()
	c := embed.NewConfig()
	c.Name, c.Dir = r.Name, m.files.path(etcdDir)
	c.TickMs, c.ElectionMs, c.PreVote = uint(heartbeat.Milliseconds()), uint(election.Milliseconds()), true
	c.SnapshotCount, c.SnapshotCatchUpEntries = 5000, 1000
	c.QuotaBackendBytes, c.AutoCompactionMode, c.AutoCompactionRetention = quota, embed.CompactorModeRevision, kept
	c.MaxLearners, c.StrictReconfigCheck, c.MaxRequestBytes = 4, true, 1<<20
	c.BootstrapDefragThresholdMegabytes = 16
	c.EnableGRPCGateway, c.EnablePprof, c.Metrics = false, false, "basic"
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newEtcdLog(m.log, m.fatal))
	c.TlsMinVersion = "TLS1.3"
	t := transport.TLSInfo{
		CertFile: m.tls.path(), KeyFile: m.tls.path(), TrustedCAFile: m.files.path(caFile), ClientCertAuth: true, CRLFile: m.files.path(revokedFile),
		SkipClientSANVerify: true, // a certificate says who, not from where: nodes may be behind address translation
		ServerName:          memberName,
	}
	c.ClientTLSInfo = t
	t.AllowedHostnames = []string{memberName} // only who may vote may replicate
	c.PeerTLSInfo = t
	c.ListenPeerUrls, c.ListenClientUrls, c.AdvertiseClientUrls = nil, nil, nil
	if a := m.o.Listen.Peers; a != "" {
		c.ListenPeerUrls = []url.URL{{Scheme: "https", Host: a}}
	}
	if a := m.o.Listen.Clients; a != "" {
		c.ListenClientUrls = []url.URL{{Scheme: "https", Host: a}}
		c.AdvertiseClientUrls = []url.URL{{Scheme: "https", Host: r.Advertise.Clients}}
	}
	c.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainUnaryInterceptor(m.gateUnary), grpc.ChainStreamInterceptor(m.gateStream)}
	self := peerURL(r.Advertise)
	c.AdvertisePeerUrls = []url.URL{self}
	c.InitialClusterToken, c.ClusterState = r.Fleet, embed.ClusterStateFlagNew
	c.InitialCluster = r.Name + "=" + self.String()
	if r.Initial != "" {
		c.InitialCluster, c.ClusterState = r.Initial, embed.ClusterStateFlagExisting
	}
	return c
}

// fatal ends the member, and not the process, when etcd cannot go on.
func (m *Member) fatal(err error) {
	m.mu.Lock()
	if m.ended == nil {
		m.ended = problem.New(problem.Unavailable, "fleet-member-failed", "This node's copy of the fleet's store stopped: it cannot write to its disk.").
			WithMend("Make room on the disk or mend it, then start the node again; the other members go on without it.").Wrap(err)
	}
	m.mu.Unlock()
	m.log.Error("the fleet's store stopped on this node", "error", err)
	if s := m.seat.Load(); s != nil && s.life.Err() == nil {
		s.end()
		go m.handOver() // it may go on leading, and decide nothing
	}
	m.stop()
}

// startServer starts etcd and waits until it has joined, or until patience
// ends: a member without a majority comes up too, and says so.
func (m *Member) startServer(ctx context.Context, patience time.Duration) error {
	e, err := m.startEtcd(ctx)
	if err != nil {
		return m.startFailed(err)
	}
	m.take(e)
	select {
	case <-e.Server.ReadyNotify():
	case <-e.Server.StopNotify():
		return m.stoppedAtStart()
	case <-m.life.Done():
		return m.stoppedAtStart()
	case <-time.After(patience):
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// startEtcd starts etcd. On the first start after a join others may have joined
// since the invitation was used, or just now, between asking and starting: then
// it asks again.
func (m *Member) startEtcd(ctx context.Context) (e *embed.Etcd, err error) {
	for again := 0; ; again++ {
		r := m.files.read()
		begun := wal.Exist(filepath.Join(m.files.path(etcdDir), "member", "wal"))
		if !begun && r.Initial != "" {
			r.Initial = m.grown(ctx, r)
		}
		if e, err = m.begin(m.server(r)); err == nil || begun || again == 20 || !strings.Contains(err.Error(), "member count is unequal") {
			return e, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-m.life.Done():
			return nil, err
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// begin starts etcd on a goroutine of its own, which is all that ends when etcd
// gives up while it starts.
func (m *Member) begin(c *embed.Config) (e *embed.Etcd, err error) {
	given := make(chan struct{})
	err = errGaveUp
	go func() {
		defer close(given)
		e, err = embed.StartEtcd(c)
	}()
	<-given
	if errors.Is(err, errGaveUp) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.ended != nil {
			err = m.ended
		}
	}
	return e, err
}

var errGaveUp = errors.New("it gave up without a reason")

// grown is the initial cluster as the members have it now, and not as it was
// when this node joined: etcd compares the two. Where nobody answers, it is
// what was written down.
func (m *Member) grown(ctx context.Context, r record) string {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: m.tls.dial(memberName), DisableKeepAlives: true}}
	for _, k := range r.Members {
		if !k.Voter {
			continue
		}
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+k.Addresses.Peers+"/members", nil)
		if err != nil {
			continue
		}
		a, err := client.Do(q)
		if err != nil {
			continue
		}
		var list []membership.Member
		err = json.NewDecoder(io.LimitReader(a.Body, 1<<20)).Decode(&list)
		_ = a.Body.Close()
		if err != nil || len(list) == 0 {
			continue
		}
		var parts []string
		for _, x := range list {
			name := x.Name
			if name == "" {
				name = "unstarted-" + x.ID.String()
			}
			if self := peerURL(r.Advertise); slices.Contains(x.PeerURLs, self.String()) {
				name = r.Name
			}
			for _, u := range x.PeerURLs {
				parts = append(parts, name+"="+u)
			}
		}
		return strings.Join(parts, ",")
	}
	return r.Initial
}

func (m *Member) stoppedAtStart() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended != nil {
		return m.ended
	}
	return problem.New(problem.Denied, "node-removed", "This node is no longer a member of its fleet.").
		WithMend("If it was removed on purpose, delete its folder fleet, and join again with a new invitation.")
}

func (m *Member) startFailed(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return problem.New(problem.Unavailable, "disk-full", fmt.Sprintf("The disk that holds %s is full.", m.files.dir)).
			WithMend("Free some space, or choose a --data-dir on another disk.").Wrap(err)
	}
	return problem.New(problem.Unavailable, "fleet-start", "The fleet's store does not start on this node: "+err.Error()+".").WithField("fleet").
		WithMend("Check the addresses under fleet.listen, and that no other process uses them.").Wrap(err)
}

// dial connects a process that does not vote.
func (m *Member) dial(ctx context.Context) error {
	r := m.files.read()
	endpoints := r.endpoints()
	if len(endpoints) == 0 {
		return problem.New(problem.Internal, "fleet-no-members", "This node knows no member of its fleet.").WithMend("Join again with a new invitation.")
	}
	c, err := clientv3.New(clientv3.Config{
		Context: m.life, Endpoints: endpoints, TLS: m.tls.dial(memberName), Logger: newEtcdLog(m.log, func(error) {}),
		DialKeepAliveTime: 5 * time.Second, DialKeepAliveTimeout: 2 * time.Second, PermitWithoutStream: true,
		DialOptions: []grpc.DialOption{grpc.WithAuthority(memberName), // certificates name roles, not addresses
			grpc.WithContextDialer(m.lines.dial)},
	})
	if err != nil {
		return fmt.Errorf("dialling the fleet: %w", err)
	}
	m.client, m.store.client = c, c
	return nil
}

// endpoints are where members answer clients, as last heard.
func (r record) endpoints() (out []string) {
	for _, k := range r.Members {
		if k.Voter && k.Addresses.Clients != "" {
			out = append(out, "https://"+k.Addresses.Clients)
		}
	}
	return out
}

// CheckAddresses says whether the doors can be opened: etcd listens on
// addresses and not on names.
func CheckAddresses(listen, advertise Addresses) error {
	for field, a := range map[string]string{"peers": listen.Peers, "clients": listen.Clients, "join": listen.Join} {
		if a == "" {
			continue
		}
		host, port, err := net.SplitHostPort(a)
		if err != nil || port == "" || port == "0" || net.ParseIP(host) == nil && host != "localhost" {
			return problem.New(problem.Invalid, "fleet-address", fmt.Sprintf("%q is not an address to listen on.", a)).WithField("fleet.listen." + field).
				WithMend("Write an IP address and a port, for example 10.0.0.1:8490.")
		}
	}
	if (listen.Peers == "") != (listen.Clients == "") || (listen.Peers == "") != (listen.Join == "") {
		return problem.New(problem.Invalid, "fleet-doors", "A member that others reach has three doors: for peers, for clients and for joining.").WithField("fleet.listen").
			WithMend("Give all of peers, clients and join, or none for a fleet of one.")
	}
	for field, a := range map[string][2]string{"peers": {advertise.Peers, listen.Peers}, "clients": {advertise.Clients, listen.Clients}, "join": {advertise.Join, listen.Join}} {
		shown := a[0]
		if shown == "" {
			shown = a[1]
		}
		if shown == "" {
			continue
		}
		host, _, err := net.SplitHostPort(shown)
		if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
			return problem.New(problem.Invalid, "fleet-advertise", fmt.Sprintf("Other nodes cannot reach %q.", shown)).WithField("fleet.advertise." + field).
				WithMend("Write the host name or address by which they reach this node, with the port.")
		}
	}
	return nil
}

// or fills in what was left out.
func (a Addresses) or(b Addresses) Addresses {
	for _, p := range []struct {
		to   *string
		from string
	}{{&a.Peers, b.Peers}, {&a.Clients, b.Clients}, {&a.Join, b.Join}} {
		if *p.to == "" {
			*p.to = p.from
		}
	}
	return a
}

var discard = slog.New(slog.DiscardHandler)
