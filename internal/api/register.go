package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/problem"
)

type readRegister struct {
	Caller
	Organisation string `query:"organisation"`
}

type startReview struct {
	Caller
	Body struct {
		Organisation string `json:"organisation,omitempty" doc:"Default: the caller's own, or the platform."`
		Title        string `json:"title"`
		Due          string `json:"due,omitempty" doc:"Such as 14d or 48h. Default 14d."`
	}
}

type confirmAccess struct {
	Caller
	ID   uuid.UUID `path:"id"`
	Body struct {
		Kind   string `json:"kind"`
		Entry  string `json:"entry"`
		Result string `json:"result" enum:"keep,remove"`
		Note   string `json:"note,omitempty"`
	}
}

func (a *API) accessRegister() {
	register(a, http.MethodGet, "/access/register", "register-read", "Show who has access to what, since when and why", func(ctx context.Context, in *readRegister) (access.RegisterReport, error) {
		org, err := a.filter(ctx, in.Principal, "register.read", in.Organisation)
		if err != nil {
			return access.RegisterReport{}, err
		}
		return a.Register.List(ctx, in.Principal, org)
	})
	register(a, http.MethodPost, "/access/compare", "register-compare", "Compare the register of access with what is so, and sign a new picture of it", func(ctx context.Context, in *struct{ Caller }) (access.RegisterReport, error) {
		return a.Register.Compare(ctx, in.Principal)
	})
	register(a, http.MethodGet, "/access/reviews", "review-list", "List reviews of access, newest first", func(ctx context.Context, in *readRegister) ([]access.AccessReview, error) {
		org, err := a.filter(ctx, in.Principal, "register.read", in.Organisation)
		if err != nil {
			return nil, err
		}
		return a.Register.Reviews(ctx, in.Principal, org)
	})
	register(a, http.MethodPost, "/access/reviews", "review-start", "Start a review of who has which access", func(ctx context.Context, in *startReview) (access.AccessReview, error) {
		within, err := parseDays(in.Body.Due)
		if err != nil {
			return access.AccessReview{}, err
		}
		org, err := a.filter(ctx, in.Principal, "register.review", in.Body.Organisation)
		if err != nil {
			return access.AccessReview{}, err
		}
		return a.Register.StartReview(ctx, in.Principal, org, in.Body.Title, within)
	})
	register(a, http.MethodGet, "/access/reviews/{id}", "review-show", "Show a review with its entries", func(ctx context.Context, in *grantID) (access.AccessReview, error) {
		return a.Register.ShowReview(ctx, in.Principal, in.ID)
	})
	register(a, http.MethodPost, "/access/reviews/{id}/results", "review-confirm", "Keep or withdraw one access in a review", func(ctx context.Context, in *confirmAccess) (access.ReviewItem, error) {
		return a.Register.Confirm(ctx, in.Principal, in.ID, in.Body.Kind, in.Body.Entry, in.Body.Result, in.Body.Note)
	})
}

// parseDays reads a duration that may be in days; empty is 14 days.
func parseDays(text string) (time.Duration, error) {
	if text == "" {
		return 14 * 24 * time.Hour, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n < 1000 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, problem.New(problem.Invalid, "review-due", fmt.Sprintf("%q is no duration.", text)).WithField("due").WithMend("Use for example 14d or 48h.")
	}
	return d, nil
}
