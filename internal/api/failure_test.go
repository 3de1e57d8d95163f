package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestAnAnswerSaysWhenToComeAgain(t *testing.T) {
	a := New(Options{})
	register(a, http.MethodGet, "/locked", "test-locked", "", func(context.Context, *struct{ Caller }) (struct{}, error) {
		return struct{}{}, problem.New(problem.RateLimited, "locked", "Too many attempts.").WithRetry(90 * time.Second)
	})
	w := httptest.NewRecorder()
	a.Serve(w, httptest.NewRequest(http.MethodGet, "/api/v1/locked", nil), principal.Node("test"))
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "90" || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestAnEmptyListIsAList(t *testing.T) {
	a := New(Options{})
	register(a, http.MethodGet, "/empty", "test-empty", "", func(context.Context, *struct{ Caller }) ([]string, error) { return nil, nil })
	w := httptest.NewRecorder()
	a.Serve(w, httptest.NewRequest(http.MethodGet, "/api/v1/empty", nil), principal.Node("test"))
	if got := strings.TrimSpace(w.Body.String()); got != "[]" {
		t.Errorf("got %s", got)
	}
}
