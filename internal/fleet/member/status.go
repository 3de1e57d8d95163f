package member

import (
	"time"
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
