//go:build faults

package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/principal"
)

const worked = `version: 1
organisation: {name: Demo, owner: anna, country: FI}
people: [{name: anna}]
nodes: [{name: one, roles: [gateway, fleet]}, {name: old, roles: [gateway]}]
functions: [{name: web, mtd: 1 day, rto: 4h, host: [old], hostnames: [web.example.eu], probes: [{name: port, kind: tcp, target: "%s", every: 1h, from: [one]}]}]
recovery:
  - name: back
    functions: [web]
    onto: [one]
    steps:
      - {name: think, kind: decide}
      - {name: stop, kind: fence, node: old}
      - {name: agree, kind: approve}
      - {name: look, kind: validate, takes: 6s}
`

// A recovery on a real node is carried through by the forms of its console, and
// what somebody did stands in the timeline and in the audit log.
func TestARecoveryIsCarriedThroughByTheFormsOfTheConsole(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a node")
	}
	t.Parallel()
	d := watching(t, inFleet(t, "one"), member.Gateway, member.Fleet)
	p := &process{d, t, principal.Principal{Kind: principal.Local, UID: os.Geteuid()}, func() {}}
	door, open := p.door()
	p.goesBy(fmt.Sprintf(worked, door))
	id := p.opens(incident.Begin{Nodes: []string{"old"}, Functions: []string{"web"}})
	run := p.starts(id, "back").ID

	link, _, err := d.consoleLink(p.who)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(d.authority.cert)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var session *http.Cookie
	ask := func(method, at string, form url.Values) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, at, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if session != nil {
			r.AddCookie(session)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for _, c := range resp.Cookies() {
			if c.Name == "__Host-foundry" {
				session = c
			}
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if ask(http.MethodPost, link, nil); session == nil {
		t.Fatal("the link signs nobody in")
	}
	page := d.URL() + "/console/recoveries/" + run
	shows := func(step string, words ...string) {
		t.Helper()
		p.until(run, step+" waits for somebody", func(r recovery.Shown) bool { return stepOf(r, step).Need != nil })
		status, body := ask(http.MethodGet, page, nil)
		for _, w := range append(words, `name="step"`, step) {
			if status != http.StatusOK || !strings.Contains(body, w) {
				t.Errorf("%s: the page answers %d and does not say %q", step, status, w)
			}
		}
	}
	says := func(act, step string, want int, form url.Values) {
		t.Helper()
		form.Set("step", step)
		if status, body := ask(http.MethodPost, page+"/"+act, form); status != want {
			t.Fatalf("%s of %s answers %d in place of %d: %.2000s", act, step, status, want, body)
		}
	}
	done := http.StatusSeeOther

	shows("think")
	says("decide", "think", http.StatusBadRequest, url.Values{"words-think": {" "}})
	says("decide", "think", done, url.Values{"words-think": {"It does not come back."}})
	shows("stop", "The supplier shows it as switched off")
	says("say", "stop", http.StatusBadRequest, url.Values{"answer": {"done"}, "words-stop": {"Off."}, "fenced-stop": {recovery.FencedByPower}})
	says("say", "stop", http.StatusBadRequest, url.Values{"answer": {"done"}, "words-stop": {"Off."}, "evidence-stop": {"ticket:7"}})
	says("say", "stop", done, url.Values{"answer": {"done"}, "words-stop": {"Off."}, "evidence-stop": {"ticket:7"}, "fenced-stop": {recovery.FencedByPower}})
	shows("agree")
	says("approve", "agree", done, url.Values{"answer": {"approve"}})
	p.comesTo(run, "look", recovery.Failed)
	shows("look", "Try it again")
	says("say", "look", http.StatusConflict, url.Values{"answer": {"done"}, "words-look": {"It works."}, "evidence-look": {"ticket:8"}})
	open()
	says("retry", "look", done, url.Values{"words-look": {"It listens now."}})
	p.goesOn(run, "look")
	end := p.until(run, "the run has ended", func(r recovery.Shown) bool { return !r.Ended.IsZero() })
	if end.Outcome != "done" || stepOf(end, "stop").Receipt.Fences[0].By != recovery.FencedByPower {
		t.Errorf("it ended as %+v", end.Run)
	}
	p.proven(end)
	for _, act := range []string{"recovery.start", "recovery.decide", "recovery.say", "recovery.approve", "recovery.retry"} {
		if _, details := entry(t, d, act, run); details["incident"] != id {
			t.Errorf("%s is in the audit log as %v", act, details)
		}
	}
}
