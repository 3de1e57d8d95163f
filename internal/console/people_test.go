package console_test

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/pquerna/otp/totp"
)

const password = "four lamps under a quiet harbour"

// invite makes an invitation through the console and returns its link.
func invite(t *testing.T, w *world, where, email, name string, roles ...string) string {
	t.Helper()
	form := url.Values{"email": {email}, "name": {name}, "roles": roles}
	status, _, body := w.visitor(t).do(t, http.MethodPost, "/console/people/invite?organisation="+where, form.Encode())
	link := regexp.MustCompile(`https://[^"]+/invitation#[^"]+`).FindString(body)
	if status != http.StatusOK || link == "" {
		t.Fatalf("inviting answers %d: %s", status, body)
	}
	return link
}

// fill types into fields of the page, as a browser's own form filling does.
func fill(t *testing.T, ctx context.Context, fields map[string]string) {
	t.Helper()
	for id, text := range fields {
		run(t, ctx, chromedp.SetValue(chromedp.CSS("#"+id), text))
	}
}

// at waits for a page.
func at(t *testing.T, ctx context.Context, path, heading string) {
	t.Helper()
	until(t, ctx, `document.readyState === 'complete' && location.pathname === '`+path+`' && document.querySelector('h1').textContent === '`+heading+`'`)
}

// code is what the authenticator app shows, ahead by some of its 30 seconds.
func (w *world) code(t *testing.T, secret string, steps int) string {
	t.Helper()
	c, err := totp.GenerateCode(strings.ReplaceAll(secret, " ", ""), time.Now().Add(time.Duration(w.offset.Load())).Add(time.Duration(steps)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// accept follows an invitation and chooses a password.
func accept(t *testing.T, ctx context.Context, link, heading string) {
	t.Helper()
	run(t, ctx, chromedp.Navigate(link))
	until(t, ctx, `document.readyState === 'complete' && document.querySelector('h1').textContent === '`+heading+`'`)
	if href := eval[string](t, ctx, `location.href + document.referrer`); strings.Contains(href, "#") || strings.Contains(href, "fdi_") {
		t.Fatalf("the token is still in the address: %s", href)
	}
	fill(t, ctx, map[string]string{"password": password, "again": password})
	click(t, ctx, ".stackform .primary")
	at(t, ctx, "/console/account/second-factor", "Add a second factor")
}

// enrolCode sets up an authenticator app and returns its secret and the
// recovery codes.
func enrolCode(t *testing.T, ctx context.Context, w *world) (secret string, codes []string) {
	t.Helper()
	run(t, ctx, chromedp.Navigate(w.base+"/console/account/authenticator"))
	secret = eval[string](t, ctx, `document.querySelector('.secret').textContent`)
	fill(t, ctx, map[string]string{"code": "000000"})
	click(t, ctx, ".stackform .primary")
	if again := eval[string](t, ctx, `document.querySelector('.secret').textContent`); again != secret || !eval[bool](t, ctx, `!!document.querySelector('#code-wrong')`) {
		t.Fatal("a wrong code shows another picture, or no reason")
	}
	fill(t, ctx, map[string]string{"code": w.code(t, secret, 0)})
	click(t, ctx, ".stackform .primary")
	until(t, ctx, `document.querySelector('h1').textContent === 'Your recovery codes'`)
	codes = eval[[]string](t, ctx, `[...document.querySelectorAll('.codes li')].map(e => e.textContent)`)
	return secret, codes
}

// authenticator puts a security key into a tab's browser that always says yes.
func authenticator(t *testing.T, ctx context.Context) {
	t.Helper()
	if _, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: "ctap2", Transport: "internal", HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true}}); err != nil {
		t.Fatal(err)
	}
}

func signOut(t *testing.T, ctx context.Context) {
	t.Helper()
	click(t, ctx, `form[action="/console/sign-out"] button`)
	at(t, ctx, "/console/sign-in", "Sign in")
}

// signInWith shows the password, and then the code.
func signInWith(t *testing.T, ctx context.Context, email, code string) {
	t.Helper()
	fill(t, ctx, map[string]string{"email": email, "password": password})
	click(t, ctx, ".stackform .primary")
	at(t, ctx, "/console/sign-in/second-factor", "Show your second factor")
	if code != "" {
		fill(t, ctx, map[string]string{"code": code})
		click(t, ctx, ".stackform .primary")
	}
}

func clean(t *testing.T, ctx context.Context, what string) {
	t.Helper()
	theme(t, ctx, "light")
	if found := violations(t, ctx); found != "" {
		t.Errorf("%s:\n%s", what, found)
	}
	theme(t, ctx, "dark")
	if found := unreadable(t, ctx); found != "" {
		t.Errorf("%s in dark:\n%s", what, found)
	}
	if found := eval[int](t, ctx, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); found > 0 {
		t.Errorf("%s is %d too wide", what, found)
	}
	theme(t, ctx, "light")
	if dir := os.Getenv("FOUNDRY_SHOTS"); dir != "" {
		body, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "flow-"+strings.ReplaceAll(what, " ", "-")+".png"), body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheFirstAdministratorSetsEverythingUp(t *testing.T) {
	w := node(t)
	ctx := tab(t, w)
	run(t, ctx, chromedp.EmulateViewport(1280, 900))
	const email = "ada@example.org"
	var first struct{ URL string }
	if err := w.admin(http.MethodPost, "/people/bootstrap", map[string]any{"email": email, "name": "Ada Lovelace"}, &first); err != nil {
		t.Fatal(err)
	}
	accept(t, ctx, first.URL, "Set up Foundry")
	clean(t, ctx, "second factor")

	// Nothing opens before the second factor is set up.
	for _, path := range []string{"/console/", "/console/people", "/console/account", "/console/audit"} {
		run(t, ctx, chromedp.Navigate(w.base+path))
		at(t, ctx, "/console/account/second-factor", "Add a second factor")
	}
	run(t, ctx, chromedp.Navigate(w.base+"/console/account/authenticator"))
	clean(t, ctx, "authenticator app")
	secret, codes := enrolCode(t, ctx, w)
	if len(codes) < 8 {
		t.Fatalf("there are %d recovery codes", len(codes))
	}
	clean(t, ctx, "recovery codes")
	click(t, ctx, "a.primary")
	at(t, ctx, "/console/", "Overview")
	if menu := eval[string](t, ctx, `document.querySelector('.side').innerText`); !strings.Contains(menu, "People and roles") || !strings.Contains(menu, "the platform") || strings.Contains(menu, "Playground") {
		t.Errorf("the menu of an administrator: %s", menu)
	}
	signOut(t, ctx)
	clean(t, ctx, "sign in")

	// A wrong password and an unknown address answer the same.
	var answers []string
	for _, who := range []string{email, "nobody@example.org"} {
		fill(t, ctx, map[string]string{"email": who, "password": "not this one at all"})
		click(t, ctx, ".stackform .primary")
		answers = append(answers, eval[string](t, ctx, `document.querySelector('.note').innerText`))
	}
	if answers[0] != answers[1] || answers[0] == "" {
		t.Errorf("the answers differ: %q", answers)
	}
	clean(t, ctx, "a failed sign-in")
	signInWith(t, ctx, email, "")
	clean(t, ctx, "the second step")
	fill(t, ctx, map[string]string{"code": w.code(t, secret, 1)})
	click(t, ctx, ".stackform .primary")
	at(t, ctx, "/console/", "Overview")

	passkeys(t, ctx, w)
}

// passkeys adds one, signs in with it alone, and shows it again for an
// administrative act.
func passkeys(t *testing.T, ctx context.Context, w *world) {
	t.Helper()
	authenticator(t, ctx)
	run(t, ctx, chromedp.Navigate(w.base+"/console/account/second-factor"))
	until(t, ctx, `!document.querySelector('[data-passkey]').hidden`)
	clean(t, ctx, "adding a passkey")
	fill(t, ctx, map[string]string{"name": "Work laptop"})
	click(t, ctx, "[data-passkey] button")
	at(t, ctx, "/console/account", "Your account")
	if !eval[bool](t, ctx, `document.body.innerText.includes('Work laptop')`) {
		t.Error("the passkey is not listed")
	}
	clean(t, ctx, "account")
	signOut(t, ctx)
	click(t, ctx, "[data-passkey] button")
	at(t, ctx, "/console/", "Overview")

	// A quarter of an hour later an administrative act asks again.
	w.offset.Store(int64(16 * time.Minute))
	defer w.offset.Store(0)
	run(t, ctx, chromedp.Navigate(w.base+"/console/people/invite?organisation=platform"))
	at(t, ctx, "/console/step-up", "Show your second factor")
	clean(t, ctx, "step-up")
	w.offset.Store(0)
	click(t, ctx, "[data-passkey] button")
	at(t, ctx, "/console/people/invite", "Invite a person")

	// A form that was sent waits, and goes on.
	fill(t, ctx, map[string]string{"email": "grace@example.org", "name": "Grace Hopper"})
	run(t, ctx, chromedp.Click(chromedp.CSS("#role-platform-operator")))
	w.offset.Store(int64(16 * time.Minute))
	click(t, ctx, ".stackform .primary")
	until(t, ctx, `document.querySelector('h1').textContent === 'Show your second factor'`)
	w.offset.Store(0)
	click(t, ctx, "[data-passkey] button")
	until(t, ctx, `document.querySelector('h1').textContent === 'Go on'`)
	click(t, ctx, "button.primary")
	at(t, ctx, "/console/people/invite", "People and roles")
	if !eval[bool](t, ctx, `document.body.innerText.includes('grace@example.org') && document.querySelector('#link').value.includes('/invitation#')`) {
		t.Error("the invitation that waited was not made")
	}
	run(t, ctx, chromedp.Navigate(w.base+"/console/audit?organisation=platform&act=session."))
	if !eval[bool](t, ctx, `document.body.innerText.includes('session.stepup')`) {
		t.Errorf("the step-up is not in the audit log: %s", eval[string](t, ctx, `document.querySelector('main').innerText`))
	}
}

// A browser that runs no script accepts an invitation by pasting its link.
func TestAnInvitationIsAcceptedWithoutScript(t *testing.T) {
	w := node(t)
	link := invite(t, w, "harbour-authority", "plain@example.org", "Paula Plain", "viewer")
	ctx := tab(t, w)
	if err := withoutScript(ctx); err != nil {
		t.Fatal(err)
	}
	run(t, ctx, chromedp.Navigate(w.base+"/invitation"), chromedp.WaitVisible(chromedp.CSS("#token")), chromedp.SendKeys(chromedp.CSS("#token"), link),
		chromedp.Click(chromedp.CSS("button.primary")), chromedp.WaitVisible(chromedp.CSS("#password")),
		chromedp.SendKeys(chromedp.CSS("#password"), password), chromedp.SendKeys(chromedp.CSS("#again"), password),
		chromedp.Click(chromedp.CSS("button.primary")), chromedp.WaitVisible(chromedp.CSS(".facts")))
	run(t, ctx, chromedp.Click(chromedp.CSS(`.me a`)), chromedp.WaitVisible(chromedp.CSS("#factors")))
}

// Signing in with password and code needs no mouse.
func TestSigningInByKeyboardAlone(t *testing.T) {
	// A node of its own: sign-ins are counted by address, and every test here
	// has the same one.
	w := &world{keys: map[string]string{}}
	t.Cleanup(w.stop)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.offset.Store(0)
	ctx := tab(t, w)
	accept(t, ctx, invite(t, w, "default", "keys@example.org", "Kim Keys", "operator"), "Join default")
	secret, _ := enrolCode(t, ctx, w)
	click(t, ctx, "a.primary")
	signOut(t, ctx)
	press := func(keys string) { t.Helper(); run(t, ctx, chromedp.KeyEvent(keys)) }
	until(t, ctx, `document.activeElement.id === 'email'`)
	press("keys@example.org")
	press(kb.Tab)
	press(password)
	press(kb.Enter)
	at(t, ctx, "/console/sign-in/second-factor", "Show your second factor")
	until(t, ctx, `document.activeElement.id === 'code'`)
	press(w.code(t, secret, 1))
	press(kb.Enter)
	at(t, ctx, "/console/", "Overview")
	if !eval[bool](t, ctx, `document.body.innerText.includes('You act for default')`) {
		t.Error("it does not say whom the person acts for")
	}
}
