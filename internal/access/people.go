package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/credential"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/text/unicode/norm"
)

// People knows who can sign in, and with what. Safe for concurrent use.
type People struct {
	PeopleOptions
	hasher    *credential.Hasher
	web       *webauthn.WebAuthn // nil: the console has no name that passkeys could be bound to
	invites   *mac
	addresses *addressLimits

	slots   chan struct{} // bounds password hashing to the cores there are
	waiting atomic.Int64
}

// maxHashing bounds how many sign-ins queue for bcrypt (a quarter of a second
// each) before new ones are shed.
const maxHashing = 64

// NewPeople makes it.
func NewPeople(o PeopleOptions) (*People, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Name == "" {
		o.Name = "Foundry"
	}
	o.Limits = o.Limits.withDefaults()
	hasher, err := credential.NewHasher(o.Peppers...)
	if err != nil {
		return nil, err
	}
	if len(o.LookupKey) < 32 || len(o.Invitation) < 32 {
		return nil, errors.New("people need a look-up key and an invitation key of 32 bytes")
	}
	s := &People{PeopleOptions: o, hasher: hasher, invites: newMAC(o.Invitation), addresses: newAddressLimits(o.Clock),
		slots: make(chan struct{}, max(1, runtime.NumCPU()-1))}
	s.web, err = relyingParty(o.URL, o.Name)
	return s, err
}

// relyingParty makes passkeys' other side. A relying party is a domain name
// (WebAuthn level 3, 5.1.2): at a bare address there are no passkeys.
func relyingParty(public, name string) (*webauthn.WebAuthn, error) {
	u, err := url.Parse(public)
	if err != nil || u.Scheme != "https" || protocol.ValidateRPID(u.Hostname()) != nil {
		return nil, nil
	}
	required := true
	return webauthn.New(&webauthn.Config{
		RPID: u.Hostname(), RPDisplayName: name, RPOrigins: []string{"https://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: &required,
			UserVerification: protocol.VerificationRequired,
		},
	})
}

// PasskeysOffered reports whether passkeys can be used at the console's address.
func (s *People) PasskeysOffered() bool { return s.web != nil }

// normalAddress is the form in which an address is compared. Case is ignored
// in the local part too: no provider of note tells people apart by it, and an
// attacker must not be invited as somebody else.
func normalAddress(email string) string {
	return strings.ToLower(norm.NFKC.String(strings.TrimSpace(email)))
}

func checkAddress(email string) (string, error) {
	a, err := mail.ParseAddress(email)
	if err != nil || a.Name != "" || len(email) > 254 || a.Address != strings.TrimSpace(email) {
		return "", problem.New(problem.Invalid, "email", "This is not an e-mail address.").WithField("email").WithMend("Give one like anna@example.org.")
	}
	return a.Address, nil
}

func checkName(name string) (string, error) {
	name = strings.TrimSpace(norm.NFC.String(name))
	if name == "" || len(name) > 200 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", problem.New(problem.Invalid, "name", "A name has 1 to 200 bytes of printable text.").WithField("name").WithMend("Give the name that colleagues know.")
	}
	return name, nil
}

// lookup is a keyed HMAC under one of several purposes: how what is not stored
// in plaintext is found again.
func (s *People) lookup(purpose, text string) []byte {
	m := hmac.New(sha256.New, s.LookupKey)
	fmt.Fprintf(m, "foundry %s\x00%s", purpose, text)
	return m.Sum(nil)
}

func (s *People) account(email string) []byte { return s.lookup("address", normalAddress(email)) }

// sealText seals a text for a column of a row.
func (s *People) sealText(ctx context.Context, table, column, row, text string) ([]byte, error) {
	sealed, err := s.Seal(ctx, table, column, row, []byte(text))
	if err != nil {
		return nil, fmt.Errorf("sealing %s.%s: %w", table, column, err)
	}
	return sealed, nil
}

func (s *People) openText(ctx context.Context, table, column, row string, sealed []byte) (string, error) {
	text, err := s.Open(ctx, table, column, row, sealed)
	if err != nil {
		return "", fmt.Errorf("opening %s.%s: %w", table, column, err)
	}
	return string(text), nil
}

// reveal opens a person's address and name.
func (s *People) reveal(ctx context.Context, p storedPerson) (Person, error) {
	var err error
	if p.Email, err = s.openText(ctx, "people", "email_sealed", p.ID.String(), p.email); err != nil {
		return Person{}, err
	}
	p.Name, err = s.openText(ctx, "people", "name_sealed", p.ID.String(), p.name)
	return p.Person, err
}

// person reads one; gone is NotFound.
func (s *People) person(ctx context.Context, id uuid.UUID) (p storedPerson, m []Membership, err error) {
	err = s.DB.Read(ctx, func(tx pgx.Tx) error {
		if p, err = personByID(ctx, tx, id); err != nil {
			return err
		}
		m, err = membershipsOf(ctx, tx, id)
		return err
	})
	if gone(err) {
		err = errPersonUnknown
	}
	return p, m, err
}

var errPersonUnknown = problem.New(problem.NotFound, "person-unknown", "There is no such person.").WithField("id").
	WithMend("`foundry person list` shows who there is.")

// slow runs password hashing, as many at a time as there are cores to spare.
func (s *People) slow(ctx context.Context, do func()) error {
	if s.waiting.Add(1) > maxHashing {
		s.waiting.Add(-1)
		return problem.New(problem.Overloaded, "signin-queue", "Too many people are signing in at this moment.").
			WithMend("Try again shortly.").WithRetry(5 * time.Second)
	}
	defer s.waiting.Add(-1)
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	do()
	return nil
}

// own authorises what people do to their own account, and says who they are.
func (s *People) own(ctx context.Context, p principal.Principal, action policy.Action) (uuid.UUID, error) {
	id, err := uuid.Parse(p.ID)
	if p.Kind != principal.Person || err != nil || p.Session == "" {
		return id, problem.New(problem.Denied, "person-only", "Only a person who is signed in may do this.").WithMend("Sign in to the console, or with `foundry login`.")
	}
	return id, s.Guard.Authorise(ctx, p, action, policy.Resource{ID: p.ID, Organisation: p.Organisation, Owner: p.ID})
}

// unknown is what somebody hears about an id of nothing: whoever acts in one
// organisation is denied as with another's, so that no answer tells whether
// there is such a thing elsewhere.
func (s *People) unknown(ctx context.Context, p principal.Principal, action policy.Action, id string, err error) error {
	if problem.From(err).Kind != problem.NotFound {
		return err
	}
	r := policy.Resource{ID: id}
	if !p.Platform() {
		r.Organisation = uuid.Max
	}
	if denied := s.Guard.Authorise(ctx, p, action, r); denied != nil {
		return denied
	}
	return err
}

// record appends to the log of an organisation in a transaction of the platform.
func record(ctx context.Context, tx pgx.Tx, p principal.Principal, org uuid.UUID, act, target string, details any) error {
	return within(ctx, tx, org, func() error { return audit.Append(ctx, tx, p, org, act, target, details) })
}

// nobody is the actor before anybody has proven who they are.
var nobody = principal.Node("sign-in")

func asPerson(id uuid.UUID) principal.Principal {
	return principal.Principal{Kind: principal.Person, ID: id.String()}
}

// ceremonyAttempts is how often a half-done sign-in may be tried to be finished.
const ceremonyAttempts = 5

var errCeremony = problem.New(problem.Unauthenticated, "signin-expired", "This sign-in took too long, or was finished already.").WithMend("Start again.")

// begin stores a ceremony and returns its handle.
func (s *People) begin(ctx context.Context, tx pgx.Tx, kind string, person *uuid.UUID, state any) (handle string, expires time.Time, err error) {
	handle = rand.Text()
	id := s.lookup("ceremony", handle)
	body, err := json.Marshal(state)
	if err != nil {
		return "", expires, err
	}
	sealed, err := s.Seal(ctx, "ceremonies", "state_sealed", ceremonyRow(id, kind), body)
	if err != nil {
		return "", expires, fmt.Errorf("sealing a ceremony: %w", err)
	}
	expires, err = insertCeremony(ctx, tx, id, kind, person, sealed, s.Limits.CeremonyLife)
	return handle, expires, err
}

type ceremonyReader func(context.Context, pgx.Tx, []byte, string) (storedCeremony, error)

// resume reads a ceremony by its handle with read, which ends it or not.
func (s *People) resume(ctx context.Context, tx pgx.Tx, read ceremonyReader, kind, handle string, state any) (person *uuid.UUID, err error) {
	id := s.lookup("ceremony", handle)
	c, err := read(ctx, tx, id, kind)
	if gone(err) {
		return nil, errCeremony
	}
	if err != nil {
		return nil, err
	}
	body, err := s.Open(ctx, "ceremonies", "state_sealed", ceremonyRow(id, kind), c.sealed)
	if err != nil {
		return nil, fmt.Errorf("opening a ceremony: %w", err)
	}
	return c.person, json.Unmarshal(body, state)
}

// Run sweeps what is over and releases locks, until ctx ends.
func (s *People) Run(ctx context.Context, failed func(error)) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			failed(err)
		}
	}
}

const sweepEvery = 10 * time.Second

// Sweep ends what has expired once: sessions, half-done sign-ins, and locks,
// whose release it audits.
func (s *People) Sweep(ctx context.Context) error {
	err := s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if _, err := sweepSessions(ctx, tx); err != nil {
			return err
		}
		if err := sweepCeremonies(ctx, tx); err != nil {
			return err
		}
		return s.auditReleases(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("sweeping sign-ins: %w", err)
	}
	return s.releaseAddresses(ctx)
}
