package console_test

import (
	"context"
	_ "embed"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// axe is axe-core 4.14.1 from npm, under MPL-2.0 (testdata/LICENSE-axe-core.txt).
// It is used by tests only.
//
//go:embed testdata/axe.min.js
var axe string

var chrome struct {
	once   sync.Once
	ctx    context.Context
	cancel func()
	err    error
}

func closeBrowser() {
	if chrome.cancel != nil {
		chrome.cancel()
	}
}

// tab opens a tab in a browser of its own profile, which trusts the node: its
// authority cannot be put into this browser's store without extra tools, and
// that certificates are checked is tested elsewhere.
func tab(t *testing.T, w *world) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("the browser tests take half a minute")
	}
	chrome.once.Do(func() {
		path := ""
		for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
			if path, chrome.err = exec.LookPath(name); chrome.err == nil {
				break
			}
		}
		if chrome.err != nil {
			return
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.IgnoreCertErrors, chromedp.Flag("disable-gpu", true), chromedp.Flag("force-prefers-reduced-motion", true))
		if os.Geteuid() == 0 {
			options = append(options, chromedp.NoSandbox)
		}
		allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, cancel := chromedp.NewContext(allocator)
		chrome.ctx, chrome.cancel = ctx, func() { cancel(); stop() }
		chrome.err = chromedp.Do(ctx, chromedp.Navigate("about:blank"))
	})
	if chrome.err != nil {
		t.Fatalf("no browser: %v (run make setup-test)", chrome.err)
	}
	ctx, cancel := chromedp.NewContext(chrome.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	limited, stop := context.WithTimeout(ctx, 6*time.Minute)
	t.Cleanup(stop)
	return limited
}

func run(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

func eval[T any](t *testing.T, ctx context.Context, js string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s: %v", js, err)
	}
	return v
}

// until waits for a condition in the page, across navigations.
func until(t *testing.T, ctx context.Context, condition string) {
	t.Helper()
	js := `new Promise(done => { const end = Date.now() + 20000; const look = () => { let ok = false; try { ok = !!(` + condition +
		`) } catch {} ; ok || Date.now() > end ? done(ok) : setTimeout(look, 20) }; look() })`
	for end := time.Now().Add(patience); ; {
		met, err := chromedp.Run(ctx, chromedp.Evaluate[bool](js, chromedp.EvalAwaitPromise))
		if err == nil && met {
			return
		}
		// A navigation ends the evaluation with an error: ask the next page.
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			t.Fatalf("this did not come true: %s (%v)\n%s", condition, err, eval[string](t, ctx, `location.href + "\n" + document.body.innerText.slice(0, 2000)`))
		}
	}
}

// click follows a link or sends a form and waits for the page it leads to.
func click(t *testing.T, ctx context.Context, selector string) {
	t.Helper()
	_ = eval[bool](t, ctx, `(() => { window.before = true; return true })()`)
	run(t, ctx, chromedp.Click(chromedp.CSS(selector)))
	until(t, ctx, `!window.before && document.readyState === 'complete'`)
}

// signIn signs a tab in the way a person does.
func signIn(t *testing.T, ctx context.Context, w *world) {
	t.Helper()
	run(t, ctx, chromedp.Navigate(w.link(t)))
	click(t, ctx, "button.primary")
	if at := eval[string](t, ctx, `location.pathname`); at != "/console/" {
		t.Fatalf("signing in led to %s", at)
	}
}

// theme chooses colours the way the operating system does.
func theme(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}}); err != nil {
		t.Fatal(err)
	}
}

// violations runs axe-core and describes what it finds.
func violations(t *testing.T, ctx context.Context) string {
	t.Helper()
	return audited(t, ctx, `['wcag2a','wcag2aa','wcag21a','wcag21aa','wcag22aa','best-practice']`)
}

// unreadable runs the rules of axe-core that colours decide.
func unreadable(t *testing.T, ctx context.Context) string {
	t.Helper()
	return audited(t, ctx, `{type: 'rule', values: ['color-contrast', 'link-in-text-block']}`)
}

func audited(t *testing.T, ctx context.Context, rules string) string {
	t.Helper()
	if !eval[bool](t, ctx, `'axe' in window`) {
		_ = eval[bool](t, ctx, axe+"\n;true")
	}
	return strings.TrimSpace(eval[string](t, ctx, `axe.run(document, {runOnly: `+rules+`, resultTypes: ['violations']})
		.then(r => r.violations.map(v => v.id + ': ' + v.help + '\n' + v.nodes.map(n => '   ' + n.html.slice(0, 200) + '\n   ' + n.failureSummary.replaceAll('\n', ' ').slice(0, 300)).join('\n')).join('\n'))`))
}

// withoutScript turns JavaScript off in a tab.
func withoutScript(ctx context.Context) error {
	_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	return err
}
