// Package patroni knows how Patroni keeps a cluster of PostgreSQL: what it says
// over its REST API and in its store, what of that keeps its promises, how a
// node of it is configured, and the door by which it uses the fleet's store and
// sees nothing else there.
//
// Source: Patroni 3.0 documentation, "REST API", "Dynamic Configuration",
// "Replication modes", "DCS Failsafe Mode".
package patroni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

// Service is the name of Patroni in certificates of the fleet.
const Service = "patroni"

// DefaultScope is what a cluster is called where nothing else is said.
const DefaultScope = "foundry"

// Roles of a member, as they are shown here.
const (
	Leader  = "leader"
	Sync    = "sync_standby" // what was acknowledged is on its disk too
	Replica = "replica"
)

// Member is one server of the cluster.
type Member struct {
	Name     string `json:"name"`
	Role     string `json:"role"`
	State    string `json:"state"` // running or streaming: it works
	API      string `json:"api_url,omitempty"`
	Host     string `json:"host,omitempty"`
	Port     int    `json:"port,omitempty"`
	Timeline int64  `json:"timeline,omitempty"`
	Lag      *int64 `json:"lag_bytes,omitempty"` // behind the leader; nil: not known
	Pending  bool   `json:"pending_restart,omitempty"`
}

// Works says whether the server runs, and follows where it is no leader.
func (m Member) Works() bool { return m.State == "running" || m.State == "streaming" }

// Cluster is what GET /cluster answers.
type Cluster struct {
	Members []Member `json:"members"`
	Paused  bool     `json:"paused,omitempty"` // nothing fails over by itself
}

// Leader is the member that leads; false: none does.
func (c Cluster) Leader() (Member, bool) {
	for _, m := range c.Members {
		if m.Role == Leader {
			return m, true
		}
	}
	return Member{}, false
}

// Member finds one by its name.
func (c Cluster) Member(name string) (Member, bool) {
	for _, m := range c.Members {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}

// mostAnswer bounds what is read of an answer.
const mostAnswer = 1 << 20

func unreadable(what string, err error) error {
	return problem.New(problem.Upstream, "patroni-answer", "Patroni's answer to "+what+" cannot be read.").
		WithMend("Look at its log, and whether it is Patroni that answers there.").Wrap(err)
}

// ParseCluster reads an answer to GET /cluster. Lag is a number, or "unknown".
func ParseCluster(body []byte) (c Cluster, err error) {
	var in struct {
		Members []struct {
			Name     string          `json:"name"`
			Role     string          `json:"role"`
			State    string          `json:"state"`
			API      string          `json:"api_url"`
			Host     string          `json:"host"`
			Port     json.RawMessage `json:"port"`
			Timeline json.RawMessage `json:"timeline"`
			Lag      json.RawMessage `json:"lag"`
			Pending  bool            `json:"pending_restart"`
		} `json:"members"`
		Pause bool `json:"pause"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return c, unreadable("/cluster", err)
	}
	if in.Members == nil {
		return c, unreadable("/cluster", fmt.Errorf("no members"))
	}
	c.Paused = in.Pause
	for _, m := range in.Members {
		out := Member{Name: m.Name, Role: role(m.Role), State: m.State, API: m.API, Host: m.Host, Pending: m.Pending}
		if n, ok := whole(m.Port); ok {
			out.Port = int(n)
		}
		out.Timeline, _ = whole(m.Timeline)
		if n, ok := whole(m.Lag); ok {
			out.Lag = &n
		}
		c.Members = append(c.Members, out)
	}
	return c, nil
}

// whole reads a number that may be missing, or a word.
func whole(raw json.RawMessage) (n int64, ok bool) {
	raw = bytes.Trim(raw, `"`)
	return n, len(raw) > 0 && json.Unmarshal(raw, &n) == nil && n >= 0
}

// role is one name for what versions of Patroni call differently.
func role(r string) string {
	switch r {
	case "master", "primary", "leader", "standby_leader":
		return Leader
	case "sync_standby", "quorum_standby":
		return Sync
	}
	return Replica
}

// Server is what GET /patroni answers: one server about itself.
type Server struct {
	State     string `json:"state"`
	Role      string `json:"role"`
	Timeline  int64  `json:"timeline,omitempty"`
	Version   int    `json:"server_version,omitempty"`
	System    string `json:"system,omitempty"` // PostgreSQL's identifier of the cluster
	Patroni   string `json:"patroni,omitempty"`
	Scope     string `json:"scope,omitempty"`
	Location  int64  `json:"location,omitempty"` // in its log: written by a leader, received by a replica
	SyncTo    int    `json:"sync_to,omitempty"`  // standbys that a leader waits for
	Unlocked  bool   `json:"unlocked,omitempty"` // nobody holds the leader's key
	Failsafe  bool   `json:"failsafe,omitempty"` // leads without its store
	IsSync    bool   `json:"sync,omitempty"`
	IsPending bool   `json:"pending_restart,omitempty"`
	Paused    bool   `json:"paused,omitempty"`
}

// ParseServer reads an answer to GET /patroni, which any of /leader, /replica
// and the like give too.
func ParseServer(body []byte) (s Server, err error) {
	var in struct {
		State    string          `json:"state"`
		Role     string          `json:"role"`
		Timeline json.RawMessage `json:"timeline"`
		Version  json.RawMessage `json:"server_version"`
		System   json.RawMessage `json:"database_system_identifier"`
		Xlog     struct {
			Location json.RawMessage `json:"location"`
			Received json.RawMessage `json:"received_location"`
		} `json:"xlog"`
		Replication []struct {
			Sync string `json:"sync_state"`
		} `json:"replication"`
		Patroni struct {
			Version string `json:"version"`
			Scope   string `json:"scope"`
		} `json:"patroni"`
		Unlocked bool `json:"cluster_unlocked"`
		Failsafe bool `json:"failsafe_mode_is_active"`
		Sync     bool `json:"sync_standby"`
		Pending  bool `json:"pending_restart"`
		Pause    bool `json:"pause"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return s, unreadable("/patroni", err)
	}
	if in.State == "" {
		return s, unreadable("/patroni", fmt.Errorf("no state"))
	}
	s = Server{State: in.State, Role: role(in.Role), System: string(bytes.Trim(in.System, `"`)), Patroni: in.Patroni.Version, Scope: in.Patroni.Scope, Unlocked: in.Unlocked, Failsafe: in.Failsafe,
		IsSync: in.Sync, IsPending: in.Pending, Paused: in.Pause}
	s.Timeline, _ = whole(in.Timeline)
	if n, ok := whole(in.Version); ok {
		s.Version = int(n)
	}
	for _, r := range in.Replication {
		if r.Sync == "sync" || r.Sync == "quorum" {
			s.SyncTo++
		}
	}
	if n, ok := whole(in.Xlog.Location); ok {
		s.Location = n
	} else {
		s.Location, _ = whole(in.Xlog.Received)
	}
	return s, nil
}

// Settings are the dynamic configuration that all servers of a cluster share.
type Settings struct {
	TTL       int   `json:"ttl"`
	LoopWait  int   `json:"loop_wait"`
	Retry     int   `json:"retry_timeout"`
	MaxLag    int64 `json:"maximum_lag_on_failover"`
	Sync      bool  `json:"synchronous_mode"`
	Strict    bool  `json:"synchronous_mode_strict"`
	SyncCount int   `json:"synchronous_node_count"`
	Failsafe  bool  `json:"failsafe_mode"`
	Paused    bool  `json:"pause"`
}

// ParseSettings reads the dynamic configuration: GET /config, or the key config.
// What is not written there has Patroni's default. Booleans may be words, as
// YAML has them.
func ParseSettings(body []byte) (s Settings, err error) {
	var in map[string]json.RawMessage
	if err := json.Unmarshal(body, &in); err != nil || in == nil {
		return s, unreadable("/config", err)
	}
	number := func(key string, otherwise int) int {
		if n, ok := whole(in[key]); ok && n < 1<<31 {
			return int(n)
		}
		return otherwise
	}
	yes := func(key string) bool {
		switch strings.ToLower(string(bytes.Trim(in[key], `"`))) {
		case "true", "on", "yes", "1":
			return true
		}
		return false
	}
	s = Settings{TTL: number("ttl", 30), LoopWait: number("loop_wait", 10), Retry: number("retry_timeout", 10), SyncCount: number("synchronous_node_count", 1),
		Sync: yes("synchronous_mode"), Strict: yes("synchronous_mode_strict"), Failsafe: yes("failsafe_mode"), Paused: yes("pause"), MaxLag: int64(number("maximum_lag_on_failover", 1<<20))}
	return s, nil
}
