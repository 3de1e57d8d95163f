// Package sovereignty knows where a request may go, and why.
//
// It is pure: no I/O and no clock. Decide takes an organisation's policy, a
// request and the candidate providers, and says for each candidate which rules
// admit it, which do not, and what would change that. A fact that nobody
// recorded counts against the candidate, never for it.
//
// The lists of law here (groups.go) carry their sources and as-of dates. They
// support a decision; they are not legal advice.
package sovereignty

import (
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

// Jurisdiction is an ISO 3166-1 alpha-2 code in capitals, such as "DE". The
// zero value means that nobody recorded one, and no policy admits it.
type Jurisdiction string

// ParseJurisdiction accepts an officially assigned ISO 3166-1 alpha-2 code.
// "UK", "EU" and "EL" are reserved, not assigned, and are refused with a hint.
func ParseJurisdiction(s string) (Jurisdiction, error) {
	j := Jurisdiction(s)
	if j.Valid() {
		return j, nil
	}
	e := problem.New(problem.Invalid, "jurisdiction-unknown", quote(s)+" is not an ISO 3166-1 country code.")
	switch strings.ToUpper(s) {
	case "UK":
		return "", e.WithMend("The code of the United Kingdom is GB.")
	case "EL":
		return "", e.WithMend("The code of Greece is GR.")
	case "EU", "EEA":
		return "", e.WithMend("A single country is needed here, such as DE.")
	}
	if up := Jurisdiction(strings.ToUpper(s)); up.Valid() {
		return "", e.WithMend("Write " + string(up) + ".")
	}
	return "", e.WithMend("Use two capital letters, such as DE or FI.")
}

// Valid reports whether the code is officially assigned.
func (j Jurisdiction) Valid() bool { return assigned.has(j) }

// assigned and labels are made from countryNames once: every decision asks.
var assigned, labels = func() (s Set, l map[Jurisdiction]string) {
	l = make(map[Jurisdiction]string, len(countryNames))
	for j, name := range countryNames {
		s.put(j)
		l[j] = name + " (" + string(j) + ")"
	}
	return s, l
}()

// Name gives the country's English name as it stands in a sentence ("the
// United States"), or the quoted code if it is not a country.
func (j Jurisdiction) Name() string {
	if name, ok := countryNames[j]; ok {
		return name
	}
	return quote(string(j))
}

// Label gives name and code: "Germany (DE)".
func (j Jurisdiction) Label() string {
	if label, ok := labels[j]; ok {
		return label
	}
	return quote(string(j))
}

// MarshalText writes the code.
func (j Jurisdiction) MarshalText() ([]byte, error) { return []byte(j), nil }

// UnmarshalText accepts valid codes only. A fact that is not known is left
// out, not written as an empty string.
func (j *Jurisdiction) UnmarshalText(text []byte) error {
	parsed, err := ParseJurisdiction(string(text))
	if err != nil {
		return err
	}
	*j = parsed
	return nil
}

// index is the bit of the code in a Set, or -1 if it cannot have one.
func (j Jurisdiction) index() int {
	if len(j) != 2 || j[0] < 'A' || j[0] > 'Z' || j[1] < 'A' || j[1] > 'Z' {
		return -1
	}
	return int(j[0]-'A')*26 + int(j[1]-'A')
}

func fromIndex(i int) Jurisdiction {
	return Jurisdiction([]byte{byte('A' + i/26), byte('A' + i%26)})
}
