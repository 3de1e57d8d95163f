package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

type listAudit struct {
	Caller
	Organisation string    `query:"organisation" doc:"Name or id; platform: what belongs to none. Default: everything that the caller may see."`
	Actor        string    `query:"actor"`
	Act          string    `query:"act" doc:"An act, or the beginning of one that ends in a dot: key."`
	Target       string    `query:"target"`
	Outcome      string    `query:"outcome" enum:"done,denied,"`
	From         time.Time `query:"from"`
	To           time.Time `query:"to"`
	Before       string    `query:"before" doc:"Id of an entry: only older ones."`
	After        string    `query:"after" doc:"Place in the tree: only later ones, oldest first."`
	Limit        int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type auditEntry struct {
	Caller
	ID string `path:"id"`
}

type verifyAudit struct {
	Caller
	Body struct {
		Checkpoints []string `json:"checkpoints,omitempty" doc:"Signed checkpoints kept elsewhere."`
	}
}

type exportAudit struct {
	Caller
	Organisation string    `query:"organisation"`
	From         time.Time `query:"from"`
	To           time.Time `query:"to"`
}

type auditSize struct {
	Caller
	Size int64 `query:"size" minimum:"1"`
}

// Consistency proves that a tree begins with an earlier one.
type Consistency struct {
	Size       int64            `json:"size"`
	Path       []tlog.Hash      `json:"path" doc:"RFC 9162, 2.1.4."`
	Checkpoint audit.Checkpoint `json:"checkpoint"`
}

// Verifying is a line of the answer to a verification: how far it is, and at
// the end its report.
type Verifying struct {
	Done   int64          `json:"done,omitempty"`
	Total  int64          `json:"total,omitempty"`
	Report *audit.Report  `json:"report,omitempty"`
	Error  *problem.Error `json:"error,omitempty"`
}

func (a *API) auditing() {
	register(a, http.MethodGet, "/audit", "audit-list", "List audit entries, newest first", a.listAudit)
	register(a, http.MethodGet, "/audit/entries/{id}/proof", "audit-prove", "Prove an audit entry", func(ctx context.Context, in *auditEntry) (audit.Bundle, error) {
		id, err := uuid.Parse(in.ID)
		if err != nil {
			return audit.Bundle{}, problem.New(problem.Invalid, "audit-entry", "That is not the id of an audit entry.").WithField("id").WithMend("`foundry audit list --json` shows the ids.")
		}
		b, err := a.Audit.Prove(ctx, id)
		if err != nil {
			org := in.Principal.Organisation
			if !in.Principal.Platform() && problem.From(err).Kind == problem.NotFound {
				org = uuid.Max // what is not there is another's: an id tells nothing
			}
			if denied := a.mayRead(ctx, in.Principal, "audit.prove", org, in.ID); denied != nil {
				return audit.Bundle{}, denied
			}
			return audit.Bundle{}, err
		}
		org := b.Proofs[0].Entry.Organisation
		if err := a.mayRead(ctx, in.Principal, "audit.prove", org, in.ID); err != nil {
			return audit.Bundle{}, err
		}
		return b, a.Audit.Record(ctx, in.Principal, org, "audit.prove", in.ID, nil)
	})
	register(a, http.MethodGet, "/audit/requests/{id}/proof", "audit-prove-request", "Prove a model request", a.proveRequest)
	register(a, http.MethodGet, "/audit/checkpoint", "audit-checkpoint", "Show the newest signed checkpoint", func(ctx context.Context, in *struct{ Caller }) (audit.Checkpoint, error) {
		if err := a.mayRead(ctx, in.Principal, "audit.verify", in.Principal.Organisation, ""); err != nil {
			return audit.Checkpoint{}, err
		}
		return a.Audit.Checkpoint()
	})
	register(a, http.MethodGet, "/audit/consistency", "audit-consistency", "Prove that the tree begins with an earlier one", func(ctx context.Context, in *auditSize) (Consistency, error) {
		if err := a.mayRead(ctx, in.Principal, "audit.verify", in.Principal.Organisation, ""); err != nil {
			return Consistency{}, err
		}
		c, path, err := a.Audit.ProveConsistency(ctx, in.Size)
		return Consistency{in.Size, path, c}, err
	})
	register(a, http.MethodGet, "/audit/keys", "audit-keys", "Show the public keys of the audit log", func(ctx context.Context, in *struct{ Caller }) ([]audit.PublicKey, error) {
		if err := a.mayRead(ctx, in.Principal, "audit.verify", in.Principal.Organisation, ""); err != nil {
			return nil, err
		}
		return a.Audit.Keys(ctx)
	})
	stream(a, http.MethodPost, "/audit/verifications", "audit-verify", "Verify the audit log and the ledger", "application/jsonl", a.verifyAudit)
	stream(a, http.MethodGet, "/audit/export", "audit-export", "Take the audit log along, signed", "text/tab-separated-values; charset=utf-8", a.exportAudit)
}

// mayRead authorises a reading of an organisation's part of the log; the nil
// uuid is the platform's part, and for who is not a person the whole.
func (a *API) mayRead(ctx context.Context, p principal.Principal, action policy.Action, org uuid.UUID, id string) error {
	if a.Audit == nil {
		return problem.New(problem.Unavailable, "audit-log-missing", "The audit log is not open.")
	}
	return a.Guard.Authorise(ctx, p, action, policy.Resource{Type: "audit", ID: id, Organisation: org})
}

// auditScope finds out which part of the log is meant and authorises it. Nil
// is everything: only for who speaks for the node itself.
func (a *API) auditScope(ctx context.Context, p principal.Principal, action policy.Action, name string) (*uuid.UUID, error) {
	org := p.Organisation
	switch name {
	case "":
		if err := a.mayRead(ctx, p, action, org, ""); err != nil {
			return nil, err
		}
		if p.Kind != principal.Person && p.Platform() {
			return nil, nil
		}
		return &org, nil
	case "platform":
		org = uuid.Nil
	default:
		o, err := a.organisation(ctx, p, action, name)
		if err != nil {
			return nil, err
		}
		org = o.ID
	}
	return &org, a.mayRead(ctx, p, action, org, "")
}

func (a *API) listAudit(ctx context.Context, in *listAudit) ([]audit.Row, error) {
	f := audit.Filter{Actor: in.Actor, Act: in.Act, Target: in.Target, Outcome: in.Outcome, From: in.From, To: in.To, Limit: in.Limit}
	action := policy.Action("audit.list")
	if in.After != "" {
		var n int64
		if _, err := fmt.Sscan(in.After, &n); err != nil {
			return nil, problem.New(problem.Invalid, "audit-after", "That is not a place in the tree.").WithField("after").WithMend("Use the leaf of the last entry that was read, or -1.")
		}
		f.After, action = &n, "audit.follow"
	}
	if in.Before != "" {
		id, err := uuid.Parse(in.Before)
		if err != nil {
			return nil, problem.New(problem.Invalid, "audit-before", "That is not the id of an audit entry.").WithField("before").WithMend("Use the id of the last entry of the page before.")
		}
		f.Before = id
	}
	org, err := a.auditScope(ctx, in.Principal, action, in.Organisation)
	if err != nil {
		return nil, err
	}
	f.Organisation = org
	if err := a.Audit.Reading(ctx, in.Principal, orNone(org), f); err != nil {
		return nil, err
	}
	rows, err := audit.Find(ctx, a.DB, f)
	if rows == nil {
		rows = []audit.Row{}
	}
	return rows, err
}

func orNone(org *uuid.UUID) uuid.UUID {
	if org == nil {
		return uuid.Nil
	}
	return *org
}

func (a *API) proveRequest(ctx context.Context, in *auditEntry) (audit.Bundle, error) {
	id, err := ledger.ParseRequestID(in.ID)
	if err != nil {
		return audit.Bundle{}, err
	}
	proofs, org, unknown := ledger.NewProofs(a.DB), in.Principal.Organisation, error(nil)
	if in.Principal.Kind == principal.Person && in.Principal.Platform() {
		// The proof holds the request itself, which is its organisation's.
		org, unknown = proofs.Owner(ctx, id)
	}
	if err := a.mayRead(ctx, in.Principal, "audit.prove", org, in.ID); err != nil {
		return audit.Bundle{}, err
	}
	if unknown != nil {
		return audit.Bundle{}, unknown
	}
	rows, err := proofs.Request(ctx, id, org)
	if err != nil {
		return audit.Bundle{}, err
	}
	b, err := a.Audit.ProveRows(ctx, id.String(), rows)
	if err != nil {
		return audit.Bundle{}, err
	}
	return b, a.Audit.Record(ctx, in.Principal, org, "audit.prove", in.ID, nil)
}

func (a *API) verifyAudit(ctx context.Context, in *verifyAudit) (func(context.Context, io.Writer) error, error) {
	if err := a.mayRead(ctx, in.Principal, "audit.verify", uuid.Nil, ""); err != nil {
		return nil, err
	}
	if err := a.Audit.Record(ctx, in.Principal, uuid.Nil, "audit.verify", "", nil); err != nil {
		return nil, err
	}
	return func(ctx context.Context, w io.Writer) error {
		lines := json.NewEncoder(w)
		r, err := a.Audit.Verify(ctx, audit.VerifyOptions{Checkpoints: in.Body.Checkpoints, Progress: func(done, total int64) { _ = lines.Encode(Verifying{Done: done, Total: total}) }})
		if err != nil {
			return lines.Encode(Verifying{Error: problem.From(err)})
		}
		return lines.Encode(Verifying{Report: &r})
	}, nil
}

func (a *API) exportAudit(ctx context.Context, in *exportAudit) (func(context.Context, io.Writer) error, error) {
	org, err := a.auditScope(ctx, in.Principal, "audit.export", in.Organisation)
	if err != nil {
		return nil, err
	}
	o := audit.ExportOptions{Organisation: org, By: in.Principal.String()}
	for _, bound := range []struct {
		moment time.Time
		leaf   *int64
	}{{in.From, &o.First}, {in.To, &o.End}} {
		if bound.moment.IsZero() {
			continue
		}
		if *bound.leaf, err = a.Audit.LeafAt(ctx, bound.moment); err != nil {
			return nil, err
		}
	}
	if err := a.Audit.Record(ctx, in.Principal, orNone(org), audit.ActExport, "", map[string]any{"from_leaf": o.First, "to_leaf": o.End}); err != nil {
		return nil, err
	}
	return func(ctx context.Context, w io.Writer) error { return a.Audit.Export(ctx, w, o) }, nil
}

// stream adds an operation whose answer may be long: what can go wrong is
// found out first, and then it is written as it comes. An answer that breaks
// off lacks its last line.
func stream[I any](a *API, method, path, id, summary, media string, prepare func(context.Context, *I) (func(context.Context, io.Writer) error, error)) {
	op := huma.Operation{OperationID: id, Method: method, Path: "/api/v1" + path, Summary: summary, DefaultStatus: http.StatusOK,
		Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{media: {Schema: &huma.Schema{Type: "string"}}}}}}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
		write, err := prepare(ctx, in)
		if err != nil {
			e := problem.From(err)
			if e.Kind == problem.Internal {
				a.Log.Error("an administrative request failed", "operation", id, "reference", e.ID, "error", e.Err)
			}
			return nil, statusError{e}
		}
		return &huma.StreamResponse{Body: func(c huma.Context) {
			c.SetHeader("Content-Type", media)
			c.SetHeader("Cache-Control", "no-store")
			if err := write(c.Context(), flushing{c.BodyWriter()}); err != nil && c.Context().Err() == nil {
				a.Log.Error("an answer broke off", "operation", id, "error", err)
			}
		}}, nil
	})
}

// flushing sends what is written at once; its writers write much at a time.
type flushing struct{ to io.Writer }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.to.Write(p)
	if flusher, ok := f.to.(http.Flusher); ok && err == nil {
		flusher.Flush()
	}
	return n, err
}
