//go:build faults

package daemon

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/fleet/survivor"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/notify"
)

// machine answers by two kinds of signal at two ports, or by none of them. Its
// addresses stay.
type machine struct {
	t     *testing.T
	web   string
	plain string
	cert  *tls.Certificate
	down  func()
}

func (m *machine) up() {
	m.t.Helper()
	listen := func(at string) net.Listener {
		l, err := net.Listen("tcp", at)
		if err != nil {
			m.t.Fatal(err)
		}
		return l
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "well") }))
	_ = server.Listener.Close()
	server.Listener = listen(m.web)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*m.cert}}
	server.Config.ErrorLog = quietLog(slog.New(slog.DiscardHandler))
	server.StartTLS()
	plain := listen(m.plain)
	go func() {
		for {
			c, err := plain.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	m.down = func() { server.CloseClientConnections(); server.Close(); _ = plain.Close() }
}

// inFleet is the configuration of a node that others can reach.
func inFleet(t *testing.T, name string) Config {
	t.Helper()
	root, err := os.MkdirTemp("", "lookout")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	if err := os.Chmod(root, 0o711); err != nil { // the database's user passes through
		t.Fatal(err)
	}
	at := membertest.Free(t, 3)
	return Config{DataDir: filepath.Join(root, "d"), Listen: ListenConfig{HTTPS: "127.0.0.1:0", HTTP: "off"},
		Fleet: FleetConfig{Name: name, Listen: DoorsConfig{Peers: at[0], Clients: at[1], Join: at[2]}}}.withDefaults()
}

// watching starts a node that confirms in a second.
func watching(t *testing.T, c Config, roles ...member.Role) *Daemon {
	t.Helper()
	d, err := Serve(t.Context(), Options{Config: c, Version: "lookout", Log: slog.New(slog.DiscardHandler),
		rules: verdict.Rules{Suspect: 200 * time.Millisecond, Confirm: time.Second, Recover: 500 * time.Millisecond}}, roles)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Stop(context.WithoutCancel(t.Context())) })
	return d
}

// beside is a process that has a place in the fleet and neither gateway nor
// PostgreSQL, and looks.
func beside(t *testing.T, o member.Options) *Daemon {
	t.Helper()
	d := newDaemon(Options{Config: Config{DataDir: filepath.Dir(o.Dir)}, Roles: []member.Role{member.Inference}})
	d.config.Database.BinDir = t.TempDir()
	d.life, d.stop = context.WithCancel(context.Background())
	m, err := member.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	d.member.Store(m)
	t.Cleanup(func() {
		d.stop()
		d.running.Wait()
		d.closeLookout()
		d.leaveFleet(context.WithoutCancel(t.Context()))
	})
	if err := d.makeLookout(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.runLookout(d.life)
	return d
}

// tell puts a plan into force for the fleet, later than the one before.
func tell(t *testing.T, d *Daemon, text string) {
	t.Helper()
	var err error
	membertest.Await(t, "the fleet takes a plan", func(ctx context.Context) bool {
		err = fleet.PublishPlan(ctx, d.Member().Store(), "sha256:"+uuid.NewString(), uuid.NewString(), time.Now(), []byte(text), nil)
		return err == nil
	})
}

// entry waits for an act in the audit log and gives what it says.
func entry(t *testing.T, d *Daemon, act, target string) (actor string, details map[string]any) {
	t.Helper()
	membertest.Await(t, act+" of "+target+" stands in the audit log", func(ctx context.Context) bool {
		var raw []byte
		err := d.db.Pool(db.Migrator).QueryRow(ctx, `SELECT actor, details FROM audit WHERE act = $1 AND target = $2 ORDER BY id LIMIT 1`, act, target).Scan(&actor, &raw)
		if errors.Is(err, pgx.ErrNoRows) {
			return false
		}
		if err == nil {
			err = json.Unmarshal(raw, &details)
		}
		if err != nil {
			t.Fatal(err)
		}
		return true
	})
	return actor, details
}

// alarms are those that were raised, with how often.
func alarms(t *testing.T, d *Daemon) (out []string) {
	t.Helper()
	all, err := notify.Alarms(t.Context(), d.db, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		out = append(out, fmt.Sprintf("%s %s %d", a.Code, a.Severity, a.Total))
	}
	return out
}

// Beside its own functions this fleet looks at another one, whose endpoints end
// with the shop's here.
const watched = `version: 1
organisation: {name: Demo, owner: anna, country: FI}
people: [{name: anna}]
nodes: [{name: one, roles: [gateway, fleet]}, {name: two, roles: [fleet]}]
functions:
  - name: shop
    mtd: 1 day
    rto: 4h
    probes:
      - {name: page, kind: https, target: "https://%s/", every: 1s, from: [one]}
      - {name: port, kind: tcp, target: "%s", every: 1s, from: [one]}
  - name: platform
    mtd: 1 day
    rto: 4h
    host: [one]
%s
watches:
  - name: Nightingale 1
    probes:
      - {name: page, kind: https, target: "https://%[1]s/", every: 1s, from: [one]}
      - {name: port, kind: tcp, target: "%[2]s", every: 1s, from: [one]}
`

// What the fleet confirms is entered and told whoever else enters acts of the
// fleet: the acts of the membership come first here, and went on to hold the
// only place from which anything was entered.
func TestAConfirmedLossIsEnteredWithItsSignalsAndAlarmedAndSoIsItsEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts two nodes")
	}
	t.Parallel()
	d := watching(t, inFleet(t, "one"), member.Gateway, member.Fleet)
	shop := &machine{t: t, web: membertest.Free(t, 1)[0], plain: membertest.Free(t, 1)[0]}
	host, _, _ := net.SplitHostPort(shop.web)
	var err error
	if shop.cert, err = d.authority.issue([]string{host}, time.Now()); err != nil {
		t.Fatal(err)
	}
	shop.up()

	// Another node is invited: an act, which is entered before any loss is.
	if _, _, err := d.Member().Invite(t.Context(), "local:uid=0", "three", []member.Role{member.Fleet}); err != nil {
		t.Fatal(err)
	}
	entry(t, d, "node.invite", "three")

	tell(t, d, fmt.Sprintf(watched, shop.web, shop.plain, ""))
	subject := verdict.Function("shop")
	membertest.Await(t, "the shop is seen to work", func(context.Context) bool {
		v, ok := d.watcher.Ruled(subject)
		return ok && v.State == verdict.Fine
	})
	shop.down()
	actor, lost := entry(t, d, "fleet.lost", subject)
	signals := fmt.Sprint(lost["signals"])
	if actor != "system:fleet" || lost["leader"] != "one" || lost["state"] != "lost" || !strings.Contains(signals, "signal:https") || !strings.Contains(signals, "signal:tcp") || lost["why"] == "" {
		t.Errorf("%s entered %v", actor, lost)
	}
	if got := alarms(t, d); !slices.Contains(got, "fleet-lost critical 1") {
		t.Errorf("%q", got)
	}
	// The other fleet's loss is told as seen from outside, and counts as
	// nothing of this one.
	other := verdict.Outside("Nightingale 1")
	if _, seen := entry(t, d, "fleet.outside.lost", other); seen["state"] != "lost" {
		t.Errorf("entered %v", seen)
	}
	if got := alarms(t, d); !slices.Contains(got, "outside-nightingale-1 critical 1") {
		t.Errorf("%q", got)
	}
	if p := d.watcher.Picture(); len(p.Outside) != 1 || p.Outside[0].Name != "Nightingale 1" || p.Outside[0].Verdict.State != verdict.Lost || len(p.Functions) != 2 || slices.Contains(d.functionsDown(), "Nightingale 1") {
		t.Errorf("%+v", p)
	}
	shop.up()
	defer func() { shop.down() }()
	if _, back := entry(t, d, "fleet.back", subject); back["id"] == lost["id"] || back["state"] == "lost" {
		t.Errorf("entered %v after %v", back, lost)
	}
	if got := alarms(t, d); !slices.Contains(got, "fleet-lost critical 1") {
		t.Errorf("the end of a loss is alarmed too: %q", got)
	}
	entry(t, d, "fleet.outside.back", other)
	membertest.Await(t, "nothing is left to be entered", func(ctx context.Context) bool {
		left, err := d.watcher.Confirmed(ctx)
		return err == nil && len(left) == 0
	})
	anIncidentCameOfIt(t, d, "shop")
	anotherAuthorityIsFound(t, d)
	whatIsLeftForAnother(t, d, shop)
}

// anotherAuthorityIsFound says what is seen where another gateway of the same
// database is known by another authority, until that one is gone.
func anotherAuthorityIsFound(t *testing.T, d *Daemon) {
	as := func(sql string) {
		t.Helper()
		if _, err := d.db.Pool(db.Migrator).Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	as(`INSERT INTO gateways (node, boot, instance, trusts, version, authority, seen_at) VALUES (999, 1, gen_random_uuid(), '1 minute', 'x', 'another', now() + '1 hour'::interval)`)
	membertest.Await(t, "the other authority is found and told", func(context.Context) bool {
		r := d.ready()
		return strings.Contains(r.Authority, "do not trust node 999") && strings.Contains(r.Authority, "tls.certificate") && r.Status == "ready" && slices.Contains(alarms(t, d), "authority-differs warning 1")
	})
	as(`UPDATE gateways SET seen_at = '-infinity' WHERE node = 999`)
	membertest.Await(t, "it is gone", func(context.Context) bool { return d.ready().Authority == "ok" })
}

// whatIsLeftForAnother is the way of what survivors need, from the node that
// leaves it to the one that opens it, and what follows when the plan no longer
// names that one.
func whatIsLeftForAnother(t *testing.T, d *Daemon, shop *machine) {
	const takes = "    fallbacks: [{node: two, state: warm, data: backup}]\n"
	o := membertest.Options(t, "two", member.Gateway) // it has no vote that would be missed
	f := &membertest.Fleet{Members: []*member.Member{d.Member()}, Options: []member.Options{{}}}
	f.Join(t, 0, o)
	tell(t, d, fmt.Sprintf(watched, shop.web, shop.plain, takes))
	membertest.Await(t, "one has left for two what it needs", func(ctx context.Context) bool {
		_, err := d.Member().Store().Get(ctx, "survivors/two/one")
		return err == nil
	})
	two := beside(t, o)
	var r survivor.Readiness
	membertest.Await(t, "two has opened it and says what it lacks", func(ctx context.Context) bool {
		all, err := d.custody.Readiness(ctx, false)
		if err != nil {
			return false
		}
		i := slices.IndexFunc(all, func(r survivor.Readiness) bool { return r.To == "two" && r.From == "one" })
		if i < 0 {
			return false
		}
		r = all[i]
		return strings.Contains(r.Words(), "no PostgreSQL server that Foundry can run is installed there")
	})
	if r.Opened.IsZero() || strings.Contains(r.Words(), "cannot open") {
		t.Errorf("%+v", r)
	}
	held, err := two.custody.Take(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	got, err := joinKit(held.Parts)
	if err != nil {
		t.Fatal(err)
	}
	want, err := d.kitContent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.KEKs) == 0 || !reflect.DeepEqual(got.KEKs, want.KEKs) || got.Settings != want.Settings {
		t.Error("what two opens is not what one has")
	}

	tell(t, d, fmt.Sprintf(watched, shop.web, shop.plain, ""))
	membertest.Await(t, "what two held is withdrawn and somebody is told", func(ctx context.Context) bool {
		_, err := d.Member().Store().Get(ctx, "survivors/two/one")
		return errors.Is(err, member.ErrAbsent) && slices.Contains(alarms(t, d), "survivor-withdrawn warning 1")
	})
}
