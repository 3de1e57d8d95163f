package daemon

import (
	"time"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/continuity/patroni"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/journal"
	"github.com/missionopsai/foundry/internal/gateway/upstream"
	"github.com/missionopsai/foundry/internal/inference"
	"github.com/missionopsai/foundry/internal/outage"
)

// Status is what the node says about itself.
type Status struct {
	Version        string              `json:"version"`
	Mode           string              `json:"mode"`
	Node           uint32              `json:"node"`
	Boot           uint32              `json:"boot"`
	Country        string              `json:"country"`
	CountryAssumed bool                `json:"country_assumed,omitempty"`
	URL            string              `json:"url"`
	DataDir        string              `json:"data_dir"`
	Started        time.Time           `json:"started"`
	Readiness      Readiness           `json:"readiness"`
	Database       DatabaseStatus      `json:"database"`
	Journal        journal.Stats       `json:"journal"`
	Audit          audit.Status        `json:"audit"`
	Providers      []ProviderStatus    `json:"providers"`
	Models         []gateway.ModelInfo `json:"models"`
}

// DatabaseStatus says which server is in use.
type DatabaseStatus struct {
	Private  bool `json:"private"`
	PID      int  `json:"pid,omitempty"`
	Restarts int  `json:"restarts"`
	Healthy  bool `json:"healthy"`

	SignIn *outage.Report `json:"sign_in_without,omitempty"` // how people sign in while it is down

	Fleet   *FleetDatabase  `json:"fleet,omitempty"`   // the fleet's own database, as this node sees it
	Patroni *patroni.Status `json:"patroni,omitempty"` // the cluster, where Patroni keeps it
}

// ProviderStatus is a provider as operators see it.
type ProviderStatus struct {
	Name        string          `json:"name"`
	Kind        string          `json:"kind"`
	Own         bool            `json:"own"`
	Simulated   bool            `json:"simulated"`
	Controller  string          `json:"controller"`
	Processing  []string        `json:"processing"`
	Circuit     string          `json:"circuit"`
	Health      *gateway.Health `json:"health,omitempty"`
	Connections upstream.Stats  `json:"connections"`
	Models      int             `json:"models"`

	Inference *inference.Health `json:"inference,omitempty"` // what an inference node says about itself
}

// Status reports the node's state.
func (d *Daemon) Status() Status {
	s := Status{Version: d.version, Mode: d.config.Mode, Node: d.node.Number, Boot: d.node.Boot, Country: d.config.Node.Country, CountryAssumed: d.countryAssumed, URL: d.URL(),
		DataDir: d.config.DataDir, Started: d.started, Readiness: d.ready(), Journal: d.journal.Stats(), Audit: d.auditLog.Status(), Models: d.gateway.Models(),
		Database: DatabaseStatus{Healthy: d.db.Healthy(), SignIn: d.signInWithout()}}
	if c := d.cluster.Load(); c != nil {
		s.Database.Private, s.Database.PID, s.Database.Restarts = true, c.PID(), c.Restarts()
	}
	s.Database.Fleet, s.Database.Patroni = d.FleetDatabase(), d.PatroniStatus()
	for _, p := range d.gateway.Providers() {
		ps := ProviderStatus{Name: p.Name, Kind: string(p.Kind), Own: p.Facts.Own, Simulated: p.Facts.Simulated, Controller: string(p.Facts.Controller),
			Circuit: p.Circuit().String(), Health: p.Health(), Connections: p.Connections(), Models: len(p.Models()), Inference: p.Front()}
		for _, j := range p.Facts.Processing {
			ps.Processing = append(ps.Processing, string(j))
		}
		s.Providers = append(s.Providers, ps)
	}
	return s
}
