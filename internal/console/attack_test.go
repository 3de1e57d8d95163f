package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// member is a person's cookie, made over HTTP alone: invited, with a password,
// and with what that opens. Roles that need a second factor get an enrolment.
func member(t *testing.T, w *world, where, email, name string, roles ...string) *visitor {
	t.Helper()
	_, token, _ := strings.Cut(invite(t, w, where, email, name, roles...), "#")
	v := &visitor{w: w}
	status, header, body := v.do(t, http.MethodPost, "/invitation/accept", url.Values{"token": {token}, "name": {name}, "password": {password}, "again": {password}}.Encode())
	if status != http.StatusSeeOther {
		t.Fatalf("accepting answers %d: %s", status, body)
	}
	v.cookie = cookieIn(t, header)
	return v
}

func cookieIn(t *testing.T, h http.Header) *http.Cookie {
	t.Helper()
	for _, c := range (&http.Response{Header: h}).Cookies() {
		if c.Name == "__Host-foundry" {
			return c
		}
	}
	t.Fatalf("there is no cookie: %v", h)
	return nil
}

func TestAPersonsCookieIsKeptFromScriptsAndOtherSites(t *testing.T) {
	w := node(t)
	v := member(t, w, "st-mary-hospital", "cookie@example.org", "Cora Cookie", "viewer")
	c := v.cookie
	if !strings.HasPrefix(c.Value, "fds_") || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge > 8*3600 || c.MaxAge < 7*3600 {
		t.Errorf("the cookie is %v", c)
	}
}

func TestSigningInNeverTakesOverASessionThatWasThere(t *testing.T) {
	w := node(t)
	old := member(t, w, "st-mary-hospital", "fixed@example.org", "Fiona Fixed", "viewer")
	planted := &visitor{w: w, cookie: old.cookie}
	status, header, _ := planted.do(t, http.MethodPost, "/console/sign-in", url.Values{"email": {"fixed@example.org"}, "password": {password}, "next": {"/console/providers"}}.Encode())
	if status != http.StatusSeeOther || header.Get("Location") != "/console/providers" {
		t.Fatalf("signing in answers %d to %s", status, header.Get("Location"))
	}
	if fresh := cookieIn(t, header); fresh.Value == old.cookie.Value {
		t.Error("the token from before goes on")
	}
	if status, _ := old.get(t, "/console/providers"); status != http.StatusSeeOther {
		t.Errorf("the session from before answers %d", status)
	}
	// A value that the node never made opens nothing and is not adopted.
	status, header, _ = (&visitor{w: w, cookie: &http.Cookie{Name: "__Host-foundry", Value: "fds_" + strings.Repeat("a", 62)}}).do(t, http.MethodGet, "/console/", "")
	if status != http.StatusSeeOther || header.Get("Set-Cookie") != "" {
		t.Errorf("a made-up token answers %d", status)
	}
}

func TestSigningInLeadsNowhereElse(t *testing.T) {
	w := node(t)
	member(t, w, "st-mary-hospital", "redirect@example.org", "Rita Redirect", "viewer")
	v := &visitor{w: w}
	for _, next := range []string{"//evil.example", "/\\evil.example", "/console/%2f%2fevil.example"} {
		status, header, _ := v.do(t, http.MethodPost, "/console/sign-in", url.Values{"email": {"redirect@example.org"}, "password": {password}, "next": {next}}.Encode())
		if status != http.StatusSeeOther || header.Get("Location") != "/console/" { // TestGoingBackStaysInTheConsole tries more
			t.Errorf("%q answers %d to %q", next, status, header.Get("Location"))
		}
	}
}

func TestFormsOfOtherSitesDoNothing(t *testing.T) {
	w := node(t)
	v := member(t, w, "st-mary-hospital", "forged@example.org", "Fred Forged", "viewer")
	for _, path := range []string{"/console/sign-in", "/console/sign-in/second-factor", "/console/sign-in/passkey/begin", "/console/sign-in/passkey", "/invitation", "/invitation/accept",
		"/console/sign-out", "/console/account/password", "/console/account/sessions/end-others", "/console/account/passkeys/begin", "/console/account/authenticator", "/console/account/recovery-codes",
		"/console/account/places", "/console/step-up", "/console/people/invite", "/console/organisations/st-mary-hospital/policy", "/console/audit/log/verify", "/console/controls/run"} {
		for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "", "Origin", "https://evil.example"}} {
			if status, _, body := v.do(t, http.MethodPost, path, "x=y", header...); status != http.StatusForbidden || !strings.Contains(body, "another site") {
				t.Errorf("POST %s with %v answers %d", path, header, status)
			}
		}
	}
	if status, _ := v.get(t, "/console/providers"); status != http.StatusOK {
		t.Errorf("afterwards the session answers %d", status)
	}
}

func TestNobodyFramesThePagesOfASignIn(t *testing.T) {
	w := node(t)
	for _, path := range []string{"/console/sign-in", "/invitation"} {
		_, header, body := (&visitor{w: w}).do(t, http.MethodGet, path, "")
		csp := header.Get("Content-Security-Policy")
		if header.Get("X-Frame-Options") != "DENY" || !strings.Contains(csp, "frame-ancestors 'none'") || !strings.Contains(csp, "form-action 'self'") || strings.Contains(csp, "unsafe") ||
			header.Get("Cache-Control") != "no-store" || header.Get("Referrer-Policy") != "same-origin" {
			t.Errorf("%s: %v", path, header)
		}
		if strings.Count(body, "<script") != 1 || regexp.MustCompile(`(?i)<[^>]+\s(on[a-z]+|style)=`).MatchString(body) {
			t.Errorf("%s has script of its own", path)
		}
	}
}

func TestAnInvitationsTokenIsInNoAddress(t *testing.T) {
	w := node(t)
	link := invite(t, w, "st-mary-hospital", "token@example.org", "Tom Token", "viewer")
	before, token, _ := strings.Cut(link, "#")
	if before != w.base+"/invitation" || len(token) < 40 {
		t.Fatalf("the link is %s", link)
	}
	v := &visitor{w: w}
	status, header, body := v.do(t, http.MethodPost, "/invitation", url.Values{"token": {link}}.Encode()) // pasted whole, without a script
	if status != http.StatusOK || !strings.Contains(body, "token@example.org") || strings.Contains(header.Get("Location"), token) {
		t.Errorf("opening answers %d", status)
	}
	for _, m := range regexp.MustCompile(`(?:href|action|src)="([^"]*)"`).FindAllStringSubmatch(body, -1) {
		if strings.Contains(m[1], token) || strings.Contains(m[1], "example.org") {
			t.Errorf("an address of the page holds it: %s", m[1])
		}
	}
	if status, _, body := v.do(t, http.MethodPost, "/invitation", url.Values{"token": {token[:len(token)-2] + "aa"}}.Encode()); status < 400 || strings.Contains(body, "token@example.org") {
		t.Errorf("another token answers %d", status)
	}
}

func TestAMemberSeesTheirOwnOrganisationOnly(t *testing.T) {
	w := node(t)
	v := member(t, w, "st-mary-hospital", "member@example.org", "Mia Member", "viewer")
	for path, want := range map[string]int{"/console/": 200, "/console/requests": 200, "/console/organisations/st-mary-hospital": 200, "/console/providers": 200, "/console/account": 200,
		"/console/organisations/harbour-authority": 403, "/console/requests?organisation=harbour-authority": 403, "/console/usage?organisation=harbour-authority": 403,
		"/console/organisations/no-such": 403, "/console/people": 403, "/console/audit": 403, "/console/encryption": 403, "/console/messages": 403,
		"/console/access-register": 403, "/console/people/invite": 403, "/console/playground": 403, "/console/organisations/st-mary-hospital/policy": 403} {
		status, body := v.get(t, path)
		if status != want {
			t.Errorf("%s answers %d", path, status)
		}
		if strings.Contains(body, "harbour-authority") && !strings.Contains(path, "harbour-authority") {
			t.Errorf("%s names another organisation", path)
		}
	}
	_, body := v.get(t, "/console/people")
	if !strings.Contains(body, "auditor") && !strings.Contains(body, "administrator") || !strings.Contains(body, "policy") {
		t.Errorf("the denial does not say which role would do: %s", body)
	}
	if _, body := v.get(t, "/console/"); strings.Contains(body, `href="/console/people"`) || strings.Contains(body, `href="/console/audit"`) || !strings.Contains(body, `href="/console/requests"`) {
		t.Error("the menu offers what the member may not open")
	}
}

func TestAWrongPasswordTooOftenSaysHowLongToWait(t *testing.T) {
	// A node of its own: what is tried here counts against the address of the
	// other tests too.
	w := &world{keys: map[string]string{}}
	t.Cleanup(w.stop)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.offset.Store(0)
	member(t, w, "default", "locked@example.org", "Lola Locked", "viewer")
	v := &visitor{w: w}
	for range 30 {
		status, header, body := v.do(t, http.MethodPost, "/console/sign-in", url.Values{"email": {"locked@example.org"}, "password": {"not the right one"}}.Encode())
		if strings.Contains(body, "not the right one") {
			t.Fatal("the password is in the page")
		}
		if status == http.StatusTooManyRequests {
			if header.Get("Retry-After") == "" || !strings.Contains(body, "Try again in") {
				t.Errorf("it does not say how long to wait: %s", body)
			}
			return
		}
		if status != http.StatusUnauthorized {
			t.Fatalf("a wrong password answers %d: %s", status, body)
		}
	}
	t.Error("thirty wrong passwords lock nothing")
}
