package scenario

import (
	"embed"
	"path"
	"slices"
	"strings"
)

//go:embed shipped/*.scenario
var shipped embed.FS

// Shipped reads the scenarios that come with the product, by name.
func Shipped() ([]*Scenario, error) {
	files, err := shipped.ReadDir("shipped")
	if err != nil {
		return nil, err
	}
	var out []*Scenario
	for _, f := range files {
		text, err := shipped.ReadFile(path.Join("shipped", f.Name()))
		if err != nil {
			return nil, err
		}
		s, err := Parse(f.Name(), text)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *Scenario) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Find reads a shipped scenario by its name, or a file.
func Find(name string) (*Scenario, error) {
	all, err := Shipped()
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if s.Name == name {
			return s, nil
		}
	}
	return Load(name)
}
