package daemon

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/principal"
)

func TestAVerificationThatNobodyWaitsForRestsLongerThanItWorks(t *testing.T) {
	now := time.Unix(0, 0)
	var rests []time.Duration
	step := pace(t.Context(), func() time.Time { return now }, func(_ context.Context, d time.Duration) { rests = append(rests, d); now = now.Add(d) })
	for _, work := range []time.Duration{100 * time.Millisecond, time.Second, time.Hour, 0} {
		now = now.Add(work)
		step()
	}
	for i, want := range []time.Duration{300 * time.Millisecond, 3 * time.Second, verifyRestMax, 0} {
		if rests[i] != want {
			t.Errorf("after step %d it rested %s, want %s", i, rests[i], want)
		}
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	rest(stopped, time.Hour) // returns
}

func TestAVerificationThatFindsSomethingFailsItsControl(t *testing.T) {
	good := verified(audit.Report{OK: true, Size: 7, Entries: 5})
	if good.Result != evidence.Pass || len(good.Covered) == 0 || len(good.Raw) == 0 {
		t.Errorf("%+v", good)
	}
	bad := verified(audit.Report{Count: 2, Findings: []audit.Finding{{Code: "entry-changed", What: "Entry 3 was changed."}}})
	if bad.Result != evidence.Fail || !strings.Contains(bad.Reason, "Entry 3 was changed.") || !strings.Contains(bad.Reason, "audit verify") {
		t.Errorf("%+v", bad)
	}
}

// A node that runs verifies its log by itself; its own probes are nobody's
// traffic; the local socket asks the policies for everything.
func TestANodeLooksAfterItself(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a node")
	}
	d, _ := started(t)
	t.Run("it verifies the whole log", func(t *testing.T) {
		found, err := d.verifyLog(t.Context(), func(string) {})
		if err != nil || len(found) != 1 || found[0].Result != evidence.Pass {
			t.Errorf("%+v %v", found, err)
		}
	})
	t.Run("its probes stay in a place of their own", func(t *testing.T) {
		clients := map[uuid.UUID]int{}
		for _, k := range d.verifier.Directory().Keys() {
			clients[k.Organisation]++
		}
		if _, err := d.canary(t.Context(), principal.Node("evidence")); err != nil {
			t.Fatal(err)
		}
		probes := d.verifier.Directory().OrganisationNamed(ProbeOrganisation)
		if probes == nil {
			t.Fatal("there is no place for probes")
		}
		of := 0
		for _, k := range d.verifier.Directory().Keys() {
			if k.Organisation == probes.ID {
				of++
				continue
			}
			clients[k.Organisation]--
		}
		for org, n := range clients {
			if n != 0 && org != probes.ID { // the node may be probing by itself as well
				t.Errorf("organisation %s has %d keys more", org, -n)
			}
		}
		if of < 1 {
			t.Error("the canary's key is not among those of the probes")
		}
		if _, err := d.canary(t.Context(), principal.Node("evidence")); err != nil {
			t.Errorf("a second time: %v", err)
		}
	})
	t.Run("the local socket asks the policies", func(t *testing.T) {
		socket := d.local()
		for _, path := range []string{"/metrics", "/debug/profile?kind=heap", "/api/v1/status"} {
			for who, want := range map[principal.Principal]int{
				{Kind: principal.Local, UID: 1000}:                                                     http.StatusOK,
				{Kind: principal.Key, ID: "abcdefghij", Organisation: uuid.New()}:                      http.StatusForbidden,
				{Kind: principal.Local, Organisation: uuid.New(), Grant: uuid.New()}:                   http.StatusForbidden,
				{Kind: principal.Person, ID: uuid.NewString(), Organisation: uuid.New(), Session: "s"}: http.StatusForbidden,
			} {
				w := httptest.NewRecorder()
				socket.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil).WithContext(context.WithValue(t.Context(), peerKey{}, who)))
				if w.Code != want {
					t.Errorf("%s by %s: %d, want %d", path, who, w.Code, want)
				}
			}
			w := httptest.NewRecorder()
			if socket.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil)); w.Code != http.StatusUnauthorized {
				t.Errorf("%s by nobody: %d", path, w.Code)
			}
		}
	})
}
