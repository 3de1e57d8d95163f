package backup

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// GlassOptions are what break-glass acts on.
type GlassOptions struct {
	DB      *db.DB
	Guard   *access.Guard
	DataDir string
	Seal    func(plaintext, associated []byte) ([]byte, error) // the installation's keyring
	Open    func(sealed, associated []byte) ([]byte, error)
	// Collect gathers what a kit holds of this node.
	Collect func(ctx context.Context) (kit.Content, error)
	// Publish puts a kit on every target, reads it back, and says where that worked.
	Publish func(ctx context.Context, name string, file []byte) []KitCopy
	// Look reads the copies of a kit at every target, and says where there is one
	// with this SHA-256; may be nil.
	Look func(ctx context.Context, name string, sum [sha256.Size]byte) []KitCopy
	// Alarm tells everybody who should know, in the transaction that enters the
	// act into the database.
	Alarm func(ctx context.Context, tx pgx.Tx, o Opening) error
	// Noted says what is known about the database from outside of it; may be nil.
	Noted  func(ctx context.Context) (Noted, error)
	Random io.Reader
	Clock  func() time.Time
	Log    *slog.Logger
}

// Glass is the recovery key's public half, the kits that are made for it, and
// the way in for whoever brings enough shares. Safe for concurrent use.
type Glass struct {
	o   GlassOptions
	dir string

	mu         sync.Mutex
	state      *glassState // nil: there is no recovery key
	chain      *actChain
	challenges map[string]time.Time
	sessions   map[[32]byte]*emergency
	refreshing sync.Mutex
	kick       chan struct{}
}

// NewGlass reads what the node keeps of its recovery key. It does not need the
// database.
func NewGlass(o GlassOptions) (*Glass, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	g := &Glass{o: o, dir: filepath.Join(o.DataDir, "breakglass"), challenges: map[string]time.Time{}, sessions: map[[32]byte]*emergency{}, kick: make(chan struct{}, 1)}
	var err error
	if g.state, err = g.readState(); err != nil {
		return nil, err
	}
	if g.chain, err = openChain(g.dir, o.Seal, o.Open); err != nil {
		return nil, err
	}
	return g, nil
}

// KitCopy is a place where a copy of the kit lies, or should.
type KitCopy struct {
	Place   string    `json:"place"` // a target's name, or a path
	At      time.Time `json:"at,omitzero"`
	Seen    time.Time `json:"seen_at,omitzero"`  // when it was last read there, byte for byte; zero: never
	Failure string    `json:"failure,omitempty"` // why the newest is not there
}

// KitChange is what in the kit changed when it was made anew.
type KitChange struct {
	At   time.Time `json:"at"`
	What []string  `json:"what"` // the parts, in words
}

// GlassStatus is how break-glass stands.
type GlassStatus struct {
	// Tonight answers whether the kit could be opened now, by what was tried.
	Tonight     Verdict    `json:"tonight"`
	At          time.Time  `json:"at"`
	Ready       bool       `json:"ready"` // there is a key, and a current kit outside of this node
	Reason      string     `json:"reason"`
	Mend        string     `json:"mend,omitempty"`
	Set         string     `json:"set,omitempty"`
	Fingerprint string     `json:"fingerprint,omitempty"`
	Threshold   int        `json:"threshold,omitempty"`
	Shares      int        `json:"shares,omitempty"`
	Created     time.Time  `json:"created,omitzero"`
	KitMade     time.Time  `json:"kit_made,omitzero"`
	Current     bool       `json:"current"` // nothing that is in it has changed since
	Copies      []KitCopy  `json:"copies"`
	Contacts    int        `json:"contacts"`
	Attested    *time.Time `json:"attested_at,omitempty"` // when the contacts were last found right
	LastDrill   *KitDrill  `json:"last_drill,omitempty"`
	// LastContactDrill is the last that the emergency contact ran alone.
	LastContactDrill *KitDrill  `json:"last_contact_drill,omitempty"`
	Drills           []KitDrill `json:"drills"` // the newest first
	// DrillDue, ContactDrillDue and AttestDue are when each has to be done again,
	// at the latest; nil: now, it was never done with the present key.
	DrillDue        *time.Time   `json:"drill_due_at,omitempty"`
	ContactDrillDue *time.Time   `json:"contact_drill_due_at,omitempty"`
	AttestDue       *time.Time   `json:"attest_due_at,omitempty"`
	Changed         []KitChange  `json:"changed"`  // since the kit of the last drill, or since the key was made; the newest first
	Requests        []KeyRequest `json:"requests"` // new keys that wait for approval, or to be made
	Openings        []Opening    `json:"openings"` // the newest first
	Unreviewed      int          `json:"unreviewed"`
	Unanchored      int          `json:"unanchored"` // acts that wait for the database
}

// Status says how old the kit is, whether it is current, and where it lies. It
// works without the database, and then knows less.
func (g *Glass) Status(ctx context.Context, p principal.Principal) (s GlassStatus, err error) {
	if err := g.o.Guard.Authorise(ctx, p, "break-glass.read", policy.Resource{}); err != nil {
		return s, err
	}
	return g.standing(ctx)
}

func (g *Glass) standing(ctx context.Context) (s GlassStatus, err error) {
	g.mu.Lock()
	st := g.state
	s.Unanchored = g.chain.waiting()
	g.mu.Unlock()
	s.At = g.o.Clock().UTC()
	s.Copies, s.Requests, s.Openings, s.Drills, s.Changed = []KitCopy{}, []KeyRequest{}, []Opening{}, []KitDrill{}, []KitChange{}
	if err := g.readLists(ctx, &s); err != nil && !errors.Is(err, db.ErrUnavailable) {
		return s, err
	}
	g.markActive(&s)
	defer func() { s.Tonight = s.tonight() }()
	if st == nil {
		s.Reason = "There is no recovery key: if this machine is lost, its backups cannot be opened."
		s.Mend = "Make one with `foundry breakglass create`."
		return s, nil
	}
	s.Set, s.Fingerprint, s.Threshold, s.Shares, s.Created = st.Set.String(), kit.Fingerprint(st.Public), st.Threshold, st.Shares, st.Created
	s.KitMade, s.Copies, s.Contacts = st.Made, append(s.Copies, st.Copies...), st.Contacts
	if digest, c, err := g.digest(ctx, st); err == nil {
		s.Current = digest == st.Digest
		c.Wipe()
	}
	s.due(st)
	var failed []string
	there := 0
	for _, c := range s.Copies {
		if c.Failure == "" {
			there++
		} else {
			failed = append(failed, c.Place)
		}
	}
	switch {
	case there == 0:
		s.Reason, s.Mend = "No copy of the kit lies outside of this node.", "Configure a target under backup.targets, or name a place with `foundry breakglass create --kit-dir`."
	case !s.Current:
		s.Reason, s.Mend = "The kit is older than what is in it.", "It is made anew by itself within a minute; `foundry status` and the log say what keeps it."
	case len(failed) > 0:
		s.Reason, s.Mend = "The newest kit did not reach "+strings.Join(failed, ", ")+".", "See whether the target can be reached; it is tried again every minute."
	default:
		s.Ready, s.Reason = true, "The kit is current."
	}
	return s, nil
}

// KeyRequest is a new recovery key that was asked for.
type KeyRequest struct {
	ID        uuid.UUID  `json:"id"`
	By        string     `json:"by"`
	Threshold int        `json:"threshold"`
	Shares    int        `json:"shares"`
	Reason    string     `json:"reason"`
	At        time.Time  `json:"requested_at"`
	State     string     `json:"state"` // waiting, approved, rejected, made
	DecidedBy string     `json:"decided_by,omitempty"`
	DecidedAt *time.Time `json:"decided_at,omitempty"`
}

// KitDrill is a restore with nothing but the kit and the shares.
type KitDrill struct {
	ID        uuid.UUID  `json:"id"`
	Set       string     `json:"set"`
	By        string     `json:"by"`
	ByContact bool       `json:"by_contact"`
	Outcome   Outcome    `json:"outcome"`
	Reason    string     `json:"reason"`
	Seconds   float64    `json:"seconds"`
	Recovered *time.Time `json:"recovered_at,omitempty"`
	KitMade   time.Time  `json:"kit_made_at"`
	Evidence  string     `json:"evidence"` // SHA-256 of the printed record
	At        time.Time  `json:"drilled_at"`
}

// Opening is one time that somebody got in with the shares.
type Opening struct {
	ID         uuid.UUID  `json:"id"`
	Set        string     `json:"set"`
	By         string     `json:"by"`
	Scope      string     `json:"scope"`
	Reason     string     `json:"reason"`
	Shares     []int      `json:"shares"` // which were used
	Opened     time.Time  `json:"opened_at"`
	Until      time.Time  `json:"until"`
	Offline    bool       `json:"offline"`
	Entered    time.Time  `json:"entered_at,omitzero"` // into the database
	Reviewed   *time.Time `json:"reviewed_at,omitempty"`
	ReviewedBy string     `json:"reviewed_by,omitempty"`
	Finding    string     `json:"finding,omitempty"`
	Justified  *bool      `json:"justified,omitempty"`
	Active     bool       `json:"active" db:"-"` // the session is open now
}

// ReviewDue is when an opening has to be reviewed by.
func (o Opening) ReviewDue() time.Time { return o.Opened.Add(reviewWithin) }

// Run keeps the kit current, and enters into the database what happened while
// it was away, until ctx ends.
func (g *Glass) Run(ctx context.Context) error {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	said := ""
	for {
		if err := g.Refresh(ctx); err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			g.o.Log.Error("the emergency kit was not made anew; it is tried again", "error", err)
		} else if err == nil {
			said = ""
		}
		if err := g.Anchor(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, db.ErrUnavailable) {
			g.o.Log.Error("acts behind broken glass were not entered into the database; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-g.kick:
		}
	}
}

// Kick makes Run look at once.
func (g *Glass) Kick() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// refreshEvery is how often it is looked whether the kit is current: reading a
// dozen small files.
const refreshEvery = time.Minute

// errNoKey says that there is no recovery key.
var errNoKey = problem.New(problem.NotFound, "break-glass-no-key", "There is no recovery key yet.").WithMend("Make one with `foundry breakglass create`.")

// Contacts are the people whom the kit names, with their addresses.
func (g *Glass) Contacts() ([]kit.Contact, error) {
	g.mu.Lock()
	s := g.state
	g.mu.Unlock()
	if s == nil {
		return nil, nil
	}
	secrets, err := g.secrets(s)
	return secrets.Contacts, err
}
