package member

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/crypto/bcrypt"
)

const (
	joinPath     = "/fleet/1/join"
	renewPath    = "/fleet/1/renew"
	maxJoinBytes = 32 << 10
	refusalsKept = 20 // of one invitation
)

// request is what a node that wants to join sends.
type request struct {
	Code      string    `json:"code"` // selector ‖ secret ‖ tag
	Name      string    `json:"name"`
	Roles     []Role    `json:"roles"`
	Key       []byte    `json:"key"` // PKIX
	Recipient string    `json:"recipient"`
	Addresses Addresses `json:"addresses"`
	Version   string    `json:"version"`
	Schema    int       `json:"schema"`
}

// admission is what it gets.
type admission struct {
	Fleet     string        `json:"fleet"`
	Authority []byte        `json:"authority"` // PEM
	Cert      []byte        `json:"cert"`      // PEM
	Revoked   []byte        `json:"revoked"`   // DER
	Roles     []Role        `json:"roles"`
	Initial   string        `json:"initial,omitempty"`
	Members   []knownMember `json:"members"`
	Sealed    []byte        `json:"sealed"` // age, to the node: secrets

	Given []byte `json:"given,omitempty"` // age, to the node: what Options.Give gave
	Why   string `json:"why,omitempty"`   // nothing was
}

// secrets are the fleet's, and reach a node only encrypted to its recipient.
type secrets struct {
	Keyset    []byte `json:"keyset"`
	Authority []byte `json:"authority,omitempty"` // the authority's key: only for the role fleet
}

// openDoor starts the listener where invitations are used and certificates
// renewed. Only members that hold the authority's key have one.
func (m *Member) openDoor() error {
	if m.o.Listen.Join == "" || m.tls.authority.key == nil {
		return nil
	}
	l, err := net.Listen("tcp", m.o.Listen.Join)
	if err != nil {
		return problem.New(problem.Unavailable, "fleet-join-address", "Cannot listen on "+m.o.Listen.Join+".").WithField("fleet.listen.join").WithMend("Choose an address of this machine that no other process uses.").Wrap(err)
	}
	mux := http.NewServeMux()
	busy := make(chan struct{}, 4) // each costs a bcrypt
	limited := func(answer func(context.Context, *http.Request, []byte) (any, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			select {
			case busy <- struct{}{}:
				defer func() { <-busy }()
			default:
				problem.Write(w, problem.New(problem.Overloaded, "join-busy", "Too many nodes join at once.").WithRetry(2*time.Second))
				return
			}
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJoinBytes))
			var out any
			if err == nil {
				ctx, cancel := context.WithTimeout(r.Context(), 4*callPatience)
				defer cancel()
				out, err = answer(ctx, r, body)
			}
			if err != nil {
				problem.Write(w, err)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(out)
		}
	}
	mux.HandleFunc("POST "+joinPath, limited(m.answerJoin))
	mux.HandleFunc("POST "+renewPath, limited(m.answerRenewal))
	mux.HandleFunc("GET "+revokedDoor, m.answerRevoked)
	m.join = &http.Server{Handler: mux, TLSConfig: m.tls.server(tls.VerifyClientCertIfGiven), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		IdleTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10, ErrorLog: log.New(io.Discard, "", 0)}
	m.running.Go(func() { _ = m.join.ServeTLS(l, "", "") })
	return nil
}

func (m *Member) answerJoin(ctx context.Context, _ *http.Request, body []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	var r request
	if err := d.Decode(&r); err != nil {
		return nil, problem.New(problem.Invalid, "join-form", "The request to join cannot be read.").WithMend("Use a Foundry of a version next to that of the members.").Wrap(err)
	}
	return m.Admit(ctx, r)
}

// errRefused is all that a node learns whose invitation is not good: which of
// its parts was wrong is in the fleet's list, for its operators.
var errRefused = problem.New(problem.Denied, "invitation-refused", "The invitation is not good: it was used, revoked, has run out, or is for another node.").
	WithMend("Ask for a new one. `foundry node invitations list` on a member says how this one stands.")

// Admit lets a node in that has a good invitation.
func (m *Member) Admit(ctx context.Context, r request) (*admission, error) {
	var t ticket
	key, err := m.tls.authority.tagKey()
	if err != nil {
		return nil, err
	}
	if !t.split(r.Code) || !hmac.Equal([]byte(tagOf(key, t.selector, t.secret)), []byte(t.tag)) {
		return nil, errRefused // a forgery: it costs nothing, and is not worth a line
	}
	i, err := m.claim(ctx, t, r)
	if err != nil {
		return nil, err
	}
	a, err := m.welcome(ctx, i, r)
	if err != nil { // nothing was given: the invitation can be used again
		var back Invitation
		_, uerr := m.store.Update(ctx, "invitations/"+t.selector, &back, func() error { back.Used = time.Time{}; return nil })
		return nil, errors.Join(err, uerr)
	}
	details := map[string]string{"invitation": i.Selector, "roles": roleList(i.Roles), "version": r.Version}
	if a.Given != nil {
		details["given"] = "keys"
	}
	m.act(ctx, Act{By: "node:" + i.Name, Act: "node.join", Target: i.Name, Details: details})
	return a, nil
}

// claim checks the invitation and uses it up, before anything is given.
func (m *Member) claim(ctx context.Context, t ticket, r request) (i Invitation, err error) {
	e, err := m.store.Get(ctx, "invitations/"+t.selector)
	if errors.Is(err, ErrAbsent) {
		return i, m.refused(ctx, t, Invitation{Selector: t.selector}, "unknown")
	}
	if err == nil {
		err = e.Decode(&i)
	}
	if err != nil {
		return i, err
	}
	if bcrypt.CompareHashAndPassword([]byte(i.Hash), []byte(t.secret)) != nil {
		return i, m.refused(ctx, t, i, "wrong secret")
	}
	if state := i.State(m.clock()); state != "open" {
		return i, m.refused(ctx, t, i, state)
	}
	if r.Name != i.Name {
		return i, m.refused(ctx, t, i, "another name")
	}
	if err := compatible(r.Schema, m.o.Schema); err != nil {
		return i, err
	}
	i.Used = m.clock().UTC()
	_, err = m.store.Put(ctx, "invitations/"+t.selector, i, IfRevision("invitations/"+t.selector, e.Revision))
	if errors.Is(err, ErrChanged) {
		return i, m.refused(ctx, t, i, "used at the same moment")
	}
	return i, err
}

// refused counts and tells what was refused. Whoever holds a token whose tag
// is right has, or had, a real invitation: that is worth an alarm.
func (m *Member) refused(ctx context.Context, t ticket, i Invitation, why string) error {
	if i.Refused >= refusalsKept {
		return errRefused // told often enough: who holds the token cannot fill the store with it
	}
	if i.Name != "" {
		var now Invitation
		if _, err := m.store.Update(ctx, "invitations/"+t.selector, &now, func() error { now.Refused++; return nil }); err != nil {
			m.log.Warn("a refused invitation was not counted", "error", err)
		}
	}
	m.act(ctx, Act{By: "node:unknown", Act: "node.join", Target: i.Name, Denied: true, Details: map[string]string{"invitation": t.selector, "why": why}})
	return errRefused
}

// compatible says whether two schemas work together: those next to each other do.
func compatible(theirs, ours int) error {
	if theirs < ours-1 || theirs > ours+1 {
		return problem.New(problem.Unsupported, "fleet-version", fmt.Sprintf("This node writes values of schema %d, the fleet those of schema %d: members may be one apart, and not more.", theirs, ours)).
			WithField("version").WithMend("Install the version of the members on this node, or the one next to it.")
	}
	return nil
}

// welcome makes what a node gets.
func (m *Member) welcome(ctx context.Context, i Invitation, r request) (*admission, error) {
	public, err := x509.ParsePKIXPublicKey(r.Key)
	if k, ok := public.(*ecdsa.PublicKey); err != nil || !ok || k.Curve != elliptic.P256() {
		return nil, problem.New(problem.Invalid, "node-key", "The node's key is not an ECDSA key on P-256.").WithField("key")
	}
	if err := CheckAddresses(Addresses{}, r.Addresses); err != nil {
		return nil, err
	}
	if Votes(i.Roles) && (r.Addresses.Peers == "" || r.Addresses.Clients == "") {
		return nil, problem.New(problem.Invalid, "fleet-doors", "A node that votes has to be reachable by the others.").WithField("fleet.listen").
			WithMend("Write fleet: {listen: {peers: IP:8490, clients: IP:8491, join: IP:8492}} into the node's configuration.")
	}
	given, err := m.secretsFor(i.Roles, r.Recipient)
	if err != nil {
		return nil, err
	}
	more, why, err := m.give(ctx, i, r.Recipient)
	if err != nil {
		return nil, err
	}
	nodes, err := m.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	cert, err := m.tls.authority.issue(i.Name, i.Roles, public, m.clock())
	if err != nil {
		return nil, err
	}
	list, err := m.files.readRevoked()
	if err != nil {
		return nil, err
	}
	a := &admission{Fleet: m.files.read().Fleet, Authority: m.tls.authority.pem, Cert: certPEM(cert), Revoked: list, Roles: i.Roles, Sealed: given, Given: more, Why: why}
	for _, n := range nodes {
		a.Members = append(a.Members, knownMember{n.Name, n.Addresses, n.Votes()})
	}
	n := Node{Name: i.Name, Roles: i.Roles, Addresses: r.Addresses, Recipient: r.Recipient, Version: r.Version, Schema: r.Schema, Joined: m.clock().UTC(), Issued: []Issued{issuedAs(cert)}}
	if n.Votes() {
		if a.Initial, n.Member, err = m.addLearner(ctx, n, nodes); err != nil {
			return nil, err
		}
	}
	if _, err := m.store.Put(ctx, "nodes/"+n.Name, n, IfAbsent("nodes/"+n.Name)); err != nil {
		if errors.Is(err, ErrChanged) {
			err = nameTaken(n.Name)
		}
		return nil, err
	}
	return a, nil
}

// give encrypts to a node what it gets beside the fleet's own secrets.
func (m *Member) give(ctx context.Context, i Invitation, recipient string) (sealed []byte, why string, err error) {
	if m.o.Give == nil {
		return nil, "the member that let it in is no gateway", nil
	}
	body, why, err := m.o.Give(ctx, i.Name, i.Roles)
	if err != nil || body == nil {
		return nil, why, err
	}
	defer clear(body)
	sealed, err = SealTo(recipient, body)
	return sealed, "", err
}

// addLearner makes room for a member that copies first and votes later.
func (m *Member) addLearner(ctx context.Context, n Node, nodes []Node) (initial, id string, err error) {
	self := peerURL(n.Addresses)
	added, err := m.client.MemberAddAsLearner(ctx, []string{self.String()})
	if err != nil {
		return "", "", problem.New(problem.Unavailable, "fleet-cannot-grow", "The fleet cannot take another member now: "+err.Error()+".").
			WithMend("Every member has to answer while one joins; `foundry node status` says which does not.").Wrap(err)
	}
	id = strconv.FormatUint(added.Member.ID, 16)
	var parts []string
	for _, x := range added.Members {
		name := x.Name
		for _, known := range nodes {
			if known.Member == strconv.FormatUint(x.ID, 16) {
				name = known.Name
			}
		}
		if x.ID == added.Member.ID {
			name = n.Name
		}
		for _, u := range x.PeerURLs {
			parts = append(parts, name+"="+u)
		}
	}
	return strings.Join(parts, ","), id, nil
}

// secretsFor encrypts to a node what its roles need.
func (m *Member) secretsFor(roles []Role, recipient string) ([]byte, error) {
	var s secrets
	var err error
	if s.Keyset, err = m.files.open(keysetFile); err != nil {
		return nil, err
	}
	defer clear(s.Keyset)
	if slices.Contains(roles, Fleet) {
		if s.Authority, err = m.files.open(caKeyFile); err != nil {
			return nil, err
		}
		defer clear(s.Authority)
	}
	body, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("writing the fleet's secrets: %w", err)
	}
	defer clear(body)
	return SealTo(recipient, body)
}

// answerRenewal gives a node a new certificate for the name that its present
// one proves.
func (m *Member) answerRenewal(ctx context.Context, r *http.Request, body []byte) (any, error) {
	name, _, ok := Peer(r.TLS)
	if !ok {
		return nil, problem.New(problem.Unauthenticated, "node-certificate", "A node renews its certificate with the one it has.").WithMend("If that has run out, the node has to be invited again.")
	}
	q, err := decode[request](body)
	if err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(q.Key)
	if k, ok := public.(*ecdsa.PublicKey); err != nil || !ok || k.Curve != elliptic.P256() {
		return nil, problem.New(problem.Invalid, "node-key", "The node's key is not an ECDSA key on P-256.").WithField("key")
	}
	n, err := m.Node(ctx, name)
	if err != nil {
		return nil, errRevoked
	}
	cert, err := m.tls.authority.issue(name, n.Roles, public, m.clock())
	if err != nil {
		return nil, err
	}
	var now Node
	_, err = m.store.Update(ctx, "nodes/"+name, &now, func() error {
		if now.Name == "" {
			return errRevoked
		}
		now.Issued = append(now.Issued, issuedAs(cert))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return admission{Cert: certPEM(cert)}, nil
}

// pinned trusts the one authority that an invitation names.
func pinned(w way) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: memberName,
		InsecureSkipVerify: true, // replaced by the check below, which knows the authority by its fingerprint only
		VerifyConnection: func(cs tls.ConnectionState) error {
			roots := x509.NewCertPool()
			found := false
			for _, c := range cs.PeerCertificates {
				if sum := sha256.Sum256(c.Raw); bytes.Equal(sum[:], w.Fingerprint) {
					roots.AddCert(c)
					found = true
				}
			}
			if !found {
				return errPin
			}
			_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: memberName, Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
			return err
		},
	}
}

var errPin = problem.New(problem.Denied, "fleet-fingerprint", "Whoever answers at that address is not the fleet that made the invitation.").
	WithMend("Check the address, and that nobody stands between. The invitation was not sent to it.")

func decodeCert(text []byte) (*x509.Certificate, error) {
	b, _ := pem.Decode(text)
	if b == nil {
		return nil, problem.New(problem.Upstream, "fleet-answer", "The member's answer has no certificate.")
	}
	return x509.ParseCertificate(b.Bytes)
}
