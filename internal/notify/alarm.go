package notify

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Severity says how soon a person is needed.
type Severity string

const (
	Info     Severity = "info"     // good to know
	Warning  Severity = "warning"  // during working hours
	Critical Severity = "critical" // now
)

var severities = []Severity{Info, Warning, Critical}

var alarmCode = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)

// Alarm tells those who care that something needs a person, in the caller's
// transaction, which must be scoped to org (the nil organisation: the
// platform). facts are stored in the audit log: no personal data.
//
// Within the window after an alarm (an hour by default) the same code of the
// same organisation is counted instead of sent again, unless it became more
// severe. It returns the messages that were queued.
func (b *Outbox) Alarm(ctx context.Context, tx pgx.Tx, severity Severity, code string, org uuid.UUID, facts map[string]string) ([]uuid.UUID, error) {
	if !slices.Contains(severities, severity) || !alarmCode.MatchString(code) {
		return nil, problem.New(problem.Invalid, "alarm", fmt.Sprintf("%q of severity %q is no alarm.", code, severity)).
			WithMend("Use lower-case letters, digits, dots and dashes, and info, warning or critical.")
	}
	fresh, err := b.raise(ctx, tx, severity, code, org)
	if err != nil || !fresh {
		return nil, err
	}
	if err := audit.Append(ctx, tx, principal.Node("notify"), org, "alarm.raise", code, map[string]any{"severity": severity, "facts": facts}); err != nil {
		return nil, err
	}
	if err := b.raisePage(ctx, tx, severity, code, org, facts); err != nil {
		return nil, err
	}
	fields := map[string]string{"severity": string(severity), "code": code, "organisation": about(org),
		"when": b.clock().UTC().Format(time.RFC3339), "facts": lines(facts)}
	var ids []uuid.UUID
	for _, h := range b.channels.Webhooks {
		if h.Only != "" {
			continue
		}
		id, err := b.Enqueue(ctx, tx, Message{Organisation: org, Template: AlarmRaised, Webhook: h.Name, Fields: fields})
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	for _, text := range b.config.Alarms {
		to, err := ParseAddress("mail.alarms", text)
		if err != nil {
			return nil, err
		}
		id, err := b.Enqueue(ctx, tx, Message{Organisation: org, Template: AlarmRaised, To: to, Fields: fields})
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func about(org uuid.UUID) string {
	if org == uuid.Nil {
		return "the platform"
	}
	return "organisation " + org.String()
}

// lines writes facts one to a line, in order, without what could break a line.
func lines(facts map[string]string) string {
	keys := make([]string, 0, len(facts))
	for k := range facts {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	for _, k := range keys {
		line := strings.Map(func(r rune) rune {
			if forbidden(r) {
				return ' '
			}
			return r
		}, k+": "+facts[k])
		if b.Len()+len(line)+1 > maxField {
			break
		}
		b.WriteString(line + "\n")
	}
	if b.Len() == 0 {
		return "-"
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// raise counts an alarm, and reports whether it has to be sent. Two raisers at
// once wait for each other on the row, and one of them sends.
func (b *Outbox) raise(ctx context.Context, tx pgx.Tx, severity Severity, code string, org uuid.UUID) (fresh bool, err error) {
	window := b.config.AlarmWindow.Or(defaultWindow)
	if _, err := tx.Exec(ctx, `INSERT INTO alarms (organisation_id, code, severity, first_at, last_at, count, total)
		VALUES ($1, $2, 'info', '-infinity', '-infinity', 0, 0) ON CONFLICT DO NOTHING`, org, code); err != nil {
		return false, fmt.Errorf("raising an alarm: %w", err)
	}
	var was Severity
	var open bool
	err = tx.QueryRow(ctx, `SELECT severity, first_at > now() - $3::interval FROM alarms WHERE organisation_id = $1 AND code = $2 FOR UPDATE`, org, code, window).Scan(&was, &open)
	if err != nil {
		return false, fmt.Errorf("raising an alarm: %w", err)
	}
	fresh = !open || slices.Index(severities, severity) > slices.Index(severities, was)
	_, err = tx.Exec(ctx, `UPDATE alarms SET last_at = now(), total = total + 1, count = CASE WHEN $3 THEN 1 ELSE count + 1 END,
		first_at = CASE WHEN $3 THEN now() ELSE first_at END, severity = CASE WHEN $3 THEN $4 ELSE severity END
		WHERE organisation_id = $1 AND code = $2`, org, code, fresh, string(severity))
	if err != nil {
		return false, fmt.Errorf("raising an alarm: %w", err)
	}
	return fresh, nil
}

// RaisedAlarm is an alarm with how often it came.
type RaisedAlarm struct {
	Organisation uuid.UUID `json:"organisation"`
	Code         string    `json:"code"`
	Severity     Severity  `json:"severity"`
	First        time.Time `json:"first_at"` // of the present window
	Last         time.Time `json:"last_at"`
	Count        int64     `json:"count"` // in the present window
	Total        int64     `json:"total"`
}

// Alarms lists what was raised, of all organisations, the latest first.
func Alarms(ctx context.Context, d *db.DB, limit int) (out []RaisedAlarm, err error) {
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT organisation_id, code, severity, first_at, last_at, count, total FROM alarms ORDER BY last_at DESC LIMIT $1`, limit)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[RaisedAlarm])
		return err
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("listing alarms: %w", err)
	}
	return out, nil
}
