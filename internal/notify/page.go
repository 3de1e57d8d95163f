package notify

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Page is a call for somebody: open until somebody takes it.
type Page struct {
	ID           uuid.UUID      `json:"id"`
	Organisation uuid.UUID      `json:"organisation"`
	Code         string         `json:"code"`
	Severity     Severity       `json:"severity"`
	Facts        string         `json:"facts"`
	Raised       time.Time      `json:"raised_at"`
	Level        int            `json:"rounds"` // of calls so far
	Next         *time.Time     `json:"next_round_at,omitempty"`
	Taken        *time.Time     `json:"taken_at,omitempty"`
	By           string         `json:"taken_by,omitempty"`
	Calls        []Notification `json:"calls,omitempty"` // what was sent, and what became of it
}

// OnCall is who is called now, and what they were called for.
type OnCall struct {
	At        time.Time  `json:"at"`
	Rota      bool       `json:"rota"` // one is configured
	Now       *Shift     `json:"now,omitempty"`
	Then      []Shift    `json:"then,omitempty"`
	Overrides []Override `json:"overrides,omitempty"` // that have not ended
	Open      []Page     `json:"open"`                // the oldest first
}

var errNoRota = func() *problem.Error {
	return problem.New(problem.Unsupported, "oncall-unconfigured", "No rota is configured: nobody is on call.").WithField("notify.oncall").WithMend("See docs/guides/alarms.md.")
}

// raisePage opens a call for what is critical, in the transaction of the alarm.
// One that is open already for the same goes on.
func (b *Outbox) raisePage(ctx context.Context, tx pgx.Tx, severity Severity, code string, org uuid.UUID, facts map[string]string) error {
	if b.rota == nil || severity != Critical {
		return nil
	}
	return openPage(ctx, tx, uuid.Must(uuid.NewV7()), severity, code, org, lines(facts))
}

// escalate is how long a call waits to be taken.
func (b *Outbox) escalate() time.Duration { return b.channels.OnCall.Escalate.Or(defaultEscalate) }

// call makes the calls that are due: the round, its messages and the time of
// the next round in one transaction, so that whichever node dies, another goes
// on. It ends nothing.
func (b *Outbox) call(ctx context.Context, o SenderOptions) error {
	if b.rota == nil {
		return nil
	}
	list, err := duePages(ctx, o.DB)
	if err != nil || len(list) == 0 {
		return err
	}
	overrides, err := currentOverrides(ctx, o.DB, b.clock())
	if err != nil {
		return err
	}
	for _, p := range list {
		var people []string
		err := o.DB.Org(ctx, p.Organisation, func(tx pgx.Tx) error {
			level, ok, err := nextRound(ctx, tx, p.ID, b.escalate())
			if err != nil || !ok {
				return err
			}
			people = b.callees(level, b.clock(), overrides)
			return b.callPeople(ctx, tx, p, level, people)
		})
		if err != nil {
			return fmt.Errorf("calling for %s: %w", p.ID, err)
		}
		o.Log.Info("people were called", "page", p.ID, "code", p.Code, "round", p.Level+1, "people", len(people))
	}
	return nil
}

// callees is who is called in a round, from 1: the one on call, the next, then
// everybody, for ever.
func (b *Outbox) callees(round int, at time.Time, overrides []Override) (names []string) {
	now := b.rota.At(at, overrides).Person
	next := b.rota.Next(now)
	switch {
	case round == 1 && b.known(now):
		return []string{now}
	case round == 2 && next != now && b.known(next):
		return []string{next}
	}
	for _, p := range b.channels.People {
		names = append(names, p.Name)
	}
	return names
}

func (b *Outbox) known(name string) bool { _, ok := b.channels.person(name); return ok }

// callPeople writes to each by the channel that works.
func (b *Outbox) callPeople(ctx context.Context, tx pgx.Tx, p Page, round int, names []string) error {
	down := b.down()
	for _, name := range names {
		who, _ := b.channels.person(name)
		fields := map[string]string{"severity": string(p.Severity), "code": p.Code, "organisation": about(p.Organisation), "facts": p.Facts,
			"when": p.Raised.UTC().Format(time.RFC3339), "round": fmt.Sprint(round), "link": b.takeLink(b.token(p.ID, name))}
		for _, ch := range b.channels.Choose(who.channels(), down) {
			m := Message{Organisation: p.Organisation, Template: Called, Page: p.ID, Fields: fields}
			if ch == mailChannel {
				to, err := ParseAddress("notify.people.email", who.Email)
				if err != nil {
					return err
				}
				m.To = to
			} else {
				m.Webhook = ch
			}
			if _, err := b.Enqueue(ctx, tx, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// TakePath is where a called person takes a call with a link.
const TakePath = "/oncall"

// token is what a called person takes the call with. It says who and what for,
// and is good once: a call is taken once.
func (b *Outbox) token(page uuid.UUID, name string) string {
	return page.String() + "." + name + "." + base64.RawURLEncoding.EncodeToString(b.hash([]byte("take a call\x00" + page.String() + "\x00" + name))[:24])
}

// tokenOf reads a token; ok is false for one that this installation has not made.
func (b *Outbox) tokenOf(token string) (page uuid.UUID, name string, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || !handle.MatchString(parts[1]) {
		return uuid.Nil, "", false
	}
	page, err := uuid.Parse(parts[0])
	if err != nil {
		return uuid.Nil, "", false
	}
	return page, parts[1], hmac.Equal([]byte(b.token(page, parts[1])), []byte(token))
}

var errTaken = func(p Page) error {
	return problem.New(problem.Conflict, "page-taken", fmt.Sprintf("This call was taken at %s by %s.", p.Taken.UTC().Format(time.RFC3339), p.By))
}

// LinkedPage shows what a link is for, without taking it.
func (b *Outbox) LinkedPage(ctx context.Context, d *db.DB, token string) (Page, string, error) {
	id, name, ok := b.tokenOf(token)
	if !ok {
		return Page{}, "", problem.New(problem.NotFound, "page-link", "This link takes no call.").WithField("token").WithMend("Copy it whole from the newest message, or run foundry oncall ack.")
	}
	p, err := showPage(ctx, d, id)
	return p, name, err
}

// TakeByLink takes a call for the person whom its link was sent to.
func (b *Outbox) TakeByLink(ctx context.Context, d *db.DB, token string) (Page, error) {
	p, name, err := b.LinkedPage(ctx, d, token)
	if err != nil {
		return p, err
	}
	return b.take(ctx, d, p, principal.Node("notify"), name, map[string]any{"person": name, "by": "link"})
}

// TakeAs authorises, does and audits that somebody takes a call.
func (b *Outbox) TakeAs(ctx context.Context, d *db.DB, g *access.Guard, who principal.Principal, id uuid.UUID) (Page, error) {
	if err := g.Authorise(ctx, who, "notify.ack", policy.Resource{ID: id.String()}); err != nil {
		return Page{}, err
	}
	p, err := showPage(ctx, d, id)
	if err != nil {
		return p, err
	}
	return b.take(ctx, d, p, who, who.String(), nil)
}

func (b *Outbox) take(ctx context.Context, d *db.DB, p Page, who principal.Principal, by string, details map[string]any) (Page, error) {
	taken := false
	err := d.Org(ctx, p.Organisation, func(tx pgx.Tx) (err error) {
		if taken, err = takePage(ctx, tx, p.ID, by); err != nil || !taken {
			return err
		}
		return audit.Append(ctx, tx, who, p.Organisation, "notify.ack", p.ID.String(), details)
	})
	if err != nil {
		return p, err
	}
	if p, err = showPage(ctx, d, p.ID); err == nil && !taken {
		return p, errTaken(p)
	}
	return p, err
}

// OverrideAs authorises, makes and audits that somebody stands in.
func (b *Outbox) OverrideAs(ctx context.Context, d *db.DB, g *access.Guard, who principal.Principal, person string, begins, ends time.Time) (Override, error) {
	if err := g.Authorise(ctx, who, "notify.set", policy.Resource{}); err != nil {
		return Override{}, err
	}
	now := b.clock()
	if begins.IsZero() {
		begins = now
	}
	switch {
	case b.rota == nil:
		return Override{}, errNoRota()
	case !b.known(person):
		return Override{}, problem.New(problem.Invalid, "oncall-person", "Nobody of this name can be on call.").WithField("person").WithMend("Use one of the names in notify.people.")
	case !ends.After(begins) || !ends.After(now) || ends.Sub(begins) > maxOverride:
		return Override{}, problem.New(problem.Invalid, "oncall-span", "An override ends in the future, after it begins, and is at most 60 days long.").WithField("until")
	}
	o := Override{Person: person, Begins: begins.UTC().Truncate(time.Second), Ends: ends.UTC().Truncate(time.Second)}
	err := d.Org(ctx, uuid.Nil, func(tx pgx.Tx) (err error) {
		if o.Made, err = insertOverride(ctx, tx, o); err != nil {
			return err
		}
		return audit.Append(ctx, tx, who, uuid.Nil, "notify.set", "oncall", map[string]any{"person": person, "from": o.Begins, "until": o.Ends})
	})
	return o, err
}

const maxOverride = 60 * 24 * time.Hour

// OnCall says who is on call at an instant (zero: now) and what is open.
func (b *Outbox) OnCall(ctx context.Context, d *db.DB, at time.Time) (OnCall, error) {
	if at.IsZero() {
		at = b.clock()
	}
	out := OnCall{At: at.UTC(), Rota: b.rota != nil, Open: []Page{}}
	var err error
	if out.Overrides, err = currentOverrides(ctx, d, at); err != nil {
		return out, err
	}
	if b.rota != nil {
		shifts := b.rota.Shifts(at, out.Overrides, 5)
		out.Now, out.Then = &shifts[0], shifts[1:]
	}
	out.Open, err = openPages(ctx, d)
	for i := range out.Open {
		for j := range out.Open[i].Calls {
			out.Open[i].Calls[j].Held = b.held(out.Open[i].Calls[j])
		}
	}
	return out, err
}
