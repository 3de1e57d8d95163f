package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/problem"
)

type openIncident struct {
	Caller
	Body struct {
		Title     string    `json:"title" maxLength:"300"`
		Category  string    `json:"category,omitempty" doc:"outage, security-incident, personal-data-breach, supplier-loss or person-away. Default: by the scenario, or outage."`
		Mode      string    `json:"mode,omitempty" doc:"real, desktop, sandbox or live. Default real."`
		Scenario  string    `json:"scenario,omitempty" doc:"Of the plan."`
		Lost      []string  `json:"lost,omitempty" maxItems:"50" doc:"Names of the plan: what is down with them follows from it."`
		Nodes     []string  `json:"nodes,omitempty" maxItems:"50"`
		Functions []string  `json:"functions,omitempty" maxItems:"100"`
		Clients   []string  `json:"clients,omitempty" maxItems:"500"`
		Started   time.Time `json:"started_at,omitempty" doc:"Default: when it was noticed."`
		Detected  time.Time `json:"detected_at,omitempty" doc:"Default: now."`
		Words     string    `json:"words,omitempty"`
		Follows   string    `json:"follows,omitempty" doc:"An incident that this one goes on from."`
	}
}

type oneIncident struct {
	Caller
	ID string `path:"id" maxLength:"100" doc:"Or latest: the newest that is open."`
}

type exportIncident struct {
	Caller
	ID     string `path:"id" maxLength:"100"`
	Format string `query:"format" default:"archive" doc:"archive, html or pdf."`
	Zone   string `query:"zone" default:"UTC" doc:"Time zone beside UTC, such as Europe/London."`
}

type writeIncident struct {
	Caller
	ID   string `path:"id" maxLength:"100"`
	Body struct {
		Kind string          `json:"kind" doc:"note, signal, fact, phase, role, scope, quarantine, evidence, hold, act, action, review or plan-revision."`
		Body json.RawMessage `json:"body" doc:"What an entry of this kind says. Instants that are left out are now."`
	}
}

type sayIncident struct {
	Caller
	ID   string          `path:"id" maxLength:"100"`
	Body json.RawMessage `doc:"What an entry of this kind says."`
}

// KeepPart is one part of a file that the node keeps as evidence.
type KeepPart struct {
	Upload string `json:"upload,omitempty" doc:"From the answer to the first part."`
	N      int    `json:"n" minimum:"0" doc:"Which part it is, from 0."`
	Bytes  []byte `json:"bytes" doc:"Up to 512 KiB, in base64."`
	Last   bool   `json:"last"`
}

type keepEvidence struct {
	Caller
	ID   string `path:"id" maxLength:"100"`
	Body KeepPart
}

type readEvidence struct {
	Caller
	ID   string `path:"id" maxLength:"100"`
	Hash string `path:"hash" maxLength:"64"`
	N    int    `query:"n" minimum:"0" doc:"Which part, from 0."`
}

// WrittenIncident is an entry that was written, and how the incident stands.
type WrittenIncident struct {
	Entry incident.Entry `json:"entry"`
	Brief incident.Brief `json:"incident"`
}

// IncidentTimeline is an incident's entries with a sentence for each.
type IncidentTimeline struct {
	ID      string         `json:"id"`
	Stale   bool           `json:"stale,omitempty"`
	Entries []IncidentLine `json:"entries"`
}

// IncidentLine is one entry.
type IncidentLine struct {
	incident.Entry
	Says string `json:"says"`
}

// incidents registers what people do with incidents.
func (a *API) incidents() {
	register(a, http.MethodGet, "/incidents", "incident-list", "List incidents, the newest first", func(ctx context.Context, in *struct{ Caller }) ([]incident.Summary, error) {
		return a.Incidents.List(ctx, in.Principal)
	})
	register(a, http.MethodPost, "/incidents", "incident-open", "Open an incident", func(ctx context.Context, in *openIncident) (incident.Brief, error) {
		b := in.Body
		return a.Incidents.Open(ctx, in.Principal, incident.Begin{Title: b.Title, Category: incident.Category(b.Category), Mode: incident.Mode(b.Mode), Scenario: b.Scenario, Lost: b.Lost,
			Nodes: b.Nodes, Functions: b.Functions, Clients: b.Clients, Started: b.Started, Detected: b.Detected, Words: b.Words, Follows: b.Follows})
	})
	register(a, http.MethodGet, "/incidents/{id}", "incident-show", "Show what is down, how long is left on each clock, and what needs somebody", func(ctx context.Context, in *oneIncident) (incident.Brief, error) {
		return a.Incidents.Show(ctx, in.Principal, in.ID)
	})
	register(a, http.MethodGet, "/incidents/{id}/timeline", "incident-timeline", "Show the timeline of an incident", func(ctx context.Context, in *oneIncident) (IncidentTimeline, error) {
		t, err := a.Incidents.Timeline(ctx, in.Principal, in.ID)
		if err != nil {
			return IncidentTimeline{}, err
		}
		out := IncidentTimeline{ID: t.State.ID, Stale: t.Stale, Entries: []IncidentLine{}}
		for _, e := range t.Entries {
			out.Entries = append(out.Entries, IncidentLine{e, incident.Describe(e)})
		}
		return out, nil
	})
	register(a, http.MethodGet, "/incidents/{id}/export", "incident-export", "Take an incident along: signed, or as a page or document to read", func(ctx context.Context, in *exportIncident) (incident.File, error) {
		zone, err := time.LoadLocation(in.Zone)
		if err != nil || in.Zone == "Local" {
			return incident.File{}, problem.New(problem.Invalid, "time-zone", "There is no such time zone.").WithField("zone").WithMend("Write one such as Europe/London.")
		}
		return a.Incidents.Export(ctx, in.Principal, in.ID, in.Format, zone)
	})
	register(a, http.MethodPost, "/incidents/{id}/entries", "incident-append", "Write into the timeline of an incident", func(ctx context.Context, in *writeIncident) (WrittenIncident, error) {
		return a.writeIncident(ctx, in.Caller, in.ID, incident.Kind(in.Body.Kind), in.Body.Body)
	})
	register(a, http.MethodPost, "/incidents/{id}/vault", "incident-keep", "Bring a part of a file to this node, to be kept as evidence", func(ctx context.Context, in *keepEvidence) (incident.Kept, error) {
		return a.Incidents.Keep(ctx, in.Principal, in.ID, in.Body.Upload, in.Body.N, in.Body.Bytes, in.Body.Last)
	})
	register(a, http.MethodGet, "/incidents/{id}/vault/{hash}", "incident-evidence", "Read a part of evidence that the timeline or this node keeps", func(ctx context.Context, in *readEvidence) (incident.Part, error) {
		return a.Incidents.Evidence(ctx, in.Principal, in.ID, in.Hash, in.N)
	})
	for _, o := range []struct {
		path, id, summary string
		kind              incident.Kind
	}{
		{"decisions", "incident-decide", "Record a decision", incident.KindDecision},
		{"approvals", "incident-approve", "Approve or reject a decision", incident.KindApproval},
		{"assessments", "incident-assess", "Say whether personal data are in it", incident.KindAssessment},
		{"notices", "incident-notice", "Draft a notice, have it sent, or record how far it came", incident.KindNotice},
		{"closing", "incident-close", "Close an incident after its review", incident.KindClosed},
	} {
		register(a, http.MethodPost, "/incidents/{id}/"+o.path, o.id, o.summary, func(ctx context.Context, in *sayIncident) (WrittenIncident, error) {
			return a.writeIncident(ctx, in.Caller, in.ID, o.kind, in.Body)
		})
	}
}

func (a *API) writeIncident(ctx context.Context, c Caller, id string, kind incident.Kind, body json.RawMessage) (WrittenIncident, error) {
	brief, e, err := a.Incidents.Write(ctx, c.Principal, id, kind, body)
	if err != nil {
		return WrittenIncident{}, err
	}
	return WrittenIncident{*e, brief}, nil
}
