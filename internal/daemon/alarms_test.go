package daemon

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
)

// What must not stay unheard arrives: at a real mail server, from a real node.
func TestAlarmsAndWhatClientsAreToldArrive(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a node")
	}
	box := openMailbox(t)
	yes := true
	d := nodeWith(t, Config{
		Mail: notify.Config{From: "Foundry <foundry@example.org>", Alarms: []string{"ops@example.org"},
			Relays: []notify.Relay{{Host: "127.0.0.1", Port: box.port, TLS: notify.PlainText}}},
		Config: gateway.Config{Providers: []gateway.ProviderConfig{{Name: "simulator", Kind: string(gateway.SimulatorKind), Own: &yes,
			Models: []gateway.ProviderModelConfig{{Name: "simulator-chat", Price: &gateway.PriceConfig{Input: "1000", Output: "1000"}}}}}},
	})
	operator := principal.Principal{Kind: principal.Local, UID: 1000}
	org, err := access.CreateOrganisation(t.Context(), d.db, d.guard, operator, "st-mary")
	if err != nil {
		t.Fatal(err)
	}
	join := func(email string, at uuid.UUID, roles ...principal.Role) principal.Principal {
		t.Helper()
		_, token, err := d.people.Invite(t.Context(), operator, access.NewInvitation{Organisation: at, Email: email, Name: "Somebody", Roles: principal.RolesOf(roles...)})
		if err != nil {
			t.Fatal(err)
		}
		in, err := d.people.Accept(t.Context(), access.Client{}, token, access.Acceptance{Password: "marble-trombone-window-41"})
		if err != nil {
			t.Fatal(err)
		}
		p := in.Principal
		p.Roles, p.SecondFactor = principal.RolesOf(roles...), time.Now() // as if they had enrolled one
		return p
	}
	join("vera@example.org", org.ID, principal.Administrator)
	vera := person(t, d, org.ID)

	t.Run("a budget that passes its alarm line", func(t *testing.T) { budgetAlarmArrives(t, d, box, org.ID, operator) })
	t.Run("staff who are given access", func(t *testing.T) {
		otto := join("otto@example.org", uuid.Nil, principal.PlatformOperator)
		sara := join("sara@example.org", uuid.Nil, principal.PlatformSecurity)
		g, err := d.grants.Request(t.Context(), otto, access.NewGrant{Organisation: org.ID, Scopes: []access.Scope{"requests"},
			Reason: "A request of yesterday got no answer.", Ticket: "INC-2077", Duration: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.grants.Approve(t.Context(), sara, g.ID, ""); err != nil {
			t.Fatal(err)
		}
		if text := box.await("vera@example.org", "Staff access"); !strings.Contains(text, "INC-2077") || !strings.Contains(text, "no answer") {
			t.Error(text)
		}
	})
	t.Run("a recovery link, and not the link", func(t *testing.T) {
		_, token, err := d.people.Recover(t.Context(), operator, vera)
		if err != nil {
			t.Fatal(err)
		}
		text := box.await("vera@example.org", "recovery link")
		if whole := strings.ReplaceAll(text, "=\n", ""); strings.Contains(whole, "fdi_") || strings.Contains(whole, token[14:]) || strings.Contains(whole, "https://") || !strings.Contains(whole, "st-mary") {
			t.Error(text)
		}
	})
	// The last, because the log does not advance any more afterwards.
	t.Run("an audit log that lost entries", func(t *testing.T) { auditAlarmArrives(t, d, box) })
}

// person is the only administrator of an organisation.
func person(t *testing.T, d *Daemon, org uuid.UUID) uuid.UUID {
	t.Helper()
	all, err := d.people.AdministratorsOf(t.Context(), org)
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	return all[0].Person
}

func budgetAlarmArrives(t *testing.T, d *Daemon, box *mailbox, org uuid.UUID, operator principal.Principal) {
	b := ledger.Budget{Organisation: org, Period: ledger.Total, LimitNano: 2e9, AlarmPercent: 1, Currency: d.gateway.Currency()}
	err := d.db.Org(t.Context(), org, func(tx pgx.Tx) (err error) {
		b, err = ledger.NewStore(d.db, d.guard).SetBudget(t.Context(), tx, operator, b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := d.verifier.CreateKey(t.Context(), d.db, d.guard, operator, access.NewKey{Organisation: org, Name: "app"})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.gateway.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	client, base := d.httpsClient()
	client.Timeout = time.Minute // of a busy machine
	question, err := json.Marshal(map[string]any{"model": "simulator-chat", "max_tokens": 50,
		"messages": []map[string]string{{"role": "user", "content": "Please write 40 words"}}})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; <-time.After(50 * time.Millisecond) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/chat/completions", bytes.NewReader(question))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			break
		}
		// The node asks for a lease on a budget that it has just heard of.
		if resp.Header.Get("X-Foundry-Problem") != "budget-lease-spent" || time.Now().After(end) {
			t.Fatalf("%d: %s", resp.StatusCode, answer)
		}
	}
	text := strings.ReplaceAll(box.await("ops@example.org", "budget."+b.ID.String()), "=\n", "")
	if !strings.Contains(text, org.String()) || !strings.Contains(text, "foundry budget list") {
		t.Error(text)
	}
}

// auditAlarmArrives removes entries as who has the database would.
func auditAlarmArrives(t *testing.T, d *Daemon, box *mailbox) {
	before := d.auditLog.Status().Size
	for deadline := time.Now().Add(30 * time.Second); before < 5; before = d.auditLog.Status().Size {
		if time.Now().After(deadline) {
			t.Fatalf("only %d entries are in the tree", before)
		}
		<-time.After(20 * time.Millisecond)
	}
	if _, err := d.db.Pool(db.Migrator).Exec(t.Context(), `DELETE FROM audit_leaves WHERE leaf >= 3`); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); d.auditLog.Status().Failure == ""; <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the log did not notice")
		}
	}
	d.lookAtAuditLog()
	text := strings.ReplaceAll(box.await("ops@example.org", "audit-log.stopped"), "=\n", "")
	if !strings.Contains(text, "audit-tree-behind") || !strings.Contains(text, "foundry audit verify") {
		t.Error(text)
	}
}
