package exercise

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/scenario"
	"github.com/missionopsai/foundry/internal/incident"
)

//go:embed report/report.html
var reportHTML string

//go:embed report/report.css
var reportCSS string

// shownTimeline is a timeline as the page lists it.
type shownTimeline struct {
	Source
	Open bool
	List []shownEntry
}

type shownEntry struct {
	Anchor   string
	N        int
	At       time.Time
	By, Says string
	Short    string
}

// Page writes the report as one page that needs nothing else: no script, no
// network, both themes, and printable. It refuses what it cannot trace.
func Page(to io.Writer, r *Record, timelines map[string]*incident.Timeline) error {
	if err := r.Check(timelines); err != nil {
		return err
	}
	sentences := map[string]string{}
	if s, err := scenario.Parse(r.Scenario, []byte(r.Text)); err == nil && r.Mode == scenario.Desktop {
		for _, st := range s.Desktop {
			for _, a := range st.Do {
				sentences[a.Says] = said(a)
			}
		}
	}
	link := linkFrom(r.ID)
	links := func(list []Ref) template.HTML {
		var out []string
		for _, r := range list {
			out = append(out, string(link(r)))
		}
		return template.HTML(strings.Join(out, " "))
	}
	page, err := template.New("report").Funcs(template.FuncMap{
		"day":    func(t time.Time) string { return t.UTC().Format("2 January 2006") },
		"clock":  func(t time.Time) string { return t.UTC().Format("15:04:05") },
		"rfc":    func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
		"joined": func(list []string) string { return strings.Join(list, ", ") },
		"offset": r.After, "took": short, "title": title, "class": class, "mark": mark, "kept": kept, "keptword": keptWord, "result": resultOf, "target": target,
		"bar": bar, "ref": link, "refs": links, "verdict": verdict, "source": source, "sentence": func(says string) string { return cmp.Or(sentences[says], says) }, "at": func(l Line) string {
			if r.Mode == scenario.Desktop {
				return hours(l.Clock)
			}
			return r.After(l.Began)
		},
	}).Parse(reportHTML)
	if err != nil {
		return err
	}
	var shown []shownTimeline
	for i, s := range r.Timelines {
		st := shownTimeline{Source: s, Open: i == 0}
		for _, e := range timelines[s.ID].Entries {
			st.List = append(st.List, shownEntry{anchor(Ref{s.ID, e.N}), e.N, e.At, e.By, incident.Describe(e), e.Hash.String()[:12]})
		}
		shown = append(shown, st)
	}
	return page.Execute(to, map[string]any{
		"R": r, "Timelines": shown, "Summary": r.Summary(), "Event": !r.Event.IsZero(),
		"Style":  template.CSS(reportCSS),
		"Policy": PagePolicy(),
	})
}

// PagePolicy is the Content-Security-Policy under which a report is shown: its
// own style, and nothing else.
func PagePolicy() string {
	sum := sha256.Sum256([]byte(reportCSS))
	return "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// After says how long after the event something was, or before it.
func (r *Record) After(t time.Time) string {
	if r.Event.IsZero() {
		return signed(t.Sub(r.Began))
	}
	return signed(t.Sub(r.Event))
}

// Summary is the whole in a few sentences that need no other knowledge.
func (r *Record) Summary() string {
	var out []string
	for _, name := range []string{"answers", "confirmation", "recovery", "gap"} {
		for i := range r.Measures {
			if m := &r.Measures[i]; m.Name == name && m.Known && (name != "gap" || m.Took > 0) {
				out = append(out, fmt.Sprintf(map[string]string{
					"answers":      "Clients were answered again after %s.",
					"confirmation": "The loss was certain after %s.",
					"recovery":     "From then on it took %s until everything was served from another machine.",
					"gap":          "What had been written in the last %s before the event is not there any more.",
				}[name], short(m.Took)))
			}
		}
	}
	return strings.Join(out, " ")
}

func anchor(r Ref) string { return fmt.Sprintf("%s-%d", r.Timeline, r.N) }

// linkFrom makes a reference of the page: its own timeline needs no name.
func linkFrom(own string) func(Ref) template.HTML {
	return func(r Ref) template.HTML {
		says := r.String()
		if r.Timeline == own {
			says = fmt.Sprintf("#%d", r.N)
		}
		return template.HTML(fmt.Sprintf(`<a class="ref" href="#%s">%s</a>`, template.HTMLEscapeString(anchor(r)), template.HTMLEscapeString(says)))
	}
}

// verdict is the outcome in a word or two, for somebody who reads nothing else.
func verdict(r *Record) string {
	switch {
	case r.Outcome == Missed && r.Mode == scenario.Desktop && len(r.Gaps) > 0:
		return "Gaps found"
	case r.Outcome == Missed:
		return "Target missed"
	case r.Outcome == Aborted:
		return "Not finished"
	}
	return title(string(r.Outcome))
}

// source is where what is rehearsed stands: bcp 4.1 is the continuity plan's.
func source(list []string) string {
	var out []string
	for _, s := range list {
		if section, found := strings.CutPrefix(s, "bcp "); found {
			s = "section " + section + " of the continuity plan"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// hours is a time of the exercise's clock.
func hours(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60)
}

var marks = map[Outcome][2]string{Passed: {"✓", "ok"}, Missed: {"▲", "warn"}, Inconclusive: {"▲", "warn"}, Failed: {"⬣", "bad"}, Aborted: {"⬣", "bad"}}

func mark(o Outcome) string  { return marks[o][0] }
func class(o Outcome) string { return marks[o][1] }

func title(name string) string {
	if name == "dns" {
		return "DNS"
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

func kept(m Measure) string {
	switch {
	case !m.Known && m.Aimed:
		return "warn"
	case !m.Aimed:
		return ""
	case m.Kept():
		return "ok"
	}
	return "bad"
}

func keptWord(m Measure) string {
	return map[string]string{"warn": "▲ not measured", "": "", "ok": "✓ kept", "bad": "⬣ missed"}[kept(m)]
}

func resultOf(m Measure) string {
	switch {
	case !m.Known:
		return m.Why
	case m.Counted:
		return fmt.Sprint(m.Count)
	}
	return short(m.Took)
}

func target(m Measure) string {
	switch {
	case !m.Aimed:
		return "none"
	case m.Counted:
		return fmt.Sprintf("at most %d", m.AtMost)
	}
	return "within " + short(m.Within)
}

// Words are the result, the target, and whether it was kept, for people.
func (m *Measure) Words() (result, aim, kept string) { return resultOf(*m), target(*m), keptWord(*m) }

// bar shows a time against its target, the whole length being the target.
func bar(m Measure) template.HTML {
	if !m.Known || !m.Aimed || m.Counted || m.Within <= 0 {
		return ""
	}
	share := min(1, max(0.01, float64(m.Took)/float64(m.Within)))
	return template.HTML(fmt.Sprintf(`<svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" role="img" aria-label="%.0f %% of the target"><rect width="100" height="4"/><rect class="v" width="%.1f" height="4"/></svg>`, 100*float64(m.Took)/float64(m.Within), 100*share))
}

// short says a length of time as people do.
func short(d time.Duration) string {
	switch a := d.Abs(); {
	case a == 0:
		return "0 s"
	case a < 5*time.Millisecond:
		return "under 0.01 s"
	case a < 10*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case a < 2*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case a%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case a < 2*time.Hour && a%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	case a < 2*time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

func signed(d time.Duration) string {
	switch {
	case d.Abs() < 5*time.Millisecond:
		return "0 s"
	case d < 0:
		return "−" + short(-d)
	}
	return "+" + short(d)
}
