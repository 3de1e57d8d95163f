package patroni

import (
	"cmp"
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Store reads what the Patronis of one cluster agreed on in the fleet's store.
// It is there when none of them answers, and who holds the leader's key is
// decided there and nowhere else.
type Store struct {
	Client *clientv3.Client
	Scope  string
}

// Picture is what is agreed on at one revision.
type Picture struct {
	Revision int64         `json:"revision"`
	Known    bool          `json:"known"` // a cluster was made under this name
	System   string        `json:"system,omitempty"`
	Leader   string        `json:"leader,omitempty"` // who holds the leader's key; empty: nobody
	Since    int64         `json:"since,omitempty"`  // revision at which it was taken
	Lease    int64         `json:"-"`
	Left     time.Duration `json:"left,omitempty"` // of the leader's key, unless it is renewed
	Members  []Member      `json:"members,omitempty"`
	Standbys []string      `json:"sync_standbys,omitempty"` // one of these may become leader without loss
	SyncOf   string        `json:"sync_of,omitempty"`       // the leader that waits for them
	Settings *Settings     `json:"settings,omitempty"`
	Failsafe []string      `json:"failsafe_members,omitempty"` // whom a leader without its store asks
	Timeline int64         `json:"timeline,omitempty"`         // the highest one heard of
}

// Member finds one by its name.
func (p *Picture) Member(name string) (Member, bool) { return Cluster{Members: p.Members}.Member(name) }

// TTL is how long the leader's key holds without renewal.
func (p *Picture) TTL() time.Duration {
	if p.Settings == nil {
		return 30 * time.Second // Patroni's default
	}
	return time.Duration(p.Settings.TTL) * time.Second
}

// Picture reads it, by the majority.
func (s *Store) Picture(ctx context.Context) (p Picture, err error) {
	base := Prefix + s.Scope + "/"
	r, err := s.Client.Get(ctx, base, clientv3.WithPrefix())
	if err != nil {
		return p, err
	}
	p.Revision = r.Header.Revision
	for _, kv := range r.Kvs {
		p.take(strings.TrimPrefix(string(kv.Key), base), kv)
	}
	p.settle()
	if p.Lease != 0 {
		if ttl, err := s.Client.TimeToLive(ctx, clientv3.LeaseID(p.Lease)); err == nil && ttl.TTL > 0 {
			p.Left = time.Duration(ttl.TTL) * time.Second
		}
	}
	return p, nil
}

// settle says of each member which role it has.
func (p *Picture) settle() {
	for i := range p.Members {
		m := &p.Members[i]
		m.Role = Replica
		switch {
		case m.Name == p.Leader:
			m.Role = Leader
		case p.SyncOf != "" && p.SyncOf == p.Leader && slices.Contains(p.Standbys, m.Name):
			m.Role = Sync
		}
	}
	slices.SortFunc(p.Members, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
}

// take reads one key. A value that cannot be read counts as absent: it is
// Patroni's, and whoever writes it may be wrong.
func (p *Picture) take(name string, kv *mvccpb.KeyValue) {
	switch name {
	case "initialize":
		p.Known, p.System = true, string(kv.Value)
	case "leader":
		p.Leader, p.Since, p.Lease = string(kv.Value), kv.CreateRevision, kv.Lease
	case "config":
		if s, err := ParseSettings(kv.Value); err == nil {
			p.Settings = &s
		}
	case "sync":
		p.SyncOf, p.Standbys = parseSync(kv.Value)
	case "failsafe":
		var all map[string]string
		if json.Unmarshal(kv.Value, &all) == nil {
			for m := range all {
				p.Failsafe = append(p.Failsafe, m)
			}
			slices.Sort(p.Failsafe)
		}
	case "history":
		p.Timeline = max(p.Timeline, parseHistory(kv.Value)+1)
	default:
		if m, ok := strings.CutPrefix(name, "members/"); ok {
			x := parseMember(m, kv.Value)
			p.Members, p.Timeline = append(p.Members, x), max(p.Timeline, x.Timeline)
		}
	}
}

// parseSync reads the key sync: the leader, and those it waits for, as a list
// with commas.
func parseSync(value []byte) (leader string, standbys []string) {
	var in struct {
		Leader  string `json:"leader"`
		Standby string `json:"sync_standby"`
	}
	if json.Unmarshal(value, &in) != nil {
		return "", nil
	}
	for _, s := range strings.Split(in.Standby, ",") {
		if s = strings.TrimSpace(s); s != "" {
			standbys = append(standbys, s)
		}
	}
	return in.Leader, standbys
}

// parseHistory is the last timeline that has ended: [[1, 67108960, "no recovery
// target specified", …], …].
func parseHistory(value []byte) (last int64) {
	var lines [][]any
	if json.Unmarshal(value, &lines) != nil {
		return 0
	}
	for _, l := range lines {
		if len(l) > 0 {
			if n, ok := l[0].(float64); ok && n >= 1 && n < 1<<31 {
				last = max(last, int64(n))
			}
		}
	}
	return last
}

// parseMember reads what a member says of itself.
func parseMember(name string, value []byte) Member {
	var in struct {
		Conn     string          `json:"conn_url"`
		API      string          `json:"api_url"`
		State    string          `json:"state"`
		Timeline json.RawMessage `json:"timeline"`
		Pending  bool            `json:"pending_restart"`
	}
	m := Member{Name: name}
	if json.Unmarshal(value, &in) != nil {
		return m
	}
	m.State, m.API, m.Pending = in.State, in.API, in.Pending
	m.Timeline, _ = whole(in.Timeline)
	if u, err := url.Parse(in.Conn); err == nil {
		m.Host = u.Hostname()
		m.Port, _ = strconv.Atoi(u.Port())
	}
	return m
}
