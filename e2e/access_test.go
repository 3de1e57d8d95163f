package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/pquerna/otp/totp"
)

const password = "marble-trombone-window-41"

// somebody is a person who signed in over HTTPS.
type somebody struct {
	w     *world
	id    string
	email string
	token string

	totp     string // the authenticator app's secret, if there is one
	recovery []string
}

// over asks the administrative interface over HTTPS, with a token or without.
func (w *world) over(t testing.TB, token, method, path string, in, out any, header ...string) (int, string) {
	t.Helper()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, w.base+"/api/v1"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if out != nil && resp.StatusCode < 300 {
		if err := json.Unmarshal(text, out); err != nil {
			t.Fatalf("%s %s: %s", method, path, text)
		}
	}
	return resp.StatusCode, string(text)
}

// person invites somebody to an organisation (empty: the platform), who accepts
// and, where the roles demand it, enrols an authenticator app.
func (w *world) person(t testing.TB, org string, roles ...string) *somebody {
	t.Helper()
	s := &somebody{w: w, email: fmt.Sprintf("somebody-%d@example.org", serial.Add(1))}
	var invitation struct{ Token string }
	w.must(t, "POST", "/invitations", map[string]any{"organisation": org, "email": s.email, "name": "Somebody", "roles": roles}, &invitation)
	var in access.SignedIn
	if status, text := w.over(t, "", "POST", "/invitation/accept", map[string]any{"token": invitation.Token, "password": password}, &in); status != http.StatusCreated {
		t.Fatalf("accepting: %d %s", status, text)
	}
	s.id, s.token = in.Session.Person.String(), in.Token
	if in.Session.Enrolment {
		s.enrol(t)
	}
	return s
}

func (s *somebody) enrol(t testing.TB) {
	t.Helper()
	// Until then the session opens nothing else.
	if status, text := s.w.over(t, s.token, "GET", "/organisations", nil, nil); status != http.StatusForbidden || !strings.Contains(text, "second-factor-enrolment") {
		t.Fatalf("a session that must enrol: %d %s", status, text)
	}
	var app access.TOTPEnrolment
	if status, text := s.w.over(t, s.token, "POST", "/session/totp", nil, &app); status != http.StatusCreated {
		t.Fatalf("enrolling: %d %s", status, text)
	}
	code, err := totp.GenerateCode(app.Secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var done access.Enrolled
	if status, text := s.w.over(t, s.token, "POST", "/session/totp/confirm", map[string]any{"ceremony": app.Ceremony, "code": code}, &done); status != http.StatusCreated {
		t.Fatalf("confirming: %d %s", status, text)
	}
	s.token = done.SignedIn.Token
}

func (s *somebody) ask(t testing.TB, method, path string, in, out any) (int, string) {
	t.Helper()
	return s.w.over(t, s.token, method, path, in, out)
}

// TestNobodyReachesIntoAnotherOrganisationOverHTTPS tries with real sessions
// what each role may, and what it may not, across the wall.
func TestNobodyReachesIntoAnotherOrganisationOverHTTPS(t *testing.T) {
	w := wired.get(t)
	mine, theirs := w.org(t, anywhere()), w.org(t, anywhere())
	my, their := w.key(t, mine, nil), w.key(t, theirs, nil)
	for range 3 {
		w.get(t, my.Token, question{model: "simulator-chat"})
	}
	myID := w.get(t, my.Token, question{model: "simulator-chat"}).id
	theirID := w.get(t, their.Token, question{model: "simulator-chat"}).id
	w.recorded(t, myID)
	w.recorded(t, theirID)

	auditor := w.person(t, mine, "auditor")
	var page api.Requests
	if status, text := auditor.ask(t, "GET", "/requests?organisation="+mine+"&limit=2", nil, &page); status != http.StatusOK || len(page.Requests) != 2 || page.Next == "" {
		t.Fatalf("one's own requests: %d %s", status, text)
	}
	var other api.Requests
	w.must(t, "GET", "/requests?limit=1", nil, &other) // whose cursor points at the other organisation's newest
	for _, path := range []string{
		"/requests?organisation=" + theirs, "/requests/" + theirID, "/refusals?organisation=" + theirs, "/transfers?organisation=" + theirs,
		"/usage?organisation=" + theirs, "/organisations/" + theirs, "/keys?organisation=" + theirs,
		"/people?organisation=" + theirs, "/invitations?organisation=" + theirs, "/service-accounts?organisation=" + theirs,
		"/audit?organisation=" + theirs, "/grants?organisation=" + theirs, "/audit/requests/" + theirID + "/proof",
	} {
		if status, text := auditor.ask(t, "GET", path, nil, nil); status != http.StatusForbidden && status != http.StatusNotFound || strings.Contains(strings.ReplaceAll(text, "There is no request "+theirID, ""), theirID) {
			t.Errorf("GET %s: %d %s", path, status, text)
		}
	}
	for _, cursor := range []string{other.Next, page.Next} {
		var rest api.Requests
		if status, text := auditor.ask(t, "GET", "/requests?organisation="+mine+"&after="+cursor, nil, &rest); status != http.StatusOK {
			t.Errorf("a cursor: %d %s", status, text)
		}
		if slices.ContainsFunc(rest.Requests, func(r ledger.RequestRow) bool {
			return r.Organisation.String() != page.Requests[0].Organisation.String()
		}) {
			t.Error("a cursor of another's list shows another's rows")
		}
	}
	var export string
	if status, text := auditor.ask(t, "GET", "/audit/export?organisation="+theirs, nil, nil); status < 400 {
		t.Errorf("an export of another's audit log: %d", status)
	} else {
		export = text
	}
	if strings.Contains(export, theirs) && strings.Contains(export, "key.create") {
		t.Errorf("a refused export shows entries: %s", export)
	}

	for _, act := range []struct {
		method, path string
		in           any
	}{
		{"POST", "/keys", map[string]any{"organisation": theirs, "name": "spy"}},
		{"DELETE", "/keys/" + their.ID, nil},
		{"PUT", "/organisations/" + theirs + "/policy", anywhere()},
		{"POST", "/budgets", map[string]any{"organisation": theirs, "period": "day", "limit": "1.00"}},
		{"POST", "/invitations", map[string]any{"organisation": theirs, "email": "spy@example.org", "name": "Spy", "roles": []string{"administrator"}}},
		{"POST", "/invitations", map[string]any{"organisation": mine, "email": "spy@example.org", "name": "Spy", "roles": []string{"administrator"}}},
		{"POST", "/keys", map[string]any{"organisation": mine, "name": "an auditor makes no keys"}},
		{"POST", "/organisations", map[string]any{"name": "an-auditor-makes-none"}},
	} {
		if status, text := auditor.ask(t, act.method, act.path, act.in, nil); status != http.StatusForbidden && status != http.StatusNotFound {
			t.Errorf("%s %s by an auditor: %d %s", act.method, act.path, status, text)
		}
	}
}

// TestStaffSeeNoRequestsWithoutAGrant: whoever runs the platform reads no
// client's requests, until somebody else has approved it.
func TestStaffSeeNoRequestsWithoutAGrant(t *testing.T) {
	w := wired.get(t)
	org := w.org(t, anywhere())
	k := w.key(t, org, nil)
	id := w.get(t, k.Token, question{model: "simulator-chat"}).id
	w.recorded(t, id)
	operator, security := w.person(t, "", "platform-operator"), w.person(t, "", "platform-security")
	if status, text := operator.ask(t, "GET", "/requests?organisation="+org, nil, nil); status != http.StatusForbidden {
		t.Fatalf("without a grant: %d %s", status, text)
	}
	var grant struct{ ID string }
	if status, text := operator.ask(t, "POST", "/grants", map[string]any{"organisation": org, "scopes": []string{"requests"},
		"reason": "the client reports wrong answers since noon", "ticket": "T-4711", "duration": "1h"}, &grant); status != http.StatusCreated {
		t.Fatalf("asking: %d %s", status, text)
	}
	if status, _ := operator.ask(t, "POST", "/grants/"+grant.ID+"/approve", map[string]any{}, nil); status != http.StatusForbidden {
		t.Errorf("approving one's own: %d", status)
	}
	if status, text := operator.ask(t, "GET", "/requests?organisation="+org, nil, nil); status != http.StatusForbidden {
		t.Errorf("before it is approved: %d %s", status, text)
	}
	if status, text := security.ask(t, "POST", "/grants/"+grant.ID+"/approve", map[string]any{}, nil); status >= 300 {
		t.Fatalf("approving: %d %s", status, text)
	}
	var page api.Requests
	if status, text := operator.ask(t, "GET", "/requests?organisation="+org, nil, &page); status != http.StatusOK || len(page.Requests) != 1 {
		t.Errorf("under the grant: %d %s", status, text)
	}
	if status, _ := operator.ask(t, "GET", "/audit?organisation="+org, nil, nil); status != http.StatusForbidden {
		t.Errorf("a grant for requests opened the audit log: %d", status)
	}
	// The client sees it, and ends it at once.
	admin := w.person(t, org, "administrator")
	if status, text := admin.ask(t, "GET", "/grants?organisation="+org, nil, nil); status != http.StatusOK || !strings.Contains(text, "T-4711") {
		t.Errorf("the client's view: %d %s", status, text)
	}
	if status, text := admin.ask(t, "POST", "/grants/"+grant.ID+"/end", map[string]any{}, nil); status >= 300 {
		t.Fatalf("ending: %d %s", status, text)
	}
	if status, _ := operator.ask(t, "GET", "/requests?organisation="+org, nil, nil); status != http.StatusForbidden {
		t.Errorf("after its end: %d", status)
	}
}

// TestADeactivatedPersonIsOutWithinASecond, with every session.
func TestADeactivatedPersonIsOutWithinASecond(t *testing.T) {
	w := wired.get(t)
	org := w.org(t, anywhere())
	viewer, admin := w.person(t, org, "viewer"), w.person(t, org, "administrator")
	if status, text := viewer.ask(t, "GET", "/session", nil, nil); status != http.StatusOK {
		t.Fatalf("signed in: %d %s", status, text)
	}
	// A cookie is not a bearer token: another site cannot act in somebody's name.
	if status, _ := w.over(t, "", "GET", "/session", nil, nil, "Cookie", "__Host-foundry="+viewer.token); status != http.StatusUnauthorized {
		t.Errorf("a cookie opened the interface: %d", status)
	}
	if status, text := admin.ask(t, "POST", "/people/"+viewer.id+"/deactivate", map[string]any{}, nil); status >= 300 {
		t.Fatalf("deactivating: %d %s", status, text)
	}
	began := time.Now()
	eventually(t, "the session ends", func() (bool, string) {
		status, text := viewer.ask(t, "GET", "/session", nil, nil)
		return status == http.StatusUnauthorized, text
	})
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
	if status, _ := w.over(t, "", "POST", "/signin", map[string]any{"email": viewer.email, "password": password}, nil); status != http.StatusUnauthorized {
		t.Errorf("signing in again: %d", status)
	}
}
