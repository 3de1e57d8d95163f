package member

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Node is one node of the fleet, as the members agreed on it. It lies at
// nodes/<name>.
type Node struct {
	Name      string    `json:"name"`
	Roles     []Role    `json:"roles"`
	Addresses Addresses `json:"addresses,omitzero"`
	Recipient string    `json:"recipient"` // age, for what is sealed to this node alone
	Member    string    `json:"member,omitempty"`
	Version   string    `json:"version"`
	Schema    int       `json:"schema"`
	Joined    time.Time `json:"joined"`
	Draining  bool      `json:"draining,omitempty"` // is given no work and does not lead
	Issued    []Issued  `json:"issued"`             // certificates, until they have run out
}

// Issued is a certificate that the fleet's authority made for a node.
type Issued struct {
	Serial   string    `json:"serial"` // hex
	NotAfter time.Time `json:"not_after"`
}

// Votes says whether the node keeps a copy and votes.
func (n Node) Votes() bool { return Votes(n.Roles) }

// Presence lies at leases/<name> while a node is there.
type Presence struct {
	Node    string    `json:"node"`
	Roles   []Role    `json:"roles"`
	Version string    `json:"version"`
	Schema  int       `json:"schema"`
	Since   time.Time `json:"since"`
}

// NodeStatus is one node as this one sees it.
type NodeStatus struct {
	Node
	Voter   bool   `json:"voter"`
	Learner bool   `json:"learner,omitempty"` // copies, and does not vote yet
	Leader  bool   `json:"leader,omitempty"`  // of the store, which is not the leader of the fleet
	Self    bool   `json:"self,omitempty"`
	Answers bool   `json:"answers"` // a member: when it was asked just now; another node: by its lease
	Bytes   int64  `json:"bytes,omitempty"`
	Words   string `json:"words"`
}

// Status is the fleet as this node sees it.
type Status struct {
	Node     string       `json:"node"`
	At       time.Time    `json:"at"`
	Majority bool         `json:"majority"`
	Words    string       `json:"words"` // the whole, in one or two sentences
	Voters   int          `json:"voters"`
	Answer   int          `json:"answer"`   // of the voters
	Survives int          `json:"survives"` // how many voters more may be lost
	Leader   string       `json:"leader,omitempty"`
	Epoch    int64        `json:"epoch,omitempty"`
	Revision int64        `json:"revision"`
	Bytes    int64        `json:"bytes"` // of the store on this node's disk
	Quota    int64        `json:"quota"`
	Version  string       `json:"version"`
	Nodes    []NodeStatus `json:"nodes"`
	Warnings []string     `json:"warnings,omitempty"`
	Known    time.Time    `json:"known,omitzero"` // of what is not from now: when this node last heard a majority
	Snapshot time.Time    `json:"snapshot,omitzero"`
	Expires  time.Time    `json:"expires,omitzero"` // this node's certificate
}

// Act is something that was done to the fleet, or was refused. Acts lie in
// the fleet's own list, each with the hash of the one before, until they are
// in the audit log.
type Act struct {
	Number   int64             `json:"number,omitempty"`
	At       time.Time         `json:"at"`
	Node     string            `json:"node"` // where it was done
	By       string            `json:"by"`   // kind and id of the principal; never a name
	Act      string            `json:"act"`  // e.g. node.invite
	Target   string            `json:"target"`
	Details  map[string]string `json:"details,omitempty"`
	Denied   bool              `json:"denied,omitempty"`
	Previous string            `json:"previous,omitempty"` // SHA-256 of the one before, hex
}

// Invitation lets one node join, once.
type Invitation struct {
	Selector string    `json:"selector"`
	Name     string    `json:"name"`
	Roles    []Role    `json:"roles"`
	Made     time.Time `json:"made"`
	Expires  time.Time `json:"expires"`
	By       string    `json:"by"`
	Used     time.Time `json:"used,omitzero"`
	Revoked  time.Time `json:"revoked,omitzero"`
	Refused  int       `json:"refused,omitempty"` // attempts after it was used, revoked or run out, or with a wrong name
	Hash     string    `json:"hash,omitempty"`    // bcrypt of the secret; never shown
}

// State says in one word how the invitation stands.
func (i Invitation) State(now time.Time) string {
	switch {
	case !i.Revoked.IsZero():
		return "revoked"
	case !i.Used.IsZero():
		return "used"
	case !now.Before(i.Expires):
		return "expired"
	}
	return "open"
}

// Status says how the fleet is. It answers without a majority too, from what
// this node last knew.
func (m *Member) Status(ctx context.Context) Status {
	ctx, cancel := context.WithTimeout(ctx, 2*callPatience)
	defer cancel()
	r := m.files.read()
	s := Status{Node: m.o.Name, At: m.clock().UTC(), Version: m.o.Version, Quota: quota, Known: r.Heard, Expires: m.tls.leaf().NotAfter.UTC()}
	m.mu.Lock()
	s.Snapshot = m.shot
	ended := m.ended
	if ended == nil {
		ended = m.full
	}
	m.mu.Unlock()
	quick, end := context.WithTimeout(ctx, 1500*time.Millisecond)
	_, err := m.client.Get(quick, Prefix+"leader") // through the majority
	end()
	s.Majority = err == nil && ended == nil
	members, leader := m.voters(ctx, &s)
	nodes := m.nodesNow(ctx, s.Majority, r)
	present := m.presences(ctx, s.Majority)
	answers := m.answers(ctx, members)
	for _, x := range members {
		if x.IsLearner {
			continue
		}
		s.Voters++
		if m.isSelf(x.ID) && ended == nil || answers[x.ID] {
			s.Answer++
		}
	}
	s.Survives = max(0, s.Answer-(s.Voters/2+1))
	for _, n := range nodes {
		s.Nodes = append(s.Nodes, m.nodeStatus(n, members, leader, answers, present))
	}
	if s.Majority {
		s.Leader, s.Epoch, _ = m.Leader(ctx, "leader")
	}
	s.Words = s.words(ended)
	s.Warnings = s.warn()
	return s
}

// voters are the members of the store and the one that leads it.
func (m *Member) voters(ctx context.Context, s *Status) (members []*pb.Member, leader uint64) {
	if m.etcd() != nil {
		for _, x := range m.etcd().Server.Cluster().Members() {
			members = append(members, &pb.Member{ID: uint64(x.ID), Name: x.Name, PeerURLs: x.PeerURLs, ClientURLs: x.ClientURLs, IsLearner: x.IsLearner})
		}
		select {
		case <-m.etcd().Server.StoppingNotify(): // its database is closed, or will be
			s.Revision = m.files.read().High
			return members, 0
		case <-m.seat.Load().life.Done():
			s.Revision = m.files.read().High
			return members, 0
		default:
		}
		s.Revision, s.Bytes = m.etcd().Server.KV().Rev(), m.etcd().Server.Backend().Size()
		return members, uint64(m.etcd().Server.Leader())
	}
	one, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if list, err := m.client.MemberList(one, clientv3.WithSerializable()); err == nil {
		members = list.Members
	}
	for _, e := range m.client.Endpoints() {
		if one, err := m.client.Status(one, e); err == nil {
			s.Revision, s.Bytes, leader = one.Header.Revision, one.DbSize, one.Leader
			break
		}
	}
	return members, leader
}

// nodesNow are the nodes as the majority has them; else as this node has
// them; else as it last wrote them down.
func (m *Member) nodesNow(ctx context.Context, majority bool, r record) []Node {
	list := m.store.ListLocal
	if majority {
		list = m.store.List
	}
	if entries, _, err := list(ctx, "nodes/"); err == nil {
		if nodes, err := decodeNodes(entries); err == nil && len(nodes) > 0 {
			return nodes
		}
	}
	var out []Node
	for _, k := range r.Members {
		n := Node{Name: k.Name, Addresses: k.Addresses}
		if k.Voter {
			n.Roles = []Role{Fleet}
		}
		out = append(out, n)
	}
	return out
}

func (m *Member) presences(ctx context.Context, majority bool) map[string]bool {
	out := map[string]bool{}
	if !majority {
		return out
	}
	entries, _, err := m.store.List(ctx, "leases/")
	if err != nil {
		return out
	}
	for _, e := range entries {
		out[strings.TrimPrefix(e.Path, "leases/")] = true
	}
	return out
}

func (m *Member) isSelf(id uint64) bool {
	return m.etcd() != nil && id == uint64(m.etcd().Server.MemberID())
}

func (m *Member) nodeStatus(n Node, members []*pb.Member, leader uint64, answers map[uint64]bool, present map[string]bool) NodeStatus {
	out := NodeStatus{Node: n, Self: n.Name == m.o.Name, Answers: present[n.Name] || n.Name == m.o.Name}
	for _, x := range members {
		if strconv.FormatUint(x.ID, 16) != n.Member || n.Member == "" {
			continue
		}
		out.Learner, out.Voter, out.Leader = x.IsLearner, !x.IsLearner, x.ID == leader
		out.Answers = m.isSelf(x.ID) || answers[x.ID]
	}
	switch {
	case out.Learner && out.Answers:
		out.Words = "copies what the fleet knows; votes when it has caught up"
	case out.Learner:
		out.Words = "invited to vote, and not started yet"
	case !out.Answers && out.Voter:
		out.Words = "does not answer"
	case !out.Answers:
		out.Words = "is not there: its lease has ended, or cannot be read"
	case n.Draining:
		out.Words = "is drained: it leads nothing and is given no work"
	case out.Voter:
		out.Words = "answers and votes"
	default:
		out.Words = "answers"
	}
	return out
}

func (s Status) words(ended error) string {
	away := s.Voters - s.Answer
	switch {
	case ended != nil:
		return problem.From(ended).Detail
	case !s.Majority && away > 0:
		return fmt.Sprintf("%d of %d members do not answer; nothing can be decided until %s back, or until an operator runs `foundry node recover` on a surviving node.",
			away, s.Voters, map[bool]string{true: "one is", false: "enough of them are"}[away-(s.Voters-s.Voters/2-1) == 1])
	case !s.Majority:
		return "No majority of the members answered in time; nothing can be decided until one does. If this lasts, this node may be the one that is cut off."
	case s.learns():
		return "This node copies what the fleet knows, and votes when it has caught up."
	case s.Voters == 1:
		return "A fleet of one: this node decides alone, and nothing survives its loss."
	case away > 0:
		return fmt.Sprintf("%d of %d members do not answer. The others decide; %s.", away, s.Voters, survives(s.Survives))
	case s.Voters%2 == 0:
		return fmt.Sprintf("All %d members answer; %s. An even number survives no more than one less would.", s.Voters, survives(s.Survives))
	}
	return fmt.Sprintf("All %d members answer; %s.", s.Voters, survives(s.Survives))
}

func (s Status) learns() bool {
	return slices.ContainsFunc(s.Nodes, func(n NodeStatus) bool { return n.Self && n.Learner })
}

func survives(n int) string {
	switch n {
	case 0:
		return "none may be lost now"
	case 1:
		return "one may be lost"
	}
	return fmt.Sprintf("%d may be lost", n)
}

// warn tells what is not wrong yet.
func (s Status) warn() (out []string) {
	if s.Bytes > s.Quota*3/4 {
		out = append(out, fmt.Sprintf("The store takes %d of the %d MB that it may: find out what writes so much.", s.Bytes>>20, s.Quota>>20))
	}
	if left := s.Expires.Sub(s.At); left < certLife/6 {
		out = append(out, fmt.Sprintf("This node's certificate runs out in %d days and was not renewed.", int(left.Hours()/24)))
	}
	schemas, versions := map[int]bool{}, map[string]bool{}
	for _, n := range s.Nodes {
		if n.Schema > 0 {
			schemas[n.Schema], versions[n.Version] = true, true
		}
	}
	if len(schemas) > 1 {
		out = append(out, "The nodes run versions with different schemas: finish the upgrade before the next one.")
	}
	if !s.Majority && !s.Known.IsZero() {
		out = append(out, "What is shown was last known "+s.At.Sub(s.Known).Round(time.Second).String()+" ago.")
	}
	return out
}
