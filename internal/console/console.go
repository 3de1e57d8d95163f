// Package console knows how the platform looks to the people who run it: it
// turns what the other packages know into pages, and their forms into acts of
// those packages.
//
// Pages are made on the server and work without JavaScript, except the
// playground and what updates itself. Nothing here decides who may do what:
// the domain packages authorise and audit every act.
package console

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup"
	exercises "github.com/missionopsai/foundry/internal/continuity/exercise"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/outage"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Options is what the console shows and acts on.
type Options struct {
	Version  string
	Mode     string // development or production
	Country  string // where this node stands
	Started  time.Time
	URL      func() string // how browsers reach this node
	DB       *db.DB
	Guard    *access.Guard
	People   *access.People   // nil: only links sign in
	Sessions *access.Sessions // nil: only links sign in
	Grants   *access.Grants   // nil: staff cannot be given access to client data
	Audit    *audit.Log       // nil: entries are listed, but cannot be proven here
	Register *access.Register
	Vault    *keys.Vault
	Rotate   func(ctx context.Context, p principal.Principal, org uuid.UUID) (keys.Progress, error)
	Storage  func(context.Context) keys.StorageReport
	Controls *evidence.Runner
	Outbox   *notify.Outbox
	Backups  *backup.Backups // nil: this node makes none
	Glass    *backup.Glass   // nil: there is no way in but signing in
	Code     *backup.Code    // nil: this node mirrors no repositories
	Plans    *governance.Plans
	Fleet    *Fleet // nil: this node belongs to no fleet

	Incidents  *incident.Window // nil: this node keeps none
	Exercises  *exercises.Archive
	Recoveries *recovery.Desk // nil: this node carries none out
	Door       *outage.Door   // nil: without the database nobody signs in here

	// Canary plants a canary and searches every place where it must not be.
	Canary func(context.Context, principal.Principal) (keys.CanaryReport, error)
	// Go does work that goes on beyond the request, while the node lives.
	Go func(work func(life context.Context))

	// RunControls starts a run that goes on beyond the request.
	RunControls func(ctx context.Context, p principal.Principal, ids []string) (evidence.Job, error)

	Gateway  *gateway.Gateway
	Verifier *access.Verifier
	Store    *ledger.Store
	Queue    func() ledger.Queue // what is not shipped yet
	Refusing func() error        // why the journal refuses; nil if it does not
	Log      *slog.Logger
	Clock    func() time.Time
}

// Console serves the pages under /console/.
type Console struct {
	Options
	links    *Links
	sessions *sessions
	assets   *assets
	working  working
	canary   canaries
	exports  exports
	eyes     eyes
	night    pulse
	mux      *http.ServeMux
	origin   *http.CrossOriginProtection
	streams  atomic.Int64 // event streams open
	closed   chan struct{}
	close    sync.Once
}

// New makes a console.
func New(o Options) *Console {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Console{Options: o, links: NewLinks(o.Clock), sessions: newSessions(o.Clock), assets: loadAssets(), mux: http.NewServeMux(),
		origin: http.NewCrossOriginProtection(), closed: make(chan struct{}), eyes: o.eyes()}
	c.routes()
	return c
}

// Link makes a one-time sign-in link for whoever p is. In production people
// sign in: a link would be a way round the second factor.
func (c *Console) Link(p principal.Principal) (string, time.Time, error) {
	if c.Mode == policy.Production {
		return "", time.Time{}, problem.New(problem.Denied, "console-link-production", "In production nobody opens the console without signing in.").
			WithMend("Sign in at " + c.URL() + toSignIn + "; `foundry person bootstrap` invites the first administrator.")
	}
	token, until, err := c.links.Make(p)
	if err != nil {
		return "", time.Time{}, err
	}
	return c.URL() + toSignIn + "/" + token, until, nil
}

// Close ends the event streams, so that a server can shut down.
func (c *Console) Close() { c.close.Do(func() { close(c.closed) }) }

func (c *Console) routes() {
	c.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, toOverview, http.StatusSeeOther) })
	c.mux.HandleFunc("GET /console", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, toOverview, http.StatusSeeOther) })
	c.mux.HandleFunc("GET "+toStatic+"/{hash}/{name}", c.assets.serve)
	c.publicRoutes()
	for _, r := range c.Routes() {
		c.mux.HandleFunc(r.Pattern, c.signedIn(r))
	}
}

// pageTimeout bounds what a page waits for the database: an operator is told
// that it is away rather than left with a blank page.
const pageTimeout = 8 * time.Second

// formBytes is the largest form or playground message.
const formBytes = 1 << 20

// ServeHTTP answers everything that a browser asks for.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, pattern := c.mux.Handler(r); pattern == "" {
		problem.Write(w, problem.New(problem.NotFound, "path-unknown", "There is nothing here.").WithMend("The console is at "+toOverview+"; models are at /v1/."))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, formBytes)
	c.mux.ServeHTTP(w, r)
}

// visit is one request to the console.
type visit struct {
	c       *Console
	w       http.ResponseWriter
	r       *http.Request
	nonce   string
	now     time.Time
	session *session            // nil before sign-in
	as      principal.Principal // who acts
	signed  *access.Session     // of a person who signed in
}

// who is who acts in the signed-in session.
func (v *visit) who() principal.Principal { return v.as }

// ctx bounds the work of a page.
func (v *visit) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(v.r.Context(), pageTimeout)
}

// open serves a page that needs no session.
func (c *Console) open(do func(*visit) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := &visit{c: c, w: w, r: r, nonce: newNonce(), now: c.Clock().UTC()}
		v.secure()
		if err := c.origin.Check(r); err != nil {
			v.fail(problem.New(problem.Denied, "cross-origin", "This form was sent from another site.").WithMend("Open the console itself and try again.").Wrap(err))
			return
		}
		if err := do(v); err != nil {
			v.fail(err)
		}
	}
}

// signedIn serves a page of a session. What a page fetches by itself does not
// count as the person being there.
func (c *Console) signedIn(r Route) http.HandlerFunc {
	return c.open(func(v *visit) error {
		switch err := c.identify(v, !v.partial()); {
		case err != nil:
			return err
		case v.session == nil:
			return v.toSignIn()
		case v.who().Away && v.r.URL.Path == toOverview && !v.partial():
			return v.seeOther(toCommand) // the overview needs the database
		case v.signed != nil && v.signed.Enrolment && !r.enrolling:
			return v.lead(toEnrol)
		}
		err := c.admit(v, r)
		if err == nil {
			err = r.do(v)
		}
		if err != nil && problem.From(err).Code == policy.CodeStepUp && v.own() {
			return c.askAgain(v)
		}
		return err
	})
}

// lead takes the visitor to another page, whether they or their page asked.
func (v *visit) lead(to templ.SafeURL) error {
	if v.partial() {
		v.w.Header().Set("HX-Redirect", string(to))
		v.w.WriteHeader(http.StatusUnauthorized)
		return nil
	}
	return v.seeOther(to)
}

// toSignIn takes somebody without a session to where one begins, and back
// afterwards. A form that was sent is lost: better that than sent twice.
func (v *visit) toSignIn() error {
	if v.partial() || v.r.Method != http.MethodGet {
		if v.partial() {
			return v.lead(toSignIn)
		}
		return problem.New(problem.Unauthenticated, "session-over", "You are not signed in any more.").WithMend("Sign in again, then repeat what you did.")
	}
	if at := v.r.URL.RequestURI(); at != toOverview {
		return v.lead(with(toSignIn, "next", localPath(at)))
	}
	return v.lead(toSignIn)
}

// partial reports whether a page refreshes part of itself.
func (v *visit) partial() bool { return v.r.Header.Get("HX-Request") == "true" }

func (c *Console) nothing(v *visit) error {
	return problem.New(problem.NotFound, "page-unknown", "There is no such page.").WithMend("Choose one from the menu.")
}
