package api

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/problem"
)

type showOnCall struct {
	Caller
	At time.Time `query:"at" doc:"Who is on call then, instead of now."`
}

type overrideOnCall struct {
	Caller
	Body struct {
		Person string    `json:"person" doc:"A name of notify.people."`
		From   time.Time `json:"from,omitzero" doc:"Default: now."`
		Until  time.Time `json:"until"`
	}
}

func (a *API) onCall() {
	register(a, http.MethodGet, "/oncall", "oncall-show", "Show who is on call, and calls that nobody has taken", func(ctx context.Context, in *showOnCall) (notify.OnCall, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "notify.list", policy.Resource{}); err != nil {
			return notify.OnCall{}, err
		}
		return a.Outbox.OnCall(ctx, a.DB, in.At)
	})
	register(a, http.MethodPost, "/oncall/overrides", "oncall-override", "Put somebody on call for a time", func(ctx context.Context, in *overrideOnCall) (notify.Override, error) {
		return a.Outbox.OverrideAs(ctx, a.DB, a.Guard, in.Principal, in.Body.Person, in.Body.From, in.Body.Until)
	})
	register(a, http.MethodPost, "/oncall/pages/{id}/ack", "oncall-ack", "Take a call, so that nobody else is called for it", func(ctx context.Context, in *byID) (notify.Page, error) {
		id, err := uuid.Parse(in.ID)
		if err != nil {
			return notify.Page{}, problem.New(problem.NotFound, "page-unknown", "There is no such call.").WithField("id")
		}
		return a.Outbox.TakeAs(ctx, a.DB, a.Guard, in.Principal, id)
	})
}
