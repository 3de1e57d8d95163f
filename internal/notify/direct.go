package notify

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

// Direct is a message that is sent now, without the outbox and so without the
// database: whoever sends it keeps it, and tries again. The same ID and Written
// give the same message, so that a receiver can drop a double.
type Direct struct {
	ID      uuid.UUID
	Name    string  // of notify.people
	To      Address // instead of a name
	Locale  string
	Subject string
	Text    string
	Kind    string    // of a webhook's message: foundry.KIND
	Written time.Time // when it was written, not when it is tried
	Fields  map[string]string
}

// Delivery is what became of one attempt.
type Delivery struct {
	Channel string // mail, or webhook:NAME; empty: there is none
	State   State  // Accepted, Indeterminate, Failed (refused for good), or Queued (certainly not taken)
	Receipt string // what the carrier said: a queue id, a status
	Others  []string
}

// Knows reports whether somebody of notify.people has this name.
func (b *Outbox) Knows(name string) bool { return b.known(name) }

// Everybody names who can be called.
func (b *Outbox) Everybody() (out []string) {
	for _, p := range b.channels.People {
		out = append(out, p.Name)
	}
	return out
}

// OnDuty is whom the rota itself names at an instant, and who follows; who
// stands in is known by the database alone. Empty: there is no rota.
func (b *Outbox) OnDuty(at time.Time) (now, next string) {
	if b.rota == nil {
		return "", ""
	}
	now = b.rota.Scheduled(at).Person
	return now, b.rota.Next(now)
}

// Alarmed are the addresses that alarms of the platform go to.
func (b *Outbox) Alarmed() []string { return slices.Clone(b.config.Alarms) }

// Taken lists the calls with some codes that somebody has taken since an
// instant.
func (b *Outbox) Taken(ctx context.Context, d *db.DB, codes []string, since time.Time) ([]Page, error) {
	return takenPages(ctx, d, codes, since)
}

// CanTell reports whether this node has any way to tell anybody.
func (b *Outbox) CanTell() bool {
	return b.Sends() || len(b.channels.Webhooks) > 0
}

// SendNow makes one attempt: by the first of somebody's channels that does not
// need what is down, and where that one certainly did not take it, by their
// others. After a doubt no other is tried.
func (b *Outbox) SendNow(ctx context.Context, m Direct) (Delivery, error) {
	ways, err := b.ways(&m)
	if err != nil {
		return Delivery{}, err
	}
	out := Delivery{State: Queued, Receipt: "There is no way to reach them: no relay and no webhook is configured here."}
	for i, channel := range ways {
		if channel == mailChannel && (!b.Sends() || m.To.Email == "") {
			continue
		}
		t, err := b.once(ctx, channel, &m)
		if err != nil {
			return Delivery{}, err
		}
		if out.Channel != "" {
			out.Others = append(out.Others, out.Channel+": "+out.Receipt)
		}
		out.Channel, out.Receipt = channel, said(t)
		switch t.outcome {
		case accepted:
			out.State = Accepted
			return out, nil
		case doubtful:
			out.State = Indeterminate
			return out, nil
		case refused:
			out.State = Failed
		default:
			out.State = Queued
		}
		if i == len(ways)-1 {
			break
		}
	}
	return out, nil
}

// said is what a carrier answered, for the timeline of whoever sent.
func said(t try) string {
	return strings.Join(strings.Fields(fmt.Sprintf("%s: %s %d %s", t.relay, t.outcome, t.code, t.answer)), " ")
}

// ways are somebody's channels in the order in which they are tried.
func (b *Outbox) ways(m *Direct) (out []string, err error) {
	if m.Name == "" {
		m.To, err = NewAddress("to", m.To.Name, m.To.Email)
		return []string{mailChannel}, err
	}
	who, ok := b.channels.person(m.Name)
	if !ok {
		return nil, problem.New(problem.NotFound, "notify-person", fmt.Sprintf("Nobody is called %q in notify.people.", m.Name)).WithField("notify.people")
	}
	if who.Email != "" {
		if m.To, err = ParseAddress("notify.people.email", who.Email); err != nil {
			return nil, err
		}
	}
	for _, ch := range append(slices.Clone(b.channels.Choose(who.channels(), b.down())), who.channels()...) {
		if ch != mailChannel {
			ch = hookChannel + ch
		}
		if !slices.Contains(out, ch) {
			out = append(out, ch)
		}
	}
	return out, nil
}

// once tries one channel.
func (b *Outbox) once(ctx context.Context, channel string, m *Direct) (try, error) {
	subject := strings.Map(func(r rune) rune {
		if forbidden(r) {
			return ' '
		}
		return r
	}, m.Subject)
	if !utf8.ValidString(m.Text) || len(m.Text) > maxBody || len(subject) > maxField {
		return try{}, problem.New(problem.Invalid, "mail-field", "The message is too long, or not UTF-8.").WithField("text")
	}
	words := text{Subject: subject, Text: strings.TrimRight(m.Text, "\n") + "\n"}
	ctx, cancel := context.WithTimeout(ctx, b.bound(channel))
	defer cancel()
	if channel != mailChannel {
		h, ok := b.channels.webhook(channel)
		if !ok {
			return try{relay: channel, outcome: deferred, stage: "connect", answer: "No webhook of this name is configured."}, nil
		}
		body, err := payload(Template(m.Kind), m.Written.UTC(), m.ID.String(), words, m.Fields)
		if err != nil {
			return try{}, fmt.Errorf("composing a message: %w", err)
		}
		return h.deliver(ctx, m.ID.String(), b.clock(), body), nil
	}
	locale := b.locale(m.Locale)
	html, err := writeHTML(locale, words.Subject, words.Text, "")
	if err != nil {
		return try{}, err
	}
	words.HTML = html
	c := content{To: m.To, From: b.from, Locale: locale, Written: m.Written.UTC().Truncate(time.Second), text: words}
	message, err := compose(m.ID.String()+"@"+b.from.Domain(), c)
	if err != nil {
		return try{}, err
	}
	helo, err := os.Hostname()
	if err != nil || notHost(helo) {
		helo = "localhost"
	}
	t := try{relay: mailChannel, outcome: deferred, stage: "connect", answer: "No relay is configured here."}
	for _, r := range b.config.Relays {
		if t = r.deliver(ctx, helo, c, message); t.outcome != deferred {
			break
		}
	}
	return t, nil
}
