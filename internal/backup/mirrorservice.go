package backup

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/mirror"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// CodeOptions are what the mirrors of code repositories stand on.
type CodeOptions struct {
	DB      *db.DB
	Guard   *access.Guard
	Mirrors *mirror.Mirrors // nil: no repository is mirrored here
	Config  Config          // names the repositories; their credentials are read when they are used
	// Tried are the proofs of restored copies, from the last drill, by mirror.
	Tried func() map[string]TriedMirror
	// Scratch is a directory for proofs, with room for a check-out.
	Scratch     string
	Notes       string // file in which what was proven and pushed is noted
	Development bool
	Alarm       func(severity notify.Severity, code string, facts map[string]string)
	Background  func(func())
	Clock       func() time.Time
	Log         *slog.Logger
}

// Code is the mirrors of code repositories, as people see and use them. Safe
// for concurrent use. Every method that takes a principal authorises it.
type Code struct {
	o    CodeOptions
	life context.Context

	mu    sync.Mutex
	doing map[string]doing // by mirror
	notes map[string]noted // by mirror
}

// doing is what is being done with a mirror now.
type doing struct {
	What  string
	Since time.Time
}

// What is done with a mirror.
const (
	Fetching = "fetching"
	Proving  = "proving"
	Pushing  = "pushing"
)

// NewCode makes it. What it does in the background ends with life.
func NewCode(life context.Context, o CodeOptions) *Code {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Alarm == nil {
		o.Alarm = func(notify.Severity, string, map[string]string) {}
	}
	if o.Background == nil {
		o.Background = func(do func()) { go do() }
	}
	if o.Tried == nil {
		o.Tried = func() map[string]TriedMirror { return nil }
	}
	return &Code{o: o, life: life, doing: map[string]doing{}, notes: readNotes(o.Notes, o.Log)}
}

// TriedMirror is one proof of a mirror and when it was made.
type TriedMirror struct {
	At    time.Time    `json:"at"`
	Proof mirror.Proof `json:"proof"`
}

// Push is one time that a mirror was brought to another server.
type Push struct {
	To     string     `json:"to"` // address, without anything secret
	By     string     `json:"by"`
	Began  time.Time  `json:"began_at"`
	Ended  *time.Time `json:"ended_at,omitempty"`
	Refs   int        `json:"refs"` // branches, tags and notes that arrived
	Code   string     `json:"code,omitempty"`
	Reason string     `json:"reason,omitempty"` // why it did not work
	Mend   string     `json:"mend,omitempty"`
}

// MirrorStatus is how one mirror of a code repository stands.
type MirrorStatus struct {
	Name       string     `json:"name"`
	URL        string     `json:"url"`        // without anything secret
	Configured bool       `json:"configured"` // false: it lies here, and nothing fetches it any more
	Outcome    Outcome    `json:"outcome"`    // pass: fresh and its last fetch worked; inconclusive: fresh, but that failed; fail: too old, or never fetched
	Fetched    *time.Time `json:"fetched_at,omitempty"`
	Tried      *time.Time `json:"tried_at,omitempty"`
	Age        float64    `json:"age_seconds"` // since it was last fetched whole; -1: never
	MaxAge     float64    `json:"max_age_seconds"`
	Refs       int        `json:"refs"`
	Bytes      int64      `json:"bytes"`
	Branch     string     `json:"branch,omitempty"`
	Commit     string     `json:"commit,omitempty"` // the newest of all branches
	CommitAt   *time.Time `json:"commit_at,omitempty"`
	Kept       int        `json:"kept"` // refs that the last fetch saved from being lost
	Builds     bool       `json:"builds"`
	Code       string     `json:"code,omitempty"` // of what went wrong at the last fetch
	Reason     string     `json:"reason,omitempty"`
	Mend       string     `json:"mend,omitempty"`

	Doing string     `json:"doing,omitempty"` // fetching, proving or pushing, now
	Since *time.Time `json:"doing_since,omitempty"`

	Proof    *TriedMirror `json:"proof,omitempty"`    // of the mirror itself, when it was last proven here
	Restored *TriedMirror `json:"restored,omitempty"` // of a copy that a drill restored
	Push     *Push        `json:"push,omitempty"`     // the last
}

// MirrorPush asks that a mirror be brought to a new, empty repository. The
// credentials are used once and kept nowhere.
type MirrorPush struct {
	To         string `json:"to" doc:"Address of the new, empty repository: https:// or ssh://."`
	User       string `json:"user,omitempty" doc:"Who signs in over https. Default git."`
	Password   string `json:"password,omitempty" doc:"Password or token, over https."`
	Key        string `json:"key,omitempty" doc:"Private key, over SSH."`
	KnownHosts string `json:"known_hosts,omitempty" doc:"The SSH server's key, as of ssh-keyscan."`
	CA         string `json:"ca,omitempty" doc:"PEM of the authority of the server's certificate. Default: those of the system."`
	Private    bool   `json:"private,omitempty" doc:"The server stands in a private network or on this machine. Refused otherwise."`
	Reason     string `json:"reason" doc:"10 to 1000 characters: why the code goes there."`
}

func errNoMirror(name string) error {
	return problem.New(problem.NotFound, "mirror-unknown", fmt.Sprintf("There is no mirror %q.", name)).WithField("name").WithMend("`foundry backup mirrors` shows them; they are named under backup.mirrors and backup.gitea in the configuration.")
}

// Configured reports whether any repository is to be mirrored.
func (c *Code) Configured() bool { return c.o.Mirrors != nil }

// List says how every mirror stands, by name: those that are configured, and
// those that lie here from before.
func (c *Code) List(ctx context.Context, p principal.Principal) ([]MirrorStatus, error) {
	if err := c.may(ctx, p, "backup.read", ""); err != nil {
		return nil, err
	}
	return c.list()
}

func (c *Code) list() ([]MirrorStatus, error) {
	out := []MirrorStatus{}
	if c.o.Mirrors == nil {
		for _, r := range c.o.Config.Mirrors { // named, and kept nowhere
			out = append(out, MirrorStatus{Name: r.Name, URL: withoutSecrets(r.URL), Outcome: Fail, Age: -1, MaxAge: r.Oldest().Seconds(),
				Code: "mirror-no-target", Reason: "There is no target for backups: mirrors are kept only to be backed up.", Mend: "Name one under backup.targets in the configuration."})
		}
		return out, nil
	}
	there, err := c.o.Mirrors.List()
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, name := range there {
		names[name] = true
	}
	for _, r := range c.o.Config.Mirrors {
		names[r.Name] = true
	}
	tried := c.o.Tried()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out = append(out, c.status(name, tried))
	}
	return out, nil
}

// Mirror says how one mirror stands.
func (c *Code) Mirror(ctx context.Context, p principal.Principal, name string) (MirrorStatus, error) {
	if err := c.may(ctx, p, "backup.read", name); err != nil {
		return MirrorStatus{}, err
	}
	return c.one(name)
}

func (c *Code) one(name string) (MirrorStatus, error) {
	all, err := c.list()
	if err != nil {
		return MirrorStatus{}, err
	}
	for _, s := range all {
		if s.Name == name {
			return s, nil
		}
	}
	return MirrorStatus{}, errNoMirror(name)
}

// named is the place of a repository in the configuration; -1: it is not there.
func (c *Code) named(name string) int {
	return slices.IndexFunc(c.o.Config.Mirrors, func(m mirror.Config) bool { return m.Name == name })
}

func (c *Code) status(name string, tried map[string]TriedMirror) MirrorStatus {
	s := MirrorStatus{Name: name, Age: -1, MaxAge: mirror.Config{}.Oldest().Seconds()}
	state, err := c.o.Mirrors.State(name)
	if err != nil {
		p := problem.From(err)
		state.Code, state.Reason, state.Mend = p.Code, p.Detail, p.Mend
	}
	s.URL, s.Refs, s.Bytes, s.Branch, s.Commit, s.Kept = state.URL, state.Refs, state.Bytes, state.Branch, state.Commit, len(state.Kept)
	s.Code, s.Reason, s.Mend = state.Code, state.Reason, state.Mend
	switch i, g := c.named(name), c.o.Config.Gitea; {
	case i >= 0:
		r := c.o.Config.Mirrors[i]
		s.URL, s.Configured, s.Builds, s.MaxAge = r.URL, true, len(r.Build) > 0, r.Oldest().Seconds()
	case g != nil && g.Names(state.URL):
		s.Configured, s.MaxAge = true, g.MaxAge.Or(mirror.Config{}.Oldest()).Seconds()
	}
	s.URL = withoutSecrets(s.URL)
	s.Tried, s.Fetched, s.CommitAt = moment(state.Tried), moment(state.Fetched), moment(state.At)
	age, ever := state.Age(c.o.Clock())
	if ever {
		s.Age = age.Seconds()
	}
	switch {
	case !ever || s.Age > s.MaxAge:
		s.Outcome = Fail
	case s.Code != "" || !s.Configured:
		s.Outcome = Inconclusive
	default:
		s.Outcome = Pass
	}
	if t, ok := tried[name]; ok {
		s.Restored = &t
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d, ok := c.doing[name]; ok {
		s.Doing, s.Since = d.What, &d.Since
	}
	n := c.notes[name]
	s.Proof, s.Push = n.Proof, n.Push
	return s
}

// moment is a time, or nil where there was none.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// withoutSecrets is an address without a password, which none should have.
func withoutSecrets(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	if _, has := u.User.Password(); has {
		u.User = url.User(u.User.Username())
	}
	u.RawQuery, u.Fragment = "", ""
	return u.String()
}

func (c *Code) may(ctx context.Context, p principal.Principal, action policy.Action, name string) error {
	return c.o.Guard.Authorise(ctx, p, action, policy.Resource{ID: name})
}

// begin enters an act into the audit log and claims the mirror for it.
func (c *Code) begin(ctx context.Context, p principal.Principal, act, name, what string, details map[string]any) error {
	c.mu.Lock()
	if d, busy := c.doing[name]; busy {
		c.mu.Unlock()
		return problem.New(problem.Conflict, "mirror-busy", fmt.Sprintf("The mirror %s is busy: %s since %s.", name, d.What, stamp(d.Since))).WithMend("Wait for it: `foundry backup mirrors` shows when it is done.")
	}
	c.doing[name] = doing{what, c.o.Clock().UTC()}
	c.mu.Unlock()
	err := c.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error { return audit.Append(ctx, tx, p, uuid.Nil, act, name, details) })
	if err != nil {
		c.end(name)
	}
	return err
}

func (c *Code) end(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.doing, name)
}

// entered notes in the audit log what came of an act. It was done: that the
// log does not take it now is no reason to say otherwise.
func (c *Code) entered(ctx context.Context, act, name string, details map[string]any) {
	err := c.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error { return audit.Append(ctx, tx, node, uuid.Nil, act, name, details) })
	if err != nil {
		c.o.Log.Error("what was done with a mirror is not in the audit log", "mirror", name, "act", act, "error", err)
	}
}
