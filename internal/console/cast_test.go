package console_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/missionopsai/foundry/internal/notify"
)

// staffed is a second node with people of every role, shared by the tests of
// what people do together.
var staffed struct {
	once sync.Once
	w    *world
	err  error
}

// office returns it, started on first use.
func office(t *testing.T) *world {
	t.Helper()
	staffed.once.Do(func() {
		w := &world{keys: map[string]string{}, people: map[string]*colleague{}}
		staffed.w = w
		if w.mailbox, staffed.err = openMailbox(); staffed.err != nil {
			return
		}
		w.closers = append(w.closers, func() { _ = w.mailbox.listener.Close() })
		w.mail = notify.Config{From: "Foundry <foundry@example.eu>", Relays: []notify.Relay{{Host: "127.0.0.1", Port: w.mailbox.port(), TLS: notify.PlainText}}}
		if staffed.err = w.start(); staffed.err != nil {
			return
		}
		w.offset.Store(0)
		for _, name := range []string{"st-mary-hospital", "harbour-authority"} {
			var key struct{ Token string }
			if staffed.err = w.admin(http.MethodPost, "/organisations", map[string]any{"name": name}, nil); staffed.err != nil {
				return
			}
			if staffed.err = w.admin(http.MethodPost, "/keys", map[string]any{"organisation": name, "name": "ward-assistant"}, &key); staffed.err != nil {
				return
			}
			w.keys[name] = key.Token
		}
	})
	if staffed.err != nil {
		t.Fatal(staffed.err)
	}
	return staffed.w
}

// colleague is somebody with an account, as a browser on a network of their
// own: tries to sign in are counted by address.
type colleague struct {
	*visitor
	email, name, id string
	secret          string   // of the authenticator app
	codes           []string // for recovery
}

var networks atomic.Int32

// elsewhere is a client with an address of its own.
func (w *world) elsewhere() *http.Client {
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(networks.Add(1)))}
	transport := w.client.Transport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: transport.TLSClientConfig.RootCAs}
	transport.DialContext = (&net.Dialer{LocalAddr: from}).DialContext
	w.closers = append(w.closers, transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: w.client.CheckRedirect}
}

// hire invites somebody, who accepts and sets up an authenticator app.
func (w *world) hire(t *testing.T, where, email, name string, roles ...string) *colleague {
	t.Helper()
	_, token, _ := strings.Cut(invite(t, w, where, email, name, roles...), "#")
	p := &colleague{visitor: &visitor{w: w, client: w.elsewhere()}, email: email, name: name}
	status, header, body := p.do(t, http.MethodPost, "/invitation/accept", url.Values{"token": {token}, "name": {name}, "password": {password}, "again": {password}}.Encode())
	if status != http.StatusSeeOther {
		t.Fatalf("accepting answers %d: %s", status, body)
	}
	p.cookie = cookieIn(t, header)
	_, body = p.get(t, "/console/account/authenticator")
	hidden := func(field string) string {
		m := regexp.MustCompile(`name="` + field + `" value="([^"]*)"`).FindStringSubmatch(body)
		if m == nil {
			t.Fatalf("there is no %s: %s", field, body)
		}
		return m[1]
	}
	p.secret = hidden("secret")
	confirm := url.Values{"ceremony": {hidden("ceremony")}, "uri": {hidden("uri")}, "secret": {p.secret}}
	for range 5 { // a machine under load may take longer than a page waits
		confirm.Set("code", w.code(t, p.secret, 0))
		if status, header, body = p.do(t, http.MethodPost, "/console/account/authenticator", confirm.Encode()); status != http.StatusGatewayTimeout {
			break
		}
	}
	if status != http.StatusOK {
		t.Fatalf("the code answers %d: %s", status, body)
	}
	p.cookie = cookieIn(t, header)
	for _, m := range regexp.MustCompile(`<li class="id">([^<]+)</li>`).FindAllStringSubmatch(body, -1) {
		p.codes = append(p.codes, m[1])
	}
	p.id = w.personID(t, where, email)
	return p
}

func (w *world) personID(t *testing.T, where, email string) string {
	t.Helper()
	var people []struct{ ID, Email string }
	path := "/people"
	if where != "platform" {
		path += "?organisation=" + where
	}
	w.ask200(t, http.MethodGet, path, nil, &people)
	for _, p := range people {
		if p.Email == email {
			return p.ID
		}
	}
	t.Fatalf("%s has no account in %s", email, where)
	return ""
}

// colleague returns somebody of the cast, hired on first use: security-1 and
// operator-1 of the platform, anything with a slash of an organisation.
func (w *world) colleague(t *testing.T, who string) *colleague {
	t.Helper()
	if p := w.people[who]; p != nil {
		return p
	}
	where, role := "platform", who
	if org, rest, found := strings.Cut(who, "/"); found {
		where, role = org, rest
	}
	role, _, _ = strings.Cut(role, "#")
	// One whose hiring broke off does not stand in the way of the next try.
	email := fmt.Sprintf("%s.%d@example.org", strings.NewReplacer("/", ".", "#", ".").Replace(who), networks.Load())
	w.people[who] = w.hire(t, where, email, "Person "+strings.NewReplacer("/", " ", "#", " ").Replace(who), role)
	return w.people[who]
}

// signIn shows the password and the code, over HTTP.
func (p *colleague) signIn(t *testing.T, password, code string) {
	t.Helper()
	p.cookie = nil
	status, header, body := p.do(t, http.MethodPost, "/console/sign-in", url.Values{"email": {p.email}, "password": {password}}.Encode())
	if status != http.StatusSeeOther {
		t.Fatalf("the password answers %d: %s", status, body)
	}
	step := strings.Split(header.Get("Set-Cookie"), ";")[0]
	if status, header, body = p.do(t, http.MethodPost, "/console/sign-in/second-factor", "code="+code, "Cookie", step); status != http.StatusSeeOther {
		t.Fatalf("the code answers %d: %s", status, body)
	}
	p.cookie = cookieIn(t, header)
}

// tab opens a tab in which the colleague is signed in.
func (p *colleague) tab(t *testing.T) context.Context {
	t.Helper()
	ctx := tab(t, p.w)
	p.into(t, ctx)
	return ctx
}

// into signs a tab in, with the colleague's session.
func (p *colleague) into(t *testing.T, ctx context.Context) {
	t.Helper()
	yes := true
	if _, err := chromedp.Call(ctx, network.SetCookie, network.SetCookieParams{Name: p.cookie.Name, Value: p.cookie.Value, URL: p.w.base + "/", Path: "/", Secure: &yes, HTTPOnly: &yes}); err != nil {
		t.Fatal(err)
	}
	run(t, ctx, chromedp.EmulateViewport(1280, 900))
}

// open opens a page and expects its heading.
func (w *world) open(t *testing.T, ctx context.Context, path, heading string) {
	t.Helper()
	run(t, ctx, chromedp.Navigate(w.base+path))
	until(t, ctx, `document.readyState === 'complete' && document.querySelector('h1').textContent.trim() === `+quoted(heading))
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// says waits until the page's content has some words.
func says(t *testing.T, ctx context.Context, words ...string) {
	t.Helper()
	for _, w := range words {
		until(t, ctx, `document.querySelector('main').innerText.includes(`+quoted(w)+`)`)
	}
}

// saysNot fails if the page's content has some words.
func saysNot(t *testing.T, ctx context.Context, words ...string) {
	t.Helper()
	for _, w := range words {
		if eval[bool](t, ctx, `document.querySelector('main').innerText.includes(`+quoted(w)+`)`) {
			t.Errorf("the page says %q", w)
		}
	}
}

// press presses the one button or link that is called so. What is read out
// counts: the hidden words of a row's buttons too.
func press(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	found := eval[int](t, ctx, `(() => { document.querySelectorAll('[data-pressed]').forEach(e => e.removeAttribute('data-pressed'));
		const all = [...document.querySelectorAll('main button, main a')].filter(e => e.checkVisibility() && e.textContent.trim().replace(/\s+/g, ' ') === `+quoted(name)+`);
		if (all.length === 1) all[0].setAttribute('data-pressed', ''); return all.length })()`)
	if found != 1 {
		t.Fatalf("%d things are called %q: %s", found, name, eval[string](t, ctx, `location.pathname + "\n" + [...document.querySelectorAll('main button, main a')].map(e => e.textContent.trim()).join(' | ')`))
	}
	click(t, ctx, "[data-pressed]")
}

// entry is a line of the audit log.
type entry struct {
	ID, Actor, Act, Target, Outcome string
	Details                         json.RawMessage
}

// entries reads the audit log of an organisation, or of the platform.
func (w *world) entries(t *testing.T, organisation, act string) (out []entry) {
	t.Helper()
	w.ask200(t, http.MethodGet, "/audit?limit=200&organisation="+organisation+"&act="+act, nil, &out)
	return out
}

// recorded expects exactly one entry of an act by somebody on something.
func (w *world) recorded(t *testing.T, organisation, act string, by *colleague, target string) entry {
	t.Helper()
	var found []entry
	for _, e := range w.entries(t, organisation, act) {
		if e.Actor == "person:"+by.id && (target == "" || e.Target == target) && e.Outcome == "done" {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		t.Errorf("%s by %s on %q is in the audit log %d times: %+v", act, by.name, target, len(found), w.entries(t, organisation, act))
		return entry{}
	}
	return found[0]
}

// ask200 asks the local interface, which must answer.
func (w *world) ask200(t *testing.T, method, path string, in, out any) {
	t.Helper()
	if err := w.admin(method, path, in, out); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition outside the browser.
func eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !met(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("this did not come true: %s", what)
		}
	}
}

// mailbox is a mail server on loopback: it refuses who it is told to refuse.
type mailbox struct {
	listener net.Listener
	refuse   atomic.Value // string: refused recipients contain it
	taken    atomic.Int32
}

func openMailbox() (*mailbox, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &mailbox{listener: l}
	m.refuse.Store("")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go m.serve(c)
		}
	}()
	return m, nil
}

func (m *mailbox) port() int { return m.listener.Addr().(*net.TCPAddr).Port }

// serve speaks as much SMTP as a sender needs (RFC 5321).
func (m *mailbox) serve(c net.Conn) {
	defer c.Close()
	lines := bufio.NewScanner(c)
	say := func(text string) { _, _ = fmt.Fprintf(c, "%s\r\n", text) }
	say("220 mailbox")
	for lines.Scan() {
		line := lines.Text()
		refuse := m.refuse.Load().(string)
		switch verb := strings.ToUpper(line[:min(4, len(line))]); {
		case verb == "EHLO":
			say("250 mailbox")
		case verb == "RCPT" && refuse != "" && strings.Contains(line, refuse):
			say("550 5.1.1 nobody of that name is here")
		case verb == "DATA":
			say("354 go on")
			for lines.Scan() && lines.Text() != "." {
			}
			m.taken.Add(1)
			say("250 2.0.0 taken")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 2.1.0 ok")
		}
	}
}
