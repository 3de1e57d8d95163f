package plan

import (
	"os"
	"path/filepath"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// Plan is a fleet file that was read.
type Plan struct {
	File
	Path  string            // of the fleet file; as given
	Text  []byte            // of the fleet file
	Books map[string][]byte // text of the runbooks that were found, by name

	places map[string]Place
	names  map[string]map[string]int // kind → name → position in its list
}

// Place is where a value stands in the fleet file. Line and column count from 1;
// a zero line means that there is no such place.
type Place struct {
	Line, Column int
	Length       int // characters of the value or key that is marked; at least 1
}

// Load reads a fleet file, or the fleet.yaml in a directory, and the runbooks
// that it names.
func Load(path string) (*Plan, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "fleet.yaml")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, problem.New(problem.Invalid, "plan-unreadable", "The plan "+path+" cannot be read.").WithMend("Name a fleet file, or a directory with a fleet.yaml.").Wrap(err)
	}
	return Parse(path, text)
}

// Parse reads the text of a fleet file; path stands for it in messages.
func Parse(path string, text []byte) (*Plan, error) {
	p := &Plan{Path: path, Text: text}
	if err := config.Parse(path, text, &p.File); err != nil {
		return nil, err
	}
	return p, nil
}

// At is the place of a value, such as "functions[2].rto"; where the value is
// not written, the place of the thing that would hold it.
func (p *Plan) At(path string) Place { return p.places[path] }
