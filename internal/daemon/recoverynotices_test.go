//go:build faults

package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/plan"
)

// postOffice is a mail server that is away, takes messages, or takes them and
// dies before it says so.
type postOffice struct {
	t  *testing.T
	at string

	mu   sync.Mutex
	cuts bool
	got  []letter
	said []string // by who came
}

type letter struct{ id, to, subject string }

func newPostOffice(t *testing.T) *postOffice {
	o := &postOffice{t: t, at: membertest.Free(t, 1)[0]}
	t.Cleanup(func() {
		if t.Failed() {
			o.mu.Lock()
			defer o.mu.Unlock()
			t.Logf("the post office heard %q", o.said)
		}
	})
	return o
}

func (o *postOffice) relay() notify.Relay {
	host, port, _ := net.SplitHostPort(o.at)
	n, _ := strconv.Atoi(port)
	return notify.Relay{Host: host, Port: n, TLS: notify.PlainText, Timeout: config.Duration(20 * time.Second)}
}

func (o *postOffice) opens() {
	l := membertest.Listen(o.t, o.at, nil)
	o.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go o.serve(c)
		}
	}()
}

func (o *postOffice) cut(yes bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cuts = yes
}

// letters are those that came, to an address, of a kind.
func (o *postOffice) letters(to, subject string) (out []letter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range o.got {
		if l.to == to && strings.Contains(l.subject, subject) {
			out = append(out, l)
		}
	}
	return out
}

func (o *postOffice) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewScanner(c)
	say := func(text string) { _, _ = fmt.Fprint(c, text+"\r\n") }
	say("220 test ESMTP")
	var l letter
	for in.Scan() {
		o.mu.Lock()
		o.said = append(o.said, in.Text())
		o.mu.Unlock()
		switch verb := strings.ToUpper(in.Text()); {
		case strings.HasPrefix(verb, "EHLO"):
			say("250-test\r\n250 8BITMIME")
		case strings.HasPrefix(verb, "RCPT"):
			l.to = strings.Trim(in.Text()[len("RCPT TO:"):], "<> ")
			say("250 2.1.5 Ok")
		case verb == "DATA":
			say("354 go on")
			var head strings.Builder
			for in.Scan() && in.Text() != "." {
				head.WriteString(in.Text() + "\r\n")
			}
			m, err := mail.ReadMessage(strings.NewReader(head.String()))
			if err != nil {
				o.t.Error(err)
				return
			}
			l.id = m.Header.Get("Message-Id")
			if l.subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil {
				o.t.Error(err)
			}
			o.mu.Lock()
			o.got = append(o.got, l)
			cuts := o.cuts
			o.mu.Unlock()
			if cuts {
				return
			}
			say("250 2.0.0 Ok: queued as 4711")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 Ok")
		}
	}
}

const mailing = `version: 1
organisation: {name: Demo, owner: anna, country: FI}
people: [{name: anna}]
nodes: [{name: one, roles: [fleet]}]
functions: [{name: web, mtd: 1 day, rto: 4h, host: [one]}]
clients: [{name: acme, functions: [web], notify_within: 4h}]
notices: [{name: clients, event: outage, to: clients, within: 2h, from: detection, by: [anna]}]
`

// mailed is a process that sends mail by a post office, to people who are named.
func mailed(t *testing.T, o *postOffice, w *wall) (*process, Config) {
	t.Helper()
	c := inFleet(t, "one")
	c.Mail = notify.Config{From: "Foundry <foundry@example.eu>", Relays: []notify.Relay{o.relay()}}
	c.Notify = notify.Channels{OnCall: &notify.RotaConfig{TimeZone: "Europe/Helsinki", First: config.Date{Time: time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)}, Order: []string{"anna"}}, People: []notify.RotaPerson{{Name: "acme", Email: "it@acme.example"}, {Name: "anna", Email: "anna@example.eu"}}}
	return operated(t, c, w), c
}

// writes adds an entry to an incident, as a person does.
func (p *process) writes(id string, kind incident.Kind, body any) {
	p.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, _, err := p.incident.Write(p.t.Context(), p.who, id, kind, text); err != nil {
		p.t.Fatalf("writing %s: %v", text, err)
	}
}

// state waits for an incident to be as holds says.
func (p *process) state(id, what string, holds func(*incident.State) bool) (s *incident.State) {
	p.t.Helper()
	defer func() {
		if p.t.Failed() {
			p.t.Logf("of clocks there stands %q", p.events(id))
		}
	}()
	membertest.Await(p.t, what, func(ctx context.Context) bool {
		line, err := p.incident.Timeline(ctx, p.who, id)
		if err != nil {
			return false
		}
		s = line.State
		return holds(s)
	})
	return s
}

func (p *process) reads(s *incident.State, id string) clock.Reading {
	p.t.Helper()
	for _, r := range s.Clocks(p.clock()) {
		if r.ID == id {
			return r
		}
	}
	p.t.Fatalf("there is no clock %s among %+v", id, s.Clocks(p.clock()))
	return clock.Reading{}
}

// While the mail server is away a notice waits and its clock runs; where its
// answer was lost the notice is shown as indeterminate; and it is told once the
// server answers, by another process too, under one id.
func TestARecoverysNoticeOutlivesItsMailServerAndItsSender(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process twice and waits for attempts")
	}
	t.Parallel()
	o, w := newPostOffice(t), stopped()
	p, c := mailed(t, o, w)
	p.goesBy(mailing)
	id := p.opens(incident.Begin{Nodes: []string{"one"}, Functions: []string{"web"}, Clients: []string{"acme"}})
	fields := map[string]string{"nature": "an outage", "data-affected": "none", "remediation": "it is recovered", "contact": "anna"}
	p.writes(id, incident.KindNotice, &incident.Notice{ID: "n1", Step: incident.Drafted, Audience: incident.ToClient, To: "acme", Fields: fields})
	p.writes(id, incident.KindNotice, &incident.Notice{ID: "n1", Step: incident.Released})

	s := p.state(id, "the first attempt has failed", func(s *incident.State) bool { return s.Notices[0].Step == incident.Failed })
	due := p.reads(s, "notice/acme").Due
	running := func(s *incident.State, when string) {
		t.Helper()
		if r := p.reads(s, "notice/acme"); r.State != clock.Running || !r.Due.Equal(due) {
			t.Errorf("%s the clock is %s until %s, and it was until %s", when, r.State, r.Due, due)
		}
	}
	running(s, "while mail is away")
	if n := s.Notices[0]; !n.Released || n.Unclear || !n.ToldAt.IsZero() || n.Words == "" {
		t.Errorf("while mail is away: %+v", n)
	}
	w.set(time.Minute)
	s = p.state(id, "it is tried again", func(s *incident.State) bool { return s.Notices[0].Tries == 2 && s.Notices[0].Step == incident.Failed })
	running(s, "after another attempt")
	if len(o.letters("it@acme.example", "")) != 0 {
		t.Fatal("a letter came to a server that is away")
	}

	o.cut(true)
	o.opens()
	w.set(3 * time.Minute)
	s = p.state(id, "the answer was lost", func(s *incident.State) bool { return s.Notices[0].Unclear })
	membertest.Await(t, "the letter is there", func(context.Context) bool { return len(o.letters("it@acme.example", "")) == 1 })
	running(s, "while it is not known whether it arrived")
	shown := false
	for _, n := range s.Needs(p.clock()) {
		shown = shown || n.Code == "incident-notice-indeterminate"
	}
	if !shown || !s.Notices[0].ToldAt.IsZero() {
		t.Errorf("that it is indeterminate is not shown: %+v", s.Needs(p.clock()))
	}

	// Its sender ends; the next finds in the timeline what there is to do.
	p.ends()
	o.cut(false)
	w.set(10 * time.Minute)
	p = operated(t, c, w)
	s = p.state(id, "it was told", func(s *incident.State) bool { return s.Notices[0].Step == incident.Accepted })
	got := o.letters("it@acme.example", "")
	if len(got) < 2 {
		t.Fatalf("the doubtful letter was not sent again: %+v", got)
	}
	for _, l := range got {
		if l.id == "" || l.id != got[0].id || l.subject != got[0].subject {
			t.Errorf("letters of one notice differ: %+v", got)
		}
	}
	if n := s.Notices[0]; n.Unclear || !strings.Contains(n.Receipt, "4711") {
		t.Errorf("told, and shown as %+v", n)
	}
	if r := p.reads(s, "notice/acme"); r.State != clock.Met || !r.Due.Equal(due) {
		t.Errorf("told, and its clock is %s until %s", r.State, r.Due)
	}
	sent := len(got)
	w.set(2 * time.Hour)
	p.looks()
	if now := o.letters("it@acme.example", got[0].subject); len(now) != sent {
		t.Errorf("told already, and sent again: %+v", now)
	}
}

// The regulator's 72 hours are an instant: whatever a node's own clock does,
// they end when they end, each step is told once, and every jump is written
// down where it was seen.
func TestARecoverysClockOfTheRegulatorIsMovedByNoClockOfANode(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process twice and waits for looks")
	}
	t.Parallel()
	o, w := newPostOffice(t), &wall{}
	o.opens()
	p, c := mailed(t, o, w)
	p.goesBy(mailing)
	id := p.opens(incident.Begin{Title: "An intruder", Category: incident.Security, Nodes: []string{"one"}})
	aware := p.clock()
	p.writes(id, incident.KindAssessment, &incident.Assessment{Personal: true, Controller: true, Risk: incident.RiskLikely, Regimes: []string{"UK"}, Aware: aware, Words: "Addresses of clients' staff."})
	due := aware.Add(72 * time.Hour)
	const regulator = "regulator/UK"
	stands := func(s *incident.State, state clock.State, when string) {
		t.Helper()
		if r := p.reads(s, regulator); r.State != state || !r.Due.Equal(due) {
			t.Errorf("%s it is %s until %s, and its end is %s", when, r.State, r.Due, due)
		}
	}
	jumps := func(way string, by time.Duration) func(*incident.State) bool {
		return func(*incident.State) bool {
			return strings.Contains(strings.Join(p.events(id), "\n"), fmt.Sprintf("set %s by %s.", way, plan.FormatDuration(by)))
		}
	}
	told := func(share float64) func(*incident.State) bool {
		return func(s *incident.State) bool {
			for k := range s.Told {
				if k.Clock == regulator && k.Share == share {
					return true
				}
			}
			return false
		}
	}
	p.state(id, "the clock runs and was looked at", func(s *incident.State) bool { return p.reads(s, regulator).State == clock.Running })
	// A look before the jump: the first of a process has nothing to compare with.
	p.looks()

	w.set(40 * time.Hour)
	s := p.state(id, "the jump forward is written down and half of the time told", func(s *incident.State) bool {
		return jumps("forward", 40*time.Hour)(s) && told(0.5)(s)
	})
	stands(s, clock.Running, "40 hours ahead")
	w.set(10 * time.Hour)
	s = p.state(id, "the jump back is written down", jumps("back", 30*time.Hour))
	stands(s, clock.Running, "back again")

	// The node is down while its clock goes on past the end.
	p.ends()
	w.set(80 * time.Hour)
	p = operated(t, c, w)
	s = p.state(id, "its end is told after the restart", told(1))
	stands(s, clock.Expired, "after its end")
	w.set(5 * time.Hour)
	s = p.state(id, "the last jump is written down", jumps("back", 75*time.Hour))
	stands(s, clock.Expired, "far back") // what has run out does not run again
	w.set(90 * time.Hour)
	s = p.state(id, "the way there is written down too", jumps("forward", 85*time.Hour))
	stands(s, clock.Expired, "after all")
	p.looks()
	for share, want := range map[string]int{"at 50 %": 1, "at 80 %": 0, "at 95 %": 0, "at 100 %": 1} {
		if got := o.letters("anna@example.eu", "authority told (UK GDPR art. 33(1)) "+share); len(got) != want {
			t.Errorf("%s was told %d times, want %d: %+v", share, len(got), want, got)
		}
	}
	// Without a database people are called at once, and that stands there.
	if got := o.letters("anna@example.eu", "] A mark"); len(got) == 0 || !slices.Contains(p.acts(id), "people.called  sent") {
		t.Errorf("nobody was called for incidents: %+v, %q", got, p.acts(id))
	}
	line, err := p.incident.Timeline(t.Context(), p.who, id)
	if err != nil || incident.Verify(line.Entries) != nil {
		t.Errorf("the timeline: %v %v", err, incident.Verify(line.Entries))
	}
}

// events are what was written down of clocks.
func (p *process) events(id string) (out []string) {
	p.t.Helper()
	line, err := p.incident.Timeline(p.t.Context(), p.who, id)
	if err != nil {
		return nil
	}
	for i := range line.Entries {
		if e, ok := line.Entries[i].Read().(*incident.ClockEvent); ok {
			out = append(out, e.Event+" "+e.Clock+" "+e.Words)
		}
	}
	return out
}

// looks waits until a look of this process at clocks and notices that had begun,
// or begins now, is over: it calls for incidents in the same round.
func (p *process) looks() {
	p.t.Helper()
	mark := p.opens(incident.Begin{Title: "A mark", Nodes: []string{"one"}, Functions: []string{"web"}})
	p.state(mark, "the one who tells has called for a new incident", func(s *incident.State) bool { return s.Once[onceCalled] != 0 })
	mark = p.opens(incident.Begin{Title: "Another mark", Nodes: []string{"one"}, Functions: []string{"web"}})
	p.state(mark, "and for another", func(s *incident.State) bool { return s.Once[onceCalled] != 0 })
}
