package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

func splitLines(text string) []string {
	return strings.Split(strings.TrimRight(text, "\n"), "\n")
}

type explain struct {
	Caller
	Organisation string `query:"organisation" required:"true"`
	Model        string `query:"model" required:"true"`
	Class        string `query:"class"`
	Endpoint     string `query:"endpoint" doc:"Path of the endpoint. Default /v1/chat/completions."`
	Features     string `query:"features" doc:"Comma-separated fields that make an upstream fetch, store or call others, e.g. image_url."`
}

type listRequests struct {
	Caller
	Organisation string    `query:"organisation"`
	Model        string    `query:"model"`
	Provider     string    `query:"provider"`
	Key          string    `query:"key"`
	State        string    `query:"state" enum:"in flight,outcome unknown,ok,upstream-error,timeout,client-gone,stream-broken,shed,rejected,failed"`
	From         time.Time `query:"from"`
	To           time.Time `query:"to"`
	Limit        int       `query:"limit" minimum:"0" maximum:"500" doc:"Default 50."`
	After        string    `query:"after"`
}

// Requests is one page of requests.
type Requests struct {
	Requests []ledger.RequestRow `json:"requests"`
	Next     string              `json:"next,omitempty" doc:"Cursor of the next page."`
}

// Request is one request with its decision.
type Request struct {
	ledger.RequestRow
	Decision *sovereignty.Decision `json:"decision,omitempty"`
	Text     []string              `json:"decision_text,omitempty" doc:"Why it went where it went, in sentences."`
}

type listUsage struct {
	Caller
	Organisation string    `query:"organisation"`
	From         time.Time `query:"from"`
	To           time.Time `query:"to"`
	GroupBy      string    `query:"group_by" doc:"day, hour, model, organisation, jurisdiction, provider or key."`
}

type setBudget struct {
	Caller
	Body struct {
		Organisation string `json:"organisation"`
		Key          string `json:"key,omitempty" doc:"Id of a key; default: the whole organisation."`
		Period       string `json:"period" enum:"day,month,total"`
		Limit        string `json:"limit" doc:"Decimal amount in the ledger's currency, e.g. \"250.00\"."`
		AlarmPercent int    `json:"alarm_percent,omitempty" doc:"Default 80."`
	}
}

func (a *API) requests() {
	register(a, http.MethodGet, "/route", "route-explain", "Explain where a request may go, without calling anything", func(ctx context.Context, in *explain) (gateway.Explanation, error) {
		o, err := a.organisation(ctx, in.Principal, "route.explain", in.Organisation)
		if err != nil {
			return gateway.Explanation{}, err
		}
		e, err := a.Gateway.Explain(o, in.Model, in.Class, in.Endpoint, in.Features)
		if err != nil || !a.DB.Healthy() {
			return e, err
		}
		e.Fallbacks, err = a.Store.Fallbacks(ctx, in.Principal, o.ID)
		return e, err
	})
	register(a, http.MethodGet, "/requests", "request-list", "List requests, newest first", func(ctx context.Context, in *listRequests) (Requests, error) {
		org, err := a.filter(ctx, in.Principal, "request.list", in.Organisation)
		if err != nil {
			return Requests{}, err
		}
		rows, next, err := a.Store.Requests(ctx, in.Principal, ledger.RequestFilter{From: in.From, To: in.To, Organisation: org, Key: in.Key,
			Model: in.Model, Provider: in.Provider, State: in.State, Limit: in.Limit, After: in.After})
		return Requests{rows, next}, err
	})
	register(a, http.MethodGet, "/requests/{id}", "request-show", "Show a request and why it went where it went", func(ctx context.Context, in *byID) (Request, error) {
		id, err := ledger.ParseRequestID(in.ID)
		if err != nil {
			return Request{}, err
		}
		row, decision, err := a.Store.Request(ctx, in.Principal, id)
		out := Request{RequestRow: row, Decision: decision}
		if decision != nil {
			out.Text = splitLines(decision.Text())
		}
		return out, err
	})
	register(a, http.MethodGet, "/usage", "usage", "Usage and cost", func(ctx context.Context, in *listUsage) ([]ledger.UsageRow, error) {
		org, err := a.filter(ctx, in.Principal, "usage.read", in.Organisation)
		if err != nil {
			return nil, err
		}
		return a.Store.Usage(ctx, in.Principal, ledger.UsageFilter{From: in.From, To: in.To, Organisation: org, GroupBy: ledger.Grouping(in.GroupBy)})
	})
	register(a, http.MethodPost, "/budgets", "budget-set", "Set a budget", func(ctx context.Context, in *setBudget) (ledger.Budget, error) {
		o, err := a.organisation(ctx, in.Principal, "budget.set", in.Body.Organisation)
		if err != nil {
			return ledger.Budget{}, err
		}
		nano, err := a.Gateway.Amount(in.Body.Limit)
		if err != nil {
			return ledger.Budget{}, err
		}
		b := ledger.Budget{Organisation: o.ID, Key: in.Body.Key, Period: ledger.Period(in.Body.Period), LimitNano: nano,
			Currency: a.Gateway.Currency(), AlarmPercent: in.Body.AlarmPercent}
		err = a.DB.Org(ctx, o.ID, func(tx pgx.Tx) error {
			var err error
			b, err = a.Store.SetBudget(ctx, tx, in.Principal, b)
			return err
		})
		if err != nil {
			return b, err
		}
		a.refresh(ctx)
		return b, nil
	})
	register(a, http.MethodGet, "/budgets", "budget-list", "List budgets and what is spent", func(ctx context.Context, in *struct{ Caller }) ([]ledger.BudgetRow, error) {
		return a.Store.Budgets(ctx, in.Principal)
	})
	register(a, http.MethodDelete, "/budgets/{id}", "budget-remove", "Remove a budget", func(ctx context.Context, in *byID) (ledger.BudgetRow, error) {
		return a.removeBudget(ctx, in.Principal, in.ID)
	})
	register(a, http.MethodGet, "/refusals", "refusal-list", "List refused requests, newest first", func(ctx context.Context, in *listRefusals) (Refusals, error) {
		org, err := a.filter(ctx, in.Principal, "refusal.list", in.Organisation)
		if err != nil {
			return Refusals{}, err
		}
		rows, next, err := a.Store.Refusals(ctx, in.Principal, ledger.RefusalFilter{From: in.From, To: in.To, Organisation: org, Key: in.Key,
			Rule: in.Rule, Limit: in.Limit, After: in.After})
		return Refusals{rows, next}, err
	})
	register(a, http.MethodGet, "/transfers", "transfer-list", "The transfer register, newest first", func(ctx context.Context, in *listTransfers) (Transfers, error) {
		org, err := a.filter(ctx, in.Principal, "transfer.list", in.Organisation)
		if err != nil {
			return Transfers{}, err
		}
		rows, next, err := a.Store.Transfers(ctx, in.Principal, ledger.TransferFilter{From: in.From, To: in.To, Organisation: org, Limit: in.Limit, After: in.After})
		return Transfers{rows, next}, err
	})
}

type listRefusals struct {
	Caller
	Organisation string    `query:"organisation"`
	Key          string    `query:"key"`
	Rule         string    `query:"rule"`
	From         time.Time `query:"from"`
	To           time.Time `query:"to"`
	Limit        int       `query:"limit" minimum:"0" maximum:"500" doc:"Default 50."`
	After        string    `query:"after"`
}

// Refusals is one page of the requests that were refused.
type Refusals struct {
	Refusals []ledger.RefusalRow `json:"refusals"`
	Next     string              `json:"next,omitempty" doc:"Cursor of the next page."`
}

type listTransfers struct {
	Caller
	Organisation string    `query:"organisation"`
	From         time.Time `query:"from"`
	To           time.Time `query:"to"`
	Limit        int       `query:"limit" minimum:"0" maximum:"500" doc:"Default 50."`
	After        string    `query:"after"`
}

// Transfers is one page of the transfer register.
type Transfers struct {
	Transfers []ledger.TransferRow `json:"transfers"`
	Next      string               `json:"next,omitempty" doc:"Cursor of the next page."`
}

// removeBudget finds a budget among all and removes it in a transaction of
// its organisation.
func (a *API) removeBudget(ctx context.Context, p principal.Principal, text string) (ledger.BudgetRow, error) {
	if err := a.Guard.Authorise(ctx, p, "budget.remove", policy.Resource{ID: text, Organisation: p.Organisation}); err != nil {
		return ledger.BudgetRow{}, err
	}
	rows, err := a.Store.Budgets(ctx, p)
	if err != nil {
		return ledger.BudgetRow{}, err
	}
	for _, b := range rows {
		if b.ID.String() != text {
			continue
		}
		err := a.DB.Org(ctx, b.Organisation, func(tx pgx.Tx) error { return a.Store.RemoveBudget(ctx, tx, p, b.ID) })
		if err != nil {
			return b, err
		}
		a.refresh(ctx)
		return b, nil
	}
	return ledger.BudgetRow{}, problem.New(problem.NotFound, "budget-unknown", "There is no such budget.").WithField("id").
		WithMend("`foundry budget list` shows them.")
}

// Link is a one-time sign-in link.
type Link struct {
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (a *API) platform() {
	register(a, http.MethodGet, "/status", "status", "What the node says about itself", func(ctx context.Context, in *struct{ Caller }) (any, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "status.read", policy.Resource{}); err != nil {
			return nil, err
		}
		return a.Status(), nil
	})
	register(a, http.MethodPost, "/console/links", "console-link", "Make a one-time sign-in link for the console", func(ctx context.Context, in *struct{ Caller }) (Link, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "console.link", policy.Resource{}); err != nil {
			return Link{}, err
		}
		url, until, err := a.Link(in.Principal)
		return Link{url, until}, err
	})
}
