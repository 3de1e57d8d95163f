// Package hetznersim stands in for Hetzner's DNS interface: it speaks the
// documented format of Zones and RRSets and misbehaves when it is told to. It
// is a simulator. No answer of it says anything about Hetzner's service.
package hetznersim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Record and Set are as in the interface.
type (
	Record struct {
		Value   string `json:"value"`
		Comment string `json:"comment,omitempty"`
	}
	Set struct {
		ID      string            `json:"id"`
		Name    string            `json:"name"`
		Type    string            `json:"type"`
		TTL     *uint32           `json:"ttl"`
		Labels  map[string]string `json:"labels"`
		Records []Record          `json:"records"`
		Zone    int64             `json:"zone"`
	}
)

// Fault is what goes wrong with the next request that matches.
type Fault struct {
	Method string // empty: any
	Path   string // a part of the path; empty: any
	After  int    // requests that match and go well before it
	Status int    // answer this instead of doing it
	Code   string // of the error
	Lose   bool   // do it, and lose the answer
	Fail   bool   // begin it, and let the action fail
	Do     func() // runs before the request is served, without a lock held
	Always bool   // and every one after it
}

// Simulator is an http.Handler.
type Simulator struct {
	token string
	zone  string
	slow  int // how often an action is still running when it is asked for

	mu      sync.Mutex
	sets    map[string]Set
	actions map[int64]*action
	faults  []*Fault
	calls   []string
}

type action struct {
	id    int64
	polls int
	fail  bool
}

// New makes a simulator with one zone. slow is how many times an action is
// still running when it is asked for.
func New(zone, token string, slow int) *Simulator {
	return &Simulator{token: token, zone: zone, slow: slow, sets: map[string]Set{}, actions: map[int64]*action{}}
}

// Break orders a fault.
func (s *Simulator) Break(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Mend takes all faults away.
func (s *Simulator) Mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Calls are the changes that were asked for, in order: "POST /zones/…".
func (s *Simulator) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *Simulator) fault(r *http.Request) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if f.Method != "" && f.Method != r.Method || !strings.Contains(r.URL.Path, f.Path) {
			continue
		}
		if f.After > 0 {
			f.After--
			continue
		}
		if !f.Always {
			s.faults = slices.Delete(s.faults, i, i+1)
		}
		return f
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := s.fault(r)
	if f == nil {
		f = &Fault{}
	}
	if f.Do != nil {
		f.Do()
	}
	if f.Status != 0 {
		refuse(w, f.Status, f.Code)
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+s.token {
		refuse(w, http.StatusUnauthorized, "unauthorized")
		return
	}
	s.mu.Lock()
	status, answer := s.serve(r, f.Fail)
	s.mu.Unlock()
	if f.Lose {
		panic(http.ErrAbortHandler)
	}
	if e, ok := answer.(string); ok {
		refuse(w, status, e)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": code, "message": "simulated: " + code}})
}

// serve does what a request asks for. A string answer is an error's code.
func (s *Simulator) serve(r *http.Request, fail bool) (int, any) {
	parts := strings.Split(strings.Trim(strings.TrimPrefix(r.URL.Path, "/v1"), "/"), "/")
	if len(parts) == 2 && parts[0] == "actions" {
		return s.poll(parts[1])
	}
	if len(parts) < 3 || parts[0] != "zones" || parts[1] != s.zone || parts[2] != "rrsets" {
		return http.StatusNotFound, "not_found"
	}
	if r.Method != http.MethodGet {
		s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	}
	if len(parts) == 3 {
		return s.create(r, fail)
	}
	if len(parts) < 5 {
		return http.StatusNotFound, "not_found"
	}
	key := parts[3] + " " + parts[4]
	set, ok := s.sets[key]
	if !ok {
		return http.StatusNotFound, "not_found"
	}
	switch {
	case len(parts) == 5 && r.Method == http.MethodGet:
		return http.StatusOK, map[string]any{"rrset": set}
	case len(parts) == 5 && r.Method == http.MethodDelete:
		if !fail {
			delete(s.sets, key)
		}
		return http.StatusCreated, s.began(fail)
	case len(parts) == 7 && r.Method == http.MethodPost:
		return s.change(r, key, set, parts[6], fail)
	}
	return http.StatusNotFound, "not_found"
}

func (s *Simulator) create(r *http.Request, fail bool) (int, any) {
	var set Set
	if r.Method != http.MethodPost || json.NewDecoder(r.Body).Decode(&set) != nil || set.Name == "" || len(set.Records) == 0 {
		return http.StatusUnprocessableEntity, "invalid_input"
	}
	key := set.Name + " " + set.Type
	if _, ok := s.sets[key]; ok {
		return http.StatusConflict, "uniqueness_error"
	}
	set.ID, set.Zone, set.Labels = set.Name+"/"+set.Type, 1, map[string]string{}
	if !fail {
		s.sets[key] = set
	}
	answer := s.began(fail)
	answer["rrset"] = set
	return http.StatusCreated, answer
}

func (s *Simulator) change(r *http.Request, key string, set Set, what string, fail bool) (int, any) {
	var in struct {
		TTL     *uint32  `json:"ttl"`
		Records []Record `json:"records"`
	}
	if json.NewDecoder(r.Body).Decode(&in) != nil {
		return http.StatusUnprocessableEntity, "invalid_input"
	}
	switch what {
	case "set_records":
		set.Records = in.Records
	case "change_ttl":
		set.TTL = in.TTL
	default:
		return http.StatusNotFound, "not_found"
	}
	if !fail {
		s.sets[key] = set
	}
	return http.StatusCreated, s.began(fail)
}

func (s *Simulator) began(fail bool) map[string]any {
	a := &action{id: int64(len(s.actions) + 1), polls: s.slow, fail: fail}
	s.actions[a.id] = a
	return map[string]any{"action": a.shown()}
}

func (a *action) shown() map[string]any {
	out := map[string]any{"id": a.id, "command": "change", "status": "success", "progress": 100, "error": nil}
	switch {
	case a.polls > 0:
		out["status"], out["progress"] = "running", 0
	case a.fail:
		out["status"], out["error"] = "error", map[string]any{"code": "action_failed", "message": "simulated"}
	}
	return out
}

func (s *Simulator) poll(id string) (int, any) {
	for _, a := range s.actions {
		if fmt.Sprint(a.id) == id {
			a.polls--
			return http.StatusOK, map[string]any{"action": a.shown()}
		}
	}
	return http.StatusNotFound, "not_found"
}
