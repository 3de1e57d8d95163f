package console

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/docs"
	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/problem"
)

const (
	toKit      = "/console/backups/kit"
	toBriefing = "/console/backups/kit/briefing"
)

func (c *Console) kitRoutes() []Route {
	with := func(do bounded) func(*visit) error { return within(absent(c.Glass, errNoGlass), do) }
	review := sheet(c.showOpening)
	return []Route{
		{Pattern: "GET " + toKit, Action: "break-glass.read", do: with(c.kit)},
		{Pattern: "POST " + toKit + "/look", Action: "break-glass.look", do: with(c.lookAtKit)},
		{Pattern: "GET " + toBriefing, Action: "break-glass.brief", do: with(c.briefing)},
		{Pattern: "GET " + toBriefing + ".html", Action: "break-glass.brief", do: with(c.briefingFile)},
		{Pattern: "GET " + toKit + "/instructions/{sheet}", Action: "break-glass.read", do: with(c.instructions)},
		{Pattern: "GET " + toKit + "/openings/{opening}", Action: "break-glass.read", do: with(review.empty)},
		{Pattern: "POST " + toKit + "/openings/{opening}/review", Action: "break-glass.review",
			do: with(review.sent("finding", []string{"finding", "verdict"}, c.reviewOpening))},
	}
}

var (
	errNoGlass        = problem.New(problem.Unavailable, "kit-away", "This node keeps no emergency kit.").WithMend("Ask the node that runs the database.")
	errOpeningUnknown = problem.New(problem.NotFound, "opening-unknown", "There is no such opening.").WithMend("Choose one from the page Emergency kit.")
)

var kitCrumbs = []crumb{{"Emergency kit", toKit}}

type kitData struct {
	v      *visit
	status backup.GlassStatus
}

func (c *Console) kit(ctx context.Context, v *visit) error {
	s, err := c.Glass.Status(ctx, v.who())
	if err != nil {
		return err
	}
	return v.show(page{Title: "Emergency kit", Path: toKit, Live: true}, kitBody(kitData{v, s}))
}

// lookAtKit reads every copy where it lies. Each place has a bound of its own,
// longer than a page's: somebody asked for it and waits.
func (c *Console) lookAtKit(_ context.Context, v *visit) error {
	if _, err := c.Glass.Look(v.r.Context(), v.who()); err != nil {
		return err
	}
	return v.seeOther(toKit)
}

type openingData struct {
	v       *visit
	form    form
	opening backup.Opening
}

func (c *Console) showOpening(ctx context.Context, v *visit, f form, status int) error {
	id, err := v.pathID("opening", errOpeningUnknown)
	if err != nil {
		return err
	}
	s, err := c.Glass.Status(ctx, v.who())
	if err != nil {
		return err
	}
	at := slices.IndexFunc(s.Openings, func(o backup.Opening) bool { return o.ID == id })
	if at < 0 {
		return errOpeningUnknown
	}
	o := s.Openings[at]
	return v.show(page{Title: "Opening of " + day(o.Opened), Path: toKit, Status: status, Crumbs: kitCrumbs}, openingBody(openingData{v, f, o}))
}

// reviewOpening enters what somebody found.
func (c *Console) reviewOpening(ctx context.Context, v *visit, f *form) (templ.SafeURL, error) {
	id, err := v.pathID("opening", errOpeningUnknown)
	if err != nil {
		return "", err
	}
	justified := f.value("verdict") == "justified"
	if !justified && f.value("verdict") != "unjustified" {
		return "", problem.New(problem.Invalid, "verdict", "Say whether it was right to break the glass.").WithField("verdict").WithMend("Choose one.")
	}
	o, err := c.Glass.ReviewOpening(ctx, v.who(), id, f.value("finding"), justified)
	return openingLink(o.ID), err
}

func openingLink(id uuid.UUID) templ.SafeURL {
	return templ.SafeURL(toKit + "/openings/" + id.String())
}

// briefing shows the page for whoever has to recover, to be printed.
func (c *Console) briefing(ctx context.Context, v *visit) error {
	printed, err := c.Glass.Briefing(ctx, v.who())
	if err != nil {
		return err
	}
	return v.show(page{Title: "Briefing", Path: toKit, Crumbs: kitCrumbs}, sheetBody("Briefing", printed.Text, toBriefing+".html"))
}

// briefingFile is the briefing laid out for paper. It has styles of its own,
// so it is a file and not a page of the console.
func (c *Console) briefingFile(ctx context.Context, v *visit) error {
	printed, err := c.Glass.Briefing(ctx, v.who())
	if err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Disposition", `attachment; filename="foundry-briefing.html"`)
	_, _ = v.w.Write([]byte(printed.HTML))
	return nil
}

// instructions shows a document that comes with the program: it is needed when
// there is nothing else to look things up in.
func (c *Console) instructions(_ context.Context, v *visit) error {
	for _, s := range sheets {
		if s.name == v.r.PathValue("sheet") {
			text, err := docs.Sheets.ReadFile(s.file)
			if err != nil {
				return err
			}
			return v.show(page{Title: s.title, Path: toKit, Crumbs: kitCrumbs}, documentBody(s.title, document(string(text))))
		}
	}
	return problem.New(problem.NotFound, "sheet-unknown", "There are no such instructions.").WithMend("Choose some from the page Emergency kit.")
}

// sheets are what can be printed without asking for more than reading.
var sheets = []struct{ name, title, file, says string }{
	{"bare-machine", "When the server is lost", "runbooks/bare-machine.md", "From a bare machine to a running node, step by step, for somebody who has never seen the system."},
	{"emergency-kit", "How the kit works", "guides/emergency-kit.md", "What belongs to it, who keeps what, and how to get in when nobody can sign in."},
}

// answer is the first word or two of a verdict, which answer the question.
func answer(v backup.Verdict) (word, rest string) {
	for _, end := range []string{". ", ", "} {
		if at := strings.Index(v.Reason, end); at > 0 && at < 20 {
			return v.Reason[:at+1], v.Reason[at+2:]
		}
	}
	return "", v.Reason
}

func answerWord(v backup.Verdict) string { word, _ := answer(v); return word }
func answerRest(v backup.Verdict) string { _, rest := answer(v); return rest }

func verdictState(o backup.Outcome) string {
	switch o {
	case backup.Pass:
		return ok
	case backup.Fail:
		return bad
	}
	return warn
}

// active are the emergency sessions that are open now.
func (d kitData) active() (out []backup.Opening) {
	for _, o := range d.status.Openings {
		if o.Active {
			out = append(out, o)
		}
	}
	return out
}

// due are the openings that wait for a review.
func (d kitData) due() (out []backup.Opening) {
	for _, o := range d.status.Openings {
		if o.Reviewed == nil {
			out = append(out, o)
		}
	}
	return out
}

// emergencySays say what an emergency session may do.
var emergencySays = map[string]string{
	"operate": "operate the node", "secure": "change keys and access", "administer": "do everything an administrator may", backup.ScopeKit: "read what is in the kit, without the node",
}

func scopeText(o backup.Opening) string {
	if text := emergencySays[o.Scope]; text != "" {
		return text
	}
	return o.Scope
}

func brokenText(o backup.Opening, now time.Time) string {
	return "The glass is broken: somebody may " + scopeText(o) + " for another " + age(o.Until.Sub(now)) + ", until " + clock(o.Until) + " UTC."
}

func waitingText(o backup.Opening) string {
	return "Somebody got in with the shares on " + stamp(o.Opened) + " UTC, to " + scopeText(o) + ". Somebody else has to look at it by " + stamp(o.ReviewDue()) + " UTC."
}

func requestText(r backup.KeyRequest) string {
	return fmt.Sprintf("%s asked on %s UTC for %d shares, of which %d are needed.", r.By, stamp(r.At), r.Shares, r.Threshold)
}

func sharesText(list []int) string {
	var parts []string
	for _, n := range list {
		parts = append(parts, fmt.Sprint(n))
	}
	return strings.Join(parts, ", ")
}

// openingState is how an opening stands: open, waiting, or looked at.
func openingState(o backup.Opening, now time.Time) state {
	switch {
	case o.Active:
		return state{bad, "Open now"}
	case o.Reviewed == nil && now.After(o.ReviewDue()):
		return state{bad, "Review overdue"}
	case o.Reviewed == nil:
		return state{warn, "Waits for review"}
	case o.Justified != nil && !*o.Justified:
		return state{warn, "Not justified"}
	}
	return state{ok, "Reviewed"}
}

func copyState(c backup.KitCopy) state {
	switch {
	case c.Failure != "":
		return state{bad, "Not the newest"}
	case c.Seen.IsZero():
		return state{warn, "Not read yet"}
	}
	return state{ok, "Read there"}
}

func copyText(c backup.KitCopy, now time.Time) string {
	text := "read there " + seenText(c, now)
	if !c.At.IsZero() {
		text += ", put there " + moment(c.At, now) + " UTC"
	}
	return text
}

func seenText(c backup.KitCopy, now time.Time) string {
	if c.Seen.IsZero() {
		return "never"
	}
	return age(now.Sub(c.Seen)) + " ago"
}

// dueText is when something has to be done again.
func dueText(at *time.Time, now time.Time) string {
	switch {
	case at == nil:
		return "due now"
	case at.Before(now):
		return "due since " + day(*at)
	}
	return "due by " + day(*at)
}

func lastDrillText(d *backup.KitDrill, now time.Time) string {
	if d == nil {
		return "never"
	}
	return age(now.Sub(d.At)) + " ago"
}

func lastDrillNote(s backup.GlassStatus, now time.Time) string {
	d := s.LastDrill
	switch {
	case d == nil:
		return "nobody has tried the shares; " + dueText(nil, now)
	case d.Set != s.Set:
		return "with the shares of set " + d.Set + ", which are not in force; " + dueText(nil, now)
	}
	return proofState(d.Outcome).word + ", in " + seconds(d.Seconds) + "; next " + dueText(s.DrillDue, now)
}

func contactsText(s backup.GlassStatus, now time.Time) (value, note string) {
	value = plural(int64(s.Contacts), "contact", "contacts")
	switch {
	case s.Contacts == 0:
		return "none", "the kit names nobody to call"
	case s.Attested == nil:
		return value, "never called; " + dueText(nil, now)
	}
	return value, "called " + age(now.Sub(*s.Attested)) + " ago; next " + dueText(s.AttestDue, now)
}

func contactsValue(d kitData) string { value, _ := contactsText(d.status, d.v.now); return value }
func contactsNote(d kitData) string  { _, note := contactsText(d.status, d.v.now); return note }

func kitNote(s backup.GlassStatus) string {
	if s.Current {
		return "nothing in it has changed since"
	}
	return "something in it has changed: it is made anew within a minute"
}

func contactDrillText(s backup.GlassStatus, now time.Time) string {
	if s.LastContactDrill == nil {
		return "never; " + dueText(nil, now)
	}
	return lastDrillText(s.LastContactDrill, now) + ", " + strings.ToLower(proofState(s.LastContactDrill.Outcome).word) + "; " + dueText(s.ContactDrillDue, now)
}
