package lint

import (
	"embed"
	"encoding/json"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

// The plans by which the rules are tested are the examples of the reference.
//
//go:embed testdata/rules
var examplePlans embed.FS

// exampleDay is when the examples are checked.
var exampleDay = time.Date(2026, time.November, 23, 12, 0, 0, 0, time.UTC)

// Example is a plan that breaks a rule, and the same plan mended.
type Example struct {
	Fails  string `json:"fails"`  // text of the plan that breaks the rule
	Passes string `json:"passes"` // text of the plan mended
	Report string `json:"report"` // what the check says of the rule
	Diff   string `json:"diff"`   // what mending changes, line by line
}

// Example gives the rule's example. It is empty for a rule without one.
func (r Rule) Example() (Example, error) {
	dir := path.Join("testdata/rules", r.ID)
	fails, err := fs.ReadFile(examplePlans, path.Join(dir, "fails.yaml"))
	if err != nil {
		return Example{}, nil
	}
	passes, err := fs.ReadFile(examplePlans, path.Join(dir, "passes.yaml"))
	if err != nil {
		return Example{}, err
	}
	p, err := plan.Parse("fleet.yaml", fails)
	if err != nil {
		return Example{}, err
	}
	mended, err := plan.Parse("fleet.yaml", passes)
	if err != nil {
		return Example{}, err
	}
	diff := lineDiff(string(fails), string(passes))
	if broken, whole := exampleBooks(dir, p), exampleBooks(dir, mended); broken+whole != "" {
		fails, passes = append(fails, "\n# In the runbook:\n#\n"+comment(broken)...), append(passes, "\n# In the runbook:\n#\n"+comment(whole)...)
		diff += lineDiff(broken, whole)
	}
	o := Options{Now: exampleDay, Commands: exampleCommands}
	if text, err := fs.ReadFile(examplePlans, path.Join(dir, "fails.measured.json")); err == nil {
		if err := json.Unmarshal(text, &o.Measured); err != nil {
			return Example{}, err
		}
	}
	var report strings.Builder
	out := &printer{w: &report, style: Style{Brief: true}}
	for _, f := range Check(p, o).Findings {
		if f.Rule == r.ID {
			out.finding(p.Path, p, f, "")
		}
	}
	return Example{string(fails), string(passes), strings.TrimRight(report.String(), "\n") + "\n", diff}, nil
}

// exampleCommands stand for those of the command line in the examples.
var exampleCommands = []string{"foundry backup recover", "foundry backup status", "foundry status"}

// exampleBooks gives a plan its runbooks, and tells their text.
func exampleBooks(dir string, p *plan.Plan) string {
	books, all := map[string][]byte{}, ""
	for _, b := range p.Runbooks {
		if text, err := fs.ReadFile(examplePlans, path.Join(dir, b.File)); err == nil {
			books[b.Name] = text
			all += string(text)
		}
	}
	_ = p.SetBooks(books) // the tests read every one
	return all
}

func comment(text string) string {
	return "# " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n# ") + "\n"
}

// lineDiff shows what has to be removed (-) and written (+), with one line
// around it. It is for texts of a page: its cost is the product of their lines.
func lineDiff(a, b string) string {
	x, y := strings.Split(strings.TrimRight(a, "\n"), "\n"), strings.Split(strings.TrimRight(b, "\n"), "\n")
	if len(x)*len(y) > 1<<20 {
		return ""
	}
	// common[i][j] is the length of the longest common subsequence of x[i:], y[j:].
	common := make([][]int, len(x)+1)
	for i := range common {
		common[i] = make([]int, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var lines []string
	for i, j := 0, 0; i < len(x) || j < len(y); {
		switch {
		case i < len(x) && j < len(y) && x[i] == y[j]:
			lines = append(lines, "  "+x[i])
			i, j = i+1, j+1
		case j == len(y) || i < len(x) && common[i+1][j] >= common[i][j+1]:
			lines = append(lines, "- "+x[i])
			i++
		default:
			lines = append(lines, "+ "+y[j])
			j++
		}
	}
	return around(lines)
}

// around keeps what changed, the line before and after, and the lines under
// which it stands.
func around(lines []string) string {
	changed := func(i int) bool { return i >= 0 && i < len(lines) && lines[i][0] != ' ' }
	keep := make([]bool, len(lines))
	for i := range lines {
		if strings.HasPrefix(lines[i], "  #") || !changed(i) {
			continue
		}
		for k := max(0, i-1); k <= min(i+1, len(lines)-1); k++ {
			keep[k] = true
		}
		depth := indent(lines[i])
		for k := i - 1; k >= 0 && depth > 0; k-- {
			if d := indent(lines[k]); d < depth && strings.TrimSpace(lines[k][2:]) != "" {
				keep[k], depth = true, d
			}
		}
	}
	var out strings.Builder
	for i, line := range lines {
		if keep[i] {
			out.WriteString(strings.TrimRight(line, " ") + "\n")
		} else if i > 0 && keep[i-1] {
			out.WriteString("  …\n")
		}
	}
	return strings.TrimSuffix(out.String(), "  …\n")
}

func indent(line string) int {
	text := line[2:]
	return len(text) - len(strings.TrimLeft(text, " "))
}
