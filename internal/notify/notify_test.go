package notify

import (
	"bytes"
	"errors"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"grace@example.org":                "grace@example.org",
		"Grace <grace@Example.ORG>":        "grace@example.org",
		"grace@bücher.example":             "grace@xn--bcher-kva.example",
		"grâce@example.org":                "grâce@example.org",
		"o'neill+tag@mail.example.co.uk":   "o'neill+tag@mail.example.co.uk",
		"grace@example.org.":               "",
		"":                                 "",
		"grace":                            "",
		"@example.org":                     "",
		"grace@":                           "",
		"grace@nodots":                     "",
		"grace@-bad-.org":                  "",
		"a b@example.org":                  "",
		`"a b"@example.org`:                "",
		"grace@example.org\r\nBcc: x@y.eu": "",
		"grace@example.org, eve@evil.eu":   "",
		"<grace@example.org> SIZE=1":       "",
		"gra\u202ece@example.org":          "",
		"grace@[127.0.0.1]":                "",
		strings.Repeat("a", 65) + "@x.eu":  "",
	} {
		a, err := ParseAddress("to", in)
		if want == "" {
			if err == nil {
				t.Errorf("%q was taken as %q", in, a.Email)
			} else if e := problem.From(err); e.Kind != problem.Invalid || in != "" && strings.Contains(e.Error(), "evil") {
				t.Errorf("%q: %v", in, err)
			}
			continue
		}
		if err != nil || a.Email != want {
			t.Errorf("%q: %q %v, want %q", in, a.Email, err, want)
		}
	}
}

// Whatever the fields and names are, the message has exactly the headers that
// it should have.
func TestNoFieldBecomesAHeader(t *testing.T) {
	b := outbox(t)
	allowed := "auto-submitted content-language content-type date from message-id mime-version subject to x-auto-response-suppress"
	rapid.Check(t, func(rt *rapid.T) {
		word := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"x\r\nBcc: eve@evil.eu", "\nX: y", "=?utf-8?q?=0D=0ABcc:_x?=", "\u2028Bcc: e@e.eu", "a\x00b", strings.Repeat("ü", 300)}))
		m := invitation(uuid.Nil, "grace@example.org")
		m.To.Name = word.Draw(rt, "name")
		m.Fields["organisation"] = word.Draw(rt, "organisation")
		m.Locale = rapid.SampledFrom([]string{"en", "de", "xx", ""}).Draw(rt, "locale")
		r, err := b.render(m)
		if err != nil {
			if problem.From(err).Kind != problem.Invalid {
				rt.Fatal(err)
			}
			return
		}
		raw, err := compose(r.messageID, r.body)
		if err != nil {
			rt.Fatal(err)
		}
		got, err := mail.ReadMessage(bytes.NewReader(raw))
		if err != nil {
			rt.Fatalf("%v\n%s", err, raw)
		}
		for name := range got.Header {
			if !strings.Contains(allowed, strings.ToLower(name)) {
				rt.Fatalf("header %q:\n%s", name, raw)
			}
		}
		to, err := got.Header.AddressList("To")
		if err != nil || len(to) != 1 || to[0].Address != "grace@example.org" {
			rt.Fatalf("to %v %v\n%s", to, err, raw)
		}
		again, err := compose(r.messageID, r.body)
		if err != nil || !bytes.Equal(raw, again) {
			rt.Fatal("a second attempt would send other bytes")
		}
	})
}

func TestEveryTemplateIsWrittenInEveryLanguage(t *testing.T) {
	for _, k := range Templates() {
		fields := map[string]string{}
		for _, f := range kinds[k].fields {
			fields[f] = "<b>" + f + "</b>"
		}
		if _, ok := fields["link"]; ok {
			fields["link"] = "https://ai.example.eu/x?a=1&b=2"
		}
		for _, l := range Locales {
			w, err := write(k, l, fields)
			if err != nil {
				t.Errorf("%s in %s: %v", k, l, err)
				continue
			}
			for _, f := range kinds[k].fields {
				if !strings.Contains(w.Subject+w.Text, fields[f]) {
					t.Errorf("%s in %s does not say %s", k, l, f)
				}
			}
			if strings.Contains(w.HTML, "<b>") || !strings.Contains(w.HTML, `lang="`+l+`"`) {
				t.Errorf("%s in %s: a field became markup:\n%s", k, l, w.HTML)
			}
			for _, remote := range []string{"src=", "url(", "<script", "<link", "@import", "<img"} {
				if strings.Contains(w.HTML, remote) {
					t.Errorf("%s in %s has remote content: %s", k, l, remote)
				}
			}
		}
	}
}

func TestBadFieldsAreNamed(t *testing.T) {
	b := outbox(t)
	for name, change := range map[string]func(*Message){
		"fields.link":         func(m *Message) { m.Fields["link"] = "http://ai.example.eu/x" },
		"fields.expires":      func(m *Message) { delete(m.Fields, "expires") },
		"fields.colour":       func(m *Message) { m.Fields["colour"] = "red" },
		"fields.organisation": func(m *Message) { m.Fields["organisation"] = strings.Repeat("x", maxField+1) },
		"template":            func(m *Message) { m.Template = "spam" },
		"to":                  func(m *Message) { m.To.Email = "nobody" },
	} {
		m := invitation(uuid.Nil, "grace@example.org")
		change(&m)
		_, err := b.render(m)
		var p *problem.Error
		if !errors.As(err, &p) || p.Kind != problem.Invalid || p.Field != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, link := range []string{"javascript:alert(1)", "https://user:pw@x.eu/", "//x.eu/", "https:///x"} {
		m := invitation(uuid.Nil, "grace@example.org")
		m.Fields["link"] = link
		if _, err := b.render(m); err == nil {
			t.Errorf("%s was taken", link)
		}
	}
}

func TestTheConfigurationIsChecked(t *testing.T) {
	good := Relay{Host: "smtp.example.eu"}
	for name, tc := range map[string]struct {
		c          Config
		production bool
		code       string
	}{
		"nothing":                {Config{}, true, ""},
		"one relay":              {Config{From: "f@example.eu", Relays: []Relay{good}}, true, ""},
		"no sender":              {Config{Relays: []Relay{good}}, false, "mail-from"},
		"plain text far away":    {Config{From: "f@example.eu", Relays: []Relay{{Host: "smtp.example.eu", TLS: PlainText}}}, false, "mail-plaintext"},
		"plain text near":        {Config{From: "f@example.eu", Relays: []Relay{{Host: "127.0.0.1", TLS: PlainText}}}, false, ""},
		"plain text in earnest":  {Config{From: "f@example.eu", Relays: []Relay{{Host: "127.0.0.1", TLS: PlainText}}}, true, "mail-plaintext"},
		"an invented protection": {Config{From: "f@example.eu", Relays: []Relay{{Host: "a.eu", TLS: "ssl3"}}}, false, "mail-tls"},
		"half a login":           {Config{From: "f@example.eu", Relays: []Relay{{Host: "a.eu", Username: "x"}}}, false, "mail-login-half"},
		"a URL as host":          {Config{From: "f@example.eu", Relays: []Relay{{Host: "smtp://a.eu"}}}, false, "mail-host"},
		"a missing authority":    {Config{From: "f@example.eu", Relays: []Relay{{Host: "a.eu", CA: "/nonexistent"}}}, false, "mail-ca"},
		"a hasty timeout":        {Config{From: "f@example.eu", Relays: []Relay{{Host: "a.eu", Timeout: config.Duration(time.Millisecond)}}}, false, "mail-timeout"},
		"a bad alarm address":    {Config{Alarms: []string{"ops"}}, false, "mail-address"},
		"an unknown language":    {Config{Locale: "tlh"}, false, "mail-locale"},
		"too many relays":        {Config{From: "f@example.eu", Relays: []Relay{good, good, good, good, good}}, false, "mail-relays"},
	} {
		err := tc.c.Validate(tc.production)
		if tc.code == "" && err != nil || tc.code != "" && (err == nil || problem.From(err).Code != tc.code) {
			t.Errorf("%s: %v, want %q", name, err, tc.code)
		}
	}
}

// What may follow an attempt, stated as rules.
func TestJudgementsNeverLoseAndNeverLie(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := rapid.SampledFrom([]outcome{accepted, doubtful, deferred, refused}).Draw(rt, "outcome")
		doubts := rapid.IntRange(0, 5).Draw(rt, "doubts")
		v := judge(o, doubts, time.Second)
		if (v.state == Accepted) != (o == accepted) || v.wipe != (o == accepted) {
			rt.Fatal("accepted only when a relay said so, and wiped only then")
		}
		if o == doubtful && v.state != Indeterminate {
			rt.Fatal("a lost answer is indeterminate")
		}
		if doubts > 0 && (v.state == Failed || v.state == Queued) {
			rt.Fatal("what may have arrived is not shown as failed or waiting")
		}
		if o == deferred && v.wait == nil {
			rt.Fatal("what was certainly not taken is tried again")
		}
	})
}

func TestThePauseGrowsAndIsBounded(t *testing.T) {
	for n := 1; n < 100; n++ {
		if w := backoff(n); w < firstWait/2 || w > longestWait*6/5 {
			t.Errorf("attempt %d: %s", n, w)
		}
	}
	if backoff(1) > 20*time.Second || backoff(50) < 20*time.Minute {
		t.Error("it does not grow")
	}
}

func TestAddressAndWordsAreNowhereInTheDatabase(t *testing.T) {
	cfg := dbtest.Config(t)
	d := dbtest.Open(t, cfg)
	b := outbox(t)
	put(t, d, b, invitation(uuid.New(), "very.secret.person@example.org"))
	conn := dbtest.Superuser(t, cfg)
	var row string
	if err := conn.QueryRow(t.Context(), `SELECT n::text || encode(sealed, 'escape') FROM notifications n`).Scan(&row); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"very.secret", "st-mary", "invitation/abc"} {
		if strings.Contains(row, secret) {
			t.Errorf("%q stands in the row", secret)
		}
	}
}

func TestASealedMessageMovedToAnotherRowDoesNotOpen(t *testing.T) {
	cfg := dbtest.Config(t)
	d := dbtest.Open(t, cfg)
	_, r := simulate(t, polite("dot-250 ok"))
	b := outbox(t, r)
	org := uuid.New()
	first := put(t, d, b, invitation(org, "grace@example.org"))
	second := put(t, d, b, invitation(org, "eve@example.org"))
	if _, err := dbtest.Superuser(t, cfg).Exec(t.Context(), `UPDATE notifications SET sealed = (SELECT sealed FROM notifications WHERE id = $1) WHERE id = $2`, first, second); err != nil {
		t.Fatal(err)
	}
	n, err := b.Show(t.Context(), d, second)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok, err := b.claim(t.Context(), d, n, uuid.New(), time.Minute); err == nil || ok {
		t.Error("it opened in another row")
	}
}

func TestAMessageOfARolledBackActIsNeverSent(t *testing.T) {
	d := dbtest.New(t)
	b := outbox(t)
	org := uuid.New()
	err := d.Org(t.Context(), org, func(tx pgx.Tx) error {
		if _, err := b.Enqueue(t.Context(), tx, invitation(org, "grace@example.org")); err != nil {
			return err
		}
		return errors.New("the act failed")
	})
	if err == nil {
		t.Fatal("no error")
	}
	if list, err := b.List(t.Context(), d, Filter{All: true}); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
}

func TestOneOrganisationSeesNothingOfAnother(t *testing.T) {
	d := dbtest.New(t)
	b := outbox(t)
	ours, theirs := uuid.New(), uuid.New()
	id := put(t, d, b, invitation(theirs, "grace@example.org"))
	if err := d.Org(t.Context(), theirs, func(tx pgx.Tx) error {
		_, err := b.Alarm(t.Context(), tx, Warning, "budget.near", theirs, nil)
		if err == nil {
			err = logTry(t.Context(), tx, Notification{ID: id, Organisation: theirs}, 1, 1, try{outcome: deferred})
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	err := d.Org(t.Context(), ours, func(tx pgx.Tx) error {
		for _, table := range []string{"notifications", "notification_attempts", "alarms"} {
			var n int
			if err := tx.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil || n != 0 {
				t.Errorf("%s: %d rows of another organisation, %v", table, n, err)
			}
			if tag, err := tx.Exec(t.Context(), "SELECT 1 FROM "+table+" WHERE organisation_id = $1", theirs); err != nil || tag.RowsAffected() != 0 {
				t.Errorf("%s: %v", table, err)
			}
		}
		if err := b.Retry(t.Context(), tx, id); err == nil {
			t.Error("a message of another organisation was retried")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = d.Org(t.Context(), ours, func(tx pgx.Tx) error {
		_, err := b.Enqueue(t.Context(), tx, invitation(theirs, "grace@example.org"))
		return err
	})
	if err == nil {
		t.Error("a message was put into another organisation")
	}
	if err := db.CheckRoles(t.Context(), d); err != nil {
		t.Error(err)
	}
}

func TestAnAlarmStormIsOneMessageAndACount(t *testing.T) {
	d := dbtest.New(t)
	b := outbox(t)
	raise := func(s Severity, code string) (ids []uuid.UUID) {
		t.Helper()
		err := d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) (err error) {
			ids, err = b.Alarm(t.Context(), tx, s, code, uuid.Nil, map[string]string{"limit": "250.00\r\nBcc: eve", "spent": "251"})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	if len(raise(Warning, "budget.near")) != 1 {
		t.Error("the first is not sent")
	}
	for range 20 {
		if len(raise(Warning, "budget.near")) != 0 {
			t.Fatal("a repeated alarm is sent again")
		}
	}
	if len(raise(Critical, "budget.near")) != 1 {
		t.Error("one that became worse is not sent")
	}
	if len(raise(Warning, "budget.near")) != 0 || len(raise(Warning, "backup.old")) != 1 {
		t.Error("codes are mixed up")
	}
	all, err := Alarms(t.Context(), d, 10)
	if err != nil || len(all) != 2 || all[1].Code != "budget.near" || all[1].Total != 23 || all[1].Count != 2 || all[1].Severity != Critical {
		t.Errorf("%+v %v", all, err)
	}
	if err := d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE alarms SET first_at = now() - interval '2 hours'`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(raise(Info, "budget.near")) != 1 {
		t.Error("after the window it is not sent again")
	}
}

func TestManyRaisersOfOneAlarmSendOnce(t *testing.T) {
	d := dbtest.New(t)
	b := outbox(t)
	sent := make(chan int, 16)
	for range cap(sent) {
		go func() {
			n := 0
			err := d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error {
				ids, err := b.Alarm(t.Context(), tx, Critical, "database.away", uuid.Nil, nil)
				n = len(ids)
				return err
			})
			if err != nil {
				t.Error(err)
			}
			sent <- n
		}()
	}
	total := 0
	for range cap(sent) {
		total += <-sent
	}
	if total != 1 {
		t.Errorf("%d messages", total)
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"grace@example.org", "Grace <g@x.eu>", "a@b\r\nBcc: c", `"a b"@c.d`, "ü@ü.de", "<a@b.c> x", "=?utf-8?q?a?= <a@b.c>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress("to", s)
		if err != nil {
			return
		}
		if strings.ContainsAny(a.Email, " <>\r\n\x00,;\"\\") || strings.Count(a.Email, "@") != 1 || len(a.Email) > maxPath || strings.ContainsFunc(a.Name, forbidden) {
			t.Errorf("%q became %q %q", s, a.Name, a.Email)
		}
		again, err := NewAddress("to", a.Name, a.Email)
		if err != nil || again != a {
			t.Errorf("%q is not stable: %v %v", s, again, err)
		}
	})
}

func FuzzRelayAnswers(f *testing.F) {
	f.Add("550 5.1.1 <grace@example.org> unknown", "grace@example.org")
	f.Add("GRACE@EXAMPLE.ORG\x00\r\nX", "grace@example.org")
	f.Add("alias other@host.eu", "a@b.eu")
	f.Fuzz(func(t *testing.T, answer, email string) {
		got := clean(answer, content{To: Address{Email: email}})
		if len(got) > maxAnswer || strings.ContainsFunc(got, forbidden) || strings.Contains(got, "@") {
			t.Errorf("%q", got)
		}
	})
}
