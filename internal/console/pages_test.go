package console_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func TestEveryPageIsAccessibleInLightAndDark(t *testing.T) {
	w := node(t)
	ctx := tab(t, w)
	run(t, ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(w.link(t)))
	if found := violations(t, ctx); found != "" {
		t.Errorf("sign-in:\n%s", found)
	}
	signIn(t, ctx, w)
	for _, p := range pages(w) {
		run(t, ctx, chromedp.Navigate(w.base+p.path))
		theme(t, ctx, "light")
		if found := violations(t, ctx); found != "" {
			t.Errorf("%s in light:\n%s", p.path, found)
		}
		theme(t, ctx, "dark")
		if found := unreadable(t, ctx); found != "" {
			t.Errorf("%s in dark:\n%s", p.path, found)
		}
	}
}

func TestEveryPageFitsAPhone(t *testing.T) {
	w := node(t)
	ctx := tab(t, w)
	signIn(t, ctx, w)
	run(t, ctx, chromedp.EmulateViewport(360, 740))
	for _, p := range pages(w) {
		run(t, ctx, chromedp.Navigate(w.base+p.path))
		if width := eval[int](t, ctx, `document.documentElement.scrollWidth`); width > 360 {
			t.Errorf("%s is %d wide: %s", p.path, width, eval[string](t, ctx, `[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 361 && !e.closest('.scroll')).slice(0, 4).map(e => e.outerHTML.slice(0, 120)).join('\n')`))
		}
	}
	// The menu opens, is used and closes without a script of ours.
	run(t, ctx, chromedp.Click(chromedp.CSS(".menu")))
	until(t, ctx, `document.querySelector('#menu').matches(':popover-open')`)
	if found := violations(t, ctx); found != "" {
		t.Errorf("the menu:\n%s", found)
	}
	run(t, ctx, chromedp.KeyEvent(kb.Escape))
	until(t, ctx, `!document.querySelector('#menu').matches(':popover-open')`)
}

func TestInjectedMarkupIsInert(t *testing.T) {
	w := node(t)
	ctx := tab(t, w)
	signIn(t, ctx, w)
	run(t, ctx, chromedp.Navigate(w.base+"/console/providers"))
	until(t, ctx, `typeof htmx === 'object'`)
	// What a hole would inject: a script, a handler, and an element that asks
	// htmx to act, none with the page's nonce. The document's own parser is the
	// one that Trusted Types guard, so nodes are made one by one.
	got := eval[string](t, ctx, `(async () => {
		const out = [];
		const script = document.createElement('script');
		try { script.textContent = 'window.stolen = 1'; document.body.append(script); } catch (e) { out.push('script refused'); }
		try { document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.stolen = 2">'); } catch (e) { out.push('markup refused'); }
		try { setTimeout('window.stolen = 3', 0); } catch (e) { out.push('text as code refused'); }
		const button = document.createElement('button');
		button.setAttribute('hx-get', '/console/audit');
		button.setAttribute('hx-target', 'main');
		document.querySelector('main').append(button);
		htmx.process(button);
		button.click();
		const on = document.createElement('button');
		try { on.setAttribute('onclick', 'window.stolen = 4'); } catch (e) { out.push('handler refused'); }
		document.body.append(on);
		on.click();
		out.push(button.hasAttribute('hx-get') ? 'htmx acts' : 'htmx refused');
		await new Promise(r => setTimeout(r, 300));
		out.push(window.stolen ? 'stolen ' + window.stolen : 'nothing ran');
		out.push(document.querySelector('h1').textContent);
		return out.join(', ');
	})()`)
	if want := "script refused, markup refused, text as code refused, handler refused, htmx refused, nothing ran, Providers and models"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// The same element with the nonce does act: the gate, not an accident, stopped it.
	_ = eval[bool](t, ctx, `(() => { const b = document.createElement('a'); b.id = 'nonced'; b.setAttribute('hx-get', '/console/providers'); b.setAttribute('hx-swap', 'none');
		b.setAttribute('hx-nonce', document.querySelector('script[nonce]').nonce); document.querySelector('main').append(b); htmx.process(b); return b.hasAttribute('hx-get') })()`)
	until(t, ctx, `document.querySelector('#nonced').hasAttribute('hx-get')`)
}

// TestWhatAHoleInATemplateWouldPrintIsInert changes the page on its way, as
// if a template had printed what somebody sent.
func TestWhatAHoleInATemplateWouldPrintIsInert(t *testing.T) {
	w := node(t)
	planted := `<script>window.stolen = 1</script><script src="/console/static/x/y.js"></script><img src="data:," onerror="window.stolen = 2">` +
		`<p id="planted" hx-get="/console/audit" hx-trigger="load" hx-target="main">planted</p><p id="guess" hx-get="/console/audit" hx-trigger="load" hx-target="main" hx-nonce="guessed">planted</p></main>`
	target, err := url.Parse(w.base)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Transport: w.client.Transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, ModifyResponse: func(r *http.Response) error {
		body, err := io.ReadAll(r.Body)
		if err != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
			r.Body = io.NopCloser(bytes.NewReader(body))
			return err
		}
		body = bytes.Replace(body, []byte("</main>"), []byte(planted), 1)
		r.Header.Del("Content-Length")
		r.ContentLength, r.Body = int64(len(body)), io.NopCloser(bytes.NewReader(body))
		return nil
	}}
	server := httptest.NewTLSServer(proxy)
	defer server.Close()
	ctx := tab(t, w)
	signIn(t, ctx, w)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	run(t, ctx, chromedp.Navigate("https://localhost:"+port+"/console/explain")) // cookies do not know ports
	until(t, ctx, `typeof htmx === 'object' && !document.querySelector('#planted').hasAttribute('hx-get') && !document.querySelector('#guess').hasAttribute('hx-get')`)
	if got := eval[string](t, ctx, `new Promise(done => setTimeout(() => done((window.stolen || 'nothing ran') + ', ' + document.querySelector('h1').textContent), 300))`); got != "nothing ran, Where may it go?" {
		t.Errorf("got %q", got)
	}
}

func TestNamesFromOutsideAreText(t *testing.T) {
	w := node(t)
	v := w.visitor(t)
	evil := `<img src=x onerror="window.stolen=1"><script>window.stolen=2</script>'"`
	if status, _, _ := v.do(t, "POST", "/console/organisations/harbour-authority/keys", url.Values{"name": {evil}}.Encode()); status != 200 {
		t.Fatalf("making the key answers %d", status)
	}
	ctx := tab(t, w)
	signIn(t, ctx, w)
	for _, path := range []string{"/console/organisations/harbour-authority", "/console/explain?organisation=default&model=" + url.QueryEscape(evil),
		"/console/requests?model=" + url.QueryEscape(evil) + "&key=" + url.QueryEscape(evil), "/console/playground?model=" + url.QueryEscape(evil), "/console/requests/" + url.PathEscape(evil)} {
		run(t, ctx, chromedp.Navigate(w.base+path))
		if eval[bool](t, ctx, `!!window.stolen || document.querySelectorAll('img, body script').length > 0`) {
			t.Errorf("%s runs what a name says", path)
		}
	}
	run(t, ctx, chromedp.Navigate(w.base+"/console/organisations/harbour-authority"))
	until(t, ctx, `document.body.innerText.includes('<img src=x onerror=')`)
}

func TestTheConsoleIsUsedByKeyboardAlone(t *testing.T) {
	w := node(t)
	ctx := tab(t, w)
	press := func(keys string) { t.Helper(); run(t, ctx, chromedp.KeyEvent(keys)) }
	focused := func() string {
		return eval[string](t, ctx, `(() => { const e = document.activeElement; return (e.getAttribute('aria-label') || e.innerText || e.id || e.tagName).trim() })()`)
	}
	tabTo := func(what string) {
		t.Helper()
		var seen []string
		for range 80 {
			press(kb.Tab)
			at := focused()
			if at == what {
				if eval[string](t, ctx, `getComputedStyle(document.activeElement).outlineStyle`) == "none" {
					t.Errorf("%s has focus and does not show it", what)
				}
				return
			}
			seen = append(seen, at)
		}
		t.Fatalf("tabbing does not reach %q: %q", what, seen)
	}
	run(t, ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(w.link(t)))
	if focused() != "Sign in" {
		t.Fatalf("the link's page puts the focus on %q", focused())
	}
	press(kb.Enter)
	until(t, ctx, `location.pathname === '/console/' && document.readyState === 'complete'`)
	press(kb.Tab)
	if focused() != "Skip to the content" {
		t.Fatalf("the first stop is %q", focused())
	}
	press(kb.Enter)
	until(t, ctx, `document.activeElement.id === 'main'`)
	run(t, ctx, chromedp.Navigate(w.base+"/console/"))
	tabTo("Organisations and keys")
	press(kb.Enter)
	until(t, ctx, `location.pathname === '/console/organisations' && document.readyState === 'complete'`)
	tabTo("name")
	press("typed-by-keyboard")
	press(kb.Enter)
	until(t, ctx, `location.pathname === '/console/organisations/typed-by-keyboard' && document.readyState === 'complete'`)
	tabTo("Requests")
	press(kb.Enter)
	until(t, ctx, `location.pathname === '/console/requests' && document.readyState === 'complete'`)
	tabTo("Requests, newest first") // a table that scrolls can be reached and scrolled
	press(kb.Tab)
	press(kb.Enter)
	until(t, ctx, `location.pathname.startsWith('/console/requests/req_') && document.readyState === 'complete'`)
}

func TestThePlaygroundStreams(t *testing.T) {
	w := node(t)
	ctx := tab(t, w)
	signIn(t, ctx, w)
	run(t, ctx, chromedp.Navigate(w.base+"/console/playground?organisation=st-mary-hospital&model=assistant"))
	// Count how often the answer grows: streaming is more than one.
	_ = eval[bool](t, ctx, `(() => { window.grew = 0; new MutationObserver(() => { window.grew++ }).observe(document.querySelector('#answer'), {childList: true}); return true })()`)
	run(t, ctx, chromedp.Click(chromedp.CSS("#send")))
	until(t, ctx, `document.querySelector('#play-status').textContent === 'Done.'`)
	if grew := eval[int](t, ctx, `window.grew`); grew < 3 {
		t.Errorf("the answer grew %d times", grew)
	}
	if text := eval[string](t, ctx, `document.querySelector('#answer').textContent`); !strings.Contains(strings.ToLower(text), "simulat") {
		t.Errorf("the answer is %q", text)
	}
	for name, want := range map[string]string{"route": "helsinki", "jurisdiction": "FI", "first": "s", "tokens": " out", "request": "req_"} {
		if got := eval[string](t, ctx, `document.querySelector('[data-fact="`+name+`"]').textContent`); !strings.Contains(got, want) {
			t.Errorf("%s says %q", name, got)
		}
	}
	if found := violations(t, ctx); found != "" {
		t.Errorf("after an answer:\n%s", found)
	}
	click(t, ctx, `[data-fact="request"] a`)
	until(t, ctx, `document.body.innerText.includes('It was answered by the fleet’s own model at helsinki')`)
	if !eval[bool](t, ctx, `document.body.innerText.includes('playground-')`) {
		t.Error("the request does not name the session's key")
	}
}

func TestThePlaygroundStopsAndSaysWhatIsWrong(t *testing.T) {
	w := node(t)
	ctx := tab(t, w)
	signIn(t, ctx, w)
	run(t, ctx, chromedp.Navigate(w.base+"/console/playground?organisation=st-mary-hospital&model=assistant"))
	say := func(text string) {
		t.Helper()
		_ = eval[bool](t, ctx, `(() => { document.querySelector('#prompt').value = `+"`"+text+"`"+`; return true })()`)
		run(t, ctx, chromedp.Click(chromedp.CSS("#send")))
	}
	say("simulate stall chunk=3")
	until(t, ctx, `!document.querySelector('#stop').disabled && document.querySelector('[data-fact="request"]').textContent.startsWith('req_')`)
	run(t, ctx, chromedp.Click(chromedp.CSS("#stop")))
	until(t, ctx, `document.querySelector('#play-status').textContent === 'Stopped.' && !document.querySelector('#send').disabled`)
	_ = eval[bool](t, ctx, `(() => { document.querySelector('#organisation').value = 'harbour-authority'; document.querySelector('#model').value = 'expert'; return true })()`)
	say("May I?")
	until(t, ctx, `document.querySelector('#play-status').textContent === 'It failed.' && document.querySelector('#answer').textContent.includes('third-party-consent')`)
}

func TestThePageFollowsWhatHappens(t *testing.T) {
	w := node(t)
	ctx := tab(t, w)
	var complaints []string
	if err := chromedp.Listen(ctx, func(ev any) {
		if e, ok := ev.(*log.EventEntryAdded); ok && e.Entry.Level == log.EntryLevelError {
			complaints = append(complaints, e.Entry.Text)
		}
	}); err != nil {
		t.Fatal(err)
	}
	signIn(t, ctx, w)
	run(t, ctx, chromedp.Navigate(w.base+"/console/requests"))
	follows := func(id string) { until(t, ctx, `!!document.querySelector('a[href$="`+id+`"]')`) }
	ask := func() string { return w.ask("st-mary-hospital", "assistant", "internal", "Show me") }
	_ = eval[bool](t, ctx, `(() => { window.same = true; return true })()`)
	until(t, ctx, `typeof htmx === 'object'`)
	follows(ask())
	follows(ask()) // the region that replaced the first one follows as well
	if got := eval[string](t, ctx, `['h1', '.filters', '#region'].map(s => document.querySelectorAll(s).length).join()`); got != "1,1,1" {
		t.Errorf("what stands around the region came in with it: %s", got)
	}
	// Where a person is stays where it is, while rows come in above.
	_ = eval[bool](t, ctx, `(() => { document.querySelector('.actions button').focus(); return true })()`)
	follows(ask())
	if !eval[bool](t, ctx, `window.same && document.activeElement.textContent === 'Filter'`) {
		t.Error("the page was loaded again, or the focus was lost")
	}
	run(t, ctx, chromedp.Click(chromedp.CSS("[data-pause]")))
	id := ask()
	if err := w.stored(id); err != nil {
		t.Fatal(err)
	}
	shown := eval[bool](t, ctx, `new Promise(done => setTimeout(() => done(!!document.querySelector('a[href$="`+id+`"]')), 2500))`)
	if shown {
		t.Error("a paused page goes on changing")
	}
	run(t, ctx, chromedp.Click(chromedp.CSS("[data-pause]")))
	follows(id)
	if len(complaints) > 0 {
		t.Errorf("the browser complains: %q", complaints)
	}
}

func TestTheConsoleWorksWithoutScript(t *testing.T) {
	w := node(t)
	ctx := tab(t, w)
	if err := withoutScript(ctx); err != nil {
		t.Fatal(err)
	}
	run(t, ctx, chromedp.Navigate(w.link(t)), chromedp.Click(chromedp.CSS("button.primary")), chromedp.WaitVisible(chromedp.CSS(".facts")))
	run(t, ctx, chromedp.Click(chromedp.CSS(`.side a[href="/console/requests"]`)), chromedp.WaitVisible(chromedp.CSS(".filters")))
	run(t, ctx, chromedp.Click(chromedp.CSS(`.segments button[value="dark"]`)), chromedp.WaitVisible(chromedp.CSS(`html[data-theme="dark"] .filters`)))
	run(t, ctx, chromedp.Click(chromedp.CSS(`tbody a`)), chromedp.WaitVisible(chromedp.CSS(".candidate")))
	at, err := chromedp.Run(ctx, chromedp.Location())
	if err != nil || !strings.Contains(at, "/console/requests/req_") {
		t.Errorf("the row led to %s: %v", at, err)
	}
}
