package api

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/backup"
)

type runBackup struct {
	Caller
	Body backup.Request
}

type drillBackup struct {
	Caller
	Body backup.DrillRequest
}

type onTargets struct {
	Caller
	Body backup.TargetRequest
}

type placeHold struct {
	Caller
	Body backup.NewHold
}

type releaseHold struct {
	Caller
	ID   uuid.UUID `path:"id"`
	Body struct {
		Reason string `json:"reason" doc:"10 to 1000 characters: why these backups may go."`
	}
}

type backupID struct {
	Caller
	ID uuid.UUID `path:"id"`
}

type listBackups struct {
	Caller
	Subject string    `query:"subject" enum:"database,files,mirrors" doc:"Default: all."`
	Target  string    `query:"target"`
	Kind    string    `query:"kind" enum:"backup,drill,verify,expire" doc:"Of jobs. Default: all."`
	Since   time.Time `query:"since"`
	Gone    bool      `query:"gone" doc:"Also what was expired or is missing."`
	Limit   int       `query:"limit" minimum:"0" maximum:"1000" doc:"Default 100."`
}

func (l *listBackups) filter() backup.Filter {
	return backup.Filter{Subject: backup.Subject(l.Subject), Target: l.Target, Kind: backup.Kind(l.Kind), Since: l.Since, Gone: l.Gone, Limit: l.Limit}
}

type onePoint struct {
	Caller
	Label  string `path:"label"`
	Target string `query:"target" doc:"Where there is a backup of that name at more than one."`
}

type calendarDays struct {
	Caller
	Days int `query:"days" minimum:"0" maximum:"400" doc:"Default 30."`
}

// backups registers what is done with backups. Jobs go on in the background:
// whoever started one asks for it again until its state is no longer running.
func (a *API) backups() {
	register(a, http.MethodGet, "/backup-status", "backup-status", "Say what could be restored, and what would be lost now", func(ctx context.Context, in *struct{ Caller }) (backup.Status, error) {
		return a.Backups.Status(ctx, in.Principal)
	})
	register(a, http.MethodGet, "/backup-calendar", "backup-calendar", "Show the backups and drills of the last days", func(ctx context.Context, in *calendarDays) ([]backup.Day, error) {
		return a.Backups.Calendar(ctx, in.Principal, in.Days)
	})
	register(a, http.MethodGet, "/backup-targets", "backup-targets", "Show the places of backups", func(ctx context.Context, in *struct{ Caller }) ([]backup.TargetStatus, error) {
		return a.Backups.Targets(ctx, in.Principal)
	})
	register(a, http.MethodGet, "/backups", "backup-list", "List what could be restored, the newest first", func(ctx context.Context, in *listBackups) ([]backup.Point, error) {
		return a.Backups.Points(ctx, in.Principal, in.filter())
	})
	register(a, http.MethodGet, "/backups/{label}", "backup-show", "Show one backup", func(ctx context.Context, in *onePoint) (backup.Point, error) {
		return a.Backups.Point(ctx, in.Principal, in.Target, in.Label)
	})
	register(a, http.MethodPost, "/backups", "backup-run", "Make backups now", func(ctx context.Context, in *runBackup) (backup.Job, error) {
		return a.Backups.Start(ctx, in.Principal, in.Body)
	})
	register(a, http.MethodGet, "/backup-jobs", "backup-jobs", "List what was done with backups, the newest first", func(ctx context.Context, in *listBackups) ([]backup.Job, error) {
		return a.Backups.Jobs(ctx, in.Principal, in.filter())
	})
	register(a, http.MethodGet, "/backup-jobs/{id}", "backup-job", "Show how far a job has come", func(ctx context.Context, in *backupID) (backup.Job, error) {
		return a.Backups.Job(ctx, in.Principal, in.ID)
	})
	register(a, http.MethodGet, "/backup-drills", "backup-drills", "List restores that were tried, the newest first", func(ctx context.Context, in *listBackups) ([]backup.Drill, error) {
		return a.Backups.Drills(ctx, in.Principal, in.filter())
	})
	register(a, http.MethodGet, "/backup-drills/{id}", "backup-drill-show", "Show one drill with what it proved", func(ctx context.Context, in *backupID) (backup.Drill, error) {
		return a.Backups.Drill(ctx, in.Principal, in.ID)
	})
	register(a, http.MethodPost, "/backup-drills", "backup-drill", "Restore apart, prove it and throw it away", func(ctx context.Context, in *drillBackup) (backup.Job, error) {
		return a.Backups.StartDrill(ctx, in.Principal, in.Body)
	})
	register(a, http.MethodPost, "/backup-checks", "backup-verify", "Check repositories and the archive of the log", func(ctx context.Context, in *onTargets) (backup.Job, error) {
		return a.Backups.StartVerify(ctx, in.Principal, in.Body)
	})
	register(a, http.MethodPost, "/backup-probes", "backup-probe", "Try whether targets can be reached and written", func(ctx context.Context, in *onTargets) ([]backup.TargetProbe, error) {
		return a.Backups.Probe(ctx, in.Principal, in.Body)
	})
	register(a, http.MethodPost, "/backup-expiries", "backup-expire", "Remove what is older than the retention", func(ctx context.Context, in *onTargets) (backup.Job, error) {
		return a.Backups.StartExpire(ctx, in.Principal, in.Body)
	})
	register(a, http.MethodGet, "/backup-holds", "backup-holds", "List holds", func(ctx context.Context, in *struct{ Caller }) ([]backup.Hold, error) {
		return a.Backups.Holds(ctx, in.Principal)
	})
	register(a, http.MethodPost, "/backup-holds", "backup-hold", "Keep backups from being expired", func(ctx context.Context, in *placeHold) (backup.Hold, error) {
		return a.Backups.Hold(ctx, in.Principal, in.Body)
	})
	register(a, http.MethodPost, "/backup-holds/{id}/release", "backup-release", "End a hold", func(ctx context.Context, in *releaseHold) (backup.Hold, error) {
		return a.Backups.Release(ctx, in.Principal, in.ID, in.Body.Reason)
	})
}
