package daemon

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"
	"net/mail"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
)

// mailbox is a real SMTP server (aiosmtpd) in a process of its own.
type mailbox struct {
	t      *testing.T
	folder string
	port   int
}

func openMailbox(t *testing.T) *mailbox {
	t.Helper()
	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import aiosmtpd").Run() != nil {
		t.Skip("python3-aiosmtpd is missing: run scripts/setup test")
	}
	m := &mailbox{t: t, folder: t.TempDir()}
	cmd := exec.Command(python, "../notify/testdata/relay.py", m.folder)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the mail server did not start")
	}
	if m.port, err = strconv.Atoi(strings.TrimPrefix(lines.Text(), "port ")); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return m
}

// await waits for a message to an address whose subject says something, and
// gives its text.
func (m *mailbox) await(to, subject string) string {
	m.t.Helper()
	var seen []string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		files, _ := filepath.Glob(filepath.Join(m.folder, "*.eml"))
		seen = seen[:0]
		for _, f := range files {
			body, err := os.ReadFile(f)
			if err != nil {
				m.t.Fatal(err)
			}
			got, err := mail.ReadMessage(bytes.NewReader(body))
			if err != nil {
				m.t.Fatal(err)
			}
			said, _ := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
			seen = append(seen, got.Header.Get("X-Test-Recipient")+": "+said)
			if got.Header.Get("X-Test-Recipient") != to || !strings.Contains(said, subject) {
				continue
			}
			_, params, err := mime.ParseMediaType(got.Header.Get("Content-Type"))
			if err != nil {
				m.t.Fatal(err)
			}
			part, err := multipart.NewReader(got.Body, params["boundary"]).NextPart()
			if err != nil {
				m.t.Fatal(err)
			}
			text, err := io.ReadAll(part)
			if err != nil {
				m.t.Fatal(err)
			}
			return strings.ReplaceAll(string(text), "\r\n", "\n")
		}
	}
	m.t.Fatalf("no message to %s about %q came; there are: %q", to, subject, seen)
	return ""
}

func nodeWithMail(t *testing.T, m notify.Config) *Daemon { return nodeWith(t, Config{Mail: m}) }

// nodeWith starts a node in a directory and at addresses of its own.
func nodeWith(t *testing.T, c Config) *Daemon {
	t.Helper()
	root, err := os.MkdirTemp("", "mail")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	if err := os.Chmod(root, 0o711); err != nil { // the database's user passes through
		t.Fatal(err)
	}
	c.DataDir, c.Listen = filepath.Join(root, "d"), ListenConfig{HTTPS: "127.0.0.1:0", HTTP: "off"}
	d, err := Start(t.Context(), Options{Config: c, Version: "mail", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Stop(t.Context()) })
	return d
}

func TestAnInvitationArrivesAndItsLinkOpens(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a node")
	}
	box := openMailbox(t)
	d := nodeWithMail(t, notify.Config{From: "Foundry <foundry@example.org>", Alarms: []string{"ops@example.org"},
		Relays: []notify.Relay{{Host: "127.0.0.1", Port: box.port, TLS: notify.PlainText}}})
	ctx := t.Context()
	operator := principal.Principal{Kind: principal.Local, UID: 1000}
	org, err := access.CreateOrganisation(ctx, d.db, d.guard, operator, "st-mary")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.gateway.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.people.Invite(ctx, operator, access.NewInvitation{Organisation: org.ID, Email: "vera@example.org", Name: `Vera "V" Holm`, Roles: principal.RolesOf(principal.Viewer, principal.Administrator)}); err != nil {
		t.Fatal(err)
	}
	text := box.await("vera@example.org", "st-mary")
	link := regexp.MustCompile(`https://\S+/invitation#(fdi_[a-z2-7]+)`).FindStringSubmatch(strings.ReplaceAll(text, "=\n", ""))
	if link == nil || !strings.Contains(text, "viewer") {
		t.Fatalf("the message has no link, or does not say as what:\n%s", text)
	}

	// The link that came by mail, and nothing else, makes the account.
	client, base := d.httpsClient()
	client.Timeout = time.Minute // bcrypt takes long on a busy machine
	body, err := json.Marshal(map[string]string{"token": link[1], "name": "Vera Holm", "password": "marble-trombone-window-41"})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Post(base+"/api/v1/invitation/accept", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK {
		t.Fatalf("%d: %s", resp.StatusCode, answer)
	}

	// Another device, and then somebody who guesses.
	phone := access.Client{Address: netip.MustParseAddr("192.0.2.7"), Agent: "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36"}
	if _, err := d.people.SignInPassword(ctx, phone, "vera@example.org", "marble-trombone-window-41"); err != nil {
		t.Fatal(err)
	}
	if text := box.await("vera@example.org", "New sign-in"); !strings.Contains(text, "192.0.2") {
		t.Errorf("no place: %s", text)
	}
	for range 5 {
		_, _ = d.people.SignInPassword(ctx, phone, "vera@example.org", "wrong")
	}
	box.await("vera@example.org", "locked until")

	// The glass is broken: the client and the operators hear of it.
	people, err := d.people.AdministratorsOf(ctx, org.ID)
	if err != nil || len(people) != 1 {
		t.Fatal(people, err)
	}
	if _, err := d.grants.BreakGlass(ctx, operator, access.NewGrant{Organisation: org.ID, Holder: people[0].Person, Scopes: []access.Scope{"requests"},
		Reason: "Patients wait, nobody answers.", Ticket: "INC-1042", Duration: 30 * time.Minute}); err != nil {
		t.Fatal(err)
	}
	if text := box.await("vera@example.org", "Staff access"); !strings.Contains(text, "INC-1042") {
		t.Error(text)
	}
	box.await("ops@example.org", "glass-broken")

	// Nobody's address or token is in the audit log or in the open columns of
	// the outbox.
	for _, n := range list(t, d) {
		if shown, _ := json.Marshal(n); bytes.Contains(shown, []byte("vera@")) || bytes.Contains(shown, []byte("fdi_")) {
			t.Errorf("%s", shown)
		}
	}
}

func list(t *testing.T, d *Daemon) []notify.Notification {
	t.Helper()
	all, err := d.outbox.List(t.Context(), d.db, notify.Filter{All: true, Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWithoutARelayEverythingWorksAndMessagesAreHeld(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a node")
	}
	d := nodeWithMail(t, notify.Config{})
	operator := principal.Principal{Kind: principal.Local, UID: 1000}
	i, token, err := d.people.Bootstrap(t.Context(), operator, "anna@example.org", "Anna Ek")
	if err != nil {
		t.Fatal(err)
	}
	all := list(t, d)
	if len(all) != 1 || !all[0].Held || all[0].Template != notify.Invitation {
		t.Errorf("%+v", all)
	}
	if _, _, err := d.people.ResendInvitation(t.Context(), operator, i.ID); err != nil {
		t.Fatal(err)
	}
	if all := list(t, d); len(all) != 2 {
		t.Errorf("%d messages after it was sent again", len(all))
	}
	if _, err := d.people.Accept(t.Context(), access.Client{}, token, access.Acceptance{Password: "marble-trombone-window-41"}); err == nil {
		t.Error("the first link opens after it was replaced")
	}
	d.alarm(notify.Critical, "test", uuid.Nil, map[string]string{"a": "b"})
	if alarms, err := notify.Alarms(t.Context(), d.db, 10); err != nil || len(alarms) == 0 {
		t.Error(alarms, err)
	}
}
