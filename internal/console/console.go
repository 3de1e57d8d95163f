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

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
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
	Gateway  *gateway.Gateway
	Verifier *access.Verifier
	Guard    *access.Guard
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
		origin: http.NewCrossOriginProtection(), closed: make(chan struct{})}
	c.routes()
	return c
}

// Link makes a one-time sign-in link for whoever p is.
func (c *Console) Link(p principal.Principal) (string, time.Time, error) {
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
	c.mux.HandleFunc("GET "+toSignIn, c.open(c.signInPage))
	c.mux.HandleFunc("GET "+toSignIn+"/{token}", c.open(c.linkPage))
	c.mux.HandleFunc("POST "+toSignIn+"/{token}", c.open(c.signIn))
	c.mux.HandleFunc("POST "+toTheme, c.open(c.setTheme))
	for pattern, do := range map[string]func(*visit) error{
		"POST " + toSignOut:                             c.signOut,
		"GET " + toOverview + "{$}":                     c.overview,
		"GET " + toRequests:                             c.requests,
		"GET " + toRequests + "/{id}":                   c.request,
		"GET " + toUsage:                                c.usage,
		"GET " + toUsage + ".csv":                       c.usageCSV,
		"GET " + toTransfers:                            c.transfers,
		"GET " + toTransfers + ".csv":                   c.transfersCSV,
		"GET " + toRefusals:                             c.refusals,
		"GET " + toRefusals + "/{organisation}/{hash}":  c.refusal,
		"GET " + toProviders:                            c.providers,
		"GET " + toOrganisations:                        c.organisations,
		"POST " + toOrganisations:                       c.createOrganisation,
		"GET " + toOrganisations + "/{name}":            c.organisation,
		"POST " + toOrganisations + "/{name}/keys":      c.createKey,
		"POST " + toOrganisations + "/{name}/budgets":   c.setBudget,
		"GET " + toOrganisations + "/{name}/policy":     c.policyPage,
		"POST " + toOrganisations + "/{name}/policy":    c.setPolicy,
		"GET " + toKeys + "/{id}/revoke":                c.revokePage,
		"POST " + toKeys + "/{id}/revoke":               c.revoke,
		"GET " + toExplain:                              c.explain,
		"GET " + toPlayground:                           c.playground,
		"POST " + toPlayground + "/chat/{organisation}": c.chat,
		"GET " + toAudit:                                c.audit,
		"GET " + toEvents:                               c.events,
		"GET " + toOverview:                             c.nothing, // every other path below it
	} {
		c.mux.HandleFunc(pattern, c.signedIn(do))
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
	session *session // nil before sign-in
}

// who is the principal of the signed-in session.
func (v *visit) who() principal.Principal { return v.session.principal() }

// ctx bounds the work of a page.
func (v *visit) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(v.r.Context(), pageTimeout)
}

// open serves a page that needs no session.
func (c *Console) open(do func(*visit) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := &visit{c: c, w: w, r: r, nonce: newNonce(), now: c.Clock().UTC()}
		v.secure()
		v.session = c.sessions.find(r, false)
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
func (c *Console) signedIn(do func(*visit) error) http.HandlerFunc {
	return c.open(func(v *visit) error {
		v.session = c.sessions.find(v.r, !v.partial())
		if v.session != nil {
			return do(v)
		}
		if v.partial() {
			v.w.Header().Set("HX-Redirect", toSignIn)
			v.w.WriteHeader(http.StatusUnauthorized)
			return nil
		}
		if v.r.Method == http.MethodGet {
			http.Redirect(v.w, v.r, toSignIn, http.StatusSeeOther)
			return nil
		}
		return problem.New(problem.Unauthenticated, "session-over", "You are not signed in any more.").WithMend("Sign in again with a new link from `foundry console`.")
	})
}

// partial reports whether a page refreshes part of itself.
func (v *visit) partial() bool { return v.r.Header.Get("HX-Request") == "true" }

func (c *Console) nothing(v *visit) error {
	return problem.New(problem.NotFound, "page-unknown", "There is no such page.").WithMend("Choose one from the menu.")
}
