package problem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestFrom(t *testing.T) {
	known := New(Denied, "nope", "No.")
	for _, c := range []struct {
		name string
		err  error
		kind Kind
	}{
		{"a known error keeps its kind through wrapping", fmt.Errorf("asking: %w", known), Denied},
		{"cancellation is the caller's", context.Canceled, Canceled},
		{"a deadline is a timeout", context.DeadlineExceeded, Timeout},
		{"anything else is internal", errors.New("password=hunter2"), Internal},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := From(c.err); got.Kind != c.kind {
				t.Fatalf("kind %v, want %v", got.Kind, c.kind)
			}
		})
	}
}

func TestInternalTextIsNeverShown(t *testing.T) {
	rec := httptest.NewRecorder()
	Write(rec, errors.New("password=hunter2"))
	if strings.Contains(rec.Body.String(), "hunter2") {
		t.Fatal("the cause of an internal error reached the client")
	}
	var got struct{ ID string }
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || got.ID == "" {
		t.Fatalf("no reference for the user: %v %s", err, rec.Body)
	}
	if rec.Code != 500 {
		t.Fatalf("status %d", rec.Code)
	}
}

func TestWriteNamesFieldRuleAndMend(t *testing.T) {
	rec := httptest.NewRecorder()
	Write(rec, New(RateLimited, "rpm", "Too many requests.").WithField("key").WithMend("Wait.").WithRetry(1500*time.Millisecond))
	if rec.Code != 429 || rec.Header().Get("Retry-After") != "2" {
		t.Fatalf("status %d, Retry-After %q", rec.Code, rec.Header().Get("Retry-After"))
	}
	for _, want := range []string{`"code":"rpm"`, `"field":"key"`, `"mend":"Wait."`, `"status":429`} {
		if !strings.Contains(rec.Body.String(), want) {
			t.Errorf("missing %s in %s", want, rec.Body)
		}
	}
}

func TestEveryKindHasStatusAndExit(t *testing.T) {
	for k := Internal; k <= NoMethod; k++ {
		if k.String() == "" || k.Status() < 400 || k.Exit() == 0 {
			t.Errorf("kind %d is incomplete", k)
		}
	}
}
