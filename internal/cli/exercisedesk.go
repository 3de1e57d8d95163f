package cli

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/exercise"
	"github.com/missionopsai/foundry/internal/continuity/scenario"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/problem"
)

// desk is what a desktop exercise is given.
type desk struct {
	dir    string
	resume bool
	with   []string
	owner  string
	submit bool
	sent   submission
}

// closeWithin is by when gaps are closed for which nobody names a day.
const closeWithin = 90 * 24 * time.Hour

// atDesk walks people through a scenario.
func (a *app) atDesk(ctx context.Context, s *scenario.Scenario, d desk) error {
	if len(s.Desktop) == 0 {
		return problem.New(problem.Invalid, "scenario-mode", fmt.Sprintf("The scenario %s has no part for a desktop.", s.Name)).WithMend("Run it with --mode sandbox.")
	}
	if d.owner == "" && len(d.with) == 0 && !d.resume {
		return problem.New(problem.Invalid, "exercise-people", "Nobody takes part.").WithField("--with").WithMend("Name those who do by their names in the plan: --with ceo,deputy.")
	}
	if d.owner == "" && len(d.with) > 0 {
		d.owner = d.with[0]
	}
	if d.owner == "" {
		return problem.New(problem.Invalid, "exercise-people", "Nobody owns the gaps that will be found.").WithField("--owner").WithMend("Name who does.")
	}
	log, file, err := deskLog(d)
	if err != nil {
		return err
	}
	defer file.Close()
	e := &exercise.Desk{Scenario: s, Log: log, Clock: time.Now, Owner: d.owner, Close: closeWithin}
	if d.resume {
		err = e.Resume()
	} else {
		err = e.Begin(d.with)
	}
	if err != nil {
		return err
	}
	err = a.walk(ctx, e, slices.Concat(d.with, []string{d.owner})[0])
	return errors.Join(err, a.leave(ctx, e, d))
}

// deskLog opens the timeline of a desktop exercise: a new one, or the one that
// is there.
func deskLog(d desk) (*incident.Log, *os.File, error) {
	bad := func(err error) error {
		return problem.New(problem.Invalid, "exercise-directory", "The exercise cannot be kept there: "+err.Error()+".").WithMend("Name another directory with --out.")
	}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return nil, nil, bad(err)
	}
	there, _ := filepath.Glob(filepath.Join(d.dir, "*.timeline"))
	if !d.resume {
		if len(there) > 0 {
			return nil, nil, problem.New(problem.Conflict, "exercise-exists", "There is an exercise in this directory already.").WithField("--out").WithMend("Name another directory, or go on with it by --resume.")
		}
		id := "exc-" + time.Now().UTC().Format("20060102") + "-" + strings.ToLower(rand.Text()[:6])
		f, err := os.OpenFile(filepath.Join(d.dir, id+".timeline"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, nil, bad(err)
		}
		return incident.NewLog(f, id, "desktop", "exercise", time.Now), f, nil
	}
	if len(there) != 1 {
		return nil, nil, problem.New(problem.NotFound, "exercise-record", "There is no exercise in this directory to go on with.").WithField("--resume").WithMend("Name the directory that it was begun in.")
	}
	t, err := exercise.ReadTimeline(there[0])
	if err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(there[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, nil, bad(err)
	}
	log, err := incident.ResumeLog(f, t.Entries, "desktop", "exercise", time.Now)
	return log, f, err
}

// walk tells, asks and takes answers until the scenario or the input ends.
func (a *app) walk(ctx context.Context, e *exercise.Desk, somebody string) error {
	in := bufio.NewReader(a.in)
	for ctx.Err() == nil {
		p, more := e.Next()
		if !more {
			return nil
		}
		if p.First {
			fmt.Fprintf(a.err, "\n── %s\n", p.Step)
		}
		fmt.Fprintf(a.err, "\n[%s] %s: %s\n", clockWord(p.Clock), announced(p), p.Words)
		if p.Due > 0 && p.Asks != "" {
			fmt.Fprintf(a.err, "  within %s\n", p.Due)
		}
		r, err := a.reply(in, p, somebody)
		if errors.Is(err, io.EOF) {
			return nil // what was answered is kept; the record says how far it came
		}
		if err != nil {
			return err
		}
		err = e.Answer(r)
		var again *problem.Error
		if errors.As(err, &again) && again.Kind == problem.Invalid {
			fmt.Fprintf(a.err, "  %s %s\n", again.Detail, again.Mend)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// announced says of what kind a prompt is, and whom it concerns.
func announced(p exercise.Prompt) string {
	switch {
	case p.Asks == "words":
		return "Question to " + p.Who
	case p.Asks == "decision":
		return "Decision of " + p.Who
	case p.Asks == "check":
		return "Was it so"
	case p.Verb == "inject" && p.Who != "":
		return "News from " + p.Who
	case p.Verb == "inject":
		return "News"
	}
	return strings.ToUpper(p.Verb[:1]) + p.Verb[1:]
}

func clockWord(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60)
}

// reply takes the answer to a prompt, a line each.
func (a *app) reply(in *bufio.Reader, p exercise.Prompt, somebody string) (r exercise.Reply, err error) {
	ask := func(what, otherwise string) string {
		if err != nil {
			return ""
		}
		if otherwise != "" {
			what += " [" + otherwise + "]"
		}
		fmt.Fprintf(a.err, "  %s: ", what)
		var line string
		if line, err = in.ReadString('\n'); err != nil && (line == "" || !errors.Is(err, io.EOF)) {
			fmt.Fprintln(a.err)
			return ""
		}
		err = nil
		if line = strings.TrimSpace(line); line == "" {
			return otherwise
		}
		return line
	}
	who := somebody
	if p.Who != "" {
		who = p.Who
	}
	switch p.Asks {
	case "words":
		r.Words, r.Who = ask("Answer", ""), ask("Who answered", who)
	case "decision":
		r.Words, r.Why, r.Who = ask("Decision", ""), ask("Because", ""), ask("Who decided", who)
	case "check":
		switch strings.ToLower(ask("yes or no", "")) {
		case "y", "yes":
			r.Yes = true
		case "n", "no":
			r.Owner = ask("Who closes this gap", somebody)
			day := ask("By which day", time.Now().Add(closeWithin).Format(time.DateOnly))
			if r.Due, _ = time.ParseInLocation(time.DateOnly, day, time.Local); err == nil && r.Due.Before(time.Now()) {
				return r, problem.New(problem.Invalid, "exercise-answer", fmt.Sprintf("%q is no day to come.", day)).WithMend("Write a day as 2027-01-31, and go on with --resume.")
			}
		default:
			if err == nil {
				return a.reply(in, p, somebody)
			}
		}
	default:
		ask("Enter goes on", "")
	}
	return r, err
}

// leave writes the record and the report, and says what is next.
func (a *app) leave(ctx context.Context, e *exercise.Desk, d desk) error {
	dir := d.dir
	r, err := e.End(a.version)
	if err != nil {
		return err
	}
	t := e.Log.Timeline()
	if err := exercise.Write(dir, r, map[string]*incident.Timeline{r.ID: t}); err != nil {
		return err
	}
	err = a.print(r, func(w io.Writer) {
		exerciseInWords(w, r, dir)
		for _, g := range r.Gaps {
			fmt.Fprintf(w, "Gap: %s\t%s\t%s\n", g.Says, g.Owner, g.Due.Format(time.DateOnly))
		}
		if r.Outcome == exercise.Aborted {
			fmt.Fprintf(w, "Go on with it: foundry exercise run %s --mode desktop --owner %s --resume %s\n", r.Scenario, e.Owner, dir)
		} else {
			fmt.Fprintf(w, "Hand it in, so that it is evidence: foundry exercise submit %s\n", dir)
		}
	})
	if err == nil && d.submit && r.Outcome != exercise.Aborted {
		err = a.alsoHandIn(ctx, dir, d.sent)
	}
	if err == nil && r.Outcome != exercise.Passed {
		return standingError{1}
	}
	return err
}
