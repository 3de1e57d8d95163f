package survivor

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/problem"
)

// What a survivor needs, as the names of parts.
const (
	Keys         = "keys"         // key-encryption keys and the keyring: pepper and MAC keys are derived from it
	Authority    = "authority"    // the certificate authority that clients trust
	Certificates = "certificates" // of the public names
	Backups      = "backups"      // where the backups are, and what opens them
	Settings     = "settings"     // configuration, policies, and the secrets that they name
)

// Required are the parts without which nobody takes over, and what each is
// for, in the order in which they are told.
var Required = []string{Keys, Authority, Backups, Settings}

// latest is the name of the one part that changes by itself: how far the
// database and the audit log had come, how often the node was started.
const latest = "latest"

// largest bounds a bundle, and largestNote what changes by itself: etcd takes
// requests up to 1.5 MiB, and several bundles are put in one.
const (
	largest     = 384 << 10
	largestNote = 128 << 10
)

// Part is one thing that a survivor needs. Its body is for the one who made it.
type Part struct {
	Name string `json:"name"`
	Body []byte `json:"body"`
}

// bundle is what one node holds of another, as it lies in the fleet's store
// and in a file beside it.
type bundle struct {
	From      string    `json:"from"`
	To        string    `json:"to"`
	Fleet     string    `json:"fleet,omitempty"` // id of the fleet that both are in
	Recipient string    `json:"recipient"`       // it was sealed to
	Digest    string    `json:"digest"`          // of what is inside
	Parts     []string  `json:"parts"`           // names
	Made      time.Time `json:"made"`
	Sealed    []byte    `json:"sealed"` // by age, to the recipient
}

// content is what is sealed: the names are repeated inside, so that a bundle
// put in another's place does not pass for it.
type content struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Fleet string `json:"fleet,omitempty"`
	Parts []Part `json:"parts"`
}

// digest is the same for the same parts, in whichever order they come.
func digest(parts []Part) string {
	parts = slices.Clone(parts)
	slices.SortFunc(parts, func(a, b Part) int { return cmp.Compare(a.Name, b.Name) })
	h := sha256.New()
	for _, p := range parts {
		for _, field := range [][]byte{[]byte(p.Name), p.Body} {
			_ = binary.Write(h, binary.BigEndian, uint64(len(field)))
			h.Write(field)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// seal encrypts parts to one node's key.
func seal(from member.Own, to, recipient string, parts []Part, now time.Time) (bundle, error) {
	b := bundle{From: from.Name, To: to, Fleet: from.Fleet, Recipient: recipient, Digest: digest(parts), Made: now.UTC()}
	for _, p := range parts {
		b.Parts = append(b.Parts, p.Name)
	}
	slices.Sort(b.Parts)
	plain, err := json.Marshal(content{b.From, to, b.Fleet, parts})
	if err != nil {
		return b, err
	}
	defer clear(plain)
	sealed, err := member.SealTo(recipient, plain)
	if err != nil {
		return b, err
	}
	bound := largest
	if len(parts) == 1 && parts[0].Name == latest {
		bound = largestNote
	}
	if len(sealed) > bound {
		return b, problem.New(problem.TooLarge, "survivor-size", fmt.Sprintf("What a survivor of %s needs is %d KiB, over the bound of %d KiB.", b.From, len(sealed)>>10, bound>>10)).
			WithMend("Look for a large file among what the configuration names.")
	}
	b.Sealed = sealed
	return b, nil
}

// open decrypts a bundle with this node's key and checks that it is what it
// says.
func (b bundle) open(self string, unseal func([]byte) ([]byte, error)) ([]Part, error) {
	wrong := func(why string, err error) error {
		return problem.New(problem.Conflict, "survivor-unreadable", fmt.Sprintf("What %s deposited for %s does not open here: %s.", b.From, self, why)).
			WithMend(fmt.Sprintf("While %s lives, it deposits anew within a minute of a new key; see `foundry node readiness`.", b.From)).Wrap(err)
	}
	plain, err := unseal(b.Sealed)
	if err != nil {
		return nil, wrong("it was sealed to another key, or was altered", err)
	}
	defer clear(plain)
	var c content
	switch err := json.Unmarshal(plain, &c); {
	case err != nil:
		return nil, wrong("it was altered", err)
	case c.From != b.From || c.To != self:
		return nil, wrong(fmt.Sprintf("inside it is what %s deposited for %s", c.From, c.To), nil)
	case c.Fleet != b.Fleet:
		return nil, wrong("inside it is what was deposited in another fleet", nil)
	case digest(c.Parts) != b.Digest:
		return nil, wrong("its digest is another's", nil)
	}
	return c.Parts, nil
}
