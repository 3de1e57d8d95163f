package incident

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/incident/clock"
)

//go:embed report/report.html
var reportHTML string

//go:embed report/report.css
var reportCSS string

var report = template.Must(template.New("report").Funcs(template.FuncMap{
	"utc": func(t time.Time) string {
		if t.IsZero() {
			return "—"
		}
		return t.UTC().Format("2006-01-02 15:04:05")
	},
	"says":   Describe,
	"joined": func(list []string) string { return strings.Join(list, ", ") },
	"status": status,
}).Parse(reportHTML))

// HTML writes the incident as one page that needs nothing else: no script, no
// network, both themes, and printable. It is for reading; what proves is the
// export, whose head it names. Every row names the entry that it comes from.
func HTML(to io.Writer, t *Timeline, zone *time.Location, now time.Time) error {
	sum := sha256.Sum256([]byte(reportCSS))
	if zone == nil {
		zone = time.UTC
	}
	return report.Execute(to, map[string]any{
		"S": t.State, "Entries": t.Entries, "Clocks": t.State.Clocks(now), "Made": now, "Stale": t.Stale,
		"Style":  template.CSS(reportCSS),
		"Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
		"Zone":   zone.String(),
		"Local": func(t time.Time) string {
			if t.IsZero() {
				return "—"
			}
			return t.In(zone).Format("2006-01-02 15:04 MST")
		},
	})
}

// status is the shape, word and class of a clock's state.
func status(s clock.State) map[string]string {
	shape := map[clock.State][2]string{
		clock.Met: {"✓", "ok"}, clock.Missed: {"⬣", "bad"}, clock.Expired: {"⬣", "bad"}, clock.Running: {"→", "info"},
		clock.Waiting: {"◌", "idle"}, clock.Void: {"◌", "idle"}, clock.Unclear: {"▲", "warn"},
	}[s]
	return map[string]string{"Shape": shape[0], "Class": shape[1], "Word": string(s)}
}

// Describe says an entry in a line.
func Describe(e Entry) string {
	switch b := e.Read().(type) {
	case *Opened:
		return fmt.Sprintf("Opened as %s: %s. It began at %s and was noticed at %s.", b.Category, b.Title, stamp(b.Started), stamp(b.Detected))
	case *Signal:
		says := "against a loss"
		if !b.OK {
			says = "for a loss"
		}
		return fmt.Sprintf("Signal %s from %s, %s: %s (seen at %s)", b.Source, b.From, says, b.Words, stamp(b.At))
	case *Act:
		return tidy(fmt.Sprintf("%s %s %s %s %s", b.Act, b.Target, b.Step, b.Outcome, b.Words))
	case *Note:
		if b.About > 0 {
			return fmt.Sprintf("About entry %d: %s", b.About, b.Words)
		}
		return b.Words
	case *Fact:
		return tidy(fmt.Sprintf("%s %s at %s, shown by %s. %s", b.Fact, b.Of, stamp(b.At), orNothing(b.Evidence), b.Words))
	case *PhaseChange:
		return tidy(fmt.Sprintf("Phase %s begins. %s", b.To, b.Words))
	case *Assignment:
		return tidy(fmt.Sprintf("%s: %s. %s", b.Role, b.Who, b.Words))
	case *Scope:
		return tidy(fmt.Sprintf("It has also reached %s. %s", strings.Join(append(append(append([]string{}, b.Nodes...), b.Functions...), b.Clients...), ", "), b.Words))
	case *Decision:
		return tidy(fmt.Sprintf("Decision about %s %s: %s", b.About, b.Target, b.Words))
	case *Approval:
		if b.Approve {
			return tidy(fmt.Sprintf("Approves entry %d. %s", b.Of, b.Words))
		}
		return tidy(fmt.Sprintf("Rejects entry %d. %s", b.Of, b.Words))
	}
	return describeMore(e)
}

func describeMore(e Entry) string {
	switch b := e.Read().(type) {
	case *Assessment:
		if !b.Personal {
			return "No personal data are in it: " + b.Words
		}
		return fmt.Sprintf("Personal data are in it, known since %s; risk: %s. %s", stamp(b.Aware), b.Risk, b.Words)
	case *Quarantine:
		return tidy(fmt.Sprintf("Quarantine of %s %s. %s", b.Node, b.Step, b.How))
	case *Evidence:
		return fmt.Sprintf("Evidence: %s (%s of %s), %d bytes, SHA-256 %s", b.Name, b.Capture, named(b.Target), b.Size, b.Hash)
	case *Hold:
		if b.On {
			return "Legal hold: " + b.Words
		}
		return "Legal hold lifted: " + b.Words
	case *Notice:
		return tidy(fmt.Sprintf("Notice %s to %s %s %s %s", b.ID, b.To, b.Step, b.Receipt, b.Words))
	case *ClockEvent:
		if b.Event == "jump" {
			return b.Words
		}
		return tidy(fmt.Sprintf("Clock %s at %g %%: %s %s. %s", b.Clock, b.Share*100, b.Event, strings.Join(b.Who, ", "), b.Words))
	case *Action:
		if !b.Done.IsZero() {
			return fmt.Sprintf("Action %s done at %s, shown by %s", b.ID, stamp(b.Done), b.Shown)
		}
		return fmt.Sprintf("Action %s: %s, by %s until %s", b.ID, b.Title, b.Owner, stamp(b.Due))
	case *Review:
		return "Review held. " + b.Lessons
	case *PlanRevision:
		return fmt.Sprintf("Plan revision %s: %s", b.Hash, b.Words)
	case *Anchor:
		return fmt.Sprintf("Up to entry %d it is anchored in the audit log.", b.N)
	case *Closing:
		return tidy("Closed. " + b.Words)
	}
	return "Written by a newer member: " + flat(e.Body)
}

// flat shows fields that this binary does not know.
func flat(body json.RawMessage) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return "…"
	}
	var out []string
	for name, value := range fields {
		out = append(out, name+" "+string(value))
	}
	sort.Strings(out)
	return strings.Join(out, ", ")
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func tidy(s string) string { return strings.Join(strings.Fields(s), " ") }

func orNothing(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}
