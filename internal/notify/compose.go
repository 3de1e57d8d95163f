package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	netmail "net/mail"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/problem"
	mail "github.com/wneessen/go-mail"
)

// rendered is a message in words, ready to be stored.
type rendered struct {
	id           uuid.UUID
	organisation uuid.UUID
	template     Template
	messageID    string
	expires      time.Time
	channel      string
	page         uuid.UUID
	body         content
}

// content is what is sealed: everything that says who is written to and what.
type content struct {
	To      Address         `json:"to"`
	From    Address         `json:"from"`
	Locale  string          `json:"locale"`
	Written time.Time       `json:"written"`           // the Date header: the same for every attempt
	Payload json.RawMessage `json:"payload,omitempty"` // of a webhook's message
	text
}

func (b *Outbox) render(m Message) (rendered, error) {
	channel, to := mailChannel, Address{}
	if m.Webhook != "" {
		channel = hookChannel + m.Webhook
		if _, ok := b.channels.webhook(channel); !ok {
			return rendered{}, problem.New(problem.Invalid, "webhook-unknown", "There is no webhook of this name.").WithField("notify.webhooks")
		}
	} else {
		var err error
		if to, err = NewAddress("to", m.To.Name, m.To.Email); err != nil {
			return rendered{}, err
		}
	}
	locale := b.locale(m.Locale)
	words, err := write(m.Template, locale, m.Fields)
	if err != nil {
		return rendered{}, err
	}
	now := b.clock().UTC()
	life := m.Expires
	if life <= 0 {
		life = kinds[m.Template].expires
	}
	life = min(life, LongestLife)
	id := uuid.Must(uuid.NewV7())
	var body json.RawMessage
	if m.Webhook != "" {
		if body, err = payload(m.Template, now, id.String(), words, m.Fields); err != nil {
			return rendered{}, fmt.Errorf("composing a message: %w", err)
		}
	}
	return rendered{id: id, organisation: m.Organisation, channel: channel, page: m.Page, template: m.Template, messageID: id.String() + "@" + b.from.Domain(),
		expires: now.Add(life), body: content{To: to, From: b.from, Locale: locale, Written: now.Truncate(time.Second), Payload: body, text: words}}, nil
}

func (b *Outbox) locale(asked string) string {
	for _, l := range []string{asked, b.config.Locale} {
		if slices.Contains(Locales, l) {
			return l
		}
	}
	return Locales[0]
}

// formatted is an address with its name as a header has it: quoted (RFC 5322,
// 3.2.4), or in base64 (RFC 2047), whose letters need no quoting.
func formatted(a Address) string {
	name := mime.BEncoding.Encode("utf-8", a.Name)
	if name != a.Name {
		return name + " <" + a.Email + ">"
	}
	return (&netmail.Address{Name: a.Name, Address: a.Email}).String()
}

// compose writes the message as it goes over the wire (RFC 5322, MIME). It
// depends only on what is stored, so that every attempt sends the same bytes.
func compose(messageID string, c content) ([]byte, error) {
	m := mail.NewMsg(mail.WithNoDefaultUserAgent(), mail.WithBoundary("foundry-"+messageID[:8]+"-"+messageID[24:36]))
	if err := m.From(formatted(c.From)); err != nil {
		return nil, fmt.Errorf("composing a message: %w", err)
	}
	// Written here, because the library leaves a backslash in an encoded name,
	// which is no address then. One such field only: their order is not kept.
	m.SetGenHeaderPreformatted("To", formatted(c.To))
	m.Subject(c.Subject)
	m.SetDateWithValue(c.Written)
	m.SetMessageIDWithValue(messageID)
	m.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no vacation replies
	m.SetGenHeader("X-Auto-Response-Suppress", "All")
	m.SetGenHeader("Content-Language", c.Locale)
	m.SetBodyString(mail.TypeTextPlain, c.Text)
	m.AddAlternativeString(mail.TypeTextHTML, c.HTML)
	var out bytes.Buffer
	if _, err := m.WriteTo(&out); err != nil {
		return nil, fmt.Errorf("composing a message: %w", err)
	}
	return out.Bytes(), nil
}

func (c content) marshal() ([]byte, error) { return json.Marshal(c) }
