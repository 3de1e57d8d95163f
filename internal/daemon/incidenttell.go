package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// errNoWay says that nobody can be told from here.
var errNoWay = problem.New(problem.Unavailable, "incident-nobody-told", "This node has no way to tell anybody.").WithField("notify.people").
	WithMend("Write people and their channels into notify, and a relay into mail: docs/guides/incidents.md.")

// tellClock tells whoever has to hear that a clock runs out.
func (d *Daemon) tellClock(ctx context.Context, id string, s *incident.State, r *clock.Reading, e clock.Escalation) (string, error) {
	left := "It ran out at " + inMail(r.Due) + "."
	if now := d.clock(); r.Due.After(now) {
		left = fmt.Sprintf("%s left, until %s.", r.Due.Sub(now).Round(time.Second), inMail(r.Due))
	}
	subject := fmt.Sprintf("[%s] %s: %s at %.0f %%", s.ID, exercised(s)+s.Title, r.Title, e.Share*100)
	text := fmt.Sprintf("%s%s\n\nClock: %s (%s)\n%s\nPhase: %s\n\nWhat is down, how long is left and what needs you:\n\n  foundry incident show %s\n\n%s/\n", exercised(s), s.Title, r.ID, r.Title, left, s.Phase, s.ID, d.linkBase())
	return d.inform(ctx, id, s, e.Who, e.At, "incident-clock", subject, text, map[string]string{"incident": s.ID, "clock": r.ID, "share": fmt.Sprintf("%.0f", e.Share*100), "due": r.Due.UTC().Format(time.RFC3339)})
}

// exercised marks what is not real.
func exercised(s *incident.State) string {
	if s.Mode == incident.Real {
		return ""
	}
	return "EXERCISE (" + string(s.Mode) + "): "
}

func (d *Daemon) linkBase() string {
	if d.Gateway() {
		return d.URL()
	}
	return "node " + d.Member().Name()
}

// callFor calls whoever is on call for an incident: by an alarm, which asks for
// somebody to take it, or without the database at once.
func (d *Daemon) callFor(ctx context.Context, s *incident.State) error {
	a := &incident.Act{Act: "people.called", Target: s.ID, Once: onceCalled}
	if d.outbox != nil && d.db.Healthy() {
		facts := map[string]string{"incident": s.ID, "category": string(s.Category), "next": "foundry incident show " + s.ID}
		err := d.db.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
			_, err := d.outbox.Alarm(ctx, tx, notify.Critical, alarmOfIncident(s.ID), uuid.Nil, facts)
			return err
		})
		if err != nil {
			return err
		}
		d.outbox.Kick()
		a.Outcome, a.Words = "raised", "An alarm was raised: it calls until somebody takes it."
	} else {
		words, err := d.inform(ctx, s.ID+"/opened", s, nil, s.OpenedAt, "incident-opened", fmt.Sprintf("[%s] %s", s.ID, s.Title),
			fmt.Sprintf("%s\n\nAn incident is open since %s (%s).\nThe database is away or not known: nobody can take this call by a link.\n\n  foundry incident show %s\n", s.Title, inMail(s.OpenedAt), s.Category, s.ID),
			map[string]string{"incident": s.ID, "category": string(s.Category)})
		if err != nil {
			return err
		}
		a.Outcome, a.Words = "sent", words
	}
	_, _, err := d.book.Enter(ctx, principal.Node("incident"), s.ID, a)
	if err != nil && problem.From(err).Code == "incident-act-again" {
		return nil
	}
	return err
}

// inform sends one message to roles of an incident and people of the plan, each
// under an id of its own that never changes. Who cannot be found is on call.
// One carrier that took it is enough; what each said is given back.
func (d *Daemon) inform(ctx context.Context, id string, s *incident.State, who []string, written time.Time, kind, subject, text string, fields map[string]string) (string, error) {
	people, addresses := d.reached(s, who)
	var said []string
	told := false
	send := func(name string, m notify.Direct) {
		m.ID, m.Kind, m.Subject, m.Text, m.Written, m.Fields = stableID(id+"/"+name), kind, subject, text, written, fields
		out, err := d.teller.SendNow(ctx, m)
		switch {
		case err != nil:
			said = append(said, name+": "+problem.From(err).Detail)
		default:
			told = told || out.State == notify.Accepted || out.State == notify.Indeterminate
			said = append(said, name+": "+strings.Join(append(out.Others, out.Receipt), "; "))
		}
	}
	for _, name := range people {
		send(name, notify.Direct{Name: name})
	}
	for i, a := range addresses {
		send(fmt.Sprintf("address %d", i+1), notify.Direct{To: a})
	}
	words := strings.Join(said, ". ")
	if len(words) > 4000 {
		words = words[:4000]
	}
	switch {
	case told:
		return words, nil
	case len(said) == 0 || !d.teller.CanTell():
		return "", errNoWay
	}
	return "", problem.New(problem.Unavailable, "incident-untold", words).WithMend("It is tried again.")
}

// reached finds how roles and names are reached: people of the configuration
// by their name in the plan, or by their account's address. Nobody found: who is
// on call, everybody who can be, or whom alarms go to.
func (d *Daemon) reached(s *incident.State, who []string) (people []string, addresses []notify.Address) {
	p := d.planned.Plan()
	for _, name := range who {
		if role := s.Roles[incident.Role(name)]; role != "" {
			name = role
		}
		account := strings.TrimPrefix(name, "person:")
		if p != nil {
			for i := range p.People {
				if x := &p.People[i]; x.Name == name || x.Account != "" && x.Account == account {
					name, account = x.Name, x.Account
					break
				}
			}
		}
		if handle := strings.ToLower(name); d.teller.Knows(handle) {
			if !slices.Contains(people, handle) {
				people = append(people, handle)
			}
		} else if strings.Contains(account, "@") {
			if a, err := notify.ParseAddress("account", account); err == nil && !slices.Contains(addresses, a) {
				addresses = append(addresses, a)
			}
		}
	}
	if len(people)+len(addresses) > 0 {
		return people, addresses
	}
	if now, next := d.teller.OnDuty(d.clock()); now != "" {
		if next == now || next == "" {
			return []string{now}, nil
		}
		return []string{now, next}, nil
	}
	if people = d.teller.Everybody(); len(people) > 0 {
		return people, nil
	}
	for _, text := range d.teller.Alarmed() {
		if a, err := notify.ParseAddress("mail.alarms", text); err == nil {
			addresses = append(addresses, a)
		}
	}
	return nil, addresses
}

// postNotice makes one attempt at a notice.
func (d *Daemon) postNotice(ctx context.Context, id string, s *incident.State, n *incident.Sent) (incident.Posted, error) {
	m := notify.Direct{ID: stableID(id), Locale: n.Locale, Kind: "incident-notice", Subject: exercised(s) + fmt.Sprintf("[%s] %s", s.ID, s.Title), Text: n.Text, Written: noticeWritten(s, n),
		Fields: map[string]string{"incident": s.ID, "notice": n.ID, "to": n.To, "audience": string(n.Audience)}}
	if d.teller.Knows(strings.ToLower(n.To)) {
		m.Name = strings.ToLower(n.To)
	} else {
		_, list := d.reached(s, []string{n.To})
		p := d.planned.Plan()
		if p == nil || p.Person(n.To) == nil || len(list) != 1 {
			return incident.Posted{Step: incident.Failed, Words: fmt.Sprintf("Nobody has said how %s is reached: write them into notify.people under this name, or tell them by hand and record it.", n.To)}, nil
		}
		m.To = list[0]
	}
	out, err := d.teller.SendNow(ctx, m)
	if err != nil {
		var p *problem.Error
		if errors.As(err, &p) {
			return incident.Posted{Step: incident.Failed, Words: p.Detail}, nil
		}
		return incident.Posted{}, err
	}
	posted := incident.Posted{Channel: out.Channel, Receipt: out.Receipt, Words: strings.Join(out.Others, "; ")}
	switch out.State {
	case notify.Accepted:
		posted.Step = incident.Accepted
	case notify.Indeterminate:
		posted.Step = incident.SentOff
	default:
		posted.Step, posted.Again, posted.Receipt = incident.Failed, out.State == notify.Queued, ""
		posted.Words = strings.Join(append(out.Others, out.Receipt), "; ")
	}
	return posted, nil
}

// noticeWritten is a time of a notice that every attempt has: that of the fact
// that it began, which never changes.
func noticeWritten(s *incident.State, n *incident.Sent) time.Time {
	if !n.DraftedAt.IsZero() {
		return n.DraftedAt
	}
	return s.OpenedAt
}
