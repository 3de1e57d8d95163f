// Package probe knows how to see, from here, whether something works: a web
// page, a port, a mail server, a database, a unit, a repository, a disk, a
// backup, a model; and whether what must not be reached cannot be.
//
// It keeps no state of the fleet and asks no plan but the one it is given. A
// probe is bounded in time and in what it reads, follows nobody to another
// host unless its target says so, and never puts a credential or a body that
// it was sent into a result.
package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"time"
)

// Signal is a class of evidence. Two results of one signal are one kind of
// evidence, however many observers saw them.
type Signal string

// Signals. All but the last two are kinds of probes, under the names that
// plans use; a peer's answer and a lease are seen by the fleet itself.
const (
	HTTPS       Signal = "https"
	TCP         Signal = "tcp"
	TLS         Signal = "tls"
	DNS         Signal = "dns"
	SMTP        Signal = "smtp"
	PostgreSQL  Signal = "postgresql"
	SSH         Signal = "ssh"
	Systemd     Signal = "systemd"
	Git         Signal = "git"
	Disk        Signal = "disk"
	BackupAge   Signal = "backup-age"
	Model       Signal = "model"
	Unreachable Signal = "unreachable"

	Peer  Signal = "peer"
	Lease Signal = "lease"
)

// Spec is one thing to watch. What is expected of it is part of its Target:
// see [Parse] for the words of each kind.
type Spec struct {
	Name     string        `json:"name"`               // unique among what one node watches
	Function string        `json:"function,omitempty"` // of the plan; "" for a peer
	Node     string        `json:"node,omitempty"`     // the node that is looked at, where it is one
	Outside  string        `json:"outside,omitempty"`  // the other fleet that is looked at; it shows nothing of this one
	Kind     Signal        `json:"kind"`
	Target   string        `json:"target"`
	Every    time.Duration `json:"every,omitempty"`   // DefaultEvery when zero
	Timeout  time.Duration `json:"timeout,omitempty"` // DefaultTimeout of the kind when zero
}

// Result is what one look at a target showed.
type Result struct {
	Probe    string        `json:"probe"`
	Function string        `json:"function,omitempty"`
	Node     string        `json:"node,omitempty"`
	Outside  string        `json:"outside,omitempty"`
	Signal   Signal        `json:"signal"`
	At       time.Time     `json:"at"`      // when the look began
	Took     time.Duration `json:"took_ns"` // until it was known
	OK       bool          `json:"ok"`
	// Inconclusive says that this look shows neither that it works nor that it
	// does not: nothing may be concluded from OK then, which is false.
	Inconclusive bool              `json:"inconclusive,omitempty"`
	Code         Code              `json:"code,omitempty"` // why it is not OK; "" when it is
	Words        string            `json:"words"`          // one sentence
	Facts        map[string]string `json:"facts,omitempty"`
	Tries        int               `json:"tries,omitempty"` // looks that this is the outcome of, where there were several
}

// Code is the stable cause of a result that is not OK.
type Code string

// Causes.
const (
	Timeout      Code = "timeout"       // no answer in time
	Refused      Code = "refused"       // the port is closed
	Reset        Code = "reset"         // the connection broke
	NoRoute      Code = "no-route"      // the network says that there is no way
	NoName       Code = "name"          // the name does not resolve, or to an address that is not asked
	BadCert      Code = "certificate"   // not trusted, another name, expired or about to
	TLSVersion   Code = "tls-version"   // too old a version is accepted, or a good one is not
	TLSFailed    Code = "tls"           // the handshake failed otherwise
	BadStatus    Code = "status"        // another HTTP status than expected
	BadContent   Code = "content"       // not what was expected to be in it
	BadRedirect  Code = "redirect"      // leads elsewhere, in a circle, or not to https
	TooMuch      Code = "too-much"      // more was sent than a probe reads
	Protocol     Code = "protocol"      // what answers does not speak it
	BadAnswer    Code = "answer"        // the name has another answer than expected
	Disagree     Code = "disagree"      // servers of one zone answer differently
	ReadOnly     Code = "read-only"     // a database that cannot be written
	NotStandby   Code = "not-standby"   // a database that should follow and does not
	Lag          Code = "lag"           // a standby that is too far behind
	Starting     Code = "starting"      // it says that it is starting or stopping
	Busy         Code = "busy"          // it answers that it takes no more
	Credentials  Code = "credentials"   // what it was asked with is refused, or not there
	AuthMethods  Code = "auth-methods"  // it offers a way in that it must not
	HostKey      Code = "host-key"      // another key than the one that is pinned
	NotActive    Code = "not-active"    // the unit does not run
	NoRef        Code = "no-ref"        // the repository has no such head
	NoSpace      Code = "no-space"      // too few free bytes
	NoInodes     Code = "no-inodes"     // too few free inodes
	TooOld       Code = "too-old"       // the backup is older than allowed
	Unproven     Code = "unproven"      // no restore has shown that the backup works
	NoText       Code = "no-text"       // the model gave none
	Reachable    Code = "reachable"     // it can be reached, and must not be
	NoControl    Code = "no-control"    // nothing can be reached, so that not reaching it says nothing
	NotAvailable Code = "not-available" // this machine cannot look
	BadTarget    Code = "target"        // the target cannot be read
	Stopped      Code = "stopped"       // the look was broken off from this side
)

// DefaultEvery is how often is looked where the plan does not say.
const DefaultEvery = 30 * time.Second

// Env is what probes need from the node they run on. All of it may be left
// out: what cannot be looked at without it is inconclusive, and says why.
type Env struct {
	Now   func() time.Time // time.Now when nil
	Roots *x509.CertPool   // trusted in place of the system's
	// RootsFile is a PEM file with the same authorities, for programs that
	// read their own (Git).
	RootsFile string

	// Address says where a node of the plan answers: a host name or an
	// address, without a port. Other names are host names.
	Address func(node string) (host string, ok bool)
	// Nameservers are asked, as host:port, where the target names none: those
	// of /etc/resolv.conf when empty.
	Nameservers []string
	// Login is what a probe signs in with, such as a database role that may
	// look and nothing else. Without one, ok is false.
	Login func(ctx context.Context, s Spec) (l Login, ok bool, err error)
	// Backup is the newest backup under a name of the plan, or of a function.
	Backup func(ctx context.Context, name string) (Backup, error)
	// Model is where the models of a node of the plan are asked.
	Model func(ctx context.Context, node string) (Endpoint, error)
	// Control are addresses, host:port, that can be reached over TCP as long
	// as this node has any network: peers. Where none answers, a target that
	// does not answer either proves nothing.
	Control []string

	nsPort uint16 // of a zone's servers, where a test has no 53
}

// Login is a credential. It prints as nothing.
type Login struct {
	User, Password string
	// For repositories over SSH: paths of a private key and of a file with the
	// server's key.
	KeyFile, KnownHosts string
}

// String hides the credential.
func (Login) String() string { return "probe.Login" }

// GoString hides the credential.
func (Login) GoString() string { return "probe.Login" }

// Backup is what is known of the newest backup of something.
type Backup struct {
	At     time.Time // the point in time that it brings back
	Proven bool      // a restore of it, or of one of its chain, was proven
	Words  string    // what else there is to say, such as why nothing is proven; may be empty
}

// Endpoint is an OpenAI-compatible server.
type Endpoint struct {
	URL   string      // up to and with /v1
	Model string      // asked for where the target names none
	Key   string      // bearer token; may be empty
	TLS   *tls.Config // with a client certificate, where it wants one; may be nil
}

// String hides the key.
func (e Endpoint) String() string { return e.URL }

// GoString hides the key.
func (e Endpoint) GoString() string { return "probe.Endpoint{" + e.URL + "}" }

func (e Env) now() time.Time {
	if e.Now == nil {
		return time.Now()
	}
	return e.Now()
}

// Clone is a copy whose facts can be changed.
func (r Result) Clone() Result {
	r.Facts = maps.Clone(r.Facts)
	return r
}
