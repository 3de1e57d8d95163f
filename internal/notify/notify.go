// Package notify knows who must be told by when, and whether they were.
//
// A message is put into an outbox in the transaction of the act that causes
// it, and sent by whichever node takes its lease: over SMTP submission (RFC
// 6409) to the first relay that accepts it. Delivery is at least once. The
// Message-ID stays the same for every attempt, so that a receiver can drop a
// double; where the connection is lost between the final dot and the relay's
// answer nobody knows whether the message was taken (RFC 5321 section 4.5.3.2.6), and
// it is shown as indeterminate. A webhook's message goes the same way, signed,
// with the same id for every attempt.
//
// Whoever is on call is called for what is critical, then the next, then
// everybody, again and again until somebody takes it.
//
// Addresses and bodies are personal data: sealed in the database, wiped when
// the message has ended, and never logged.
package notify

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// State says how far a message has come.
type State string

const (
	Queued        State = "queued"        // waits for its next attempt, or for a relay to be configured
	Sending       State = "sending"       // a node holds its lease
	Accepted      State = "accepted"      // a relay took responsibility for it (RFC 5321 section 4.2.5)
	Indeterminate State = "indeterminate" // a relay may have taken it: the answer was lost
	Failed        State = "failed"        // refused for good
	Expired       State = "expired"       // not accepted while it was of use
)

// Ended reports whether nothing more happens by itself.
func (s State) Ended() bool { return s == Accepted || s == Failed || s == Expired }

// Message is what somebody must be told.
type Message struct {
	Organisation uuid.UUID // nil: the platform
	Template     Template
	Locale       string // en or de; anything else, or empty: the outbox's default
	To           Address
	Webhook      string            // name of a receiver in the configuration; To is not used then
	Page         uuid.UUID         // what somebody is called for; nil: nothing
	Fields       map[string]string // what the template asks for
	Expires      time.Duration     // after which it is of no use; 0: the template's
}

// Seal and Open protect what is stored: table, column and row say where the
// value belongs and must be the same to open it.
type (
	Seal func(ctx context.Context, org uuid.UUID, table, column, row string, plaintext []byte) ([]byte, error)
	Open func(ctx context.Context, org uuid.UUID, table, column, row string, sealed []byte) ([]byte, error)
)

// Options make an outbox.
type Options struct {
	Config   Config
	Channels Channels
	Seal     Seal
	Open     Open
	Hash     func([]byte) []byte // 32 bytes, keyed: an address can be guessed, so its plain hash would tell it
	Clock    func() time.Time

	// TakeLink makes the link by which a called person takes a call. The token
	// belongs behind its #, so that no server but ours gets it.
	TakeLink func(token string) string
	// Down names the functions of the continuity plan that are down now; nil:
	// none is known to be.
	Down func() []string
}

// Outbox takes messages and gives them to relays. Safe for concurrent use.
type Outbox struct {
	config   Config
	channels Channels
	rota     *Rota
	takeLink func(token string) string
	down     func() []string
	from     Address
	seal     Seal
	open     Open
	hash     func([]byte) []byte
	clock    func() time.Time
	kick     chan struct{}
}

// New makes an outbox. Without a relay in its configuration it only holds
// messages.
func New(o Options) (*Outbox, error) {
	b := &Outbox{config: o.Config, channels: o.Channels, takeLink: o.TakeLink, down: o.Down, seal: o.Seal, open: o.Open, hash: o.Hash, clock: o.Clock, kick: make(chan struct{}, 1)}
	if b.clock == nil {
		b.clock = time.Now
	}
	if b.down == nil {
		b.down = func() []string { return nil }
	}
	if b.takeLink == nil {
		b.takeLink = func(token string) string { return "https://localhost/#" + token }
	}
	if o.Channels.OnCall != nil {
		r, err := o.Channels.OnCall.rota()
		if err != nil {
			return nil, err
		}
		b.rota = &r
	}
	b.from = Address{Name: "Foundry", Email: "foundry@localhost"}
	if o.Config.From != "" {
		from, err := ParseAddress("mail.from", o.Config.From)
		if err != nil {
			return nil, err
		}
		if from.Name == "" {
			from.Name = "Foundry"
		}
		b.from = from
	}
	return b, nil
}

// Sends reports whether a relay is configured: without one, messages are held.
func (b *Outbox) Sends() bool { return len(b.config.Relays) > 0 }

// reached are the channels that this node can send by.
func (b *Outbox) reached() (out []string) {
	if b.Sends() {
		out = append(out, mailChannel)
	}
	for _, h := range b.channels.Webhooks {
		out = append(out, hookChannel+h.Name)
	}
	return out
}

// Enqueue renders a message and puts it into the outbox, in the caller's
// transaction, which must be scoped to the message's organisation (db.Org). It
// returns the message's id. Nothing is sent before the transaction commits.
func (b *Outbox) Enqueue(ctx context.Context, tx pgx.Tx, m Message) (uuid.UUID, error) {
	r, err := b.render(m)
	if err != nil {
		return uuid.Nil, err
	}
	if err := b.insert(ctx, tx, r); err != nil {
		return uuid.Nil, err
	}
	return r.id, nil
}

// Kick makes the sender look at once, after a commit. It never blocks.
func (b *Outbox) Kick() {
	select {
	case b.kick <- struct{}{}:
	default:
	}
}
