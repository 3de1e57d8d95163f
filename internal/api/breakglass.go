package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/problem"
)

type newKey struct {
	Caller
	Body backup.NewKey
}

type decideKey struct {
	Caller
	ID   string `path:"id"`
	Body struct {
		Approve bool `json:"approve"`
	}
}

type openGlass struct {
	Caller
	Body backup.OpenGlass
}

type endGlass struct {
	Caller
	Token string `header:"Authorization"`
}

type reviewGlass struct {
	Caller
	ID   string `path:"id"`
	Body struct {
		Finding   string `json:"finding" doc:"What was done, and whether it was right: 10 to 2000 characters."`
		Justified bool   `json:"justified"`
	}
}

type noteDrill struct {
	Caller
	Body backup.NewKitDrill
}

type attestContacts struct {
	Caller
	Body struct {
		Briefed bool `json:"briefed" doc:"They know what to do, and have tried it."`
	}
}

func glassID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return id, problem.New(problem.NotFound, "break-glass-unknown", "There is no such thing.").WithField("id").WithMend("`foundry breakglass status` lists requests and openings.")
	}
	return id, nil
}

func (a *API) breakGlass() {
	register(a, http.MethodGet, "/emergency", "emergency-show", "Say whether the emergency kit is current, where it lies, and who broke the glass", func(ctx context.Context, in *struct{ Caller }) (backup.GlassStatus, error) {
		return a.Glass.Status(ctx, in.Principal)
	})
	register(a, http.MethodPost, "/emergency/looks", "emergency-look", "Read the copies of the emergency kit where they lie", func(ctx context.Context, in *struct{ Caller }) (backup.GlassStatus, error) {
		return a.Glass.Look(ctx, in.Principal)
	})
	register(a, http.MethodGet, "/emergency/briefing", "emergency-brief", "Show the briefing for whoever has to recover: it names people, and holds no secret", func(ctx context.Context, in *struct{ Caller }) (backup.Printed, error) {
		return a.Glass.Briefing(ctx, in.Principal)
	})
	register(a, http.MethodPost, "/emergency/keys", "emergency-key-request", "Ask for a new recovery key", func(ctx context.Context, in *newKey) (backup.KeyRequest, error) {
		return a.Glass.RequestKey(ctx, in.Principal, in.Body)
	})
	register(a, http.MethodPost, "/emergency/keys/{id}/decision", "emergency-key-decide", "Approve or refuse a recovery key that somebody else asked for", func(ctx context.Context, in *decideKey) (backup.KeyRequest, error) {
		id, err := glassID(in.ID)
		if err != nil {
			return backup.KeyRequest{}, err
		}
		return a.Glass.DecideKey(ctx, in.Principal, id, in.Body.Approve)
	})
	register(a, http.MethodPost, "/emergency/keys/{id}/shares", "emergency-key-make", "Make the recovery key that was approved: its shares are shown this once", func(ctx context.Context, in *byID) (backup.MadeKey, error) {
		id, err := glassID(in.ID)
		if err != nil {
			return backup.MadeKey{}, err
		}
		return a.Glass.MakeKey(ctx, in.Principal, id)
	})
	register(a, http.MethodPost, "/emergency/challenges", "emergency-challenge", "Begin the proof of the recovery key", func(ctx context.Context, in *struct{ Caller }) (backup.Challenge, error) {
		return a.Glass.Challenge(ctx, in.Principal)
	})
	register(a, http.MethodPost, "/emergency/openings", "emergency-open", "Open an emergency session, with a proof of the recovery key", func(ctx context.Context, in *openGlass) (backup.OpenedGlass, error) {
		return a.Glass.Open(ctx, in.Principal, in.Body)
	})
	register(a, http.MethodDelete, "/emergency/session", "emergency-end", "End one's own emergency session", func(ctx context.Context, in *endGlass) (struct{}, error) {
		return struct{}{}, a.Glass.End(strings.TrimPrefix(in.Token, "Bearer "))
	})
	register(a, http.MethodPost, "/emergency/openings/{id}/review", "emergency-review", "Say what was found of what was done behind broken glass", func(ctx context.Context, in *reviewGlass) (backup.Opening, error) {
		id, err := glassID(in.ID)
		if err != nil {
			return backup.Opening{}, err
		}
		return a.Glass.ReviewOpening(ctx, in.Principal, id, in.Body.Finding, in.Body.Justified)
	})
	register(a, http.MethodPost, "/emergency/drills", "emergency-drill", "Note a restore that was made with the kit and the shares alone", func(ctx context.Context, in *noteDrill) (backup.KitDrill, error) {
		return a.Glass.NoteDrill(ctx, in.Principal, in.Body, a.VerifyRecord)
	})
	register(a, http.MethodPost, "/emergency/attestations", "emergency-attest", "Say that the emergency contacts were called and are right", func(ctx context.Context, in *attestContacts) (struct{}, error) {
		return struct{}{}, a.Glass.AttestContacts(ctx, in.Principal, in.Body.Briefed)
	})
}
