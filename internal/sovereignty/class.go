package sovereignty

import "github.com/missionopsai/foundry/internal/problem"

// DataClass says how much harm disclosure would do. Higher is stricter.
type DataClass uint8

const (
	Public       DataClass = 1 // may be read by anyone
	Internal     DataClass = 2 // of little use to others
	Confidential DataClass = 3 // harms the organisation or a person if disclosed
	Restricted   DataClass = 4 // harms them gravely; the strictest
)

var classNames = [...]string{"unset", "public", "internal", "confidential", "restricted"}

// ParseDataClass accepts public, internal, confidential and restricted.
func ParseDataClass(s string) (DataClass, error) {
	for c := Public; c <= Restricted; c++ {
		if classNames[c] == s {
			return c, nil
		}
	}
	return 0, problem.New(problem.Invalid, "data-class-unknown", quote(s)+" is not a data class.").
		WithMend("Use public, internal, confidential or restricted.")
}

// Valid reports whether the class is one of the four.
func (c DataClass) Valid() bool { return c >= Public && c <= Restricted }

// String gives the class's name; "unset" for zero.
func (c DataClass) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "unknown"
}

// MarshalText writes the name; nothing for an unset class.
func (c DataClass) MarshalText() ([]byte, error) {
	if !c.Valid() {
		return nil, nil
	}
	return []byte(classNames[c]), nil
}

// UnmarshalText accepts what ParseDataClass accepts.
func (c *DataClass) UnmarshalText(text []byte) error {
	parsed, err := ParseDataClass(string(text))
	if err != nil {
		return err
	}
	*c = parsed
	return nil
}

// StricterClass gives the class a request is judged by: the stricter of the
// key's floor and what the request says. A request that says nothing counts as
// the organisation's highest class, and if that is unknown, as Restricted.
// A value outside the four classes counts as Restricted.
func StricterClass(keyFloor, requested, orgHighest DataClass) DataClass {
	if requested == 0 {
		requested = orgHighest
	}
	if requested == 0 {
		return Restricted
	}
	return min(max(keyFloor, requested), Restricted)
}
