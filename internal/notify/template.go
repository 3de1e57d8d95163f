package notify

import (
	"bytes"
	"embed"
	"fmt"
	htmltemplate "html/template"
	"net/url"
	"slices"
	"strings"
	"text/template"
	"time"
	"unicode/utf8"

	"github.com/missionopsai/foundry/internal/problem"
)

// Template names a kind of message.
type Template string

const (
	Invitation  Template = "invitation"   // somebody is asked to join: organisation, roles, link, expires
	NewSignIn   Template = "new-sign-in"  // a session was opened: when, device, place, link
	LockOut     Template = "lock-out"     // an account is locked for a while: when, until, attempts
	Recovery    Template = "recovery"     // a recovery link was made: organisation, when, until. The link itself never goes by mail
	StaffAccess Template = "staff-access" // staff may see client data: organisation, reason, ticket, from, until
	Called      Template = "page"         // somebody is called for something critical: severity, code, organisation, when, facts, round, link
	AlarmRaised Template = "alarm"        // something needs a person: severity, code, organisation, when, facts
	Test        Template = "test"         // an operator tries the relays: when, node
)

// kind is what a template needs.
type kind struct {
	fields  []string      // all required
	expires time.Duration // after which nobody has a use for it
}

var kinds = map[Template]kind{
	Invitation:  {[]string{"organisation", "roles", "link", "expires"}, 72 * time.Hour},
	NewSignIn:   {[]string{"when", "device", "place", "link"}, 24 * time.Hour},
	LockOut:     {[]string{"when", "until", "attempts"}, 24 * time.Hour},
	Recovery:    {[]string{"organisation", "when", "until"}, 24 * time.Hour},
	StaffAccess: {[]string{"organisation", "reason", "ticket", "from", "until"}, LongestLife},
	AlarmRaised: {[]string{"severity", "code", "organisation", "when", "facts"}, 24 * time.Hour},
	Called:      {[]string{"severity", "code", "organisation", "when", "facts", "round", "link"}, 24 * time.Hour},
	Test:        {[]string{"when", "node"}, time.Hour},
}

// LongestLife is how long a message is kept at most, until it is accepted or
// expires: address and text are wiped then.
const LongestLife = 7 * 24 * time.Hour

// Templates lists every kind of message.
func Templates() []Template {
	return []Template{Invitation, NewSignIn, LockOut, Recovery, StaffAccess, AlarmRaised, Called, Test}
}

// Locales are the languages that every template is written in.
var Locales = []string{"en", "de"}

//go:embed templates
var templateFiles embed.FS

var (
	texts  = template.Must(template.New("").Option("missingkey=error").ParseFS(templateFiles, "templates/*.txt"))
	layout = htmltemplate.Must(htmltemplate.New("").ParseFS(templateFiles, "templates/layout.html"))
)

// maxField bounds one field, and maxBody a rendered body.
const (
	maxField = 2000
	maxBody  = 64 << 10
)

// text is a message in words.
type text struct {
	Subject string `json:"subject"`
	Text    string `json:"text"`
	HTML    string `json:"html"`
}

// write renders a template. The first line of a template is the subject; an
// empty line parts it from the body, whose paragraphs become the HTML ones, so
// that both parts always say the same.
func write(t Template, locale string, fields map[string]string) (text, error) {
	k, ok := kinds[t]
	if !ok {
		return text{}, problem.New(problem.Invalid, "mail-template", fmt.Sprintf("%q is no kind of message.", t)).WithField("template")
	}
	if err := checkFields(k, fields); err != nil {
		return text{}, err
	}
	var out bytes.Buffer
	if err := texts.ExecuteTemplate(&out, string(t)+"."+locale+".txt", fields); err != nil {
		return text{}, fmt.Errorf("writing a %s message: %w", t, err)
	}
	subject, body, ok := strings.Cut(strings.TrimSpace(out.String()), "\n\n")
	if !ok || strings.Contains(subject, "\n") || out.Len() > maxBody {
		return text{}, fmt.Errorf("the %s template does not give a subject and a body", t)
	}
	html, err := writeHTML(locale, subject, body, fields["link"])
	if err != nil {
		return text{}, err
	}
	return text{Subject: subject, Text: body + "\n", HTML: html}, nil
}

// checkFields refuses what is missing, what no template asks for, and what
// could break out of a line. Only facts may have several lines.
func checkFields(k kind, fields map[string]string) error {
	for _, name := range k.fields {
		if _, ok := fields[name]; !ok {
			return problem.New(problem.Invalid, "mail-field", "The message needs this field.").WithField("fields." + name)
		}
	}
	for name, value := range fields {
		if !slices.Contains(k.fields, name) {
			return problem.New(problem.Invalid, "mail-field", "The message has no such field.").WithField("fields." + name)
		}
		line := value
		if name == "facts" {
			line = strings.ReplaceAll(value, "\n", "")
		}
		if len(value) > maxField || !utf8.ValidString(value) || strings.ContainsFunc(line, forbidden) {
			return problem.New(problem.Invalid, "mail-field", fmt.Sprintf("A field is longer than %d bytes, or has control characters.", maxField)).WithField("fields." + name)
		}
		if name == "link" && !safeLink(value) {
			return problem.New(problem.Invalid, "mail-link", "A link in a message must be an absolute https address.").WithField("fields.link")
		}
	}
	return nil
}

func safeLink(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil
}

// paragraph is a part of the HTML body: words, lines, or one link.
type paragraph struct {
	Lines []string
	Link  string
}

// writeHTML writes the HTML part. The only thing in it to click on is the
// message's own link: a field that happens to be an address stays words.
func writeHTML(locale, subject, body, link string) (string, error) {
	var parts []paragraph
	for p := range strings.SplitSeq(body, "\n\n") {
		p = strings.TrimSpace(p)
		switch {
		case p == "":
		case p == link:
			parts = append(parts, paragraph{Link: p})
		default:
			parts = append(parts, paragraph{Lines: strings.Split(p, "\n")})
		}
	}
	var out bytes.Buffer
	err := layout.ExecuteTemplate(&out, "layout.html", map[string]any{"Locale": locale, "Subject": subject, "Parts": parts})
	if err != nil {
		return "", fmt.Errorf("writing the HTML of a message: %w", err)
	}
	return out.String(), nil
}
