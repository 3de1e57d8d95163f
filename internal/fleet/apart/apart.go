// Package apart knows whether two fleets share anything.
//
// An isolated fleet shares no secret, key, account or member with another; and
// to prove that, neither may show the other what it has. Each makes marks: one
// way, slow to compute, the same for the same thing in whichever fleet it is
// made. Two files of marks laid side by side say what is shared, offline, and
// say nothing else.
package apart

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/scrypt"

	"github.com/missionopsai/foundry/internal/problem"
)

// Version of the form of marks. Marks of two versions are not compared.
const Version = 1

// Kinds of things that two isolated fleets must not share, and what it means
// when they do.
const (
	KEK       = "key-encryption key" // opens everything
	Keyring   = "keyring"            // pepper and MAC keys are derived from it: a token of one fleet is good in the other
	Authority = "authority"          // signs for the other's servers or nodes
	Secret    = "secret"             // that the configuration names: a provider's key, a relay's password
	Backup    = "backup passphrase"  // opens the other's backups
	Target    = "backup target"      // a place, or an account there
	Node      = "node"               // a machine, by its key
	Address   = "address"            // where it listens for other nodes
)

// kinds in the order in which they are told, the worst first.
var kinds = []string{KEK, Keyring, Authority, Backup, Secret, Node, Target, Address}

// Thing is something that a fleet has, in clear: it stays on its node.
type Thing struct {
	Kind  string
	Name  string // where it is, for people; it is told to the other fleet
	Value []byte
}

// Mark is the one-way sign of a thing.
type Mark struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Sum  string `json:"sum"` // hex of scrypt(N=2^15, r=8, p=1) of kind and value, 16 bytes
}

// Marks are all marks of one fleet.
type Marks struct {
	Version int       `json:"version"`
	Fleet   string    `json:"fleet"`
	Node    string    `json:"node"`
	Made    time.Time `json:"made"`
	Marks   []Mark    `json:"marks"`
}

// Cost of one mark: about 60 ms, so that somebody who has the marks guesses
// some twenty passwords a second on a core. Long secrets cannot be guessed at all.
const (
	costN, costR, costP = 1 << 15, 8, 1
	sumLength           = 16
)

// Make marks things. A thing without a value has no mark; what comes twice
// is marked once.
func Make(fleet, node string, things []Thing, now time.Time) (Marks, error) {
	m := Marks{Version: Version, Fleet: fleet, Node: node, Made: now.UTC(), Marks: []Mark{}}
	for _, t := range things {
		if len(t.Value) == 0 {
			continue
		}
		sum, err := scrypt.Key(t.Value, []byte("foundry apart v1\n"+t.Kind), costN, costR, costP, sumLength)
		if err != nil {
			return m, fmt.Errorf("marking %s: %w", t.Name, err)
		}
		k := Mark{t.Kind, t.Name, hex.EncodeToString(sum)}
		if !slices.Contains(m.Marks, k) {
			m.Marks = append(m.Marks, k)
		}
	}
	slices.SortFunc(m.Marks, func(a, b Mark) int {
		return cmp.Or(cmp.Compare(rank(a.Kind), rank(b.Kind)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Sum, b.Sum))
	})
	return m, nil
}

func rank(kind string) int {
	if i := slices.Index(kinds, kind); i >= 0 {
		return i
	}
	return len(kinds)
}

// largest bounds a file of marks that is read.
const largest = 1 << 20

// Read reads a file of marks, strictly: what it does not understand it cannot
// compare.
func Read(name string, text []byte) (m Marks, err error) {
	bad := func(code, why string) error {
		return problem.New(problem.Invalid, code, fmt.Sprintf("%s is no file of marks: %s.", name, why)).WithField(name).
			WithMend("Make it with `foundry fleet marks` on the node of that fleet.")
	}
	if len(text) > largest {
		return m, bad("marks-size", "it is over 1 MiB")
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil || d.More() {
		return m, bad("marks-json", "it is not the JSON that is expected")
	}
	if m.Version != Version {
		return m, problem.New(problem.Unsupported, "marks-version", fmt.Sprintf("%s has marks of version %d, and this program compares version %d.", name, m.Version, Version)).WithField(name).
			WithMend("Make both files with the same release.")
	}
	if m.Fleet == "" || len(m.Marks) == 0 {
		return m, bad("marks-empty", "it names no fleet, or has no marks")
	}
	for i, k := range m.Marks {
		if raw, err := hex.DecodeString(k.Sum); err != nil || len(raw) != sumLength || k.Kind == "" || k.Name == "" {
			return m, bad("marks-mark", fmt.Sprintf("mark %d is damaged", i+1))
		}
	}
	return m, nil
}

// Shared is one thing that both fleets have.
type Shared struct {
	Kind  string `json:"kind"`
	Here  string `json:"here"`  // its name in the one
	There string `json:"there"` // and in the other
}

// Words says what it means and how to mend it.
func (s Shared) Words() string {
	what := map[string]string{
		KEK:       "whoever opens the one opens the other: rewrap one of them under a key of its own (`foundry keys rewrap --new`)",
		Keyring:   "tokens and passwords of the one can be forged or tried in the other: one was made from a copy of the other; found it anew",
		Authority: "certificates of the one pass in the other: found one of them anew",
		Backup:    "backups of the one open with the other's passphrase: begin a repository of its own",
		Secret:    "a secret that leaks in the one is lost in the other: ask the supplier for a second one",
		Node:      "one machine stands in both: it can belong to one",
		Target:    "backups of both lie in one place: give one of them a place and an account of its own",
		Address:   "both listen at one address: one of the two is not where it says",
	}[s.Kind]
	if what == "" {
		what = "it belongs to one of them only"
	}
	return fmt.Sprintf("Both have the same %s (%s, %s): %s.", s.Kind, s.Here, s.There, what)
}

// Compare says what two fleets share. Marks of one and the same fleet are
// refused: they would all agree, or, worse, a copy would pass for another.
func Compare(a, b Marks) ([]Shared, error) {
	if a.Version != b.Version {
		return nil, problem.New(problem.Unsupported, "marks-version", fmt.Sprintf("The marks are of versions %d and %d.", a.Version, b.Version)).WithMend("Make both files with the same release.")
	}
	if a.Fleet == b.Fleet && a.Node == b.Node {
		return nil, problem.New(problem.Invalid, "marks-same", fmt.Sprintf("Both files are of the fleet %s.", a.Fleet)).WithMend("Compare the marks of two fleets.")
	}
	out := []Shared{}
	for _, x := range a.Marks {
		for _, y := range b.Marks {
			if x.Sum == y.Sum && x.Kind == y.Kind {
				out = append(out, Shared{x.Kind, x.Name, y.Name})
			}
		}
	}
	return out, nil
}
