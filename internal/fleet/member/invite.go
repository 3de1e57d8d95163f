package member

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/crypto/bcrypt"
)

const (
	invitationLife = time.Hour
	invitationKept = 90 * 24 * time.Hour
	maxTokenBytes  = 4096

	tokenPrefix    = "fdn_"
	selectorLength = 10 // 50 bits: names the invitation
	secretLength   = 32 // 160 bits: its bcrypt is kept
	tagLength      = 16 // 80 bits of HMAC-SHA256: a forged token dies without a look-up
)

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ticket is a token that was read.
type ticket struct {
	selector, secret, tag string
	way                   way
}

// way is what a node needs to know before it can trust an answer.
type way struct {
	Fingerprint []byte   `json:"f"` // SHA-256 of the authority's certificate
	Addresses   []string `json:"a"` // doors for joining
	Name        string   `json:"n"`
}

func (t ticket) code() string { return t.selector + t.secret + t.tag }

func newTicket(key []byte, w way) ticket {
	var raw [(selectorLength + secretLength + 7) * 5 / 8]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	body := encoding.EncodeToString(raw[:])
	t := ticket{selector: body[:selectorLength], secret: body[selectorLength : selectorLength+secretLength], way: w}
	t.tag = tagOf(key, t.selector, t.secret)
	return t
}

func tagOf(key []byte, selector, secret string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(selector + secret))
	return encoding.EncodeToString(h.Sum(nil))[:tagLength]
}

func (t ticket) String() string {
	body, _ := json.Marshal(t.way) // strings and bytes only
	return tokenPrefix + t.code() + "." + base64.RawURLEncoding.EncodeToString(body)
}

func notAnInvitation() error {
	return problem.New(problem.Invalid, "invitation-form", "This is not an invitation to a fleet.").WithField("token").
		WithMend("Copy the whole line that `foundry node invite` printed; it begins with " + tokenPrefix + ".")
}

// parseTicket reads a token.
func parseTicket(text string) (t ticket, err error) {
	text = strings.TrimSpace(text)
	code, rest, ok := strings.Cut(strings.TrimPrefix(text, tokenPrefix), ".")
	if !ok || len(text) > maxTokenBytes || !strings.HasPrefix(text, tokenPrefix) || !t.split(code) {
		return t, notAnInvitation()
	}
	body, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil || json.Unmarshal(body, &t.way) != nil || len(t.way.Fingerprint) != sha256.Size || len(t.way.Addresses) == 0 || len(t.way.Addresses) > 16 || CheckName(t.way.Name) != nil {
		return ticket{}, notAnInvitation()
	}
	for _, a := range t.way.Addresses {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return ticket{}, notAnInvitation()
		}
	}
	return t, nil
}

func (t *ticket) split(code string) bool {
	if len(code) != selectorLength+secretLength+tagLength || strings.ContainsFunc(code, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz234567", r) }) {
		return false
	}
	t.selector, t.secret, t.tag = code[:selectorLength], code[selectorLength:selectorLength+secretLength], code[selectorLength+secretLength:]
	return true
}

// Invite makes an invitation for one node and returns its token, which is
// shown once and not kept. by is who asks, as kind and id.
func (m *Member) Invite(ctx context.Context, by, name string, roles []Role) (token string, _ Invitation, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := errors.Join(CheckName(name), CheckRoles(roles)); err != nil {
		return "", Invitation{}, problem.From(err)
	}
	key, err := m.tls.authority.tagKey()
	if err != nil {
		return "", Invitation{}, err
	}
	nodes, err := m.Nodes(ctx)
	if err != nil {
		return "", Invitation{}, err
	}
	var doors, gateways []string
	for _, n := range nodes {
		if n.Name == name {
			return "", Invitation{}, nameTaken(name)
		}
		switch {
		case n.Addresses.Join == "" || !slices.Contains(n.Roles, Fleet):
		case slices.Contains(n.Roles, Gateway): // which has more to give
			gateways = append(gateways, n.Addresses.Join)
		default:
			doors = append(doors, n.Addresses.Join)
		}
	}
	doors = append(gateways, doors...)
	if len(doors) == 0 {
		return "", Invitation{}, problem.New(problem.Conflict, "fleet-no-door", "No member of this fleet can be reached by others yet.").WithField("fleet.listen").
			WithMend("Write fleet: {listen: {peers: IP:8490, clients: IP:8491, join: IP:8492}} into this node's configuration and restart it.")
	}
	fingerprint := m.tls.authority.fingerprint()
	t := newTicket(key, way{fingerprint[:], doors, name})
	hash, err := bcrypt.GenerateFromPassword([]byte(t.secret), bcrypt.DefaultCost)
	if err != nil {
		return "", Invitation{}, fmt.Errorf("hashing an invitation: %w", err)
	}
	now := m.clock().UTC()
	i := Invitation{Selector: t.selector, Name: name, Roles: roles, Made: now, Expires: now.Add(invitationLife), By: by, Hash: string(hash)}
	if _, err := m.store.Put(ctx, "invitations/"+t.selector, i, IfAbsent("invitations/"+t.selector)); err != nil {
		return "", Invitation{}, err
	}
	m.act(ctx, Act{By: by, Act: "node.invite", Target: name, Details: map[string]string{"invitation": t.selector, "roles": roleList(roles)}})
	i.Hash = ""
	return t.String(), i, nil
}

func nameTaken(name string) error {
	return problem.New(problem.Conflict, "node-name-taken", fmt.Sprintf("There is a node %q in the fleet already.", name)).WithField("name").
		WithMend("Choose another name, or remove that node first.")
}

func roleList(roles []Role) string {
	out := make([]string, len(roles))
	for i, r := range roles {
		out[i] = string(r)
	}
	return strings.Join(out, ",")
}

// Invitations lists them, the newest first, without their hashes.
func (m *Member) Invitations(ctx context.Context) ([]Invitation, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	entries, _, err := m.store.List(ctx, "invitations/")
	if err != nil {
		return nil, err
	}
	out := make([]Invitation, 0, len(entries))
	for _, e := range entries {
		var i Invitation
		if err := e.Decode(&i); err != nil {
			return nil, err
		}
		i.Hash = ""
		out = append(out, i)
	}
	slices.SortStableFunc(out, func(a, b Invitation) int { return b.Made.Compare(a.Made) })
	return out, nil
}

// Revoke ends an invitation that was not used.
func (m *Member) Revoke(ctx context.Context, by, selector string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if len(selector) != selectorLength {
		return noInvitation(selector)
	}
	var i Invitation
	_, err := m.store.Update(ctx, "invitations/"+selector, &i, func() error {
		switch {
		case i.Selector == "":
			return noInvitation(selector)
		case !i.Used.IsZero():
			return problem.New(problem.Conflict, "invitation-used", "The invitation was used already: revoking it would change nothing.").
				WithMend("If " + i.Name + " should not be in the fleet, remove it with `foundry node remove`.")
		case i.Revoked.IsZero():
			i.Revoked = m.clock().UTC()
		}
		return nil
	})
	if err != nil {
		return err
	}
	m.act(ctx, Act{By: by, Act: "node.invitation.revoke", Target: i.Name, Details: map[string]string{"invitation": selector}})
	return nil
}

func noInvitation(selector string) error {
	return problem.New(problem.NotFound, "invitation-unknown", fmt.Sprintf("There is no invitation %q.", selector)).WithField("invitation").
		WithMend("`foundry node invitations list` shows them.")
}
