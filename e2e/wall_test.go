package e2e

import (
	"bufio"
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/principal"
)

// names are what tells that something of a realm was shown.
func (r *realm) names() []string {
	return []string{r.name, r.id, r.key, r.budget, r.member, r.session, r.invitation, r.service, r.grant, r.review, r.request, r.entry, r.people[principal.Administrator].id}
}

// nowhere is a realm that does not exist, with ids of the same forms.
func (r *realm) nowhere() *realm {
	id := func() string { return uuid.NewString() }
	short := func() string { return strings.ToLower(strings.ReplaceAll(uuid.NewString(), "-", "a")[:10]) }
	// Of a node that there is not.
	request := "req_paaaaaaaaaaaaaaaaaaaaaaaaa"
	return &realm{name: "nowhere", id: id(), key: short(), budget: id(), member: id(), session: short(), invitation: short(), service: id(),
		grant: id(), review: id(), request: request[:len(r.request)], entry: id(), people: map[principal.Role]*somebody{principal.Administrator: {id: id()}}}
}

// without takes the names of a realm out of a text, longest first.
func (r *realm) without(text string) string {
	names := r.names()
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	for _, n := range names {
		text = strings.ReplaceAll(text, n, "…")
	}
	return text
}

// TestIDsTellNothingAcrossTheWall: what belongs to another organisation is
// answered, word for word, like what does not exist at all.
func TestIDsTellNothingAcrossTheWall(t *testing.T) {
	s := onStage(t)
	mary, clinic := s.realms[0], s.realms[1]
	nowhere, served := clinic.nowhere(), s.operations(t)
	named := regexp.MustCompile(`\{(org|key|budget|person|session|invitation|service|grant|review|request|entry)\}`)
	asked := 0
	for _, id := range slices.Sorted(maps.Keys(demands)) {
		d := demands[id]
		if !named.MatchString(d.path + d.body) {
			continue
		}
		for _, role := range []principal.Role{principal.Viewer, principal.Auditor, principal.Approver, principal.Administrator} {
			who := mary.people[role]
			ask := func(r *realm) (int, string) {
				// The key that a service account is to get is one's own: the account is what is asked about.
				there := *r
				var in any
				if d.body != "" {
					in = json.RawMessage(there.fill(d.body))
				}
				status, text := who.ask(t, served[id], there.fill(d.path), in, nil)
				return status, there.without(text)
			}
			asked++
			status, text := ask(clinic)
			nothing, same := ask(nowhere)
			if status < 400 || status >= 500 || status != nothing || text != same {
				t.Errorf("%s by %s: of another organisation %d %s\nof none %d %s", id, role, status, text, nothing, same)
			}
		}
	}
	if asked < 100 {
		t.Errorf("%d questions", asked)
	}
}

// TestNothingOfAnotherOrganisationIsShown reads everything that an
// administrator and an auditor may read, lists, sums, exports and registers
// too, and searches it for anything of the other organisation.
func TestNothingOfAnotherOrganisationIsShown(t *testing.T) {
	s := onStage(t)
	mary, clinic := s.realms[0], s.realms[1]
	served, read := s.operations(t), 0
	for _, id := range slices.Sorted(maps.Keys(demands)) {
		d := demands[id]
		if served[id] != http.MethodGet {
			continue
		}
		for _, path := range []string{d.path, strings.NewReplacer("?organisation={org}&", "?", "?organisation={org}", "").Replace(d.path)} {
			for _, role := range []principal.Role{principal.Auditor, principal.Administrator} {
				// A validator from outside must not make an answer, nor spare one.
				status, text := s.over(t, mary.people[role].token, http.MethodGet, mary.fill(path), nil, nil, "If-None-Match", "*", "If-Modified-Since", time.Now().UTC().Format(http.TimeFormat))
				if status == http.StatusNotModified {
					t.Errorf("%s by %s is answered from nowhere", path, role)
				}
				if status == http.StatusOK {
					read++
				}
				search := append(clinic.names(), clinic.unasked...)
				if strings.HasPrefix(path, "/audit") {
					search = clinic.unasked // the log has what one was denied, with the names that one asked for
				}
				for _, n := range search {
					if strings.Contains(text, n) {
						t.Errorf("%s by %s shows %q of another organisation: %.300s", path, role, n, text)
					}
				}
			}
		}
	}
	if read < 60 {
		t.Errorf("only %d answers were read", read)
	}
	_, own := mary.people[principal.Auditor].ask(t, "GET", "/audit/export", nil, nil)
	if !strings.Contains(own, mary.key) {
		t.Error("the export holds nothing of one's own: the search proves nothing")
	}
}

// TestACursorIsAPlaceAndNoKey: one of another's list, and one with any
// character changed, shows one's own rows or nothing.
func TestACursorIsAPlaceAndNoKey(t *testing.T) {
	s := onStage(t)
	mary, clinic := s.realms[0], s.realms[1]
	for _, r := range s.realms {
		for range 3 {
			s.eventuallySees(t, r.people[principal.Administrator], "/requests/"+s.get(t, r.token, question{model: "simulator-chat"}).id)
		}
	}
	spy := mary.people[principal.Auditor]
	mint := func(who *somebody) string {
		var page api.Requests
		who.do(t, "GET", "/requests?limit=1", nil, &page)
		if page.Next == "" {
			t.Fatal("there is no second page")
		}
		return page.Next
	}
	theirs, mine := mint(clinic.people[principal.Administrator]), mint(spy)
	var cursors []string
	for _, c := range []string{theirs, mine} {
		cursors = append(cursors, c)
		for i := range c {
			for _, with := range []string{"0", "z", ".", "-", "%27", "%00"} {
				cursors = append(cursors, c[:i]+with+c[i+1:])
			}
		}
	}
	cursors = append(cursors, strings.Repeat("9", 4000), theirs+theirs, clinic.request, clinic.entry)
	whole := 0
	for _, cursor := range cursors {
		for _, list := range []string{"/requests", "/refusals", "/transfers"} {
			status, text := spy.ask(t, "GET", list+"?limit=5&after="+cursor, nil, nil)
			if status != http.StatusOK && status != http.StatusUnprocessableEntity && status != http.StatusBadRequest {
				t.Errorf("%s after %q: %d %s", list, cursor, status, text)
			}
			if status == http.StatusOK && strings.Contains(text, mary.id) {
				whole++
			}
			if strings.Contains(text, clinic.id) || strings.Contains(text, clinic.key) {
				t.Errorf("%s after %q shows another organisation's rows", list, cursor)
			}
		}
	}
	if whole == 0 {
		t.Error("no cursor showed anything: the attack proves nothing")
	}
	// The audit log's places are ids and numbers of leaves.
	for _, query := range []string{"before=" + clinic.entry, "after=0", "after=-1", "after=999999999", "target=" + clinic.key, "actor=person:" + clinic.people[principal.Administrator].id} {
		var rows []struct {
			Organisation string `json:"organisation_id"`
		}
		status, text := spy.ask(t, "GET", "/audit?limit=1000&"+query, nil, &rows)
		if status != http.StatusOK {
			t.Errorf("the audit log with %s: %d %s", query, status, text)
		}
		for _, n := range clinic.names() {
			// What one asked for oneself stands in the entry of that reading.
			if strings.Contains(text, n) && !strings.Contains(query, n) && !strings.Contains(text, `"audit.read"`) {
				t.Errorf("the audit log with %s shows %q", query, n)
			}
		}
	}
}

// events opens the console's stream of events with a session's cookie. The
// channel gets every event's name and is closed with the stream.
func (s *somebody) events(t *testing.T) <-chan string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.w.base+"/console/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.AddCookie(&http.Cookie{Name: "__Host-foundry", Value: s.token})
	resp, err := s.w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		_ = resp.Body.Close()
		t.Fatalf("the stream: %d %v", resp.StatusCode, resp.Header)
	}
	names := make(chan string, 1000)
	go func() {
		defer close(names)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			if line := lines.Text(); line != "" && line != "data:" {
				names <- strings.TrimPrefix(line, "event: ")
			}
		}
	}()
	if first := <-names; first != "hello" {
		t.Fatalf("the stream begins with %q", first)
	}
	return names
}

// TestAStreamOfEventsTellsNothingOfOthers: an organisation's page does not
// move when another one works, so that nobody counts another's requests.
func TestAStreamOfEventsTellsNothingOfOthers(t *testing.T) {
	s := onStage(t)
	stream := s.realms[1].people[principal.Administrator].events(t)
	quiet := time.After(4 * time.Second)
	for working := true; working; {
		select {
		case name := <-stream:
			if name == "ledger-changed" {
				t.Fatal("the stream tells that another organisation's application asked something")
			}
		case <-quiet:
			working = false
		default:
			s.get(t, s.realms[0].token, question{model: "simulator-chat"})
		}
	}
}

// TestAStreamOfEventsEndsWithItsSession, within a second: when it is revoked,
// when it acts in another organisation, when its person is gone.
func TestAStreamOfEventsEndsWithItsSession(t *testing.T) {
	s := onStage(t)
	mary := s.realms[0]
	admin := mary.people[principal.Administrator]
	for name, end := range map[string]func(*somebody){
		"revoked":     func(w *somebody) { admin.do(t, "DELETE", "/people/"+w.id+"/sessions", nil, nil) },
		"signed out":  func(w *somebody) { w.do(t, "DELETE", "/session", nil, nil) },
		"entered":     func(w *somebody) { w.do(t, "POST", "/session/enter", map[string]any{"organisation": mary.id}, nil) },
		"deactivated": func(w *somebody) { admin.do(t, "POST", "/people/"+w.id+"/deactivate", map[string]any{}, nil) },
		"demoted": func(w *somebody) {
			admin.do(t, "PUT", "/people/"+w.id+"/roles", map[string]any{"roles": []string{}}, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			who := admin.hire(t, mary.name, principal.Viewer)
			stream := who.events(t)
			end(who)
			began := time.Now()
			for open := true; open; {
				select {
				case _, open = <-stream:
				case <-time.After(patience):
					t.Fatal("the stream goes on")
				}
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("the stream ended after %s", took)
			}
		})
	}
}

// TestAccessToClientDataEndsWithTheAccount: the client reads that it is over,
// at once, and not only when it would have run out.
func TestAccessToClientDataEndsWithTheAccount(t *testing.T) {
	s := onStage(t)
	mary := s.realms[0]
	admin := mary.people[principal.Administrator]
	leaving := s.staff[principal.PlatformAdministrator].hire(t, "", principal.PlatformOperator)
	var approved, waiting struct{ ID string }
	for _, g := range []*struct{ ID string }{&approved, &waiting} {
		leaving.do(t, "POST", "/grants", map[string]any{"organisation": mary.name, "scopes": []string{"requests"}, "reason": "the client reports wrong answers since noon", "ticket": "T-7", "duration": "1h"}, g)
	}
	admin.do(t, "POST", "/grants/"+approved.ID+"/approve", map[string]any{}, nil)
	leaving.do(t, "GET", "/requests?organisation="+mary.name, nil, nil)
	s.staff[principal.PlatformAdministrator].do(t, "POST", "/people/"+leaving.id+"/deactivate", map[string]any{}, nil)
	for _, id := range []string{approved.ID, waiting.ID} {
		var g api.Grant
		admin.do(t, "GET", "/grants/"+id, nil, &g)
		if g.State != access.GrantEnded || g.EndedBy != "person:"+s.staff[principal.PlatformAdministrator].id {
			t.Errorf("the client reads %+v", g)
		}
		var rows []struct{ Act string }
		admin.do(t, "GET", "/audit?act=grant.revoke&target="+id, nil, &rows)
		if len(rows) != 1 {
			t.Errorf("the audit log has %d entries of its end", len(rows))
		}
	}
}
