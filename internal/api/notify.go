package api

import (
	"context"
	"net/http"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/problem"
)

type listNotifications struct {
	Caller
	State  string    `query:"state" enum:"queued,sending,accepted,indeterminate,failed,expired"`
	Limit  int       `query:"limit" minimum:"0" maximum:"500" doc:"Default 50."`
	Before uuid.UUID `query:"before" doc:"Older than this message."`
}

type testMessage struct {
	Caller
	Body struct {
		To     string `json:"to" doc:"Address to write to."`
		Locale string `json:"locale,omitempty" enum:"en,de"`
	}
}

func (a *API) notifications() {
	register(a, http.MethodGet, "/notifications", "notify-list", "List messages and whether they arrived", func(ctx context.Context, in *listNotifications) ([]notify.Notification, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "notify.list", policy.Resource{}); err != nil {
			return nil, err
		}
		return a.Outbox.List(ctx, a.DB, notify.Filter{All: true, State: notify.State(in.State), Before: in.Before, Limit: in.Limit})
	})
	register(a, http.MethodGet, "/notifications/{id}", "notify-show", "Show a message and every attempt to send it", func(ctx context.Context, in *byID) (notify.Notification, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "notify.list", policy.Resource{ID: in.ID}); err != nil {
			return notify.Notification{}, err
		}
		id, _ := uuid.Parse(in.ID) // anything else is no message either
		return a.Outbox.Show(ctx, a.DB, id)
	})
	register(a, http.MethodPost, "/notifications/{id}/retry", "notify-retry", "Try a message again at once", func(ctx context.Context, in *byID) (notify.Notification, error) {
		id, err := uuid.Parse(in.ID)
		if err != nil {
			return notify.Notification{}, problem.New(problem.NotFound, "message-unknown", "There is no such message.").WithField("id")
		}
		return a.Outbox.RetryAs(ctx, a.DB, a.Guard, in.Principal, id)
	})
	register(a, http.MethodPost, "/notifications/test", "notify-test", "Send a test message", func(ctx context.Context, in *testMessage) (notify.Notification, error) {
		return a.Outbox.TestAs(ctx, a.DB, a.Guard, in.Principal, in.Body.To, in.Body.Locale, a.Node)
	})
	register(a, http.MethodGet, "/alarms", "alarm-list", "List alarms, the latest first", func(ctx context.Context, in *struct{ Caller }) ([]notify.RaisedAlarm, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "notify.list", policy.Resource{}); err != nil {
			return nil, err
		}
		return notify.Alarms(ctx, a.DB, 100)
	})
}
