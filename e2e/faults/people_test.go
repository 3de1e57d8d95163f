//go:build faults

package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/pquerna/otp/totp"
)

const password = "marble-trombone-window-41"

// somebody is a person who signed in over HTTPS.
type somebody struct {
	n      *node
	id     string
	email  string
	token  string
	secret string // of the authenticator app
}

// over asks the administrative interface over HTTPS. The status is 0 where
// there was no answer.
func (n *node) over(token, method, path string, in, out any) (int, string) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return 0, err.Error()
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, n.url+"/api/v1"+path, body)
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	if out != nil && resp.StatusCode < 300 {
		if err := json.Unmarshal(text, out); err != nil {
			return 0, err.Error()
		}
	}
	return resp.StatusCode, string(text)
}

func (s *somebody) ask(method, path string, in, out any) (int, string) {
	return s.n.over(s.token, method, path, in, out)
}

// must is ask for what has to succeed.
func (s *somebody) must(t testing.TB, method, path string, in, out any) {
	t.Helper()
	if status, text := s.ask(method, path, in, out); status < 200 || status > 299 {
		t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
}

// person invites somebody to an organisation (empty: the platform), who accepts
// and, where the roles demand it, enrols an authenticator app.
func (n *node) person(t testing.TB, org string, roles ...string) *somebody {
	t.Helper()
	s := &somebody{n: n, email: unique("somebody") + "@example.org"}
	var invitation struct{ Token string }
	n.must("POST", "/invitations", map[string]any{"organisation": org, "email": s.email, "name": "Somebody", "roles": roles}, &invitation)
	var in access.SignedIn
	s.must(t, "POST", "/invitation/accept", map[string]any{"token": invitation.Token, "password": password}, &in)
	s.id, s.token = in.Session.Person.String(), in.Token
	if !in.Session.Enrolment {
		return s
	}
	var app access.TOTPEnrolment
	s.must(t, "POST", "/session/totp", nil, &app)
	s.secret = app.Secret
	var done access.Enrolled
	s.must(t, "POST", "/session/totp/confirm", map[string]any{"ceremony": app.Ceremony, "code": s.code(t, time.Now())}, &done)
	s.token = done.SignedIn.Token
	return s
}

// code is what the authenticator app shows at a time.
func (s *somebody) code(t testing.TB, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(s.secret, at)
	if err != nil {
		t.Fatal(fmt.Errorf("an authenticator app: %w", err))
	}
	return code
}
