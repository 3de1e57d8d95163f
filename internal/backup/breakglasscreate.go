package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// NewKey asks for a new recovery key.
type NewKey struct {
	Threshold int           `json:"threshold"` // how many shares are needed
	Shares    int           `json:"shares"`
	Holders   []string      `json:"holders,omitempty"` // who is to keep which, in order
	Contacts  []kit.Contact `json:"contacts,omitempty"`
	Briefing  string        `json:"briefing,omitempty"`
	Dirs      []string      `json:"dirs,omitempty"` // directories of the node's machine for copies of the kit
	Reason    string        `json:"reason"`
}

// maxBriefing bounds what is printed.
const maxBriefing = 16 << 10

func (n NewKey) validate() error {
	if _, err := splittable(n.Threshold, n.Shares); err != nil {
		return err
	}
	switch {
	case len(n.Holders) > 0 && len(n.Holders) != n.Shares:
		return problem.New(problem.Invalid, "break-glass-holders", fmt.Sprintf("%d holders are named for %d shares.", len(n.Holders), n.Shares)).WithField("holders").WithMend("Name one for each share, or none.")
	case len(strings.TrimSpace(n.Reason)) < 10 || len(n.Reason) > 1000:
		return problem.New(problem.Invalid, "break-glass-reason", "A new recovery key needs a reason of 10 to 1000 characters.").WithField("reason").WithMend("Say in a sentence why it is made.")
	case len(n.Briefing) > maxBriefing:
		return problem.New(problem.TooLarge, "break-glass-briefing", "The briefing is longer than a few pages.").WithField("briefing").WithMend("Keep to what somebody needs in two hours.")
	}
	seen := map[string]bool{}
	for _, h := range n.Holders {
		if h = strings.TrimSpace(h); h == "" || seen[h] {
			return problem.New(problem.Invalid, "break-glass-holders", "Each share needs a holder of its own: somebody with two would count twice.").WithField("holders").WithMend("Name different people.")
		}
		seen[h] = true
	}
	for _, d := range n.Dirs {
		if !filepath.IsAbs(d) {
			return problem.New(problem.Invalid, "break-glass-dir", fmt.Sprintf("%q is no absolute path.", d)).WithField("dirs").WithMend("Write it from / on.")
		}
	}
	return nil
}

// splittable checks numbers before anything is made.
func splittable(threshold, shares int) (bool, error) {
	switch {
	case threshold < kit.LeastThreshold:
		return false, problem.New(problem.Invalid, "share-threshold", fmt.Sprintf("%d share would open the kit alone.", threshold)).WithField("threshold").WithMend("Let at least two people be needed.")
	case shares < threshold || shares > kit.MostShares:
		return false, problem.New(problem.Invalid, "share-count", fmt.Sprintf("%d shares of which %d are needed cannot be made.", shares, threshold)).WithField("shares").
			WithMend(fmt.Sprintf("Make at least as many as are needed, and at most %d.", kit.MostShares))
	}
	return true, nil
}

// RequestKey asks for a new recovery key. Somebody else has to approve it, but
// for the local socket in development.
func (g *Glass) RequestKey(ctx context.Context, p principal.Principal, n NewKey) (r KeyRequest, err error) {
	if err := g.o.Guard.Authorise(ctx, p, "break-glass.create", policy.Resource{}); err != nil {
		return r, err
	}
	if err := n.validate(); err != nil {
		return r, err
	}
	plain, err := json.Marshal(n)
	if err != nil {
		return r, err
	}
	id := uuid.Must(uuid.NewV7())
	sealed, err := g.o.Seal(plain, []byte(glassLabel+" request "+id.String()))
	if err != nil {
		return r, err
	}
	err = g.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := insertRequest(ctx, tx, id, p.String(), n, sealed); err != nil {
			return err
		}
		if g.alone(p) {
			if err := insertDecision(ctx, tx, id, p.String(), true); err != nil {
				return err
			}
		}
		if err := audit.Append(ctx, tx, p, uuid.Nil, "break-glass.request", id.String(), map[string]any{"threshold": n.Threshold, "shares": n.Shares, "reason": n.Reason}); err != nil {
			return err
		}
		r, err = selectRequest(ctx, tx, id)
		return err
	})
	return r, err
}

// alone reports whether one person is enough: the server's own administrator,
// in development.
func (g *Glass) alone(p principal.Principal) bool {
	return p.Kind == principal.Local && g.o.Guard.Mode() != "production"
}

// DecideKey approves or refuses a new recovery key that somebody else asked for.
func (g *Glass) DecideKey(ctx context.Context, p principal.Principal, id uuid.UUID, approve bool) (r KeyRequest, err error) {
	if err := g.o.Guard.Authorise(ctx, p, "break-glass.approve", policy.Resource{ID: id.String()}); err != nil {
		return r, err
	}
	err = g.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if r, err = selectRequest(ctx, tx, id); err != nil {
			return err
		}
		if r.State != "waiting" {
			return problem.New(problem.Conflict, "break-glass-decided", "This request was decided already: it is "+r.State+".").WithField("id").WithMend("See `foundry breakglass status`.")
		}
		if r.By == p.String() {
			return problem.New(problem.Denied, "break-glass-self", "Whoever asks for a new recovery key cannot approve it.").WithMend("Ask somebody else who may: security or an administrator of the platform.")
		}
		if err := insertDecision(ctx, tx, id, p.String(), approve); err != nil {
			return err
		}
		act := "break-glass.approve"
		if !approve {
			act = "break-glass.reject"
		}
		if err := audit.Append(ctx, tx, p, uuid.Nil, act, id.String(), nil); err != nil {
			return err
		}
		r, err = selectRequest(ctx, tx, id)
		return err
	})
	var self *problem.Error
	if errors.As(err, &self) && self.Code == "break-glass-self" {
		if derr := audit.Deny(ctx, g.o.DB, p, uuid.Nil, "break-glass.approve", id.String(), map[string]any{"code": self.Code}); derr != nil {
			return r, errors.Join(err, derr)
		}
	}
	return r, err
}

// MadeKey is a new recovery key's shares, shown once, and what is printed with
// them.
type MadeKey struct {
	Set       string      `json:"set"`
	Threshold int         `json:"threshold"`
	Shares    []MadeShare `json:"shares"`
	Briefing  Printed     `json:"briefing"`
	KitFile   string      `json:"kit_file"`
}

// MadeShare is a share for its holder.
type MadeShare struct {
	Index  int      `json:"index"`
	Holder string   `json:"holder,omitempty"`
	Words  []string `json:"words"`
	Text   string   `json:"text"`
	Page   Printed  `json:"page"`
}

// Printed is a page.
type Printed struct {
	HTML string `json:"html"`
	Text string `json:"text"`
}

// MakeKey makes the key that was approved, by whoever asked for it, and puts it
// in force. Its shares leave with the answer and are kept nowhere. The key that
// was in force before still opens the kits that were made for it.
func (g *Glass) MakeKey(ctx context.Context, p principal.Principal, id uuid.UUID) (out MadeKey, err error) {
	if err := g.o.Guard.Authorise(ctx, p, "break-glass.create", policy.Resource{ID: id.String()}); err != nil {
		return out, err
	}
	key, err := kit.NewKey(g.o.Random)
	if err != nil {
		return out, err
	}
	defer key.Wipe()
	var next *glassState
	var n NewKey
	err = g.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if n, err = g.approved(ctx, tx, p, id); err != nil {
			return err
		}
		if next, err = g.newState(key, n); err != nil {
			return err
		}
		if err := insertSet(ctx, tx, id, p.String(), next); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, uuid.Nil, "break-glass.create", next.Set.String(),
			map[string]any{"request": id, "fingerprint": kit.Fingerprint(next.Public), "threshold": n.Threshold, "shares": n.Shares})
	})
	if err != nil {
		return out, err
	}
	shares, err := key.Split(n.Threshold, n.Shares, g.o.Random)
	if err != nil {
		return out, err
	}
	if err := g.writeState(next); err != nil {
		return out, err
	}
	g.mu.Lock()
	g.state = next
	g.mu.Unlock()
	if err := g.Refresh(ctx); err != nil {
		g.o.Log.Error("the first kit of the new recovery key was not made yet; it is tried again", "error", err)
	}
	return g.printed(ctx, n, shares)
}

// approved reads a request that may be carried out now, by this principal.
func (g *Glass) approved(ctx context.Context, tx pgx.Tx, p principal.Principal, id uuid.UUID) (n NewKey, err error) {
	r, err := selectRequest(ctx, tx, id)
	if err != nil {
		return n, err
	}
	switch {
	case r.State == "waiting":
		return n, problem.New(problem.Conflict, "break-glass-waiting", "Nobody has approved this recovery key yet.").WithField("id").
			WithMend("Somebody else runs `foundry breakglass approve " + id.String() + "`.")
	case r.State != "approved":
		return n, problem.New(problem.Conflict, "break-glass-decided", "This request is "+r.State+".").WithField("id").WithMend("Ask again with `foundry breakglass create`.")
	case r.By != p.String():
		return n, problem.New(problem.Denied, "break-glass-other", "Somebody else asked for this recovery key.").WithMend("The shares are shown to whoever asked for them.")
	case r.DecidedAt != nil && g.o.Clock().Sub(*r.DecidedAt) > approvalLasts:
		return n, problem.New(problem.Conflict, "break-glass-late", "The approval is older than a week.").WithField("id").WithMend("Ask again with `foundry breakglass create`.")
	}
	sealed, err := selectSealed(ctx, tx, id)
	if err != nil {
		return n, err
	}
	plain, err := g.o.Open(sealed, []byte(glassLabel+" request "+id.String()))
	if err != nil {
		return n, fmt.Errorf("opening the request: %w", err)
	}
	return n, json.Unmarshal(plain, &n)
}

// approvalLasts is how long an approval may be used.
const approvalLasts = 7 * 24 * time.Hour

func (g *Glass) newState(key *kit.Key, n NewKey) (*glassState, error) {
	sealed, err := g.sealSecrets(glassSecrets{Authenticator: key.Authenticator(), Holders: n.Holders, Contacts: n.Contacts, Briefing: n.Briefing, Dirs: n.Dirs})
	if err != nil {
		return nil, err
	}
	return &glassState{Public: key.Recipient(), Set: key.Set(), Threshold: n.Threshold, Shares: n.Shares, Created: g.o.Clock().UTC(), Contacts: len(n.Contacts), Sealed: sealed}, nil
}

// Briefing is the page for whoever has to recover, as it is now. It holds no
// secret, but it names people: that somebody read it is entered.
func (g *Glass) Briefing(ctx context.Context, p principal.Principal) (out Printed, err error) {
	if err := g.o.Guard.Authorise(ctx, p, "break-glass.brief", policy.Resource{}); err != nil {
		return out, err
	}
	g.mu.Lock()
	s := g.state
	g.mu.Unlock()
	if s == nil {
		return out, errNoKey
	}
	secrets, err := g.secrets(s)
	if err != nil {
		return out, err
	}
	err = g.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		return audit.Append(ctx, tx, p, uuid.Nil, "break-glass.brief", s.Set.String(), nil)
	})
	if err != nil {
		return out, err
	}
	page := g.page(ctx, s, secrets)
	return pages(func() ([]byte, error) { return kit.BriefingHTML(page) }, func() ([]byte, error) { return kit.BriefingText(page) })
}

// page is what is printed around shares and as the briefing.
func (g *Glass) page(ctx context.Context, s *glassState, n glassSecrets) kit.Page {
	page := kit.Page{Set: s.Set, Created: s.Created, Threshold: s.Threshold, Shares: s.Shares, Holders: n.Holders, Contacts: n.Contacts, Briefing: n.Briefing}
	for _, c := range s.Copies {
		page.Places = append(page.Places, c.Place)
	}
	if c, err := g.o.Collect(ctx); err == nil {
		page.Installation, page.Foundry, page.PostgreSQL, page.Packages = c.Node.Name, c.Foundry, c.PostgreSQL, c.Packages
		c.Wipe()
	}
	return page
}

// printed lays the shares out for their holders.
func (g *Glass) printed(ctx context.Context, n NewKey, shares []kit.Share) (out MadeKey, err error) {
	g.mu.Lock()
	s := g.state
	g.mu.Unlock()
	page := g.page(ctx, s, glassSecrets{Holders: n.Holders, Contacts: n.Contacts, Briefing: n.Briefing})
	out = MadeKey{Set: s.Set.String(), Threshold: n.Threshold, KitFile: kit.FileName(s.Set)}
	for i, share := range shares {
		page.Holder = ""
		if i < len(n.Holders) {
			page.Holder = n.Holders[i]
		}
		m := MadeShare{Index: share.Index, Holder: page.Holder, Words: share.Words(), Text: share.Text()}
		if m.Page, err = pages(func() ([]byte, error) { return kit.ShareHTML(page, share) }, func() ([]byte, error) { return kit.ShareText(page, share) }); err != nil {
			return out, err
		}
		out.Shares = append(out.Shares, m)
	}
	out.Briefing, err = pages(func() ([]byte, error) { return kit.BriefingHTML(page) }, func() ([]byte, error) { return kit.BriefingText(page) })
	return out, err
}

func pages(html, text func() ([]byte, error)) (p Printed, err error) {
	h, err := html()
	if err != nil {
		return p, err
	}
	t, err := text()
	return Printed{string(h), string(t)}, err
}

// AttestContacts notes that somebody called the contacts and found them right.
func (g *Glass) AttestContacts(ctx context.Context, p principal.Principal, briefed bool) error {
	if err := g.o.Guard.Authorise(ctx, p, "break-glass.attest", policy.Resource{}); err != nil {
		return err
	}
	g.mu.Lock()
	s := g.state
	g.mu.Unlock()
	if s == nil {
		return errNoKey
	}
	if s.Contacts == 0 {
		return problem.New(problem.Conflict, "break-glass-contacts", "The kit names no contact that could be attested.").WithMend("Make a new key with --contacts.")
	}
	return g.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := insertAttestation(ctx, tx, p.String(), s.Contacts, briefed); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, uuid.Nil, "break-glass.attest", s.Set.String(), map[string]any{"contacts": s.Contacts, "briefed": briefed})
	})
}
