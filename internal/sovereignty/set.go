package sovereignty

import (
	"encoding/json"
	"math/bits"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

// Set is an immutable set of jurisdictions. It is a value: copying is cheap,
// == compares members and the group names it was written with, and the zero
// value is empty. Only valid jurisdictions get in.
type Set struct {
	bits   [11]uint64 // one bit per possible two-letter code
	groups groupMask  // the names it was written with, so that a policy reads back as written
}

// SetOf makes a set. Codes that are not valid are left out: a set that admits
// too little is safe, one that admits an unknown place is not.
func SetOf(js ...Jurisdiction) Set {
	var s Set
	for _, j := range js {
		if j.Valid() {
			s.put(j)
		}
	}
	return s
}

// ParseSet makes a set from country codes and group names (see GroupNames).
func ParseSet(words ...string) (Set, error) {
	var s Set
	for _, w := range words {
		if g, ok := groupByName(w); ok {
			s = s.Union(g)
			continue
		}
		j, err := ParseJurisdiction(w)
		if err != nil {
			if strings.Contains(w, "-") || len(w) > 2 {
				return Set{}, problem.New(problem.Invalid, "jurisdiction-unknown",
					quote(w)+" is neither a country code nor a group of countries.").
					WithMend("Groups are " + strings.Join(GroupNames(), ", ") + ".")
			}
			return Set{}, err
		}
		s.put(j)
	}
	return s, nil
}

func (s *Set) put(j Jurisdiction) {
	i := j.index()
	s.bits[i/64] |= 1 << (i % 64)
}

// Has reports membership; false for an unset or malformed code.
func (s Set) Has(j Jurisdiction) bool { return s.has(j) }

func (s *Set) has(j Jurisdiction) bool {
	i := j.index()
	return i >= 0 && s.bits[i/64]&(1<<(i%64)) != 0
}

// With adds members.
func (s Set) With(js ...Jurisdiction) Set { return s.Union(SetOf(js...)) }

// Without removes members. Groups that lose one are kept as single codes.
func (s Set) Without(js ...Jurisdiction) Set {
	drop := SetOf(js...)
	for i := range s.bits {
		s.bits[i] &^= drop.bits[i]
	}
	s.groups = s.groups.within(s)
	return s
}

// Union gives the members of either set.
func (s Set) Union(t Set) Set {
	for i := range s.bits {
		s.bits[i] |= t.bits[i]
	}
	s.groups |= t.groups
	return s
}

// Intersect gives the members of both sets.
func (s Set) Intersect(t Set) Set {
	for i := range s.bits {
		s.bits[i] &= t.bits[i]
	}
	s.groups = (s.groups | t.groups).within(s)
	return s
}

// Contains reports whether every member of t is in s.
func (s Set) Contains(t Set) bool {
	for i := range s.bits {
		if t.bits[i]&^s.bits[i] != 0 {
			return false
		}
	}
	return true
}

// Equal reports whether both have the same members, however written.
func (s Set) Equal(t Set) bool { return s.bits == t.bits }

// Empty reports whether there is no member.
func (s Set) Empty() bool { return s.bits == [11]uint64{} }

// IsZero lets encoding/json omit an empty set.
func (s Set) IsZero() bool { return s.Empty() }

// Len counts the members.
func (s Set) Len() int {
	n := 0
	for _, w := range s.bits {
		n += bits.OnesCount64(w)
	}
	return n
}

// All lists the members in alphabetical order of their codes.
func (s Set) All() []Jurisdiction {
	if s.Empty() {
		return nil
	}
	all := make([]Jurisdiction, 0, s.Len())
	for i, w := range s.bits {
		for ; w != 0; w &= w - 1 {
			all = append(all, fromIndex(i*64+bits.TrailingZeros64(w)))
		}
	}
	return all
}

// Words lists the set as it is written in configuration: group names first,
// then the codes that no named group holds.
func (s Set) Words() []string {
	words := []string{}
	var named Set
	for i, g := range groups {
		if s.groups&(1<<i) != 0 {
			words = append(words, g.name)
			named = named.Union(g.set)
		}
	}
	for _, j := range s.All() {
		if !named.has(j) {
			words = append(words, string(j))
		}
	}
	return words
}

// String joins Words.
func (s Set) String() string { return strings.Join(s.Words(), ", ") }

// phrase names the set in a sentence.
func (s Set) phrase() string {
	words := s.Words()
	for i, w := range words {
		if g, ok := groupByName(w); ok {
			words[i] = groups[bits.TrailingZeros8(uint8(g.groups))].phrase
		} else {
			words[i] = Jurisdiction(w).Label()
		}
	}
	return list(words)
}

// MarshalJSON writes Words.
func (s Set) MarshalJSON() ([]byte, error) { return json.Marshal(s.Words()) }

// UnmarshalJSON accepts a list of codes and group names.
func (s *Set) UnmarshalJSON(data []byte) error {
	var words []string
	if err := json.Unmarshal(data, &words); err != nil {
		return problem.New(problem.Invalid, "jurisdictions-malformed", "A set of jurisdictions is a list of codes and group names.").
			WithMend(`Write it as ["EEA", "GB"].`).Wrap(err)
	}
	parsed, err := ParseSet(words...)
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

// MarshalYAML writes Words.
func (s Set) MarshalYAML() (any, error) { return s.Words(), nil }

// UnmarshalYAML accepts a list of codes and group names.
func (s *Set) UnmarshalYAML(unmarshal func(any) error) error {
	var words []string
	if err := unmarshal(&words); err != nil {
		return err
	}
	parsed, err := ParseSet(words...)
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}
