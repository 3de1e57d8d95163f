package patroni

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Status is the cluster as this node sees it.
type Status struct {
	Scope    string    `json:"scope"`
	Words    string    `json:"words"`
	At       time.Time `json:"at"`
	Epoch    int64     `json:"epoch,omitempty"` // of the database, that goes with the leader
	Answers  []string  `json:"answers"`         // members whose REST API answers
	Failsafe bool      `json:"failsafe_active"` // the leader goes on without its store
	Door     string    `json:"door,omitempty"`  // where this node opens its store for Patroni
	Findings []Finding `json:"findings"`
	NotSeen  []string  `json:"not_seen"`
	Stale    string    `json:"stale,omitempty"` // why it is not newer
	Picture
}

// Watch looks at a cluster again and again.
type Watch struct {
	Store  *Store
	Client *Client
	Clock  func() time.Time
	// OldTLS is as the client reaches a member, and offers TLS 1.2 and nothing
	// newer; nil: it is not tried.
	OldTLS func(member string) *tls.Config
	// More adds what only this process knows; may be nil.
	More func(*Status)

	mu     sync.Mutex
	latest Status
	known  map[string]Member // as each was last heard of: the key of one that is gone is gone too
	oldTLS map[string]bool   // whether a member's REST API takes TLS 1.2
	tried  time.Time
}

// Latest is how it was when it was looked at last; the zero Status: never.
func (w *Watch) Latest() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.latest
}

// Heard is a member as it was last heard of.
func (w *Watch) Heard(name string) (Member, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m, ok := w.known[name]
	return m, ok
}

// Look looks once: at the store, and at every member.
func (w *Watch) Look(ctx context.Context) (Status, error) {
	one, cancel := context.WithTimeout(ctx, callPatience)
	p, err := w.Store.Picture(one)
	cancel()
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.latest.Stale = "The fleet's store does not answer: " + err.Error()
		return w.latest, err
	}
	s := Status{Scope: w.Store.Scope, At: w.Clock().UTC(), Answers: []string{}, NotSeen: NotSeen(), Picture: p}
	w.mu.Lock()
	if w.known == nil {
		w.known = map[string]Member{}
	}
	for _, m := range p.Members {
		w.known[m.Name] = m
	}
	w.mu.Unlock()
	w.askAll(ctx, &s)
	s.Findings = append(Check(&s.Picture), w.tls(ctx, &s)...)
	s.Words = words(&s.Picture, s.Findings)
	if w.More != nil {
		w.More(&s)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.latest = s
	return s, nil
}

// askAll asks every member how it is, at once, and takes over what only they
// know: how far each is behind, and whether the leader goes on without its
// store.
func (w *Watch) askAll(ctx context.Context, s *Status) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	for i := range s.Members {
		m := s.Members[i]
		wait.Go(func() {
			x, err := w.Client.Server(ctx, m)
			var c Cluster
			if err == nil && m.Role == Leader {
				c, _ = w.Client.Cluster(ctx, m)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				return
			}
			s.Answers = append(s.Answers, m.Name)
			s.Failsafe = s.Failsafe || x.Failsafe
			s.Members[i].State = x.State
			for _, other := range c.Members {
				if k := slices.IndexFunc(s.Members, func(o Member) bool { return o.Name == other.Name }); k >= 0 {
					s.Members[k].Lag = other.Lag
				}
			}
		})
	}
	wait.Wait()
	slices.Sort(s.Answers)
}

// tlsEvery is how often it is tried whether old TLS is refused.
const tlsEvery = time.Minute

// tls tries whether a member's REST API takes what is older than TLS 1.3.
func (w *Watch) tls(ctx context.Context, s *Status) (out []Finding) {
	if w.OldTLS == nil || len(s.Answers) == 0 {
		return nil
	}
	w.mu.Lock()
	due := w.oldTLS == nil || w.Clock().Sub(w.tried) >= tlsEvery
	w.mu.Unlock()
	if due {
		takes := map[string]bool{}
		for _, name := range s.Answers {
			m, _ := s.Member(name)
			takes[name] = w.takesOld(ctx, m)
		}
		w.mu.Lock()
		w.oldTLS, w.tried = takes, w.Clock()
		w.mu.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var old []string
	for name, takes := range w.oldTLS {
		if takes {
			old = append(old, name)
		}
	}
	slices.Sort(old)
	f := Finding{ID: "rest-tls", OK: len(old) == 0, Words: "The REST API of every member that answers refuses what is older than TLS 1.3."}
	if !f.OK {
		f.Words, f.Mend = "The REST API takes TLS 1.2 on: "+joined(old)+".", "Start Patroni there with OPENSSL_CONF naming the file "+FileOpenSSL+" that `foundry database patroni config` writes."
	}
	return []Finding{f}
}

func joined(names []string) (out string) {
	for i, n := range names {
		if i > 0 {
			out += ", "
		}
		out += n
	}
	return out
}

func (w *Watch) takesOld(ctx context.Context, m Member) bool {
	at, err := url.Parse(m.API)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	c := w.OldTLS(m.Name)
	c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: c}).DialContext(ctx, "tcp", at.Host)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// Run looks until ctx ends: when something of the cluster changes, and every so
// often.
func (w *Watch) Run(ctx context.Context, every time.Duration, looked func(Status, error)) {
	for ctx.Err() == nil {
		s, err := w.Look(ctx)
		looked(s, err)
		one, cancel := context.WithTimeout(ctx, every)
		changed := w.Store.Client.Watch(one, Prefix+w.Store.Scope+"/leader", clientv3.WithRev(s.Revision+1))
		moved := false
		for a := range changed {
			moved = slices.ContainsFunc(a.Events, func(e *clientv3.Event) bool { return e.Type == clientv3.EventTypeDelete || e.IsCreate() })
			if moved {
				break
			}
		}
		if !moved || err != nil { // a watch may end before its time
			<-one.Done()
		}
		cancel()
	}
}

// Ask does something by the first member that answers, the leader first, and
// says which it was.
func (w *Watch) Ask(ctx context.Context, do func(Member) error) (by string, err error) {
	s := w.Latest()
	all := slices.Clone(s.Members)
	slices.SortStableFunc(all, func(a, b Member) int {
		switch {
		case a.Name == s.Leader && b.Name != s.Leader:
			return -1
		case b.Name == s.Leader && a.Name != s.Leader:
			return 1
		}
		return 0
	})
	err = ErrAway
	for _, m := range all {
		if err = do(m); err == nil || !errors.Is(err, ErrAway) {
			return m.Name, err
		}
	}
	return "", err
}
