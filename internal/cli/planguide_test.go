package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// fleet is a fleet file that grows by pieces, as the guide says: a list grows
// by what a piece holds, an entry of a known name is replaced, and so is what
// is no list.
type fleet struct {
	order    []string
	sections map[string]*section
}

type section struct {
	head    string // the line of the key, or all of what is no list
	order   []string
	entries map[string]string
}

var entryName = regexp.MustCompile(`(?:name|rule): ([^,}\n]+)`)

func (f *fleet) add(t *testing.T, piece string) {
	t.Helper()
	for _, part := range splitBefore(piece, regexp.MustCompile(`(?m)^\S`)) {
		head, rest, _ := strings.Cut(part, "\n")
		key, _, _ := strings.Cut(head, ":")
		if f.sections[key] == nil {
			f.order = append(f.order, key)
			f.sections[key] = &section{entries: map[string]string{}}
		}
		s := f.sections[key]
		if !strings.HasPrefix(rest, "  - ") {
			*s = section{head: part, entries: map[string]string{}}
			continue
		}
		s.head = head + "\n"
		for _, entry := range splitBefore(rest, regexp.MustCompile(`(?m)^  - `)) {
			name := entryName.FindStringSubmatch(entry)
			if name == nil {
				t.Fatalf("an entry of the guide has no name:\n%s", entry)
			}
			if _, known := s.entries[name[1]]; !known {
				s.order = append(s.order, name[1])
			}
			s.entries[name[1]] = entry
		}
	}
}

func splitBefore(text string, at *regexp.Regexp) (out []string) {
	last := 0
	for _, m := range at.FindAllStringIndex(text, -1) {
		if m[0] > last {
			out = append(out, text[last:m[0]])
		}
		last = m[0]
	}
	return append(out, text[last:])
}

func (f *fleet) String() string {
	var b strings.Builder
	for _, key := range f.order {
		s := f.sections[key]
		b.WriteString(s.head)
		for _, name := range s.order {
			b.WriteString(s.entries[name])
		}
	}
	return b.String()
}

// written is the day on which the guide's dates were true; a reader writes
// dates of their own.
var written = time.Date(2026, time.November, 23, 0, 0, 0, 0, time.UTC)

func asOfToday(text string) string {
	days := int(time.Since(written).Hours() / 24)
	return regexp.MustCompile(`\b20\d\d-\d\d-\d\d\b`).ReplaceAllStringFunc(text, func(date string) string {
		day, err := time.Parse(time.DateOnly, date)
		if err != nil {
			return date
		}
		return day.AddDate(0, 0, days).Format(time.DateOnly)
	})
}

// The guide is done as it is written, in its order, by somebody with an empty
// directory: every command runs, ends as the guide says, and prints what the
// guide shows.
func TestTheGuideWritesAPlanFromAnEmptyFile(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("foundry")
	if err != nil {
		t.Fatal(err)
	}
	home, bin := t.TempDir(), t.TempDir()
	if err := os.Symlink(program, filepath.Join(bin, "foundry")); err != nil {
		t.Fatal(err)
	}
	s := &stranger{t: t, path: bin + ":/usr/bin:/bin", home: home}
	f := &fleet{sections: map[string]*section{}}
	commands, said := 0, ""
	for _, b := range blocks(t, "../../docs/guides/plan.md") {
		b.text += "\n"
		switch b.info {
		case "yaml fleet":
			f.add(t, asOfToday(b.text))
			if err := os.WriteFile(filepath.Join(home, "lab", "fleet.yaml"), []byte(f.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		case "sh", "sh finds":
			commands++
			out, err := s.shell(b.text).CombinedOutput()
			if said = string(out); (err != nil) != (b.info == "sh finds") {
				t.Fatalf("%s%s\n%v", b.text, said, err)
			}
		case "text":
			for line := range strings.Lines(b.text) {
				if line = strings.TrimSpace(line); line != "" && !strings.Contains(said, line) {
					t.Errorf("the guide shows %q; what is printed is\n%s", line, said)
				}
			}
		default:
			t.Errorf("nobody runs the block %q of the guide", b.info)
		}
	}
	if commands < 20 {
		t.Errorf("the guide has only %d blocks of commands", commands)
	}
}
