package console

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// clockAt is a clock that tests set.
type clockAt struct{ now time.Time }

func (c *clockAt) read() time.Time { return c.now }

func newClock() *clockAt { return &clockAt{time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)} }

var operator = principal.Principal{Kind: principal.Local, UID: 1000}

func TestALinkSignsInOnceWithinFiveMinutes(t *testing.T) {
	clock := newClock()
	links := NewLinks(clock.read)
	token, until, err := links.Make(operator)
	if err != nil || until.Sub(clock.now) != 5*time.Minute || len(token) < 50 {
		t.Fatalf("%q until %v: %v", token, until, err)
	}
	for range 2 {
		if !links.Known(token) {
			t.Fatal("looking at a link used it up")
		}
	}
	if by, ok := links.Take(token); !ok || by != operator {
		t.Fatalf("the link did not sign in: %v", by)
	}
	if _, ok := links.Take(token); ok || links.Known(token) {
		t.Fatal("the link signed in twice")
	}
	late, _, _ := links.Make(operator)
	clock.now = clock.now.Add(5 * time.Minute)
	if _, ok := links.Take(late); ok || links.Known(late) {
		t.Fatal("a link signed in after its time")
	}
	if _, ok := links.Take(""); ok {
		t.Fatal("no token signed in")
	}
}

func TestLinksHoldNoTokenAndHaveABound(t *testing.T) {
	clock := newClock()
	links := NewLinks(clock.read)
	for range maxLinks {
		if _, _, err := links.Make(operator); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := links.Make(operator); problem.From(err).Code != "too-many-links" {
		t.Fatalf("there is no bound: %v", err)
	}
	clock.now = clock.now.Add(linkLife)
	token, _, err := links.Make(operator)
	if err != nil {
		t.Fatalf("expired links count: %v", err)
	}
	for h := range links.open {
		if strings.Contains(string(h[:]), token) {
			t.Fatal("the token itself is kept")
		}
	}
}

func TestASession(t *testing.T) {
	request := func(value string) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/console/", nil)
		r.AddCookie(&http.Cookie{Name: cookieName, Value: value})
		return r
	}
	open := func(t *testing.T) (*clockAt, *sessions, *session, string) {
		clock := newClock()
		s := newSessions(clock.read)
		one, value, err := s.start(operator)
		if err != nil {
			t.Fatal(err)
		}
		return clock, s, one, value
	}
	t.Run("is found by its cookie and by nothing else", func(t *testing.T) {
		_, s, one, value := open(t)
		if s.find(request(value), true) != one {
			t.Fatal("the session was not found")
		}
		for _, wrong := range []string{"", value[:len(value)-1], value + "a", one.id + strings.Repeat("a", secretSize), strings.Repeat("a", selectorSize) + value[selectorSize:]} {
			if s.find(request(wrong), true) != nil {
				t.Errorf("%q opens the session", wrong)
			}
		}
		if s.find(httptest.NewRequest(http.MethodGet, "/", nil), true) != nil {
			t.Error("no cookie opens the session")
		}
	})
	t.Run("ends an hour after the person was last there", func(t *testing.T) {
		clock, s, one, value := open(t)
		clock.now = clock.now.Add(59 * time.Minute)
		if s.find(request(value), true) == nil {
			t.Fatal("it ended early")
		}
		clock.now = clock.now.Add(59 * time.Minute)
		if s.find(request(value), false) == nil || !s.alive(one) {
			t.Fatal("being there did not keep it")
		}
		clock.now = clock.now.Add(time.Minute)
		if s.alive(one) || s.find(request(value), true) != nil {
			t.Fatal("what the page fetches by itself kept it alive")
		}
	})
	t.Run("ends after eight hours however busy", func(t *testing.T) {
		clock, s, _, value := open(t)
		for range 16 {
			clock.now = clock.now.Add(30 * time.Minute)
			if s.find(request(value), true) == nil && clock.now.Hour() < 20 {
				t.Fatal("it ended early")
			}
		}
		if s.find(request(value), true) != nil {
			t.Fatal("it lives longer than eight hours")
		}
	})
	t.Run("ends when the person signs out", func(t *testing.T) {
		_, s, one, value := open(t)
		s.end(one)
		if s.alive(one) || s.find(request(value), true) != nil {
			t.Fatal("it went on")
		}
	})
	t.Run("has a bound", func(t *testing.T) {
		clock, s, _, _ := open(t)
		for range maxSessions - 1 {
			if _, _, err := s.start(operator); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := s.start(operator); problem.From(err).Code != "too-many-sessions" {
			t.Fatalf("there is no bound: %v", err)
		}
		clock.now = clock.now.Add(sessionIdle)
		if _, _, err := s.start(operator); err != nil {
			t.Fatalf("sessions that ended count: %v", err)
		}
	})
	t.Run("acts under its selector, for the platform", func(t *testing.T) {
		_, _, one, _ := open(t)
		if p := one.principal(); p.Kind != principal.Session || p.ID != one.id || !p.Platform() || len(one.id) != selectorSize {
			t.Fatalf("%+v", p)
		}
	})
}

func TestGoingBackStaysInTheConsole(t *testing.T) {
	for path, want := range map[string]string{
		"/console/requests?state=ok": "/console/requests?state=ok", "": toOverview, "/": toOverview, "https://evil.example/console/": toOverview,
		"/console/requests?back=%2F%2Fevil.example": "/console/requests?back=%2F%2Fevil.example",
		"/console/%2f%2fevil.example":               toOverview, "/console/%5cevil.example": toOverview, "/console/..//evil": toOverview, "/console/../../evil": toOverview, "/console/./..": toOverview,
		"/\\evil.example": toOverview, "\\\\evil.example": toOverview, "javascript:alert(1)": toOverview, "/\t/evil.example": toOverview, "/console/\x00": toOverview,
		"https:/console/": toOverview, "http:///console/": toOverview, "///console/": toOverview, "//evil.example/console/": toOverview, "/console/%0d%0aX:": toOverview,
		"//evil.example": toOverview, "/console//evil.example": toOverview, "/console/\\evil": toOverview, "/console/\r\nX: y": toOverview, "/consoleX": toOverview,
	} {
		if got := localPath(path); got != want {
			t.Errorf("%q leads to %q, want %q", path, got, want)
		}
	}
}

func TestOnlyAPersonKeepsASessionAlive(t *testing.T) {
	for _, c := range []struct {
		name   string
		header string
		alive  bool
	}{{"opening pages does", "", true}, {"what a page fetches by itself does not", "true", false}} {
		t.Run(c.name, func(t *testing.T) {
			clock := newClock()
			console := New(Options{Clock: clock.read})
			_, value, err := console.sessions.start(operator)
			if err != nil {
				t.Fatal(err)
			}
			served := 0
			handler := console.signedIn(Route{do: func(*visit) error { served++; return nil }})
			for range 3 {
				clock.now = clock.now.Add(40 * time.Minute)
				r := httptest.NewRequest(http.MethodGet, "/console/", nil)
				r.AddCookie(&http.Cookie{Name: cookieName, Value: value})
				r.Header.Set("HX-Request", c.header)
				handler(httptest.NewRecorder(), r)
			}
			if (served == 3) != c.alive {
				t.Errorf("%d of 3 requests were served", served)
			}
		})
	}
}
