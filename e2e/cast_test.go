package e2e

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/pquerna/otp/totp"
)

// realm is an organisation of the cast, with one of everything that a path can name.
type realm struct {
	name, id string
	people   map[principal.Role]*somebody // empty for the second organisation but for its administrator

	key, budget, member, session, invitation, service, grant, review, request, entry string
	token                                                                            string // of key

	unasked []string // names of things that no test asks another organisation for
}

// stage is a node in production with two organisations and one person in every
// role. Nothing on it was made over the local socket but the first
// administrator's invitation.
type stage struct {
	*world
	realms  [2]*realm
	staff   map[principal.Role]*somebody
	service string // token of an API key that a service account holds
}

// staged is shared by the tests that attack a node in production: a dozen
// people with bcrypt at cost 12 take seconds.
var staged struct {
	once sync.Once
	s    *stage
	err  error
}

// onStage starts the production node, or skips where the machine has no second
// volume for the key-encryption key.
func onStage(t *testing.T) *stage {
	t.Helper()
	if testing.Short() {
		t.Skip("signs a dozen people in")
	}
	staged.once.Do(func() {
		s := &stage{staff: map[principal.Role]*somebody{}}
		if s.world, staged.err = production(nil); staged.err == nil {
			sharing = append(sharing, &shared{w: s.world})
			staged.s = s
			s.cast(t)
		}
	})
	if staged.err == errOneVolume {
		t.Skip(staged.err)
	}
	if staged.err != nil || staged.s == nil || staged.s.service == "" {
		t.Fatalf("there is no stage: %v", staged.err)
	}
	return staged.s
}

var errOneVolume = fmt.Errorf("%s and %s are one volume: a node in production refuses a key-encryption key beside its data", root(), os.TempDir())

// production starts a node as a client would run it: the key-encryption key on
// another volume, one provider in the EEA, HTTPS only. change may be nil.
func production(change func(*daemon.Config)) (*world, error) {
	w, err := newWorld()
	if err != nil {
		return nil, err
	}
	keys, err := os.MkdirTemp("", "foundry-e2e-kek-")
	if err != nil {
		return nil, err
	}
	w.closers = append(w.closers, func() { _ = os.RemoveAll(keys) })
	if sameVolume(keys, w.dir) {
		return nil, errOneVolume
	}
	kek := make([]byte, 32)
	_, _ = rand.Read(kek)
	file := filepath.Join(keys, "kek")
	if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(kek)), 0o600); err != nil {
		return nil, err
	}
	v, err := w.vendor("openai", simulator.Options{Format: simulator.OpenAI, Commands: true})
	if err != nil {
		return nil, err
	}
	cfg := daemon.Config{Mode: daemon.Production, Node: daemon.NodeConfig{Country: "FI"}, Keys: daemon.KeysConfig{KEK: config.Secret{File: file}},
		Config: gateway.Config{Providers: []gateway.ProviderConfig{patient(european("openai", gateway.OpenAI, v.url), "simulator-chat")}}}
	if change != nil {
		change(&cfg)
	}
	return w, w.launch(cfg, nil)
}

func sameVolume(a, b string) bool {
	var x, y syscall.Stat_t
	return syscall.Stat(a, &x) != nil || syscall.Stat(b, &y) != nil || x.Dev == y.Dev
}

// from is the node as it is seen from another address: tries to sign in are
// counted by address.
func (w *world) from(ip string) *world {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	return w.through(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.roots()}, MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return d.DialContext(ctx, network, address)
		}})
}

// enrolled accepts an invitation at an address of its own and sets an
// authenticator app up, whether the roles demand that or not.
func (w *world) enrolled(t testing.TB, invitation, email string) *somebody {
	t.Helper()
	n := serial.Add(1)
	s := &somebody{w: w.from(fmt.Sprintf("127.0.%d.%d", 1+n/250, 1+n%250)), email: email}
	var in access.SignedIn
	if status, text := s.w.over(t, "", "POST", "/invitation/accept", map[string]any{"token": invitation, "password": password}, &in); status != http.StatusCreated {
		t.Fatalf("accepting: %d %s", status, text)
	}
	s.id, s.token = in.Session.Person.String(), in.Token
	var app access.TOTPEnrolment
	s.do(t, "POST", "/session/totp", nil, &app)
	code, err := totp.GenerateCode(app.Secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var done access.Enrolled
	s.do(t, "POST", "/session/totp/confirm", map[string]any{"ceremony": app.Ceremony, "code": code}, &done)
	s.token, s.totp, s.recovery = done.SignedIn.Token, app.Secret, done.Codes
	return s
}

// do asks for what must succeed.
func (s *somebody) do(t testing.TB, method, path string, in, out any) {
	t.Helper()
	if status, text := s.ask(t, method, path, in, out); status >= 300 {
		t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
}

// hire has somebody invite a person.
func (s *somebody) hire(t testing.TB, org string, role principal.Role) *somebody {
	t.Helper()
	email := fmt.Sprintf("%s-%d@example.org", role, serial.Add(1))
	var i api.Invitation
	s.do(t, "POST", "/invitations", map[string]any{"organisation": org, "email": email, "name": "Somebody", "roles": []string{role.String()}}, &i)
	return s.w.enrolled(t, i.Token, email)
}

// cast fills the stage.
func (s *stage) cast(t *testing.T) {
	var first api.Invitation
	s.must(t, "POST", "/people/bootstrap", map[string]any{"email": "first@example.org", "name": "First"}, &first)
	head := s.enrolled(t, first.Token, "first@example.org")
	s.staff[principal.PlatformAdministrator] = head
	for _, role := range []principal.Role{principal.PlatformOperator, principal.PlatformSecurity} {
		s.staff[role] = head.hire(t, "", role)
	}
	for i, name := range []string{"st-mary", "clinic"} {
		r := &realm{name: name, people: map[principal.Role]*somebody{}}
		var o api.Organisation
		head.do(t, "POST", "/organisations", map[string]any{"name": name, "policy": anywhere()}, &o)
		r.id = o.ID.String()
		r.people[principal.Administrator] = head.hire(t, name, principal.Administrator)
		for _, role := range []principal.Role{principal.Viewer, principal.Developer, principal.Operator, principal.Approver, principal.Auditor} {
			if i == 0 {
				r.people[role] = r.people[principal.Administrator].hire(t, name, role)
			}
		}
		s.furnish(t, r)
		s.realms[i] = r
	}
	mary := s.realms[0]
	var k api.Key
	admin := mary.people[principal.Administrator]
	admin.do(t, "POST", "/keys", map[string]any{"organisation": mary.name, "name": "held"}, &k)
	admin.do(t, "POST", "/service-accounts/"+mary.service+"/keys", map[string]any{"key": k.ID}, nil)
	s.service = k.Token
}

// furnish makes one of everything that a path can name. What an administrator
// may not make, staff make.
func (s *stage) furnish(t *testing.T, r *realm) {
	t.Helper()
	admin := r.people[principal.Administrator]
	var k api.Key
	admin.do(t, "POST", "/keys", map[string]any{"organisation": r.name, "name": "app"}, &k)
	r.key, r.token = k.ID, k.Token
	var b struct{ ID string }
	admin.do(t, "POST", "/budgets", map[string]any{"organisation": r.name, "period": "total", "limit": "100.00"}, &b)
	r.budget = b.ID
	member := admin.hire(t, r.name, principal.Viewer)
	r.member = member.id
	var sessions []access.Session
	member.do(t, "GET", "/sessions", nil, &sessions)
	r.session = sessions[0].ID
	r.invitation = s.invite(t, r)
	r.service = s.account(t, r)
	r.grant = s.askFor(t, r)
	var v access.AccessReview
	admin.do(t, "POST", "/access/reviews", map[string]any{"organisation": r.name, "title": "the first"}, &v)
	r.review = v.ID.String()
	r.request = s.get(t, r.token, question{model: "simulator-chat"}).id
	s.eventuallySees(t, admin, "/requests/"+r.request)
	s.eventuallySees(t, admin, "/audit/requests/"+r.request+"/proof")
	var entries []struct{ ID string }
	admin.do(t, "GET", "/audit?act=key.create&limit=1", nil, &entries)
	r.entry = entries[0].ID
	r.unasked = []string{admin.id, s.newKey(t, r), s.newBudget(t, r), s.invite(t, r), s.account(t, r), s.get(t, r.token, question{model: "simulator-chat"}).id}
}

func (s *stage) eventuallySees(t *testing.T, who *somebody, path string) {
	t.Helper()
	eventually(t, path, func() (bool, string) {
		status, text := who.ask(t, "GET", path, nil, nil)
		return status == http.StatusOK, text
	})
}

// What follows makes a fresh one of something that an act ends.

func (s *stage) invite(t *testing.T, r *realm) string {
	t.Helper()
	var i api.Invitation
	r.people[principal.Administrator].do(t, "POST", "/invitations", map[string]any{"organisation": r.name, "email": fmt.Sprintf("new-%d@example.org", serial.Add(1)), "name": "New", "roles": []string{"viewer"}}, &i)
	return i.ID
}

func (s *stage) account(t *testing.T, r *realm) string {
	t.Helper()
	var a struct{ ID string }
	r.people[principal.Administrator].do(t, "POST", "/service-accounts", map[string]any{"organisation": r.name, "name": fmt.Sprintf("job-%d", serial.Add(1))}, &a)
	return a.ID
}

func (s *stage) askFor(t *testing.T, r *realm) string {
	t.Helper()
	var g struct{ ID string }
	s.staff[principal.PlatformOperator].do(t, "POST", "/grants", map[string]any{"organisation": r.name, "scopes": []string{"settings"},
		"reason": "the client reports wrong answers since noon", "ticket": "T-4711", "duration": "1h"}, &g)
	return g.ID
}

func (s *stage) newKey(t *testing.T, r *realm) string {
	t.Helper()
	var k api.Key
	r.people[principal.Administrator].do(t, "POST", "/keys", map[string]any{"organisation": r.name, "name": fmt.Sprintf("key-%d", serial.Add(1))}, &k)
	return k.ID
}

func (s *stage) newBudget(t *testing.T, r *realm) string {
	t.Helper()
	var b struct{ ID string }
	r.people[principal.Administrator].do(t, "POST", "/budgets", map[string]any{"organisation": r.name, "period": "month", "limit": "100.00", "key": r.key}, &b)
	return b.ID
}

// fill puts what a realm has into a path or a body. {other} is an id of
// nothing, {name} a name that is free.
func (r *realm) fill(text string) string {
	return strings.NewReplacer("{org}", r.name, "{orgid}", r.id, "{key}", r.key, "{budget}", r.budget, "{person}", r.member, "{session}", r.session,
		"{invitation}", r.invitation, "{service}", r.service, "{grant}", r.grant, "{review}", r.review, "{request}", r.request, "{entry}", r.entry,
		"{other}", uuid.NewString(), "{name}", "n-"+uuid.NewString()[:13]).Replace(text)
}
