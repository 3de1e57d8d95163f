//go:build faults

package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/outage"
)

const outagePlan = `version: 1
organisation: {name: Demo, owner: anna, country: FI, approvals: 1}
people: [{name: anna, account: %q}]
nodes:
  - {name: gate-1, roles: [gateway, fleet]}
  - {name: gate-2, roles: [gateway, fleet]}
  - {name: gate-3, roles: [gateway, fleet]}
functions:
  - {name: platform, mtd: 1 day, rto: 4h, host: [gate-1]}
recovery:
  - name: back
    functions: [platform]
    onto: [gate-2]
    steps:
      - {name: agree, kind: review, approved_by: [anna]}
`

// gatewayOf makes a process that is a gateway of one database, which others can
// reach over HTTPS.
func gatewayOf(t *testing.T, name, dsn string) (*process, *node) {
	t.Helper()
	p, port := newProcess(t, name), freePort(t)
	text, err := os.ReadFile(p.config)
	if err == nil {
		err = os.WriteFile(p.config, fmt.Appendf(text, "listen: {https: \"127.0.0.1:%s\", http: \"off\"}\nnode: {country: FI}\ndatabase: {dsn: %q}\n", port, dsn), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	n := newNodeIn(t, filepath.Dir(p.config), "") // its local socket; the process is p's
	n.url = "https://127.0.0.1:" + port
	return p, n
}

// sameInstallation gives a gateway that has not started yet the keys and the
// authority of another, as the guide says.
func sameInstallation(t *testing.T, from, to *node) {
	t.Helper()
	copyKeys(t, from, to)
	ca := filepath.Join(to.data(), "ca")
	err := os.CopyFS(ca, os.DirFS(filepath.Join(from.data(), "ca")))
	if err == nil {
		err = os.Chmod(ca, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The database and a node are lost. An operator signs in on each node that is
// left, over HTTPS, opens an incident and approves a step of a recovery; a
// stolen code, somebody of a client and somebody who was deactivated a moment
// before get nowhere. When the database is back, the session ends and the audit
// log has it all.
func TestOperatorsSignInOnSurvivorsWhileTheDatabaseIsDown(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	var all []*process
	var nodes []*node
	for i := range 3 {
		p, n := gatewayOf(t, fmt.Sprint("gate-", i+1), server.Config().DSN)
		if i > 0 {
			sameInstallation(t, nodes[0], n)
			p.join(all[0].say, "gateway,fleet")
		}
		p.serve("gateway,fleet")
		if err := n.trust(daemon.AuthorityFile(p.data)); err != nil {
			t.Fatal(err)
		}
		all, nodes = append(all, p), append(nodes, n)
	}
	anna := nodes[0].person(t, "", "platform-operator")
	ben := nodes[0].person(t, "", "platform-operator")
	org, _ := nodes[0].newClient()
	nurse := nodes[0].person(t, org, "administrator")
	plan := filepath.Join(filepath.Dir(all[0].config), "plan.yaml")
	if err := os.WriteFile(plan, fmt.Appendf(nil, outagePlan, anna.email), 0o600); err != nil {
		t.Fatal(err)
	}
	all[0].say("plan", "submit", plan, "--note", "The first.")
	var revisions []struct{ ID string }
	if text := all[0].say("plan", "revisions", "--json"); json.Unmarshal([]byte(text), &revisions) != nil || len(revisions) != 1 {
		t.Fatal(text)
	}
	all[0].say("plan", "approve", revisions[0].ID, "--reason", "Agreed.")
	for _, p := range all {
		await(t, p.name+" to have the plan", func() (bool, string) {
			s := p.run("recovery", "plans")
			return strings.Contains(s.out, "back"), s.out + s.err
		})
	}
	nodes[0].must("POST", "/people/"+ben.id+"/deactivate", map[string]any{}, nil)
	deactivated := time.Now()
	for i, n := range nodes {
		await(t, all[i].name+" to have seen who may sign in", func() (bool, string) {
			r := n.status().Database.SignIn
			return r != nil && r.AgreedAt.After(deactivated), fmt.Sprintf("%+v", r)
		})
	}

	server.Stop()
	all[0].kill()
	began := time.Now()
	for _, n := range nodes[1:] {
		s := *anna
		s.n = n
		var at access.Progress
		await(t, "the door to open at "+n.url, func() (bool, string) {
			status, text := s.ask("POST", "/signin", map[string]any{"email": anna.email, "password": password}, &at)
			return status == http.StatusCreated, text
		})
		t.Logf("open %s after the database was lost", time.Since(began).Round(time.Second))
		if slices.Contains(at.Factors, access.FactorRecovery) {
			t.Error("a recovery code is asked for")
		}
	}
	for who, s := range map[string]*somebody{"somebody of a client": nurse, "somebody who was deactivated": ben} {
		status, text := nodes[1].over("", "POST", "/signin", map[string]any{"email": s.email, "password": password}, nil)
		if status != http.StatusUnauthorized || !strings.Contains(text, "signin-failed") {
			t.Errorf("%s: %d %s", who, status, text)
		}
	}

	anna.n = nodes[1]
	code := anna.signInAway(t)
	var replay access.Progress
	nodes[2].over("", "POST", "/signin", map[string]any{"email": anna.email, "password": password}, &replay)
	if status, text := nodes[2].over("", "POST", "/signin/factor", map[string]any{"ceremony": replay.Ceremony, "factor": "totp", "code": code}, nil); status != http.StatusUnauthorized || !strings.Contains(text, "code-wrong") {
		t.Errorf("a code that was used on another node: %d %s", status, text)
	}
	if status, text := anna.ask("GET", "/organisations", nil, nil); status != http.StatusForbidden || !strings.Contains(text, "session-away") {
		t.Errorf("the organisations: %d %s", status, text)
	}
	var me struct{ Roles []string }
	anna.must(t, "GET", "/session", nil, &me)
	if !slices.Equal(me.Roles, []string{"platform-operator"}) {
		t.Errorf("signed in with %v", me.Roles)
	}

	var opened incident.Brief
	anna.must(t, "POST", "/incidents", map[string]any{"title": "The database is down", "mode": "real", "nodes": []string{"gate-1"}}, &opened)
	anna.n = nodes[2] // any node that is left
	var run recovery.Shown
	// Somebody else asks for it: nobody approves their own recovery alone.
	anna.n.must("POST", "/recoveries", map[string]any{"plan": "back", "incident": opened.State.ID, "lost": []string{"gate-1"}, "words": "Nobody answers."}, &run)
	approved := func(s recovery.Shown) bool {
		return slices.ContainsFunc(s.Steps[0].Said, func(one recovery.Saying) bool { return one.Person == "anna" && one.What == recovery.SaidApprove })
	}
	await(t, "the step to be approved", func() (bool, string) {
		status, text := anna.ask("POST", "/recoveries/"+run.ID+"/steps/agree/approve", map[string]any{"words": "Agreed."}, &run)
		return status == http.StatusCreated && approved(run) || strings.Contains(text, "recovery-approved-twice"), text
	})

	server.Start()
	await(t, "the session to end", func() (bool, string) {
		status, text := anna.ask("GET", "/incidents", nil, nil)
		return status == http.StatusUnauthorized, text
	})
	await(t, "the audit log to have it", func() (bool, string) {
		conn := dbtest.Superuser(t, server.Config())
		defer conn.Close(t.Context())
		var in, denied, incidents int
		err := conn.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE act = 'person.signin' AND outcome = 'done' AND actor = $1 AND target = $2),
			count(*) FILTER (WHERE act = 'person.signin' AND outcome = 'denied'), count(*) FILTER (WHERE act LIKE 'incident.%' AND target LIKE $3) FROM audit`, "person:"+anna.id, anna.id, "%"+opened.State.ID+"%").Scan(&in, &denied, &incidents)
		return err == nil && in > 1 && denied > 2 && incidents > 0, fmt.Sprintf("%d sign-ins, %d denied, %d of the incident, %v", in, denied, incidents, err)
	})
	// The code that opened without the database opens nothing with it.
	var at access.Progress
	if status, text := anna.n.over("", "POST", "/signin", map[string]any{"email": anna.email, "password": password}, &at); status != http.StatusCreated {
		t.Fatalf("signing in afterwards: %d %s", status, text)
	}
	if status, text := anna.n.over("", "POST", "/signin/factor", map[string]any{"ceremony": at.Ceremony, "factor": "totp", "code": code}, nil); status != http.StatusUnauthorized {
		t.Errorf("the code again: %d %s", status, text)
	}
}

// signInAway signs in with the command line, and says with which code.
func (s *somebody) signInAway(t *testing.T) (code string) {
	t.Helper()
	home := t.TempDir()
	authority := filepath.Join(home, "ca.pem")
	pem, err := os.ReadFile(daemon.AuthorityFile(s.n.data()))
	if err == nil {
		err = os.WriteFile(authority, pem, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	await(t, "signing in with the command line", func() (bool, string) {
		code = s.code(t, time.Now())
		p := &process{t: t, data: s.n.data(), env: []string{"XDG_CONFIG_HOME=" + home}}
		cmd := p.command("login", "--server", s.n.url, "--ca", authority, "--email", s.email)
		cmd.Stdin = strings.NewReader(password + "\n" + code + "\n")
		var text bytes.Buffer
		cmd.Stdout, cmd.Stderr = &text, &text
		return cmd.Run() == nil, text.String()
	})
	kept, err := os.ReadFile(filepath.Join(home, "foundry", "sessions.json"))
	if err != nil {
		t.Fatal(err)
	}
	if s.token = regexp.MustCompile(outage.TokenPrefix + "[a-z0-9]+").FindString(string(kept)); s.token == "" {
		t.Fatal("the command line kept no session of an outage")
	}
	return code
}
