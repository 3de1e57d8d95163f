package console

import (
	"bytes"
	"net/http"
	"net/url"

	"github.com/a-h/templ"
	"github.com/missionopsai/foundry/internal/problem"
)

// page is what the shell around a page's body shows.
type page struct {
	v      *visit
	Title  string
	Path   string // of the menu item that the page belongs to
	Crumbs []crumb
	Notice string // said once, after an act
	Status int
	Live   bool // the body refreshes itself
	Bare   bool // without the menu
}

// crumb is one step of the way to a page.
type crumb struct {
	name string
	to   templ.SafeURL
}

func (p page) theme() string {
	if c, err := p.v.r.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return ""
}

func (p page) development() bool { return p.v.c.Mode != "production" }

// here is where the browser is, to come back to.
func (p page) here() string { return p.v.r.URL.RequestURI() }

// self is the address under which a live region refreshes itself. The path
// and query were parsed from this very request.
func (v *visit) self() string {
	u := url.URL{Path: v.r.URL.Path, RawQuery: v.r.URL.Query().Encode()}
	return u.String()
}

// show renders a page. A part of it that refreshes itself gets the body only.
func (v *visit) show(p page, body templ.Component) error {
	p.v = v
	out := body
	if !v.partial() {
		out = shell(p, body)
	}
	var buf bytes.Buffer
	if err := out.Render(v.r.Context(), &buf); err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if p.Status != 0 {
		v.w.WriteHeader(p.Status)
	}
	_, _ = v.w.Write(buf.Bytes())
	return nil
}

// fail renders an error as a page. The text of an unknown one goes to the log.
func (v *visit) fail(err error) {
	e := problem.From(err)
	if e.Kind == problem.Canceled {
		return
	}
	if e.Kind == problem.Internal {
		v.c.Log.Error("a console page failed", "path", v.r.Pattern, "reference", e.ID, "error", e.Err)
	}
	if e.RetryAfter > 0 {
		v.w.Header().Set("Retry-After", e.RetryAfterSeconds())
	}
	if v.partial() {
		// What the page shows stays: the next refresh tries again.
		v.w.Header().Set("HX-Reswap", "none")
	}
	title := map[problem.Kind]string{problem.NotFound: "Not found", problem.Denied: "Not allowed", problem.Unauthenticated: "Signed out",
		problem.Unavailable: "Not available right now", problem.Invalid: "That cannot be done", problem.Conflict: "That cannot be done"}[e.Kind]
	if title == "" {
		title = "Something went wrong"
	}
	if e.Code == errChoose.Code || e.Code == "grant-needed" {
		if err := v.show(page{Title: "Access to client data", Status: e.Kind.Status()}, grantNeededBody(v, e)); err == nil {
			return
		}
	}
	if err := v.show(page{Title: title, Status: e.Kind.Status()}, problemBody(title, e, v.session != nil && e.Kind == problem.Unavailable)); err != nil {
		http.Error(v.w, "The page could not be made.", http.StatusInternalServerError)
	}
}

// seeOther sends the browser on after an act, so that reloading does not
// repeat it.
func (v *visit) seeOther(to templ.SafeURL) error {
	http.Redirect(v.w, v.r, string(to), http.StatusSeeOther)
	return nil
}

// current marks the menu item of a page for assistive technology and eye.
func current(p page, to place) templ.Attributes {
	if p.Path == to.path {
		return templ.Attributes{"aria-current": "page"}
	}
	return nil
}

func trueFalse(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// away reports whether an error only says that the database does not answer.
func away(err error) bool {
	return err != nil && (problem.From(err).Kind == problem.Unavailable || problem.From(err).Kind == problem.Timeout)
}
