package verdict_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/missionopsai/foundry/internal/fleet/verdict"
)

var update = flag.Bool("update", false, "write the verdicts that are given now into the golden files")

const rule = "----------\n"

func clock(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04:05", "2026-11-23 "+text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// parse reads the scenes of testdata: one statement a line, as the files show.
func parse(t testing.TB, text string) Scene {
	t.Helper()
	s := Scene{Before: map[string]Verdict{}}
	member := func(name string) *Member {
		i := slices.IndexFunc(s.Members, func(m Member) bool { return m.Name == name })
		if i < 0 {
			t.Fatalf("no member %q", name)
		}
		return &s.Members[i]
	}
	for _, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		after := func(word string) string {
			if i := slices.Index(words, word); i >= 0 && i+1 < len(words) {
				return words[i+1]
			}
			return ""
		}
		switch words[0] {
		case "now":
			s.Now = clock(t, words[1])
		case "speaker":
			s.Speaker = words[1]
		case "members":
			for _, name := range words[1:] {
				s.Members = append(s.Members, Member{Name: name, Votes: true, Heard: s.Now.Add(-time.Second)})
			}
		case "member":
			m := member(words[1])
			if at := after("heard"); at == "never" {
				m.Heard = time.Time{}
			} else if at != "" {
				m.Heard = clock(t, at)
			}
			if at := after("lease-ended"); at != "" {
				m.LeaseEnded = clock(t, at)
			}
			if d := after("offset"); d != "" {
				m.Offset, _ = time.ParseDuration(d)
			}
			m.Bare = slices.Contains(words, "bare")
			m.Drained = slices.Contains(words, "drained")
		case "function", "node", "outside":
			sub := Subject{Name: words[0] + "/" + words[1]}
			if hosts := after("on"); hosts != "" {
				sub.Hosts = strings.Split(hosts, ",")
			}
			if from := after("from"); from != "" {
				sub.From = strings.Split(from, ",")
			}
			sub.Confirm, _ = time.ParseDuration(after("confirm"))
			s.Subjects = append(s.Subjects, sub)
		case "see": // see a,b node/c https:443,ssh:22 timeout since 03:12:07
			for _, who := range strings.Split(words[1], ",") {
				for _, what := range strings.Split(words[2], ",") {
					for _, signal := range strings.Split(words[3], ",") {
						kind, ends, _ := strings.Cut(signal, ":")
						if ends != "" {
							ends = what + ":" + ends
						}
						o := Observation{Observer: who, Subject: what, Signal: kind, Ends: ends, OK: words[4] == "ok", At: s.Now.Add(-time.Second), Since: clock(t, after("since"))}
						if !o.OK {
							o.Code = words[4]
						}
						o.Took, _ = time.ParseDuration(after("took"))
						o.Changes, _ = strconv.Atoi(after("changes"))
						if at := after("heard"); at != "" {
							o.Heard = clock(t, at)
						}
						s.Observations = append(s.Observations, o)
					}
				}
			}
		case "before":
			s.Before[words[1]] = Verdict{Subject: words[1], State: State(words[2]), Since: clock(t, after("since")), Decided: clock(t, after("since")), Quorum: 2,
				For: []Observation{{Observer: "of", Subject: "then"}}}
		default:
			t.Fatalf("what is %q?", line)
		}
	}
	return s
}

func show(verdicts map[string]Verdict) string {
	var b strings.Builder
	for _, subject := range slices.Sorted(maps.Keys(verdicts)) {
		v := verdicts[subject]
		fmt.Fprintf(&b, "%s %s", subject, v.State)
		for _, also := range v.Also {
			fmt.Fprintf(&b, "+%s", also)
		}
		if v.Avoid() {
			b.WriteString(" (avoided)")
		}
		fmt.Fprintf(&b, ": %s", v.Words)
		if v.State == Lost {
			fmt.Fprintf(&b, " [%d of %d;%s]", len(observers(v.For)), v.Quorum, strings.Join(kinds(v.For), ","))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func observers(of []Observation) []string {
	var out []string
	for _, o := range of {
		out = append(out, o.Observer)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func kinds(of []Observation) []string {
	var out []string
	for _, o := range of {
		out = append(out, o.Signal)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestScenesAreJudgedAsWritten(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/scenes/*.txt")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d scenes, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in, want, _ := strings.Cut(string(text), rule)
			got := show(Judge(parse(t, in)))
			if *update {
				if err := os.WriteFile(file, []byte(in+rule+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
