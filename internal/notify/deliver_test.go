package notify

import (
	"context"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

func TestAMessageReachesARealServerOverStartTLSWithLogin(t *testing.T) {
	d, s := dbtest.New(t), startServer(t, "--user", "foundry", "--password", "correct horse")
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.relay()
	r.Username, r.Password = "foundry", config.Secret{File: secret}
	b := outbox(t, r)
	sending(t, d, b)
	id := put(t, d, b, invitation(uuid.New(), "grace@example.org"))
	n := await(t, d, b, id, "accepted", is(Accepted))
	if !n.Wiped || n.Attempts != 1 || n.Next != nil || n.Ended == nil {
		t.Errorf("%+v", n)
	}
	got := s.received()
	if len(got) != 1 {
		t.Fatalf("%d messages", len(got))
	}
	h := got[0].Header
	if h.Get("X-Test-Tls") != "True" || h.Get("X-Test-Login") != "True" || h.Get("X-Test-Recipient") != "grace@example.org" {
		t.Errorf("%v", h)
	}
	if h.Get("Message-Id") != "<"+n.MessageID+">" || h.Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("%v", h)
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatal(kind, err)
	}
	parts := multipart.NewReader(got[0].Body, params["boundary"])
	for _, want := range []string{"text/plain", "text/html"} {
		p, err := parts.NextPart()
		if err != nil || !strings.HasPrefix(p.Header.Get("Content-Type"), want) {
			t.Fatal(want, err)
		}
		body, _ := io.ReadAll(p)
		if !strings.Contains(string(body), "https://ai.example.eu/invitation/abc") {
			t.Errorf("the %s part has no link:\n%s", want, body)
		}
	}
}

func TestImplicitTLSWorksToo(t *testing.T) {
	d, s := dbtest.New(t), startServer(t, "--implicit")
	r := s.relay()
	r.TLS = ImplicitTLS
	b := outbox(t, r)
	sending(t, d, b)
	await(t, d, b, put(t, d, b, invitation(uuid.New(), "grace@example.org")), "accepted", is(Accepted))
	if got := s.received(); len(got) != 1 || got[0].Header.Get("X-Test-Tls") != "True" {
		t.Error(got)
	}
}

// The attacks on the connection: nothing personal may go out.
func TestNothingIsSentOverAConnectionThatIsNotProtected(t *testing.T) {
	plain := startServer(t, "--plain")
	stranger := startServer(t)
	unknown := stranger.relay()
	unknown.CA = ""
	misnamed := stranger.relay()
	misnamed.Name = "other.example.eu"
	stripped := plain.relay()
	stripped.CA = ""
	for name, r := range map[string]Relay{"STARTTLS is stripped": stripped, "the authority is unknown": unknown, "the name is another's": misnamed} {
		b := outbox(t, r)
		c := content{To: Address{Email: "grace@example.org"}, From: b.from, text: text{Subject: "s", Text: "t", HTML: "h"}}
		got := r.deliver(t.Context(), "localhost", c, []byte("Subject: s\r\n\r\nt\r\n"))
		if got.outcome != deferred || got.stage != "tls" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if len(plain.received())+len(stranger.received()) > 0 {
		t.Error("a message got through")
	}
}

func TestTheFallbackIsUsedWhenThePrimaryIsDown(t *testing.T) {
	d, s := dbtest.New(t), startServer(t)
	dead := Relay{Host: "127.0.0.1", Port: freePort(t), Timeout: config.Duration(time.Second)}
	b := outbox(t, dead, s.relay())
	sending(t, d, b)
	id := put(t, d, b, invitation(uuid.New(), "grace@example.org"))
	n := await(t, d, b, id, "accepted", is(Accepted))
	if len(n.Log) != 2 || n.Log[0].Outcome != string(deferred) || n.Log[0].Stage != "connect" || n.Log[1].Outcome != string(accepted) {
		t.Errorf("%+v", n.Log)
	}
	if ids := s.ids(); len(ids) != 1 || ids["<"+n.MessageID+">"] != 1 {
		t.Errorf("%v", ids)
	}
}

func TestWhatNobodyTakesWaitsAndIsDeliveredLater(t *testing.T) {
	d := dbtest.New(t)
	port := freePort(t)
	r := Relay{Host: "127.0.0.1", Port: port, Name: "relay.example.eu", Timeout: config.Duration(time.Second)}
	b := outbox(t, r)
	org := uuid.New()
	id := put(t, d, b, invitation(org, "grace@example.org"))
	sending(t, d, b)
	n := await(t, d, b, id, "tried twice", func(n Notification) bool { return n.Attempts >= 2 && n.State == Queued })
	if n.Wiped {
		t.Error("it is wiped")
	}
	s := startServer(t, "--port", fmt.Sprint(port))
	b2 := outbox(t, s.relay()) // the same relay, now with its authority's file
	sending(t, d, b2)
	n = await(t, d, b, id, "accepted", is(Accepted))
	if ids := s.ids(); len(ids) != 1 || ids["<"+n.MessageID+">"] != 1 {
		t.Errorf("%v", ids)
	}
}

func TestTwoNodesSendEachMessageOnce(t *testing.T) {
	d, s := dbtest.New(t), startServer(t)
	var ids []uuid.UUID
	b := outbox(t, s.relay())
	for i := range 12 {
		ids = append(ids, put(t, d, b, invitation(uuid.New(), fmt.Sprintf("p%d@example.org", i))))
	}
	sending(t, d, b)
	sending(t, d, outbox(t, s.relay()))
	for _, id := range ids {
		await(t, d, b, id, "accepted", is(Accepted))
	}
	if got := s.ids(); len(got) != 12 || len(s.received()) != 12 {
		t.Errorf("%d messages with %d ids", len(s.received()), len(got))
	}
}

// What a relay says, and what follows.
func TestEveryMisbehaviourOfARelayHasItsMeaning(t *testing.T) {
	tlsHello := []string{"220 hi", "250-relay\r\n250 STARTTLS", "220 go on", "drop"}
	for _, tc := range []struct {
		name   string
		script []string
		tls    string
		want   outcome
		stage  string
		code   int
	}{
		{"421 instead of a greeting", []string{"421 4.3.2 come back later"}, PlainText, deferred, "greeting", 421},
		{"554 instead of a greeting", []string{"554 5.3.2 no service"}, PlainText, deferred, "greeting", 554},
		{"silence instead of a greeting", []string{"hang"}, PlainText, deferred, "greeting", 0},
		{"closed before a greeting", []string{"drop"}, PlainText, deferred, "greeting", 0},
		{"a greeting of another protocol", []string{"+OK POP3 ready"}, PlainText, deferred, "greeting", 0},
		{"greylisting", []string{"220 hi", "250 relay", "250 ok", "451 4.7.1 greylisted"}, PlainText, deferred, "recipient", 451},
		{"no such mailbox", []string{"220 hi", "250 relay", "250 ok", "550 5.1.1 no such user"}, PlainText, refused, "recipient", 550},
		{"the sender is refused", []string{"220 hi", "250 relay", "550 5.7.1 not you"}, PlainText, deferred, "sender", 550},
		{"the content is refused", polite("dot-554 5.6.0 spam"), PlainText, refused, "answer", 554},
		{"too busy after the content", polite("dot-451 4.3.0 try again"), PlainText, deferred, "answer", 451},
		{"dropped after the final dot", polite("dot-drop"), PlainText, doubtful, "answer", 0},
		{"silence after the final dot", polite("dot-hang"), PlainText, doubtful, "answer", 0},
		{"nonsense after the final dot", polite("dot-banana"), PlainText, doubtful, "answer", 0},
		{"dropped before the content", []string{"220 hi", "250 relay", "250 ok", "250 ok", "drop"}, PlainText, deferred, "data", 0},
		{"the handshake fails", tlsHello, StartTLS, deferred, "tls", 0},
		{"accepted", polite("dot-250 2.0.0 queued"), PlainText, accepted, "answer", 250},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, r := simulate(t, tc.script)
			r.TLS = tc.tls
			b := outbox(t, r)
			c := content{To: Address{Email: "grace@example.org"}, From: b.from}
			got := r.deliver(t.Context(), "localhost", c, []byte("Subject: s\r\n\r\nt\r\n"))
			if got.outcome != tc.want || got.stage != tc.stage || got.code != tc.code {
				t.Errorf("got %s at %s with %d (%q), want %s at %s with %d", got.outcome, got.stage, got.code, got.answer, tc.want, tc.stage, tc.code)
			}
		})
	}
}

func TestALostConfirmationIsIndeterminateAndRepeatsTheSameId(t *testing.T) {
	d := dbtest.New(t)
	sim, r := simulate(t, polite("dot-drop"), polite("dot-250 2.0.0 queued"))
	b := outbox(t, r)
	id := put(t, d, b, invitation(uuid.New(), "grace@example.org"))
	if err := b.round(t.Context(), SenderOptions{DB: d, Log: dbtest.Log(t), Wait: func(int) time.Duration { return time.Hour }}); err != nil {
		t.Fatal(err)
	}
	n := await(t, d, b, id, "indeterminate", is(Indeterminate))
	if n.Doubtful != 1 || n.Wiped || n.Next == nil {
		t.Errorf("%+v", n)
	}
	if err := d.Org(t.Context(), n.Organisation, func(tx pgx.Tx) error { return b.Retry(t.Context(), tx, id) }); err != nil {
		t.Fatal(err)
	}
	sending(t, d, b)
	again := await(t, d, b, id, "accepted", is(Accepted))
	if again.MessageID != n.MessageID || again.Doubtful != 1 || len(sim.connections) != 2 {
		t.Errorf("%+v", again)
	}
}

func TestARelayThatNeverConfirmsIsNotAskedForEver(t *testing.T) {
	d := dbtest.New(t)
	sim, r := simulate(t, polite("dot-drop"))
	b := outbox(t, r)
	id := put(t, d, b, invitation(uuid.New(), "grace@example.org"))
	sending(t, d, b)
	n := await(t, d, b, id, "given up as indeterminate", func(n Notification) bool { return n.State == Indeterminate && n.Next == nil })
	if n.Attempts != maxDoubtful || len(sim.connections) != maxDoubtful {
		t.Errorf("%d attempts", n.Attempts)
	}
}

func TestARefusedRecipientFailsAndIsNotTriedAgain(t *testing.T) {
	d, s := dbtest.New(t), startServer(t)
	b := outbox(t, s.relay())
	sending(t, d, b)
	id := put(t, d, b, invitation(uuid.New(), "refused.person@example.org"))
	n := await(t, d, b, id, "failed", is(Failed))
	if n.Next != nil || n.Attempts != 1 || !strings.Contains(n.Answer, "No such user") {
		t.Errorf("%+v", n)
	}
	if strings.Contains(n.Answer, "refused.person") || strings.Contains(n.Answer, "@") {
		t.Errorf("the stored answer names the recipient: %q", n.Answer)
	}
}

func TestWhatExpiresIsWiped(t *testing.T) {
	d := dbtest.New(t)
	b := outbox(t)
	m := invitation(uuid.New(), "grace@example.org")
	m.Expires = time.Nanosecond
	id := put(t, d, b, m)
	sending(t, d, b)
	if n := await(t, d, b, id, "expired", is(Expired)); !n.Wiped {
		t.Errorf("%+v", n)
	}
	if err := d.Org(t.Context(), m.Organisation, func(tx pgx.Tx) error { return b.Retry(t.Context(), tx, id) }); err == nil {
		t.Error("an expired message was taken up again")
	}
}

func TestWithoutARelayMessagesAreHeld(t *testing.T) {
	d := dbtest.New(t)
	b, err := New(Options{Seal: seal, Open: open, Hash: keyed})
	if err != nil {
		t.Fatal(err)
	}
	id := put(t, d, b, invitation(uuid.New(), "grace@example.org"))
	n, err := b.Show(t.Context(), d, id)
	if err != nil || !n.Held || n.State != Queued {
		t.Errorf("%+v %v", n, err)
	}
}

// A child process is killed between the relay's yes and the commit.
func TestKillNineAfterTheRelayAcceptedLosesNothingAndKeepsTheId(t *testing.T) {
	cfg := dbtest.Config(t)
	d, s := dbtest.Open(t, cfg), startServer(t)
	b := outbox(t, s.relay())
	org := uuid.New()
	id := put(t, d, b, invitation(org, "grace@example.org"))
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "NOTIFY_TEST_SENDER="+cfg.DSN, fmt.Sprintf("NOTIFY_TEST_RELAY=%d %s", s.port, s.cert))
	child.Stderr = t.Output()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 6)
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "taken\n" {
		t.Fatalf("%q %v", line, err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if n, err := b.Show(t.Context(), d, id); err != nil || n.State != Sending {
		t.Fatalf("%+v %v", n, err)
	}
	// The lease would run out in a minute; nobody waits for that here.
	if err := d.Org(t.Context(), org, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE notifications SET leased_until = now() - interval '1 second' WHERE id = $1`, id)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	sending(t, d, b)
	n := await(t, d, b, id, "accepted", is(Accepted))
	if n.Doubtful != 1 || n.Log[0].Outcome != string(doubtful) {
		t.Errorf("the lost attempt is not shown as indeterminate: %+v", n.Log)
	}
	if ids := s.ids(); len(ids) != 1 || ids["<"+n.MessageID+">"] != 2 {
		t.Errorf("the receiver cannot tell the double: %v", ids)
	}
}

// sendUntilKilled is the child: it sends, and stands still once a relay has
// accepted.
func sendUntilKilled(dsn, relay string) {
	var port int
	var ca string
	if _, err := fmt.Sscan(relay, &port, &ca); err != nil {
		panic(err)
	}
	d, err := db.Open(context.Background(), db.Config{DSN: dsn}, nil)
	if err != nil {
		panic(err)
	}
	b, err := New(Options{Config: Config{From: "foundry@example.eu", Relays: []Relay{{Host: "127.0.0.1", Name: "relay.example.eu", Port: port, CA: ca}}}, Seal: seal, Open: open, Hash: keyed})
	if err != nil {
		panic(err)
	}
	_ = b.Send(context.Background(), SenderOptions{DB: d, Look: 20 * time.Millisecond, Taken: func(uuid.UUID) {
		fmt.Println("taken")
		select {}
	}})
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
