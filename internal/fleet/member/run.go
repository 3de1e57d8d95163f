package member

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
)

// run starts what a node does for the fleet all the time.
func (m *Member) run() {
	m.running.Go(m.keepPresence)
	m.running.Go(m.keepRecord)
	m.running.Go(m.keepRevoked)
	m.running.Go(m.keepCertificate)
	m.running.Go(m.keepAsking)
	if m.etcd() == nil {
		m.running.Go(m.keepEndpoints)
		return
	}
	m.running.Go(m.lookAfter)
	m.running.Go(m.keepSnapshots)
	m.running.Go(m.keepRoom)
	m.running.Go(m.awaitEnd)
}

// awaitEnd ends the member when its etcd has ended by itself.
func (m *Member) awaitEnd() {
	s := m.seat.Load()
	select {
	case <-s.etcd.Server.StopNotify(): // removed, or broken
		if s.life.Err() != nil {
			return // it was left
		}
		m.mu.Lock()
		if m.ended == nil && m.life.Err() == nil {
			m.ended = m.whyStopped()
		}
		m.mu.Unlock()
		m.stop()
	case <-s.life.Done():
	case <-m.life.Done():
	}
}

func (m *Member) whyStopped() error {
	if slices.ContainsFunc(m.etcd().Server.Cluster().Members(), func(x *memberOf) bool { return x.ID == m.etcd().Server.MemberID() }) {
		return problem.New(problem.Unavailable, "fleet-member-failed", "This node's copy of the fleet's store stopped by itself.").
			WithMend("The log says why. Start the node again; the other members go on without it.")
	}
	return errRevoked
}

// pause waits, unless the member stops first.
func (m *Member) pause(d time.Duration) bool {
	select {
	case <-m.life.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// keepPresence says "I am here" under a lease, and takes a new one when the
// fleet was away for longer than the old one held.
func (m *Member) keepPresence() {
	for m.life.Err() == nil {
		ctx, cancel := context.WithTimeout(m.life, callPatience)
		l, err := m.Lease(ctx, PresenceTTL)
		if err == nil {
			_, err = m.store.Put(ctx, "leases/"+m.o.Name, Presence{m.o.Name, m.o.Roles, m.o.Version, m.o.Schema, m.since}, Under(l))
		}
		cancel()
		if err == nil {
			m.mu.Lock()
			m.presence = l
			m.mu.Unlock()
			<-l.Done()
			m.mu.Lock()
			m.presence = nil
			m.mu.Unlock()
			continue
		}
		if l != nil {
			l.cancel()
		}
		m.pause(500 * time.Millisecond)
	}
}

// keepRecord writes what changed about this node, as soon as a majority
// answers: its addresses, its version, its certificate.
func (m *Member) keepRecord() {
	for m.life.Err() == nil {
		ctx, cancel := context.WithTimeout(m.life, 2*callPatience)
		err := m.publish(ctx)
		cancel()
		if err == nil {
			return
		}
		m.log.Debug("this node's record was not written yet", "error", err)
		m.pause(500 * time.Millisecond)
	}
}

func (m *Member) publish(ctx context.Context) error {
	r := m.files.read()
	if m.etcd() != nil {
		if err := m.moveDoor(ctx, r); err != nil {
			return err
		}
	}
	recipient, err := m.Recipient()
	if err != nil {
		return err
	}
	if r.Recovered != nil {
		if err := m.afterRecovery(ctx, *r.Recovered); err != nil {
			return err
		}
	}
	var n Node
	_, err = m.store.Update(ctx, "nodes/"+m.o.Name, &n, func() error {
		if n.Name == "" && !r.Founded && r.Recovered == nil {
			return errRevoked // removed while it was away
		}
		n.Name, n.Roles, n.Recipient, n.Version, n.Schema = r.Name, r.Roles, recipient, m.o.Version, m.o.Schema
		n.Addresses = r.Advertise
		if n.Joined.IsZero() {
			n.Joined = r.Joined
		}
		if m.etcd() != nil {
			n.Member = m.etcd().Server.MemberID().String()
		}
		n.Issued = m.issued(n.Issued)
		return nil
	})
	if errors.Is(err, errRevoked) {
		m.mu.Lock()
		m.ended = errRevoked
		m.mu.Unlock()
		m.stop()
		return nil
	}
	if err != nil {
		return err
	}
	if r.Founded && r.Recovered == nil {
		if list, rerr := m.files.readRevoked(); rerr == nil {
			_, err = m.store.Put(ctx, revokedPath, revokedList{Number: 1, List: list}, IfAbsent(revokedPath))
			if errors.Is(err, ErrChanged) {
				err = nil
			}
		}
	}
	return err
}

// issued lists this node's certificates that have not run out, with the one in use.
func (m *Member) issued(known []Issued) []Issued {
	now := issuedAs(m.tls.leaf())
	out := slices.DeleteFunc(slices.Clone(known), func(i Issued) bool { return m.clock().After(i.NotAfter) || i.Serial == now.Serial })
	return append(out, now)
}

// moveDoor tells the members where this one is reached, where that changed.
func (m *Member) moveDoor(ctx context.Context, r record) error {
	self, id := peerURL(r.Advertise), m.etcd().Server.MemberID()
	for _, x := range m.etcd().Server.Cluster().Members() {
		if x.ID == id && !slices.Equal(x.PeerURLs, []string{self.String()}) {
			if _, err := m.client.MemberUpdate(ctx, uint64(id), []string{self.String()}); err != nil {
				return worded(err)
			}
		}
	}
	return nil
}

// keepRevoked follows the list of certificates that no longer count, and the
// nodes that a process which dials can reach.
func (m *Member) keepRevoked() {
	for m.life.Err() == nil {
		ctx, cancel := context.WithCancel(m.life)
		revision := m.takeRevoked(ctx)
		for e := range m.store.Watch(ctx, revokedPath, revision) {
			if e.Err != nil {
				break
			}
			if !e.Deleted {
				m.useRevoked(e.Entry)
			}
		}
		cancel()
		m.pause(time.Second)
	}
}

func (m *Member) takeRevoked(ctx context.Context) int64 {
	one, cancel := bounded(ctx)
	defer cancel()
	entries, revision, err := m.store.List(one, revokedPath)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		m.useRevoked(e)
	}
	return revision
}

func (m *Member) useRevoked(e Entry) {
	var l revokedList
	err := e.Decode(&l)
	if err == nil {
		if err = m.tls.refuse(l.List); err == nil { // checks the signature
			err = replaceFile(m.files.path(revokedFile), l.List)
		}
	}
	if err != nil {
		m.log.Error("the list of removed nodes was not taken over", "error", err)
		return
	}
	if m.tls.verifyOwn() != nil {
		m.mu.Lock()
		m.ended = errRevoked
		m.mu.Unlock()
		m.log.Error("this node was removed from the fleet")
		m.stop()
	}
}

// keepEndpoints follows which members there are, for a process that dials.
func (m *Member) keepEndpoints() {
	for m.pause(5 * time.Second) {
		ctx, cancel := context.WithTimeout(m.life, callPatience)
		nodes, err := m.Nodes(ctx)
		cancel()
		if err != nil || len(nodes) == 0 {
			continue
		}
		var known []knownMember
		for _, n := range nodes {
			known = append(known, knownMember{n.Name, n.Addresses, n.Votes()})
		}
		now, r := m.clock().UTC(), m.files.read()
		if now.Sub(r.Heard).Abs() < time.Minute && slices.Equal(known, r.Members) {
			continue
		}
		err = m.files.update(func(r *record) { r.Members, r.Heard = known, now })
		if err != nil {
			m.log.Warn("what was heard of the fleet was not written down", "error", err)
		}
		if at := m.files.read().endpoints(); len(at) > 0 {
			m.client.SetEndpoints(at...)
		}
	}
}

// keepCertificate renews this node's certificate at 60 of its 90 days.
func (m *Member) keepCertificate() {
	again := m.tls.authority.lasts() / 20
	for m.pause(min(time.Minute, again)) {
		if m.tls.authority.standing(m.tls.leaf(), m.clock()) {
			continue
		}
		ctx, cancel := context.WithTimeout(m.life, 30*time.Second)
		err := m.renew(ctx)
		cancel()
		if err != nil {
			m.log.Warn("the node's certificate was not renewed", "until", m.tls.leaf().NotAfter, "error", err)
			m.pause(min(10*time.Minute, again))
		}
	}
}

// lookAfter is what members do for the membership: promote who has caught up,
// hand over what a draining node leads, and remember what was heard.
func (m *Member) lookAfter() {
	var last time.Time
	for m.pause(500 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(m.life, callPatience)
		m.checkDraining(ctx)
		if m.etcd().Server.Leader() == m.etcd().Server.MemberID() {
			m.promote(ctx)
		}
		if m.etcd().Server.Leader() != 0 && time.Since(last) > 2*time.Second {
			last = time.Now()
			m.note()
		}
		cancel()
	}
}

// promote makes voters of those who have caught up; etcd refuses the others.
func (m *Member) promote(ctx context.Context) {
	for _, x := range m.etcd().Server.Cluster().Members() {
		if !x.IsLearner || !m.votes(ctx, x.ID) {
			continue
		}
		if _, err := m.client.MemberPromote(ctx, uint64(x.ID)); err == nil {
			m.log.Info("a member has caught up and votes now", "node", x.Name)
		}
	}
}

// votes says whether the node that a member belongs to is there: who has not
// come yet is not promoted, however little there is to catch up.
func (m *Member) votes(ctx context.Context, id types.ID) bool {
	nodes, err := m.Nodes(ctx)
	if err != nil {
		return false
	}
	for _, n := range nodes {
		if n.Member == id.String() {
			_, err := m.store.Get(ctx, "leases/"+n.Name)
			return err == nil
		}
	}
	return false
}

func (m *Member) checkDraining(ctx context.Context) {
	e, err := m.store.GetLocal(ctx, "nodes/"+m.o.Name)
	var n Node
	if err != nil || e.Decode(&n) != nil {
		return
	}
	m.mu.Lock()
	m.draining = n.Draining
	m.mu.Unlock()
	if !n.Draining {
		return
	}
	m.resignAll(ctx)
	if id := m.etcd().Server.MemberID(); m.etcd().Server.Leader() == id {
		for _, x := range m.etcd().Server.Cluster().Members() {
			if x.ID != id && !x.IsLearner && m.etcd().Server.MoveLeader(ctx, uint64(id), uint64(x.ID)) == nil {
				return
			}
		}
	}
}

// note remembers who the members are and the highest revision that was seen,
// for a start, and a recovery, without them: when the members changed, and
// once a minute.
func (m *Member) note() {
	known, err := m.knownMembers()
	if err != nil {
		return
	}
	now, r := m.clock().UTC(), m.files.read()
	if now.Sub(r.Heard).Abs() < time.Minute && m.life.Err() == nil && slices.Equal(known, r.Members) {
		return
	}
	if m.seat.Load().life.Err() != nil {
		return
	}
	revision := m.etcd().Server.KV().Rev()
	if err := m.files.update(func(r *record) {
		r.Members, r.Heard = known, now
		r.High = max(r.High, revision)
	}); err != nil {
		m.log.Warn("what was heard of the fleet was not written down", "error", err)
	}
}

func (m *Member) knownMembers() ([]knownMember, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.life), time.Second)
	defer cancel()
	entries, _, err := m.store.ListLocal(ctx, "nodes/")
	if err != nil {
		return nil, err
	}
	var out []knownMember
	for _, e := range entries {
		var n Node
		if err := e.Decode(&n); err != nil {
			return nil, err
		}
		out = append(out, knownMember{n.Name, n.Addresses, n.Votes()})
	}
	if len(out) == 0 {
		return nil, ErrAbsent
	}
	return out, nil
}

// answers asks every voter whether it is there, at its door for peers, which
// needs no majority.
func (m *Member) answers(ctx context.Context, members []*pb.Member) map[uint64]bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: m.tls.dial(memberName), DisableKeepAlives: true}}
	out, mu := map[uint64]bool{}, sync.Mutex{}
	var asking sync.WaitGroup
	for _, x := range members {
		if len(x.PeerURLs) == 0 || m.etcd() != nil && x.ID == uint64(m.etcd().Server.MemberID()) {
			continue
		}
		asking.Go(func() {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, x.PeerURLs[0]+"/version", nil)
			if err != nil {
				return
			}
			a, err := client.Do(r)
			if err != nil {
				return
			}
			_ = a.Body.Close()
			mu.Lock()
			out[x.ID] = a.StatusCode == http.StatusOK
			mu.Unlock()
		})
	}
	asking.Wait()
	return out
}

// renew gives this node a new certificate: its own authority's, or that of a
// member that it asks.
func (m *Member) renew(ctx context.Context) error {
	if m.tls.authority.key != nil {
		if err := m.files.signOwn(m.tls.authority, m.files.read(), m.clock()); err != nil {
			return err
		}
	} else if err := m.askRenewal(ctx); err != nil {
		return err
	}
	if err := m.tls.load(m.files); err != nil {
		return err
	}
	m.lines.renew()
	return m.publish(ctx)
}

// signOwn signs this node's certificate where it is due.
func (f *files) signOwn(a *authority, r record, now time.Time) error {
	private, err := f.open(keyFile)
	if err != nil {
		return err
	}
	defer clear(private)
	pair, err := f.pair(private)
	if err == nil && a.standing(pair.Leaf, now) {
		return nil
	}
	key, err := publicOf(private)
	if err != nil {
		return err
	}
	cert, err := a.issue(r.Name, r.Roles, key, now)
	if err != nil {
		return err
	}
	return replaceFile(f.path(certFile), certPEM(cert))
}

// standing says whether a certificate need not be made anew: it is not due, and
// was not made by a clock that was ahead, which others refuse.
func (a *authority) standing(leaf *x509.Certificate, now time.Time) bool {
	return now.Before(leaf.NotAfter.Add(-a.renewal())) && now.After(leaf.NotBefore.Add(clockError/2))
}

func decode[T any](body []byte) (v T, err error) {
	if err = json.Unmarshal(body, &v); err != nil {
		err = fmt.Errorf("reading an answer of the fleet: %w", err)
	}
	return v, err
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// reach says whether a member answers at its door for peers.
func (m *Member) reach(ctx context.Context, address string) bool {
	if address == "" {
		return false
	}
	return len(m.answers(ctx, []*pb.Member{{ID: 1, PeerURLs: []string{"https://" + address}}})) > 0
}
