// Package api knows the administrative HTTP interface: it translates JSON into
// the acts of the domain packages, and their errors into problem details
// (RFC 9457). The CLI is its first client.
package api

import (
	"context"
	"iter"
	"log/slog"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/continuity/exercise"
	"github.com/missionopsai/foundry/internal/continuity/patroni"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/apart"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/outage"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Options is what the interface acts on.
type Options struct {
	Version    string
	DB         *db.DB
	Gateway    *gateway.Gateway
	Verifier   *access.Verifier
	Guard      *access.Guard
	Store      *ledger.Store
	People     *access.People
	Sessions   *access.Sessions
	Encryption *Encryption
	Status     func() any                                           // what the node says about itself
	Link       func(principal.Principal) (string, time.Time, error) // makes a one-time sign-in link for the console
	Log        *slog.Logger
	Audit      *audit.Log

	Controls    *evidence.Runner
	RunControls RunControls
	Outbox      *notify.Outbox
	Node        string // this node's number

	Backups *backup.Backups

	Grants   *access.Grants
	Register *access.Register

	Glass        *backup.Glass
	VerifyRecord func(signed string) error // that this node's evidence key signed it

	Code *backup.Code // mirrors of code repositories

	Plans *governance.Plans

	Nodes  *member.Desk  // of the fleet
	Window *fleet.Window // nil: this node watches no fleet

	Incidents  *incident.Window // nil: this node keeps none
	Recoveries *recovery.Desk   // nil: this node belongs to no fleet
	Exercises  *exercise.Archive

	Patroni *patroni.Desk

	Marks func(context.Context, principal.Principal) (apart.Marks, error)

	Reconcile func(ctx context.Context, p principal.Principal, dir, scratch string) (*Reconciliation, error)

	Door *outage.Door // nil: without the database nobody signs in here
}

// API serves the administrative interface.
type API struct {
	Options
	mux  *http.ServeMux
	huma huma.API
}

// New makes the interface.
func New(o Options) *API {
	a := &API{Options: o, mux: http.NewServeMux()}
	config := huma.DefaultConfig("Foundry administration", o.Version)
	config.DocsPath = "" // the reference is generated, and needs no script from elsewhere
	config.Components.Schemas = newSchemas()
	config.CreateHooks = nil // no $schema links: answers say what they are by their path
	config.Info.Description = "What `foundry` commands do, as an API. Served on the node's local socket."
	a.huma = humago.New(a.mux, config)
	a.organisations()
	a.keys()
	a.requests()
	a.platform()
	a.auditing()
	a.authorisation()
	a.controls()
	a.notifications()
	a.onCall()
	a.encryption()
	a.signIn()
	a.people()
	a.grants()
	a.backups()
	a.accessRegister()
	a.breakGlass()
	a.mirrors()
	a.plan()
	a.fleet()
	a.window()
	a.reconcile()
	a.incidents()
	a.recoveries()
	a.patroni()
	a.exercises()
	return a
}

// OpenAPI returns the interface's description (OpenAPI 3.1) as YAML.
func (a *API) OpenAPI() ([]byte, error) { return a.huma.OpenAPI().YAML() }

type principalKey struct{}

// Serve answers a request of a known caller. The principal travels through
// the request's context for the length of this call only: every operation
// takes it out again as a value.
func (a *API) Serve(w http.ResponseWriter, r *http.Request, p principal.Principal) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if _, pattern := a.mux.Handler(r); pattern == "" {
		problem.Write(w, problem.New(problem.NotFound, "path-unknown", "There is nothing at this path.").WithMend("GET /openapi.yaml describes the interface."))
		return
	}
	p, err := a.underGrant(r, p)
	if err != nil {
		problem.Write(w, err)
		return
	}
	a.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), principalKey{}, p)))
}

// Caller is embedded in the input of every operation.
type Caller struct{ Principal principal.Principal }

// Resolve takes the principal that Serve was given.
func (c *Caller) Resolve(ctx huma.Context) []error {
	p, ok := ctx.Context().Value(principalKey{}).(principal.Principal)
	if !ok {
		return []error{problem.New(problem.Unauthenticated, "caller-unknown", "The caller is not known.")}
	}
	c.Principal = p
	return nil
}

// body is an answer with a JSON body.
type body[T any] struct{ Body T }

// register adds an operation. Every error becomes problem details; the text
// of an unknown one goes to the log only.
func register[I, O any](a *API, method, path, id, summary string, do func(context.Context, *I) (O, error)) {
	for f := range fieldsOf[I]() {
		if f.Anonymous && !f.IsExported() {
			// huma binds nothing in it: neither the parameters nor the caller,
			// and the operation would act as nobody in particular.
			panic("operation " + id + " embeds " + f.Name + ", which is not exported")
		}
	}
	op := huma.Operation{OperationID: id, Method: method, Path: "/api/v1" + path, Summary: summary}
	if method == http.MethodPost {
		op.DefaultStatus = http.StatusCreated
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*body[O], error) {
		out, err := do(ctx, in)
		if err != nil {
			e := problem.From(err)
			if e.Kind == problem.Internal {
				a.Log.Error("an administrative request failed", "operation", id, "reference", e.ID, "error", e.Err)
			}
			return nil, failure(e)
		}
		if v := reflect.ValueOf(&out).Elem(); v.Kind() == reflect.Slice && v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0)) // an empty list is [], not null
		}
		return &body[O]{out}, nil
	})
}

func fieldsOf[T any]() iter.Seq[reflect.StructField] {
	return func(yield func(reflect.StructField) bool) {
		for t, i := reflect.TypeFor[T](), 0; i < t.NumField(); i++ {
			if !yield(t.Field(i)) {
				return
			}
		}
	}
}

// refresh puts a change that is committed in force on this node at once. If it
// cannot, the change is still made and is heard within a moment: the answer,
// which may hold a token that is shown only once, must not be lost for it.
func (a *API) refresh(ctx context.Context) {
	if err := a.Gateway.Refresh(ctx); err != nil {
		a.Log.Warn("a change is not in force here yet", "error", err)
	}
}

// statusError lets huma write a problem as it is.
type statusError struct{ problem *problem.Error }

func (e statusError) Error() string { return e.problem.Error() }

// GetStatus is the HTTP status.
func (e statusError) GetStatus() int { return e.problem.Kind.Status() }

// ContentType is application/problem+json (RFC 9457).
func (e statusError) ContentType(string) string { return "application/problem+json" }

// MarshalJSON writes the problem details.
func (e statusError) MarshalJSON() ([]byte, error) { return e.problem.MarshalJSON() }
