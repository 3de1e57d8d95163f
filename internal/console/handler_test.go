package console_test

import (
	"bufio"
	"context"
	"encoding/csv"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

func TestNothingIsShownBeforeSignIn(t *testing.T) {
	w := node(t)
	stranger := &visitor{w: w}
	for _, p := range pages(w) {
		status, header, body := stranger.do(t, http.MethodGet, p.path, "")
		if status != http.StatusSeeOther || !strings.HasPrefix(header.Get("Location"), "/console/sign-in") || strings.Contains(body, "hospital") && !strings.Contains(p.path, "hospital") {
			t.Errorf("%s answers %d to %q", p.path, status, header.Get("Location"))
		}
	}
	for _, path := range []string{"/console/usage.csv", "/console/transfers.csv", "/console/events"} {
		if status, header, _ := stranger.do(t, http.MethodGet, path, ""); status != http.StatusSeeOther || !strings.HasPrefix(header.Get("Location"), "/console/sign-in?next=") {
			t.Errorf("%s answers %d", path, status)
		}
	}
	for _, path := range []string{"/console/organisations", "/console/organisations/default/keys", "/console/keys/x/revoke", "/console/playground/chat/default", "/console/sign-out"} {
		if status, _, _ := stranger.do(t, http.MethodPost, path, "name=x"); status != http.StatusUnauthorized {
			t.Errorf("POST %s answers %d", path, status)
		}
	}
	if status, header, _ := stranger.do(t, http.MethodGet, "/console/", "", "HX-Request", "true"); status != http.StatusUnauthorized || header.Get("HX-Redirect") != "/console/sign-in" {
		t.Errorf("a page that refreshes itself gets %d", status)
	}
}

func TestOpeningALinkDoesNotUseItUp(t *testing.T) {
	w := node(t)
	link := w.link(t)
	stranger := &visitor{w: w}
	path := strings.TrimPrefix(link, w.base)
	for range 3 {
		if status, body := stranger.get(t, path); status != http.StatusOK || !strings.Contains(body, "<button") {
			t.Fatalf("opening the link answers %d", status)
		}
	}
	status, header, _ := stranger.do(t, http.MethodPost, path, "")
	cookie := header.Get("Set-Cookie")
	if status != http.StatusSeeOther {
		t.Fatalf("signing in answers %d", status)
	}
	for _, want := range []string{"__Host-foundry=", "Path=/", "HttpOnly", "Secure", "SameSite=Lax"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie lacks %s: %s", want, cookie)
		}
	}
	if strings.Contains(cookie, "Domain") {
		t.Errorf("the cookie goes to other hosts: %s", cookie)
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		if status, _, body := stranger.do(t, method, path, ""); status != http.StatusGone || !strings.Contains(body, "foundry console") {
			t.Errorf("%s of a used link answers %d", method, status)
		}
	}
}

func TestSigningOutEndsTheSession(t *testing.T) {
	w := node(t)
	v := w.visitor(t)
	if status, _ := v.get(t, "/console/"); status != http.StatusOK {
		t.Fatalf("the overview answers %d", status)
	}
	chat := `{"model":"assistant","max_tokens":9,"messages":[{"role":"user","content":"Hello"}]}`
	if status, _, body := v.do(t, http.MethodPost, "/console/playground/chat/harbour-authority", chat, "Content-Type", "application/json"); status != http.StatusOK {
		t.Fatalf("the playground answers %d %s", status, body)
	}
	v.do(t, http.MethodPost, "/console/sign-out", "")
	if status, _ := v.get(t, "/console/"); status != http.StatusSeeOther {
		t.Fatalf("after signing out the overview answers %d", status)
	}
	other := w.visitor(t)
	_, audit := other.get(t, "/console/audit")
	selector := v.cookie.Value[:10]
	for _, act := range []string{"session.create", "session.end"} {
		if !strings.Contains(audit, act) || !strings.Contains(audit, "session:"+selector) {
			t.Errorf("%s of %s was not audited", act, selector)
		}
	}
	_, keys := other.get(t, "/console/organisations/harbour-authority")
	made := regexp.MustCompile(`(?s)playground-` + selector + `-.*?</tr>`).FindString(keys)
	if !strings.Contains(made, "Revoked") {
		t.Errorf("the playground's key outlives the session: %s", made)
	}
	if strings.Contains(audit, v.cookie.Value[10:]) {
		t.Error("the audit log holds the session's secret")
	}
}

func TestSigningInAgainEndsTheOldSession(t *testing.T) {
	w := node(t)
	old := w.visitor(t)
	status, _, _ := old.do(t, http.MethodPost, strings.TrimPrefix(w.link(t), w.base), "")
	if status != http.StatusSeeOther {
		t.Fatalf("signing in again answers %d", status)
	}
	if status, _ := old.get(t, "/console/"); status != http.StatusSeeOther {
		t.Errorf("the old session answers %d", status)
	}
}

func TestFormsFromOtherSitesAreRefused(t *testing.T) {
	w := node(t)
	v := w.visitor(t)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "", "Origin", "https://evil.example"}} {
		status, _, _ := v.do(t, http.MethodPost, "/console/organisations", "name=from-elsewhere", header...)
		if status != http.StatusForbidden {
			t.Errorf("%v answers %d", header, status)
		}
	}
	if _, body := v.get(t, "/console/organisations"); strings.Contains(body, "from-elsewhere") {
		t.Error("the form of another site made an organisation")
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	w := node(t)
	v := w.visitor(t)
	nonce := regexp.MustCompile(`script-src 'nonce-([A-Z2-7]{20,})'`)
	seen := map[string]bool{}
	for _, p := range pages(w) {
		status, header, body := v.do(t, http.MethodGet, p.path, "")
		if want := http.StatusOK; status != want && p.name != "missing" {
			t.Errorf("%s answers %d", p.path, status)
		}
		csp := header.Get("Content-Security-Policy")
		found := nonce.FindStringSubmatch(csp)
		if found == nil || seen[found[1]] {
			t.Fatalf("%s has no nonce of its own: %s", p.path, csp)
		}
		seen[found[1]] = true
		for _, part := range []string{"default-src 'none'", "require-trusted-types-for 'script'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(csp, part) {
				t.Errorf("%s: the policy lacks %s", p.path, part)
			}
		}
		if strings.Contains(csp, "unsafe") {
			t.Errorf("%s: %s", p.path, csp)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
			"Cache-Control": "no-store", "X-Frame-Options": "DENY"} {
			if header.Get(name) != want {
				t.Errorf("%s: %s is %q", p.path, name, header.Get(name))
			}
		}
		if regexp.MustCompile(`(?i)<[^>]+\s(on[a-z]+|style)=|<style|javascript:`).MatchString(body) {
			t.Errorf("%s has inline script or style", p.path)
		}
		if strings.Count(body, "<script") != 1 || !strings.Contains(body, "Development mode.") || strings.Count(body, "<h1") != 1 {
			t.Errorf("%s lacks the shell, its banner or its one heading", p.path)
		}
	}
}

func TestARequestIsExplained(t *testing.T) {
	w := node(t)
	v := w.visitor(t)
	_, body := v.get(t, "/console/requests/"+w.failed)
	for _, want := range []string{"st-mary-hospital", "It was answered by the provider mistral, in France (FR).", "Nothing left the European Economic Area.", "It took 2 tries",
		"It answered with status 500.", "Ruled out by 2 rules", "What would allow it:", "May data this sensitive go this far?", "Tries that failed", "the request ended here"} {
		if !strings.Contains(body, want) {
			t.Errorf("the trace does not say %q", want)
		}
	}
	_, body = v.get(t, "/console/requests/"+w.abroad)
	for _, want := range []string{"in the United States (US)", "left the European Economic Area, under a safeguard", "SCC-2026-07"} {
		if !strings.Contains(body, want) {
			t.Errorf("the trace of a transfer does not say %q", want)
		}
	}
	for path, want := range map[string]int{"/console/requests/nonsense": 404, "/console/requests/req_" + strings.Repeat("a", 26): 404} {
		if status, _ := v.get(t, path); status != want {
			t.Errorf("%s answers %d", path, status)
		}
	}
}

func TestRequestsAreFilteredAndPaged(t *testing.T) {
	w := node(t)
	v := w.visitor(t)
	row := regexp.MustCompile(`href="/console/requests/(req_[a-z2-7]+)"`)
	older := regexp.MustCompile(`href="([^"]+)" rel="next"`)
	seen := map[string]bool{}
	path, n := "/console/requests?organisation=st-mary-hospital", 0
	for ; path != "" && n < 20; n++ {
		_, body := v.get(t, path)
		for _, m := range row.FindAllStringSubmatch(body, -1) {
			if seen[m[1]] {
				t.Fatalf("%s is on two pages", m[1])
			}
			seen[m[1]] = true
		}
		path = ""
		if m := older.FindStringSubmatch(body); m != nil {
			path = strings.ReplaceAll(m[1], "&amp;", "&")
			if !strings.Contains(path, "organisation=st-mary-hospital") {
				t.Fatalf("the next page forgets the filter: %s", path)
			}
		}
	}
	if n < 3 || len(seen) < 100 || !seen[w.failed] {
		t.Fatalf("%d pages with %d requests", n, len(seen))
	}
	_, body := v.get(t, "/console/requests?class=public")
	if got := len(row.FindAllString(body, -1)); got == 0 || strings.Contains(body, "<td>confidential</td>") {
		t.Errorf("filtering by class shows %d rows, confidential ones among them", got)
	}
	if _, body := v.get(t, "/console/requests?provider=mistral&model=assistant"); len(row.FindAllString(body, -1)) == 0 || strings.Contains(body, "<td>helsinki</td>") {
		t.Error("filtering by provider does not")
	}
	for path, want := range map[string]int{"/console/requests?organisation=none": 404, "/console/requests?class=secret": 400, "/console/requests?after=x": 400, "/console/requests?state=shed": 200} {
		if status, _ := v.get(t, path); status != want {
			t.Errorf("%s answers %d", path, status)
		}
	}
}

func TestDownloadsAreTables(t *testing.T) {
	w := node(t)
	v := w.visitor(t)
	read := func(path string) [][]string {
		status, header, body := v.do(t, http.MethodGet, path, "")
		if status != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), "text/csv") || !strings.HasPrefix(header.Get("Content-Disposition"), "attachment") {
			t.Fatalf("%s answers %d %v", path, status, header)
		}
		rows, err := csv.NewReader(strings.NewReader(body)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	transfers := read("/console/transfers.csv?organisation=st-mary-hospital")
	if len(transfers) < 40 || transfers[0][9] != "destination" || transfers[1][9] != "US" || !strings.Contains(transfers[1][13], "SCC-2026-07") {
		t.Errorf("the register has %d rows: %v", len(transfers), transfers[:2])
	}
	if rows := read("/console/transfers.csv?organisation=harbour-authority"); len(rows) != 1 {
		t.Errorf("an organisation without transfers has %d", len(rows)-1)
	}
	for _, by := range []string{"day", "hour", "model", "organisation", "jurisdiction", "provider", "key"} {
		if rows := read("/console/usage.csv?span=24h&by=" + by); len(rows) < 2 || rows[0][0] != by {
			t.Errorf("usage by %s has %d rows", by, len(rows))
		}
	}
	if status, _ := v.get(t, "/console/usage?by=colour"); status != 400 {
		t.Errorf("usage by colour answers %d", status)
	}
	for _, q := range []string{"from=2026-13-01", "from=2026-02-02&to=2026-02-01", "from=2000-01-01&to=2026-01-01"} {
		if status, _ := v.get(t, "/console/usage?"+q); status != 400 {
			t.Errorf("usage of %s answers %d", q, status)
		}
	}
}

func TestAnOrganisationItsKeysAndItsBudget(t *testing.T) {
	w := node(t)
	v := w.visitor(t)
	post := func(path string, form url.Values) (int, http.Header, string) {
		return v.do(t, http.MethodPost, path, form.Encode())
	}

	status, _, body := post("/console/organisations", url.Values{"name": {"No Good"}})
	if status != 400 || !strings.Contains(body, `aria-invalid="true"`) || !strings.Contains(body, "is not a valid organisation name") || !strings.Contains(body, `value="No Good"`) {
		t.Errorf("a bad name answers %d", status)
	}
	if status, header, _ := post("/console/organisations", url.Values{"name": {"clinic"}}); status != 303 || header.Get("Location") != "/console/organisations/clinic" {
		t.Fatalf("making an organisation answers %d", status)
	}
	if status, _, body := post("/console/organisations", url.Values{"name": {"clinic"}}); status != 409 || !strings.Contains(body, "already") {
		t.Errorf("a name that is taken answers %d", status)
	}
	_, body = v.get(t, "/console/organisations/clinic")
	if !strings.Contains(body, "Only the fleet&#39;s own models may be used") || !strings.Contains(body, "No budget") {
		t.Error("the page does not tell the policy and the budgets")
	}

	status, header, body := post("/console/organisations/clinic/keys", url.Values{"name": {"reception"}, "class_floor": {"internal"}, "requests_per_minute": {"60"}})
	token := regexp.MustCompile(`fdy_[a-z2-7]{58}`).FindString(body)
	if status != 200 || token == "" || header.Get("Cache-Control") != "no-store" {
		t.Fatalf("making a key answers %d without its token", status)
	}
	_, body = v.get(t, "/console/organisations/clinic")
	if strings.Contains(body, "fdy_") || !strings.Contains(body, "reception") {
		t.Error("the token is shown twice, or the key not at all")
	}
	for field, value := range map[string]string{"requests_per_minute": "many", "tokens_per_minute": "-1", "class_floor": "secret", "expires_at": "2020-01-01"} {
		status, _, body := post("/console/organisations/clinic/keys", url.Values{"name": {"other"}, field: {value}})
		if status != 400 || !strings.Contains(body, `class="err"`) && field != "class_floor" {
			t.Errorf("%s=%s answers %d", field, value, status)
		}
	}
	if status, _, _ := post("/console/organisations/clinic/budgets", url.Values{"limit": {"12.50"}, "period": {"month"}}); status != 303 {
		t.Errorf("setting a budget answers %d", status)
	}
	if status, _, body := post("/console/organisations/clinic/budgets", url.Values{"limit": {"a lot"}, "period": {"month"}}); status != 400 || !strings.Contains(body, "is not an amount") {
		t.Errorf("a bad budget answers %d", status)
	}
	if _, body = v.get(t, "/console/organisations/clinic"); !strings.Contains(strings.ReplaceAll(body, "\u00a0", " "), "0.00 EUR of 12.50 EUR spent") {
		t.Error("the budget is not shown")
	}
	revokeByName(t, w, v, token)
}

func revokeByName(t *testing.T, w *world, v *visitor, token string) {
	t.Helper()
	w.keys["clinic"] = token
	path := "/console/keys/" + token[4:14] + "/revoke"
	if status, body := v.get(t, path); status != 200 || !strings.Contains(body, "reception") {
		t.Fatalf("the page that revokes answers %d", status)
	}
	if status, _, body := v.do(t, http.MethodPost, path, "name=recepcion"); status != 400 || !strings.Contains(body, "not the key") {
		t.Errorf("another name answers %d", status)
	}
	if id := w.ask("clinic", "assistant", "internal", "Hello"); !strings.HasPrefix(id, "req_") {
		t.Fatalf("the key does not work before: %s", id)
	}
	if status, _, _ := v.do(t, http.MethodPost, path, "name=reception"); status != 303 {
		t.Fatalf("revoking answers %d", status)
	}
	req, _ := http.NewRequest(http.MethodGet, w.base+"/v1/models", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a revoked key answers %d", resp.StatusCode)
	}
	if _, body := v.get(t, "/console/organisations/clinic"); !strings.Contains(body, "Revoked") {
		t.Error("the key is not shown as revoked")
	}
	if status, _ := v.get(t, "/console/keys/nosuchkey1/revoke"); status != 404 {
		t.Errorf("a key that is not there answers %d", status)
	}
}

func TestTheExplainerDecidesAsRequestsAreDecided(t *testing.T) {
	w := node(t)
	v := w.visitor(t)
	for _, c := range []struct {
		query  string
		status int
		want   string
	}{
		{"organisation=st-mary-hospital&model=assistant&class=internal", 200, "3 places of 3 may receive"},
		{"organisation=st-mary-hospital&model=assistant&class=confidential", 200, "tried in this order: helsinki, then mistral."},
		{"organisation=harbour-authority&model=expert&class=confidential", 200, "so the request goes nowhere"},
		{"organisation=harbour-authority&model=nothing", 404, "nothing"},
		{"organisation=none&model=assistant", 404, "no such organisation"},
		{"organisation=default&model=assistant&class=x", 400, "is not a data class"},
		{"", 200, "Where may it go?"},
	} {
		if status, body := v.get(t, "/console/explain?"+c.query); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s answers %d without %q", c.query, status, c.want)
		}
	}
}

func TestARefusalShowsItsDecision(t *testing.T) {
	w := node(t)
	v := w.visitor(t)
	_, body := v.get(t, "/console/refusals?organisation=harbour-authority")
	link := regexp.MustCompile(`/console/refusals/[0-9a-f-]{36}/[0-9a-f]{32}`).FindString(body)
	if !strings.Contains(body, "third-party-consent") || link == "" {
		t.Fatal("the refusals are not listed with their decision")
	}
	if status, body := v.get(t, link); status != 200 || !strings.Contains(body, "The organisation has not agreed to providers outside the fleet.") || !strings.Contains(body, "Refused") {
		t.Errorf("the decision answers %d", status)
	}
	for _, path := range []string{"/console/refusals/x/y", link[:len(link)-1] + "g", link[:len(link)-4] + "0000"} {
		if status, _ := v.get(t, path); status != 404 {
			t.Errorf("%s answers %d", path, status)
		}
	}
}

func TestEventsCarryNamesOnly(t *testing.T) {
	w := node(t)
	v := w.visitor(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, w.base+"/console/events", nil)
	req.AddCookie(v.cookie)
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("the stream is %s", got)
	}
	lines := bufio.NewScanner(resp.Body)
	asked := false
	for lines.Scan() {
		switch line := lines.Text(); line {
		case "", "data:", "event: state-changed":
		case "event: hello":
			w.ask("st-mary-hospital", "assistant", "internal", "Tell the console")
			asked = true
		case "event: ledger-changed":
			if !asked {
				continue
			}
			// The stream ends with its session.
			v.do(t, http.MethodPost, "/console/sign-out", "")
			for lines.Scan() {
			}
			if ctx.Err() != nil {
				t.Fatal("the stream went on after signing out")
			}
			return
		default:
			t.Fatalf("the stream says %q", line)
		}
	}
	t.Fatalf("the stream ended without news: %v", lines.Err())
}

func TestThemeIsKeptAndLeadsBack(t *testing.T) {
	v := node(t).visitor(t)
	status, header, _ := v.do(t, http.MethodPost, "/console/theme", "theme=dark&back=/console/usage")
	if status != 303 || header.Get("Location") != "/console/usage" || !strings.Contains(header.Get("Set-Cookie"), "__Host-foundry-theme=dark") {
		t.Fatalf("%d %v", status, header)
	}
	_, _, body := v.do(t, http.MethodGet, "/console/", "", "Cookie", "__Host-foundry="+v.cookie.Value+"; __Host-foundry-theme=dark")
	if !strings.Contains(body, `data-theme="dark"`) {
		t.Error("the theme is not used")
	}
	if _, header, _ = v.do(t, http.MethodPost, "/console/theme", "theme=<x>&back=//evil.example"); header.Get("Location") != "/console/" {
		t.Errorf("it leads to %s", header.Get("Location"))
	}
}

func TestPathsThatAreNothing(t *testing.T) {
	w := node(t)
	v := w.visitor(t)
	if status, body := v.get(t, "/console/nowhere"); status != 404 || !strings.Contains(body, "There is no such page.") {
		t.Errorf("an unknown page answers %d", status)
	}
	if status, body := v.get(t, "/nowhere"); status != 404 || !strings.Contains(body, "path-unknown") {
		t.Errorf("a path outside the console answers %d", status)
	}
	if status, header, _ := v.do(t, http.MethodGet, "/", ""); status != 303 || header.Get("Location") != "/console/" {
		t.Errorf("the root answers %d", status)
	}
	if status, _, _ := v.do(t, http.MethodPost, "/console/organisations", strings.Repeat("a", 2<<20)); status != 400 {
		t.Errorf("a form of two megabytes answers %d", status)
	}
}
