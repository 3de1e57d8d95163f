//go:build faults

package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/continuity/host"
	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/continuity/supplier"
	"github.com/missionopsai/foundry/internal/continuity/supplier/suppliertest"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/principal"
)

const ordered = `version: 1
organisation: {name: Demo, owner: anna, country: FI}
people: [{name: anna}]
suppliers: [{name: cloud, jurisdiction: DE, provides: [hosting]}]
nodes: [{name: one, roles: [fleet]}, {name: new, supplier: cloud, roles: [fleet]}]
functions: [{name: web, mtd: 1 day, rto: 4h}]
recovery:
  - {name: contain, onto: [one], steps: [{name: cut, kind: isolate, node: one}, {name: keep, kind: capture, node: one}]}
  - {name: clean, functions: [web], onto: [one], steps: [{name: wipe, kind: wipe, node: one, approved_by: [anna]}]}
  - {name: bring, functions: [web], onto: [one], steps: [{name: up, kind: start}, {name: certify, kind: certificate}]}
  - {name: buy, onto: [new], steps: [{name: server, kind: provision, node: new}]}
`

// program writes a script that may be run here.
func program(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// opensAgain has the node's quarantine lifted, which takes a decision of its own.
func (p *process) opensAgain(t *testing.T, id string) {
	t.Helper()
	lift := &incident.Quarantine{Node: "one", Step: "lifted", At: time.Now(), How: "installed anew"}
	if _, _, err := p.book.Append(t.Context(), p.who, id, lift); codeOf(err) != "incident-quarantine-undecided" {
		t.Errorf("it was lifted though nobody had decided so: %v", err)
	}
	e, _, err := p.book.Append(t.Context(), p.who, id, &incident.Decision{About: "lift-quarantine", Target: "one", Words: "Installed anew from a clean image."})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.book.Append(t.Context(), p.who, id, lift); codeOf(err) != "incident-quarantine-undecided" {
		t.Errorf("it was lifted though nobody had approved it: %v", err)
	}
	if _, _, err := p.book.Append(t.Context(), p.who, id, &incident.Approval{Of: e.N, Approve: true}); err != nil {
		t.Fatal(err)
	}
	if _, cut, _ := p.machine.Quarantined(); !cut {
		t.Error("it opened itself before it was told")
	}
	if _, _, err := p.book.Append(t.Context(), p.who, id, lift); err != nil {
		t.Fatal(err)
	}
	membertest.Await(t, "the node has opened itself", func(context.Context) bool {
		_, cut, err := p.machine.Quarantined()
		return err == nil && !cut
	})
	membertest.Await(t, "that it did is in the timeline", func(context.Context) bool {
		return slices.ContainsFunc(p.acts(id), func(a string) bool { return strings.HasPrefix(a, actOpened) })
	})
}

// Each act on a node goes from the leader's desk by the fleet's store to the
// node's own process, which does what its configuration allows and nothing else.
func TestARecoverysOrdersAreCarriedOutByTheNodeItselfAsItsConfigurationAllows(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process")
	}
	t.Parallel()
	dir := t.TempDir()
	disk, began, rules := filepath.Join(dir, "disk"), filepath.Join(dir, "began"), filepath.Join(dir, "rules")
	if err := os.WriteFile(disk, []byte("what an intruder left"), 0o600); err != nil {
		t.Fatal(err)
	}
	// A simulator of nft, which enforces nothing: this machine is not cut off.
	nft := program(t, `if [ "$1" = -f ]; then cat > "`+rules+`.new"; if grep -q '^delete table' "`+rules+`.new" && ! grep -q chain "`+rules+`.new"; then rm -f "`+rules+`"; else cat "`+rules+`.new" >> "`+rules+`"; fi; else
c='{"chain":{"family":"inet","table":"foundry_quarantine","name":"x","hook":"%s","policy":"drop"}}'
if [ -e "`+rules+`" ]; then printf '{"nftables":['"$c,$c,$c"']}' input output forward; else printf '{"nftables":[]}'; fi
fi
`)
	sim := suppliertest.NewCloud("t")
	server := httptest.NewTLSServer(sim)
	t.Cleanup(server.Close)
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := inFleet(t, "one")
	c.Continuity = ContinuityConfig{
		Allow: host.Config{Commands: []host.Command{{Name: "up", Argv: []string{program(t, `echo once >> "`+began+`"`)}, On: []string{host.Start}, Functions: []string{"web"}}},
			Quarantine: &host.Quarantine{Admin: []string{"198.51.100.7"}}, Programs: host.Programs{Nft: nft},
			Capture: &host.Capture{Disks: []string{disk}, Commands: []host.CaptureCommand{{Name: "who", Argv: []string{"/bin/echo", "nobody"}, Kind: "memory"}, {Name: "image", Argv: []string{"/bin/cat", disk}, Kind: "disk"}}}},
		Suppliers: []supplier.Config{{Name: "cloud", Kind: "hetzner-cloud", Token: config.Secret{File: token},
			Provision: &supplier.Provision{Type: "cpx41", Location: "hel1", MaxMonthly: "29.99", Binary: "https://example.eu/foundry", SHA256: strings.Repeat("ab", 32), Roles: []string{"fleet"}}}}}
	p := operated(t, c, &wall{})
	p.machines["cloud"] = &supplier.Cloud{Endpoint: server.URL, Client: server.Client(), Token: config.Secret{File: token}}
	p.goesBy(ordered)
	id := p.opens(incident.Begin{Title: "An intruder", Category: incident.Security, Nodes: []string{"one"}, Functions: []string{"web"}})

	// Nothing is wiped before it was captured, whoever agrees.
	clean := p.starts(id, "clean")
	p.until(clean.ID, "the wipe is held", func(r recovery.Shown) bool {
		s := stepOf(r, "wipe")
		return s.State == recovery.Ready && strings.Contains(s.Words, "no capture of the disk")
	})
	// Who is not one of those whom the plan names approves nothing, and that stands
	// in the timeline.
	somebody := principal.Principal{Kind: principal.Person, ID: "somebody", Roles: 1 << principal.PlatformOperator, SecondFactor: time.Now()}
	for _, c := range []struct {
		by   principal.Principal
		code string
	}{{p.who, "recovery-approver-unknown"}, {somebody, "recovery-approver"}} {
		if _, err := p.recovery.Approve(t.Context(), c.by, clean.ID, recovery.Word{Step: "wipe"}, false); codeOf(err) != c.code {
			t.Errorf("%s approved: %v", c.by, err)
		}
		if !slices.Contains(p.acts(id), "recovery.approve clean/wipe refused "+c.code) {
			t.Errorf("that %s tried to is not in the timeline: %q", c.by, p.acts(id))
		}
	}
	if _, err := p.recovery.Say(t.Context(), p.who, clean.ID, recovery.Word{Step: "wipe", Words: "Wiped.", Evidence: []string{"ticket:1"}}, false); codeOf(err) != "recovery-say-idle" {
		t.Errorf("a person waved the interlock through: %v", err)
	}

	contain := p.starts(id, "contain")
	contain = p.until(contain.ID, "it is cut off and captured", func(r recovery.Shown) bool { return !r.Ended.IsZero() })
	if text, err := os.ReadFile(rules); err != nil || !strings.Contains(string(text), "198.51.100.7") {
		t.Errorf("the rules are %s (%v)", text, err)
	}
	sum := sha256.Sum256([]byte("what an intruder left"))
	s := p.state(id, "the evidence stands in the incident", func(s *incident.State) bool {
		return slices.ContainsFunc(s.Evidence, func(h incident.Held) bool { return h.Capture == incident.CaptureDisk })
	})
	kept := s.Evidence[slices.IndexFunc(s.Evidence, func(h incident.Held) bool { return h.Capture == incident.CaptureDisk })]
	if kept.Hash != hex.EncodeToString(sum[:]) || !kept.Checked || kept.Target != "one" || len(s.Isolated) != 1 || s.Isolated[0].Node != "one" {
		t.Errorf("kept is %+v, cut off %+v", kept, s.Isolated)
	}
	p.proven(contain)
	p.opensAgain(t, id)
	p.until(clean.ID, "the interlock opens, and it waits for whom the plan names", func(r recovery.Shown) bool {
		n := stepOf(r, "wipe").Need
		return n != nil && n.What == recovery.NeedApprove && slices.Equal(n.Who, []string{"anna"})
	})

	bring := p.starts(id, "bring")
	r, _ := p.comesTo(bring.ID, "up", recovery.Done)
	if text, _ := os.ReadFile(began); string(text) != "once\n" {
		t.Errorf("the command was run as %q", text)
	}
	r = p.until(r.ID, "what the node does not allow is left to people", func(r recovery.Shown) bool {
		s := stepOf(r, "certify")
		return s.State == recovery.NeedsPerson && s.Need != nil && s.Need.What == recovery.NeedSay
	})
	if s := stepOf(r, "certify"); !strings.Contains(s.Need.Words, "one: ") {
		t.Errorf("it is asked for by %+v", s.Need)
	}

	buy := p.starts(id, "buy")
	p.until(buy.ID, "it waits for the new node", func(r recovery.Shown) bool {
		g := stepOf(r, "server").Progress
		return g != nil && strings.Contains(g.Words, "waiting for it to join")
	})
	text := fmt.Sprint(sim.Made[0]["user_data"])
	invitation := regexp.MustCompile(`(?m)^[A-Za-z0-9_-]{20,}\.[A-Za-z0-9._-]+$|(?m)^[A-Za-z0-9._-]{40,}$`).FindAllString(text, -1)
	joined := false
	o := membertest.Options(t, "new", member.Fleet)
	for _, token := range invitation {
		if _, err := member.Join(t.Context(), o, token); err == nil {
			joined = true
			break
		}
	}
	if !joined {
		t.Fatalf("with what the server was given it cannot join: %q", text)
	}
	buy = p.until(buy.ID, "the node is there", func(r recovery.Shown) bool { return !r.Ended.IsZero() })
	if s := stepOf(buy, "server"); s.State != recovery.Done || s.Receipt.Facts["ordered"] != "true" || len(sim.Made) != 1 {
		t.Errorf("it was provided as %+v by %d orders", s, len(sim.Made))
	}
	p.refuses(clean)
}

// refuses gives orders that a node may not carry out, in a run that goes on.
func (p *process) refuses(r recovery.Shown) {
	t := p.t
	term, leads := p.watcher.Term()
	if !leads {
		t.Fatal("the only process does not lead")
	}
	desk := &order.Desk{Store: p.store}
	for i, c := range []struct {
		code   string
		change func(*order.Order)
	}{
		{"order-epoch-old", func(o *order.Order) { o.Epoch = term.Epoch() - 1 }},
		{"order-plan-other", func(o *order.Order) { o.Plan = "sha256:another" }},
		{"order-run-unknown", func(o *order.Order) { *o = order.New("rec-20200101-nobody", "x", "one", "host.start", 1) }},
		{"order-kind", func(o *order.Order) { o.Kind = "host.explode" }},
		{"host-nothing-allowed", func(o *order.Order) { o.Kind = "host.stop" }},
	} {
		o := order.New(r.ID, fmt.Sprintf("by-hand-%d", i), "one", "host.start", 1)
		o.Epoch, o.Plan = term.Epoch(), r.Plan
		o.Args = map[string]string{"functions": "web"}
		c.change(&o)
		ctx, cancel := context.WithTimeout(t.Context(), membertest.Patience)
		a, err := desk.Give(ctx, term, o)
		cancel()
		if err == nil || a.Code != c.code {
			t.Errorf("%s: answered %+v, %v", c.code, a, err)
		}
	}
}
