package incident

import (
	"bytes"
	"embed"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/problem"
)

// Audience is to whom a notice speaks; it decides what the notice must say.
type Audience string

// Audiences of notices.
const (
	ToClient    Audience = "client"
	ToRegulator Audience = "regulator"
	ToSubjects  Audience = "data-subjects"
	ToPerson    Audience = "person" // somebody of the plan: management, an insurer, a supplier
)

// Step is how far a notice has come.
type Step string

// Steps of a notice. Only what its carrier has acknowledged has been told:
// one that was sent, and of which nothing more is known, is indeterminate.
const (
	Drafted  Step = "drafted"
	Released Step = "released" // somebody wants it sent, and it may be: whoever sends for the fleet does
	SentOff  Step = "sent"
	Accepted Step = "accepted" // by the relay, the portal, the person on the telephone
	Failed   Step = "failed"
)

// Notice is one step of one message to one recipient.
type Notice struct {
	ID       string            `json:"notice"` // the same through all its steps
	Step     Step              `json:"step"`
	Audience Audience          `json:"audience,omitempty"`
	To       string            `json:"to,omitempty"`     // a client or person of the plan; UK or EU for a regulator
	Update   bool              `json:"update,omitempty"` // not the first
	Breach   bool              `json:"breach,omitempty"` // it tells a controller of personal data
	States   []string          `json:"states,omitempty"` // what the plan's rule wants it to say
	Fields   map[string]string `json:"fields,omitempty"`
	Locale   string            `json:"locale,omitempty"`
	Text     string            `json:"text,omitempty"` // as it goes out
	Channel  string            `json:"channel,omitempty"`
	Receipt  string            `json:"receipt,omitempty"` // what the carrier said: a queue id, a reference, who answered and when
	At       time.Time         `json:"at,omitzero"`
	Words    string            `json:"words,omitempty"`
	Try      int               `json:"try,omitempty"`   // which attempt, where the fleet sends it
	Again    bool              `json:"again,omitempty"` // certainly not taken: it is tried again by itself
}

// Sent is a notice and how far it has come.
type Sent struct {
	Notice
	Entry   int       `json:"entry"` // the last
	Tries   int       `json:"tries"`
	ToldAt  time.Time `json:"told_at,omitzero"`
	Unclear bool      `json:"indeterminate,omitempty"`

	Released bool      `json:"released,omitempty"` // the fleet sends it until it is told, or refused for good
	Doubts   int       `json:"doubts,omitempty"`   // attempts of which nobody knows what became
	LastAt   time.Time `json:"last_at"`

	DraftedAt time.Time `json:"drafted_at"`
}

// required is what a notice says whatever the plan: SP6 for clients (O-26),
// GDPR article 33(3) and 34(2) for the others.
var required = map[Audience][]string{
	ToClient:    {"nature", "data-affected", "remediation", "contact"},
	ToRegulator: {"nature", "categories", "subjects", "records", "contact", "consequences", "measures"},
	ToSubjects:  {"nature", "contact", "consequences", "measures"},
	ToPerson:    {"nature"},
}

// Required lists what a notice has to say.
func Required(a Audience, states []string, late bool) []string {
	out := joined(required[a], states)
	if late && a == ToRegulator {
		out = joined(out, []string{"delay"}) // article 33(1): after 72 hours, with reasons
	}
	return out
}

func (*Notice) kind() Kind { return KindNotice }

func (b *Notice) check(s *State, _ string, at time.Time) error {
	if b.ID == "" {
		return invalid("notice", "A notice has an id.", "Give one; the same for each of its steps.")
	}
	old := s.notice(b.ID)
	if b.Step == Drafted {
		if old != nil && old.Step != Drafted {
			return refuse("incident-notice-out", "It is on its way already.", "Write another: what was sent is not changed.")
		}
		return b.draft(s, at)
	}
	if old == nil {
		return refuse("incident-notice-undrafted", "There is no such notice.", "Draft it first: a notice says what it must, or it does not go out.")
	}
	switch b.Step {
	case Released:
		return s.releasable(old)
	case SentOff:
		if old.Step == Accepted {
			return refuse("incident-notice-told", "It was told already.", "Send an update.")
		}
		if b.Try != 0 && (b.Try != old.Tries+1 || !old.Released) {
			return refuse("incident-notice-tried", "Another node sends it.", "Nothing has to be done.")
		}
	case Failed:
		if old.Step == Accepted {
			return refuse("incident-notice-told", "It was told already.", "Send an update.")
		}
	case Accepted:
		if b.Receipt == "" {
			return refuse("incident-notice-unproven", "Nothing shows that it arrived: it is indeterminate, and its clock runs on.", "Give what the carrier answered: a queue id, a reference, who took the call.")
		}
		return notAhead("at", b.At, at)
	default:
		return invalid("step", fmt.Sprintf("There is no step %q.", b.Step), "Use drafted, sent, accepted or failed.")
	}
	return nil
}

// releasable says whether a notice may be sent by the fleet. Where the plan
// asks for more than one person, who wrote it does not send it alone.
func (s *State) releasable(n *Sent) error {
	switch {
	case n.Step == Accepted:
		return refuse("incident-notice-told", "It was told already.", "Send an update.")
	case n.Released:
		return refuse("incident-notice-released", "It is on its way already.", "`foundry incident show` says how far it is.")
	case s.Approvals > 1 && !s.Approved("notice", n.ID):
		return refuse("incident-notice-unapproved", fmt.Sprintf("The plan asks for %d people.", s.Approvals), fmt.Sprintf("Record a decision about \"notice\" of %s and have it approved.", n.ID))
	}
	return nil
}

// draft wants every field that the audience must be told.
func (b *Notice) draft(s *State, at time.Time) error {
	if _, ok := required[b.Audience]; !ok {
		return invalid("audience", fmt.Sprintf("There is no audience %q.", b.Audience), "Use client, regulator, data-subjects or person.")
	}
	if b.To == "" && b.Audience != ToSubjects {
		return invalid("to", "To whom?", "Name a client or person of the plan; for a regulator UK or EU.")
	}
	late := slices.ContainsFunc(s.Clocks(at), func(r clock.Reading) bool {
		return r.Kind == clock.Regulator && r.Of == b.To && r.State == clock.Expired
	})
	var missing []string
	for _, f := range Required(b.Audience, b.States, late) {
		if strings.TrimSpace(b.Fields[f]) == "" {
			missing = append(missing, f)
		}
	}
	if len(missing) > 0 {
		return problem.New(problem.Invalid, "incident-notice-incomplete", "The notice does not say: "+strings.Join(missing, ", ")+".").WithField("fields").
			WithMend("Say each, if only what is not known yet and when it will be (GDPR article 33(4) allows to tell in phases).")
	}
	for f, text := range b.Fields {
		if err := readable("fields."+f, text); err != nil {
			return err
		}
		if len(text) > maxText {
			return invalid("fields."+f, "It is too long.", "Say it shorter, and offer the rest.")
		}
	}
	return nil
}

func (b *Notice) apply(s *State, e *Entry) {
	n := s.notice(b.ID)
	if n == nil {
		s.Notices = append(s.Notices, Sent{})
		n = &s.Notices[len(s.Notices)-1]
	}
	if b.Step == Drafted {
		n.Notice, n.DraftedAt = *b, e.At
	}
	if b.Step == SentOff && n.Unclear {
		n.Doubts++
	}
	n.Step, n.Entry, n.LastAt = b.Step, e.N, e.At
	n.Unclear = b.Step == SentOff || b.Step == Failed && n.Doubts > 0
	switch b.Step {
	case Released:
		n.Released, n.Doubts = true, 0
	case Failed:
		n.Released, n.Words = n.Released && b.Again, b.Words
	case SentOff:
		n.Tries++
		if b.Channel != "" {
			n.Channel = b.Channel
		}
	case Accepted:
		n.Released = false
		n.Receipt, n.ToldAt = b.Receipt, b.At
		if b.Channel != "" {
			n.Channel = b.Channel
		}
		for _, ref := range n.tells() {
			s.fact(e, ref.Name, ref.Of, b.At, entryRef(e))
		}
	}
}

// tells are the facts that a notice makes when it has arrived.
func (n *Sent) tells() (out []clock.Ref) {
	switch n.Audience {
	case ToRegulator:
		return []clock.Ref{{Name: clock.RegulatorTold, Of: n.To}}
	case ToSubjects:
		return []clock.Ref{{Name: clock.SubjectsTold}}
	}
	if n.Update {
		out = append(out, clock.Ref{Name: clock.Updated, Of: n.To})
	} else {
		out = append(out, clock.Ref{Name: clock.Told, Of: n.To})
	}
	if n.Breach {
		out = append(out, clock.Ref{Name: clock.BreachTold, Of: n.To})
	}
	return out
}

func (s *State) notice(id string) *Sent {
	for i := range s.Notices {
		if s.Notices[i].ID == id {
			return &s.Notices[i]
		}
	}
	return nil
}

//go:embed templates
var templateFiles embed.FS

var templates = template.Must(template.New("").Option("missingkey=error").ParseFS(templateFiles, "templates/*.txt"))

// Locales are the languages of the templates.
var Locales = []string{"en", "de"}

// Compose writes the text of a notice from its fields.
func (s *State) Compose(n *Notice) (string, error) {
	locale := n.Locale
	if !slices.Contains(Locales, locale) {
		locale = Locales[0]
	}
	fields := map[string]string{}
	for _, all := range required {
		for _, f := range all {
			fields[f] = ""
		}
	}
	for _, f := range []string{"next-update", "delay"} {
		fields[f] = ""
	}
	for f, text := range n.Fields {
		fields[f] = strings.TrimSpace(text)
	}
	var out bytes.Buffer
	err := templates.ExecuteTemplate(&out, string(n.Audience)+"."+locale+".txt", map[string]any{
		"ID": s.ID, "Title": s.Title, "To": n.To, "Update": n.Update, "Exercise": s.Mode != Real,
		"Began": earliest(s.Facts, clock.Start).UTC().Format("2006-01-02 15:04 UTC"), "Say": func(f string) string { return fields[f] },
	})
	if err != nil {
		return "", fmt.Errorf("composing a notice of incident %s: %w", s.ID, err)
	}
	return strings.TrimLeft(out.String(), "\n"), nil
}
