// Package suppliertest has simulators of suppliers' interfaces for tests, which
// speak the documented formats and misbehave when they are told to, and the
// suite that every supplier passes. No answer of a simulator says anything about
// a supplier's service.
package suppliertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Fault is what goes wrong with the next request that matches.
type Fault struct {
	Method string // empty: any
	Path   string // a part of the path; empty: any
	After  int    // requests that match and go well before it
	Status int    // answer this instead of doing it
	Code   string // of the error
	Lose   bool   // do it, and lose the answer
	Lie    bool   // say that it is done, and do not do it
	Fail   bool   // of an action: begin it, and let it fail
	Hang   <-chan struct{}
	// Reached is closed when the request is there that hangs.
	Reached chan struct{}
	Always  bool // and every one after it
}

// Simulator is what both have in common.
type Simulator struct {
	mu     sync.Mutex
	faults []*Fault
	calls  []string
	power  map[int64]string // by server: the supplier's own words
	late   map[int64]int    // how often a server is still the other way when it is asked for
	Slow   int              // how often something is still under way when it is asked for
	Bounce int              // how often a server that went off is found on again, once it was seen off
}

// Break orders a fault.
func (s *Simulator) Break(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Calls are the requests that came, as "METHOD path".
func (s *Simulator) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.calls...)
}

// Count is how many requests came whose line holds a text.
func (s *Simulator) Count(part string) (n int) {
	for _, c := range s.Calls() {
		if strings.Contains(c, part) {
			n++
		}
	}
	return n
}

// Set says how the power of a server stands, in the supplier's own word.
func (s *Simulator) Set(server int64, word string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.power[server] = word
}

// Word is how it stands.
func (s *Simulator) Word(server int64) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.power[server]
}

// fault takes the fault of a request.
func (s *Simulator) fault(r *http.Request) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	for i, f := range s.faults {
		if f.Method != "" && f.Method != r.Method || !strings.Contains(r.URL.Path, f.Path) {
			continue
		}
		if f.After > 0 {
			f.After--
			continue
		}
		if !f.Always {
			s.faults = append(s.faults[:i], s.faults[i+1:]...)
		}
		return f
	}
	return &Fault{}
}

func (f *Fault) hang() {
	if f.Hang != nil {
		close(f.Reached)
		<-f.Hang
	}
}

// stands is how a server stands for one question. Call it with the lock held.
func (s *Simulator) stands(server int64, on, off string) string {
	word := s.power[server]
	if word == off && s.late[server] > 0 {
		s.late[server]--
		return on
	}
	if word == off && s.Bounce > 0 {
		s.Bounce--
		s.power[server] = on // somebody, or a watchdog of the hardware, switches it on again
	}
	return word
}

// lose ends a connection without an answer.
func lose(w http.ResponseWriter) {
	if h, ok := w.(http.Hijacker); ok {
		if c, _, err := h.Hijack(); err == nil {
			_ = c.Close()
		}
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// Robot stands in for Hetzner Robot's web service.
type Robot struct {
	Simulator
	user, password string
	types          map[int64][]string
	Rescue         map[int64]bool
}

// NewRobot makes one with the server 321, which tells its power, and the server
// 322, which does not.
func NewRobot(user, password string) *Robot {
	all := []string{"sw", "hw", "power", "power_long", "man"}
	return &Robot{user: user, password: password, Rescue: map[int64]bool{}, types: map[int64][]string{321: all, 322: all, 323: {"hw", "man"}},
		Simulator: Simulator{power: map[int64]string{321: "running", 322: "not supported", 323: "running"}, late: map[int64]int{}}}
}

func (s *Robot) refuse(w http.ResponseWriter, status int, code string) {
	e := map[string]any{"status": status, "code": code, "message": "simulated"}
	if code == "RATE_LIMIT_EXCEEDED" {
		e["max_request"], e["interval"] = 200, 3600
	}
	answer(w, status, map[string]any{"error": e})
}

// ServeHTTP answers.
func (s *Robot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := s.fault(r)
	f.hang()
	if user, password, ok := r.BasicAuth(); !ok || user != s.user || password != s.password {
		s.refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
		return
	}
	if f.Status != 0 {
		s.refuse(w, f.Status, f.Code)
		return
	}
	part := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(part) < 2 {
		s.refuse(w, http.StatusNotFound, "NOT_FOUND")
		return
	}
	id, _ := strconv.ParseInt(part[1], 10, 64)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.power[id] == "" {
		s.refuse(w, http.StatusNotFound, "SERVER_NOT_FOUND")
		return
	}
	if r.Method == http.MethodPost && r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		s.refuse(w, http.StatusBadRequest, "INVALID_INPUT")
		return
	}
	var body any
	switch {
	case part[0] == "reset" && r.Method == http.MethodGet:
		body = map[string]any{"reset": map[string]any{"server_ip": "192.0.2.1", "server_ipv6_net": "2001:db8::", "server_number": id, "type": s.types[id], "operating_status": s.stands(id, "running", "shut off")}}
	case part[0] == "reset":
		if !s.press(id, r.FormValue("type"), f.Lie) {
			s.refuse(w, http.StatusBadRequest, "INVALID_INPUT")
			return
		}
		body = map[string]any{"reset": map[string]any{"server_ip": "192.0.2.1", "server_number": id, "type": r.FormValue("type")}}
	case part[0] == "boot" && len(part) == 3 && part[2] == "rescue":
		if r.Method == http.MethodPost {
			if s.Rescue[id] {
				s.refuse(w, http.StatusConflict, "BOOT_ALREADY_ENABLED")
				return
			}
			s.Rescue[id] = r.FormValue("os") == "linux" && len(r.Form["authorized_key[]"]) > 0
		}
		body = map[string]any{"rescue": map[string]any{"server_ip": "192.0.2.1", "server_number": id, "active": s.Rescue[id], "password": nil}}
	default:
		s.refuse(w, http.StatusNotFound, "NOT_FOUND")
		return
	}
	if f.Lose {
		lose(w)
		return
	}
	answer(w, http.StatusOK, body)
}

// press does what a button does; a short press turns the power over.
func (s *Robot) press(id int64, kind string, lie bool) bool {
	ok := false
	for _, t := range s.types[id] {
		ok = ok || t == kind
	}
	if !ok || lie || s.power[id] == "not supported" {
		return ok
	}
	switch {
	case kind == "power_long" && s.power[id] == "running":
		s.power[id], s.late[id] = "shut off", s.Slow
	case kind == "power" || kind == "power_long":
		s.power[id] = map[string]string{"running": "shut off", "shut off": "running"}[s.power[id]]
	}
	return true
}

// Cloud stands in for Hetzner Cloud's interface.
type Cloud struct {
	Simulator
	token   string
	servers map[int64]map[string]any
	actions map[int64]*action
	next    int64
	Made    []map[string]any // the bodies of orders
}

type action struct {
	polls int
	fail  bool
}

// NewCloud makes one with the server 321 in it.
func NewCloud(token string) *Cloud {
	c := &Cloud{token: token, actions: map[int64]*action{}, servers: map[int64]map[string]any{}, next: 1000,
		Simulator: Simulator{power: map[int64]string{}, late: map[int64]int{}}}
	c.add(321, "node-1", nil)
	return c
}

func (s *Cloud) add(id int64, name string, labels any) {
	s.servers[id] = map[string]any{"id": id, "name": name, "labels": labels, "public_net": map[string]any{"ipv4": map[string]any{"ip": "192.0.2.9"}, "ipv6": map[string]any{"ip": "2001:db8::/64"}}}
	s.power[id] = "running"
}

func (s *Cloud) refuse(w http.ResponseWriter, status int, code string) {
	answer(w, status, map[string]any{"error": map[string]any{"code": code, "message": "simulated"}})
}

func (s *Cloud) view(id int64) map[string]any {
	out := map[string]any{"status": s.stands(id, "running", "off")}
	for k, v := range s.servers[id] {
		out[k] = v
	}
	return out
}

// ServeHTTP answers.
func (s *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := s.fault(r)
	f.hang()
	if r.Header.Get("Authorization") != "Bearer "+s.token {
		s.refuse(w, http.StatusUnauthorized, "unauthorized")
		return
	}
	if f.Status != 0 {
		w.Header().Set("RateLimit-Reset", "1")
		s.refuse(w, f.Status, f.Code)
		return
	}
	s.mu.Lock()
	status, body := s.serve(r, f)
	s.mu.Unlock()
	if f.Lose {
		lose(w)
		return
	}
	answer(w, status, body)
}

func (s *Cloud) serve(r *http.Request, f *Fault) (int, any) {
	missing := map[string]any{"error": map[string]any{"code": "not_found", "message": "simulated"}}
	part := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	id := int64(0)
	if len(part) > 1 {
		id, _ = strconv.ParseInt(part[1], 10, 64)
	}
	switch {
	case part[0] == "pricing":
		return 200, map[string]any{"pricing": map[string]any{"currency": "EUR", "vat_rate": "19.000000"}}
	case part[0] == "server_types":
		price := map[string]any{"location": "hel1", "price_hourly": map[string]any{"net": "0.0400", "gross": "0.0476000000000000"}, "price_monthly": map[string]any{"net": "25.2", "gross": "29.9880000000000000"}}
		if r.URL.Query().Get("name") != "cpx41" {
			return 200, map[string]any{"server_types": []any{}}
		}
		return 200, map[string]any{"server_types": []any{map[string]any{"id": 1, "name": "cpx41", "prices": []any{price}}}}
	case part[0] == "actions":
		a := s.actions[id]
		if a == nil {
			return 404, missing
		}
		return 200, map[string]any{"action": a.view(id)}
	case part[0] == "servers" && len(part) == 1 && r.Method == http.MethodGet:
		list := []any{}
		for n, v := range s.servers {
			if v["name"] == r.URL.Query().Get("name") {
				list = append(list, s.view(n))
			}
		}
		return 200, map[string]any{"servers": list}
	case part[0] == "servers" && len(part) == 1:
		return s.create(r, f)
	case part[0] == "servers" && s.servers[id] == nil:
		return 404, missing
	case part[0] == "servers" && len(part) == 2:
		return 200, map[string]any{"server": s.view(id)}
	case part[0] == "servers" && len(part) == 4 && part[2] == "actions":
		if !f.Lie && !f.Fail {
			switch part[3] {
			case "poweroff":
				s.power[id], s.late[id] = "off", s.Slow
			case "poweron", "reset":
				s.power[id] = "running"
			}
		}
		return 201, map[string]any{"action": s.begin(f)}
	}
	return 404, missing
}

func (s *Cloud) begin(f *Fault) map[string]any {
	s.next++
	s.actions[s.next] = &action{polls: s.Slow, fail: f.Fail}
	return map[string]any{"id": s.next, "command": "simulated", "status": "running", "progress": 0, "error": nil}
}

func (a *action) view(id int64) map[string]any {
	out := map[string]any{"id": id, "status": "running", "error": nil}
	switch {
	case a.polls > 0:
		a.polls--
	case a.fail:
		out["status"], out["error"] = "error", map[string]any{"code": "action_failed", "message": "simulated"}
	default:
		out["status"] = "success"
	}
	return out
}

func (s *Cloud) create(r *http.Request, f *Fault) (int, any) {
	var in map[string]any
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return 400, map[string]any{"error": map[string]any{"code": "json_error"}}
	}
	for _, v := range s.servers {
		if v["name"] == in["name"] {
			return 409, map[string]any{"error": map[string]any{"code": "uniqueness_error", "message": "simulated"}}
		}
	}
	s.next++
	id := s.next
	s.add(id, fmt.Sprint(in["name"]), in["labels"])
	s.Made = append(s.Made, in)
	return 201, map[string]any{"server": s.view(id), "action": s.begin(f), "next_actions": []any{}, "root_password": nil}
}
