package access

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/principal"
)

// RegisterStanding is how the register of access stands, for a control: what
// differs now from the last signed picture and from the audit log.
type RegisterStanding struct {
	Pictured time.Duration // since the last signed picture; negative: there is none
	Reviewed time.Duration // since the last completed review of the platform; negative: there was none
	Began    time.Duration // since the first signed picture: how long there has been something to review
	Entries  int
	Findings []Finding
}

// Standing reads and takes no new picture. It opens nothing that belongs to
// clients: entries are counted, findings name ids.
func (s *Register) Standing(ctx context.Context) (out RegisterStanding, err error) {
	r, err := s.compute(ctx)
	if err != nil {
		return out, err
	}
	out = RegisterStanding{Pictured: -1, Reviewed: -1, Entries: len(r.Entries), Findings: r.Findings}
	if r.last == nil {
		return out, nil
	}
	out.Pictured = r.TakenAt.Sub(r.last.takenAt)
	err = s.DB.Read(ctx, func(tx pgx.Tx) error {
		var first time.Time
		if err := tx.QueryRow(ctx, `SELECT min(taken_at) FROM access_register_snapshots`).Scan(&first); err != nil {
			return err
		}
		out.Began = r.TakenAt.Sub(first)
		reviews, err := readReviews(ctx, tx, uuid.Nil)
		for _, v := range reviews {
			if v.Organisation != uuid.Nil || v.CompletedAt == nil {
				continue
			}
			if age := r.TakenAt.Sub(*v.CompletedAt); out.Reviewed < 0 || age < out.Reviewed {
				out.Reviewed = max(age, 0)
			}
		}
		return err
	})
	return out, err
}

// SecondFactorProbe is what an administrator without a second factor got.
type SecondFactorProbe struct {
	Role     principal.Role
	Enrolled bool     // the session is for enrolling one, and carries no role
	Open     []string // administrative acts that the policies would have allowed
	Asked    int      // administrative acts that were asked for
}

// AdministratorCount counts the active people who hold a role that demands a
// second factor.
type AdministratorCount struct{ All, Without, Sessions int }

// errUndo ends a transaction whose work must not stay.
var errUndo = errors.New("a probe is undone")

// ProbeSecondFactor signs administrators in who have the right password and no
// second factor, one for every role of the platform, and asks the policies for
// every administrative act in their name. It takes the way of a real sign-in
// behind the password form, in a transaction that is undone: no account, no
// session and no audit entry stays.
func (s *People) ProbeSecondFactor(ctx context.Context) (out []SecondFactorProbe, err error) {
	password := rand.Text() + rand.Text()
	var hash string
	if err := s.slow(ctx, func() { hash, err = s.hasher.Hash(password) }); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		for _, role := range principal.AllRoles() {
			if !role.Platform() || !role.Administrative() {
				continue
			}
			in, err := s.probe(ctx, tx, role, password, hash)
			if err != nil {
				return fmt.Errorf("signing a probe in as %s: %w", role, err)
			}
			out = append(out, s.ask(role, in))
		}
		return errUndo
	})
	if !errors.Is(err, errUndo) {
		return nil, err
	}
	return out, nil
}

// probe makes an account with a role and signs it in with its password.
func (s *People) probe(ctx context.Context, tx pgx.Tx, role principal.Role, password, hash string) (in SignedIn, err error) {
	id := uuid.Must(uuid.NewV7())
	sealed, err := s.sealText(ctx, "people", "email_sealed", id.String(), id.String()+"@probe.invalid")
	if err != nil {
		return in, err
	}
	if err := insertPerson(ctx, tx, id, s.account(id.String()+"@probe.invalid"), sealed, sealed, hash); err != nil {
		return in, err
	}
	m, err := addMembership(ctx, tx, uuid.Nil, id, roleNames(principal.RolesOf(role)))
	if err != nil {
		return in, err
	}
	who, err := personByID(ctx, tx, id)
	if err != nil {
		return in, err
	}
	right := false
	if err := s.slow(ctx, func() { right, _ = s.hasher.Verify(who.password, password) }); err != nil || !right {
		return in, orElse(err, errors.New("its own password was refused"))
	}
	if who.Factors.Second() {
		return in, errors.New("an account without a second factor is taken for one that has it")
	}
	return s.open(ctx, tx, id, []Membership{m}, Client{}, string(FactorPassword), false)
}

// ask asks the policies for every administrative act, as the session may act,
// and as it would if it carried its person's role.
func (s *People) ask(role principal.Role, in SignedIn) SecondFactorProbe {
	out := SecondFactorProbe{Role: role, Enrolled: in.Session.Enrolment && in.Principal.Roles == 0}
	with := in.Principal
	with.Roles = principal.RolesOf(role)
	for _, act := range policy.Actions() {
		if !act.Administrative() {
			continue
		}
		out.Asked++
		for _, p := range []principal.Principal{in.Principal, with} {
			if s.Guard.Decide(p, act, policy.Resource{}).Allowed {
				out.Open = append(out.Open, string(act))
				break
			}
		}
	}
	return out
}

// Administrators counts active people with a role that demands a second
// factor, those of them who have enrolled none, and the sessions that those
// have open without being sent to enrol one.
func (s *People) Administrators(ctx context.Context) (n AdministratorCount, err error) {
	err = s.DB.Read(ctx, func(tx pgx.Tx) error {
		people, err := listPeople(ctx, tx, uuid.Nil, true)
		if err != nil {
			return err
		}
		memberships, err := allMemberships(ctx, tx)
		if err != nil {
			return err
		}
		must := map[uuid.UUID]bool{}
		for _, p := range people {
			var roles principal.Roles
			for _, m := range memberships[p.ID] {
				roles |= m.Roles
			}
			if p.Status != "active" || !roles.Administrative() {
				continue
			}
			n.All++
			must[p.ID] = true
			if !p.Factors.Second() {
				n.Without++
			}
		}
		live, _, err := loadSessions(ctx, tx)
		for _, l := range live {
			if must[l.Person] && l.SecondFactor == nil && (!l.Enrolment || l.who.Roles != 0) {
				n.Sessions++
			}
		}
		return err
	})
	return n, err
}
