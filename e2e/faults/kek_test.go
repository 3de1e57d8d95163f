//go:build faults

package faults

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/access"
)

// With its key-encryption key missing, slow, wrong, cut or open to others, a
// node does not start, says why and what to do, and harms nothing: with the
// key as it was, everything opens.
func TestANodeDoesNotStartWithoutItsKey(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "keys: {patience: 1s}\n")
	i.start()
	keeper := newAuditor(t, i.node)
	i.seal(uuid.Nil, 10)
	keeper.keep()
	i.kill()
	dir := filepath.Join(i.data(), "keys")
	kek := filepath.Join(dir, "kek")
	good, err := os.ReadFile(kek)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, fault := range []struct {
		name, code string
		exit       int
		break_     func()
	}{
		{"missing", "key-file", 69, func() { must(os.Remove(kek)) }},
		{"slow", "kek-slow", 75, func() { must(os.Remove(kek)); must(syscall.Mkfifo(kek, 0o600)) }},
		{"wrong", "kek-wrong", 70, func() {
			must(os.WriteFile(kek, []byte(base64.StdEncoding.EncodeToString(randomBytes(32))), 0o600))
		}},
		{"cut", "kek-format", 64, func() { must(os.Truncate(kek, 20)) }},
		{"empty", "kek-format", 64, func() { must(os.Truncate(kek, 0)) }},
		{"readable by others", "kek-mode", 64, func() { must(os.Chmod(kek, 0o644)) }},
		{"in a directory that others may enter", "keys-mode", 64, func() { must(os.Chmod(dir, 0o755)) }},
	} {
		fault.break_()
		before := i.count(`SELECT count(*) FROM audit`)
		i.log = &logBuffer{}
		err := i.tryStart()
		if err == nil {
			t.Fatalf("%s: the node started", fault.name)
		}
		if text := err.Error(); i.code != fault.exit || !strings.Contains(text, `"code": "`+fault.code+`"`) || !strings.Contains(text, `"mend": "`) {
			t.Errorf("%s: exit code %d, want %d and %s: %v", fault.name, i.code, fault.exit, fault.code, err)
		}
		if strings.Contains(err.Error(), strings.TrimSpace(string(good))) {
			t.Errorf("%s: the key is in the error", fault.name)
		}
		if n := i.count(`SELECT count(*) FROM audit`); n != before {
			t.Errorf("%s: a node that did not start did something", fault.name)
		}
		if err := os.Remove(kek); err != nil && fault.name != "missing" {
			t.Fatal(err)
		}
		must(os.WriteFile(kek, good, 0o600))
		must(os.Chmod(dir, 0o700))
	}
	i.start()
	i.allOpen(uuid.Nil, 10)
	keeper.verify(t)
}

// An authenticator app whose clock is off by a step is understood; one that is
// further off is refused like any wrong code, and audited.
func TestClocksThatDifferInSignIns(t *testing.T) {
	t.Parallel()
	n := newNode(t, "")
	n.start()
	s := n.person(t, "", "platform-security")
	signIn := func(code string) (int, string) {
		t.Helper()
		var ceremony struct{ Ceremony string }
		if status, text := n.over("", "POST", "/signin", map[string]any{"email": s.email, "password": password}, &ceremony); status >= 300 || ceremony.Ceremony == "" {
			t.Fatalf("the password: %d %s", status, text)
		}
		var in access.SignedIn
		return n.over("", "POST", "/signin/factor", map[string]any{"ceremony": ceremony.Ceremony, "factor": "totp", "code": code}, &in)
	}
	denied := len(n.listed("person.signin", "denied"))
	for _, off := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		if status, text := signIn(s.code(t, time.Now().Add(off))); status != http.StatusForbidden && status != http.StatusUnauthorized {
			t.Errorf("a code that is %s off: %d %s", off, status, text)
		}
	}
	if got := len(n.listed("person.signin", "denied")) - denied; got != 2 {
		t.Errorf("%d of two wrong codes are in the audit log", got)
	}
	// The code of this step was spent when the app was enrolled.
	code := s.code(t, time.Now().Add(30*time.Second))
	if status, text := signIn(code); status >= 300 {
		t.Errorf("a code of the next step: %d %s", status, text)
	}
	if status, text := signIn(code); status < 400 {
		t.Errorf("the same code again: %d %s", status, text)
	}
}

// Sessions end by the database's clock: a node whose own jumps ends none
// early, and one that is revoked ends all the same.
func TestANodeWhoseClockJumpsEndsNoSession(t *testing.T) {
	t.Parallel()
	var offset atomic.Int64
	offset.Store(int64(48 * time.Hour)) // never before the true time, by which sockets go
	n := inside(t, "", func() time.Time { return time.Now().Add(time.Duration(offset.Load())) })
	org := unique("org")
	n.must("POST", "/organisations", map[string]any{"name": org}, nil)
	s := n.person(t, org, "viewer")
	for _, jump := range []time.Duration{20 * time.Minute, 25 * time.Hour, -26 * time.Hour} {
		offset.Add(int64(jump))
		back := eventually(t, "the session to open", func() (bool, string) {
			status, text := s.ask("GET", "/session", nil, nil)
			return status == http.StatusOK, text
		})
		if back > 10*time.Second {
			t.Errorf("after a jump by %s the session was shut for %s", jump, back)
		}
	}
	offset.Add(int64(-time.Hour))
	n.must("DELETE", "/people/"+s.id+"/sessions", nil, nil)
	s.out(t)
}

// out wants a session to have ended, or to end at once.
func (s *somebody) out(t *testing.T) {
	t.Helper()
	heard := eventually(t, "the session to end", func() (bool, string) {
		status, text := s.ask("GET", "/session", nil, nil)
		return status == http.StatusUnauthorized, fmt.Sprint(status, " ", text)
	})
	if heard > 2*time.Second { // one, and what a busy machine adds
		t.Errorf("heard after %s, want about a second", heard)
	}
}

// Notifications may be lost for sessions, too: the change counter is polled.
func TestAnEndedSessionIsHeardThoughItsNotificationIsLost(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "")
	i.start()
	name, _ := i.organisation()
	s := i.person(t, name, "viewer")
	s.must(t, "GET", "/session", nil, nil)
	// What another node would do, without its NOTIFY.
	i.exec(`WITH ended AS (UPDATE sessions SET ended_at = now(), end_reason = 'revoked', version = version + 1 WHERE person_id = $1 RETURNING 1)
		UPDATE foundry_changes SET value = value + 1 WHERE shard = 3 AND EXISTS (SELECT FROM ended)`, s.id)
	s.out(t)
}
