package member

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

const (
	// PresenceTTL is how long a silent node counts as present.
	PresenceTTL = 3 * time.Second
	// startPatience is how long a start waits for a majority. Without one the
	// member comes up all the same, and says so.
	startPatience = 20 * time.Second
	callPatience  = 5 * time.Second // of one call whose caller sets no limit
)

// Start brings this process into the fleet. The very first start of a process
// with the role fleet founds a fleet of one; every other process needs an
// invitation first (see [Join]).
func Start(ctx context.Context, o Options) (_ *Member, err error) {
	m, err := prepare(o)
	if err != nil {
		return nil, err
	}
	m.life, m.stop = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			_ = m.Stop(context.WithoutCancel(ctx))
		}
	}()
	if !m.files.belongs() {
		if !slices.Contains(o.Roles, Fleet) {
			return nil, problem.New(problem.Invalid, "node-not-joined", "This node belongs to no fleet yet.").
				WithMend("Make an invitation on a member with `foundry node invite`, and use it here with `foundry node join`.")
		}
		if err := m.found(); err != nil {
			return nil, err
		}
	}
	if err := m.identify(); err != nil {
		return nil, err
	}
	if Votes(m.o.Roles) {
		err = m.startServer(ctx, m.o.Patience)
	} else {
		err = m.dial(ctx)
	}
	if err != nil {
		return nil, err
	}
	if err := m.openDoor(); err != nil {
		return nil, err
	}
	m.run()
	return m, nil
}

func prepare(o Options) (*Member, error) {
	if o.Log == nil {
		o.Log = discard
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Schema == 0 {
		o.Schema = Schema
	}
	if o.Patience == 0 {
		o.Patience = startPatience
	}
	if o.Room == 0 {
		o.Room = leastRoom
	}
	if o.SnapshotEvery == 0 {
		o.SnapshotEvery = time.Hour
	}
	if o.SnapshotKeep == 0 {
		o.SnapshotKeep = 24
	}
	if err := CheckRoles(o.Roles); err != nil {
		return nil, err
	}
	if err := CheckAddresses(o.Listen, o.Advertise); err != nil {
		return nil, err
	}
	o.Advertise = o.Advertise.or(o.Listen)
	f, err := openFiles(o.Dir, o.Ring)
	if err != nil {
		return nil, err
	}
	m := &Member{o: o, log: o.Log, clock: o.Clock, files: f, terms: map[*Term]bool{}, since: o.Clock().UTC()}
	m.stop = func() {}
	return m, nil
}

// found makes a fleet of one.
func (m *Member) found() error {
	if err := CheckName(m.o.Name); err != nil {
		return err
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	fleet, now := hex.EncodeToString(id[:]), m.clock()
	authority, private, err := makeAuthority(fleet, now)
	if err != nil {
		return err
	}
	defer clear(private)
	keyset, err := makeKeyset()
	if err != nil {
		return err
	}
	defer clear(keyset)
	list, err := authority.revoke(1, nil, now)
	if err != nil {
		return err
	}
	if _, _, err := m.files.newNode(); err != nil {
		return err
	}
	if err := errors.Join(m.files.seal(caKeyFile, private), m.files.seal(keysetFile, keyset),
		replaceFile(m.files.path(caFile), authority.pem), replaceFile(m.files.path(revokedFile), list)); err != nil {
		return err
	}
	if err := os.RemoveAll(m.files.path(etcdDir)); err != nil { // of a founding that was cut short
		return unusable(m.files.path(etcdDir), err)
	}
	// The record is written last: it is what says that the rest is whole.
	return m.files.update(func(r *record) {
		*r = record{Fleet: fleet, Name: m.o.Name, Roles: m.o.Roles, Joined: now.UTC(), Founded: true, Advertise: m.o.Advertise,
			Members: []knownMember{{Name: m.o.Name, Addresses: m.o.Advertise, Voter: true}}}
	})
}

// newNode makes a node's key and age identity in its directory.
func (f *files) newNode() (public any, recipient string, err error) {
	key, private, err := newKey()
	if err != nil {
		return nil, "", err
	}
	defer clear(private)
	identity, recipient, err := newIdentity()
	if err != nil {
		return nil, "", err
	}
	return key.Public(), recipient, errors.Join(f.seal(keyFile, private), f.seal(identityFile, []byte(identity)))
}

// identify reads who this node is, and renews its certificate where it can.
func (m *Member) identify() error {
	r := m.files.read()
	if m.o.Name != "" && m.o.Name != r.Name {
		return problem.New(problem.Conflict, "node-name-fixed", fmt.Sprintf("This node is %q in its fleet; it cannot be %q.", r.Name, m.o.Name)).WithField("fleet.name").
			WithMend("Write fleet: {name: " + r.Name + "}, or remove the node from the fleet and invite it under the new name.")
	}
	m.o.Name = r.Name
	if slices.Contains(m.o.Roles, Database) && slices.Contains(r.Roles, Fleet) && !slices.Contains(r.Roles, Database) {
		// A node that holds the key of the fleet's authority needs nobody's
		// invitation to run the database; a founder was never invited at all.
		r.Roles = append(slices.Clone(r.Roles), Database)
		if err := m.files.update(func(to *record) { to.Roles = r.Roles }); err != nil {
			return err
		}
	}
	for _, role := range m.o.Roles {
		if !slices.Contains(r.Roles, role) {
			return problem.New(problem.Denied, "node-role", fmt.Sprintf("This node was not invited with the role %s.", role)).WithField("role").
				WithMend(fmt.Sprintf("Start it with the roles %v, or remove it and invite it anew.", r.Roles))
		}
	}
	if len(m.o.Roles) > 0 && Votes(r.Roles) && !Votes(m.o.Roles) {
		return problem.New(problem.Invalid, "node-role", "This node votes: it cannot run without the role fleet or witness.").WithField("role").
			WithMend("Give the other roles a data directory and an invitation of their own.")
	}
	plain, err := m.files.open(keysetFile)
	if err != nil {
		return err
	}
	defer clear(plain)
	seal, err := openKeyset(plain)
	if err != nil {
		return err
	}
	m.store = &Store{seal: seal, schema: m.o.Schema}
	if err := m.files.finishPair(); err != nil {
		return err
	}
	authority, err := m.files.authority()
	if err != nil {
		return err
	}
	authority.life = m.o.CertLife
	if authority.key != nil {
		if err := m.files.signOwn(authority, r, m.clock()); err != nil {
			return err
		}
	}
	if m.tls, err = openTLS(m.files, authority); err != nil {
		return err
	}
	if leaf := m.tls.leaf(); m.clock().After(leaf.NotAfter) {
		return expired(leaf.NotAfter)
	}
	if m.tls.verifyOwn() != nil {
		return errRevoked
	}
	return m.files.update(func(r *record) {
		if m.o.Advertise != (Addresses{}) {
			r.Advertise = m.o.Advertise
		}
	})
}

func expired(at time.Time) error {
	return problem.New(problem.Denied, "node-certificate-expired", "This node's certificate ran out on "+at.Format(time.DateOnly)+": it was away for longer than a certificate lasts.").
		WithMend("Remove the node from the fleet on a member, invite it again, and join from an empty directory.")
}

func (t *tlsFiles) verifyOwn() error {
	if (*t.revoked.Load())[t.leaf().SerialNumber.Text(16)] {
		return errRevoked
	}
	return nil
}

// authority reads the fleet's authority, with its key where this node has it.
func (f *files) authority() (*authority, error) {
	text, err := os.ReadFile(f.path(caFile))
	if err != nil {
		return nil, unusable(f.path(caFile), err)
	}
	private, err := f.open(caKeyFile)
	if err != nil {
		return nil, err
	}
	defer clear(private)
	return readAuthority(text, private)
}

// Stop leaves the fleet for now: leases end, a leader hands over, the store
// closes.
func (m *Member) Stop(ctx context.Context) error {
	m.stopping.Do(func() { m.leave(ctx) })
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended
}

func (m *Member) leave(ctx context.Context) {
	m.resignAll(ctx)
	if p := m.Presence(); p != nil {
		one, cancel := context.WithTimeout(ctx, time.Second)
		_ = p.End(one) // the others see at once that this node has gone
		cancel()
	}
	if m.join != nil {
		_ = m.join.Close()
	}
	m.stop()
	m.running.Wait()
	if m.etcd() != nil {
		m.note()
		m.close()
		m.seat.Load().end()
	}
	if m.client != nil {
		_ = m.client.Close()
	}
	if m.tls != nil {
		_ = m.tls.memory.Close()
	}
}

// Presence is the lease under which this node's presence stands; what this
// node publishes belongs under it. It is replaced when the fleet was not
// reached for its time: nil until then.
func (m *Member) Presence() *Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.presence
}

func (m *Member) resignAll(ctx context.Context) {
	m.mu.Lock()
	terms := make([]*Term, 0, len(m.terms))
	for t := range m.terms {
		terms = append(terms, t)
	}
	m.mu.Unlock()
	for _, t := range terms {
		one, cancel := context.WithTimeout(ctx, time.Second)
		_ = t.Resign(one)
		cancel()
	}
}

// bounded gives a call a limit where its caller set none.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, set := ctx.Deadline(); set {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, callPatience)
}

// Abandon ends the member as if its process was killed: nothing is handed
// over and no lease ends. For tests.
func (m *Member) Abandon() {
	if !testing.Testing() {
		panic("member: abandoned outside of a test")
	}
	if m.join != nil {
		_ = m.join.Close()
	}
	m.stop()
	if m.etcd() != nil {
		for _, p := range m.etcd().Peers {
			_ = p.Listener.Close()
		}
		for _, l := range m.etcd().Clients {
			_ = l.Close()
		}
		go m.etcd().Server.HardStop()
	}
	m.running.Wait()
	if m.etcd() != nil {
		m.close()
	}
	_ = m.client.Close()
	_ = m.tls.memory.Close()
}
