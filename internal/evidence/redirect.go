package evidence

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// Redirect checks that the plain-HTTP address does nothing but send clients to
// HTTPS, whatever they ask (O-10). address empty means that there is none.
func Redirect(address func() (plain, https string)) Collect {
	return func(ctx context.Context, progress func(string)) ([]Finding, error) {
		plain, https := address()
		if plain == "" {
			return []Finding{{Subject: "http", Result: Pass, Reason: "There is no plain-HTTP listener: nothing is served unencrypted.",
				Covered: []string{"the node's own list of listeners"}, NotCovered: []string{"what stands in front of this node"}}}, nil
		}
		f := Finding{Subject: "http " + plain, NotCovered: []string{"what stands in front of this node", "paths other than those named"}}
		client := &http.Client{Timeout: dialTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext}}
		for _, r := range []struct{ method, path string }{{"GET", "/"}, {"GET", "/readyz?probe=1"}, {"POST", "/v1/chat/completions"}} {
			progress(r.method + " " + r.path)
			req, err := http.NewRequestWithContext(ctx, r.method, "http://"+plain+r.path, nil)
			if err != nil {
				return nil, err
			}
			resp, err := client.Do(req)
			if err != nil {
				f.Result, f.Reason, f.Covered = Inconclusive, "It cannot be reached: "+sentence(err), nil
				return []Finding{f}, nil
			}
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
			resp.Body.Close()
			f.Covered = append(f.Covered, r.method+" "+r.path)
			f.Raw = append(f.Raw, fmt.Sprintf("%s %s: %s %s\n", r.method, r.path, resp.Status, resp.Header.Get("Location"))...)
			if why := notRedirected(resp, https, r.path); why != "" {
				return []Finding{f.fail(fmt.Sprintf("%s %s: %s", r.method, r.path, why))}, nil
			}
			if len(body) > 1024 {
				return []Finding{f.fail(fmt.Sprintf("%s %s: it redirects, but also serves %d bytes unencrypted.", r.method, r.path, len(body)))}, nil
			}
		}
		return []Finding{f.pass("Every request was sent to HTTPS with a permanent redirect that keeps the path.")}, nil
	}
}

// notRedirected says what is wrong with an answer; empty: nothing. 301 and 308
// are permanent (RFC 9110 sections 15.4.2 and 15.4.9).
func notRedirected(resp *http.Response, https, path string) string {
	if resp.StatusCode != http.StatusMovedPermanently && resp.StatusCode != http.StatusPermanentRedirect {
		return fmt.Sprintf("it answers %d instead of a permanent redirect.", resp.StatusCode)
	}
	to, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || to.Scheme != "https" || to.Host == "" {
		return fmt.Sprintf("it redirects to %q, which is not HTTPS.", resp.Header.Get("Location"))
	}
	if to.RequestURI() != path {
		return fmt.Sprintf("it redirects to another path, %q.", to.RequestURI())
	}
	if _, port, err := net.SplitHostPort(https); https != "" && err == nil && to.Port() != "" && to.Port() != port {
		return fmt.Sprintf("it redirects to port %s, where HTTPS is not served.", to.Port())
	}
	return ""
}
