package api

import (
	"context"
	"net/http"

	"github.com/missionopsai/foundry/internal/backup"
)

type oneMirror struct {
	Caller
	Name string `path:"name"`
}

type pushMirror struct {
	Caller
	Name string `path:"name"`
	Body backup.MirrorPush
}

// mirrors registers what is done with mirrors of code repositories. Work goes
// on in the background: whoever began it asks for the mirror again until nothing
// is done with it any more.
func (a *API) mirrors() {
	register(a, http.MethodGet, "/backup-mirrors", "backup-mirror-list", "Show the mirrors of code repositories", func(ctx context.Context, in *struct{ Caller }) ([]backup.MirrorStatus, error) {
		return a.Code.List(ctx, in.Principal)
	})
	register(a, http.MethodGet, "/backup-mirrors/{name}", "backup-mirror-show", "Show one mirror of a code repository", func(ctx context.Context, in *oneMirror) (backup.MirrorStatus, error) {
		return a.Code.Mirror(ctx, in.Principal, in.Name)
	})
	register(a, http.MethodPost, "/backup-mirrors/{name}/fetches", "backup-mirror-fetch", "Bring a mirror up to date now", func(ctx context.Context, in *oneMirror) (backup.MirrorStatus, error) {
		return a.Code.Fetch(ctx, in.Principal, in.Name)
	})
	register(a, http.MethodPost, "/backup-mirrors/{name}/proofs", "backup-mirror-prove", "Clone a mirror, check every object, check it out, and build it if the configuration says how", func(ctx context.Context, in *oneMirror) (backup.MirrorStatus, error) {
		return a.Code.Prove(ctx, in.Principal, in.Name)
	})
	register(a, http.MethodPost, "/backup-mirrors/{name}/pushes", "backup-mirror-push", "Bring a mirror to a new, empty repository", func(ctx context.Context, in *pushMirror) (backup.MirrorStatus, error) {
		return a.Code.Push(ctx, in.Principal, in.Name, in.Body)
	})
}
