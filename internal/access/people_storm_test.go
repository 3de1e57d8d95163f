package access

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Ten thousand people who are signed in notice nothing of a graceful restart:
// at 60 ms each, bcrypt would keep two processors busy for five minutes. After
// a cold one they are let in a few at a time, and told when to come again.
func TestTenThousandSessionsSurviveAGracefulRestart(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	options := SessionOptions{DB: w.d, TagKey: bytes.Repeat([]byte{3}, 32), BootKey: bytes.Repeat([]byte{9}, 32)}
	first := NewSessions(options)
	_, secret, _, ok := splitAs(sessionPrefix, m.in.Token)
	if !ok {
		t.Fatal("no token")
	}
	tokens := []string{m.in.Token}
	var ids []string
	for range 9999 {
		_, id, _ := first.tags.mint()
		ids = append(ids, id)
		tokens = append(tokens, sessionPrefix+id+secret+first.tags.tag(id+secret))
	}
	w.sql(`INSERT INTO sessions (id, person_id, acting_in, secret_hash, method, second_factor_at, device, place_sealed, idle_seconds, expires_at)
		SELECT n.id, s.person_id, s.acting_in, s.secret_hash, s.method, s.second_factor_at, s.device, s.place_sealed, s.idle_seconds, s.expires_at
		FROM unnest($1::text[]) n (id), sessions s WHERE s.id = $2`, ids, m.in.Session.ID)

	began := time.Now()
	w.must(first.Refresh(ctx))
	t.Logf("a picture of %d sessions took %s", first.Count(), time.Since(began))
	for _, token := range tokens { // as if each had been verified
		sum := first.boot.sum(token)
		first.picture.Load().live[token[len(sessionPrefix):][:selectorLength]].verified.Store(&sum)
	}
	path := filepath.Join(t.TempDir(), "handover.sealed")
	began = time.Now()
	w.must((&Handover{Key: options.BootKey}).Write(path, time.Now(), nil, first, w.ring.Seal))
	next, err := ReadHandover(path, time.Now(), w.ring.Open)
	w.must(err)
	options.BootKey = next.Key
	warm := NewSessions(options)
	w.must(warm.Refresh(ctx))
	if n := next.Restore(nil, warm); n != len(tokens) {
		t.Fatalf("%d verifications taken over, want %d", n, len(tokens))
	}
	t.Logf("handing over took %s", time.Since(began))
	warm.waiting.Store(maxWaiting) // a check with bcrypt would be shed
	began = time.Now()
	for _, token := range tokens {
		if _, _, err := warm.Check(ctx, time.Now(), token); err != nil {
			t.Fatalf("a session is checked anew: %v", err)
		}
	}
	t.Logf("checking all took %s", time.Since(began))

	cold := NewSessions(SessionOptions{DB: w.d, TagKey: options.TagKey})
	w.must(cold.Refresh(ctx))
	cold.waiting.Store(maxWaiting)
	_, _, err = cold.Check(ctx, time.Now(), tokens[1])
	if e := problem.From(err); e.Kind != problem.Overloaded || e.RetryAfter <= 0 {
		t.Errorf("a cold check beyond the queue: %v", err)
	}
	cold.waiting.Store(0)
	if _, _, err := cold.Check(ctx, time.Now(), tokens[1]); err != nil {
		t.Errorf("a cold check within the queue: %v", err)
	}
}
