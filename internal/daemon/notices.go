package daemon

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/problem"
)

// timeInMail is how a message writes a moment.
const timeInMail = "2006-01-02 15:04 UTC"

func inMail(t time.Time) string { return t.UTC().Format(timeInMail) }

// organisationName is what people call an organisation.
func (d *Daemon) organisationName(id uuid.UUID) string {
	if id == uuid.Nil {
		return "the platform"
	}
	for _, o := range d.verifier.Directory().Organisations() {
		if o.ID == id {
			return o.Name
		}
	}
	return id.String()
}

// write puts a message into the outbox in the transaction of the act that it
// is about. A message that cannot be written does not undo the act: that is
// logged, and the act is in the audit log in any case.
func (d *Daemon) write(ctx context.Context, tx pgx.Tx, m notify.Message) error {
	id, err := d.outbox.Enqueue(ctx, tx, m)
	var p *problem.Error
	if errors.As(err, &p) && p.Kind == problem.Invalid {
		d.log.Warn("a message was not written", "kind", m.Template, "field", p.Field, "code", p.Code)
		return nil
	}
	if err != nil {
		return err
	}
	d.log.Debug("a message was written", "kind", m.Template, "message", id)
	return nil
}

// invited has an invitation delivered. A recovery link is passed on by hand,
// by somebody who knows the person: whoever can read a mailbox must not be
// able to take an account over. Its owner is told that there is one.
func (d *Daemon) invited(ctx context.Context, tx pgx.Tx, m access.InvitationMail) error {
	i := m.Invitation
	if i.Kind == access.InviteRecovery {
		return d.write(ctx, tx, notify.Message{Organisation: i.Organisation, Template: notify.Recovery, To: notify.Address{Name: nameOnly(i.Name, i.Email), Email: i.Email},
			Fields: map[string]string{"organisation": d.organisationName(i.Organisation), "when": inMail(i.CreatedAt), "until": inMail(i.ExpiresAt)}})
	}
	return d.write(ctx, tx, notify.Message{Organisation: i.Organisation, Template: notify.Invitation, To: notify.Address{Name: nameOnly(i.Name, i.Email), Email: i.Email},
		Expires: i.ExpiresAt.Sub(d.clock()), Fields: map[string]string{
			"organisation": d.organisationName(i.Organisation), "roles": strings.Join(i.RoleNames, ", "), "link": m.URL, "expires": inMail(i.ExpiresAt)}})
}

// nameOnly leaves out a name that only repeats the address.
func nameOnly(name, email string) string {
	if strings.Contains(name, "@") || name == email {
		return ""
	}
	return name
}

func addressOf(n access.Notice) notify.Address {
	return notify.Address{Name: nameOnly(n.Name, n.Email), Email: n.Email}
}

// accountLocked tells a person that somebody guesses at their account.
func (d *Daemon) accountLocked(ctx context.Context, tx pgx.Tx, n access.Notice) error {
	return d.write(ctx, tx, notify.Message{Template: notify.LockOut, To: addressOf(n), Fields: map[string]string{
		"when": inMail(n.At), "until": n.Until.UTC().Format("2006-01-02 15:04:05 UTC"), "attempts": strconv.Itoa(n.Failures)}})
}

// signedInNew tells a person of a session on a device that is new for them.
func (d *Daemon) signedInNew(ctx context.Context, tx pgx.Tx, n access.Notice) error {
	return d.write(ctx, tx, notify.Message{Template: notify.NewSignIn, To: addressOf(n), Fields: map[string]string{
		"when": inMail(n.At), "device": n.Device, "place": n.Place, "link": d.URL() + "/account"}})
}

// clientTold tells the administrators of an organisation that staff may see
// its data, in the transaction that lets them.
func (d *Daemon) clientTold(ctx context.Context, tx pgx.Tx, g access.Grant) error {
	administrators, err := d.people.AdministratorsOf(ctx, g.Organisation)
	if err != nil {
		return err
	}
	from, until := d.clock(), d.clock().Add(g.Duration)
	if g.DecidedAt != nil {
		from = *g.DecidedAt
	}
	if g.ExpiresAt != nil {
		until = *g.ExpiresAt
	}
	for _, a := range administrators {
		err := d.write(ctx, tx, notify.Message{Organisation: g.Organisation, Template: notify.StaffAccess, To: addressOf(a), Fields: map[string]string{
			"organisation": d.organisationName(g.Organisation), "reason": g.Reason, "ticket": g.Ticket, "from": inMail(from), "until": inMail(until)}})
		if err != nil {
			return err
		}
	}
	return nil
}

// glassBroken makes a broken glass heard: in the log, as an alarm of the
// client's organisation, and by the client's administrators, all in the
// transaction that breaks it.
func (d *Daemon) glassBroken(ctx context.Context, tx pgx.Tx, g access.Grant) error {
	d.log.Warn("the glass was broken: client data is open without approval", "grant", g.ID, "organisation", g.Organisation,
		"requester", g.Requester, "holder", g.Holder, "ticket", g.Ticket, "until", g.ExpiresAt)
	// Each grant is an alarm of its own: a second one must not be counted
	// silently into the first.
	if _, err := d.outbox.Alarm(ctx, tx, notify.Critical, "glass-broken."+g.ID.String(), g.Organisation, map[string]string{
		"grant": g.ID.String(), "requester": g.Requester, "holder": g.Holder, "ticket": g.Ticket, "next": "foundry grant review " + g.ID.String()}); err != nil {
		return err
	}
	return d.clientTold(ctx, tx, g)
}

// budgetAlarm makes a budget's alarm heard. The ledger enters it into the
// audit log in the transaction that records it, and calls this on its way:
// nothing here may wait.
func (d *Daemon) budgetAlarm(a ledger.Alarm) {
	d.log.Warn("budget alarm", "organisation", a.Budget.Organisation, "budget", a.Budget.ID, "spent_nano", a.SpentNano, "limit_nano", a.Budget.LimitNano)
	if d.life.Err() != nil {
		return
	}
	d.running.Go(func() {
		d.alarm(notify.Warning, "budget."+a.Budget.ID.String(), a.Budget.Organisation, map[string]string{
			"budget": a.Budget.ID.String(), "period": string(a.Budget.Period), "began": inMail(a.PeriodStart), "next": "foundry budget list"})
	})
}

// alarm raises an alarm outside of any other act.
func (d *Daemon) alarm(severity notify.Severity, code string, org uuid.UUID, facts map[string]string) {
	if d.outbox == nil {
		return // the node is only starting; what is wrong is in its log
	}
	ctx, cancel := context.WithTimeout(d.life, flushTimeout)
	defer cancel()
	err := d.db.Org(ctx, org, func(tx pgx.Tx) error {
		_, err := d.outbox.Alarm(ctx, tx, severity, code, org, facts)
		return err
	})
	if err != nil {
		d.log.Error("an alarm was not raised", "code", code, "error", err)
		return
	}
	d.outbox.Kick()
}

// auditWatchEvery is how often the audit log is looked at.
const auditWatchEvery = 30 * time.Second

// watchAuditLog raises an alarm while the audit log does not advance or is not
// what was signed, until ctx ends. Repetitions are counted, not sent.
func (d *Daemon) watchAuditLog(ctx context.Context) {
	tick := time.NewTicker(auditWatchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.lookAtAuditLog()
		}
	}
}

func (d *Daemon) lookAtAuditLog() {
	s := d.auditLog.Status()
	if !d.db.Healthy() {
		return // it is heard of elsewhere, and nothing could be written
	}
	if !s.Verified.IsZero() && !s.Sound {
		d.alarm(notify.Critical, "audit-log.unsound", uuid.Nil, map[string]string{"verified": inMail(s.Verified), "next": "foundry audit verify"})
	}
	if s.Failure != "" {
		d.alarm(notify.Critical, "audit-log.stopped", uuid.Nil, map[string]string{"code": s.Code, "next": "foundry audit verify"})
	}
}
