package console

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/a-h/templ"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/member"
	verdicts "github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/incident"
	clocks "github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

const toCommand = "/console/command"

// eyes are how the page for the night sees: each may be away by itself.
type eyes struct {
	timelines func(context.Context, principal.Principal) ([]*incident.Timeline, map[string]error, error)
	runs      func(context.Context, principal.Principal) ([]recovery.Shown, error)
	database  func() bool
}

func (o *Options) eyes() (e eyes) {
	if o.Incidents != nil {
		e.timelines = o.Incidents.Book.List
	}
	if o.Recoveries != nil {
		e.runs = o.Recoveries.List
	}
	if o.DB != nil {
		e.database = o.DB.Healthy
	}
	return e
}

func (c *Console) commandRoutes() []Route {
	return []Route{{Pattern: "GET " + toCommand, Action: "incident.read", do: within(absent(c.Fleet, errNoFleet), c.commandPage)}}
}

type commandData struct {
	v        *visit
	now      time.Time
	p        fleet.Picture
	s        member.Status
	database bool
	open     []*incident.Timeline
	closed   []*incident.Timeline
	broken   map[string]error
	listErr  *problem.Error
	runs     []recovery.Shown // that have not ended
	runsErr  *problem.Error
}

// commandPage shows what is down, how long is left, what is being done, and
// what needs somebody. It asks nothing of the database. Its parts are read side
// by side: what does not answer costs the others no time.
func (c *Console) commandPage(ctx context.Context, v *visit) error {
	d := commandData{v: v, now: c.Clock(), p: c.Fleet.Picture(), database: c.eyes.database == nil || c.eyes.database()}
	var parts sync.WaitGroup
	parts.Go(func() { d.s = c.Fleet.Status(ctx) })
	parts.Go(func() { d.readIncidents(ctx, c.eyes) })
	parts.Go(func() { d.readRuns(ctx, c.eyes) })
	parts.Wait()
	return v.show(page{Title: "Command", Path: toCommand, Live: true}, commandBody(d))
}

func (d *commandData) readIncidents(ctx context.Context, e eyes) {
	if e.timelines == nil {
		return
	}
	all, broken, err := e.timelines(ctx, d.v.who())
	if err != nil {
		d.listErr = problem.From(err)
	}
	d.broken = broken
	for _, t := range all {
		if t.State.ClosedAt.IsZero() {
			d.open = append(d.open, t)
		} else {
			d.closed = append(d.closed, t)
		}
	}
	realFirst(d.open, func(t *incident.Timeline) incident.Mode { return t.State.Mode })
}

func (d *commandData) readRuns(ctx context.Context, e eyes) {
	if e.runs == nil {
		return
	}
	all, err := e.runs(ctx, d.v.who())
	if err != nil {
		d.runsErr = problem.From(err)
	}
	d.runs = slices.DeleteFunc(all, func(r recovery.Shown) bool { return !r.Ended.IsZero() })
	realFirst(d.runs, func(r recovery.Shown) incident.Mode { return r.Mode })
}

// realFirst puts what is an exercise behind what is not.
func realFirst[T any](list []T, mode func(T) incident.Mode) {
	slices.SortStableFunc(list, func(a, b T) int {
		return cmp.Compare(exerciseRank(mode(a)), exerciseRank(mode(b)))
	})
}

func exerciseRank(m incident.Mode) int {
	if m == incident.Real || m == "" {
		return 0
	}
	return 1
}

// exercise is the word for what is not real; "": it is.
func exercise(m incident.Mode) string {
	switch m {
	case incident.Real, "":
		return ""
	case incident.Live:
		return "Exercise, live"
	}
	return "Exercise, " + string(m)
}

// lost are the verdicts by which something is down; doubted are the others
// that are not fine. The worst comes first.
func (d *commandData) lost() (lost, doubted []verdicts.Verdict) {
	for _, v := range (fleetData{p: d.p}).alarming() {
		if v.State == verdicts.Lost || v.State == verdicts.CutOff {
			lost = append(lost, v)
		} else {
			doubted = append(doubted, v)
		}
	}
	return lost, doubted
}

// stillDown are functions that an open incident has as down, and the fleet does
// not hold as lost: seen to answer, and not yet said to be restored.
func (d *commandData) stillDown(t *incident.Timeline) (out []incident.Down) {
	lost, _ := d.lost()
	for _, one := range t.State.Down(d.now) {
		if !slices.ContainsFunc(lost, func(v verdicts.Verdict) bool { return v.Subject == "function/"+one.Function }) {
			out = append(out, one)
		}
	}
	return out
}

// clockLine is a clock of an open incident.
type clockLine struct {
	*incident.State
	Reading clocks.Reading
}

// clocks lists those that run, and those that have run out, the tightest first.
func (d *commandData) clocks() (out []clockLine) {
	for _, t := range d.open {
		for _, r := range t.State.Clocks(d.now) {
			if r.State == clocks.Expired || r.State == clocks.Running || r.State == clocks.Unclear {
				out = append(out, clockLine{t.State, r})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b clockLine) int {
		return cmp.Or(cmp.Compare(exerciseRank(a.Mode), exerciseRank(b.Mode)), cmp.Compare(tightness(a.Reading), tightness(b.Reading)), a.Reading.Due.Compare(b.Reading.Due))
	})
	return out
}

func tightness(r clocks.Reading) int {
	return slices.Index([]clocks.State{clocks.Expired, clocks.Running, clocks.Unclear}, r.State)
}

// bellState is a clock in shape, word and colour.
func bellState(r clocks.Reading) state {
	switch r.State {
	case clocks.Expired:
		return state{bad, "Run out"}
	case clocks.Running:
		if nearlyOut(r) {
			return state{warn, "Nearly out"}
		}
		return state{info, "Running"}
	case clocks.Met:
		return state{ok, "Kept"}
	case clocks.Missed:
		return state{bad, "Too late"}
	case clocks.Unclear:
		return state{warn, "Not known"}
	case clocks.Void:
		return state{idle, "Void"}
	}
	return state{idle, "Not begun"}
}

// nearlyOut says whether less than a quarter of a clock is left.
func nearlyOut(r clocks.Reading) bool {
	whole := r.Left + r.Took
	return r.Left > 0 && whole > 0 && r.Left*4 < whole
}

// leftWords is how long is left, as it is read from across a room.
func leftWords(r clocks.Reading) string {
	switch {
	case r.State == clocks.Unclear:
		return "not known"
	case r.State == clocks.Expired && r.Kind == clocks.RPO:
		return age(r.Took) + " exposed"
	case r.State == clocks.Expired:
		return age(-r.Left) + " over"
	case r.State != clocks.Running:
		return "–"
	case r.Kind == clocks.RPO:
		return age(r.Took) + " exposed"
	}
	return age(r.Left)
}

// usedShare is how much of a clock has gone, in hundredths.
func usedShare(r clocks.Reading) int {
	whole := r.Left + r.Took
	switch {
	case r.State == clocks.Waiting:
		return 0
	case r.State != clocks.Running || whole <= 0:
		return 100
	}
	return int(r.Took * 100 / whole)
}

func dueWords(r clocks.Reading, now time.Time) string {
	if r.Due.IsZero() {
		return "–"
	}
	return moment(r.Due, now) + " UTC"
}

// needLine is something that waits for somebody.
type needLine struct {
	kind       string // shape and colour
	what, how  string
	about      string // what it belongs to
	to         templ.SafeURL
	do         string // what the button says
	who        string
	rank       int
	guide      []string
	rehearsing string
}

// ranks order what waits: what holds a recovery up comes first.
var ranks = map[string]int{"incident-decision-waits": 2, "incident-notice-failed": 3, "incident-notice-indeterminate": 3, "incident-notice-drafted": 3, "incident-action-late": 5}

// buttons lead to where an incident's need is met.
var buttons = map[string]struct{ word, at string }{"incident-decision-waits": {"Approve or reject", "#decisions"}, "incident-phase-done": {"Move on", "#phase"}, "incident-notice-drafted": {"See the notice", "#notices"},
	"incident-notice-failed": {"See the notice", "#notices"}, "incident-notice-indeterminate": {"See the notice", "#notices"}, "incident-action-late": {"See the actions", "#actions"}}

// needs lists what waits for somebody, the most pressing first. A clock that
// has run out stands with the clocks.
func (d *commandData) needs() (out []needLine) {
	for _, r := range d.runs {
		for i := range r.Steps {
			if s := &r.Steps[i]; s.Need != nil && !s.State.Over() {
				out = append(out, needLine{kind: needKind(s), what: s.Name + ": " + s.Need.Words, how: needHow(&r.Run, s), about: titleOr(r.Title, r.Name), to: runLink(r.ID) + "#" + stepAnchor(s.Name),
					do: needButtons[s.Need.What], who: strings.Join(s.Need.Who, ", "), rank: 1, guide: s.Need.Guide, rehearsing: exercise(r.Mode)})
			}
		}
		if r.Trouble != "" {
			out = append(out, needLine{kind: bad, what: r.Trouble, about: titleOr(r.Title, r.Name), to: runLink(r.ID), do: "See the recovery", rehearsing: exercise(r.Mode)})
		}
	}
	for _, t := range slices.Concat(d.open, d.closed) {
		for _, n := range t.State.Needs(d.now) {
			if n.Code == "incident-clock-expired" {
				continue
			}
			line := needLine{kind: warn, what: n.What, how: n.How, about: t.State.Title, to: incidentLink(t.State.ID), do: "See the incident", rank: 4, rehearsing: exercise(t.State.Mode)}
			if rank, known := ranks[n.Code]; known {
				line.rank = rank
			}
			if b, known := buttons[n.Code]; known {
				line.do, line.to = b.word, line.to+templ.SafeURL(b.at)
			}
			if n.Code == "incident-notice-failed" {
				line.kind = bad
			}
			out = append(out, line)
		}
	}
	slices.SortStableFunc(out, func(a, b needLine) int {
		return cmp.Or(cmp.Compare(min(len(a.rehearsing), 1), min(len(b.rehearsing), 1)), cmp.Compare(a.rank, b.rank))
	})
	return out
}

func needKind(s *recovery.StepState) string {
	if s.State == recovery.Failed || s.State == recovery.Indeterminate {
		return bad
	}
	return warn
}

var needButtons = map[string]string{recovery.NeedSay: "Say that it is done", recovery.NeedApprove: "Approve or reject", recovery.NeedDecide: "Decide", recovery.NeedHelp: "Help it on", recovery.NeedRecord: "Record it"}

// needHow is the command that does it, for whoever is at a terminal.
func needHow(r *recovery.Run, s *recovery.StepState) string {
	at := r.ID + " " + s.Name
	switch s.Need.What {
	case recovery.NeedApprove:
		return "`foundry recovery approve " + at + "`"
	case recovery.NeedDecide:
		return "`foundry recovery decide " + at + " --words '…'`"
	case recovery.NeedSay:
		return "`" + sayCommand(at, s) + "`"
	case recovery.NeedHelp:
		return "`foundry recovery retry " + at + "`, or say what is so: `" + sayCommand(at, s) + "`"
	}
	return "`foundry incident show " + r.Incident + "`"
}

func runLink(id string) templ.SafeURL { return templ.SafeURL(toRecoveries + "/" + url.PathEscape(id)) }

func stepAnchor(name string) templ.SafeURL { return templ.SafeURL("step-" + slug(name)) }

// calm says whether there is nothing to do, as far as can be seen.
func (d *commandData) calm() bool {
	lost, doubted := d.lost()
	return d.p.Majority && d.database && d.listErr == nil && d.runsErr == nil && len(d.broken) == 0 && len(lost)+len(doubted)+len(d.open)+len(d.runs)+len(d.needs()) == 0
}

// seen is since when what the fleet holds has been so.
func (d *commandData) seen() time.Time {
	if d.p.Majority {
		return d.p.At
	}
	return d.p.Known
}

func (d *commandData) seenWords() string {
	switch at := d.seen(); {
	case at.IsZero():
		return "never, since this node was started"
	case d.now.Sub(at) < time.Second:
		return clock(at) + " UTC, now"
	default:
		return moment(at, d.now) + " UTC, " + age(d.now.Sub(at)) + " ago"
	}
}

// old says whether incidents and recoveries are as this node last had them.
func (d *commandData) old() bool {
	return slices.ContainsFunc(d.open, func(t *incident.Timeline) bool { return t.Stale }) || slices.ContainsFunc(d.runs, func(r recovery.Shown) bool { return r.Stale })
}

func (d *commandData) databaseWord() (string, string) {
	if d.database {
		return "Answers", "asked all the time"
	}
	return "Away", "what happens is kept in journals"
}

func (d *commandData) votesWord() (string, string) {
	note := "nobody leads"
	if d.p.Epoch > 0 {
		note = d.p.Leader + " leads, epoch " + fmt.Sprint(d.p.Epoch)
	}
	if !d.p.Majority {
		note = "no majority: nothing can be decided"
	}
	return fmt.Sprintf("%d of %d", d.s.Answer, d.s.Voters), note
}

func (d *commandData) clockWord() (string, string) {
	for _, c := range d.clocks() {
		if c.Reading.State != clocks.Unclear {
			return leftWords(c.Reading), joinedBy(", ", c.Reading.Title, exercise(c.Mode))
		}
	}
	if len(d.open) > 0 {
		return "None runs", "no clock was set going"
	}
	return "None runs", "no incident is open"
}

func joinedBy(sep string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), sep)
}

// stepStates are the words and shapes of steps.
var stepStates = map[recovery.State]state{
	recovery.Waiting: {idle, "Waits"}, recovery.Ready: {warn, "Held by a gate"}, recovery.Running: {info, "Running"}, recovery.NeedsPerson: {warn, "Needs somebody"},
	recovery.Done: {ok, "Done"}, recovery.Failed: {bad, "Failed"}, recovery.Skipped: {idle, "Left out"}, recovery.Indeterminate: {bad, "Not known"},
}

// stepsNow are the steps of a run that somebody is at, or that hold it up.
func stepsNow(r *recovery.Run) (out []recovery.StepState) {
	for _, s := range r.Steps {
		if s.State != recovery.Waiting && !s.State.Over() {
			out = append(out, s)
		}
	}
	return out
}

func stepsOver(r *recovery.Run) (n int) {
	for _, s := range r.Steps {
		if s.State.Over() {
			n++
		}
	}
	return n
}

// progressWords is how far a step is.
func progressWords(s *recovery.StepState) string {
	p := s.Progress
	if p == nil || s.State.Over() {
		return ""
	}
	count := ""
	if p.Total > 0 {
		count = strings.TrimSpace(number(p.Done) + " of " + number(p.Total) + " " + p.Unit)
	}
	return joinedBy(", ", p.Words, count)
}

// pulse changes when the night does. It is read for all streams together, and
// not more often than pulseEvery.
type pulse struct {
	mu   sync.Mutex
	at   time.Time
	text string
}

const pulseEvery = 3 * time.Second

// now reads the pulse again when it is old. Meanwhile the others have the last.
func (p *pulse) now(at time.Time, read func() string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at.Sub(p.at).Abs() >= pulseEvery {
		p.at, p.text = at, read()
	}
	return p.text
}

// nightPulse is what the fleet holds now, without a question to the fleet's
// store: timelines and recoveries are read when the page is.
func (c *Console) nightPulse() string {
	if c.Fleet == nil {
		return ""
	}
	return c.night.now(time.Now(), func() string {
		p := c.Fleet.Picture()
		var b strings.Builder
		fmt.Fprint(&b, p.Majority, p.Leader, p.Epoch)
		for _, n := range p.Nodes {
			fmt.Fprint(&b, n.Name, n.Verdict.State)
		}
		for _, f := range p.Functions {
			fmt.Fprint(&b, f.Name, f.Verdict.State)
		}
		return b.String()
	})
}

func clockOrNever(d commandData) string {
	if d.seen().IsZero() {
		return "never"
	}
	return clock(d.seen())
}

func detailOf(err error) string {
	e := problem.From(err)
	return strings.TrimSpace(e.Detail + " " + e.Mend)
}

// heldWords says what is held of something, and for how long it has been so.
func (d *commandData) heldWords(v verdicts.Verdict) string {
	out := capital(verdicts.Name(v.Subject)) + ": " + lower(heldState(v).word)
	if !v.Since.IsZero() {
		out += " since " + moment(v.Since, d.now) + " UTC, for " + age(d.now.Sub(v.Since))
	}
	return out + "."
}

func kindWords(s *recovery.StepState, now time.Time) string {
	if s.Began.IsZero() || !s.Ended.IsZero() {
		return s.Kind
	}
	return s.Kind + ", for " + age(now.Sub(s.Began))
}

func (d *commandData) needsNote() string {
	if len(d.needs()) == 0 {
		return "nothing waits"
	}
	return "listed below"
}

func (d *commandData) seenNote() string {
	_, note, _ := strings.Cut(d.seenWords(), ", ")
	return note
}

// dueOrNone is when a clock runs out; "": it is not known, or it has ended.
func dueOrNone(r clocks.Reading, now time.Time) string {
	if r.Due.IsZero() || r.Over() {
		return ""
	}
	return dueWords(r, now)
}

// sayCommand says that a step is done; of a fence, how it was read back.
func sayCommand(at string, s *recovery.StepState) string {
	out := "foundry recovery say " + at + " --words '…' --evidence '…'"
	if s.Kind == "fence" {
		out += " --fact fenced-by=power-off --fact state=off"
	}
	return out
}
