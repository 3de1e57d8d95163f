package access

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Kinds of entry in the register.
const (
	EntryPerson       = "person"          // an account and what it signs in with
	EntryMembership   = "membership"      // a person's roles in an organisation, or on the platform
	EntryInvitation   = "invitation"      // what will be a membership once it is accepted
	EntryService      = "service-account" //
	EntryKey          = "key"             // an API key
	EntryGrant        = "grant"           // staff access to an organisation's data
	EntryDatabaseRole = "database-role"   // who can sign in to the database
	EntryOSUser       = "os-user"         // who can use the local socket
)

// Access is one entry of the register: who has what, since when, why, and when
// it was last used. It names nobody: people are their ids.
type Access struct {
	Kind         string     `json:"kind"`
	ID           string     `json:"id"`
	Organisation uuid.UUID  `json:"organisation"`        // zero: the platform
	Subject      string     `json:"subject"`             // whose it is: a principal
	What         string     `json:"what"`                // e.g. the roles
	Open         bool       `json:"open"`                // whether it opens something now
	Since        *time.Time `json:"since,omitempty"`     // absent: not known
	Why          string     `json:"why,omitempty"`       // the act that gave it, by whom, and its audit entry
	LastUsed     *time.Time `json:"last_used,omitempty"` // absent: never, or not known
	UseKnown     bool       `json:"use_known"`           // whether use of this kind is recorded at all
	Unexplained  string     `json:"unexplained,omitempty"`

	facts   string   // what makes it up, as text
	digest  string   // in a picture: of its facts
	related []string // other targets whose acts change it
}

// Digest is the SHA-256 of the facts of an entry: what a review confirms.
func (a *Access) Digest() string {
	if a.digest != "" {
		return a.digest
	}
	sum := sha256.Sum256([]byte(a.Kind + "\n" + a.ID + "\n" + a.Organisation.String() + "\n" + a.facts))
	return hex.EncodeToString(sum[:])
}

// key of an entry among all.
func (a *Access) key() string { return a.Kind + "/" + a.Organisation.String() + "/" + a.ID }

// What an entry's existence or change is unexplained by.
const (
	UnexplainedMade    = "made-outside"    // no act in the audit log made it
	UnexplainedChanged = "changed-outside" // no act in the audit log changed it
	UnexplainedGone    = "gone-outside"    // no act in the audit log removed it
)

// UnusedAfter is when an access that nobody uses is reported.
const UnusedAfter = 90 * 24 * time.Hour

// Finding is a difference between the register and what is so.
type Finding struct {
	Code         string    `json:"code"`
	Kind         string    `json:"kind"`
	ID           string    `json:"id"`
	Organisation uuid.UUID `json:"organisation"`
	Detail       string    `json:"detail"`
	Mend         string    `json:"mend"`
}

// Codes of findings beside the unexplained ones.
const (
	FindingUnused     = "unused"           // for 90 days
	FindingRole       = "role-unknown"     // a database login that the installation did not make
	FindingSocket     = "socket-open"      // others may use the local socket
	FindingUnreviewed = "glass-unreviewed" // nobody looked at a break-glass grant within 24 hours
	FindingOverdue    = "review-overdue"   //
	FindingSnapshot   = "snapshot-forged"  // the last picture is not what was signed
)

// RegisterOptions is what Register stands on.
type RegisterOptions struct {
	DB     *db.DB
	Guard  *Guard
	Grants *Grants
	Socket string   // path of the local socket; empty: there is none
	Logins []string // database logins that the installation made
	// KeyUse says when each API key was last used. Nil: not known.
	KeyUse func(ctx context.Context) (map[string]time.Time, error)
	// Sign signs a picture of the register; Verify checks it again.
	Sign   func(message []byte) (signer string, signature []byte, err error)
	Verify func(signer string, message, signature []byte) error
}

// Register knows who has access to what, and compares that with what is so.
type Register struct{ RegisterOptions }

// NewRegister makes it.
func NewRegister(o RegisterOptions) *Register { return &Register{o} }

// RegisterReport is the register at one moment, compared with its last picture.
type RegisterReport struct {
	TakenAt  time.Time `json:"taken_at"`
	Digest   string    `json:"digest"`   // of the document that is signed
	Previous string    `json:"previous"` // of the picture before; empty: there was none
	Entries  []Access  `json:"entries"`
	Findings []Finding `json:"findings"`

	document []byte
	last     *snapshot
}

// List is the register for who may read it: of one organisation, or (the nil
// uuid, for the platform) of all. Every reading is in the audit log.
func (s *Register) List(ctx context.Context, p principal.Principal, org uuid.UUID) (RegisterReport, error) {
	if !p.Platform() && org == uuid.Nil {
		org = p.Organisation
	}
	if err := s.Guard.Authorise(ctx, p, "register.read", policy.Resource{Organisation: org}); err != nil {
		return RegisterReport{}, err
	}
	r, err := s.compute(ctx)
	if err != nil {
		return r, err
	}
	if org != uuid.Nil {
		r.Entries = slices.DeleteFunc(r.Entries, func(a Access) bool { return a.Organisation != org })
		r.Findings = slices.DeleteFunc(r.Findings, func(f Finding) bool { return f.Organisation != org })
		r.Digest, r.Previous = "", "" // they are over all organisations
	}
	return r, s.DB.Org(ctx, org, func(tx pgx.Tx) error {
		return audit.Append(ctx, tx, p, org, "register.read", "", map[string]any{"entries": len(r.Entries)})
	})
}

// Compare takes a new signed picture of the register and reports every
// difference to the last one that no act in the audit log explains. The node
// does it every hour.
func (s *Register) Compare(ctx context.Context, p principal.Principal) (RegisterReport, error) {
	if err := s.Guard.Authorise(ctx, p, "register.compare", policy.Resource{}); err != nil {
		return RegisterReport{}, err
	}
	r, err := s.compute(ctx)
	if err != nil {
		return r, err
	}
	return r, s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := s.store(ctx, tx, &r); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, uuid.Nil, "register.compare", r.Digest, map[string]any{
			"entries": len(r.Entries), "findings": len(r.Findings), "previous": r.Previous})
	})
}

// slack is for clocks that differ between nodes, and for transactions that
// were open while the last picture was taken.
const slack = 5 * time.Minute

// compute reads what is so and compares it.
func (s *Register) compute(ctx context.Context) (r RegisterReport, err error) {
	var past []Access
	var changes []audit.Change
	confirmed := map[string]bool{}
	err = s.DB.Read(ctx, func(tx pgx.Tx) error {
		// One picture: what the statements below read belongs together.
		if _, err := tx.Exec(ctx, `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`); err != nil {
			return err
		}
		if r.Entries, r.TakenAt, err = readEntries(ctx, tx); err != nil {
			return err
		}
		if r.last, err = lastSnapshot(ctx, tx); err != nil {
			return err
		}
		since := time.Time{}
		if r.last != nil {
			since = r.last.takenAt.Add(-slack)
		}
		if changes, err = audit.Changes(ctx, tx, since, changing); err != nil {
			return err
		}
		confirmed, err = readConfirmed(ctx, tx)
		return err
	})
	if err != nil {
		return r, fmt.Errorf("reading the register of access: %w", err)
	}
	if r.last != nil {
		r.Previous = hex.EncodeToString(r.last.digest)
		if past, err = s.open(r.last); err != nil {
			r.Findings = append(r.Findings, Finding{Code: FindingSnapshot, Kind: "register", ID: r.last.id.String(),
				Detail: "The last picture of the register is not what was signed: " + err.Error() + ".",
				Mend:   "Treat the database as tampered with; every entry is compared with the whole audit log again."})
			past = nil
			if err = s.DB.Read(ctx, func(tx pgx.Tx) (err error) {
				changes, err = audit.Changes(ctx, tx, time.Time{}, changing)
				return err
			}); err != nil {
				return r, err
			}
		}
	}
	r.Entries = append(r.Entries, s.socket(&r)...)
	r.Entries = explain(r.Entries, past, changes, confirmed, s.Logins)
	if err := s.used(ctx, r.Entries); err != nil {
		return r, err
	}
	slices.SortFunc(r.Entries, func(a, b Access) int { return cmp.Compare(a.key(), b.key()) })
	r.Findings = append(r.Findings, s.findings(&r)...)
	overdue, err := s.overdue(ctx, r.TakenAt)
	r.Findings = append(r.Findings, overdue...)
	if err != nil {
		return r, err
	}
	r.document = document(r.Entries)
	sum := sha256.Sum256(r.document)
	r.Digest = hex.EncodeToString(sum[:])
	return r, nil
}

// used adds when API keys, and the service accounts that own them, were used.
func (s *Register) used(ctx context.Context, entries []Access) error {
	if s.KeyUse == nil {
		return nil
	}
	use, err := s.KeyUse(ctx)
	if err != nil {
		return fmt.Errorf("reading when API keys were used: %w", err)
	}
	services := map[string]time.Time{}
	for i := range entries {
		if e := &entries[i]; e.Kind == EntryKey {
			e.UseKnown = true
			if t, ok := use[e.ID]; ok {
				e.LastUsed = &t
				if services[e.Subject].Before(t) {
					services[e.Subject] = t
				}
			}
		}
	}
	for i := range entries {
		if e := &entries[i]; e.Kind == EntryService {
			e.UseKnown = true
			if t, ok := services[e.Subject]; ok {
				e.LastUsed = &t
			}
		}
	}
	return nil
}

// findings tells what is wrong with the entries themselves.
func (s *Register) findings(r *RegisterReport) (out []Finding) {
	add := func(e *Access, code, detail, mend string) {
		out = append(out, Finding{code, e.Kind, e.ID, e.Organisation, detail, mend})
	}
	for i := range r.Entries {
		e := &r.Entries[i]
		name := strings.ReplaceAll(e.Kind, "-", " ") + " " + e.ID
		switch {
		case e.Unexplained == UnexplainedMade && e.Kind == EntryDatabaseRole:
			add(e, FindingRole, fmt.Sprintf("The database login %s has rights here (%s), but this installation did not make it.", e.ID, e.What),
				"Remove its rights, or confirm it in a review: `foundry access review`.")
		case e.Unexplained == UnexplainedMade:
			add(e, e.Unexplained, fmt.Sprintf("The %s exists, but no act in the audit log made it.", name), unexplainedMend)
		case e.Unexplained == UnexplainedChanged:
			add(e, e.Unexplained, fmt.Sprintf("The %s was changed, but by no act in the audit log.", name), unexplainedMend)
		case e.Unexplained == UnexplainedGone:
			add(e, e.Unexplained, fmt.Sprintf("The %s is gone, but no act in the audit log removed it.", name), unexplainedMend)
		}
		if e.Open && e.UseKnown && e.Kind != EntryGrant && unused(e, r.TakenAt) {
			add(e, FindingUnused, fmt.Sprintf("The %s was not used for 90 days.", name), "Remove it, or confirm in a review that it has to stay.")
		}
	}
	return out
}

const unexplainedMend = "Find out who wrote to the database by hand; then undo it, or confirm it in a review: `foundry access review`."

func unused(e *Access, now time.Time) bool {
	last := e.LastUsed
	if last == nil {
		last = e.Since
	}
	return last != nil && now.Sub(*last) >= UnusedAfter
}

// document is what is signed: the facts of every entry, in order, without what
// changes by mere use.
func document(entries []Access) []byte {
	out := make([]pictured, len(entries))
	for i := range entries {
		e := &entries[i]
		out[i] = pictured{e.Kind, e.ID, e.Organisation, e.Subject, e.What, e.Open, e.Digest(), e.Why, e.Unexplained}
	}
	text, err := json.Marshal(out)
	if err != nil {
		panic(err) // strings and booleans
	}
	return text
}

// pictured is an entry in a picture of the register.
type pictured struct {
	Kind         string    `json:"kind"`
	ID           string    `json:"id"`
	Organisation uuid.UUID `json:"organisation"`
	Subject      string    `json:"subject"`
	What         string    `json:"what"`
	Open         bool      `json:"open"`
	Digest       string    `json:"digest"`
	Why          string    `json:"why,omitempty"`
	Unexplained  string    `json:"unexplained,omitempty"`
}

// open checks a picture and reads it.
func (s *Register) open(p *snapshot) ([]Access, error) {
	sum := sha256.Sum256(p.document)
	if !bytes.Equal(sum[:], p.digest) {
		return nil, problem.New(problem.Conflict, FindingSnapshot, "its document has another digest")
	}
	if err := s.Verify(p.signer, p.message(), p.signature); err != nil {
		return nil, fmt.Errorf("its signature is wrong: %w", err)
	}
	var entries []pictured
	if err := json.Unmarshal(p.document, &entries); err != nil {
		return nil, fmt.Errorf("its document cannot be read: %w", err)
	}
	out := make([]Access, len(entries))
	for i, e := range entries {
		out[i] = Access{Kind: e.Kind, ID: e.ID, Organisation: e.Organisation, Subject: e.Subject, What: e.What, Open: e.Open,
			Why: e.Why, Unexplained: e.Unexplained, digest: e.Digest}
	}
	return out, nil
}

// Age is how old the last signed picture is, for the control of obligation
// O-14. It fails when there is none.
func (s *Register) Age(ctx context.Context) (age time.Duration, err error) {
	err = s.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		age, err = snapshotAge(ctx, tx)
		return err
	})
	return age, err
}

// Run compares every hour until ctx ends, and tells what was found each time.
func (s *Register) Run(ctx context.Context, every time.Duration, tell func(RegisterReport, error)) {
	for tick := time.NewTicker(every); ; {
		r, err := s.Compare(ctx, principal.Node("register"))
		if ctx.Err() != nil {
			return
		}
		tell(r, err)
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}
