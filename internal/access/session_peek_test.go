package access

import (
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/principal"
)

func TestWhatAPageFetchesByItselfKeepsNoSessionAlive(t *testing.T) {
	w := newCompany(t)
	m := w.join("vera@example.org", w.org.ID, principal.Viewer)
	for _, after := range []time.Duration{20 * time.Minute, 40 * time.Minute, 59 * time.Minute} {
		if _, s, err := w.sessions.Peek(ctx, time.Now().Add(after), m.in.Token); err != nil || s.ID != m.in.Session.ID {
			t.Fatalf("after %s: %v", after, err)
		}
	}
	_, _, err := w.sessions.Peek(ctx, time.Now().Add(time.Hour+time.Second), m.in.Token)
	w.wantCode(err, "session-invalid")
	_, _, err = w.sessions.Check(ctx, time.Now().Add(time.Hour+time.Second), m.in.Token)
	w.wantCode(err, "session-invalid")
	if len(w.sessions.seen) != 0 {
		t.Error("looking counts as being there")
	}
}
