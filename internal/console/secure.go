package console

import (
	"crypto/rand"
	"net/url"
	"strings"
)

func newNonce() string { return rand.Text() }

// contentPolicy is the Content-Security-Policy of a page. Only the script that
// carries the page's nonce runs, nothing inline does, and only htmx's Trusted
// Types policy may write HTML: an element that htmx is to process must carry
// the nonce too (hx-nonce), so that injected markup is inert.
func contentPolicy(nonce string) string {
	return "default-src 'none'; script-src 'nonce-" + nonce + "'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
		"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types htmx"
}

// secure sets the headers that every answer of the console carries.
func (v *visit) secure() {
	h := v.w.Header()
	h.Set("Content-Security-Policy", contentPolicy(v.nonce))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "HX-Request")
}

// localPath returns a path of the console to go back to, or the overview:
// never an address that leads elsewhere, however it is written. What a browser
// could read differently from this server (a backslash, an encoded slash, a
// control character) is not gone back to.
func localPath(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Opaque != "" || u.Host != "" || u.User != nil || u.RawPath != "" ||
		!strings.HasPrefix(u.Path, toOverview) || strings.Contains(u.Path, "//") || strings.Contains(u.Path+"/", "/../") || strings.Contains(u.Path+"/", "/./") ||
		strings.ContainsFunc(to, func(r rune) bool { return r == '\\' || r < ' ' || r == 0x7f }) ||
		strings.ContainsFunc(u.Path, func(r rune) bool { return r == '\\' || r < ' ' || r == 0x7f }) {
		return toOverview
	}
	return to
}
