package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/backup"
)

func describeBackups(w io.Writer, s backup.Status) {
	fmt.Fprintf(w, "can I restore?\t%s\n", s.CanRestore.Reason)
	if s.CanRestore.Next != "" {
		fmt.Fprintf(w, "  next\t%s\n", s.CanRestore.Next)
	}
	fmt.Fprintf(w, "lost if this node were lost now\t%s\n", loss(s))
	if s.NewestProven != nil {
		fmt.Fprintf(w, "newest proven backup\t%s at %s, of %s\n", s.NewestProven.Label, s.NewestProven.Target, moment(s.NewestProven.Stopped))
	}
	if d := s.LastDrill; d != nil {
		fmt.Fprintf(w, "last drill\t%s, %s: restored in %s of %s, gap %s of %s\n", moment(d.Started), d.Outcome, seconds(d.FullSize), seconds(d.RTO), gapOf(*d), seconds(d.RPO))
	}
	if s.NextBackup != nil {
		fmt.Fprintf(w, "next backup\t%s\n", moment(*s.NextBackup))
	}
	if s.NextDrill != nil {
		fmt.Fprintf(w, "next drill\t%s\n", moment(*s.NextDrill))
	}
	if s.JournalHeld > 0 {
		fmt.Fprintf(w, "journal kept until it is archived\t%s\n", bytesOf(s.JournalHeld))
	}
	for _, j := range s.Running {
		fmt.Fprintf(w, "running\t%s\n", progressLine(j.Runs))
	}
	for _, p := range s.Problems {
		fmt.Fprintf(w, "\n%s\t%s %s\n", p.Severity, p.Target, p.Reason)
		if p.Mend != "" {
			fmt.Fprintf(w, "  next\t%s\n", p.Mend)
		}
	}
}

func loss(s backup.Status) string {
	if s.WouldLose < 0 {
		return "everything: nothing is proven"
	}
	text := "what was written in the last " + seconds(s.WouldLose)
	if s.WouldLoseBytes >= 0 {
		text += ", " + bytesOf(s.WouldLoseBytes) + " of log"
	}
	return text
}

func tableOfPoints(w io.Writer, all []backup.Point) {
	if len(all) == 0 {
		fmt.Fprintln(w, "There is no backup. Make one with: foundry backup run")
		return
	}
	fmt.Fprintln(w, "BACKUP\tOF\tTARGET\tTYPE\tENDED\tSIZE\tSTORED\tPROVEN")
	for _, p := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Label, p.Subject, p.Target, p.Type, moment(p.Stopped), bytesOf(p.Bytes), bytesOf(p.Stored), provenWord(p))
	}
}

func provenWord(p backup.Point) string {
	word := "never tried"
	switch {
	case p.Gone != nil:
		word = "gone: " + p.GoneWhy
	case p.Broken != "":
		word = "broken: " + p.Broken
	case p.Outcome == backup.Pass && p.Proven != nil:
		word = "yes, " + moment(*p.Proven)
	case p.Outcome == backup.Fail:
		word = "no: the drill failed"
	case p.Outcome == backup.Inconclusive:
		word = "inconclusive"
	}
	if p.Holds > 0 {
		word += fmt.Sprintf(" (held %d×)", p.Holds)
	}
	return shortened(word, 70)
}

func describePoint(w io.Writer, p backup.Point) {
	fmt.Fprintf(w, "backup\t%s\nof\t%s\ntarget\t%s (%s)\ntype\t%s\nbegan\t%s\nended\t%s\nsize\t%s, stored %s\n", p.Label, p.Subject, p.Target, p.Engine, p.Type,
		moment(p.Started), moment(p.Stopped), bytesOf(p.Bytes), bytesOf(p.Stored))
	if p.StartWAL != "" {
		fmt.Fprintf(w, "log\t%s to %s, timeline %d\n", p.StartLSN, p.StopLSN, p.Timeline)
	}
	if p.Rows > 0 {
		fmt.Fprintf(w, "rows\t%d\n", p.Rows)
	}
	if len(p.Requires) > 0 {
		fmt.Fprintf(w, "needs\t%s\n", strings.Join(p.Requires, ", "))
	}
	fmt.Fprintf(w, "proven\t%s\n", provenWord(p))
	if p.Drill != nil {
		fmt.Fprintf(w, "last drill\tfoundry backup drill %s\n", p.Drill)
	}
}

func describeDrill(w io.Writer, d backup.Drill) {
	fmt.Fprintf(w, "outcome\t%s\nwhy\t%s\nof\t%s, %s, from %s at %s\n", d.Outcome, d.Reason, d.Subject, d.Which, d.Label, d.Target)
	if d.Wanted != nil {
		fmt.Fprintf(w, "asked for\t%s\n", moment(*d.Wanted))
	}
	if d.Recovered != nil {
		fmt.Fprintf(w, "recovered to\t%s\n", moment(*d.Recovered))
	}
	fmt.Fprintf(w, "recovery time\t%s (restore %s, checks %s), of %s\ndata gap\t%s, of %s\nrestored\t%s, %d rows\n", seconds(d.FullSize), seconds(d.Restore), seconds(d.Prove), seconds(d.RTO),
		gapOf(d), seconds(d.RPO), bytesOf(d.Bytes), d.Rows)
	for _, c := range d.Checks {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", c.Outcome, c.Name, c.Reason)
	}
	fmt.Fprintf(w, "record\tSHA-256 %s\nsigned by\t%s\n", d.Evidence, d.Signer)
}

func tableOfDrills(w io.Writer, all []backup.Drill) {
	if len(all) == 0 {
		fmt.Fprintln(w, "No restore was ever tried. Try one with: foundry backup drill")
		return
	}
	fmt.Fprintln(w, "DRILL\tBEGAN\tOF\tTARGET\tWHICH\tOUTCOME\tRECOVERY\tGAP\tWHY")
	for _, d := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.ID, moment(d.Started), d.Subject, d.Target, d.Which, d.Outcome, seconds(d.FullSize), gapOf(d), shortened(d.Reason, 60))
	}
}

// gapOf is how much of what was written the drill did not bring back; a drill
// that recovered nothing has no gap of 0 s.
func gapOf(d backup.Drill) string {
	if d.Recovered == nil {
		return "–"
	}
	return seconds(d.Gap)
}

func tableOfJobs(w io.Writer, all []backup.Job) {
	fmt.Fprintln(w, "BEGAN\tWHAT\tOF\tTARGET\tSTATE\tTOOK\tBACKUP\tWHY")
	for _, j := range all {
		for _, r := range j.Runs {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", moment(r.Started), r.Kind, r.Subject, r.Target, r.State, took(r), r.Label, shortened(r.Reason, 70))
		}
	}
}

func took(r backup.Run) string {
	if r.Ended == nil {
		return "-"
	}
	return seconds(r.Ended.Sub(r.Started).Seconds())
}

func describeJob(w io.Writer, j backup.Job) {
	for _, r := range j.Runs {
		fmt.Fprintf(w, "%s\t%s of the %s at %s\t%s\t%s\n", r.State, r.Kind, r.Subject, r.Target, r.Label, took(r))
		if r.Reason != "" {
			fmt.Fprintf(w, "  why\t%s\n", r.Reason)
		}
		if r.Mend != "" {
			fmt.Fprintf(w, "  next\t%s\n", r.Mend)
		}
		word := "removed"
		if r.DryRun {
			word = "would go"
		}
		for _, label := range r.Gone {
			fmt.Fprintf(w, "  %s\t%s\n", word, label)
		}
		for _, label := range r.Kept {
			fmt.Fprintf(w, "  stays\t%s\n", label)
		}
	}
}

func tableOfDays(w io.Writer, all []backup.Day) {
	fmt.Fprintln(w, "DAY\tBACKUPS\tPROVEN\tFAILED\tDRILLS\tWORST\t")
	for _, d := range all {
		note := ""
		if d.Missed {
			note = "missed"
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\t%s\n", d.Day, d.Points, d.Proven, d.Failed, d.Drills, d.Worst, note)
	}
}

func tableOfHolds(w io.Writer, all []backup.Hold) {
	fmt.Fprintln(w, "HOLD\tTARGET\tBACKUP\tPLACED\tTICKET\tSTATE")
	for _, h := range all {
		what, state, target := h.Label, "held", h.Target
		if h.From != nil && h.Until != nil {
			what = h.From.UTC().Format(time.DateOnly) + " to " + h.Until.UTC().Format(time.DateOnly)
		}
		if h.Released != nil {
			state = "released " + moment(*h.Released)
		}
		if target == "" {
			target = "every"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", h.ID, target, what, moment(h.Placed), h.Ticket, state)
	}
}

func tableOfTargets(w io.Writer, all []backup.TargetStatus) {
	if len(all) == 0 {
		fmt.Fprintln(w, "There is no target, hence no backup. Name one under backup.targets in the configuration.")
		return
	}
	fmt.Fprintln(w, "TARGET\tKIND\tPLACE\tHOLDS\tFREE\tSTORED\tNEWEST\tPROVEN\tOLDEST\tWRONG")
	for _, t := range all {
		var subjects []string
		for _, s := range t.Subjects {
			subjects = append(subjects, string(s))
		}
		wrong := t.Failure
		if len(t.NotApart) > 0 {
			wrong = strings.TrimSpace(wrong + " " + t.NotApart[0])
		}
		free := "?"
		if t.Free >= 0 {
			free = bytesOf(t.Free)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.Name, t.Kind, t.Place, strings.Join(subjects, ", "), free, bytesOf(t.Stored), maybe(t.Newest), maybe(t.NewestProven), maybe(t.Oldest), shortened(wrong, 80))
	}
}

func describeProbes(w io.Writer, all []backup.TargetProbe) {
	yes := map[bool]string{true: "yes", false: "NO"}
	for i, p := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		free := "the target does not say"
		if p.Free >= 0 {
			free = bytesOf(p.Free) + " of " + bytesOf(p.Total)
		}
		fmt.Fprintf(w, "%s\t%s\n  where\t%s (%s)\n  reachable\t%s\n  writable\t%s\n", p.Name, p.Reason, p.Place, p.Kind, yes[p.Reachable], yes[p.Writable])
		if p.Writable {
			fmt.Fprintf(w, "  free\t%s\n  lock\t%s\n", free, p.Lock)
		}
		fmt.Fprintf(w, "  apart from the data\t%s\n", yes[p.Apart])
		if p.Mend != "" {
			fmt.Fprintf(w, "  next\t%s\n", p.Mend)
		}
		for _, f := range p.Findings {
			word := "better"
			if f.Fatal {
				word = "WRONG"
			}
			fmt.Fprintf(w, "  %s\t%s %s\n", word, f.Reason, f.Mend)
		}
	}
}

func maybe(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return moment(*t)
}

// seconds writes a duration for people.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// bytesOf writes a size for people, in powers of 1000.
func bytesOf(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	v, i := float64(n), 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
